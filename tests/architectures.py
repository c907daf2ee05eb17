"""Tiny networks of every architecture a ``Network`` can express, drawn part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from extract.network import Activation, Array, Attention, Head, Layer, Network, Norm, NormKind, NormPlace, Rotary
from tests.networks import random_network


@dataclass(frozen=True)
class Parts:
    """Which parts a network has; the first value of each is what most have."""

    n_layers: int = 1
    attention: Attention = "bidirectional"
    norm: NormKind = "layernorm"
    norm_place: NormPlace = "before"
    has_final_norm: bool = True
    activation: Activation = "relu"
    has_mlp: bool = True
    has_gate: bool = False
    has_hidden_norm: bool = False
    positions: str = "learned"
    rotary_dims: int = 4
    pairing: str = "halves"
    softmax_share: float = 1.0
    masked_token: int | None = None
    embed_scale: float = 1.0
    has_embed_bias: bool = False
    has_key_norms: bool = False
    head: Activation | None = None
    n_kv_heads: int = 2
    spread: float = 0.5


def network_of(parts: Parts, seed: int, d_vocab: int = 4, n_ctx: int = 10, **sizes: Any) -> Network:
    """Draw a network that has the parts; equal arguments give equal weights."""
    p, rng = parts, np.random.default_rng(seed)
    base = random_network(
        seed, p.n_layers, sizes.pop("d_model", 8), 2, d_vocab, n_ctx, attention=p.attention, spread=p.spread,
        d_mlp=6 if p.has_mlp else 0, norm="none" if p.norm == "none" else "layernorm", activation=p.activation,
        has_positions=p.positions in ("learned", "sinusoidal"), tied=False, **sizes,
    )  # fmt: skip
    a = base.architecture
    d, k, m = a.d_model, a.d_head, a.d_mlp

    def draw(*shape: int) -> Array:
        return rng.normal(0.0, p.spread, shape).astype(np.float32)

    def norm(width: int) -> Norm:
        shift = draw(width) if p.norm == "layernorm" else np.zeros(width, np.float32)
        return Norm(1 + draw(width) / 2, shift)

    def layer(given: Layer) -> Layer:
        shared = {f"{kind}_{x}": getattr(given, f"{kind}_{x}") for x in "KV" for kind in "Wb"}
        if p.n_kv_heads == 1:
            shared = {name: np.repeat(array[:1], 2, axis=0) for name, array in shared.items()}
        changed = replace(given, **shared, b_out=given.b_out if m else np.zeros(d, np.float32))
        if p.norm != "none":
            changed = replace(changed, norm_attention=norm(d), norm_mlp=norm(d) if m else None)
        if p.has_key_norms and p.norm != "none":
            changed = replace(changed, norm_query=norm(k), norm_key=norm(k))
        if p.has_gate and m:
            changed = replace(changed, W_gate=draw(d, m), b_gate=draw(m))
        return replace(changed, norm_hidden=norm(m) if p.has_hidden_norm and m and p.norm != "none" else None)

    head = None
    if p.head is not None:
        head = Head(draw(d, d), draw(d), norm(d) if p.norm != "none" else None, p.head)
    is_mixed = p.attention == "bidirectional" and p.masked_token is None
    rotary = Rotary(100.0, min(p.rotary_dims, k), p.pairing) if p.positions == "rotary" else None  # type: ignore[arg-type]
    architecture = replace(
        a, norm=p.norm, norm_place=p.norm_place, rotary=rotary, positions=p.positions, masked_token=p.masked_token,
        softmax_share=p.softmax_share if is_mixed else 1.0, embed_scale=p.embed_scale,
        norm_eps=1e-3 if p.norm != "none" else 0.0, activation=p.activation if m else "relu",
    )  # fmt: skip
    return replace(
        base, architecture=architecture, layers=tuple(layer(x) for x in base.layers), head=head,
        norm_final=norm(d) if p.has_final_norm and p.norm != "none" else None,
        embed_bias=draw(d) if p.has_embed_bias else None, b_U=draw(a.d_vocab_out),
    )  # fmt: skip


ACTIVATIONS: tuple[Activation, ...] = ("relu", "gelu_tanh", "gelu_erf", "silu", "solu")

#: What a part may be, as often as it is listed.
CHOICES: dict[str, tuple[Any, ...]] = {
    "n_layers": (1, 2), "attention": ("bidirectional", "causal"), "norm": ("layernorm", "rms", "none"),
    "norm_place": ("before", "after"), "has_final_norm": (False, True), "activation": ACTIVATIONS,
    "has_mlp": (True, True, False), "has_gate": (False, True), "has_hidden_norm": (False, True),
    "positions": ("learned", "sinusoidal", "rotary", "none"), "rotary_dims": (4, 2),
    "pairing": ("halves", "neighbours"), "softmax_share": (1.0, 0.25), "masked_token": (None, 3),
    "embed_scale": (1.0, 2.5), "has_embed_bias": (False, True), "has_key_norms": (False, True),
    "head": (None, "gelu_erf", "relu"), "n_kv_heads": (2, 1), "spread": (0.5, 1.5),
}  # fmt: skip

#: Any combination of parts.
parts: st.SearchStrategy[Parts] = st.builds(Parts, **{name: st.sampled_from(few) for name, few in CHOICES.items()})


def drawn_parts(rng: np.random.Generator) -> Parts:
    """Draw any combination of parts."""
    return Parts(**{name: few[int(rng.integers(len(few)))] for name, few in CHOICES.items()})
