"""Cells of strings as sets of residual vectors, and the answers that bounds give on all of a cell.

The strings of a label are ranged together: every head's sums along every axis, then their quotients. Neighbouring cells
are bounded together first, so that only those near a change of the answer are bounded alone. It refuses to know how
cells were cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.verify.affine import Affine, Floats, gamma
from extract.verify.counters import largest
from extract.verify.final_stage import FinalStage
from extract.verify.head_sums import HeadSums, over, swayed
from extract.verify.paths import Paths

#: Cells bounded together before they are bounded alone.
_TOGETHER = (64, 8, 1)
#: Numbers of one array of the final stage's forms, about.
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class CellRanges:
    """Vectors ``centre + axes @ z``, z between ``low`` and ``high`` in each cell, off by at most ``slip``.

    Shapes: ``centre``, ``slip`` [d_model]; ``axes`` [d_model, axis]; ``low``, ``high`` [cell, axis]. ``apart`` [cell]
    is about how much of the widths, relative to the whole, comes from the heads' denominators alone.
    """

    centre: Floats
    axes: Floats
    low: Floats
    high: Floats
    slip: Floats
    apart: Floats

    def united(self, n: int) -> CellRanges:
        """Return every n consecutive cells as one."""
        first = np.arange(0, len(self.low), n)
        low, high = np.minimum.reduceat(self.low, first), np.maximum.reduceat(self.high, first)
        return CellRanges(self.centre, self.axes, low, high, self.slip, self.apart[first])

    def form(self, cells: NDArray[np.intp]) -> Affine:
        """Return some cells' vectors as forms side by side, one symbol per axis."""
        low, high = self.low[cells], self.high[cells]
        middle, half = (low + high) / 2, (high - low) / 2
        half = half * (1 + 1e-15) + 1e-15 * np.abs(middle)
        size = np.abs(self.centre) + (np.abs(middle) + half) @ np.abs(self.axes).T
        radius = (self.slip + gamma(len(self.centre) + 4) * size) * (1 + 2.0**-30)
        return Affine(self.centre + middle @ self.axes.T, self.axes * half[:, None, :], radius)


def ranges_of(sums: HeadSums, paths: Paths, whole: Paths, axes: Floats, n_own: int) -> CellRanges | None:
    """Range the residual vectors of every label's strings; None if a denominator may vanish.

    Shapes: ``axes`` [d_model, d_model], orthonormal about; along all but the first ``n_own`` every cell gets the range
    of all strings. ``whole`` are the same strings with fewer states.
    """
    centres, extent = sums.centres(whole), sums.extent(whole)
    if not (extent[0] > 0).all():
        return None
    whole_low, whole_high = sums.range(whole, centres, axes, extent)
    # the rounding of axes that span all but nearly, as in the boxes of one label
    far = (sums.reach + np.abs(centres)).sum(axis=0)
    missed = np.abs(np.eye(len(axes)) - axes @ axes.T) + gamma(len(axes) + 4) * (np.abs(axes) @ np.abs(axes.T))
    size = np.abs(sums.base) + np.abs(centres).sum(axis=0)
    slip = sums.slip + missed @ far + float(sums.errors(extent[0])[0]) + gamma(len(centres) + 4) * size
    least, most = _denominators(sums, paths, extent)
    both = np.concatenate([axes[:, :n_own], -axes[:, :n_own]], axis=1)
    top = _quotients(sums, paths, centres, both, least, most)
    n = len(top)
    low, high = np.tile(whole_low, (n, 1)), np.tile(whole_high, (n, 1))
    high[:, :n_own] = np.minimum(high[:, :n_own], top[:, :n_own])
    low[:, :n_own] = np.maximum(low[:, :n_own], -top[:, n_own:])
    low, high = np.minimum(low, high), np.maximum(low, high)
    apart = (most / least - 1).max(axis=1)
    centre = sums.base + centres.sum(axis=0)
    return CellRanges(centre, axes, low, high, slip * (1 + 2.0**-30), apart)


def _denominators(sums: HeadSums, paths: Paths, extent: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return bounds of the heads' denominators over each label's strings. Shapes: [cell, head], [cell, head]."""
    terms = sums.weights.transpose(1, 2, 0)
    most = largest(paths, terms, sums.fixed_weights)
    least = -largest(paths, -terms, -sums.fixed_weights)
    return np.maximum(least, extent[0]), np.minimum(most, extent[1])


def _quotients(sums: HeadSums, paths: Paths, centres: Floats, both: Floats, least: Floats, most: Floats) -> Floats:
    """Return upper bounds of ``both.T @ (output - sum of centres)`` over each label's strings. Shapes: ``both``
    [d_model, form], an axis and its opposite half the forms apart; answer [cell, form]."""
    parts, tops = [], []
    for h in range(len(sums.weights)):
        offset = centres[h] @ both
        part = sums.values[h] @ both - sums.weights[h][..., None] * offset
        fixed = sums.fixed_values[h] @ both - sums.fixed_weights[h] * offset
        parts.append((part, fixed))
        tops.append(largest(paths, part, fixed))
    highest = sum((over(t, least[:, [h]], most[:, [h]]) for h, t in enumerate(tops)), np.zeros_like(tops[0]))
    if len(parts) > 1:
        highest = np.minimum(highest, _joint(paths, parts, tops, least, most))
    # a part's rounding, relative to its weights; over mean denominators, of which the most are twice, three times that
    slip = 3 * gamma(len(both) + 12) * ((sums.reach + np.abs(centres)) @ np.abs(both)).sum(axis=0)
    return np.asarray((highest + slip) + 1e-14 * np.abs(highest))


def _joint(paths: Paths, parts: list[tuple[Floats, Floats]], tops: list[Floats], least: Floats, most: Floats) -> Floats:
    """Return upper bounds of the sum of the quotients: one form over mean denominators, and what each head's part
    gains or loses as its denominator leaves that mean."""
    mean = (least.min(axis=0) + most.max(axis=0)) / 2
    total: Floats = sum((p / d for (p, _), d in zip(parts, mean, strict=True)), np.zeros_like(parts[0][0]))
    fixed: Floats = sum((f / d for (_, f), d in zip(parts, mean, strict=True)), np.zeros_like(parts[0][1]))
    sizes: Floats = sum(
        ((np.abs(p).max(axis=1).sum(axis=0) + np.abs(f)) / d for (p, f), d in zip(parts, mean, strict=True)),
        np.zeros_like(fixed),
    )
    highest = largest(paths, total, fixed) + gamma(len(parts) + 4) * sizes
    for h, d in enumerate(mean):
        highest = highest + swayed(tops[h] / d, d / most[:, [h]] - 1, d / least[:, [h]] - 1)
    return highest


@dataclass(frozen=True, slots=True)
class Sided:
    """What bounds say of cells: which of ``answers`` each has on all its strings, -1 where they say nothing, and a
    lower bound of its margins. Shapes: ``answer``, ``least`` [cell]; ``n_bounded`` counts the forms bounded."""

    answers: tuple[tuple[int, ...], ...]
    answer: NDArray[np.intp]
    least: Floats
    n_bounded: int


class CellBounds:
    """Decides cells by a network's final stage, in real arithmetic."""

    def __init__(self, final: FinalStage, n_hidden: int) -> None:
        self.final, self._n_hidden = final, n_hidden
        self._is_set = final.readout.kind == "multilabel"
        self._n_choices = len(final.readout.choices)

    def decide(self, ranges: CellRanges) -> Sided:
        """Bound all cells, those that lie together first."""
        n = len(ranges.low)
        numbers: dict[tuple[int, ...], int] = {}
        answer, least, n_bounded = np.full(n, -1), np.full(n, -np.inf), 0
        for size in _TOGETHER:
            some = ranges.united(size)
            left = np.unique(np.flatnonzero(answer < 0) // size)
            is_finite = np.isfinite(some.low[left]).all(axis=1) & np.isfinite(some.high[left]).all(axis=1)
            left = left[is_finite]
            n_bounded += len(left)
            for chunk in self._chunks(left, some):
                guesses = self.guesses(some, chunk)
                for guess in np.unique(guesses, axis=0):
                    own = chunk[(guesses == guess).all(axis=1)]
                    key = tuple(int(v) for v in guess)
                    found = self.final.bound(some.form(own), key).least.min(axis=1)
                    sure = found > 0
                    number = numbers.setdefault(key, len(numbers)) if sure.any() else -1
                    inside = (own[sure][:, None] * size + np.arange(size)).ravel()
                    lows = np.repeat(found[sure], size)
                    lows, inside = lows[inside < n], inside[inside < n]
                    fresh = answer[inside] < 0
                    answer[inside[fresh]], least[inside[fresh]] = number, lows[fresh]
        return Sided(tuple(numbers), answer, least, n_bounded)

    def guesses(self, ranges: CellRanges, cells: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return each cell's answer at its middle, about, as the final stage calls answers. Shape: [cell, part]."""
        middle = (ranges.low[cells] + ranges.high[cells]) / 2
        return self.answers_at(ranges.centre + middle @ ranges.axes.T)

    def answers_at(self, vectors: Floats) -> NDArray[np.intp]:
        """Return the answers at residual vectors, about. Shapes: [vector, d_model]; [vector, part]."""
        points = Affine(vectors, np.zeros((*vectors.shape, 0)), np.zeros_like(vectors))
        if self._is_set:
            margins = self.final.bound(points, (1,) * self._n_choices).form.centre
            return np.asarray(margins > 0, dtype=np.intp)
        margins = self.final.bound(points, (0,)).form.centre
        logits = np.column_stack([np.zeros(len(vectors)), -margins])
        return np.asarray(logits.argmax(axis=1)[:, None], dtype=np.intp)

    def _chunks(self, cells: NDArray[np.intp], ranges: CellRanges) -> Iterator[NDArray[np.intp]]:
        d, n_axes = ranges.axes.shape
        step = max(1, _CHUNK // ((3 * n_axes + self._n_hidden) * max(d, self._n_hidden)))
        for at in range(0, len(cells), step):
            yield cells[at : at + step]
