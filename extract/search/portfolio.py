"""The portfolio: runs the proposing stages on one probe set, cheapest first, and judges every proposal at one gate.

The gate compares a term with the model's answers on the bank probes and on the larger gate set, by the language's own
meaning; hashes and shortcuts of the stages are never trusted. Cost decides, then the printed text, so the same probes
give the same programs whatever the order of discovery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from extract.errors import ProgramError
from extract.lang.batched import Batch, evaluate_term
from extract.lang.cost import cost as term_cost
from extract.lang.operators import DEFAULTED_NAMES
from extract.lang.syntax import print_term
from extract.lang.terms import Term
from extract.oracle import Oracle, ProbeSet
from extract.outcome import Budget, Spent
from extract.progress import Progress
from extract.search import closed_forms, last_level
from extract.search.automata import learn_machine
from extract.search.bank import Bank, Key
from extract.search.builders import (
    binary,
    choose,
    machine_condition,
    machine_output,
    reading_effort,
    symbol_or_integer,
)
from extract.search.frame import NO_SYMBOL, Frame, frame_of
from extract.search.goals import Goal, boolean_goal, goals_of
from extract.search.layers import Grammar

_MOST_KEPT = 12
#: A usual probe set has about this many cells: it turns a budget of candidates into one of work.
_CELLS_PER_CANDIDATE = 1024
_MISSES_PER_TERM = 4
_PAIR_LIMIT = 40_000_000
_COVER_LIMIT = 48
#: Incomplete levels tried before a goal is given up: they still hold many sequence-wide terms.
_INCOMPLETE_LEVELS = 4
#: Heads added beyond the cost order are filed above every level that growth can reach.
_HEAD_LEVEL = 1000
#: Goal numbers from here down stand for a goal up to the default of its root.
_DEFAULTED = -1000
#: A term that gets fewer of the gate's inputs right is not worth keeping even as a partial answer.
_LEAST_AGREEMENT = 0.5
_ALMOST_ALL = 0.95


@dataclass(frozen=True, slots=True, order=True)
class Scored:
    """A term that passed the gate, ordered by cost, then by the effort of reading it, then by text."""

    cost: int
    effort: tuple[int, int]
    text: str
    term: Term = field(compare=False)
    stage: str = field(compare=False)


@dataclass(slots=True)
class GoalState:
    """What is known about one goal: terms exact on every probe, and the best partial ones by agreement."""

    goal: Goal
    gate: Goal
    exact: list[Scored] = field(default_factory=list)
    partial: list[tuple[float, Scored]] = field(default_factory=list)
    gate_misses: list[NDArray[np.intp]] = field(default_factory=list)

    def best_cost(self) -> int:
        """The cost of the cheapest exact term, or a large number."""
        return self.exact[0].cost if self.exact else 1 << 30


class Portfolio:
    """Searches terms for every goal of one read-out on one probe set.

    ``solve`` runs the stages; ``states`` holds the results; ``complete_to_cost`` says to which tree cost the bank's
    fragment was exhausted; ``is_over`` is asked before each level, and ``is_cut_short`` says that it ended the search.
    """

    def __init__(
        self,
        oracle: Oracle,
        probes: ProbeSet,
        gate: ProbeSet,
        budget: Budget,
        progress: Progress,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        vocabulary, readout = oracle.domain.vocabulary, oracle.domain.readout
        self.oracle = oracle
        self.budget = budget
        self.progress = progress
        self.is_cut_short = False
        self._is_over = is_over
        self.frame: Frame = frame_of(probes, vocabulary, readout)
        self._gate = gate
        self._gate_frame = frame_of(gate, vocabulary, readout)
        gate_steps = max(self._gate_frame.care.shape[1], 1)
        self._gate_batch = Batch(gate.inputs.codes(vocabulary), gate.inputs.lengths, gate_steps)
        self._probe_batch = Batch(
            probes.inputs.codes(vocabulary), probes.inputs.lengths, max(self.frame.care.shape[1], 1)
        )
        goals = goals_of(probes, self.frame, readout, vocabulary)
        gates = goals_of(gate, self._gate_frame, readout, vocabulary)
        self.states = [GoalState(goal, gate_goal) for goal, gate_goal in zip(goals, gates, strict=True)]
        self.spent = Spent()
        self.complete_to_cost = 0
        self._seen: set[tuple[int, Term]] = set()
        self._derived: list[tuple[int, Goal, int, int]] = []  # state index, boolean goal, code if true, code if false
        self._defaulted: list[tuple[int, int]] = []  # state index, code given where nothing is selected

    # -- the gate ---------------------------------------------------------------------------------------------------
    def consider(self, index: int, term: Term, stage: str) -> bool:
        """Judge a proposed term for one goal; return whether it is exact on every probe."""
        if (index, term) in self._seen:
            return False
        self._seen.add((index, term))
        state = self.states[index]
        try:
            right_on_probes = self._right(term, self._probe_batch, state.goal)
            right_on_gate = self._right(term, self._gate_batch, state.gate)
        except ProgramError:
            return False  # badly sorted or too wide: the language refuses it, so it is no candidate
        on_probes, on_gate = float(right_on_probes.mean()), float(right_on_gate.mean())
        scored = Scored(term_cost(term), reading_effort(term), print_term(term), term, stage)
        if on_probes == 1.0 and on_gate == 1.0:
            state.exact = sorted({*state.exact, scored})[:_MOST_KEPT]
            return True
        if on_probes == 1.0 and len(state.gate_misses) < _MOST_KEPT:
            state.gate_misses.append(np.flatnonzero(~right_on_gate))
        if on_gate >= _LEAST_AGREEMENT:
            state.partial = sorted([*state.partial, (on_gate, scored)], key=_partial_order)[:_MOST_KEPT]
        return False

    def _right(self, term: Term, batch: Batch, goal: Goal) -> NDArray[np.bool_]:
        values = evaluate_term(term, batch, self.oracle.domain.vocabulary)
        right = (np.broadcast_to(values, goal.codes.shape) == goal.codes) | ~goal.mask
        return np.asarray(right.all(axis=1))

    def is_hopeless(self) -> bool:
        """Say whether some goal has no term that fits even the bank probes: more probes can only make it harder."""
        return any(not state.exact and not state.gate_misses for state in self.states)

    def gate_misses(self) -> list[int]:
        """Return gate inputs that terms exact on the bank probes get wrong, a few per unsolved goal, surest first."""
        rows: list[int] = []
        for state in self.states:
            if state.exact:
                continue
            for misses in state.gate_misses[:3]:
                surest = misses[np.argsort(-self._gate.answers.margins[misses], kind="stable")]
                rows += [int(i) for i in surest[:_MISSES_PER_TERM]]
        return list(dict.fromkeys(rows))

    # -- the stages -------------------------------------------------------------------------------------------------
    def solve(self) -> None:
        """Run every stage until each goal has its cheapest term or the budget ends."""
        for index, state in enumerate(self.states):
            for term in closed_forms.proposals(state.goal, self.frame, self.oracle.domain):
                self.consider(index, term, "closed form")
        self._learn_machines()
        self._grow_bank()
        self._propose_partial()

    def _learn_machines(self) -> None:
        domain = self.oracle.domain
        for index, state in enumerate(self.states):
            goal = state.goal
            if goal.shape != "whole" or (state.exact and state.exact[0].cost <= 3) or domain.readout.at == "generate":
                continue
            machine = learn_machine(self.oracle, index if goal.kind == "B" else 0)
            if machine is None:
                continue
            build = machine_condition if goal.kind == "B" else machine_output
            self.consider(index, build(machine, domain), "automaton")

    def _grow_bank(self) -> None:
        bank = Bank(self.frame)
        grammar = Grammar(
            bank, constants=self._constants(), symbols=self._symbols(), work=self.budget.n_candidates * 1024
        )
        self._watch(bank)
        for cost in range(1, self.budget.max_cost + 1):
            if self._is_over():
                self.is_cut_short = True
                break
            before = bank.n_candidates
            grammar.grow(cost)
            self.progress.advance(bank.n_candidates, None, "candidates")
            self._settle_level(bank, cost)
            if all(state.best_cost() <= cost + 1 for state in self.states):
                break
            if bank.n_candidates == before or self._is_enough(grammar, cost):
                break
        if not self.is_cut_short and not all(state.exact for state in self.states):
            grammar.add_heads(_HEAD_LEVEL)
            self._settle_level(bank, _HEAD_LEVEL)
        self.complete_to_cost = grammar.complete_to_cost
        self.spent.n_candidates += bank.n_candidates
        self.spent.n_distinct += bank.n_distinct
        self._bank = bank

    def _settle_level(self, bank: Bank, cost: int) -> None:
        """Judge what a level hit, and try the top-level combinations it makes possible for goals still dearer."""
        for hit in bank.hits:
            self._consider_hit(hit.goal, hit.term, "bank")
        bank.hits.clear()
        for index, state in enumerate(self.states):
            if state.best_cost() > cost + 1:
                self._last_level(bank, index, state.goal, cost)

    def _is_enough(self, grammar: Grammar, cost: int) -> bool:
        """Stop where levels are incomplete: at once when every goal is solved, else a few levels later."""
        n_incomplete = cost - grammar.complete_to_cost
        return n_incomplete > (0 if all(state.exact for state in self.states) else _INCOMPLETE_LEVELS)

    def _watch(self, bank: Bank) -> None:
        self._derived, self._defaulted = [], []
        for index, state in enumerate(self.states):
            goal = state.goal
            if goal.kind == "B" or goal.tag:
                tag = "" if goal.kind == "B" else goal.tag
                bank.watch(index, Key(goal.kind, tag, goal.shape), goal.target)
            codes = goal.distinct_codes()
            if goal.kind == "I" and len(codes) == 2:
                derived = boolean_goal(goal, codes[0])
                bank.watch(-1 - len(self._derived), Key("B", "", goal.shape), derived.target)
                self._derived.append((index, derived, codes[0], codes[1]))

            self._watch_defaulted(bank, index, goal)

    def _watch_defaulted(self, bank: Bank, index: int, goal: Goal) -> None:
        """Watch for terms that give no symbol exactly where a symbol that is no input letter is wanted."""
        domain = self.oracle.domain
        letters = {int(domain.vocabulary.token_codes[i]) for i in domain.alphabet}
        for code in goal.distinct_codes() if goal.tag == "T" else ():
            if code not in letters:
                target = np.where(goal.mask & (goal.codes == code), NO_SYMBOL, goal.target)
                bank.watch(_DEFAULTED - len(self._defaulted), Key("I", "T", goal.shape), target)
                self._defaulted.append((index, code))

    def _consider_hit(self, goal: int, term: Term, stage: str) -> None:
        if goal <= _DEFAULTED:
            index, code = self._defaulted[_DEFAULTED - goal]
            if term.operator in DEFAULTED_NAMES:
                default = symbol_or_integer(code, self.oracle.domain.vocabulary)
                self.consider(index, Term(term.operator, (*term.arguments, default), term.data), stage)
            return
        if goal >= 0:
            self.consider(goal, term, stage)
            return
        index, _, yes, no = self._derived[-1 - goal]
        vocabulary = self.oracle.domain.vocabulary
        branches = symbol_or_integer(yes, vocabulary), symbol_or_integer(no, vocabulary)
        self.consider(index, choose(term, *branches), stage)

    def _last_level(self, bank: Bank, index: int, goal: Goal, cost: int) -> None:
        for proposal_goal, term in self._virtual(bank, index, goal, cost):
            self._consider_hit(proposal_goal, term, "last level")

    def _virtual(self, bank: Bank, index: int, goal: Goal, cost: int) -> Iterator[tuple[int, Term]]:
        booleans = [(index, goal)] if goal.kind == "B" else []
        booleans += [(-1 - i, d[1]) for i, d in enumerate(self._derived) if d[0] == index]
        for number, boolean in booleans:
            for n_found, pair in enumerate(self._boolean_pairs(bank, boolean, cost)):
                yield number, binary(pair.operator, bank.term(pair.left), bank.term(pair.right))
                if n_found >= _MOST_KEPT:
                    break
        if goal.kind == "I" and goal.tag == "N":
            for n_found, pair in enumerate(last_level.sum_pairs(bank, goal, cost)):
                yield index, binary(pair.operator, bank.term(pair.left), bank.term(pair.right))
                if n_found >= _MOST_KEPT:
                    break
        if goal.kind == "I":
            for n_found, (c, a, b, _) in enumerate(last_level.covering_pairs(bank, goal, cost, _COVER_LIMIT)):
                yield index, choose(bank.term(c), bank.term(a), bank.term(b))
                if n_found >= _MOST_KEPT:
                    break

    def _boolean_pairs(self, bank: Bank, goal: Goal, cost: int) -> Iterator[last_level.Pair]:
        yield from last_level.comparison_pairs(bank, goal, cost, _PAIR_LIMIT)
        yield from last_level.connective_pairs(bank, goal, cost, _COVER_LIMIT)

    def _propose_partial(self) -> None:
        """Rank the bank by agreement for goals that nothing matches exactly: the model may be wrong somewhere."""
        for index, state in enumerate(self.states):
            if state.exact or not (state.goal.kind == "B" or state.goal.tag):
                continue
            counts, ids = last_level.agreement(self._bank, state.goal, self.budget.max_cost)
            # each unit of cost must earn a probe, or terms that fit the model's mistakes crowd out the plain ones
            for i in np.argsort(self._bank.costs(ids) - counts, kind="stable")[: 2 * _MOST_KEPT]:
                self.consider(index, self._bank.term(int(ids[i])), "agreement")

    # -- what the grammar is given ----------------------------------------------------------------------------------
    def _constants(self) -> tuple[int, ...]:
        """Offer 0 to 4 and the integers that the task itself shows: answers, lengths, vocabulary sizes."""
        shown: set[int] = set()
        for state in self.states:
            if state.goal.kind == "I":
                codes = state.goal.distinct_codes()
                integers = [c for c in codes if abs(c) < 1 << 20]
                if len(integers) <= 8:
                    shown.update(integers)
                elif integers:
                    shown.update({max(integers), max(integers) + 1})
        return (0, 1, 2, 3, 4, *sorted(c for c in shown if c > 4)[:8], -1)

    def _symbols(self) -> tuple[str, ...]:
        domain = self.oracle.domain
        names = [] if domain.vocabulary.numeric else [domain.vocabulary.names[i] for i in domain.alphabet][:12]
        for state in self.states:
            if state.goal.kind == "I":
                names += [domain.vocabulary.name(c) for c in state.goal.distinct_codes() if c >= 1 << 30][:12]
        return tuple(dict.fromkeys(names))


def _partial_order(partial: tuple[float, Scored]) -> tuple[float, Scored]:
    """Order partial terms by agreement, in steps of a twentieth below 0.95, then as usual: length must be earned."""
    agreement, scored = partial
    return -(round(agreement, 2) if agreement >= _ALMOST_ALL else int(20 * agreement) / 20), scored
