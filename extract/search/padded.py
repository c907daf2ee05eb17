"""Answers with a mark that no input holds, beside tokens or numbers: a padded list, or nothing to say at a position.

Such an answer is two goals, neither of which the usual stages look for: where the mark stands, and what stands
elsewhere, whatever it would be under the mark. Both are searched on the same banks; each pair found is an if-then-else
for the gate to judge. Lists are mostly the input in another order, each token once or some left out, so the orders
that a rank gives are tried first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

import numpy as np

from extract.domain import Domain
from extract.errors import ProgramError
from extract.lang.batched import evaluate_term
from extract.lang.cost import cost as term_cost
from extract.lang.syntax import print_term
from extract.lang.terms import Term
from extract.search import last_level, reads_by_key
from extract.search.bank import Bank, Key
from extract.search.builders import INDICES, IS_REPEATED, LENGTH, TOKENS, choose, constant, integer, pick
from extract.search.gate import Gate
from extract.search.goals import Goal, boolean_goal
from extract.vocabulary import SYMBOL_BASE

#: Terms kept of each part.
_MOST_KEPT = 4
_MOST_LETTERS = 8


@dataclass(slots=True)
class _Part:
    """One of the two goals, on the probes and on the gate set, and the cheapest terms right on both."""

    goal: Goal
    gate: Goal
    found: list[tuple[int, str, Term]] = field(default_factory=list)


class Padded:
    """The search for one padded goal. ``index`` is the goal's number."""

    def __init__(self, gate: Gate, index: int, mark: int) -> None:
        state = gate.states[index]
        self.index = index
        self._gate, self._domain = gate, gate.oracle.domain
        self._mark = constant(mark, self._domain.vocabulary)
        self._is_mark = _Part(boolean_goal(state.goal, mark), boolean_goal(state.gate, mark))
        self._rest = _Part(_elsewhere(state.goal, mark), _elsewhere(state.gate, mark))
        self._told: set[Term] = set()
        self._is_begun = False

    def settle(self, bank: Bank, cost: int) -> Iterator[Term]:
        """Yield choices between the mark and something else that the terms of a bank's level make possible."""
        if not self._is_begun:
            self._is_begun = True
            if self._rest.goal.shape == "position":
                self._keep(self._rest, _orders(self._domain))
                self._keep(self._is_mark, _ends(self._domain))
        goal = self._is_mark.goal
        self._keep(self._is_mark, chain(_equal(bank, goal, cost), _virtual(bank, goal, cost)))
        goal = self._rest.goal
        reads = (family(bank, goal, cost) for family in (reads_by_key.proposals, reads_by_key.extremes))
        self._keep(self._rest, chain(_equal(bank, goal, cost), _virtual(bank, goal, cost), *reads))
        for _, _, condition in self._is_mark.found:
            for _, _, term in self._rest.found:
                choice = choose(condition, self._mark, term)
                if choice not in self._told:
                    self._told.add(choice)
                    yield choice

    def _keep(self, part: _Part, terms: Iterator[Term]) -> None:
        """Keep the cheapest terms that are right wherever the part's goal says something."""
        for term in terms:
            if self._is_right(part.gate, term):
                part.found = sorted({*part.found, (term_cost(term), print_term(term), term)}, key=lambda f: f[:2])
                del part.found[_MOST_KEPT:]

    def _is_right(self, goal: Goal, term: Term) -> bool:
        try:
            values = evaluate_term(term, self._gate.batch, self._domain.vocabulary)
        except ProgramError:
            return False
        if values.shape not in (goal.codes.shape, (len(goal.codes), 1)):
            return False  # badly shaped, or inputs have been learned since: the whole is judged on them
        return bool(((np.broadcast_to(values, goal.codes.shape) == goal.codes) | ~goal.mask).all())


def padded_goals(gate: Gate) -> list[Padded]:
    """Return the goals whose answers are letters of the input, or all numbers, but for one mark."""
    domain = gate.oracle.domain
    letters = {int(domain.vocabulary.token_codes[token]) for token in domain.alphabet}
    found = []
    for index, state in enumerate(gate.states):
        goal = state.goal
        # one symbol per input may be a default of what selects nothing: the bank watches for that
        if goal.kind != "I" or goal.shape == "step" or (goal.shape == "whole" and goal.tag):
            continue
        codes = state.goal.distinct_codes()
        marks = [code for code in codes if code >= SYMBOL_BASE and code not in letters]
        if len(marks) == 1 and len(codes) > 2 and _elsewhere(state.goal, marks[0]).tag:
            found.append(Padded(gate, index, marks[0]))
    return found


def _elsewhere(goal: Goal, mark: int) -> Goal:
    mask = goal.mask & (goal.codes != mark)
    is_symbol = goal.codes[mask] >= SYMBOL_BASE
    tag: Literal["T", "N", ""] = "T" if is_symbol.all() else "" if is_symbol.any() else "N"
    return replace(goal, tag=tag, mask=mask, target=np.where(mask, goal.target, 0).astype(goal.target.dtype))


def _equal(bank: Bank, goal: Goal, cost: int) -> Iterator[Term]:
    """Yield the terms of one cost that give the goal by themselves."""
    tag = goal.tag if goal.kind == "I" else ""
    values, ids = bank.rows(Key(goal.kind, tag, goal.shape), cost)
    if len(ids):
        right = (values[:, goal.mask] == goal.target[goal.mask]).all(axis=1)
        yield from (bank.term(int(i)) for i in ids[right][:_MOST_KEPT])


def _virtual(bank: Bank, goal: Goal, cost: int) -> Iterator[Term]:
    for found in last_level.proposals(bank, goal, cost, is_derived=goal.kind == "B"):
        yield found.term


def _orders(domain: Domain) -> Iterator[Term]:
    """Yield the input in other orders: by how often tokens occur, sorted, each once first, some letters last."""
    keys = [Term("int", (IS_REPEATED,))]
    for operator in ("==", "!="):
        width = Term("selector_width", (Term("select", (TOKENS, TOKENS), (operator,)),))
        keys += [width, choose(IS_REPEATED, LENGTH, width)]
    keys.append(TOKENS)
    if domain.vocabulary.numeric:
        largest = max(int(domain.vocabulary.token_codes[token]) for token in domain.alphabet)
        keys += [choose(IS_REPEATED, integer(largest + 1), TOKENS), Term("-", (integer(0), TOKENS))]
        keys.append(Term("-", (choose(IS_REPEATED, integer(largest + 1), integer(0)), TOKENS)))
    else:
        keys.append(Term("+", (Term("rank", (TOKENS,)), Term("*", (LENGTH, Term("int", (IS_REPEATED,)))))))
    for letter in _letters(domain):
        keys += [Term("int", (letter,)), Term("int", (Term("not", (letter,)),))]
    for key in keys:
        yield pick(Term("rank", (key,)), INDICES, TOKENS)


def _ends(domain: Domain) -> Iterator[Term]:
    """Yield conditions of the positions after a list: of each token once, of all but some letter, of that letter."""
    kept = [Term("not", (IS_REPEATED,)), *_letters(domain), *(Term("not", (letter,)) for letter in _letters(domain))]
    for condition in kept:
        yield Term("<=", (Term("count", (condition,)), INDICES))


def _letters(domain: Domain) -> list[Term]:
    vocabulary = domain.vocabulary
    codes = [int(vocabulary.token_codes[token]) for token in domain.alphabet]
    return [Term("==", (TOKENS, constant(code, vocabulary))) for code in codes[:_MOST_LETTERS]]
