"""The checker's own graphs of strings: a promise and a program read together, cut into slices, counted and summed over.

A slice holds strings of one length as paths through layered states; every string of it has one path. Cutting is by the
program's answer, by the letter at a position, or by how often some letters occur; counts are exact integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.check.language import Bools, Ints, Strings
from extract.check.program import Lets
from extract.check.promise import Totals, program
from extract.check.spec import Task
from extract.check.weights import Floats


def answering(task: Task, lets: Lets) -> Totals:
    """Return a program as running totals: its answer is a function of where they end.

    Raises:  Unreadable if it cannot be read left to right.
    """
    is_set = task.kind == "multilabel"
    names = [f"output[{task.labels[i]!r}]" for i in task.choices] if is_set else ["output"]
    return program(lets, names, task.means, task.token_codes[task.alphabet])


@dataclass(frozen=True, slots=True)
class Slice:
    """Strings of one length. Shapes: ``edges[p]`` [state, letter] is a state one deeper or -1; ``labels`` [last state,
    cell] are answers. The one state at depth 0 is number 0; every state is on a path."""

    n_letters: int
    edges: tuple[Ints, ...]
    labels: Ints
    _made: dict[str, Any] = field(default_factory=dict, compare=False)

    def size(self) -> int:
        """Return the exact number of strings."""
        counts: NDArray[Any] = np.ones(len(self.labels) + 1, object)
        for table in reversed(self.edges):
            counts[-1] = 0
            counts = np.append(counts[table].sum(axis=1), 0)
        return int(counts[0])

    def kept(self, edges: list[Ints], labels: Ints, ends: Bools) -> Slice | None:
        """Return what is on a path from the start to some last states, None if nothing is."""
        alive, tables = np.append(ends, False), []
        for table in reversed(edges):
            table = np.where(alive[table], table, -1)
            alive = np.append((table >= 0).any(axis=1), False)
            tables.append(table)
        if not alive[0]:
            return None
        rows, found = np.zeros(1, np.int64), []
        for p, table in enumerate(reversed(tables)):
            n_after = len(edges[p + 1]) if p + 1 < len(edges) else len(labels)
            table = table[rows]
            rows = np.unique(table[table >= 0])
            number = np.full(n_after + 1, -1, np.int64)
            number[rows] = np.arange(len(rows))
            found.append(number[table])
        return Slice(self.n_letters, tuple(found), labels[rows])

    def answering(self, cells: list[int]) -> Slice | None:
        """Return the strings of one answer."""
        return self.kept(list(self.edges), self.labels, (self.labels == cells).all(axis=1))

    def at(self, position: int, letter: int) -> Slice | None:
        """Return the strings with a letter at a position."""
        edges = list(self.edges)
        edges[position] = np.where(np.arange(self.n_letters) == letter, edges[position], -1)
        return self.kept(edges, self.labels, np.ones(len(self.labels), bool))

    def counting(self, letters: list[int], start: int, stop: int, cut: int, more: bool) -> Slice | None:
        """Return the strings with at most ``cut`` of some letters at positions ``start`` to ``stop``, or with more.

        A count is followed only as far as one beyond the cut.
        """
        top, edges = cut + 2, []
        for p, table in enumerate(self.edges):
            step = np.isin(np.arange(self.n_letters), letters) & (start <= p < stop)
            count = np.minimum(np.arange(top)[:, None] + step, top - 1)
            edges.append(np.where(table[:, None] >= 0, table[:, None] * top + count, -1).reshape(-1, self.n_letters))
        ends = np.tile(np.arange(top), len(self.labels))
        return self.kept(edges, np.repeat(self.labels, top, axis=0), (ends > cut) == more)

    def order(self) -> list[tuple[Ints, Ints, Ints]]:
        """Return for each depth the edges' sources and letters by target, and where those of each target begin."""
        if "order" not in self._made:
            self._made["order"] = [_order(table) for table in self.edges]
        made: list[tuple[Ints, Ints, Ints]] = self._made["order"]
        return made

    def largest(self, terms: Floats) -> Floats:
        """Return the largest sum along a string of each form's terms, as rounded. Shapes: [position, letter, form]."""
        return np.asarray(self.ends(terms).max(axis=1))

    def ends(self, terms: Floats) -> Floats:
        """Return the largest sums along the strings of each last state. Shapes: [position, letter, form]; [form, last
        state]."""
        value = np.zeros((terms.shape[2], 1))
        for p, (source, letter, first) in enumerate(self.order()):
            value = np.maximum.reduceat(value[:, source] + terms[p].T[:, letter], first, axis=1)
        return value

    def letters(self, position: int) -> list[int]:
        """Return the letters that occur at a position."""
        return [int(a) for a in np.flatnonzero((self.edges[position] >= 0).any(axis=0))]

    def shares(self) -> list[Floats]:
        """Return for each depth how the strings of each state go on, as weights of letters. Shape: [state, letter]."""
        if "shares" not in self._made:
            ahead, found = np.ones(len(self.labels) + 1), []
            for table in reversed(self.edges):
                ahead[-1] = 0.0
                weights = ahead[table]
                total = weights.sum(axis=1)
                found.append(weights / total[:, None])
                ahead = np.append(total / total.max(), 0.0)
            self._made["shares"] = found[::-1]
        shares: list[Floats] = self._made["shares"]
        return shares

    def means(self) -> Floats:
        """Return about how many of the strings have a letter at a position, as shares. Shape: [position, letter]."""
        here: NDArray[Any] = np.ones(1)
        found = np.zeros((len(self.edges), self.n_letters))
        for p, (table, share) in enumerate(zip(self.edges, self.shares(), strict=True)):
            flow = share * here[:, None]
            found[p] = flow.sum(axis=0)
            here = np.bincount(table[table >= 0], flow[table >= 0])
        return found

    def drawn(self, n: int) -> Ints:
        """Return some strings, always the same. Shape: [n, position]."""
        rng = np.random.default_rng(5)
        state: Ints = np.zeros(n, np.int64)
        found = np.zeros((n, len(self.edges)), np.int64)
        for p, (table, share) in enumerate(zip(self.edges, self.shares(), strict=True)):
            upto = np.cumsum(np.where(table >= 0, share, 0.0), axis=1)[state]
            letter = np.minimum((upto <= rng.random((n, 1)) * upto[:, -1:]).sum(axis=1), self.n_letters - 1)
            letter = np.where(table[state, letter] >= 0, letter, (table[state] >= 0).argmax(axis=1))
            found[:, p], state = letter, table[state, letter]
        return found

    def all(self) -> Ints:
        """Return every string. Shape: [string, position]."""
        state, found = np.zeros(1, np.int64), np.zeros((1, 0), np.int64)
        for table in self.edges:
            row, letter = np.nonzero(table[state] >= 0)
            found, state = np.column_stack([found[row], letter]), table[state[row], letter]
        return found

    def holds(self, letters: list[int]) -> bool:
        """Say whether a string is one of the slice."""
        state = 0
        for table, letter in zip(self.edges, letters, strict=True):
            state = int(table[state, letter]) if state >= 0 else -1
        return state >= 0


def _order(table: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the sources and letters of all edges by target, and where the edges of each target begin."""
    source, letter = np.nonzero(table >= 0)
    target = table[source, letter]
    order = np.argsort(target, kind="stable")
    return source[order], letter[order], np.flatnonzero(np.diff(target[order], prepend=-1))


def whole_slice(task: Task, answers: Totals, length: int) -> Slice | None:
    """Return all strings of a length that keep the promise, labelled by the program's answers; None if there are none.

    Raises:  Unreadable where that takes too many states.
    """
    joint = Strings([*task.strings.machines, answers], len(task.alphabet))
    edges, layers = joint.states(length)
    ends = np.ones(len(layers[length][0]), bool)
    for machine, states in zip(joint.machines, layers[length], strict=True):
        ends &= machine.accepts(states, length)
    labels = answers.values(layers[length][-1], length).astype(np.int64)
    return Slice(len(task.alphabet), (), labels[:1]).kept(list(edges[:length]), labels, ends)
