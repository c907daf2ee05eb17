"""Positional arithmetic on the digits of an input: columns of equal place, sums and differences with their carries.

A carry needs no division: going down from a column, the first one that neither makes nor passes on a carry decides.
Separators, digit letters and the base are read off the probes; the terms are proposals, judged elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from extract.domain import Domain
from extract.lang.terms import Datum, Term
from extract.search.builders import INDICES, LENGTH, TOKENS, choose, integer
from extract.search.frame import Frame
from extract.vocabulary import SYMBOL_BASE

_MOST_DIGITS, _MOST_SEPARATORS = 16, 3
_AFTER, _BEFORE = Term("after"), Term("before")


@dataclass(frozen=True, slots=True)
class Source:
    """A term per position worth reading from, and sequence-wide terms that say where its digits begin or end."""

    term: Term
    marks: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How digits are stacked: ``keys`` names the column of each digit, ``columns`` the column that each position
    computes; a carry comes from the positions on the ``side``, nearest first. ``operand`` is 0 and 1 on the digits of
    the left and the right operand, where there are two."""

    keys: Term
    columns: Term
    side: Term
    operand: Term | None


def separators(frame: Frame, domain: Domain) -> tuple[int, ...]:
    """Return the letters (token ids) that occur exactly once in every probe."""
    vocabulary = domain.vocabulary
    found = []
    for token in domain.alphabet:
        code = int(vocabulary.token_codes[token])
        narrow = code - SYMBOL_BASE if code >= SYMBOL_BASE else code
        is_symbol = code >= SYMBOL_BASE
        if is_symbol and (((frame.tokens == narrow) & frame.valid).sum(axis=1) == 1).all():
            found.append(token)
    return tuple(found) if len(found) <= _MOST_SEPARATORS else ()


def digit_sources(frame: Frame, domain: Domain, marks: tuple[int, ...]) -> Iterator[Source]:
    """Yield digit sequences that arithmetic on the input's digits gives, plain columns first.

    ``marks`` are the separators. Cost: a handful of terms per way of stacking the digits.
    """
    read = _digits(domain, marks)
    if read is None:
        return
    digit, base = read
    for layout in _layouts(frame, domain, marks):
        stack = Term("select", (layout.keys, layout.columns), ("==",))
        column = Term("sum_over", (stack, digit))
        yield _marked(column, layout)
        yield _marked(_remainder("+", column, _carry(column, layout, base), base), layout)
        if layout.operand is not None:
            signed = choose(Term("==", (layout.operand, integer(0))), digit, Term("-", (integer(0), digit)))
            difference = Term("sum_over", (stack, signed))
            yield _marked(_remainder("-", difference, _borrow(difference, layout), base), layout)
    if not marks:
        yield from _successors(digit, base)


def _digits(domain: Domain, marks: tuple[int, ...]) -> tuple[Term, int] | None:
    """Return a term for the digit at each position (0 at separators) and the base."""
    vocabulary = domain.vocabulary
    letters = sorted(int(vocabulary.token_codes[t]) for t in domain.alphabet if t not in marks)
    if not 2 <= len(letters) <= _MOST_DIGITS:
        return None
    if letters[0] < SYMBOL_BASE:
        return (TOKENS, len(letters)) if letters == list(range(len(letters))) else None
    entries: tuple[Datum, ...] = tuple((vocabulary.name(code), i) for i, code in enumerate(letters) if i)
    return Term("table", (TOKENS,), (entries, 0)), len(letters)


def _layouts(frame: Frame, domain: Domain, marks: tuple[int, ...]) -> Iterator[Layout]:
    from_right, from_left = Term("selector_width", (_AFTER,)), INDICES
    if marks:
        names = [domain.vocabulary.names[token] for token in marks]
        is_mark = Term("==", (TOKENS, Term("symbol", (), (names[0],))))
        for name in names[1:]:
            is_mark = Term("or", (is_mark, Term("==", (TOKENS, Term("symbol", (), (name,))))))
        part = Term("running_count", (is_mark,))
        same = Term("select", (part, part), ("==",))
        to_the_right = Term("selector_width", (Term("and", (_AFTER, same)),))
        to_the_left = Term("selector_width", (Term("and", (_BEFORE, same)),))
        yield Layout(to_the_right, from_right, _AFTER, part)
        # a separator stands at the left end of the part it opens
        yield Layout(Term("-", (to_the_left, part)), from_left, _BEFORE, part)
        return
    lengths = set(frame.lengths.tolist())
    if len(lengths) == 1 and min(lengths) % 2 == 0 and min(lengths):
        half = integer(min(lengths) // 2)
        operand = Term("//", (INDICES, half))
        stacked = Term("%", (INDICES, half))
        # the first position is left for a carry out of the top column
        yield Layout(stacked, Term("-", (INDICES, integer(1))), _AFTER, operand)
        yield Layout(stacked, from_left, _BEFORE, operand)
    if all(n % 2 == 0 for n in lengths):
        pair, operand = Term("//", (INDICES, integer(2))), Term("%", (INDICES, integer(2)))
        yield Layout(pair, Term("-", (INDICES, integer(1))), _AFTER, operand)
        yield Layout(pair, from_left, _BEFORE, operand)


def _successors(digit: Term, base: int) -> Iterator[Source]:
    """Yield the digits of the number plus one and minus one, most and least significant digit first."""
    last = Term("==", (INDICES, Term("-", (LENGTH, integer(1)))))
    first = Term("==", (INDICES, integer(0)))
    for lowest, side in ((last, _AFTER), (first, _BEFORE)):
        layout = Layout(INDICES, INDICES, side, None)
        one = Term("int", (lowest,))
        up, down = Term("+", (digit, one)), Term("-", (digit, one))
        yield _marked(_remainder("+", up, _carry(up, layout, base), base), layout)
        yield _marked(_remainder("-", down, _borrow(down, layout), base), layout)


def _deciding(column: Term, neutral: int, layout: Layout) -> Term:
    """Return the nearest column on the carry's side that does not merely pass a carry on; 0 if there is none."""
    decides = Term("and", (layout.side, Term("select", (column, integer(neutral)), ("!=",))))
    return Term("first" if layout.side is _AFTER else "last", (decides, column))


def _carry(column: Term, layout: Layout, base: int) -> Term:
    return Term("int", (Term("<=", (integer(base), _deciding(column, base - 1, layout))),))


def _borrow(column: Term, layout: Layout) -> Term:
    return Term("int", (Term("<", (_deciding(column, 0, layout), integer(0))),))


def _remainder(sign: str, column: Term, carry: Term, base: int) -> Term:
    return Term("%", (Term(sign, (column, carry)), integer(base)))


def _marked(digits: Term, layout: Layout) -> Source:
    """Add where the leading digit is: the first (or, least significant first, the last) that is not zero."""
    nonzero = Term("select", (digits, integer(0)), ("!=",))
    if layout.side is _AFTER:
        return Source(digits, (Term("first", (nonzero, INDICES, Term("-", (LENGTH, integer(1))))),))
    return Source(digits, (Term("last", (nonzero, INDICES)),))
