"""Tier 1: networks of one attention layer alone, decided exactly, class by class, whatever the number of inputs.

The softmax's denominator is common to all logits and positive, so the sign of a margin is the sign of a sum with one
term per token; the program's answer and the promise are a graph; the worst input of a class is a shortest path. What
the method does not cover is refused by name. This room refuses to know how a program was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from extract.domain import Domain
from extract.input_graph import InputGraph
from extract.lang.program_graph import NotReadable, ProgramGraph, program_graph
from extract.lang.terms import Program
from extract.network import Network
from extract.oracle import Oracle
from extract.outcome import (
    AnswerClass,
    Certificate,
    Certified,
    Counterexample,
    Refuted,
    Region,
    Tally,
    Unknown,
    Verdict,
)
from extract.progress import Progress
from extract.verify.care import CAREFUL, CareStages
from extract.verify.cells import CellFormat
from extract.verify.counterexamples import ask, minimised
from extract.verify.head_sums import attended_room
from extract.verify.margin_tables import Decisions, MarginTables, why_not
from extract.verify.plain import StagesForward, decide_inputs
from extract.verify.stages import Stages, claims_of
from extract.verify.worst_margin import ClassOfInputs, Judged

__all__ = ["ASSUMPTIONS", "decide", "why_not"]

ASSUMPTIONS = (
    "our float arithmetic is IEEE 754 with round-to-nearest; exp is good to 4 ulps",
    "the claim is about the function of the stored weights at the listed positions, without padding or dropout",
    "an input counts as different where another choice's logit is certainly above that of the program's answer",
)
#: Counterexamples replayed.
_N_REPORTED = 10
#: Whoever checks a counterexample may have bounds this many times looser than ours.
_ROOM = 16


@dataclass(frozen=True, slots=True)
class _Found:
    """One class as decided, and an input (letters) worth asking the model where it is not proved to agree."""

    answer_class: AnswerClass
    slack: float
    doubtful: tuple[int, ...] | None


class _Decision:
    """One program against one network: what is known so far."""

    def __init__(
        self, program: Program, network: Network, domain: Domain, stages: Stages, stop: Callable[[], bool]
    ) -> None:
        self.program, self.network, self.domain, self.stop = program, network, domain, stop
        self.stages, self.room = stages, 0.0
        self.reasons: list[str] = []
        self._graphs: dict[int, ProgramGraph | NotReadable] = {}

    def why(self, semantics: str) -> str:
        """Return why inputs are undecided."""
        what = "our own rounding errors" if semantics == "real" else "the rounding errors that the claim allows for"
        return "; ".join(dict.fromkeys(self.reasons)) or f"margins are within the bound of {what}"

    def classes(self, length: int, offset: int) -> Iterator[_Found]:
        """Decide every class of one length at one offset."""
        if length not in self._graphs:
            self._graphs[length] = program_graph(self.program, self.domain, length)
        graph = self._graphs[length]
        if isinstance(graph, NotReadable):
            self.reasons.append(graph.reason)
            return
        with np.errstate(all="ignore"):
            tables = MarginTables(self.network, self.domain, length, offset)
            room = attended_room(self.stages, self.domain, length, offset)
        self.room = max(self.room, room)
        for cells in graph.answers:
            inputs = graph.inputs_with(cells)
            with np.errstate(all="ignore"):
                decisions = self._decisions(tables, cells)
            for variant in range(tables.n_variants):
                if self.stop():
                    self.reasons.append("stopped before all classes were decided")
                    return
                with np.errstate(all="ignore"):  # what overflows has infinite errors, and is undecided
                    found = self._class(tables, inputs, decisions, length, offset, cells, variant, room)
                if found is not None:
                    yield found

    def _decisions(self, tables: MarginTables, cells: tuple[int, ...]) -> Decisions | None:
        """Return the margins of an answer; None for one that the network cannot give."""
        readout, codes = self.domain.readout, self.domain.vocabulary.output_codes
        if readout.kind == "multilabel":
            return tables.label_decisions(cells, readout.threshold)
        place = next((i for i, choice in enumerate(readout.choices) if int(codes[choice]) == cells[0]), None)
        return None if place is None else tables.argmax_decisions(place)

    def _class(
        self,
        tables: MarginTables,
        inputs: InputGraph,
        decisions: Decisions | None,
        length: int,
        offset: int,
        cells: tuple[int, ...],
        variant: int,
        room: float,
    ) -> _Found | None:
        query = None if tables.query_letter is None else self.domain.alphabet[variant]
        known = decisions if decisions is not None else tables.argmax_decisions(0)
        part = ClassOfInputs(tables, inputs, length, variant, known)
        if not part.size:
            return None
        judged = Judged(0, 0, part.size, float("inf"), 0.0, part.any_input())
        if decisions is not None:
            judged = part.judge(room)
        tally = Tally(judged.agree, judged.disagree, judged.undecided, judged.margin)
        return _Found(AnswerClass(length, offset, query, cells, tally), judged.slack, judged.doubtful)


def decide(
    program: Program,
    network: Network,
    domain: Domain,
    oracle: Oracle,
    *,
    semantics: str = "real",
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
) -> Verdict:
    """Decide whether a program equals a separable network on every input of the domain.

    Assumes: ``why_not`` gives no reason against it.
    Ensures: certified only if every class has a proved least margin, positive and above the errors of every arithmetic
             that the semantics is about; the counts of agreeing, differing and undecided inputs add up to the domain
             exactly. Differing inputs are counted as far as a class splits; counterexamples are replayed through
             oracle and reference interpreter, the first made small, then those found.
    Raises:  DomainError if the domain's inputs have no exact count.
    Cost:    per class one small dynamic program, whatever the number of inputs; ``stop`` is asked before each.
    """
    stages = CareStages(network, domain.readout, claims_of(semantics))(CAREFUL)
    decision, witness = _Decision(program, network, domain, stages, stop), _Witness(program, stages, domain, oracle)
    classes, regions, examples = list[AnswerClass](), list[Region](), list[Counterexample]()
    total, slack, n_done = Tally(), 0.0, 0
    for offset in domain.offsets:
        for length in domain.lengths:
            size, tally = domain.size_at(length), Tally()
            for found in decision.classes(length, offset) if size else ():
                part, asked = found.answer_class, list[Counterexample]()
                if found.doubtful is not None and len(examples) < _N_REPORTED:
                    asked = witness.ask(found.doubtful, offset)
                if asked and not part.tally.disagree:  # one that was seen to differ is known, whatever was counted
                    part = replace(part, tally=Tally(part.tally.agree, 1, part.tally.undecided - 1))
                classes.append(part)
                examples += asked
                tally, slack = tally + part.tally, max(slack, found.slack)
            if size:
                tally = tally + Tally(undecided=size - tally.total)
                regions.append(Region(length, offset, 0, size, tally, ""))
            total, n_done = total + tally, n_done + size
            progress.advance(n_done, domain.size, "inputs")
    least = total.min_margin
    if total.agree != domain.size:  # mixed classes have no least margin: none is known of the whole
        least = float("inf")
        total = Tally(total.agree, total.disagree, total.undecided)
    if not examples and total.disagree:  # differences that do not replay are not claimed
        classes = [replace(c, tally=_without_differences(c.tally)) for c in classes]
        regions = [replace(r, tally=_without_differences(r.tally)) for r in regions]
        total = _without_differences(total)
    bounds = max(slack, decision.room), decision.room
    certificate = Certificate(
        program, "separable", semantics, tuple(regions), total, *bounds, (), 0, ASSUMPTIONS, tuple(classes)
    )
    if examples:
        examples.sort(key=lambda e: (domain.offsets.index(e.offset), len(e.tokens), domain.rank(e.tokens)))
        return Refuted((minimised(program, oracle, examples[0]), *examples), certificate)
    if total.agree == domain.size and least > 0:
        return Certified(certificate)
    return Unknown(f"{total.undecided} of {domain.size} inputs are undecided: {decision.why(semantics)}", certificate)


def _without_differences(tally: Tally) -> Tally:
    return Tally(tally.agree, 0, tally.disagree + tally.undecided, tally.min_margin)


class _Witness:
    """Asks both sides an input, and believes a difference only where the model's margin is far above rounding."""

    def __init__(self, program: Program, stages: Stages, domain: Domain, oracle: Oracle) -> None:
        self._program, self._domain, self._oracle = program, domain, oracle
        self._stages = StagesForward(stages)
        self._form = CellFormat.of(domain.readout, domain.vocabulary)

    def ask(self, letters: tuple[int, ...], offset: int) -> list[Counterexample]:
        """Return the difference on an input, replayed; nothing if there is none for certain."""
        tokens = tuple(self._domain.alphabet[letter] for letter in letters)
        row = np.array([tokens], dtype=np.int32).reshape(1, len(tokens))
        with np.errstate(all="ignore"):
            made = decide_inputs(self._stages, self._domain, self._form, row, offset)
        if not made.margins[0] > _ROOM * made.bounds[0]:
            return []
        found = ask(self._program, self._oracle, tokens, offset)
        return [] if found is None else [found]
