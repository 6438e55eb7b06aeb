"""The checks for authors of plug-ins: they pass what keeps the contract, and each breach is named."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from ordercomp.knobs import Knob
from ordercomp.networks.exits import replace_module
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages import catalog
from ordercomp.stages.catalog import STAGES, known_stages
from ordercomp.stages.stage import Granularity, Stage, finish
from ordercomp.testing import (
    ORDERS,
    StageCheck,
    check_declaration,
    check_stage,
    stage_checks,
)
from ordercomp.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Halve:
    """A stage as it should be; `fault` says what it does wrong instead."""

    letter: ClassVar[str] = "Y"
    title: ClassVar[str] = "Halve"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "sub-neuron"
    repeatable: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {"factor": Knob(default=0.5, low=0.0, high=1.0, help="of weights")}
    fault: ClassVar[str] = ""

    factor: float = 0.5

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        halved = network if self.fault == "in place" else network.copy()
        if self.fault == "shared":
            halved = replace(network, lineage=network.lineage)
        with torch.no_grad():
            for parameter in halved.module.parameters() if self.fault != "shared" else ():
                parameter.mul_(self.factor)
                if self.fault == "random":
                    parameter.add_(torch.rand_like(parameter))
                if self.fault == "infinite":
                    parameter.fill_(float("nan"))
        if self.fault == "wider":
            _widen(halved)
        if self.fault == "frozen":
            halved.module.requires_grad_(False)
        done = finish(halved, self, 1.0)
        if self.fault == "training":
            done.module.train()
        return network.copy() if self.fault == "forgetful" else done


def _widen(network: CompressedNetwork) -> None:
    """Add a convolution that costs and that no fact tells of."""
    name, layer = next(
        (name, layer) for name, layer in network.module.body.named_modules() if isinstance(layer, nn.Conv2d)
    )
    twin = nn.Conv2d(layer.out_channels, layer.out_channels, 1)
    nn.init.dirac_(twin.weight)
    nn.init.zeros_(twin.bias)
    replace_module(network.module.body, name, nn.Sequential(layer, twin))


@pytest.fixture(autouse=True)
def with_plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    entry = SimpleNamespace(name="Y", value="mine:Halve", load=lambda: Halve)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [entry])
    known_stages.cache_clear()
    yield
    monkeypatch.undo()
    known_stages.cache_clear()


@pytest.mark.integration
def test_a_stage_that_keeps_the_contract_passes_every_check() -> None:
    checks = stage_checks(Halve)
    assert [str(check) for check in checks[:2]] == ["declaration", "after-nothing"]
    assert len(checks) == len(ORDERS) + 2
    for check in checks:
        check()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("in place", "apply changed the weights of its argument"),
        ("shared", "shares tensors with the argument"),
        ("random", "two calls with the same seed give different weights"),
        ("infinite", "logits are not finite"),
        ("wider", "takes more bit operations"),
        ("frozen", "left trainable"),
        ("training", "in evaluation mode"),
        ("forgetful", "the lineage must be that of the argument and Y"),
    ],
)
def test_each_breach_is_named(fault: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Halve, "fault", fault)
    with pytest.raises(AssertionError, match=message):
        check_stage(Halve, "P" if fault == "in place" else "")


def test_what_a_class_declares_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[tuple[str, Any, str]] = [
        ("letter", "h", "letter must be one of A to Z"),
        ("letter", "P", "the letter P gives .*Prune.*, not .*Halve"),
        ("knobs", {"factor": 0.5}, "knobs must map names to Knob"),
        ("knobs", {"other": Halve.knobs["factor"]}, "the knob other must be an attribute"),
        ("knobs", {"factor": Knob(default=0.1, low=0, high=1, help="")}, "factor is 0.5 when built"),
        ("knobs", {}, r"the class must take its knobs set\(\), it takes \{'factor'\}"),
    ]
    known_stages()
    for name, value, message in changes:
        with monkeypatch.context() as patch:
            patch.setattr(Halve, name, value)
            with pytest.raises(AssertionError, match=message):
                check_declaration(Halve)


@pytest.mark.parametrize("letter", STAGES)
def test_the_built_in_stages_declare_what_they_are(letter: str) -> None:
    stage: type[Stage] = STAGES[letter]
    StageCheck(stage, None)()
    assert known_stages()[letter] is stage
