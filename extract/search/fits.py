"""Short terms for a small table: arithmetic, remainders, extremes, comparisons and choices that give its entries.

Given the distinct keys of one or two terms and the value each wants, it proposes the forms that fit every entry; the
plain table comes last. It reads no cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Datum, Term
from extract.search.builders import choose, integer, symbol_or_integer
from extract.search.columns import Proposal, proposal
from extract.vocabulary import SYMBOL_BASE, Vocabulary

Array = NDArray[Any]
Valued = tuple[Term, Array]

_MOST_PROPOSED = 6
_SMALL_MODULI = tuple(range(2, 13))
_FACTORS = (1, -1, 2, 3)
#: A plain table needs so many cells per entry to be worth judging.
_CELLS_PER_ENTRY = 3


class Table(NamedTuple):
    """A goal as a function of one or two terms.

    Shapes: ``keys`` [entry, 1 or 2] narrow values, ``codes`` [entry] wanted codes (0 and 1 for a boolean goal).
    ``are_symbols`` says of each key whether its values are symbols; ``n_cells`` is how many cells showed the table.
    ``spare_bits`` are left of what the goal has to tell when the choice of the terms is paid for: a plain table must
    not take more.
    """

    terms: tuple[Term, ...]
    keys: Array
    codes: NDArray[np.int32]
    are_symbols: tuple[bool, ...]
    is_boolean: bool
    n_cells: int
    spare_bits: float


def fitted(table: Table, vocabulary: Vocabulary) -> list[Proposal]:
    """Return the cheapest forms that give every entry of a table; the plain table only where none does."""
    found = {proposal(term) for term in _forms(table, vocabulary)}
    if not found and _is_supported(table):
        found = {min(map(proposal, plain_tables(table, vocabulary)), key=lambda p: p.cost)}
    return sorted(found, key=lambda p: (p.cost, repr(p.term)))[:_MOST_PROPOSED]


def _is_supported(table: Table) -> bool:
    """Say whether a plain table says more of the goal than chance and its own entries would."""
    bits = len(table.codes) * math.log2(max(2, len(np.unique(table.codes))))
    return len(table.codes) * _CELLS_PER_ENTRY <= table.n_cells and bits <= table.spare_bits


def _forms(table: Table, vocabulary: Vocabulary) -> Iterator[Term]:
    wanted = table.codes.astype(np.int64)
    if len(table.terms) == 1 and not table.is_boolean:
        base = SYMBOL_BASE if table.are_symbols[0] else 0
        if (table.keys[:, 0].astype(np.int64) + base == wanted).all():
            yield table.terms[0]
            return
    codes = sorted({int(c) for c in wanted})
    if table.is_boolean:
        yield from _conditions(table, wanted == 1, vocabulary)
    elif len(codes) == 2:
        for condition in _conditions(table, wanted == codes[0], vocabulary):
            yield choose(condition, *(symbol_or_integer(c, vocabulary) for c in codes))
            if codes == [0, 1]:
                yield Term("-", (integer(1), Term("int", (condition,))))
        if codes == [0, 1]:
            yield from (Term("int", (c,)) for c in _conditions(table, wanted == 1, vocabulary))
    if not table.is_boolean:
        yield from _choices(table, wanted)
    if not table.is_boolean and not any(table.are_symbols) and codes[-1] < SYMBOL_BASE - 1:
        yield from _values(table, wanted)


# -- numbers --------------------------------------------------------------------------------------------------------
def _values(table: Table, wanted: Array) -> Iterator[Term]:
    columns = table.keys.astype(np.int64).T
    for term, values in _bases(table.terms, columns):
        yield from _affine(term, values, wanted)
        yield from _bounded(term, values, wanted)
        for m in _moduli(wanted):
            yield from _remainders(term, values, wanted, m)
        if len(table.terms) == 1:
            yield from _quotients(term, values, wanted)


def _bases(terms: tuple[Term, ...], columns: Array) -> Iterator[Valued]:
    """Yield the combinations of the keys whose affine images, remainders and bounds are tried."""
    if len(terms) == 1:
        yield terms[0], columns[0]
        yield Term("*", (terms[0], terms[0])), columns[0] * columns[0]
        yield Term("abs", (terms[0],)), np.abs(columns[0])
        return
    (a, x), (b, y) = zip(terms, columns, strict=True)
    yield Term("+", (a, b)), x + y
    yield Term("-", (a, b)), x - y
    yield Term("-", (b, a)), y - x
    yield Term("*", (a, b)), x * y
    yield Term("min", (a, b)), np.minimum(x, y)
    yield Term("max", (a, b)), np.maximum(x, y)
    yield Term("abs", (Term("-", (a, b)),)), np.abs(x - y)
    two = integer(2)
    for factor in (two, integer(3), integer(10)):
        k = int(str(factor.data[0]))
        yield Term("+", (Term("*", (a, factor)), b)), k * x + y
        yield Term("+", (a, Term("*", (b, factor)))), x + k * y
        yield Term("-", (Term("*", (a, factor)), b)), k * x - y
        yield Term("-", (a, Term("*", (b, factor)))), x - k * y


def shifted(term: Term, offset: int) -> Term:
    """Return a term plus a constant, as people write it."""
    if not offset:
        return term
    return Term("+" if offset > 0 else "-", (term, integer(abs(offset))))


def _affine(term: Term, values: Array, wanted: Array) -> Iterator[Term]:
    low, high = int(values.argmin()), int(values.argmax())
    span = int(values[high] - values[low])
    if not span or (int(wanted[high]) - int(wanted[low])) % span:
        return
    slope = (int(wanted[high]) - int(wanted[low])) // span
    offset = int(wanted[low]) - slope * int(values[low])
    if not slope or not (slope * values + offset == wanted).all():
        return
    if slope == -1:
        yield Term("-", (integer(offset), term))
    else:
        yield shifted(term if slope == 1 else Term("*", (term, integer(slope))), offset)


def _bounded(term: Term, values: Array, wanted: Array) -> Iterator[Term]:
    low, high = int(wanted.min()), int(wanted.max())
    for offset in sorted({0, *(int(d) for d in (wanted - values)[:4])}):
        moved, base = values + offset, shifted(term, offset)
        if (np.minimum(moved, high) == wanted).all():
            yield Term("min", (base, integer(high)))
        if (np.maximum(moved, low) == wanted).all():
            yield Term("max", (base, integer(low)))
        if low < high and (np.clip(moved, low, high) == wanted).all():
            yield Term("min", (Term("max", (base, integer(low))), integer(high)))
    centre = values[wanted == low]
    for c in sorted({int(v) for v in centre[:2]}):
        if c and (np.abs(values - c) + low == wanted).all():
            yield shifted(Term("abs", (shifted(term, -c),)), low)


def _moduli(wanted: Array) -> tuple[int, ...]:
    """Return the moduli that the values suggest: just above the greatest of them, and the small ones above that."""
    low, high = int(wanted.min()), int(wanted.max())
    if low < 0 or high < 1:
        return ()
    return tuple(sorted({high + 1, high + 2, high + 3, *(m for m in _SMALL_MODULI if m > high)}))


def _remainders(term: Term, values: Array, wanted: Array, m: int) -> Iterator[Term]:
    for factor in _FACTORS:
        offset = int(wanted[0] - factor * values[0]) % m
        if not ((factor * values + offset) % m == wanted).all():
            continue
        if factor == -1:
            yield Term("%", (Term("-", (integer(offset), term)), integer(m)))
        else:
            scaled = term if factor == 1 else Term("*", (term, integer(factor)))
            yield Term("%", (shifted(scaled, offset), integer(m)))
            if offset and m - offset < offset:
                yield Term("%", (shifted(scaled, offset - m), integer(m)))


def _quotients(term: Term, values: Array, wanted: Array) -> Iterator[Term]:
    for divisor in range(2, 13):
        for offset in range(divisor):
            if ((values + offset) // divisor == wanted).all():
                yield Term("//", (shifted(term, offset), integer(divisor)))
                break


def _choices(table: Table, wanted: Array) -> Iterator[Term]:
    """Yield one key or the other, chosen by comparing them."""
    if len(table.terms) != 2 or any(table.are_symbols):
        return
    columns = table.keys.astype(np.int64).T
    for left, right in ((0, 1), (1, 0)):
        a, b, x, y = table.terms[left], table.terms[right], columns[left], columns[right]
        constants = {int(w) for w in wanted[x >= y][:1]} | {int(w) for w in wanted[x < y][:1]}
        for c in sorted(constants):
            if c >= SYMBOL_BASE - 1:
                continue
            for then, t in ((a, x), (b, y)):
                if (np.where(x < y, t, c) == wanted).all():
                    yield choose(Term("<", (a, b)), then, integer(c))
                if (np.where(x < y, c, t) == wanted).all():
                    yield choose(Term("<", (a, b)), integer(c), then)
                if left == 0 and (np.where(x == y, c, t) == wanted).all():
                    yield choose(Term("==", (a, b)), integer(c), then)


# -- conditions -----------------------------------------------------------------------------------------------------
def _conditions(table: Table, holds: NDArray[np.bool_], vocabulary: Vocabulary) -> Iterator[Term]:
    """Yield booleans of the keys that hold exactly where they should."""
    if not holds.any() or holds.all():
        return
    columns = table.keys.astype(np.int64).T
    if len(table.terms) == 1 and table.are_symbols[0]:
        for value in (columns[0][holds], columns[0][~holds]):
            if len(value) == 1:
                equal = Term("==", (table.terms[0], _key_term(int(value[0]), True, vocabulary)))
                yield equal if holds.sum() == 1 else Term("not", (equal,))
        return
    if len(table.terms) == 1:
        yield from _thresholds([(table.terms[0], columns[0], True)], holds)
        return
    (a, x), (b, y) = zip(table.terms, columns, strict=True)
    if table.are_symbols[0] == table.are_symbols[1]:
        for left, right, p, q in ((a, b, x, y), (b, a, y, x)):
            for name, value in (("<", p < q), ("<=", p <= q), ("==", p == q)):
                if (value == holds).all():
                    yield Term(name, (left, right))
        if ((x != y) == holds).all():
            yield Term("not", (Term("==", (a, b)),))
    if not any(table.are_symbols):
        bases = [(base, values, base.operator in ("+", "-", "*")) for base, values in _bases(table.terms, columns)]
        yield from _thresholds(bases, holds)


def _thresholds(bases: list[tuple[Term, Array, bool]], holds: NDArray[np.bool_]) -> Iterator[Term]:
    """Yield comparisons with a constant that hold exactly where they should.

    They are of (term, its value per entry), and of the term's remainders where a third part says so.
    """
    sources: list[tuple[Term, int]] = []
    rows: list[Array] = []
    for term, values, has_remainders in bases:
        # a modulus above the span merges no values: it says no more than they do
        span = int(values.max() - values.min())
        moduli = (0, *(m for m in _SMALL_MODULI if m <= span)) if has_remainders else (0,)
        sources += [(term, m) for m in moduli]
        rows += [values % m if m else values for m in moduli]
    stack = np.stack(rows)
    inside, outside = stack[:, holds], stack[:, ~holds]
    bounds = np.stack([inside.min(axis=1), inside.max(axis=1), outside.min(axis=1), outside.max(axis=1)])
    low, high, out_low, out_high = bounds
    is_point = (low == high) & ~(outside == low[:, None]).any(axis=1)
    is_hole = (out_low == out_high) & ~(inside == out_low[:, None]).any(axis=1)
    for k in np.flatnonzero((high < out_low) | (out_high < low) | is_point | is_hole):
        term, m = sources[k]
        compared = Term("%", (term, integer(m))) if m else term
        first, last, out_first, out_last = (integer(int(bound)) for bound in bounds[:, k])
        if high[k] < out_low[k]:
            yield Term("<", (compared, out_first))
            yield Term("<=", (compared, last))
        if out_high[k] < low[k]:
            yield Term("<", (out_last, compared))
            yield Term("<=", (first, compared))
        if is_point[k]:
            yield Term("==", (compared, first))
        if is_hole[k]:
            yield Term("not", (Term("==", (compared, out_first)),))


# -- the plain table ------------------------------------------------------------------------------------------------
def plain_tables(table: Table, vocabulary: Vocabulary) -> Iterator[Term]:
    """Yield the table with its commonest value as the default, and with every entry listed."""
    codes = table.codes.tolist()
    commonest = max(sorted(set(codes)), key=codes.count)
    name = "table" if len(table.terms) == 1 else "table2"
    for keeps_all in (False, True):
        rows: list[Datum] = []
        for key, code in zip(table.keys.tolist(), codes, strict=True):
            if keeps_all or code != commonest:
                parts = tuple(_datum(int(k), s, vocabulary) for k, s in zip(key, table.are_symbols, strict=True))
                rows.append((parts[0] if len(parts) == 1 else parts, _code_datum(code, vocabulary)))
        term = Term(name, table.terms, (tuple(rows), _code_datum(commonest, vocabulary)))
        yield Term("==", (term, integer(1))) if table.is_boolean else term


def _datum(value: int, is_symbol: bool, vocabulary: Vocabulary) -> Datum:
    if not is_symbol:
        return value
    return vocabulary.symbols[value] if value >= 0 else ""


def _key_term(value: int, is_symbol: bool, vocabulary: Vocabulary) -> Term:
    datum = _datum(value, is_symbol, vocabulary)
    return Term("symbol" if is_symbol else "integer", (), (datum,))


def _code_datum(code: int, vocabulary: Vocabulary) -> Datum:
    return vocabulary.name(code) if code >= SYMBOL_BASE else "" if code == SYMBOL_BASE - 1 else code
