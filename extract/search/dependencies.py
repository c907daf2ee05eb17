"""Terms, and pairs of terms, that determine a goal: what ``table(a)`` and ``table2(a, b)`` can express.

A conflict is a pair of cells that want different values; a term separates it when it differs there. A pair of terms
determines the goal on the cells exactly when it separates every conflict, so a word of 64 well chosen conflicts per
term refutes almost every pair with one OR and one comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.search.columns import Cells, Effort, Terms, Words

Array = NDArray[Any]

#: A table has at most so many entries, and its keys lie in a range of so many values.
MOST_ENTRIES = 64
_WIDEST_RANGE = 256
_POOL = 768
_CHOOSABLE, _SAMPLED_PAIRS = 256, 512
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ROWS, _COLUMNS = 16, 2048
_MOST_CHECKED = 4096
_LEAST_PARTNERS = 64


class Determined(NamedTuple):
    """Rows of a ``Terms`` (one or two) that determine the goal on the cells, and what their costs add up to."""

    cost: int
    rows: tuple[int, ...]


class Dependencies:
    """The dependencies of one goal on terms that are read on its cells."""

    def __init__(self, terms: Terms, cells: Cells, effort: Effort) -> None:
        self._cells = cells
        self._effort = effort
        self._terms = terms
        low, high = (reduce(terms.values.astype(np.int64), axis=1, initial=0) for reduce in (np.min, np.max))
        self._usable = np.flatnonzero(high - low < _WIDEST_RANGE)
        self._pool = _conflict_pool(cells)

    def single(self, most: int) -> list[Determined]:
        """Return the terms of the level's own cost that determine the goal, cheapest first."""
        rows = self._usable[self._usable >= self._terms.n_old]
        if not len(self._pool[0]) or not self._effort.take(4 * len(rows)):
            return []
        rows = rows[separated(self._terms.values[rows], self._pool[0][:48], self._pool[1][:48]).all(axis=1)]
        found: list[Determined] = []
        for row in rows:
            if len(found) == most:
                break
            if entries_of(self._terms.values[None, row], self._cells.codes) is not None:
                found.append(Determined(int(self._terms.costs[row]), (int(row),)))
        return found

    def double(self, most: int) -> list[Determined]:
        """Return the pairs, neither of which is enough alone, that determine the goal, cheapest first."""
        rows = self._usable
        if not len(self._pool[0]) or not len(rows) or not self._effort.take(8 * len(rows)):
            return []
        first, second = chosen_conflicts(self._terms.values[rows], self._pool)
        words = conflict_words(self._terms.values[rows], first, second)
        some = (words != 0) & (words != _FULL)
        rows, words = rows[some], words[some]
        values = self._terms.values[rows]
        more = [conflict_words(values, *(part[k : k + 64] for part in self._pool)) for k in (0, 64, 128, 192)]
        n_old = int(np.searchsorted(rows, self._terms.n_old))
        n_fresh = len(rows) - n_old
        if not n_fresh:
            return []
        partners = min(len(rows), max(_LEAST_PARTNERS, self._effort.left // n_fresh))
        n_fresh = self._effort.rows(n_fresh, partners)
        found: list[Determined] = []
        for left, right in scan_words(words[n_old : n_old + n_fresh], words[:partners], n_old):
            left = left + n_old
            for word in more:
                kept = (word[left] | word[right]) == _FULL
                left, right = left[kept], right[kept]
            found += self._checked((rows[left], rows[right]), most)
            if len(found) >= 4 * most:
                break
        return sorted(set(found))[:most]

    def _checked(self, pair: tuple[NDArray[np.intp], NDArray[np.intp]], most: int) -> Iterator[Determined]:
        left, right = (part[:_MOST_CHECKED] for part in pair)
        values, (first, second) = self._terms.values, self._pool
        apart = separated(values[left], first, second) | separated(values[right], first, second)
        chosen = np.flatnonzero(apart.all(axis=1))
        costs = self._terms.costs[left[chosen]].astype(np.int64) + self._terms.costs[right[chosen]]
        n_found = 0
        for k in np.argsort(costs, kind="stable")[: 8 * most]:
            a, b = sorted((int(left[chosen[k]]), int(right[chosen[k]])))
            if n_found < most and entries_of(values[[a, b]], self._cells.codes) is not None:
                n_found += 1
                yield Determined(int(costs[k]), (a, b))


def entries_of(keys: Array, codes: NDArray[np.int32]) -> tuple[Array, NDArray[np.int32]] | None:
    """Return the distinct keys and the code each has, or None where a key has two codes or there are too many.

    Shape:   keys [1 or 2, cell], codes [cell] -> [entry, 1 or 2], [entry]; keys ascending.
    """
    columns = np.concatenate([keys.astype(np.int64), codes[None].astype(np.int64)])
    order = np.lexsort(columns[::-1])
    ordered = columns[:, order]
    fresh_key = np.ones(len(order), dtype=np.bool_)
    fresh_key[1:] = (ordered[:-1, 1:] != ordered[:-1, :-1]).any(axis=0)
    if int(fresh_key.sum()) > MOST_ENTRIES or ((ordered[-1, 1:] != ordered[-1, :-1]) & ~fresh_key[1:]).any():
        return None
    return ordered[:-1, fresh_key].T, ordered[-1, fresh_key].astype(np.int32)


def separated(values: Array, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Say which conflicts each term separates. Shape: [term, cell] -> [term, conflict]."""
    return np.asarray(values[:, first] != values[:, second])


def conflict_words(values: Array, first: NDArray[np.intp], second: NDArray[np.intp]) -> Words:
    """Pack which of at most 64 conflicts each term separates; unused bits count as separated. Shape: [term]."""
    octets = np.full((len(values), 8), 0xFF, dtype=np.uint8)
    step = 1 << 15
    for start in range(0, len(values), step):
        bits = np.ones((len(values[start : start + step]), 64), dtype=np.bool_)
        bits[:, : len(first)] = separated(values[start : start + step], first, second)
        octets[start : start + step] = np.packbits(bits, axis=1)
    return octets.view(np.uint64)[:, 0]


def scan_words(left: Words, right: Words, n_old: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield index pairs whose words fill all 64 bits together, each unordered pair once.

    ``left`` are the words of ``right`` from ``n_old`` on. Cost: two word operations per pair.
    """
    buffer = np.empty((_ROWS, _COLUMNS), dtype=np.uint64)
    hits = np.empty((_ROWS, _COLUMNS), dtype=np.bool_)
    for i in range(0, len(left), _ROWS):
        part = left[i : i + _ROWS, None]
        for j in range(0, min(len(right), i + len(part) + n_old), _COLUMNS):
            block = right[None, j : j + _COLUMNS]
            work, hit = buffer[: len(part), : block.shape[1]], hits[: len(part), : block.shape[1]]
            np.bitwise_or(block, part, out=work)
            np.equal(work, _FULL, out=hit)
            if hit.any():
                rows, columns = np.divmod(np.flatnonzero(hit), block.shape[1])
                once = columns + j < rows + i + n_old
                yield rows[once] + i, columns[once] + j


def chosen_conflicts(
    values: Array, pool: tuple[NDArray[np.intp], NDArray[np.intp]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose 64 conflicts of the pool, each the one that refutes most of the sampled pairs still standing."""
    first, second = (part[:_CHOOSABLE] for part in pool)
    rng = np.random.default_rng(0xC0FF)
    sampled = rng.integers(0, len(values), size=(2, _SAMPLED_PAIRS))
    together = ~(separated(values[sampled[0]], first, second) | separated(values[sampled[1]], first, second))
    chosen: list[int] = []
    alive = np.ones(_SAMPLED_PAIRS, dtype=np.bool_)
    while len(chosen) < min(64, len(first)):
        refuted = together[alive].sum(axis=0)
        refuted[chosen] = -1
        best = int(refuted.argmax())
        if refuted[best] <= 0:
            break
        chosen.append(best)
        alive &= ~together[:, best]
    rest = np.argsort(-together.sum(axis=0), kind="stable")
    chosen += [int(k) for k in rest if k not in set(chosen)][: 64 - len(chosen)]
    return first[chosen], second[chosen]


def _conflict_pool(cells: Cells) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw pairs of cells that want different values. Shape: two arrays [conflict]."""
    rng = np.random.default_rng(0xD1FF)
    first, second = rng.integers(0, max(1, len(cells)), size=(2, 4 * _POOL)) if len(cells) else np.zeros((2, 0), int)
    differ = cells.codes[first] != cells.codes[second]
    return first[differ][:_POOL], second[differ][:_POOL]
