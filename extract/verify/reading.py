"""Two programs read an input together, left to right: complete and without a solver, where both can be streamed.

The states are those of the promise's automaton and of one machine for all output terms (``lang.machine``); inputs that
lead to the same state are followed once. This room refuses to know solvers and networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from extract.domain import Domain, InputGraph
from extract.lang.machine import OPEN, TermMachine, compile_terms
from extract.lang.number_answers import values_tell
from extract.lang.sorts import is_mixed, sorts_of
from extract.lang.terms import Program, Term

#: Steps of the machine for one comparison; more states than this are left to the solver.
_MOST_STEPS = 60_000


@dataclass(frozen=True, slots=True)
class ReadTogether:
    """What was found: an input (token ids) on which the programs differ, or the lengths on which they do not."""

    difference: tuple[int, ...] | None
    same: tuple[int, ...]


def read_together(left: Program, right: Program, domain: Domain, lengths: Sequence[int]) -> ReadTogether:
    """Compare two programs on all inputs of some lengths, as far as both can be read left to right.

    Ensures: every length in ``same`` was followed completely. The difference is the machine's word: replay it.
    Cost:    at most a fixed number of machine steps; with more states, lengths are left out of ``same``.
    """
    pairs = _terms(left, right, domain)
    n_left = _MOST_STEPS
    done: list[int] = []
    if pairs is None:
        return ReadTogether(None, ())
    anywhere = _machine(pairs, domain, None)
    is_every = left.adapter == "every"
    for group in _groups(domain, lengths, together=anywhere is not None):
        machine = anywhere or (None if is_every else _machine(pairs, domain, group[0]))
        graph = domain.graph_at(group[0])
        if machine is None or graph is None:
            continue
        walk = _Walk(machine, graph, domain.alphabet, frozenset(group), is_every)
        found = walk.run(n_left)
        if found is not None:
            return ReadTogether(found, tuple(done))
        n_left -= walk.n_steps
        done.extend(n for n in group if n <= walk.depth)
    return ReadTogether(None, tuple(done))


def _terms(left: Program, right: Program, domain: Domain) -> tuple[Term, ...] | None:
    """The left output terms, then the right ones, all sequence-wide; None where the adapter is generated,
    where equal values are not equal answers, or where one output is both tokens and numbers."""
    if left.adapter != right.adapter or left.adapter in ("generate", "step"):
        return None
    if not values_tell((left, right), domain.readout):
        return None
    if left.adapter == "multilabel":
        labels, never = domain.readout.labels(domain.vocabulary), Term("boolean", (), (0,))
        return tuple(dict(program.outputs).get(label, never) for program in (left, right) for label in labels)
    terms = (left.term(), right.term())
    if left.adapter == "every":
        if any(is_mixed(sorts_of(term, domain.vocabulary)[term]) for term in terms):
            return None  # tokens here and numbers there: the last of them has no sort
        # What a machine that does not know the length computes at a position depends on the prefix only, so the
        # answers at position i are those of the prefix that ends there.
        return tuple(Term("last", (Term("everywhere"), term)) for term in terms)
    return terms


def _machine(terms: tuple[Term, ...], domain: Domain, length: int | None) -> TermMachine | None:
    sorts = {part: sort for term in terms for part, sort in sorts_of(term, domain.vocabulary).items()}
    return compile_terms(terms, domain.vocabulary, sorts, length)


def _groups(domain: Domain, lengths: Sequence[int], *, together: bool) -> list[list[int]]:
    """Lengths to be walked at once: those that share a graph, or each by itself."""
    groups: list[list[int]] = []
    for length in sorted(lengths):
        if together and groups and domain.graph_at(groups[-1][0]) is domain.graph_at(length):
            groups[-1].append(length)
        else:
            groups.append([length])
    return groups


@dataclass(slots=True)
class _Walk:
    """A breadth-first walk over (graph state, machine state), one layer per position."""

    machine: TermMachine
    graph: InputGraph
    alphabet: tuple[int, ...]
    lengths: frozenset[int]
    is_every: bool
    n_steps: int = 0
    depth: int = -1
    _live: list[Any] = field(default_factory=list)
    #: For each layer, how its nodes were reached: (index in the layer before, letter).
    _trail: list[list[tuple[int, int]]] = field(default_factory=list)

    def run(self, most_steps: int) -> tuple[int, ...] | None:
        """Return token ids that distinguish the programs; None if none do up to ``depth``, which it sets."""
        longest = max(self.lengths)
        self._find_live(longest)
        nodes = [(0, self.machine.start())] if self._live[0][0] else []
        self._trail = [[(-1, -1)] * len(nodes)]
        for depth in range(longest + 1):
            for i, (state, memory) in enumerate(nodes):
                if self._differ(depth, state, memory):
                    return self._input(depth, i, state)
            self.depth = depth
            if depth < longest:
                if self.n_steps + len(nodes) * len(self.alphabet) > most_steps:
                    return None
                nodes = self._step(depth, nodes)
        return None

    def _find_live(self, longest: int) -> None:
        """Which states can still end at a length asked for."""
        live = [self.graph.accept[longest].copy()]
        for depth in range(longest - 1, -1, -1):
            table = self.graph.next[depth]
            here = np.asarray((live[-1][np.maximum(table, 0)] & (table >= 0)).any(axis=1))
            live.append(here | self.graph.accept[depth] if depth in self.lengths else here)
        self._live = live[::-1]

    def _step(self, depth: int, nodes: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
        found: dict[tuple[int, Any], int] = {}
        trail: list[tuple[int, int]] = []
        table, live = self.graph.next[depth].tolist(), self._live[depth + 1]
        for i, (state, memory) in enumerate(nodes):
            if not self.is_every and self._is_settled(memory):
                continue
            for letter, target in enumerate(table[state]):
                if target < 0 or not live[target]:
                    continue
                node = (target, self.machine.step(memory, depth, self.alphabet[letter]))
                self.n_steps += 1
                if node not in found:
                    found[node] = len(found)
                    trail.append((i, letter))
        self._trail.append(trail)
        return list(found)

    def _is_settled(self, memory: Any) -> bool:
        """Whether both answers are known already, and equal."""
        values = [self.machine.settled(memory, i) for i in range(len(self.machine.finals))]
        half = len(values) // 2
        return all(
            a is not OPEN and b is not OPEN and a == b for a, b in zip(values[:half], values[half:], strict=True)
        )

    def _differ(self, depth: int, state: int, memory: Any) -> bool:
        if depth == 0 if self.is_every else depth not in self.lengths or not self.graph.accept[depth][state]:
            return False
        values = self.machine.values(memory, depth)
        return values[: len(values) // 2] != values[len(values) // 2 :]

    def _input(self, depth: int, index: int, state: int) -> tuple[int, ...]:
        """The token ids that lead to a node, continued to an input of a length asked for."""
        letters: list[int] = []
        for trail in self._trail[depth:0:-1]:
            index, letter = trail[index]
            letters.append(letter)
        letters.reverse()
        while not (depth in self.lengths and self.graph.accept[depth][state]):
            row = self.graph.next[depth][state]
            letter = next(a for a, target in enumerate(row) if target >= 0 and self._live[depth + 1][target])
            letters.append(letter)
            state, depth = int(row[letter]), depth + 1
        return tuple(self.alphabet[letter] for letter in letters)
