"""The checker's own arithmetic with errors, entry by entry: the operations that networks of any kind are made of.

A number is a pair of float64 arrays, value and error: the real value of the stored weights is within the error of the
value. Errors not above a result's own rounding are rounded up with a margin; what overflows has an error that is
infinite or not a number, under which nothing is decided. Assumed: exp, tanh, erf, sin, cos, pow to four units in the
last place.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from extract.check.weights import Floats, Pair, Rotary

U, _LEAST, _UP = 2.0**-53, 2.0**-1000, 1 + 2.0**-20
#: Steepest slopes; softmax scores less sure than this are not bounded at all.
_STEEPEST = {"gelu_tanh": 1.13, "gelu_erf": 1.13, "silu": 1.1, "relu": 1.0}
_UNSURE = 0.4
_ERF = np.frompyfunc(math.erf, 1, 1)


def known(value: Floats) -> Pair:
    """Return numbers that are exactly what is stored."""
    return value, np.zeros_like(value)


def _made(value: Floats, error: Floats, roundings: int = 1) -> Pair:
    return value, (error + roundings * U * np.abs(value)) * _UP + _LEAST


def plus(x: Pair, y: Pair) -> Pair:
    """Return the sum."""
    return _made(x[0] + y[0], x[1] + y[1])


def times(x: Pair, y: Pair) -> Pair:
    """Return the product, entry by entry."""
    return _made(x[0] * y[0], x[1] * (np.abs(y[0]) + y[1]) + np.abs(x[0]) * y[1])


def dot(x: Pair, y: Pair) -> Pair:
    """Return the matrix product over the last axis of x and the last but one of y, summed in any order."""
    n, size = x[0].shape[-1], np.abs(x[0])
    error = (x[1] + 1.01 * (n + 2) * U * size) @ np.abs(y[0]) + (size + x[1]) @ y[1]
    return _made(x[0] @ y[0], error + n * _LEAST)


def linear(x: Pair, weight: Floats, bias: Floats) -> Pair:
    """Return ``x @ weight + bias`` for stored weights."""
    n, size = len(weight), np.abs(weight)
    error = (x[1] + 1.01 * (n + 2) * U * np.abs(x[0])) @ size
    return _made(x[0] @ weight + bias, error + n * _LEAST, 2)


def normalised(x: Pair, gain: Pair | None, kind: str, eps: float) -> Pair:
    """Return the norm over the last axis, with gain and shift; nothing is done where there is none."""
    if gain is None:
        return x
    value, error, d = *x, x[0].shape[-1]
    if kind != "rms":
        error = error + error.mean(axis=-1, keepdims=True)
        error = error + 1.01 * (d + 2) * U * np.abs(value).mean(axis=-1, keepdims=True)
        value, error = _made(value - value.mean(axis=-1, keepdims=True), error)
    root = np.sqrt((value * value).mean(axis=-1, keepdims=True) + eps)
    # the root moves by at most the mean square of what its entries move by
    moved = np.sqrt((error * error).mean(axis=-1, keepdims=True)) + (d + 9) * U * root
    floor = np.maximum((root - moved) * (1 - 1e-9), math.sqrt(eps) * (1 - 1e-9))
    z = value / root
    z, error = _made(z, (error + np.abs(z) * moved) / floor)
    return plus(times((z, error), known(gain[0])), known(gain[1]))


def softmax(x: Pair, seen: NDArray[np.bool_]) -> Pair:
    """Return the softmax over the last axis of what is seen; where nothing is, zeros with infinite errors."""
    n, blind = x[0].shape[-1], ~seen.any(axis=-1, keepdims=True)
    away = np.where(seen, x[0], -np.inf)
    away = np.where(seen, away - np.where(blind, 0.0, away.max(axis=-1, keepdims=True)), -np.inf)
    raw = np.exp(away)
    share = raw / np.where(blind, 1.0, raw.sum(axis=-1, keepdims=True))
    # each exponent is off by its error and rounding; numerator and denominator move by no more than the worst each
    slip = np.where(seen, x[1] + 2 * U * np.abs(np.where(seen, away, 0.0)), 0.0).max(axis=-1, keepdims=True)
    slip = 2 * slip + (n + 30) * U
    rise = np.where(blind | ~(slip < _UNSURE), np.inf, np.expm1(np.minimum(slip, 1.0)))
    error = np.where(rise < np.inf, np.minimum(rise, 1.0) * share * _UP + 8 * _LEAST, np.inf)
    return share, np.where(seen | blind, error, 0.0)


def activated(x: Pair, kind: str) -> Pair:
    """Return the activation of every entry."""
    value, error = x
    if kind == "solu":
        return times(x, softmax(x, np.ones(value.shape[-1:], bool))) if value.size else x
    if kind == "relu":
        return np.maximum(value, 0.0), np.where(value + error < 0, 0.0, error)
    if kind == "gelu_tanh":
        made = 0.5 * value * (1 + np.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value * value * value)))
    elif kind == "gelu_erf":
        made = 0.5 * value * (1 + np.asarray(_ERF(value / math.sqrt(2)), np.float64))
    else:
        made = value / (1 + np.exp(-np.clip(value, -700, None)))
    return _made(made, _STEEPEST[kind] * error + 20 * U * np.abs(value))


def turned(x: Pair, rotary: Rotary, places: Floats) -> Pair:
    """Return heads with the pairs of their first dimensions turned. Shape: [..., position, d_head]."""
    n = rotary.n_dims
    angles = places[:, None] * rotary.base ** (-2.0 * np.arange(n // 2) / n)
    off = (16 + 2 * abs(math.log(rotary.base))) * U * np.abs(angles) + 10 * U
    cos, sin, back = (np.cos(angles), off), (np.sin(angles), off), (-np.sin(angles), off)
    one = np.arange(n // 2) if rotary.pairing == "halves" else np.arange(0, n, 2)
    two = one + n // 2 if rotary.pairing == "halves" else one + 1
    first, second = ((x[0][..., at], x[1][..., at]) for at in (one, two))
    made = x[0].copy(), x[1].copy()
    for at, (value, error) in (
        (one, plus(times(first, cos), times(second, back))),
        (two, plus(times(second, cos), times(first, sin))),
    ):
        made[0][..., at], made[1][..., at] = value, error
    return made
