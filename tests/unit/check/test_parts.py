"""The checker's arithmetic with errors: whatever its arguments may be, the result is within its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from extract.check import parts
from extract.check.weights import Rotary
from tests.network_logits import activated, turned

WIDE = np.longdouble
SHAPE = (3, 5, 4)


def drawn(rng: np.random.Generator, *shape: int) -> Any:
    """Values of several sizes, with errors from none to large."""
    value = rng.normal(0, 1, shape) * 10.0 ** rng.integers(-3, 3, shape)
    return value, np.abs(value) * float(rng.choice([0.0, 1e-12, 1e-4, 0.05])) * rng.uniform(0, 1, shape)


def inside(rng: np.random.Generator, x: Any) -> Any:
    """Real numbers that a pair may stand for, the ends above all."""
    return x[0].astype(WIDE) + x[1] * rng.choice([-1.0, 1.0, 1.0, 0.5], x[0].shape)


def assert_within(made: Any, real: Any) -> None:
    assert made[0].shape == made[1].shape == real.shape
    # the last term is the rounding of what is called real
    assert (np.abs(made[0] - real) <= made[1] + WIDE(2.0**-62) * np.abs(real)).all()


def same_way(rng: np.random.Generator, x: Any) -> list[Any]:
    """Numbers inside, some with all errors pointing one way."""
    return [inside(rng, x) for _ in range(4)] + [x[0].astype(WIDE) + sign * x[1] for sign in (-1, 1)]


@pytest.mark.parametrize("seed", range(30))
def test_sums_and_products(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, w = drawn(rng, *SHAPE), drawn(rng, *SHAPE), drawn(rng, 4, 6)[0]
    bias, z = rng.normal(0, 1, 6), drawn(rng, 3, 4, 5)
    for a in same_way(rng, x):
        for b in same_way(rng, y):
            assert_within(parts.plus(x, y), a + b)
            assert_within(parts.times(x, y), a * b)
        for b in same_way(rng, z):
            assert_within(parts.dot(x, z), a @ b)
        assert_within(parts.linear(x, w, bias), a @ w.astype(WIDE) + bias)


@pytest.mark.parametrize("n", (2, 40, 400))
def test_cancelling_sums_keep_their_rounding(n: int) -> None:
    """Nothing is left of a sum but its rounding, which must be within the error by itself."""
    rng = np.random.default_rng(n)
    for _ in range(20):
        half = rng.normal(0, 1, (3, n))
        x = parts.known(np.concatenate([half, -half * (1 + 2.0**-40)], axis=1))
        w = np.repeat(rng.normal(0, 1, (n, 2)), 2, axis=0).reshape(n, 2, 2).swapaxes(0, 1).reshape(2 * n, 2)
        exact = x[0].astype(WIDE) @ w.astype(WIDE)
        assert_within(parts.linear(x, w, np.zeros(2)), exact)
        assert_within(parts.dot(x, parts.known(w)), exact)


@pytest.mark.parametrize("kind", ("layernorm", "rms"))
@pytest.mark.parametrize("eps", (0.0, 1e-5, 0.1))
def test_norms(kind: str, eps: float) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x, gain = drawn(rng, 4, 6), (rng.normal(1, 1, 6), rng.normal(0, 1, 6))
        made = parts.normalised(x, gain, kind, eps)
        for a in same_way(rng, x):
            a = a - a.mean(axis=-1, keepdims=True) if kind == "layernorm" else a
            assert_within(made, a / np.sqrt((a * a).mean(axis=-1, keepdims=True) + eps) * gain[0] + gain[1])
    x = drawn(np.random.default_rng(0), 2, 3)
    assert parts.normalised(x, None, kind, eps) is x


def test_softmax() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        value = rng.normal(0, float(rng.choice([0.1, 3.0, 200.0])), (4, 6))
        x = value, np.full(value.shape, float(rng.choice([0.0, 1e-13, 1e-3, 0.05, 0.15])))
        seen = rng.random((4, 6)) < 0.7
        seen[:, 0] = True
        made = parts.softmax(x, seen)
        for a in same_way(rng, x):
            raw = np.where(seen, np.exp(a - a.max(axis=-1, keepdims=True)), 0)
            assert_within(made, raw / raw.sum(axis=-1, keepdims=True))


def test_a_softmax_of_nothing_or_of_the_unknown_bounds_nothing() -> None:
    value = np.zeros((2, 3))
    seen = np.array([[False] * 3, [True] * 3])
    share, error = parts.softmax((value, value), seen)
    assert np.isinf(error[0]).all() and not share[0].any() and np.isfinite(error[1]).all()
    for wide in (0.21, 5.0, np.inf, np.nan):
        assert not np.isfinite(parts.softmax((value, value + wide), seen)[1]).any()


@pytest.mark.parametrize("kind", ("gelu_tanh", "gelu_erf", "silu", "relu", "solu"))
def test_activations(kind: str) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = drawn(rng, 3, 6)
        made = parts.activated(x, kind)
        with np.errstate(all="ignore"):
            for a in same_way(rng, x):
                assert_within(made, np.asarray(activated(a, kind)))


@pytest.mark.parametrize("pairing", ("halves", "neighbours"))
@pytest.mark.parametrize("base", (1e-4, 0.5, 100.0, 1e6))
@pytest.mark.parametrize("n_dims", (2, 6, 8))
def test_rotations(pairing: Any, base: float, n_dims: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, offset = drawn(rng, 2, 5, 8), int(rng.integers(0, 1000))
        rotary = Rotary(base, n_dims, pairing)
        made = parts.turned(x, rotary, np.arange(offset, offset + 5))
        for a in same_way(rng, x):
            assert_within(made, turned(a, rotary, offset))  # type: ignore[arg-type]


def test_overflow_decides_nothing() -> None:
    huge = parts.known(np.full((2, 2), 1e200))
    for make in (parts.times, parts.dot):
        operation: Callable[..., Any] = make
        with np.errstate(all="ignore"):
            assert not np.isfinite(operation(huge, huge)[1]).any()
