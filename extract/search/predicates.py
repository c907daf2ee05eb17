"""Fits conditions to wanted truth values: predicates of one or two features, and conjunctions and disjunctions of them.

A predicate is proposed only where it holds on every wanted cell, and then the tightest of its form, so that two of them
make a conjunction exactly when no unwanted cell satisfies both: one matrix product decides all pairs. Disjunctions are
conjunctions of the opposite. It knows no inputs, only cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.lang.cost import cost
from extract.lang.terms import Term
from extract.search.builders import boolean, integer
from extract.search.features import Feature

Bools = NDArray[np.bool_]

_MODULI = range(2, 10)
_MOST_COMPARED = 128
_MOST_PREDICATES = 640
_MOST_COMPARISONS = 256
_MOST_FOUND = 12
_MOST_TRIED = 48
#: Cells on which pairs of features are compared first; what survives is compared on all.
_FIRST_CELLS = 384
_COEFFICIENTS = ((1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2))


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition and where it holds. Shape: [cell]."""

    term: Term
    holds: Bools
    cost: int


def conditions(wanted: Bools, features: Sequence[Feature]) -> list[Term]:
    """Return conditions that hold exactly on the wanted cells, cheapest first.

    Cost:    O(predicates² * cells) multiply-adds, and the same for comparisons of features.
    """
    if wanted.all() or not wanted.any():
        return [boolean(bool(wanted.all()))]
    found = {p.term: p.cost for p in _around(wanted, features) if not (p.holds & ~wanted).any()}
    for term in _opposites(wanted, features):
        found.setdefault(term, cost(term))
    for term in _sums(wanted, features) if len(found) < _MOST_FOUND else ():
        found.setdefault(term, cost(term))
    for is_opposite in (False, True):
        goal = ~wanted if is_opposite else wanted
        for left, right in _conjunctions(goal, _around(goal, features)):
            both = Term("or", (opposite(left), opposite(right))) if is_opposite else Term("and", (left, right))
            found.setdefault(both, cost(both))
    return sorted(found, key=lambda term: (found[term], repr(term)))[:_MOST_FOUND]


def opposite(condition: Term) -> Term:
    """Return the condition that holds where another does not, without a needless ``not``."""
    if condition.operator == "not":
        return condition.arguments[0]
    if condition.operator in ("<", "<="):
        left, right = condition.arguments
        return Term("<=" if condition.operator == "<" else "<", (right, left))
    return Term("not", (condition,))


def _opposites(wanted: Bools, features: Sequence[Feature]) -> Iterator[Term]:
    """Yield the opposites of single predicates that hold exactly where nothing is wanted."""
    for p in _around(~wanted, features):
        if not (p.holds & wanted).any():
            yield opposite(p.term)


def _around(wanted: Bools, features: Sequence[Feature]) -> list[Predicate]:
    """Return the tightest predicates that hold on all wanted cells, cheapest first, one for each set of cells."""
    found: dict[bytes, Predicate] = {}
    for p in [*_of_one(wanted, features), *_of_two(wanted, features)]:
        key = np.packbits(p.holds).tobytes()
        if key not in found or p.cost < found[key].cost:
            found[key] = p
    return sorted(found.values(), key=lambda p: p.cost)[:_MOST_PREDICATES]


def _of_one(wanted: Bools, features: Sequence[Feature]) -> Iterator[Predicate]:
    for f in features:
        inside = f.values[wanted]
        low, high = int(inside.min()), int(inside.max())
        for term, holds in _ranges(f, low, high):
            if not holds.all():
                yield Predicate(term, holds, cost(term))
        if low == high or f.is_token or f.term.operator in ("shift", "table"):
            continue
        for m in _MODULI:
            residue = low % m
            if (inside % m == residue).all():
                holds = f.values % m == residue
                if not holds.all():
                    term = Term("==", (Term("%", (f.term, integer(m))), integer(residue)))
                    yield Predicate(term, holds, cost(term))


def _ranges(f: Feature, low: int, high: int) -> Iterator[tuple[Term, Bools]]:
    """Yield ``f == c``, ``f < c`` and ``c < f`` around the wanted values, with the plainest constants that fit."""
    if low == high:
        yield Term("==", (f.term, f.constant(low))), f.values == low
    if f.is_symbol:
        return
    above, below = f.values[f.values > high], f.values[f.values < low]
    if above.size:
        yield _bound(f, high, int(above.min()), is_upper=True), f.values <= high
    if below.size:
        yield _bound(f, int(below.max()), low, is_upper=False), f.values >= low


def _bound(f: Feature, last: int, first: int, *, is_upper: bool) -> Term:
    """Return the condition that splits between the neighbouring values ``last`` and ``first``."""
    strict = min(range(last + 1, min(first, last + 12) + 1), key=abs)
    loose = min(range(max(last, first - 12), first), key=abs)
    if is_upper:  # holds up to ``last``: f < strict, or f <= loose
        if abs(loose) < abs(strict):
            return Term("<=", (f.term, integer(loose)))
        return Term("<", (f.term, integer(strict)))
    if abs(strict) < abs(loose):
        return Term("<=", (integer(strict), f.term))
    return Term("<", (integer(loose), f.term))


def _compared(features: Iterable[Feature]) -> list[Feature]:
    return [f for f in features if not f.is_symbol][:_MOST_COMPARED]


def _of_two(wanted: Bools, features: Sequence[Feature]) -> list[Predicate]:
    """Return comparisons of two features that hold on all wanted cells."""
    found: list[tuple[int, str, Feature, Feature]] = []
    symbols = [f for f in features if f.is_symbol]
    for chosen, relations in ((_compared(features), ("==", "<", "<=")), (symbols, ("==",))):
        if len(chosen) < 2:
            continue
        places = _spread(np.flatnonzero(wanted))
        values = np.stack([f.values[places] for f in chosen])
        for i, f in enumerate(chosen):
            for relation in relations:
                fits = _RELATIONS[relation](values[i][None], values).all(axis=1)
                found += [
                    (f.cost + chosen[j].cost, relation, f, chosen[j])
                    for j in np.flatnonzero(fits)
                    if j != i and (relation != "==" or j > i)
                ]
    result = []
    for _, relation, f, g in sorted(found, key=lambda entry: entry[0])[: 4 * _MOST_COMPARISONS]:
        holds = _RELATIONS[relation](f.values, g.values)
        if holds[wanted].all() and not holds.all():
            term = Term(relation, (f.term, g.term))
            result.append(Predicate(term, holds, cost(term)))
        if len(result) >= _MOST_COMPARISONS:
            break
    return result


_RELATIONS = {"==": np.equal, "<": np.less, "<=": np.less_equal}


def _spread(places: NDArray[np.intp]) -> NDArray[np.intp]:
    return places[:: max(1, -(-len(places) // _FIRST_CELLS))]


def _sums(wanted: Bools, features: Sequence[Feature]) -> Iterator[Term]:
    """Yield comparisons of a sum or difference of two features, one perhaps doubled, with a constant."""
    chosen = _compared(features)
    if len(chosen) < 2:
        return
    yes, no = _spread(np.flatnonzero(wanted)), _spread(np.flatnonzero(~wanted))
    inside, outside = (np.stack([f.values[places] for f in chosen]) for places in (yes, no))
    n_found = 0
    candidates = []
    for i in range(len(chosen)):
        for a, b in _COEFFICIENTS:
            mixed_in, mixed_out = a * inside[i] + b * inside[i:], a * outside[i] + b * outside[i:]
            low_in, high_in = mixed_in.min(axis=1), mixed_in.max(axis=1)
            low_out, high_out = mixed_out.min(axis=1), mixed_out.max(axis=1)
            for j in np.flatnonzero((high_in < low_out) | (high_out < low_in)).tolist():
                if j:
                    candidates.append((chosen[i].cost + chosen[i + j].cost, i, i + j, a, b))
    for _, i, j, a, b in sorted(candidates)[:_MOST_TRIED]:
        f, g = chosen[i], chosen[j]
        values = a * f.values + b * g.values
        mixed = Feature(_combined(f.term, g.term, a, b), values, 0)
        low, high = int(values[wanted].min()), int(values[wanted].max())
        for term, holds in _ranges(mixed, low, high):
            if (holds == wanted).all():
                n_found += 1
                yield term
        if n_found >= _MOST_FOUND:
            return


def _combined(left: Term, right: Term, a: int, b: int) -> Term:
    left = Term("*", (left, integer(a))) if a != 1 else left
    scaled = Term("*", (right, integer(abs(b)))) if abs(b) != 1 else right
    return Term("+" if b > 0 else "-", (left, scaled))


def _conjunctions(wanted: Bools, predicates: list[Predicate]) -> Iterator[tuple[Term, Term]]:
    """Yield pairs of predicates, each holding on all wanted cells, that no unwanted cell satisfies together."""
    if len(predicates) < 2:
        return
    unwanted = np.flatnonzero(~wanted)
    first = _spread(unwanted)
    holds = np.stack([p.holds[first] for p in predicates]).astype(np.float32)
    both = holds @ holds.T
    left, right = np.nonzero(np.triu(both == 0, 1))
    costs = np.array([p.cost for p in predicates])
    order = np.argsort(costs[left] + costs[right], kind="stable")[:_MOST_TRIED]
    for k in order:
        p, q = predicates[left[k]], predicates[right[k]]
        if not (p.holds[unwanted] & q.holds[unwanted]).any():
            yield p.term, q.term
