"""One analysis under way: its records and options, and which seeds derive the law and which verify it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ordercomp.analysis.corpus import Corpus, collect
from ordercomp.analysis.evidence.convergence import controls
from ordercomp.analysis.evidence.judge import Rules
from ordercomp.analysis.evidence.units import PairTable, pair_tables
from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.law.opinion import Opinion
from ordercomp.analysis.pairs import gather
from ordercomp.records import Record
from ordercomp.sequence import Order

Pair = tuple[str, str]
FEWEST_HELD_OUT = 3  # seeds: fewer could not verify anything


@dataclass(frozen=True, slots=True, kw_only=True)
class LawOptions:
    """What the analysis is told; all of it is fixed before looking at the records."""

    # Fronts are valued on validation data, since a law is a choice; verification looks at test data.
    scale: Scale = field(default_factory=lambda: Scale(split="validation"))
    convergence_margin: float = 0.01  # accuracy that F may gain, a fraction, before a prefix is under-trained
    rules: Rules = field(default_factory=Rules)
    resamples: int = 2000  # draws of the bootstrap
    held_out: int | None = None  # seeds kept for verification; None: a third of 9 or more, else none

    def __post_init__(self) -> None:
        if self.convergence_margin < 0:
            raise ValueError(f"convergence_margin must not be negative, got {self.convergence_margin}")
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")
        if self.held_out is not None and self.held_out < 0:
            raise ValueError(f"held_out must not be negative, got {self.held_out}")


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged, and by which rules."""

    corpus: Corpus
    options: LawOptions
    neighbors: Mapping[Pair, PairTable]  # differences by adjacent swaps, all seeds
    apart: Mapping[Pair, PairTable]  # the same with other stages in between
    seeds: tuple[int, ...]  # the law comes from these
    held_out: tuple[int, ...]  # and is verified on these, if any

    def tables_at(self, seeds: Sequence[int]) -> dict[Pair, PairTable]:
        """The differences by adjacent swaps at some of the seeds."""
        return {pair: table.at_seeds(seeds) for pair, table in self.neighbors.items()}

    def judge(self, seeds: Sequence[int], rng: np.random.Generator) -> Opinion:
        """What `seeds` say, by their own runs and controls alone."""
        runs = {run: measured for run, measured in self.corpus.runs.items() if run[2] in set(seeds)}
        guard = controls(runs, margin=self.options.convergence_margin)
        evidence = gather(
            self.tables_at(seeds),
            guard,
            rules=self.options.rules,
            bound=self.corpus.bound,
            rng=rng,
            planned=self.corpus.planned(seeds),
        )
        return Opinion(self.corpus.stages, tuple(seeds), guard, tuple(evidence))

    def unseen(self, own: Opinion) -> dict[int, Opinion]:
        """Map each seed that can verify to an opinion that it had no part in.

        Held-out seeds verify `own`, the opinion of all others. If none are held out, each seed verifies what
        the others say: the cross-fitted form. A single seed has no others.
        """
        if self.held_out:
            return dict.fromkeys(self.held_out, own)
        rest = {seed: tuple(other for other in self.seeds if other != seed) for seed in self.seeds}
        return {seed: self.judge(others, np.random.default_rng(0)) for seed, others in rest.items() if others}


def prepare(records: Sequence[Record], stages: Order | None, options: LawOptions) -> Case:
    """Value the records, pair them and split the seeds.

    Raises ValueError if there are no records, several tasks, fewer than two or more than ten stages, or too
    few complete seeds for `options.held_out`.
    """
    corpus = collect(records, stages=stages, scale=options.scale)
    if not 2 <= len(corpus.stages) <= 10:
        raise ValueError(f"stages must be 2 to 10 letters, got {corpus.stages!r}")
    neighbors, apart = (pair_tables(corpus.runs, corpus.stages, neighbors=near) for near in (True, False))
    return Case(corpus, options, neighbors, apart, *_split_seeds(corpus, options.held_out))


def _split_seeds(corpus: Corpus, kept: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Keep the last of the seeds with all permutations for verification, if there are enough; else none."""
    _, complete = corpus.permutation_values(corpus.stages)
    if kept is None:
        kept = len(complete) // 3 if len(complete) // 3 >= FEWEST_HELD_OUT else 0
    elif kept > min(len(complete), len(corpus.seeds) - 2):
        raise ValueError(
            f"held_out must be seeds with all permutations, {len(complete)} of {len(corpus.seeds)}, "
            f"and leave 2 others, got {kept}"
        )
    held = complete[len(complete) - kept :]
    return tuple(seed for seed in corpus.seeds if seed not in held), held
