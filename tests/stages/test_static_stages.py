"""U, W and H: what they hold, what they cost, what other stages do to it, and what the packed file holds."""

import lzma
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_networks import apply, logits, tiny_network, tiny_trainer

from ordercomp.measuring.cost import CONVENTIONS, measure_cost, recorded_conventions
from ordercomp.networks.constraints import weight_layers
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.stored import (
    Form,
    coded_bits,
    decode_gaps,
    encode_gaps,
    form_of,
    gap_count,
    places_bits,
    restore_weight,
    store_weight,
)
from ordercomp.networks.weights import read_checkpoint
from ordercomp.sequence import StageSequence
from ordercomp.shipping.packed import load_network, save_packed
from ordercomp.stages.catalog import complete, dry_run, known_stages
from ordercomp.stages.share import share_values
from ordercomp.stages.sparsify import zero_share, zero_smallest
from ordercomp.stages.stage import StageError
from ordercomp.testing import StageCheck, stage_checks


def chain(order: str, *, trained: bool = False) -> CompressedNetwork:
    network = tiny_network()
    for letter in order:
        network = apply(letter, network, tiny_trainer() if trained else None)
    return network


def zeros(network: CompressedNetwork) -> float:
    return zero_share([layer.weight for _, layer in weight_layers(network.module)])


def multiplied(network: CompressedNetwork) -> float:
    """The share of weights that are zero as they are multiplied by."""
    layers = [layer for _, layer in weight_layers(network.module)]
    return zero_share([getattr(layer, "rounded_weight", lambda one=layer: one.weight)() for layer in layers])


# U


@pytest.mark.parametrize("together", [True, False])
def test_the_smallest_weights_become_zero_and_no_layer_loses_all(together: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(20, 30, generator=generator), 0.001 * torch.randn(10, 10, generator=generator)]
    before = [weight.clone() for weight in weights]
    zero_smallest(weights, 0.9, together=together)
    assert zero_share(weights) == pytest.approx(0.9, abs=0.003)
    for weight, old in zip(weights, before, strict=True):
        kept = weight != 0
        assert torch.equal(weight[kept], old[kept])
        assert old[kept].abs().min() >= old[~kept].abs().max()
    assert int(weights[1].count_nonzero()) == (2 if together else 10)


def test_equal_weights_are_thinned_to_the_share_asked_for() -> None:
    weights = [torch.ones(100)]
    zero_smallest(weights, 0.75, together=True)
    assert int(weights[0].count_nonzero()) == 25


@pytest.mark.integration
@pytest.mark.parametrize(
    "order", ["U", "UF", "UK", "UP", "PU", "UQ", "QU", "UE", "EU", "UD", "UW", "WU", "LU", "UQPE"]
)
def test_zeros_stay_zero_in_training_whatever_follows(order: str) -> None:
    network = chain(order, trained=True)
    least = 0.78 if order[-1] not in "E" and "P" not in order else 0.6  # new heads are dense, P cuts others
    assert zeros(network) >= least
    assert multiplied(network) == pytest.approx(zeros(network))


def test_sparsity_rises_in_the_first_half_of_the_training() -> None:
    network, seen = tiny_network(), []

    class Watching:
        seed, baseline = 0, None

        def train(self, sparse: CompressedNetwork, *, before_step: object, **_: object) -> float:
            for done in np.linspace(0, 1, 11)[:-1]:
                before_step(done)  # type: ignore[operator]
                seen.append(zeros(sparse))
            return 1.0

    known_stages()["U"](sparsity=0.9).apply(network, trainer=Watching())  # type: ignore[arg-type, call-arg]
    assert all(later >= earlier for earlier, later in pairwise(seen))
    assert seen[0] < 0.2
    assert 0.6 < seen[2] < 0.89
    assert seen[5] == pytest.approx(0.9, abs=0.002)


def test_a_student_that_inherits_is_sparse_at_the_same_places() -> None:
    sparse, student = chain("U"), chain("UD")
    before = dict(weight_layers(sparse.module))
    for name, layer in weight_layers(student.module):
        assert not layer.weight[before[name].weight == 0].any()
    assert zeros(apply("D", sparse, student="fresh")) == 0


def test_u_is_dense_to_all_conventions_but_its_own() -> None:
    dense, sparse = measure_cost(tiny_network()), measure_cost(chain("U"))
    for convention in ("paper", "honest", "apot"):
        assert sparse.bitops(convention) == dense.bitops(convention)
    normalization = sum(layer.macs * 1024 for layer in dense.layers if layer.normalization)
    own = (sparse.bitops("nonzero") - normalization) / (dense.bitops("nonzero") - normalization)
    assert 0.05 < own < 0.5
    assert "nonzero" in recorded_conventions(sparse)
    assert "nonzero" not in recorded_conventions(dense)
    assert dense.bitops("nonzero") == dense.bitops("honest")


# W


def test_shared_values_are_the_means_of_their_weights() -> None:
    weight = torch.cat([torch.full((5,), -1.0), torch.linspace(0.9, 1.1, 11)]).view(2, 8)
    share_values(weight, 2)
    torch.testing.assert_close(weight.unique(), torch.tensor([-1.0, 1.0]))


def test_more_values_never_err_more_and_zeros_may_stay() -> None:
    old = torch.randn(64, 9, generator=torch.Generator().manual_seed(0))
    old[::2] = 0
    errors = []
    for values in (2, 4, 16, 64):
        weight = old.clone()
        share_values(weight, values, zeros=True)
        assert torch.equal(weight == 0, old == 0)
        assert len(weight[old != 0].unique()) <= values
        errors.append(float((weight - old).square().sum()))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.integration
@pytest.mark.parametrize("order", ["W", "WF", "WP", "WQ", "QW", "WE", "UW", "WU", "LW"])
def test_equal_weights_stay_equal_in_training_whatever_follows(order: str) -> None:
    network = chain(order, trained=True)
    assert not torch.equal(logits(network)[0], logits(chain(order))[0])
    for _, layer in weight_layers(network.module.body):
        assert len(layer.weight.unique()) <= 17 or layer.weight.numel() <= 16


@pytest.mark.integration
def test_training_moves_a_shared_value_by_the_mean_step_of_its_weights() -> None:
    shared, free = chain("W"), chain("W")
    for _, layer in weight_layers(free.module):
        layer.shared = False  # type: ignore[assignment]
    for network in (shared, free):
        tiny_trainer().train(network, fresh=False)
    for (name, one), (_, two) in zip(weight_layers(shared.module), weight_layers(free.module), strict=True):
        start = dict(weight_layers(chain("W").module))[name].weight
        for value in start.unique():
            group = start == value
            torch.testing.assert_close(one.weight[group], two.weight[group].mean().expand(int(group.sum())))


# Forms, files and H


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_gaps_tell_the_mask(share: float) -> None:
    mask = torch.from_numpy(np.random.default_rng(0).random(3000) < share)
    numbers, width = encode_gaps(mask)
    assert torch.equal(decode_gaps(numbers, width, 3000), mask)
    assert places_bits(mask) == min(3000, len(numbers) * width)


def test_gaps_by_hand() -> None:
    mask = torch.tensor([0, 1, 0, 0, 0, 0, 0, 1, 1], dtype=torch.bool)  # gaps 1, 5, 0
    assert gap_count(np.array([1, 5, 0]), 2) == 4  # 5 is 3 and 2
    assert torch.equal(decode_gaps(np.array([1, 3, 2, 0]), 2, 9), mask)
    with pytest.raises(ValueError, match="gaps reach to 9 of 8 weights"):
        decode_gaps(np.array([1, 3, 2, 0]), 2, 8)


def test_the_form_of_weights_counts_what_is_stored() -> None:
    weight = torch.zeros(1000)
    weight[:100] = torch.arange(100) % 4 + 1.0
    form = form_of(weight, sparse=True, shared=True)
    assert (form.size, form.kept, form.values) == (1000, 100, 4)
    assert form.places == 100  # a gap of one bit: none
    assert form.bits(32) == 100 + 100 * 2 + 4 * 32
    assert form.bits(1) == 100 + 100 * 1
    assert Form(size=10, kept=10, places=10).bits(4) == 40  # never more than one by one


ORDERS = (
    "U",
    "W",
    "H",
    "UW",
    "WU",
    "UQ",
    "QU",
    "WQ",
    "QW",
    "UP",
    "WP",
    "UE",
    "QH",
    "UWH",
    "UQH",
    "LPUWQEH",
    "DUWQESH",
)


@pytest.mark.integration
@pytest.mark.parametrize("order", ORDERS)
def test_files_hold_the_same_network(order: str, tmp_path: Path) -> None:
    network = chain(order)
    dry_run(network)
    network.save(tmp_path / "n")
    loaded = CompressedNetwork.load(tmp_path / "n")
    assert measure_cost(loaded) == measure_cost(network)
    save_packed(network, tmp_path / "p")
    with torch.no_grad():
        packed = load_network(tmp_path / "p")(network.architecture.example(3))
    for one, two, three in zip(logits(network), logits(loaded), packed, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


@pytest.mark.integration
@pytest.mark.parametrize("bits", [1, 2, 3, 8, 16, 32])
@pytest.mark.parametrize("order", ["Q", "UQ", "WQ", "UWQ"])
def test_a_weight_is_stored_and_restored_bit_for_bit(order: str, bits: int) -> None:
    network = tiny_network()
    for letter in order:
        network = apply(letter, network, **({"weights": bits} if letter == "Q" else {}))
    for _, layer in network.quantized_layers():
        with torch.no_grad():
            rounded = layer.rounded_weight()
        assert torch.equal(restore_weight(store_weight(layer)), rounded)  # type: ignore[arg-type]


@pytest.mark.integration
def test_the_packed_file_takes_what_the_cost_says(tmp_path: Path) -> None:
    network = tiny_network("resnet14(width=16)")
    for order in ("U", "UW", "W", "UQ"):
        found = network
        for letter in order:
            found = apply(letter, found)
        save_packed(found, tmp_path / "p")
        header = len((tmp_path / "p").read_bytes().split(b"}}}", 1)[0])
        assert (tmp_path / "p").stat().st_size - 3 * header < 1.1 * measure_cost(found).bits("honest") / 8


@pytest.mark.integration
def test_h_counts_the_stream_in_every_convention_and_bitops_stay() -> None:
    before, after = chain("UQ"), chain("UQH")
    assert after.coded
    assert not before.coded
    stream = coded_bits(after.module)
    assert after.lineage[-1].achieved == {"bits": stream}
    assert after.lineage[-1].epochs == 0
    one, two = measure_cost(before), measure_cost(after)
    for convention in CONVENTIONS:
        assert two.bitops(convention) == one.bitops(convention)
    others = sum((layer.parameters - layer.weights) * 2 for layer in two.layers)
    assert two.bits("paper") == stream + others


@pytest.mark.integration
def test_a_stream_is_smaller_than_what_xz_makes_of_the_same_bits(tmp_path: Path) -> None:
    network = tiny_network("resnet14(width=32)")
    for letter, knobs in (("Q", {"weights": 4}), ("U", {"sparsity": 0.5})):
        network = apply(letter, network, **knobs)
    save_packed(network, tmp_path / "plain")
    save_packed(apply("H", network), tmp_path / "coded")
    plain, coded = (read_checkpoint(tmp_path / name)[0] for name in ("plain", "coded"))
    same = b"".join(bytes(plain[name].view(torch.uint8)) for name in plain if ".weight." in name)
    stream = coded["coded"].numel()
    assert 0.3 * len(same) < stream < len(lzma.compress(same, preset=9 | lzma.PRESET_EXTREME))


@pytest.mark.parametrize(
    ("letter", "knobs", "after", "message"),
    [
        ("U", {"sparsity": 0.5}, "U", r"U\(sparsity=0.5\) leaves .* as it is: 80.0% of its weights are zero"),
        ("W", {"values": 4096}, "", r"W\(values=4096\) finds no layer of .* with more weights than that"),
        ("W", {"values": 16}, "W", r"W\(values=16\) finds no layer of .* or with more different ones"),
    ],
)
def test_what_would_change_nothing_is_refused(
    letter: str, knobs: dict[str, float], after: str, message: str
) -> None:
    with pytest.raises(StageError, match=message):
        apply(letter, chain(after), **knobs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("U(sparsity=1.0)", r"stage U knob sparsity must lie in \[0.05, 0.99\], got 1.0"),
        ("W(values=1)", r"stage W knob values must lie in \[2, 4096\], got 1"),
        ("L(rank=0)", r"stage L knob rank must lie in \[0.05, 0.95\], got 0"),
        ("HQ", r"stage H \(Entropy code\) must come last, as Q voids it, got 'HQ'"),
        ("DHE", r"stage H \(Entropy code\) must come last, as E voids it, got 'DHE'"),
    ],
)
def test_bad_sequences_are_answered_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        complete(StageSequence.parse(text))


@pytest.mark.integration
@pytest.mark.parametrize("letter", "UWH")
@pytest.mark.parametrize("order", [None, "", "P", "Q", "E", "DPQE"], ids=str)
def test_they_keep_the_contract_of_stages(letter: str, order: str | None) -> None:
    stage = known_stages()[letter]
    check = StageCheck(stage, order)
    assert check in stage_checks(stage)
    check()
