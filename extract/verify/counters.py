"""Strings by an integer-weighted count of their letters: the exact cells of a slice, their sizes, and ranges of sums.

A counter gives every letter at every position a whole number; a string's sum puts it into a cell. States of the paths
are divided by the sums that reach them, so that cells, sizes and the strings of some cells are exact whatever the
weights are. It knows integers and paths, and refuses to know what the weights were rounded from.

Source:  design/verification.md, tier 3 (states of program and partial sums, merged where the sums are in one cell).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.verify.affine import Floats, gamma
from extract.verify.paths import Paths, States

Weights = NDArray[np.int64]

#: Sums of weights stay below this, so that a state and a sum fit one integer.
MAX_SUM = 1 << 31
#: Numbers held at once by a pass over the states.
_CHUNK = 1 << 21
_SLACK = 1 + 2.0**-30


def divided(paths: Paths, weights: Weights, max_states: int = MAX_SUM) -> tuple[Paths, NDArray[np.int64]] | None:
    """Return the same strings labelled by cell, and each cell's rank of label before and sum; None if they have more
    than ``max_states`` states over all depths.

    Shapes: ``weights`` [position, letter], non-negative; the cells [cell, 2] are ascending, and label i is cell i.
    """
    top = int(weights.max(axis=1).sum()) + 1
    if top > MAX_SUM or int(weights.min()) < 0:
        raise ValueError("a counter's weights are negative or too large")
    state, total = np.zeros(1, np.int64), np.zeros(1, np.int64)
    n_states, tables = 1, list[States]()
    for table, weight in zip(paths.next, weights, strict=True):
        ahead = table[state]
        key = ahead.astype(np.int64) * top + (total[:, None] + weight)
        live = ahead >= 0
        found, number = np.unique(key[live], return_inverse=True)
        n_states += len(found)
        if n_states > max_states:
            return None
        made = np.full(ahead.shape, -1, dtype=np.int32)
        made[live] = number
        tables.append(made)
        state, total = found // top, found % top
    before = np.unique(paths.labels, return_inverse=True)[1]
    cells, labels = np.unique(before[state] * top + total, return_inverse=True)
    return Paths(paths.n_letters, tuple(tables), labels.astype(np.int64)), np.column_stack([cells // top, cells % top])


def sizes(paths: Paths) -> list[int]:
    """Return the exact number of strings of each label 0, 1, ... of paths that have all of them."""
    is_small = paths.n_letters**paths.length < 1 << 62
    count: NDArray[Any] = np.ones(1, np.int64 if is_small else object)
    for source, _, starts in paths.edges():
        count = np.add.reduceat(count[source], starts)
    order = np.argsort(paths.labels, kind="stable")
    first = np.flatnonzero(np.diff(paths.labels[order], prepend=-1))
    return [int(n) for n in np.add.reduceat(count[order], first)]


def largest(paths: Paths, terms: Floats, fixed: Floats) -> Floats:
    """Return upper bounds of each form's sum along the strings of each label 0, 1, ... Shapes: ``terms`` [position,
    letter, form], ``fixed`` [form]; answer [label, form]."""
    order = np.argsort(paths.labels, kind="stable")
    first = np.flatnonzero(np.diff(paths.labels[order], prepend=-1))
    rounding = gamma(paths.length + 6) * (np.abs(terms).max(axis=1).sum(axis=0) + np.abs(fixed)) * _SLACK
    n_edges = max((len(source) for source, _, _ in paths.edges()), default=1)
    step = max(1, _CHUNK // n_edges)
    found = np.zeros((len(first), terms.shape[2]))
    for at in range(0, terms.shape[2], step):
        part = np.ascontiguousarray(terms[:, :, at : at + step].transpose(0, 2, 1))
        value = np.zeros((part.shape[1], 1))
        for p, (source, letter, starts) in enumerate(paths.edges()):
            moved = np.take(value, source, axis=1)
            moved += np.take(part[p], letter, axis=1)
            value = np.maximum.reduceat(moved, starts, axis=1)
        found[:, at : at + step] = np.maximum.reduceat(value[:, order], first, axis=1).T
    return np.asarray(found + fixed + rounding)


def counter(paths: Paths, terms: Floats, n_states: int) -> Weights:
    """Round a sum's terms to whole numbers, the least at each position 0, in the least unit that makes about so many
    states at most over all depths. Shapes: [position, letter]."""
    allowed = np.array([(table >= 0).any(axis=0) for table in paths.next]).reshape(terms.shape)
    low = np.where(allowed, terms, np.inf).min(axis=1)
    steps = np.where(allowed, terms - low[:, None], 0.0)
    whole = float(steps.max(axis=1).sum())
    if not 0 < whole < np.inf:
        return np.zeros(steps.shape, np.int64)
    widths = np.concatenate(_reached(paths, steps))
    # an estimate only: as many sums as units between the least and the largest that reach a state
    fewest, unit = whole / (MAX_SUM >> 2), whole
    for _ in range(40):
        middle = (fewest * unit) ** 0.5
        if float((widths / middle + 1).sum()) > n_states:
            fewest = middle
        else:
            unit = middle
    return np.asarray(np.rint(steps / unit), dtype=np.int64)


def _reached(paths: Paths, terms: Floats) -> list[Floats]:
    """Return about how far apart one form's sums are that reach each state, depth by depth. Shape: [position,
    letter]."""
    value, found = np.zeros((1, 2)), []
    both = np.stack([terms, -terms], axis=2)
    for p, (source, letter, starts) in enumerate(paths.edges()):
        value = np.maximum.reduceat(value[source] + both[p][letter], starts, axis=0)
        found.append(value.sum(axis=1))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Strings of one label or of labelled cells, divided by a counter, each new cell with the side it is on.

    Shapes: ``direction`` [d_model], what the weights count; ``weights`` [position, letter]; ``cells`` [cell, 2], the
    label before and the sum, ascending; ``sides`` [cell], -1 for what is left over.
    """

    direction: Floats
    weights: Weights
    cells: NDArray[np.int64]
    sides: NDArray[np.intp]

    def apply(self, paths: Paths) -> list[tuple[int, Paths | None]]:
        """Return the strings of each side, labelled by cell."""
        found = divided(paths, self.weights)
        if found is None or not np.array_equal(found[1], self.cells):
            raise ValueError("the strings are not those that were divided")
        return [(int(side), found[0].only(self.sides[found[0].labels] == side)) for side in np.unique(self.sides)]

    def side_of(self, label: int, string: tuple[int, ...]) -> tuple[int, int]:
        """Return the side of one of the strings of a label's rank, and its cell's rank among those of that side."""
        total = int(self.weights[np.arange(len(string)), list(string)].sum())
        cell = int(np.flatnonzero((self.cells == (label, total)).all(axis=1))[0])
        side = int(self.sides[cell])
        return side, int((self.sides[:cell] == side).sum())
