"""The checker's own value of a network: float32 tensors widened to float64, and what they do not say.

Readers of any file layout fill it, the checker's forward passes and bounds compute it. Activations multiply from the
left (``x @ W + b``); residual x has shape [position, d_model].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: A norm's gain and shift, or a map's weight and bias.
Pair = tuple[Floats, Floats]
_Sized = tuple[str, Floats, tuple[int, ...]]

ACTIVATIONS = ("gelu_tanh", "gelu_erf", "relu", "silu", "solu")
_LARGEST_CONTEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary positions: pair i of the first ``n_dims`` of a query or key turns by position * base^(-2i/n_dims) radians;
    ``pairing`` "halves" pairs i with i + n_dims/2, "neighbours" 2i with 2i + 1."""

    base: float
    n_dims: int
    pairing: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One block. Shapes: ``W_Q, W_K, W_V`` [head, d_model, d_head], their biases [head, d_head], ``W_O`` [head, d_head,
    d_model], ``W_in``, ``W_gate`` [d_model, d_mlp], ``W_out`` [d_mlp, d_model]; grouped keys and values once per head.

    Norms are pairs, None where there is none: of the vector before (or the sum after) attention and MLP, of each query
    and key before its rotation, of the hidden units after the activation. Hidden units are ``activation(x @ W_gate +
    b_gate) * (x @ W_in + b_in)`` with a gate, ``activation(x @ W_in + b_in)`` without.
    """

    W_Q: Floats
    b_Q: Floats
    W_K: Floats
    b_K: Floats
    W_V: Floats
    b_V: Floats
    W_O: Floats
    b_O: Floats
    W_in: Floats
    b_in: Floats
    W_out: Floats
    b_out: Floats
    norm_attention: Pair | None = None
    norm_mlp: Pair | None = None
    norm_query: Pair | None = None
    norm_key: Pair | None = None
    gate: Pair | None = None
    norm_hidden: Pair | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A hidden layer before the unembedding: ``activation(norm(x @ W + b))``, ``W`` [d_model, d_model]."""

    W: Floats
    b: Floats
    norm: Pair | None
    activation: str


@dataclass(frozen=True, slots=True)
class Weights:
    """A network. Shapes: ``embed`` [d_vocab, d_model], ``pos_embed`` [n_ctx, d_model] or None, ``embed_bias``
    [d_model] or None, ``W_U`` [d_model, d_vocab_out], ``b_U`` [d_vocab_out].

    The stream starts as ``embed_scale * embed[token] + pos_embed[position] + embed_bias``. ``attention_scale``
    multiplies query-key products, a number for each layer; attention weights are ``softmax_share`` * softmax + 1 -
    ``softmax_share``; keys that hold ``masked_token`` are hidden. ``norm_eps`` is 0 without norms, ``activation`` None
    without MLPs; ``digest`` is the sha256 of the file.
    Raises:  ValueError for shapes that do not fit, a number that is not finite, or a fact that is not known.
    """

    embed: Floats
    pos_embed: Floats | None
    layers: tuple[Layer, ...]
    norm_final: Pair | None
    W_U: Floats
    b_U: Floats
    n_heads: int
    n_ctx: int
    attention_scale: tuple[float, ...]
    norm_eps: float
    activation: str | None
    digest: str
    attention: str = "causal"
    norm: str = "layernorm"
    norm_place: str = "before"
    rotary: Rotary | None = None
    softmax_share: float = 1.0
    masked_token: int | None = None
    embed_scale: float = 1.0
    embed_bias: Floats | None = None
    head: Head | None = None

    def __post_init__(self) -> None:
        for name, array, shape in self._shapes():
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}, or is not finite")
        d_head = self.layers[0].W_Q.shape[2] if self.layers else 0
        r, kinds = self.rotary, [self.activation or "relu", *([self.head.activation] if self.head else [])]
        right = {
            "attention": self.attention in ("causal", "bidirectional"),
            "norm": self.norm in ("layernorm", "rms", "none") and self.norm_place in ("before", "after"),
            "norm_eps": self.norm_eps > 0 if self.norm != "none" else self.norm_eps == 0,
            "activation": set(kinds) <= set(ACTIVATIONS),
            "attention_scale": len(self.attention_scale) == len(self.layers),
            "rotary": r is None or (r.base > 0 and r.pairing in ("halves", "neighbours") and not r.n_dims % 2),
            "rotary's n_dims": r is None or 0 < r.n_dims <= d_head,
            # hidden keys would get a share by one reading and none by another
            "softmax_share": self.softmax_share == 1 or (self.attention, self.masked_token) == ("bidirectional", None),
            "masked_token": self.masked_token is None or self.masked_token in range(len(self.embed)),
            "numbers": _are_finite(*self.attention_scale, self.softmax_share, self.embed_scale, self.norm_eps),
            "n_ctx": 0 < self.n_ctx <= _LARGEST_CONTEXT,
        }
        wrong = [name for name, holds in right.items() if not holds]
        if wrong:
            raise ValueError(f"{wrong[0]} is not what the tensors are, or not known")

    def _shapes(self) -> Iterator[_Sized]:
        d, n_out = self.W_U.shape
        yield "embed", self.embed, (len(self.embed), d)
        yield "b_U", self.b_U, (n_out,)
        if self.pos_embed is not None:
            yield "pos_embed", self.pos_embed, (self.n_ctx, d)
        if self.embed_bias is not None:
            yield "embed_bias", self.embed_bias, (d,)
        yield from _pair_shapes("norm_final", self.norm_final, (d,))
        if self.head is not None:
            yield from _pair_shapes("head", (self.head.W, self.head.b), (d, d))
            yield from _pair_shapes("head.norm", self.head.norm, (d,))
        for i, layer in enumerate(self.layers):
            h, k, m = self.n_heads, self.layers[0].W_Q.shape[2], layer.W_in.shape[1]
            pairs: dict[str, tuple[Pair | None, tuple[int, ...]]] = {
                "Q": ((layer.W_Q, layer.b_Q), (h, d, k)), "K": ((layer.W_K, layer.b_K), (h, d, k)),
                "V": ((layer.W_V, layer.b_V), (h, d, k)), "in": ((layer.W_in, layer.b_in), (d, m)),
                "out": ((layer.W_out, layer.b_out), (m, d)), "gate": (layer.gate, (d, m)),
                "norm_attention": (layer.norm_attention, (d,)), "norm_mlp": (layer.norm_mlp, (d,)),
                "norm_query": (layer.norm_query, (k,)), "norm_key": (layer.norm_key, (k,)),
                "norm_hidden": (layer.norm_hidden, (m,)),
            }  # fmt: skip
            yield f"layers.{i}.W_O", layer.W_O, (h, k, d)
            yield f"layers.{i}.b_O", layer.b_O, (d,)
            for name, (pair, expected) in pairs.items():
                yield from _pair_shapes(f"layers.{i}.{name}", pair, expected)

    @property
    def is_plain(self) -> bool:
        """Whether the function is of GPT-2's kind: causal, of plain parts."""
        return self.attention == "causal" and self.has_plain_parts

    @property
    def has_plain_parts(self) -> bool:
        """Whether every part is of GPT-2's kind, whatever the attention sees: norms before the parts or none at all,
        plain softmax, embedding and MLP."""
        plain = ("before", None, 1.0, None, 1.0)
        mine = (self.norm_place, self.rotary, self.softmax_share, self.masked_token, self.embed_scale)
        is_bare = all(
            x.norm_query is x.norm_key is x.gate is x.norm_hidden is None
            and (x.norm_attention is None) == (self.norm == "none")
            and (x.norm_mlp is None) == (self.norm == "none" or not x.W_in.shape[1])
            for x in self.layers
        )
        is_whole = (self.norm_final is None) == (self.norm == "none") and self.embed_bias is None and self.head is None
        return mine == plain and is_bare and is_whole and self.norm != "rms" and self.activation != "solu"

    @property
    def tie(self) -> float:
        """Logits this close, relative to the top one above 1, are tied: 2^-16 where each is one coordinate of a stream
        without norms, 1 or 0 for an answer that is meant or not; 0 elsewhere, where only rounding is a tie."""
        ones, stored = self.W_U.sum(axis=0) == 1, (self.W_U != 0).sum(axis=0) == 1
        is_sign = self.norm == "none" and self.head is None and bool((ones & stored).all()) and not self.b_U.any()
        return 2.0**-16 if is_sign else 0.0

    @property
    def places(self) -> Floats:
        """The position embedding [n_ctx, d_model]; 0 where there is none."""
        return np.zeros((self.n_ctx, len(self.W_U))) if self.pos_embed is None else self.pos_embed

    @property
    def facts(self) -> dict[str, Any]:
        """What the tensors do not say about the function, as a certificate states it."""
        told: dict[str, Any] = {
            "heads": self.n_heads, "norm_eps": self.norm_eps, "activation": self.activation,
            "attention_scale": list(self.attention_scale),
        }  # fmt: skip
        r, usual = self.rotary, Weights.__dataclass_fields__
        for name, value in (
            ("norm", self.norm), ("attention", self.attention), ("norm_place", self.norm_place),
            ("softmax_share", self.softmax_share), ("masked_token", self.masked_token),
            ("embed_scale", self.embed_scale),
        ):  # fmt: skip
            told |= {} if value == usual[name].default else {name: value}
        told |= {} if r is None else {"rotary": {"base": r.base, "n_dims": r.n_dims, "pairing": r.pairing}}
        return told | ({} if self.head is None else {"head_activation": self.head.activation})


def _are_finite(*numbers: float) -> bool:
    return bool(np.isfinite(numbers).all())


def _pair_shapes(name: str, pair: Pair | None, shape: tuple[int, ...]) -> Iterator[_Sized]:
    if pair is not None:
        yield f"{name} weight", pair[0], shape
        yield f"{name} bias", pair[1], shape if len(shape) == 1 else (*shape[:-2], shape[-1])
