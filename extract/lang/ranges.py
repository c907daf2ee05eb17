"""Static integer ranges: a bound on every integer a term can compute, before anything is evaluated.

Batches compute in 32 bits; a term whose value could leave (-2^30, 2^30) is refused here instead of wrapping round.
This room knows the vocabulary and the greatest length, never an input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from extract.errors import ProgramError
from extract.lang.operators import MEAN_SCALE
from extract.lang.terms import Datum, Term
from extract.vocabulary import SYMBOL_BASE, Vocabulary, reads_as_integer

#: Least and greatest integer, both inclusive. Symbols are not counted: arithmetic reads them as 0.
Range = tuple[int, int]

_BIT: Range = (0, 1)


def integer_ranges(term: Term, vocabulary: Vocabulary, max_length: int, n_steps: int = 0) -> dict[Term, Range]:
    """Return the range of every subterm on inputs of up to ``max_length`` tokens and ``n_steps`` outputs.

    Raises:  ProgramError naming the operator whose result could leave (-2^30, 2^30).
    """
    ranges: dict[Term, Range] = {}
    tokens = _token_range(vocabulary)
    for subterm in term.subterms():
        arguments = [ranges[argument] for argument in subterm.arguments]
        low, high = _range(subterm, arguments, tokens, vocabulary, max(max_length, 1), max(n_steps, 1))
        if low <= -SYMBOL_BASE or high >= SYMBOL_BASE - 1:
            raise ProgramError(
                f"{subterm.operator} can reach {low if low <= -SYMBOL_BASE else high}, expected integers within 2^30",
                hint=f"on inputs of up to {max_length} tokens; take a remainder or a smaller factor",
            )
        ranges[subterm] = (low, high)
    return ranges


def _token_range(vocabulary: Vocabulary) -> Range:
    numbers = [int(n) for n in vocabulary.names if vocabulary.numeric and reads_as_integer(n)]
    return (min([*numbers, 0]), max([*numbers, 0]))


def _hull(ranges: Iterable[Range]) -> Range:
    pairs = list(ranges)
    return (min(low for low, _ in pairs), max(high for _, high in pairs))


def _datum_range(datum: Datum, vocabulary: Vocabulary) -> Range:
    if isinstance(datum, int):
        return (datum, datum)
    if isinstance(datum, str) and datum not in vocabulary.symbols and reads_as_integer(datum):
        return (int(datum), int(datum))
    return (0, 0)


def _range(
    term: Term, arguments: Sequence[Range], tokens: Range, vocabulary: Vocabulary, longest: int, n_steps: int
) -> Range:
    name = term.operator
    if name == "tokens":
        return tokens
    if name in ("indices", "length", "prompt_length", "rank", "count", "running_count", "selector_width"):
        return (0, longest)
    if name == "step":
        return (0, n_steps - 1)
    if name in ("integer", "symbol"):
        return _datum_range(term.data[0], vocabulary)
    if name in _ARITHMETIC:
        found = _ARITHMETIC[name](arguments)
        return _hull([found, (0, 0)]) if name in ("min", "max") and vocabulary.numeric else found
    if name in ("sum_over", "mean"):
        low, high = arguments[1]
        scale = longest if name == "sum_over" else MEAN_SCALE
        return (min(0, scale * low), max(0, scale * high))
    if name in ("first", "last", "min_over", "max_over"):
        return _hull([*arguments[1:], (0, 0)])
    if name == "shift":
        return _hull([*arguments, (0, 0)])
    if name == "if":
        return _hull(arguments[1:])
    if name in ("table", "table2"):
        entries, default = term.data
        listed = [entry[-1] for entry in entries if isinstance(entry, tuple)] if isinstance(entries, tuple) else []
        return _hull(_datum_range(value, vocabulary) for value in (*listed, default))
    if name == "scan":
        return (0, len(term.data[2]) if isinstance(term.data[2], tuple) else 0)
    if name == "horner":
        return _horner_range(term, arguments[0], longest)
    return _BIT


def _horner_range(term: Term, value: Range, longest: int) -> Range:
    a, m = (int(datum) for datum in term.data if isinstance(datum, int))
    if m > 0:
        return (0, m - 1)
    low = high = 0
    for _ in range(longest):
        products = (a * low, a * high)
        low, high = min(low, min(products) + value[0]), max(high, max(products) + value[1])
        if low <= -SYMBOL_BASE or high >= SYMBOL_BASE:
            break
    return (low, high)


def _product(arguments: Sequence[Range]) -> Range:
    corners = [x * y for x in arguments[0] for y in arguments[1]]
    return (min(corners), max(corners))


def _absolute(arguments: Sequence[Range]) -> Range:
    low, high = arguments[0]
    return (0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high)))


def _quotient(arguments: Sequence[Range]) -> Range:
    (low, high), (divisor, _) = arguments
    return (low // divisor, high // divisor)


def _remainder(arguments: Sequence[Range]) -> Range:
    (low, high), (divisor, _) = arguments
    return (low, high) if low >= 0 and high < divisor else (0, divisor - 1)


_ARITHMETIC: dict[str, Callable[[Sequence[Range]], Range]] = {
    "+": lambda a: (a[0][0] + a[1][0], a[0][1] + a[1][1]),
    "-": lambda a: (a[0][0] - a[1][1], a[0][1] - a[1][0]),
    "*": _product,
    "//": _quotient,
    "%": _remainder,
    "min": lambda a: (min(a[0][0], a[1][0]), min(a[0][1], a[1][1])),
    "max": lambda a: (max(a[0][0], a[1][0]), max(a[0][1], a[1][1])),
    "abs": _absolute,
}
