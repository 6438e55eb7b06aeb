"""Rival laws on trial: what each order that someone has proposed costs against the best one measured."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.corpus import Corpus
from ordercomp.analysis.evidence.judge import interval_alone
from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]

PRINCIPLE_NAMES = ("static before dynamic, coarse before fine", "arXiv 2403.17447")
PRINCIPLE = "DLPSQWE"  # architecture, neuron, sub-neuron; static before dynamic


@dataclass(frozen=True, slots=True)
class Proposal:
    """An order that someone claims to be best."""

    order: Order
    claim: str
    source: str


RIVALS: tuple[Proposal, ...] = (
    Proposal("DPQE", *PRINCIPLE_NAMES),
    Proposal("EQPD", "the reverse of it", "for contrast"),
    Proposal("PQK", "prune, quantize, recover by distillation", "arXiv 2604.04988"),
    Proposal("PQD", "the same by letters, but D is a smaller student here", "arXiv 2604.04988"),
    Proposal("PKQ", "prune, recover by distillation, quantize", "arXiv 2511.19495"),
    Proposal("PDQ", "the same by letters, but D is a smaller student here", "arXiv 2511.19495"),
    Proposal("PD", "prune before distilling", "arXiv 2109.14960"),
    Proposal("QD", "quantize before distilling", "arXiv 1911.12491"),
    Proposal("QPDE", "quantize and prune before distilling", "for contrast"),
    Proposal("PQ", "prune before quantizing", "vendors' advice"),
    Proposal("EP", "exits before pruning", "arXiv 2207.03644"),
    Proposal("SQ", "sparsify before quantizing", "arXiv 2405.20935"),
)


@dataclass(frozen=True, slots=True)
class Rival:
    """What a proposed order costs on this task, among the permutations of its own stages."""

    order: Order
    claim: str
    source: str
    best: Order  # among the other permutations of the same stages
    cost: float  # value of that best other order minus the rival's, in doublings; below 0 the rival is ahead
    interval: tuple[float, float]  # of the cost, at 95 % over seeds
    rank: int
    of: int
    seeds: int = 0  # 0: not known


def try_rivals(corpus: Corpus, *, law: Order, suggested: Mapping[int, Order] | None = None) -> list[Rival]:
    """Try the law, the principle, "weaker first" and every proposal that the stages at hand can express.

    Values are those on test data, averaged over knob settings, at the seeds that have every permutation of
    the rival's stages; proposals without such a seed are passed over. `suggested` maps seeds to the order
    that other seeds suggest there: if given, the law is tried by these orders and at these seeds alone, so
    that no seed judges what it helped to choose. With one seed the interval is as wide as can be. The best
    other order is picked in hindsight, so costs lean upwards.
    """
    proposals = list(RIVALS)
    if set(corpus.stages) <= set(PRINCIPLE):
        predicted = "".join(letter for letter in PRINCIPLE if letter in corpus.stages)
        if predicted not in {proposal.order for proposal in RIVALS}:
            proposals.insert(0, Proposal(predicted, *PRINCIPLE_NAMES))
    weaker = weaker_first(corpus)
    if weaker is not None:
        proposals.insert(0, Proposal(weaker, "weaker perturbation first", "arXiv 2603.18426"))
    own = Proposal(law, "the order that these records suggest", "this analysis")
    found, ranked = [], {}
    for proposal in [own, *proposals]:
        letters = "".join(sorted(proposal.order))
        if not set(letters) <= set(corpus.stages):
            continue
        if letters not in ranked:
            ranked[letters] = corpus.permutation_values(letters)
        values, seeds = ranked[letters]
        if proposal is own and suggested is not None:
            places = [place for place, seed in enumerate(seeds) if seed in suggested]
            values = {order: value[places] for order, value in values.items()}
            tried = [suggested[seeds[place]] for place in places]
        else:
            tried = [proposal.order] * len(seeds)
        if tried:
            found.append(_rival(proposal, values, tried, corpus.bound))
    return found


def weaker_first(corpus: Corpus) -> Order | None:
    """Order the stages by the validation accuracy that each loses when applied alone, the least first.

    None if a stage was never measured alone.
    """
    losses: dict[str, list[float]] = defaultdict(list)
    for measured in corpus.runs.values():
        if len(measured.record.order) == 1:
            loss = measured.record.baseline.accuracy - measured.end_accuracy
            losses[measured.record.order].append(loss)
    if not set(corpus.stages) <= set(losses):
        return None
    return "".join(sorted(corpus.stages, key=lambda stage: (float(np.mean(losses[stage])), stage)))


def _rival(
    proposal: Proposal, values: Mapping[Order, FloatArray], tried: Sequence[Order], bound: float
) -> Rival:
    """Compare the orders `tried`, one at each seed, with the best order that is not among them."""
    means = {order: float(value.mean()) for order, value in values.items()}
    own = np.array([values[order][place] for place, order in enumerate(tried)])
    others = [order for order in means if order not in tried] or list(means)
    best = max(others, key=lambda order: means[order])
    costs = values[best] - own
    rank = 1 + sum(mean > float(own.mean()) + 1e-12 for mean in means.values())
    return Rival(
        proposal.order,
        proposal.claim,
        proposal.source,
        best,
        float(costs.mean()),
        interval_alone(costs, bound=bound),
        rank,
        len(means),
        len(costs),
    )
