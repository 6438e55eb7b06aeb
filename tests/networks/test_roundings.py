"""Roundings of tensors: where they stand, that all who read one read the same, and that files keep them."""

from pathlib import Path

import pytest
import torch
from tiny_networks import apply, tiny_network, tiny_trainer

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import Bits
from ordercomp.networks.layers import Rounding
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.roundings import shared_outputs
from ordercomp.shipping.packed import load_network, save_packed
from ordercomp.shipping.plain import ship

TENSOR = {"weights": 4, "activations": 8, "placement": "tensor"}


def test_sums_of_a_residual_network_and_what_they_read_are_rounded() -> None:
    network = tiny_network("resnet8(width=4)").quantized(Bits(4, 8, placement="tensor"))
    assert shared_outputs(network.module, network.example(2)) == [
        "relu",
        *("stages.0.0.bn2", "stages.0.0.relu2"),
        *("stages.1.0.bn2", "stages.1.0.shortcut.2", "stages.1.0.relu2"),
        *("stages.2.0.bn2", "stages.2.0.shortcut.2", "stages.2.0.relu2"),
    ]


def test_what_a_single_layer_reads_is_rounded_there_alone() -> None:
    network = tiny_network("vgg8(width=4)").quantized(Bits(4, 8, placement="tensor"))
    assert shared_outputs(network.module, network.example(2)) == ["stages.4.0.relu"]  # which is averaged


@pytest.mark.integration
@pytest.mark.parametrize("model", ["resnet8(width=4)", "mobilenet_v2(width=0.25)"])
def test_those_who_read_a_tensor_read_the_same_levels(model: str) -> None:
    network = apply("Q", tiny_network(model), tiny_trainer(), **TENSOR)
    module = network.module.eval()
    scales = {float(one.input_scale) for one in module.roundings if isinstance(one, Rounding)}
    assert len(scales) == len(module.rounded) > 3
    seen: list[bool] = []
    for _, layer in network.quantized_layers():
        if float(layer.input_scale) in scales:
            layer.register_forward_pre_hook(
                lambda layer, inputs: seen.append(torch.equal(layer.quantized_operands(*inputs)[0], *inputs))
            )
    with torch.no_grad():
        module(network.example(4))
    assert all(seen)
    assert len(seen) >= 3


@pytest.mark.integration
@pytest.mark.parametrize("order", ["QPE", "DPQE", "QSD", "QL"])
def test_roundings_follow_the_stages_and_files_keep_them(order: str, tmp_path: Path) -> None:
    network = tiny_network()
    for letter in order:
        network = apply(letter, network, tiny_trainer(), **(TENSOR if letter == "Q" else {}))
    module = network.module.eval()
    assert list(module.rounded) == shared_outputs(module, network.example(2))
    network.save(tmp_path / "whole.safetensors")
    save_packed(network, tmp_path / "network.packed")
    loaded = CompressedNetwork.load(tmp_path / "whole.safetensors")
    assert loaded.bits == network.bits
    images = network.example(8)
    with torch.no_grad():
        ours = module(images)
        for other in (loaded.module.eval(), ship(network), load_network(tmp_path / "network.packed")):
            assert all(torch.equal(*pair) for pair in zip(ours, other(images), strict=True))


@pytest.mark.integration
def test_roundings_are_counted_and_go_with_fresh_students() -> None:
    network = apply("Q", tiny_network(), tiny_trainer(), **TENSOR)
    plain = apply("Q", tiny_network(), tiny_trainer(), **{**TENSOR, "placement": "layer"})
    more = measure_cost(network).bits("honest") - measure_cost(plain).bits("honest")
    assert more == 32 * (len(network.module.rounded) + 1)  # and one for the image
    assert apply("D", network, tiny_trainer(), student="fresh").module.rounded == ()


def test_a_range_is_fitted_again_only_if_the_recipe_says_so() -> None:
    network = apply("Q", tiny_network(), tiny_trainer(), **TENSOR)
    before = [float(one.input_scale) for one in network.module.roundings if isinstance(one, Rounding)]
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.mul_(3)
    for refit, same in ((False, True), (True, False)):
        tiny_trainer(refit_ranges=refit).calibrate(network, again=True)
        after = [float(one.input_scale) for one in network.module.roundings if isinstance(one, Rounding)]
        assert (before == after) == same


@pytest.mark.parametrize(("weights", "activations"), [(9, 8), (4, 16)])
def test_more_than_eight_bits_are_refused(weights: int, activations: int) -> None:
    message = (
        f"placement=tensor takes weights and activations of at most 8 bits, got {weights} and {activations}"
    )
    with pytest.raises(ValueError, match=message):
        apply(
            "Q", tiny_network(), tiny_trainer(), **{**TENSOR, "weights": weights, "activations": activations}
        )
