"""Inverse covariances of the values at each seed, where seeds ran different orders.

Within a table, seeds that ran the same orders share one matrix. A matrix is inverted over the orders that
were run alone, matrices of one size together: a late seed of a race, with five of 24 orders, costs little.
"""

from collections import defaultdict

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class Precision:
    """Inverse covariances for tables of values, each fitted by as many chains.

    `seen`, shape (tables, seeds, orders), tells which orders were run. All other arrays have the chains of
    all tables, those of a table together, as their first axis.
    """

    def __init__(self, seen: BoolArray, chains: int) -> None:
        self._tables, self._seeds, self._orders = seen.shape
        self._chains = chains
        patterns = [np.unique(table, axis=0, return_inverse=True) for table in seen]
        most = max(len(rows) for rows, _ in patterns)
        self._places = np.zeros((self._tables, most), dtype=np.int64)  # of a table's matrices among all
        self._members = np.zeros((self._tables, most, self._seeds))  # 1 where a seed has this matrix
        by_size: dict[int, list[tuple[int, int, IntArray]]] = defaultdict(list)
        count = 0
        for table, (rows, which) in enumerate(patterns):
            for pattern, row in enumerate(rows):
                run = np.flatnonzero(row)
                by_size[len(run)].append((count, table, run))
                self._places[table, pattern] = count
                self._members[table, pattern, which.ravel() == pattern] = 1.0
                count += 1
        self._groups = [
            tuple(np.array(column) for column in zip(*group, strict=True))
            for size, group in by_size.items()
            if size
        ]
        self._inverses = np.zeros((count, chains, self._orders, self._orders))

    def update(self, covariance: FloatArray) -> None:
        """Invert anew, from covariances of shape (chains, orders, orders) that hold at every seed."""
        whole = covariance.reshape(self._tables, self._chains, self._orders, self._orders)
        chain = np.arange(self._chains)[None, :, None, None]
        for places, tables, run in self._groups:
            if run.shape[1] == self._orders:
                self._inverses[places] = np.linalg.inv(whole[tables])
                continue
            rows, columns = run[:, None, :, None], run[:, None, None, :]
            found = np.linalg.inv(whole[tables[:, None, None, None], chain, rows, columns])
            self._inverses[places[:, None, None, None], chain, rows, columns] = found

    def total(self) -> FloatArray:
        """Sum over the seeds, shape (chains, orders, orders)."""
        weights = self._members.sum(axis=2)
        summed = sum(
            weights[:, k, None, None, None] * self._inverses[self._places[:, k]]
            for k in range(weights.shape[1])
        )
        return np.reshape(summed, (-1, self._orders, self._orders))

    def solve(self, values: FloatArray) -> FloatArray:
        """Multiply what stands at each seed, shape (chains, seeds, orders), by that seed's inverse."""
        columns = values.reshape(self._tables, self._chains, self._seeds, self._orders).swapaxes(2, 3)
        solved = sum(
            (self._inverses[self._places[:, k]] @ columns) * self._members[:, None, k, None]
            for k in range(self._places.shape[1])
        )
        return np.swapaxes(solved, 2, 3).reshape(values.shape)
