"""Experiment: does the order that is best on a cheaper copy of the task stay the best on the task itself?"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ordercomp.analysis.fronts import group
from ordercomp.analysis.hints import MATCHINGS, Matching, baseline_error, matched_loss
from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import Table
from ordercomp.analysis.values import FLOOR, ChainNetwork, ValueTable, chain_values, networks_of, settings_of
from ordercomp.jobs.proxy import NAMED, Proxy, proxy_task
from ordercomp.jobs.race import Race
from ordercomp.records import Record
from ordercomp.sequence import Order, permutations
from ordercomp.studies.claims import stages_of
from ordercomp.studies.experiment import (
    ClaimVerdict,
    Conclusion,
    Design,
    Experiment,
    Finding,
    Workload,
    by_order,
)

FloatArray = npt.NDArray[np.float64]
FEWEST = 3  # chains, to be compared by rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What a proxy's values say about the task's, at one tolerated loss of the task."""

    loss: float  # tolerated on the task
    proxy_loss: float  # and on the proxy
    correlation: float  # of the chains' mean values, by rank (Spearman)
    reliability: float  # the same between halves of the task's own seeds, stepped up (Spearman and Brown)
    pick: Order  # the chain of the highest mean on the proxy
    regret: float  # of that chain on the task, doublings behind the best of the other half of the seeds
    random: float  # of a chain at random among those that reach the loss


def compare(task: ValueTable, proxy: ValueTable, *, all_stages: bool = False) -> Agreement | None:
    """Compare the tables of a task and its proxy over the chains that both have, or orders of all stages.

    None where fewer than three chains lie above the floor on either side, or the task has one seed.
    """
    assert task.loss is not None
    assert proxy.loss is not None
    length = len(task.stages) if all_stages else 0
    chains = [chain for chain in task.orders if chain in proxy.orders and len(chain) >= length]
    full, cheap = (_rows(table, chains) for table in (task, proxy))
    means = cheap.mean(axis=1)
    reached = (full > FLOOR).any(axis=1)
    if len(task.seeds) < 2 or reached.sum() < FEWEST or (means > FLOOR).sum() < FEWEST:
        return None
    halves = full[:, ::2].mean(axis=1), full[:, 1::2].mean(axis=1)
    half = float(stats.spearmanr(*halves).statistic)
    pick = int(np.argmax(means))
    regrets = [other[int(np.argmax(own))] - other for own, other in (halves, halves[::-1])]
    behind = np.mean(regrets, axis=0)
    return Agreement(
        loss=task.loss,
        proxy_loss=proxy.loss,
        correlation=float(stats.spearmanr(full.mean(axis=1), means).statistic),
        reliability=2 * half / (1 + half) if half > -1 else float("nan"),
        pick=chains[pick],
        regret=float(behind[pick]),
        random=float(behind[reached].mean()),
    )


def _rows(table: ValueTable, chains: Sequence[Order]) -> FloatArray:
    """Values of chains, shape (chains, seeds), at the seeds that have all of them."""
    values = table.values[[table.orders.index(chain) for chain in chains]]
    return values[:, np.isfinite(values).all(axis=0)]


def agree(
    task: Sequence[ChainNetwork],
    proxy: Sequence[ChainNetwork],
    stages: Order,
    *,
    loss: float,
    rule: Matching,
    errors: tuple[float, float],
    all_stages: bool = False,
) -> Agreement | None:
    """Compare the networks of a task and its proxy at `loss`, matched by `rule`; see `compare`."""
    cheap = matched_loss(loss, rule, errors=errors, networks=(task, proxy))
    tables = chain_values(task, stages, loss=loss), chain_values(proxy, stages, loss=cheap)
    return compare(*tables, all_stages=all_stages)


LOSSES = (0.01, 0.02, 0.05)  # tolerated on the task
AXES = (
    *(Proxy(epochs=share) for share in (0.125, 0.25)),
    *(Proxy(images=share) for share in (0.125, 0.25)),
    *(Proxy(width=share) for share in (0.25, 0.5)),
    Proxy(size=0.5),
)
BOTH = (Proxy(epochs=0.25, width=0.5), Proxy(epochs=0.25, images=0.5))
SHOWN = 5  # panels side by side
LEAST_CORRELATION = 0.6  # by rank, of all chains, from which a proxy's ranking is taken to hold


@dataclass(frozen=True, slots=True)
class Compared:
    """One proxy beside the task, at one loss, by one rule."""

    proxy: str
    rule: Matching
    seeds: int  # of the proxy
    work: float  # of training, as a share
    chains: Agreement
    all_stages: Agreement | None  # of the orders of all stages alone


def _plan(design: Design) -> list[Workload]:
    """All orders of the task's stages at its knob settings, on the task and on each cheaper copy."""
    tasks = [design.task, *(proxy_task(design.task, proxy) for proxy in (*AXES, *BOTH))]
    races = [Race(task=task, seeds=design.preset.seeds) for task in tasks]
    return [
        Workload(task=race.task, requests=design.requests(race.sequences(permutations(race.task.stages))))
        for race in races
    ]


def _decide(records: Sequence[Record]) -> Conclusion:
    """Rank correlations, regrets and seconds of every proxy, and whether any ranks as the task does."""
    compared = list(compare_all(records))
    return Conclusion(
        findings=tuple(_finding(compared, rule) for rule in MATCHINGS if compared),
        tables=tuple(_table(compared, loss) for loss in LOSSES if compared),
        notes=(
            "Regret: of the proxy's chain of the highest mean, on the task, behind the best chain of another "
            "half of its seeds; below 0 it did better than that.",
        ),
    )


def _draw(records: Sequence[Record]) -> Mapping[str, str]:
    """A panel for the task and some proxies, with the fronts of the orders of all stages."""
    stages = stages_of(records)
    panels = [
        Panel(
            title=name,
            series={order: own for order, own in by_order(runs).items() if len(order) == len(stages)},
        )
        for name, runs in group(records, lambda record: record.task).items()
    ]
    return {"fronts": to_svg(panels_plot(panels[:SHOWN]))}


def compare_all(records: Sequence[Record]) -> list[Compared]:
    """Compare every proxy among the records with the task itself, at all `LOSSES`, by every rule."""
    by_task = group(records, lambda record: record.task)
    stages = stages_of(records)
    compared = []
    for full, cheap in _pairs(by_task):
        task, proxy = (networks_of(runs, stages) for runs in (full, cheap))
        task = _at_settings_of(proxy, task)
        errors = baseline_error(full), baseline_error(cheap)
        seeds = len({record.seed for record in cheap})
        name = cheap[0].task.partition(NAMED)[2]
        work = Proxy.parse(name).work
        for loss, rule in itertools.product(LOSSES, MATCHINGS):
            chains, all_stages = (
                agree(task, proxy, stages, loss=loss, rule=rule, errors=errors, all_stages=only)
                for only in (False, True)
            )
            if chains is not None:
                compared.append(Compared(name, rule, seeds, work, chains, all_stages))
    return compared


def _pairs(by_task: Mapping[str, list[Record]]) -> list[tuple[list[Record], list[Record]]]:
    """The records of the task beside those of each of its proxies."""
    named = {name: name.partition(NAMED)[0] for name in by_task if NAMED in name}
    return [(by_task[full], by_task[name]) for name, full in named.items() if full in by_task]


def _at_settings_of(proxy: Sequence[ChainNetwork], task: Sequence[ChainNetwork]) -> list[ChainNetwork]:
    """The task's networks at the knob settings that the proxy has, too."""
    settings = settings_of(proxy)
    return [
        network
        for network in task
        if any(network.setting == setting.of(set(network.order)) for setting in settings)
    ]


def _finding(compared: Sequence[Compared], rule: Matching) -> Finding:
    own = [copy.chains.correlation for copy in compared if copy.rule == rule]
    low, high = min(own), max(own)
    verdict: ClaimVerdict = (
        "agree" if low >= LEAST_CORRELATION else "disagree" if high < LEAST_CORRELATION else "undecided"
    )
    return Finding(
        claim=f"cheaper copies rank the chains as the task does, with losses matched by {rule}",
        measured=f"rank correlations from {low:.2f} to {high:.2f}, which holds from {LEAST_CORRELATION} on",
        verdict=verdict,
        seeds=min(copy.seeds for copy in compared),
    )


def _table(compared: Sequence[Compared], loss: float) -> Table:
    return Table.of(
        f"Cheaper copies beside the task, where {100 * loss:g} % may be lost",
        (
            "copy",
            "losses matched by",
            "tolerated there",
            "correlation",
            "reliability",
            "pick",
            "regret",
            "random",
            "orders of all",
            "work",
        ),
        [_row(copy) for copy in compared if copy.chains.loss == loss],
        left=("copy", "losses matched by", "pick"),
        note="Correlations by rank; reliability: of halves of the task's own seeds, the most to be had. "
        "Regrets in doublings. Work: multiplications of training, as a share of the task's.",
    )


def _row(copy: Compared) -> tuple[str, ...]:
    chains = copy.chains
    return (
        copy.proxy,
        copy.rule,
        f"{100 * chains.proxy_loss:.1f} %",
        f"{chains.correlation:.2f}",
        f"{chains.reliability:.2f}",
        chains.pick,
        f"{chains.regret:+.2f}",
        f"{chains.random:.2f}",
        "–" if copy.all_stages is None else f"{copy.all_stages.correlation:.2f}",
        f"{100 * copy.work:.3g} %",
    )


EXPERIMENT = Experiment(
    name="proxies",
    section="beyond the paper",
    question="does the best order of a cheaper copy stay the best?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
