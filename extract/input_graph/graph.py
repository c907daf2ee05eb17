"""The inputs of a domain as a layered automaton: counting, enumerating, ranking and drawing without listing them.

A node is (depth, state); a string is a path from state 0 at depth 0, and it is an input if its last node accepts.
This room knows letters, indices into the alphabet, and no token, template or promise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import DomainError

Letters = NDArray[np.int32]
States = NDArray[np.int32]
#: Exact counts of strings: int64 where every count fits, Python integers (object) where not.
Counts = NDArray[Any]

_FITS_INT64 = 1 << 62
#: Lengths whose tables are kept; a walk over all lengths visits each once, so a few suffice.
_KEPT_LENGTHS = 64
#: Strings expanded at once: a block of levels stays in the processor's cache.
_BLOCK = 1 << 14
#: Cells of the tables made when strings of arbitrary ranks are looked up together.
_CELLS = 1 << 22


@dataclass(frozen=True, slots=True)
class _Slice:
    """The graph seen from one length: transitions that can still end there, and how many strings each node starts."""

    next: tuple[States, ...]
    counts: tuple[Counts, ...]


@dataclass(frozen=True, slots=True)
class _Branches:
    """One level of an expansion: for each live prefix, the row of its parent in the level above and its last letter."""

    parent: NDArray[np.intp]
    letter: NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class InputGraph:
    """All inputs of the lengths ``min_length`` to ``max_length`` (tokens), one string per path.

    Shapes: ``next[p]`` [state at depth p, letter] holds the state at depth p + 1, or -1 where no input continues;
    ``accept[p]`` [state at depth p] says whether a string of length p that ends there is an input.
    Ensures: every state is reached and reaches an accepting node; states are numbered by discovery (letters in
    alphabet order), so equal sets of strings have equal graphs.
    """

    min_length: int
    max_length: int
    n_letters: int
    next: tuple[States, ...]
    accept: tuple[NDArray[np.bool_], ...]
    _memo: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def n_states(self) -> int:
        """The number of nodes over all depths."""
        return sum(len(layer) for layer in self.accept)

    def size(self, length: int) -> int:
        """Return the exact number of inputs of a length; 0 outside the graph's lengths."""
        if not self.min_length <= length <= self.max_length:
            return 0
        if "sizes" not in self._memo:
            self._memo["sizes"] = self._sizes()
        sizes: tuple[int, ...] = self._memo["sizes"]
        return sizes[length]

    def _sizes(self) -> tuple[int, ...]:
        dtype = self._count_dtype(self.max_length)
        counts: Counts = np.ones(1, dtype=dtype)
        sizes = []
        for depth, accept in enumerate(self.accept):
            sizes.append(int(counts[accept].sum()) if accept.any() else 0)
            if depth == self.max_length:
                break
            ahead: Counts = np.zeros(len(self.accept[depth + 1]), dtype=dtype)
            source, letter = np.nonzero(self.next[depth] >= 0)
            np.add.at(ahead, self.next[depth][source, letter], counts[source])
            counts = ahead
        return tuple(sizes)

    def _count_dtype(self, length: int) -> type:
        return np.int64 if self.n_letters**length < _FITS_INT64 else object

    def _slice(self, length: int) -> _Slice:
        if length in self._memo:
            kept: _Slice = self._memo[length]
            return kept
        counts: list[Counts] = [self.accept[length].astype(self._count_dtype(length))]
        tables: list[States] = []
        for depth in range(length - 1, -1, -1):
            ahead = counts[-1]
            table = np.where(self.next[depth] >= 0, self.next[depth], len(ahead))
            padded = np.append(ahead, np.zeros(1, dtype=ahead.dtype))
            tables.append(np.where(padded[table] > 0, table, -1).astype(np.int32))
            counts.append(self._row_sums(padded, table))
        built = _Slice(tuple(reversed(tables)), tuple(reversed(counts)))
        lengths = [key for key in self._memo if isinstance(key, int)]
        if len(lengths) >= _KEPT_LENGTHS:
            del self._memo[lengths[0]]
        self._memo[length] = built
        return built

    def _row_sums(self, counts: Counts, table: States) -> Counts:
        """The sum over letters of the counts the table points at, by the shorter loop."""
        if self.n_letters > len(table):
            return np.asarray(counts[table].sum(axis=1), dtype=counts.dtype)
        total = np.zeros_like(counts, shape=len(table))
        for letter in range(self.n_letters):
            total += counts[table[:, letter]]
        return total

    def letters(self, length: int, start: int, stop: int, names: Letters | None = None) -> Letters:
        """Return the strings of a length with ranks ``start`` to ``stop`` (exclusive), in lexicographic order.

        Shape:   [stop - start, length], indices into the alphabet, or what ``names`` [letter] says instead.
        Raises:  DomainError if the ranks are not 0 <= start <= stop <= size(length).
        Cost:    O(length * (stop - start)) whatever the size of the set.
        """
        names = np.arange(self.n_letters, dtype=np.int32) if names is None else names
        self._check_ranks(length, start, stop)
        strings: Letters = np.empty((stop - start, length), dtype=np.int32)
        for first in range(start, stop, _BLOCK):
            last = min(first + _BLOCK, stop)
            rows: Letters = np.empty((length, last - first), dtype=np.int32)
            row: NDArray[np.intp] | None = None
            for depth, level in reversed(list(enumerate(self.expand(length, first, last)))):
                written = names.take(level.letter)
                rows[depth] = written if row is None else written.take(row)
                row = level.parent if row is None else level.parent.take(row)
            strings[first - start : last - start] = rows.T
        return strings

    def _check_ranks(self, length: int, start: int, stop: int) -> None:
        total = self.size(length)
        if not 0 <= start <= stop <= total:
            raise DomainError(f"ranks {start} to {stop} of length {length}, expected ranks within 0 to {total}")

    def expand(self, length: int, start: int, stop: int) -> list[_Branches]:
        """Return the tree of prefixes of the strings of a length with ranks ``start`` to ``stop``, level by level."""
        self._check_ranks(length, start, stop)
        if start == stop:
            empty = np.zeros(0, dtype=np.intp)
            return [_Branches(empty, empty)] * length
        view = self._slice(length)
        states: States = np.zeros(1, dtype=np.int32)
        before, beyond = start, self.size(length) - stop
        levels = []
        letter_dtype = np.uint8 if self.n_letters <= 256 else np.int32
        for depth in range(length):
            children = view.next[depth][states]
            parent, letter = np.nonzero(children >= 0)
            states = children[parent, letter]
            counts = view.counts[depth + 1]
            low, high = 0, len(states)
            while (size := int(counts[states[low]])) <= before:
                before -= size
                low += 1
            while (size := int(counts[states[high - 1]])) <= beyond:
                beyond -= size
                high -= 1
            states = states[low:high]
            levels.append(_Branches(parent[low:high], letter[low:high].astype(letter_dtype)))
        return levels

    def letters_at(self, length: int, ranks: list[int]) -> Letters:
        """Return the strings of a length with the given ranks, each 0 <= rank < size(length). Shape: [rank, length]."""
        n_rows = max(1, _CELLS // self.n_letters)
        blocks = [self._letters_at(length, ranks[i : i + n_rows]) for i in range(0, len(ranks), n_rows)]
        return np.concatenate(blocks) if blocks else np.empty((0, length), dtype=np.int32)

    def _letters_at(self, length: int, ranks: list[int]) -> Letters:
        view = self._slice(length)
        left: Counts = np.array(ranks, dtype=self._count_dtype(length))
        strings: Letters = np.empty((len(ranks), length), dtype=np.int32)
        states = np.zeros(len(ranks), dtype=np.int32)
        rows = np.arange(len(ranks))
        for depth in range(length):
            children = view.next[depth][states]
            sizes = np.where(children >= 0, view.counts[depth + 1][np.maximum(children, 0)], 0)
            upto = np.cumsum(sizes, axis=1)
            chosen = (upto <= left[:, None]).sum(axis=1)
            left = left - upto[rows, chosen] + sizes[rows, chosen]
            states = children[rows, chosen]
            strings[:, depth] = chosen
        return strings

    def rank(self, letters: tuple[int, ...]) -> int:
        """Return the rank of a string among those of its length.

        Raises:  DomainError if the string is not one of the graph's.
        """
        length = len(letters)
        if not self.contains(letters):
            raise DomainError(f"letters {letters} are no input of length {length}")
        view, state, rank = self._slice(length), 0, 0
        for depth, letter in enumerate(letters):
            smaller = view.next[depth][state, :letter]
            rank += sum(int(view.counts[depth + 1][target]) for target in smaller if target >= 0)
            state = int(view.next[depth][state, letter])
        return rank

    def contains(self, letters: tuple[int, ...]) -> bool:
        """Say whether a string of letters is an input."""
        state = 0
        if not self.min_length <= len(letters) <= self.max_length:
            return False
        for depth, letter in enumerate(letters):
            state = int(self.next[depth][state, letter])
            if state < 0:
                return False
        return bool(self.accept[len(letters)][state])
