"""Error-carrying arrays against exact rational arithmetic: the truth is always within the stated error."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.verify.bounded import Bounded
from extract.verify.worst_margin import _added


def exactly(array: NDArray[np.float64]) -> NDArray[np.object_]:
    return np.vectorize(Fraction, otypes=[object])(array)


def drawn(seed: int, *shape: int) -> tuple[Bounded, NDArray[np.object_]]:
    """Numbers of very different sizes with errors, and real numbers at the edges of what the errors allow."""
    rng = np.random.default_rng(seed)
    value = rng.normal(0, 1, shape) * 2.0 ** rng.integers(-30, 30, shape)
    error = np.abs(value) * rng.choice([0.0, 2.0**-50, 2.0**-30], shape)
    real = exactly(value) + exactly(error) * rng.choice([-1, 0, 1], shape)
    return Bounded(value, error), real


def holds(found: Bounded, real: NDArray[np.object_]) -> bool:
    return bool((abs(exactly(found.value) - real) <= exactly(found.error)).all()) and bool(
        (exactly(found.low) <= real).all() and (real <= exactly(found.high)).all()
    )


@pytest.mark.parametrize("seed", range(40))
def test_every_operation_covers_its_rounding(seed: int) -> None:
    (a, ra), (b, rb), (c, rc) = drawn(seed, 4, 7), drawn(seed + 100, 4, 7), drawn(seed + 200, 7, 3)
    assert holds(a + b, ra + rb)
    assert holds(a - b, ra - rb)
    assert holds(a * b, ra * rb)
    assert holds(a.scaled(0.1), ra * Fraction(0.1))
    assert holds(a @ c, ra @ rc)
    exact, other = Bounded.exact(a.value.astype(np.float32)), Bounded.exact(c.value.astype(np.float32))
    assert holds(exact @ other, exactly(exact.value) @ exactly(other.value))


@pytest.mark.parametrize("seed", range(20))
def test_exp_covers_its_rounding_and_its_argument(seed: int) -> None:
    rng = np.random.default_rng(seed)
    value, error = rng.uniform(-600, 5, 30), rng.choice([0.0, 1e-14, 1e-3], 30)
    found = Bounded(value, error).exp()
    with localcontext() as context:
        context.prec = 60
        for i in range(30):
            for side in (-1, 0, 1):
                real = Fraction((Decimal(float(value[i])) + side * Decimal(float(error[i]))).exp())
                assert abs(Fraction(float(found.value[i])) - real) <= Fraction(float(found.error[i]))


def test_a_sum_rounded_down_is_at_most_the_sum() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(0, 1, 5000) * 2.0 ** rng.integers(-20, 20, 5000) for _ in range(2))
    assert (exactly(_added(x, y)) <= exactly(x) + exactly(y)).all()
