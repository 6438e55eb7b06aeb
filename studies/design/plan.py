"""What experiments would train at a preset, shared and unshared, and how long that takes on this machine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ordercomp.analysis.report.tables import Column, Table
from ordercomp.jobs.check import StepTimes, probe_steps
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.studies.experiment import Part
from ordercomp.studies.preset import Preset, load_preset
from ordercomp.studies.run import EXPERIMENTS, find_experiment

Node = tuple[str, str, int]  # digest of the task, sequence text, seed


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExperiment:
    """One experiment in a row of them that share a store."""

    name: str
    trainings: int  # distinct nodes without the baselines
    new: int  # of those, not trained by the experiments before
    unshared: int  # stage trainings if every network started from its baseline
    seconds: float  # of training the new ones, on all workers together, to a tenth
    seconds_alone: float  # if nothing had been trained before


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentPlan:
    """Experiments one after the other."""

    KEYS: ClassVar = ("task", "preset", "workers", "seconds", "experiments")

    task: str
    preset: str
    workers: int
    experiments: tuple[PlannedExperiment, ...]

    @property
    def seconds(self) -> float:
        """Of all experiments."""
        return round(sum(one.seconds for one in self.experiments), 1)

    @property
    def table(self) -> Table:
        """The plan as a table, with a row for all of them."""
        rows = [
            (
                one.name,
                str(one.trainings),
                str(one.new),
                str(one.unshared),
                duration(one.seconds),
                duration(one.seconds_alone),
            )
            for one in self.experiments
        ]
        trainings, new, unshared = (
            str(sum(getattr(one, name) for one in self.experiments))
            for name in ("trainings", "new", "unshared")
        )
        rows.append(("all", trainings, new, unshared, duration(self.seconds), ""))
        names = ("experiment", "trainings", "new", "unshared", "time", "time alone")
        return Table(
            title=f"{self.task} at preset {self.preset}, {self.workers} workers",
            columns=tuple(Column(name, "left" if name == "experiment" else "right") for name in names),
            rows=tuple(rows),
            note="New: not trained by an experiment further up. Unshared: if every network started from its "
            "baseline. Times come from a few training steps here, on an uncompressed network.",
        )


def plan_experiments(
    names: Iterable[str] = (),
    *,
    task: Task,
    preset: Preset | str,
    workers: int = 2,
    times: Mapping[str, StepTimes] | None = None,
) -> ExperimentPlan:
    """Count the trainings of the experiments, all of them by default, and estimate their time.

    `times` maps digests of tasks to measured times; a task that it lacks is probed for a few steps, which
    needs its data. Raises ValueError for an unknown experiment or preset, or fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    chosen = load_preset(preset) if isinstance(preset, str) else preset
    known = dict(times or {})
    done: set[Node] = set()
    planned = []
    for name in list(names) or list(EXPERIMENTS):
        nodes: dict[Node, tuple[Part, StageSequence]] = {}
        unshared = 0
        for part in find_experiment(name).parts(task, chosen):
            if part.task.digest not in known:
                known[part.task.digest] = _probe(part.task)
            for request in part.requests:
                for prefix in request.sequence.prefixes:
                    nodes[part.task.digest, str(prefix), request.seed] = (part, prefix)
            unshared += part.trie.unshared_trainings
        seconds = {node: _seconds(*nodes[node], known) / workers for node in nodes}
        new = [node for node in nodes if node not in done]
        planned.append(
            PlannedExperiment(
                name=name,
                trainings=len(nodes),
                new=len(new),
                unshared=unshared,
                seconds=round(sum(seconds[node] for node in new), 1),
                seconds_alone=round(sum(seconds.values()), 1),
            )
        )
        done.update(new)
    return ExperimentPlan(task=task.name, preset=chosen.name, workers=workers, experiments=tuple(planned))


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days with two digits: 45 s, 3.5 min, 12 h, 8.1 days."""
    for size, name, upper in ((1.0, "s", 90.0), (60.0, "min", 5400.0), (3600.0, "h", 172_800.0)):
        if seconds < upper:
            return f"{seconds / size:.2g} {name}" if seconds / size < 10 else f"{seconds / size:.0f} {name}"
    days = seconds / 86_400
    return f"{days:.2g} days" if days < 10 else f"{days:,.0f} days"


def _probe(task: Task) -> StepTimes:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers do
    try:
        return probe_steps(task)
    finally:
        torch.set_num_threads(threads)


def _seconds(part: Part, node: StageSequence, times: Mapping[str, StepTimes]) -> float:
    """Expected seconds of a node's last stage, with the epochs that it sets itself."""
    own = float(node.steps[-1].settings.get("epochs", 0.0))
    share = own / part.task.recipe.epochs if own > 0 else 1.0
    return share * times[part.task.digest].of(node)
