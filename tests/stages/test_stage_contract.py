"""What every stage promises on whatever network it meets: on all prefixes of all orders of D, P, Q and E."""

import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from tiny_networks import logits, snapshot, tiny_trainer
from torch import Tensor

from ordercomp.knobs import Knob
from ordercomp.measuring.cost import CONVENTIONS, Cost, measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence, Step, permutations, prefixes
from ordercomp.stages import catalog
from ordercomp.stages.catalog import complete, known_stages, make_stage
from ordercomp.stages.stage import Granularity, Stage, StageError, finish
from ordercomp.testing import ORDERS, check_stage, network_after
from ordercomp.training.trainer import Trainer

PREFIXES = sorted(
    {prefix for order in permutations("DPQE") for prefix in prefixes(order)}, key=lambda p: (len(p), p)
)
STATES = ["", *PREFIXES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsify:
    """A plug-in as a user would write it: set the smallest weights of each convolution to zero, train on."""

    letter: ClassVar[str] = "X"
    title: ClassVar[str] = "Sparsify"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "sub-neuron"
    repeatable: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {
        "share": Knob(default=0.5, low=0.0, high=1.0, help="of the weights")
    }

    share: float = 0.5

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        sparse = network.copy()
        epochs = trainer.train(sparse, fresh=False)
        with torch.no_grad():
            for parameter in sparse.module.parameters():
                if parameter.dim() == 4:
                    parameter.mul_(parameter.abs() >= parameter.abs().flatten().quantile(self.share))
        return finish(sparse, self, epochs, {"share": self.share})


@pytest.fixture(autouse=True)
def with_plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    entry = SimpleNamespace(name="X", value="mine:Sparsify", load=lambda: Sparsify)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [entry] if group == "ordercomp.stages" else [])
    known_stages.cache_clear()
    yield
    monkeypatch.undo()
    known_stages.cache_clear()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def take(letter: str, network: CompressedNetwork) -> CompressedNetwork:
    """Apply a stage with its default knobs and one training step."""
    trainer = tiny_trainer().for_stage(f"{letter}{network.sequence.order.count(letter) + 1}")
    return make_stage(Step(letter)).apply(network, trainer=trainer)


state = network_after


def untrained() -> CompressedNetwork:
    return network_after("")


@functools.cache
def cost(order: str) -> Cost:
    return measure_cost(state(order))


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def same_snapshots(one: dict[str, Any], other: dict[str, Any]) -> bool:
    assert {name: one[name] for name in one if name != "tensors"} == {
        name: other[name] for name in other if name != "tensors"
    }
    return same_tensors(one["tensors"], other["tensors"])


def cases() -> list[Any]:
    """Every stage on every prior state. Marked slow: whatever follows a whole order, which most states of
    three stages show as well, and stages that only train weights, after more than two others.
    """
    found = []
    for order in STATES:
        for letter in "DPQESFKX":
            if letter == "E" and "E" in order:
                continue
            soon = order in ORDERS or len(order) <= (2 if letter in "FKXS" else 3)
            marks = () if soon else (pytest.mark.slow,)
            found.append(pytest.param(order, letter, marks=marks, id=f"{order or '-'}-{letter}"))
    return found


@pytest.mark.integration
@pytest.mark.parametrize(("order", "letter"), cases())
def test_every_stage_keeps_the_contract_on_every_prior_state(order: str, letter: str) -> None:
    network = state(order)
    before = snapshot(network)
    result = check_stage(known_stages()[letter], order)
    assert same_snapshots(before, snapshot(network)), "the input network changed"
    check_outputs(network, result, letter)
    check_lineage(network, result, letter)
    check_cost(network, result, letter)


def check_outputs(network: CompressedNetwork, result: CompressedNetwork, letter: str) -> None:
    outputs = logits(result)
    assert all(output.shape == (3, 10) and torch.isfinite(output).all() for output in outputs)
    assert len(outputs) == len(result.exits) + 1
    assert len(result.exits) == (2 if letter == "E" else len(network.exits))
    assert not result.module.training
    assert all(parameter.requires_grad for parameter in result.module.parameters())


def check_lineage(network: CompressedNetwork, result: CompressedNetwork, letter: str) -> None:
    assert result.lineage[:-1] == network.lineage
    assert result.sequence.order == network.sequence.order + letter
    assert result.sequence == complete(StageSequence.parse(result.sequence.order))
    assert StageSequence.parse(str(result.sequence)) == result.sequence
    assert result.lineage[-1].epochs > 0
    assert result.bits == (network.bits if letter != "Q" else result.bits)
    quantized = {name for name, _ in result.quantized_layers()}
    assert (result.bits is not None) == bool(quantized) == ("Q" in result.sequence.order)


def check_cost(network: CompressedNetwork, result: CompressedNetwork, letter: str) -> None:
    """D, P, Q: no exit costs more than before, in no convention; E adds its heads and nothing else."""
    before, after = cost(network.sequence.order), measure_cost(result)
    assert after.exits == len(result.exits) + 1
    if letter in "FKX":
        assert after == before
        return
    if letter == "S":
        gates = [layer for layer in after.layers if layer.name.endswith(".gate")]
        assert len({layer.name for layer in gates}) == len(result.lineage[-1].achieved["gates"]) > 0
        assert after.macs == before.macs + sum(layer.macs for layer in gates) < 1.01 * before.macs
        return
    if letter == "E":
        body = tuple(layer for layer in after.layers if layer.name.startswith("body."))
        assert [(layer.name, layer.macs, layer.bits) for layer in body] == [
            (layer.name, layer.macs, layer.bits) for layer in before.layers
        ]
        assert after.bitops_by_exit("paper")[0] < before.bitops("paper")
        heads = sum(layer.macs for layer in after.layers) - sum(layer.macs for layer in body)
        assert 0 < heads < 0.05 * before.macs
        return
    for convention in CONVENTIONS:
        pairs = zip(before.bitops_by_exit(convention), after.bitops_by_exit(convention), strict=True)
        assert all(new <= old for old, new in pairs)
        assert after.bits(convention) <= before.bits(convention)
    assert after.bitops("paper") < before.bitops("paper") or (letter == "Q" and network.bits == result.bits)


FRESH_PROCESS = """
import sys
import torch
from ordercomp import CompressedNetwork
torch.set_num_threads(1)
for path in sys.argv[1:]:
    network = CompressedNetwork.load(path)
    with torch.no_grad():
        outputs = network.module(network.architecture.example(3))
    print(network.sequence.order, *(value.hex() for output in outputs for value in output.flatten().tolist()))
"""


@pytest.mark.integration
def test_saved_networks_give_the_same_logits_in_a_fresh_process(tmp_path: Path) -> None:
    orders = ["", "DPQE", "EQPD", "QEDP", "PEDQ", "QPES"]
    expected = []
    for order in orders:
        network = state(order)
        network.save(tmp_path / f"n{order}")
        values = [value.hex() for output in logits(network) for value in output.flatten().tolist()]
        expected.append(" ".join([order, *values]))
    command = [sys.executable, "-c", FRESH_PROCESS, *(str(tmp_path / f"n{order}") for order in orders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.splitlines()) == ("", expected)


def test_other_seeds_give_other_networks() -> None:
    for letter in "DE":
        one, other = (
            make_stage(Step(letter)).apply(untrained(), trainer=tiny_trainer(seed=seed)) for seed in (0, 1)
        )
        assert not same_tensors(one.module.state_dict(), other.module.state_dict())


def test_a_second_early_exit_is_refused_when_the_sequence_is_made() -> None:
    message = r"stage E \(Early exit\) may come only once, got 'EPE', where it comes again at place 3"
    with pytest.raises(ValueError, match=message):
        complete(StageSequence.parse("EPE"))


def test_a_second_early_exit_is_refused_by_the_stage_itself() -> None:
    with pytest.raises(StageError, match="E cannot be applied to a network that has exits already"):
        take("E", state("E"))


def test_the_plugin_is_a_stage_and_is_found_by_its_letter() -> None:
    assert isinstance(Sparsify(), Stage)
    assert known_stages()["X"] is Sparsify
    assert str(complete(StageSequence.parse("DX(share=0.25)"))) == "D(depth=0.5) X(share=0.25)"


def test_a_plugin_may_not_take_the_letter_of_another_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "P", catalog.STAGES["P"])
    with pytest.raises(ValueError, match="stage plug-in 'P' wants the letter P, which is taken"):
        known_stages()


def offer(monkeypatch: pytest.MonkeyPatch, name: str, stage: object) -> None:
    """Make `stage` the one plug-in there is; an exception is raised by its import."""

    def load() -> object:
        if isinstance(stage, Exception):
            raise stage
        return stage

    entry = SimpleNamespace(name=name, value="mine:Stage", load=load)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [entry])
    known_stages.cache_clear()


@pytest.mark.parametrize(
    ("name", "stage", "message"),
    [
        (
            "L",
            ImportError("no module\nmine"),
            r"'L' \(mine:Stage\) cannot be loaded: ImportError: no module mine",
        ),
        ("L", dict, r"'L' \(mine:Stage\) lacks letter, title, dynamic"),
        ("L", Sparsify, "'L' must have that letter, got 'X'"),
    ],
)
def test_a_plugin_that_is_no_stage_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, stage: object, message: str
) -> None:
    offer(monkeypatch, name, stage)
    with pytest.raises(ValueError, match=message):
        known_stages()
