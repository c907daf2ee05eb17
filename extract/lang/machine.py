"""Streaming meaning of sequence-wide terms: read an input from the left, remember little, answer at the end.

``compile_terms`` refuses (returns None) what it cannot stream. Values that can no longer change are recognised as
soon as they are settled, and registers nothing depends on any more are reset, so that few states are reachable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from extract.lang.finals import OPEN, Final, Finals, State
from extract.lang.registers import Instruction, Refused
from extract.lang.sorts import Sort, check_program, sorts_of
from extract.lang.streams import Streams
from extract.lang.terms import Program, Term
from extract.readout import ReadOut
from extract.vocabulary import Vocabulary

__all__ = [
    "OPEN", "ProgramMachine", "Refused", "State", "TermMachine", "compile_terms", "is_timeless", "program_machine",
    "read_terms", "term_machine",
]  # fmt: skip


@dataclass(slots=True)
class TermMachine:
    """Sequence-wide terms as one machine over token codes."""

    codes: tuple[int, ...]
    initial: State
    template: list[Any]
    instructions: list[Instruction]
    needs: list[frozenset[int]]
    finals: tuple[Final, ...]
    _seen: dict[State, State] = field(default_factory=dict)

    def start(self) -> State:
        """Return the state before anything is read."""
        return self._cleaned(self.initial)

    def step(self, state: State, position: int, letter: int) -> State:
        """Return the state after reading a token id at a position."""
        values = self.template.copy()
        registers = list(state)
        code = self.codes[letter]
        for instruction in self.instructions:
            instruction(values, state, registers, position, code)
        return self._cleaned(tuple(registers))

    def values(self, state: State, length: int) -> tuple[Any, ...]:
        """Return the value of each term when the input ends in this state."""
        return tuple(final.value(state, length) for final in self.finals)

    def settled(self, state: State, index: int = 0) -> Any:
        """Return a term's value if no continuation can change it, else OPEN."""
        return self.finals[index].settle(state)

    def _cleaned(self, state: State) -> State:
        """Reset the registers that no value depends on any more."""
        cleaned = self._seen.get(state)
        if cleaned is None:
            kept: set[int] = set()
            for final in self.finals:
                _collect(final, state, self.needs, kept)
            cleaned = tuple(value if i in kept else self.initial[i] for i, value in enumerate(state))
            self._seen[state] = cleaned
        return cleaned


def _collect(final: Final, state: State, needs: list[frozenset[int]], kept: set[int]) -> None:
    """Add the registers a value still depends on: with what they are updated from, unless the value is settled."""
    kept.update(final.registers)
    if final.settle(state) is OPEN:
        for register in final.registers:
            kept |= needs[register]
    for child in final.relevant(state) if final.relevant else final.children:
        _collect(child, state, needs, kept)


def read_terms(
    terms: Sequence[Term], vocabulary: Vocabulary, sorts: dict[Term, Sort], length: int | None
) -> TermMachine:
    """Return sequence-wide terms as one machine.

    ``length``: the length of every input if it is known, so that positions may be compared with it.
    Raises:  Refused, naming the operator that cannot be read from the left with small memory.
    """
    streams = Streams(vocabulary, sorts, length)
    finals = Finals(streams)
    compiled = tuple(finals.final(term) for term in terms)
    codes = tuple(int(code) for code in vocabulary.token_codes)
    return TermMachine(codes, tuple(streams.initial), streams.template, streams.instructions, streams.needs, compiled)


def compile_terms(
    terms: Sequence[Term], vocabulary: Vocabulary, sorts: dict[Term, Sort], length: int | None
) -> TermMachine | None:
    """Return sequence-wide terms as one machine (``read_terms``), or None if some term cannot be streamed."""
    try:
        return read_terms(terms, vocabulary, sorts, length)
    except Refused:
        return None


@dataclass(frozen=True, slots=True)
class ProgramMachine:
    """A program read from the left; the state after the last token determines the answer."""

    machine: TermMachine
    booleans: bool
    columns: tuple[int | None, ...]

    def start(self) -> State:
        """Return the state before anything is read."""
        return self.machine.start()

    def step(self, state: State, position: int, letter: int) -> State:
        """Return the state after reading a token id at a position."""
        return self.machine.step(state, position, letter)

    def answer(self, state: State, length: int) -> tuple[int, ...]:
        """Return the answer's cells, as the interpreter gives them, of an input of this length ending here."""
        values = self.machine.values(state, length)
        return tuple(0 if column is None else int(values[column]) for column in self.columns)


def program_machine(
    program: Program, vocabulary: Vocabulary, readout: ReadOut, length: int | None = None
) -> ProgramMachine | None:
    """Return a ``value`` or ``multilabel`` program as a machine, or None if it cannot be streamed.

    ``length``: the length of every input, if known; without it the machine reads inputs of any length.
    Raises:  ProgramError if the program does not fit the read-out.
    """
    sorts = check_program(program, vocabulary, readout)
    if program.adapter not in ("value", "multilabel"):
        return None
    machine = compile_terms(program.terms(), vocabulary, sorts, length)
    if machine is None:
        return None
    if program.adapter == "value":
        return ProgramMachine(machine, False, (0,))
    place = {name: i for i, (name, _) in enumerate(program.outputs)}
    return ProgramMachine(machine, True, tuple(place.get(label) for label in readout.labels(vocabulary)))


def term_machine(term: Term, vocabulary: Vocabulary, length: int | None = None) -> TermMachine | None:
    """Return one sequence-wide term as a machine, or None if it cannot be streamed."""
    return compile_terms([term], vocabulary, sorts_of(term, vocabulary), length)


def is_timeless(terms: Sequence[Term]) -> bool:
    """Say whether machines of these terms, made without a length, step and answer alike at every position and length.

    Only then do its states say all there is to know of an input's past, whatever its length.
    """
    return not any(part.operator in ("indices", "length", "prompt_length") for t in terms for part in t.subterms())
