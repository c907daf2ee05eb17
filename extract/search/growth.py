"""Growth of a bank by one level: pairs of levels, the work they may cost, and the bank's bookkeeping.

It knows buckets and work and no production; what is grown is said in ``layers.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Datum
from extract.search import kernels
from extract.search.bank import Bank, Key, Origin, Tag
from extract.search.builders import NAMES
from extract.search.frame import SHAPES, Shape

Array = NDArray[Any]

BLOCK_CELLS = 1 << 22
#: Shares of the work by what is computed, so that the many position-shaped terms do not starve the few sequence-wide
#: ones, which most answers are made of.
_SHARES = {
    "whole": 0.35, "position": 0.35, "step": 0.2, "selector": 0.1, "joined": 0.05, "reduced": 0.1,
}  # fmt: skip
#: Booleans lie in the bank as bits, whole words at a time.
_BITWISE = {"and": np.bitwise_and, "or": np.bitwise_or}


class Growth:
    """A bank, the work left by what is computed, and whether a level was left out for want of it."""

    def __init__(self, bank: Bank, work: int) -> None:
        self.bank = bank
        self.frame = bank.frame
        self._work = {pool: int(share * work) for pool, share in _SHARES.items()}
        self.is_complete = True
        self._shapes = tuple(s for s in SHAPES if self.frame.n_queries(s) and not (s == "step" and not self._has_steps))

    @property
    def _has_steps(self) -> bool:
        return bool(self.frame.care.shape[1])

    def _elementwise_keys(self, tag: Tag) -> Iterator[tuple[Shape, Key, Key]]:
        for shape in self._shapes:
            key, whole = Key("I", tag, shape), Key("I", tag, "whole")
            yield shape, key, key
            if shape != "whole":
                yield shape, key, whole
                yield shape, whole, key

    def _costs(
        self, left_key: Key, right_key: Key, total: int, n_cells: int, pool: str, *, commutative: bool = False
    ) -> Iterator[tuple[int, int]]:
        """Yield the costs that add up to ``total`` and at which both buckets have terms, while the work lasts."""
        for left_cost in range(1, total):
            right_cost = total - left_cost
            if commutative and left_cost > right_cost:
                break
            n_pairs = self.bank.count(left_key, left_cost) * self.bank.count(right_key, right_cost)
            if n_pairs and self._afford(n_pairs * n_cells, pool):
                yield left_cost, right_cost

    def _pairs(
        self, left_key: Key, right_key: Key, total: int, n_cells: int, pool: str, *, commutative: bool = False
    ) -> Iterator[tuple[tuple[Array, NDArray[np.int32]], tuple[Array, NDArray[np.int32]]]]:
        """Yield blocks of (left, right) rows whose costs add up to ``total``, while the work lasts."""
        for left_cost, right_cost in self._costs(left_key, right_key, total, n_cells, pool, commutative=commutative):
            left, left_ids = self.bank.rows(left_key, left_cost)
            right, right_ids = self.bank.rows(right_key, right_cost)
            step = max(1, BLOCK_CELLS // max(1, n_cells * len(right_ids)))
            wide = max(1, BLOCK_CELLS // max(1, n_cells))
            for i in range(0, len(left_ids), step):
                for j in range(0, len(right_ids), wide):
                    block = slice(i, i + step), slice(j, j + wide)
                    yield (left[block[0]], left_ids[block[0]]), (right[block[1]], right_ids[block[1]])

    def _afford(self, cells: int, pool: str) -> bool:
        if cells > self._work[pool]:
            self.is_complete = False
            return False
        self._work[pool] -= cells
        return True

    def _binary(self, key: Key, name: str, left: tuple[Key, int], right: tuple[Key, int], cost: int) -> None:
        """Add an elementwise operator of all pairs of a level of one bucket and a level of another."""
        runs = [(side, *self.bank.run(side, side_cost)) for side, side_cost in (left, right)]
        function = _BITWISE.get(name) or kernels.ELEMENTWISE[name]
        origin = Origin(NAMES[name], (), (runs[0][2], runs[1][2]), cost)
        self.bank.append_pairs(key, function, runs[0][:2], runs[1][:2], origin)

    def _cross(
        self,
        key: Key,
        values: Array,
        name: str,
        ids: tuple[NDArray[np.int32], NDArray[np.int32]],
        cost: int,
        data: tuple[Datum, ...] = (),
    ) -> None:
        n_left, n_right = values.shape[:2]
        left = np.repeat(ids[0], n_right)
        right = np.tile(ids[1], n_left)
        self._append(key, values.reshape(n_left * n_right, *values.shape[2:]), name, (left, right), cost, data)

    def _append(
        self,
        key: Key,
        values: Array,
        name: str,
        ids: tuple[NDArray[np.int32], ...],
        cost: int,
        data: tuple[Datum, ...] = (),
    ) -> None:
        self.bank.append(key, values, Origin(NAMES[name], data, ids, cost))
