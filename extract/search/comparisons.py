"""``a == b``, ``a < b`` and ``a <= b`` of two bank integers against a boolean wanted on some cells.

Order comparisons are tested eight cells at a time inside one 64-bit word; equalities by grouping the terms by their
hash on the cells where equality must hold. Survivors are compared on every cell given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.search.columns import Effort, Terms
from extract.search.joins import Pair, linear_hashes

Array = NDArray[Any]
Words = NDArray[np.uint64]
Found = tuple[NDArray[np.intp], NDArray[np.intp]]

_LANES = 8
_TOP = np.uint64(0x8080808080808080)
_LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
_LEVELS = 127
_ROWS, _COLUMNS = 16, 2048
#: Pairs scanned before those that no lane refutes are compared in full: they may be most of them.
_PAIRS_AT_ONCE = 1 << 24
_MOST_FOUND = 64
_LEAST_PARTNERS = 64


def comparison_pairs(terms: Terms, target: Array, effort: Effort, *, has_le: bool = True) -> Iterator[Pair]:
    """Yield ``eq``, ``ne``, ``lt`` and ``le`` pairs that give the target, one side of the level's own cost.

    ``ne`` stands for ``not (a == b)``; its cost says so.
    """
    if len(terms) == terms.n_old or target.all() or not target.any():
        return
    yield from _sorted(terms, _equalities(terms, target, effort), "eq", 1, symmetric=True)
    yield from _sorted(terms, _equalities(terms, ~target, effort), "ne", 2, symmetric=True)
    for name in ("lt", "le") if has_le else ("lt",):
        yield from _sorted(terms, _ordered_pairs(name, terms, target, effort), name, 1)


def _sorted(terms: Terms, found: Found, name: str, extra: int, *, symmetric: bool = False) -> Iterator[Pair]:
    costs = terms.costs[found[0]] + terms.costs[found[1]] + extra
    for k in np.argsort(costs, kind="stable")[:_MOST_FOUND]:
        left, right = int(found[0][k]), int(found[1][k])
        if symmetric and left > right:
            left, right = right, left
        yield Pair(int(costs[k]), name, left, right)


def compare(name: str, left: Array, right: Array) -> Array:
    """Return one of the four comparisons cell by cell."""
    if name == "eq":
        return np.equal(left, right)
    if name == "ne":
        return np.not_equal(left, right)
    return np.less(left, right) if name == "lt" else np.less_equal(left, right)


def _exact(name: str, terms: Terms, rows: Found, target: Array) -> Found:
    """Keep the pairs that give the target on every cell."""
    left, right = rows
    kept = [np.zeros(0, dtype=np.intp)]
    for start in range(0, len(left), 1 << 13):
        part = np.arange(start, min(start + (1 << 13), len(left)))
        for cells in (slice(0, 32), slice(32, None)):
            same = compare(name, terms.values[left[part], cells], terms.values[right[part], cells]) == target[cells]
            part = part[same.all(axis=1)]
        kept.append(part)
    chosen = np.concatenate(kept)
    return left[chosen], right[chosen]


# -- order: eight cells in one subtraction --------------------------------------------------------------------------
def _levels(values: Array) -> tuple[NDArray[np.uint8], bool]:
    """Rank the values of each cell into 0..126; say whether unequal values may share a rank.

    A monotone map keeps ``a <= b`` true, so ranks that merge still refute.
    """
    ranks = np.empty(values.shape, dtype=np.uint8)
    is_merged = False
    for cell in range(values.shape[1]):
        column = values[:, cell]
        low, high = int(column.min()), int(column.max())
        if high - low < _LEVELS:
            ranks[:, cell] = column.astype(np.int64) - low
            continue
        distinct = np.unique(column)
        is_merged |= len(distinct) > _LEVELS
        scale = max(1, -(-len(distinct) // _LEVELS))
        ranks[:, cell] = np.searchsorted(distinct, column) // scale
    return ranks, is_merged


def lanes(name: str, values: Array, target: Array) -> tuple[Words, Words]:
    """Return two words per term whose lanes never borrow in ``second[b] - first[a]`` where ``a name b`` may fit.

    Where the comparison must fail, both sides are mirrored, so that one subtraction tests all eight cells.
    """
    n_cells = min(_LANES, len(target))
    ranks, is_merged = _levels(values[:, :n_cells])
    strict = 0 if is_merged else 1
    holds = target[:n_cells]
    first = np.zeros((len(values), _LANES), dtype=np.uint8)
    second = np.full((len(values), _LANES), 127, dtype=np.uint8)
    mirrored = _LEVELS - 1 - ranks
    is_strict_true, is_strict_false = (strict, 0) if name == "lt" else (0, strict)
    first[:, :n_cells] = np.where(holds, ranks + is_strict_true, mirrored + is_strict_false)
    second[:, :n_cells] = np.where(holds, ranks, mirrored)
    return first.view(np.uint64)[:, 0], second.view(np.uint64)[:, 0] | _TOP


def scan_lanes(first: Words, second: Words) -> Found:
    """Return the index pairs (a, b) that no lane refutes. Cost: three word operations per pair."""
    rows: list[NDArray[np.intp]] = []
    columns: list[NDArray[np.intp]] = []
    buffer = np.empty((_ROWS, _COLUMNS), dtype=np.uint64)
    hits = np.empty((_ROWS, _COLUMNS), dtype=np.bool_)
    for j in range(0, len(second), _COLUMNS):
        block = second[None, j : j + _COLUMNS]
        for i in range(0, len(first), _ROWS):
            part = first[i : i + _ROWS, None]
            work, hit = buffer[: len(part), : block.shape[1]], hits[: len(part), : block.shape[1]]
            np.subtract(block, part, out=work)
            np.bitwise_and(work, _TOP, out=work)
            np.equal(work, _TOP, out=hit)
            if hit.any():
                r, c = np.divmod(np.flatnonzero(hit), hit.shape[1])
                rows.append(r + i)
                columns.append(c + j)
    empty = np.zeros(0, dtype=np.intp)
    return np.concatenate([empty, *rows]), np.concatenate([empty, *columns])


def _ordered_pairs(name: str, terms: Terms, target: Array, effort: Effort) -> Found:
    n, fresh = len(terms), terms.n_old
    partners = n if effort.left >= 2 * n * (n - fresh) else max(_LEAST_PARTNERS, effort.left // (2 * (n - fresh)))
    n_fresh = min(n - fresh, effort.left // (2 * min(partners, n)))
    effort.left -= 2 * n_fresh * min(partners, n)
    first, second = lanes(name, terms.values, target)
    left: list[NDArray[np.intp]] = []
    right: list[NDArray[np.intp]] = []
    others = min(partners, n)
    # a fresh term on the left with anything, on the right with an old one
    for l_rows, r_rows in ((slice(fresh, fresh + n_fresh), slice(0, others)),
                           (slice(0, min(others, fresh)), slice(fresh, fresh + n_fresh))):  # fmt: skip
        step = max(1, min(1 << 10, _PAIRS_AT_ONCE // max(1, r_rows.stop - r_rows.start)))
        for start in range(l_rows.start, l_rows.stop, step):
            stop = min(start + step, l_rows.stop)
            rows, columns = scan_lanes(first[start:stop], second[r_rows])
            a, b = _exact(name, terms, (rows + start, columns + r_rows.start), target)
            left.append(a)
            right.append(b)
            if sum(map(len, left)) > _MOST_FOUND:
                break
    empty = np.zeros(0, dtype=np.intp)
    return np.concatenate([empty, *left]), np.concatenate([empty, *right])


# -- equality: groups of terms that agree where they must -----------------------------------------------------------
def _equalities(terms: Terms, target: Array, effort: Effort) -> Found:
    """Return the pairs equal exactly where the target holds: neighbours at rising distance inside each group."""
    if not target.any():
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    hashes = linear_hashes(terms.values[:, target])
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    is_fresh = order >= terms.n_old
    words, used = _difference_words(terms.values[:, ~target])
    words = words[order]
    base = np.arange(len(order))
    found: list[Found] = []
    total, distance = 0, 1
    while len(base) and total <= _MOST_FOUND:
        base = base[base + distance < len(order)]
        base = base[ordered[base] == ordered[base + distance]]
        if not effort.take(len(base)):
            break
        x = words[base] ^ words[base + distance]
        # a lane that is zero means that both sides agree where they must not
        differ = ((((x & _LOW) + _LOW) | x) & used) == used
        close = base[differ & (is_fresh[base] | is_fresh[base + distance])]
        if len(close):
            pairs = _exact("eq", terms, (order[close], order[close + distance]), target)
            found.append(pairs)
            total += len(pairs[0])
        distance += 1
    empty = np.zeros(0, dtype=np.intp)
    return np.concatenate([empty, *(f[0] for f in found)]), np.concatenate([empty, *(f[1] for f in found)])


def _difference_words(values: Array) -> tuple[Words, np.uint64]:
    """Return one word per term, a byte per cell, and the top bits of the bytes that tell values apart."""
    octets = np.zeros((len(values), _LANES), dtype=np.uint8)
    used = np.zeros(_LANES, dtype=np.uint8)
    for cell in range(min(_LANES, values.shape[1])):
        column = values[:, cell].astype(np.int64)
        if column.max() - column.min() < 256:
            octets[:, cell], used[cell] = column - column.min(), 0x80
    return octets.view(np.uint64)[:, 0], used.view(np.uint64)[0]
