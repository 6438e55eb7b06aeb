"""The sampler: the same table gives the same draws, whatever is fitted beside it."""

import numpy as np
import pytest

from ordercomp.analysis.order_model import Effort, draw_values
from ordercomp.sequence import permutations

ORDERS = tuple(permutations("DPQE"))
BRIEF = Effort(chains=2, warm_up=20, kept=20)


def tables(count: int, *, floor: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    values = rng.normal(1.0, 1.0, (count, len(ORDERS), 4))
    values[1, 3:9, 2] = np.nan
    return np.maximum(values, floor)


@pytest.mark.parametrize("floor", [0.0, None])
def test_a_table_gives_the_same_draws_alone_and_beside_others(floor: float | None) -> None:
    values = tables(3, floor=-9.0 if floor is None else floor)
    together = draw_values(values, ORDERS, "DPQE", floor=floor, effort=BRIEF)
    for place in range(3):
        (alone,) = draw_values(values[[place]], ORDERS, "DPQE", floor=floor, effort=BRIEF)
        np.testing.assert_allclose(together[place].values, alone.values, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(together[place].noise, alone.noise, rtol=1e-6, atol=1e-6)


def test_tables_alike_are_drawn_alike() -> None:
    values = tables(2, floor=-9.0)
    first, second = draw_values(values[[0, 0]], ORDERS, "DPQE", floor=None, effort=BRIEF)
    np.testing.assert_allclose(first.values, second.values)
