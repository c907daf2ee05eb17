"""Promises written by hand, each in the ways the language may offer one: with a machine, for one length, or not."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain, Machine, Promise, build_domain
from extract.spec import DomainSpec, ReadOutSpec, TaskSpec, Tokens
from extract.vocabulary import Vocabulary

String = tuple[int, ...]
Readable = Literal["always", "with a length", "never"]


@dataclass(frozen=True, slots=True)
class PrefixMachine:
    """A machine that remembers the whole string: always right, never small."""

    keeps: Callable[[String], bool]

    def start(self) -> Hashable:
        return ()

    def step(self, state: Hashable, position: int, letter: int) -> Hashable | None:
        assert isinstance(state, tuple) and len(state) == position
        return (*state, letter)

    def accepts(self, state: Hashable, length: int) -> bool:
        assert isinstance(state, tuple) and len(state) == length
        return self.keeps(state)


@dataclass(frozen=True, slots=True)
class StepMachine:
    """A machine given by its step and its acceptance."""

    first: Hashable
    steps: Callable[..., Hashable | None]
    ends: Callable[..., bool]

    def start(self) -> Hashable:
        return self.first

    def step(self, state: Hashable, position: int, letter: int) -> Hashable | None:
        return self.steps(state, position, letter)

    def accepts(self, state: Hashable, length: int) -> bool:
        return self.ends(state, length)


@dataclass(frozen=True, slots=True)
class HandPromise:
    """A promise given by a Python function on token ids, readable left to right as said."""

    keeps: Callable[[String], bool]
    readable: Readable = "never"
    text: str = "by hand"
    reader: Machine | None = None

    def holds(self, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
        return np.array([self.keeps(tuple(row)) for row in tokens.tolist()], dtype=np.bool_)

    def machine(self, length: int | None) -> Machine | None:
        if self.readable == "never" or (self.readable == "with a length" and length is None):
            return None
        return self.reader or PrefixMachine(self.keeps)


def all_strings(alphabet: tuple[int, ...], low: int, high: int) -> list[String]:
    """Every string of the lengths, shortest first, then in alphabet order."""
    return [string for length in range(low, high + 1) for string in product(alphabet, repeat=length)]


def domain_of(
    promise: Promise | None = None,
    *,
    vocab: tuple[str, ...] = ("a", "b", "c", "<s>"),
    readout: ReadOutSpec | None = None,
    **domain: object,
) -> Domain:
    """The domain of a spec made here; ``promise`` stands behind ``where``."""

    def compiled(text: str, vocabulary: Vocabulary) -> Promise:
        assert promise is not None
        return promise

    where = None if promise is None else promise.text
    bounds = DomainSpec(**{"max_length": 4, "where": where, **domain})  # type: ignore[arg-type]
    return build_domain(TaskSpec(1, Tokens(vocab), bounds, readout=readout or ReadOutSpec()), compiled)
