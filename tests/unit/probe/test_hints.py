"""Hints: what is known to be inside is seen first, chance is subtracted, and the same look gives the same hints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from extract.hints import Hints
from extract.lang.batch import evaluate_term
from extract.lang.syntax import parse_program, print_term
from extract.lang.terms import Term
from extract.model.network_oracle import NetworkOracle
from extract.network import Network
from extract.probe.hints import hints_of
from extract.probe.looking import ask, draw, look, total_variation, untrained_twin
from tests.networks import random_network
from tests.unit.probe.by_hand import PREVIOUS, pair_domain, pair_network

DOMAIN = pair_domain()


@pytest.fixture(scope="module")
def network() -> Network:
    return pair_network()


@pytest.fixture(scope="module")
def hints(network: Network) -> Hints:
    return hints_of(network, DOMAIN, seed=0)


def term(text: str) -> Term:
    return parse_program(f"output = {text}", "every").term()


def test_the_selector_a_head_was_set_to_comes_first(hints: Hints) -> None:
    first = hints.selectors[0]
    asked = ask(DOMAIN, draw(DOMAIN, 0), np.zeros((0, 0), np.int32))
    mask = evaluate_term(first.term, asked.batch, DOMAIN.vocabulary)
    wanted = evaluate_term(term(PREVIOUS).arguments[0], asked.batch, DOMAIN.vocabulary)
    later = asked.batch.mask.copy()
    later[:, 0] = False
    assert (mask == wanted)[later].all(), print_term(first.term)
    assert first.seen == "layer 0 head 1"
    assert first.score > 3 * abs(hints.selectors[8].score)


def test_a_head_that_writes_nothing_has_no_effect(hints: Hints) -> None:
    dead, alive = hints.heads
    assert (dead.head, dead.direct, dead.total) == (0, 0.0, 0.0)
    assert alive.direct == pytest.approx(alive.total)
    assert alive.largest > 0.2


def test_features_above_the_twin_come_first_and_a_twin_has_none(hints: Hints, network: Network) -> None:
    scores = {print_term(hint.term): hint.score for hint in hints.features}
    best = max(scores, key=lambda name: scores[name])
    assert "shift(tokens, 1)" in (best, *sorted(scores, key=lambda name: -scores[name])[:3])
    twin = hints_of(untrained_twin(network, 99), DOMAIN, seed=0)
    assert max(h.score for h in twin.selectors) < 0.3 * hints.selectors[0].score


def test_the_same_look_gives_the_same_hints(hints: Hints, network: Network) -> None:
    assert hints_of(network, DOMAIN, seed=0) == hints
    assert [h.score for h in hints.selectors] == sorted((h.score for h in hints.selectors), reverse=True)


def test_a_network_of_attention_alone_has_a_twin() -> None:
    """What is not there has no spread; it used to be the mean of nothing."""
    with np.errstate(all="raise"):
        twin = untrained_twin(random_network(1, d_mlp=0), seed=3)
    assert twin.layers[0].W_in.size == 0


def test_no_layers_no_hints(network: Network) -> None:
    none = replace(network, architecture=replace(network.architecture, n_layers=0, attention_scale=()), layers=())
    assert not hints_of(none, DOMAIN, seed=0)


def test_an_order_scores_what_it_does_not_list_by_its_parts(hints: Hints) -> None:
    listed = hints.selectors[0]
    assert hints.score(listed.term) == listed.score
    assert hints.score(Term("selector_width", (listed.term,))) == pytest.approx(listed.score)
    assert hints.score(Term("boolean", (), (1,))) == 0


def test_patterns_are_probabilities_at_the_places_asked(network: Network) -> None:
    inputs = draw(DOMAIN, 1)
    asked = ask(DOMAIN, inputs, NetworkOracle(network, DOMAIN).answer(inputs).values)
    seen = look(network, DOMAIN, asked)
    pattern, mask = seen.patterns["position"], seen.mask["position"]
    assert mask.sum() == inputs.lengths.sum()
    assert np.allclose(pattern.sum(axis=4)[:, :, mask], 1)
    assert not pattern[:, :, ~mask].any()
    assert (seen.residual["position"][0][mask][:, :3].sum(axis=1) == 1).all()


@given(arrays(np.float64, (5, 4), elements=st.floats(0.015625, 1)), arrays(np.bool_, (5, 3)))
def test_total_variation_is_a_distance_from_even_attention(weights: np.ndarray, chosen: np.ndarray) -> None:
    pattern = weights / weights.sum(axis=1, keepdims=True)
    apart = total_variation(pattern, chosen)
    assert ((apart >= 0) & (apart <= 1 + 1e-12)).all()
    even = np.concatenate([chosen, ~chosen.any(axis=1, keepdims=True)], axis=1).astype(float)
    assert np.allclose(total_variation(even / even.sum(axis=1, keepdims=True), chosen), 0)
    others = np.concatenate([~chosen, np.zeros((5, 1), bool)], axis=1).astype(float)
    some = chosen.any(axis=1) & ~chosen.all(axis=1)
    spread = others[some] / others[some].sum(axis=1, keepdims=True)
    assert np.allclose(total_variation(spread, chosen[some]), 1)
