"""The promise that only the model can state: a string is an input when the model allows every next token of it.

It asks the oracle about all prefixes of a string, at every offset of the task, and loads torch to do so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain, Machine, Promise, build_domain
from extract.input_graph import InputStrings
from extract.model.network_oracle import NetworkOracle
from extract.network import Network
from extract.readout import Inputs
from extract.spec import TaskSpec
from extract.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class SelfAllowed:
    """Strings of which the model puts every token into its answer to what stands before it."""

    oracle: NetworkOracle
    text: str = "the model itself allows every next token"

    def holds(self, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Say which strings keep the promise. Shapes: tokens [n, length] ids, answer [n]."""
        domain = self.oracle.domain
        kept = np.ones(len(tokens), dtype=np.bool_)
        for length in range(tokens.shape[1]):
            if domain.rendered_length(length) == 0:
                continue
            rows = np.flatnonzero(kept)
            prefixes, place = np.unique(tokens[rows, :length], axis=0, return_inverse=True)
            allowed = np.ones((len(prefixes), len(domain.vocabulary.names)), dtype=np.bool_)
            for offset in domain.offsets:
                allowed &= self._allowed(prefixes, offset)
            kept[rows] = allowed[place.ravel(), tokens[rows, length]]
        return kept

    def _allowed(self, prefixes: NDArray[np.int32], offset: int) -> NDArray[np.bool_]:
        """Say which tokens the model allows after each prefix. Shape: [prefix, token id]."""
        n, length = prefixes.shape
        inputs = Inputs(prefixes, np.full(n, length, np.int32), np.full(n, offset, np.int32))
        labels = self.oracle.answer(inputs).values
        allowed = np.zeros((n, len(self.oracle.domain.vocabulary.names)), dtype=np.bool_)
        allowed[:, list(self.oracle.domain.readout.choices)] = labels == 1
        return allowed

    def machine(self, length: int | None) -> Machine | None:
        """Return None: what a model allows is not read off any small machine."""
        return None


@dataclass(frozen=True, slots=True)
class _Anything:
    """No promise at all, in the shape of one."""

    text: str = "anything"

    def holds(self, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
        return np.ones(len(tokens), dtype=np.bool_)

    def machine(self, length: int | None) -> Machine | None:
        return self

    def start(self) -> Hashable:
        return 0

    def step(self, state: Hashable, position: int, letter: int) -> Hashable | None:
        return state

    def accepts(self, state: Hashable, length: int) -> bool:
        return True


def self_allowed_domain(
    spec: TaskSpec, network: Network, compile_promise: Callable[[str, Vocabulary], Promise]
) -> Domain:
    """Build the domain of a spec that says ``self_allowed``.

    Raises:  SpecError, DomainError or ProgramError as ``build_domain`` does.
    """
    wide = build_domain(spec, compile_promise, _Anything())
    shortest = 0 if wide.rendered_length(0) else min(1, wide.max_length)
    every = InputStrings(wide.alphabet, shortest, wide.max_length, ())
    prefixes = replace(wide, min_length=shortest, strings=every, promise_text=None)
    return build_domain(spec, compile_promise, SelfAllowed(NetworkOracle(network, prefixes)))
