"""Reads of generated answers: which position an index finds, and how reads join where one ends and the next goes on.

It works on arrays of cells and on whole reads; which keys and indices are worth trying is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.batch import Batch
from extract.lang.terms import Term
from extract.search.builders import readable, symbol_or_integer
from extract.search.goals import Goal
from extract.vocabulary import Vocabulary

Array = NDArray[Any]

#: How many reads one output is joined of, how many are tried first, and how many after those.
_PIECES, _FIRST_PIECES, _NEXT_PIECES = 3, 24, 6

#: Cells of all the reads that are joined: about ten bytes each.
_MOST_CELLS = 1 << 23


@dataclass(frozen=True, slots=True)
class Read:
    """One way to read outputs: ``inside`` says where it reads an existing position, ``right`` where that position
    holds the answer. Shapes: [cell], the cells that count in order."""

    term: Term
    cost: int
    inside: NDArray[np.bool_]
    right: NDArray[np.bool_]


def places_of(keys: Array, batch: Batch) -> Array:
    """Return the first position that holds each key value from 0, -1 where none does. Shape: [probe, value]."""
    width = batch.width + 1
    places = np.full((len(batch), width + 1), -1, dtype=np.int64)
    for position in range(keys.shape[1] - 1, -1, -1):
        rows = np.flatnonzero(batch.mask[:, position] & (keys[:, position] >= 0) & (keys[:, position] < width))
        places[rows, keys[rows, position]] = position
    return places


def looked_up(places: Array, index: Array) -> Array:
    """Return the position that holds each index, or -1. Shape: [probe, step]."""
    beyond = places.shape[1] - 1
    clipped = np.where((index < 0) | (index > beyond), beyond, index)
    return np.take_along_axis(places, np.broadcast_to(clipped, (len(places), clipped.shape[1])), axis=1)


def joined(reads: list[Read], goal: Goal, vocabulary: Vocabulary, slack: float) -> Iterator[Term]:
    """Yield reads, and reads that go on (as defaults) where others end, that are right at every output but a share."""
    codes = goal.codes[goal.mask]
    ordered = _distinct_reads(reads)
    if not ordered:
        return
    # counts of cells below 2^24 are exact in float32, and one product gives them for all reads
    inside = np.stack([read.inside for read in ordered])
    n_inside = inside.astype(np.float32)
    n_wrong = np.stack([read.inside & ~read.right for read in ordered]).astype(np.float32)

    def extend(left: NDArray[np.bool_], n_pieces: int) -> Iterator[Term]:
        if len(np.unique(codes[left])) == 1:
            yield symbol_or_integer(int(codes[left][0]), vocabulary)
        cells = left.astype(np.float32)
        read_here = n_inside @ cells
        sound = np.flatnonzero((read_here > 0) & (n_wrong @ cells <= slack * read_here))
        whole = [ordered[i] for i in sound if read_here[i] == cells.sum()]
        yield from (read.term for read in sorted(whole, key=lambda read: read.cost)[:_NEXT_PIECES])
        if n_pieces > 1 and not whole:
            for i in sound[: _FIRST_PIECES if n_pieces == _PIECES else _NEXT_PIECES]:
                for default in islice(extend(left & ~inside[i], n_pieces - 1), _NEXT_PIECES):
                    yield readable(Term("first", (*ordered[i].term.arguments, default)))

    yield from extend(np.ones(len(codes), dtype=np.bool_), _PIECES)


def _distinct_reads(reads: list[Read]) -> list[Read]:
    """Return the cheapest of the reads that read alike, those that reach furthest first; as many as memory allows."""
    found: dict[bytes, Read] = {}
    for read in sorted(reads, key=lambda read: read.cost):
        found.setdefault(np.packbits([read.inside, read.right]).tobytes(), read)
    distinct = sorted(found.values(), key=lambda read: -int(read.right.sum()))
    kept = distinct[: _MOST_CELLS // max(1, len(distinct[0].inside))] if distinct else []
    return sorted(kept, key=lambda read: (-int(read.inside.sum()), read.cost))
