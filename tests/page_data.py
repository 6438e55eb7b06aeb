"""What pages are made of: laws with answers, and what searches found."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ordercomp.analysis.answer import Answer, AnswerAt, OrderMatters, Regret, Standing
from ordercomp.analysis.convergence import Control
from ordercomp.analysis.law import Law
from ordercomp.analysis.networks import Pick
from ordercomp.analysis.pairs import Evidence, PairVerdict
from ordercomp.analysis.report.result_files import (
    BestPoint,
    LawFile,
    LawPlace,
    OrderScore,
    Progress,
    SearchFile,
    SearchPoint,
    TrialCount,
)
from ordercomp.analysis.statistics import Effect
from ordercomp.objectives import Objectives
from ordercomp.records import TrainingCount
from ordercomp.sequence import permutations

__all__ = ["STAGES", "a_control", "a_law", "a_pair", "a_search", "answer_at", "law_file", "pick", "point"]

STAGES = "DPQ"
BEHIND = {order: 0.5 * place for place, order in enumerate(permutations(STAGES))}  # DPQ is best


def a_pair(
    first: str = "D", second: str = "P", verdict: PairVerdict = "undecided", **changes: Any
) -> Evidence:
    effect = Effect(mean=0.31, interval=(0.12, 0.5), probability=0.98)
    pair = Evidence(first=first, second=second, verdict=verdict, effect=effect, contexts=4, seeds=3)
    return replace(pair, **changes)


def a_control(status: str = "under-trained", sequence: str = "P") -> Control:
    return Control(sequence, "per-stage", 0.03, (0.02, 0.04), 3, status)  # type: ignore[arg-type]


def a_law(verdict: PairVerdict = "before", stages: str = STAGES, **changes: Any) -> Law:
    """A law with the keys of the contract alone."""
    decided = verdict == "before"
    law = Law(
        task="synthetic",
        stages=stages,
        law=stages if decided else None,
        orders=(stages,) if decided else tuple(permutations(stages)),
        cycle=None,
        pairs=tuple(a_pair(*pair, verdict) for pair in itertools.combinations(stages, 2)),
        trainings=TrainingCount(done=15, reused=0, unshared=33),
        seconds=90.0,
    )
    return replace(law, **changes)


def answer_at(loss: float, *, best: str = "DPQ", more: str = "DQP", setting: str | None = None) -> AnswerAt:
    behind = {order: BEHIND[order] + 2.0 * (order not in (best, more)) for order in BEHIND}
    inside = (best, more)
    return AnswerAt(
        setting=setting,
        loss=loss,
        recommended=best,
        best_set=inside,
        regret=Regret(expected=0.124, upper95=0.41, random_order=2.1),
        precedence=tuple(
            (a, b)
            for a, b in itertools.permutations(STAGES, 2)
            if all(order.index(a) < order.index(b) for order in inside)
        ),
        order_matters=OrderMatters(p=1e-9, spread=3.4),
        standings={
            order: Standing(
                value=9.0 - lag,
                behind=lag,
                interval=(lag - 1, lag + 1),
                probability_best=0.5 if order in inside else 0.0,
                seeds=3,
            )
            for order, lag in behind.items()
        },
    )


def law_file(
    *,
    by_loss: Sequence[AnswerAt] | None = None,
    by_setting: Sequence[AnswerAt] | None = None,
    command: str | None = None,
    **changes: Any,
) -> LawFile:
    """A law.json with an answer, in which `changes` are those of the loss that is asked for."""
    default = (answer_at(0.02), answer_at(0.08, best="QPD", more="QDP"))
    settings = (answer_at(0.02, setting="light <knobs>"),)
    answer = Answer(
        asked=replace(answer_at(0.02), **changes),
        by_loss=default if by_loss is None else tuple(by_loss),
        by_setting=settings if by_setting is None else tuple(by_setting),
    )
    picks = (pick(0.02, "DPQ"), pick(0.08, "QPD"))
    if command is not None:
        picks = (replace(picks[0], command=command), *picks[1:])
    law = a_law("undecided", pairs=(a_pair(),))
    return LawFile(law=law, answer=answer, networks=picks)


def pick(loss: float, order: str) -> Pick:
    return Pick(
        loss=loss,
        order=order,
        sequence=order,
        seed=1,
        threshold=None,
        reduction=64.0,
        storage=8.0,
        test_accuracy=0.961,
        test_loss=0.014,
        interval=(0.004, 0.024),
        command=f"ordercomp compress {order} --task digits --store 'a & b' --out a",
    )


def point(sequence: str = "D P", **changes: Any) -> SearchPoint:
    found = SearchPoint(
        sequence=sequence,
        seed=0,
        threshold=None,
        accuracy=0.97,
        test_accuracy=0.9712,
        loss=0.008,
        bitops_cr=64.0,
        cr=8.0,
        latency_ms=None,
        checkpoint=None,
    )
    return replace(found, **changes)


def a_search(**changes: Any) -> SearchFile:
    best = BestPoint(point=point(), compress="ordercomp compress 'D P' --task <mine>")
    found = SearchFile(
        task="digits",
        study="search",
        objectives=Objectives(names=("accuracy", "log2_bitops_cr"), max_loss=0.1),
        cost="log2_bitops_cr",
        trials=TrialCount(complete=2, pruned=0, fail=1, waiting=0),
        networks=2,
        value=6.25,
        front=(point(), point("P D", bitops_cr=512.0)),
        best={"0.002": None, "0.006": None, "0.01": best, "0.02": best},
        orders=tuple(
            OrderScore(order=order, networks=1, value=value, on_front=1)
            for order, value in (("DP", 5.5), ("PD", 4.0), ("P", 1.0))
        ),
        winner="DP",
        law=LawPlace(order="PD", role="best guess", evidence="adaptive", rank=2, of=2),
        progress=tuple(
            Progress(networks=n, trainings=2 * n, seconds=90.0 * n, value=3.0 * n) for n in range(1, 21)
        ),
        importances={"accuracy": {"order": 0.25, "P.ratio": 0.75}, "log2_bitops_cr": {}},
    )
    return replace(found, **changes)
