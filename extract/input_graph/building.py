"""How input graphs are made: by reading machines left to right, or from the list of strings a promise keeps.

Both ways end in the same canonical form. This room knows what a promise and a machine promise to do, and refuses to
know the language they were written in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extract.input_graph.graph import InputGraph, Letters, States

#: Nodes per depth: beyond this a promise counts as not readable left to right.
MAX_STATES_PER_DEPTH = 300_000
#: Calls of ``Machine.step`` for one graph, tens of microseconds each for a promise with several counters.
MAX_STEPS = 1_000_000
#: Strings looked at one by one for one length, in chunks.
MAX_LISTED_STRINGS = 50_000_000
_CHUNK = 1 << 18


class Machine(Protocol):
    """A promise read left to right, one token id at a time; states are hashable values of the machine's own kind."""

    def start(self) -> Hashable | None:
        """Return the state before the first token; None if no string at all is accepted."""

    def step(self, state: Any, position: int, letter: int) -> Hashable | None:
        """Return the state after the token id ``letter`` at ``position``; None if no continuation is accepted."""

    def accepts(self, state: Any, length: int) -> bool:
        """Say whether the string of this length that led to the state keeps the promise."""


class Promise(Protocol):
    """A condition on inputs; ``text`` is quoted in every claim."""

    @property
    def text(self) -> str:
        """The condition as the user wrote it."""

    def holds(self, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Say which strings keep the promise. Shapes: tokens [n, length] ids, all of one length; answer [n]."""

    def machine(self, length: int | None) -> Machine | None:
        """Return the promise as a machine, for one known length or (None) for all; None if it is not readable so."""


@dataclass(frozen=True, slots=True)
class BothMachines:
    """Several machines at once: a string is accepted if every one accepts it."""

    machines: tuple[Machine, ...]

    def start(self) -> tuple[Hashable, ...] | None:
        """Return the tuple of start states, or None if one machine accepts nothing."""
        first = tuple(machine.start() for machine in self.machines)
        return None if None in first else first

    def step(self, state: tuple[Any, ...], position: int, letter: int) -> tuple[Hashable, ...] | None:
        """Step every machine; None as soon as one gives up."""
        ahead = []
        for machine, part in zip(self.machines, state, strict=True):
            after = machine.step(part, position, letter)
            if after is None:
                return None
            ahead.append(after)
        return tuple(ahead)

    def accepts(self, state: tuple[Any, ...], length: int) -> bool:
        """Say whether every machine accepts."""
        return all(machine.accepts(part, length) for machine, part in zip(self.machines, state, strict=True))


def every_string(n_letters: int, min_length: int, max_length: int) -> InputGraph:
    """Return the graph of all strings of some lengths."""
    table = np.zeros((1, n_letters), dtype=np.int32)
    accept = tuple(np.array([depth >= min_length]) for depth in range(max_length + 1))
    return InputGraph(min_length, max_length, n_letters, (table,) * max_length, accept)


def read_machine(
    machine: Machine, alphabet: tuple[int, ...], min_length: int, max_length: int
) -> tuple[InputGraph | None, int]:
    """Explore a machine and return the graph of what it accepts, with the longest length the graph speaks for.

    That length is ``max_length``, or less when the machine has too many states deeper down; the graph is None if
    there is no string of the lengths it speaks for.
    """
    start = machine.start()
    if start is None:
        return None, max_length
    layers: list[list[Hashable]] = [[start]]
    tables: list[States] = []
    n_steps = 0
    for depth in range(max_length):
        n_steps += len(layers[-1]) * len(alphabet)
        if n_steps > MAX_STEPS and depth > 0:
            break
        is_last = depth + 1 == max_length
        found = _step_layer(machine, layers[-1], alphabet, depth, is_last)
        if found is None:
            break
        tables.append(found[0])
        layers.append(found[1])
    covered = len(tables)
    if covered < min_length:
        return None, covered
    accept = [_accepting(machine, layer, depth, min_length, max_length) for depth, layer in enumerate(layers)]
    return canonical(tables, accept, len(alphabet)), covered


def _step_layer(
    machine: Machine, layer: list[Hashable], alphabet: tuple[int, ...], depth: int, is_last: bool
) -> tuple[States, list[Hashable]] | None:
    """Step every state of one depth; at the last depth all that matters of a state is whether it accepts."""
    table: States = np.full((len(layer), len(alphabet)), -1, dtype=np.int32)
    numbers: dict[Hashable, int] = {}
    for row, state in enumerate(layer):
        for column, letter in enumerate(alphabet):
            after = machine.step(state, depth, letter)
            if after is None:
                continue
            if is_last:
                if machine.accepts(after, depth + 1):
                    table[row, column] = numbers.setdefault(None, 0)
                continue
            table[row, column] = numbers.setdefault(after, len(numbers))
        if len(numbers) > MAX_STATES_PER_DEPTH:
            return None
    return table, list(numbers)


def _accepting(
    machine: Machine, layer: list[Hashable], depth: int, min_length: int, max_length: int
) -> NDArray[np.bool_]:
    if depth < min_length:
        return np.zeros(len(layer), dtype=np.bool_)
    if depth == max_length and depth > 0:
        return np.ones(len(layer), dtype=np.bool_)
    return np.array([machine.accepts(state, depth) for state in layer], dtype=np.bool_)


def canonical(tables: Sequence[States], accept: Sequence[NDArray[np.bool_]], n_letters: int) -> InputGraph | None:
    """Return the smallest graph with the same strings, states numbered by discovery; None if there are none.

    Shapes:  ``tables[p]`` [state, letter] and ``accept[p]`` [state], as in InputGraph but not yet trimmed.
    """
    small: list[States] = []
    ends: list[NDArray[np.bool_]] = []
    merged = np.zeros(0, dtype=np.int32)
    for depth in range(len(accept) - 1, -1, -1):
        rows = accept[depth][:, None].astype(np.int32) - 1
        if depth < len(tables):
            ahead = np.append(merged, np.int32(-1))
            rows = np.concatenate([rows, ahead[tables[depth]]], axis=1)
        unique, merged = distinct_rows(rows)
        small.append(unique[:, 1:])
        ends.append(unique[:, 0] >= 0)
    if merged[0] < 0:
        return None
    return _numbered(small[::-1], ends[::-1], int(merged[0]), n_letters)


def _numbered(small: list[States], ends: list[NDArray[np.bool_]], start: int, n_letters: int) -> InputGraph:
    """Renumber the states of each depth in the order a reader meets them, dropping those never met."""
    order = np.array([start], dtype=np.int32)
    tables: list[States] = []
    accept = [ends[0][order]]
    for depth, (_, after) in enumerate(pairwise(small)):
        rows = small[depth][order]
        met, first = np.unique(rows[rows >= 0], return_index=True)
        order = met[np.argsort(first)]
        if not len(order):
            break
        number = np.full(len(after) + 1, -1, dtype=np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        tables.append(number[rows])
        accept.append(ends[depth + 1][order])
    lengths = [depth for depth, row in enumerate(accept) if row.any()]
    return InputGraph(lengths[0], lengths[-1], n_letters, tuple(tables), tuple(accept))


def distinct_rows(rows: States) -> tuple[States, States]:
    """Number the different rows that hold anything. Cells are -1 (nothing) or counts from 0.

    Returns: the different rows [class, column], and for each row its class, or -1 if all its cells are -1.
    """
    classes = np.full(len(rows), -1, dtype=np.int32)
    live = np.flatnonzero((rows >= 0).any(axis=1))
    if not len(live):
        return rows[:0], classes
    rows = rows[live]
    base, width = int(rows.max()) + 2, rows.shape[1]
    if base**width < 1 << 62:
        keys = np.zeros(len(rows), dtype=np.int64)
        for column in range(width):
            keys = keys * base + (rows[:, column] + 1)
        if base**width <= max(4 * len(rows), 1 << 16):
            first, inverse = _distinct_small(keys, base**width)
        else:
            _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        unique = rows[first]
    else:
        unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    classes[live] = inverse.reshape(-1)
    return unique, classes


def _distinct_small(keys: NDArray[np.int64], n_keys: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number distinct keys below a small bound, in increasing order: a first row for each, and each row's number."""
    first = np.full(n_keys, -1, dtype=np.intp)
    first[keys[::-1]] = np.arange(len(keys) - 1, -1, -1)
    used = first >= 0
    return first[used], (np.cumsum(used) - 1)[keys]


def keep_promised(
    superset: InputGraph, length: int, ids: Letters, keeps: Callable[[NDArray[np.int32]], NDArray[np.bool_]]
) -> InputGraph | None:
    """Return the graph of the strings of one length, out of a larger set, that a predicate keeps; None if none.

    ``ids`` [letter] is what the predicate is shown for each letter.

    Assumes: the superset has at most ``MAX_LISTED_STRINGS`` strings of this length; each is looked at once.
    """
    total = superset.size(length)
    kept = np.zeros(total, dtype=np.bool_)
    for start in range(0, total, _CHUNK):
        stop = min(start + _CHUNK, total)
        kept[start:stop] = keeps(superset.letters(length, start, stop, ids))
    tables = layers_of(superset, length, kept.astype(np.int32) - 1)
    if tables is None:
        return None
    accept = [np.zeros(len(table), dtype=np.bool_) for table in tables]
    return canonical(tables, [*accept, np.ones(1, dtype=np.bool_)], superset.n_letters)


def layers_of(superset: InputGraph, length: int, classes: NDArray[np.int32]) -> list[States] | None:
    """Return tables that lead each string of one length to its class, as few states as possible; None if to no class.

    Shapes:  ``classes`` [rank] counts from 0, or -1 for strings left out; ``tables[p]`` [state, letter] as in
             InputGraph, the states at depth ``length`` being the classes.
    """
    n_letters = superset.n_letters
    if not length:
        return [] if len(classes) and classes[0] >= 0 else None
    branches = superset.expand(length, 0, len(classes))
    tables: list[States] = []
    for depth in range(length - 1, -1, -1):
        level = branches.pop()
        n_parents = len(branches[-1].parent) if depth else 1
        rows: States = np.full((n_parents, n_letters), -1, dtype=np.int32)
        rows[level.parent, level.letter] = classes
        unique, classes = distinct_rows(rows)
        tables.append(unique)
    return None if classes[0] < 0 else tables[::-1]
