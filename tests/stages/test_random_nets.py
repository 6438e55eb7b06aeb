"""Random small networks: what is told of them is true, or the stage is refused in one line."""

import random
import warnings
from collections import Counter

import pytest
import torch
from random_nets import Standardized
from tiny_networks import NoTrainer, logits, tiny_network
from torch import Tensor, nn
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
QUIET = 1e-9  # of the largest logit, in float64


def random_network(seed: int) -> CompressedNetwork:
    network = tiny_network(f"random_nets:draw(seed={seed})", seed=seed, size=6)
    _make_unique(network.module, seed)
    network.module.eval()
    return network


@torch.no_grad()
def _make_unique(module: nn.Module, seed: int) -> None:
    """No two weights of a parameter are the same, and none is 0 or 1, as normalizations are at first."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        places = torch.randperm(tensor.numel(), generator=generator).view(tensor.shape)
        shares = (places + 0.5) / tensor.numel()
        if tensor.dim() == 1 or name.endswith("scale"):
            tensor.copy_(shares + 0.5)
        else:
            tensor.copy_((2 * shares - 1) * tensor.abs().max())


@torch.no_grad()
def exact(network: CompressedNetwork) -> tuple[Tensor, ...]:
    """Logits in float64, in which rounding hides nothing."""
    found: tuple[Tensor, ...] = (
        network.copy().module.eval().double()(network.architecture.example(3).double())
    )
    return found


def close(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(bool((a - b).abs().max() <= QUIET * a.abs().max()) for a, b in zip(one, other, strict=True))


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
    assert close(_silenced(network, pruned), exact(pruned)), f"seed {seed}: silenced channels"
    return "pruned"


@torch.no_grad()
def _silenced(network: CompressedNetwork, pruned: CompressedNetwork) -> tuple[Tensor, ...]:
    """Logits of the old network, all of whose weights are zero that the pruned one has not.

    No two weights are the same, so that their values tell which are left. A layer that reads its inputs in
    other places than the old one gives other logits. Normalizations, of weights as well, take in the channels
    that are left.
    """
    whole = network.copy()
    whole.module.eval().double()
    left = dict(pruned.copy().module.eval().double().named_modules())
    for name, layer in whole.module.named_modules():
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm | Standardized):
            _normalize_rest(layer, left[name])
            continue
        for key, parameter in layer.named_parameters(recurse=False):
            parameter.mul_(torch.isin(parameter, left[name].get_parameter(key)))
    found: tuple[Tensor, ...] = whole.module(network.architecture.example(3).double())
    return found


def _normalize_rest(layer: nn.Module, left: nn.Module) -> None:
    kept = torch.isin(layer.weight, left.get_parameter("weight"))  # type: ignore[arg-type]
    outputs = kept.flatten(1).any(1) if kept.dim() > 1 else kept
    inputs = kept.transpose(0, 1).flatten(1).any(1) if kept.dim() > 1 else kept
    dim = -1 if isinstance(layer, nn.LayerNorm) else 1

    def hook(_layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rest: Tensor = left(given[0].index_select(dim, inputs.nonzero().flatten()))
        return torch.zeros_like(output).index_copy(dim, outputs.nonzero().flatten(), rest)

    layer.register_forward_hook(hook)


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
