"""Norms of a network's weights, bounded from above rigorously: all that the error analysis needs to know of them.

The 2-norm of a matrix is bounded by the Frobenius norm of a high power of its Gram matrix (Gelfand), computed in
float64 with its own rounding error added; that of a matrix of absolute values by a test vector (Collatz, Wielandt).
It refuses to know any activation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.network import Activation, Layer, Network, Norm
from extract.readout import ReadOut
from extract.verify.activations import SLOPES

Matrix = NDArray[np.float64]

_UNIT = 2.0**-53
_SLACK = 1 + 2.0**-30
_SQUARINGS = 5
#: Power iterations towards a test vector, and its least entry against its largest.
_ITERATIONS = 6
_LEAST_ENTRY = 1e-6
#: Choices up to here have their differences bounded pair by pair.
_MAX_PAIRED_CHOICES = 256


@dataclass(frozen=True, slots=True)
class LinearNorms:
    """Bounds for x @ (g W) + (s @ W + b): ||gW||_2, || |gW| ||_2, ||gW||_F, || |s| @ |W| + |b| ||_2, the number of
    terms of each sum, the number of sums, and the largest |W|."""

    spectral: float
    absolute: float
    frobenius: float
    shift: float
    n_terms: int
    n_out: int
    widest: float


@dataclass(frozen=True, slots=True)
class LayerNorms:
    """Bounds of one layer.

    ``heads_spectral`` times an error that bounds every head's bounds the sum's error; ``heads_absolute`` times a bound
    of every head's value bounds the sum of absolute products. ``value_out`` bounds the sum over heads of the 2-norm of
    value times output matrix, ``mlp_slope`` the derivative of the MLP after its normalisation.
    """

    query: LinearNorms
    key: LinearNorms
    value: LinearNorms
    scale: float
    d_head: int
    heads_spectral: float
    heads_absolute: float
    out_shift: float
    n_heads_terms: int
    value_out: float
    mlp_slope: float
    mlp_in: LinearNorms
    mlp_out: LinearNorms


@dataclass(frozen=True, slots=True)
class WeightNorms:
    """Bounds of a whole network, its head restricted to the read-out's choices."""

    d_model: int
    d_mlp: int
    activation: Activation
    has_norm: bool
    least_deviation: float
    layers: tuple[LayerNorms, ...]
    head: LinearNorms
    tie: float


def spectral_bound(matrix: NDArray[Any]) -> float:
    """Return an upper bound of the 2-norm, within a few percent for matrices up to some hundred rows.

    Ensures: at least the exact 2-norm of the stored matrix, infinite when a power overflows.
    """
    a = np.asarray(matrix, dtype=np.float64)
    if a.size == 0:
        return 0.0
    largest = float(np.abs(a).max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    a = a / largest
    frobenius = math.sqrt(float((a * a).sum())) * _SLACK
    rows, columns = a.shape
    gram = a @ a.T if rows <= columns else a.T @ a
    error = _gamma(max(rows, columns) + 4) * frobenius * frobenius
    spare = np.empty_like(gram)
    log_bound, power = 0.0, 0.5
    for _ in range(_SQUARINGS):
        size = math.sqrt(float((gram * gram).sum())) * _SLACK + error
        # gram = size * unit matrix: its 2-norm to the running power is size^power times that of the unit matrix
        log_bound += power * math.log(size)
        gram /= size
        error = error / size + 2 * _UNIT
        np.matmul(gram, gram, out=spare)
        gram, spare, error = spare, gram, 2 * error + error * error + _gamma(len(gram) + 2)
        power /= 2
    size = math.sqrt(float((gram * gram).sum())) * _SLACK + error
    bound = math.exp(log_bound + power * math.log(size)) * largest * (1 + 2.0**-20)
    return min(bound, frobenius * largest * _SLACK)


def absolute_bound(matrix: NDArray[Any]) -> float:
    """Return an upper bound of the 2-norm of the matrix of absolute values.

    For a matrix A without negative entries and any positive vector x, ||A||_2^2 <= max_i (A^T A x)_i / x_i; x is the
    outcome of a few power iterations, and the sums of non-negative terms are exact to their roundings.
    Ensures: at least the exact 2-norm, infinite when it may overflow.
    """
    a = np.abs(np.asarray(matrix, dtype=np.float64))
    if a.size == 0:
        return 0.0
    largest = float(a.max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    a = a / largest
    # the largest entry is 1, and so the norm at least 1: what underflows is far below the slack
    x: Matrix = np.ones(a.shape[1])
    for _ in range(_ITERATIONS):
        x = a.T @ (a @ x)
        x = np.maximum(x / x.max(), _LEAST_ENTRY)
    ratio = float(((a.T @ (a @ x)) / x).max())
    bound = math.sqrt(ratio * (1 + _gamma(sum(a.shape) + 8))) * largest * _SLACK
    return min(bound, _length(a) * largest * _SLACK)


def measure_weights(network: Network, readout: ReadOut) -> WeightNorms:
    """Bound the norms of every matrix of a network, once."""
    a = network.architecture
    layers = tuple(_layer(network, i, layer) for i, layer in enumerate(network.layers))
    # a computed sqrt(variance + eps) is at least this: a constant vector has only eps
    floor = math.sqrt(a.norm_eps) * (1 - 2.0**-20) if a.norm == "layernorm" else 1.0
    head = _head(network, readout)
    return WeightNorms(a.d_model, a.d_mlp, a.activation, a.norm == "layernorm", floor, layers, head, network.tie)


def _layer(network: Network, index: int, layer: Layer) -> LayerNorms:
    a = network.architecture

    def per_head(weights: NDArray[Any], bias: NDArray[Any]) -> LinearNorms:
        return worst([_linear(layer.norm_attention, w, b) for w, b in zip(weights, bias, strict=True)])

    def worst(heads: list[LinearNorms]) -> LinearNorms:
        return LinearNorms(
            max(n.spectral for n in heads),
            max(n.absolute for n in heads),
            max(n.frobenius for n in heads),
            max(n.shift for n in heads),
            a.d_model,
            a.d_head,
            max(n.widest for n in heads),
        )

    joined = layer.W_O.reshape(-1, a.d_model)
    mlp_in, mlp_out = _linear(layer.norm_mlp, layer.W_in, layer.b_in), _linear(None, layer.W_out, layer.b_out)
    roots = math.sqrt(a.n_heads)
    single = [spectral_bound(w) for w in layer.W_O]
    spectral = single[0] if a.n_heads == 1 else min(spectral_bound(joined) * roots, sum(single))
    absolute = min(absolute_bound(joined) * roots, sum(absolute_bound(w) for w in layer.W_O))
    values = [_linear(layer.norm_attention, w, b) for w, b in zip(layer.W_V, layer.b_V, strict=True)]
    return LayerNorms(
        query=per_head(layer.W_Q, layer.b_Q),
        key=per_head(layer.W_K, layer.b_K),
        value=worst(values),
        scale=abs(float(a.attention_scale[index])),
        d_head=a.d_head,
        heads_spectral=spectral,
        heads_absolute=absolute,
        out_shift=_length(layer.b_O),
        n_heads_terms=len(joined),
        value_out=sum(
            product_bound(gained(layer.norm_attention, v), o, norms.spectral * o_norm)
            for v, o, norms, o_norm in zip(layer.W_V, layer.W_O, values, single, strict=True)
        ),
        mlp_slope=_mlp_slope(network, layer, mlp_in, mlp_out),
        mlp_in=mlp_in,
        mlp_out=mlp_out,
    )


def _mlp_slope(network: Network, layer: Layer, mlp_in: LinearNorms, mlp_out: LinearNorms) -> float:
    """Bound ||W_in G W_out|| over all diagonal G of slopes: the middle slope's product plus the rest, norm by norm."""
    low, high = SLOPES[network.architecture.activation]
    whole = mlp_in.spectral * mlp_out.spectral
    joint = product_bound(gained(layer.norm_mlp, layer.W_in), layer.W_out, whole)
    return min((low + high) / 2 * joint + (high - low) / 2 * whole, max(high, -low) * whole) * _SLACK


def gained(norm: Norm | None, weights: NDArray[Any]) -> Matrix:
    """Return a matrix in float64 with the gain of the layer norm before it multiplied in."""
    matrix = np.asarray(weights, dtype=np.float64)
    return matrix if norm is None else matrix * norm.weight.astype(np.float64)[:, None]


def product_bound(left: NDArray[Any], right: NDArray[Any], whole: float | None = None) -> float:
    """Return an upper bound of the 2-norm of a product; ``whole`` bounds the product of the 2-norms, if known."""
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    rounding = _gamma(a.shape[1] + 2) * _length(a) * _length(b)
    if whole is None:
        whole = spectral_bound(a) * spectral_bound(b)
    return min(spectral_bound(a @ b) + rounding, whole) * _SLACK


def _linear(norm: Norm | None, weights: NDArray[Any], bias: NDArray[Any]) -> LinearNorms:
    matrix = gained(norm, weights)
    shift = np.abs(bias.astype(np.float64))
    if norm is not None:
        shift = shift + np.abs(norm.bias.astype(np.float64)) @ np.abs(np.asarray(weights, dtype=np.float64))
    rows, columns = matrix.shape
    spectral, absolute = spectral_bound(matrix) * _SLACK, absolute_bound(matrix) * _SLACK
    widest = float(np.abs(weights).max(initial=0.0))
    return LinearNorms(spectral, absolute, _length(matrix), _length(shift), rows, columns, widest)


def _head(network: Network, readout: ReadOut) -> LinearNorms:
    """Bound differences of two chosen logits (argmax) or single logits (multilabel)."""
    columns = list(readout.choices)
    plain = network.W_U[:, columns].astype(np.float64)
    matrix = gained(network.norm_final, plain)
    shift = np.abs(network.b_U[columns].astype(np.float64))
    if network.norm_final is not None:
        shift = shift + np.abs(network.norm_final.bias.astype(np.float64)) @ np.abs(plain)
    largest_column = float(np.sqrt((matrix * matrix).sum(axis=0)).max(initial=0.0)) * _SLACK
    top_shift, widest = float(shift.max(initial=0.0)) * _SLACK, float(np.abs(plain).max(initial=0.0))
    if readout.kind == "argmax":
        spread = _largest_difference(matrix)
        return LinearNorms(spread, 2 * largest_column, 2 * largest_column, 2 * top_shift, len(matrix), 2, widest)
    return LinearNorms(
        largest_column, largest_column, largest_column, top_shift + abs(readout.threshold), len(matrix), 1, widest
    )


def _largest_difference(matrix: Matrix) -> float:
    n = matrix.shape[1]
    if n > _MAX_PAIRED_CHOICES:
        centred = matrix - matrix.mean(axis=1, keepdims=True)
        return 2 * float(np.sqrt((centred * centred).sum(axis=0)).max()) * _SLACK
    largest = 0.0
    for i in range(n):
        difference = matrix - matrix[:, i : i + 1]
        largest = max(largest, float(np.sqrt((difference * difference).sum(axis=0)).max()))
    return largest * _SLACK


def _length(vector: NDArray[Any]) -> float:
    v = np.asarray(vector, dtype=np.float64).reshape(-1)
    return math.sqrt(float((v * v).sum())) * _SLACK


def _gamma(n: int) -> float:
    return n * _UNIT / (1 - n * _UNIT)
