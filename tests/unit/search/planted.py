"""Banks of random values with real terms as names, and goals planted in them: what the laws of the last level use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.oracle import ProbeSet
from extract.probe.choose import choose_probes
from extract.search.bank import Bank, Key, Origin
from extract.search.frame import frame_of
from extract.search.goals import Goal
from tests.unit.search.worlds import domain, oracle

Array = NDArray[Any]

WORLD = domain("0123", lengths=(1, 5), at="every", numeric=True)


def probes() -> ProbeSet:
    """The probes of the little numeric world: 40 inputs of length 1 to 5."""
    return choose_probes(oracle(WORLD, lambda codes: codes), n_probes=40, n_gate=10, seed=0)[0]


@dataclass
class Planted:
    """A bank with random terms: integers and booleans of one shape, selectors and values along the input.

    Every integer is filed as a constant of its own number, so that proposals can be traced back to rows: term
    ``integer(1000 + i)`` has the values ``integers[i]``; likewise ``shift(indices, 100 + i) < 0`` for booleans.
    """

    bank: Bank
    shape: Literal["whole", "position"]
    integers: Array
    booleans: Array

    @classmethod
    def draw(cls, seed: int, shape: Literal["whole", "position"] = "whole", n: int = 40, high: int = 6) -> Planted:
        rng = np.random.default_rng(seed)
        bank = Bank(frame_of(probes(), WORLD.vocabulary, WORLD.readout))
        mask = bank.frame.mask(shape)
        integers = rng.integers(-2, high, size=(n, *mask.shape)).astype(np.int16) * mask
        booleans = (rng.random((n, *mask.shape)) < rng.random((n, 1, 1))) & mask
        empty: tuple[NDArray[np.int32], ...] = ()
        for i in range(n):
            cost = 1 + i * 3 // n
            bank.append(Key("I", "N", shape), integers[i : i + 1], Origin("integer", (1000 + i,), empty, cost))
            bank.append(Key("B", "", shape), booleans[i : i + 1], Origin("boolean", (1000 + i,), empty, cost))
        return cls(bank, shape, integers, booleans)

    @property
    def mask(self) -> NDArray[np.bool_]:
        return self.bank.frame.mask(self.shape)

    def goal(self, values: Array) -> Goal:
        """A goal that wants these values: boolean for booleans, else a number."""
        target = values * self.mask if values.dtype != np.bool_ else values & self.mask
        kind: Literal["I", "B"] = "B" if values.dtype == np.bool_ else "I"
        tag: Literal["N", ""] = "N" if kind == "I" else ""
        return Goal("output", kind, tag, self.shape, target.astype(np.int32), target, self.mask)
