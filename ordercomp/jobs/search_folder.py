"""What a search found: the study, the front, the best network per tolerance, and how it came about."""

import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np

from ordercomp.analysis.batches import one_batch
from ordercomp.analysis.fronts import TOLERANCES, Candidate, Scale, candidates, hypervolume, is_nondominated
from ordercomp.analysis.networks import compress_command
from ordercomp.analysis.report.law_page import write_report
from ordercomp.analysis.report.result_files import (
    BestPoint,
    Cost,
    LawFile,
    LawPlace,
    OrderScore,
    Progress,
    SearchFile,
    SearchPoint,
    TrialCount,
)
from ordercomp.analysis.report.search_page import write_search_report
from ordercomp.analysis.report.shown import Shown, shown_front
from ordercomp.analysis.report.text import read_verdict
from ordercomp.codec import read_as, write_json
from ordercomp.jobs.law import law_of_records
from ordercomp.jobs.law_folder import keep_networks
from ordercomp.objectives import OBJECTIVES, Objectives
from ordercomp.records import CostName, Record, read_records
from ordercomp.running.task import TASKS, Task
from ordercomp.search.results import count_states, parameter_importances, records_from_study
from ordercomp.search.study import Study, find_study
from ordercomp.sequence import Order, StageSequence

COSTS: tuple[Cost, ...] = get_args(Cost)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Compares operating points as a search with these objectives does."""

    objectives: Objectives

    @property
    def scale(self) -> Scale:
        """Validation data, and the objectives' convention of cost."""
        return Scale(split="validation", convention=self.objectives.convention)

    @property
    def cost(self) -> Cost:
        """The objective by which `best` goes; that of bit operations where no cost is an objective."""
        return next((name for name in COSTS if name in self.objectives.names), COSTS[0])

    def candidates(self, records: Iterable[Record]) -> list[Candidate]:
        """The operating points that respect the constraints. Raises ValueError as `Objectives.keeps` does."""
        every = candidates(records, scale=self.scale)
        return [candidate for candidate in every if self.objectives.keeps(candidate.record, candidate.point)]

    def front(self, points: Sequence[Candidate]) -> list[Candidate]:
        """The points that no other beats in all objectives, by falling cost; equal ones are all kept."""
        undominated = _undominated(points, [self._costs(candidate) for candidate in points])
        return sorted(undominated, key=self._rank, reverse=True)

    def best(self, points: Iterable[Candidate], tolerance: float) -> Candidate | None:
        """The point of least cost with a loss of at most `tolerance`; None if there is none.

        Ties go to the smaller loss, then to the shorter order, never to what happened to come first.
        """
        within = [candidate for candidate in points if candidate.loss <= tolerance + 1e-12]
        return min(within, key=self._rank, default=None)

    def value(self, points: Sequence[Candidate]) -> float:
        """What the points are worth in doublings; 0 without any."""
        if not points:
            return 0.0
        weights = self.scale.weigh(np.array([candidate.loss for candidate in points]))
        reductions = np.array([self._doublings(candidate) for candidate in points])
        return hypervolume(np.column_stack([-weights, -reductions]), (0.0, 0.0))

    def outline(self, points: Sequence[Candidate]) -> list[Candidate]:
        """The points without those that add nothing to `value`."""
        return _undominated(points, [[candidate.loss, -self._doublings(candidate)] for candidate in points])

    def _rank(self, candidate: Candidate) -> tuple[float, float, int, str, float]:
        """What sorts the least cost to the front, the same way in whatever order networks were trained."""
        threshold = math.inf if candidate.point.threshold is None else candidate.point.threshold
        name = candidate.record.sequence
        return -self._gain(self.cost, candidate), candidate.loss, len(candidate.record.order), name, threshold

    def _costs(self, candidate: Candidate) -> list[float]:
        """All objectives, to be minimized; accuracy as the loss against the record's own baseline."""
        names = self.objectives.names
        return [candidate.loss if name == "accuracy" else -self._gain(name, candidate) for name in names]

    def _gain(self, name: str, candidate: Candidate) -> float:
        objective = OBJECTIVES[name]
        value = objective.value(candidate.point, self.objectives.convention)
        return value if objective.direction == "maximize" else -value

    def _doublings(self, candidate: Candidate) -> float:
        return math.log2(candidate.cr) if self.cost == "log2_cr" else candidate.log2_reduction


def _undominated(points: Sequence[Candidate], costs: Sequence[Sequence[float]]) -> list[Candidate]:
    if not points:
        return []
    return [candidate for candidate, keep in zip(points, is_nondominated(costs), strict=True) if keep]


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The outcome of a search. Networks are selected on validation data; test accuracy is only reported.

    Everything keeps to the constraints of the search, and is compared as `Ranking` says.
    """

    study: Study  # plain Optuna
    records: tuple[Record, ...]  # distinct, in the order of the trials
    task: Task  # as the user named it
    out: Path  # the folder of the search
    objectives: Objectives
    seconds: Mapping[tuple[str, int], float] = field(default_factory=dict)  # of each training, by its node
    interrupted: bool = False  # by Ctrl-C: the same search goes on from here
    storage: str = ""  # path or URL of the study

    @property
    def ranking(self) -> Ranking:
        """How operating points compare."""
        return Ranking(self.objectives)

    @cached_property
    def points(self) -> list[Candidate]:
        """The operating points that keep the constraints, in the order of the trials."""
        return self.ranking.candidates(self.records)

    @cached_property
    def front(self) -> list[Candidate]:
        """The operating points that no other beats, by falling cost."""
        return self.ranking.front(self.points)

    @property
    def value(self) -> float:
        """What the whole is worth, in doublings."""
        return self.ranking.value(self.ranking.outline(self.points))

    def best(self, tolerance: float) -> Candidate | None:
        """The least cost with a validation loss of at most `tolerance`, a fraction; or None.

        Raises ValueError if the tolerance does not lie in [0, 1).
        """
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance must lie in [0, 1), a fraction of accuracy, got {tolerance}")
        return self.ranking.best(self.points, tolerance)

    @property
    def tolerances(self) -> list[float]:
        """The four of the source paper's Table 1 and the task's own, rising."""
        return sorted({*TOLERANCES, self.task.loss})

    @property
    def best_by_tolerance(self) -> dict[float, Candidate | None]:
        """The best at each of the tolerances."""
        return {tolerance: self.best(tolerance) for tolerance in self.tolerances}

    @cached_property
    def progress(self) -> list[Progress]:
        """How the value grew, network by network."""
        own = {(record.sequence, record.seed): record.seconds for record in self.records}
        seconds_of = {**self.seconds, **own}
        steps: list[Progress] = []
        outline: list[Candidate] = []
        paid: set[tuple[str, int]] = set()
        seconds = 0.0
        for count, record in enumerate(self.records, start=1):
            nodes = {(str(prefix), record.seed) for prefix in StageSequence.parse(record.sequence).prefixes}
            seconds += sum(seconds_of.get(node, 0.0) for node in nodes - paid)
            paid |= nodes
            outline = self.ranking.outline([*outline, *self.ranking.candidates([record])])
            value = self.ranking.value(outline)
            steps.append(Progress(networks=count, trainings=len(paid), seconds=seconds, value=value))
        return steps

    @cached_property
    def orders(self) -> list[OrderScore]:
        """The orders that were tried, best first."""
        tried: dict[Order, list[Candidate]] = {record.order: [] for record in self.records}
        for candidate in self.points:
            tried[candidate.record.order].append(candidate)
        networks = Counter(record.order for record in self.records)
        winners = Counter(candidate.record.order for candidate in self.front)
        scores = [
            OrderScore(
                order=order,
                networks=networks[order],
                value=self.ranking.value(self.ranking.outline(points)),
                on_front=winners[order],
            )
            for order, points in tried.items()
        ]
        return sorted(scores, key=lambda score: (-score.value, score.order))

    def rank_of(self, order: Order) -> int | None:
        """Place of `order` among the tried orders of the same stages, 1 for the best; None if not tried."""
        rivals = self._rivals(order)
        return rivals.index(order) + 1 if order in rivals else None

    @property
    def winner(self) -> Order | None:
        """The best order among those that use most stages; None before the first network."""
        longest = max((len(score.order) for score in self.orders), default=0)
        return next((score.order for score in self.orders if len(score.order) == longest), None)

    @cached_property
    def law(self) -> LawPlace | None:
        """The law's order by the same trials, and its rank; None with fewer than two stages to order."""
        if len({letter for record in self.records if record.points for letter in record.order} - {"F"}) < 2:
            return None
        file = law_of_records(self.records)
        verdict = read_verdict(file.law)
        return LawPlace(
            order=verdict.order,
            role=verdict.role,
            evidence=file.law.evidence,
            rank=self.rank_of(verdict.order),
            of=len(self._rivals(verdict.order)),
        )

    def importances(self, objective: int = 0) -> dict[str, float]:
        """Share of the objective's variance that each parameter explains; empty with too few trials."""
        return parameter_importances(self.study, objective)

    def compress_line(self, tolerance: float) -> str | None:
        """The command that writes the best network of `tolerance`; None if there is none.

        It finds the network in the store of this search, and trains it again where that lacks it.
        """
        best = self.best(tolerance)
        if best is None:
            return None
        store = self.out / "store"
        return compress_command(best.record, tolerance, task=self.task.spelled, store=store)

    @property
    def dashboard_line(self) -> str | None:
        """The command that opens the study in a browser; None without a storage, or with a password in it."""
        if not self.storage or "@" in self.storage:
            return None
        plain = "://" in self.storage or self.storage.endswith((".log", ".journal"))
        return shlex.join(["optuna-dashboard", self.storage if plain else f"sqlite:///{self.storage}"])

    @cached_property
    def file(self) -> SearchFile:
        """The content of search.json."""
        states = count_states(self.study)
        return SearchFile(
            task=self.task.name,
            study=self.study.study_name,
            dashboard=self.dashboard_line,
            objectives=self.objectives,
            cost=self.ranking.cost,
            loss=self.task.loss,
            trials=TrialCount(**{name: states[name] for name in ("complete", "pruned", "fail", "waiting")}),
            networks=len(self.records),
            value=self.value,
            front=tuple(map(_point, self.front)),
            best={f"{tolerance:g}": self._best_point(tolerance) for tolerance in self.tolerances},
            orders=tuple(self.orders),
            winner=self.winner,
            law=self.law,
            progress=tuple(self.progress),
            importances={name: self.importances(place) for place, name in enumerate(self.objectives.names)},
        )

    def __rich__(self) -> Shown:
        return shown_front(self.front)

    def _repr_html_(self) -> str:
        return shown_front(self.front)._repr_html_()

    def _rivals(self, order: Order) -> list[Order]:
        """The tried orders of the same stages, best first."""
        return [score.order for score in self.orders if sorted(score.order) == sorted(order)]

    def _best_point(self, tolerance: float) -> BestPoint | None:
        best, line = self.best(tolerance), self.compress_line(tolerance)
        return None if best is None or line is None else BestPoint(point=_point(best), compress=line)


def _point(candidate: Candidate) -> SearchPoint:
    return SearchPoint(
        sequence=candidate.record.sequence,
        seed=candidate.record.seed,
        threshold=candidate.point.threshold,
        accuracy=candidate.accuracy,
        test_accuracy=candidate.point.test_accuracy,
        metric=candidate.record.metric,
        loss=candidate.loss,
        bitops_cr=candidate.bitops_cr,
        cr=candidate.cr,
        latency_ms=candidate.point.extra.get("latency_ms"),
        latency_cr=candidate.point.extra.get("latency_cr"),
        checkpoint=candidate.record.extra.get("checkpoint"),
    )


def write_search_outcome(result: SearchResult, *, network_of: Callable[[Record], Path | None]) -> None:
    """Write the outcome into the folder of the search; `network_of` finds the whole network of a record.

    Raises OSError if it cannot be written.
    """
    file = result.file
    write_json(result.out / "search.json", file)
    write_search_report(result.out / "report.html", file, map(result.objectives.restrict, result.records))
    wanted = {
        tolerance: (best.record, best.point.threshold, best.point.extra.get("skip"))
        for tolerance, best in result.best_by_tolerance.items()
        if best is not None
    }
    keep_networks(result.out / "networks", wanted, network_of=network_of)


def report(folder: Path) -> Path:
    """Write report.html of a folder of `discover` or `search` anew, from its records and its JSON; return it.

    Trains nothing and derives nothing. A command of these files that does more than make a network of a
    built-in task is shown as a comment of the shell, marked as theirs. Raises ValueError if the folder is
    none of these, in one line that says what was looked for.
    """
    page, records = folder / "report.html", folder / "records.jsonl"
    if not records.is_file():
        raise ValueError(f"{folder} holds no report's records: there is no {records.name} in it")
    measured = read_records(records)
    outcome = next((folder / name for name in ("law.json", "search.json") if (folder / name).is_file()), None)
    if outcome is None:
        raise ValueError(f"{folder} holds records but neither law.json nor search.json to report on")
    if outcome.name == "law.json":
        law = read_as(outcome, LawFile)
        picks = law.networks and tuple(replace(pick, command=_marked(pick.command)) for pick in law.networks)
        write_report(page, replace(law, networks=picks), one_batch(measured)[0])
    else:
        search = read_as(outcome, SearchFile)
        best = {
            loss: pick and replace(pick, compress=_marked(pick.compress))
            for loss, pick in search.best.items()
        }
        shown = replace(search, best=best, dashboard=search.dashboard and _marked(search.dashboard))
        write_search_report(page, shown, map(search.objectives.restrict, measured))
    return page


# of what `compress_command` makes
_OPTIONS = {"--task", "--seed", "--store", "--loss", "--threshold", "--out"}


def _marked(command: str) -> str:
    """A command of a file as it is if it is one of ours, else as a comment: it may be a stranger's."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    first, sequence = words[:2], "".join(words[2:3])
    options = dict(zip(words[3::2], words[4::2], strict=False))
    compresses = first == ["ordercomp", "compress"] and not sequence.startswith("-") and len(words) % 2
    ours = options.keys() <= _OPTIONS and options.get("--task") in TASKS
    here = Path(options.get("--out", "")).name == options.get("--out")
    looks = first[:1] == ["optuna-dashboard"] and len(words) == 2 and words[1].startswith("sqlite:///")
    if shlex.join(words) == command and (looks or (compresses and ours and here)):
        return command
    return f"# of whoever made these files, to be read before it is run: {' '.join(command.split())}"


def law_of_study(
    storage: str | Path,
    study: str | None = None,
    *,
    stages: Order | None = None,
    loss: float = 0.02,
    cost: CostName = "bitops",
) -> LawFile:
    """Give the law.json that a study supports, as `law_of_records` reads its trials.

    `study` may be left out if the storage holds only one. Raises ValueError if the storage cannot be read,
    the study is not there or not ours, or holds nothing measured.
    """
    records = records_from_study(find_study(storage, study))
    if not records:
        raise ValueError(f"the study in {str(storage)!r} holds no finished trial to derive a law from")
    return law_of_records(records, stages=stages, loss=loss, cost=cost)
