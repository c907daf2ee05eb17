"""Learns a small prefix state machine from membership queries, for answers that are one value per input.

Rows of answers to short continuations tell states apart, as in Angluin's L* (1987, "Learning regular sets from queries
and counterexamples"); inputs outside the domain answer nothing and fit every row, so the machine may be smaller than
the minimal one for all strings. What is learned is a proposal: the gate and verification judge it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from extract.domain import Domain
from extract.oracle import Oracle
from extract.readout import Inputs

Letters = tuple[int, ...]

_MOST_SUFFIXES = 48
_LONGEST_SUFFIX = 3


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


class _Queries:
    """Cached answers of one answer cell, asked in batches; None outside the domain."""

    def __init__(self, oracle: Oracle, cell: int) -> None:
        self._oracle = oracle
        self._cell = cell
        self._known: dict[Letters, int | None] = {}

    def ask(self, strings: list[Letters]) -> None:
        domain = self._oracle.domain
        offset = domain.offsets[0]
        fresh = [s for s in dict.fromkeys(strings) if s not in self._known]
        inside = [s for s in fresh if domain.contains(s, offset)]
        self._known.update(dict.fromkeys(fresh))
        if inside:
            answers = self._oracle.answer(Inputs.of([(s, offset) for s in inside]))
            values = answers.values[:, self._cell]
            self._known.update({s: int(v) for s, v in zip(inside, values, strict=True)})

    def row(self, prefix: Letters, suffixes: list[Letters]) -> tuple[int | None, ...]:
        return tuple(self._known[prefix + suffix] for suffix in suffixes)


def learn_machine(oracle: Oracle, cell: int, *, max_states: int = 24) -> MooreMachine | None:
    """Learn a machine for one answer cell, or return None when it has too many states or letters.

    Cost:    at most ``max_states`` * letters * continuations membership queries.
    """
    domain = oracle.domain
    suffixes = _suffixes(domain)
    if not suffixes:
        return None
    queries = _Queries(oracle, cell)
    access: list[Letters] = [()]
    queries.ask(list(suffixes))
    rows = [queries.row((), suffixes)]
    transitions: list[tuple[int, ...]] = []
    while len(transitions) < len(access):
        layer = access[len(transitions) :]
        children = [(*prefix, letter) for prefix in layer for letter in domain.alphabet]
        queries.ask([child + suffix for child in children for suffix in suffixes])
        for prefix in layer:
            targets = []
            for letter in domain.alphabet:
                child = (*prefix, letter)
                row = queries.row(child, suffixes)
                state = _compatible_state(rows, row)
                if state is None:
                    state = len(access)
                    access.append(child)
                    rows.append(row)
                    if len(access) > max_states:
                        return None
                else:
                    rows[state] = _merged(rows[state], row)
                targets.append(state)
            transitions.append(tuple(targets))
    return _minimised(MooreMachine(tuple(transitions), tuple(row[0] for row in rows)))


def _suffixes(domain: Domain) -> list[Letters]:
    longest = 0
    while longest < _LONGEST_SUFFIX and len(domain.alphabet) ** (longest + 1) <= _MOST_SUFFIXES:
        longest += 1
    if not longest:
        return []
    return [s for n in range(longest + 1) for s in product(domain.alphabet, repeat=n)]


def _compatible_state(rows: list[tuple[int | None, ...]], row: tuple[int | None, ...]) -> int | None:
    """Return the state whose row agrees with most known answers and contradicts none."""
    best, best_score = None, -1
    for state, other in enumerate(rows):
        if any(a is not None and b is not None and a != b for a, b in zip(row, other, strict=True)):
            continue
        score = sum(a is not None and b is not None for a, b in zip(row, other, strict=True))
        if score > best_score:
            best, best_score = state, score
    return best


def _merged(left: tuple[int | None, ...], right: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return tuple(b if a is None else a for a, b in zip(left, right, strict=True))


def _minimised(machine: MooreMachine) -> MooreMachine:
    """Merge states with equal outputs and equal futures (Moore's partition refinement), start first."""
    block = [(-1 if o is None else o) for o in machine.outputs]
    while True:
        signature = [(block[s], tuple(block[t] for t in machine.transitions[s])) for s in range(machine.n_states)]
        number = {sig: i for i, sig in enumerate(dict.fromkeys(signature))}
        refined = [number[sig] for sig in signature]
        if len(set(refined)) == len(set(block)):
            break
        block = refined
    first = {b: s for s, b in reversed(list(enumerate(refined)))}
    transitions = tuple(tuple(refined[t] for t in machine.transitions[first[b]]) for b in range(len(first)))
    return MooreMachine(transitions, tuple(machine.outputs[first[b]] for b in range(len(first))))
