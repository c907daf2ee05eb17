"""Which named fragment of RASP a program lies in: a label for reports, never a condition for anything.

C-RASP (Yang and Chiang 2024, "Counting Like Transformers") has prefix counts of booleans, linear combinations of
them, comparisons of those, and boolean combinations; position-wise choices between outputs are read as one boolean
per output. Tests of a token against a constant are its atoms.
"""

from __future__ import annotations

from typing import Literal

from extract.lang.terms import Program, Term

Dialect = Literal["C-RASP", "RASP"]


def dialect(program: Program) -> Dialect:
    """Return ``C-RASP`` if every output is a boolean (or a choice between constants by booleans) of that fragment."""
    answers = {"value": _is_choice, "every": _is_choice, "multilabel": _is_boolean}.get(program.adapter)
    return "C-RASP" if answers is not None and all(answers(term) for term in program.terms()) else "RASP"


def _is_choice(term: Term) -> bool:
    if term.operator == "if":
        condition, then, otherwise = term.arguments
        return _is_boolean(condition) and _is_choice(then) and _is_choice(otherwise)
    return term.operator in ("integer", "symbol")


def _is_boolean(term: Term) -> bool:
    name, arguments = term.operator, term.arguments
    if name == "boolean":
        return True
    if name in ("and", "or", "not"):
        return all(_is_boolean(argument) for argument in arguments)
    if name in ("all", "any"):
        return _is_boolean(arguments[0])
    if name == "==" and {argument.operator for argument in arguments} == {"tokens", "symbol"}:
        return True
    return name in ("==", "<", "<=") and all(_is_linear(argument) for argument in arguments)


def _is_linear(term: Term) -> bool:
    """Say whether an integer is a linear combination of prefix counts, the position and constants."""
    name, arguments = term.operator, term.arguments
    if name in ("integer", "indices", "length"):
        return True
    if name in ("count", "running_count"):
        return _is_boolean(arguments[0])
    if name == "selector_width":
        return _is_prefix(arguments[0])
    if name in ("+", "-"):
        return all(_is_linear(argument) for argument in arguments)
    if name == "*":
        return all(_is_linear(a) for a in arguments) and any(a.operator == "integer" for a in arguments)
    if name == "if":
        return _is_boolean(arguments[0]) and all(_is_linear(argument) for argument in arguments[1:])
    return name == "int" and _is_boolean(arguments[0])


def _is_prefix(selector: Term) -> bool:
    if selector.operator == "and":
        return all(_is_prefix(argument) for argument in selector.arguments)
    if selector.operator == "keys_where":
        return _is_boolean(selector.arguments[0])
    return selector.operator in ("before", "upto", "everywhere")
