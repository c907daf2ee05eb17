"""The loop: propose on probes, compare on the whole domain, learn from counterexamples; and what is said when it stops.

This is the only place where a counterexample goes back into a probe set (counterexample-guided inductive synthesis,
Solar-Lezama 2008). Every program it returns carries a verdict of the verifier; a program that only matches its probes
never leaves this room as more than a candidate. A counterexample joins the gate at once and the search goes on with the
bank it has: only when every stage has ended without an exact program do the probes grow, and a bank is grown anew on
them (1 of the 157 benchmark tasks). Splitting the classes of the old bank instead would keep it incomplete: what was
merged on fewer probes is not kept. Models are often wrong on a few inputs, so a program that differs on
at most one input in a hundred is kept while the loop looks, within bounds, for one that differs on none.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from extract.clock import Guard
from extract.errors import ContradictionError
from extract.hints import NO_HINTS, Hints
from extract.lang.cost import program_cost
from extract.lang.syntax import print_program
from extract.lang.terms import Adapter, Program
from extract.oracle import Oracle
from extract.outcome import Budget, Certified, Refuted, Spent
from extract.probe.choose import LONGEST_USUAL_PROBE, choose_probes
from extract.probe.properties import observed_properties
from extract.progress import Progress
from extract.readout import same_answers
from extract.search.assembling import programs_of
from extract.search.consensus import consensus_programs
from extract.search.gate import Gate
from extract.search.goals import adapter_of
from extract.search.plainer import plainer_programs
from extract.search.portfolio import Portfolio
from extract.search.ranking import (
    LISTED_COST,
    LONG,
    MOST_EXCEPTIONS,
    candidate_order,
    described_cost,
    has_few_exceptions,
)
from extract.search.steps import StepSearch, budget_share, can_be_continued
from extract.search.uniform import LastCellOracle, as_last_cells, is_uniform
from extract.simplify import simplified
from extract.synthesis import Candidate, Differences, Rival, Row, Synthesis, Verifier
from extract.vocabulary import ABSENT

__all__ = ["MOST_EXCEPTIONS", "Candidate", "Differences", "Rival", "Row", "Synthesis", "Verifier", "synthesize"]

#: Rounds spent on an exact program once one with few exceptions is known.
_ROUNDS_AFTER_EXCEPTIONS = 1
_PROBES, _GATE = 72, 1500
_COUNTEREXAMPLES_PER_ROUND = 4
_MOST_RIVALS = 6
#: A program for a whole generated output that costs no more is not searched token by token too.
_CHEAP_WHOLE = 12
#: Programs that differ on more than the exceptions allowed, kept to report the best of them.
_MOST_REFUTED = 3


def synthesize(
    oracle: Oracle,
    verifier: Verifier,
    budget: Budget,
    *,
    seed: int,
    n_programs: int,
    progress: Progress,
    hints: Hints = NO_HINTS,
    is_strict: bool = False,
) -> Synthesis:
    """Search programs for the oracle and verify them, round by round; hints change when one is found, nothing else.

    The strict prefer any exact program to one with exceptions, however short that is.

    Raises:  ContradictionError if the oracle answers an input in two ways; errors of the oracle and the verifier pass.
    """
    loop = _Loop(oracle, verifier, budget, seed, n_programs, progress)
    loop.hints, loop.is_strict = hints, is_strict
    try:
        loop.run()
    except KeyboardInterrupt:
        # keep what is known; the caller sees the interruption in budget_hit
        loop.budget_hit = "interrupt"
    return loop.synthesis()


class _Loop:
    def __init__(
        self, oracle: Oracle, verifier: Verifier, budget: Budget, seed: int, n_programs: int, progress: Progress
    ) -> None:
        self.oracle, self.verifier, self.budget = oracle, verifier, budget
        self.n_programs, self.progress = n_programs, progress
        self.clock = Guard(budget.seconds or None)
        self.spent = Spent()
        self.seed = seed
        self.properties: dict[str, bool] = {}
        self.candidates: list[Candidate] = []
        self.rivals: tuple[Rival, ...] = ()
        self.rounds = 0
        self.complete_to_cost: int | None = None
        self.unique_to_cost: int | None = None
        self.budget_hit: str | None = None
        self._complete: dict[Adapter, int] = {}
        self.hints = NO_HINTS
        self.is_strict = False
        self._tried: set[Program] = set()
        self._learned: list[Row] = []
        self._rounds_left = budget.n_rounds

    def _probe(self) -> None:
        self.progress.phase("probe")
        self.probes, self.gate = choose_probes(self.oracle, n_probes=_PROBES, n_gate=_GATE, seed=self.seed)
        self._refuse_contradictions()
        self.properties = observed_properties(self.oracle, self.gate, seed=self.seed)

    def _refuse_contradictions(self) -> None:
        """Ask the probes again: what answers differently the second time is no function of its input."""
        again = self.oracle.answer(self.probes.inputs).values
        for i in np.flatnonzero(~same_answers(self.probes.answers.values, again))[:1]:
            vocabulary, readout = self.oracle.domain.vocabulary, self.oracle.domain.readout
            tokens, offset = self.probes.inputs.row(int(i))
            asked = " ".join(vocabulary.names[t] for t in tokens)
            first, second = (
                " ".join(readout.text(int(code), vocabulary) for code in values[i] if code != ABSENT)
                for values in (self.probes.answers.values, again)
            )
            raise ContradictionError(
                f"the model answers {asked!r} at offset {offset} with {first!r} and then "
                f"with {second!r}, expected the same answer every time",
                hint="only a deterministic model has a program",
            )

    def run(self) -> None:
        """Turn rounds, then look for something plainer than a long program, and for a rule that mostly holds."""
        self._probe()
        self._turn_rounds()
        self._compare_plainer()
        self._compare_consensus()

    def _turn_rounds(self) -> None:
        """Turn rounds until a program is certified, nothing new can be proposed, or the budget ends."""
        while self._rounds_left > 0:
            if self.clock.is_over():
                self.budget_hit = "time"
                return
            self.rounds += 1
            self._rounds_left -= 1
            portfolio = self._search()
            if portfolio.is_cut_short:
                self.budget_hit = "time"
            if not self._round(portfolio) or self.budget_hit:
                return
        if not self._has_good():
            self.budget_hit = "rounds"

    def _search(self) -> Portfolio:
        """Run the stages of one round; whatever fits all that is known is verified before more is searched."""
        budget, steps = self._budget_of_round(), self._step_search()
        budget = budget_share(budget) if steps and steps.is_solved else budget
        adapter = adapter_of(self.oracle.domain.readout)
        portfolio = Portfolio(self._gate(), budget, self.progress, self.clock.is_over, self.hints, adapter)
        self.progress.phase("search")
        self._learned = []
        try:
            for _ in portfolio.stages():
                self._verify_best(portfolio)
                self.progress.phase("search")
            self._simplify(portfolio)
            self._verify_best(portfolio)
            self._complete[adapter] = portfolio.complete_to_cost
            if steps and not portfolio.is_cut_short and not self._is_cheap(portfolio):
                self._search_steps(steps, portfolio)
                self._verify_best(portfolio)
        finally:
            self.spent.n_candidates += portfolio.spent.n_candidates
            self.spent.n_distinct += portfolio.spent.n_distinct
            self.spent.n_rounds = self.rounds
        self.complete_to_cost = portfolio.complete_to_cost
        return portfolio

    def _gate(self) -> Gate:
        """Make the gate of a round; a model that answers the same at every position is asked at its last."""
        if not all(is_uniform(self.oracle.domain, part) for part in (self.probes, self.gate)):
            return Gate(self.oracle, self.probes, self.gate)
        return Gate(LastCellOracle(self.oracle), as_last_cells(self.probes), as_last_cells(self.gate))

    def _step_search(self) -> StepSearch | None:
        """Prepare to look for a generated answer token by token too."""
        budget = self._budget_of_round()
        if not budget.n_candidates or not can_be_continued(self.probes, self.oracle.domain):
            return None
        return StepSearch(self.oracle, self.probes, self.gate, budget, self.progress, self.clock.is_over)

    def _is_cheap(self, portfolio: Portfolio) -> bool:
        """Say whether a program for the whole output is known that is not worth competing with."""
        return sum(state.best_cost() for state in portfolio.states) <= _CHEAP_WHOLE

    def _search_steps(self, steps: StepSearch, portfolio: Portfolio) -> None:
        self.progress.phase("search")
        steps.search()
        self._simplify(steps.portfolio)
        portfolio.alternative = ("step", steps.portfolio.states)
        self._complete["step"] = steps.portfolio.complete_to_cost
        self.spent.n_candidates += steps.spent.n_candidates
        self.spent.n_distinct += steps.spent.n_distinct

    def _verify_best(self, portfolio: Portfolio) -> None:
        """Verify the cheapest program that fits all that is known, until one holds up; what refutes one is learned.

        A program that differs on few inputs stands: the model may be wrong there, and the search for a program that
        is right everywhere goes on in the next round.
        """
        while portfolio.is_solved:
            program, stage = self._programs(portfolio)[0]
            if program in self._tried:
                return
            self.progress.phase("verify")
            differences = self._compare(program)
            self._keep(program, differences, stage)
            share = self._share(differences)
            portfolio.has_certified = self._is_settled()
            if share <= MOST_EXCEPTIONS:
                return
            rows = self._instructive(differences, share)
            self._learned += rows
            portfolio.gate.learn(rows)

    def _budget_of_round(self) -> Budget:
        """Search less once a program with few exceptions is known: an exact one is then a bonus."""
        is_known = self._has_good()
        return replace(self.budget, n_candidates=self.budget.n_candidates // 3) if is_known else self.budget

    def _simplify(self, portfolio: Portfolio) -> None:
        """Offer the gate a simplified form of each goal's best terms."""
        for index, state in enumerate(portfolio.states):
            for scored in state.exact[:3]:
                for term in simplified(scored.term):
                    portfolio.consider(index, term, "simplified")

    def _round(self, portfolio: Portfolio) -> bool:
        """Verify what is left of one search's proposals; return whether another round makes sense."""
        self.progress.phase("verify")
        exact = portfolio.is_solved
        grown = self.probes.extended(self.oracle, self._learned)
        untried = [p for p in self._programs(portfolio) if p[0] not in self._tried]
        for program, stage in [] if self._is_settled() else untried[: max(3, self.n_programs)]:
            differences = self._compare(program)
            self._keep(program, differences, stage)
            if self._is_settled():
                break
            share = self._share(differences)
            if exact or share <= MOST_EXCEPTIONS:
                grown = grown.extended(self.oracle, self._instructive(differences, share))
        if self._is_settled():
            self._compare_rivals(portfolio)
            return False
        if self._has_good():
            self._rounds_left = min(self._rounds_left, _ROUNDS_AFTER_EXCEPTIONS)
            grown = grown.extended(self.oracle, self._exceptions())
        if portfolio.gate.is_hopeless() and not portfolio.is_solved and not self._learned:
            return False
        grown = grown.extended(self.oracle, portfolio.gate.missed())
        if grown is self.probes:
            return False
        self.probes = grown
        asked = (portfolio.gate.gate.inputs, grown.inputs)
        self.gate = self.gate.extended(self.oracle, [part.row(i) for part in asked for i in range(len(part))])
        return True

    def _has_good(self) -> bool:
        """Say whether a program is known that differs on few inputs, all of them counted."""
        return any(has_few_exceptions(c.verdict, self.oracle.domain.size) for c in self.candidates)

    def _exceptions(self) -> list[Row]:
        """Return counterexamples of the best program with few exceptions, for the bank to tell apart."""
        verdict = self.candidates[0].verdict
        if not isinstance(verdict, Refuted):
            return []
        rows = [(c.tokens, c.offset) for c in verdict.counterexamples if len(c.tokens) <= LONGEST_USUAL_PROBE]
        return rows[:_COUNTEREXAMPLES_PER_ROUND]

    def _programs(self, portfolio: Portfolio) -> list[tuple[Program, str]]:
        return programs_of(portfolio, 1 + self.n_programs)

    def _compare(self, program: Program) -> Differences:
        self._tried.add(program)
        return self.verifier.differences(program, 64)

    def _keep(self, program: Program, differences: Differences, stage: str, *, is_wanted: bool = False) -> None:
        is_poor = self._share(differences) > MOST_EXCEPTIONS
        if is_poor and len(self.candidates) >= _MOST_REFUTED and not is_wanted:
            return
        verdict = self.verifier.verdict(program)
        self.candidates.append(Candidate(program, program_cost(program), verdict, stage))
        self.candidates.sort(key=partial(candidate_order, size=self.oracle.domain.size, is_strict=self.is_strict))

    def _share(self, differences: Differences) -> float:
        if differences.n_total is not None and differences.n_compared:
            return differences.n_total / differences.n_compared
        return 1.0 if differences.rows else 0.0

    def _is_settled(self) -> bool:
        """Enough programs are certified, or nothing the verifier could compare differs."""
        n_agreeing = sum(not isinstance(c.verdict, Refuted) for c in self.candidates)
        return n_agreeing >= 1

    def _instructive(self, differences: Differences, share: float) -> list[Row]:
        """Choose counterexamples for the bank: the first, but long ones only where nothing shorter tells as much.

        Banks of position-shaped terms grow with the square of the longest probe.
        """
        short = [row for row in differences.rows if len(row[0]) <= LONGEST_USUAL_PROBE]
        if short or share <= MOST_EXCEPTIONS:
            return short[:_COUNTEREXAMPLES_PER_ROUND]
        return list(differences.rows[:1])

    def _compare_plainer(self) -> None:
        """Compare plainer programs that may get almost every input right with a long one that gets all, or most."""
        said = described_cost(self.candidates[0], self.oracle.domain.size) if self.candidates else None
        if self.is_strict or self.budget_hit or said is None or self.candidates[0].cost < LONG:
            return
        self.progress.phase("search")
        programs, spent = plainer_programs(
            self.oracle, (self.probes, self.gate), self._budget_of_round(), self.progress, self.clock.is_over,
            said - LISTED_COST,
        )  # fmt: skip
        self.budget_hit = "time" if self.clock.is_over() else None
        self.spent.n_candidates += spent.n_candidates
        self.spent.n_distinct += spent.n_distinct
        self.progress.phase("verify")
        for program in [p for p in programs if p not in self._tried][: 2 + self.n_programs]:
            self._keep(program, self._compare(program), "agreement")
        if not isinstance(self.candidates[0].verdict, Certified):
            self.unique_to_cost = None  # it was said of another program

    def _compare_consensus(self) -> None:
        """Compare programs that are right on a few random inputs, where no program is right on nearly all of them."""
        if not self.rounds or self.budget_hit == "time" or self._is_settled() or self._has_good():
            return
        self.progress.phase("search")
        programs, spent = consensus_programs(self.oracle, self.gate, self.budget, self.clock.is_over, seed=self.seed)
        self.spent.n_candidates += spent.n_candidates
        self.spent.n_distinct += spent.n_distinct
        self.progress.phase("verify")
        for program in [p for p in programs if p not in self._tried][:_MOST_REFUTED]:
            self._keep(program, self._compare(program), "agreement", is_wanted=True)

    # -- after the proof --------------------------------------------------------------------------------------------
    def _compare_rivals(self, portfolio: Portfolio) -> None:
        """Settle the other programs that matched every probe: equal to the winner on the domain, or told apart."""
        exact = next(c for c in self.candidates if not isinstance(c.verdict, Refuted))
        winner = exact.program
        self.complete_to_cost = self._complete.get(winner.adapter, self.complete_to_cost)
        rivals = [p for p, _ in self._programs(portfolio) if p != winner][:_MOST_RIVALS]
        settled = []
        for rival in rivals:
            if self.clock.is_over():
                self.budget_hit = "time"
                break
            row, word = self.verifier.distinguish(winner, rival)
            relation = "refuted" if row is not None else "equal" if word == "equal" else "open"
            settled.append(Rival(print_program(rival), program_cost(rival), relation, row))
            if relation == "equal" and len(self.candidates) < self.n_programs:
                self._keep(rival, self._compare(rival), "rival")
        self.rivals = tuple(settled)
        # the winner is the model on the domain, so whatever else matched the probes is equal to it there or refuted
        # there; said only where the solver or the enumeration has settled each rival that was found
        is_settled = all(rival.relation != "open" for rival in settled)
        is_first = exact is self.candidates[0] and isinstance(exact.verdict, Certified)
        if is_first and is_settled and self.budget_hit is None:
            self.unique_to_cost = self.complete_to_cost

    def synthesis(self) -> Synthesis:
        """Return what is known now; valid after an interruption too."""
        return Synthesis(
            tuple(self.candidates[: max(1, self.n_programs)]),
            self.candidates[0].stage if self.candidates else "none",
            self.spent,
            self.complete_to_cost,
            self.unique_to_cost,
            self.properties,
            self.rivals,
            self.rounds,
            self.budget_hit,
        )
