"""Rewrites a found term into an equal, cheaper one with sympy; whatever comes out is a new candidate, judged again.

Arithmetic (+, -, * over any integer parts) goes through sympy's polynomials, connectives through its boolean
minimisation, capped at eight parts because it is exponential in them. Nothing here is trusted: rules that are right
over the integers could still be wrong for a sort or a width, and the gate would refuse the result.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy
from sympy.logic.boolalg import And, BooleanFalse, BooleanTrue, Not, Or, simplify_logic

from extract.lang.cost import cost
from extract.lang.terms import Term

_ARITHMETIC = frozenset({"+", "-", "*"})
_CONNECTIVES = frozenset({"and", "or", "not"})
_MOST_PARTS = 8


def simplified(term: Term) -> Iterator[Term]:
    """Yield cheaper terms that sympy holds equal to this one; usually none or one."""
    candidate = _rebuilt(term)
    for form in dict.fromkeys((candidate, _without_choices(candidate))):
        if form != term and cost(form) < cost(term):
            yield form


def _rebuilt(term: Term) -> Term:
    """Simplify bottom-up: arguments first, then the largest arithmetic or boolean region at the root."""
    arguments = tuple(_rebuilt(argument) for argument in term.arguments)
    term = Term(term.operator, arguments, term.data)
    if term.operator in _ARITHMETIC:
        return _cheaper(term, _arithmetic(term))
    if term.operator in _CONNECTIVES:
        return _cheaper(term, _connective(term))
    return term


# -- choices between 0 and 1 ----------------------------------------------------------------------------------------
def _without_choices(term: Term) -> Term:
    """Write ``0 if a else int(b)`` and the like as the integer of one condition, negations moved inwards."""
    condition = _as_condition(term)
    return Term("int", (condition,)) if condition is not None else term


def _as_condition(term: Term) -> Term | None:
    """Return the boolean of which a term is the integer, None if it is no such term."""
    if term.operator == "int":
        return term.arguments[0]
    if term.operator == "integer" and term.data[0] in (0, 1):
        return Term("boolean", (), term.data)
    if term.operator != "if":
        return None
    condition, *branches = term.arguments
    then, otherwise = (_as_condition(branch) for branch in branches)
    if then is None or otherwise is None:
        return None
    if then.operator == "boolean":
        return _joined("or", condition, otherwise) if then.data[0] else _joined("and", _opposite(condition), otherwise)
    if otherwise.operator == "boolean":
        return _joined("or", _opposite(condition), then) if otherwise.data[0] else _joined("and", condition, then)
    return None


def _joined(name: str, left: Term, right: Term) -> Term:
    """Return a conjunction or disjunction; a constant on the right decides it or drops out."""
    if right.operator == "boolean":
        return right if bool(right.data[0]) == (name == "or") else left
    return Term(name, (left, right))


def _opposite(condition: Term) -> Term:
    """Return the negation, written without ``not`` where the language has a word for it."""
    match condition.operator:
        case "not":
            return condition.arguments[0]
        case "<" | "<=":
            return Term("<=" if condition.operator == "<" else "<", condition.arguments[::-1])
        case "any" | "all":
            return Term("all" if condition.operator == "any" else "any", (_opposite(condition.arguments[0]),))
        case "and" | "or":
            swapped = "or" if condition.operator == "and" else "and"
            return Term(swapped, tuple(_opposite(argument) for argument in condition.arguments))
        case _:
            return Term("not", (condition,))


def _cheaper(term: Term, other: Term | None) -> Term:
    return other if other is not None and cost(other) < cost(term) else term


class _Parts:
    """Numbers the parts that sympy sees as symbols; the same part is the same symbol."""

    def __init__(self, *, boolean: bool) -> None:
        self._numbers: dict[Term, int] = {}
        self._boolean = boolean

    def symbol(self, term: Term) -> sympy.Symbol:
        number = self._numbers.setdefault(term, len(self._numbers))
        return sympy.Symbol(f"x{number}") if self._boolean else sympy.Symbol(f"x{number}", integer=True)

    def term(self, symbol: sympy.Symbol) -> Term:
        return list(self._numbers)[int(symbol.name[1:])]

    def __len__(self) -> int:
        return len(self._numbers)


# -- arithmetic -----------------------------------------------------------------------------------------------------
def _arithmetic(term: Term) -> Term | None:
    parts = _Parts(boolean=False)
    polynomial = sympy.expand(_to_sympy(term, parts))
    return _sum(polynomial, parts)


def _to_sympy(term: Term, parts: _Parts) -> sympy.Expr:
    if term.operator == "integer":
        return sympy.Integer(term.data[0])
    if term.operator in _ARITHMETIC:
        left, right = (_to_sympy(argument, parts) for argument in term.arguments)
        return {"+": left + right, "-": left - right, "*": left * right}[term.operator]
    return parts.symbol(term)


def _sum(polynomial: sympy.Expr, parts: _Parts) -> Term | None:
    positive: list[Term] = []
    negative: list[Term] = []
    for addend in sorted(sympy.Add.make_args(polynomial), key=lambda a: (a.is_number, str(a))):
        coefficient, factors = addend.as_coeff_mul()
        if not coefficient.is_Integer:
            return None
        term = _product(abs(int(coefficient)), list(factors), parts)
        if term is None:
            return None
        (positive if coefficient > 0 else negative).append(term)
    result = positive.pop(0) if positive else Term("integer", (), (0,))
    for term in positive:
        result = Term("+", (result, term))
    for term in negative:
        result = Term("-", (result, term))
    return result


def _product(coefficient: int, factors: list[sympy.Expr], parts: _Parts) -> Term | None:
    terms: list[Term] = []
    for factor in factors:
        base, exponent = factor.as_base_exp()
        if not base.is_Symbol or not exponent.is_Integer or exponent < 0:
            return None
        terms += [parts.term(base)] * int(exponent)
    if coefficient != 1 or not terms:
        terms.append(Term("integer", (), (coefficient,)))
    result = terms[0]
    for term in terms[1:]:
        result = Term("*", (result, term))
    return result


# -- connectives ----------------------------------------------------------------------------------------------------
def _connective(term: Term) -> Term | None:
    parts = _Parts(boolean=True)
    formula = _to_logic(term, parts)
    if len(parts) > _MOST_PARTS:
        return None
    return _from_logic(simplify_logic(formula, force=True), parts)


def _to_logic(term: Term, parts: _Parts) -> sympy.Basic:
    if term.operator == "boolean":
        return sympy.true if term.data[0] else sympy.false
    if term.operator in _CONNECTIVES:
        arguments = [_to_logic(argument, parts) for argument in term.arguments]
        return {"and": And, "or": Or, "not": Not}[term.operator](*arguments)
    return parts.symbol(term)


def _from_logic(formula: sympy.Basic, parts: _Parts) -> Term:
    if isinstance(formula, BooleanTrue | BooleanFalse):
        return Term("boolean", (), (int(bool(formula)),))
    if isinstance(formula, sympy.Symbol):
        return parts.term(formula)
    if isinstance(formula, Not):
        return Term("not", (_from_logic(formula.args[0], parts),))
    name = "and" if isinstance(formula, And) else "or"
    terms = [_from_logic(argument, parts) for argument in sorted(formula.args, key=str)]
    result = terms[0]
    for other in terms[1:]:
        result = Term(name, (result, other))
    return result
