"""Finite automata over the alphabet of a task, as promises: asked of many strings at once or read left to right.

This room knows states and letters; how a regular expression is written is expressions.py's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Dfa:
    """A deterministic automaton; state 0 is the start and -1 in ``transitions`` [state][letter] rejects for good.

    Letters are indices into the alphabet.
    """

    transitions: tuple[tuple[int, ...], ...]
    accepting: tuple[bool, ...]

    def accepts(self, letters: Iterable[int]) -> bool:
        """Say whether a string of letters is in the language."""
        state = 0
        for letter in letters:
            state = self.transitions[state][letter]
            if state < 0:
                return False
        return self.accepting[state]

    def minimal(self) -> Dfa:
        """Return the smallest automaton of the same language, states numbered by discovery, dead ones left out."""
        classes = self._classes()
        dead = self._dead()
        first = {c: s for s, c in reversed(list(enumerate(classes)))}
        numbers = {classes[0]: 0}
        queue, rows, accepting = deque([classes[0]]), [], []
        while queue:
            state = first[queue.popleft()]
            row = []
            for target in self.transitions[state]:
                if target < 0 or dead[target]:
                    row.append(-1)
                    continue
                if classes[target] not in numbers:
                    numbers[classes[target]] = len(numbers)
                    queue.append(classes[target])
                row.append(numbers[classes[target]])
            rows.append(tuple(row))
            accepting.append(self.accepting[state])
        return Dfa(tuple(rows), tuple(accepting))

    def prefixes(self) -> Dfa:
        """Return the automaton of every prefix of a word of the language."""
        dead = self._dead()
        return Dfa(self.transitions, tuple(not d for d in dead)).minimal()

    def _dead(self) -> list[bool]:
        """For each state, whether no word is accepted from it."""
        before: list[list[int]] = [[] for _ in self.transitions]
        for state, row in enumerate(self.transitions):
            for target in row:
                if target >= 0:
                    before[target].append(state)
        dead = [not accepts for accepts in self.accepting]
        queue = [state for state, accepts in enumerate(self.accepting) if accepts]
        while queue:
            for state in before[queue.pop()]:
                if dead[state]:
                    dead[state] = False
                    queue.append(state)
        return dead

    def _classes(self) -> list[int]:
        """Hopcroft's refinement: two states share a class if they accept the same words.

        Edges that lead nowhere are no edges: a state without one for a letter differs from one that has it. Letters
        that act alike everywhere are one letter.
        Cost:    O(edges * log(states)), where refining by rounds takes one for each state of a long chain.
        """
        dead = self._dead()
        table = np.array(self.transitions, dtype=np.int64).reshape(len(dead), -1)
        table[(table < 0) | np.array([*dead, True])[table]] = -1
        into: list[list[tuple[int, int]]] = [[] for _ in dead]
        for state, row in enumerate(np.unique(table, axis=1).tolist()):
            for letter, target in enumerate(row):
                if target >= 0:
                    into[target].append((letter, state))
        classes = [int(accepts) for accepts in self.accepting]
        members = [{state for state, c in enumerate(classes) if c == found} for found in (0, 1)]
        waiting = {0, 1}
        while waiting:
            sources: dict[int, list[int]] = {}
            for target in members[waiting.pop()]:
                for letter, state in into[target]:
                    sources.setdefault(letter, []).append(state)
            for states in sources.values():
                _split(states, classes, members, waiting)
        return classes


def _split(states: list[int], classes: list[int], members: list[set[int]], waiting: set[int]) -> None:
    """Part every class into those of the states and the others; the smaller part is to be looked at again."""
    touched: dict[int, list[int]] = {}
    for state in states:
        touched.setdefault(classes[state], []).append(state)
    for old, found in touched.items():
        if len(found) == len(members[old]):
            continue
        new = len(members)
        members.append(set(found))
        members[old] -= members[new]
        for state in found:
            classes[state] = new
        waiting.add(new if old in waiting or len(found) <= len(members[old]) else old)


def table_automaton(transitions: tuple[tuple[int, ...], ...], start: int) -> Dfa:
    """Return a listed automaton in which every state accepts and -1 rejects."""
    order = [start, *(s for s in range(len(transitions)) if s != start)]
    number = {state: i for i, state in enumerate(order)} | {-1: -1}
    rows = tuple(tuple(number[target] for target in transitions[state]) for state in order)
    return Dfa(rows, (True,) * len(rows)).minimal()


@dataclass(frozen=True, slots=True)
class Language:
    """A regular language as a promise about token ids; it is its own machine."""

    text: str
    dfa: Dfa
    alphabet: tuple[int, ...]

    def holds(self, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Say which strings are in the language. Shapes: [n, length] ids, [n]."""
        n_states, n_letters, top = len(self.dfa.accepting), len(self.alphabet), max(self.alphabet)
        letter_of = np.full(top + 2, n_letters, dtype=np.intp)
        letter_of[list(self.alphabet)] = np.arange(n_letters)
        letters = letter_of[np.where(tokens < 0, top + 1, np.minimum(tokens, top + 1))]
        table = np.full((n_states + 1, n_letters + 1), -1, dtype=np.intp)
        table[:n_states, :n_letters] = self.dfa.transitions
        table[table < 0] = n_states
        states = np.zeros(len(tokens), dtype=np.intp)
        for position in range(tokens.shape[1]):
            states = table[states, letters[:, position]]
        return np.array([*self.dfa.accepting, False], dtype=np.bool_)[states]

    def machine(self, length: int | None) -> LanguageMachine:
        """Return the automaton as a machine over token ids."""
        return LanguageMachine(self.dfa, {token: letter for letter, token in enumerate(self.alphabet)})


@dataclass(frozen=True, slots=True)
class LanguageMachine:
    """An automaton that steps by token id."""

    dfa: Dfa
    letter_of: dict[int, int]

    def start(self) -> int:
        """Return state 0."""
        return 0

    def step(self, state: int, position: int, letter: int) -> int | None:
        """Return the next state, or None where the automaton rejects for good."""
        target = self.dfa.transitions[state][self.letter_of[letter]]
        return None if target < 0 else target

    def accepts(self, state: int, length: int) -> bool:
        """Say whether the state accepts."""
        return self.dfa.accepting[state]
