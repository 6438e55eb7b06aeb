"""The ladder: knob settings whose fronts bracket the tolerated loss, found in the pilot of a race.

A pilot trains the first orders at the task's settings. Where hardly any chain of all stages keeps to the
loss, gentler settings are made; where all of them lose much less, harder ones. A knob moves along its stage's
own grid, by about a tenth of its range or a factor of two; which way is gentler is read off the cost of the
untrained network. All chains that are compared run at the same settings.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.race import Cell, doubts, idle_setting, look
from ordercomp.analysis.values import ValueTable
from ordercomp.codec import encode
from ordercomp.files import digest_of
from ordercomp.jobs.race import CONTROL, Race, described, with_prefixes
from ordercomp.knobs import Knob
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import Record
from ordercomp.running.jobs import Request
from ordercomp.running.node import create_network
from ordercomp.running.task import Task
from ordercomp.search.study import Study
from ordercomp.sequence import KnobValue, Order, StageSequence
from ordercomp.stages.catalog import apply_untrained, known_stages
from ordercomp.stages.stage import StageError

FloatArray = npt.NDArray[np.float64]
Setting = Mapping[str, Mapping[str, KnobValue]]

ATTRIBUTE = "race"  # of the study: the states by the question that they answer


@dataclass(slots=True)
class RaceState:
    """What a race has decided so far; every change is written into the study."""

    race: Race  # at the settings that were settled
    _study: Study
    _key: str  # of the question
    why: str = ""  # these settings, in a sentence
    blocks: list[tuple[Cell, ...]] = field(default_factory=list)
    left: list[Setting] = field(default_factory=list)  # settings that were tried and stopped

    @classmethod
    def of(cls, race: Race, study: Study) -> "RaceState":
        """The state of a race of the same question in a study; a new one where there is none."""
        task = race.task
        key = digest_of(
            *(task.stages, task.loss, task.cost, encode(task.settings), task.accounting, task.ladder),
            *([race.start] if race.start else []),
        )
        state = cls(race, study, key)
        stored: Mapping[str, Any] = study.user_attrs.get(ATTRIBUTE, {}).get(key, {})
        if stored:
            state.race = race.at(stored["settings"])
            state.why, state.left = stored["why"], stored["left"]
            blocks = [
                [(chain, seed) for chain, seed in block if seed < race.seeds] for block in stored["blocks"]
            ]
            state.blocks = [tuple(block) for block in blocks if block]
        return state

    @property
    def answered(self) -> str:
        """What the last answer was derived from; empty before the first."""
        return str(self._stored().get("answered", ""))

    @answered.setter
    def answered(self, digest: str) -> None:
        self._write(answered=digest)

    def settle(self, settings: Sequence[Setting], why: str) -> None:
        """Take these settings from now on."""
        before = self.race.task.settings
        self.left += [setting for setting in before if setting not in settings]
        self.race = self.race.at(settings)
        self.why = why
        self._write()

    def drop_idle(self, records: Sequence[Record]) -> None:
        """Stop the settings that decide nothing for the chains that may be the best, by the first seed."""
        while len(settings := self.race.task.settings) > 1:
            cells = with_prefixes(self.race.first)
            table = self.race.table(records, cells)
            draws = look(table)
            weight = dict(zip(draws.orders, doubts(draws.pooled), strict=True))
            fewer = [self._without(place).table(records, cells) for place in range(len(settings))]
            values = [_aligned(other, table) for other in fewer]
            idle = idle_setting(table.values, values, np.array([weight[order] for order in table.orders]))
            if idle is None:
                return
            remaining = self._without(idle).task.settings
            self.settle(
                remaining,
                f"{self.why}; {described(self.race.task, settings[idle])} decides nothing there and stops",
            )

    def add(self, block: Sequence[Cell]) -> None:
        """Add a block."""
        self.blocks.append(tuple(block))
        self._write()

    def holds(self, record: Record) -> bool:
        """Whether a record may speak: not if it was trained at a setting that was stopped."""
        steps = {str(step) for step in StageSequence.parse(record.sequence).steps} - {str(CONTROL)}
        return (
            not self.left
            or not steps
            or steps <= self._steps(self.race.task.settings)
            or not any(steps <= self._steps([setting]) for setting in self.left)
        )

    def ran_at(self, sequence: StageSequence, seed: int) -> bool:
        """Whether the chain before a control was run at a seed."""
        chain = sequence.order.removesuffix(CONTROL.stage)
        return any((chain, seed) in with_prefixes(block) for block in self.blocks)

    def _steps(self, settings: Iterable[Setting]) -> set[str]:
        task = self.race.task
        return {str(step) for setting in settings for step in task.sequence(task.stages, setting).steps}

    def _without(self, place: int) -> Race:
        settings = self.race.task.settings
        return self.race.at((*settings[:place], *settings[place + 1 :]))

    def _stored(self) -> dict[str, Any]:
        return dict(self._study.user_attrs.get(ATTRIBUTE, {}).get(self._key, {}))

    def _write(self, **further: str) -> None:
        stored = {
            "settings": encode(self.race.task.settings),
            "why": self.why,
            "left": encode(self.left),
            "blocks": encode(self.blocks),
        }
        states = self._study.user_attrs.get(ATTRIBUTE, {})
        self._study.set_user_attr(ATTRIBUTE, {**states, self._key: {**self._stored(), **stored, **further}})


def _aligned(table: ValueTable, like: ValueTable) -> FloatArray:
    """The values of a table in the rows and columns of another one."""
    rows = [table.orders.index(order) for order in like.orders]
    columns = [table.seeds.index(seed) for seed in like.seeds]
    return table.values[np.ix_(rows, columns)]


ENOUGH_WITHIN = 0.25  # share of the orders of all stages that must keep to the loss
NEAR = 0.5  # times the loss: where the window of a value begins
PROBES = 2  # orders that are tried at a new setting before all are
MOST_STEPS = 5  # settings that are made at most
_PART = 0.1  # of a knob's range that a step takes at least


@dataclass(frozen=True, slots=True)
class Assessment:
    """How the settings of a pilot stand to the tolerated loss."""

    fault: str  # "too hard", "too mild", or empty
    orders: tuple[Order, ...]  # those that lose least first


def assess(race: Race, records: Iterable[Record], cells: Sequence[Cell]) -> Assessment:
    """Say whether a pilot's chains of all stages lie on both sides of the loss.

    Where hints chose the first chains, those of fewer stages count as well.
    """
    task = race.task
    table = race.table(records := list(records), set(cells))
    rows = range(len(table.orders)) if race.hint.chains else table.whole
    orders = [table.orders[row] for row in rows]
    ends = end_losses(race, records, orders, task.settings[-1])
    mild = sorted(orders, key=lambda order: (ends.get(order, 1.0), order))
    within = float(np.mean(table.values[list(rows)] > (table.floor or 0.0))) if rows else 0.0
    if within < ENOUGH_WITHIN:
        return Assessment("too hard", tuple(mild))
    if ends and np.quantile(list(ends.values()), 1 - ENOUGH_WITHIN) < NEAR * task.loss:
        return Assessment("too mild", tuple(mild))
    return Assessment("", tuple(mild))


def end_losses(
    race: Race, records: Iterable[Record], orders: Iterable[Order], setting: Setting
) -> dict[Order, float]:
    """Loss on validation data at the end of the network, all images going there, by order, at a setting."""
    alone = race.at([setting])
    wanted = {str(sequence): order for order in orders for sequence in alone.sequences([order])}
    by_order: dict[Order, list[float]] = {}
    for record in records:
        if record.sequence in wanted and record.points:
            loss = record.baseline.accuracy - record.points[0].accuracy
            by_order.setdefault(wanted[record.sequence], []).append(loss)
    return {order: float(np.mean(losses)) for order, losses in by_order.items()}


def moved(
    task: Task, network: CompressedNetwork, start: Setting, *, gentler: bool, offender: str
) -> Setting | None:
    """A setting made gentler or harder; None at the grids' ends.

    Every static stage moves by a step, and the `offender`, which alone loses most, by two where it becomes
    gentler.
    """
    setting: dict[str, dict[str, KnobValue]] = {letter: dict(knobs) for letter, knobs in start.items()}
    changed = False
    for letter in task.ordered:
        if known_stages()[letter].dynamic:
            continue  # how early images leave is chosen later
        for _ in range(2 if gentler and letter == offender else 1):
            step = _step(task, network, letter, setting, gentler=gentler)
            if step is not None:
                setting.setdefault(letter, {}).update(step)
                changed = True
    return setting if changed else None


def _step(
    task: Task, network: CompressedNetwork, letter: str, setting: Setting, *, gentler: bool
) -> dict[str, KnobValue] | None:
    """The knobs of one stage after a step along their grids; None where none of them can move."""
    now = _cost(network, task.sequence(letter, setting))
    here = task.sequence(letter, setting).steps[0].settings
    stepped: dict[str, KnobValue] = {}
    for name, knob in known_stages()[letter].knobs.items():
        for up in (True, False):
            value = _next(knob, here.get(name, knob.default), up=up)
            while value is not None:  # some steps change nothing: half a block cannot be dropped
                changed = {**setting, letter: {**setting.get(letter, {}), name: value}}
                cost = _cost(network, task.sequence(letter, changed))
                if cost != now:
                    break
                value = _next(knob, value, up=up)
            if value is not None and cost is not None and now is not None and (cost > now) == gentler:
                stepped[name] = value
                break
    return stepped or None


def _next(knob: Knob, value: KnobValue, *, up: bool) -> KnobValue | None:
    """The value a step further on a searched knob's grid; None at its end, and for knobs without a grid."""
    if not knob.searched or knob.choices or knob.step is None or isinstance(value, bool | str):
        return None
    assert knob.low is not None
    assert knob.high is not None
    if knob.log:
        wanted = float(value) * (2.0 if up else 0.5)
    else:
        grid = float(knob.step)
        size = max(1, round(_PART * (float(knob.high) - float(knob.low)) / grid)) * grid
        wanted = float(value) + (size if up else -size)
    if not knob.low <= wanted <= knob.high:
        return None
    return int(wanted) if knob.integral else round(wanted, 6)


def _cost(network: CompressedNetwork, sequence: StageSequence) -> float | None:
    """Bit operations after a sequence, untrained; None where it cannot be applied."""
    try:
        return float(measure_cost(apply_untrained(network, sequence)).bitops())
    except StageError:
        return None


def probe_requests(race: Race, setting: Setting, assessment: Assessment) -> list[Request]:
    """A few orders at a new setting, at the first seed."""
    sequences = race.at([setting]).sequences(assessment.orders[:PROBES])
    return [Request(sequence, race.start) for sequence in sequences]


def is_suitable(race: Race, setting: Setting, records: Sequence[Record], assessment: Assessment) -> bool:
    """Whether a probed setting lies on the side of the loss where its predecessors do not."""
    orders = assessment.orders[:PROBES]
    if assessment.fault == "too mild":
        ends = end_losses(race, records, orders, setting)
        return bool(ends) and max(ends.values()) >= NEAR * race.task.loss
    values = race.at([setting]).table(records, {(order, 0) for order in orders}).values
    return bool((values > 0).any())


def find_ladder(state: RaceState, records: Callable[[], Sequence[Record]]) -> Iterator[list[Request]]:
    """Judge a pilot, and make settings until one is_suitable; yields what is to be trained for that.

    `records` gives what is known by now. Then `state` has its settings, and says why.
    """
    race = state.race
    task = race.task
    assessment = assess(race, records(), race.first)
    percent = f"{100 * task.loss:g} %"
    whose = "the copy's" if race.hint.slope else "the task's"
    if not assessment.fault:
        state.settle(task.settings, f"{whose} knob settings bracket a loss of {percent}")
        return
    gentler = assessment.fault == "too hard"
    network = create_network(task, seed=0)
    last = task.settings[0 if gentler else -1]
    alone = end_losses(race, records(), race.stages, last)
    offender = max(alone, key=lambda letter: alone[letter], default="")
    reason = f"keep to it at {whose}" if gentler else f"lose half as much at {whose}"
    reason = f"as hardly any {'first chains' if race.hint.chains else 'orders of all stages'} {reason}"
    for _ in range(MOST_STEPS):
        setting = moved(task, network, last, gentler=gentler, offender=offender)
        if setting is None:
            reason += (
                f"; they cannot be made {'gentler' if gentler else 'harder'}, all grids are at their end"
            )
            break
        yield probe_requests(race, setting, assessment)
        before, last = last, setting
        if is_suitable(race, setting, records(), assessment):
            break
    else:
        reason += f"; {MOST_STEPS} steps along the stages' grids do not suffice"
    settings = [last] if last in task.settings else [last, before]
    settings = settings if gentler else settings[::-1]
    words = " and ".join(described(task, setting) for setting in settings)
    state.settle(settings, f"for a loss of {percent} all chains run with {words}, {reason}")
