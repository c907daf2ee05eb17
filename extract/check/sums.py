"""The checker's own re-proof of strings divided by partial sums: cells are made, counted and bounded again.

A division gives every letter at every position a whole number; the strings of one sum, and of one cell before, are
a cell. Which cells have one answer of the model is the certificate's claim; their ranges and bounds are ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.check.attended import Attended, Range
from extract.check.forward import DOUBLE
from extract.check.language import Ints
from extract.check.margins import Margins
from extract.check.reader import Unreadable
from extract.check.slices import Slice
from extract.check.spans import Form
from extract.check.weights import Floats

_UP = 1 + 1e-9
_MOST_SUM, _MOST_STATES = 1 << 31, 20_000_000
#: Axes beside the directions along which cells have their own ranges; cells bounded together; numbers in one array;
#: pieces of a cell, and cells cut into pieces.
_OWN_AXES, _TOGETHER, _NUMBERS, _PIECES, _CUT = 3, (64, 8, 1), 1 << 20, 24, 400


def _gamma(n: int) -> float:
    return 1.01 * n * DOUBLE


class Divided:
    """The strings of a slice by cell. Shapes: ``weights`` [position, letter]; ``sides`` [cell] are the claim's parts,
    -1 for what is left over; ``counts`` [cell] are exact; ``direction`` [d_model] is only where to look.

    Raises:  ValueError if a node of the certificate is not a division of the slice; Unreadable if it is too large.
    """

    def __init__(self, node: list[Any], part: Slice, d_model: int) -> None:
        direction, weights, runs = node[1:4]
        shape = (len(part.edges), part.n_letters)
        whole = [n for row in weights for n in row] + list(runs)
        if not all(type(n) is int and -1 <= n < _MOST_SUM for n in whole):
            raise ValueError("a division has numbers that are not whole or too large")
        self.part, self.weights = part, np.array(weights, np.int64).reshape(shape)
        self.direction = np.array(direction, float).reshape(d_model)
        if self.weights.min() < 0 or not np.isfinite(self.direction).all():
            raise ValueError("a division has negative weights or no direction")
        self.cells = self._cells()
        order = self.cells.labels[:, 0].argsort(kind="stable")
        self._first = np.flatnonzero(np.diff(self.cells.labels[order, 0], prepend=-1))
        self._sorted = order
        lengths = np.array(runs[1::2], np.int64)
        if len(runs) % 2 or (lengths < 1).any() or lengths.sum() != len(self._first):
            raise ValueError(f"a division makes {len(self._first)} cells, its sides are of {lengths.sum()}")
        self.sides = np.repeat(np.array(runs[0::2], np.int64), lengths)
        self.counts = self._counts()

    def _cells(self) -> Slice:
        top = int(self.weights.max(axis=1, initial=0).sum()) + 1
        if top > _MOST_SUM:
            raise ValueError("a division's sums are too large")
        state, total, n_states = np.zeros(1, np.int64), np.zeros(1, np.int64), 0
        edges = []
        for table, weight in zip(self.part.edges, self.weights, strict=True):
            ahead, after = table[state], total[:, None] + weight
            pairs, number = np.unique(np.where(ahead >= 0, ahead * top + after, -1), return_inverse=True)
            n_dead = int(pairs[0] < 0)
            edges.append(number.reshape(ahead.shape) - n_dead)
            state, total = np.divmod(pairs[n_dead:], top)
            n_states += len(state)
            if n_states > _MOST_STATES:
                raise Unreadable(f"a division into more than {_MOST_STATES} states")
        before = np.unique(self.part.labels, axis=0, return_inverse=True)[1].ravel()
        labels = np.unique(before[state] * top + total, return_inverse=True)[1]
        return Slice(self.part.n_letters, tuple(edges), labels.reshape(-1, 1))

    def _counts(self) -> NDArray[Any]:
        count: NDArray[Any] = np.ones(1, object)
        for source, _, first in self.cells.order():
            count = np.add.reduceat(count[source], first)
        return np.asarray(np.add.reduceat(count[self._sorted], self._first))

    def size(self, side: int) -> int:
        """Return the exact number of strings on a side."""
        return int(sum(self.counts[self.sides == side]))

    def inside(self, side: int) -> Slice | None:
        """Return the strings on a side, labelled by cell."""
        ends = (self.sides == side)[self.cells.labels[:, 0]]
        return self.cells.kept(list(self.cells.edges), self.cells.labels, ends)

    def largest(self, terms: Floats, rest: Floats) -> Floats:
        """Return upper bounds of the sums along each cell's strings. Shapes: [position, letter, form], [form]; [cell,
        form]."""
        size = np.abs(terms).max(axis=1).sum(axis=0) + np.abs(rest)
        found = np.maximum.reduceat(self.cells.ends(terms)[:, self._sorted], self._first, axis=1)
        return np.asarray(found.T + rest + _gamma(len(terms) + 8) * size * _UP)


class CellRanges:
    """The ranges of a division's cells along axes, the first of which span ``directions`` [d_model, n].

    Shapes: ``low``, ``high`` [cell, axis]. Raises: Unreadable where weights may vanish.
    """

    def __init__(self, attended: Attended, divided: Divided, directions: Floats) -> None:
        found = self.found = attended.over(divided.part, directions)
        n_own = min(len(found.axes), directions.shape[1] + _OWN_AXES)
        n_cells = len(divided.sides)
        self.low, self.high = np.tile(found.low, (n_cells, 1)), np.tile(found.high, (n_cells, 1))
        highest = _highest(attended, divided, found, np.concatenate([found.axes.T, -found.axes.T])[
            [*range(n_own), *range(len(found.axes), len(found.axes) + n_own)]].T)  # fmt: skip
        self.high[:, :n_own] = np.minimum(self.high[:, :n_own], highest[:, :n_own])
        self.low[:, :n_own] = np.maximum(self.low[:, :n_own], -highest[:, n_own:])
        self._n_cut = 0

    def bounded(self, cells: Ints, margins: Margins) -> bool:
        """Say whether our bounds make every margin of an answer positive on all of some cells."""
        left = cells
        for n in _TOGETHER:
            groups = [left[i : i + n] for i in range(0, len(left), n)]
            step = max(1, _NUMBERS // margins.width(len(self.found.axes)))
            failed = [
                group
                for at in range(0, len(groups), step)
                for group, is_sure in zip(groups[at:][:step], self._sure(groups[at:][:step], margins), strict=True)
                if not is_sure
            ]
            left = np.concatenate(failed) if failed else np.zeros(0, np.int64)
        self._n_cut += len(left)
        return self._n_cut <= _CUT and all(self._by_pieces(int(cell), margins) for cell in left)

    def _sure(self, groups: list[Ints], margins: Margins) -> NDArray[np.bool_]:
        found = self.found
        low = np.array([self.low[group].min(axis=0) for group in groups])
        high = np.array([self.high[group].max(axis=0) for group in groups])
        middle, half = (low + high) / 2, (high - low) / 2
        half = half * (1 + 1e-14) + 1e-14 * np.abs(middle)
        size = np.abs(found.centre) + (np.abs(middle) + half) @ np.abs(found.axes).T
        radius = (found.slip + _gamma(len(found.axes) + 6) * size) * _UP
        with np.errstate(all="ignore"):
            made, _ = margins.of(Form(found.centre + middle @ found.axes.T, found.axes * half[:, None], radius))
            least = (made.centre - made.reach()) - _gamma(4) * (np.abs(made.centre) + made.reach())
        return np.asarray((np.isfinite(least) & (least > 0)).all(axis=-1))

    def _by_pieces(self, cell: int, margins: Margins) -> bool:
        found = self.found
        unknown = lambda directions: np.full(len(directions), -np.inf)  # noqa: E731
        place = (found.centre, found.axes, self.low[cell], self.high[cell], found.slip)
        return margins.least(*place, unknown, _PIECES) > 0


def _highest(attended: Attended, divided: Divided, found: Range, directions: Floats) -> Floats:
    """Return upper bounds of directions.T @ (residual - centre) on each cell. Shapes: [d_model, form], the second half
    the opposites of the first; [cell, form]."""
    weight = attended.weight.transpose(1, 2, 0)
    most = np.minimum(divided.largest(weight, attended.rest_weight), found.most)
    least = np.maximum(-divided.largest(-weight, -attended.rest_weight), found.least)
    n, parts = directions.shape[1] // 2, []
    apart = np.zeros((len(most), 2 * n))
    for h, middle in enumerate(found.middles):
        offset = middle @ directions
        term = attended.value[h] @ directions - attended.weight[h][..., None] * offset
        rest = attended.rest_value[h] @ directions - attended.rest_weight[h] * offset
        top = divided.largest(term, rest)
        low, high = least[:, h, None], most[:, h, None]
        apart += np.where(top > 0, top / low, top / high) + 1e-14 * np.abs(top) / low
        parts.append((term, rest, top, low, high, (found.least[h] + found.most[h]) / 2))
    if len(parts) > 1:
        terms = sum((term / w for term, *_, w in parts), np.zeros_like(parts[0][0]))
        joint = divided.largest(terms, sum((rest / w for _, rest, *_, w in parts), np.zeros(2 * n)))
        for term, rest, top, low, high, w in parts:
            # sum / weight = sum / w + (sum / w) (w / weight - 1), and the last product is largest at a corner
            bottom = -np.roll(top, n, axis=1)
            joint = joint + np.max([t / w * f for t in (top, bottom) for f in (w / high - 1, w / low - 1)], axis=0)
            size = np.abs(term).max(axis=1).sum(axis=0) + np.abs(rest)
            joint = joint + 1e-14 * (np.abs(top) + np.abs(bottom)) / low + _gamma(len(parts) + 4) * size / w
        apart = np.minimum(apart, joint)
    far = attended.far.sum(axis=0) + np.abs(found.middles).sum(axis=0)
    rough = 4 * _gamma(len(far) + attended.length + 16) * (far @ np.abs(directions))
    return np.asarray(apart + rough + 1e-13 * np.abs(apart))
