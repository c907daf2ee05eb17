"""The strings of one length as a layered graph of positions and states: exact counts, marginals, ranges of sums.

A string is a path from the one state at depth 0 to a state at the last depth, which carries a label. Every state is
on a path. The range over all strings of a sum of per-position terms is one max-plus pass, batched over many sums. It
knows letters, indices into an alphabet, and refuses to know what the labels or the sums mean.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.input_graph import InputGraph
from extract.input_graph.building import distinct_rows

States = NDArray[np.int32]
Floats = NDArray[np.float64]

#: States of one depth beyond which a program counts as having no small automaton.
MAX_STATES = 20_000
_FITS_INT64 = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """Strings of one length. Shapes: ``next[p]`` [state at depth p, letter] is a state at depth p + 1 or -1;
    ``labels`` [state at the last depth] are numbers of the caller's."""

    n_letters: int
    next: tuple[States, ...]
    labels: NDArray[np.int64]
    _memo: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def length(self) -> int:
        """The length of every string, in letters."""
        return len(self.next)

    @property
    def n_states(self) -> int:
        """The number of states over all depths."""
        return sum(len(table) for table in self.next) + len(self.labels)

    @property
    def size(self) -> int:
        """The exact number of strings."""
        if "size" not in self._memo:
            dtype = np.int64 if self.n_letters**self.length < _FITS_INT64 else object
            counts: NDArray[Any] = np.ones(len(self.labels), dtype)
            for table in reversed(self.next):
                counts = np.where(table >= 0, counts[table], 0).sum(axis=1)
            self._memo["size"] = int(counts.sum())
        size: int = self._memo["size"]
        return size

    def only(self, keeps: NDArray[np.bool_]) -> Paths | None:
        """Return the strings that end in some of the last states, None if there are none. Shape: [last state]."""
        return _trimmed(self.n_letters, self.next, self.labels, keeps)

    def labelled(self, label: int) -> Paths | None:
        """Return the strings of one label."""
        return self.only(self.labels == label)

    def with_letters(self, position: int, letters: tuple[int, ...]) -> Paths | None:
        """Return the strings whose letter at a position is one of some."""
        kept = np.zeros(self.n_letters, dtype=np.bool_)
        kept[list(letters)] = True
        tables = list(self.next)
        tables[position] = np.where(kept, tables[position], np.int32(-1))
        return _trimmed(self.n_letters, tuple(tables), self.labels, np.ones(len(self.labels), np.bool_))

    def counted(self, letters: tuple[int, ...], start: int, stop: int) -> tuple[Paths, NDArray[np.int64]]:
        """Return the same strings with the number of some letters at the positions ``start`` to ``stop`` in the state.

        Returns: the paths, and the count in each last state.
        """
        width = stop - start + 1
        hits = np.zeros(self.n_letters, dtype=np.int32)
        hits[list(letters)] = 1
        counts = np.arange(width, dtype=np.int32)
        tables = []
        for p, table in enumerate(self.next):
            step = hits if start <= p < stop else np.zeros_like(hits)
            after = counts[None, :, None] + step[None, None, :]
            ahead = np.where((table[:, None, :] >= 0) & (after < width), table[:, None, :] * width + after, -1)
            tables.append(ahead.astype(np.int32).reshape(-1, self.n_letters))
        pairs = np.arange(len(self.labels) * width)
        made = _trimmed(self.n_letters, tuple(tables), pairs, np.ones(len(pairs), np.bool_))
        if made is None:
            raise ValueError("paths without a string")
        counted = Paths(self.n_letters, made.next, self.labels[made.labels // width])
        return counted, made.labels % width

    def label_of(self, string: tuple[int, ...]) -> int:
        """Return the label of one of the strings."""
        state = 0
        for table, letter in zip(self.next, string, strict=True):
            state = int(table[state, letter])
        return int(self.labels[state])

    def letters_at(self, position: int) -> tuple[int, ...]:
        """Return the letters some string has at a position."""
        return tuple(int(a) for a in np.flatnonzero((self.next[position] >= 0).any(axis=0)))

    def merged(self) -> Paths:
        """Return the same strings and labels with the fewest states."""
        kinds, classes = np.unique(self.labels, return_inverse=True)
        ahead = np.append(classes.astype(np.int32), np.int32(-1))
        tables = []
        for table in reversed(self.next):
            unique, number = distinct_rows(ahead[table])
            tables.append(unique)
            ahead = np.append(number.astype(np.int32), np.int32(-1))
        return Paths(self.n_letters, tuple(reversed(tables)), kinds)

    # -- sums over paths -----------------------------------------------------------------------------------------

    def edges(self) -> list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
        """Return for each depth the edges' sources and letters by target, and where those of each target begin; every
        state but the first is a target."""
        if "edges" not in self._memo:
            found = []
            for p, table in enumerate(self.next):
                source, letter = np.nonzero(table >= 0)
                target = table[source, letter]
                order = np.argsort(target, kind="stable")
                n_after = len(self.next[p + 1]) if p + 1 < self.length else len(self.labels)
                found.append((source[order], letter[order], np.searchsorted(target[order], np.arange(n_after))))
            self._memo["edges"] = found
        edges: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]] = self._memo["edges"]
        return edges

    def largest(self, terms: Floats) -> Floats:
        """Return for each form the largest sum of its terms along a string, as computed. Shapes: ``terms`` [position,
        letter, form]; answer [form].

        Ensures: within gamma_L times the sum over positions of the largest absolute term, L the length.
        """
        value = np.zeros((1, terms.shape[2]))
        for p, (source, letter, starts) in enumerate(self.edges()):
            value = np.maximum.reduceat(value[source] + terms[p][letter], starts, axis=0)
        return np.asarray(value.max(axis=0))

    def best(self, terms: Floats) -> NDArray[np.intp]:
        """Return a string with the largest sum. Shapes: ``terms`` [position, letter]; answer [position]."""
        values = [np.zeros(len(self.labels))]
        for p in range(self.length - 1, -1, -1):
            table = self.next[p]
            ahead = np.where(table >= 0, values[-1][table] + terms[p], -np.inf)
            values.append(ahead.max(axis=1))
        values.reverse()
        state, string = 0, np.zeros(self.length, dtype=np.intp)
        for p, table in enumerate(self.next):
            ahead = np.where(table[state] >= 0, values[p + 1][table[state]] + terms[p], -np.inf)
            string[p] = int(ahead.argmax())
            state = int(table[state, string[p]])
        return string

    def _weights(self) -> list[Floats]:
        """Return for each depth and state the number of its continuations, scaled to a largest of 1 at each depth."""
        if "weights" not in self._memo:
            weights = [np.ones(len(self.labels))]
            for table in reversed(self.next):
                total = np.where(table >= 0, weights[-1][table], 0.0).sum(axis=1)
                weights.append(total / total.max())
            self._memo["weights"] = weights[::-1]
        made: list[Floats] = self._memo["weights"]
        return made

    def marginals(self) -> Floats:
        """Return the share of the strings that have a letter at a position, nearly. Shape: [position, letter]."""
        share: NDArray[Any] = np.ones(1)
        found = np.zeros((self.length, self.n_letters))
        for p, (table, ahead) in enumerate(zip(self.next, self._weights()[1:], strict=True)):
            flow = np.where(table >= 0, ahead[table], 0.0)
            flow *= (share / flow.sum(axis=1))[:, None]
            found[p] = flow.sum(axis=0)
            share = np.bincount(table[table >= 0], flow[table >= 0], len(ahead))
        return found

    def sample(self, n: int, seed: int) -> NDArray[np.intp]:
        """Return n strings, drawn nearly uniformly; the same seed gives the same. Shape: [n, position]."""
        rng = np.random.default_rng(seed)
        state: NDArray[Any] = np.zeros(n, dtype=np.intp)
        strings = np.zeros((n, self.length), dtype=np.intp)
        for p, (table, ahead) in enumerate(zip(self.next, self._weights()[1:], strict=True)):
            upto = np.cumsum(np.where(table >= 0, ahead[table], 0.0), axis=1)[state]
            drawn = rng.random(n) * upto[:, -1]
            letter = (upto <= drawn[:, None]).sum(axis=1)
            letter = np.minimum(letter, self.n_letters - 1)
            is_dead = table[state, letter] < 0
            letter[is_dead] = np.argmax(table[state[is_dead]] >= 0, axis=1)
            strings[:, p], state = letter, table[state, letter]
        return strings

    def strings(self) -> NDArray[np.intp]:
        """Return every string, in lexicographic order. Shape: [size, position]."""
        state: NDArray[Any] = np.zeros(1, dtype=np.intp)
        levels: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        for table in self.next:
            row, letter = np.nonzero(table[state] >= 0)
            state = table[state[row], letter]
            levels.append((row, letter))
        found = np.zeros((len(state), self.length), dtype=np.intp)
        at: NDArray[np.intp] = np.arange(len(state))
        for p in range(self.length - 1, -1, -1):
            row, letter = levels[p]
            found[:, p], at = letter[at], row[at]
        return found


def _trimmed(
    n_letters: int, tables: tuple[States, ...], labels: NDArray[np.int64], keeps: NDArray[np.bool_]
) -> Paths | None:
    """Return the part of a graph that is on paths from state 0 to a kept last state; None if there is none."""
    alive: NDArray[np.bool_] = keeps
    kept: list[States] = []
    for table in reversed(tables):
        table = np.where((table >= 0) & alive[table], table, np.int32(-1))
        alive = np.asarray((table >= 0).any(axis=1))
        kept.append(table)
    if not alive[0]:
        return None
    order = np.zeros(1, dtype=np.intp)
    small: list[States] = []
    for p, table in enumerate(reversed(kept)):
        rows = table[order]
        n_after = len(tables[p + 1]) if p + 1 < len(tables) else len(labels)
        used = np.zeros(n_after, dtype=np.bool_)
        used[rows[rows >= 0]] = True
        order = np.flatnonzero(used)
        number = np.full(n_after + 1, -1, dtype=np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        small.append(number[rows])
    return Paths(n_letters, tuple(small), labels[order])


def read_paths(
    graph: InputGraph,
    length: int,
    start: Hashable,
    step: Callable[[Any, int, int], Hashable],
    label: Callable[[Any], int],
) -> Paths | None:
    """Return the strings of a length of a graph, labelled by where a machine ends; None if its states are too many.

    ``step(state, position, letter index)`` is the machine's next state, ``label(state)`` the number of a last one.
    """
    layer: list[tuple[int, Any]] = [(0, start)]
    tables: list[States] = []
    for p in range(length):
        numbers: dict[tuple[int, Any], int] = {}
        table: States = np.full((len(layer), graph.n_letters), -1, dtype=np.int32)
        known: dict[tuple[Any, int], Hashable] = {}
        for row, (place, state) in enumerate(layer):
            for letter, ahead in enumerate(graph.next[p][place].tolist()):
                if ahead < 0:
                    continue
                if (state, letter) not in known:
                    known[state, letter] = step(state, p, letter)
                table[row, letter] = numbers.setdefault((ahead, known[state, letter]), len(numbers))
        if len(numbers) > MAX_STATES:
            return None
        tables.append(table)
        layer = list(numbers)
    accepted = np.array([bool(graph.accept[length][place]) for place, _ in layer], dtype=np.bool_)
    labels = np.array([label(state) for _, state in layer], dtype=np.int64)
    trimmed = _trimmed(graph.n_letters, tuple(tables), labels, accepted)
    return None if trimmed is None else trimmed.merged()
