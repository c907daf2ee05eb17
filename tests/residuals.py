"""What a causal network's forms must hold, computed plainly: residual vectors, and attention at its worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.network import Network, Norm
from tests.network_logits import activated

WIDE = np.longdouble
Floats = NDArray[Any]


def residuals(network: Network, prompts: NDArray[Any], offset: int) -> list[Floats]:
    """Return the residual vectors after each layer's attention, [prompt, position, d_model]."""
    a, n = network.architecture, prompts.shape[1]
    x = network.embed[prompts].astype(WIDE)
    if network.pos_embed is not None:
        x = x + network.pos_embed[offset : offset + n]

    def normed(z: Floats, norm: Norm | None) -> Floats:
        assert norm is not None
        z = z - z.mean(-1, keepdims=True)
        return z / np.sqrt((z * z).mean(-1, keepdims=True) + a.norm_eps) * norm.weight.astype(WIDE) + norm.bias

    found = []
    for i, layer in enumerate(network.layers):
        z = normed(x, layer.norm_attention)
        q, k, v = (
            np.einsum("npd,hdk->nhpk", z, w.astype(WIDE)) + b[:, None]
            for w, b in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
        )
        scores = np.einsum("nhpk,nhsk->nhps", q, k) * WIDE(a.attention_scale[i])
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        heads = np.einsum("nhps,nhsk->nhpk", weights, v)
        x = x + np.einsum("nhpk,hkd->npd", heads, layer.W_O.astype(WIDE)) + layer.b_O
        found.append(x)
        hidden = normed(x, layer.norm_mlp) @ layer.W_in.astype(WIDE) + layer.b_in
        x = x + activated(hidden, a.activation) @ layer.W_out.astype(WIDE) + layer.b_out
    return found


def room(form: Any) -> Floats:
    """Return how far each coordinate of forms can be from its centre."""
    return np.asarray(np.abs(form.noise).astype(WIDE).sum(-1) + form.radius)


def worst_attention(
    query: Floats, keys: Sequence[Any], values: Sequence[Any], states: Sequence[int], scale: float, along: Floats
) -> Floats:
    """Return an output of one head that is about as far along a direction as forms of keys and values allow.

    Position p is in state ``states[p]`` of ``keys[p]`` and ``values[p]``; its points are corners of these forms.
    """
    value, low, high = [], [], []
    for key, form, state in zip(keys, values, states, strict=True):
        symbols = np.sign(along @ form.noise[state])
        value.append(form.centre[state] + form.noise[state] @ symbols + np.sign(along) * form.radius[state])
        wide = np.abs(query @ key.noise[state]).sum() + np.abs(query) @ key.radius[state]
        middle = scale * (query @ key.centre[state])
        low.append(middle - abs(scale) * wide)
        high.append(middle + abs(scale) * wide)
    rows = np.array(value, WIDE)
    mean = -np.inf
    for _ in range(20):
        scores = np.where(rows @ along > mean, high, low)
        weights = np.exp((scores - scores.max()).astype(WIDE))
        output = weights @ rows / weights.sum()
        if not output @ along > mean:
            break
        mean = output @ along
    return np.asarray(output)


def drawn_forms(rng: np.random.Generator, n: int, width: int, k: int, scale: float, make: Callable[..., Any]) -> Any:
    """Draw forms side by side, some of them points."""
    of_noise, of_radius = (scale * rng.choice([0.0, 1.0, 1.0], (n, 1)) for _ in range(2))
    noise = rng.normal(0, 1, (n, width, k)) * of_noise[..., None]
    return make(rng.normal(0, 1, (n, width)), noise, rng.uniform(0, 1, (n, width)) * of_radius)
