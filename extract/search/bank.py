"""The bank: one representative per class of observationally equivalent terms, on one probe set.

Values live in one array per bucket (kind, tag, shape); provenance lives in arrays of integers, so that a term is
rebuilt only when somebody wants to see it. The bank holds its frame and refuses values of another one. Terms are
appended in order of cost; within a cost, in the fixed order of the productions: the representative of a class is
therefore always the first of its cheapest members, on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Datum, Term
from extract.search.builders import readable
from extract.search.frame import Frame, Shape
from extract.search.kernels import SeenHashes, first_occurrences, hash_rows, hash_weights

Kind = Literal["I", "B", "S"]
Tag = Literal["T", "N", ""]
Array = NDArray[Any]


class Key(NamedTuple):
    """Names a bucket: integer, boolean or selector; token-like or number-like; which axis its queries run over."""

    kind: Kind
    tag: Tag
    shape: Shape


class Origin(NamedTuple):
    """How a run of terms was made: operator, constants, argument ids per term ([term] each), cost of each."""

    operator: str
    data: tuple[Datum, ...]
    arguments: tuple[NDArray[np.int32], ...]
    cost: int


@dataclass(slots=True)
class Bucket:
    """The representatives of one bucket. ``starts[c]`` is the first row of cost c (rows are in cost order)."""

    values: Array
    ids: NDArray[np.int32]
    n: int = 0
    starts: dict[int, tuple[int, int]] = field(default_factory=dict)
    seen: SeenHashes = field(default_factory=SeenHashes)


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

    def __init__(self, frame: Frame, *, max_hits: int = 16) -> None:
        self.frame = frame
        self.buckets: dict[Key, Bucket] = {}
        self.hits: list[Hit] = []
        self.n_candidates = 0
        self.n_distinct = 0
        self._max_hits = max_hits
        self._hits_per_goal: dict[int, int] = {}
        self._operators: list[tuple[str, tuple[Datum, ...]]] = []
        self._operator_index: dict[tuple[str, tuple[Datum, ...]], int] = {}
        self._provenance = np.zeros((1024, 5), dtype=np.int32)  # operator, three arguments, cost
        self._goals: dict[Key, list[tuple[int, NDArray[np.uint64]]]] = {}
        widest = max(frame.n_queries(shape) for shape in ("whole", "position", "step"))
        cells = frame.n_probes * widest * max(1, frame.valid.shape[1])
        self._weights = hash_weights(cells // 2 + 8)

    def watch(self, goal: int, key: Key, target: Array) -> None:
        """Report terms of a bucket that equal a target. Shape: target [probe, query], already masked and narrow."""
        row = self._masked(key, target[None])
        self._goals.setdefault(key, []).append((goal, hash_rows(row, self._weights)[0]))

    def append(self, key: Key, values: Array, origin: Origin) -> NDArray[np.int32]:
        """Add terms that are new up to observational equivalence; return the ids of those added.

        Shape:   values [term, probe, query] (selectors [term, probe, query, key]).
        """
        self.n_candidates += len(values)
        if not len(values):
            return np.zeros(0, dtype=np.int32)
        rows = self._masked(key, values)
        hashes = hash_rows(rows, self._weights)
        self._report_hits(key, hashes, origin)
        bucket = self._bucket(key, rows)
        chosen = first_occurrences(hashes)
        chosen = chosen[~bucket.seen.contains(hashes[chosen])]
        if not len(chosen):
            return np.zeros(0, dtype=np.int32)
        bucket.seen.add(hashes[chosen])
        ids = self._record(origin, chosen)
        self._store(bucket, rows[chosen], ids, origin.cost)
        return ids

    def intern(self, operator: str, arguments: tuple[NDArray[np.int32], ...], cost: int) -> NDArray[np.int32]:
        """Give ids to terms whose values are not kept: parts of others that are. Shape: [term]."""
        n_terms = len(arguments[0])
        return self._record(Origin(operator, (), arguments, cost), np.arange(n_terms))

    def rows(self, key: Key, cost: int) -> tuple[Array, NDArray[np.int32]]:
        """Return the values and ids of one bucket at one cost. Shape: [term, probe, query(, key)], [term]."""
        bucket = self.buckets.get(key)
        start, stop = bucket.starts.get(cost, (0, 0)) if bucket else (0, 0)
        return self._slice(key, start, stop)

    def rows_up_to(self, key: Key, cost: int) -> tuple[Array, NDArray[np.int32]]:
        """Return the values and ids of one bucket at all costs up to one, cheapest first."""
        bucket = self.buckets.get(key)
        stop = max((b for c, (_, b) in bucket.starts.items() if c <= cost), default=0) if bucket else 0
        return self._slice(key, 0, stop)

    def count(self, key: Key, cost: int) -> int:
        """Return how many representatives a bucket has at one cost."""
        bucket = self.buckets.get(key)
        start, stop = bucket.starts.get(cost, (0, 0)) if bucket else (0, 0)
        return stop - start

    def keys(self, kind: Kind, shape: Shape | None = None) -> Iterator[Key]:
        """Yield the buckets of a kind (and shape) in a fixed order."""
        for key in sorted(self.buckets):
            if key.kind == kind and (shape is None or key.shape == shape):
                yield key

    def cost(self, term_id: int) -> int:
        """Return the tree cost at which a term was built."""
        return int(self._provenance[term_id, 4])

    def costs(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the tree costs of several terms. Shape: [term]."""
        return np.asarray(self._provenance[ids, 4])

    def n_below(self, key: Key, cost: int) -> int:
        """Return how many representatives of a bucket cost less; they are the first rows of ``rows_up_to``."""
        bucket = self.buckets.get(key)
        return max((b for c, (_, b) in bucket.starts.items() if c < cost), default=0) if bucket else 0

    def term(self, term_id: int) -> Term:
        """Rebuild a stored term."""
        operator, *arguments, _ = (int(x) for x in self._provenance[term_id])
        name, data = self._operators[operator]
        return readable(Term(name, tuple(self.term(a) for a in arguments if a >= 0), data))

    def made_by(self, ids: NDArray[np.int32], operator: str, data: tuple[Datum, ...]) -> NDArray[np.bool_]:
        """Say which of some terms have this operator and these constants at the root. Shape: [term]."""
        index = self._operator_index.get((operator, data), -1)
        return np.asarray(self._provenance[ids, 0] == index)

    @property
    def memory_bytes(self) -> int:
        """The bytes held by values and provenance."""
        return self._provenance.nbytes + sum(b.values.nbytes + 16 * len(b.seen) for b in self.buckets.values())

    def _slice(self, key: Key, start: int, stop: int) -> tuple[Array, NDArray[np.int32]]:
        bucket = self.buckets.get(key)
        if bucket is None:
            return np.zeros((0, *self._value_shape(key)), dtype=self._dtype(key)), np.zeros(0, dtype=np.int32)
        values = bucket.values[start:stop].reshape(stop - start, *self._value_shape(key))
        return values, bucket.ids[start:stop]

    def _value_shape(self, key: Key) -> tuple[int, ...]:
        shape: tuple[int, ...] = (self.frame.n_probes, self.frame.n_queries(key.shape))
        return (*shape, self.frame.valid.shape[1]) if key.kind == "S" else shape

    def _dtype(self, key: Key) -> Any:
        return self.frame.tokens.dtype if key.kind == "I" else np.dtype(np.bool_)

    def _masked(self, key: Key, values: Array) -> Array:
        mask = self.frame.mask(key.shape)
        if key.kind == "S":
            mask = mask[:, :, None] & self.frame.valid[:, None, :]
        if values.shape[1:] != self._value_shape(key):
            # numpy refuses values that were computed on other probes
            values = np.broadcast_to(values, (len(values), *self._value_shape(key)))
        values = values.astype(self._dtype(key), copy=False)
        if not mask.all():
            values = values & mask if values.dtype == np.bool_ else values * mask
        return np.ascontiguousarray(values.reshape(len(values), -1))

    def _report_hits(self, key: Key, hashes: NDArray[np.uint64], origin: Origin) -> None:
        for goal, target in self._goals.get(key, ()):
            for i in np.flatnonzero((hashes == target).all(axis=1)):
                if self._hits_per_goal.get(goal, 0) >= self._max_hits:
                    break
                self._hits_per_goal[goal] = self._hits_per_goal.get(goal, 0) + 1
                arguments = tuple(self.term(int(ids[i])) for ids in origin.arguments)
                term = readable(Term(origin.operator, arguments, origin.data))
                self.hits.append(Hit(goal, term, origin.cost))

    def _bucket(self, key: Key, rows: Array) -> Bucket:
        if key not in self.buckets:
            self.buckets[key] = Bucket(np.zeros((64, rows.shape[1]), dtype=rows.dtype), np.zeros(64, dtype=np.int32))
        return self.buckets[key]

    def _record(self, origin: Origin, chosen: NDArray[np.intp]) -> NDArray[np.int32]:
        name = (origin.operator, origin.data)
        if name not in self._operator_index:
            self._operator_index[name] = len(self._operators)
            self._operators.append(name)
        start, stop = self.n_distinct, self.n_distinct + len(chosen)
        while stop > len(self._provenance):
            self._provenance = np.concatenate([self._provenance, np.zeros_like(self._provenance)])
        block = self._provenance[start:stop]
        block[:, 0] = self._operator_index[name]
        block[:, 1:4] = -1
        for i, ids in enumerate(origin.arguments):
            block[:, 1 + i] = ids[chosen]
        block[:, 4] = origin.cost
        self.n_distinct = stop
        return np.arange(start, stop, dtype=np.int32)

    def _store(self, bucket: Bucket, rows: Array, ids: NDArray[np.int32], cost: int) -> None:
        stop = bucket.n + len(rows)
        if stop > len(bucket.values):
            size = max(stop, 2 * len(bucket.values))
            grown = np.zeros((size, bucket.values.shape[1]), dtype=bucket.values.dtype)
            grown[: bucket.n] = bucket.values[: bucket.n]
            bucket.values = grown
            bucket.ids = np.concatenate([bucket.ids, np.zeros(size - len(bucket.ids), dtype=np.int32)])
        bucket.values[bucket.n : stop] = rows
        bucket.ids[bucket.n : stop] = ids
        start, _ = bucket.starts.get(cost, (bucket.n, bucket.n))
        bucket.starts[cost] = (start, stop)
        bucket.n = stop
