"""The checker's forward pass is the network's function, and its bounds hold in double and in single precision."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.check.forward import DOUBLE, SINGLE, Forward
from extract.check.reader import read_network
from extract.check.weights import Weights
from extract.network import Activation
from tests.networks import random_network, write_gpt2, write_neutral

ACTIVATIONS: tuple[Activation, ...] = ("gelu_tanh", "gelu_erf", "relu", "silu")


def plain_logits(w: Weights, prompts: Any, offset: int, kind: Any) -> Any:
    """The textbook forward pass in one float type, position by position, nothing shared and nothing folded."""

    def cast(array: Any) -> Any:
        return array.astype(kind)

    def norm(x: Any, pair: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + kind(w.norm_eps))
        return centred / spread * cast(pair[0]) + cast(pair[1])

    def activate(x: Any) -> Any:
        if w.activation == "relu":
            return np.maximum(x, kind(0))
        if w.activation == "silu":
            return x / (kind(1) + np.exp(-x))
        if w.activation == "gelu_erf":
            erf = np.vectorize(math.erf)
            return kind(0.5) * x * (kind(1) + cast(erf((x / np.sqrt(kind(2))).astype(np.float64))))
        return kind(0.5) * x * (kind(1) + np.tanh(np.sqrt(kind(2 / np.pi)) * (x + kind(0.044715) * x**3)))

    x = cast(w.embed)[prompts] + cast(w.places)[offset : offset + prompts.shape[1]]
    n, length, d = x.shape
    for layer, scale in zip(w.layers, w.attention_scale, strict=True):
        z = norm(x, layer.norm_attention)[:, None]
        maps = (layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V)
        q, k, v = (z @ cast(weight) + cast(bias)[:, None] for weight, bias in maps)
        scores = np.where(np.tri(length, dtype=bool), q @ k.swapaxes(2, 3) * kind(scale), -np.inf)
        pattern = np.exp(scores - scores.max(axis=3, keepdims=True))
        pattern /= pattern.sum(axis=3, keepdims=True)
        mixed = (pattern @ v).transpose(0, 2, 1, 3).reshape(n, length, d)
        x = x + mixed @ cast(layer.W_O.reshape(-1, d)) + cast(layer.b_O)
        hidden = activate(norm(x, layer.norm_mlp) @ cast(layer.W_in) + cast(layer.b_in))
        x = x + hidden @ cast(layer.W_out) + cast(layer.b_out)
    return norm(x, w.norm_final) @ cast(w.W_U)


def apart(logits: Any) -> Any:
    """The difference of every two logits."""
    return logits[..., :, None] - logits[..., None, :]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("n_layers", "spread"), ((0, 0.6), (1, 0.3), (1, 1.5), (2, 0.6), (3, 0.3)))
def test_bounds_hold(activation: Activation, n_layers: int, spread: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(n_layers)
    for seed in range(3):
        network = random_network(seed, n_layers=n_layers, activation=activation, spread=spread, tied=seed > 0)
        w = read_network(write_gpt2(network, tmp_path / str(seed)))
        prompts = rng.integers(0, 5, (40, 9)).astype(np.int32)
        found, bound = Forward(w, DOUBLE).logits(prompts, 2, 0)
        exact = plain_logits(w, prompts, 2, np.longdouble)
        single, wide = Forward(w, SINGLE).logits(prompts, 2, 0)
        rough = plain_logits(w, prompts, 2, np.float32)
        assert (np.abs(found - single) <= bound[1][..., None]).all()
        for values, limit in ((found, bound), (rough, wide)):
            assert (np.abs(apart(values.astype(np.longdouble)) - apart(exact)).max(axis=(2, 3)) <= limit[0]).all()
            assert (np.abs(values - exact).max(axis=2) <= limit[1]).all()
        assert bound[0].max() < 1e-6, "a bound that is true and says nothing"


def test_only_the_positions_asked_for_are_returned(tmp_path: Path) -> None:
    forward = Forward(read_network(write_gpt2(random_network(1, n_layers=2), tmp_path)))
    prompts = np.array([[3, 0, 1, 1], [3, 0, 1, 2], [0, 0, 0, 0]], np.int32)
    every, bounds = forward.logits(prompts, 0, 0)
    last, bound = forward.logits(prompts, 0, 3)
    assert np.allclose(every[:, 3:], last, atol=1e-12)
    assert bounds[:, :, 3:].shape == bound.shape


@pytest.mark.parametrize(("by_layer", "plain"), ((True, True), (False, False), (True, False)))
def test_attention_scales_are_read_from_the_config(by_layer: bool, plain: bool, tmp_path: Path) -> None:
    folder = write_gpt2(random_network(1, n_layers=2), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"scale_attn_by_inverse_layer_idx": by_layer, "scale_attn_weights": plain}
    (folder / "config.json").write_text(json.dumps(config))
    base = 1 / math.sqrt(4) if plain else 1.0
    assert list(read_network(folder).attention_scale) == pytest.approx([base, base / 2 if by_layer else base])


def test_keys_that_could_overtake_make_the_bound_infinite(tmp_path: Path) -> None:
    """Scores so large that their error could reorder them must not be trusted, however small their weight."""
    w = read_network(write_gpt2(random_network(4, spread=60.0), tmp_path))
    prompts = np.random.default_rng(0).integers(0, 5, (30, 9)).astype(np.int32)
    exact = plain_logits(w, prompts, 0, np.longdouble)
    rough = plain_logits(w, prompts, 0, np.float32)
    _, wide = Forward(w, SINGLE).logits(prompts, 0, 0)
    assert (np.abs(rough - exact).max(axis=2) <= wide[1]).all()


@pytest.mark.parametrize("sign", (1, -1))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_slope_of_an_mlp_is_above_what_two_units_reach(activation: Activation, sign: int, tmp_path: Path) -> None:
    """Two units on one coordinate: of opposite sign they reach all that the activation's slopes differ by, of one sign
    twice the steepest, and nothing is lost by bounding the middle and the rest apart."""
    network = random_network(0, d_model=1, n_heads=1, d_mlp=2, norm="none", activation=activation, tied=False)
    into, out = np.float32([[1, sign]]), np.float32([[1], [1]])
    network = replace(network, layers=(replace(network.layers[0], W_in=into, W_out=out),))
    forward = Forward(read_network(write_neutral(network, tmp_path)))
    points = np.linspace(-8, 8, 200_001)
    slopes = np.diff(forward.activate(points)) / np.diff(points)
    reached = 2 * slopes.max() if sign > 0 else slopes.max() - slopes.min()
    assert reached * (1 - 1e-9) <= forward.layers[0].slope <= 1.05 * reached
