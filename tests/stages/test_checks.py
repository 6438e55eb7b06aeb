"""Nothing silently wrong: what is counted, 32 bits that change nothing, channels that are silenced."""

import odd_nets
import pytest
import torch
from tiny_networks import apply, logits, tiny_network
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import Bits
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.stage import StageError
from ordercomp.stages.verify import same_logits


def odd(name: str, *, seed: int = 0) -> CompressedNetwork:
    network = tiny_network(f"odd_nets:{name}", seed=seed)
    network.module.eval()
    return network


@pytest.mark.parametrize("name", odd_nets.__all__)
def test_every_multiplication_is_counted(name: str) -> None:
    network = odd(name)
    torch.backends.mha.set_fastpath_enabled(False)  # runs in one piece, which torch does not count
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as operations,
    ):
        network.module(network.architecture.example(1))
    torch.backends.mha.set_fastpath_enabled(True)
    assert measure_cost(network).macs == operations.get_total_flops() // 2


def test_weights_of_a_modules_own_are_stored_and_run_in_float() -> None:
    network = odd("functional_weights")
    dense, quantized = measure_cost(network), apply("Q", network, weights=1, activations=1)
    cost = measure_cost(quantized)
    own = 64 * 16 * 72
    assert dense.unreached == {"body.1": {"weights": 1152, "macs": own}}
    assert dense.macs == 64 * 8 * 9 + own + 160
    for convention in ("paper", "apot", "honest"):
        assert cost.bitops(convention) > own * 1024
        assert cost.bits(convention) > 1152 * 32
    assert cost.bitops("paper") == (64 * 8 * 9 + 160) + own * 1024
    assert quantized.lineage[-1].achieved["in_float"] == dense.unreached
    assert quantized.lineage[-1].achieved["reached"] == round(1 - own / dense.macs, 4)


def test_weights_of_layers_that_others_read_are_counted_and_those_that_nobody_reads_are_not() -> None:
    cost = measure_cost(odd("layer_read_by_its_parent"))
    assert cost.parameters == 80 + 64 + 90
    assert cost.unreached == {"body": {"weights": 0, "macs": 64}, "body.inner": {"weights": 64, "macs": 0}}


def test_attention_is_counted_in_float() -> None:
    cost = measure_cost(apply("Q", odd("attention"), weights=2, activations=2))
    assert cost.unreached["body"]["macs"] == 2 * 4 * 4 * 8


@pytest.mark.parametrize("name", odd_nets.__all__)
def test_32_bits_change_no_logit(name: str) -> None:
    network = odd(name)
    assert same_logits(logits(network), logits(network.quantized(Bits(32, 32))))


@pytest.mark.parametrize(("name", "layer"), [("standardized", "body.2"), ("cosine_classifier", "body.4")])
def test_a_layer_with_a_forward_of_its_own_keeps_it_and_stays_in_float(name: str, layer: str) -> None:
    quantized = apply("Q", odd(name), weights=8, activations=8)
    assert list(quantized.lineage[-1].achieved["in_float"]) == [layer]
    assert same_logits(logits(odd(name)), logits(quantized)) is False  # the other layers round
    assert measure_cost(odd(name)).bitops() / measure_cost(quantized).bitops() < 16


def left(network: CompressedNetwork) -> dict[str, tuple[int, ...]]:
    """Shapes of weights, by the name of their module."""
    return {
        name.removeprefix("body.").removesuffix(".weight"): tuple(parameter.shape[:2])
        for name, parameter in network.module.named_parameters()
        if name.endswith(".weight") and parameter.dim() > 1
    }


def test_torchs_own_attention_is_counted_and_stays_in_float() -> None:
    quantized = apply("Q", odd("torch_attention"), weights=2, activations=2)
    cost = measure_cost(quantized)
    projections, attention = 4 * 4 * 8 * 8, 2 * 4 * 4 * 8
    assert sum(one["macs"] for one in cost.unreached.values()) == projections + attention
    assert sum(one["weights"] for one in cost.unreached.values()) == 4 * (64 + 8)
    assert measure_cost(odd("torch_attention")).parameters == 4 * (64 + 8) + 8 * 17 + 90


@pytest.mark.parametrize("name", ["shuffled", "rolled", "flipped", "mean_of_channels", "barely_rolled"])
@pytest.mark.parametrize("bits", [None, 2])
def test_channels_that_a_tracer_loses_sight_of_stay_and_the_others_go(name: str, bits: int | None) -> None:
    network = odd(name) if bits is None else apply("Q", odd(name), weights=bits, activations=bits)
    pruned = apply("P", network, ratio=0.25)
    assert left(pruned) == {"0": (8, 1), "3": (12, 8), "7": (10, 12)}
    reached = 64 * 16 * 8 * 9 + 160  # of all layers but the first
    assert pruned.lineage[-1].achieved["reached"] == round(reached / (reached + 64 * 8 * 9), 4)


@pytest.mark.parametrize("name", ["gated", "sigmoids", "layer_scale", "token_norm", "float32_only"])
@pytest.mark.parametrize("bits", [None, 2])
def test_channels_that_can_be_followed_are_pruned(name: str, bits: int | None) -> None:
    network = odd(name) if bits is None else apply("Q", odd(name), weights=bits, activations=bits)
    pruned = apply("P", network, ratio=0.5)
    assert measure_cost(pruned).macs < measure_cost(network).macs
    assert "reached" not in pruned.lineage[-1].achieved


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("standardized", {"0": (4, 1), "2": (4, 4), "6": (10, 4)}),
        ("gained", {"0": (4, 1), "1": (8, 4), "5": (10, 8), "1.gain": (1, 8)}),
        ("gained(turned=1)", {"0": (8, 1), "1": (8, 8), "5": (10, 8), "1.gain": (1, 8)}),
        ("cosine_classifier", {"0": (4, 1), "4": (10, 4)}),
        ("masked_weights", {"0": (4, 1), "1": (8, 4), "5": (10, 8), "1.mask": (8, 4)}),
        ("lora", {"0": (4, 1), "4": (10, 4), "4.down": (2, 4), "4.up": (10, 2)}),
    ],
)
def test_layers_that_compute_their_weights_lose_all_that_goes_with_a_channel(
    name: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    state = apply("P", odd(name), ratio=0.5).module.body.state_dict()
    assert {
        key.removesuffix(".weight"): tuple(one.shape[:2]) for key, one in state.items() if one.dim() > 1
    } == shapes


def test_standardized_weights_are_standardized_anew_over_what_is_left() -> None:
    network = odd("standardized")
    pruned = apply("P", network, ratio=0.5)
    before, after = (one.module.body.state_dict() for one in (network, pruned))
    kept = [torch.isin(before[f"{place}.bias"], after[f"{place}.bias"]) for place in (0, 2)]
    x = network.architecture.example(2)
    x = functional.conv2d(x, before["0.weight"][kept[0]], before["0.bias"][kept[0]], padding=1).relu()
    weight = before["2.weight"][kept[1]][:, kept[0]]
    weight = weight - weight.mean((1, 2, 3), keepdim=True)
    weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
    x = functional.conv2d(x, weight, before["2.bias"][kept[1]]).relu().mean((2, 3))
    expected = functional.linear(x, before["6.weight"][:, kept[1]], before["6.bias"])
    assert torch.allclose(pruned.module(network.architecture.example(2))[-1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("layer_read_by_its_parent", "cannot be run"),
        ("torch_attention", "a MultiheadAttention has more than one output"),
    ],
)
def test_networks_of_which_nothing_can_be_followed_are_refused(name: str, why: str) -> None:
    with pytest.raises(StageError, match=f"odd_nets:{name} cannot be pruned: .*{why}"):
        apply("P", odd(name), ratio=0.5)


def test_checks_leave_the_random_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    apply("Q", apply("P", odd("gated")))
    assert torch.equal(torch.rand(1), expected)


def test_a_network_of_chance_is_refused() -> None:
    network = odd("gated")
    network.module.body[2].forward = lambda x: x * torch.rand(())  # type: ignore[index]
    with pytest.raises(StageError, match="gives other logits each time"):
        apply("Q", network)
