"""What every virtual head is decided by: features of selectors and of values whose product is one number per pair.

``first``, ``last``, ``sum``, ``count``, ``exists``, the extremes and widths of met selectors all become a matrix
product over a few telling cells that must equal a number known per selector; the survivors are computed on every
chosen cell. It builds no terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.search.columns import Cells, Effort

Array = NDArray[Any]
Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]

_SELECTOR_BLOCK, _VALUE_BLOCK = 256, 1024
#: float32 holds every integer up to here.
EXACT = 1 << 24
_WEIGHTS = np.array([1, -2, 3, 5, -7, 4, 9, -6, 11, -13, 8, 15, -10, 12, 14, -3], dtype=np.float32)


class Test(NamedTuple):
    """One bilinear test. Shapes: ``left`` [selector, feature], ``right`` [value, feature], ``wanted`` [selector]."""

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    wanted: NDArray[np.float32]


def survivors(test: Test, n_old: tuple[int, int], effort: Effort) -> Iterator[Pairs]:
    """Yield blocks of (selector, value) pairs whose product is the wanted number, one of them fresh.

    ``n_old`` says how many of each were there a level ago; values come cheapest first and are cut off where the
    effort ends. Cost: two operations per pair and feature.
    """
    n_selectors, n_values = len(test.left), len(test.right)
    right = np.ascontiguousarray(test.right.T)
    for rows, columns in ((slice(n_old[0], n_selectors), slice(0, n_values)),
                          (slice(0, n_old[0]), slice(n_old[1], n_values))):  # fmt: skip
        n_columns = columns.stop - columns.start
        if n_columns <= 0:
            continue
        stop = rows.start + effort.rows(rows.stop - rows.start, n_columns)
        for i in range(rows.start, stop, _SELECTOR_BLOCK):
            block = slice(i, min(i + _SELECTOR_BLOCK, stop))
            for j in range(columns.start, columns.stop, _VALUE_BLOCK):
                products = test.left[block] @ right[:, j : min(j + _VALUE_BLOCK, columns.stop)]
                hit = products == test.wanted[block, None]
                if hit.any():
                    s, v = np.nonzero(hit)
                    yield s + i, v + j


class Heads:
    """Selectors and the values they read, on the chosen cells of one goal.

    Shapes: ``masks`` [selector, cell, key] bool; ``values`` [value, probe, key] narrow; ``first`` and ``last``
    [selector, cell] are the positions picked, and ``empty`` says where there is none.
    """

    def __init__(self, masks: NDArray[np.bool_], values: Array, cells: Cells) -> None:
        self.masks, self.values, self.cells = masks, values, cells
        n_keys = masks.shape[2]
        self.empty: NDArray[np.bool_] = np.logical_not(masks.any(axis=2))
        self.picked: dict[str, NDArray[np.intp]] = {
            "first": masks.argmax(axis=2), "last": n_keys - 1 - masks[:, :, ::-1].argmax(axis=2)
        }  # fmt: skip
        self.n_tested = max(4, min(len(cells), 160 // max(1, n_keys)))
        self._at = self.values[:, cells.probe[: self.n_tested]]  # [value, cell, key]

    def pick_test(self, name: str, target: Array) -> Test:
        """Return the test of ``first`` or ``last``: every cell with a picked key must get the target."""
        n, n_keys = self.n_tested, self.masks.shape[2]
        left = np.arange(n_keys) == self.picked[name][:, :n, None]
        left &= ~self.empty[:, :n, None]
        right = self._at == target[None, :n, None]
        return Test(_flat(left), _flat(right), (~self.empty[:, :n]).sum(axis=1).astype(np.float32))

    def sum_test(self, target: Array) -> Test:
        """Return the test of ``sum``: a weighted sum over the tested cells, exact in float32 for the values kept."""
        n = self.n_tested
        weights = np.resize(_WEIGHTS, n)
        wanted = np.full(len(self.masks), float((weights * target[:n]).sum()), dtype=np.float32)
        return Test(_flat(self.masks[:, :n] * weights[None, :, None]), _flat(self._at), wanted)

    def mean_test(self, target: Array, scale: int) -> Test:
        """Return the test of ``mean`` for widths that divide the scale, which makes it linear per selector."""
        widths = self.masks[:, : self.n_tested].sum(axis=2)
        weights = np.resize(_WEIGHTS, self.n_tested)
        wanted = (weights[None] * widths * (target[: self.n_tested] / scale)[None]).sum(axis=1)
        return self.sum_test(target)._replace(wanted=np.rint(wanted).astype(np.float32))

    def none_test(self, cells: NDArray[np.intp], refuted: Array) -> Test:
        """Return the test that no picked key is refuted. Shape: refuted [value, cell, key] on the listed cells."""
        return Test(_flat(self.masks[:, cells]), _flat(refuted), np.zeros(len(self.masks), dtype=np.float32))

    def summed(self, s: NDArray[np.intp], v: NDArray[np.intp], cells: slice) -> Array:
        """Return sums of pairs on some cells. Shape: [pair, cell]."""
        values = self.values[v[:, None], self.cells.probe[cells][None]]
        return np.asarray((self.masks[s, cells] * values.astype(np.int32)).sum(axis=2))

    def chosen(self, name: str, s: NDArray[np.intp], v: NDArray[np.intp], cells: slice, default: int) -> Array:
        """Return what ``first`` or ``last`` gives for pairs on some cells. Shape: [pair, cell]."""
        values = self.values[v[:, None], self.cells.probe[cells][None], self.picked[name][s, cells]]
        return np.asarray(np.where(self.empty[s, cells], values.dtype.type(default), values))

    def extreme(self, name: str, s: NDArray[np.intp], v: NDArray[np.intp], cells: slice, default: int) -> Array:
        """Return the least or greatest picked value of pairs on some cells. Shape: [pair, cell]."""
        values = self.values[v[:, None], self.cells.probe[cells][None]]
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
        step = 128
        for start in range(0, len(self.masks), step):
            s = np.arange(start, min(start + step, len(self.masks)))
            first_value = 0 if s[-1] >= n_old[0] else n_old[1]
            if first_value >= len(self.values):
                continue
            if not effort.take(8 * len(s) * (len(self.values) - first_value)):
                return
            for j in range(first_value, len(self.values), _VALUE_BLOCK):
                values = self.values[j : j + _VALUE_BLOCK, probes]  # [value, cell, key]
                alive = np.ones((len(s), len(values)), dtype=np.bool_)
                heads = [self._on_cell(name, s, int(cell), values[:, k], default) for k, cell in enumerate(used)]
                for a, b in ends.T:
                    alive &= heads[a] != heads[b]
                rows, columns = np.nonzero(alive)
                fresh = (rows + start >= n_old[0]) | (columns + j >= n_old[1])
                yield rows[fresh] + start, columns[fresh] + j

    def _on_cell(self, name: str, s: NDArray[np.intp], cell: int, values: Array, default: int) -> Array:
        """Return the head of all pairs on one cell. Shape: values [value, key] -> [selector, value]."""
        if name == "sum":
            return np.asarray(self.masks[s, cell].astype(np.float32) @ values.T.astype(np.float32))
        picked: Array = np.take(np.ascontiguousarray(values.T), self.picked[name][s, cell], axis=0)
        picked[self.empty[s, cell]] = default
        return picked


def _flat(features: Array) -> NDArray[np.float32]:
    return np.ascontiguousarray(features.reshape(len(features), -1), dtype=np.float32)
