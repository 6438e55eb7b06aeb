"""Random small networks: what is told of them is true, or the stage is refused in one line."""

import random
import warnings
from collections import Counter

import pytest
import torch
from silencing import close, exact, silenced, unique_network
from tiny_networks import NoTrainer, logits
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import Bits
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import Step
from ordercomp.stages.catalog import make_stage
from ordercomp.stages.stage import StageError

pytestmark = pytest.mark.integration

SHORT, LONG = 20, 2000


def random_network(seed: int) -> CompressedNetwork:
    return unique_network(f"random_nets:draw(seed={seed})", seed=seed, size=6)


def check(seed: int) -> str:
    """What became of the network; fails if something is silently wrong."""
    network = random_network(seed)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as operations:
        network.module(network.architecture.example(1))
    cost = measure_cost(network)
    assert cost.macs == operations.get_total_flops() // 2, f"seed {seed}: MACs"
    assert close(exact(network), exact(network.quantized(Bits(32, 32)))), f"seed {seed}: 32 bits"
    _check_bits(network, seed)
    return _check_pruned(network, seed)


def _check_bits(network: CompressedNetwork, seed: int) -> None:
    """BitOps at 8 bits by another way: the multiplications of quantized layers, and all others in float."""
    quantized = make_stage(Step.of("Q", {"weights": 8, "activations": 8})).apply(network, trainer=NoTrainer())
    inside = Counter[str]()
    for _, layer in quantized.quantized_layers():
        layer.register_forward_hook(  # type: ignore[attr-defined]
            lambda one, _inputs, output: inside.update(macs=output.numel() * one.weight[0].numel())
        )
    logits(CompressedNetwork(module=quantized.module, architecture=quantized.architecture))
    rounded = inside["macs"] // 3  # images
    cost = measure_cost(quantized)
    expected = rounded * 64 + (cost.macs - rounded) * 1024
    assert cost.bitops("paper") == expected, f"seed {seed}: BitOps"


def _check_pruned(network: CompressedNetwork, seed: int) -> str:
    """The channels left are told from their weights; all others are silenced by an oracle of our own."""
    try:
        pruned = make_stage(Step.of("P", {"ratio": random.Random(seed).choice((0.25, 0.5))})).apply(
            network, trainer=NoTrainer()
        )
    except StageError as error:
        return "refused" if "\n" not in str(error) else "told in several lines"
    assert close(silenced(network, pruned), exact(pruned)), f"seed {seed}: silenced channels"
    return "pruned"


def test_what_is_told_of_twenty_random_networks_is_true_and_most_are_pruned() -> None:
    assert assert_told_truly(range(20, 20 + SHORT))["pruned"] >= 0.7 * SHORT


def test_a_mean_over_channels_is_found_behind_a_normalization_that_hides_most_of_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert check(1410) in ("pruned", "refused")  # and not wrong


@pytest.mark.slow
def test_what_is_told_of_two_thousand_random_networks_is_true() -> None:
    found = assert_told_truly(range(1000, 1000 + LONG))
    assert found["pruned"] >= 0.7 * LONG


def assert_told_truly(seeds: range) -> Counter[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, on weights outside of layers
        found = Counter(check(seed) for seed in seeds)
    assert set(found) <= {"pruned", "refused"}
    return found
