"""Cost: the order of "simpler", and the only place it is defined.

A program costs its distinct parts, shared ones once, because a reader (and a network) computes a shared part once.
Every part costs 1: a leaf, an elementwise operator, a selector, an aggregate; so one attention head, a selector and
an aggregate, costs what its two halves cost. An integer above 2 in absolute value costs 1 more than a part, because
0, 1 and 2 carry almost no choice.

What is listed must not be a cheap way to memorise, or a rule loses to its own tabulation. An automaton costs its
states plus its transitions that are not self-loops: each state is a case the reader must hold in mind, each move a
constant. A table costs 1 plus 2 for each entry that breaks its most regular form, because an entry states two
constants, a key and a value, as the condition and the branch of an if-then-else would, and 1 for a default that is
written. Unlisted keys go to the default, so which keys are listed is itself a statement: a rule for the listed keys
costs 1, its constants 1 each, and then 1 for each key that must be named, or, where the keys are integers, 2 for each
key left out of their range. A Horner value costs 1 more for a factor other than 1 and 1 more for a modulus: what the
text leaves out is free, so that ``x % 2`` is not dearer than a disguise of it.

Between programs of equal cost the search prefers the one that reads more easily (``reading_effort`` in
``search/builders.py``): arithmetic and conditions before tables and transition tables, then fewer nodes as a tree,
then equalities before order comparisons; then the printed text decides. A count modulo 3 and its three-state automaton
say the same; the count also says why. Cost rises strictly from a term to every term that contains it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from extract.lang.operators import OPERATORS
from extract.lang.terms import Datum, Program, Term


def cost(term: Term) -> int:
    """Return the cost of a term: the sum over its distinct subterms."""
    return sum(node_cost(subterm) for subterm in term.subterms())


def program_cost(program: Program) -> int:
    """Return the cost of a program: the sum over the distinct subterms of all its outputs."""
    return sum(node_cost(subterm) for subterm in distinct_subterms(program.terms()))


def distinct_subterms(terms: Iterable[Term]) -> list[Term]:
    """Return every distinct subterm of some terms once, arguments before their users."""
    found: dict[Term, None] = {}
    for term in terms:
        found.update(dict.fromkeys(term.subterms()))
    return list(found)


def node_cost(term: Term) -> int:
    """Return what one node adds to the cost of the terms that contain it."""
    row, data = OPERATORS[term.operator], term.data
    if row.name in ("table", "table2"):
        return row.cost + table_cost(data[0], data[1])
    if row.name == "scan":
        return row.cost + automaton_cost(data[2])
    if row.name == "horner":
        written = (data[0] != 1) + (data[1] != 0)
        return row.cost + written + sum(constant_cost(datum) for datum in data)
    if row.name in ("integer", "shift"):
        return row.cost + sum(constant_cost(datum) for datum in data)
    return row.cost


def constant_cost(datum: Datum) -> int:
    """Return what an integer constant adds: 0 up to 2 in absolute value, else 1."""
    return int(isinstance(datum, int) and abs(datum) > 2)


def automaton_cost(transitions: Datum) -> int:
    """Return the number of states plus the number of transitions that are not self-loops."""
    rows = transitions if isinstance(transitions, tuple) else ()
    moves = sum(target != state for state, row in enumerate(rows) if isinstance(row, tuple) for target in row)
    return len(rows) + moves


def table_cost(entries: Datum, default: Datum) -> int:
    """Return what the entries cost that break the table's most regular form.

    Twice the number, because an entry has a key and a value. Forms: the default; the identity; and, where keys and
    values are integers, affine a*k + b, or k mod m; of pairs, one of the two keys, their sum, difference or product,
    each also modulo m. A form other than the default costs 1, each constant in it 1, and its keys have to be stated.
    """
    listed = [entry for entry in entries if isinstance(entry, tuple)] if isinstance(entries, tuple) else []
    if not listed:
        return 0
    pairs = [(key if isinstance(key, tuple) else (key,), value) for key, value in listed]
    breaking = [_PER_ENTRY * sum(value != default for _, value in pairs)]
    stated = 1 + _keys_cost([key for key, _ in pairs])
    for free, form in _forms(pairs):
        breaking.append(stated + free + _PER_ENTRY * sum(form(key) != value for key, value in pairs))
    return min(breaking) + (default != 0)


def _keys_cost(keys: Sequence[Key]) -> int:
    """Return what it costs to say which keys are listed: each symbol; of integers, those left out of their range."""
    n_in_range = 1
    for parts in zip(*keys, strict=True):
        numbers = [part for part in parts if isinstance(part, int)]
        if len(numbers) < len(parts):
            return len(keys)
        n_in_range *= max(numbers) - min(numbers) + 1
    return min(len(keys), _PER_ENTRY * (n_in_range - len(keys)))


_PER_ENTRY = 2

Key = tuple[Datum, ...]
Form = Callable[[Key], Datum]


def _forms(pairs: Sequence[tuple[Key, Datum]]) -> list[tuple[int, Form]]:
    """Return candidate forms with the number of constants each has."""
    width = len(pairs[0][0])
    forms: list[tuple[int, Form]] = [(0, _projection(i)) for i in range(width)]
    numbers: list[tuple[tuple[int, ...], int]] = []
    for key, value in pairs:
        integers = tuple(part for part in key if isinstance(part, int))
        if len(integers) < width or not isinstance(value, int):
            return forms
        numbers.append((integers, value))
    bases: list[Callable[[Sequence[int]], int]] = (
        [lambda key: key[0]]
        if width == 1
        else [lambda key: key[0] + key[1], lambda key: key[0] - key[1], lambda key: key[0] * key[1]]
    )
    for base in bases:
        if width == 2:
            forms.append((0, _computed(base, 1, 0, 0)))
        forms += [(1, _computed(base, 1, 0, m)) for m in _moduli(numbers)]
        forms += [(1, _computed(base, a, b, 0)) for a, b in _lines([(base(key), value) for key, value in numbers])]
    return forms


def _projection(i: int) -> Form:
    return lambda key: key[i]


def _computed(base: Callable[[Sequence[int]], int], a: int, b: int, m: int) -> Form:
    def form(key: Key) -> int:
        value = a * base([part for part in key if isinstance(part, int)]) + b
        return value % m if m else value

    return form


def _moduli(numbers: Sequence[tuple[tuple[int, ...], int]]) -> list[int]:
    """Return the moduli worth trying: one more than the greatest value, if no value is negative."""
    values = [value for _, value in numbers]
    return [max(values) + 1] if min(values) >= 0 and max(values) > 0 else []


def _lines(points: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return integer lines through neighbouring points, so that a table with few exceptions still shows its line."""
    ordered = sorted(set(points))
    lines: dict[tuple[int, int], None] = {}
    for (x, y), (next_x, next_y) in pairwise(ordered):
        if next_x != x and next_y != y and (next_y - y) % (next_x - x) == 0:
            a = (next_y - y) // (next_x - x)
            lines[a, y - a * x] = None
    return list(lines)[:16]
