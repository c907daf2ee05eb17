"""Builds the terms that the stages propose, out of the language's rows.

It is the only place in search that spells operators, and it judges nothing.
"""

from __future__ import annotations

from extract.domain import Domain
from extract.lang.operators import NO_SYMBOL
from extract.lang.terms import Datum, Term
from extract.search.automata import MooreMachine
from extract.vocabulary import SYMBOL_BASE, Vocabulary

#: The kernels' names of operators, as the language spells them.
NAMES: dict[str, str] = {
    "tokens": "tokens", "indices": "indices", "length": "length", "step": "step", "symbol": "symbol",
    "integer": "integer", "before": "before", "upto": "upto", "after": "after", "everywhere": "everywhere",
    "not": "not", "int": "int", "rank": "rank", "shift": "shift", "count": "count", "any": "any", "all": "all",
    "running_count": "running_count", "keys_where": "keys_where", "select": "select", "select_and": "and",
    "selector_width": "selector_width", "exists": "exists", "first": "first", "last": "last", "sum": "sum_over",
    "min_over": "min_over", "max_over": "max_over", "add": "+", "sub": "-", "mul": "*", "mod": "%",
    "floordiv": "//", "min": "min", "max": "max", "eq": "==", "lt": "<", "le": "<=", "and": "and", "or": "or",
}  # fmt: skip

TOKENS = Term("tokens")
INDICES = Term("indices")
LENGTH = Term("length")
STEP = Term("step")
EVERYWHERE = Term("everywhere")


def reading_effort(term: Term) -> tuple[int, int]:
    """Order terms of equal cost by how they read: nodes as a tree (shared parts counted at each use), then how many
    order comparisons, since ``x % 2 == 0`` says more than ``x % 2 < 1``."""
    parts = [reading_effort(argument) for argument in term.arguments]
    return 1 + sum(p[0] for p in parts), (term.operator in ("<", "<=")) + sum(p[1] for p in parts)


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


def last_of(values: Term, default: Term | None = None) -> Term:
    """Return the value at the last position of the input."""
    return Term("last", (EVERYWHERE, values) if default is None else (EVERYWHERE, values, default))


def pick(keys: Term, query: Term, values: Term) -> Term:
    """Return the value at the first position whose key equals the query."""
    return Term("first", (Term("select", (keys, query), ("==",)), values))


def final_state(machine: MooreMachine, domain: Domain, order: list[int]) -> Term:
    """Return the state after the whole input, states renumbered so that ``order[i]`` becomes i."""
    number = {state: i for i, state in enumerate(order)}
    vocabulary = domain.vocabulary
    letters: list[Datum] = []
    for token in domain.alphabet:
        code = int(vocabulary.token_codes[token])
        letters.append(vocabulary.name(code) if code >= SYMBOL_BASE else code)
    transitions: tuple[Datum, ...] = tuple(tuple(number[t] for t in machine.transitions[state]) for state in order)
    scan = Term("scan", (TOKENS,), (number[0], tuple(letters), transitions))
    return last_of(scan, integer(number[0]) if number[0] else None)


def machine_condition(machine: MooreMachine, domain: Domain) -> Term:
    """Return a boolean that holds when the machine ends in a state with output 1."""
    accepting = [s for s in range(machine.n_states) if machine.outputs[s] == 1]
    others = [s for s in range(machine.n_states) if machine.outputs[s] != 1]
    if not accepting or not others:
        return boolean(bool(accepting))
    state = final_state(machine, domain, accepting + others)
    if len(accepting) == 1:
        return Term("==", (state, integer(0)))
    return Term("<", (state, integer(len(accepting))))


def machine_output(machine: MooreMachine, domain: Domain) -> Term:
    """Return the output of the state in which the machine ends, as a chain of if-then-else over state numbers."""
    codes = [o for o in dict.fromkeys(machine.outputs) if o is not None]
    if not codes:
        return integer(0)
    order = sorted(range(machine.n_states), key=lambda s: (_position(codes, machine.outputs[s]), s))
    state = final_state(machine, domain, order)
    result = symbol_or_integer(codes[-1], domain.vocabulary)
    bound = machine.n_states
    for code in reversed(codes[:-1]):
        bound = sum(_position(codes, machine.outputs[s]) <= codes.index(code) for s in order)
        condition = Term("<", (state, integer(bound)))
        result = choose(condition, symbol_or_integer(code, domain.vocabulary), result)
    return result


def _position(codes: list[int], output: int | None) -> int:
    return codes.index(output) if output is not None else len(codes) - 1
