"""The oracle: a total function from the domain to answers, and the probes asked of it.

Search and proof see networks only through this interface, so both are tested without one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from extract.domain import Domain
from extract.readout import Answers, Inputs, widen
from extract.vocabulary import Codes


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
    """An oracle made of a Python function on codes: for tests, benchmarks and tables of inputs and outputs.

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
@dataclass(frozen=True, slots=True)
class ProbeSet:
    """Chosen inputs with their answers, in order; extended only by making a new one."""

    inputs: Inputs
    answers: Answers

    def __len__(self) -> int:
        return len(self.inputs)

    def extended(self, oracle: Oracle, rows: list[tuple[tuple[int, ...], int]]) -> ProbeSet:
        """Return a new probe set with more inputs, asked of the oracle; inputs already present are not repeated."""
        known = {self.inputs.row(i) for i in range(len(self))}
        fresh = [row for row in dict.fromkeys(rows) if row not in known]
        if not fresh:
            return self
        inputs = Inputs.of([self.inputs.row(i) for i in range(len(self))] + fresh)
        extra = oracle.answer(Inputs.of(fresh))
        width = max(self.answers.values.shape[1], extra.values.shape[1])
        values = np.concatenate([widen(self.answers.values, width), widen(extra.values, width)])
        return ProbeSet(inputs, Answers(values, np.concatenate([self.answers.margins, extra.margins])))
