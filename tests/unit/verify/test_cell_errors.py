"""What errors key by key are counted from: normalised vectors, queries, keys and values of every cell, about exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from extract.network import Norm
from extract.verify.care import CAREFUL, CareStages
from extract.verify.cell_errors import CellErrors
from extract.verify.rounding import FLOAT32
from extract.verify.stages import claims_of
from tests.networks import random_network
from tests.unit.verify.enumeration_cases import make_domain


@pytest.mark.parametrize("kind", ("none", "layernorm"))
@pytest.mark.parametrize("eps", (1e-5, 0.5))
def test_the_vectors_are_those_of_the_network(kind: str, eps: float) -> None:
    rng, network = np.random.default_rng(0), random_network(3, 1, 8, 2, 5, 6, norm=kind)
    layer = network.layers[0]
    if layer.norm_attention is not None:
        gain, shift = rng.normal(0, 3, (2, 8)).astype(np.float32)
        layer = replace(layer, norm_attention=Norm(gain, shift))
    network = replace(network, layers=(layer,), architecture=replace(network.architecture, norm_eps=eps))
    stages = CareStages(network, make_domain().readout, claims_of("f32-any-order"))(CAREFUL)
    rows = rng.normal(0, 1, (8, 12))
    found = CellErrors(stages, rows, (0.0, 0.0, 0.0), FLOAT32)
    x = z = rows.T
    if layer.norm_attention is not None:
        c = x - x.mean(axis=1, keepdims=True)
        x = c / np.sqrt((c * c).mean(axis=1, keepdims=True) + eps)
        z = x * layer.norm_attention.weight + layer.norm_attention.bias
    assert np.allclose(found._normed.z, x, rtol=1e-12)
    ours = found._query, found._key, found._value
    made_by = (layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V)
    for side, (weights, bias) in zip(ours, made_by, strict=True):
        exact = z @ weights.astype(np.float64) + bias[:, None]
        assert np.allclose(side.made, exact, rtol=1e-9, atol=1e-12)
        assert (side.error > 2.0**-24 * np.abs(exact)).all()
