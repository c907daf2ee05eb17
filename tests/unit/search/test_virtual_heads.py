"""Whatever head of the bank is planted, or short function of one, the virtual heads propose terms that mean it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.lang.batched import Batch, evaluate_term
from extract.lang.syntax import parse_term
from extract.oracle import ProbeSet
from extract.search import last_level
from extract.search.bank import Bank
from extract.search.columns import Effort
from extract.search.frame import frame_of
from extract.search.goals import Goal
from extract.search.head_tests import Bilinear, survivors
from extract.search.layers import Grammar
from tests.unit.search.planted import WORLD, probes

Array = NDArray[Any]
COST = 5


@cache
def world() -> tuple[Bank, ProbeSet]:
    """A bank of real terms up to a small cost, on the little numeric world."""
    found = probes()
    bank = Bank(frame_of(found, WORLD.vocabulary, WORLD.readout))
    grammar = Grammar(bank, constants=(0, 1, 2), symbols=(), work=300_000_000)
    for cost in range(1, COST + 1):
        grammar.grow(cost)
    return bank, found


def proposed(text: str) -> list[tuple[int, bool]]:
    """Cost and rightness of what is proposed for a goal that is the meaning of a term."""
    bank, found = world()
    batch = Batch(found.inputs.codes(WORLD.vocabulary), found.inputs.lengths, 1)
    wanted = evaluate_term(parse_term(text), batch, WORLD.vocabulary)
    shape: Any = "whole" if wanted.shape[1] == 1 else "position"
    mask = bank.frame.mask(shape)
    kind: Any = "B" if wanted.dtype == np.bool_ else "I"
    target = np.where(mask, wanted, 0).astype(np.bool_ if kind == "B" else np.int32)
    goal = Goal("output", kind, "N" if kind == "I" else "", shape, target.astype(np.int32), target, mask)
    results = []
    for cost in range(1, COST + 1):
        for term_cost, term in last_level.proposals(bank, goal, cost):
            values = np.broadcast_to(evaluate_term(term, batch, WORLD.vocabulary), target.shape)
            results.append((term_cost, bool((values == target)[mask].all())))
    return results


#: A head, or a function of one, beyond the bank's own cost, with the cost it has.
PLANTED: dict[str, int] = {
    "sum_over(select(tokens, indices, '<='), tokens + indices)": 7,
    "first(select(shift(tokens, 1), tokens, '<'), indices - tokens)": 7,
    "last(select(tokens, rank(tokens), '<'), tokens + indices)": 7,
    "max_over(select(rank(tokens), tokens, '<='), tokens + indices)": 7,
    "min_over(select(rank(tokens), tokens, '<='), tokens - indices)": 7,
    "last(select(rank(tokens), length - 1, '<='), tokens + indices, 1)": 10,
    "selector_width(before and select(tokens, shift(tokens, 1), '<'))": 7,
    "exists(after and select(tokens, shift(tokens, 1), '<'))": 7,
    "exists(select(rank(tokens), shift(tokens, 1), '<') and keys_where(tokens < indices))": 10,
    "sum_over(before, tokens + indices) % 3": 8,
    "length - sum_over(everywhere, tokens - rank(tokens))": 7,
    "sum_over(upto, tokens - rank(tokens)) + indices": 7,
    "sum_over(everywhere, tokens + indices) % 5 == 2": 10,
    "first(select(tokens, rank(tokens), '<'), tokens + indices) < 2": 8,
    "count(tokens < rank(tokens)) == 2": 6,
    "mean(upto, tokens + indices)": 6,
    "mean(everywhere, tokens + indices) // 720720": 8,
    "mean(upto, table(tokens, {2: 10}, 0)) // 720720": 9,
    "mean(upto, int(indices <= tokens) * 10) // 720720": 12,
}


@pytest.mark.parametrize("text", PLANTED)
def test_a_planted_head_is_proposed(text: str) -> None:
    right = [cost for cost, is_right in proposed(text) if is_right]
    assert right and min(right) <= PLANTED[text]


def test_every_proposed_head_is_right_on_the_cells_it_was_tested_on() -> None:
    results = proposed("sum_over(select(tokens, indices, '<='), tokens + indices)")
    assert all(is_right for _, is_right in results)


def test_selectors_and_values_are_paired_once_over_all_levels() -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 2, size=(30, 8)).astype(np.float32) for _ in range(2))
    test = Bilinear(left, right, np.full(30, 3, dtype=np.float32))
    seen: list[tuple[int, int]] = []
    for old, n in ((0, 10), (10, 20), (20, 30)):
        part = test._replace(left=left[:n], right=right[:n], wanted=test.wanted[:n])
        for s, v in survivors(part, (old, old), Effort(1 << 30)):
            seen += zip(s.tolist(), v.tolist(), strict=True)
    assert sorted(seen) == [tuple(pair) for pair in np.argwhere(left @ right.T == 3).tolist()]
