"""What every virtual head is decided by: features of selectors and of values whose product is one number per pair.

``first``, ``last``, ``sum``, ``count``, ``exists``, the extremes and widths of met selectors all become a matrix
product over a few telling cells that must equal a number known per selector; the survivors are computed on every
chosen cell. It builds no terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.lang.elementwise import RELATION
from extract.search.columns import Cells, Effort

Array = NDArray[Any]
Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]

_WIDTH_BLOCK = 1 << 13
_SELECTOR_BLOCK, _VALUE_BLOCK = 192, 384
_LEAST_PARTNERS = 64
#: Testing a pair for a dependency costs so many single tests.
_DEPENDENT_EFFORT, _DEPENDENT_ROWS = 8, 128
#: float32 holds every integer up to here.
EXACT = 1 << 24
#: More than all confirmations together.
_REFUTED = 1 << 12
_WEIGHTS = np.array([1, -2, 3, 5, -7, 4, 9, -6, 11, -13, 8, 15, -10, 12, 14, -3], dtype=np.float32)


class Bilinear(NamedTuple):
    """One bilinear test: the product must be the wanted number, or at most that.

    Shapes: ``left`` [selector, feature], ``right`` [value, feature], ``wanted`` [selector].
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    wanted: NDArray[np.float32]
    is_bound: bool = False


def survivors(test: Bilinear, n_old: tuple[int, int], effort: Effort) -> Iterator[Pairs]:
    """Yield blocks of (selector, value) pairs whose product is the wanted number, one of them fresh.

    ``n_old`` says how many of each were there a level ago; values come cheapest first and are cut off where the
    effort ends. Cost: two operations per pair and feature.
    """
    for rows, columns in _regions(len(test.left), len(test.right), n_old, effort, 1):
        for i in range(rows.start, rows.stop, _SELECTOR_BLOCK):
            block = slice(i, min(i + _SELECTOR_BLOCK, rows.stop))
            for j in range(columns.start, columns.stop, _VALUE_BLOCK):
                products = test.left[block] @ test.right[j : min(j + _VALUE_BLOCK, columns.stop)].T
                wanted = test.wanted[block, None]
                hit = products <= wanted if test.is_bound else products == wanted
                if hit.any():
                    s, v = np.divmod(np.flatnonzero(hit), hit.shape[1])
                    yield s + i, v + j


def _regions(
    n_selectors: int, n_values: int, n_old: tuple[int, int], effort: Effort, n_each: int
) -> Iterator[tuple[slice, slice]]:
    """Yield fresh selectors with the cheapest values, and the cheapest old selectors with fresh values.

    Each part may spend half of the effort, ``n_each`` per pair.
    """
    half = effort.left // (2 * n_each)
    n_fresh = n_selectors - n_old[0]
    if n_fresh and n_values:
        partners = min(n_values, max(_LEAST_PARTNERS, half // n_fresh))
        n_rows = min(n_fresh, half // partners)
        effort.left -= n_each * n_rows * partners
        yield slice(n_old[0], n_old[0] + n_rows), slice(0, partners)
    n_fresh = n_values - n_old[1]
    if n_fresh and n_old[0]:
        partners = min(n_old[0], max(_LEAST_PARTNERS, half // n_fresh))
        n_columns = min(n_fresh, half // partners)
        effort.left -= n_each * n_columns * partners
        yield slice(0, partners), slice(n_old[1], n_old[1] + n_columns)


class Heads:
    """Selectors, and after ``reading`` the values they read, on the chosen cells of one goal.

    Shapes: ``masks`` [selector, cell, key] bool; ``values`` [value, probe, key] narrow, or [value, cell, key] where
    they are selectors to meet (``is_per_cell``); ``at`` are the values on the tested cells; ``first`` and ``last``
    [selector, cell] are the positions picked, and ``empty`` says where there is none.
    """

    values: Array
    at: Array
    _probe: NDArray[np.intp]

    def __init__(self, masks: NDArray[np.bool_], cells: Cells) -> None:
        self.masks, self.cells = masks, cells
        n_keys = masks.shape[2]
        self.empty: NDArray[np.bool_] = np.logical_not(masks.any(axis=2))
        self.picked: dict[str, NDArray[np.intp]] = {
            "first": masks.argmax(axis=2), "last": n_keys - 1 - masks[:, :, ::-1].argmax(axis=2)
        }  # fmt: skip
        self.n_tested = max(4, min(len(cells), 96 // max(1, n_keys)))

    def reading(self, values: Array, *, is_per_cell: bool = False) -> Heads:
        """Return heads of the same selectors over these values."""
        heads = copy(self)
        heads.__dict__.pop("_sum_features", None)
        heads.__dict__.pop("are_small", None)
        heads.values = values
        heads._probe = np.arange(len(self.cells)) if is_per_cell else self.cells.probe
        heads.at = values[:, heads._probe[: self.n_tested]]
        return heads

    def pick_test(self, name: str, target: Array) -> Bilinear:
        """Return the test of ``first`` or ``last``: every cell with a picked key must get the target."""
        n, n_keys = self.n_tested, self.masks.shape[2]
        left = np.arange(n_keys) == self.picked[name][:, :n, None]
        left &= ~self.empty[:, :n, None]
        right = self.at == target[None, :n, None]
        return Bilinear(_flat(left), _flat(right), (~self.empty[:, :n]).sum(axis=1).astype(np.float32))

    def sum_test(self, target: Array) -> Bilinear:
        """Return the test of ``sum``: a weighted sum over the tested cells, exact in float32 for the values kept."""
        n = self.n_tested
        weights = np.resize(_WEIGHTS, n)
        wanted = np.full(len(self.masks), float((weights * target[:n]).sum()), dtype=np.float32)
        return Bilinear(*self._sum_features, wanted)

    @cached_property
    def _sum_features(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        weights = np.resize(_WEIGHTS, self.n_tested)
        return _flat(self.masks[:, : self.n_tested] * weights[None, :, None]), _flat(self.at)

    @cached_property
    def are_small(self) -> bool:
        """Whether every weighted sum over the tested cells is exact in float32."""
        largest = max(-int(self.at.min(initial=0)), int(self.at.max(initial=0)))
        return bool(largest * self.n_tested * self.masks.shape[2] * 16 < EXACT)

    def mean_test(self, target: Array, scale: int) -> Bilinear:
        """Return the test of ``mean`` for widths that divide the scale, which makes it linear per selector."""
        widths = self.masks[:, : self.n_tested].sum(axis=2)
        weights = np.resize(_WEIGHTS, self.n_tested)
        wanted = (weights[None] * widths * (target[: self.n_tested] / scale)[None]).sum(axis=1)
        return self.sum_test(target)._replace(wanted=np.rint(wanted).astype(np.float32))

    def bound_test(self, refuted: Array, confirmed: Array, needs: NDArray[np.bool_]) -> Bilinear:
        """Return the test that no picked key is refuted and as many are confirmed as there are cells in need of one.

        Shape:   refuted, confirmed [value, cell, key], needs [selector, cell], all on the tested cells.
        """
        right = _flat(confirmed) * -1
        right[_flat(refuted) > 0] = _REFUTED
        left = _flat(self.masks[:, : self.n_tested])
        return Bilinear(left, right, -needs.sum(axis=1).astype(np.float32), is_bound=True)

    def summed(self, s: NDArray[np.intp], v: NDArray[np.intp], cells: slice) -> Array:
        """Return sums of pairs on some cells. Shape: [pair, cell]."""
        values = self.values[v[:, None], self._probe[cells][None]]
        return np.asarray((self.masks[s, cells] * values.astype(np.int32)).sum(axis=2))

    def chosen(self, name: str, s: NDArray[np.intp], v: NDArray[np.intp], cells: slice, default: int) -> Array:
        """Return what ``first`` or ``last`` gives for pairs on some cells. Shape: [pair, cell]."""
        values = self.values[v[:, None], self._probe[cells][None], self.picked[name][s, cells]]
        return np.asarray(np.where(self.empty[s, cells], values.dtype.type(default), values))

    def extreme(self, name: str, s: NDArray[np.intp], v: NDArray[np.intp], cells: slice, default: int) -> Array:
        """Return the least or greatest picked value of pairs on some cells. Shape: [pair, cell]."""
        values = self.values[v[:, None], self._probe[cells][None]]
        bound = np.iinfo(values.dtype)
        fill = values.dtype.type(bound.max if name == "min" else bound.min)
        picked = np.where(self.masks[s, cells], values, fill)
        result = picked.min(axis=2) if name == "min" else picked.max(axis=2)
        return np.asarray(np.where(self.empty[s, cells], values.dtype.type(default), result))

    def dependent(self, name: str, conflicts: NDArray[np.intp], default: int, effort: Effort, n_old: tuple[int, int]
                  ) -> Iterator[Pairs]:  # fmt: skip
        """Yield pairs, one of them fresh, whose head differs on both cells of every conflict.

        Shape:   conflicts [2, conflict] are indices of cells.
        """
        used, inverse = np.unique(conflicts, return_inverse=True)
        ends = inverse.reshape(conflicts.shape)
        probes = self.cells.probe[used]
        for rows, columns in _regions(len(self.masks), len(self.values), n_old, effort, _DEPENDENT_EFFORT):
            for start in range(rows.start, rows.stop, _DEPENDENT_ROWS):
                s = np.arange(start, min(start + _DEPENDENT_ROWS, rows.stop))
                for j in range(columns.start, columns.stop, _VALUE_BLOCK):
                    values = self.values[j : min(j + _VALUE_BLOCK, columns.stop), probes]  # [value, cell, key]
                    alive = np.ones((len(s), len(values)), dtype=np.bool_)
                    heads = [self._on_cell(name, s, int(cell), values[:, k], default) for k, cell in enumerate(used)]
                    for a, b in ends.T:
                        alive &= heads[a] != heads[b]
                    found = np.nonzero(alive)
                    yield found[0] + start, found[1] + j

    def _on_cell(self, name: str, s: NDArray[np.intp], cell: int, values: Array, default: int) -> Array:
        """Return the head of all pairs on one cell. Shape: values [value, key] -> [selector, value]."""
        if name == "sum":
            return np.asarray(self.masks[s, cell].astype(np.float32) @ values.T.astype(np.float32))
        picked: Array = np.take(np.ascontiguousarray(values.T), self.picked[name][s, cell], axis=0)
        picked[self.empty[s, cell]] = default
        return picked


def width_pairs(
    relation: str, keys: Array, queries: Array, pairs: Pairs, cells: Cells, valid: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Yield pairs (key row, query row) for which so many keys stand in the relation as the cells want.

    Shape:   keys [term, probe, key], queries [term, cell], valid [probe, key]. A few cells at a time.
    """
    relate = RELATION[relation]
    for start in range(0, len(pairs[0]), _WIDTH_BLOCK):
        i, j = (part[start : start + _WIDTH_BLOCK] for part in pairs)
        for part in (slice(0, 2), slice(2, 8), slice(8, None)):
            probe = cells.probe[part]
            holds = relate(keys[i[:, None], probe[None]], queries[j, part][:, :, None]) & valid[probe]
            kept = (holds.sum(axis=2) == cells.target[part]).all(axis=1)
            i, j = i[kept], j[kept]
        yield from zip(i.tolist(), j.tolist(), strict=True)


def _flat(features: Array) -> NDArray[np.float32]:
    return np.ascontiguousarray(features.reshape(len(features), -1), dtype=np.float32)
