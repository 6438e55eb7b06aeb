"""Bits of single layers within a budget, and weights on powers of two: through every stage and file."""

from pathlib import Path

import pytest
import torch
from tiny_networks import apply, logits, tiny_network, tiny_trainer

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import Bits
from ordercomp.networks.network import CompressedNetwork
from ordercomp.shipping.packed import load_network, save_packed
from ordercomp.stages.quantize import allocate_bits


def widths(network: CompressedNetwork) -> dict[str, int]:
    return {name: layer.weight_bits for name, layer in network.quantized_layers()}


@pytest.mark.integration
@pytest.mark.parametrize("budget", [1, 2, 3, 6])
def test_layers_share_out_a_budget_of_weights_and_of_multiplications(budget: int) -> None:
    network = tiny_network().quantized(Bits(budget, 8))
    told = allocate_bits(network, network.example(8))
    assert list(told.values()) == list(widths(network).values())
    layers = [layer for layer in measure_cost(network).layers if not layer.normalization]
    means = [
        sum(getattr(layer, size) * layer.bits.weights for layer in layers)
        / sum(getattr(layer, size) for layer in layers)
        for size in ("weights", "macs")
    ]
    assert budget - 1 < max(means) <= budget
    assert {layer.activation_bits for _, layer in network.quantized_layers()} == {8, 32}
    assert len(set(told.values())) > 1 or budget == 1


def test_a_layer_that_changes_nothing_gets_one_bit_and_frees_bits_for_others() -> None:
    network = tiny_network()
    with torch.no_grad():
        network.module.body.get_submodule("stages.1.0.bn2").weight.zero_()  # what the block adds is silent
    quantized = network.quantized(Bits(3, 8))
    told = allocate_bits(quantized, quantized.example(8))
    assert told["stages.1.0.conv2"] == 1
    assert max(told.values()) > 3


@pytest.mark.integration
def test_sensitive_layers_get_more_bits_and_later_stages_keep_them(tmp_path: Path) -> None:
    network = apply("Q", tiny_network(), tiny_trainer(), weights=3, allocation="sensitivity")
    told = network.lineage[-1].achieved["bits"]
    assert {f"body.{name}": bits for name, bits in told.items()} == widths(network)
    for letter in "PEFK":
        later = apply(letter, network, tiny_trainer())
        assert widths(network).items() <= widths(later).items()
        later.save(tmp_path / letter)
        assert widths(CompressedNetwork.load(tmp_path / letter)) == widths(later)
    inherited = apply("D", network, tiny_trainer(), student="inherit")
    assert widths(inherited).items() <= widths(network).items()


@pytest.mark.integration
@pytest.mark.parametrize("levels", ["symmetric", "pot", "apot"])
def test_levels_survive_every_stage_and_file(levels: str, tmp_path: Path) -> None:
    network = apply("Q", tiny_network(), tiny_trainer(), weights=4, levels=levels)
    assert str(network.sequence) == f"Q(weights=4,activations=4,levels={levels})"
    for order in ("", "P", "E", "F", "K", "D"):
        knobs = {"student": "inherit"} if order == "D" else {}
        later = apply(order, network, tiny_trainer(), **knobs) if order else network
        assert {layer.levels for _, layer in later.quantized_layers()} == {levels}
        weights = [layer.rounded_weight() for _, layer in later.quantized_layers()]
        assert any((weight == 0).any() for weight in weights)  # the even levels of DoReFa have no zero
        later.save(tmp_path / "network")
        save_packed(later, tmp_path / "packed")
        with torch.no_grad():
            shipped = load_network(tmp_path / "packed")(later.architecture.example(3))
        again = CompressedNetwork.load(tmp_path / "network")
        assert again.bits == later.bits == Bits(4, 4, levels)  # type: ignore[arg-type]
        for one, two, three in zip(logits(later), logits(again), shipped, strict=True):
            assert torch.equal(one, two)
            assert torch.equal(one, three)
    evenly = apply("Q", network, weights=2)
    assert {layer.levels for _, layer in evenly.quantized_layers()} == {"uniform"}


def test_levels_of_powers_of_two_take_at_most_eight_bits() -> None:
    with pytest.raises(ValueError, match="levels=pot takes weights of at most 8 bits, got 16"):
        apply("Q", tiny_network(), weights=16, levels="pot")
