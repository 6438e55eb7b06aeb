"""Findings: what the recorded runs say about the order of compression, one page made from records alone.

    python tools/findings_page.py           # writes docs/findings.md and its figures, in about two minutes
    python tools/findings_page.py out/page.md

Each recording gets its answer at every tolerated loss; claims are read off these answers, and what no answer
tells is listed as open.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np

from ordercomp.analysis.answer import Answer, AnswerAt, derive_answer
from ordercomp.analysis.batches import one_batch
from ordercomp.analysis.checks import weaker_first
from ordercomp.analysis.report.plots import loss_plot, to_svg
from ordercomp.analysis.report.tables import Table, loss_text
from ordercomp.analysis.report.text import answer_words, cost_text, where_it_changes
from ordercomp.analysis.run_table import CONTROL, RunTable
from ordercomp.analysis.statistics import interval_alone, kendall_tau
from ordercomp.analysis.values import chain_values, networks_of, order_values
from ordercomp.files import replace_file
from ordercomp.jobs.recordings import load_recorded, recorded_names
from ordercomp.records import Record
from ordercomp.sequence import Order
from ordercomp.studies.experiment import Conclusion, Finding
from ordercomp.studies.proxies import EXPERIMENT as PROXIES
from ordercomp.studies.proxies import Compared, compare_all
from ordercomp.studies.results import table_markdown
from ordercomp.studies.run import EXPERIMENTS

ROOT = Path(__file__).parents[1]
STAGES: Order = "DPQE"
JUDGED = ("single", "pairwise", "insertion", "combination", "exhaustive", "rivals")  # experiments
SHOWN = (0.01, 0.02, 0.05)  # losses at which claims are read
TITLES = {
    "cifar10": "CIFAR-10 (JPEG copies)",
    "fashion-mnist": "Fashion-MNIST",
    "fashion-mnist-raced": "Fashion-MNIST, raced",
}
NOT_BENCHMARKS = ("digits-grid",)  # one seed: for studies of samplers
JOINT = "exits-"  # recordings of P and E alone begin so
TIMED = "latency-"  # and those that hold the latency of each network
LATENCY_RIVAL = "PQD"  # what arXiv 2604.04988 proposes, there with D as recovery
MANY = "stages-"  # and races of five stages and more
PREDICTED = {
    "stages-digits": "DPUQSE",
    "stages-fashion-mnist": "DLPQE",
}  # docs/predictions.md, before the runs
COPIES = "proxies-"  # and those of cheaper copies of a task

LEFT_OUT = "-"  # where nothing can be told or was decided
LEAST_REGRET = 0.02  # doublings that an order taken at random costs, where there is something to tell


@dataclass(frozen=True, slots=True)
class OrderClaim:
    """A statement about the best order, and which orders agree with it."""

    text: str
    who: str
    agrees: Callable[[Order], bool]


def before(*letters: str) -> Callable[[Order], bool]:
    """Whether an order has these stages in this order."""

    def agrees(order: Order) -> bool:
        places = [order.index(letter) for letter in letters]
        return places == sorted(places)

    return agrees


def is_order(only: Order | None) -> Callable[[Order], bool]:
    """Whether an order is that one; None is no order's."""
    return lambda order: order == only


CLAIMS: tuple[OrderClaim, ...] = (
    OrderClaim("D → P → Q → E is the best order", "the source paper's law", is_order("DPQE")),
    OrderClaim("D before P", "the source paper", before("D", "P")),
    OrderClaim("D before Q", "the source paper", before("D", "Q")),
    OrderClaim("P before Q", "the source paper; most pipelines", before("P", "Q")),
    OrderClaim("E last", "the source paper: static before dynamic", lambda order: order[-1] == "E"),
    OrderClaim("P → Q → D", "a rival: distillation as recovery", before("P", "Q", "D")),
)


@dataclass(frozen=True, slots=True)
class ClaimReading:
    """How a claim stands at one loss."""

    verdict: str  # "holds", "fails", "open", or "-" where nothing can be told
    probability: float = 0.0  # that the best order agrees with the claim
    cost: float = 0.0  # expected doublings of the best order in it beyond the recommended one

    def __str__(self) -> str:
        if self.verdict == LEFT_OUT:
            return LEFT_OUT
        cost = "" if self.cost < 0.005 else f", costs {self.cost:.2f}"
        return f"{self.verdict} ({self.probability:.2f}{cost})"


def is_told(answer: AnswerAt) -> bool:
    """Whether an answer tells orders apart: not where no network loses so little, and all values are 0."""
    regret = answer.regret
    return answer.recommended is not None and regret is not None and regret.random_order >= LEAST_REGRET


def read_claim(claim: OrderClaim, answer: AnswerAt) -> ClaimReading:
    """Read a claim about orders of all stages off the answer at one loss."""
    answer = answer.all_stages or answer
    if not is_told(answer):
        return ClaimReading(LEFT_OUT)
    agreeing = [order for order in answer.standings if claim.agrees(order)]
    if not agreeing:
        return ClaimReading(LEFT_OUT)
    inside = [order for order in answer.best_set if claim.agrees(order)]
    verdict = "open" if 0 < len(inside) < len(answer.best_set) else "holds" if inside else "fails"
    probability = sum(answer.standings[order].probability_best for order in agreeing)
    regret = answer.regret.expected if answer.regret else 0.0
    cost = min(answer.standings[order].behind for order in agreeing)
    return ClaimReading(verdict, probability, max(0.0, cost - regret))


# Why exits come early: P and E in both orders, with heads alone and trained jointly with the body.
#
# Heads that stand on a frozen body are tuned together with it by every later stage, so an early E is trained
# for longer than a late one. Trained jointly at once, only the order itself is left of the difference.


PAIR, EARLY, LATE = "PE", "EP", "PE"
JOINTLY = "train=joint"
MOST = 16.0  # doublings within which an interval is told


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


# Where milliseconds count: the same chains by bit operations and by the latency of the exported networks.


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


# The claims of the paper's experiments beside each other on several data sets, by the one decision rule.


def verdict_table(
    title: str, decide: Callable[[Sequence[Record]], Conclusion], recordings: Mapping[str, Sequence[Record]]
) -> Table:
    """One row for each claim that is judged on any of the recordings, one column for each recording.

    A cell holds the verdict, with the effect in doublings and its interval where the claim is about one.
    """
    by_claim: dict[str, dict[str, Finding]] = {}
    for name, records in recordings.items():
        for finding in decide(records).findings:
            by_claim.setdefault(finding.claim, {})[name] = finding
    rows = [
        (claim, *(_cell(by_name[name]) if name in by_name else LEFT_OUT for name in recordings))
        for claim, by_name in by_claim.items()
    ]
    columns = ("claim", *recordings)
    return Table.of(title, columns, rows, left=columns)


def _cell(finding: Finding) -> str:
    if finding.effect is None:
        return finding.verdict
    if finding.interval is None:
        return f"{finding.verdict}, {finding.effect:+.2f}"
    low, high = finding.interval
    return f"{finding.verdict}, {finding.effect:+.2f} [{low:+.2f}, {high:+.2f}]"


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
            rows.append((_title(name), rule, chain or LEFT_OUT, *cells))
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
        f"- {_title(name)}: {networks} networks of {len(asked.standings)} chains; {asked.recommended} is "
        f"expected {asked.regret.expected:.2f} doublings behind the best chain, at most "
        f"{asked.regret.upper95:.2f} with 95 %; {len(asked.best_set)} chains may be the best.",
        f"- Leaving a stage out costs, in doublings: {worth}.",
    ]


def findings_page(
    recordings: Sequence[Recording],
    exits: Mapping[str, Sequence[Record]],
    timed: Mapping[str, Sequence[Record]],
    copies: Mapping[str, Sequence[Record]],
    raced: Mapping[str, Recording],
) -> str:
    """The whole page in Markdown.

    `exits` holds records of P and E alone, `timed` those with latency, `copies` those of cheaper copies,
    `raced` those of five stages and more.
    """
    blocks = [
        _HEAD,
        "## In short",
        "",
        *map(_in_short, recordings),
        "",
        *table_markdown(_data_table(recordings)),
        "",
    ]
    blocks += ["## The claims", "", _CLAIMS_NOTE, ""]
    for loss in SHOWN:
        blocks += [*table_markdown(_claim_table(recordings, loss)), ""]
    for recording in recordings:
        title, picture = _title(recording.name), f"figures/findings-{recording.name}.svg"
        blocks += [f"## The law on {title}", "", f"![values of all orders by tolerated loss]({picture})", ""]
        blocks += [*table_markdown(_law_table(recording)), "", *_sentences(recording), ""]
    blocks += ["## The paper's experiments", "", _RULE_NOTE, ""]
    by_title = {_title(recording.name): recording.records for recording in recordings}
    for name in JUDGED:
        title = f"{name}: {EXPERIMENTS[name].question}"
        blocks += [*table_markdown(verdict_table(title, EXPERIMENTS[name].decide, by_title)), ""]
    titled = {_title(name): records for name, records in exits.items()}
    blocks += [
        "## Why exits come early",
        "",
        _JOINT_NOTE,
        "",
        *table_markdown(joint_table(titled, SHOWN)),
        "",
    ]
    if timed:
        named = {_title(name): records for name, records in timed.items()}
        table = table_markdown(latency_table(named, SHOWN))
        words = [latency_words(name, records, loss) for name, records in named.items() for loss in SHOWN]
        blocks += ["## Where milliseconds count", "", _LATENCY_NOTE, "", *table, "", *words, ""]
    if copies:
        blocks += ["## Cheaper copies", "", _COPIES_NOTE, ""]
        for name, records in copies.items():
            blocks += _copies(name, records)
    if raced:
        words = [line for name, recording in raced.items() for line in race_words(name, recording)]
        blocks += ["## Stages that did not help to find the law", "", _RACED_NOTE, ""]
        blocks += [*table_markdown(rules_table(raced)), "", *words, ""]
    blocks += ["## What stays open", "", *_open(recordings), "", _LIMITS]
    return "\n".join(blocks).rstrip("\n") + "\n"


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
        f"Chains of {_title(name)} on cheaper copies", columns, map(tuple, rows.values()), left=columns
    )


def _in_short(recording: Recording) -> str:
    """The answer at the loss that is asked for by default, in sentences."""
    words = answer_words(recording.answer.asked, STAGES)
    return f"- {_title(recording.name)}: {' '.join(words.lines)}"


def _data_table(recordings: Sequence[Recording]) -> Table:
    rows = []
    for recording in recordings:
        measured = [record for record in recording.records if record.points]
        seeds = {record.seed for record in measured}
        accuracies = {record.seed: record.baseline for record in measured}.values()
        rows.append(
            (
                _title(recording.name),
                str(len(seeds)),
                str(len(recording.records)),
                f"{100 * mean(baseline.accuracy for baseline in accuracies):.1f} %",
                f"{100 * mean(baseline.test_accuracy for baseline in accuracies):.1f} %",
                "; ".join(sorted({str(record.extra.get("hardware")) for record in measured})),
                ", ".join(sorted({str(record.extra.get("precision")) for record in measured})),
            )
        )
    names = ("data", "seeds", "records", "baseline, validation", "test", "hardware", "precision")
    return Table.of("What was measured", names, rows, left=("data", "hardware", "precision"))


def _claim_table(recordings: Sequence[Recording], loss: float) -> Table:
    columns = ("claim", "whose", *(_title(recording.name) for recording in recordings))
    rows = [
        (claim.text, claim.who, *(str(read_claim(claim, recording.at(loss))) for recording in recordings))
        for claim in CLAIMS
    ]
    own = []
    for recording in recordings:
        weaker = OrderClaim(recording.weaker or "None", "", is_order(recording.weaker))
        own.append(f"{weaker.text}: {read_claim(weaker, recording.at(loss))}")
    rows.append(("weaker first", "a rival: by the loss of each stage alone", *own))
    return Table.of(f"Where {loss_text(loss)} may be lost", columns, rows, left=columns)


def _law_table(recording: Recording) -> Table:
    names = (
        "tolerated loss",
        "take",
        "may be best",
        "expected regret",
        "95 %",
        "random order",
        "spread",
        "p",
    )
    rows = [_law_row(loss_text(entry.loss or 0.0), entry) for entry in recording.answer.by_loss]
    rows += [
        _law_row(f"{entry.setting}, {loss_text(entry.loss or 0.0)}", entry)
        for entry in recording.answer.by_setting
    ]
    return Table.of(
        f"{_title(recording.name)}: by loss over all knob settings, then each setting alone",
        names,
        rows,
        left=names[:3],
        note="Regret and spread in doublings of bit operations; p: that the order does not matter.",
    )


def _law_row(name: str, entry: AnswerAt) -> tuple[str, ...]:
    if entry.seeds_needed:
        return (name, LEFT_OUT, f"it takes {entry.seeds_needed} seeds", *[LEFT_OUT] * 5)
    if entry.recommended is None or entry.regret is None or not is_told(entry):
        return (name, LEFT_OUT, "hardly any network loses so little", *[LEFT_OUT] * 5)
    inside = list(entry.best_set)
    named = ", ".join(inside[:6]) + (
        f", … ({len(inside)} of {len(entry.standings)})" if len(inside) > 6 else ""
    )
    regret, matters = entry.regret, entry.order_matters
    return (
        name,
        entry.recommended,
        named,
        f"{regret.expected:.2f}",
        f"{regret.upper95:.2f}",
        f"{regret.random_order:.2f}",
        *((LEFT_OUT, LEFT_OUT) if matters is None else (f"{matters.spread:.1f}", f"{matters.p:.2g}")),
    )


def _sentences(recording: Recording) -> list[str]:
    """Where the recommendation changes, and which precedences hold at which losses."""
    lines = [f"- {recording.answer.batches}"] if recording.answer.batches else []
    if changes := where_it_changes([entry for entry in recording.answer.by_loss if is_told(entry)]):
        lines.append(f"- {changes}")
    held: dict[tuple[str, str], list[str]] = {}
    for entry in recording.answer.by_loss:
        for pair in entry.precedence:
            held.setdefault(pair, []).append(loss_text(entry.loss or 0.0))
    for (first, second), losses in sorted(held.items(), key=lambda item: -len(item[1])):
        lines.append(f"- {first} before {second} in every order that may be best at {', '.join(losses)}.")
    flips = [pair for pair in held if pair[::-1] in held and pair < pair[::-1]]
    for first, second in flips:
        lines.append(f"- {first} and {second} change places with the tolerated loss.")
    asked = recording.answer.asked
    if asked.regret is not None:
        blind = cost_text(asked.regret.random_order)
        lines.append(
            f"- At {loss_text(asked.loss or 0.0)} an order taken at random needs {blind} bit operations."
        )
    return lines


def _open(recordings: Sequence[Recording]) -> list[str]:
    """The orders that cannot be told apart, and about how many seeds it would take."""
    return [
        f"- {_title(recording.name)}, {loss_text(loss)}: {_told_apart(recording.at(loss))}"
        for recording in recordings
        for loss in SHOWN
    ]


def _told_apart(entry: AnswerAt) -> str:
    """How many rivals there are and what it takes to exclude the last and the nearest of them."""
    if not is_told(entry):
        return "nothing can be told."
    rivals = [order for order in entry.best_set if order != entry.recommended]
    if not rivals:
        return f"{entry.recommended} alone is left."
    needed = []
    for order in rivals:
        standing = entry.standings[order]
        half = max(0.0, standing.interval[1] - standing.behind)
        share = half / max(standing.behind, 1e-9)
        needed.append((standing.seeds * max(1.0, share**2) + 1, order))
    (fewest, easy), (most, hard) = min(needed), max(needed)
    ends = f", {hard} some {_round(most)}" if most < 200 else f", {hard} more than 200, a tie in practice"
    return (
        f"{len(rivals)} beside {entry.recommended} may be best; to exclude {easy} would take some "
        f"{_round(fewest)} seeds{ends if hard != easy else ''}."
    )


def _round(seeds: float) -> str:
    return f"{seeds:.0f}" if seeds < 20 else f"{round(seeds, -1):.0f}"


def _title(name: str) -> str:
    return TITLES.get(name, name)


_HEAD = """# Findings

What the recorded runs that ship with this package say about the order of D (distill), P (prune), Q (quantize)
and E (early exits). This page is made from the records alone, nothing in it is typed in:
`python tools/findings_page.py`.
The value of an order at a seed is the log2 reduction of bit operations that its networks reach at a tolerated
loss of accuracy ([evidence.md](evidence.md)).
"""


_RACED_NOTE = """Races with stages that the paper and its law do not know: L (low rank), U (unstructured
sparsity), S (blocks skipped image by image). What rules say was [written down before](predictions.md)."""


_CLAIMS_NOTE = """*holds*: every order that may be best (95 %) agrees; *fails*: none does; *open*: some do. In
brackets the probability that the best order agrees, and what the best such order should cost beyond the
recommended one, in doublings (0.1 is 7 % more bit operations, 1 is twice as many)."""


_RULE_NOTE = """Judged by the experiments' own rules on the same records (`ordercomp study` runs them anew).
Effects are in doublings of their value with 95 % intervals, positive where they speak for the claim."""


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


_LIMITS = """## Limits

- Small residual networks and images of 8x8 to 32x32 pixels; one recipe of training for each data set. The
  paper has ResNet-34 at 200 epochs a stage. A law told here is one about this size.
- CIFAR-10 is read from JPEG copies of quality 75, not from the original files.
- The two recordings of Fashion-MNIST were made with different states of the code; they stand apart. The
  raced one holds two batches, of which the larger is told: four seeds of all orders, on a GPU in bfloat16.
- Knobs are those of the two or three settings; a law may change beyond them, as it changes between them.
- E trains heads on a frozen body. An early E is tuned together with the body by every later stage, a late one
  never: part of what E gains by coming early is joint tuning.
- The numbers of seeds above are rough: they take intervals to shrink with the root of their number.
"""


def main(target: Path) -> None:
    """Read all recordings and write the page to `target`, and its pictures into `figures` beside it."""
    others = (JOINT, TIMED, COPIES, MANY)
    names = recorded_names()
    benchmarks = [name for name in names if name not in NOT_BENCHMARKS and not name.startswith(others)]
    recordings = [_answered(name) for name in benchmarks]
    exits, timed, copies = (
        {name.removeprefix(kind): load_recorded(name) for name in names if name.startswith(kind)}
        for kind in (JOINT, TIMED, COPIES)
    )
    (target.parent / "figures").mkdir(parents=True, exist_ok=True)
    for recording in recordings:
        picture = to_svg(loss_plot(_curves(recording.answer)))
        replace_file(target.parent / "figures" / f"findings-{recording.name}.svg", picture)
    raced = {name: _answered(name, stages="") for name in names if name.startswith(MANY)}
    replace_file(target, findings_page(recordings, exits, timed, copies, raced))


def _answered(name: str, stages: Order = STAGES) -> Recording:
    records, batches = one_batch(load_recorded(name))
    held = {letter for record in records for letter in record.order}
    stages = stages or "".join(sorted(held - {CONTROL}))
    table = RunTable.of(records, stages=stages)
    answer = derive_answer(records, stages=stages)
    answer = replace(answer, batches=batches)
    return Recording(name=name, records=records, answer=answer, weaker=weaker_first(table))


def _curves(answer: Answer) -> Mapping[Order, list[tuple[float, float]]]:
    """Each order's value by loss, where it can be told."""
    curves: dict[Order, list[tuple[float, float]]] = {}
    for entry in answer.by_loss:
        for order, standing in entry.standings.items():
            curves.setdefault(order, []).append((entry.loss or 0.0, standing.value))
    return curves


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", nargs="?", type=Path, default=ROOT / "docs" / "findings.md")
    main(parser.parse_args().target)
