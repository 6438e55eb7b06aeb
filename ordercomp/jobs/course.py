"""The course of a race, its knob settings and blocks, kept in the study: a resume goes the same way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.race import Cell, doubts, idle_setting, look
from ordercomp.analysis.values import ValueTable
from ordercomp.codec import encode
from ordercomp.files import digest_of
from ordercomp.jobs.race import CONTROL, Race, described, with_prefixes
from ordercomp.records import Record
from ordercomp.search.study import Study
from ordercomp.sequence import KnobValue, StageSequence

FloatArray = npt.NDArray[np.float64]
Setting = Mapping[str, Mapping[str, KnobValue]]

ATTRIBUTE = "race"  # of the study: the courses by the question that they answer


@dataclass(slots=True)
class Course:
    """What a race has decided so far; every change is written into the study."""

    race: Race  # at the settings that were settled
    _study: Study
    _key: str  # of the question
    why: str = ""  # these settings, in a sentence
    blocks: list[tuple[Cell, ...]] = field(default_factory=list)
    left: list[Setting] = field(default_factory=list)  # settings that were tried and stopped

    @classmethod
    def of(cls, race: Race, study: Study) -> "Course":
        """The course of a race of the same question in a study; a new one where there is none."""
        task = race.task
        key = digest_of(
            *(task.stages, task.loss, task.cost, encode(task.settings), task.accounting, task.ladder),
            *([race.start] if race.start else []),
        )
        course = cls(race, study, key)
        stored: Mapping[str, Any] = study.user_attrs.get(ATTRIBUTE, {}).get(key, {})
        if stored:
            course.race = replace(race, task=replace(task, settings=tuple(stored["settings"])))
            course.why, course.left = stored["why"], stored["left"]
            blocks = [
                [(chain, seed) for chain, seed in block if seed < race.seeds] for block in stored["blocks"]
            ]
            course.blocks = [tuple(block) for block in blocks if block]
        return course

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
        self.race = replace(self.race, task=replace(self.race.task, settings=tuple(settings)))
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
        fewer = (*settings[:place], *settings[place + 1 :])
        return replace(self.race, task=replace(self.race.task, settings=fewer))

    def _stored(self) -> dict[str, Any]:
        return dict(self._study.user_attrs.get(ATTRIBUTE, {}).get(self._key, {}))

    def _write(self, **further: str) -> None:
        state = {
            "settings": encode(self.race.task.settings),
            "why": self.why,
            "left": encode(self.left),
            "blocks": encode(self.blocks),
        }
        courses = self._study.user_attrs.get(ATTRIBUTE, {})
        self._study.set_user_attr(ATTRIBUTE, {**courses, self._key: {**self._stored(), **state, **further}})


def _aligned(table: ValueTable, like: ValueTable) -> FloatArray:
    """The values of a table in the rows and columns of another one."""
    rows = [table.orders.index(order) for order in like.orders]
    columns = [table.seeds.index(seed) for seed in like.seeds]
    return table.values[np.ix_(rows, columns)]
