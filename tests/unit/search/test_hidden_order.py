"""Sorting by a hidden key: the order comes out of the answers, and the program it gives sorts as they do."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.lang.batched import Batch, evaluate_term
from extract.probe.choose import choose_probes
from extract.search import hidden_order
from extract.search.frame import frame_of
from extract.search.goals import goals_of
from tests.unit.search.worlds import domain, oracle

WORLD = domain("abcde", lengths=(1, 4), at="every")
CODES = [WORLD.vocabulary.symbol_code(c) for c in "abcde"]


def proposed(function):  # type: ignore[no-untyped-def]
    _, gate = choose_probes(oracle(WORLD, function), n_probes=20, n_gate=500, seed=0)
    frame = frame_of(gate, WORLD.vocabulary, WORLD.readout)
    (goal,) = goals_of(gate, frame, WORLD.readout, WORLD.vocabulary)
    batch = Batch(gate.inputs.codes(WORLD.vocabulary), gate.inputs.lengths, 1)
    return goal, batch, list(hidden_order.proposals(goal, batch, WORLD))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=5, max_size=5).filter(lambda keys: len(set(keys)) > 1))
def test_every_weak_order_is_found(keys: list[int]) -> None:
    key = dict(zip(CODES, keys, strict=True))
    goal, batch, terms = proposed(lambda x: tuple(sorted(x, key=key.__getitem__)))
    (term,) = terms
    values = np.broadcast_to(evaluate_term(term, batch, WORLD.vocabulary), goal.codes.shape)
    assert ((values == goal.codes) | ~goal.mask).all()


def test_what_is_no_sort_gives_no_proposal() -> None:
    assert not proposed(lambda x: x[::-1])[2]
    assert not proposed(lambda x: x)[2]
    assert not proposed(lambda x: (x[0],) * len(x))[2]
