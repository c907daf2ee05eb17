"""Reads a learned machine as addition with a carry: the state is what is carried on, the answer what is left.

Long addition in base m, and any other steps "value of the token plus what was carried, divided by m", have two short
lines in place of a table with one row for each token and state. It works on the machine alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from extract.domain import Domain
from extract.lang.cost import cost
from extract.lang.terms import Datum, Term
from extract.search.automata import MooreMachine
from extract.search.builders import TOKENS, datum, integer, table
from extract.search.features import Feature
from extract.search.numbers import numbers
from extract.vocabulary import SYMBOL_BASE

_MOST_CARRIES = 4
_MOST_DIVISORS = 20


def carry_terms(machine: MooreMachine, domain: Domain) -> Iterator[Term]:
    """Yield ``(value + carry before) % m`` with the carry as a scan, where the answers of the machine's steps fit.

    What a state carries is read off its answers alone: next states may be arbitrary where the domain ends.
    """
    asked = [o for o in machine.outputs if o is not None]
    if not asked or not 0 <= min(asked) < max(asked) < SYMBOL_BASE:
        return
    m = max(asked) + 1
    steps = [[machine.outputs[target] for target in row] for row in machine.transitions]
    carried: list[int | None] = []
    for row in steps:
        more = {None if a is None or b is None else (a - b) % m for a, b in zip(row, steps[0], strict=True)}
        if len(more) > 1:
            return
        carried += more
    values: list[int] = []
    for answer, target in zip(steps[0], machine.transitions[0], strict=True):
        after = carried[target]
        if answer is None or after is None:
            return
        values.append(answer + m * after)
    n_carries = 1 + max(c for c in carried if c is not None)
    if 2 <= n_carries <= _MOST_CARRIES:
        yield from _spelled(values, n_carries, m, domain)


def _spelled(values: list[int], n_carries: int, m: int, domain: Domain) -> Iterator[Term]:
    value = _value_of_token(values, domain)
    letters = [v for v in sorted(set(values)) if any((v + c) // m != c for c in range(n_carries))]
    listed: tuple[Datum, ...] = tuple(letters)
    moves: tuple[Datum, ...] = tuple(tuple(min((v + c) // m, n_carries - 1) for v in letters) for c in range(n_carries))
    before = Term("shift", (Term("scan", (value,), (0, listed, moves)),), (1,))
    yield Term("%", (Term("+", (value, before)), integer(m)))


def _value_of_token(values: list[int], domain: Domain) -> Term:
    """Return the value of a token: arithmetic of its number where that is cheaper than a table."""
    codes = [int(domain.vocabulary.token_codes[token]) for token in domain.alphabet]
    listed = table(TOKENS, {datum(c, domain.vocabulary): v for c, v in zip(codes, values, strict=True)})
    if not domain.vocabulary.numeric:
        return listed
    x = np.array(codes, dtype=np.int64)
    parts = [Feature(TOKENS, x, 1)]
    for d in range(2, min(max(3, int(abs(x).max())), _MOST_DIVISORS)):
        divisor = integer(d)
        parts += [Feature(Term("//", (TOKENS, divisor)), x // d, 3), Feature(Term("%", (TOKENS, divisor)), x % d, 3)]
    found = [listed, *numbers(np.array(values, dtype=np.int64), parts)]
    return min(found, key=cost)
