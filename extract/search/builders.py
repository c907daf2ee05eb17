"""Builds the terms that the stages propose, out of the language's rows.

It is the only place in search that spells operators, and it judges nothing.
"""

from __future__ import annotations

from extract.lang.operators import NO_SYMBOL
from extract.lang.terms import Datum, Term
from extract.vocabulary import SYMBOL_BASE, Vocabulary

#: The kernels' names of operators, as the language spells them.
NAMES: dict[str, str] = {
    "tokens": "tokens", "indices": "indices", "length": "length", "step": "step", "symbol": "symbol",
    "prompt_length": "prompt_length", "horner": "horner", "table": "table",
    "integer": "integer", "before": "before", "upto": "upto", "after": "after", "everywhere": "everywhere",
    "not": "not", "int": "int", "rank": "rank", "shift": "shift", "count": "count", "any": "any", "all": "all",
    "running_count": "running_count", "keys_where": "keys_where", "select": "select", "select_and": "and",
    "select_or": "or", "select_not": "not", "abs": "abs",
    "selector_width": "selector_width", "exists": "exists", "first": "first", "last": "last", "sum": "sum_over",
    "min_over": "min_over", "max_over": "max_over", "add": "+", "sub": "-", "mul": "*", "mod": "%",
    "floordiv": "//", "min": "min", "max": "max", "eq": "==", "lt": "<", "le": "<=", "and": "and", "or": "or",
}  # fmt: skip

TOKENS = Term("tokens")
INDICES = Term("indices")
LENGTH = Term("length")
STEP = Term("step")
EVERYWHERE = Term("everywhere")
#: Whether the same token stands earlier.
IS_REPEATED = Term("exists", (Term("and", (Term("before"), Term("select", (TOKENS, TOKENS), ("==",)))),))


_LISTINGS = frozenset({"scan", "table", "table2"})


def reading_effort(term: Term) -> tuple[int, int, int]:
    """Order terms of equal cost by how they read: listings (automata, tables) first of all, then nodes as a tree
    (shared parts counted at each use), then order comparisons, since ``x % 2 == 0`` says more than ``x % 2 < 1``."""
    parts = [reading_effort(argument) for argument in term.arguments]
    own = (term.operator in _LISTINGS, 1, term.operator in ("<", "<="))
    listings, nodes, comparisons = (sum(column) for column in zip(own, *parts, strict=True))
    return listings, nodes, comparisons


def integer(value: int) -> Term:
    """Return an integer constant."""
    return Term("integer", (), (value,))


def boolean(value: bool) -> Term:
    """Return a boolean constant."""
    return Term("boolean", (), (int(value),))


def symbol_or_integer(code: int, vocabulary: Vocabulary) -> Term:
    """Return the constant with this code: a quoted name or an integer."""
    if code == NO_SYMBOL:
        return Term("symbol", (), ("",))
    return Term("symbol", (), (vocabulary.name(code),)) if code >= SYMBOL_BASE else integer(code)


_COMMUTATIVE = frozenset({"+", "min", "max", "==", "and", "or"})
_CONSTANTS = frozenset({"integer", "symbol", "boolean"})


def readable(term: Term) -> Term:
    """Return the term with the constant of a commutative operator on the right, as people write it."""
    if term.operator in _COMMUTATIVE and len(term.arguments) == 2:
        left, right = term.arguments
        if left.operator in _CONSTANTS and right.operator not in _CONSTANTS:
            return Term(term.operator, (right, left), term.data)
    return term


def binary(name: str, left: Term, right: Term) -> Term:
    """Return an elementwise term, by the kernels' name of the operator."""
    return readable(Term(NAMES[name], (left, right)))


def choose(condition: Term, then: Term, otherwise: Term) -> Term:
    """Return an if-then-else."""
    return Term("if", (condition, then, otherwise))


def scaled(condition: Term, factor: int) -> Term:
    """Return a factor where a condition holds and 0 elsewhere; a table where it asks for one value."""
    key, value = condition.arguments if condition.operator == "==" else (condition, condition)
    if value.operator in _CONSTANTS and factor != 1:
        return Term("table", (key,), (((value.data[0], factor),), 0))
    return Term("int", (condition,)) if factor == 1 else Term("*", (Term("int", (condition,)), integer(factor)))


def last_of(values: Term, default: Term | None = None) -> Term:
    """Return the value at the last position of the input."""
    return Term("last", (EVERYWHERE, values) if default is None else (EVERYWHERE, values, default))


def ranks_by_count() -> list[Term]:
    """Return the ranks that sort tokens commonest or rarest first: each once, with its repeats behind all, and all."""
    ranks = []
    for other in ("!=", "=="):
        width = Term("selector_width", (Term("select", (TOKENS, TOKENS), (other,)),))
        ranks += [Term("rank", (choose(IS_REPEATED, LENGTH, width),)), Term("rank", (width,))]
    return ranks


def pick(keys: Term, query: Term, values: Term) -> Term:
    """Return the value at the first position whose key equals the query."""
    return Term("first", (Term("select", (keys, query), ("==",)), values))


def datum(code: int, vocabulary: Vocabulary) -> Datum:
    """Return a code as tables and automata list it: a name or an integer."""
    return vocabulary.name(code) if code >= SYMBOL_BASE else code


def constant(code: int, vocabulary: Vocabulary, *, is_boolean: bool = False) -> Term:
    """Return the constant an answer code stands for; codes of boolean answers are 0 and 1."""
    return boolean(bool(code)) if is_boolean else symbol_or_integer(code, vocabulary)


def table(key: Term, entries: dict[Datum, Datum]) -> Term:
    """Return a table of one key whose default is the commonest value."""
    values = list(entries.values())
    commonest = max(dict.fromkeys(values), key=values.count)
    return Term("table", (key,), (tuple((k, v) for k, v in entries.items() if v != commonest), commonest))


def table_of_pair(left: Term, right: Term, entries: dict[tuple[Datum, Datum], Datum]) -> Term:
    """Return a table of two keys whose default is the commonest value."""
    values = list(entries.values())
    commonest = max(dict.fromkeys(values), key=values.count)
    return Term("table2", (left, right), (tuple((k, v) for k, v in entries.items() if v != commonest), commonest))
