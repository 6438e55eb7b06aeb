"""The race of a task: which sequences run at the next seed, which controls, how many trainings that makes."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources import as_file

from ordercomp.analysis.race import ALL_UP_TO, MOST_LATER, next_orders, starting_orders
from ordercomp.analysis.run_table import Setting
from ordercomp.analysis.values import ValueTable, chain_values, holds_latency, networks_of
from ordercomp.records import CostName, Record, read_records
from ordercomp.running.task import Task
from ordercomp.sequence import Order, PrefixTrie, StageSequence, Step
from ordercomp.stages.catalog import known_stages

_FOLDER = resources.files("ordercomp.studies") / "recordings"  # real records, so that nobody need train
_SUFFIX = ".jsonl.xz"


def recorded_names() -> list[str]:
    """Names of the recordings, which are those of the tasks that were run."""
    return sorted(
        file.name.removesuffix(_SUFFIX) for file in _FOLDER.iterdir() if file.name.endswith(_SUFFIX)
    )


def load_recorded(name: str) -> list[Record]:
    """All records of a recording: every order at several knob settings and seeds, controls, repeats.

    The task file beside it says what was run. Raises ValueError for an unknown name.
    """
    if name not in recorded_names():
        raise ValueError(f"recording must be one of {', '.join(recorded_names())}, got {name!r}")
    with as_file(_FOLDER / f"{name}{_SUFFIX}") as path:
        return read_records(path)


CONTROL = Step("F")  # more training without compression
CONTROLLED_SEEDS = 2  # at which a prefix of an order that may be the best gets its control
EXAMPLE, EXAMPLE_STAGES = "digits", "DPQE"  # the recording that a race of four stages is tried out on


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Orders of a task's stages, run seed by seed at all its knob settings, fewer as they lose.

    Raises ValueError for fewer than two or more than ten stages, doubled ones, and fewer than one seed.
    """

    task: Task
    seeds: int  # at most

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        if len(set(self.task.stages)) < 2:
            raise ValueError(f"stages must hold at least two letters to be ordered, got {self.task.stages!r}")
        if len(set(self.task.stages)) < len(self.task.stages):
            raise ValueError(f"stages must be distinct letters, got {self.task.stages!r}")
        next_orders(self.task.stages, None)  # refuses too many

    @property
    def rungs(self) -> tuple[Setting, ...]:
        """The knob settings that every order is run with."""
        sequences = (self.task.sequence(self.task.stages, setting) for setting in self.task.settings)
        steps = (tuple(map(str, sequence.steps)) for sequence in sequences)
        return tuple(dict.fromkeys(Setting(self.task.accounting, texts) for texts in steps))

    def next_block(self, records: Iterable[Record], finished: Sequence[int]) -> list[StageSequence]:
        """The sequences of the next seed, given the records of the finished ones; empty at the end.

        A function of the values at these seeds alone, so a race that is taken up again goes the same way.
        """
        stages = self.task.stages
        if len(finished) >= self.seeds:
            return []
        if not finished:
            return self.sequences(next_orders(stages, None))
        networks = networks_of(records, stages, cost=self.task.cost)
        table = chain_values(networks, stages, loss=self.task.loss, settings=self.rungs).at(finished)
        return self.sequences(next_orders(stages, table))

    def sequences(self, orders: Iterable[Order]) -> list[StageSequence]:
        """Every order at every knob setting; shorter chains as prefixes of one of all stages."""
        task = self.task
        found: dict[StageSequence, None] = {}
        for order in orders:
            rest = "".join(stage for stage in task.stages if stage not in order)
            for setting in task.settings:
                whole = task.sequence(order + rest, setting)
                found[StageSequence(whole.steps[: len(order)])] = None
        return list(found)

    def controls(self, orders: Iterable[Order]) -> list[StageSequence]:
        """F after each static prefix of the orders, at every knob setting: was it trained to the end?"""
        stages = known_stages()
        controls: dict[StageSequence, None] = {}
        for sequence in self.sequences(orders):
            for prefix in sequence.prefixes:
                if any(stages[step.stage].dynamic for step in prefix.steps):
                    break
                controls[prefix + CONTROL] = None
        return list(controls)

    @property
    def extras(self) -> list[StageSequence]:
        """The task's further orders at every knob setting, measured at every seed."""
        task = self.task
        return list(
            dict.fromkeys(task.sequence(order, setting) for order in task.extra for setting in task.settings)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RacePlan:
    """What a race would train: for each seed the sequences, with their controls at the end."""

    race: Race
    blocks: tuple[tuple[StageSequence, ...], ...]
    controls: tuple[StageSequence, ...]

    @property
    def nodes(self) -> list[StageSequence]:
        """Every training, seed by seed, then those of the controls."""
        extras = self.race.extras
        nodes = [
            StageSequence(node)
            for block in self.blocks
            for node in PrefixTrie(sequence.steps for sequence in (*block, *extras))
        ]
        return nodes + list(self.controls) * min(CONTROLLED_SEEDS, len(self.blocks))

    @property
    def unshared(self) -> int:
        """Stage trainings if each network started from its baseline."""
        return sum(len(node) for node in self.nodes)


def plan_race(race: Race, *, losing: bool) -> RacePlan:
    """Plan a race in which no order loses, or, with `losing`, one in which orders lose as in an example.

    The example of four stages is the shipped recording of digits, at the task's tolerated loss. With fewer
    stages hardly an order loses; with more, the number that runs at a later seed is bounded anyway.
    """
    task, stages = race.task, race.task.stages
    if len(stages) > ALL_UP_TO:
        first = [starting_orders(stages, place) for place in range(min(2, race.seeds))]
        blocks = [*first, *[first[0][:MOST_LATER]] * (race.seeds - len(first))]
    elif losing and len(stages) == len(EXAMPLE_STAGES):
        letters = str.maketrans(EXAMPLE_STAGES, stages)
        example = _example(race.seeds, task.loss, task.cost)
        blocks = [tuple(order.translate(letters) for order in block) for block in example]
    else:
        blocks = [starting_orders(stages, place) for place in range(race.seeds)]
    left = blocks[-1] if losing else tuple(dict.fromkeys(order for block in blocks for order in block))
    return RacePlan(
        race=race,
        blocks=tuple(tuple(race.sequences(orders)) for orders in blocks),
        controls=tuple(race.controls(left)),
    )


@functools.cache
def _example(seeds: int, loss: float, cost: CostName) -> tuple[tuple[Order, ...], ...]:
    """The orders of D, P, Q and E that run at each seed of a race in the recorded world."""
    records = load_recorded(EXAMPLE)
    told: CostName = "bitops" if cost == "latency" and not holds_latency(records) else cost
    networks = networks_of(records, EXAMPLE_STAGES, cost=told)
    world = chain_values(networks, EXAMPLE_STAGES, loss=loss)
    blocks: list[tuple[Order, ...]] = []
    table: ValueTable | None = None
    for _ in range(min(seeds, len(world.seeds))):
        block = next_orders(EXAMPLE_STAGES, table)
        if not block:
            break
        blocks.append(block)
        table = _revealed(world, blocks)
    return tuple(blocks)


def _revealed(world: ValueTable, blocks: Sequence[Sequence[Order]]) -> ValueTable:
    """What a race knows that has run these orders at the world's first seeds."""
    values = world.values[:, : len(blocks)].copy()
    for place, block in enumerate(blocks):
        for row, order in enumerate(world.orders):
            if not any(ran.startswith(order) for ran in block):
                values[row, place] = float("nan")
    seeds = world.seeds[: len(blocks)]
    return ValueTable(world.stages, world.orders, seeds, values, world.floor, world.loss).at(seeds)
