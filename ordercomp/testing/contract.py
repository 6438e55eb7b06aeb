"""The contract of stages as checks, for the tests of a package that offers a stage of its own.

    import pytest
    from my_package import LowRank
    from ordercomp.testing import stage_checks

    @pytest.mark.parametrize("check", stage_checks(LowRank), ids=str)
    def test_low_rank_keeps_the_contract(check):
        check()

Each check takes some tenths of a second: networks are tiny and train for one step.
"""

import functools
import inspect
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ordercomp.data.catalog import load_data
from ordercomp.data.splits import ImageData
from ordercomp.knobs import Knob
from ordercomp.measuring.cost import CONVENTIONS, measure_cost
from ordercomp.networks.exits import frozen_names
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import Order, StageSequence, Step
from ordercomp.shipping.packed import load_network, save_packed
from ordercomp.stages.catalog import complete, known_stages, make_stage
from ordercomp.stages.stage import Stage
from ordercomp.training.recipe import Recipe
from ordercomp.training.trainer import DataTrainer

ORDERS: tuple[Order, ...] = ("", "D", "P", "Q", "E", "PQ", "DPQE", "EQPD", "QEDP")  # what came before
_RECIPE = Recipe(epochs=0.1, batch_size=32, learning_rate=0.05, precision="float32")
_SEED = 0
_FACTS = ("architecture", "lineage", "dropped", "rebuilt", "bits", "exits", "serving")


@dataclass(frozen=True, slots=True)
class StageCheck:
    """One check, to be called; it raises AssertionError that says what is wrong."""

    stage: type[Stage]
    order: Order | None  # of the stages that came before; None: what the class declares

    def __call__(self) -> None:
        """Run the check."""
        if self.order is None:
            check_declaration(self.stage)
        else:
            check_stage(self.stage, self.order)

    def __str__(self) -> str:
        return "declaration" if self.order is None else f"after-{self.order or 'nothing'}"


def stage_checks(stage: type[Stage], *, orders: Sequence[Order] = ORDERS) -> list[StageCheck]:
    """All checks of a stage: what it declares, and what it does after each of `orders`.

    A stage that may come twice is also applied to its own result. The package must be installed, so that its
    entry point is found.
    """
    again = (stage.letter,) if getattr(stage, "repeatable", False) else ()
    return [StageCheck(stage, None), *(StageCheck(stage, order) for order in (*orders, *again))]


def check_declaration(stage: type[Stage]) -> None:
    """Check what a class says of itself, and that it is found by its letter."""
    _require(len(stage.letter) == 1 and "A" <= stage.letter <= "Z", "letter must be one of A to Z")
    registered = known_stages().get(stage.letter)
    _require(
        registered is stage,
        f"the letter {stage.letter} gives {registered}, not {stage}; install the package, with an entry "
        f"point {stage.letter} in the group ordercomp.stages",
    )
    _require(all(isinstance(knob, Knob) for knob in stage.knobs.values()), "knobs must map names to Knob")
    built = stage()
    _require(isinstance(built, Stage), "the class must meet the protocol ordercomp.stages.Stage")
    for name, knob in stage.knobs.items():
        _require(hasattr(built, name), f"the knob {name} must be an attribute of what is built")
        value = getattr(built, name)
        _require(
            value == knob.default, f"{name} is {value!r} when built, its knob's default is {knob.default!r}"
        )
    takes = set(inspect.signature(stage).parameters)
    _require(takes == set(stage.knobs), f"the class must take its knobs {set(stage.knobs)}, it takes {takes}")


def check_stage(stage: type[Stage], order: Order) -> CompressedNetwork:
    """Apply a stage, with its default knobs, to the network that `order` leaves, and check what comes out.

    Input unchanged and no memory shared; finite logits of every exit, in evaluation mode, with gradients
    switched on; the step in the lineage; the same result again; no more cost than before, unless the stage is
    dynamic; the same network from its file and from its packed file. Returns the result. Raises StageError if
    the stage refuses that network.
    """
    network = network_after(order)
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    lineage = network.lineage
    result = _apply(stage.letter, network)
    _require(_same(before, network.module.state_dict()), "apply changed the weights of its argument")
    _require(lineage == network.lineage, "apply changed the lineage of its argument")
    _require(not _share_memory(network, result), "the result shares tensors with the argument: copy it first")
    _check_outputs(stage, network, result)
    _check_lineage(stage, network, result)
    again = _apply(stage.letter, network)
    _require(
        _same(result.module.state_dict(), again.module.state_dict()),
        "two calls with the same seed give different weights: draw random numbers from trainer.seed",
    )
    if not stage.dynamic:
        asked, spent = measure_cost(network), measure_cost(result)
        for convention in CONVENTIONS:
            old, new = asked.bitops_by_exit(convention), spent.bitops_by_exit(convention)
            _require(
                all(later <= earlier for earlier, later in zip(old, new, strict=True)),
                f"the result takes more bit operations than the argument (convention {convention})",
            )
    _check_files(result)
    return result


@functools.cache
def network_after(order: Order) -> CompressedNetwork:
    """A tiny network after the stages of `order`, each trained for one step with its default knobs."""
    if not order:
        network = CompressedNetwork.create(
            "resnet14(width=4)", classes=10, channels=1, size=(8, 8), seed=_SEED
        )
        network.module.eval()
        return network
    return _apply(order[-1], network_after(order[:-1]))


def _apply(letter: str, network: CompressedNetwork) -> CompressedNetwork:
    count = network.sequence.order.count(letter) + 1
    trainer = DataTrainer(
        data=_images(),
        recipe=_RECIPE,
        seed=_SEED,
        device=torch.device("cpu"),
        precision=torch.float32,
        baseline=network_after("") if network.lineage else network,
    )
    return make_stage(Step(letter)).apply(network, trainer=trainer.for_stage(f"{letter}{count}"))


@functools.cache
def _images() -> ImageData:
    return load_data("digits", train_limit=64)


def _check_outputs(stage: type[Stage], network: CompressedNetwork, result: CompressedNetwork) -> None:
    _require(
        not any(part.training for part in result.module.modules()),
        "the result must be in evaluation mode: end apply with ordercomp.stages.finish",
    )
    outputs = _logits(result)
    _require(len(outputs) == len(result.exits) + 1, "there must be logits of every exit and of the end")
    _require(stage.dynamic or result.exits == network.exits, "a static stage must keep the exits")
    _require(
        all(logits.shape == (3, result.architecture.classes) for logits in outputs),
        "logits have the wrong shape",
    )
    _require(all(bool(torch.isfinite(logits).all()) for logits in outputs), "logits are not finite")
    _require(
        {*frozen_names(result.module)} <= {*frozen_names(network.module)},
        "parameters must be left trainable for the stages that follow",
    )


def _check_lineage(stage: type[Stage], network: CompressedNetwork, result: CompressedNetwork) -> None:
    order = network.sequence.order + stage.letter
    _require(
        result.lineage[:-1] == network.lineage and result.sequence.order == order,
        f"the lineage must be that of the argument and {stage.letter}: end with ordercomp.stages.finish",
    )
    text = str(result.sequence)
    _require(
        complete(StageSequence.parse(text)) == result.sequence, f"{text} does not parse to the same sequence"
    )
    _require(network.bits is None or result.bits is not None, "a quantized network must stay quantized")


def _check_files(result: CompressedNetwork) -> None:
    outputs = _logits(result)
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "network")
        loaded = CompressedNetwork.load(Path(folder) / "network", model=result.architecture.model)
        save_packed(result, Path(folder) / "packed")
        packed = load_network(Path(folder) / "packed", model=result.architecture.model)
        with torch.no_grad():
            shipped = packed(result.architecture.example(3))
    _require(
        _same(result.module.state_dict(), loaded.module.state_dict()) and _equal(outputs, _logits(loaded)),
        "the network is another one after saving and loading: name replaced modules in network.rebuilt",
    )
    _require(
        all(getattr(loaded, name) == getattr(result, name) for name in _FACTS),
        "the facts of the network are others after saving and loading",
    )
    _require(repr(loaded.module) == repr(result.module), "layers are others after saving and loading")
    _require(_equal(outputs, shipped), "the packed network computes something else")


def _logits(network: CompressedNetwork) -> tuple[Tensor, ...]:
    with torch.no_grad():
        outputs: tuple[Tensor, ...] = network.module(network.architecture.example(3))
    return outputs


def _equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return list(first) == list(second) and _equal([*first.values()], [*second.values()])


def _share_memory(first: CompressedNetwork, second: CompressedNetwork) -> bool:
    tensors = (network.module.state_dict().values() for network in (first, second))
    places, others = ({tensor.data_ptr() for tensor in values if tensor.numel()} for values in tensors)
    return not places.isdisjoint(others)


def _require(condition: bool, message: str) -> None:
    """Raise AssertionError, also where assertions are switched off."""
    if not condition:
        raise AssertionError(message)
