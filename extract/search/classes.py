"""The core that every grammar of the search grows on: classes of equal rows, and how each of them was made.

``Classes`` keeps one row per class, cheapest first, as 64-bit words; ``Provenance`` keeps operator, arguments and cost
of every representative in arrays. Neither knows what an operator means, what a cell is or what is looked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Datum
from extract.search.hashing import Hashes, HashTable, Indices, Words

Ids = NDArray[np.int32]
#: An operator with its constants.
Operation = tuple[str, tuple[Datum, ...]]

_LEAST_ROWS = 256
_MOST_ARGUMENTS = 3


class Provenance:
    """Operator, arguments and cost of each representative, by id. Arguments always have smaller ids."""

    def __init__(self) -> None:
        self.n = 0
        self._table = np.zeros((1024, 2 + _MOST_ARGUMENTS), dtype=np.int32)  # operation, arguments, cost
        self._operations: list[Operation] = []
        self._index: dict[Operation, int] = {}

    @property
    def memory_bytes(self) -> int:
        """The bytes held."""
        return self._table.nbytes

    def record(self, operation: Operation, arguments: tuple[Ids, ...], n_terms: int, cost: int) -> Ids:
        """Give ids to terms made by one operation. Shape: arguments [term] each -> [term]."""
        index = self._index.setdefault(operation, len(self._operations))
        if index == len(self._operations):
            self._operations.append(operation)
        start, stop = self.n, self.n + n_terms
        if stop > len(self._table):
            table = np.empty((max(stop, 2 * len(self._table)), self._table.shape[1]), dtype=np.int32)
            table[:start] = self._table[:start]
            self._table = table
        block = self._table[start:stop]
        block[:, 0] = index
        for i in range(_MOST_ARGUMENTS):
            block[:, 1 + i] = arguments[i] if i < len(arguments) else -1
        block[:, -1] = cost
        self.n = stop
        return np.arange(start, stop, dtype=np.int32)

    def operation(self, term_id: int) -> Operation:
        """Return the operator and constants at the root of a term."""
        return self._operations[int(self._table[term_id, 0])]

    def arguments(self, term_id: int) -> tuple[int, ...]:
        """Return the ids of a term's arguments."""
        return tuple(int(a) for a in self._table[term_id, 1:-1] if a >= 0)

    def argument_columns(self, ids: Ids) -> Ids:
        """Return the argument ids of several terms, -1 where there is none. Shape: [term, 3]."""
        return np.asarray(self._table[ids, 1:-1])

    def operation_indices(self, ids: Ids) -> Ids:
        """Return a number per term that is equal for equal operations; ``operation_at`` resolves it."""
        return np.asarray(self._table[ids, 0])

    def operation_at(self, index: int) -> Operation:
        """Return the operation with this number."""
        return self._operations[index]

    def cost(self, term_id: int) -> int:
        """Return the tree cost at which a term was built."""
        return int(self._table[term_id, -1])

    def costs(self, ids: Ids) -> Ids:
        """Return the tree costs of several terms. Shape: [term]."""
        return np.asarray(self._table[ids, -1])

    def made_by(self, ids: Ids, operation: Operation) -> NDArray[np.bool_]:
        """Say which of some terms have this operation at the root. Shape: [term]."""
        return np.asarray(self._table[ids, 0] == self._index.get(operation, -1))


class Classes:
    """One row per class of equal rows, in the order in which they were added, which is the order of cost.

    Rows are held from the first on, up to a number of bytes; the dearer ones then have a hash, an id and a provenance
    but no words (``n_held`` says from where), and their owner recomputes them.
    """

    def __init__(self, n_words: int) -> None:
        self.n_words = n_words
        self.n = 0
        self.n_held = 0
        self.table = HashTable()
        #: First row and end of each cost.
        self.levels: dict[int, tuple[int, int]] = {}
        self._ids = np.empty(_LEAST_ROWS, dtype=np.int32)
        self._held: Words = np.empty((0, n_words), dtype=np.uint64)
        self._blocks: list[Words] = []

    @property
    def memory_bytes(self) -> int:
        """The bytes held."""
        return self.table.memory_bytes + self._ids.nbytes + 8 * self.n_words * self.n_held

    @property
    def ids(self) -> Ids:
        """The id of each row. Shape: [term]."""
        return self._ids[: self.n]

    def unseen(self, hashes: Hashes) -> Indices:
        """Register a batch of hashes; return the indices of the first row of each class not seen before.

        The caller gives exactly these rows to ``keep``, in this order, before the next batch.
        """
        return self.table.add(hashes)

    def keep(self, words: Words | None, ids: Ids, cost: int) -> None:
        """Append the rows of classes that ``unseen`` registered; None for rows that are not held.

        Raises:  ValueError if rows would be held after some that are not, or if costs fall.
        """
        stop = self.n + len(ids)
        if stop > len(self._ids):
            grown = np.empty(max(stop, 2 * len(self._ids)), dtype=np.int32)
            grown[: self.n] = self._ids[: self.n]
            self._ids = grown
        self._ids[self.n : stop] = ids
        if words is not None:
            if self.n_held != self.n:
                raise ValueError(f"rows from {self.n} on follow rows from {self.n_held} on that are not held")
            self._blocks.append(words)
            self.n_held = stop
        start, end = self.levels.get(cost, (self.n, self.n))
        if end != self.n or any(c > cost for c in self.levels):
            raise ValueError(f"cost {cost} after {max(self.levels)}")
        self.levels[cost] = (start, stop)
        self.n = stop

    def held(self, start: int, stop: int) -> Words:
        """Return a run of rows, all of them held. Shape: [stop - start, word]; a view."""
        if stop > len(self._held):
            self._gather()
        return self._held[start:stop]

    def _gather(self) -> None:
        """Lay all rows held end to end, letting go of each block once it is copied: never all of them twice."""
        rows, at = np.empty((self.n_held, self.n_words), dtype=np.uint64), len(self._held)
        rows[:at] = self._held
        self._held = rows
        self._blocks.reverse()
        while self._blocks:
            block = self._blocks.pop()
            rows[at : at + len(block)] = block
            at += len(block)

    def level(self, cost: int) -> tuple[int, int]:
        """Return the first row and the end of one cost; equal if there is none."""
        return self.levels.get(cost, (0, 0))

    def n_up_to(self, cost: int) -> int:
        """Return how many rows cost at most this much; they come first."""
        return max((stop for c, (_, stop) in self.levels.items() if c <= cost), default=0)
