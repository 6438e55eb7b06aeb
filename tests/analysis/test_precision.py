"""Inverse covariances where seeds ran different orders."""

import numpy as np

from ordercomp.analysis.order_model import Precision


def covariances(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    roots = rng.standard_normal((count, size, size))
    return roots @ roots.swapaxes(1, 2) + np.eye(size)


def expected(covariance: np.ndarray, seen: np.ndarray) -> np.ndarray:
    inverse = np.zeros_like(covariance)
    rows = np.flatnonzero(seen)
    inverse[np.ix_(rows, rows)] = np.linalg.inv(covariance[np.ix_(rows, rows)])
    return inverse


def test_each_seed_is_inverted_over_the_orders_that_it_ran() -> None:
    rng = np.random.default_rng(0)
    tables, seeds, orders, chains = 3, 5, 6, 2
    seen = rng.random((tables, seeds, orders)) < 0.6
    seen[0] = True  # a table that ran everything
    seen[1, 2] = False  # a seed that ran nothing
    seen[2, 4] = seen[2, 0]  # seeds that ran the same
    precision = Precision(seen, chains)
    values = rng.standard_normal((tables * chains, seeds, orders))
    for _ in range(2):  # nothing of the first update is left after the second
        covariance = covariances(rng, tables * chains, orders)
        precision.update(covariance)
    by_seed = np.array(
        [
            [expected(covariance[table * chains + chain], seen[table, seed]) for seed in range(seeds)]
            for table in range(tables)
            for chain in range(chains)
        ]
    )
    np.testing.assert_allclose(precision.total(), by_seed.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(
        precision.solve(values), np.einsum("csop,csp->cso", by_seed, values), atol=1e-9
    )
