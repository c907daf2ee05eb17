"""Decides programs against the reference function on every input of a bounded domain, and notes when it did."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthesis.records import Codec, SynthesisTask
from extract.cegis import Differences, Row
from extract.domain import Domain
from extract.lang.batched import Batch, evaluate
from extract.lang.cost import program_cost
from extract.lang.interpret import answer
from extract.lang.terms import Program
from extract.oracle import TableOracle
from extract.outcome import Certificate, Certified, Counterexample, Refuted, Tally, Verdict
from extract.readout import Inputs, same_answers
from extract.vocabulary import ABSENT, Codes

#: Inputs on which the reference interpreter, slow and plain, is asked too.
_INTERPRETED = 400


def all_inputs(domain: Domain) -> Inputs:
    """List every input of a domain, shortest first."""
    width = domain.max_length
    tokens, lengths = [], []
    for length in domain.lengths:
        rows = domain.tokens(length, 0, domain.size_at(length))
        tokens.append(np.pad(rows, ((0, 0), (0, width - length)), constant_values=-1))
        lengths.append(np.full(len(rows), length, dtype=np.int32))
    sizes = np.concatenate(lengths)
    return Inputs(np.concatenate(tokens), sizes, np.full(len(sizes), domain.offsets[0], dtype=np.int32))


class AnsweredDomain:
    """A domain with the reference function's answer to every input, tabulated once."""

    def __init__(self, task: SynthesisTask) -> None:
        self.domain = task.domain()
        self.inputs = all_inputs(self.domain)
        self.codes = self.inputs.codes(self.domain.vocabulary)
        codec = Codec(task, self.domain)
        self.table = {key: codec.answer(key) for key in self.keys()}
        self.oracle = TableOracle(self.domain, self._ask)
        self.answers = self.oracle.answer(self.inputs).values

    def _ask(self, key: tuple[int, ...]) -> tuple[int, ...]:
        """Answer from the table; an input outside the domain gets some answer, always the same, as from a network."""
        if key in self.table:
            return self.table[key]
        readout, vocabulary = self.domain.readout, self.domain.vocabulary
        if readout.kind == "multilabel":
            return (0,) * len(readout.choices)
        return (int(vocabulary.output_codes[0]),) * (len(key) if readout.at == "every" else 1)

    def keys(self) -> list[tuple[int, ...]]:
        """Return every input as codes."""
        rows = self.codes.tolist()
        return [tuple(row[:n]) for row, n in zip(rows, self.inputs.lengths.tolist(), strict=True)]

    def said_by(self, program: Program) -> Codes:
        """Return a program's answers to every input."""
        batch = Batch(self.codes, self.inputs.lengths)
        return evaluate(program, batch, self.domain.vocabulary, self.domain.readout)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a program was certified, in seconds since the clock started, and its cost."""

    wall: float
    cpu: float
    cost: int


class ExhaustiveVerifier:
    """Answers the loop's questions by looking at every input (``cegis.Verifier``)."""

    def __init__(self, answered: AnsweredDomain) -> None:
        self._answered = answered
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self.moments: list[Moment] = []

    def elapsed(self) -> tuple[float, float]:
        """Return wall and processor seconds since the clock started."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu

    def _wrong(self, program: Program) -> NDArray[np.intp]:
        return np.flatnonzero(~same_answers(self._answered.said_by(program), self._answered.answers))

    def differences(self, program: Program, limit: int) -> Differences:
        """Return the first inputs on which program and reference differ, and how many there are."""
        wrong = self._wrong(program)
        inputs = self._answered.inputs
        return Differences(tuple(inputs.row(int(i)) for i in wrong[:limit]), len(wrong), len(inputs))

    def verdict(self, program: Program) -> Verdict:
        """Decide a program on every input."""
        wrong = self._wrong(program)
        n = len(self._answered.inputs)
        tally = Tally(n - len(wrong), len(wrong))
        certificate = Certificate(program, "enumeration", "table", (), tally, 0.0, 0.0, (), 0, ())
        if not len(wrong):
            self.moments.append(Moment(*self.elapsed(), program_cost(program)))
            return Certified(certificate)
        return Refuted((self._counterexample(program, int(wrong[0])),), certificate)

    def _counterexample(self, program: Program, index: int) -> Counterexample:
        tokens, offset = self._answered.inputs.row(index)
        model = _present(self._answered.answers[index])
        said = _present(self._answered.said_by(program)[index])
        differing = (i for i, (m, s) in enumerate(zip(model, said, strict=False)) if m != s)
        position = next(differing, min(len(model), len(said)))
        return Counterexample(tokens, offset, position, model, said, float("inf"), "enumeration")

    def distinguish(self, left: Program, right: Program) -> tuple[Row | None, str]:
        """Return an input on which two programs differ; without one they are equal on the domain."""
        same = same_answers(self._answered.said_by(left), self._answered.said_by(right))
        differing = np.flatnonzero(~same)
        if len(differing):
            return self._answered.inputs.row(int(differing[0])), "different"
        return None, "equal"


def n_wrong(task: SynthesisTask, program: Program) -> int:
    """Count the inputs on which a program is not the reference, from a domain enumerated and answered afresh.

    Every input is decided by the batched meaning; the reference interpreter is asked about some of them as well.
    """
    answered = AnsweredDomain(task)
    wrong = ~same_answers(answered.said_by(program), answered.answers)
    keys = answered.keys()
    vocabulary, readout = answered.domain.vocabulary, answered.domain.readout
    for i in range(0, len(keys), max(1, len(keys) // _INTERPRETED)):
        if answer(program, keys[i], vocabulary, readout) != answered.table[keys[i]]:
            wrong[i] = True
    return int(wrong.sum())


def _present(row: Codes) -> tuple[int, ...]:
    return tuple(int(code) for code in row if code != ABSENT)
