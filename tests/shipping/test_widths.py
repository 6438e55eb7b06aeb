"""Which widths int8 kernels do not like, and what a task and its commands do about them."""

from dataclasses import replace

import pytest
from tiny_networks import apply, tiny_network

from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.task import TASKS, Task
from ordercomp.shipping.widths import UnalignedLayer, describe_widths, unaligned_layers


def network(model: str) -> CompressedNetwork:
    return CompressedNetwork.create(model, classes=10, channels=3, size=(16, 16))


def test_widths_in_multiples_of_16_are_aligned_whatever_the_image_has() -> None:
    found, total = unaligned_layers(network("resnet8(width=16)"))
    assert (found, total) == ([], 9)
    assert describe_widths(found, total) == ""


def test_other_widths_are_told_with_what_they_read() -> None:
    found, total = unaligned_layers(network("resnet8(width=24)"))
    by_name = {layer.name: layer for layer in found}
    assert "conv" in by_name
    first = by_name["stages.0.0.conv1"]
    assert (first.inputs, first.outputs, first.kernel, first.size) == (24, 24, (3, 3), (16, 16))
    assert first.aligned == (32, 32, 1)
    assert "stages.2.0.conv2" not in by_name  # 96 channels
    assert describe_widths(found, total).startswith(f"{len(found)} of {total} convolutions have widths")
    assert "such as 24: int8 kernels" in describe_widths(found, total)


def test_a_depthwise_convolution_stays_one_when_it_is_widened() -> None:
    layer = UnalignedLayer(
        name="x", inputs=58, outputs=58, groups=58, kernel=(3, 3), stride=(1, 1), size=(8, 8)
    )
    assert layer.aligned == (64, 64, 64)
    assert layer.work == 58 * 9


def test_a_target_sets_what_p_rounds_to_unless_the_task_does() -> None:
    digits = TASKS["digits"]
    assert str(digits.sequence("P")) == "P(ratio=0.4)"
    fast = replace(digits, target="cpu-int8")
    assert str(fast.sequence("P")) == "P(ratio=0.4,round_to=16)"
    assert fast.digest == digits.digest  # it changes sequences, nothing else
    own = replace(digits, target="cpu-int8", knobs={"P": {"round_to": 8}})
    assert str(own.sequence("P")) == "P(ratio=0.4,round_to=8)"
    alone = Task(name="x", model="resnet8", data="digits", stages="Q", target="cpu-int8")
    assert "P" not in alone.knobs
    with pytest.raises(ValueError, match="target must be bitops or cpu-int8, got 'gpu'"):
        replace(digits, target="gpu")


@pytest.mark.integration
def test_what_a_width_costs_is_measured() -> None:
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    from ordercomp.shipping.width_times import describe_width_times

    found, _ = unaligned_layers(apply("P", tiny_network(), ratio=0.4))
    assert "channels) takes" in describe_width_times(found, repeats=3)
    assert describe_width_times([], repeats=3) == ""
