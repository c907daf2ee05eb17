"""Closed forms read off the probes: constants, source maps affine in index and length, tables of one token, sums mod p.

Each proposal is fitted to the probes exactly where it can be and passed on; the gate decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.terms import Datum, Term
from extract.search.builders import (
    EVERYWHERE,
    INDICES,
    LENGTH,
    STEP,
    TOKENS,
    boolean,
    datum,
    integer,
    last_of,
    pick,
    symbol_or_integer,
    table,
)
from extract.search.frame import Frame
from extract.search.goals import Goal
from extract.vocabulary import Vocabulary

_MOST_TABLE_ENTRIES = 64
_MOST_TERMS = 4


def proposals(goal: Goal, frame: Frame, domain: Domain) -> Iterator[Term]:
    """Yield closed-form terms worth judging for a goal, cheapest first."""
    yield from _constants(goal, domain)
    if goal.kind == "I":
        yield from _source_maps(goal, frame)
        yield from _token_tables(goal, frame, domain.vocabulary)
        yield from _modular_sums(goal, frame)


def _constants(goal: Goal, domain: Domain) -> Iterator[Term]:
    codes = goal.distinct_codes()
    if goal.kind == "B":
        # the commoner truth value is proposed even when it is not constant: a partial answer worth ranking
        cells = goal.target[goal.mask]
        yield boolean(bool(cells.mean() >= 0.5) if cells.size else False)
    elif len(codes) == 1:
        yield symbol_or_integer(codes[0], domain.vocabulary)


def _source_maps(goal: Goal, frame: Frame) -> Iterator[Term]:
    """Yield "the token at index a*i + b*length + c" for every (a, b, c) that fits at least half of the cells."""
    n_q = goal.target.shape[1]
    index = np.arange(n_q)[None, :]
    lengths = frame.lengths[:, None].astype(np.int64)
    n_cells = int(goal.mask.sum())
    slopes = (0,) if goal.shape == "whole" else (1, -1, 0)
    found = []
    for slope, per_length, offset in product(slopes, (0, 1), (0, -1, 1, -2, 2, -3, 3)):
        source = slope * index + per_length * lengths + offset
        inside = (source >= 0) & (source < lengths)
        token = np.take_along_axis(frame.tokens, np.clip(source, 0, max(frame.tokens.shape[1] - 1, 0)), axis=1)
        fits = int(((token == goal.target) & inside & goal.mask).sum())
        if 2 * fits >= n_cells > 0:
            found.append((-fits, slope, per_length, offset))
    for _, slope, per_length, offset in sorted(found, key=lambda f: f[0])[:_MOST_TERMS]:
        yield _token_at(goal, slope, per_length, offset)


def _token_at(goal: Goal, slope: int, per_length: int, offset: int) -> Term:
    if goal.shape == "whole" and (per_length, offset) in ((0, 0), (1, -1)):
        return Term("first" if offset == 0 else "last", (EVERYWHERE, TOKENS))
    axis = STEP if goal.shape == "step" else INDICES
    if slope == 1 and (per_length, offset) == (0, 0) and goal.shape == "position":
        return TOKENS
    base = LENGTH if per_length else None
    if offset:
        constant = integer(abs(offset))
        sign = "+" if offset > 0 else "-"
        base = Term(sign, (base, constant)) if base is not None else integer(offset)
    if slope == 0:
        query = base if base is not None else integer(0)
    elif slope == 1:
        query = axis if base is None else _sum(axis, base, offset, per_length)
    else:
        query = Term("-", (base if base is not None else integer(0), axis))
    return pick(INDICES, query, TOKENS)


def _sum(axis: Term, base: Term, offset: int, per_length: int) -> Term:
    if not per_length:
        return Term("+" if offset > 0 else "-", (axis, integer(abs(offset))))
    return Term("+", (axis, base))


def _token_tables(goal: Goal, frame: Frame, vocabulary: Vocabulary) -> Iterator[Term]:
    """Yield tables of one token (first, last or own) where it determines the answer on the probes."""
    sources: list[tuple[Term, NDArray[Any]]] = []
    n_k = frame.tokens.shape[1]
    if n_k and goal.shape == "whole" and (frame.lengths > 0).all():
        rows = np.arange(frame.n_probes)
        sources.append((last_of(TOKENS), frame.tokens[rows, frame.lengths - 1][:, None]))
        sources.append((Term("first", (EVERYWHERE, TOKENS)), frame.tokens[:, :1]))
    if goal.shape == "position":
        sources.append((TOKENS, frame.tokens))
    for term, values in sources:
        entries = _function(values, goal)
        if entries is not None and 1 < len(entries) <= _MOST_TABLE_ENTRIES:
            yield _table(term, entries, vocabulary)


def _function(values: NDArray[Any], goal: Goal) -> dict[int, int] | None:
    """Return value -> answer code when the answer is a function of the value on the cells that count."""
    pairs = set(zip(values[goal.mask].tolist(), goal.codes[goal.mask].tolist(), strict=True))
    entries = dict(sorted(pairs))
    return entries if len(entries) == len(pairs) else None


def _table(term: Term, entries: dict[int, int], vocabulary: Vocabulary) -> Term:
    def key(value: int) -> Datum:
        return value if vocabulary.numeric else vocabulary.symbols[value]

    return table(term, {key(v): datum(c, vocabulary) for v, c in entries.items()})


def _modular_sums(goal: Goal, frame: Frame) -> Iterator[Term]:
    """Yield ``(x_0 + x_1 [+ ...]) % p`` when all probes have one length of at most four numeric tokens."""
    if not frame.vocabulary.numeric or goal.shape != "whole" or goal.tag != "N" or len(set(frame.lengths)) != 1:
        return
    length = int(frame.lengths[0])
    if not 2 <= length <= 4:
        return
    values = frame.tokens[:, :length].astype(np.int64)
    target = goal.target[:, 0].astype(np.int64)
    largest = int(target.max(initial=0)) + 1
    moduli = sorted({largest, len(frame.vocabulary.names), *range(max(2, largest), largest + 3)})
    for signs in product((1, -1, 2), repeat=length):
        total = values @ np.array(signs)
        for modulus in moduli:
            for shift in sorted({int(v) for v in (target - total)[:1] % modulus}):
                if ((total + shift) % modulus == target).all():
                    yield _modular(signs, shift, modulus)
                    return


def _modular(signs: tuple[int, ...], shift: int, modulus: int) -> Term:
    if all(s == 1 for s in signs):
        total = Term("sum_over", (EVERYWHERE, TOKENS))
    else:
        parts = [pick(INDICES, integer(i), TOKENS) for i in range(len(signs))]
        total = integer(0)
        for i, (sign, part) in enumerate(zip(signs, parts, strict=True)):
            scaled = Term("*", (part, integer(2))) if sign == 2 else part
            total = scaled if i == 0 and sign > 0 else Term("-" if sign < 0 else "+", (total, scaled))
    if shift:
        total = Term("+", (total, integer(shift)))
    return Term("%", (total, integer(modulus)))
