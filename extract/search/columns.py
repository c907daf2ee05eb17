"""Bank terms side by side on the telling cells of one goal: what every virtual operator reads.

A goal's cells are ordered so that a few of them refute most wrong combinations, and only as many are read as fit the
memory. It knows no operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.lang.cost import cost as term_cost
from extract.lang.terms import Term
from extract.search.bank import Bank, Key, Tag
from extract.search.frame import Shape
from extract.search.goals import Goal

Array = NDArray[Any]
Words = NDArray[np.uint64]

#: No operator looks at more cells of a goal than this; the gate looks at all of them.
_MOST_CELLS = 512
_LEAST_CELLS = 64
#: Values held at once, in cells: 128 MB of 16-bit integers.
_MOST_VALUES = 1 << 26
_BLOCK = 1 << 22
_GOLDEN = 0x9E3779B1


class Proposal(NamedTuple):
    """A term worth judging, with the cost the language gives it; ordered by cost."""

    cost: int
    term: Term


def proposal(term: Term) -> Proposal:
    """Return a term with its exact cost."""
    return Proposal(term_cost(term), term)


@dataclass(slots=True)
class Effort:
    """A deterministic allowance of pairs (of a few machine words each) for one operator at one level."""

    left: int

    def take(self, n_pairs: int) -> bool:
        """Spend pairs; return whether they were there to spend."""
        if n_pairs > self.left:
            return False
        self.left -= n_pairs
        return True

    def rows(self, n_rows: int, n_per_row: int) -> int:
        """Spend as many whole rows of pairs as are left, at most ``n_rows``; return how many."""
        n = min(n_rows, self.left // max(1, n_per_row))
        self.left -= n * n_per_row
        return n


@dataclass(frozen=True, slots=True)
class Cells:
    """The chosen cells of a goal. Shapes: probe, query, target and codes [cell]."""

    probe: NDArray[np.intp]
    query: NDArray[np.intp]
    target: Array
    codes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.probe)


@dataclass(frozen=True, slots=True)
class Terms:
    """Bank terms on chosen cells, cheapest first; those of the level's own cost are the last ones.

    Shapes: ``values`` [term, cell], ``ids`` and ``costs`` [term]; ``n_old`` terms were there a level ago.
    """

    values: Array
    ids: NDArray[np.int32]
    costs: NDArray[np.int32]
    n_old: int

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, chosen: NDArray[np.intp]) -> Terms:
        """Return some of the terms, which must be listed in ascending order."""
        n_old = int(np.searchsorted(chosen, self.n_old))
        return Terms(self.values[chosen], self.ids[chosen], self.costs[chosen], n_old)

    def cheapest(self, n: int) -> Terms:
        """Return the first n terms, as views."""
        return Terms(self.values[:n], self.ids[:n], self.costs[:n], min(n, self.n_old))


def telling_cells(goal: Goal, most: int = _MOST_CELLS) -> Cells:
    """Return the goal's cells, wanted values in turn and spread over the probes, so that prefixes of it tell most."""
    probe, query = np.nonzero(goal.mask)
    codes = goal.codes[probe, query] if goal.kind == "I" else goal.target[probe, query].astype(np.int32)
    spread = (np.arange(len(probe), dtype=np.int64) + 1) * _GOLDEN % (1 << 32)
    by_code = np.lexsort((spread, codes))
    _, starts, counts = np.unique(codes[by_code], return_index=True, return_counts=True)
    turn = np.arange(len(probe)) - np.repeat(starts, counts)
    order = by_code[np.lexsort((spread[by_code], turn))][:most]
    return Cells(probe[order], query[order], goal.target[probe[order], query[order]], codes[order])


#: Bits by which what is wanted must exceed what was tried, or chance would explain a fit.
MARGIN_BITS = 20.0


def surprise(cells: Cells, best_right: int) -> float:
    """Return the bits that tell which cells the best plain term gets wrong, and their values: what is left to explain.

    Units:   bits; ``best_right`` is how many cells the best bank term or constant gets right.
    """
    n, n_wrong = len(cells), len(cells) - best_right
    n_codes = len(np.unique(cells.codes))
    ways = math.lgamma(n + 1) - math.lgamma(n_wrong + 1) - math.lgamma(n - n_wrong + 1)
    return ways / math.log(2) + n_wrong * math.log2(max(1, n_codes - 1))


def most_right(cells: Cells, lists: Sequence[Terms]) -> int:
    """Return on how many cells the best of some terms, or the commonest wanted value, is right."""
    best = int(np.unique(cells.codes, return_counts=True)[1].max(initial=0))
    return max([best, *(int((terms.values == cells.target).sum(axis=1).max(initial=0)) for terms in lists)])


def n_cells_for(n_terms: int) -> int:
    """Return how many cells fit the memory for so many terms."""
    return max(_LEAST_CELLS, min(_MOST_CELLS, _MOST_VALUES // max(1, n_terms)))


def shapes_of(goal: Goal) -> tuple[Shape, ...]:
    """Return the shapes whose terms answer a goal: its own, and values that are one per input."""
    return tuple(dict.fromkeys((goal.shape, "whole")))


def keys_of(goal: Goal, kind: str, tag: Tag) -> list[Key]:
    """Return the buckets whose terms can stand beside a goal's cells."""
    return [Key("B" if kind == "B" else "I", tag, shape) for shape in shapes_of(goal)]


def n_terms(bank: Bank, keys: Sequence[Key], cost: int) -> int:
    """Return how many terms some buckets hold up to a cost."""
    return sum(len(bank.rows_up_to(key, cost)[1]) for key in keys)


def read(bank: Bank, keys: Sequence[Key], cells: Cells, cost: int) -> Terms:
    """Return the terms of some buckets up to a cost on the chosen cells; the cheapest that fit the memory."""
    values, ids, costs = [], [], []
    for key in keys:
        rows, row_ids = bank.rows_up_to(key, cost)
        room = max(1, _MOST_VALUES // max(1, len(cells)) // len(keys))
        rows, row_ids = rows[:room], row_ids[:room]
        values.append(_gathered(rows, cells))
        ids.append(row_ids)
        costs.append(bank.costs(row_ids))
    all_costs = np.concatenate(costs)
    order = np.argsort(all_costs, kind="stable")
    stacked = np.concatenate(values)
    if len(keys) > 1:
        stacked = stacked[order]
    ordered = all_costs[order]
    return Terms(stacked, np.concatenate(ids)[order], ordered, int(np.searchsorted(ordered, cost)))


def _gathered(rows: Array, cells: Cells) -> Array:
    n_queries = rows.shape[2]
    columns = cells.probe * n_queries + (cells.query if n_queries > 1 else 0)
    flat = rows.reshape(len(rows), rows.shape[1] * n_queries)
    result = np.empty((len(rows), len(cells)), dtype=rows.dtype)
    step = max(1, _BLOCK // max(1, flat.shape[1]))
    for start in range(0, len(rows), step):
        np.take(flat[start : start + step], columns, axis=1, out=result[start : start + step])
    return result


def packed(bits: Array) -> Words:
    """Pack booleans to 64-bit words, padded with zeros. Shape: [term, cell] -> [term, word]."""
    n_bytes = 8 * max(1, -(-bits.shape[1] // 64))
    octets = np.zeros((len(bits), n_bytes), dtype=np.uint8)
    small = np.packbits(bits, axis=1)
    octets[:, : small.shape[1]] = small
    return octets.view(np.uint64)


def unique_rows(words: Words) -> NDArray[np.intp]:
    """Return the index of the first of each distinct row, ascending. Shape: [term, word] -> [distinct]."""
    if not len(words):
        return np.zeros(0, dtype=np.intp)
    order = np.lexsort(words.T)
    ordered = words[order]
    fresh = np.ones(len(order), dtype=np.bool_)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return np.sort(order[fresh])
