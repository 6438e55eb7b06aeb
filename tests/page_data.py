"""What pages are made of: the content of a law.json with an answer, and of a search.json."""

import itertools
from typing import Any

from ordercomp.orders import permutations

__all__ = ["STAGES", "a_search", "entry", "law", "network", "point"]

STAGES = "DPQ"
BEHIND = {order: 0.5 * place for place, order in enumerate(permutations(STAGES))}  # DPQ is best


def entry(loss: float, *, best: str = "DPQ", more: str = "DQP") -> dict[str, Any]:
    behind = {order: BEHIND[order] + 2.0 * (order not in (best, more)) for order in BEHIND}
    inside = [best, more]
    return {
        "loss": loss,
        "recommended": best,
        "best_set": inside,
        "regret": {"expected": 0.124, "upper95": 0.41, "random_order": 2.1},
        "seeds_needed": None,
        "excluded": {
            o: {"behind": b, "interval": [b - 1, b + 1]} for o, b in behind.items() if o not in inside
        },
        "precedence": [
            pair
            for pair in itertools.permutations(STAGES, 2)
            if all(order.index(pair[0]) < order.index(pair[1]) for order in inside)
        ],
        "order_matters": {"p": 1e-9, "spread": 3.4},
        "orders": {
            order: {
                "value": 9.0 - b,
                "behind": b,
                "interval": [b - 1, b + 1],
                "probability_best": 0.5 if order in inside else 0.0,
                "seeds": 3,
            }
            for order, b in behind.items()
        },
    }


def law(**changes: Any) -> dict[str, Any]:
    answer = {
        **entry(0.02),
        "by_loss": [entry(0.02), entry(0.08, best="QPD", more="QDP")],
        "by_rung": [{**entry(0.02), "rung": "light <knobs>"}],
    }
    pair = {
        "first": "D",
        "second": "P",
        "verdict": "undecided",
        "probability": 0.5,
        "effect": 0.0,
        "interval": [-1.0, 1.0],
        "contexts": 1,
        "seeds": 2,
    }
    return {
        "task": "synthetic",
        "stages": STAGES,
        "law": None,
        "orders": permutations(STAGES),
        "unique": False,
        "cycle": None,
        "pairs": [pair],
        "verification": None,
        "trainings": {"done": 15, "reused": 0, "unshared": 33},
        "seconds": 90.0,
        "answer": {**answer, **changes},
        "networks": [network(0.02, "DPQ"), network(0.08, "QPD")],
    }


def network(loss: float, order: str) -> dict[str, Any]:
    return {
        "loss": loss,
        "order": order,
        "sequence": order,
        "seed": 1,
        "threshold": None,
        "reduction": 64.0,
        "storage": 8.0,
        "test_accuracy": 0.961,
        "test_loss": 0.014,
        "interval": [0.004, 0.024],
        "note": "",
        "command": f"ordercomp compress {order} --store 'a & b'",
    }


def point(sequence: str = "D P", **changes: Any) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "seed": 0,
        "threshold": None,
        "accuracy": 0.97,
        "test_accuracy": 0.9712,
        "loss": 0.008,
        "bitops_cr": 64.0,
        "cr": 8.0,
        "latency_ms": None,
        "checkpoint": None,
        **changes,
    }


def a_search(**changes: Any) -> dict[str, Any]:
    """The content of a search.json."""
    best = {**point(), "compress": "ordercomp compress 'D P' --task <mine>"}
    orders = [
        {"order": order, "networks": 1, "value": value, "on_front": 1}
        for order, value in (("DP", 5.5), ("PD", 4.0), ("P", 1.0))
    ]
    objectives = {"names": ["accuracy", "log2_bitops_cr"], "convention": "paper"}
    return {
        "task": "digits",
        "study": "search",
        "objectives": {**objectives, "max_loss": 0.1, "max_bytes": None},
        "cost": "log2_bitops_cr",
        "trials": {"complete": 2, "pruned": 0, "fail": 1, "waiting": 0},
        "networks": 2,
        "value": 6.25,
        "front": [point(), point("P D", bitops_cr=512.0)],
        "best": {"0.002": None, "0.006": None, "0.01": best, "0.02": best},
        "orders": orders,
        "winner": "DP",
        "law": {"order": "PD", "role": "best guess", "evidence": "adaptive", "rank": 2, "of": 2},
        "progress": [
            {"networks": n, "trainings": 2 * n, "seconds": 90.0 * n, "value": 3.0 * n} for n in range(1, 21)
        ],
        "importances": {"accuracy": {"order": 0.25, "P.ratio": 0.75}, "log2_bitops_cr": {}},
        **changes,
    }
