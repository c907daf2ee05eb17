"""Closed forms of generated answers recover what the probes were made with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.lang.batched import Batch, evaluate_term
from extract.lang.terms import Term
from extract.oracle import ProbeSet
from extract.search.frame import frame_of
from extract.search.generated import GeneratedForms
from extract.search.goals import Goal, goals_of
from tests.unit.search.worlds import Function, domain, oracle

LETTERS = domain("abcd", lengths=(1, 6), at="generate", max_new=14)
NUMBERS = domain("01234", lengths=(2, 5), at="generate", numeric=True, max_new=9)
A = LETTERS.vocabulary.symbol_code("a")


def forms_of(world_function: Function, *, numeric: bool = False) -> tuple[GeneratedForms, tuple[Goal, ...], Batch]:
    world = NUMBERS if numeric else LETTERS
    inputs = world.sample(60, 3)
    probes = ProbeSet(inputs, oracle(world, world_function).answer(inputs))
    frame = frame_of(probes, world.vocabulary, world.readout)
    batch = Batch(inputs.codes(world.vocabulary), inputs.lengths, max(frame.care.shape[1], 1))
    goals = goals_of(probes, frame, world.readout, world.vocabulary)
    return GeneratedForms(frame, batch, world), goals, batch


def is_right(term: Term, goal: Goal, batch: Batch, *, numeric: bool = False) -> bool:
    values = evaluate_term(term, batch, (NUMBERS if numeric else LETTERS).vocabulary)
    return bool(((np.broadcast_to(values, goal.codes.shape) == goal.codes) | ~goal.mask).all())


READS: dict[str, Callable[[tuple[int, ...]], tuple[int, ...]]] = {
    "as it is": lambda c: c,
    "backwards": lambda c: c[::-1],
    "in order": lambda c: tuple(sorted(c)),
    "distinct": lambda c: tuple(dict.fromkeys(c)),
    "twice each": lambda c: tuple(x for x in c for _ in range(2)),
    "commonest first": lambda c: tuple(sorted(c, key=lambda x: -c.count(x))),
    "rarest first": lambda c: tuple(sorted(c, key=c.count)),
    "distinct, commonest first": lambda c: tuple(sorted(dict.fromkeys(c), key=lambda x: -c.count(x))),
    "distinct, rarest first": lambda c: tuple(sorted(dict.fromkeys(c), key=c.count)),
}


@pytest.mark.parametrize("name", sorted(READS))
def test_each_order_of_the_input_is_found(name: str) -> None:
    forms, goals, batch = forms_of(READS[name])
    assert any(is_right(term, goals[0], batch) for term in forms.proposals(goals[0]))


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(sorted(READS)), st.sampled_from(sorted(READS)), st.integers(0, 2))
def test_two_reads_one_after_the_other_are_found(left: str, right: str, cut: int) -> None:
    def function(codes: tuple[int, ...]) -> tuple[int, ...]:
        return READS[left](codes) + READS[right](codes)[:cut]

    forms, goals, batch = forms_of(function)
    assert any(is_right(term, goals[0], batch) for term in forms.proposals(goals[0]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2), st.integers(0, 2), st.sampled_from([max, min]))
def test_lengths_affine_in_two_features_are_found(offset: int, factor: int, pick: Callable[..., int]) -> None:
    def function(codes: tuple[int, ...]) -> tuple[int, ...]:
        n = factor * len(codes) if factor else pick(codes.count(A), len(set(codes)))
        return codes[:1] * (n + offset)

    forms, goals, batch = forms_of(function)
    found = forms.proposals(goals[1])
    assert any(is_right(term, goals[1], batch) for term in found)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([1, -1, 2]), st.integers(-2, 2))
def test_progressions_from_a_token_are_found(stride: int, start: int) -> None:
    forms, goals, batch = forms_of(lambda c: tuple(c[0] + start + stride * j for j in range(c[-1] + 1)), numeric=True)
    for goal in goals:
        assert any(is_right(term, goal, batch, numeric=True) for term in forms.proposals(goal))


def test_slack_bears_a_wrong_answer_and_exact_fits_do_not() -> None:
    seen: list[tuple[int, ...]] = []

    def function(codes: tuple[int, ...]) -> tuple[int, ...]:
        seen.append(codes)
        return codes[::-1] if len(seen) == 9 and codes != codes[::-1] else codes

    forms, goals, batch = forms_of(function)
    assert not any(is_right(term, goals[0], batch) for term in forms.proposals(goals[0]))
    best = forms.proposals(goals[0], 0.1)[0]
    right = evaluate_term(best, batch, LETTERS.vocabulary) == goals[0].codes
    assert ((right | ~goals[0].mask).all(axis=1)).sum() == 59


def test_short_inputs_are_split_off() -> None:
    forms, goals, batch = forms_of(lambda c: c if len(c) > 2 else (c[0], c[0], c[0]))
    copied = Term("first", (Term("select", (Term("indices"), Term("step")), ("==",)), Term("tokens")))
    found = list(forms.splits(goals[0], copied))
    assert any(is_right(term, goals[0], batch) for term in found)
    assert not list(forms.splits(goals[0], Term("first", (Term("everywhere"), Term("tokens")))))
