"""L: which form and rank a layer gets, what factors compute, and what other stages do to them."""

from pathlib import Path

import pytest
import torch
from tiny_networks import apply, logits, tiny_network, tiny_trainer
from torch import nn

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.factors import Factors, fill_factors, form_of, make_factors
from ordercomp.networks.network import CompressedNetwork
from ordercomp.shipping.packed import load_network, save_packed
from ordercomp.stages.blocks import find_blocks, split_candidates
from ordercomp.stages.catalog import dry_run
from ordercomp.stages.low_rank import LowRank
from ordercomp.stages.stage import StageError
from ordercomp.testing import StageCheck, stage_checks


def conv(rank: int, form: str, **window: object) -> nn.Conv2d:
    """A convolution of 8 filters on 6 channels whose weights have that rank in that form."""
    layer = nn.Conv2d(6, 8, 3, **window)  # type: ignore[arg-type]
    pair = make_factors(layer, {"form": form, "rank": rank})
    first, second = pair[0].weight.detach(), pair[1].weight.detach()
    if form == "channels":
        whole = torch.einsum("rchw,or->ochw", first, second[:, :, 0, 0])
    else:
        whole = torch.einsum("rch,orw->ochw", first[..., 0], second[:, :, 0])
    layer.weight.data.copy_(whole)
    return layer


@pytest.mark.parametrize("window", [{"padding": 1}, {"stride": 2}, {"stride": (1, 2), "padding": (0, 1)}])
@pytest.mark.parametrize("form", ["channels", "space"])
def test_factors_of_the_true_form_and_rank_compute_what_the_layer_did(
    form: str, window: dict[str, object]
) -> None:
    layer = conv(2, form, **window)
    assert form_of(layer, 0.5) is not None
    pair = make_factors(layer, {"form": form, "rank": 2})
    fill_factors(pair, layer, form)  # type: ignore[arg-type]
    images = torch.randn(2, 6, 9, 10)
    torch.testing.assert_close(pair(images), layer(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["channels", "space"])
def test_the_form_with_less_error_is_taken_within_the_multiplications(form: str) -> None:
    found = form_of(conv(2, form, padding=1), 0.6)
    assert found is not None
    assert found[0] == form
    each = 6 * 9 + 8 if form == "channels" else 6 * 3 + 3 * 8
    assert found[1] * each <= 0.6 * 6 * 8 * 9 < (found[1] + 1) * each


def test_a_layer_whose_smallest_factors_save_nothing_stays() -> None:
    assert form_of(nn.Linear(100, 1), 0.5) is None
    assert form_of(nn.Linear(100, 100), 0.5) == ("channels", 25)


@pytest.mark.integration
@pytest.mark.parametrize("order", ["PL", "LP", "QL", "LQ", "DL", "LD", "EL", "LE", "DPLQE", "QLPED"])
def test_other_stages_follow_the_factors(order: str, tmp_path: Path) -> None:
    network = tiny_network()
    for letter in order:
        network = apply(letter, network)
    dry_run(network)
    network.save(tmp_path / "n")
    loaded = CompressedNetwork.load(tmp_path / "n")
    assert loaded.rebuilt == network.rebuilt
    assert measure_cost(loaded) == measure_cost(network)
    assert any(isinstance(layer, Factors) for layer in network.module.modules())
    save_packed(network, tmp_path / "p")
    with torch.no_grad():
        packed = load_network(tmp_path / "p")(network.architecture.example(3))
    for one, two, three in zip(logits(network), logits(loaded), packed, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_half_the_rank_is_half_the_multiplications_and_places_stay() -> None:
    network = tiny_network("vgg8(width=8)", size=32)
    low = apply("L", network, rank=0.5)
    share = measure_cost(low).macs / measure_cost(network).macs
    assert 0.4 < share < 0.65  # the first layer stays, ranks are rounded down
    assert [block.name for block in find_blocks(low)] == [block.name for block in find_blocks(network)]
    assert [block.name for block in split_candidates(low)] == [b.name for b in split_candidates(network)]


def test_a_network_without_such_a_layer_is_refused() -> None:
    class Flat(nn.Sequential):
        """One layer, which gives the logits."""

    network = tiny_network()
    network.module.body = Flat(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(StageError, match=r"L\(rank=0.5\) finds no layer of .* would save multiplications"):
        apply("L", network)


@pytest.mark.integration
@pytest.mark.parametrize("order", [None, "", "P", "Q", "E", "DPQE", "QEDP"], ids=str)
def test_it_keeps_the_contract_of_stages(order: str | None) -> None:
    check = StageCheck(LowRank, order)
    assert check in stage_checks(LowRank)
    check()


@pytest.mark.integration
def test_training_lets_factors_learn() -> None:
    low = apply("L", tiny_network(), tiny_trainer())
    before = apply("L", tiny_network())
    assert not torch.equal(logits(low)[0], logits(before)[0])
