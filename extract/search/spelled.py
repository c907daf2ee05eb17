"""Numbers spelled out: a generated answer whose digits spell a weighted sum of the tokens, least or most digit first.

Adding or subtracting numbers whose digits stand at fixed places is such a task. The weights are solved from the
answers, robustly, since a model may err on some inputs; the gate decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.batched import Batch
from extract.lang.terms import Datum, Term
from extract.search.builders import EVERYWHERE, INDICES, STEP, TOKENS, binary, choose, integer, table
from extract.search.goals import Goal
from extract.vocabulary import SYMBOL_BASE

Ints = NDArray[np.int64]

#: Draws of as many inputs as there are weights; one without a mistake of the model is enough.
_DRAWS, _SEED = 24, 5
_LEAST_RIGHT = 0.97
_LARGEST = 1 << 30


def proposals(goal: Goal, batch: Batch, domain: Domain) -> Iterator[Term]:
    """Yield digits of a weighted sum for inputs of one length and answers of one length.

    Cost:    a few small linear systems.
    """
    lengths, codes = batch.lengths, goal.codes
    if goal.shape != "step" or not len(codes) or not goal.mask.all() or int(lengths.min()) != int(lengths.max()):
        return
    if not domain.vocabulary.numeric or codes.min() < 0 or codes.max() >= SYMBOL_BASE or not int(lengths[0]):
        return
    tokens = batch.codes[:, : int(lengths[0])].astype(np.int64)
    if (np.abs(tokens) >= SYMBOL_BASE).any():
        return
    base = max(2, int(tokens.max()) + 1, int(codes.max()) + 1)
    for b in dict.fromkeys((base, 10, 2)):
        for is_least_first in (True, False) if b >= base else ():
            powers = _powers(codes.shape[1], b, is_least_first)
            weights = _weights(tokens, codes.astype(np.int64) @ powers)
            if weights is not None:
                yield _digits(weights, tokens, powers, b)


def _powers(n_steps: int, base: int, is_least_first: bool) -> Ints:
    """Return the weight of the digit of each step; digits too large for the language are 0 wherever it fits at all."""
    exponents = range(n_steps) if is_least_first else range(n_steps - 1, -1, -1)
    return np.array([min(base**e, _LARGEST) for e in exponents], dtype=np.int64)


def _weights(tokens: Ints, numbers: Ints) -> Ints | None:
    """Return [constant, weight of each position] that give almost all numbers, or None."""
    columns = np.column_stack([np.ones(len(tokens), dtype=np.int64), tokens])
    rng = np.random.default_rng(_SEED)
    n = min(len(columns), 3 * columns.shape[1])
    for _ in range(_DRAWS):
        rows = rng.choice(len(columns), size=n, replace=False)
        solved = np.linalg.lstsq(columns[rows].astype(np.float64), numbers[rows].astype(np.float64), rcond=None)[0]
        if np.abs(solved).max() >= _LARGEST:
            continue
        weights: Ints = np.rint(solved).astype(np.int64)
        if (columns @ weights == numbers).mean() >= _LEAST_RIGHT:
            return weights
    return None


def _digits(weights: Ints, tokens: Ints, powers: Ints, base: int) -> Term:
    """Spell the digits of the weighted sum, step by step; digits that are always 0 need no step of their own."""
    number, most = _number(weights), int(np.abs(weights[1:]).sum() * max(1, int(tokens.max())) + abs(int(weights[0])))
    steps = [s for s, power in enumerate(powers) if power <= most]
    digits = {s: _digit(number, int(powers[s]), base, most) for s in steps}
    if len(steps) == len(powers):
        *others, rest = steps
        chosen = digits[rest]
    else:
        others, chosen = steps, integer(0)
    for s in reversed(others):
        chosen = choose(binary("eq", STEP, integer(s)), digits[s], chosen)
    return chosen


def _number(weights: Ints) -> Term:
    parts = weights[1:].tolist()
    entries: dict[Datum, Datum] = dict(enumerate(parts))
    weighted: Any = TOKENS if set(parts) == {1} else binary("mul", TOKENS, table(INDICES, entries))
    number = Term("sum_over", (EVERYWHERE, weighted))
    return binary("add", number, integer(int(weights[0]))) if weights[0] else number


def _digit(number: Term, power: int, base: int, most: int) -> Term:
    quotient = number if power == 1 else binary("floordiv", number, integer(power))
    return quotient if most < power * base else binary("mod", quotient, integer(base))
