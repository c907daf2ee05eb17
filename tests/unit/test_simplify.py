"""Simplified terms cost less and mean the same on every input tried."""

from __future__ import annotations

import pytest

from extract.lang.batched import Batch, evaluate_term
from extract.lang.cost import cost
from extract.lang.syntax import parse_term, print_term
from extract.simplify import simplified
from tests.unit.search.worlds import domain

WORLD = domain("01", lengths=(1, 6))

CASES = {
    "0 if any(tokens == '0') else int(length == 3)": "int(all(not tokens == '0') and length == 3)",
    "1 if length < 3 else 0": "int(length < 3)",
    "0 if length < 3 else 1": "int(3 <= length)",
    "int(length == 3) if any(rank(tokens) < indices) else 1": "int(all(indices <= rank(tokens)) or length == 3)",
    "length + 1 - 1": "length",
    "length - 1 - indices + indices": "length - 1",
    "count(tokens == '0') + count(tokens == '0')": "count(tokens == '0') * 2",
    "not (not any(tokens == '0'))": "any(tokens == '0')",
    "any(tokens == '0') and (any(tokens == '0') or all(tokens == '1'))": "any(tokens == '0')",
}


@pytest.mark.parametrize("text", CASES)
def test_known_forms(text: str) -> None:
    term = parse_term(text)
    results = [print_term(t) for t in simplified(term)]
    wanted = parse_term(CASES[text])
    if cost(wanted) < cost(term):
        assert results == [print_term(wanted)]
    else:
        assert results == []


@pytest.mark.parametrize("text", CASES)
def test_meaning_is_kept(text: str) -> None:
    term = parse_term(text)
    inputs = WORLD.sample(200, seed=1)
    batch = Batch(inputs.codes(WORLD.vocabulary), inputs.lengths, 1)
    for simple in simplified(term):
        assert cost(simple) < cost(term)
        left, right = (evaluate_term(t, batch, WORLD.vocabulary) for t in (term, simple))
        same = left == right
        if same.shape[1] > 1:
            same |= inputs.tokens < 0
        assert same.all()
