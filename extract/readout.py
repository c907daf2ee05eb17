"""What is asked and what is answered: batches of inputs, the read-out of the task, batches of answers.

Inputs are token ids of ``{x}`` only; the template around them is the domain's. Answers are codes (vocabulary.py),
so programs, tables and networks speak one language.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.vocabulary import ABSENT, NO_NUMBER, SYMBOL_BASE, UNDETERMINED, UNITS, Codes, Vocabulary, number_text

At = Literal["last", "first", "every", "generate"]
Kind = Literal["argmax", "multilabel", "value"]
#: Every denominator up to it divides ``UNITS``.
LARGEST_DENOMINATOR = 16


@dataclass(frozen=True, slots=True)
class ReadOut:
    """Where the answer is read and how logits become it.

    ``choices`` are the output ids an argmax or multilabel may pick, in id order (all of them when the spec lists none).
    A ``value`` is the one output itself, as a number; its code is the simple fraction within ``tolerance`` of it
    (``nearest_fractions``), in units of 1/720720.
    ``stop`` is the token id that ends a generated sequence, or None; ``max_new`` counts generated tokens (0: as many
    as the positions allow). ``threshold`` is in logits, ``tolerance`` in the units of a ``value`` read-out.
    """

    at: At
    kind: Kind
    choices: tuple[int, ...]
    threshold: float = 0.0
    stop: int | None = None
    max_new: int = 0
    tolerance: float = 1e-4

    def labels(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """Return the names of the choices, in id order: the columns of a multilabel answer."""
        return tuple(vocabulary.output_names[i] for i in self.choices)

    def text(self, code: int, vocabulary: Vocabulary) -> str:
        """Return the text of a cell of an answer: a symbol's name, or a number."""
        is_number = self.kind == "value" and NO_NUMBER < code < SYMBOL_BASE - 1
        return number_text(code) if is_number else vocabulary.name(code)


def largest_denominator(tolerance: float) -> int:
    """Return the largest q up to 16 such that no two fractions of denominators up to q fit one tolerance.

    Two such fractions are 1/(q(q-1)) apart or more. 1 for tolerances of a quarter and more.
    """
    # twice a float is exact and the product is rounded once, monotonically: below 1 it is below 1 in truth
    return max(q for q in range(1, LARGEST_DENOMINATOR + 1) if 2 * tolerance * (q * (q - 1)) < 1)


def nearest_fractions(
    values: NDArray[Any], tolerance: float
) -> tuple[Codes, NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return the code of the fraction within tolerance of each value, else NO_NUMBER; the room; its rounding error.

    The fractions are those of denominators up to ``largest_denominator``, with codes below ``SYMBOL_BASE``.
    Shape:   ``values`` and the three results have one shape; values are float64 or wider.
    Units:   the room is the tolerance less the distance to the nearest fraction. Its absolute value bounds from below
             how far the value is from any other answer, once the error is taken off: balls around different fractions
             are disjoint, and those around fractions beyond the largest code are no borders, only counted as such.
    Errors:  v*q, the division of the nearest integer by q and the two differences are rounded once each, and of two
             integers about as near the wrong one may be taken: less than 5 (|v| + 1) 2^-53 together.
    """
    most = largest_denominator(tolerance)
    numerators, far = np.zeros_like(values), np.full_like(values, np.inf)
    denominators = np.ones(values.shape, dtype=np.int64)
    for q in range(most // 2 + 1, most + 1):  # a fraction of a smaller denominator has one of these too
        nearest = np.rint(values * q)
        distance = np.abs(values - nearest / q)
        closer = ~(distance >= far)  # what is not a number stays so
        numerators, far = np.where(closer, nearest, numerators), np.where(closer, distance, far)
        denominators[closer] = q
    room = tolerance - far
    slip = (np.abs(values) + 1) * 2.0**-50
    is_code = (room > 0) & (np.abs(numerators) < SYMBOL_BASE)
    codes = np.where(is_code, numerators, 0).astype(np.int64) * (UNITS // denominators)
    is_code &= np.abs(codes) < SYMBOL_BASE
    return np.where(is_code, codes, NO_NUMBER).astype(np.int32), room, slip


@dataclass(frozen=True, slots=True)
class Inputs:
    """A batch of inputs. Shapes: ``tokens`` [input, position] int32 ids, -1 beyond ``lengths`` [input]; ``offsets``
    [input] is the first position id of each rendered prompt."""

    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    offsets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, indices: NDArray[np.intp] | slice) -> Inputs:
        """Return the chosen rows."""
        return Inputs(self.tokens[indices], self.lengths[indices], self.offsets[indices])

    def row(self, i: int) -> tuple[tuple[int, ...], int]:
        """Return one input as (token ids, offset)."""
        return tuple(int(t) for t in self.tokens[i, : self.lengths[i]]), int(self.offsets[i])

    def codes(self, vocabulary: Vocabulary) -> Codes:
        """Return the codes a program sees, ABSENT beyond each length. Shape: [input, position]."""
        codes = vocabulary.token_codes[np.maximum(self.tokens, 0)]
        return np.where(self.tokens >= 0, codes, np.int32(ABSENT))

    @staticmethod
    def of(rows: list[tuple[tuple[int, ...], int]]) -> Inputs:
        """Build a batch from (token ids, offset) pairs of any lengths."""
        width = max((len(tokens) for tokens, _ in rows), default=0)
        tokens = np.full((len(rows), width), -1, dtype=np.int32)
        for i, (row, _) in enumerate(rows):
            tokens[i, : len(row)] = row
        lengths = np.array([len(row) for row, _ in rows], dtype=np.int32)
        return Inputs(tokens, lengths, np.array([offset for _, offset in rows], dtype=np.int32))


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to a batch. Shapes: ``values`` [input, width] int32 codes, ``margins`` [input] in logits.

    The width is 1 for ``last`` and ``first``, the longest length for ``every``, the number of labels for a
    ``multilabel`` (1: in the set), and the longest generated sequence for ``generate``; ABSENT fills the rest.
    A margin is the least, over all decisions of an answer, of top logit minus second (argmax) or distance to the
    threshold (multilabel). A decision whose logits are tied is none: its cell is UNDETERMINED (generated sequences and
    label sets have no such cells) and its margin does not count, but is 0 where the answer has no other.
    """

    values: Codes
    margins: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.margins)

    @property
    def says_something(self) -> NDArray[np.bool_]:
        """Whether an answer has a cell that is determined, or none at all. Shape: [input]."""
        is_open = (self.values == UNDETERMINED).any(axis=1)
        return np.asarray(~is_open | (self.values > UNDETERMINED).any(axis=1))

    def take(self, indices: NDArray[np.intp] | slice) -> Answers:
        """Return the chosen rows."""
        return Answers(self.values[indices], self.margins[indices])


def same_answers(left: Codes, right: Codes) -> NDArray[np.bool_]:
    """Say for each input whether two answer arrays agree, widths padded with ABSENT. Shape: [input].

    An undetermined cell agrees with anything.
    """
    width = max(left.shape[1], right.shape[1])
    left, right = widen(left, width), widen(right, width)
    return np.asarray(((left == right) | (left == UNDETERMINED) | (right == UNDETERMINED)).all(axis=1))


def widen(values: Codes, width: int) -> Codes:
    """Return the answers padded on the right with ABSENT to a width in cells."""
    if values.shape[1] >= width:
        return values
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=ABSENT)
