"""Integers as linear combinations of running sums, so that a difference of counts is remembered as one number.

It knows sums by the slot of their increment (streams.py) and other parts by their term; it reads no input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import Any

from extract.lang.terms import Term

#: Which sums make up a register: (slot of the increment, factor), sorted by slot.
Combination = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Linear:
    """An integer as constant + sums + slots + length + other values, each with its factor."""

    constant: int = 0
    sums: dict[int, int] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    length: int = 0
    others: dict[Term, int] = field(default_factory=dict)

    def plus(self, other: Linear, factor: int) -> Linear:
        """Return self + factor * other."""
        return Linear(
            self.constant + factor * other.constant,
            _combine(self.sums, other.sums, factor),
            _combine(self.slots, other.slots, factor),
            self.length + factor * other.length,
            _combine(self.others, other.others, factor),
        )

    @property
    def is_constant(self) -> bool:
        """Whether it is known before anything is read."""
        return not (self.sums or self.slots or self.length or self.others)


def _combine(left: dict[Any, int], right: dict[Any, int], factor: int) -> dict[Any, int]:
    merged = dict(left)
    for key, coefficient in right.items():
        merged[key] = merged.get(key, 0) + factor * coefficient
    return {key: coefficient for key, coefficient in merged.items() if coefficient}


def normalised(sums: dict[int, int]) -> tuple[Combination, int]:
    """Return sums as a combination with coprime factors, the first positive, and the factor that gives them back."""
    items = sorted(sums.items())
    factor = gcd(*(abs(c) for _, c in items))
    factor = -factor if items[0][1] < 0 else factor
    return tuple((slot, c // factor) for slot, c in items), factor
