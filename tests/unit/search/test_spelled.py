"""Digits of a weighted sum: every choice of weights is found from the answers, also where some answers are wrong."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.lang.batched import Batch, evaluate_term
from extract.probe.choose import choose_probes
from extract.search import spelled
from extract.search.frame import frame_of
from extract.search.goals import goals_of
from tests.unit.search.worlds import domain, oracle

WORLD = domain("0123456789", lengths=(4, 4), at="generate", max_new=5, numeric=True)


def proposed(function):  # type: ignore[no-untyped-def]
    _, gate = choose_probes(oracle(WORLD, function), n_probes=20, n_gate=400, seed=0)
    frame = frame_of(gate, WORLD.vocabulary, WORLD.readout)
    goal = goals_of(gate, frame, WORLD.readout, WORLD.vocabulary)[0]
    batch = Batch(gate.inputs.codes(WORLD.vocabulary), gate.inputs.lengths, 5)
    return goal, batch, list(spelled.proposals(goal, batch, WORLD))


def digits(number: int, *, is_least_first: bool) -> tuple[int, ...]:
    text = f"{number:05d}"
    return tuple(int(c) for c in (text[::-1] if is_least_first else text))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 10, 100, 1000]), min_size=4, max_size=4), st.integers(0, 50), st.booleans())
def test_every_weighted_sum_is_found(weights: list[int], constant: int, is_least_first: bool) -> None:
    def function(x: tuple[int, ...]) -> tuple[int, ...]:
        number = constant + sum(w * v for w, v in zip(weights, x, strict=True))
        return digits(number, is_least_first=is_least_first)

    goal, batch, terms = proposed(function)
    values = [np.broadcast_to(evaluate_term(t, batch, WORLD.vocabulary), goal.codes.shape) for t in terms]
    assert any((v == goal.codes).all() for v in values)


def test_a_few_mistakes_hide_nothing() -> None:
    def function(x: tuple[int, ...]) -> tuple[int, ...]:
        number = 10 * (x[0] + x[2]) + x[1] + x[3]
        return digits(number + (x[:2] == (7, 7)), is_least_first=True)

    goal, batch, (term,) = proposed(function)
    right = (np.broadcast_to(evaluate_term(term, batch, WORLD.vocabulary), goal.codes.shape) == goal.codes).all(axis=1)
    assert 0.9 < right.mean() < 1


def test_what_is_no_weighted_sum_gives_no_proposal() -> None:
    assert not proposed(lambda x: (x[0], x[0] * x[1] % 10, x[2], x[3], 0))[2]
