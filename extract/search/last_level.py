"""The virtual last level: decides top-level combinations of bank terms against a goal without storing them.

Comparisons of two integers and conjunctions or disjunctions of two booleans are tested cell by cell, a few cells at
a time, so that a wrong pair costs a few bytes; sums and differences are found by joining linear hashes. Everything
found here is a proposal: the caller compares it with the language's own meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.search import kernels
from extract.search.bank import Bank, Key, Tag
from extract.search.frame import Shape
from extract.search.goals import Goal

Array = NDArray[Any]

_TAGS: tuple[Tag, ...] = ("N", "T")
_STAGES = (6, 24)
_PAIR_BLOCK = 1 << 21


class Pair(NamedTuple):
    """A proposal: operator and the ids of both arguments, with the cost it would have as a tree."""

    operator: str
    left: int
    right: int
    cost: int


def comparison_pairs(bank: Bank, goal: Goal, cost: int, limit: int) -> Iterator[Pair]:
    """Yield ``a < b``, ``a <= b``, ``a == b`` over integers of the goal's shape that give a boolean goal.

    Only pairs whose dearer side has exactly this cost are tried, so that calls at rising costs see each pair once.
    ``limit`` bounds the number of pairs (cheapest first).
    """
    columns = _telling_order(goal)
    target = goal.target.reshape(-1)[columns]
    for tag in _TAGS:
        sides: dict[Key, _Side] = {}
        for left_key, right_key in _key_pairs(tag, goal.shape):
            for key in (left_key, right_key):
                if key not in sides:
                    sides[key] = _side(bank, key, goal, columns, cost)
            for name in ("eq", "lt", "le") if tag == "N" else ("eq", "lt"):
                if name == "eq" and left_key != right_key and left_key.shape == "whole":
                    continue
                for a, b in _matching(name, sides[left_key], sides[right_key], target, limit):
                    yield Pair(name, a, b, bank.cost(a) + bank.cost(b) + 1)


def connective_pairs(bank: Bank, goal: Goal, cost: int, limit: int) -> Iterator[Pair]:
    """Yield ``a and b``, ``a or b`` over booleans of the goal's shape that give a boolean goal.

    Containment comes first: both sides of a conjunction hold wherever the goal does.
    """
    key = Key("B", "", goal.shape)
    values, ids = bank.rows_up_to(key, cost)
    if not len(ids):
        return
    flat = values.reshape(len(values), goal.target.size)[:, goal.mask.reshape(-1)]
    target = goal.target.reshape(-1)[goal.mask.reshape(-1)]
    for name, rows, wanted in (("and", flat, target), ("or", ~flat, ~target)):
        inside = np.flatnonzero(rows[:, wanted].all(axis=1))[:limit]
        rest = ~rows[np.ix_(inside, np.flatnonzero(~wanted))]  # where each side says no, as it must jointly
        for i, row in enumerate(rest):
            covers = np.flatnonzero((row[None] | rest[i + 1 :]).all(axis=1)) + i + 1
            for j in covers[:4]:
                left, right = int(ids[inside[i]]), int(ids[inside[j]])
                yield Pair(name, left, right, bank.cost(left) + bank.cost(right) + 1)


def sum_pairs(bank: Bank, goal: Goal, cost: int) -> Iterator[Pair]:
    """Yield ``a + b`` and ``a - b`` over integers of the goal's shape that give an integer goal, by hash join."""
    width = goal.target.shape[1]
    keys = [Key("I", "N", shape) for shape in dict.fromkeys((goal.shape, "whole"))]
    weights = kernels.hash_weights(goal.target.size)[0]
    wanted = _linear(goal.target[None], goal.mask, weights, width)[0]
    sides = []
    for key in keys:
        values, ids = bank.rows_up_to(key, cost)
        sides.append((_linear(values, goal.mask, weights, width), ids))
    hashes = np.concatenate([h for h, _ in sides])
    ids = np.concatenate([i for _, i in sides])
    if not len(ids):
        return
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    for name, needed in (("add", wanted - hashes), ("sub", hashes - wanted)):
        at = np.minimum(np.searchsorted(ordered, needed), len(ordered) - 1)
        for i in np.flatnonzero(ordered[at] == needed):
            left, right = int(ids[i]), int(ids[order[at[i]]])
            if name == "sub" or left <= right:
                yield Pair(name, left, right, bank.cost(left) + bank.cost(right) + 1)


def covering_pairs(bank: Bank, goal: Goal, cost: int, limit: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (condition, then, else, cost) such that the if-then-else gives an integer goal on every cell.

    Branches are the terms that match the goal on most cells; the condition must hold where only the first branch
    matches and fail where only the second does (as in EUSolver's unification, Alur et al. 2017, section 4).
    """
    matches, ids = _matches(bank, goal, cost)
    if not len(ids):
        return
    best = np.argsort(-matches.sum(axis=1), kind="stable")[:limit]
    conditions, condition_ids = _conditions(bank, goal, cost)
    for i in best:
        for j in best:
            if i == j or not (matches[i] | matches[j]).all():
                continue
            must, must_not = matches[i] & ~matches[j], matches[j] & ~matches[i]
            if not must.any() or not must_not.any():
                continue
            fits = conditions[:, must].all(axis=1) & ~conditions[:, must_not].any(axis=1)
            for c in np.flatnonzero(fits)[:2]:
                chosen = int(condition_ids[c]), int(ids[i]), int(ids[j])
                yield (*chosen, 1 + sum(bank.cost(k) for k in chosen))


def agreement(bank: Bank, goal: Goal, cost: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Count for each bank term of the goal's sort how many probes it gets entirely right. Shape: [term], [term]."""
    keys = [Key(goal.kind, goal.tag, shape) for shape in dict.fromkeys((goal.shape, "whole"))]
    counts, all_ids = [], []
    for key in keys:
        values, ids = bank.rows_up_to(key, cost)
        right = (values == goal.target[None]) | ~goal.mask[None]
        counts.append(right.all(axis=2).sum(axis=1))
        all_ids.append(ids)
    return np.concatenate(counts), np.concatenate(all_ids)


def _matches(bank: Bank, goal: Goal, cost: int) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    flat_mask = goal.mask.reshape(-1)
    rows, all_ids = [], []
    tags: tuple[Tag, ...] = ("T", "N") if goal.tag == "" else (goal.tag,)
    for tag in tags:
        symbol_cells = goal.codes >= 1 << 30
        typed = symbol_cells if tag == "T" else ~symbol_cells
        for shape in dict.fromkeys((goal.shape, "whole")):
            values, ids = bank.rows_up_to(Key("I", tag, shape), cost)
            right = (values == goal.target[None]) & typed[None]
            right = np.broadcast_to(right, (len(values), *goal.target.shape))
            rows.append(right.reshape(len(values), flat_mask.size)[:, flat_mask])
            all_ids.append(ids)
    return np.concatenate(rows), np.concatenate(all_ids)


def _conditions(bank: Bank, goal: Goal, cost: int) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    flat_mask = goal.mask.reshape(-1)
    rows, all_ids = [], []
    for shape in dict.fromkeys((goal.shape, "whole")):
        values, ids = bank.rows_up_to(Key("B", "", shape), cost)
        wide = np.broadcast_to(values, (len(values), *goal.target.shape))
        rows.append(wide.reshape(len(values), flat_mask.size)[:, flat_mask])
        all_ids.append(ids)
    return np.concatenate(rows), np.concatenate(all_ids)


def _key_pairs(tag: Tag, shape: Shape) -> Iterator[tuple[Key, Key]]:
    key, whole = Key("I", tag, shape), Key("I", tag, "whole")
    yield key, key
    if shape != "whole":
        yield key, whole
        yield whole, key


def _linear(values: Array, mask: NDArray[np.bool_], weights: NDArray[np.uint64], width: int) -> NDArray[np.uint64]:
    wide = np.broadcast_to(values, (len(values), len(mask), width)) * mask
    flat = wide.reshape(len(values), mask.size).astype(np.int64).view(np.uint64)
    return np.asarray((flat * weights[None, : flat.shape[1]]).sum(axis=1, dtype=np.uint64))


class _Side(NamedTuple):
    """One side of the comparisons: cells [cell, term], ids, and how many terms were there at the level before."""

    cells: Array
    ids: NDArray[np.int32]
    n_old: int


def _side(bank: Bank, key: Key, goal: Goal, columns: NDArray[np.intp], cost: int) -> _Side:
    values, ids = bank.rows_up_to(key, cost)
    flat = values.reshape(len(values), values.shape[1] * values.shape[2])
    if values.shape[2] != goal.target.shape[1]:
        # a sequence-wide term has one cell per probe, whatever the query
        columns = columns // goal.target.shape[1]
    return _Side(np.ascontiguousarray(flat.T[columns]), ids, bank.n_below(key, cost))


def _matching(name: str, left: _Side, right: _Side, target: Array, limit: int) -> Iterator[tuple[int, int]]:
    """Yield the id pairs that give the target, leaving out pairs of terms that were both there a level ago."""
    blocks = ((slice(0, left.n_old), right.n_old), (slice(left.n_old, len(left.ids)), 0))
    for rows, first_column in blocks:
        n_right = len(right.ids) - first_column
        if not n_right:
            continue
        step = max(1, _PAIR_BLOCK // n_right)
        for start in range(rows.start, rows.stop, step):
            stop = min(start + step, rows.stop)
            limit -= (stop - start) * n_right
            if limit < 0:
                return
            found = _survivors(name, left.cells[:, start:stop], right.cells[:, first_column:], target)
            for i, j in zip(*found, strict=True):
                yield int(left.ids[start + i]), int(right.ids[first_column + j])


def _telling_order(goal: Goal) -> NDArray[np.intp]:
    """Order the goal's cells so that few of them refute most pairs: alternate between true and false cells."""
    cells = np.flatnonzero(goal.mask.reshape(-1))
    truth = goal.target.reshape(-1)[cells]
    rank = np.empty(len(cells), dtype=np.int64)
    for value in (False, True):
        chosen = np.flatnonzero(truth == value)
        rank[chosen] = 2 * np.arange(len(chosen)) + int(value)
    # spread over the probes: neighbouring probes are alike
    spread = (np.arange(len(cells)) * 0x9E3779B1) % (1 << 32)
    return cells[np.lexsort((spread, rank // max(2, len(cells) // 8)))]


def _survivors(name: str, left: Array, right: Array, target: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the index pairs whose comparison equals the target on every cell. Cells run along the first axis."""
    n_first = min(_STAGES[0], len(target))
    alive = np.ones((left.shape[1], right.shape[1]), dtype=np.bool_)
    for c in range(n_first):
        alive &= np.asarray(kernels.elementwise(name, left[c][:, None], right[c][None])) == target[c]
    rows, cols = np.divmod(np.flatnonzero(alive), alive.shape[1])
    for start, stop in ((n_first, _STAGES[1]), (_STAGES[1], len(target))):
        if start >= stop or not len(rows):
            continue
        kept = []
        for i in range(0, len(rows), 1 << 16):
            part = slice(i, i + (1 << 16))
            same = kernels.elementwise(name, left[start:stop, rows[part]], right[start:stop, cols[part]])
            kept.append((same == target[start:stop, None]).all(axis=0))
        keep = np.concatenate(kept)
        rows, cols = rows[keep], cols[keep]
    return rows, cols
