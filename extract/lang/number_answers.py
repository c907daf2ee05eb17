"""Answers to a real read-out: what number an output term stands for, in units of 1/720720. One rule, defined here.

``mean`` gives units already, so an output that is a ``mean`` is taken as it is. Any other integer is a whole number and
counts as so many times 720720 units (``vocabulary.whole_codes``). Of an if-then-else each branch is taken by its own
rule. A program therefore prints as it always did, ``mean(upto, int(tokens == 'x'))`` is the fraction it says, and no
operator is needed to tell fractions from whole numbers. What the checker takes a term for is defined there anew.

The root alone decides: ``mean(s, x) + 0`` is the whole number of units, and equals no model's answer but 0. ``mean``
rounds down, exact where the number of keys divides 720720, as 1 to 16 do; elsewhere the program answers the rounded
number, not the fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from extract.lang.terms import Program, Term
from extract.readout import ReadOut

Value = TypeVar("Value")


def number_answer(
    term: Term,
    units: Callable[[Term], Value],
    whole: Callable[[Term], Value],
    choice: Callable[[Term, Value, Value], Value],
) -> Value:
    """Return an output term's answer to a real read-out, put together from its parts in any representation.

    ``units`` gives the answer of a term that counts units, ``whole`` that of one whose value is a whole number,
    ``choice`` the one of two answers that a condition says.
    """
    if term.operator == "mean":
        return units(term)
    if term.operator == "if" and "mean" in _roots(term):
        condition, then, otherwise = term.arguments
        return choice(
            condition, number_answer(then, units, whole, choice), number_answer(otherwise, units, whole, choice)
        )
    return whole(term)


def counts_units(term: Term) -> bool | None:
    """Say whether an output term's value counts units (True) or whole numbers (False) on every input; None if both."""
    found = {name == "mean" for name in _roots(term)}
    return found.pop() if len(found) == 1 else None


def values_tell(programs: Sequence[Program], readout: ReadOut) -> bool:
    """Say whether the answers of some programs are equal exactly where the values of their output terms are.

    They are unless some count units and others whole numbers: different whole numbers have different codes.
    """
    if readout.kind != "value":
        return True
    counted = {counts_units(term) for program in programs for term in program.terms()}
    return counted in ({True}, {False})


def _roots(term: Term) -> set[str]:
    """Return the operators that an output's value may come from: its own, or those of the branches of choices."""
    if term.operator != "if":
        return {term.operator}
    return _roots(term.arguments[1]) | _roots(term.arguments[2])
