"""Arrays of real numbers known to within an error: float64 values, each with a bound on its distance from the truth.

Assumes IEEE binary64 with round-to-nearest, sums and dot products in any order with or without fused multiply-add, and
an exp good to 4 ulps. It refuses to know what the numbers are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNIT = 2.0**-53
#: Bounds are sums of fewer than 10^5 non-negative terms: this covers their own rounding.
_SLACK = 1 + 2.0**-30
#: What underflow may lose in one result, many times over.
TINY = 2.0**-1000


def gamma(n: int) -> float:
    """Return the relative error of n roundings."""
    return n * UNIT / (1 - n * UNIT)


@dataclass(frozen=True, slots=True)
class Bounded:
    """``value`` is within ``error`` of the real number, cell by cell. Shapes: equal."""

    value: Floats
    error: Floats

    @staticmethod
    def exact(array: NDArray[Any]) -> Bounded:
        """Return stored float32 or float64 numbers, known exactly."""
        value = np.asarray(array, dtype=np.float64)
        return Bounded(value, np.zeros_like(value))

    def __add__(self, other: Bounded) -> Bounded:
        value = self.value + other.value
        return Bounded(value, (self.error + other.error + UNIT * np.abs(value)) * _SLACK)

    def __sub__(self, other: Bounded) -> Bounded:
        value = self.value - other.value
        return Bounded(value, (self.error + other.error + UNIT * np.abs(value)) * _SLACK)

    def __mul__(self, other: Bounded) -> Bounded:
        """Return the product, cell by cell, shapes broadcast."""
        value = self.value * other.value
        error = self.error * (np.abs(other.value) + other.error) + np.abs(self.value) * other.error
        return Bounded(value, (error + UNIT * np.abs(value)) * _SLACK + TINY)

    def __matmul__(self, other: Bounded) -> Bounded:
        size, far = np.abs(self.value), np.abs(other.value)
        error = self.error @ (far + other.error) + size @ other.error
        error = error + gamma(self.value.shape[-1] + 2) * (size @ far)
        return Bounded(self.value @ other.value, error * _SLACK + TINY)

    def __getitem__(self, key: Any) -> Bounded:
        return Bounded(self.value[key], self.error[key])

    def scaled(self, factor: float) -> Bounded:
        """Return the product with a number known exactly."""
        return self * Bounded.exact(np.array(factor))

    def exp(self) -> Bounded:
        """Return the exponentials."""
        value = np.exp(self.value)
        return Bounded(value, value * (np.expm1(self.error) + 16 * UNIT) * _SLACK + TINY)

    def reshape(self, *shape: int) -> Bounded:
        """Return the same numbers in another shape."""
        return Bounded(self.value.reshape(shape), self.error.reshape(shape))

    @property
    def low(self) -> Floats:
        """Numbers at most the real ones."""
        return np.asarray(np.nextafter(self.value - self.error, -np.inf))

    @property
    def high(self) -> Floats:
        """Numbers at least the real ones."""
        return np.asarray(np.nextafter(self.value + self.error, np.inf))
