"""Features: what arithmetic descriptions are made of, as terms with their values on a set of inputs.

Per position: tokens and what they were k steps ago, running counts of symbol classes and their differences, least and
greatest values so far, running sums, base-b values (Horner) with and without a modulus. For an answer per input the
same things read at the end, and counts over the input. It knows no goal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.errors import ProgramError
from extract.lang.batched import Batch, evaluate_term
from extract.lang.cost import cost
from extract.lang.terms import Term
from extract.search.builders import EVERYWHERE, INDICES, LENGTH, TOKENS, constant, datum, integer, last_of
from extract.vocabulary import Vocabulary

Cells = NDArray[np.int64]

_MOST_LETTERS = 8
_MOST_SPLIT_LETTERS = 6
_MOST_PAIRED_LETTERS = 4
_SHIFTS = range(1, 8)
_MODULI = range(2, 10)
_WINDOWS = (4, 8, 16, 32)
UPTO = Term("upto")


@dataclass(frozen=True, slots=True)
class Feature:
    """A term with its values on the cells that count. Shape: ``values`` [cell]. ``vocabulary`` names the values where
    they are symbols; ``is_token`` says that they are tokens, which have no remainders."""

    term: Term
    values: Cells
    cost: int
    is_token: bool = False
    vocabulary: Vocabulary | None = None

    @property
    def is_symbol(self) -> bool:
        """Whether the values are symbols, which only equality may compare with a constant."""
        return self.vocabulary is not None

    def on(self, cells: NDArray[np.bool_]) -> Feature:
        """Return the feature on some of its cells."""
        return Feature(self.term, self.values[cells], self.cost, self.is_token, self.vocabulary)

    def constant(self, value: int) -> Term:
        """Return the constant that this value is written as."""
        return integer(value) if self.vocabulary is None else constant(value, self.vocabulary)


class FeatureSet:
    """The features of one batch of inputs for answers of one shape.

    ``open_cells`` [input, position] are cells that do not count though they exist. ``all`` holds the features cheapest
    first; of features with the same values, the first. ``past`` is what somebody added to them about earlier positions,
    kept because it is dear.
    """

    def __init__(
        self, batch: Batch, domain: Domain, *, is_whole: bool, open_cells: NDArray[np.bool_] | None = None
    ) -> None:
        self.batch, self.domain, self.is_whole = batch, domain, is_whole
        self.mask = batch.mask if open_cells is None else batch.mask & ~open_cells
        self._cache: dict[Term, Any] = {}
        terms = sorted(dict.fromkeys(_terms(domain, is_whole)), key=cost)
        self.all = self.evaluated(terms)
        self.past: list[Feature] | None = None

    def evaluated(self, terms: list[Term]) -> list[Feature]:
        """Return the features of terms of the answer's shape, one for each sequence of values."""
        seen: set[bytes] = set()
        found = []
        for term in terms:
            feature = self.feature(term)
            if feature is not None and feature.values.tobytes() not in seen:
                seen.add(feature.values.tobytes())
                found.append(feature)
        return found

    def feature(self, term: Term) -> Feature | None:
        """Evaluate one term; None where the language refuses it (badly sorted, or too large for 32 bits)."""
        try:
            grid = evaluate_term(term, self.batch, self.domain.vocabulary, self._cache)
        except ProgramError:
            return None
        is_token, vocabulary = _is_token(term), self.domain.vocabulary
        names = vocabulary if is_token and not vocabulary.numeric else None
        return Feature(term, self.cells(grid), cost(term), is_token, names)

    def cells(self, grid: NDArray[Any]) -> Cells:
        """Return the cells that count. Shape: [input, 1 or position] -> [cell]."""
        if self.is_whole:
            return grid[:, 0].astype(np.int64)
        return np.broadcast_to(grid, self.mask.shape)[self.mask].astype(np.int64)


def _is_token(term: Term) -> bool:
    if term.operator in ("shift", "last", "first", "min_over", "max_over"):
        return _is_token(term.arguments[0 if term.operator == "shift" else 1])
    return term.operator == "tokens"


def letter_classes(domain: Domain) -> list[tuple[Term, Term]]:
    """Return booleans of one token, each with a short form of its opposite."""
    vocabulary = domain.vocabulary
    codes = [int(vocabulary.token_codes[token]) for token in domain.alphabet]
    single = [Term("==", (TOKENS, constant(code, vocabulary))) for code in codes[:_MOST_LETTERS]]
    found = [(b, Term("not", (b,))) for b in single]
    if len(codes) == 2:
        found = [(single[0], single[1]), (single[1], single[0])]
    if vocabulary.numeric and len(codes) > 2:
        found += [(Term("==", (Term("%", (TOKENS, integer(m))), integer(r))),) * 2 for m in (2, 3) for r in range(m)]
        found += [
            (Term("<", (TOKENS, integer(c))), Term("<=", (integer(c), TOKENS))) for c in sorted(codes)[1:_MOST_LETTERS]
        ]
        found = [(b, Term("not", (b,)) if b == other else other) for b, other in found]
    if len(codes) <= _MOST_SPLIT_LETTERS:
        for size in range(2, len(codes) // 2 + 1):
            for chosen in combinations(range(len(codes)), size):
                either = single[chosen[0]]
                for i in chosen[1:]:
                    either = Term("or", (either, single[i]))
                found.append((either, Term("not", (either,))))
    return found


def letter_values(domain: Domain) -> list[Term]:
    """Return integers of one token: itself where it is a number, else whether it is a letter, and its rank."""
    vocabulary = domain.vocabulary
    if vocabulary.numeric:
        return [TOKENS]
    codes = [int(vocabulary.token_codes[token]) for token in domain.alphabet]
    equal = [Term("int", (Term("==", (TOKENS, constant(code, vocabulary))),)) for code in codes[:_MOST_LETTERS]]
    if len(codes) <= 2:
        return equal[::-1]
    if len(codes) > _MOST_LETTERS:
        return []
    entries = tuple((datum(code, vocabulary), i) for i, code in enumerate(codes) if i)
    return [Term("table", (TOKENS,), (entries, 0)), *equal]


def _terms(domain: Domain, is_whole: bool) -> Iterator[Term]:
    for term in _position_terms(domain):
        yield at_end(term) if is_whole else term
    if is_whole:
        yield Term("first", (EVERYWHERE, TOKENS))


def at_end(term: Term) -> Term:
    """Return what a per-position term is at the last position, in its shortest form."""
    if term.operator == "running_count":
        return Term("count", term.arguments)
    if term == INDICES:
        return LENGTH
    if term.operator in ("-", "min"):
        return Term(term.operator, (at_end(term.arguments[0]), at_end(term.arguments[1])))
    if not term.arguments:
        return last_of(term) if term == TOKENS else term
    if term.operator == "horner" and term.data == (1, 0):
        return Term("sum_over", (EVERYWHERE, term.arguments[0]))
    if term.operator in ("min_over", "max_over") and term.arguments[0] == UPTO:
        return Term(term.operator, (EVERYWHERE, *term.arguments[1:]))
    return last_of(term)


def _position_terms(domain: Domain) -> Iterator[Term]:
    yield TOKENS
    yield INDICES
    yield Term("horner", (INDICES,), (1, 0))
    for k in _SHIFTS:
        yield Term("shift", (TOKENS,), (k,))
    classes = [b for b, _ in letter_classes(domain)]
    counts = [Term("running_count", (b,)) for b in classes]
    yield from counts
    yield from _depths(domain, counts)
    yield from _nestings(domain)
    for x in letter_values(domain):
        yield x
        yield from _values_so_far(x, domain)


def _depths(domain: Domain, counts: list[Term]) -> Iterator[Term]:
    n_letters = min(len(domain.alphabet), _MOST_LETTERS)
    pairs = list(combinations(counts[:n_letters], 2)) if n_letters <= _MOST_PAIRED_LETTERS else []
    if n_letters == _MOST_PAIRED_LETTERS and not domain.vocabulary.numeric:
        split = counts[n_letters:]
        pairs += [(split[i], split[-1 - i]) for i in range(len(split) // 2)]  # a class and its complement
    for left, right in pairs:
        depth = Term("-", (left, right))
        yield depth
        yield Term("min_over", (UPTO, depth))
        yield Term("max_over", (UPTO, depth))
        for d in (depth, Term("-", (right, left))):  # never below 0: what falls short is forgotten
            yield Term("-", (d, Term("min", (Term("min_over", (UPTO, d)), integer(0)))))


def _nestings(domain: Domain) -> Iterator[Term]:
    """Yield, for each way to take four letters as two kinds of brackets, the depth and the least of it so far, which a
    closing bracket of the wrong kind brings below 0.

    An opening bracket and the one that closes it cross the same level, and nothing between them does.
    """
    vocabulary = domain.vocabulary
    codes = [datum(int(vocabulary.token_codes[token]), vocabulary) for token in domain.alphabet]
    if len(codes) != _MOST_PAIRED_LETTERS:
        return
    longest = max(domain.lengths)
    for openers in combinations(codes, 2):
        ups = tuple((letter, 1) for letter in openers)
        depth = Term("horner", (Term("table", (TOKENS,), (ups, -1)),), (1, 0))
        yield depth
        level = Term("+", (depth, Term("shift", (depth,), (1,))))
        before = Term("and", (Term("before"), Term("select", (level, level), ("==",))))
        partner = Term("last", (before, TOKENS))
        for closers in permutations([letter for letter in codes if letter not in openers]):
            crossed = tuple(sorted(((o, c), longest) for o, c in zip(openers, closers, strict=True)))
            wrong = Term("table2", (partner, TOKENS), (crossed, 0))
            yield Term("min_over", (UPTO, Term("-", (depth, wrong))))


def _values_so_far(x: Term, domain: Domain) -> Iterator[Term]:
    vocabulary: Vocabulary = domain.vocabulary
    n = len(domain.alphabet)
    total = Term("horner", (x,), (1, 0))
    yield total
    if x == TOKENS:
        for m in _MODULI:
            if m < n:
                yield Term("%", (x, integer(m)))
                yield Term("//", (x, integer(m)))
        yield Term("abs", (x,))
        yield Term("shift", (Term("abs", (x,)),), (1,))
        yield Term("max_over", (UPTO, x))
        yield Term("min_over", (UPTO, x))
        yield Term("horner", (total,), (1, 0))
        for c in (1, 2):
            less = Term("horner", (Term("-", (x, integer(c))),), (1, 0))
            yield less
            yield Term("horner", (less,), (1, 0))
        yield from (Term("shift", (total,), (k,)) for k in _SHIFTS)
    bases = dict.fromkeys((2, n, 10) if vocabulary.numeric and n <= 10 else (2, min(n, 10)))
    for a in (-1, *bases):
        yield Term("horner", (x,), (a, 0))
    odd = Term("%", (INDICES, integer(2)))
    yield Term("horner", (Term("*", (x, odd)),), (1, 0))
    moduli = [*_MODULI, n] if vocabulary.numeric and n > max(_MODULI) else [*_MODULI]
    for a in dict.fromkeys((1, *bases)):
        for m in moduli:
            yield Term("horner", (x,), (a, m))
    if n <= 2:
        for m in _WINDOWS[1:]:
            yield Term("horner", (x,), (2, m))
        # the same read backwards: each letter weighs 2 to the power of its index
        weights = Term("+", (Term("shift", (Term("horner", (integer(1),), (2, 0)),), (1,)), integer(1)))
        yield Term("horner", (Term("*", (x, weights)),), (1, 0))
