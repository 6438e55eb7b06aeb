"""A search with its live view: trials as they end, and the best networks so far."""

import itertools
from dataclasses import replace

from ordercomp.analysis.fronts import Candidate
from ordercomp.analysis.report.tables import loss_text, times_text
from ordercomp.cli.progress import View, watching
from ordercomp.jobs.search import SearchPlan, run_search
from ordercomp.jobs.search_folder import Ranking, SearchResult
from ordercomp.objectives import Objectives
from ordercomp.running.jobs import Finished
from ordercomp.running.workers import executor_at

NOTED_LOSSES = (0.01, 0.02)  # whose best network is shown while the search goes on


def watched_search(plan: SearchPlan, *, dask: str | None, workers: int | None) -> SearchResult:
    """Run the plan on `workers` processes, or on a Dask scheduler; None: as many as are good for it."""
    with (
        executor_at(dask, workers=workers) as (executor, many),
        watching(budget_seconds=plan.budget_seconds) as view,
    ):
        view.count(0, plan.trials, "trials")
        return run_search(
            replace(plan, workers=many if workers else min(many, plan.trials)),
            executor=executor,
            on_finished=_BestSoFar(view, plan.objectives),
            on_trials=lambda ended: view.count(ended, plan.trials, "trials"),
        )


class _BestSoFar:
    """Passes nodes on to the view, and notes there the best network of this run."""

    def __init__(self, view: View, objectives: Objectives) -> None:
        self._view = view
        self._ranking = Ranking(objectives)
        self._best: dict[float, Candidate] = {}

    def __call__(self, finished: Finished) -> None:
        self._view(finished)
        points = self._ranking.candidates([finished.record])
        for loss in NOTED_LOSSES:
            former = [self._best[loss]] if loss in self._best else []
            if (best := self._ranking.best([*former, *points], loss)) is not None:
                self._best[loss] = best
        lines = []
        for best, losses in itertools.groupby(self._best, key=lambda loss: self._best[loss]):
            within = ", ".join(map(loss_text, losses))
            lines.append(
                f"best so far, losing up to {within}: {times_text(best.bitops_cr)} fewer bit operations, "
                f"{times_text(best.cr)} less storage, {best.record.sequence}"
            )
        self._view.note(*lines)
