"""How far a computed margin can be from the real one: a running error analysis with one scalar per activation.

For a group of inputs every activation vector x carries one number e with ||computed x - real x||_2 <= e. The numbers
are propagated in lockstep for several arithmetics: the one our kernels use (``arithmetics[0]``, whose measured norms
and deviations feed the formulas) and any other the claim quantifies over (every float32 evaluation in any order).

Assumes, of every arithmetic analysed with unit roundoff u: IEEE round-to-nearest for + - * / and sqrt (a few ulps
would do); sums and dot products in any order, with or without fused multiply-add (relative error gamma_n = n u /
(1 - n u) of the sum of absolute values); exp, tanh and erf good to 4 ulps; the variance of a layer norm taken from
centred values or by Welford's update; softmax from scores less their maximum, possibly a running maximum rescaled at
most once per 16 keys; underflow to zero or gradual. Magnitudes near overflow make the bound infinite, never wrong.
It refuses to know how the values were computed or shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from extract.verify.activations import CURVATURES, ROUNDINGS, SLOPES
from extract.verify.weight_norms import LayerNorms, LinearNorms, WeightNorms

#: A number, or one number per group of inputs.
Scalar: TypeAlias = Any
#: One scalar per arithmetic analysed, ours first.
Errors: TypeAlias = tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A float type: unit roundoff, least normal number, and a norm under which no intermediate value overflows."""

    name: str
    unit: float
    tiny: float
    large: float


FLOAT64 = Arithmetic("float64", 2.0**-53, 2.0**-1022, 2.0**300)
FLOAT32 = Arithmetic("float32", 2.0**-24, 2.0**-126, 2.0**38)
#: What numpy calls longdouble where it has 64 bits of mantissa; its range is float64's and more.
EXTENDED = Arithmetic("extended", 2.0**-64, 2.0**-1022, 2.0**300)
#: Whether this machine has it.
HAS_EXTENDED = bool(np.finfo(np.longdouble).eps == 2.0**-63)

#: The bounds are computed in float64 from fewer than 10^5 non-negative terms each: this covers their own rounding.
_SLACK = 1 + 2.0**-30


def arithmetic_of(dtype: np.dtype[Any]) -> Arithmetic:
    """Return the arithmetic of a numpy float type."""
    if dtype == np.float32:
        return FLOAT32
    return EXTENDED if HAS_EXTENDED and dtype == np.longdouble else FLOAT64


def gamma(n: float, unit: float) -> float:
    """Return n u / (1 - n u), the relative error of n roundings; infinite when n u reaches 1/2."""
    product = n * unit
    return product / (1 - product) if product < 0.5 else math.inf


@lru_cache(maxsize=64)
def welford(d: int) -> tuple[float, float]:
    """Return how many roundings Welford's update is off by: its mean, of the mean of the absolute values of d terms x;
    and its sum of squares S, of ||x|| sqrt(S).

    A step adds (x_k - m) / k to the mean m of the terms before: three roundings of the difference (a quotient may be a
    product with a rounded reciprocal), one of the sum; the first step is exact. With A_k the mean of the first k
    absolute values, |m_k| <= A_k, and m_k is off by at most e_k = g_k u A_k after all steps, where
    g_k = k - 1 + 3 + 3 (1 + 1/2 + ... + 1/(k - 1)); and k A_k <= sqrt(k) ||x||. What S adds is y^2 (k - 1) / k for
    y = x_k - m_(k-1); it is off by |y| (e_(k-1) (k - 1) / k + e_k) + e_(k-1) e_k. By Cauchy and Schwarz the first of
    these add up to at most sqrt(S) ||x|| u (p + q), p^2 = sum of g_k^2 / (k - 1) and q^2 = sum of g_(k-1)^2 / k, and
    the last to ||x||^2 u^2 p q: the root of S moves by half of (p + q) u ||x|| at most.
    """
    inverse = 1.0 / np.arange(1, d + 1)
    before = np.cumsum(inverse) - inverse
    roundings = np.where(inverse < 1, np.arange(d) + 3 * (1 + before), 0.0)
    own, last = roundings[1:] ** 2 / np.arange(1, d), roundings[:-1] ** 2 * inverse[1:]
    return float(roundings[-1]), math.sqrt(own.sum()) + math.sqrt(last.sum())


def larger(left: Scalar, right: Scalar) -> Scalar:
    """Return the elementwise maximum of numbers or arrays; not a number wins, so that no bound hides it."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return np.maximum(left, right)
    return right if left < right or right != right else left


def over(numerator: Scalar, denominator: Scalar) -> Scalar:
    """Return a quotient of non-negative bounds, infinite where the denominator is not positive."""
    if isinstance(denominator, np.ndarray):
        safe = np.where(denominator > 0, denominator, 1.0)
        return np.where(denominator > 0, numerator / safe, np.inf)
    return numerator / denominator if denominator > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of the queries, keys or values of a group of inputs, worst over heads.

    ``norm`` is the largest measured norm; ``reach`` bounds how far a unit error of the other side's normalised input
    moves a score through these vectors (unused for values); ``source`` is the error of their own normalised input,
    ``local`` their own rounding, and ``errors`` the sum of both as it arrives.
    """

    norm: Scalar
    reach: Scalar
    source: Errors
    local: Errors
    errors: Errors

    def joined(self, other: Measured) -> Measured:
        """Return what holds for both groups taken together."""

        def worst(left: Errors, right: Errors) -> Errors:
            return tuple(larger(a, b) for a, b in zip(left, right, strict=True))

        return Measured(
            larger(self.norm, other.norm),
            larger(self.reach, other.reach),
            worst(self.source, other.source),
            worst(self.local, other.local),
            worst(self.errors, other.errors),
        )

    def mapped(self, pick: Callable[[Any], Any]) -> Measured:
        """Return the measures of other groups, each picked from an array over groups."""
        norm, reach = pick(self.norm), pick(np.broadcast_to(self.reach, self.norm.shape))
        parts = (tuple(pick(e) for e in errors) for errors in (self.source, self.local, self.errors))
        return Measured(norm, reach, *parts)


@dataclass(frozen=True, slots=True)
class Weighing:
    """How the attention of a group was computed: ``n_keys`` at most; ``faded`` bounds the share of a row's weight that
    our arithmetic lost to underflow; ``spread`` bounds the root mean square distance of the values from their mean
    under a row's weights, as measured (None: not measured)."""

    n_keys: int
    faded: Scalar = 0.0
    spread: Scalar | None = None


class Analysis:
    """The error formulas of one network's stages; each takes and returns ``Errors``.

    Measured norms and deviations are what our own arithmetic computed; they are widened here to hold for the real
    activations. Every formula is monotone, so a group may be described by its worst members.
    """

    def __init__(self, weights: WeightNorms, arithmetics: tuple[Arithmetic, ...]) -> None:
        self.weights = weights
        self.arithmetics = arithmetics
        self._unit = arithmetics[0].unit
        self._widen = 1 + 4 * gamma(weights.d_model + weights.d_mlp + 16, self._unit)

    def norm(self, norm: Scalar, errors: Errors) -> Scalar:
        """Widen a measured largest norm to one that holds for the real vectors and for every arithmetic's."""
        return (norm * self._widen + errors[0]) * _SLACK

    def embed(self, x_norm: Scalar) -> Errors:
        """Error of embedding plus position: one rounding."""
        bound = x_norm * self._widen
        return tuple(self._guard(a, a.unit * bound, bound) for a in self.arithmetics)

    def normalise(self, errors: Errors, deviation: Scalar, x_norm: Scalar) -> Errors:
        """Error of z = (x - mean) / sqrt(variance + eps), from the least measured deviation and largest norm of x.

        The map is 1/s-Lipschitz where the deviation is s, and s moves by at most e/sqrt(d). Of a variance that is off
        by t of itself, 1 / s moves by at most t / (2 (1 - t)) of itself.
        """
        d, floor = self.weights.d_model, self.weights.least_deviation
        root = math.sqrt(d)
        real_norm = self.norm(x_norm, errors)
        own = gamma(d + 4, self._unit) * real_norm
        real = deviation * (1 - gamma(d + 16, self._unit)) - (own + errors[0]) / root
        result = []
        for a, e in zip(self.arithmetics, errors, strict=True):
            least = larger(real - e / root, floor)
            if a is self.arithmetics[0]:  # centred values: their sum of squares moves in second order only
                centring = gamma(d + 4, a.unit) * (real_norm + e)
                spread = gamma(d / 2 + 12, a.unit) + over(centring, least * root) ** 2
                z = over(e + centring, least) + root * over(spread, 1 - spread)
            else:  # or Welford's update
                means, squares = (gamma(n + 4, a.unit) * (real_norm + e) for n in welford(d))
                rounding, half = gamma(d + 16, a.unit), over(squares, 2 * least * root)
                rounding = rounding + over(2 * a.tiny, least * least)
                spread = rounding + (1 + rounding) * half * (2 + half)
                swing = over(spread, 2 - 2 * spread)
                z = (over(e, least) + over(means, least)) * (1 + swing) + root * (swing + a.tiny)
            result.append(self._guard(a, z, real_norm + e))
        return tuple(result)

    def linear(self, i: int, norms: LinearNorms, x_norm: Scalar, terms: Scalar | None = None) -> Scalar:
        """Rounding of arithmetic i in x @ W + b alone; ``x_norm`` bounds its computed x.

        A layer norm's gain and shift before the map, if any, are inside ``norms``: applied to x, or multiplied into W
        and b beforehand at one more rounding of each entry than W has (n_terms + 2 of the shift). ``terms`` bounds the
        2-norm of the sums of absolute products |x| @ |W| (None: by the norms of both).
        """
        a = self.arithmetics[i]
        size = (norms.absolute * x_norm if terms is None else terms) + norms.shift
        # what underflows: n_terms products for every output, so many entries of W times x, or of x times W
        lost = norms.n_terms * norms.n_out * a.tiny * (1 + larger(1.0, x_norm) + norms.widest)
        error = gamma(norms.n_terms + 4, a.unit) * size + lost
        return self._guard(a, error, size)

    def measured(self, norm: Scalar, reach: Scalar, source: Errors, norms: LinearNorms, x_norm: Scalar) -> Measured:
        """Describe queries, keys or values that are a linear map of a vector with the given error and norm."""
        local = tuple(self.linear(i, norms, x_norm + source[0] + e) for i, e in enumerate(source))
        total = tuple(norms.spectral * e + f for e, f in zip(source, local, strict=True))
        return Measured(norm, reach, source, local, total)

    def reach(self, measured: Scalar, norms: LinearNorms, vector_norm: Scalar) -> Scalar:
        """Widen the measured norm of W @ v, for vectors v of at most a measured norm, by the product's rounding."""
        rounding = gamma(norms.n_out + 4, self._unit) * norms.absolute * vector_norm
        return (measured * self._widen + rounding * self._widen) * _SLACK

    def attend(self, layer: LayerNorms, query: Measured, key: Measured, value: Measured, weighing: Weighing) -> Errors:
        """Error of all heads' outputs, added up through the output matrix.

        A softmax whose scores move by at most w moves a weighted mean by at most w times the largest norm of a value
        (its derivative has 1-norm at most 1 against max-norm), and by at most w e^w times the spread of the values.
        """
        q, k, v = (self.norm(m.norm, m.errors) for m in (query, key, value))
        n_keys = weighing.n_keys
        result: list[Scalar] = []
        weights: list[Scalar] = []
        for i, a in enumerate(self.arithmetics):
            eq, ek, ev = query.errors[i], key.errors[i], value.errors[i]
            size = layer.scale * (q + eq) * (k + ek)
            moved = key.reach * query.source[i] + query.reach * key.source[i]
            moved = moved + query.local[i] * k + key.local[i] * q
            moved = moved + eq * (ek + key.errors[0]) + query.errors[0] * ek
            weight = layer.scale * moved + gamma(layer.d_head + 4, a.unit) * size
            weight = weight + 4 * a.unit * size + (3 + n_keys / 16) * 8 * a.unit
            # what underflows: the terms of a score, and the scale times either side before
            weight = weight + layer.d_head * a.tiny * (1 + layer.scale + (k + ek) + (q + eq))
            weight = weight + (2 * weighing.faded if i == 0 else 0.0)
            rest = gamma(2 * n_keys + 8, a.unit) * (v + ev) + n_keys * a.tiny * (v / a.unit + layer.d_head)
            weights.append(weight)
            spread = self._spread(weighing, v, ev + value.errors[0], weight + weights[0])
            heads = weight * spread + (1 + weight) * (rest + value.local[i])
            size_out = layer.heads_absolute * (v + ev) + layer.out_shift
            e_out = layer.heads_spectral * heads + layer.value_out * (1 + weight) * value.source[i]
            e_out = e_out + gamma(layer.n_heads_terms + 4, a.unit) * size_out
            e_out = e_out + layer.n_heads_terms * self.weights.d_model * a.tiny
            result.append(self._guard(a, e_out, size + v + ev + size_out))
        return tuple(result)

    def _spread(self, weighing: Weighing, v: Scalar, ev: Scalar, weight: Scalar) -> Scalar:
        """Bound the distance of values from their mean on the way from computed to real scores, ``weight`` long."""
        if weighing.spread is None:
            return v
        noise = gamma(4 * weighing.n_keys + 4 * self.weights.d_model + 16, self._unit)
        near = np.sqrt(weighing.spread**2 + noise * v * v) + 2 * ev
        return np.where(weight < 1, np.minimum(v, near * (1 + 2 * np.minimum(weight, 1))), v)

    def add(self, left: Errors, right: Errors, norm: Scalar) -> Errors:
        """Error of a sum of two vectors whose computed sum has at most this norm."""
        result = []
        for a, e, f in zip(self.arithmetics, left, right, strict=True):
            total = e + f
            bound = norm * self._widen + left[0] + right[0] + total
            result.append(self._guard(a, total + 2 * a.unit * bound, bound))
        return tuple(result)

    def slope(self, measured: Scalar, layer: LayerNorms) -> Scalar:
        """Widen a measured Frobenius norm of an MLP's derivative by the error of slopes and of the quadratic form.

        The form adds d_mlp^2 products of at most 2 ||w_in|| ||w_out|| each; their sum is bounded by the whole norms.
        """
        whole = 1.2 * layer.mlp_in.frobenius * layer.mlp_out.frobenius
        rounding = gamma(2 * self.weights.d_mlp + 16, self._unit)
        return np.sqrt(measured * measured + rounding * whole * whole) * self._widen + 1e-3 * whole

    def mlp(
        self, layer: LayerNorms, errors: Errors, x_norm: Scalar, h_norm: Scalar, slope: Scalar | None,
        terms: tuple[Scalar, Scalar] | None = None,
    ) -> Errors:  # fmt: skip
        """Error of W_out f(W_in x): the derivative times the error of x, plus every stage's own rounding.

        ``slope`` is a measured bound of the derivative at our own activations (None: the bound over all of them);
        ``terms`` bound the sums of absolute products of the real x with W_in and of the real f(W_in x) with W_out, as
        2-norms (None: by the norms).
        """
        high = max(SLOPES[self.weights.activation][1], -SLOPES[self.weights.activation][0])
        roundings, curvature = ROUNDINGS[self.weights.activation], CURVATURES[self.weights.activation]
        product = layer.mlp_in.spectral * layer.mlp_out.spectral
        into, out_of = (None, None) if terms is None else terms
        hidden = []
        for i, e in enumerate(errors):
            size_in = None if into is None else into + layer.mlp_in.absolute * e
            hidden.append(self.linear(i, layer.mlp_in, x_norm + errors[0] + e, size_in))
        moved = [layer.mlp_in.spectral * e + f for e, f in zip(errors, hidden, strict=True)]
        result = []
        for i, a in enumerate(self.arithmetics):
            bound = layer.mlp_slope
            if slope is not None:
                bound = np.minimum(bound, slope + curvature * (moved[0] + moved[i]) * product)
            size = h_norm * self._widen + moved[0] + moved[i]
            inner = high * hidden[i] + roundings * a.unit * size + self.weights.d_mlp * a.tiny
            size_out = None if out_of is None else out_of + layer.mlp_out.absolute * (high * moved[i] + inner)
            out = self.linear(i, layer.mlp_out, size, size_out)
            result.append(self._guard(a, bound * errors[i] + layer.mlp_out.spectral * inner + out, size))
        return tuple(result)

    def head(self, errors: Errors, x_norm: Scalar) -> Errors:
        """Error of every difference of two chosen logits, or of every chosen logit less the threshold."""
        head = self.weights.head
        result = []
        for a, e in zip(self.arithmetics, errors, strict=True):
            size = head.absolute * (x_norm + e) + head.shift
            lost = 4 * self.weights.d_model * a.tiny * (1 + larger(1.0, x_norm) + head.widest)
            rest = gamma(self.weights.d_model + 6, a.unit) * size + lost
            if a is self.arithmetics[0]:
                # logits this close count as tied whatever was proved: oracles answer such inputs as ties
                rest = rest + self.weights.tie * larger(1.0, size)
            result.append(self._guard(a, head.spectral * e + rest, size))
        return tuple(result)

    def margin_bound(self, errors: Errors) -> Scalar:
        """Return the margin above which our decision is every arithmetic's decision.

        Our margin is within errors[0] of the real one, and each other arithmetic within its own error of that.
        """
        others = 0.0
        for e in errors[1:]:
            others = larger(others, e)
        return (errors[0] + others) * _SLACK

    @staticmethod
    def _guard(a: Arithmetic, error: Scalar, size: Scalar) -> Scalar:
        """Return the error, or infinity where values could overflow or the error is not a number."""
        if isinstance(error, np.ndarray) or isinstance(size, np.ndarray):
            return np.where((size < a.large) & (error < np.inf), error, np.inf)
        return error if size < a.large and error < math.inf else math.inf


def group_max(values: NDArray[Any], group: int | None) -> Scalar:
    """Return the largest value, or the largest of every run of ``group`` consecutive values."""
    if group is None:
        return float(values.max()) if values.size else 0.0
    return (values if group == 1 else values.reshape(-1, group).max(axis=1)).astype(np.float64)


def group_min(values: NDArray[Any], group: int | None) -> Scalar:
    """Return the least value, or the least of every run of ``group`` consecutive values."""
    if group is None:
        return float(values.min()) if values.size else math.inf
    return (values if group == 1 else values.reshape(-1, group).min(axis=1)).astype(np.float64)
