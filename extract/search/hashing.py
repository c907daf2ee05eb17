"""Hashes of rows of cells, and a table of the hashes seen: how classes of equal rows are told apart in batches.

A row is a run of 64-bit words. Its hash has two halves of 64 bits; rows are taken as equal when both halves are, and
whoever reports a result compares the rows themselves. This module knows no terms, costs or goals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Hashes = NDArray[np.uint64]
Indices = NDArray[np.intp]

#: Bytes of words mixed at a time: the block and its scratch stay in a core's second-level cache.
_BLOCK_BYTES = 1 << 18
_FOLD = np.uint64(32)
_ODD = np.uint64(1)
_PAIR = np.dtype((np.void, 16))
_LEAST_SLOTS = 1 << 10


def hash_weights(n_words: int) -> Hashes:
    """Return two rows of odd random weights, the same for every run. Shape: [2, word]."""
    rng = np.random.default_rng(0x5EED)
    weights = rng.integers(0, 1 << 63, size=(2, n_words), dtype=np.uint64)
    return weights * np.uint64(2) + _ODD


def to_words(rows: NDArray[Any]) -> Words:
    """Return rows of cells as 64-bit words, padded with zeros; booleans become one bit each.

    Shape:   [term, cell] of an integer type or bool -> [term, word]; a view where the cells fill whole words.
    """
    cells = rows
    if rows.dtype == np.bool_:
        n_cells = rows.shape[1]
        if n_cells % 8 == 0 and rows.flags.c_contiguous:
            cells = np.packbits(rows.reshape(-1)).reshape(len(rows), n_cells // 8)
        else:
            cells = np.packbits(rows, axis=1)
    pad = (-cells.shape[1]) % (8 // cells.itemsize)
    if pad:
        padded = np.zeros((len(cells), cells.shape[1] + pad), dtype=cells.dtype)
        padded[:, : cells.shape[1]] = cells
        return padded.view(np.uint64)
    return np.ascontiguousarray(cells).view(np.uint64)


def from_words(words: Words, dtype: np.dtype[Any], n_cells: int) -> NDArray[Any]:
    """Return the cells of rows that ``to_words`` packed: a view of integers, a fresh array of booleans."""
    if dtype == np.bool_:
        octets = np.ascontiguousarray(words).view(np.uint8)
        bits = np.unpackbits(octets, axis=1, count=n_cells) if n_cells % 64 else np.unpackbits(octets.reshape(-1))
        return bits.reshape(len(words), n_cells).view(np.bool_)
    return words.view(dtype)[:, :n_cells]


def hash_words(words: Words, weights: Hashes) -> Hashes:
    """Hash rows of words to 128 bits.

    Shape:   [term, word] -> [term, 2]. The second half is odd, so that no hash is zero.
    Each word is folded (its high half onto its low half) before two wrap-around dot products with odd weights: without
    the fold, rows that differ in high bits only would share the low bits of their hashes.
    """
    n_terms, n_words = words.shape
    hashes = np.empty((n_terms, 2), dtype=np.uint64)
    first, second = weights[0, :n_words], weights[1, :n_words]
    step = max(1, _BLOCK_BYTES // max(1, 8 * n_words))
    scratch = np.empty((min(step, n_terms), n_words), dtype=np.uint64)
    for start in range(0, n_terms, step):
        block = words[start : start + step]
        mixed = scratch[: len(block)]
        np.right_shift(block, _FOLD, out=mixed)
        np.bitwise_xor(mixed, block, out=mixed)
        np.einsum("ij,j->i", mixed, first, out=hashes[start : start + step, 0])
        np.einsum("ij,j->i", mixed, second, out=hashes[start : start + step, 1])
    hashes[:, 1] |= _ODD
    return hashes


def first_occurrences(hashes: Hashes) -> Indices:
    """Return the indices of the first row with each distinct hash, in order of appearance.

    Shape:   [term, 2] -> [distinct].
    """
    return HashTable(len(hashes)).add(hashes)


class HashTable:
    """The hashes seen, numbered in the order in which they were added: open addressing, whole batches at a time.

    Slots hold numbers, hashes lie densely by number: two gathers decide most of a batch. At most a quarter of the slots
    are filled, and an eighth after growing: at a sixth, entering the known hashes again took as long as new ones.
    """

    def __init__(self, n_expected: int = 0) -> None:
        self._n = 0
        # number 0 marks an empty slot; its hash is zero, which no row has
        self._hashes: NDArray[Any] = np.zeros(2 * (n_expected + 64), dtype=np.uint64).view(_PAIR)
        self._clear(max(_LEAST_SLOTS, 1 << (4 * n_expected).bit_length()))

    def __len__(self) -> int:
        return self._n

    @property
    def memory_bytes(self) -> int:
        """The bytes held."""
        return self._slots.nbytes + self._hashes.nbytes

    def add(self, hashes: Hashes) -> Indices:
        """Add a batch; return the indices of the rows that were not known, the first of each hash, ascending.

        Shape:   [term, 2], second halves odd -> [added]. The rows added are numbered on from ``len(self)``.
        """
        self._reserve(len(hashes))
        end = self._n + 1
        pairs = np.ascontiguousarray(hashes).view(_PAIR)[:, 0]
        # rows of the batch that meet in a slot are told apart by hash too, so all of them are laid down first
        self._hashes[end : end + len(pairs)] = pairs
        slots = self._claim(pairs, np.arange(end, end + len(pairs), dtype=np.int32))
        indices = (slots >= 0).nonzero()[0]
        self._slots[slots[indices]] = np.arange(end, end + len(indices), dtype=np.int32)
        self._hashes[end : end + len(indices)] = pairs.take(indices)
        self._n += len(indices)
        return indices

    def find(self, hashes: Hashes) -> NDArray[np.int32]:
        """Return the number of each row's hash, -1 where it is not known. Shape: [term, 2] -> [term]."""
        found = np.full(len(hashes), -1, dtype=np.int32)
        rest = np.ascontiguousarray(hashes).view(_PAIR)[:, 0]
        todo, slots = np.arange(len(rest)), self._first_slots(rest)
        while len(todo):
            numbers = self._slots.take(slots)
            differs = _differ(self._hashes.take(numbers), rest)
            found[todo[~differs]] = numbers[~differs] - 1
            on = (differs & (numbers != 0)).nonzero()[0]
            todo, rest, slots = todo[on], rest[on], (slots[on] + 1) & self._mask
        return found

    def _clear(self, n_slots: int) -> None:
        self._slots = np.zeros(n_slots, dtype=np.int32)
        self._mask = n_slots - 1
        self._shift = np.uint64(64 - self._mask.bit_length())

    def _first_slots(self, pairs: NDArray[Any]) -> Indices:
        # the high bits of a wrap-around dot product depend on every bit of the row
        return (pairs.view(np.uint64)[::2] >> self._shift).view(np.intp)

    def _claim(self, pairs: NDArray[Any], numbers: NDArray[np.int32]) -> Indices:
        """Write the numbers of unseen hashes into slots. Return the slot of each row written, -1 for the others."""
        taken = np.full(len(pairs), -1, dtype=np.intp)
        todo: Indices | None = None  # all rows at first
        rest, slots = pairs, self._first_slots(pairs)
        while len(rest):
            stored = self._slots.take(slots)
            on = _differ(self._hashes.take(stored), rest)
            is_filled = stored != 0
            at = (~is_filled).nonzero()[0]
            if len(at):
                # of several rows that want one slot the first gets it: the last assignment to an index stands
                wanted, number = slots.take(at), numbers.take(at)
                self._slots[wanted[::-1]] = number[::-1]
                won = self._slots.take(wanted) == number
                winners, wanted = (at, wanted) if won.all() else (at[won], wanted[won])
                taken[winners if todo is None else todo.take(winners)] = wanted
                on[winners] = False
            # who lost a slot looks at it again, now filled; who met another hash goes on to the next slot
            kept = on.nonzero()[0]
            slots = (slots.take(kept) + is_filled.take(kept)) & self._mask
            rest, numbers = rest.take(kept), numbers.take(kept)
            todo = kept if todo is None else todo.take(kept)
        return taken

    def _reserve(self, n_more: int) -> None:
        needed = self._n + n_more + 1
        if needed > len(self._hashes):
            hashes: NDArray[Any] = np.empty(4 * needed, dtype=np.uint64).view(_PAIR)
            hashes[: self._n + 1] = self._hashes[: self._n + 1]
            self._hashes = hashes
        if 4 * needed > len(self._slots):
            self._clear(1 << (8 * needed).bit_length())
            self._claim(self._hashes[1 : self._n + 1], np.arange(1, self._n + 1, dtype=np.int32))


def _differ(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.bool_]:
    """Say where two runs of hashes differ in either half."""
    first, second = left.view(np.uint64), right.view(np.uint64)
    return np.asarray((first[::2] != second[::2]) | (first[1::2] != second[1::2]))
