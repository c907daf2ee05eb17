"""The portfolio: runs the proposing stages on one probe set, cheapest first, and hands every proposal to the gate.

It decides what is tried and in which order, and judges nothing. One process searches: stages share one bank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from extract.hints import NO_HINTS, Hints
from extract.lang.cost import cost as term_cost
from extract.lang.operators import DEFAULTED_NAMES
from extract.lang.terms import Adapter, Term
from extract.outcome import Budget, Spent
from extract.progress import Progress
from extract.search import agreements, arithmetic, closed_forms, hidden_order, idioms, last_level, reads_by_key, spelled
from extract.search.automata import is_causal, learn_machine
from extract.search.bank import Bank, Key
from extract.search.builders import (
    choose,
    symbol_or_integer,
)
from extract.search.divide import Division
from extract.search.frame import NO_SYMBOL
from extract.search.gate import Gate, GoalState
from extract.search.generated import GeneratedForms
from extract.search.goals import Goal, adapter_of, boolean_goal
from extract.search.guided import GuidedQueue
from extract.search.layers import Grammar
from extract.search.machine_terms import machine_terms
from extract.search.padded import padded_goals

_MOST_KEPT = 12
#: A machine that costs more than a share of the domain's inputs lists them rather than describe what they have in
#: common: a plain program with exceptions says more.
_INPUTS_PER_COST, _LEAST_LISTING = 8, 24
#: The bank's first levels take milliseconds: they come before the stages that fit machines and arithmetic ...
_FIRST_LEVELS = 4
#: So many levels of idioms take a second; the others come after the bank's.
_FIRST_IDIOMS = 3
#: ... and a goal with a term of at most this cost needs neither.
_CHEAP = 6
#: A term that costs more lists what a program would say.
_DEAR = 40
#: A usual probe set has about this many cells: it turns a budget of candidates into one of work.
_CELLS_PER_CANDIDATE = 1024
#: Incomplete levels tried before a goal is given up: they still hold many sequence-wide terms.
_INCOMPLETE_LEVELS = 4
#: Heads added beyond the cost order are filed above every level that growth can reach.
_HEAD_LEVEL = 1000
#: No level comes after that one: its comparisons may take longer.
_PATIENCE = 24
#: Candidates of the bank, about, among which something smaller than a certified program is looked for: seconds, not
#: minutes, and the levels up to them are complete.
_AFTER_CERTIFIED = 250_000
#: Goal numbers from here down stand for a goal up to the default of its root.
_DEFAULTED = -1000
#: The share of wrong cells that closed forms of generated answers bear when none fits exactly.
_SLACK = 0.1


class Portfolio:
    """Searches terms for every goal of one read-out on one probe set; what it proposes is judged by its ``gate``.

    ``adapter`` is that of its programs where the gate's read-out is not the task's. ``stages`` runs the stages;
    ``alternative`` holds the goals of another view of the answer; ``complete_to_cost`` says to which tree cost the
    bank's fragment was exhausted; ``is_over`` is asked before each level and division, ``is_cut_short`` says that it
    ended some. Whoever certifies a program sets ``has_certified``: little is tried from then on.
    """

    def __init__(
        self,
        gate: Gate,
        budget: Budget,
        progress: Progress,
        is_over: Callable[[], bool] = lambda: False,
        hints: Hints = NO_HINTS,
        adapter: Adapter | None = None,
    ) -> None:
        self.gate = gate
        self.oracle = gate.oracle
        self.budget = budget
        self.progress = progress
        self.adapter = adapter or adapter_of(gate.oracle.domain.readout)
        self.is_cut_short = False
        self._is_over = is_over
        self.frame = gate.frame
        self.states = gate.states
        goals = [state.goal for state in self.states]
        self.guided = GuidedQueue(hints, goals, gate.probe_batch, self.oracle.domain.vocabulary)
        self.alternative: tuple[Adapter, list[GoalState]] | None = None
        self.complete_to_cost = 0
        self.has_certified = False
        self._bank = Bank(self.frame, memory_bytes=budget.memory_bytes)
        self._retired = Spent()
        self._padded = padded_goals(gate)
        self._derived: list[tuple[int, Goal, int, int]] = []  # state index, boolean goal, code if true, code if false
        self._defaulted: list[tuple[int, int]] = []  # state index, code given where nothing is selected

    @property
    def spent(self) -> Spent:
        """What the bank and the guided queue have tried so far."""
        n_candidates = self._retired.n_candidates + self._bank.n_candidates + self.guided.n_candidates
        return Spent(n_candidates=n_candidates, n_distinct=self._retired.n_distinct + self._bank.n_distinct)

    def consider(self, index: int, term: Term, stage: str) -> bool:
        """Have the gate judge a proposed term for one goal; return whether it is exact on every input asked."""
        return self.gate.consider(index, term, stage)

    def views(self) -> list[tuple[Adapter, list[GoalState]]]:
        """Return the ways to see the answer, each with its goals: those that are solved, or all when none is."""
        found = [(self.adapter, self.states)]
        found += [self.alternative] if self.alternative else []
        return [view for view in found if all(state.exact for state in view[1])] or found

    @property
    def is_solved(self) -> bool:
        """Whether some view of the answer has a term for every goal that is exact on every input asked."""
        return all(state.exact for _, states in self.views() for state in states)

    # -- the stages -------------------------------------------------------------------------------------------------
    def solve(self) -> None:
        """Run every stage."""
        for _ in self.stages():
            pass

    def stages(self) -> Iterator[str]:
        """Run the stages, cheapest first, until each goal has its cheapest term or the budget ends.

        Yields the name of a stage, or of a part of one, when it is done: what passed the gate by then can be verified
        before more is searched, and what verification teaches the gate counts from the next proposal on.
        """
        for index, state in enumerate(self.states):
            for term in closed_forms.proposals(state.goal, self.frame, self.oracle.domain):
                self.consider(index, term, "closed form")
            for term in hidden_order.proposals(state.gate, self.gate.batch, self.oracle.domain):
                self.consider(index, term, "closed form")
        if self.oracle.domain.readout.at == "generate":
            self._propose_generated()
        yield "closed form"
        levels = self._grow_bank()
        yield from islice(levels, _FIRST_LEVELS)
        self._describe()
        yield "arithmetic"
        self._learn_machines()
        yield "automaton"
        joined = self._idiom_levels()
        yield from islice(self._while_dearer(joined, _CHEAP), _FIRST_IDIOMS)
        yield from levels
        yield from self._while_dearer(joined, _DEAR)
        del joined  # and its bank
        self._divide()
        yield "divided"
        self._propose_partial()
        yield "agreement"
        self._retire(self._bank)
        self._bank = Bank(self.frame)  # the next view of the answer needs the memory

    def _propose_generated(self) -> None:
        """Fit closed forms of outputs and lengths; with slack, and split by length, for a model that errs."""
        forms = GeneratedForms(self.frame, self.gate.probe_batch, self.oracle.domain)
        for index, state in enumerate(self.states):
            for term in spelled.proposals(state.gate, self.gate.batch, self.oracle.domain):
                self.consider(index, term, "closed form")
            for slack in (0.0, _SLACK):
                for term in forms.proposals(state.goal, slack):
                    self.consider(index, term, "closed form")
                if state.exact:
                    break
            for _, scored in [] if state.exact else state.partial[:2]:
                for term in forms.splits(state.goal, scored.term):
                    self.consider(index, term, "closed form")

    def _describe(self) -> None:
        """Propose arithmetic descriptions for goals without a cheap term, until each has one."""
        goals = {index: state.gate for index, state in enumerate(self.states) if state.best_cost() > _CHEAP}
        for index, term in arithmetic.proposals(goals, self.gate.batch, self.oracle.domain):
            if self.consider(index, term, "arithmetic") and all(self.states[i].best_cost() <= _CHEAP for i in goals):
                break

    def _learn_machines(self) -> None:
        """Propose the state machine of the answers, learned for all outputs at once."""
        domain = self.oracle.domain
        at = domain.readout.at
        if (
            at == "generate"
            or self.frame.prompts is not None
            or all(state.best_cost() <= _CHEAP for state in self.states)
            or self._has_fractions
        ):
            return
        if at == "every" and not is_causal(self.oracle, self.gate.gate):
            return
        learned = learn_machine(self.oracle, self.gate.gate)
        if learned is None:
            return
        most = max(_LEAST_LISTING, domain.size // _INPUTS_PER_COST)
        for index, state in enumerate(self.states):
            machine, is_whole = learned.of_cell(index, self.gate.unit), at != "every"
            for term in machine_terms(machine, domain, is_boolean=state.goal.kind == "B", is_whole=is_whole):
                if term_cost(term) <= most:
                    self.consider(index, term, "automaton")

    @property
    def _has_fractions(self) -> bool:
        """Whether the answers are numbers and not all whole: no constant and no sum of a term is one."""
        return self.oracle.domain.readout.kind == "value" and self.gate.unit == 1

    def _grammar(self, bank: Bank, work: int) -> Grammar:
        """Return what grows a bank, which is told what to watch for."""
        self._watch(bank)
        return Grammar(
            bank, constants=self._constants(), symbols=self._symbols(), work=work, letters=self._letters(),
            has_numbers=any(state.goal.tag == "N" for state in self.states),
        )  # fmt: skip

    def _idiom_levels(self) -> Iterator[str]:
        """Join idioms level by level in a bank beside the complete one, which is dropped at the end."""
        n_candidates, n_levels = idioms.share_of(self.budget.n_candidates, self.budget.max_cost)
        if not n_levels:
            return
        bank = Bank(self.frame, memory_bytes=self.budget.memory_bytes >> 2)
        grammar = self._grammar(bank, n_candidates * _CELLS_PER_CANDIDATE)
        try:
            for level in idioms.grown(bank, grammar, n_levels):
                self._settle_level(bank, level)
                yield "idioms"
        finally:
            self._retire(bank)

    def _retire(self, bank: Bank) -> None:
        """Keep count of what a bank has tried that is about to be let go."""
        self._retired.n_candidates += bank.n_candidates
        self._retired.n_distinct += bank.n_distinct

    def _while_dearer(self, levels: Iterator[str], cost: int) -> Iterator[str]:
        """Go on with levels while some goal has no term of at most a cost, and there is time."""
        while any(state.best_cost() > cost for state in self.states) and not self._has_run_out():
            name = next(levels, None)
            if name is None:
                return
            yield name

    def _grow_bank(self) -> Iterator[str]:
        bank = self._bank
        grammar = self._grammar(bank, self.budget.n_candidates * _CELLS_PER_CANDIDATE)
        for cost in range(1, self.budget.max_cost + 1):
            if self._has_run_out():
                break
            before = bank.n_candidates
            grammar.grow(cost)
            self._take_guided_turn(bank.n_candidates - before)
            self.progress.advance(bank.n_candidates, None, "candidates")
            self._settle_level(bank, cost)
            self.complete_to_cost = grammar.complete_to_cost
            yield "bank"
            if all(state.best_cost() <= cost + 1 for state in self.states):
                break
            if bank.n_candidates == before or self._is_enough(grammar, cost):
                break
            if self.has_certified and bank.n_candidates >= _AFTER_CERTIFIED:
                break
        if not self.is_cut_short and not all(state.exact for state in self.states):
            grammar.add_heads(_HEAD_LEVEL)
            self._settle_level(bank, _HEAD_LEVEL)
            yield "heads"

    def _has_run_out(self) -> bool:
        """Ask whether time is over, and note it: something is then left untried."""
        self.is_cut_short = self.is_cut_short or self._is_over()
        return self.is_cut_short

    def _take_guided_turn(self, n_candidates: int) -> None:
        """Let the guided queue try as many candidates as the bank just did, while some goal has no term."""
        for found in self.guided.advance(n_candidates if not all(state.exact for state in self.states) else 0):
            self.consider(found.goal, found.term, "guided")
            if all(state.exact for state in self.states):
                break

    def _settle_level(self, bank: Bank, cost: int) -> None:
        """Judge what a level hit, and try the top-level combinations it makes possible for goals still dearer."""
        for hit in bank.hits:
            self._consider_hit(hit.goal, hit.term, "bank")
        bank.hits.clear()
        for index, state in enumerate(self.states):
            if state.best_cost() > cost + 1:
                self._last_level(bank, index, state.goal, cost)
        for padded in self._padded:
            if self.states[padded.index].best_cost() > cost + 1:
                for term in padded.settle(bank, cost):
                    self.consider(padded.index, term, "last level")

    def _is_enough(self, grammar: Grammar, cost: int) -> bool:
        """Stop where levels are incomplete: a few levels later, or soon when nothing much cheaper can be hoped for."""
        best = max(state.best_cost() for state in self.states)
        n_more = _INCOMPLETE_LEVELS if best > 2 * cost else min(1, best - cost - 2)
        return cost - grammar.complete_to_cost > n_more

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
        goals = [(index, goal)] + [(-1 - i, d[1]) for i, d in enumerate(self._derived) if d[0] == index]
        patience = _PATIENCE if cost == _HEAD_LEVEL else 1
        for number, wanted in goals:
            for found in last_level.proposals(bank, wanted, cost, is_derived=number < 0, patience=patience):
                yield number, found.term
            for term in agreements.proposals(bank, wanted, cost):
                yield number, term
        for family in (reads_by_key.proposals, reads_by_key.extremes):
            for term in family(bank, goal, cost):
                yield index, term

    def _divide(self) -> None:
        """Split the domain for goals that nothing matches as a whole."""
        for index, state in enumerate(self.states):
            if not state.exact and not self._has_run_out():
                for term in Division(self.gate, index, self._bank, self.budget.max_cost).proposals():
                    self.consider(index, term, "divided")

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
        vocabulary = self.oracle.domain.vocabulary
        if vocabulary.numeric:
            largest = max(int(vocabulary.token_codes[token]) for token in self.oracle.domain.alphabet)
            shown.update({largest, largest + 1} if 0 < largest < 1 << 20 else ())
        for state in self.states:
            if state.goal.kind == "I" and not self._has_fractions:
                codes = state.goal.distinct_codes()
                integers = [c for c in codes if abs(c) < 1 << 20]
                shown.update(integers if len(integers) <= 8 else [max(integers)])
                shown.update([max(integers) + 1] if integers else [])
        return (0, 1, 2, 3, 4, *sorted(c for c in shown if c > 4)[:8], -1)

    def _letters(self) -> tuple[str, ...]:
        domain = self.oracle.domain
        return () if domain.vocabulary.numeric else tuple(domain.vocabulary.names[i] for i in domain.alphabet)

    def _symbols(self) -> tuple[str, ...]:
        domain = self.oracle.domain
        names = list(self._letters()[:12])
        for state in self.states:
            if state.goal.kind == "I":
                names += [domain.vocabulary.name(c) for c in state.goal.distinct_codes() if c >= 1 << 30][:12]
        return tuple(dict.fromkeys(names))
