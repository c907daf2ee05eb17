"""The bank: one representative per class of observationally equivalent terms, on one probe set.

Rows lie in one store per bucket (kind, tag, shape), booleans and selectors as bits; provenance lies in arrays of
integers, so that a term is rebuilt only when somebody wants to see it. The bank holds its frame and refuses values of
another one. Terms are appended in order of cost; within a cost, in the fixed order of the productions: the
representative of a class is therefore always the first of its cheapest members, on every machine.

Memory is bounded: once the rows held reach ``memory_bytes``, dearer terms keep hash, id and provenance only, and
``rows`` recomputes their values from those of their arguments.

It is not split among processes as proofs are (extract/shards.py): what means the same is merged in one table, and every
level reads what that table kept of the levels before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Datum, Term
from extract.search.builders import readable
from extract.search.classes import Classes, Provenance
from extract.search.crossing import Crossing, Function
from extract.search.frame import Frame, Shape
from extract.search.hashing import Hashes, Indices, Words, hash_weights, hash_words, to_words
from extract.search.layout import Key as Key
from extract.search.layout import Kind as Kind
from extract.search.layout import Layout, layout_of
from extract.search.layout import Tag as Tag
from extract.search.meanings import apply_rows

Array = NDArray[Any]
Ids = NDArray[np.int32]

#: Rows whose values are recomputed at a time.
_RECOMPUTED = 4096
_DEFAULT_MEMORY = 1 << 31


class Origin(NamedTuple):
    """How a run of terms was made: operator, constants, argument ids per term ([term] each), cost of each."""

    operator: str
    data: tuple[Datum, ...]
    arguments: tuple[Ids, ...]
    cost: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A term whose hash equals a goal's: a proposal, not yet compared."""

    goal: int
    term: Term
    cost: int


class Bank:
    """Append-only store of representatives and their provenance, bound to one frame.

    ``watch`` registers goals; ``append`` reports every appended or merged term that hashes like a goal (merged ones
    too: they are the rivals of the winner).
    """

    def __init__(self, frame: Frame, *, max_hits: int = 16, memory_bytes: int = _DEFAULT_MEMORY) -> None:
        self.frame = frame
        self.buckets: dict[Key, Classes] = {}
        self.hits: list[Hit] = []
        self.n_candidates = 0
        self._memory_limit = memory_bytes
        self._max_hits = max_hits
        self._hits_per_goal: dict[int, int] = {}
        self._provenance = Provenance()
        self._key_of = np.zeros(1024, dtype=np.int16)  # bucket of each id, by index into _keys; -1: in none
        self._row_of = np.zeros(1024, dtype=np.int32)
        self._keys: list[Key] = []
        self._layouts: dict[Key, Layout] = {}
        self._goals: dict[Key, list[tuple[int, Hashes]]] = {}
        self._crossings: dict[tuple[Key, bool], Crossing] = {}
        widest = max(frame.n_queries(shape) for shape in ("whole", "position", "step"))
        cells = frame.n_probes * widest * max(1, frame.valid.shape[1])
        self._weights = hash_weights(cells // 2 + 8)

    # -- growing ----------------------------------------------------------------------------------------------------
    def watch(self, goal: int, key: Key, target: Array) -> None:
        """Report terms of a bucket that equal a target. Shape: target [probe, query], already masked and narrow."""
        row = self._to_words(key, target[None])
        self._goals.setdefault(key, []).append((goal, hash_words(row, self._weights)[0]))

    def append(self, key: Key, values: Array, origin: Origin) -> Ids:
        """Add terms that are new up to observational equivalence; return the ids of those added.

        Shape:   values [term, probe, query] (selectors [term, probe, query, key]).
        """
        if not len(values):
            self.n_candidates += len(values)
            return np.zeros(0, dtype=np.int32)
        words = self._to_words(key, values)
        every = np.arange(len(values))
        return self._offer(key, words, hash_words(words, self._weights), origin, (every,) * len(origin.arguments))

    def append_pairs(
        self, key: Key, function: Function, left: tuple[Key, slice], right: tuple[Key, slice], origin: Origin
    ) -> None:
        """Add a cell-by-cell function of all pairs of rows of two buckets, computed, hashed and merged in blocks.

        ``left`` and ``right`` name runs of rows; a sequence-wide row is spread over the queries of ``key``. The
        arguments of ``origin`` are the ids of both runs. Equal to ``append`` of the same values in the order of
        (left, right), except that a commuting function of a run with itself may leave out mirrored pairs.
        """
        sides = [self._spread(side, rows, key) for side, rows in (left, right)]
        crossing = self._crossing(key, sides[0].dtype)
        symmetric = left == right and origin.operator in _COMMUTING
        for block in crossing.blocks(function, *sides, is_symmetric=symmetric):
            self._offer(key, block.words, block.hashes, origin, (block.left, block.right))

    def intern(self, operator: str, arguments: tuple[Ids, ...], cost: int) -> Ids:
        """Give ids to terms whose values are not kept: parts of others that are. Shape: [term]."""
        ids = self._provenance.record((operator, ()), arguments, len(arguments[0]), cost)
        self._place(ids, -1, 0)
        return ids

    def place(self, key: Key, operator: str, data: tuple[Datum, ...], arguments: Sequence[int], cost: int) -> int:
        """Add one term made of terms that the bank has, or meet its class; return the id of the representative."""
        columns = tuple(np.array([a], dtype=np.int32) for a in arguments)
        made = apply_rows(operator, data, [self._argument(ids) for ids in columns], self.frame, 1, key.tag)
        words = self._to_words(key, made)
        hashes, first = hash_words(words, self._weights), np.zeros(1, dtype=np.intp)
        self._offer(key, words, hashes, Origin(operator, data, columns, cost), (first,) * len(columns))
        bucket = self.buckets[key]
        return int(bucket.ids[bucket.table.find(hashes)[0]])

    # -- reading ----------------------------------------------------------------------------------------------------
    def rows(self, key: Key, cost: int) -> tuple[Array, Ids]:
        """Return the values and ids of one bucket at one cost. Shape: [term, probe, query(, key)], [term]."""
        bucket = self.buckets.get(key)
        return self._slice(key, *(bucket.level(cost) if bucket else (0, 0)))

    def rows_up_to(self, key: Key, cost: int) -> tuple[Array, Ids]:
        """Return the values and ids of one bucket at all costs up to one, cheapest first."""
        bucket = self.buckets.get(key)
        return self._slice(key, 0, bucket.n_up_to(cost) if bucket else 0)

    def words_up_to(self, key: Key, cost: int) -> tuple[Words, Ids]:
        """Return what ``rows_up_to`` does as 64-bit words: booleans one bit per cell, cells that do not count zero."""
        bucket = self.buckets.get(key)
        stop = bucket.n_up_to(cost) if bucket else 0
        return self._words(key, 0, stop), bucket.ids[:stop] if bucket else np.zeros(0, dtype=np.int32)

    def run(self, key: Key, cost: int) -> tuple[slice, Ids]:
        """Return which rows of a bucket have one cost, and their ids."""
        bucket = self.buckets.get(key)
        rows = slice(*(bucket.level(cost) if bucket else (0, 0)))
        return rows, bucket.ids[rows] if bucket else np.zeros(0, dtype=np.int32)

    def count(self, key: Key, cost: int) -> int:
        """Return how many representatives a bucket has at one cost."""
        bucket = self.buckets.get(key)
        start, stop = bucket.level(cost) if bucket else (0, 0)
        return stop - start

    def keys(self, kind: Kind, shape: Shape | None = None) -> Iterator[Key]:
        """Yield the buckets of a kind (and shape) in a fixed order."""
        for key in sorted(self.buckets):
            if key.kind == kind and (shape is None or key.shape == shape):
                yield key

    @property
    def n_distinct(self) -> int:
        """The number of representatives, and of parts interned beside them."""
        return self._provenance.n

    def cost(self, term_id: int) -> int:
        """Return the tree cost at which a term was built."""
        return self._provenance.cost(term_id)

    def costs(self, ids: Ids) -> Ids:
        """Return the tree costs of several terms. Shape: [term]."""
        return self._provenance.costs(ids)

    def n_below(self, key: Key, cost: int) -> int:
        """Return how many representatives of a bucket cost less; they are the first rows of ``rows_up_to``."""
        bucket = self.buckets.get(key)
        return bucket.n_up_to(cost - 1) if bucket else 0

    def term(self, term_id: int) -> Term:
        """Rebuild a stored term."""
        name, data = self._provenance.operation(term_id)
        return readable(Term(name, tuple(self.term(a) for a in self._provenance.arguments(term_id)), data))

    def made_by(self, ids: Ids, operator: str, data: tuple[Datum, ...]) -> NDArray[np.bool_]:
        """Say which of some terms have this operator and these constants at the root. Shape: [term]."""
        return self._provenance.made_by(ids, (operator, data))

    def constant_id(self, value: int) -> int:
        """Return the id of the representative that is this integer constant, -1 if there is none."""
        _, ids = self.run(Key("I", "N", "whole"), 1 if abs(value) <= 2 else 2)
        found = ids[self.made_by(ids, "integer", (value,))]
        return int(found[0]) if len(found) else -1

    @property
    def memory_bytes(self) -> int:
        """The bytes held by values, hashes and provenance; only the values are bounded by the limit given."""
        places = self._key_of.nbytes + self._row_of.nbytes
        return self._provenance.memory_bytes + places + sum(b.memory_bytes for b in self.buckets.values())

    def values_of(self, ids: Ids) -> Array:
        """Return the values of terms of one bucket, recomputed where they are not held. Shape: [term, probe, query].

        Raises:  ValueError if the terms are not of one bucket.
        """
        indices = np.unique(self._key_of[ids])
        if len(indices) != 1 or indices[0] < 0:
            raise ValueError("terms of several buckets, or parts that are in none, have no common shape")
        key = self._keys[int(indices[0])]
        bucket, layout = self.buckets[key], self._layout(key)
        rows = self._row_of[ids]
        values = np.empty((len(ids), *layout.shape), dtype=layout.dtype)
        held = rows < bucket.n_held
        words = bucket.held(0, bucket.n_held)[rows[held]]
        values[held] = layout.unpack(words)
        for start in range(0, int((~held).sum()), _RECOMPUTED):
            at = np.flatnonzero(~held)[start : start + _RECOMPUTED]
            values[at] = self._recomputed(key, ids[at])
        return values

    # -- plumbing ---------------------------------------------------------------------------------------------------
    def _offer(self, key: Key, words: Words, hashes: Hashes, origin: Origin, at: tuple[Indices, ...]) -> Ids:
        """Merge or keep rows; argument i of row r is ``origin.arguments[i][at[i][r]]``."""
        self.n_candidates += len(words)
        self._report_hits(key, hashes, origin, at)
        bucket = self._bucket(key)
        chosen = bucket.unseen(hashes)
        if not len(chosen):
            return np.zeros(0, dtype=np.int32)
        arguments = tuple(ids[rows[chosen]] for ids, rows in zip(origin.arguments, at, strict=True))
        ids = self._provenance.record((origin.operator, origin.data), arguments, len(chosen), origin.cost)
        self._place(ids, self._keys.index(key), bucket.n)
        self._keep(key, words[chosen], ids)
        return ids

    def _keep(self, key: Key, words: Words, ids: Ids) -> None:
        """Append rows to a bucket, holding their words while the memory lasts. The costs of ids never fall."""
        bucket = self._bucket(key)
        is_held = bucket.n_held == bucket.n and self._held_bytes + words.nbytes <= self._memory_limit
        costs = self._provenance.costs(ids)
        for cost in np.unique(costs):
            at = (costs == cost).nonzero()[0]
            bucket.keep(words[at] if is_held else None, ids[at], int(cost))

    @property
    def _held_bytes(self) -> int:
        return sum(8 * b.n_words * b.n_held for b in self.buckets.values())

    def _place(self, ids: Ids, index: int, row: int) -> None:
        n = self._provenance.n
        if n > len(self._key_of):
            size = max(n, 2 * len(self._key_of))
            self._key_of = np.resize(self._key_of, size)
            self._row_of = np.resize(self._row_of, size)
        self._key_of[ids] = index
        self._row_of[ids] = np.arange(row, row + len(ids))

    def _report_hits(self, key: Key, hashes: Hashes, origin: Origin, at: tuple[Indices, ...]) -> None:
        for goal, target in self._goals.get(key, ()):
            if self._hits_per_goal.get(goal, 0) >= self._max_hits:
                continue
            for i in np.flatnonzero(hashes[:, 0] == target[0]):
                if hashes[i, 1] != target[1]:
                    continue
                if self._hits_per_goal.get(goal, 0) >= self._max_hits:
                    break
                self._hits_per_goal[goal] = self._hits_per_goal.get(goal, 0) + 1
                arguments = (int(ids[rows[i]]) for ids, rows in zip(origin.arguments, at, strict=True))
                term = readable(Term(origin.operator, tuple(self.term(a) for a in arguments), origin.data))
                self.hits.append(Hit(goal, term, origin.cost))

    def _slice(self, key: Key, start: int, stop: int) -> tuple[Array, Ids]:
        layout = self._layout(key)
        words = self._words(key, start, stop)
        values = layout.unpack(words)
        ids = self.buckets[key].ids[start:stop] if key in self.buckets else np.zeros(0, dtype=np.int32)
        return values, ids

    def _words(self, key: Key, start: int, stop: int) -> Words:
        bucket = self.buckets.get(key)
        if bucket is None:
            return np.zeros((0, self._layout(key).mask.shape[0]), dtype=np.uint64)
        if stop <= bucket.n_held:
            return bucket.held(start, stop)
        return self._to_words(key, self.values_of(bucket.ids[start:stop]))

    def _recomputed(self, key: Key, ids: Ids) -> Array:
        layout = self._layout(key)
        values = np.empty((len(ids), *layout.shape), dtype=layout.dtype)
        operations = self._provenance.operation_indices(ids)
        for index in np.unique(operations):
            at = np.flatnonzero(operations == index)
            name, data = self._provenance.operation_at(int(index))
            columns = self._provenance.argument_columns(ids[at])
            arguments = [self._argument(columns[:, i]) for i in range(columns.shape[1]) if (columns[:, i] >= 0).all()]
            made = apply_rows(name, data, arguments, self.frame, len(at), key.tag)
            values[at] = layout.unpack(layout.pack(made))
        return values

    def _argument(self, ids: Ids) -> Array:
        """Return an argument's values, each distinct term computed once, whatever buckets the terms are in."""
        distinct, inverse = np.unique(ids, return_inverse=True)
        indices = self._key_of[distinct]
        parts: list[Array] = []
        order: list[Indices] = []
        for index in np.unique(indices):
            at = np.flatnonzero(indices == index)
            order.append(at)
            parts.append(self._interned(distinct[at]) if index < 0 else self.values_of(distinct[at]))
        if len(parts) == 1:
            return parts[0][inverse]
        wide = np.broadcast_shapes(*(part.shape[1:] for part in parts))
        values = np.empty((len(distinct), *wide), dtype=np.result_type(*parts))
        for at, part in zip(order, parts, strict=True):
            values[at] = part
        return values[inverse]

    def _interned(self, ids: Ids) -> Array:
        """Return the values of parts that are in no bucket: ``int`` of a boolean."""
        return self._argument(self._provenance.argument_columns(ids)[:, 0]).astype(self.frame.tokens.dtype)

    def _bucket(self, key: Key) -> Classes:
        if key not in self.buckets:
            if key not in self._keys:
                self._keys.append(key)
            self.buckets[key] = Classes(len(self._layout(key).mask))
        return self.buckets[key]

    def _layout(self, key: Key) -> Layout:
        if key not in self._layouts:
            self._layouts[key] = layout_of(key, self.frame)
        return self._layouts[key]

    def _to_words(self, key: Key, values: Array) -> Words:
        return self._layout(key).pack(values)

    def _spread(self, key: Key, rows: slice, goal: Key) -> Array:
        """Return rows as flat cells for a function into bucket ``goal``: words of bits for booleans."""
        words = self._words(key, rows.start, rows.stop)
        if key.shape == goal.shape:
            return words if key.kind == "B" else words.view(self._layout(key).dtype)
        layout = self._layout(key)
        wide = np.broadcast_to(layout.unpack(words), (len(words), *self._layout(goal).shape))
        packed = to_words(np.ascontiguousarray(wide).reshape(len(words), -1))
        return packed if key.kind == "B" else packed.view(layout.dtype)

    def _crossing(self, key: Key, cells: np.dtype[Any]) -> Crossing:
        is_word = cells == np.uint64
        if (key, is_word) not in self._crossings:
            layout = self._layout(key)
            n_cells = len(layout.mask) if is_word else int(np.prod(layout.shape))
            if not is_word:
                n_cells += -n_cells % (8 // cells.itemsize)  # rows are padded to whole words
            results = np.dtype(np.bool_) if key.kind == "B" and not is_word else cells
            self._crossings[key, is_word] = Crossing(n_cells, cells, results, self._weights, layout.mask)
        return self._crossings[key, is_word]


_COMMUTING = frozenset({"+", "min", "max", "==", "and", "or"})
