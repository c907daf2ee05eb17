"""The stages of a forward pass on feature-major arrays [feature, row], each with the rounding bound of its result.

Rows are whatever a method batches: nodes of a trie, leaves of a sum table, positions of prompts. A stage computes
the network's own graph of operations, in one float type, and asks ``Analysis`` how far the result can be from the
real one. It refuses to know how rows are related; attention is the caller's.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.network import Layer, Network, Norm
from extract.readout import ReadOut
from extract.verify.activations import activate
from extract.verify.activations import slope as activation_slope
from extract.verify.rounding import (
    FLOAT32,
    Analysis,
    Arithmetic,
    Errors,
    Measured,
    Scalar,
    Weighing,
    arithmetic_of,
    group_max,
    group_min,
)
from extract.verify.weight_norms import LinearNorms, WeightNorms, gained

Floats = NDArray[Any]

#: Floats of a scratch array at least; from 4 MiB on numpy asks for large pages.
_SCRATCH_FLOATS = 1 << 20
#: Covers the rounding of a measured norm of at most some thousand terms in float32.
_WIDER = 1 + 2.0**-10


@dataclass(frozen=True, slots=True)
class Stream:
    """Residual rows [d_model, row] with their largest norm and their error bounds."""

    rows: Floats
    norm: Scalar
    errors: Errors


@dataclass(frozen=True, slots=True)
class Projections:
    """Queries, keys and values [head * d_head, row] of a layer, each with the largest norm of one head's vector."""

    query: Floats
    key: Floats
    value: Floats
    query_measure: Measured
    key_measure: Measured
    value_measure: Measured


@dataclass(frozen=True, slots=True)
class _LayerArrays:
    """A layer's maps, the gain and shift of the layer norms before them multiplied in."""

    W_QKV: Floats
    b_QKV: Floats
    W_O: Floats
    b_O: Floats
    W_in: Floats
    b_in: Floats
    W_out: Floats
    b_out: Floats
    gained_Q: Floats
    gained_K: Floats
    joint_gram: Floats


class Stages:
    """A network's weights in one float type, transposed for feature-major rows, and the bounds of its stages.

    ``claims`` are arithmetics other than our own whose decisions must agree with ours too. ``is_fine`` measures the
    derivatives of scores and MLPs as well, for bounds tighter by orders of magnitude at some three times the work.
    """

    def __init__(
        self,
        network: Network,
        readout: ReadOut,
        weights: WeightNorms,
        dtype: type[np.floating[Any]],
        claims: tuple[Arithmetic, ...] = (),
        *,
        is_fine: bool = False,
    ) -> None:
        a = network.architecture
        self.network = network
        self.architecture = a
        self.dtype = np.dtype(dtype)
        self.is_fine = is_fine
        self.n_layers, self.n_heads, self.d_head = a.n_layers, a.n_heads, a.d_head
        self.analysis = Analysis(weights, (arithmetic_of(self.dtype), *claims))
        self.scales = tuple(float(s) for s in a.attention_scale)
        self._local = threading.local()
        self._embed = self._cast(network.embed.T)
        self._positions = None if network.pos_embed is None else self._cast(network.pos_embed.T)
        self._layers = tuple(self._layer(layer) for layer in network.layers)
        choices = list(readout.choices)
        self._unembed, self._unembed_bias = self._folded(
            network.norm_final, network.W_U[:, choices], network.b_U[choices]
        )

    def _cast(self, array: Floats) -> Floats:
        return np.ascontiguousarray(array, dtype=self.dtype)

    def _folded(self, norm: Norm | None, weights: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Return (gain * W)^T and the column shift @ W + b of a map after a layer norm.

        Both are computed in float64 at least: a product of two float32 numbers is exact there.
        """
        if norm is None:
            return self._cast(weights.T), self._cast(bias)[:, None]
        wide = np.promote_types(self.dtype, np.float64)
        matrix = weights.astype(wide)
        shift = norm.bias.astype(wide) @ matrix + bias.astype(wide)
        return self._cast((matrix * norm.weight.astype(wide)[:, None]).T), self._cast(shift)[:, None]

    def _layer(self, layer: Layer) -> _LayerArrays:
        d = self.architecture.d_model
        joined = np.concatenate([w.transpose(1, 0, 2).reshape(d, -1) for w in (layer.W_Q, layer.W_K, layer.W_V)], 1)
        biases = np.concatenate([b.reshape(-1) for b in (layer.b_Q, layer.b_K, layer.b_V)])
        return _LayerArrays(
            *self._folded(layer.norm_attention, joined, biases),
            self._cast(layer.W_O.reshape(-1, d).T),
            self._cast(layer.b_O)[:, None],
            *self._folded(layer.norm_mlp, layer.W_in, layer.b_in),
            self._cast(layer.W_out.T),
            self._cast(layer.b_out)[:, None],
            *self._fine_arrays(layer),
        )

    def _fine_arrays(self, layer: Layer) -> tuple[Floats, Floats, Floats]:
        """Return what measures derivatives: query and key matrices with the gain, and the Gram matrix of the MLP's
        rank-one terms, whose quadratic form in the slopes is the squared Frobenius norm of its derivative."""
        if not self.is_fine:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        query, key = (np.stack([gained(layer.norm_attention, w) for w in side]) for side in (layer.W_Q, layer.W_K))
        into, out = gained(layer.norm_mlp, layer.W_in), layer.W_out.astype(np.float64)
        return self._cast(query), self._cast(key), self._cast((into.T @ into) * (out @ out.T))

    def embed(self, tokens: NDArray[Any], positions: NDArray[Any] | int, group: int | None = None) -> Stream:
        """Return embedding plus position of every row. Shapes: tokens [row] ids, positions [row] or one for all."""
        rows = self._embed[:, tokens]
        if self._positions is not None:
            rows += (
                self._positions[:, positions]
                if isinstance(positions, np.ndarray)
                else self._positions[:, positions : positions + 1]
            )
        norm = _largest(rows, group)
        return Stream(rows, norm, self.analysis.embed(norm))

    def project(self, layer: int, stream: Stream, group: int | None = None, *, has_queries: bool = True) -> Projections:
        """Return the layer's queries, keys and values of every row, of the layer norm of the stream.

        Without queries their array is empty and their measures are nothing's.
        """
        arrays, norms = self._layers[layer], self.analysis.weights.layers[layer]
        rows, errors, size = self._normalised(stream, self.network.layers[layer].norm_attention is not None, group)
        width = self.n_heads * self.d_head
        first = 0 if has_queries else width
        joined = arrays.W_QKV[first:] @ rows
        joined += arrays.b_QKV[first:]
        key, value = joined[width - first : 2 * width - first], joined[2 * width - first :]
        query = joined[: width - first]
        q: Scalar = 0.0
        if has_queries:
            q = _root(group_max(self._squares(query), group))
        k, v = (_root(group_max(self._squares(part), group)) for part in (key, value))
        q_reach, k_reach = q * norms.key.spectral, k * norms.query.spectral
        if self.is_fine:
            q_reach = self._reach(query, arrays.gained_K, norms.key, q, group) if has_queries else 0.0
            k_reach = self._reach(key, arrays.gained_Q, norms.query, k, group)
        measured = self.analysis.measured
        return Projections(
            query,
            key,
            value,
            measured(q, q_reach * _WIDER, errors, norms.query, size),
            measured(k, k_reach * _WIDER, errors, norms.key, size),
            measured(v, 0.0, errors, norms.value, size),
        )

    def _squares(self, part: Floats) -> Floats:
        """Return the largest square norm over heads of every row of [head * d_head, row]."""
        heads = part.reshape(self.n_heads, self.d_head, -1)
        squares: Floats = np.einsum("hdn,hdn->hn", heads, heads).max(axis=0)
        return squares

    def _reach(self, part: Floats, gained: Floats, norms: LinearNorms, norm: Scalar, group: int | None) -> Scalar:
        """Measure how far these vectors let the other side's input move a score; gained [head, d_model, d_head]."""
        reached = gained @ part.reshape(self.n_heads, self.d_head, -1)
        squares = np.einsum("hdn,hdn->hn", reached, reached).max(axis=0)
        return self.analysis.reach(_root(group_max(squares, group)), norms, norm)

    def attended(self, layer: int, parts: Projections, weighing: Weighing) -> Errors:
        """Error of the attention's output, queries and keys of the same rows."""
        norms = self.analysis.weights.layers[layer]
        return self.analysis.attend(norms, parts.query_measure, parts.key_measure, parts.value_measure, weighing)

    def combine(self, layer: int, stream: Stream, heads: Floats, errors: Errors, group: int | None = None) -> Stream:
        """Return the stream plus the heads' outputs [head * d_head, row] through the output matrix.

        ``errors`` are those of the result of that matrix.
        """
        arrays = self._layers[layer]
        rows = arrays.W_O @ heads
        rows += arrays.b_O
        rows += stream.rows
        norm = _largest(rows, group)
        return Stream(rows, norm, self.analysis.add(stream.errors, errors, norm))

    def mlp(self, layer: int, stream: Stream, group: int | None = None) -> Stream:
        """Return the stream plus the layer's MLP of its layer norm."""
        arrays, analysis, kind = self._layers[layer], self.analysis, self.architecture.activation
        norms = analysis.weights.layers[layer]
        rows, errors, size = self._normalised(stream, self.network.layers[layer].norm_mlp is not None, group)
        hidden, spare = self._scratch(len(arrays.W_in), rows.shape[1])
        np.matmul(arrays.W_in, rows, out=hidden)
        hidden += arrays.b_in
        h_norm: Scalar = norms.mlp_in.spectral * size + norms.mlp_in.shift
        slope = None
        if self.is_fine:
            h_norm = _largest(hidden, group)
        if self.is_fine and kind != "relu":
            slopes = activation_slope(kind, hidden)
            squares = np.maximum(np.einsum("ij,ij->j", arrays.joint_gram @ slopes, slopes), 0)
            slope = analysis.slope(_root(group_max(squares, group)), norms)
        errors = analysis.mlp(norms, errors, size, h_norm, slope)
        rows = arrays.W_out @ activate(kind, hidden, spare)
        rows += arrays.b_out
        rows += stream.rows
        norm = _largest(rows, group)
        return Stream(rows, norm, analysis.add(stream.errors, errors, norm))

    def _scratch(self, n_features: int, n_rows: int) -> list[Floats]:
        """Return two arrays for hidden activations, the same memory at every call in a thread.

        Fresh ones would be mapped and unmapped by every block: a third of a sum table's time.
        """
        size = n_features * n_rows
        held = getattr(self._local, "scratch", None)
        if held is None or len(held[0]) < size:
            held = [np.empty(max(size, _SCRATCH_FLOATS), self.dtype) for _ in range(2)]
            self._local.scratch = held
        return [flat[:size].reshape(n_features, n_rows) for flat in held]

    def logits(self, stream: Stream, group: int | None = None) -> tuple[Floats, Scalar]:
        """Return the chosen logits [choice, row] and the margin above which a decision is certain."""
        rows, errors, size = self._normalised(stream, self.network.norm_final is not None, group)
        logits = self._unembed @ rows
        logits += self._unembed_bias
        return logits, self.analysis.margin_bound(self.analysis.head(errors, size))

    def _normalised(self, stream: Stream, has_norm: bool, group: int | None) -> tuple[Floats, Errors, Scalar]:
        """Return the layer norm of every row before gain and shift, its error and a bound of its norm."""
        x = stream.rows
        if not has_norm:
            return x, stream.errors, self.analysis.norm(stream.norm, stream.errors)
        d = len(x)
        centred = x - np.add.reduce(x, axis=0) * self.dtype.type(1 / d)
        variance = np.einsum("ij,ij->j", centred, centred)
        variance *= self.dtype.type(1 / d)
        variance += self.dtype.type(self.architecture.norm_eps)
        deviation = np.sqrt(variance, out=variance)
        errors = self.analysis.normalise(stream.errors, group_min(deviation, group), stream.norm)
        centred /= deviation
        return centred, errors, math.sqrt(d)


def _largest(rows: Floats, group: int | None) -> Scalar:
    """Return the largest 2-norm of a group's rows."""
    return _root(group_max(np.einsum("ij,ij->j", rows, rows), group))


def _root(square: Scalar) -> Scalar:
    return np.sqrt(square) if isinstance(square, np.ndarray) else math.sqrt(square) if square >= 0 else math.nan


#: What a claim can quantify over: the real function of the weights, and float32 in any order of summation beside it.
SEMANTICS = ("real", "f32-any-order")


def claims_of(semantics: str) -> tuple[Arithmetic, ...]:
    """Return the arithmetics a semantics quantifies over beside our own: none for ``real``."""
    return (FLOAT32,) if semantics != "real" else ()


__all__ = ["SEMANTICS", "Projections", "Stages", "Stream", "Weighing", "claims_of"]
