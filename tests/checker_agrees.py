"""Comparison of the network the tool reads with the network the checker reads, number by number."""

from __future__ import annotations

from typing import Any

import numpy as np

from extract.check.weights import Pair, Weights
from extract.network import Network, Norm

_TENSORS = ("W_Q", "b_Q", "W_K", "b_K", "W_V", "b_V", "W_O", "b_O", "W_in", "b_in", "W_out", "b_out")


def differences(network: Network, weights: Weights) -> list[str]:
    """Return what differs between two readings of one file; empty if they are the same network."""
    a, found = network.architecture, []
    for name in ("embed", "pos_embed", "embed_bias", "W_U", "b_U"):
        found += [] if _equal(getattr(network, name), getattr(weights, name)) else [name]
    found += [] if _equal_norm(network.norm_final, weights.norm_final) else ["norm_final"]
    for i, (one, other) in enumerate(zip(network.layers, weights.layers, strict=True)):
        found += [f"{i}.{n}" for n in _TENSORS if not _equal(getattr(one, n), getattr(other, n))]
        norms = ("norm_attention", "norm_mlp", "norm_query", "norm_key", "norm_hidden")
        found += [f"{i}.{n}" for n in norms if not _equal_norm(getattr(one, n), getattr(other, n))]
        gate = None if one.W_gate is None or one.b_gate is None else Norm(one.W_gate, one.b_gate)
        found += [] if _equal_norm(gate, other.gate) else [f"{i}.gate"]
    if (network.head is None) != (weights.head is None):
        found.append("head")
    if network.head is not None and weights.head is not None:
        one, other = network.head, weights.head
        fits = _equal(one.W, other.W) and _equal(one.b, other.b) and _equal_norm(one.norm, other.norm)
        found += [] if fits and one.activation == other.activation else ["head"]
    rotary = [None if r is None else (r.base, r.n_dims, r.pairing) for r in (a.rotary, weights.rotary)]
    facts: dict[str, tuple[Any, Any]] = {
        "n_heads": (a.n_heads, weights.n_heads), "n_ctx": (a.n_ctx, weights.n_ctx), "norm": (a.norm, weights.norm),
        "attention_scale": (a.attention_scale, weights.attention_scale), "norm_eps": (a.norm_eps, weights.norm_eps),
        "activation": (a.activation if a.d_mlp else None, weights.activation), "rotary": (rotary[0], rotary[1]),
        "attention": (a.attention, weights.attention), "norm_place": (a.norm_place, weights.norm_place),
        "softmax_share": (a.softmax_share, weights.softmax_share), "masked": (a.masked_token, weights.masked_token),
        "embed_scale": (a.embed_scale, weights.embed_scale), "digest": (network.digest, weights.digest),
    }  # fmt: skip
    return found + [f"{name}: {one} and {other}" for name, (one, other) in facts.items() if one != other]


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool(np.array_equal(one.astype(np.float64), other))


def _equal_norm(norm: Norm | None, pair: Pair | None) -> bool:
    if norm is None or pair is None:
        return norm is pair
    return _equal(norm.weight, pair[0]) and _equal(norm.bias, pair[1])
