"""Ask a sampler for several candidates, and take the one with the most expected gain per second of training.

A trial costs only the stages that no earlier trial has trained, so two candidates of equal promise may differ
in price by a factor of the order's length. Optuna's samplers know nothing of that. Here the candidates come
from any of them, each also with its first stages moved onto a prefix that is trained already. A small forest,
fitted to all that was measured, says how much each would enlarge the front; what its missing stages will take
is known from the records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from sklearn.ensemble import ExtraTreesRegressor

from ordercomp.search.ask.choosing import Choosing
from ordercomp.search.history import features
from ordercomp.search.objective import Objectives
from ordercomp.search.space import Space
from ordercomp.sequence import StageSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class CostOptions:
    """How candidates are weighed."""

    candidates: int = 16  # asked of the sampler for each trial
    exponent: float = 1.0  # of the seconds; 0 ignores them: expected gain alone
    snap: bool = True  # also consider candidates moved onto a trained prefix
    startup: int = 10  # results before the forest is asked
    trees: int = 32

    def __post_init__(self) -> None:
        for name in ("candidates", "startup", "trees"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.exponent < 0:
            raise ValueError(f"exponent must not be negative, got {self.exponent}")


class CostAware(Choosing):
    """Wraps a sampler; proposes for trainings at `seed`, in a study with the given space and objectives."""

    def __init__(
        self,
        base: BaseSampler,
        space: Space,
        *,
        objectives: Objectives,
        seed: int = 0,
        options: CostOptions,
    ) -> None:
        super().__init__(base, space, objectives=objectives, seed=seed)
        self._options = options

    def choose(self, study: Study, trial: FrozenTrial) -> StageSequence:
        """Draw candidates, and take the one that promises most for its price."""
        if len(self.history.inputs) < self._options.startup:
            return self.draw(study, trial)
        drawn = [self.draw(study, trial) for _ in range(self._options.candidates)]
        if self._options.snap:
            drawn += [self._snapped(sequence) for sequence in drawn]
        new = self.untried(study, drawn)
        if not new:
            return drawn[0]
        gains = self._expected_gains(new)
        prices = np.array([self.history.price(sequence) for sequence in new])
        scores = gains / prices**self._options.exponent
        return new[int(np.argmax(scores))] if scores.max() > 0 else new[0]

    def _snapped(self, sequence: StageSequence) -> StageSequence:
        """Replace the first steps by a trained prefix of the same order, drawn among all that fit."""
        lengths = [n for n in range(1, len(sequence)) if self.history.by_order.get(sequence.order[:n])]
        if not lengths:
            return sequence
        length = int(self.rng.choice(lengths))
        nodes = self.history.by_order[sequence.order[:length]]
        node = nodes[int(self.rng.integers(len(nodes)))]
        moved = StageSequence(node.steps + sequence.steps[length:])
        return moved if self.space.contains(moved) else sequence

    def _expected_gains(self, sequences: Sequence[StageSequence]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Mean area that each sequence adds to the front, over the trees of a forest."""
        forest = ExtraTreesRegressor(
            self._options.trees, min_samples_leaf=2, random_state=int(self.rng.integers(2**31))
        )
        forest.fit(np.array(self.history.inputs), np.array(self.history.outputs))
        rows = np.array([features(self.space, sequence) for sequence in sequences])
        guesses = np.array([tree.predict(rows) for tree in forest.estimators_])
        front = self.history.front
        assert front is not None
        return np.array(
            [
                np.mean([front.gain(accuracy, reduction) for accuracy, reduction in guesses[:, place]])
                for place in range(len(sequences))
            ]
        )
