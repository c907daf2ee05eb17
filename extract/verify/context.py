"""Strings of one length with what a deep network's positions remember of them: their last letters, counts so far.

The states of a graph of strings are divided until each says the last letters and how often some letters have occurred.
What a causal network computes at a position varies little among the strings that lead to one such state. It refuses
to know what that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.input_graph.building import distinct_rows
from extract.verify.affine import Floats
from extract.verify.paths import Paths

Indices = NDArray[np.intp]

#: Words of last letters that a memory tells apart at most, and the largest alphabet whose letters it counts.
_LAST_STATES, _COUNTED_LETTERS = 33, 3


@dataclass(frozen=True, slots=True)
class Memory:
    """What a state says: the ``recent`` last letters, at least 1, and the numbers so far of the letters ``counted``."""

    recent: int
    counted: tuple[int, ...]

    def of(self, string: tuple[int, ...]) -> tuple[int, ...]:
        """Return what the state after a string says: its last letters, -1 where there is none, and the counts."""
        last = string[len(string) - min(self.recent, len(string)) :]
        missing = (-1,) * (self.recent - len(last))
        return (*missing, *last, *(string.count(letter) for letter in self.counted))


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Strings whose states at every depth have a memory.

    ``keys[d]`` [state, recent + counted] are the last letters, oldest first and -1 where there is none yet, and the
    counts; ``edges[d]`` are rounds of (targets, sources, letters): the first round has every target once, in order.
    """

    paths: Paths
    memory: Memory
    keys: tuple[NDArray[np.int32], ...]
    edges: tuple[tuple[tuple[Indices, Indices, Indices], ...], ...]

    @staticmethod
    def of(paths: Paths, memory: Memory) -> Context:
        """Divide the states of some strings."""
        recent, counted = memory.recent, np.array(memory.counted, dtype=np.int32)
        keys = [np.array([[-1] * recent + [0] * len(counted)], dtype=np.int32)]
        place: NDArray[Any] = np.zeros(1, dtype=np.int32)
        tables = []
        for table in paths.next:
            row, letter = np.nonzero(table[place] >= 0)
            ahead = table[place[row], letter]
            before = keys[-1][row]
            last = np.concatenate([before[:, 1:recent], letter[:, None]], axis=1)
            counts = before[:, recent:] + (letter[:, None] == counted)
            unique, number = distinct_rows(np.concatenate([ahead[:, None], last, counts], axis=1).astype(np.int32))
            made = np.full((len(place), paths.n_letters), -1, dtype=np.int32)
            made[row, letter] = number
            tables.append(made)
            place, keys = unique[:, 0], [*keys, np.ascontiguousarray(unique[:, 1:])]
        whole = Paths(paths.n_letters, tuple(tables), paths.labels[place])
        sizes = [len(part) for part in keys[1:]]
        edges = tuple(_rounds(table, n) for table, n in zip(tables, sizes, strict=True))
        return Context(whole, memory, tuple(keys), edges)

    def last_letters(self, depth: int) -> NDArray[np.int32]:
        """Return the last letter in each state of a depth from 1 on."""
        return np.asarray(self.keys[depth][:, self.memory.recent - 1])

    def advanced(self, depth: int, value: Floats, terms: Floats | None) -> Floats:
        """Return the largest values on entering the states of depth + 1, from those of depth.

        Shapes: ``value`` [state, form]; ``terms`` [letter, form] are added on the way, nothing if None.
        """
        (_, source, letter), *more = self.edges[depth]
        ahead = value[source] if terms is None else value[source] + terms[letter]
        for target, source, letter in more:
            other = value[source] if terms is None else value[source] + terms[letter]
            ahead[target] = np.maximum(ahead[target], other)
        return ahead

    def largest(self, terms: Floats) -> Floats:
        """Return for each form the largest sum of its terms on the way to each state at the depth where they end.

        Shapes: ``terms`` [position, letter, form]; answer [state, form].
        Ensures: within gamma_n times the sum over positions of the largest absolute term on the way, n their number.
        """
        value = np.zeros((1, terms.shape[2]))
        for depth, part in enumerate(terms):
            value = self.advanced(depth, value, part)
        return value

    def ends_in(self, ends: frozenset[tuple[int, ...]]) -> NDArray[np.bool_]:
        """Say of each last state whether its memory is one of some."""
        return np.array([tuple(key) in ends for key in self.keys[-1].tolist()], dtype=np.bool_)

    def visits(self) -> list[Floats]:
        """Return about how many of the strings pass each state, as shares at each depth. Shapes: [state]."""
        ahead: list[Floats] = [np.ones(len(self.keys[-1]))]
        for table in reversed(self.paths.next):
            total = np.where(table >= 0, ahead[-1][table], 0.0).sum(axis=1)
            ahead.append(total / total.max())
        ahead.reverse()
        shares: list[Floats] = [np.ones(1)]
        for table, after in zip(self.paths.next, ahead[1:], strict=True):
            flow = np.where(table >= 0, after[table], 0.0)
            flow *= (shares[-1] / flow.sum(axis=1))[:, None]
            shares.append(np.bincount(table[table >= 0], flow[table >= 0], len(after)).astype(np.float64))
        return shares

    def counts(self) -> list[int]:
        """Return the exact number of strings that end in each last state."""
        n: NDArray[Any] = np.ones(1, dtype=object)
        for rounds in self.edges:
            ahead: NDArray[Any] = np.zeros(len(rounds[0][0]), dtype=object)
            for target, source, _ in rounds:
                ahead[target] += n[source]
            n = ahead
        return [int(size) for size in n]


def _rounds(table: NDArray[np.int32], n_after: int) -> tuple[tuple[Indices, Indices, Indices], ...]:
    """Return the edges of one depth so that each round enters a state at most once, the first round every state."""
    source, letter = np.nonzero(table >= 0)
    target = table[source, letter]
    order = np.argsort(target, kind="stable")
    source, letter, target = source[order], letter[order], target[order].astype(np.intp)
    rank = np.arange(len(target)) - np.searchsorted(target, np.arange(n_after))[target]
    rounds = []
    for r in range(int(rank.max(initial=0)) + 1):
        some = rank == r
        rounds.append((target[some], source[some], letter[some]))
    return tuple(rounds)


def memory_of(n_letters: int) -> Memory:
    """Return the memory to begin with: as many letters as make some dozen states, counts where the alphabet is
    small."""
    recent = max(1, int(np.log(_LAST_STATES) / np.log(max(n_letters, 2))))
    return Memory(recent, tuple(range(1, n_letters)) if n_letters <= _COUNTED_LETTERS else ())
