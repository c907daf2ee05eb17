"""The oracle: a total function from the domain to answers, and the probes asked of it.

Search and proof see networks only through this interface, so both are tested without one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.readout import Answers, Inputs, widen
from extract.table_model import TableModel
from extract.vocabulary import ABSENT, Codes


class Oracle(ABC):
    """A model behind membership queries.

    Implementations answer every input whose tokens are in the vocabulary, also outside the promise, and answer the
    same input the same way every time.
    """

    domain: Domain

    @abstractmethod
    def answer(self, inputs: Inputs) -> Answers:
        """Answer a batch of inputs of any lengths and offsets, in order."""


@final
class TableOracle(Oracle):
    """An oracle made of a Python function on codes: for tests and benchmarks.

    ``function`` maps a tuple of token codes to a tuple of answer codes; every margin is infinite.
    """

    def __init__(self, domain: Domain, function: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
        self.domain = domain
        self._function = function

    def answer(self, inputs: Inputs) -> Answers:
        """Answer by calling the function once per input."""
        codes = inputs.codes(self.domain.vocabulary)
        rows = [
            self._function(tuple(int(c) for c in codes[i, :n])) for i, n in enumerate(int(n) for n in inputs.lengths)
        ]
        width = max((len(row) for row in rows), default=0)
        values: Codes = np.concatenate(
            [widen(np.array([row], dtype=np.int32).reshape(1, -1), width) for row in rows]
            or [np.zeros((0, width), dtype=np.int32)]
        )
        return Answers(values, np.full(len(rows), np.inf))


@final
class LookupOracle(Oracle):
    """A table of inputs and outputs behind membership queries: every answer is a row, every margin infinite.

    An input that the table does not hold has no answer: ABSENT in every cell and margin 0, which decides nothing.
    """

    def __init__(self, table: TableModel, domain: Domain) -> None:
        self.domain, self.table = domain, table
        readout = domain.readout
        codes = domain.vocabulary.output_codes if readout.kind != "multilabel" else np.arange(2, dtype=np.int32)
        self._codes = np.append(codes, np.int32(ABSENT))

    def answer(self, inputs: Inputs) -> Answers:
        """Answer by looking rows up, all inputs at once; offsets mean nothing to a table."""
        tokens = np.where(np.arange(inputs.tokens.shape[1]) < inputs.lengths[:, None], inputs.tokens, -1)
        rows = self.table.find(tokens.astype(np.int32))
        values: Codes = self._codes[self.table.outputs[rows]]
        values[rows < 0] = ABSENT
        n_used = self._width(inputs, values)
        return Answers(widen(values, n_used)[:, :n_used], np.where(rows < 0, 0.0, np.inf))

    def _width(self, inputs: Inputs, values: Codes) -> int:
        """Return the cells of the widest answer that the read-out can have on these inputs."""
        readout = self.domain.readout
        if readout.kind == "multilabel":
            return len(readout.choices)
        if readout.at == "generate":
            return int((values != ABSENT).any(axis=0).sum())
        return int(inputs.lengths.max(initial=0)) if readout.at == "every" else 1


@final
@dataclass(frozen=True, slots=True)
class ProbeSet:
    """Chosen inputs with their answers, in order; extended only by making a new one."""

    inputs: Inputs
    answers: Answers

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: NDArray[np.intp]) -> ProbeSet:
        """Return some of the probes with their answers, in the order asked for."""
        return ProbeSet(self.inputs.take(index), self.answers.take(index))

    def extended(self, oracle: Oracle, rows: list[tuple[tuple[int, ...], int]]) -> ProbeSet:
        """Return a new probe set with more inputs, asked of the oracle; inputs already present are not repeated, and
        those whose whole answer is undetermined say nothing."""
        known = {self.inputs.row(i) for i in range(len(self))}
        fresh = [row for row in dict.fromkeys(rows) if row not in known]
        if not fresh:
            return self
        extra = oracle.answer(Inputs.of(fresh))
        kept = np.flatnonzero(extra.says_something)
        if not len(kept):
            return self
        extra, fresh = extra.take(kept), [fresh[i] for i in kept]
        inputs = Inputs.of([self.inputs.row(i) for i in range(len(self))] + fresh)
        width = max(self.answers.values.shape[1], extra.values.shape[1])
        values = np.concatenate([widen(self.answers.values, width), widen(extra.values, width)])
        return ProbeSet(inputs, Answers(values, np.concatenate([self.answers.margins, extra.margins])))
