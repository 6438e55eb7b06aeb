"""What networks cost: published sizes, conventions, exits, and tiny networks worked by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from built_nets import PRODUCTS
from sibling_nets import cases
from tiny_networks import apply, tiny_network
from torch import nn

from ordercomp.measuring.cost import CONVENTIONS, Cost, counted_macs, measure_cost
from ordercomp.networks.exits import Bits
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.weights import read_checkpoint
from ordercomp.shipping.packed import save_packed


def cifar(model: str) -> CompressedNetwork:
    return CompressedNetwork.create(model, classes=10)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("model", "parameters", "megamacs"),
    [
        ("resnet34", 21_282_122, 1159.4),
        ("resnet18", 11_173_962, 555.4),
        ("vgg19", 20_040_522, 398.1),
        ("mobilenet_v2", 2_236_682, 88.0),
    ],
)
def test_published_networks_have_their_published_cost(model: str, parameters: int, megamacs: float) -> None:
    cost = measure_cost(cifar(model))
    assert cost.parameters == parameters
    assert round(cost.macs / 1e6, 1) == megamacs
    assert cost.bitops("paper") == cost.macs * 1024
    assert cost.bits("paper") == parameters * 32


@pytest.mark.integration
def test_half_the_depth_of_resnet34_is_resnet18_exactly() -> None:
    student = measure_cost(apply("D", cifar("resnet34"), depth=0.5))
    published = measure_cost(cifar("resnet18"))
    assert (
        (student.parameters, student.macs)
        == (published.parameters, published.macs)
        == (11_173_962, 555_422_720)
    )


@pytest.mark.parametrize(
    ("weights", "activations", "bitops_cr", "cr"),
    [(8, 8, 16, 4), (4, 8, 32, 8), (1, 8, 128, 32), (6, 8, 64 / 3, 16 / 3), (32, 32, 1, 1)],
)
def test_bit_widths_alone_give_the_papers_reductions(
    weights: int, activations: int, bitops_cr: float, cr: float
) -> None:
    dense = tiny_network()
    quantized = apply("Q", dense, weights=weights, activations=activations)
    before, after = measure_cost(dense), measure_cost(quantized)
    assert before.bitops("paper") / after.bitops("paper") == pytest.approx(bitops_cr, rel=1e-12)
    assert before.bits("paper") / after.bits("paper") == pytest.approx(cr, rel=1e-12)


@pytest.mark.parametrize("order", ["PQ", "QP"])
def test_pruning_keeps_its_reduction_whatever_the_bits(order: str) -> None:
    """The MACs of layers between pruned ones fall by 1/(1 - ratio)²; 1-bit weights multiply that by 128."""
    network = cifar("resnet34(blocks=1111,width=16)")
    dense = measure_cost(network)
    for letter in order:
        knobs = {"weights": 1, "activations": 8} if letter == "Q" else {"ratio": 0.25}
        network = apply(letter, network, **knobs)
    reduction = dense.bitops("paper") / measure_cost(network).bitops("paper")
    assert reduction / 128 == pytest.approx(1.77, abs=0.02)


def test_a_convolution_and_a_classifier_by_hand() -> None:
    """8x8 gray images, 3x3 convolution to 8 channels without padding, mean, 8 to 10 linear."""
    network = tiny_network("user_nets:classifier_first")
    cost = measure_cost(network)
    convolution, classifier = 6 * 6 * 8 * 9, 80
    assert [(layer.name, layer.macs) for layer in cost.layers] == [
        ("body.conv", convolution),
        ("body.classifier", classifier),
    ]
    assert cost.parameters == (72 + 8) + (80 + 10)
    quantized = measure_cost(apply("Q", network, weights=2, activations=4))
    assert quantized.bitops("paper") == (convolution + classifier) * 2 * 4
    assert quantized.bitops("honest") == convolution * 2 * 8 + classifier * 2 * 4  # the image has 8 bits
    assert quantized.bitops("apot") == (convolution + classifier) * 8 * 8
    assert quantized.bits("paper") == 170 * 2
    assert quantized.bits("apot") == 170 * 8
    stored = 152 * 2 + 18 * 32 + (1 + 2) * 32  # weights, biases, scales: the image needs none for its input
    assert quantized.bits("honest") == stored


def test_a_layer_that_runs_twice_by_hand() -> None:
    """3x3 convolution 1 to 8, the same 3x3 convolution 8 to 8 twice, linear 8 to 10."""
    network = tiny_network("user_nets:shared_block")
    cost = measure_cost(network)
    first, shared, last = 64 * 8 * 9, 64 * 8 * 72, 80
    assert cost.macs == first + 2 * shared + last
    assert cost.parameters == 80 + 584 + 90  # stored once, run twice
    quantized = measure_cost(apply("Q", network, weights=2, activations=4))
    assert quantized.bitops("apot") == (first + last) * 64 + 2 * shared * 8
    assert quantized.bitops("honest") == first * 2 * 8 + (2 * shared + last) * 8
    assert quantized.bits("honest") == (72 + 576 + 80) * 2 + (8 + 8 + 10 + 5) * 32


@pytest.mark.parametrize(("model", "parameters"), cases("TIED"))
def test_what_layers_share_is_counted_as_it_is_shipped(model: str, parameters: int, tmp_path: Path) -> None:
    network = tiny_network(model)
    assert measure_cost(network).parameters == parameters
    network.module.eval()
    save_packed(network, tmp_path / "network")
    tensors, _ = read_checkpoint(tmp_path / "network")
    assert sum(tensor.numel() for name, tensor in tensors.items() if "running" not in name) == parameters


@pytest.mark.parametrize(("model", "macs", "behind"), cases("OUTSIDE"))
def test_layers_that_no_quantizer_reaches_run_in_float_and_the_others_do_not(
    model: str, macs: int, behind: int
) -> None:
    network = tiny_network(model)
    reached = 64 * 8 * 9 + behind + 60
    assert measure_cost(network).macs == reached + macs
    quantized = apply("Q", network, weights=8, activations=8)
    assert measure_cost(quantized).bitops() == reached * 64 + macs * 1024
    assert quantized.lineage[-1].achieved["reached"] == round(reached / (reached + macs), 4)


def test_batch_normalization_costs_only_in_the_honest_convention() -> None:
    network = tiny_network("resnet8(width=4)")
    cost = measure_cost(network)
    values = sum(layer.macs for layer in cost.layers if layer.normalization)
    assert values == 3 * 4 * 64 + 3 * 8 * 16 + 3 * 16 * 4  # stem and three blocks, projections included
    assert cost.bitops("honest") == (cost.macs + values) * 1024
    assert cost.bitops("paper") == cost.bitops("apot") == cost.macs * 1024
    assert cost.bits("honest") == cost.bits("paper") == cost.parameters * 32


def test_a_float_layer_inside_a_quantized_network_counts_as_float_everywhere() -> None:
    network = tiny_network("user_nets:classifier_first")
    mixed = replace(apply("Q", network, weights=2, activations=4))
    plain = nn.Linear(8, 10)
    mixed.module.body.classifier = plain
    cost = measure_cost(mixed)
    assert cost.bitops("honest") == 6 * 6 * 8 * 9 * 2 * 8 + 80 * 32 * 32
    assert cost.bits("honest") == 72 * 2 + 8 * 32 + 32 + 90 * 32
    assert cost.bitops("paper") == 6 * 6 * 8 * 9 * 8 + 80 * 32 * 32


def test_only_weights_can_be_quantized() -> None:
    cost = measure_cost(apply("Q", tiny_network("user_nets:classifier_first"), weights=2, activations=32))
    assert cost.bitops("paper") == (2592 + 80) * 2 * 32
    assert cost.bitops("honest") == 2592 * 2 * 8 + 80 * 2 * 32
    assert cost.bits("honest") == 152 * 2 + 18 * 32 + 2 * 32


def test_leaving_early_costs_the_body_so_far_and_all_heads_so_far() -> None:
    network = tiny_network("resnet8(width=4)")
    body = {layer.name: layer.macs for layer in measure_cost(network).layers if not layer.normalization}
    with_exits = apply("E", network, exits=2)
    assert with_exits.exits == ("stages.0.0", "stages.1.0")
    to_first = sum(body[f"body.{name}"] for name in ("conv", "stages.0.0.conv1", "stages.0.0.conv2"))
    second = sum(macs for name, macs in body.items() if name.startswith("body.stages.1"))
    rest = sum(body.values()) - to_first - second
    heads = (4 * 10, 8 * 10)
    expected = [
        to_first + heads[0],
        to_first + heads[0] + second + heads[1],
        to_first + heads[0] + second + heads[1] + rest,
    ]
    cost = measure_cost(with_exits)
    assert cost.bitops_by_exit("paper") == [macs * 1024 for macs in expected]
    assert cost.bitops("paper") == expected[-1] * 1024
    assert cost.macs == expected[-1]
    assert cost.parameters == measure_cost(network).parameters + (40 + 10) + (80 + 10)


def test_heads_are_edges_for_apot_and_quantized_with_the_body() -> None:
    cost = measure_cost(apply("E", apply("Q", tiny_network(), weights=2, activations=4)))
    heads = [layer for layer in cost.layers if layer.name.startswith("heads.")]
    assert [layer.bits for layer in heads] == [Bits(2, 4), Bits(2, 4)]
    assert all(layer.edge for layer in heads)
    edges = [layer.name for layer in cost.layers if layer.edge]
    assert edges == ["body.conv", "body.classifier", "heads.0.classifier", "heads.1.classifier"]


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = apply("E", tiny_network())
    network.module.train()
    first = measure_cost(network)
    assert network.module.training
    assert not any(part._forward_hooks for part in network.module.modules())
    assert measure_cost(network) == first


def test_cost_is_the_same_in_every_convention_for_a_float_network_without_normalization() -> None:
    cost = measure_cost(tiny_network("user_nets:flat"))
    assert len({cost.bitops(name) for name in CONVENTIONS}) == 1
    assert len({cost.bits(name) for name in CONVENTIONS}) == 1


@pytest.mark.parametrize("method", [Cost.bits, Cost.bitops, Cost.bitops_by_exit])
def test_an_unknown_convention_is_named(method) -> None:  # type: ignore[no-untyped-def]
    cost = measure_cost(tiny_network("user_nets:flat"))
    with pytest.raises(
        ValueError, match="convention must be one of paper, honest, apot, nonzero, got 'flops'"
    ):
        method(cost, "flops")


def test_layers_that_cannot_be_counted_are_named() -> None:
    with pytest.raises(ValueError, match=r"the cost of body\.recurrent, a GRU, is not known"):
        measure_cost(tiny_network("user_nets:recurrent"))


@pytest.mark.parametrize(
    ("name", "place", "macs"),
    [
        ("upsampling", "body.1", 64 * 8 * 8 * 4),  # transposed: each of 64 pixels of 8 channels to 2x2 of 8
        ("channel_attention", "body.1.conv", 8 * 3),  # a Conv1d along 8 channels
        ("vector_attention", "body", 2 * 64 * 8),  # tokens times a vector, and their weighted sum
        ("vector_linear", "body", 64 * 8),
        ("bilinear", "body.mix", 6 * 8 * 8),
    ],
)
def test_what_no_quantizer_reaches_is_counted_in_float(name: str, place: str, macs: int) -> None:
    network = tiny_network(f"user_nets:{name}")
    cost = measure_cost(network)
    assert cost.unreached[place]["macs"] == macs
    assert cost.macs == counted_macs(network)
    quantized = measure_cost(apply("Q", network, weights=4, activations=4))
    rest = cost.macs - sum(one["macs"] for one in cost.unreached.values())
    assert quantized.bitops() == rest * 16 + (cost.macs - rest) * 32**2


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_outside_of_layers_are_counted(kind: str) -> None:
    network = tiny_network(f"built_nets:product(kind={kind})")
    _, macs, _ = PRODUCTS[kind]
    cost = measure_cost(network)
    assert cost.unreached["body"]["macs"] == macs
    classifier = network.module.get_submodule("body.classifier").weight  # type: ignore[union-attr]
    assert cost.macs == counted_macs(network) == 64 * 8 * 9 + macs + classifier.numel()  # type: ignore[operator]


def test_convolutions_of_three_dimensions_are_counted() -> None:
    cost = measure_cost(tiny_network("user_nets:frames"))
    assert cost.macs == 64 * 8 * 9 + 8 * 64 * 27 + 80
    assert cost.unreached == {"body.across": {"weights": 28, "macs": 8 * 64 * 27}}


def test_a_layer_that_reads_a_view_of_a_parameter_is_counted() -> None:
    network = tiny_network("user_nets:learned_query")
    cost = measure_cost(network)
    assert {layer.name: layer.macs for layer in cost.layers}["body.project"] == 8 * 8
    assert cost.macs == counted_macs(network)
