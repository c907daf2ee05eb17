"""A promise: a boolean term that says which inputs are in the domain, on arrays and as a machine.

It knows the language and a vocabulary; how a domain counts and enumerates with it is the domain's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.errors import ProgramError
from extract.lang.batched import Batch, evaluate_term
from extract.lang.machine import State, TermMachine, term_machine
from extract.lang.sorts import sort_of
from extract.lang.syntax import parse_term
from extract.lang.terms import Term
from extract.vocabulary import Vocabulary

_CELLS_PER_CHUNK = 1 << 19


@dataclass(frozen=True, slots=True)
class PromiseMachine:
    """A promise read from the left; ``step`` gives None as soon as no continuation can keep it."""

    machine: TermMachine

    def start(self) -> State | None:
        """Return the state before anything is read; None if no input keeps the promise."""
        return self._live(self.machine.start())

    def step(self, state: State, position: int, letter: int) -> State | None:
        """Return the state after reading a token id at a position, or None."""
        return self._live(self.machine.step(state, position, letter))

    def accepts(self, state: State, length: int) -> bool:
        """Say whether an input of this length that ends in this state keeps the promise."""
        return bool(self.machine.values(state, length)[0])

    def _live(self, state: State) -> State | None:
        return None if self.machine.settled(state) is False else state


@dataclass(frozen=True, slots=True)
class TermPromise:
    """A promise with its text, its term and the vocabulary it is read in."""

    text: str
    term: Term
    vocabulary: Vocabulary

    def holds(self, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Say which inputs keep the promise. Shape: ``tokens`` [input, position] ids, all of one length."""
        n, width = tokens.shape
        kept = np.zeros(n, dtype=np.bool_)
        pairs = any(subterm.operator == "select" for subterm in self.term.subterms())
        size = max(1, _CELLS_PER_CHUNK // max(1, width * (width if pairs else 1)))
        for start in range(0, n, size):
            codes = self.vocabulary.token_codes[tokens[start : start + size]]
            batch = Batch(codes, np.full(len(codes), width, dtype=np.int32))
            kept[start : start + size] = evaluate_term(self.term, batch, self.vocabulary)[:, 0]
        return kept

    def machine(self, length: int | None) -> PromiseMachine | None:
        """Return the promise as a machine, or None if it cannot be read left to right.

        ``length``: the length of every input, if known.
        """
        machine = term_machine(self.term, self.vocabulary, length)
        return None if machine is None else PromiseMachine(machine)


def compile_promise(text: str, vocabulary: Vocabulary) -> TermPromise:
    """Return the promise a text states: one boolean per input, of the input's tokens.

    Raises:  ProgramError if it does not parse, is badly sorted, or is not one boolean per input.
    """
    term = parse_term(text)
    sort = sort_of(term, vocabulary)
    if sort.kind != "B" or sort.shape != "whole":
        found = "a boolean" if sort.kind == "B" else "an integer" if sort.kind == "I" else "a selector"
        raise ProgramError(
            f"the promise is {found} per {'input' if sort.shape == 'whole' else sort.shape}, expected one boolean",
            hint="all(b) or any(b) makes one boolean of many" if sort.shape == "position" else None,
        )
    if any(subterm.operator in ("step", "prompt_length") for subterm in term.subterms()):
        raise ProgramError("the promise uses step or prompt_length, expected a property of the input")
    return TermPromise(text, term, vocabulary)
