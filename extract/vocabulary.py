"""Names, ids and codes: what a token is called, what the network calls it, and what a program computes with.

A *name* is text from the spec. An *id* is an index into the network's embedding or its logits. A *code* is the
integer a program sees: the number itself for a numeric token or an output name that reads as an integer, and
``SYMBOL_BASE`` plus its rank among all symbol names (sorted) otherwise. Codes depend on names only, so permuting
ids changes no program.

The answer to a real read-out is a number, and its code counts units of 1/720720: the fractions of small denominator
that networks compute by averaging are whole numbers of them, and so is what ``mean`` gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import ProgramError, SpecError

Codes = NDArray[np.int32]

#: Codes from here on are symbols; every integer a program computes stays strictly below it in absolute value.
SYMBOL_BASE = 1 << 30
#: Fills the cells of an answer that do not exist (after the end of a sequence). Never a code.
ABSENT = int(np.iinfo(np.int32).min)
#: The cell of an answer that exists and that the model leaves undetermined: its logits are tied. Never a code.
UNDETERMINED = ABSENT + 1
#: The cell of a real answer that no number a code stands for is within tolerance of. Never a code, equal to no answer.
NO_NUMBER = ABSENT + 2
#: What real answers are counted in, one of so many units; it is divisible by 1 to 16.
UNITS = 720_720
#: The largest whole number whose answer is a multiple of the unit, below ``SYMBOL_BASE``.
LARGEST_WHOLE = (SYMBOL_BASE - 1) // UNITS
#: Programs' whole numbers from here on are no answers to a real read-out at all.
WHOLE_LIMIT = 1 << 29
_LARGEST_INTEGER = 1 << 20


def whole_codes(numbers: NDArray[Any]) -> Codes:
    """Return what whole numbers are as answers to a real read-out: multiples of ``UNITS``; symbols stay themselves.

    Beyond ``LARGEST_WHOLE`` every number has a code of its own below -``SYMBOL_BASE``, which is no model's answer.
    Raises:  ProgramError for a number from ``WHOLE_LIMIT`` on, for which no code is left.
    """
    is_symbol = np.asarray(numbers >= SYMBOL_BASE - 1, dtype=np.bool_)
    plain = np.where(is_symbol, 0, numbers)
    if (np.abs(plain) >= WHOLE_LIMIT).any():
        worst = int(plain.reshape(-1)[np.abs(plain).argmax()])
        raise ProgramError(f"an answer is {worst}, expected numbers within 2^29 where the answer is a real number")
    plain = plain.astype(np.int64)
    size = np.abs(plain)
    beyond = np.where(plain > 0, -SYMBOL_BASE, -SYMBOL_BASE - WHOLE_LIMIT) - (size - LARGEST_WHOLE - 1)
    codes = np.where(size <= LARGEST_WHOLE, plain * UNITS, beyond)
    return np.where(is_symbol, numbers, codes).astype(np.int32)


def number_text(code: int) -> str:
    """Return the number that a real answer's code stands for: ``2``, ``-1/3``."""
    if code > -SYMBOL_BASE:
        return str(Fraction(code, UNITS))
    if code > -SYMBOL_BASE - WHOLE_LIMIT:
        return str(-SYMBOL_BASE - code + LARGEST_WHOLE + 1)
    return str(code + SYMBOL_BASE + WHOLE_LIMIT - LARGEST_WHOLE - 1)


def reads_as_integer(name: str) -> bool:
    """Say whether a name is the plain decimal spelling of an integer (``-5``, ``0``, ``12``; not ``007`` or ``+1``)."""
    digits = name[1:] if name.startswith("-") else name
    return digits.isascii() and digits.isdigit() and str(int(digits)) == digits and name != "-0"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a task and the names of its outputs.

    ``names[i]`` is token id i; ``outputs[i]`` names output id i when the head is not over the vocabulary (else empty).
    Raises:  SpecError for duplicate names, or integers beyond 2^20.
    """

    names: tuple[str, ...]
    numeric: bool = False
    outputs: tuple[str, ...] = ()
    symbols: tuple[str, ...] = field(init=False)
    token_codes: Codes = field(init=False, repr=False, compare=False)
    output_codes: Codes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for field_name, names in (("$.tokens.vocab", self.names), ("$.readout.outputs", self.outputs)):
            for name in names:
                if names.count(name) > 1:
                    raise SpecError(f"{field_name}: {name!r} is listed twice, expected distinct names")
                if reads_as_integer(name) and abs(int(name)) > _LARGEST_INTEGER:
                    raise SpecError(f"{field_name}: {name} is too large, expected integers up to {_LARGEST_INTEGER}")
        tokens = [n for n in self.names if not (self.numeric and reads_as_integer(n))]
        outputs = [n for n in self.outputs if not reads_as_integer(n)]
        set_field = object.__setattr__
        set_field(self, "symbols", tuple(sorted({*tokens, *outputs})))
        set_field(self, "token_codes", self._codes(self.names, self.numeric))
        answers = self._codes(self.outputs, True) if self.outputs else self.token_codes
        set_field(self, "output_codes", answers)

    def _codes(self, names: Iterable[str], numeric: bool) -> Codes:
        rank = {name: SYMBOL_BASE + i for i, name in enumerate(self.symbols)}
        return np.array([int(n) if numeric and reads_as_integer(n) else rank[n] for n in names], dtype=np.int32)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The name of every output id."""
        return self.outputs or self.names

    def symbol_code(self, name: str) -> int:
        """Return the code of a quoted name in a program; a numeric token's quoted name is its integer.

        Raises:  KeyError if no token or output has this name.
        """
        if name in self.symbols:
            return SYMBOL_BASE + self.symbols.index(name)
        if reads_as_integer(name) and (name in self.names or name in self.outputs):
            return int(name)
        raise KeyError(name)

    def name(self, code: int) -> str:
        """Return the text of a code: a symbol's name, or the integer in decimal."""
        if code == ABSENT:
            return ""
        if code == UNDETERMINED:
            return "undetermined"
        if code == NO_NUMBER:
            return "no simple number"
        if code == SYMBOL_BASE - 1:
            return "no symbol"  # what ``first`` and the like give on symbols where nothing is selected
        return self.symbols[code - SYMBOL_BASE] if code >= SYMBOL_BASE else str(code)

    def token_id(self, name: str) -> int:
        """Return the id of a token name. Raises: KeyError if unknown."""
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(name) from None
