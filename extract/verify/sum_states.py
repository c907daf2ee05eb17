"""Thin margins by sum-state dynamic programming: strings merged by partial sums, refined where their cells fail.

Strings are divided by a whole-number counter of what moves the margins most; cells on which bounds find one answer are
decided, all their strings with them, counted exactly. The strings of failing cells alone are divided again, in finer
units or another direction: their paths are the ancestors of those cells. What the work allowed leaves over stays open.

Source:  design/verification.md, tier 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from extract.verify.affine import Affine, Floats
from extract.verify.boxes import Node, Split
from extract.verify.counters import Cut, counter, divided, sizes
from extract.verify.head_sums import HeadSums
from extract.verify.paths import Paths
from extract.verify.sum_cells import CellBounds, Sided, ranges_of

#: Transitions over all depths, about, that the first division makes, how many times more each next one, and the most.
_FIRST, _FINER, _MOST = 250_000, 16, 12_000_000
#: Divisions at most, and axes along which cells have ranges of their own beside those divided along.
_ROUNDS, _OWN_AXES = 12, 3
#: A division that leaves more than this share of its strings undecided is the last.
_STALE = 0.8
#: Multiply-adds that a form on a transition, and a transition alone, count as.
_FORM_WORK, _EDGE_WORK = 12, 120
#: Strings drawn to find directions; of them, those nearest a change of the answer count most, down to this share.
_DRAWN, _SEED, _NEAR = 96, 11, 0.25
#: How far vectors are moved to find how margins change, relative to how far apart they are.
_STEP = 1e-4


#: Told of each part that has one answer: its node, the answer and what returns its strings.
Decided = Callable[[Node, tuple[int, ...], Callable[[], Paths | None]], None]


@dataclass(slots=True)
class Division:
    """Strings being divided: what is left of them, in the last node; the directions so far, the newest first; axes and
    the half widths along them of the cells that failed, once there are some; and the multiply-adds left."""

    node: Node
    paths: Paths
    work: int
    directions: list[Floats] = field(default_factory=list)
    axes: Floats | None = None
    half: Floats | None = None


class SumStates:
    """Divides the strings of one answer of the program and one query token by their partial sums.

    ``cell_work`` is the multiply-adds of bounding a cell, about.
    """

    def __init__(self, bounds: CellBounds, cell_work: int) -> None:
        self.bounds, self.cell_work = bounds, cell_work

    def divide(self, sums: HeadSums, at: Division, decided: Decided, stop: Callable[[], bool]) -> Paths | None:
        """Divide strings until none is left, their work is spent or a division gains little; return what is left of
        them, which are those of the last node."""
        at.paths = Paths(at.paths.n_letters, at.paths.next, np.zeros_like(at.paths.labels)).merged()
        n_edges = _FIRST
        for _ in range(_ROUNDS):
            size, n_forms = at.node.size, _n_forms(sums, len(at.directions) + 1 + _OWN_AXES)
            allowed = min(_MOST, at.work // (n_forms * _FORM_WORK + _EDGE_WORK))
            if stop() or allowed < len(at.paths.next):
                break
            sided = self._once(sums, at, min(n_edges, allowed), decided)
            if sided is None or (n_edges >= allowed and at.node.size > _STALE * size):
                break
            if not at.node.size:
                return None
            n_edges *= _FINER
        return at.paths

    def _once(self, sums: HeadSums, at: Division, n_edges: int, decided: Decided) -> Sided | None:
        """Divide what is left once; None where that cannot be done."""
        direction, spread = self._direction(sums, at)
        if not np.isfinite(direction).all() or not direction.any():
            return None
        weights = counter(at.paths, _terms(sums, at.paths, direction), n_edges // at.paths.n_letters)
        found = divided(at.paths, weights, 2 * n_edges) if weights.any() else None
        if found is None:
            return None
        paths, cells = found
        directions = [direction, *at.directions]
        axes = np.linalg.qr(np.concatenate([np.array(directions).T, spread], axis=1))[0]
        n_own = min(len(axes), len(directions) + _OWN_AXES)
        ranges = ranges_of(sums, paths, at.paths, axes, n_own)
        if ranges is None:
            return None
        sided = self.bounds.decide(ranges)
        n_live = sum(len(source) for source, _, _ in paths.edges())
        at.work -= n_live * (_n_forms(sums, n_own) * _FORM_WORK + _EDGE_WORK) + sided.n_bounded * self.cell_work
        failed = sided.answer < 0
        if not failed.all():
            self._written(at, Cut(direction, weights, cells, sided.answer), paths, sided, decided)
            at.directions, at.axes = directions, axes
            at.half = ((ranges.high - ranges.low)[failed] / 2).mean(axis=0) if failed.any() else None
        return sided

    def _written(self, at: Division, cut: Cut, paths: Paths, sided: Sided, decided: Decided) -> None:
        """Hang the parts of a division into the tree, and go on with what is left."""
        counts, node, rest = sizes(paths), at.node, Node(0)
        if sum(counts) != node.size:
            raise ArithmeticError("the cells of a division do not add up")
        node.split = Split("sums", sums=cut)
        for side in np.unique(sided.answer).tolist():
            inside = sided.answer == side
            part = Node(sum(n for n, is_in in zip(counts, inside, strict=True) if is_in))
            node.children.append((side, part))
            if side < 0:
                rest = part
                continue
            part.least = float(sided.least[inside].min())
            decided(part, sided.answers[side], partial(paths.only, inside[paths.labels]))
        left = paths.only((sided.answer < 0)[paths.labels])
        at.node, at.paths = rest, at.paths if left is None else left

    def _direction(self, sums: HeadSums, at: Division) -> tuple[Floats, Floats]:
        """Return the direction that moves the margins of strings near a change of the answer most within the cells they
        are in, and the principal axes of the strings' vectors. Shapes: [d_model], [d_model, d_model]."""
        rows = sums.rows(at.paths.sample(_DRAWN, _SEED))
        apart = np.nan_to_num(rows - rows.mean(axis=0), posinf=0.0, neginf=0.0)
        spread = np.linalg.svd(apart, full_matrices=True)[2].T
        axes = spread if at.axes is None else at.axes
        half = np.abs(apart @ axes).max(axis=0) if at.half is None else at.half
        gradients, margins = self._gradients(rows, _STEP * float(np.abs(apart).max(initial=0.0)))
        near = np.abs(margins) + np.quantile(np.abs(margins), _NEAR)
        effects = np.nan_to_num(gradients @ axes * half / np.where(near > 0, near, 1.0)[:, None])
        strongest = np.linalg.svd(effects, full_matrices=False)[2][0]
        direction = axes @ (strongest / np.maximum(half, 1e-6 * half.max(initial=1e-300)))
        length = float(np.sqrt(direction @ direction))
        # as many digits as a certificate keeps
        return np.array([float(f"{x:.6g}") for x in direction / (length if length > 0 else 1.0)]), spread

    def _gradients(self, rows: Floats, step: float) -> tuple[Floats, Floats]:
        """Return the gradients of the least margins of the answers at residual vectors, and those margins, about.
        Shapes: [vector, d_model], [vector]."""
        d = rows.shape[1]
        gradients, margins = np.zeros_like(rows), np.zeros(len(rows))
        step = step if step > 0 else 1e-9
        noise: Floats = np.eye(d) * step
        answers = self.bounds.answers_at(rows)
        for answer in np.unique(answers, axis=0):
            own = np.flatnonzero((answers == answer).all(axis=1))
            x = Affine(rows[own], np.repeat(noise[None], len(own), axis=0), np.zeros((len(own), d)))
            found = self.bounds.final.bound(x, tuple(int(v) for v in answer))
            worst = found.form.centre.argmin(axis=1)
            gradients[own] = found.linear[np.arange(len(own)), worst] / step
            margins[own] = found.form.centre[np.arange(len(own)), worst]
        return gradients, margins


def _terms(sums: HeadSums, paths: Paths, direction: Floats) -> Floats:
    """Return what each letter at each position adds along a direction, about. Shape: [position, letter]."""
    least, most = sums.extent(paths)
    centres, weight = sums.centres(paths), (least + most) / 2
    moved = sums.values @ direction - sums.weights * (centres @ direction)[:, None, None]
    return np.asarray((moved / weight[:, None, None]).sum(axis=0))


def _n_forms(sums: HeadSums, n_axes: int) -> int:
    """Return how many forms are ranged along the paths for so many axes."""
    n_heads = len(sums.weights)
    return 2 * n_axes * (n_heads + (n_heads > 1)) + 2 * n_heads
