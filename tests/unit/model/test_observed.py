"""Changing one thing: a head given its own output changes nothing, and taking a part out moves what it should."""

from __future__ import annotations

import numpy as np
import pytest

from extract.model.observed import Observed
from tests.networks import random_network

PROMPTS = np.array([[0, 1, 2, 3], [4, 3, 2, 1], [2, 2, 0, 0]])


@pytest.fixture(params=[1, 2])
def observed(request: pytest.FixtureRequest) -> Observed:
    return Observed(random_network(5, n_layers=request.param))


def test_a_head_in_its_own_place_changes_nothing(observed: Observed) -> None:
    trace = observed.trace(PROMPTS, 2)
    for layer in range(trace.n_layers):
        for head in range(trace.n_heads):
            own = trace[f"layers.{layer}.heads"][:, head]
            assert np.allclose(observed.with_head(PROMPTS, 2, layer, head, own), trace["logits"], atol=1e-12)
            other = observed.with_head(PROMPTS, 2, layer, head, own[::-1])
            assert np.abs(other - trace["logits"])[[0, 2]].max() > 1e-3


def test_what_is_left_without_the_whole_stream_is_the_last_norms_shift(observed: Observed) -> None:
    trace = observed.trace(PROMPTS, 0)
    last = trace.n_layers - 1
    none = np.zeros_like(trace["final"])
    assert np.allclose(observed.without(PROMPTS, 0, none), trace["logits"], atol=1e-12)
    part = trace[f"layers.{last}.residual"]
    norm = observed.network.norm_final
    assert norm is not None
    constant = norm.bias.astype(np.float64) @ observed.network.W_U + observed.network.b_U
    assert np.allclose(observed.without(PROMPTS, 0, part), constant, atol=1e-9)
