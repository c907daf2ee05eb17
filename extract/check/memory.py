"""The checker's own memory states: strings told apart by their last letters and by counts of letters so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from extract.check.language import Bools, Ints
from extract.check.reader import Unreadable
from extract.check.slices import Slice
from extract.check.weights import Floats

_MOST_STATES = 20_000


class Remembering:
    """The strings of a slice, every state divided by the ``recent`` last letters and the counts of ``counted`` letters.

    ``keys[p]`` [state, recent + counted] are these, oldest letter first and -1 where there is none yet.
    """

    def __init__(self, part: Slice, recent: Any, counted: Any) -> None:
        letters = range(part.n_letters)
        if not (type(recent) is int and 0 < recent < 64 and all(type(a) is int and a in letters for a in counted)):
            raise ValueError("a memory is out of range")
        counts = np.array(counted, np.int64)
        rows = np.array([[0] + [-1] * recent + [0] * len(counts)], np.int64)
        edges, keys = list[Ints](), [rows[:, 1:]]
        for table in part.edges:
            source, letter = np.nonzero(table[rows[:, 0]] >= 0)
            old = rows[source]
            parts = [table[old[:, 0], letter][:, None], old[:, 2 : recent + 1], letter[:, None]]
            made = np.concatenate([*parts, old[:, recent + 1 :] + (letter[:, None] == counts)], axis=1)
            after, number = np.unique(made, axis=0, return_inverse=True)
            if len(after) > _MOST_STATES:
                raise Unreadable("a memory takes too many states")
            edge = np.full((len(rows), part.n_letters), -1, np.int64)
            edge[source, letter] = number.reshape(-1)
            edges.append(edge)
            rows = after
            keys.append(rows[:, 1:])
        self.part, self.keys, self.recent = Slice(part.n_letters, tuple(edges), part.labels[rows[:, 0]]), keys, recent
        self._turns = [_turns(edge) for edge in edges]

    def ending(self, ends: list[list[int]], inside: bool) -> Slice | None:
        """Return the strings that end in some memories, or those that do not."""
        listed = {tuple(end) for end in ends}
        found: Bools = np.array([tuple(key) in listed for key in self.keys[-1].tolist()])
        return self.part.kept(list(self.part.edges), self.part.labels, found == inside)

    def entered(self, depth: int, value: Floats, terms: Floats | None = None) -> Floats:
        """Return the largest values on entering the states one deeper. Shapes: ``value`` [state, ...], ``terms``
        [letter, ...] added on the way."""
        first, *more = [(target, value[source] + (0.0 if terms is None else terms[letter]))
                        for target, source, letter in self._turns[depth]]  # fmt: skip
        found = first[1]
        for target, other in more:
            found[target] = np.maximum(found[target], other)
        return found

    def largest(self, terms: Floats) -> Floats:
        """Return the largest sums of terms [position, letter, form] on the way to each state where they end."""
        value = np.zeros((1, terms.shape[2]))
        for depth, part in enumerate(terms):
            value = self.entered(depth, value, part)
        return value


def _turns(table: Ints) -> list[tuple[Ints, Ints, Ints]]:
    """Return the edges as targets, sources and letters in turns that enter no state twice; the first enters all."""
    source, letter = np.nonzero(table >= 0)
    target = table[source, letter]
    order = np.argsort(target, kind="stable")
    target, source, letter = target[order], source[order], letter[order]
    turn = np.arange(len(target)) - np.flatnonzero(np.diff(target, prepend=-1))[target]
    return [(target[turn == i], source[turn == i], letter[turn == i]) for i in range(int(turn.max()) + 1)]
