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

from extract.lang.cost import cost, node_cost
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
_MOST_PAIRS = 128
_MOST_LEADERS = 12
#: Cells on which pairs of features are compared first; what survives is compared on all.
_FEWEST_CELLS, _SOME_CELLS, _MANY_CELLS = 32, 96, 384
_COEFFICIENTS = ((1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2))


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition and where it holds. Shape: [cell]."""

    term: Term
    holds: Bools
    cost: int


def conditions(wanted: Bools, features: Sequence[Feature]) -> list[Term]:
    """Return conditions that hold exactly on the wanted cells, cheapest first.

    Cost:    O(predicates² * cells) multiply-adds, and less for comparisons of features.
    """
    if wanted.all() or not wanted.any():
        return [boolean(bool(wanted.all()))]
    around, outside = _around(wanted, features), _around(~wanted, features)
    exact = [p.term for p in around if not (p.holds & ~wanted).any()]
    exact += [opposite(p.term) for p in outside if not (p.holds & wanted).any()]
    found = {term: cost(term) for term in exact}
    if len(found) < _MOST_FOUND:
        found.update((term, cost(term)) for term in _sums(wanted, features))
    for is_opposite, goal, predicates in ((False, wanted, around), (True, ~wanted, outside)):
        for parts in _conjunctions(goal, predicates, is_long=not found):
            joined = _joined("or", [opposite(p) for p in parts]) if is_opposite else _joined("and", parts)
            found.setdefault(joined, cost(joined))
    return sorted(found, key=lambda term: (found[term], repr(term)))[:_MOST_FOUND]


def opposite(condition: Term) -> Term:
    """Return the condition that holds where another does not, without a needless ``not``."""
    if condition.operator == "not":
        return condition.arguments[0]
    if condition.operator in ("<", "<="):
        left, right = condition.arguments
        return Term("<=" if condition.operator == "<" else "<", (right, left))
    return Term("not", (condition,))


def _around(wanted: Bools, features: Sequence[Feature]) -> list[Predicate]:
    """Return the tightest predicates that hold on all wanted cells, cheapest first: for each set of cells one of one
    feature and one of two, since what they cost in the end depends on the parts they share with others."""
    result: list[Predicate] = []
    for predicates in (_of_one(wanted, features), _of_two(wanted, features)):
        found: dict[bytes, Predicate] = {}
        for p in predicates:
            key = np.packbits(p.holds).tobytes()
            if key not in found or p.cost < found[key].cost:
                found[key] = p
        result += found.values()
    return sorted(result, key=lambda p: p.cost)[:_MOST_PREDICATES]


def _of_one(wanted: Bools, features: Sequence[Feature]) -> Iterator[Predicate]:
    for f in features:
        inside = f.values[wanted]
        low, high = int(inside.min()), int(inside.max())
        for term, holds in _ranges(f, low, high):
            if not holds.all():
                yield Predicate(term, holds, _cost_with(f, term))
        if low == high or f.is_token or f.term.operator in ("shift", "table"):
            continue
        for m in _MODULI:
            residue = low % m
            if (inside % m == residue).all():
                holds = f.values % m == residue
                if not holds.all():
                    term = Term("==", (Term("%", (f.term, integer(m))), integer(residue)))
                    yield Predicate(term, holds, _cost_with(f, term))


def _cost_with(f: Feature, term: Term) -> int:
    """Return about the cost of a condition on one feature, parts in common with it counted twice."""
    if term == f.term:
        return f.cost
    return node_cost(term) + sum(_cost_with(f, argument) for argument in term.arguments)


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
    """Return comparisons of two features that hold on all wanted cells, cheapest first."""
    found: list[tuple[int, str, Feature, Feature]] = []
    symbols = [f for f in features if f.is_symbol]
    places = _spread(np.flatnonzero(wanted), _FEWEST_CELLS)
    for chosen, relations in ((_compared(features), ("==", "<", "<=")), (symbols, ("==",))):
        if len(chosen) < 2:
            continue
        values = np.stack([f.values[places] for f in chosen])
        for relation in relations:
            fits = _RELATIONS[relation](values[:, None], values[None]).all(axis=2)
            fits = np.triu(fits, 1) if relation == "==" else fits & ~np.eye(len(chosen), dtype=np.bool_)
            for i, j in np.argwhere(fits).tolist():
                found.append((chosen[i].cost + chosen[j].cost, relation, chosen[i], chosen[j]))
    result = []
    for parts_cost, relation, f, g in sorted(found, key=lambda entry: entry[0])[: 4 * _MOST_COMPARISONS]:
        holds = _RELATIONS[relation](f.values, g.values)
        if holds[wanted].all() and not holds.all():
            result.append(Predicate(Term(relation, (f.term, g.term)), holds, parts_cost + 1))
        if len(result) >= _MOST_COMPARISONS:
            break
    return result


_RELATIONS = {"==": np.equal, "<": np.less, "<=": np.less_equal}


def _spread(places: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    return places[:: max(1, -(-len(places) // most))]


def _sums(wanted: Bools, features: Sequence[Feature]) -> Iterator[Term]:
    """Yield comparisons of a sum or difference of two features, one perhaps doubled, with a constant."""
    chosen = _compared(features)
    if len(chosen) < 2:
        return
    yes, no = (_spread(np.flatnonzero(side), _SOME_CELLS) for side in (wanted, ~wanted))
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


def _joined(operator: str, parts: Sequence[Term]) -> Term:
    result = parts[0]
    for part in parts[1:]:
        result = Term(operator, (result, part))
    return result


def _conjunctions(wanted: Bools, predicates: list[Predicate], *, is_long: bool) -> Iterator[tuple[Term, ...]]:
    """Yield pairs of predicates, each holding on all wanted cells, that no unwanted cell satisfies together; where no
    pair does and ``is_long``, three: one of the most telling first, then a pair for the cells it lets through."""
    if len(predicates) < 2:
        return
    unwanted = np.flatnonzero(~wanted)
    pairs = _excluding_pairs(predicates, unwanted)
    yield from ((p.term, q.term) for p, q in pairs)
    if pairs or not is_long:
        return
    left = [int(p.holds[unwanted].sum()) for p in predicates]
    for i in sorted(range(len(predicates)), key=lambda i: (left[i], predicates[i].cost))[:_MOST_LEADERS]:
        leader = predicates[i]
        triples = _excluding_pairs(predicates, unwanted[leader.holds[unwanted]])
        yield from ((leader.term, p.term, q.term) for p, q in triples[:2])


def _excluding_pairs(predicates: list[Predicate], unwanted: NDArray[np.intp]) -> list[tuple[Predicate, Predicate]]:
    """Return the cheapest pairs of predicates that no unwanted cell satisfies together."""
    first = _spread(unwanted, _MANY_CELLS)
    holds = np.stack([p.holds[first] for p in predicates]).astype(np.float32)
    left, right = np.nonzero(np.triu(holds @ holds.T == 0, 1))
    costs = np.array([p.cost for p in predicates])
    order = np.argsort(costs[left] + costs[right], kind="stable")[:_MOST_PAIRS]
    pairs = [(predicates[left[k]], predicates[right[k]]) for k in order]
    pairs = [(p, q) for p, q in pairs if not (p.holds[unwanted] & q.holds[unwanted]).any()]
    # parts in common count once, so the order by sums is only roughly that of cost
    return sorted(pairs, key=lambda pair: cost(Term("and", (pair[0].term, pair[1].term))))[:_MOST_FOUND]
