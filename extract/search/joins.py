"""Sums, differences, exclusive or, sums and differences modulo m, and products of two bank terms, found by joins.

A linear hash turns ``T = a + b`` into ``h(T) - h(a) = h(b)``: both sides are sorted and merged, so that a million
terms against a million cost one sort. Hashes only propose; the pairs found are compared cell by cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.search.columns import Effort, Terms

Array = NDArray[Any]
Hashes = NDArray[np.uint64]

_WEIGHT_BITS = 20
_BLOCK_CELLS = 1 << 21
_MOST_FOUND = 4096
_RESIDUE_BITS = 36
_MOST_FACTORS = 2048


class Pair(NamedTuple):
    """Two rows of a ``Terms`` (or of two) joined by an operator, and what their costs add up to."""

    cost: int
    operator: str
    left: int
    right: int


def linear_hashes(values: Array) -> Hashes:
    """Hash rows linearly modulo 2^64: the hash of a sum is the sum of the hashes. Shape: [term, cell] -> [term]."""
    rng = np.random.default_rng(0x11EA)
    n_cells = values.shape[1]
    weights = rng.integers(-(1 << _WEIGHT_BITS), 1 << _WEIGHT_BITS, size=(n_cells, 2)).astype(np.float64)
    spread = rng.integers(1, 1 << 62, size=2, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    hashes = np.empty(len(values), dtype=np.uint64)
    step = max(1, _BLOCK_CELLS // max(1, n_cells))
    for start in range(0, len(values), step):
        # exact: below 2^53 while cells times values stay below 2^33
        sums = (values[start : start + step].astype(np.float64) @ weights).astype(np.int64).view(np.uint64)
        hashes[start : start + step] = sums[:, 0] * spread[0] + sums[:, 1] * spread[1]
    return hashes


def merged(needles: Hashes, haystack: Hashes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return index pairs (needle, first equal in the haystack), cheapest needles first.

    Cost:    one sort of each side and one merge.
    """
    order = np.argsort(haystack, kind="stable")
    return merged_sorted(needles, haystack[order], order)


def merged_sorted(
    needles: Hashes, ordered: Hashes, order: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return index pairs as ``merged`` does, for a haystack that is already sorted."""
    empty = np.zeros(0, dtype=np.intp)
    if not len(needles) or not len(ordered):
        return empty, empty
    # a sort of both sides shows the common hashes without a cache miss per needle
    both = np.concatenate([_distinct(np.sort(needles)), _distinct(ordered)])
    both.sort()
    common = both[1:][both[1:] == both[:-1]]
    if not len(common):
        return empty, empty
    at = np.minimum(np.searchsorted(common, needles), len(common) - 1)
    found = np.flatnonzero(common[at] == needles)[:_MOST_FOUND]
    return found, order[np.searchsorted(ordered, needles[found])]


def _distinct(ordered: Hashes) -> Hashes:
    fresh = np.ones(len(ordered), dtype=np.bool_)
    fresh[1:] = ordered[1:] != ordered[:-1]
    return ordered[fresh]


def sum_pairs(terms: Terms, target: Array, effort: Effort) -> Iterator[Pair]:
    """Yield ``a + b`` and ``a - b`` that equal the target, one side at least of the level's own cost."""
    n_fresh = len(terms) - terms.n_old
    if not n_fresh or not effort.take(len(terms)):
        return
    hashes = linear_hashes(terms.values)
    wanted = linear_hashes(target[None])[0]
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    fresh = hashes[terms.n_old :]
    found: list[Pair] = []
    for name, needles, is_left in (("add", wanted - fresh, True), ("sub", fresh - wanted, True),
                                   ("sub", fresh + wanted, False)):  # fmt: skip
        for i, j in zip(*merged_sorted(needles, ordered, order), strict=True):
            a, b = (int(i) + terms.n_old, int(j)) if is_left else (int(j), int(i) + terms.n_old)
            found.append(Pair(int(terms.costs[a] + terms.costs[b]) + 1, name, a, b))
    for pair in sorted(set(found)):
        left, right = (terms.values[k].astype(np.int64) for k in (pair.left, pair.right))
        if ((left + right if pair.operator == "add" else left - right) == target).all():
            yield pair


def residue_keys(values: Array, modulus: int) -> Array:
    """Return random linear digits of rows modulo m. Shape: [term, cell] -> [term, digit] float64, each below m."""
    n_digits = max(1, int(_RESIDUE_BITS / np.log2(modulus)))
    rng = np.random.default_rng(modulus)
    weights = rng.integers(0, modulus, size=(values.shape[1], n_digits)).astype(np.float64)
    digits = np.empty((len(values), n_digits))
    step = max(1, _BLOCK_CELLS // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        # exact: below 2^52 for values below 2^31, weights below 2^6 and up to 2^15 cells
        sums = values[start : start + step].astype(np.float64) @ weights
        digits[start : start + step] = modulo(sums, modulus)
    return digits


def modulo(whole: Array, modulus: int) -> Array:
    """Return whole numbers modulo m, as ``np.remainder`` does and faster. Assumes: float64 below 2^52 in magnitude."""
    return np.asarray(whole - modulus * np.floor(whole / modulus))


def modular_pairs(terms: Terms, target: Array, modulus: int, effort: Effort) -> Iterator[Pair]:
    """Yield pairs whose sum (``add``) or difference (``sub``) is the target modulo m.

    With modulus 2 and booleans as 0 and 1 this is exclusive or.
    """
    n_fresh = len(terms) - terms.n_old
    if not n_fresh or not effort.take(8 * len(terms)):
        return
    digits = residue_keys(terms.values, modulus)
    wanted = residue_keys(target[None].astype(np.int64), modulus)
    fresh = digits[terms.n_old :]
    order = np.argsort(_number(digits, modulus), kind="stable")
    ordered = _number(digits, modulus)[order]
    found: list[Pair] = []
    sides = (("add", wanted - fresh, True), ("sub", fresh - wanted, True), ("sub", fresh + wanted, False))
    for name, needed, is_left in sides if modulus > 2 else sides[:1]:
        needles = _number(modulo(needed, modulus), modulus)
        for i, j in zip(*merged_sorted(needles, ordered, order), strict=True):
            a, b = (int(i) + terms.n_old, int(j)) if is_left else (int(j), int(i) + terms.n_old)
            found.append(Pair(int(terms.costs[a] + terms.costs[b]) + 1, name, a, b))
    for pair in sorted(set(found)):
        left, right = (terms.values[k].astype(np.int64) for k in (pair.left, pair.right))
        total = left + right if pair.operator == "add" else left - right
        if ((total - target) % modulus == 0).all():
            yield pair


def _number(digits: Array, modulus: int) -> Hashes:
    places = np.array([modulus**i for i in range(digits.shape[1])], dtype=np.float64)
    return np.asarray((digits @ places).astype(np.int64).view(np.uint64))


def factors(terms: Terms, target: Array) -> NDArray[np.intp]:
    """Return the cheapest terms that divide the target on every cell (and vanish only where it does)."""
    wanted = target.astype(np.int32)
    alive = np.arange(len(terms))
    for cell in range(len(target)):
        column = terms.values[alive, cell].astype(np.int32)
        if wanted[cell]:
            safe = np.where(column == 0, 1, column)
            alive = alive[(column != 0) & (wanted[cell] % safe == 0)]
    return alive[:_MOST_FACTORS]


def product_pairs(terms: Terms, target: Array, effort: Effort) -> Iterator[Pair]:
    """Yield ``a * b`` that equals the target, over the terms that divide it."""
    if not (target != 0).any():
        return
    chosen = terms.take(factors(terms, target))
    fresh, n = chosen.n_old, len(chosen)
    values = chosen.values.astype(np.int32)
    found: list[Pair] = []
    for a in range(n):
        if not effort.take(n - max(a, fresh)):
            break
        others = np.arange(max(a, fresh), n)
        for stage in (slice(0, 4), slice(4, None)):
            product = values[a, stage] * values[others, stage]
            others = others[(product == target[stage]).all(axis=1)]
        found += [Pair(int(chosen.costs[a] + chosen.costs[b]) + 1, "mul", a, int(b)) for b in others[:8]]
    back = {int(chosen.ids[p.left]) for p in found} | {int(chosen.ids[p.right]) for p in found}
    rows = {int(i): k for k, i in enumerate(terms.ids) if int(i) in back} if back else {}
    for pair in sorted(found):
        yield pair._replace(left=rows[int(chosen.ids[pair.left])], right=rows[int(chosen.ids[pair.right])])
