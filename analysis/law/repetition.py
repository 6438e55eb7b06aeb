"""Repetition: is a stage worth applying twice, rather than once but harder, or once more after the law?"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.evidence.judge import Outcome, Rules, estimate_all, judge_alone
from ordercomp.analysis.evidence.units import Run, parsed
from ordercomp.analysis.fronts.readouts import Measured
from ordercomp.analysis.statistics import Estimate, row_scores
from ordercomp.codec import FLAT
from ordercomp.sequence import Order, StageSequence

FloatArray = npt.NDArray[np.float64]
BySeed = Mapping[int, Measured]


@dataclass(frozen=True, slots=True)
class Repetition:
    """A stage once more, against doing without: once but harder, or the law alone."""

    stage: str
    twice: str  # order or sequence with the repeat
    once: str  # what it is compared with
    outcome: Outcome  # of the claim that the repeat gains nothing beyond the margin
    seeds: int
    sentence: str
    effect: Estimate = field(metadata=FLAT)  # gain of the repeat, in doublings


def check_repetitions(
    runs: Mapping[Run, Measured],
    law: Order,
    *,
    suggested: Mapping[int, Order],
    rules: Rules,
    bound: float,
) -> list[Repetition]:
    """Test what a repeated stage gains: XX against X once but harder, and the law followed by X again.

    Args:
        runs: measured runs by accounting, sequence and seed.
        law: the order that is said to gain nothing by a further stage.
        suggested: for each seed to test it at, the order that seeds apart from this one suggest.
        rules: margin, interval level, fewest seeds.
        bound: largest difference of value that is possible, log2 units.

    The harder X is that of `closest_harder`; its reduction has to come as close as the margin, or the
    comparison would be one of reductions. Compared are the validation values, paired by seed. The claim that
    the repeat gains nothing is judged as "not better", each by itself. Where there is nothing to compare
    with, it is undecided; where nothing was repeated, nothing is said.
    """
    by_text: dict[tuple[str, str], dict[int, Measured]] = defaultdict(dict)
    for (accounting, text, seed), measured in sorted(runs.items()):
        by_text[accounting, text][seed] = measured
    cases: dict[_Repeat, list[Mapping[int, float]]] = defaultdict(list)
    for accounting, text in by_text:
        order = parsed(text).order
        if len(order) == 2 and order[0] == order[1]:
            repeat, gains = _harder_once(by_text, accounting, text, rules.margin)
            cases[repeat].append(gains)
        elif len(order) == len(law) + 1 and set(order[:-1]) == set(law) and order[-1] in law:
            repeat, gains = _law_and_more(by_text, accounting, text, law, suggested)
            cases[repeat].append(gains)
    scores = {repeat: _scores(columns) for repeat, columns in cases.items()}
    effects = estimate_all([rows for _, rows in scores.values()], rules=rules, bound=bound)
    return [
        _repetition(repeat, effect, seeds, rules)
        for (repeat, (seeds, _)), effect in zip(scores.items(), effects, strict=True)
    ]


def closest_harder(twice: float, first: float, singles: Mapping[str, float], *, last: str) -> str | None:
    """The single stage that reduces most nearly what the stage twice does; None if none is harder than once.

    All are log2 reductions: of the stage twice, of the first of the two alone (NaN if unknown) and of the
    single stages by their text. One that is nearer to the first alone than to both is not harder. A tie goes
    to `last`, the text of the second of the two, then to the earlier text.
    """
    harder = {text: one for text, one in singles.items() if not one < (first + twice) / 2}
    return min(harder, key=lambda text: (abs(harder[text] - twice), text != last, text), default=None)


@dataclass(frozen=True, slots=True)
class _Repeat:
    """What is compared, and why it cannot be where no seed can compare it."""

    stage: str
    twice: str
    once: str
    missing: str


def _harder_once(
    by_text: Mapping[tuple[str, str], BySeed], accounting: str, text: str, margin: float
) -> tuple[_Repeat, Mapping[int, float]]:
    """Compare with the harder single stage of the closest reduction, if that is close enough."""
    (first, last), twice = parsed(text).steps, by_text[accounting, text]
    wanted, floor = _reduction(twice), _reduction(by_text.get((accounting, str(first)), {}))
    singles = {
        other: _reduction(measured)
        for (mode, other), measured in by_text.items()
        if mode == accounting and other != str(first) and parsed(other).order == first.stage
    }
    closest = closest_harder(wanted, floor, singles, last=str(last))
    if closest is None:
        once = f"a harder {first.stage}"
        return _Repeat(first.stage, text, once, f"there are no records of {once}"), {}
    apart = abs(singles[closest] - wanted)
    if apart > margin:
        missing = f"their reductions are {apart:.2f} doublings apart"
        return _Repeat(first.stage, text, closest, missing), {}
    repeat = _Repeat(first.stage, text, closest, "they share no seed")
    return repeat, _gains(twice, by_text[accounting, closest])


def _law_and_more(
    by_text: Mapping[tuple[str, str], BySeed],
    accounting: str,
    text: str,
    law: Order,
    suggested: Mapping[int, Order],
) -> tuple[_Repeat, Mapping[int, float]]:
    """Compare the law and one more stage with the law, where a seed may verify it."""
    order, prefix = parsed(text).order, str(StageSequence(parsed(text).steps[:-1]))
    more = law + order[-1]
    repeat = _Repeat(order[-1], more, law, f"there are no records of {more} at seeds that may verify {law}")
    if order != more:
        return repeat, {}
    twice = {seed: one for seed, one in by_text[accounting, text].items() if suggested.get(seed) == law}
    return repeat, _gains(twice, by_text.get((accounting, prefix), {}))


def _reduction(measured: BySeed) -> float:
    """Mean log2 reduction of bit operations, at the end of the network or the best exit."""
    reached = [max(math.log2(point.bitops_cr) for point in one.record.points) for one in measured.values()]
    return float(np.mean(reached)) if reached else float("nan")


def _gains(twice: BySeed, once: BySeed) -> dict[int, float]:
    return {seed: twice[seed].value - once[seed].value for seed in sorted(twice.keys() & once.keys())}


def _scores(columns: Sequence[Mapping[int, float]]) -> tuple[list[int], FloatArray]:
    """The seeds that have any number, and the mean of each."""
    seeds = sorted({seed for column in columns for seed in column})
    table = np.array([[column.get(seed, np.nan) for column in columns] for seed in seeds])
    return seeds, row_scores(table.reshape(len(seeds), len(columns)))


def _repetition(repeat: _Repeat, effect: Estimate, seeds: Sequence[int], rules: Rules) -> Repetition:
    outcome = judge_alone("not better", effect, len(seeds), rules=rules).outcome
    reason = repeat.missing
    if seeds:
        numbers = f"{effect.mean:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]"
        reason = f"{numbers} doublings at seeds {', '.join(map(str, seeds))}"
    return Repetition(
        stage=repeat.stage,
        twice=repeat.twice,
        once=repeat.once,
        effect=effect,
        seeds=len(seeds),
        outcome=outcome,
        sentence=f"That {repeat.twice} gains nothing over {repeat.once} {outcome}: {reason}.",
    )
