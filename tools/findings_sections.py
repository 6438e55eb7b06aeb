"""Sections of the findings about recordings that are not the four-stage ones: each kind has its tables.

P and E alone, records with the latency of each network, cheaper copies of a task, races of five stages and
more. `findings_page.py` puts the sections on its page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ordercomp.analysis.answer import Answer, AnswerAt
from ordercomp.analysis.report.tables import Table, loss_text
from ordercomp.analysis.statistics import interval_alone, kendall_tau
from ordercomp.analysis.values import chain_values, networks_of, order_values
from ordercomp.jobs.recordings import load_recorded
from ordercomp.records import Record
from ordercomp.sequence import Order
from ordercomp.studies.proxies import EXPERIMENT as PROXIES
from ordercomp.studies.proxies import Compared, compare_all
from ordercomp.studies.results import table_markdown

STAGES: Order = "DPQE"
SHOWN = (0.01, 0.02, 0.05)  # losses at which claims are read
TITLES = {
    "cifar10": "CIFAR-10 (JPEG copies)",
    "fashion-mnist": "Fashion-MNIST",
    "fashion-mnist-raced": "Fashion-MNIST, raced",
}
LATENCY_RIVAL = "PQD"  # what arXiv 2604.04988 proposes, there with D as recovery
PREDICTED = {
    "stages-digits": "DPUQSE",
    "stages-fashion-mnist": "DLPQE",
}  # docs/predictions.md, before the runs
LEFT_OUT = "-"  # where nothing can be told or was decided
PAIR, EARLY, LATE = "PE", "EP", "PE"
JOINTLY = "train=joint"
MOST = 16.0  # doublings within which an interval is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recording with its answer."""

    name: str
    records: Sequence[Record]
    answer: Answer
    weaker: Order | None  # what "weaker first" comes to here

    def at(self, loss: float) -> AnswerAt:
        """The answer at one of the losses that all answers tell."""
        return next(entry for entry in self.answer.by_loss if entry.loss == loss)


def title(name: str) -> str:
    """What a recording is called on the page."""
    return TITLES.get(name, name)


def exits_section(recordings: Mapping[str, Sequence[Record]]) -> list[str]:
    """Why exits come early, by records of P and E alone."""
    titled = {title(name): records for name, records in recordings.items()}
    table = table_markdown(joint_table(titled, SHOWN))
    return ["## Why exits come early", "", _JOINT_NOTE, "", *table, ""]


def joint_table(recordings: Mapping[str, Sequence[Record]], losses: Sequence[float]) -> Table:
    """How far E before P is ahead of P before E, in doublings, by data and tolerated loss."""
    rows = []
    for name, records in recordings.items():
        joint = [record for record in records if JOINTLY in record.sequence]
        alone = [record for record in records if JOINTLY not in record.sequence]
        for loss in losses:
            leads = [_lead(group, loss) for group in (alone, joint)]
            rows.append((name, loss_text(loss), *leads, str(len({record.seed for record in records}))))
    names = ("data", "tolerated loss", "heads alone", "jointly", "seeds")
    return Table.of(
        "How far EP is ahead of PE",
        names,
        rows,
        left=("data",),
        note="In doublings of the reduction of bit operations, mean over seeds with its 95 % interval.",
    )


def _lead(records: Sequence[Record], loss: float) -> str:
    table = order_values(networks_of(records, PAIR), PAIR, loss=loss)
    early, late = (table.values[table.orders.index(order)] for order in (EARLY, LATE))
    both = (early - late)[np.isfinite(early - late)]
    low, high = interval_alone(both, bound=MOST)
    return f"{both.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def latency_section(recordings: Mapping[str, Sequence[Record]]) -> list[str]:
    """The same chains by bit operations and by the latency of the exported networks."""
    named = {title(name): records for name, records in recordings.items()}
    table = table_markdown(latency_table(named, SHOWN))
    words = [latency_words(name, records, loss) for name, records in named.items() for loss in SHOWN]
    return ["## Where milliseconds count", "", _LATENCY_NOTE, "", *table, "", *words, ""]


def latency_table(recordings: Mapping[str, Sequence[Record]], losses: Sequence[float]) -> Table:
    """The best chain by each of the two costs, and what taking the one for the other costs, by data and loss.

    Values are means over the seeds that have all chains of the recording, on validation and test images.
    """
    rows = [_latency_row(name, records, loss) for name, records in recordings.items() for loss in losses]
    names = (
        *("data", "tolerated loss", "best by bit operations", "its times faster", "best by latency"),
        *("its times faster", "agreement", "seeds"),
    )
    return Table.of(
        "The best chain by bit operations and by latency",
        names,
        rows,
        left=("data",),
        note="Times faster than the float network, exported, in onnxruntime on one thread, in turns; means "
        "over seeds of the logarithm. Agreement: Kendall's tau between the two costs over all chains.",
    )


def _latency_row(name: str, records: Sequence[Record], loss: float) -> tuple[str, ...]:
    fewest, fastest, seeds = _by_both_costs(records, loss)
    best = (max(fewest, key=fewest.__getitem__), max(fastest, key=fastest.__getitem__))
    picks = [(chain, f"{2 ** fastest[chain]:.2f}") for chain in best]
    tau = kendall_tau(np.array([*fewest.values()]), np.array([*fastest.values()]))
    return name, loss_text(loss), *picks[0], *picks[1], f"{tau:+.2f}", str(seeds)


def _by_both_costs(
    records: Sequence[Record], loss: float
) -> tuple[dict[Order, float], dict[Order, float], int]:
    """The mean value of every chain by bit operations and by latency, and of how many seeds."""
    stages = max((record.order for record in records), key=len)
    letters = "".join(letter for letter in STAGES if letter in stages)
    tables = [
        chain_values(networks_of(records, letters, cost=cost), letters, loss=loss)
        for cost in ("bitops", "latency")
    ]
    complete = np.isfinite(tables[0].values).all(axis=0)
    bits, times = (
        dict(zip(table.orders, table.values[:, complete].mean(axis=1).tolist(), strict=True))
        for table in tables
    )
    return bits, times, int(complete.sum())


def latency_words(name: str, records: Sequence[Record], loss: float) -> str:
    """What the orders of all stages reach by each of the costs, and where the rival's stands."""
    fewest, fastest, _ = _by_both_costs(records, loss)
    stages = max(fastest, key=len)
    times = {order: fastest[order] for order in fastest if sorted(order) == sorted(stages)}
    words = (
        f"- {name}, {loss_text(loss)}: the {len(times)} orders of {', '.join(sorted(stages))} need "
        f"{_span([fewest[order] for order in times])} times fewer bit operations and are "
        f"{_span([*times.values()])} times faster"
    )
    if LATENCY_RIVAL not in times:
        return f"{words}."
    rank = 1 + sum(value > times[LATENCY_RIVAL] for value in times.values())
    return (
        f"{words}; {LATENCY_RIVAL}, the best of arXiv 2604.04988 by measured latency, is "
        f"{2 ** times[LATENCY_RIVAL]:.3g} times faster, rank {rank}."
    )


def _span(values: Sequence[float]) -> str:
    low, high = f"{2 ** min(values):.3g}", f"{2 ** max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def copies_section(recordings: Mapping[str, Sequence[Record]]) -> list[str]:
    """What cheaper copies of recorded tasks say of them, in sentences and a table each."""
    parts = [part for name, records in recordings.items() for part in _copies(name, records)]
    return ["## Cheaper copies", "", _COPIES_NOTE, "", *parts]


def _copies(name: str, records: Sequence[Record]) -> list[str]:
    """What cheaper copies of a recorded task say of it, in sentences and a table."""
    together = [*load_recorded(name), *records]
    findings = [finding.sentence for finding in PROXIES.decide(together).findings]
    return [*findings, "", *table_markdown(_copies_table(name, compare_all(together))), ""]


def _copies_table(name: str, compared: Sequence[Compared]) -> Table:
    """One row for each copy, with losses matched by the error of the baselines."""
    rows: dict[str, list[str]] = {}
    for copy in compared:
        if copy.rule == "error":
            start = [copy.proxy, f"{100 * copy.work:.3g} %", str(copy.seeds)]
            at = copy.chains
            row = rows.setdefault(copy.proxy, start)
            row += [f"{at.correlation:.2f} of {at.reliability:.2f}", f"{at.regret:+.2f} of {at.random:.2f}"]
    headings = [text for loss in SHOWN for text in (f"rank, {loss_text(loss)}", f"regret, {loss_text(loss)}")]
    columns = ("copy", "work", "seeds", *headings)
    return Table.of(
        f"Chains of {title(name)} on cheaper copies", columns, map(tuple, rows.values()), left=columns
    )


def races_section(recordings: Mapping[str, Recording]) -> list[str]:
    """What races of five stages and more say of the rules that put a chain first."""
    words = [line for name, recording in recordings.items() for line in race_words(name, recording)]
    table = table_markdown(rules_table(recordings))
    return ["## Stages that did not help to find the law", "", _RACED_NOTE, "", *table, "", *words, ""]


def rules_table(raced: Mapping[str, Recording]) -> Table:
    """Where the chains stand that rules put first, at a loss of 2 %, among all chains that were run."""
    rows = []
    for name, recording in raced.items():
        asked, predicted = recording.answer.asked, PREDICTED.get(name)
        rules = {
            "recommended": asked.recommended,
            "principle, pairs": predicted,
            "weaker first": recording.weaker,
        }
        for rule, chain in rules.items():
            standing = None if chain is None else asked.standings.get(chain)
            cells = ("never ran", "", "")
            if standing is not None:
                low, high = standing.interval
                cells = (f"{standing.behind:.2f}", f"[{low:.2f}, {high:.2f}]", str(standing.seeds))
            rows.append((title(name), rule, chain or LEFT_OUT, *cells))
    return Table.of(
        "What rules put first, among the chains that were run, where 2 % may be lost",
        ("race", "rule", "chain", "behind the best", "95 %", "seeds"),
        rows,
        left=("race", "rule", "chain"),
        note="Behind: in doublings. Weaker first: by what each stage alone loses in the same records.",
    )


def race_words(name: str, recording: Recording) -> list[str]:
    """What a race of many stages says of its best chain, and what each stage is worth."""
    asked = recording.answer.asked
    assert asked.regret is not None
    networks = sum(bool(record.points) for record in recording.records)
    worth = ", ".join(
        f"{stage} {behind.behind:.2f} [{behind.interval[0]:.2f}, {behind.interval[1]:.2f}]"
        for stage, behind in sorted(asked.worth.items(), key=lambda item: -item[1].behind)
    )
    return [
        f"- {title(name)}: {networks} networks of {len(asked.standings)} chains; {asked.recommended} is "
        f"expected {asked.regret.expected:.2f} doublings behind the best chain, at most "
        f"{asked.regret.upper95:.2f} with 95 %; {len(asked.best_set)} chains may be the best.",
        f"- Leaving a stage out costs, in doublings: {worth}.",
    ]


_JOINT_NOTE = """Only P and E, in both orders. Heads that are trained alone, on a frozen body, are tuned
together with it by every later stage: an early E is trained for longer than a late one. Trained jointly with
the body at once, what is left of the lead of an early E is due to the order itself."""


_LATENCY_NOTE = """D, P and Q, all orders and their prefixes, each exported and timed (`cost = "latency"`).
In onnxruntime a multiplication of 4 by 8 bits takes as long as one of 8 by 8, and a layer takes time that no
bit operation tells, so the reductions by latency are far smaller than those by bit operations. Orders of the
same stages end in networks of one shape: their times differ by what measuring leaves and by the channels that
P takes, so where all keep the accuracy, latency does not tell them apart. In arXiv 2604.04988 D is a recovery
of the same network, here it is a smaller student."""


_COPIES_NOTE = """All chains of D, P, Q and E on copies of the task with a share of its epochs, images,
channels or pixels, beside the recording of the task itself (`ordercomp study proxies`). Rank: correlation of
the chains' mean values with those on the task, beside that of two halves of the task's own seeds, the most to
be had. Regret: what the chain that is best on the copy gives away on the task, in doublings, beside a chain
at random among those that reach the loss. Tolerated losses are matched by the baselines' errors: where the
copy's baseline errs twice as often, twice the loss is tolerated."""


_RACED_NOTE = """Races with stages that the paper and its law do not know: L (low rank), U (unstructured
sparsity), S (blocks skipped image by image). What rules say was [written down before](predictions.md)."""
