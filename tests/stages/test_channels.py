"""Channel pruning: the traps of the tracer, what is removed, what stays."""

import gc
import inspect
import math
import weakref
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch_pruning as tp
import user_nets
from built_nets import HEADS
from sibling_nets import cases
from silencing import close, exact, silenced, unique_network
from tiny_networks import apply, logits, snapshot, tiny_network
from torch import nn

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.layers import QuantConv2d, dorefa_weight
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import complete
from ordercomp.stages.channels import classifiers, narrow_channels
from ordercomp.stages.stage import StageError

pytestmark = pytest.mark.integration


def widths(network: CompressedNetwork) -> dict[str, int]:
    return {
        name: layer.weight.shape[0]
        for name, layer in network.module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def user_network(name: str) -> CompressedNetwork:
    network = tiny_network(f"user_nets:{name}")
    network.module.eval()
    return network


def test_frozen_parameters_are_pruned_and_stay_frozen() -> None:
    network = tiny_network()
    network.module.requires_grad_(False)
    network.module.body.classifier.requires_grad_(True)  # type: ignore[union-attr]
    achieved = narrow_channels(network, 0.5)
    assert achieved["ratio"] == 0.5
    trained = {name for name, parameter in network.module.named_parameters() if parameter.requires_grad}
    assert trained == {"body.classifier.weight", "body.classifier.bias"}
    assert all(parameter.grad is None for parameter in network.module.parameters())


def test_pruning_leaves_evaluation_mode_and_channels_last() -> None:
    network = tiny_network(channels=3)
    network.module.train()
    narrow_channels(network, 0.5)
    assert not any(part.training for part in network.module.modules())
    convolutions = [layer for layer in network.module.modules() if isinstance(layer, nn.Conv2d)]
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in convolutions)


def test_pruning_works_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        assert narrow_channels(tiny_network(), 0.5)["ratio"] == 0.5


def test_a_pruned_network_is_freed_and_the_library_keeps_nothing() -> None:
    network = tiny_network()
    narrow_channels(network, 0.5)
    gone = weakref.ref(network.module.body)
    del network
    gc.collect()
    assert gone() is None
    defaults = inspect.signature(tp.pruner.BasePruner.__init__).parameters.values()
    assert all(not one.default for one in defaults if isinstance(one.default, dict))


def test_outputs_of_all_classifiers_are_kept() -> None:
    network = apply("E", tiny_network())
    pruned = apply("P", network, ratio=0.75)
    assert [output.shape for output in logits(pruned)] == [(3, 10)] * 3
    assert [layer.weight.shape[0] for layer in classifiers(pruned)] == [10, 10, 10]
    assert [type(layer) for layer in classifiers(pruned)] == [nn.Linear] * 3


def test_inputs_of_classifiers_follow_the_features() -> None:
    pruned = apply("P", apply("E", tiny_network()), ratio=0.5)
    assert [layer.weight.shape[1] for layer in classifiers(pruned)] == [8, 2, 4]


def test_a_local_ratio_holds_in_every_layer() -> None:
    before = tiny_network("resnet14(width=8)")
    after = widths(apply("P", before, ratio=0.25))
    assert after == {
        name: width if "classifier" in name else width * 3 // 4 for name, width in widths(before).items()
    }


def test_a_global_ratio_holds_for_the_whole_network_and_layers_differ() -> None:
    before = tiny_network("resnet14(width=8)")
    after = apply("P", before, ratio=0.3, scope="global")
    achieved = after.lineage[-1].achieved["ratio"]
    assert 0.2 < achieved < 0.45
    kept = {name: round(after / widths(before)[name], 2) for name, after in widths(after).items()}
    assert len(set(kept.values())) > 2


@pytest.mark.parametrize("scope", ["local", "global"])
def test_a_ratio_of_nine_tenths_leaves_a_channel_in_every_layer(scope: str) -> None:
    pruned = apply("P", tiny_network(), ratio=0.9, scope=scope)
    assert min(widths(pruned).values()) >= 1
    assert all(torch.isfinite(output).all() for output in logits(pruned))


def test_narrow_layers_are_pruned_down_to_one_channel_and_not_skipped() -> None:
    assert set(widths(apply("P", tiny_network(), ratio=0.9)).values()) == {1, 10}  # of 4, 8 and 16


def test_the_achieved_ratio_and_the_channels_left_are_recorded() -> None:
    pruned = apply("P", user_network("flat"), ratio=0.3)  # of 8, 16 and 12 channels go 2, 4 and 3
    left = [width for name, width in widths(pruned).items() if width != 10]
    assert pruned.lineage[-1].achieved == {
        "asked": 0.3,
        "ratio": round(1 - sum(left) / 36, 4),
        "channels": sum(left),
    }
    assert pruned.lineage[-1].achieved["ratio"] == pytest.approx(0.3, abs=0.06)


def test_ratios_compound() -> None:
    twice = apply("P", apply("P", tiny_network("resnet14(width=16)"), ratio=0.5), ratio=0.5)
    once = apply("P", tiny_network("resnet14(width=16)"), ratio=0.75)
    assert widths(twice) == widths(once)
    assert [step.achieved["ratio"] for step in twice.lineage] == [0.5, 0.5]


def test_the_weakest_channels_go() -> None:
    network = user_network("flat")
    convolution = network.module.body[0]  # type: ignore[index]
    with torch.no_grad():
        convolution.weight[[1, 4, 6]] *= 0.01
        network.module.body[2].weight[:, [1, 4, 6]] *= 0.01  # type: ignore[index]
    kept = [0, 2, 3, 5, 7]
    pruned = apply("P", network, ratio=0.3)
    survivors = pruned.module.body[0].weight  # type: ignore[index]
    found = [int((convolution.weight - one).flatten(1).abs().sum(1).argmin()) for one in survivors]
    assert found == kept


def test_quantized_convolutions_are_pruned_counted_and_stay_quantized() -> None:
    network = apply("Q", tiny_network("resnet14(width=8)"))
    pruned = apply("P", network, ratio=0.5)
    assert widths(pruned) == widths(apply("P", tiny_network("resnet14(width=8)"), ratio=0.5))
    layers = [layer for _, layer in pruned.quantized_layers()]
    assert len(layers) == len(widths(pruned))
    assert measure_cost(network).macs == measure_cost(tiny_network("resnet14(width=8)")).macs
    assert measure_cost(pruned).macs < 0.3 * measure_cost(network).macs


def test_importance_can_be_read_off_the_quantized_weights() -> None:
    """With one bit all channels of a layer weigh the same, so that another choice comes out."""
    network = apply("Q", user_network("flat"), weights=1)
    before = snapshot(network)["tensors"]
    latent, quantized = (
        apply("P", network, ratio=0.5, importance=name).module.state_dict()
        for name in ("latent", "quantized")
    )
    assert any(not torch.equal(latent[name], quantized[name]) for name in latent)
    after = network.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_reading_importance_off_quantized_weights_leaves_latent_weights_as_they_were() -> None:
    network = apply("Q", user_network("flat"), weights=2)
    pruned = apply("P", network, ratio=0.5, importance="quantized")
    layer, source = pruned.module.body[0], network.module.body[0]  # type: ignore[index]
    assert isinstance(layer, QuantConv2d)
    assert all(any(torch.equal(one, other) for other in source.weight) for one in layer.weight)
    assert not torch.equal(layer.weight, dorefa_weight(layer.weight, 2))


def test_latent_importance_does_not_depend_on_the_bits() -> None:
    plain = apply("P", user_network("flat"), ratio=0.5)
    quantized = apply("P", apply("Q", user_network("flat"), weights=1), ratio=0.5)
    for place in (0, 2, 6, 8):
        assert torch.equal(plain.module.body[place].weight, quantized.module.body[place].weight)  # type: ignore[index]


@pytest.mark.parametrize(
    "model",
    [
        "mobilenet_v2(width=0.1)",
        "vgg8(width=4)",
        "resnet34(blocks=1111,width=4)",
        *(f"user_nets:{name}" for name in user_nets.__all__ if name not in ("tied_weights", "untraceable")),
    ],
)
def test_any_model_is_pruned_quantized_and_loaded_to_the_same_logits(model: str, tmp_path) -> None:
    network = tiny_network(model)
    network.module.eval()
    for order in ("PQ", "QP"):
        changed = network
        for letter in order:
            changed = apply(letter, changed)
        assert measure_cost(changed).macs < measure_cost(network).macs
        changed.save(tmp_path / order)
        loaded = CompressedNetwork.load(tmp_path / order, trust=[model])
        assert all(torch.equal(one, two) for one, two in zip(logits(changed), logits(loaded), strict=True))


def test_depthwise_convolutions_stay_depthwise() -> None:
    pruned = apply("P", tiny_network("mobilenet_v2(width=0.25)"), ratio=0.5)
    depthwise = [
        layer for layer in pruned.module.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1
    ]
    assert len(depthwise) == 17
    assert all(layer.groups == layer.in_channels == layer.out_channels for layer in depthwise)


def test_all_layers_whose_sum_is_the_logits_keep_their_outputs() -> None:
    pruned = apply("P", user_network("two_classifiers"), ratio=0.5)
    assert widths(pruned) == {"body.conv": 4, "body.one": 10, "body.two": 10}
    assert pruned.lineage[-1].achieved == {"asked": 0.5, "ratio": 0.5, "channels": 4}


def test_a_model_that_cannot_be_traced_is_named_in_one_line() -> None:
    message = "user_nets:untraceable cannot be pruned: .* follow them .RuntimeError: no gradients, please"
    with pytest.raises(StageError, match=message) as caught:
        apply("P", user_network("untraceable"))
    assert "\n" not in str(caught.value)


def test_tied_weights_that_would_lose_different_channels_stay_as_they_are() -> None:
    with pytest.raises(StageError, match="are shared, and would lose different channels"):
        apply("P", user_network("tied_weights"))


def test_tied_weights_that_lose_the_same_channels_stay_tied() -> None:
    pruned = apply("P", tiny_network("common_nets:tied_branches"), ratio=0.5)
    one, two = (pruned.module.get_parameter(f"body.{name}.weight") for name in ("one", "two"))
    assert one is two
    assert one.shape == (4, 4, 3, 3)


def test_widths_are_rounded_to_multiples_and_narrow_layers_left_alone() -> None:
    network = tiny_network("resnet8(width=8)")
    before = widths(network)
    narrow_channels(network, 0.3, round_to=16)
    kept = {name: width for name, width in widths(network).items() if "classifier" not in name}
    assert {before[name]: width for name, width in kept.items()} == {8: 8, 16: 16, 32: 16}
    assert str(complete(StageSequence.parse("P(ratio=0.3,round_to=1)"))) == "P(ratio=0.3)"


@pytest.mark.parametrize(
    ("ratio", "round_to", "left"),
    [
        (0.8, 1, [8, 16, 32]),
        (0.9, 1, [4, 8, 16]),
        (0.55, 1, [18, 36, 72]),
        (0.8, 8, [8, 16, 32]),
        (0.6, 8, [16, 32, 64]),
        (0.55, 8, [16, 40, 72]),  # 18, 36 and 72, to the nearest, half up
    ],
)
def test_a_ratio_leaves_exactly_its_decimal_share(ratio: float, round_to: int, left: list[int]) -> None:
    network = tiny_network("resnet8(width=40)")
    before = widths(network)
    narrow_channels(network, ratio, round_to=round_to)
    kept = {before[name]: width for name, width in widths(network).items() if "classifier" not in name}
    assert kept == dict(zip((40, 80, 160), left, strict=True))


@pytest.mark.parametrize("ratio", ["0.8", "0.9", "0.55", "0.35"])
@pytest.mark.parametrize("width", [10, 60])
@pytest.mark.parametrize("stage", ["P", "P global", "D", "P of groups", "P after Q"])
def test_every_share_of_channels_is_exact(stage: str, width: int, ratio: str) -> None:
    model = f"built_nets:chain(width={width},groups={2 if stage == 'P of groups' else 1})"
    network = tiny_network(model)
    left = width * (1 - Fraction(ratio))
    knobs = {"scope": "global"} if stage == "P global" else {}
    if stage == "D":
        student = apply("D", network, depth=1.0, width=float(1 - Fraction(ratio)))
    else:
        network = apply("Q", network) if stage == "P after Q" else network
        student = apply("P", network, ratio=float(ratio), **knobs)
    half = stage == "P of groups"  # half of a width goes with the other half, to the nearest of both
    expected = 2 * math.floor((math.floor(left) + 1) / 2) if half else math.floor(left)
    assert widths(student)["body.0"] == expected


@pytest.mark.parametrize("kind", HEADS)
def test_layers_of_logits_stay_and_do_not_count(kind: str) -> None:
    before, after = (network := tiny_network(f"built_nets:head(kind={kind})")), apply("P", network, ratio=0.5)
    assert after.lineage[-1].achieved["ratio"] == 0.5
    assert after.lineage[-1].achieved["channels"] == 4
    assert widths(after) == {**widths(before), "body.stem": 4}


def test_layers_that_never_run_do_not_count() -> None:
    achieved = narrow_channels(user_network("unused_head"), 0.5)
    assert achieved == {"ratio": 0.5, "channels": 4}  # of 8; 1000 classes of another head are no channels


def test_transposed_depthwise_convolutions_stay_depthwise(tmp_path: Path) -> None:
    pruned = apply("P", user_network("depthwise_upsampling"), ratio=0.5)
    layer = pruned.module.body.get_submodule("1")
    assert (layer.groups, layer.in_channels, layer.out_channels) == (4, 4, 4)
    pruned.save(tmp_path / "n")
    loaded = CompressedNetwork.load(tmp_path / "n", trust=["user_nets:depthwise_upsampling"])
    assert all(torch.equal(one, two) for one, two in zip(logits(pruned), logits(loaded), strict=True))


def test_global_pruning_cannot_round() -> None:
    with pytest.raises(StageError, match="round_to=8 needs scope=local"):
        apply("P", tiny_network(), scope="global", round_to=8)


@pytest.mark.parametrize(("model", "shapes"), cases("PARTS"))
def test_parts_of_networks_are_pruned_to_what_is_left_of_them_by_hand(
    model: str, shapes: dict[str, tuple[int, int]]
) -> None:
    network = unique_network(model)
    pruned = apply("P", network, ratio=0.5)
    state = pruned.module.state_dict()
    assert {one: tuple(state[f"body.{one}.weight"].shape[:2]) for one in shapes} == shapes
    assert close(silenced(network, pruned), exact(pruned))


@pytest.mark.parametrize(("model", "_macs", "_behind"), cases("OUTSIDE"))
def test_layers_beside_those_that_are_not_reached_are_pruned(model: str, _macs: int, _behind: int) -> None:
    network = unique_network(model)
    pruned = apply("P", network, ratio=0.5)
    cost, cut = measure_cost(network), measure_cost(pruned)
    assert close(silenced(network, pruned), exact(pruned))
    assert pruned.module.get_parameter("body.out.weight").shape[0] == 3
    before = {layer.name: layer.macs for layer in cost.layers if layer.macs}
    after = {layer.name: layer.macs for layer in cut.layers if layer.macs}
    reached = sum(macs for name, macs in before.items() if after[name] < macs)
    assert pruned.lineage[-1].achieved.get("reached", 1) == round(reached / cost.macs, 4)


def test_layers_that_are_too_narrow_to_be_pruned_are_named() -> None:
    narrow = apply("P", tiny_network(), ratio=0.9)
    with pytest.raises(
        StageError, match=r"ratio 0.4 removes no channel of resnet14\(width=4\), whose layers"
    ):
        apply("P", narrow)


def test_a_lack_of_memory_while_pruning_is_no_lasting_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_short(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("ordercomp.stages.channels.Tracer", run_short)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        narrow_channels(tiny_network(), 0.4)


def test_a_ratio_that_groups_round_away_still_leaves_one_channel_in_each() -> None:
    shares = [apply("P", user_network("grouped"), ratio=ratio).lineage[-1].achieved for ratio in (0.5, 0.9)]
    assert [one["ratio"] for one in shares] == [0.5, 0.7917]  # 8, 8, 16 and 16 channels to 1, 1, 4 and 4
    assert [one["asked"] for one in shares] == [0.5, 0.9]


def test_a_ratio_that_is_missed_by_more_than_rounding_is_noticed() -> None:
    met, missed = (apply("P", user_network("grouped"), ratio=ratio).lineage[-1] for ratio in (0.5, 0.4))
    assert "notice" not in met.achieved
    assert missed.achieved["notice"] == "removes 50% of the channels, where 40% were asked for"


@pytest.mark.parametrize(
    ("groups", "ratio", "left"),
    [
        (8, 0.3, 24),  # 22.4, to the nearest of 16 and 24
        (8, 0.5, 16),
        (16, 0.4, 16),
        (4, 0.9, 4),
        (32, 0.3, 22),  # each channel by itself: no groups to keep alike
        (1, 0.3, 22),
    ],
)
def test_groups_of_a_normalization_leave_the_nearest_width(groups: int, ratio: float, left: int) -> None:
    network = tiny_network(f"common_nets:group_norm(groups={groups})")
    assert widths(apply("P", network, ratio=ratio))["body.0"] == left


def test_layer_normalizations_keep_their_weights_in_order() -> None:
    pruned = apply("P", user_network("normalized"), ratio=0.6)
    assert pruned.module.get_submodule("body.9").weight.shape == (4,)


def test_a_ratio_that_is_missed_by_far_is_told() -> None:
    met, missed = (
        apply("P", tiny_network("odd_nets:stuck"), ratio=ratio).lineage[-1].achieved for ratio in (0.5, 0.3)
    )
    assert "notice" not in met
    assert missed["notice"] == "removes 21% of the channels, where 30% were asked for"


@pytest.mark.parametrize(
    ("name", "shapes"),
    [  # of each layer: outputs and inputs left, at a ratio of 0.5
        (
            "option_a",
            {
                "stem": (8, 1),
                "blocks.0.one": (4, 8),
                "blocks.0.two": (8, 4),
                "blocks.1.one": (8, 8),
                "blocks.1.two": (16, 8),
            },
        ),
        ("chunked", {"stem": (4, 1), "before": (8, 4), "branch.0": (4, 4), "branch.1": (4, 4)}),
        ("split_by_number", {"stem": (4, 1), "before": (16, 4), "branch.0": (4, 8), "branch.1": (4, 4)}),
        ("gated_mlp", {"stem": (4, 1), "both": (16, 4), "out": (4, 8)}),
        ("hierarchy", {"stem": (4, 1), "before": (16, 4), "a": (4, 4), "after": (4, 14)}),
        ("frozen_norm", {"stem": (4, 1), "conv": (8, 4)}),
        ("spatial_gate", {"stem": (8, 1), "down": (2, 8), "up": (8, 2), "conv": (8, 8)}),
        ("shuffle_unit", {"stem": (8, 1), "branch.0": (2, 4), "branch.1": (2, 1), "branch.2": (4, 2)}),
        ("viewed_shuffle", {"stem": (8, 1), "branch.0": (2, 4), "branch.1": (2, 1), "branch.2": (4, 2)}),
        ("single_head", {"stem": (8, 1), "qkv": (8, 4), "out": (4, 8), "one": (8, 4), "two": (4, 8)}),
        ("vision_transformer", {"stem": (8, 1), "qkv": (24, 8), "one": (8, 8), "two": (8, 8)}),
    ],
)
def test_of_networks_people_have_what_can_be_followed_is_pruned(
    name: str, shapes: dict[str, tuple[int, int]]
) -> None:
    pruned = apply("P", tiny_network(f"common_nets:{name}"), ratio=0.5)
    state = pruned.module.state_dict()
    assert {one: tuple(state[f"body.{one}.weight"].shape[:2]) for one in shapes} == shapes
