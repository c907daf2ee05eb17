"""The gate: judges every proposed term against the model's answers, by the language's own meaning, and keeps the best.

Two sets of inputs are compared: the bank's probes and a larger gate set, which counterexamples join as soon as they are
known. Hashes and shortcuts of the stages are never trusted here. Cost decides, then the effort of reading, then the
printed text, so the same probes give the same programs whatever the order of discovery. It proposes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from extract.errors import ProgramError
from extract.lang.batched import Batch, evaluate_term, number_codes
from extract.lang.cost import cost as term_cost
from extract.lang.syntax import print_term
from extract.lang.terms import Term
from extract.oracle import Oracle, ProbeSet
from extract.readout import widen
from extract.search.builders import reading_effort
from extract.search.completion import completed
from extract.search.frame import Frame, frame_of
from extract.search.goals import Goal, answer_unit, goals_of, in_units
from extract.vocabulary import ABSENT, NO_NUMBER, UNDETERMINED

_MOST_KEPT = 12
_MISSES_PER_TERM = 4
#: A term that gets fewer of the gate's inputs right is not worth keeping even as a partial answer.
_LEAST_AGREEMENT = 0.5
_ALMOST_ALL = 0.95

Lengths = NDArray[np.int32]
Prompts = tuple[Lengths, Lengths]


@dataclass(frozen=True, slots=True, order=True)
class Scored:
    """A term that passed the gate, ordered by cost, then by the effort of reading it, then by text."""

    cost: int
    effort: tuple[int, int, int]
    text: str
    term: Term = field(compare=False)
    stage: str = field(compare=False)


@dataclass(slots=True)
class GoalState:
    """What is known about one goal: terms exact on every input asked, and the best partial ones by agreement."""

    goal: Goal
    gate: Goal
    exact: list[Scored] = field(default_factory=list)
    partial: list[tuple[float, Scored]] = field(default_factory=list)
    misses: list[NDArray[np.intp]] = field(default_factory=list)

    def best_cost(self) -> int:
        """The cost of the cheapest exact term, or a large number."""
        return self.exact[0].cost if self.exact else 1 << 30


class Gate:
    """Judges proposals for every goal of one read-out; ``states`` holds what passed, by goal.

    ``batch`` is the gate set as programs see it, ``probe_batch`` the probes. ``learn`` adds inputs to the gate set and
    judges again what had passed. Terms are judged once each. ``prompts`` are the lengths of the prompts of probes and
    gate, where the rest of each input was generated; such a gate does not learn. ``unit`` is what goals of a real
    read-out count. An answer that is no number is no program's: the search looks elsewhere, and the verifier counts it.
    """

    def __init__(self, oracle: Oracle, probes: ProbeSet, gate: ProbeSet, prompts: Prompts | None = None) -> None:
        self.oracle = oracle
        self.probes = probes
        vocabulary, readout = oracle.domain.vocabulary, oracle.domain.readout
        self._prompts: tuple[Lengths | None, Lengths | None] = (None, None) if prompts is None else prompts
        self.unit = answer_unit(readout, probes.answers.values, gate.answers.values)
        counted = in_units(probes, self.unit)
        self.frame = frame_of(counted, vocabulary, readout, self._prompts[0])
        goals = goals_of(counted, self.frame, readout, vocabulary)
        self.states = [GoalState(goal, goal) for goal in goals]
        self.probe_batch = self._batch(probes, self.frame)
        self._seen: set[tuple[int, Term]] = set()
        self._ask(gate)

    def consider(self, index: int, term: Term, stage: str) -> bool:
        """Judge a proposed term for one goal; return whether it is exact on every input asked."""
        if (index, term) in self._seen:
            return False
        self._seen.add((index, term))
        state = self.states[index]
        try:
            right_on_probes = self._right(term, self.probe_batch, state.goal)
            right = self._right(term, self.batch, state.gate)
        except ProgramError:
            return False  # badly sorted or too wide: the language refuses it, so it is no candidate
        scored = Scored(term_cost(term), reading_effort(term), print_term(term), term, stage)
        if right_on_probes.all() and right.all():
            state.exact = sorted({*state.exact, scored})[:_MOST_KEPT]
            return True
        fits_probes = bool(right_on_probes.all())
        self._keep_partial(state, scored, right, fits_probes=fits_probes)
        return fits_probes and self._consider_completed(index, term, stage)

    def _consider_completed(self, index: int, term: Term, stage: str) -> bool:
        """Judge a table again with the entries that the gate set shows."""
        goal, vocabulary = self.states[index].gate, self.oracle.domain.vocabulary
        filled = completed(term, self.batch, goal, vocabulary)
        return filled is not None and self.consider(index, filled, stage)

    def learn(self, rows: list[tuple[tuple[int, ...], int]]) -> None:
        """Add inputs to the gate set; terms that get them wrong are exact no longer."""
        grown = self.gate.extended(self.oracle, rows)
        if grown is self.gate:
            return
        self._ask(grown)
        for index, state in enumerate(self.states):
            exact, state.exact = state.exact, []
            partial, state.partial, state.misses = state.partial, [], []
            for scored in exact:
                right = self._right(scored.term, self.batch, state.gate)
                if right.all():
                    state.exact = sorted({*state.exact, scored})
                else:
                    self._keep_partial(state, scored, right, fits_probes=True)
                    self._consider_completed(index, scored.term, scored.stage)
            for _, scored in partial:
                fits = bool(self._right(scored.term, self.probe_batch, state.goal).all())
                self._keep_partial(state, scored, self._right(scored.term, self.batch, state.gate), fits_probes=fits)

    def right(self, index: int, term: Term) -> NDArray[np.bool_]:
        """Say which inputs of the gate set a term gets entirely right. Shape: [gate input]. Raises: ProgramError."""
        return self._right(term, self.batch, self.states[index].gate)

    def missed(self) -> list[tuple[tuple[int, ...], int]]:
        """Return gate inputs that terms exact on the bank's probes get wrong, a few per unsolved goal, surest first."""
        rows: list[int] = []
        for state in self.states:
            if state.exact:
                continue
            for misses in state.misses[:3]:
                surest = misses[np.argsort(-self.gate.answers.margins[misses], kind="stable")]
                rows += [int(i) for i in surest[:_MISSES_PER_TERM]]
        return [self.gate.inputs.row(i) for i in dict.fromkeys(rows)]

    @property
    def is_solved(self) -> bool:
        """Whether every goal has a term that is exact on every input asked."""
        return all(state.exact for state in self.states)

    def is_hopeless(self) -> bool:
        """Say whether some goal has no term that fits even the bank's probes: more of them only make it harder."""
        return any(not state.exact and not state.misses for state in self.states)

    def _ask(self, gate: ProbeSet) -> None:
        vocabulary, readout = self.oracle.domain.vocabulary, self.oracle.domain.readout
        self.gate = gate
        counted = in_units(gate, self.unit)
        frame = frame_of(counted, vocabulary, readout, self._prompts[1])
        for state, goal in zip(self.states, goals_of(counted, frame, readout, vocabulary), strict=True):
            state.gate = goal
        self.batch = self._batch(gate, frame)

    def _batch(self, probes: ProbeSet, frame: Frame) -> Batch:
        codes = probes.inputs.codes(self.oracle.domain.vocabulary)
        return Batch(codes, probes.inputs.lengths, max(frame.care.shape[1], 1), frame.prompts)

    def _right(self, term: Term, batch: Batch, goal: Goal) -> NDArray[np.bool_]:
        if self.oracle.domain.readout.kind == "value":
            return self._right_number(term, batch, goal)
        values = evaluate_term(term, batch, self.oracle.domain.vocabulary)
        right = (np.broadcast_to(values, goal.codes.shape) == goal.codes) | ~goal.mask
        return np.asarray(right.all(axis=1))

    def _right_number(self, term: Term, batch: Batch, goal: Goal) -> NDArray[np.bool_]:
        """Compare a term with real answers as a program's answers are: whatever unit the goals count in."""
        width = goal.codes.shape[1]
        wanted = widen((self.probes if batch is self.probe_batch else self.gate).answers.values, width)[:, :width]
        codes = np.broadcast_to(number_codes(term, batch, self.oracle.domain.vocabulary), wanted.shape)
        is_open = (wanted == ABSENT) | (wanted == UNDETERMINED) | (wanted == NO_NUMBER)
        return np.asarray(((codes == wanted) | is_open).all(axis=1))

    def _keep_partial(self, state: GoalState, scored: Scored, right: NDArray[np.bool_], *, fits_probes: bool) -> None:
        if fits_probes and len(state.misses) < _MOST_KEPT:
            state.misses.append(np.flatnonzero(~right))
        agreement = float(right.mean())
        if agreement >= _LEAST_AGREEMENT:
            state.partial = sorted([*state.partial, (agreement, scored)], key=_partial_order)[:_MOST_KEPT]


def _partial_order(partial: tuple[float, Scored]) -> tuple[float, Scored]:
    """Order partial terms by agreement, in steps of a twentieth below 0.95, then as usual: length must be earned."""
    agreement, scored = partial
    return -(round(agreement, 2) if agreement >= _ALMOST_ALL else int(20 * agreement) / 20), scored
