"""Answers and laws in plain sentences: the order, its cost, which are out, what holds anyway, how surely."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

from ordercomp.analysis.answer import Answer, AnswerAt
from ordercomp.analysis.convergence import Control
from ordercomp.analysis.law import Law
from ordercomp.analysis.networks import Pick
from ordercomp.analysis.precedence import MOST_EXTENSIONS
from ordercomp.analysis.report.tables import (
    interval_text,
    listed,
    loss_text,
    percent_text,
    points_text,
    probability_text,
    times_text,
)
from ordercomp.sequence import Order

MOST_NAMED = 8  # orders of a best set listed by name
MOST_LISTED = 6  # orders that respect the decided pairs listed by name
COST_UNITS = {
    "bitops": "bit operations",
    "storage": "bits of storage",
    "macs": "multiplications",
    "latency": "milliseconds",
    "cost": "units of the cost",  # of a table that does not say which
}
NOTHING = 0.1  # doublings that a stage must be able to gain, to be worth its training
NEAR = 0.1  # share of the way from guessing to all right, up to which a network has learned nothing
LEAST_SHARE = 0.005  # of the values, that is told
LITTLE = 0.005  # doublings that nobody can tell from none
STAGE_NAMES: Mapping[str, str] = {
    "D": "distill",
    "P": "prune",
    "Q": "quantize",
    "E": "add early exits",
    "F": "fine-tune",
    "K": "recover by distillation",
    "L": "low-rank",
    "S": "skip layers",
    "U": "sparsify",
    "W": "share weights",
    "H": "entropy-code",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWords:
    """What an answer says at one tolerated loss, a sentence each; empty where there is nothing to say."""

    headline: str
    cost: str
    out: str
    holds: str
    worth: str = ""  # of each stage
    together: str = ""  # the order of all stages
    road: str = ""  # the decided pairs, and where the orders that keep them stand
    doubt: str = ""  # what the sampler leaves in doubt
    batches: str = ""  # which records were left out
    prior: str = ""  # what else spoke

    @property
    def lines(self) -> tuple[str, ...]:
        """The sentences in order, the empty ones left out."""
        return tuple(part for part in astuple(self) if part)


def answer_words(
    answer: Answer | AnswerAt, stages: str, *, metric: str = "accuracy", cost: str = "bitops"
) -> AnswerWords:
    """Put an answer, or what it says at one loss or for one setting, into words.

    `metric` names what is lost, `cost` what a reduction is of; an `Answer` knows both.
    """
    if isinstance(answer, Answer):
        words = _words(answer.asked, stages, answer.metric, answer.cost, answer.withheld)
        return replace(words, batches=answer.batches, prior=prior_words(answer))
    return _words(answer, stages, metric, cost)


def prior_words(answer: Answer) -> str:
    """Say which recorded tasks were heard; empty where none was."""
    if not answer.prior:
        return ""
    names = " and ".join(answer.prior)
    return f"What was recorded on {names} is a hint of what each chain is worth; the runs here weigh it."


def _words(answer: AnswerAt, stages: str, metric: str, cost: str, withheld: str = "") -> AnswerWords:
    loss = "" if answer.loss is None else loss_text(answer.loss)
    if answer.recommended is None or answer.regret is None:
        return AnswerWords(headline=_no_answer(answer, loss, withheld), cost="", out="", holds="")
    of_what = "" if metric == "accuracy" else f" of {metric}"
    tolerated = f" if a loss of {loss}{of_what} is tolerated" if loss else ""
    rivals = len(answer.best_set) - (answer.recommended in answer.best_set)
    doubt = "" if not rivals else f"; {rivals} other{'s' if rivals > 1 else ''} may be as good"
    return AnswerWords(
        headline=f"Take {' → '.join(answer.recommended)}{tolerated}{doubt}.",
        cost=_cost(answer, cost),
        out=_excluded(answer),
        holds=_precedences(answer, stages),
        worth=_worth(answer, cost),
        together=_together(answer, stages, cost),
        road=_road(answer),
        doubt=_doubt(answer),
    )


def cost_text(doublings: float) -> str:
    """Say what so many doublings more are: "about 9 % more", "about 5 times as many"."""
    if doublings < LITTLE:
        return "no more"
    factor = 2.0 ** min(doublings, 1000.0)
    if factor < 1.995:
        return f"about {max(1.0, round(100 * (factor - 1))):.0f} % more"
    return f"about {factor:.2g} times as many" if factor < 100 else f"about {factor:.0f} times as many"


def where_it_changes(by_loss: Sequence[AnswerAt]) -> str:
    """Say at which tolerated losses the best changes; empty if fewer than two losses have a recommendation.

    It changes where the chains that may be best have none in common with those that were it before: another
    recommendation out of the same set is noise.
    """
    recommending = [entry for entry in by_loss if entry.recommended]
    if len(recommending) < 2:
        return ""
    blind = [loss_text(entry.loss or 0.0) for entry in recommending if not entry.excluded]
    remark = f" At {listed(blind)} nothing is out." if blind else ""
    first, last = loss_text(recommending[0].loss or 0.0), loss_text(recommending[-1].loss or 0.0)
    current, changes = recommending[0], []
    for entry in recommending[1:]:
        if not set(entry.best_set) & set(current.best_set):
            current = entry
            changes.append(f"{entry.recommended} from {loss_text(entry.loss or 0.0)} on")
    if not changes:
        return f"From a tolerated loss of {first} to {last} the sets that may be best overlap.{remark}"
    return f"At a tolerated loss of {first} take {recommending[0].recommended}, {', '.join(changes)}.{remark}"


def baseline_words(answer: Answer) -> str:
    """Say what the uncompressed network reaches, with a warning near guessing; empty if unknown."""
    if answer.baseline is None:
        return ""
    baseline = percent_text(answer.baseline)
    sentence = f"Uncompressed it reaches {baseline} {answer.metric} on test data, mean over seeds."
    if answer.guessing is None or not is_near_guessing(answer):
        return sentence
    return (
        f"Warning: {sentence[:1].lower()}{sentence[1:-1]}, where guessing gets "
        f"{percent_text(answer.guessing)}: what such a network loses by compression says nothing. "
        "Train it for longer first."
    )


def is_near_guessing(answer: Answer) -> bool:
    """Whether the uncompressed network has learned hardly anything, as far as that is known."""
    if answer.baseline is None or answer.guessing is None:
        return False
    return answer.baseline <= answer.guessing + NEAR * (1 - answer.guessing)


def where_costs_differ(answer: Answer) -> str:
    """Say by which other costs the best chain is another one; empty where no other cost was answered.

    As over losses, it changes where the chains that may be best have none in common.
    """
    recommending = {cost: entry for cost, entry in answer.by_cost.items() if entry.recommended}
    if not recommending or answer.recommended is None:
        return ""
    changed = [
        f"by {COST_UNITS[cost]} take {' → '.join(entry.recommended or '')}"
        for cost, entry in recommending.items()
        if not set(entry.best_set) & set(answer.best_set)
    ]
    if changed:
        return f"The best changes with the cost: {listed(changed)}."
    units = listed([COST_UNITS[cost] for cost in recommending], "or")
    own = COST_UNITS[answer.cost]
    return f"By {units} the sets that may be best overlap with that by {own}."


def network_words(pick: Pick, *, metric: str = "accuracy", cost: str = "bitops") -> str:
    """Say what a network to take reaches and loses, and what its note says."""
    sure = ""
    if pick.interval is not None:
        sure = f" ({interval_text(pick.interval, points_text)} with 95 %)"
    note = f" Note: {pick.note}." if pick.note else ""
    counted = f"{times_text(pick.reduced('macs'))} fewer multiplications, " if cost == "macs" else ""
    counted += f"{times_text(pick.latency)} faster, " if pick.latency is not None else ""
    return (
        f"{counted}{times_text(pick.reduction)} fewer bit operations, "
        f"{times_text(pick.storage)} less storage; on test data {percent_text(pick.test_accuracy)} {metric}, "
        f"{100 * pick.test_loss:.2f} points lost{sure}.{note}"
    )


def other_network(picks: Sequence[Pick], *, cost: str = "bitops") -> str:
    """Say what single network of another order reached more, where the networks told at one loss hold one."""
    if len(picks) < 2:
        return ""
    other = picks[1]
    return (
        f"One that reached more, maybe by luck: {other.order}, {times_text(other.reduced(cost))}, "
        f"{100 * other.test_loss:.2f} points lost."
    )


def _no_answer(answer: AnswerAt, loss: str, withheld: str) -> str:
    where = f" at a tolerated loss of {loss}" if loss else ""
    if withheld:
        return f"These records cannot tell which order to take{where}: {withheld}."
    if not answer.seeds_needed:
        return f"Nothing is recommended{where}: hardly any network loses so little."
    return (
        f"These records cannot tell yet which order to take{where}. "
        f"It would take {answer.seeds_needed} seeds of the orders that are left."
    )


def _cost(answer: AnswerAt, cost: str) -> str:
    regret, names = answer.regret, _names(answer)
    assert regret is not None
    if cost == "score":
        expected, upper, blind = (
            f"{number:.2g}" for number in (regret.expected, regret.upper95, regret.random_order)
        )
        return (
            f"Against the best of the {names} its score is expected to lie {expected} behind, with 95 % "
            f"confidence at most {upper}; one taken at random lies {blind} behind."
        )
    unit = COST_UNITS[cost]
    expected, upper, blind = map(cost_text, (regret.expected, regret.upper95, regret.random_order))
    random = "an order taken at random"
    if answer.at_floor is not None and answer.at_floor >= LEAST_SHARE:
        random += f" of those that reach the loss at all needs {blind}"
        random += f" ({100 * answer.at_floor:.0f} % of the values do not)"
    else:
        random += f" needs {blind}"
    if regret.upper95 < LITTLE:
        return f"With 95 % confidence none of the other {names} needs fewer {unit}; {random}."
    return (
        f"Against the best of the {names}, whichever that is, it is expected to need {expected} {unit}, with "
        f"95 % confidence at most {upper.removeprefix('about ')}; {random}."
    )


def _names(answer: AnswerAt) -> str:
    """What competes: chains of any length, or orders of all stages."""
    return "chains" if answer.all_stages is not None else "orders"


def _excluded(answer: AnswerAt) -> str:
    inside, excluded, names = answer.best_set, answer.excluded, _names(answer)
    every = len(inside) + len(excluded)
    ran = sum(standing.seeds > 0 for standing in answer.standings.values())
    chains = f"{every} {names} that were run"
    if ran < every:
        chains = f"{every} {names}, of which {ran} were run here and the others on a cheaper copy,"
    if not excluded:
        return f"None of the {chains} is out: each may be the best."
    named = f": {listed(inside, 'or')}" if len(inside) <= MOST_NAMED else ""
    if every == 2:
        return f"The other {names[:-1]} is out."
    if len(inside) == 1:
        return f"All other {len(excluded)} of {chains} are out."
    return f"{len(excluded)} of the {chains} are out; {len(inside)} may be the best{named}."


def _worth(answer: AnswerAt, cost: str) -> str:
    """What leaving each stage out costs, the dearest first."""
    if not answer.worth:
        return ""
    ranked = sorted(answer.worth.items(), key=lambda item: -item[1].behind)
    parts = [
        f"{stage} {worth.behind:.2f} [{worth.interval[0]:.2f}, {worth.interval[1]:.2f}]"
        for stage, worth in ranked
    ]
    least = 0.0 if cost == "score" else NOTHING
    idle = [stage for stage, worth in ranked if worth.interval[1] <= least]
    remark = f" {listed(idle)} bring{'s' if len(idle) == 1 else ''} nothing here." if idle else ""
    return f"What leaving a stage out costs, in {_unit(cost)} [95 %]: {', '.join(parts)}.{remark}"


def _unit(cost: str) -> str:
    return "score" if cost == "score" else "doublings"


def _together(answer: AnswerAt, stages: str, cost: str) -> str:
    """The order question for all stages together."""
    full = answer.all_stages
    if full is None:
        return ""
    if full.recommended is None:
        return f"If all of {stages} are used: hardly any network of all stages loses so little."
    if full.recommended == answer.recommended:
        lead = f"If all of {stages} are used, it is the best guess, too"
    else:
        lead = f"If all of {stages} are used: {' → '.join(full.recommended)}"
        behind = answer.standings[full.recommended].behind
        lead += f", {behind:.2f} {_unit(cost)} behind the best chain"
    rivals = len(full.best_set) - 1
    every = len(full.standings)
    return f"{lead}; {rivals} other{'' if rivals == 1 else 's'} of {every} orders may be as good."


def _road(at: AnswerAt) -> str:
    """The paper's road at this loss: decided pairs, their topological sorts, and whether these are best."""
    full, sorts = at.all_stages or at, at.sorts
    if not at.decided:
        return "Pair by pair no order is decided at this loss." if at.pairs else ""
    pairs = listed([f"{first} before {second} ({chance:.2f})" for first, second, chance in at.decided])
    lead = f"Decided pair by pair, as probabilities for the best chain: {pairs}."
    if not sorts:
        return f"{lead} No order that was run keeps all of them."
    ranks = listed([str(rank) for rank in list(sorts.values())[:MOST_NAMED]])
    more = " and so on" if len(sorts) > MOST_NAMED else ""
    keep = "keeps" if len(sorts) == 1 else "keep"
    inside = sum(order in full.best_set for order in sorts)
    return (
        f"{lead} Of {len(full.standings)} orders {len(sorts)} {keep} them, of rank {ranks}{more}; "
        f"{inside} of these may be the best."
    )


def _doubt(answer: AnswerAt) -> str:
    if not answer.unsettled:
        return ""
    return (
        f"The sampler behind these numbers has not settled (R-hat {answer.rhat:.2f}, "
        f"{answer.effective_draws:.0f} effective draws): take them as rough."
    )


def _precedences(answer: AnswerAt, stages: str) -> str:
    """The precedences that hold in every chain of the best set, without those that follow from others."""
    pairs = set(answer.precedence)
    if len(answer.best_set) == 1 or not answer.excluded:
        return ""
    if not pairs:
        return "No pair of stages stands the same way in all of them."
    bare = [
        pair
        for pair in pairs
        if not any((pair[0], middle) in pairs and (middle, pair[1]) in pairs for middle in stages)
    ]
    ranked = sorted(bare, key=lambda pair: _places(pair, stages))
    sentences = [f"{first} before {second}" for first, second in ranked]
    return f"Whichever of them is best: {listed(sentences)}."


def _places(pair: tuple[str, str], stages: str) -> tuple[int, int]:
    return stages.find(pair[0]), stages.find(pair[1])


# The verdict of a law: what is known, how surely, and what is not.


@dataclass(frozen=True, slots=True, kw_only=True)
class LawWords:
    """What a law says, as sentences."""

    headline: str
    detail: str
    order: Order  # the law, or the likeliest order
    role: str  # "law" or "best guess"
    probability: float | None  # that it is the best order; None if the law does not say


def read_verdict(law: Law) -> LawWords:
    """Read the verdict off a law, which may hold no more than the contract asks for.

    Anything short of a single order that satisfies the precedence is "undecided" or, on a cycle, "no law".
    """
    order = law.law or law.kemeny or (law.orders or (law.stages,))[0]
    probability = _probability(law, order)
    if law.law:
        headline = f"Law: {_arrows(order)}{_chance(probability)}."
        detail = f"That is: {_spoken(order)}. No other order agrees with every decided pair."
    elif law.cycle:
        headline = f"No law: the decided pairs contradict each other, {_arrows(law.cycle)}."
        detail = f"The order with the least contradiction is {order}{_chance(probability)}."
    else:
        headline = f"Undecided: {_possible(law)}."
        detail = _open_pairs(law)
    detail += _weak_pairs(law)
    role = "law" if law.law else "best guess"
    return LawWords(headline=headline, detail=detail, order=order, role=role, probability=probability)


def named_stages(stages: Order) -> str:
    """The letters of the stages with their names; those of plug-ins have none."""
    return ", ".join(f"{stage}: {STAGE_NAMES[stage]}" for stage in stages if stage in STAGE_NAMES)


def training_caveat(controls: Sequence[Control]) -> str:
    """Say how many sequences were trained too briefly; empty where none was."""
    short = sum(control.status == "under-trained" for control in controls)
    if not short:
        return ""
    return (
        f"After {short} of {len(controls)} sequences, more epochs alone (F) gain more than a point: stages "
        "that are trained too briefly can fake an order."
    )


def _probability(law: Law, order: Order) -> float | None:
    if not law.laws:
        return None
    return float(sum(chance.probability for chance in law.laws if chance.order == order))


def _arrows(order: Sequence[str]) -> str:
    return " → ".join(order)


def _spoken(order: Order) -> str:
    return listed([STAGE_NAMES.get(stage, f"stage {stage}") for stage in order], "then")


def _chance(probability: float | None) -> str:
    return "" if probability is None else f", the best order with probability {probability_text(probability)}"


def _possible(law: Law) -> str:
    orders, every = law.orders, math.factorial(len(law.stages))
    if len(orders) == every:
        return f"the records leave all {every} orders possible"
    if len(orders) <= MOST_LISTED:
        return f"{listed(orders, 'or')}, of {every} orders"
    least = "at least " if len(orders) == MOST_EXTENSIONS else ""  # no more are listed
    return f"{least}{len(orders)} of {every} orders remain possible"


def _open_pairs(law: Law) -> str:
    groups = {"tied": "equivalent", "conditional": "dependent on the context", "undecided": "unsettled"}
    parts = []
    for verdict, word in groups.items():
        pairs = [f"{pair.first} and {pair.second}" for pair in law.pairs if pair.verdict == verdict]
        if pairs:
            parts.append(f"{'; '.join(pairs)} {'is' if len(pairs) == 1 else 'are'} {word}")
    return f"The order of {', that of '.join(parts)}." if parts else "No pair is missing a verdict."


def _weak_pairs(law: Law) -> str:
    pairs = [f"{pair.first} and {pair.second}" for pair in law.pairs if pair.under_trained]
    if not pairs:
        return ""
    return f" Training was too short to judge {listed(pairs, 'or')}: more epochs alone still help there."
