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
    if candidate != term and cost(candidate) < cost(term):
        yield candidate


def _rebuilt(term: Term) -> Term:
    """Simplify bottom-up: arguments first, then the largest arithmetic or boolean region at the root."""
    arguments = tuple(_rebuilt(argument) for argument in term.arguments)
    term = Term(term.operator, arguments, term.data)
    if term.operator in _ARITHMETIC:
        return _cheaper(term, _arithmetic(term))
    if term.operator in _CONNECTIVES:
        return _cheaper(term, _connective(term))
    return term


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
