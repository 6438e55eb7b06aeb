"""How many trainings until the verdicts of all records are reached: adaptive plan against fixed plan.

    python benchmarks/adaptive.py RECORDS.jsonl           # replays recorded runs, training nothing
    python benchmarks/adaptive.py --simulated 0.5         # a simulated law of 0.5 doublings a pair, 8 seeds

The fixed plan trains the whole trie of one seed after the other. Both are stopped as soon as every pair that
all records decide has the verdict it has there; what they say about the other pairs is counted too.
One JSON line per repeat: the order of seeds and contexts is drawn anew each time.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ordercomp.analysis.corpus import collect
from ordercomp.analysis.law import LawOptions
from ordercomp.analysis.planning import Block, Planner
from ordercomp.analysis.simulation import Planted, simulate
from ordercomp.analysis.units import pair_tables
from ordercomp.orders import Order
from ordercomp.records import Record, read_records

Node = tuple[str, int]
Verdicts = Mapping[tuple[str, str], str]
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
    corpus = collect(records, stages=None, scale=LawOptions().scale)
    useful = {record.sequence for record in records if set(record.order) <= set(corpus.stages)}
    runs = {(record.sequence, record.seed): record for record in records if record.sequence in useful}
    target = _verdicts(_learned(corpus.stages, runs.values()))
    decided = {pair: verdict for pair, verdict in target.items() if verdict != "undecided"}
    tables = pair_tables(corpus.runs, corpus.stages, neighbors=True)
    menu = [
        Block(pair, cell.texts, run)
        for pair, table in tables.items()
        for column, cell in enumerate(table.cells)
        for row, run in enumerate(table.seeds)
        if np.isfinite(table.effects[row, column])
    ]
    adaptive, found = _adaptive(Planner(corpus.stages, menu, seed=seed), runs, decided)
    return {
        "all": len(runs),
        "fixed": _fixed(corpus.stages, runs, decided),
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


def _fixed(stages: Order, runs: Mapping[Node, Record], decided: Verdicts) -> int | None:
    planner = Planner(stages, [])
    ordered = sorted(runs.values(), key=lambda record: (record.seed, len(record.order), record.sequence))
    for count, record in enumerate(ordered, start=1):
        planner.learn(record)
        if (count % STRIDE == 0 or count == len(ordered)) and _agrees(planner, decided):
            return count
    return None


def _learned(stages: Order, records: Iterable[Record]) -> Planner:
    planner = Planner(stages, [])
    for record in records:
        planner.learn(record)
    return planner


def _verdicts(planner: Planner) -> Verdicts:
    return {(pair.first, pair.second): pair.verdict for pair in planner.evidence}


def _agrees(planner: Planner, decided: Verdicts) -> bool:
    verdicts = _verdicts(planner)
    return all(verdicts[pair] == verdict for pair, verdict in decided.items())


def _with_shuffled_seeds(records: Sequence[Record], rng: np.random.Generator) -> list[Record]:
    seeds = sorted({record.seed for record in records})
    place = dict(zip(seeds, rng.permutation(len(seeds)).tolist(), strict=True))
    return [replace(record, seed=place[record.seed]) for record in records]


if __name__ == "__main__":
    main()
