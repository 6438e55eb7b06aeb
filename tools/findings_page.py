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

from ordercomp.analysis.answer import Answer, AnswerAt, derive_answer
from ordercomp.analysis.batches import one_batch
from ordercomp.analysis.checks import weaker_first
from ordercomp.analysis.report.plots import loss_plot, to_svg
from ordercomp.analysis.report.tables import Table, loss_text
from ordercomp.analysis.report.text import answer_words, cost_text, where_it_changes
from ordercomp.analysis.run_table import CONTROL, RunTable
from ordercomp.files import replace_file
from ordercomp.jobs.recordings import load_recorded, recorded_names
from ordercomp.records import Record
from ordercomp.sequence import Order
from ordercomp.studies.experiment import Conclusion, Finding
from ordercomp.studies.results import table_markdown
from ordercomp.studies.run import EXPERIMENTS
from tools.findings_sections import (
    LEFT_OUT,
    SHOWN,
    STAGES,
    Recording,
    copies_section,
    exits_section,
    latency_section,
    races_section,
    title,
)

ROOT = Path(__file__).parents[1]
JUDGED = ("single", "pairwise", "insertion", "combination", "exhaustive", "rivals")  # experiments
NOT_BENCHMARKS = ("digits-grid",)  # one seed: for studies of samplers
JOINT = "exits-"  # recordings of P and E alone begin so
TIMED = "latency-"  # and those that hold the latency of each network
MANY = "stages-"  # and races of five stages and more
COPIES = "proxies-"  # and those of cheaper copies of a task

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
        picture = f"figures/findings-{recording.name}.svg"
        blocks += [
            f"## The law on {title(recording.name)}",
            "",
            f"![values of all orders by tolerated loss]({picture})",
            "",
        ]
        blocks += [*table_markdown(_law_table(recording)), "", *_sentences(recording), ""]
    blocks += ["## The paper's experiments", "", _RULE_NOTE, ""]
    by_title = {title(recording.name): recording.records for recording in recordings}
    for name in JUDGED:
        heading = f"{name}: {EXPERIMENTS[name].question}"
        blocks += [*table_markdown(verdict_table(heading, EXPERIMENTS[name].decide, by_title)), ""]
    blocks += exits_section(exits)
    if timed:
        blocks += latency_section(timed)
    if copies:
        blocks += copies_section(copies)
    if raced:
        blocks += races_section(raced)
    blocks += ["## What stays open", "", *_open(recordings), "", _LIMITS]
    return "\n".join(blocks).rstrip("\n") + "\n"


def _in_short(recording: Recording) -> str:
    """The answer at the loss that is asked for by default, in sentences."""
    words = answer_words(recording.answer.asked, STAGES)
    return f"- {title(recording.name)}: {' '.join(words.lines)}"


def _data_table(recordings: Sequence[Recording]) -> Table:
    rows = []
    for recording in recordings:
        measured = [record for record in recording.records if record.points]
        seeds = {record.seed for record in measured}
        accuracies = {record.seed: record.baseline for record in measured}.values()
        rows.append(
            (
                title(recording.name),
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
    columns = ("claim", "whose", *(title(recording.name) for recording in recordings))
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
        f"{title(recording.name)}: by loss over all knob settings, then each setting alone",
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
        f"- {title(recording.name)}, {loss_text(loss)}: {_told_apart(recording.at(loss))}"
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


_HEAD = """# Findings

What the recorded runs that ship with this package say about the order of D (distill), P (prune), Q (quantize)
and E (early exits). This page is made from the records alone, nothing in it is typed in:
`python tools/findings_page.py`.
The value of an order at a seed is the log2 reduction of bit operations that its networks reach at a tolerated
loss of accuracy ([evidence.md](evidence.md)).
"""


_CLAIMS_NOTE = """*holds*: every order that may be best (95 %) agrees; *fails*: none does; *open*: some do. In
brackets the probability that the best order agrees, and what the best such order should cost beyond the
recommended one, in doublings (0.1 is 7 % more bit operations, 1 is twice as many)."""


_RULE_NOTE = """Judged by the experiments' own rules on the same records (`ordercomp study` runs them anew).
Effects are in doublings of their value with 95 % intervals, positive where they speak for the claim."""


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
