"""How fast is the sweep over exit thresholds? One JSON line: ours against a plain loop in the same run.

The task: 1000 thresholds, 10,000 images, 3 exits. The loop is timed on a share of the thresholds.
Run: OMP_NUM_THREADS=1 python benchmarks/threshold_sweep.py
"""

import json
import time
from collections.abc import Callable

import numpy as np

from ordercomp.measuring.accuracy import ExitOutcome, sweep_thresholds

THRESHOLDS, IMAGES, EXITS = 1000, 10_000, 3
LOOPED = 10  # thresholds that the loop is timed on
REPEATS = 7


def main() -> None:
    """Time both, check that they agree, and print the medians in milliseconds."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1.0, size=(EXITS, IMAGES))
    outcome = ExitOutcome(confidence, rng.random((EXITS, IMAGES)) < confidence)
    bars = np.linspace(0.0, 1.0, THRESHOLDS)
    ours = median_ms(lambda: sweep_thresholds(outcome, bars), REPEATS)
    looped = bars[:: THRESHOLDS // LOOPED]
    loop = median_ms(lambda: loop_over(outcome, looped), 1) * THRESHOLDS / len(looped)
    assert np.allclose(loop_over(outcome, looped), sweep_thresholds(outcome, looped).accuracy, atol=1e-12)
    print(
        json.dumps(
            {
                "what": f"{THRESHOLDS} thresholds x {IMAGES} images x {EXITS} exits",
                "sweep_ms": round(ours, 2),
                "loop_ms": round(loop),
                "times_faster": round(loop / ours),
            }
        )
    )


def loop_over(outcome: ExitOutcome, bars: np.ndarray) -> list[float]:
    """Accuracy at each threshold, one image after the other."""
    confidence, correct = outcome.confidence.tolist(), outcome.correct.tolist()
    accuracies = []
    for bar in bars.tolist():
        right = 0
        for image in range(IMAGES):
            place = 0
            while place < EXITS - 1 and confidence[place][image] < bar:
                place += 1
            right += correct[place][image]
        accuracies.append(right / IMAGES)
    return accuracies


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of `work` in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2] * 1000


if __name__ == "__main__":
    main()
