"""One answer for a whole input, read at every position: such a model is searched as if its last position were read.

A tenth of the cells then say as much, and whatever describes one answer per input applies: machines, counts, divisions.
A program found this way answers the same at every position. It is judged on whole domains like any other, and the first
input that answers in two ways ends the view.
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np

from extract.domain import Domain
from extract.oracle import Oracle, ProbeSet
from extract.readout import Answers, Inputs
from extract.vocabulary import ABSENT, UNDETERMINED


@final
class LastCellOracle(Oracle):
    """A model read at every position, behind the answer at its last one."""

    def __init__(self, asked: Oracle) -> None:
        self._asked = asked
        self.domain: Domain = replace(asked.domain, readout=replace(asked.domain.readout, at="last"))

    def answer(self, inputs: Inputs) -> Answers:
        """Answer a batch. Shape: one cell for each input."""
        return _last_cells(inputs, self._asked.answer(inputs))


def is_uniform(domain: Domain, probes: ProbeSet) -> bool:
    """Say whether every probe is answered the same at all its positions, where the model decides."""
    if domain.readout.at != "every" or domain.min_length == 0 or not len(probes):
        return False
    values = probes.answers.values
    last = _last_cells(probes.inputs, probes.answers).values
    return bool(((values == last) | (values == ABSENT)).all()) and not bool((values == UNDETERMINED).any())


def as_last_cells(probes: ProbeSet) -> ProbeSet:
    """Return the probes with the answers at their last positions."""
    return ProbeSet(probes.inputs, _last_cells(probes.inputs, probes.answers))


def _last_cells(inputs: Inputs, answers: Answers) -> Answers:
    at = np.maximum(inputs.lengths.astype(np.intp) - 1, 0)[:, None]
    if not answers.values.shape[1]:
        return answers
    return Answers(np.take_along_axis(answers.values, at, axis=1), answers.margins)
