"""Does the analysis tell the truth? Simulated records with a planted truth, judged thousands of times.

    python benchmarks/calibration.py                      # 500 simulations of each kind
    python benchmarks/calibration.py --simulations 40     # a quick look

Prints one table for each question: interval coverage, false verdicts without any effect, the planted cycle,
flip and artefact, heavy tails with a diverged seed, and the power at effects of 0.25, 0.5 and 1 doublings.
"""

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.law import Law, LawOptions, derive_law
from ordercomp.analysis.pairs import Evidence, controls, gather, pair_tables
from ordercomp.analysis.run_table import RunTable

SEEDS = (3, 5, 8)
STAGES = "DPQE"
OPTIONS = LawOptions(resamples=200)
WILD = {(stage, "E"): 0.5 for stage in "DPQ"}  # seeds differ five times as much on E as on other pairs

CONDITIONS: Mapping[str, Planted] = {
    "no effect": Planted(),
    "law, 0.5 a pair": Planted.law(STAGES, 0.5),
    "quirks of single orders": replace(Planted.law(STAGES, 0.5), quirk=0.3),
    "heavy tails": replace(Planted.law(STAGES, 0.5), heavy_tails=True),
    "E varies fivefold": replace(Planted.law(STAGES, 0.5), interactions=WILD),
    "E varies fivefold, no effect": Planted(interactions=WILD),
    "one wild pair": replace(Planted.law(STAGES, 0.5), interactions={("P", "Q"): 0.5}),
    "one wild pair, no effect": Planted(interactions={("P", "Q"): 0.5}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often intervals hold the truth, and how often an edge is false, of so many simulations."""

    condition: str
    seeds: int
    covered: float  # share of the 95 % intervals, all pairs
    worst_pair: float
    false_edges: float  # share of the pairs that got an edge without an effect, or against it
    any_false: float  # share of simulations with at least one such
    conditional: float  # share of the pairs called conditional, though no context is planted to matter
    decided: float  # share of the pairs with a direction


def evidence_of(truth: Planted, seeds: int, rng: np.random.Generator) -> list[Evidence]:
    """Judge the pairs of one simulation, as `derive_law` does."""
    table = RunTable.of(simulate(truth, seeds=seeds, rng=rng), stages=truth.stages, scale=OPTIONS.scale)
    guard = controls(table.measured, margin=OPTIONS.convergence_margin)
    found = pair_tables(table, neighbors=True)
    return gather(found, guard, rules=OPTIONS.rules, bound=table.bound, rng=rng)


def measure_coverage(condition: str, truth: Planted, seeds: int, simulations: int) -> Coverage:
    """Count the intervals that hold the planted effects."""
    noiseless = replace(
        truth, node_noise=0.0, seed_noise=0.0, interaction=0.0, interactions={}, heavy_tails=False
    )
    rng = np.random.default_rng(0)
    planted = [pair.effect.mean for pair in evidence_of(noiseless, 1, rng)]
    planted = [0.0 if abs(effect) < 1e-9 else effect for effect in planted]
    held, false, decided, conditional = [], [], [], []
    for number in range(simulations):
        found = evidence_of(truth, seeds, np.random.default_rng([number, seeds]))
        held.append(
            [
                pair.effect.low <= effect <= pair.effect.high
                for pair, effect in zip(found, planted, strict=True)
            ]
        )
        signs = [(pair.verdict == "before") - (pair.verdict == "after") for pair in found]
        false.append(
            [sign != 0 and sign != np.sign(effect) for sign, effect in zip(signs, planted, strict=True)]
        )
        decided.append([sign != 0 for sign in signs])
        conditional.append([pair.verdict == "conditional" for pair in found])
    return Coverage(
        condition=condition,
        seeds=seeds,
        covered=float(np.mean(held)),
        worst_pair=float(np.mean(held, axis=0).min()),
        false_edges=float(np.mean(false)),
        any_false=float(np.any(false, axis=1).mean()),
        conditional=float(np.mean(conditional)),
        decided=float(np.mean(decided)),
    )


def measure_special_cases(simulations: int, seeds: int = 5) -> dict[str, float]:
    """Share of simulations in which each planted trouble is told for what it is."""
    cycle = Planted(effects={("D", "P"): 0.6, ("P", "Q"): 0.6, ("Q", "D"): 0.6, ("D", "E"): 0.6})
    knobs: list[dict[str, dict[str, float]]] = [
        {"P": {"ratio": ratio}, "Q": {"weights": weights}} for ratio, weights in ((0.2, 8), (0.7, 1))
    ]
    flip = Planted(effects={("P", "Q"): 0.8}, intensity={("P", "Q"): (1.0, -1.0)}, knobs=knobs)
    artefact = Planted(under_trained={"Q": 1.5}, controls=True)
    diverged = replace(Planted.law(STAGES, 0.5), heavy_tails=True, diverged=frozenset({("Q", 1), ("DPE", 2)}))
    hits: dict[str, list[bool]] = {}
    for number in range(simulations):

        def law(truth: Planted, number: int = number) -> Law:
            rng = np.random.default_rng([number, 99])
            return derive_law(simulate(truth, seeds=seeds, rng=rng), stages=STAGES, options=OPTIONS)

        for name, good in {
            "planted law found": law(Planted.law(STAGES, 0.5)).law == STAGES,
            "cycle reported": law(cycle).cycle == ("D", "P", "Q", "D"),
            "flip with intensity called conditional": _verdict(law(flip), "P", "Q") == "conditional",
            "artefact of under-training flagged, no edge": _is_flagged(law(artefact)),
            "heavy tails and diverged runs: finite, nothing false": _is_sane(law(diverged)),
        }.items():
            hits.setdefault(name, []).append(good)
    return {name: float(np.mean(good)) for name, good in hits.items()}


def measure_power(
    simulations: int, efforts: Sequence[int] = (2, 3, 4, 5, 6, 8, 10)
) -> dict[str, dict[int, float]]:
    """Share of the pairs decided rightly, by effect in doublings and number of seeds."""
    power: dict[str, dict[int, float]] = {}
    for name, interaction in (("calm seeds", 0.1), ("wild seeds", 0.5)):
        for effect, seeds in itertools.product((0.25, 0.5, 1.0), efforts):
            truth = Planted.law(STAGES, effect, interaction=interaction)
            found = [
                evidence_of(truth, seeds, np.random.default_rng([number, seeds, 5]))
                for number in range(simulations)
            ]
            share = np.mean([[pair.verdict == "before" for pair in pairs] for pairs in found])
            power.setdefault(f"{effect} doublings, {name}", {})[seeds] = float(share)
    return power


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all simulations and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--out", type=Path, help="append the results as one JSON line")
    chosen = parser.parse_args(arguments)
    start = time.perf_counter()
    count = chosen.simulations
    coverages = _print_coverages(count)
    power = measure_power(max(1, count // 5))
    print("\npairs decided rightly, by number of seeds")
    for name, shares in power.items():
        numbers = "  ".join(f"{seeds}: {share:.2f}" for seeds, share in shares.items())
        print(f"{name:30} {numbers}", flush=True)
    special = measure_special_cases(max(1, count // 5))
    print("\nshare of simulations, 5 seeds")
    for name, share in special.items():
        print(f"{name:55} {share:.3f}")
    print(f"\n{time.perf_counter() - start:.0f} s", file=sys.stderr)
    if chosen.out is not None:
        line = {
            "simulations": count,
            "coverage": [
                {name: getattr(one, name) for name in Coverage.__dataclass_fields__} for one in coverages
            ],
            "power": power,
            "special": special,
        }
        with chosen.out.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _print_coverages(simulations: int) -> list[Coverage]:
    coverages = []
    print(f"{'95 % intervals':30} seeds  covered  worst pair  false edges  any false  conditional  decided")
    for (condition, truth), seeds in itertools.product(CONDITIONS.items(), SEEDS):
        one = measure_coverage(condition, truth, seeds, simulations)
        coverages.append(one)
        print(
            f"{condition:30} {seeds:5} {one.covered:8.3f} {one.worst_pair:11.3f} {one.false_edges:12.4f}"
            f" {one.any_false:10.3f} {one.conditional:12.4f} {one.decided:8.3f}",
            flush=True,
        )
    return coverages


def _verdict(law: Law, first: str, second: str) -> str:
    return next(pair.verdict for pair in law.pairs if (pair.first, pair.second) == (first, second))


def _is_flagged(law: Law) -> bool:
    with_q = [pair for pair in law.pairs if "Q" in (pair.first, pair.second)]
    return all(pair.under_trained and pair.verdict == "undecided" for pair in with_q)


def _is_sane(law: Law) -> bool:
    finite = all(
        math.isfinite(number)
        for pair in law.pairs
        for number in (pair.effect.mean, pair.effect.low, pair.effect.high)
    )
    return finite and not any(pair.verdict == "after" for pair in law.pairs) and bool(law.notes)


if __name__ == "__main__":
    main()
