"""Arrays with a bound on the error of every entry: the operations that networks are made of, in one float type.

An ``Approx`` is what our arithmetic computed and, entry by entry, how far that can be from the real value. Bounds are
one for each row, or shared by all rows of a batch (their first axis has then size 1), which costs next to nothing.

Assumes, as ``rounding``: IEEE round-to-nearest; sums in any order, with or without fused multiply-add; exp, tanh, erf,
sin, cos and pow good to 4 ulps; underflow to zero or gradual. What overflows has an infinite bound or one that is not
a number, never a wrong one. It refuses to know which network the arrays belong to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.network import Activation, NormKind, Rotary
from extract.verify.activations import ROUNDINGS, SLOPES, activate
from extract.verify.rounding import arithmetic_of, gamma

Floats = NDArray[Any]
Bools = NDArray[np.bool_]
#: Covers the rounding of the bounds themselves: non-negative terms, fewer than 10^5 to a sum.
_SLACK = 1 + 2.0**-30
#: Scores less sure than this have no bound: what underflows must stay negligible whatever the real scores are.
_MOST_MOVED = 0.5


@dataclass(frozen=True, slots=True)
class Approx:
    """Shapes: ``value`` [row, ...]; ``error`` the same, or 1 for rows. ``|value - real value| <= error``."""

    value: Floats
    error: NDArray[np.float64]

    def at(self, index: Any) -> Approx:
        """Return the entries at an index that leaves the rows alone."""
        return Approx(self.value[index], self.error[index])


@dataclass(frozen=True, slots=True)
class Map:
    """``x @ weight + bias`` for exactly known float32 weights: the numbers in our type, and their absolute values.

    Rows and columns of zeros are left out, most of a compiled network's: ``inputs`` and ``outputs`` are the places of
    the others (None: all). Shapes: ``weight``, ``sizes`` [inputs, outputs], ``bias``, ``shift`` [out].
    """

    weight: Floats
    bias: Floats
    sizes: NDArray[np.float64]
    shift: NDArray[np.float64]
    inputs: NDArray[np.intp] | None
    outputs: NDArray[np.intp] | None

    @staticmethod
    def of(weight: Floats, bias: Floats, dtype: np.dtype[Any]) -> Map:
        """Make a map of stored weights."""
        inputs, outputs = np.flatnonzero(weight.any(axis=1)), np.flatnonzero(weight.any(axis=0))
        is_sparse = 4 * len(inputs) * len(outputs) < 3 * weight.size
        part = weight[np.ix_(inputs, outputs)] if is_sparse else weight
        part, bias = np.ascontiguousarray(part, dtype), np.asarray(bias, dtype)
        places = (inputs, outputs) if is_sparse else (None, None)
        return Map(part, bias, np.abs(part).astype(np.float64), np.abs(bias).astype(np.float64), *places)

    def put(self, made: Floats, plus: Floats) -> Floats:
        """Return products [row, outputs] in their places plus what is added to all [out]; ``made`` is overwritten."""
        if self.outputs is None:
            made += plus
            return made
        full = np.repeat(plus[None], len(made), axis=0)
        full[:, self.outputs] += made
        return full


class Entrywise:
    """The operations in one float type; ``is_fine`` keeps bounds for every row."""

    def __init__(self, dtype: type[np.floating[Any]], *, is_fine: bool) -> None:
        self.dtype, self.is_fine = np.dtype(dtype), is_fine
        arithmetic = arithmetic_of(self.dtype)
        self.unit, self.tiny = arithmetic.unit, arithmetic.tiny

    def size(self, value: Floats) -> NDArray[np.float64]:
        """Return the absolute values, the largest over rows where bounds are shared."""
        if self.is_fine:
            return np.abs(value).astype(np.float64)
        top, low = value.max(axis=0, keepdims=True), value.min(axis=0, keepdims=True)
        size: NDArray[np.float64] = np.maximum(np.abs(top), np.abs(low)).astype(np.float64)
        return size

    def exact(self, value: Floats) -> Approx:
        """Return numbers that are known exactly."""
        value = np.asarray(value, self.dtype)
        shape = value.shape if self.is_fine else (1, *value.shape[1:])
        return Approx(value, np.zeros(shape))

    def add(self, left: Approx, right: Approx) -> Approx:
        """Add: one rounding of the result."""
        value = left.value + right.value
        return Approx(value, (left.error + right.error + self.unit * self.size(value)) * _SLACK)

    def scaled(self, x: Approx, by: Floats | float) -> Approx:
        """Multiply by numbers known to one rounding of their own."""
        factor = np.asarray(by, self.dtype)
        value = x.value * factor
        slope = np.abs(factor).astype(np.float64)
        return Approx(value, (x.error * slope + 2 * self.unit * self.size(value) + self.tiny) * _SLACK)

    def times(self, left: Approx, right: Approx) -> Approx:
        """Multiply entry by entry."""
        value = left.value * right.value
        a, b = self.size(left.value), self.size(right.value)
        error = a * right.error + left.error * (b + right.error) + self.unit * self.size(value) + self.tiny
        return Approx(value, error * _SLACK)

    def linear(self, x: Approx, by: Map) -> Approx:
        """Apply a map along the last axis: the error goes through absolute values, as do the sums' roundings."""
        used, off = x.value, x.error
        if by.inputs is not None:
            used, off = used[..., by.inputs], off[..., by.inputs]
        n, width, rows = len(by.weight), len(by.bias), math.prod(used.shape[:-1])
        value = by.put(used.reshape(rows, n) @ by.weight, by.bias)
        rounding = gamma(n + 2, self.unit)
        size = off + rounding * self.size(used)
        error = by.put(size.reshape(math.prod(size.shape[:-1]), n) @ by.sizes, rounding * by.shift + 2 * n * self.tiny)
        error *= _SLACK
        return Approx(value.reshape(*used.shape[:-1], width), error.reshape(*size.shape[:-1], width))

    def norm(self, x: Approx, gain: Floats, shift: Floats, kind: NormKind, eps: float) -> Approx:
        """Normalise the last axis, multiply by the gain and add the shift.

        With s = sqrt(mean c^2 + eps), which is 1/sqrt(d)-Lipschitz in c: c^/s^ - c/s = (c^ - c)/s + (c^/s^) (s - s^)/s.
        """
        d = x.value.shape[-1]
        centred, error = x.value, x.error
        if kind != "rms":
            centred = x.value - x.value.mean(axis=-1, keepdims=True)
            mean = error.mean(axis=-1, keepdims=True)
            rounding = gamma(d + 1, self.unit) * self.size(x.value).mean(axis=-1, keepdims=True)
            error = (error + mean + rounding + self.unit * self.size(centred)) * _SLACK
        deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self.dtype.type(eps))
        least, most = deviation.astype(np.float64), deviation.astype(np.float64)
        if not self.is_fine:
            least, most = least.min(axis=0, keepdims=True), most.max(axis=0, keepdims=True)
        moved = np.sqrt((error * error).sum(axis=-1, keepdims=True) / d) + 1.01 * gamma(d + 8, self.unit) * most
        floor = np.maximum(least * (1 - 2.0**-20) - moved, math.sqrt(eps) * (1 - 2.0**-20))
        z = centred / deviation
        size = self.size(z)
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = np.where(floor > 0, (size * moved + error) / np.where(floor > 0, floor, 1.0), np.inf)
        normal = Approx(z, (bound + self.unit * size) * _SLACK)
        by, plus = gain.astype(self.dtype), shift.astype(self.dtype)
        value = z * by + plus
        slope = np.abs(gain).astype(np.float64)
        error = slope * (normal.error + 2 * self.unit * size) + 2 * self.unit * self.size(value) + self.tiny
        return Approx(value, error * _SLACK)

    def activation(self, x: Approx, kind: Activation) -> Approx:
        """Apply a neuron's function: its steepest slope times the error, plus its own rounding."""
        if kind == "solu":
            ones = np.ones((1, x.value.shape[-1]), np.bool_)
            return self.times(x, self.softmax(x, ones)) if x.value.shape[-1] else x
        if kind == "relu":
            top = x.value if self.is_fine else x.value.max(axis=0, keepdims=True)
            # what is below zero for certain is zero for certain
            return Approx(np.maximum(x.value, 0), np.where(top + x.error <= 0, 0.0, x.error))
        size = self.size(x.value)
        steepest = max(SLOPES[kind][1], -SLOPES[kind][0])
        value = activate(kind, x.value.copy())
        return Approx(value, (steepest * x.error + (ROUNDINGS[kind] + 4) * self.unit * size + self.tiny) * _SLACK)

    def softmax(self, scores: Approx, seen: Bools) -> Approx:
        """Return the softmax over the last axis of the entries seen; others weigh exactly nothing.

        The log of a weight moves by at most twice the largest move of a score, each with its own roundings. A row in
        which nothing is seen is all zeros with infinite errors.
        """
        n, largest = scores.value.shape[-1], np.finfo(self.dtype).max
        # where bounds are shared, so is what is seen: by any row, for the sizes; by no row, for what is blind
        is_shared = not self.is_fine and seen.ndim == scores.value.ndim
        shown = seen.any(axis=0, keepdims=True) if is_shared else seen
        is_blind = ~seen.any(axis=-1, keepdims=True)
        blind = is_blind.any(axis=0, keepdims=True) if is_shared else is_blind
        weights = np.where(seen, scores.value, -largest)
        weights -= weights.max(axis=-1, keepdims=True)
        away = np.where(shown, self.size(np.where(seen, weights, 0)), 0.0)
        error = np.where(shown, scores.error, 0.0)
        np.exp(weights, out=weights)
        weights *= seen
        weights /= np.where(is_blind, 1, weights.sum(axis=-1, keepdims=True))
        moved = 2 * (error + 2 * self.unit * away).max(axis=-1, keepdims=True)
        moved = moved * _SLACK + gamma(n + 24, self.unit)
        share = np.where((moved < _MOST_MOVED) & ~blind, np.expm1(np.minimum(moved, 1.0)) * _SLACK, np.inf)
        bound = np.where(share < np.inf, np.minimum(share, 1.0) * self.size(weights) + 4 * self.tiny, np.inf)
        return Approx(weights, np.where(shown | blind, bound, 0.0))

    def product(self, left: Approx, right: Approx) -> Approx:
        """Multiply matrices of the last two axes."""
        value = left.value @ right.value
        a, b = self.size(left.value), self.size(right.value)
        rounding = gamma(left.value.shape[-1] + 2, self.unit)
        error = (left.error + rounding * a) @ b + (a + left.error) @ right.error
        return Approx(value, (error + 2 * left.value.shape[-1] * self.tiny) * _SLACK)

    def mean(self, weights: Approx, values: Approx) -> Approx:
        """Return weighted means over keys, as ``product`` does but knowing that the weights add up to about one.

        Where bounds are shared, the largest weights of many rows add up to more.
        """
        mixed = self.product(weights, values)
        if self.is_fine:
            return mixed
        n = weights.value.shape[-1]
        total = weights.error.sum(axis=-1, keepdims=True)
        size = self.size(values.value).max(axis=-2, keepdims=True)
        off = values.error.max(axis=-2, keepdims=True)
        share = (total + gamma(2 * n + 4, self.unit)) * size + (1 + total + gamma(n + 4, self.unit)) * off
        return Approx(mixed.value, np.fmin(mixed.error, (share + 4 * n * self.tiny) * _SLACK))

    def turned(self, x: Approx, rotary: Rotary, positions: NDArray[np.intp]) -> Approx:
        """Turn pairs of the last axis. Shape: x [..., position, d_head].

        An angle of p * base^(-2i/n) radians is off by a few roundings of itself and of the power's exponent.
        """
        n = rotary.n_dims
        exponents = np.asarray(-2.0 * np.arange(n // 2), self.dtype) / self.dtype.type(n)
        angles = positions[:, None] * self.dtype.type(rotary.base) ** exponents
        off = (12 + 2 * abs(math.log(rotary.base))) * self.unit * angles.astype(np.float64) + 8 * self.unit
        cos, sin = Approx(np.cos(angles), off), Approx(np.sin(angles), off)
        if rotary.pairing == "halves":
            one, two = (..., slice(0, n // 2)), (..., slice(n // 2, n))
        else:
            one, two = (..., slice(0, n, 2)), (..., slice(1, n, 2))
        value, error = x.value.copy(), x.error.copy()
        first, second = x.at(one), x.at(two)
        for index, a, b, sign in ((one, first, second, -1), (two, second, first, 1)):
            left, right = self._rotating(a, cos), self._rotating(b, sin)
            made = self.add(left, Approx(sign * right.value, right.error))
            value[index], error[index] = made.value, made.error
        return Approx(value, error)

    def _rotating(self, x: Approx, by: Approx) -> Approx:
        value = x.value * by.value
        size = np.abs(by.value).astype(np.float64)
        error = self.size(x.value) * by.error + x.error * (size + by.error)
        return Approx(value, (error + self.unit * self.size(value) + self.tiny) * _SLACK)
