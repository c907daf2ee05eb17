"""The activation functions, evaluated on whole arrays in either float type, with the constants a bound needs.

``SLOPES`` and ``CURVATURES`` bound the derivatives of the real functions everywhere. ``ROUNDINGS`` bounds the error of
any sensible evaluation at the same argument, in units of u * |argument|, where exp, tanh and erf are accurate to 4
ulps. This room refuses to know where the argument came from.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.network import Activation

Floats = NDArray[Any]

#: Lower and upper bounds of f' over the reals; tests/unit/verify/test_activations.py proves them by intervals.
SLOPES: dict[Activation, tuple[float, float]] = {
    "gelu_tanh": (-0.13, 1.13),
    "gelu_erf": (-0.13, 1.13),
    "relu": (0.0, 1.0),
    "silu": (-0.101, 1.101),
}
#: Upper bounds of |f''| over the reals, proved there too; relu has none.
CURVATURES: dict[Activation, float] = {"gelu_tanh": 0.8, "gelu_erf": 0.8, "relu": math.inf, "silu": 0.51}

#: |computed f(x) - f(x)| <= ROUNDINGS * u * |x|. The factor next to x lies in [0, 2] or [0, 1]: 8u from a tanh, erf or
#: exp good to 4 ulps, at most 3.2u from its argument's 7 roundings (|t| sech^2 t <= 0.45), the rest from the last
#: additions and products; 16 is their sum rounded up. A comparison with zero rounds nothing.
ROUNDINGS: dict[Activation, float] = {"gelu_tanh": 16.0, "gelu_erf": 16.0, "relu": 0.0, "silu": 16.0}

_ERF_STEP = 1 / 16
_ERF_END = 6.0
_ERF_DEGREE = {np.dtype(np.float32): 5, np.dtype(np.float64): 10}
#: Activations good to their promised roundings in more than float64; the error function's table is not.
IN_EXTENDED: tuple[Activation, ...] = ("gelu_tanh", "relu", "silu", "solu")
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def activate(kind: Activation, x: Floats, spare: Floats | None = None) -> Floats:
    """Return the activation of every element; ``x`` and ``spare``, of the same shape, may be overwritten.

    Ensures: within ``ROUNDINGS[kind] * u * |x|`` of the real function of ``x``, u the unit roundoff of its type.
    """
    if kind == "relu":
        return np.maximum(x, 0, out=x)
    if kind == "gelu_erf":
        inner = erf(x * math.sqrt(0.5))
        inner += 1
        inner *= x
        inner *= 0.5
        return inner
    # 0.5 (1 + tanh t) = 1 / (1 + exp(-2t)); an overflowing exp is a zero as it should be
    inner = np.empty_like(x) if spare is None else spare
    if kind == "gelu_tanh":
        np.multiply(x, x, out=inner)
        inner *= -2 * 0.044715 * _SQRT_2_OVER_PI
        inner -= 2 * _SQRT_2_OVER_PI
        inner *= x
    else:
        np.negative(x, out=inner)
    with np.errstate(over="ignore"):
        np.exp(inner, out=inner)
    inner += 1
    return np.divide(x, inner, out=inner)


def slope(kind: Activation, x: Floats) -> Floats:
    """Return the derivative of a smooth activation at every element.

    Ensures: an absolute error under 1e-4 in either float type, for bounds that allow for it.
    """
    result: Floats
    if kind == "silu":
        half = np.tanh(x * 0.5)
        result = 0.5 * (1 + half) + 0.25 * x * (1 - half * half)
    elif kind == "gelu_tanh":
        square = x * x
        tanh = np.tanh(_SQRT_2_OVER_PI * x * (1 + 0.044715 * square))
        result = 0.5 * (1 + tanh) + (0.5 * _SQRT_2_OVER_PI) * x * (1 - tanh * tanh) * (1 + 3 * 0.044715 * square)
    else:
        bounded = np.clip(x, -40, 40)
        density = np.exp(-0.5 * bounded * bounded) / math.sqrt(2 * math.pi)
        result = 0.5 * (1 + erf(x * math.sqrt(0.5))) + bounded * density
    return result


def erf(x: Floats) -> Floats:
    """Return the error function of every element, from its Taylor series around the nearest multiple of 1/16.

    Ensures: an absolute error under 8u. The series of degree n leaves at most 1.23 * sqrt(2^n n!) / (n+1)! * 32^-(n+1)
    (Cramer's bound on Hermite functions): 2e-10 in float32 (n = 5), 1e-18 in float64 (n = 10); past 6 erf is +-1 to
    2e-17.
    """
    coefficients = _erf_series(x.dtype)
    clipped = np.clip(x, -_ERF_END, _ERF_END)
    cell = np.rint(clipped * (1 / _ERF_STEP))
    delta = clipped - cell * x.dtype.type(_ERF_STEP)
    index = np.nan_to_num(cell + _ERF_END / _ERF_STEP).astype(np.intp)
    total: Floats = coefficients[-1][index]
    for row in coefficients[-2::-1]:
        total *= delta
        total += row[index]
    return total


_SERIES: dict[np.dtype[Any], Floats] = {}


def _erf_series(dtype: np.dtype[Any]) -> Floats:
    """Return the Taylor coefficients [degree, cell] of erf at every grid point."""
    if dtype not in _SERIES:
        degree = _ERF_DEGREE[dtype]
        n_cells = round(_ERF_END / _ERF_STEP)
        centres = np.arange(-n_cells, n_cells + 1) * _ERF_STEP
        rows = [np.array([math.erf(c) for c in centres])]
        hermite, before = np.ones_like(centres), np.zeros_like(centres)
        slope = 2 / math.sqrt(math.pi) * np.exp(-centres * centres)
        for k in range(1, degree + 1):
            rows.append((-1) ** (k - 1) * hermite * slope / math.factorial(k))
            hermite, before = 2 * centres * hermite - 2 * (k - 1) * before, hermite
        _SERIES[dtype] = np.array(rows).astype(dtype)
    return _SERIES[dtype]
