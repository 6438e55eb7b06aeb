"""How many trainings until the verdicts of all records are reached: adaptive plan against fixed plan.

    python benchmarks/adaptive.py RECORDS.jsonl           # replays recorded runs, training nothing
    python benchmarks/adaptive.py --simulated 0.5         # a simulated law of 0.5 doublings a pair, 8 seeds

The fixed plan trains the whole trie of one seed after the other, and has the whole error for its one look;
the adaptive plan pays for looking after each training. Both are stopped as soon as every pair that all
records decide has the verdict it has there; what they say about the other pairs is counted too. Both know
the control arms with F from the start, which are not counted; orders with repeats are left out.
One JSON line per repeat: the order of seeds and contexts is drawn anew each time.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from ordercomp.analysis.evidence.convergence import CONTROL, controls
from ordercomp.analysis.evidence.corpus import collect
from ordercomp.analysis.evidence.pairs import gather
from ordercomp.analysis.evidence.planning import Block, Planner
from ordercomp.analysis.evidence.simulation import Planted, simulate
from ordercomp.analysis.evidence.units import PairTable
from ordercomp.analysis.fronts.readouts import Measured
from ordercomp.analysis.law.case import Case, LawOptions, prepare
from ordercomp.orders import Order
from ordercomp.records import Record, read_records

Node = tuple[str, int]
Verdicts = Mapping[tuple[str, str], str]
OPTIONS = LawOptions()
STRIDE = 4  # nodes of the fixed plan between two looks


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay both plans and print the numbers of trainings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("records", type=Path, nargs="?")
    parser.add_argument("--simulated", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    for repeat in range(chosen.repeats):
        if chosen.records is not None:
            records = [record for record in read_records(chosen.records) if record.order]
        else:
            records = simulate(Planted.law("DPQE", chosen.simulated), seeds=8, rng=rng)
        print(json.dumps(replay(_with_shuffled_seeds(records, rng), repeat)), flush=True)


def replay(records: Sequence[Record], seed: int) -> dict[str, object]:
    """Count the trainings of both plans on recorded runs."""
    corpus = collect(records, stages=None, scale=OPTIONS.scale)
    plain = [record for record in records if _is_plain(record.order, corpus.stages)]
    runs = {(record.sequence, record.seed): record for record in plain}
    arms = [record for record in records if _is_control(record.order, corpus.stages)]
    case = prepare([*arms, *plain], corpus.stages, OPTIONS)
    target = _judged(case, set(runs))
    decided = {pair: verdict for pair, verdict in target.items() if verdict != "undecided"}
    menu = [
        Block(pair, cell.texts, run)
        for pair, table in case.neighbors.items()
        for column, cell in enumerate(table.cells)
        for row, run in enumerate(table.seeds)
        if np.isfinite(table.effects[row, column])
    ]
    planner = Planner(corpus.stages, menu, seed=seed)
    for record in arms:
        planner.learn(record)
    adaptive, found = _adaptive(planner, runs, decided)
    return {
        "all": len(runs),
        "fixed": _fixed(case, runs, decided),
        "adaptive": adaptive,
        "target": {"-".join(pair): verdict for pair, verdict in target.items()},
        "adaptive_says": {"-".join(pair): verdict for pair, verdict in found.items()},
    }


def _adaptive(
    planner: Planner, runs: Mapping[Node, Record], decided: Verdicts
) -> tuple[int | None, Verdicts]:
    trained: set[Node] = set()
    for node in _proposed(planner):
        if node in trained or node not in runs:
            continue
        trained.add(node)
        planner.learn(runs[node])
        if len(trained) % STRIDE == 0 and _agrees(planner, decided):
            return len(trained), _verdicts(planner)
    return (len(trained) if _agrees(planner, decided) else None), _verdicts(planner)


def _proposed(planner: Planner) -> Iterator[Node]:
    while (block := planner.propose()) is not None:
        yield from block.nodes


def _fixed(case: Case, runs: Mapping[Node, Record], decided: Verdicts) -> int | None:
    ordered = sorted(runs, key=lambda node: (node[1], len(runs[node].order), node[0]))
    for count in range(1, len(ordered) + 1):
        if count % STRIDE == 0 or count == len(ordered):
            verdicts = _judged(case, set(ordered[:count]))
            if all(verdicts[pair] == verdict for pair, verdict in decided.items()):
                return count
    return None


def _judged(case: Case, known: Set[Node]) -> Verdicts:
    """The verdicts once these nodes are trained, and the control arms beside them."""
    measured = {run: one for run, one in case.corpus.runs.items() if run[1:] in known or _is_arm(one)}
    guard = controls(measured, margin=OPTIONS.convergence_margin)
    tables = {pair: _reached(table, known) for pair, table in case.neighbors.items()}
    rng, bound = np.random.default_rng(0), case.corpus.bound
    found = gather(tables, guard, rules=OPTIONS.rules, bound=bound, rng=rng)
    return {(pair.first, pair.second): pair.verdict for pair in found}


def _reached(table: PairTable, known: Set[Node]) -> PairTable:
    """Keep the differences of which both sides are known."""
    there = [
        [all((text, seed) in known for text in cell.texts) for cell in table.cells] for seed in table.seeds
    ]
    mask = np.array(there, dtype=bool).reshape(table.effects.shape)
    kept = replace(table, effects=np.where(mask, table.effects, np.nan))
    return kept.choose(map(bool, np.atleast_1d(mask.any(axis=0))))


def _is_arm(measured: Measured) -> bool:
    return measured.record.order.endswith(CONTROL)


def _verdicts(planner: Planner) -> Verdicts:
    return {(pair.first, pair.second): pair.verdict for pair in planner.evidence}


def _agrees(planner: Planner, decided: Verdicts) -> bool:
    verdicts = _verdicts(planner)
    return all(verdicts[pair] == verdict for pair, verdict in decided.items())


def _is_plain(order: Order, stages: Order) -> bool:
    return len(set(order)) == len(order) and set(order) <= set(stages)


def _is_control(order: Order, stages: Order) -> bool:
    return order.endswith(CONTROL) and _is_plain(order[:-1], stages)


def _with_shuffled_seeds(records: Sequence[Record], rng: np.random.Generator) -> list[Record]:
    seeds = sorted({record.seed for record in records})
    place = dict(zip(seeds, rng.permutation(len(seeds)).tolist(), strict=True))
    return [replace(record, seed=place[record.seed]) for record in records]


if __name__ == "__main__":
    main()
