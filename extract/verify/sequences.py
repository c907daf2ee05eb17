"""Functions of a whole sequence of guarded integers: ranks, running states, and the properties promises speak of.

This room knows circuits and refuses to know terms.
"""

from __future__ import annotations

import operator as python
from collections.abc import Callable, Sequence
from itertools import pairwise

from extract.verify.circuit import Circuit, Guarded, Literal, constant


def rank(c: Circuit, values: Sequence[Guarded]) -> tuple[Guarded, ...]:
    """Return for each position how many have a smaller value, or an equal one further left."""
    n = len(values)
    smaller = {
        (j, i): c.compare(values[j], values[i], python.le if j < i else python.lt)
        for i in range(n)
        for j in range(n)
        if i != j
    }
    ranks = tuple(c.total(c.truth(smaller[j, i]) for j in range(n) if j != i) for i in range(n))
    # Ranks are a permutation: true of every input, and long to derive from sums of comparisons.
    for place in range(n):
        c.note_exactly_one([c.where(cell, place.__eq__) for cell in ranks])
    return ranks


def running(c: Circuit, values: Sequence[Guarded], start: int, step: Callable[[int, int], int]) -> tuple[Guarded, ...]:
    """Return the state after each position of a machine that reads the values from the left."""
    states = [constant(start)]
    for value in values:
        states.append(c.apply(step, states[-1], value))
    return tuple(states[1:])


def is_increasing(c: Circuit, values: Sequence[Guarded]) -> Literal:
    """Return whether each value is greater than the one before."""
    return c.conjunction(c.compare(a, b, python.lt) for a, b in pairwise(values))


def are_distinct(c: Circuit, values: Sequence[Guarded]) -> Literal:
    """Return whether no value occurs twice."""
    return c.disjunction(_equal_pairs(c, values).values()) ^ 1


def are_neighbours_distinct(c: Circuit, values: Sequence[Guarded]) -> Literal:
    """Return whether no ordered pair of neighbours occurs twice."""
    same = _equal_pairs(c, values)
    return c.disjunction(c.both(same[i, j], same[i + 1, j + 1]) for i, j in same if j + 1 < len(values)) ^ 1


def _equal_pairs(c: Circuit, values: Sequence[Guarded]) -> dict[tuple[int, int], Literal]:
    return {(i, j): c.compare(values[i], values[j], python.eq) for j in range(len(values)) for i in range(j)}


def has_unique_mode(c: Circuit, values: Sequence[Guarded]) -> Literal:
    """Return whether one value occurs more often than every other; false of no values."""
    occurring = sorted({v for value in values for v in value.values})
    counts = [c.total(c.truth(c.where(value, v.__eq__)) for value in values) for v in occurring]
    return c.disjunction(
        c.conjunction(c.compare(count, other, python.gt) for j, other in enumerate(counts) if j != i)
        for i, count in enumerate(counts)
    )
