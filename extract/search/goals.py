"""Goals: what each output term must evaluate to on the probes, derived from the answers and the output adapter.

A goal knows its kind, its shape and its target cells; it does not know which model gave them. Real answers are whole
numbers to a goal wherever all of them are, so that everything that proposes integers proposes them; else they count
units of 1/720720, which only a mean can give (``lang/number_answers.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Adapter
from extract.oracle import ProbeSet
from extract.readout import ReadOut, widen
from extract.search.frame import Frame, Shape
from extract.vocabulary import ABSENT, NO_NUMBER, SYMBOL_BASE, UNDETERMINED, UNITS, Codes, Vocabulary


@dataclass(frozen=True, slots=True)
class Goal:
    """One output to be synthesized.

    ``codes`` [probe, query] are the wanted answer codes (0/1 for booleans), ``target`` the same as narrow values, and
    ``mask`` says which cells count: not those past an answer's end, nor those that the model leaves undetermined.
    ``tag`` is T when every wanted code is a symbol, N when every one is an integer, and empty when both occur (only an
    if-then-else can make those).
    """

    name: str
    kind: Literal["I", "B"]
    tag: Literal["T", "N", ""]
    shape: Shape
    codes: Codes
    target: NDArray[Any]
    mask: NDArray[np.bool_]

    def distinct_codes(self) -> tuple[int, ...]:
        """Return the wanted codes that occur, ascending."""
        return tuple(int(c) for c in np.unique(self.codes[self.mask]))


def adapter_of(readout: ReadOut) -> Adapter:
    """Return the output adapter that fits a read-out."""
    if readout.kind == "multilabel":
        return "multilabel"
    if readout.at == "generate":
        return "generate"
    return "every" if readout.at == "every" else "value"


def answer_unit(readout: ReadOut, *answers: Codes) -> int:
    """Return what the goals of some answers count: whole numbers of a real read-out where they can, else its units."""
    known = [codes[codes > NO_NUMBER] for codes in answers]
    is_whole = readout.kind == "value" and all((codes % UNITS == 0).all() for codes in known)
    return UNITS if is_whole else 1


def in_units(probes: ProbeSet, unit: int) -> ProbeSet:
    """Return probes with real answers as multiples of a unit; what is none is the answer of no program."""
    if unit == 1:
        return probes
    values = probes.answers.values
    whole = np.where(values % unit == 0, values // unit, NO_NUMBER).astype(np.int32)
    return replace(probes, answers=replace(probes.answers, values=np.where(values > NO_NUMBER, whole, values)))


def goals_of(probes: ProbeSet, frame: Frame, readout: ReadOut, vocabulary: Vocabulary) -> tuple[Goal, ...]:
    """Derive one goal per output of the program, in the order in which the program prints them."""
    values = probes.answers.values
    adapter = adapter_of(readout)
    if adapter == "multilabel":
        labels = readout.labels(vocabulary)
        return tuple(_goal(label, "B", "whole", values[:, i : i + 1], frame) for i, label in enumerate(labels))
    if adapter == "generate":
        n_steps = frame.care.shape[1]
        lengths = (values != ABSENT).sum(axis=1, dtype=np.int32)[:, None]
        output = _goal("output", "I", "step", values[:, :n_steps], frame)
        return output, _goal("output_length", "I", "whole", lengths, frame)
    shape: Shape = "position" if adapter == "every" else "whole"
    width = frame.n_queries(shape)
    return (_goal("output", "I", shape, widen(values, width)[:, :width], frame),)


def _goal(name: str, kind: Literal["I", "B"], shape: Shape, codes: Codes, frame: Frame) -> Goal:
    is_open = (codes == UNDETERMINED) | (codes == NO_NUMBER)  # no program answers what is no number
    mask = frame.mask(shape) & ~is_open
    codes = np.where(is_open, np.int32(0), codes)
    wanted = codes[mask]
    is_symbol = wanted >= SYMBOL_BASE
    tag: Literal["T", "N", ""] = "T" if is_symbol.all() and len(wanted) else "" if is_symbol.any() else "N"
    narrow = frame.narrow(codes)
    target = np.where(mask, narrow, 0).astype(narrow.dtype)
    if kind == "B":
        return Goal(name, "B", "", shape, codes, target.astype(np.bool_), mask)
    return Goal(name, "I", tag, shape, codes, target, mask)


def boolean_goal(goal: Goal, code: int) -> Goal:
    """Return the goal "the answer is this code": the condition of an if-then-else."""
    target = (goal.codes == code) & goal.mask
    return Goal(goal.name, "B", "", goal.shape, target.astype(np.int32), target, goal.mask)
