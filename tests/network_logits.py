"""What a ``Network`` says, computed once more and plainly: numpy in any float type, one prompt at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.network import Network, Norm, Rotary

Floats = NDArray[np.float64]
#: To more digits than a double has.
_PI = np.longdouble("3.14159265358979323846264338327950288")
_ERF = np.frompyfunc(math.erf, 1, 1)


def logits(network: Network, ids: Sequence[int], offset: int = 0, kind: Any = np.float64) -> Floats:
    """Return [position, d_vocab_out] for one prompt in a float type; where nothing is seen they are not a number."""
    a, tokens = network.architecture, np.asarray(ids)
    x = network.embed[tokens].astype(kind) * kind(a.embed_scale)
    if network.pos_embed is not None:
        x = x + network.pos_embed[offset : offset + len(tokens)]
    if network.embed_bias is not None:
        x = x + network.embed_bias

    def normed(z: Floats, norm: Norm | None) -> Floats:
        if norm is None:
            return z
        z = z - z.mean(-1, keepdims=True) if a.norm == "layernorm" else z
        scale = np.sqrt((z * z).mean(-1, keepdims=True) + a.norm_eps)
        return z / scale * norm.weight.astype(kind) + norm.bias

    is_after = a.norm_place == "after"
    for i, layer in enumerate(network.layers):
        z = x if is_after else normed(x, layer.norm_attention)
        q, k, v = (
            np.einsum("pd,hdk->hpk", z, w.astype(kind)) + b[:, None]
            for w, b in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
        )
        q, k = normed(q, layer.norm_query), normed(k, layer.norm_key)
        if a.rotary is not None:
            q, k = turned(q, a.rotary, offset), turned(k, a.rotary, offset)
        scores = q @ k.swapaxes(1, 2) * a.attention_scale[i]
        hidden = np.zeros(scores.shape[1:], bool)
        if a.attention == "causal":
            hidden |= ~np.tri(len(tokens), dtype=bool)
        if a.masked_token is not None:
            hidden |= (tokens == a.masked_token)[None, :]
            v = np.where((tokens == a.masked_token)[:, None], 0, v)  # may be no number, and nobody sees it
        scores = np.where(hidden, -np.inf, scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = a.softmax_share * weights / weights.sum(-1, keepdims=True) + (1 - a.softmax_share)
        x = x + np.einsum("hpk,hkd->pd", weights @ v, layer.W_O.astype(kind)) + layer.b_O
        x = normed(x, layer.norm_attention) if is_after else x
        if a.d_mlp:
            z = x if is_after else normed(x, layer.norm_mlp)
            into = z @ layer.W_in.astype(kind) + layer.b_in
            if layer.W_gate is None:
                units = activated(into, a.activation)
            else:
                units = activated(z @ layer.W_gate.astype(kind) + layer.b_gate, a.activation) * into
            x = x + normed(units, layer.norm_hidden) @ layer.W_out.astype(kind) + layer.b_out
            x = normed(x, layer.norm_mlp) if is_after else x
    x = normed(x, network.norm_final)
    if network.head is not None:
        x = x @ network.head.W.astype(kind) + network.head.b
        x = activated(normed(x, network.head.norm), network.head.activation)
    return np.asarray(x @ network.W_U.astype(kind) + network.b_U)


def turned(z: Floats, rotary: Rotary, offset: int = 0) -> Floats:
    """Return [head, position, d_head] turned by position."""
    n = rotary.n_dims
    powers = z.dtype.type(rotary.base) ** (-2 * np.arange(n // 2, dtype=z.dtype) / n)
    angles = (offset + np.arange(z.shape[1]))[:, None] * powers
    cos, sin, out = np.cos(angles), np.sin(angles), z.copy()
    first, second = (
        (slice(0, n // 2), slice(n // 2, n)) if rotary.pairing == "halves" else (slice(0, n, 2), slice(1, n, 2))
    )
    out[..., first] = z[..., first] * cos - z[..., second] * sin
    out[..., second] = z[..., second] * cos + z[..., first] * sin
    return out


def activated(z: Floats, name: str) -> Any:
    """Return an activation of hidden units."""
    if name == "relu":
        return np.maximum(z, 0)
    if name == "silu":
        return z / (1 + np.exp(-z))
    if name == "gelu_erf":
        return z * 0.5 * (1 + _ERF(z / np.sqrt(z.dtype.type(2))).astype(z.dtype))
    if name == "gelu_tanh":
        return 0.5 * z * (1 + np.tanh(np.sqrt(2 / _PI).astype(z.dtype) * (z + z.dtype.type(0.044715) * z**3)))
    share = np.exp(z - z.max(-1, keepdims=True))
    return z * share / share.sum(-1, keepdims=True)
