"""The race of a task: which sequences run next, which controls at its end, how many trainings that makes."""

import functools
import itertools
import operator
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ordercomp.analysis.race import (
    ALL_UP_TO,
    BLOCK,
    Cell,
    block_of,
    first_cells,
    look,
    next_cells,
    starting_orders,
)
from ordercomp.analysis.run_table import Setting
from ordercomp.analysis.values import Hint, ValueTable, chain_values, holds_latency, networks_of
from ordercomp.jobs.recordings import load_recorded
from ordercomp.records import CostName, Record
from ordercomp.running.jobs import Request
from ordercomp.running.node import SIDE_BY_SIDE
from ordercomp.running.task import Task
from ordercomp.sequence import KnobValue, Order, PrefixTrie, StageSequence, Step, permutations, prefixes
from ordercomp.stages.catalog import complete, known_stages

CONTROL = Step("F")  # more training without compression
_EXAMPLE_BLOCK = 24  # trainings that are chosen at once in the example: coarse, as it is run for a plan
EXAMPLE, EXAMPLE_STAGES = "digits", "DPQE"  # the recording that a race of four stages is tried out on


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Orders of a task's stages at all its knob settings, trained where it is in doubt which is the best.

    Cells count seeds from 0, those of trainings from `start` on. Raises ValueError for fewer than two or more
    than ten stages, doubled ones, fewer than one seed and a negative start.
    """

    task: Task
    seeds: int  # at most
    start: int = 0
    hint: Hint = field(default_factory=Hint)  # what was raced elsewhere says of each chain
    side_by_side: int = 1  # seeds of a chain that are asked for at once, to be trained as one network

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        if self.start < 0:
            raise ValueError(f"first_seed must be at least 0, got {self.start}")
        if len(set(self.stages)) < 2:
            raise ValueError(f"stages must hold at least two letters to be ordered, got {self.task.stages!r}")
        if len(set(self.task.stages)) < len(self.task.stages):
            raise ValueError(f"stages must be distinct letters, got {self.task.stages!r}")
        first_cells(self.stages)  # refuses too many

    @property
    def stages(self) -> Order:
        """The stages whose order is asked for."""
        return self.task.ordered

    def at(self, settings: Iterable[Mapping[str, Mapping[str, KnobValue]]]) -> "Race":
        """The same race at these knob settings."""
        return replace(self, task=replace(self.task, settings=tuple(settings)))

    def finals(self, chain: Order) -> list[StageSequence]:
        """The chain at every setting with the stages that can only come last; none if the task has none."""
        last = self.task.stages[len(self.stages) :]
        if not last:
            return []
        steps = self.task.sequence(last).steps
        return [StageSequence((*sequence.steps, *steps)) for sequence in self.sequences([chain])]

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The knob settings that every order is run with."""
        sequences = (self.task.sequence(self.stages, setting) for setting in self.task.settings)
        steps = (tuple(map(str, sequence.steps)) for sequence in sequences)
        return tuple(dict.fromkeys(Setting(self.task.accounting, texts) for texts in steps))

    @property
    def first(self) -> tuple[Cell, ...]:
        """What starts."""
        return tuple(cell for cell in first_cells(self.stages, self.hint.chains) if cell[1] < self.seeds)

    def table(self, records: Iterable[Record], ran: Collection[Cell]) -> ValueTable:
        """Values of the chains that the race trained, at their seeds; other records take no part."""
        task = self.task
        networks = networks_of(records, self.stages, cost=task.cost)
        table = chain_values(networks, self.stages, loss=task.loss, settings=self.settings)
        return only_trained(replace(table, seeds=tuple(seed - self.start for seed in table.seeds)), ran)

    def next_cells(
        self, records: Iterable[Record], finished: Iterable[Cell], open_: Iterable[Cell] = ()
    ) -> tuple[Cell, ...]:
        """What to train next, given the records of the `finished` chains; empty at the end.

        A function of these records and of what is `open_`, in training, so a race that is taken up again
        goes the same way. From five stages on it ends where nothing was measured.
        """
        ran = with_prefixes(finished)
        records = list(records)
        table = self.table(records, ran)
        if not np.isfinite(table.values).any():
            return ()
        return next_cells(
            look(table.hinted(self.hint)),
            ran | with_prefixes(open_),
            seeds=self.seeds,
            settings=len(self.task.settings),
            block=block_of(self.stages),
            together=self._together(records),
        )

    def _together(self, records: Sequence[Record]) -> int:
        """How many seeds of a chain are asked for at once: one if training several as one did not pay."""
        later = [record for record in records if record.seed > self.start and record.points]
        return 1 if later and not any(SIDE_BY_SIDE in record.extra for record in later) else self.side_by_side

    def requests(self, cells: Iterable[Cell]) -> list[Request]:
        """The chains at their seeds with every knob setting, and the task's further orders at the seeds.

        Seeds of one chain that stand together in `cells` come together for each setting.
        """
        cells = list(cells)
        extras = [
            (sequence, seed) for seed in sorted({seed for _, seed in cells}) for sequence in self.extras
        ]
        chains = [
            (sequence, seed)
            for chain, group in itertools.groupby(cells, key=operator.itemgetter(0))
            for sequence, (_, seed) in itertools.product(self.sequences([chain]), group)
        ]
        return [Request(sequence, self.start + seed) for sequence, seed in (*chains, *extras)]

    def sequences(self, orders: Iterable[Order]) -> list[StageSequence]:
        """Every order at every knob setting; shorter chains as prefixes of one of all stages."""
        task = self.task
        sequences: dict[StageSequence, None] = {}
        for order in orders:
            later = "".join(stage for stage in self.stages if stage not in order)
            for setting in task.settings:
                steps = task.sequence(order + later, setting).steps
                sequences[StageSequence(steps[: len(order)])] = None
        return list(sequences)

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

    def repetitions(self, order: Order) -> list[StageSequence]:
        """Each stage of an order twice, once but as hard, and once more after the order: is it worth that?

        At the last knob setting, where a stage is as hard as the task makes it; Q goes from the bits of the
        first setting to those of the last. The order is followed by a stage at the first, gentlest setting.
        """
        task, sequences = self.task, []
        for letter in order:
            if known_stages()[letter].repeatable:
                light, hard = (task.sequence(2 * letter, task.settings[place]) for place in (0, -1))
                first = light if letter == "Q" else hard
                sequences.append(StageSequence((first.steps[0], hard.steps[1])))
                usual = task.sequence(letter, task.settings[-1])
                sequences += [usual, *as_hard_at_once(usual), task.sequence(order + letter, task.settings[0])]
        return list(dict.fromkeys(sequences))

    @property
    def extras(self) -> list[StageSequence]:
        """The task's further orders at every knob setting, measured at every seed."""
        task = self.task
        return list(
            dict.fromkeys(task.sequence(order, setting) for order in task.extra for setting in task.settings)
        )


def with_prefixes(cells: Iterable[Cell]) -> set[Cell]:
    """The chains with all their prefixes, at their seeds."""
    return {(prefix, seed) for chain, seed in cells for prefix in prefixes(chain)}


def only_trained(table: ValueTable, ran: Collection[Cell]) -> ValueTable:
    """The table without what a race did not train."""
    there = np.array([[(order, seed) in ran for seed in table.seeds] for order in table.orders])
    values = np.where(there.reshape(table.values.shape), table.values, np.nan)
    return replace(table, values=values).at(seed for _, seed in ran)


def as_hard_at_once(usual: StageSequence) -> list[StageSequence]:
    """A stage at knobs that cut at once as much as the usual ones do twice; only D and P have any."""
    (step,) = usual.steps
    changed: dict[str, KnobValue] = {}
    if step.stage == "P":
        most = known_stages()["P"].knobs["ratio"].high
        assert most is not None
        changed["ratio"] = min(most, round(1 - (1 - float(step.settings["ratio"])) ** 2, 6))
    if step.stage == "D":
        changed["depth"] = max(0.1, round(float(step.settings["depth"]) ** 2, 6))
    harder = StageSequence((Step.of(step.stage, {**step.settings, **changed}),))
    return [complete(harder)] if changed else []


def described(task: Task, setting: Mapping[str, Mapping[str, KnobValue]]) -> str:
    """A setting in few words: `D 0.5, P 0.4, Q 2/4`."""
    words = []
    for step in task.sequence(task.stages, setting).steps:
        knobs = known_stages()[step.stage].knobs
        shown = [
            f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in step.settings.items()
            if knobs[name].searched
            and not known_stages()[step.stage].dynamic
            and knobs[name].step is not None
        ]
        words += [f"{step.stage} {'/'.join(shown)}"] if shown else []
    return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class RacePlan:
    """What a race would train: chains at seeds, block by block, with the controls at the end."""

    race: Race
    blocks: tuple[tuple[Cell, ...], ...]
    controls: tuple[StageSequence, ...]

    @property
    def seeds(self) -> Mapping[int, tuple[Order, ...]]:
        """The chains that run at each seed."""
        chains: defaultdict[int, dict[Order, None]] = defaultdict(dict)
        for block in self.blocks:
            for chain, seed in block:
                chains[seed][chain] = None
        return {seed: tuple(chains[seed]) for seed in sorted(chains)}

    @property
    def nodes(self) -> list[StageSequence]:
        """Every training, seed by seed, then those of the controls."""
        tries = [
            PrefixTrie(sequence.steps for sequence in (*self.race.sequences(chains), *self.race.extras))
            for chains in self.seeds.values()
        ]
        return [*(StageSequence(node) for trie in tries for node in trie), *self.controls]

    @property
    def unshared(self) -> int:
        """Stage trainings if each network started from its baseline."""
        return sum(len(node) for node in self.nodes)


def plan_race(race: Race, *, losing: bool) -> RacePlan:
    """Plan a race in which all stays in doubt, or, with `losing`, one that goes as in an example.

    The example of four stages is the shipped recording of digits, at the task's tolerated loss. With fewer
    stages hardly an order loses; with more, a block is a small part of all orders anyway.
    """
    task, stages = race.task, race.stages
    if len(stages) > ALL_UP_TO:
        later = [
            (order, seed) for seed in range(2, race.seeds) for order in starting_orders(stages, 0)[:BLOCK]
        ]
        blocks = [race.first, tuple(later)]
    elif losing and len(stages) == len(EXAMPLE_STAGES):
        letters = str.maketrans(EXAMPLE_STAGES, stages)
        example = _example(race.seeds, task.loss, task.cost, len(task.settings))
        blocks = [tuple((order.translate(letters), seed) for order, seed in block) for block in example]
    else:
        blocks = [tuple((order, seed) for seed in range(race.seeds) for order in permutations(stages))]
    left = dict.fromkeys(order for order, _ in blocks[-1]) if losing else starting_orders(stages, 0)
    return RacePlan(race=race, blocks=tuple(blocks), controls=tuple(race.controls(left)))


@functools.cache
def _example(seeds: int, loss: float, cost: CostName, settings: int) -> tuple[tuple[Cell, ...], ...]:
    """The blocks of a race of D, P, Q and E in the recorded world."""
    records = load_recorded(EXAMPLE)
    recorded_cost: CostName = "bitops" if cost == "latency" and not holds_latency(records) else cost
    networks = networks_of(records, EXAMPLE_STAGES, cost=recorded_cost)
    world = chain_values(networks, EXAMPLE_STAGES, loss=loss)
    seeds = min(seeds, len(world.seeds))
    blocks: list[tuple[Cell, ...]] = []
    block = first_cells(EXAMPLE_STAGES)
    while block:
        blocks.append(block)
        ran = with_prefixes(cell for block in blocks for cell in block)
        draws = look(only_trained(world, ran))
        block = next_cells(draws, ran, seeds=seeds, settings=settings, block=_EXAMPLE_BLOCK)
    return tuple(blocks)
