"""Which strings of each length are inputs, and the cheapest exact way to count, list and draw them.

A promise read left to right becomes a graph; one that is not is looked up string by string while that is possible;
``distinct(tokens)`` is counted by combinatorics; what remains has an upper bound that is called one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import perm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import DomainError
from extract.input_graph.building import (
    MAX_LISTED_STRINGS,
    BothMachines,
    Machine,
    Promise,
    every_string,
    keep_promised,
    read_machine,
)
from extract.input_graph.graph import InputGraph, Letters

#: All strings of one length are looked at one by one when there are so few: faster than reading, the graph is the same.
_FEW_STRINGS = 1 << 17
#: Random strings tried before giving up where a length can only be sampled by trial; some ten seconds.
_MAX_TRIALS = 1 << 21
_TRIAL_CHUNK = 1 << 14


@dataclass(frozen=True, slots=True)
class DistinctStrings:
    """All strings of letters that never repeat, in lexicographic order, by falling factorials."""

    n_letters: int

    def size(self, length: int) -> int:
        """Return the number of strings of a length."""
        return perm(self.n_letters, length)

    def letters(self, length: int, start: int, stop: int, names: Letters) -> Letters:
        """Return the strings of consecutive ranks, letters replaced by ``names`` [letter]. Shape: [rank, length]."""
        if not 0 <= start <= stop <= self.size(length):
            raise DomainError(f"ranks {start} to {stop} of length {length}, expected within 0 to {self.size(length)}")
        return names[self.letters_at(length, range(start, stop))]

    def letters_at(self, length: int, ranks: Sequence[int]) -> Letters:
        """Return the strings with the given ranks. Shape: [rank, length]."""
        left: NDArray[Any] = np.array(ranks, dtype=np.int64 if self.size(length) < 1 << 62 else object)
        rows: Letters = np.zeros((len(ranks), length), dtype=np.int32)
        for depth in range(length - 1, -1, -1):
            free = self.n_letters - depth
            rows[:, depth] = left % free
            left = left // free
            later = rows[:, depth + 1 :]
            later += later >= rows[:, depth : depth + 1]
        return rows

    def rank(self, letters: tuple[int, ...]) -> int:
        """Return the rank of a string without repeats among those of its length."""
        rank = 0
        for depth, letter in enumerate(letters):
            rank = rank * (self.n_letters - depth) + letter - sum(seen < letter for seen in letters[:depth])
        return rank


@dataclass(frozen=True, slots=True, eq=False)
class InputStrings:
    """The strings over an alphabet (token ids) of some lengths that keep every promise.

    Graphs and counts are made when first asked for, length by length where a promise needs to know the length.
    """

    alphabet: tuple[int, ...]
    min_length: int
    max_length: int
    promises: tuple[Promise, ...]
    _memo: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def lengths(self) -> range:
        """Every length that may have inputs, in tokens."""
        return range(self.min_length, self.max_length + 1)

    def holds(self, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Say which strings keep every promise. Shapes: [n, length] ids, [n]."""
        kept = np.ones(len(tokens), dtype=np.bool_)
        for promise in self.promises:
            rows = np.flatnonzero(kept)
            kept[rows] = promise.holds(tokens[rows])
        return kept

    def size(self, length: int) -> int:
        """Return the number of inputs of a length, or an upper bound where ``is_exact`` denies it."""
        if length not in self.lengths:
            return 0
        if self._distinct is not None:
            return self._distinct.size(length)
        graph = self.graph(length)
        if graph is None and not self.is_exact(length):
            graph = self._superset(length)
        return graph.size(length) if graph is not None else 0

    def is_exact(self, length: int) -> bool:
        """Say whether ``size`` is the exact number of inputs of a length."""
        if length not in self.lengths or self._distinct is not None:
            return True
        return self._known(length)[1]

    def graph(self, length: int) -> InputGraph | None:
        """Return the graph that holds the inputs of a length; None if there are none or no graph could be made."""
        if length not in self.lengths:
            return None
        graph = self._known(length)[0]
        return graph if graph and graph.size(length) else None

    def graphs(self) -> tuple[InputGraph, ...]:
        """Return the graphs of all lengths that have one, disjoint by length, shortest first."""
        found: list[InputGraph] = []
        for length in self.lengths:
            graph = self.graph(length)
            if graph and not any(graph is known for known in found):
                found.append(graph)
        return tuple(found)

    @property
    def ids(self) -> NDArray[np.int32]:
        """The alphabet as an array: the token id of each letter."""
        return np.array(self.alphabet, dtype=np.int32)

    def tokens(self, length: int, start: int, stop: int) -> NDArray[np.int32]:
        """Return the strings of a length with consecutive ranks, as token ids. Shape: [rank, length].

        Raises:  DomainError where they have no ranks.
        """
        if length not in self.lengths:
            raise DomainError(f"length {length}, expected {self.min_length} to {self.max_length} tokens")
        if start == stop == 0:
            return np.zeros((0, length), dtype=np.int32)
        return self._ranked(length).letters(length, start, stop, self.ids)

    def rank(self, letters: tuple[int, ...]) -> int:
        """Return the rank of an input among those of its length. Raises: DomainError where it has none."""
        return self._ranked(len(letters)).rank(letters)

    def sample(self, length: int, n: int, seed: int) -> NDArray[np.int32]:
        """Return n strings of a length, drawn uniformly and independently, as token ids. Shape: [n, length].

        Raises:  DomainError if the length has no inputs, or none was found by trial.
        """
        draw = random.Random(f"{seed}/{length}")
        if self.size(length) == 0:
            raise DomainError(f"no input of length {length}, nothing to draw from")
        if self.is_exact(length):
            ranked = self._ranked(length)
            size = ranked.size(length)
            return self.ids[ranked.letters_at(length, [draw.randrange(size) for _ in range(n)])]
        return self._sample_by_trial(length, n, draw)

    def _sample_by_trial(self, length: int, n: int, draw: random.Random) -> NDArray[np.int32]:
        superset = self._superset(length)
        if superset is None:
            raise DomainError(f"no input of length {length}, nothing to draw from")
        size, found = superset.size(length), [np.zeros((0, length), dtype=np.int32)]
        for _ in range(0, _MAX_TRIALS, _TRIAL_CHUNK):
            tried = self.ids[superset.letters_at(length, [draw.randrange(size) for _ in range(_TRIAL_CHUNK)])]
            found.append(tried[self.holds(tried)])
            if sum(map(len, found)) >= n:
                return np.concatenate(found)[:n]
        raise DomainError(
            f"{sum(map(len, found))} inputs of length {length} found among {_MAX_TRIALS} random strings, expected {n}",
            hint="lower $.domain.max_length, or say the promise as matches or prefixes_of",
        )

    @property
    def _distinct(self) -> DistinctStrings | None:
        texts = {re.sub(r"\s", "", promise.text) for promise in self.promises}
        return DistinctStrings(len(self.alphabet)) if texts == {"distinct(tokens)"} else None

    def _ranked(self, length: int) -> InputGraph | DistinctStrings:
        if self._distinct is not None:
            return self._distinct
        graph, is_exact = self._known(length)
        if graph is None or not graph.size(length):
            problem = "no input" if is_exact else "inputs that can be neither counted nor listed"
            raise DomainError(f"length {length} has {problem}", hint="lower $.domain.max_length")
        return graph

    def _known(self, length: int) -> tuple[InputGraph | None, bool]:
        """The graph that speaks for a length, and whether its silence would be exact."""
        shared, covered = self._shared()
        if length <= covered:
            return shared, True
        key = ("length", length)
        if key not in self._memo:
            self._memo[key] = self._of_one_length(length)
        known: tuple[InputGraph | None, bool] = self._memo[key]
        return known

    def _shared(self) -> tuple[InputGraph | None, int]:
        """The one graph of all lengths whose promises need not know the length, and the longest it speaks for."""
        if "shared" not in self._memo:
            self._memo["shared"] = found = self._read_shared()
            if 0 <= found[1] < self.max_length:
                self._memo["too large"] = {tuple(range(len(self.promises)))}
        shared: tuple[InputGraph | None, int] = self._memo["shared"]
        return shared

    def _read_shared(self) -> tuple[InputGraph | None, int]:
        if not self.promises:
            return every_string(len(self.alphabet), self.min_length, self.max_length), self.max_length
        if self.min_length == self.max_length and len(self.alphabet) ** self.max_length <= _FEW_STRINGS:
            return self._listed(self.max_length), self.max_length
        machines = [promise.machine(None) for promise in self.promises]
        readable = tuple(machine for machine in machines if machine is not None)
        if len(readable) < len(machines):
            return None, -1
        return read_machine(BothMachines(readable), self.alphabet, self.min_length, self.max_length)

    def _of_one_length(self, length: int) -> tuple[InputGraph | None, bool]:
        if len(self.alphabet) ** length <= _FEW_STRINGS:
            return self._listed(length), True
        graph, is_known = self._read(tuple(range(len(self.promises))), length)
        if is_known:
            return graph, True
        superset = self._superset(length)
        if superset is None:
            return None, True
        if superset.size(length) > MAX_LISTED_STRINGS:
            return None, False
        return keep_promised(superset, length, self.ids, self.holds), True

    def _listed(self, length: int) -> InputGraph | None:
        return keep_promised(every_string(len(self.alphabet), length, length), length, self.ids, self.holds)

    def _superset(self, length: int) -> InputGraph | None:
        """The graph of a larger set: what the promises that can be read keep, or all strings; None if it is empty."""
        key = ("superset", length)
        if key not in self._memo:
            everything = range(len(self.promises))
            readable = tuple(i for i in everything if self._machine(i, length) is not None)
            for chosen in (readable, *((i,) for i in readable), ()):
                graph, is_known = self._read(chosen, length)
                if is_known:
                    self._memo[key] = graph
                    break
        superset: InputGraph | None = self._memo[key]
        return superset

    def _machine(self, promise: int, length: int) -> Machine | None:
        machine = self.promises[promise].machine(None)
        return self.promises[promise].machine(length) if machine is None else machine

    def _read(self, chosen: tuple[int, ...], length: int) -> tuple[InputGraph | None, bool]:
        """The graph of the strings of one length that keep some promises, and whether it could be made at all.

        Promises too large to read once are not read again for longer strings.
        """
        if not chosen:
            return every_string(len(self.alphabet), length, length), True
        machines = tuple(m for i in chosen if (m := self._machine(i, length)) is not None)
        too_large: set[tuple[int, ...]] = self._memo.setdefault("too large", set())
        if len(machines) < len(chosen) or chosen in too_large:
            return None, False
        graph, covered = read_machine(BothMachines(machines), self.alphabet, length, length)
        if covered < length:
            too_large.add(chosen)
        return graph, covered == length
