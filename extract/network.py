"""The network as a value: what a checkpoint says, as plain numpy arrays and a few named facts.

The forward pass, the bounds and the probes read it; nothing here computes an activation. It refuses to know
which file format the weights came from and what the network was trained to do.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from extract.errors import CheckpointError

Array = NDArray[np.float32]

Attention = Literal["causal", "bidirectional"]
NormKind = Literal["layernorm", "rms", "none"]
NormPlace = Literal["before", "after"]
Activation = Literal["gelu_tanh", "gelu_erf", "relu", "silu", "solu"]
Positions = Literal["learned", "sinusoidal", "rotary", "none"]
#: Which dimensions of a head a rotation pairs: i with i + d_head/2, or 2i with 2i + 1.
Pairing = Literal["halves", "neighbours"]


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary positions: pair i of the first ``n_dims`` of a query or key turns by position * base^(-2i/n_dims).

    Source:  Su et al. 2021, "RoFormer", section 3.2.
    """

    base: float
    n_dims: int
    pairing: Pairing


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a network and the function each part computes.

    Counts: ``n_ctx`` is the number of position ids, ``d_vocab`` the number of token ids, ``d_vocab_out`` the
    number of logits. ``attention_scale`` multiplies query-key products, one number per layer. A ``d_mlp`` of 0 means
    no MLP; ``activation`` is then applied to nothing.

    ``norm_place`` "before": x + part(norm(x)); "after": norm(x + part(x)). ``norm`` names the kind of every norm there
    is, those of queries, keys, hidden units and the head too. Attention weights are ``softmax_share`` times the softmax
    plus 1 - ``softmax_share`` for every key, which are all seen then. Keys that hold ``masked_token`` are hidden from
    every query; what a query with no key left attends to is undefined (frameworks differ): its heads give 0 where a
    number is needed, and no bound is given for what depends on it. The stream starts as ``embed_scale * embed[token] +
    pos_embed[position] + embed_bias``.
    """

    n_layers: int
    d_model: int
    n_heads: int
    d_head: int
    d_mlp: int
    n_ctx: int
    d_vocab: int
    d_vocab_out: int
    attention: Attention
    norm: NormKind
    norm_eps: float
    activation: Activation
    positions: Positions
    attention_scale: tuple[float, ...]
    dtype: str
    norm_place: NormPlace = "before"
    rotary: Rotary | None = None
    softmax_share: float = 1.0
    masked_token: int | None = None
    embed_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm's gain and shift, each as wide as what is normed; the shift of an RMS norm is 0."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Layer:
    """One block. Shapes: ``W_Q, W_K, W_V`` [head, d_model, d_head], their biases [head, d_head],
    ``W_O`` [head, d_head, d_model], ``W_in`` [d_model, d_mlp], ``W_out`` [d_mlp, d_model]; activations multiply
    from the left (``x @ W + b``). Without an MLP ``d_mlp`` is 0 and ``b_out`` is 0. Grouped keys and values are
    stored once for each head. ``norm_query`` and ``norm_key`` [d_head] act on each head before its rotation. With
    ``W_gate``, ``b_gate`` (as ``W_in``, ``b_in``) the hidden units are ``activation(x @ W_gate + b_gate) * (x @ W_in +
    b_in)``; ``norm_hidden`` [d_mlp] acts on them after the activation."""

    norm_attention: Norm | None
    W_Q: Array
    b_Q: Array
    W_K: Array
    b_K: Array
    W_V: Array
    b_V: Array
    W_O: Array
    b_O: Array
    norm_mlp: Norm | None
    W_in: Array
    b_in: Array
    W_out: Array
    b_out: Array
    norm_query: Norm | None = None
    norm_key: Norm | None = None
    W_gate: Array | None = None
    b_gate: Array | None = None
    norm_hidden: Norm | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A hidden layer before the unembedding: ``activation(norm(x @ W + b))``. Shapes: ``W`` [d_model, d_model],
    ``b`` [d_model]."""

    W: Array
    b: Array
    norm: Norm | None
    activation: Activation


@dataclass(frozen=True, slots=True)
class Network:
    """Architecture, weights and the sha256 of the file they came from.

    Shapes: ``embed`` [d_vocab, d_model], ``pos_embed`` [n_ctx, d_model] or None (computed sinusoids are a table too),
    ``embed_bias`` [d_model] added to every embedding or None, ``W_U`` [d_model, d_vocab_out], ``b_U`` [d_vocab_out];
    ``head`` comes between ``norm_final`` and ``W_U``. Weights are float32 whatever the file held, and finite; the
    constructor checks shapes.
    Raises:  CheckpointError naming the tensor, its shape and the expected shape.
    """

    architecture: Architecture
    digest: str
    embed: Array
    pos_embed: Array | None
    layers: tuple[Layer, ...]
    norm_final: Norm | None
    W_U: Array
    b_U: Array
    embed_bias: Array | None = None
    head: Head | None = None

    def __post_init__(self) -> None:
        for name, array, expected in self._expected_shapes():
            if array.shape != expected:
                raise CheckpointError(
                    f"{name} has shape {list(array.shape)}, expected {list(expected)}",
                    hint="config.json and the tensors disagree",
                )
            if not np.isfinite(array).all():
                index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise CheckpointError(
                    f"{name}{list(index)} is {array[index]}, expected a finite number",
                    hint="nothing can be proved about a network with NaN or infinite weights",
                )

        a = self.architecture
        if a.softmax_share != 1.0 and (a.attention != "bidirectional" or a.masked_token is not None):
            raise CheckpointError(
                f"attention mixed with a share of {1 - a.softmax_share:.6g} for every key, and keys that are hidden",
                hint="whether a hidden key gets that share is not settled: read this network with bidirectional "
                "attention and without a masked token",
            )

    def _expected_shapes(self) -> list[tuple[str, Array, tuple[int, ...]]]:
        a = self.architecture
        h, d, k, m = a.n_heads, a.d_model, a.d_head, a.d_mlp
        rows: list[tuple[str, Array, tuple[int, ...]]] = [("embed", self.embed, (a.d_vocab, d))]
        if self.pos_embed is not None:
            rows.append(("pos_embed", self.pos_embed, (a.n_ctx, d)))
        if self.embed_bias is not None:
            rows.append(("embed_bias", self.embed_bias, (d,)))
        shapes = {
            "W_Q": (h, d, k), "b_Q": (h, k), "W_K": (h, d, k), "b_K": (h, k), "W_V": (h, d, k), "b_V": (h, k),
            "W_O": (h, k, d), "b_O": (d,), "W_in": (d, m), "b_in": (m,), "W_out": (m, d), "b_out": (d,),
        }  # fmt: skip
        for i, layer in enumerate(self.layers):
            rows += [(f"layers.{i}.{name}", getattr(layer, name), shape) for name, shape in shapes.items()]
            rows += _norm_shapes(f"layers.{i}.norm_attention", layer.norm_attention, d)
            rows += _norm_shapes(f"layers.{i}.norm_mlp", layer.norm_mlp, d)
            rows += _norm_shapes(f"layers.{i}.norm_query", layer.norm_query, k)
            rows += _norm_shapes(f"layers.{i}.norm_key", layer.norm_key, k)
            rows += _norm_shapes(f"layers.{i}.norm_hidden", layer.norm_hidden, m)
            if layer.W_gate is not None and layer.b_gate is not None:
                rows += [(f"layers.{i}.W_gate", layer.W_gate, (d, m)), (f"layers.{i}.b_gate", layer.b_gate, (m,))]
        rows += _norm_shapes("norm_final", self.norm_final, d)
        if self.head is not None:
            rows += [("head.W", self.head.W, (d, d)), ("head.b", self.head.b, (d,))]
            rows += _norm_shapes("head.norm", self.head.norm, d)
        rows += [("W_U", self.W_U, (d, a.d_vocab_out)), ("b_U", self.b_U, (a.d_vocab_out,))]
        return rows

    @property
    def beyond_gpt2(self) -> tuple[str, ...]:
        """The parts of the function that GPT-2's kind (norms before sublayers, plain softmax, plain MLP) does not have.

        Bounds and shared work that were derived for that kind say these by name and stand aside.
        """
        a = self.architecture
        found = {
            "RMS norm": a.norm == "rms",
            "norms after the sum": a.norm_place == "after",
            "rotary positions": a.rotary is not None,
            "mixed attention": a.softmax_share != 1.0,
            "masked keys": a.masked_token is not None,
            "scaled embedding": a.embed_scale != 1.0,
            "embedding bias": self.embed_bias is not None,
            "hidden layer in the head": self.head is not None,
            "SoLU": a.activation == "solu",
            "norms of queries and keys": any(x.norm_query or x.norm_key for x in self.layers),
            "gated MLP": any(x.W_gate is not None for x in self.layers),
            "norm inside the MLP": any(x.norm_hidden for x in self.layers),
            "norms at some places only": a.norm != "none" and not self._is_normed_throughout(),
        }
        return tuple(name for name, is_there in found.items() if is_there)

    @property
    def tie(self) -> float:
        """Logits at most this far below the top one, relative to it where it is above 1, are tied with it: none wins.

        2^-30, far above what float64 can make of equal logits. 2^-16 where every logit is one coordinate of a residual
        stream without norms, as compilers of programs make them: 1 or 0 says whether an answer is meant, and what a
        softmax leaks (up to some 10^-6 in Tracr's networks) says nothing.
        """
        is_indicator = ((self.W_U != 0).sum(axis=0) == 1).all() and (self.W_U.sum(axis=0) == 1).all()
        is_compiled = self.architecture.norm == "none" and self.head is None and is_indicator and not self.b_U.any()
        return 2.0**-16 if is_compiled else 2.0**-30

    def _is_normed_throughout(self) -> bool:
        sites = [self.norm_final, *(layer.norm_attention for layer in self.layers)]
        sites += [layer.norm_mlp for layer in self.layers if self.architecture.d_mlp]
        return all(site is not None for site in sites)

    @property
    def n_parameters(self) -> int:
        """The number of stored weights, a tied unembedding counted once."""
        arrays = [array for _, array, _ in self._expected_shapes()]
        total = sum(array.size for array in arrays if array is not self.W_U)
        tied = self.W_U.shape == self.embed.T.shape and np.shares_memory(self.W_U, self.embed)
        return total + (0 if tied else self.W_U.size)


def _norm_shapes(name: str, norm: Norm | None, d_model: int) -> list[tuple[str, Array, tuple[int, ...]]]:
    if norm is None:
        return []
    return [(f"{name}.{f.name}", getattr(norm, f.name), (d_model,)) for f in fields(norm)]
