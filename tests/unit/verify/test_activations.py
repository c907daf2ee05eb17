"""The constants of the activation functions are proved by interval arithmetic; the functions are as good as said."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from extract.network import Activation
from extract.verify.activations import CURVATURES, ROUNDINGS, SLOPES, activate, erf, slope

iv = mpmath.iv
SMOOTH: tuple[Activation, ...] = ("gelu_tanh", "gelu_erf", "silu")
A, C = 0.044715, math.sqrt(2 / math.pi)


def cells() -> Iterator[Any]:
    """Intervals that cover [0, 2^60]: fine ones where the functions bend, then doubling ones."""
    edges = [i / 1024 for i in range(12 * 1024 + 1)] + [12.0 * 2**k for k in range(1, 60)]
    for low, high in pairwise(edges):
        yield iv.mpf([low, high])


def logistic(t: Any) -> tuple[Any, Any]:
    """The logistic function and one minus it, of an interval of non-negative numbers."""
    fade = iv.exp(-t)
    return 1 / (1 + fade), fade / (1 + fade)


def derivatives(kind: Activation, x: Any) -> tuple[Any, Any]:
    """f' and f'' on an interval of non-negative x."""
    if kind == "gelu_erf":
        density = iv.exp(-x * x / 2) / iv.sqrt(2 * iv.pi)
        # the normal distribution function, from below by its value at the left end and from above at the right
        low, high = (0.5 * (1 + mpmath.erf(end / mpmath.sqrt(2))) for end in (mpmath.mpf(x.a), mpmath.mpf(x.b)))
        slack = mpmath.mpf(2) ** -40
        return iv.mpf([low - slack, high + slack]) + x * density, density * (2 - x * x)
    # f = x L(u): f' = L + x u' L(1-L), f'' = 2u'L(1-L) + x u'' L(1-L) + x u'^2 L(1-L)(1-2L)
    if kind == "silu":
        u, first, second = x, iv.mpf(1), iv.mpf(0)
    else:
        u, first, second = 2 * C * (x + A * x * x * x), 2 * C * (1 + 3 * A * x * x), 2 * C * 6 * A * x
    up, down = logistic(u)
    both = up * down
    return up + x * first * both, both * (2 * first + x * second + x * first * first * (down - up))


@pytest.mark.parametrize("kind", SMOOTH)
def test_slopes_and_curvatures_are_bounded_everywhere(kind: Activation) -> None:
    # f(x) - f(-x) = x for all three, so that f'(-x) = 1 - f'(x) and f''(-x) = f''(x): x >= 0 is enough
    low, high = SLOPES[kind]
    for x in cells():
        first, second = derivatives(kind, x)
        assert max(low, 1 - high) <= first.a and first.b <= min(high, 1 - low), x
        assert abs(second).b <= CURVATURES[kind], x


@pytest.mark.parametrize("kind", SMOOTH)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_within_the_promised_roundings(kind: Activation, dtype: type) -> None:
    x: NDArray[Any] = np.concatenate([np.linspace(-12, 12, 1501), [-80.0, -1e-3, 1e-30, 50.0]]).astype(dtype)
    with np.errstate(all="ignore"):
        computed = activate(kind, x.copy())
        slopes = slope(kind, x.copy())
    unit = float(np.finfo(dtype).eps) / 2
    for value, mine, gradient in zip(x.tolist(), computed.tolist(), slopes.tolist(), strict=True):
        t = mpmath.mpf(value)
        real: Any = {
            "gelu_tanh": lambda t=t: t / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (t + A * t**3))),
            "gelu_erf": lambda t=t: t / 2 * (1 + mpmath.erf(t / mpmath.sqrt(2))),
            "silu": lambda t=t: t / (1 + mpmath.exp(-t)),
        }[kind]()
        assert abs(mine - real) <= ROUNDINGS[kind] * unit * abs(value) + 1e-38
        if abs(value) < 20:
            near = derivatives(kind, iv.mpf(abs(value)))[0]
            exact = float(mpmath.mpf(near.mid)) if value >= 0 else 1 - float(mpmath.mpf(near.mid))
            assert gradient == pytest.approx(exact, abs=1e-4)


def test_relu_is_exact() -> None:
    x = np.array([-2.0, -0.0, 0.0, 3.5], dtype=np.float32)
    assert activate("relu", x.copy()).tolist() == [0.0, 0.0, 0.0, 3.5]


@given(st.floats(-1e6, 1e6))
def test_erf_is_accurate(x: float) -> None:
    assert abs(float(erf(np.array([x]))[0]) - math.erf(x)) <= 8 * 2.0**-53
    narrow = np.array([x], dtype=np.float32)
    assert abs(float(erf(narrow)[0]) - math.erf(float(narrow[0]))) <= 8 * 2.0**-24


def test_overflow_becomes_a_zero_not_a_number() -> None:
    for kind in SMOOTH:
        with np.errstate(all="ignore"):
            assert activate(kind, np.array([-2000.0], dtype=np.float32))[0] == 0
