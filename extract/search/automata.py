"""Learns a prefix state machine from membership queries.

Rows of answers to continuations tell states apart, as in Angluin's L* (1987, "Learning regular sets from queries and
counterexamples"); the continuations are not fixed beforehand: each sampled input that the machine gets wrong is traced
to the one continuation that tells two merged states apart (Rivest and Schapire 1993). Inputs outside the domain answer
nothing and fit every row, so near the greatest length states have few continuations and the machine may be smaller
than the minimal one for all strings. What is learned is a proposal: the gate and verification judge it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.oracle import Oracle, ProbeSet
from extract.readout import Inputs
from extract.vocabulary import NO_NUMBER, UNDETERMINED

Letters = tuple[int, ...]
Rows = NDArray[np.int64]

#: Above this a machine explains nothing, and its table would be a copy of the domain.
MOST_STATES = 200
_MOST_QUERIES = 12_000
_MOST_FIRST_SUFFIXES = 21
_MOST_ROUNDS = 60
_MISTAKES_PER_ROUND = 4
_UNKNOWN = -1
_MEMORY = 2
_FEW_EXCEPTIONS = 0.05


@dataclass(frozen=True, slots=True)
class MooreMachine:
    """``transitions[state][letter index]`` is the next state, ``outputs[state]`` the answer code or None where the
    domain never asks; state 0 is the start."""

    transitions: tuple[tuple[int, ...], ...]
    outputs: tuple[int | None, ...]

    @property
    def n_states(self) -> int:
        """The number of states."""
        return len(self.outputs)

    @property
    def n_moves(self) -> int:
        """The number of transitions that leave their state."""
        return sum(target != state for state, row in enumerate(self.transitions) for target in row)


@dataclass(frozen=True, slots=True)
class LearnedMachine:
    """A machine whose output numbers stand for answer rows: ``rows[output]`` holds one code per answer cell."""

    machine: MooreMachine
    rows: tuple[tuple[int, ...], ...]

    def of_cell(self, cell: int, unit: int = 1) -> MooreMachine:
        """Return the smallest machine of one answer cell, with codes as multiples of a unit; what is none is open."""
        codes = [None if o is None else self.rows[o][cell] for o in self.machine.outputs]
        outputs = tuple(None if code is None or code % unit else code // unit for code in codes)
        return minimised(MooreMachine(self.machine.transitions, outputs))


class _Queries:
    """Cached answers in batches, numbered in order of appearance; ``_UNKNOWN`` where the domain never asks.

    For an ``every`` read-out the answer of a string is the one at its last token, read off any input that begins so.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._is_every = oracle.domain.readout.at == "every"
        self._numbers: dict[tuple[int, ...], int] = {}
        self._known: dict[Letters, int] = {}
        self.n_asked = 0

    @property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """The answer rows by number."""
        return tuple(self._numbers)

    def number(self, answer: Sequence[int]) -> int:
        """Return the number of an answer row."""
        return self._numbers.setdefault(tuple(answer), len(self._numbers))

    def ask(self, strings: list[Letters]) -> None:
        """Make the answers of some strings known."""
        domain = self._oracle.domain
        offset = domain.offsets[0]
        fresh = [s for s in dict.fromkeys(strings) if s not in self._known]
        self._known.update(dict.fromkeys(fresh, _UNKNOWN))
        asked = [self._extended(s) for s in fresh] if self._is_every else fresh
        is_input = _are_inputs(domain, asked)
        inside = [i for i in range(len(fresh)) if is_input[i] and (fresh[i] or not self._is_every)]
        if not inside:
            return
        self.n_asked += len(inside)
        values = self._oracle.answer(Inputs.of([(asked[i], offset) for i in inside])).values.tolist()
        for i, row in zip(inside, values, strict=True):
            answer = (row[len(fresh[i]) - 1],) if self._is_every else row
            self._known[fresh[i]] = _UNKNOWN if {UNDETERMINED, NO_NUMBER} & set(answer) else self.number(answer)

    def _extended(self, string: Letters) -> Letters:
        missing = self._oracle.domain.min_length - len(string)
        return string + (self._oracle.domain.alphabet[0],) * missing

    def of(self, string: Letters) -> int:
        """Return the number of a string's answer; it has been asked."""
        return self._known[string]


def _are_inputs(domain: Domain, strings: list[Letters]) -> list[bool]:
    """Say which strings are inputs, one promise check per length."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for i, string in enumerate(strings):
        by_length[len(string)].append(i)
    result = [False] * len(strings)
    for length, places in by_length.items():
        if length not in domain.lengths:
            continue
        if domain.promise_text is None:
            held: Sequence[bool] = [True] * len(places)
        else:
            tokens = np.array([strings[i] for i in places], dtype=np.int32).reshape(len(places), length)
            held = domain.holds(tokens).tolist()
        for i, holds in zip(places, held, strict=True):
            result[i] = holds
    return result


class _Sample:
    """Inputs whose answers are known, to test a machine on: letters [input, position], answer numbers likewise."""

    def __init__(self, probes: ProbeSet, domain: Domain, queries: _Queries) -> None:
        keep = probes.inputs.offsets == domain.offsets[0]
        inputs, values = probes.inputs.tokens[keep], probes.answers.values[keep]
        lengths = probes.inputs.lengths[keep]
        column = {token: i for i, token in enumerate(domain.alphabet)}
        widest = max(domain.alphabet) + 2
        table = np.full(widest, 0, dtype=np.int64)
        table[list(column)] = list(column.values())
        self.tokens, self.lengths = inputs, lengths
        self.letters = table[np.maximum(inputs, 0)]
        self.wanted = np.full((len(inputs), inputs.shape[1] + 1), _UNKNOWN, dtype=np.int64)
        if domain.readout.at == "every":
            for code in np.unique(values[values > NO_NUMBER]).tolist():
                n_cells = min(values.shape[1], inputs.shape[1])
                self.wanted[:, 1 : n_cells + 1][values[:, :n_cells] == code] = queries.number((code,))
        else:
            numbers = [
                _UNKNOWN if {UNDETERMINED, NO_NUMBER} & set(row) else queries.number(row) for row in values.tolist()
            ]
            self.wanted[np.arange(len(inputs)), lengths] = numbers

    def completed(self, machine: MooreMachine) -> MooreMachine:
        """Return the machine with the first sampled answer where a state's own access string is no input."""
        outputs = list(machine.outputs)
        steps = np.array(machine.transitions, dtype=np.int64)
        state = np.zeros(len(self.letters), dtype=np.int64)
        for length in range(self.letters.shape[1] + 1) if None in outputs else ():
            if length:
                state = steps[state, self.letters[:, length - 1]]
            is_asked = (self.wanted[:, length] >= 0) & (self.lengths >= length)
            for s in np.unique(state[is_asked]).tolist():
                if outputs[s] is None:
                    outputs[s] = int(self.wanted[is_asked & (state == s), length][0])
        return MooreMachine(machine.transitions, tuple(outputs))

    def mistakes(self, machine: MooreMachine) -> tuple[list[Letters], int]:
        """Return the shortest sampled strings that the machine answers wrongly, a few of them, and what it would
        cost to list them all: one for each token and each answer, once for each input."""
        steps = np.array(machine.transitions, dtype=np.int64)
        outputs = np.array([_UNKNOWN if o is None else o for o in machine.outputs], dtype=np.int64)
        state = np.zeros(len(self.letters), dtype=np.int64)
        is_listed = np.zeros(len(self.letters), dtype=np.bool_)
        found: list[Letters] = []
        for length in range(self.letters.shape[1] + 1):
            if length:
                state = steps[state, self.letters[:, length - 1]]
            wanted = self.wanted[:, length]
            is_wrong = (outputs[state] != wanted) & (wanted >= 0) & (self.lengths >= length)
            for i in np.flatnonzero(is_wrong)[: _MISTAKES_PER_ROUND - len(found)]:
                found.append(tuple(int(t) for t in self.tokens[i, :length]))
            is_listed |= is_wrong
        return found, int((self.lengths[is_listed] + 1).sum())


def learn_machine(oracle: Oracle, sample: ProbeSet, *, max_states: int = MOST_STATES) -> LearnedMachine | None:
    """Learn a machine of whole answer rows (of the answer at each token, for ``every``), or return None.

    None means more states than allowed, or too many letters to ask about, unless a smaller machine is wrong on few of
    the sample. ``sample`` takes the place of equivalence
    queries: mistakes on it refine the machine; some may remain where the domain is too short to tell states apart.
    A refinement that costs more than twice what it would to list the inputs it puts right is memory, not structure
    (a word alone is a chain of states): the machine before it is returned, and its exceptions are left to others.
    Cost:    states * letters * continuations membership queries, asked in one batch per layer of states.
    """
    domain = oracle.domain
    queries = _Queries(oracle)
    known = _Sample(sample, domain, queries)
    suffixes = _first_suffixes(domain)
    is_closed = True
    described: list[tuple[int, int, MooreMachine]] = []  # size, cost of listing the mistakes, machine
    for _ in range(_MOST_ROUNDS):
        closed = _closed(domain, queries, suffixes, max_states)
        if closed is None:
            is_closed = False
            break
        access, machine = closed[0], known.completed(closed[1])
        mistakes, listing = known.mistakes(machine)
        small = minimised(machine)
        described.append((small.n_states + small.n_moves, listing, small))
        telling = {s: None for w in mistakes for s in _telling_suffixes(domain, queries, access, machine, w)}
        fresh = [s for s in telling if s not in suffixes]
        if not fresh:
            break
        suffixes += fresh
    if not described:
        return None
    least = min(described, key=lambda d: d[0] + d[1])
    exact = min(reversed(described), key=lambda d: d[1])
    is_memory = exact[0] - least[0] > _MEMORY * (least[1] - exact[1])
    chosen = least if is_memory else exact
    if not is_closed and chosen[1] > _FEW_EXCEPTIONS * int((sample.inputs.lengths + 1).sum()):
        return None
    return LearnedMachine(chosen[2], queries.rows)


def _first_suffixes(domain: Domain) -> list[Letters]:
    suffixes: list[Letters] = [()]
    for n in (1, 2):
        longer = len(domain.alphabet) ** n
        if len(suffixes) + longer <= _MOST_FIRST_SUFFIXES:
            suffixes += product(domain.alphabet, repeat=n)
    return suffixes


def _closed(
    domain: Domain, queries: _Queries, suffixes: list[Letters], max_states: int
) -> tuple[list[Letters], MooreMachine] | None:
    """Explore states from the empty string until every successor of a state is a state."""
    access: list[Letters] = [()]
    queries.ask(list(suffixes))
    rows: Rows = np.full((max_states + 1, len(suffixes)), _UNKNOWN, dtype=np.int64)
    rows[0] = [queries.of(s) for s in suffixes]
    transitions: list[tuple[int, ...]] = []
    while len(transitions) < len(access):
        layer = access[len(transitions) :]
        children = [(*prefix, letter) for prefix in layer for letter in domain.alphabet]
        queries.ask([child + suffix for child in children for suffix in suffixes])
        if queries.n_asked > _MOST_QUERIES:
            return None
        targets: list[int] = []
        for child in children:
            row = np.array([queries.of(child + suffix) for suffix in suffixes], dtype=np.int64)
            state = _compatible_state(rows[: len(access)], row)
            if state is None:
                state = len(access)
                if state >= max_states:
                    return None
                access.append(child)
                rows[state] = row
            else:
                rows[state] = np.where(rows[state] < 0, row, rows[state])
            targets.append(state)
        width = len(domain.alphabet)
        transitions += [tuple(targets[i : i + width]) for i in range(0, len(targets), width)]
    outputs = tuple(int(o) if o >= 0 else None for o in rows[: len(access), 0])
    return access, MooreMachine(tuple(transitions), outputs)


def _compatible_state(rows: Rows, row: Rows) -> int | None:
    """Return the state whose row agrees with most known answers and contradicts none; the first of equals."""
    is_known = (rows >= 0) & (row >= 0)
    same = rows == row
    fits = ~(is_known & ~same).any(axis=1)
    if not fits.any():
        return None
    return int(np.argmax(np.where(fits, (is_known & same).sum(axis=1), -1)))


def _telling_suffixes(
    domain: Domain, queries: _Queries, access: list[Letters], machine: MooreMachine, word: Letters
) -> list[Letters]:
    """Return the ends of a wrongly answered word at which replacing the beginning by its state's access string
    changes the answer."""
    column = {token: i for i, token in enumerate(domain.alphabet)}
    states = [0]
    for token in word:
        states.append(machine.transitions[states[-1]][column[token]])
    mixed = [access[state] + word[i:] for i, state in enumerate(states)]
    queries.ask(mixed)
    answers = [queries.of(string) for string in mixed]
    found: list[Letters] = []
    before = 0
    for i, answer in enumerate(answers):
        if answer >= 0 and i:
            if answer != answers[before] and answers[before] >= 0:
                found += [word[j:] for j in range(before + 1, i + 1)]
            before = i
    return found


def minimised(machine: MooreMachine) -> MooreMachine:
    """Merge states with equal outputs and equal futures (Moore's partition refinement), start first."""
    block = _refined(machine, [(-1 if o is None else o,) for o in machine.outputs])
    return _quotient(machine, block)


def mealy_states(machine: MooreMachine) -> tuple[list[int], int]:
    """Return for each state its class when the output belongs to the step, not to the state it leads to.

    States that answer alike from the next letter on fall together, start's class is 0; also the number of classes.
    """
    steps = [tuple(machine.outputs[t] for t in row) for row in machine.transitions]
    block = _refined(machine, steps)
    return block, max(block) + 1


def _refined(machine: MooreMachine, seed: Sequence[tuple[int | None, ...]]) -> list[int]:
    number = {key: i for i, key in enumerate(dict.fromkeys(seed))}
    block = [number[key] for key in seed]
    while True:
        signature = [(block[s], tuple(block[t] for t in machine.transitions[s])) for s in range(machine.n_states)]
        names = {sig: i for i, sig in enumerate(dict.fromkeys(signature))}
        refined = [names[sig] for sig in signature]
        if len(names) == len(set(block)):
            return refined
        block = refined


def _quotient(machine: MooreMachine, block: list[int]) -> MooreMachine:
    first = {b: s for s, b in reversed(list(enumerate(block)))}
    transitions = tuple(tuple(block[t] for t in machine.transitions[first[b]]) for b in range(len(first)))
    return MooreMachine(transitions, tuple(machine.outputs[first[b]] for b in range(len(first))))


def is_causal(oracle: Oracle, sample: ProbeSet, *, n_asked: int = 96) -> bool:
    """Say whether no sampled answer at a position depended on later tokens, by comparison and by fresh queries."""
    domain = oracle.domain
    seen: dict[Letters, int] = {}
    words = [sample.inputs.row(i)[0] for i in range(len(sample)) if sample.inputs.offsets[i] == domain.offsets[0]]
    answers = sample.answers.values[sample.inputs.offsets == domain.offsets[0]].tolist()
    for word, row in zip(words, answers, strict=True):
        if not _goes_with(seen, word, row):
            return False
    long = [word for word in words if len(word) > 1]
    chosen = long[:: max(1, len(long) // n_asked)]
    varied = [v for w in chosen for n in (len(w) // 2, len(w) - 1) for v in (w[:n], w[:n] + w[n:][::-1], w[:n] + w[:1])]
    varied = [v for v, inside in zip(varied, _are_inputs(domain, varied), strict=True) if inside and v]
    if varied:
        asked = oracle.answer(Inputs.of([(v, domain.offsets[0]) for v in varied])).values.tolist()
        for word, row in zip(varied, asked, strict=True):
            if not _goes_with(seen, word, row):
                return False
    return True


def _goes_with(seen: dict[Letters, int], word: Letters, row: list[int]) -> bool:
    """Note the answers at every prefix of a word; say whether none was different before."""
    decided = [n for n in range(1, len(word) + 1) if row[n - 1] != UNDETERMINED]
    return all(seen.setdefault(word[:n], row[n - 1]) == row[n - 1] for n in decided)
