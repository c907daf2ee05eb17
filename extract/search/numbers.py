"""Fits integers to wanted answers: functions of one feature, of two, and integer linear combinations of up to four.

Coefficients of linear combinations come from least squares on some cells, are rounded, and count only when they give
every cell exactly. It knows no inputs, only cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from extract.lang.cost import cost
from extract.lang.terms import Term
from extract.search.builders import integer, table
from extract.search.features import Cells, Feature

Reals = NDArray[np.float64]

_MODULI = range(2, 13)
_MOST_ENTRIES = 24
_MOST_PAIRED = 128
_MOST_TRIED = 48
_MOST_FOUND = 8
#: How many of the cheapest features are summed in twos and in threes.
_LINEAR_FEATURES = {2: 80, 3: 36}
_LINEAR_CELLS = 192
#: Cells on which pairs are compared first; those that agree there are compared on all.
_FIRST_CELLS = 32
_LARGEST_COEFFICIENT = 12
_EPSILON = 1e-6


def numbers(target: Cells, features: Sequence[Feature]) -> Iterator[Term]:
    """Yield terms that equal the target on every cell.

    Cost:    O(features² * cells) for pairs; triples only among the cheapest features.
    """
    chosen = [f for f in features if not f.is_symbol]
    for f in chosen:
        yield from of_one(target, f)
    yield from _of_two(target, chosen[:_MOST_PAIRED])
    yield from linear(target, chosen)


def of_one(target: Cells, f: Feature) -> Iterator[Term]:
    """Yield terms of one feature: affine, remainder, quotient, absolute value, bounds, a table."""
    v, term = f.values, f.term
    if (v == target).all():
        yield term
        return
    for m in _MODULI:
        offsets = {0} if f.is_token else {0, int((target[0] - v[0]) % m)}
        for c in sorted(offsets):
            if ((v + c) % m == target).all():
                yield Term("%", (plus(term, c), integer(m)))
        if (v // m == target).all():
            yield Term("//", (term, integer(m)))
    affine = _line(v, target)
    if affine is not None:
        yield affine_term(term, *affine)
    if (abs(v) == target).all():
        yield Term("abs", (term,))
    low, high = int(target.min()), int(target.max())
    for name, bound, values in (("max", low, np.maximum(v, low)), ("min", high, np.minimum(v, high))):
        if (values == target).all():
            yield Term(name, (term, integer(bound)))
    if (np.clip(v, low, high) == target).all():
        yield Term("min", (Term("max", (term, integer(low))), integer(high)))
    yield from _as_table(target, f)


def _as_table(target: Cells, f: Feature) -> Iterator[Term]:
    keys = np.unique(f.values)
    if not 2 <= len(keys) <= _MOST_ENTRIES:
        return
    entries = {int(k): np.unique(target[f.values == k]) for k in keys}
    if all(len(values) == 1 for values in entries.values()):
        yield table(f.term, {k: int(values[0]) for k, values in entries.items()})


def plus(term: Term, constant: int) -> Term:
    """Return a term plus a constant, as people write it."""
    if not constant:
        return term
    return Term("+" if constant > 0 else "-", (term, integer(abs(constant))))


def affine_term(term: Term, a: int, b: int) -> Term:
    """Return ``a * term + b``, as people write it."""
    if a == -1:
        return Term("-", (integer(b), term))
    if a < 0:
        return Term("-", (integer(b), affine_term(term, -a, 0)))
    return plus(term if a == 1 else Term("*", (term, integer(a))), b)


def _line(values: Cells, target: Cells) -> tuple[int, int] | None:
    low, high = int(values.argmin()), int(values.argmax())
    run, rise = int(values[high] - values[low]), int(target[high] - target[low])
    if not run or not rise or rise % run:
        return None
    a = rise // run
    b = int(target[low]) - a * int(values[low])
    return (a, b) if (a * values + b == target).all() else None


_OF_TWO: dict[str, Callable[[Cells, Cells], Cells]] = {
    "min": np.minimum,
    "max": np.maximum,
    "*": np.multiply,
}


def _of_two(target: Cells, features: Sequence[Feature]) -> Iterator[Term]:
    """Yield min, max, product, and remainders or quotients of a sum or difference."""
    if len(features) < 2:
        return
    step = max(1, -(-len(target) // _FIRST_CELLS))
    wanted = target[::step]
    values = np.stack([f.values[::step] for f in features])
    moduli = sorted({int(target.max()) + 1, *_MODULI}) if int(target.min()) >= 0 else []
    tried = 0
    for i, f in enumerate(features):
        for name, apply in _OF_TWO.items():
            for j in _rows_where(apply(values[i], values[:i]) == wanted):
                if (apply(f.values, features[j].values) == target).all():
                    yield Term(name, (features[j].term, f.term))
                    tried += 1
        for a, b in ((1, 1), (1, -1), (-1, 1), (2, 1), (1, 2)):
            mixed = a * values[:i] + b * values[i]
            for m in moduli:
                for operator, result in (("%", mixed % m), ("//", mixed // m)):
                    for j in _rows_where(result == wanted):
                        g = features[j]
                        full = a * g.values + b * f.values
                        if ((full % m if operator == "%" else full // m) == target).all():
                            yield Term(operator, (weighted([(a, g.term), (b, f.term)], 0), integer(m)))
                            tried += 1
            for j in _rows_where(np.abs(mixed) == wanted) if (a, b) == (1, -1) else ():
                if (abs(features[j].values - f.values) == target).all():
                    yield Term("abs", (Term("-", (features[j].term, f.term)),))
        if tried > _MOST_TRIED:
            return


def _rows_where(same: NDArray[np.bool_]) -> list[int]:
    return [int(j) for j in np.flatnonzero(same.all(axis=1))]


def weighted(parts: Sequence[tuple[int, Term]], constant: int) -> Term:
    """Return a sum of multiples and a constant, positive parts first."""
    ordered = sorted(parts, key=lambda part: part[0] < 0)
    result: Term | None = None
    for a, term in ordered:
        scaled = term if abs(a) == 1 else Term("*", (term, integer(abs(a))))
        if result is None:
            result = scaled if a > 0 else Term("-", (integer(constant), scaled))
            constant = constant if a > 0 else 0
        else:
            result = Term("+" if a > 0 else "-", (result, scaled))
    return integer(constant) if result is None else plus(result, constant)


def linear(target: Cells, features: Sequence[Feature]) -> Iterator[Term]:
    """Yield integer linear combinations with a constant: of two and three features, then of all, made sparse."""
    chosen = _spanning(features)
    if len(chosen) < 2:
        return
    step = max(1, -(-len(target) // _LINEAR_CELLS))
    columns = np.stack([f.values for f in chosen]).astype(np.float64)
    some, wanted = columns[:, ::step], target[::step].astype(np.float64)
    n_found = 0
    for size in (2, 3):
        for subset in _exact_subsets(some[: _LINEAR_FEATURES[size]], wanted, size):
            term = _rounded(target, chosen, list(subset), some, wanted)
            if term is not None:
                n_found += 1
                yield term
            if n_found >= _MOST_FOUND:
                return
        if n_found:
            return
    yield from _sparse(target, chosen, some, wanted)


def _spanning(features: Sequence[Feature]) -> list[Feature]:
    """Return cheap features that can be summed: not those already reduced to a few values by a modulus."""
    return [f for f in features if not (f.term.operator == "horner" and f.term.data[1])][: _LINEAR_FEATURES[2]]


def _exact_subsets(columns: Reals, wanted: Reals, size: int) -> Iterator[tuple[int, ...]]:
    """Yield column sets whose span with the constant holds the target, by normal equations on all sets at once."""
    n_columns = len(columns)
    full = np.concatenate([columns, np.ones((1, columns.shape[1]))])
    gram, right, total = full @ full.T, full @ wanted, float(wanted @ wanted)
    subsets = np.array(list(combinations(range(n_columns), size)), dtype=np.int64)
    if not len(subsets):
        return
    index = np.concatenate([subsets, np.full((len(subsets), 1), n_columns)], axis=1)
    systems = gram[index[:, :, None], index[:, None, :]] + 1e-7 * np.eye(size + 1)
    rights = right[index]
    solved = np.linalg.solve(systems, rights[:, :, None])[:, :, 0]
    left_over = total - (solved * rights).sum(axis=1)
    scale = max(total, 1.0)
    for i in np.flatnonzero(left_over < 1e-4 * scale)[:_MOST_TRIED]:
        yield tuple(int(c) for c in subsets[i])


def _rounded(target: Cells, features: Sequence[Feature], subset: list[int], some: Reals, wanted: Reals) -> Term | None:
    """Return the combination of a column set with rounded coefficients where it is exact on every cell."""
    matrix = np.concatenate([some[subset], np.ones((1, some.shape[1]))]).T
    solution = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    rounded = np.rint(solution).astype(np.int64)
    if (abs(rounded) > _LARGEST_COEFFICIENT).any():
        return None
    values = sum((a * features[i].values for a, i in zip(rounded, subset, strict=False)), np.zeros_like(target))
    if not (values + rounded[-1] == target).all():
        return None
    parts = [(int(a), features[i].term) for a, i in zip(rounded, subset, strict=False) if a]
    return weighted(parts, int(rounded[-1])) if parts else None


def _sparse(target: Cells, features: Sequence[Feature], some: Reals, wanted: Reals) -> Iterator[Term]:
    """Yield a combination of more features: start from all, drop the dearest one by one while it stays exact."""
    subset = list(range(len(features)))
    if _residue(some, wanted, subset) > _EPSILON:
        return
    for i in sorted(subset, key=lambda i: (-cost(features[i].term), -i)):
        fewer = [j for j in subset if j != i]
        if fewer and _residue(some, wanted, fewer) <= _EPSILON:
            subset = fewer
    term = _rounded(target, features, subset, some, wanted)
    if term is not None:
        yield term


def _residue(some: Reals, wanted: Reals, subset: list[int]) -> float:
    matrix = np.concatenate([some[subset], np.ones((1, some.shape[1]))]).T
    solution = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    return float(np.abs(matrix @ solution - wanted).max(initial=0.0))
