"""What is asked and what is answered: batches of inputs, the read-out of the task, batches of answers.

Inputs are token ids of ``{x}`` only; the template around them is the domain's. Answers are codes (vocabulary.py),
so programs, tables and networks speak one language.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from extract.vocabulary import ABSENT, UNDETERMINED, Codes, Vocabulary

At = Literal["last", "first", "every", "generate"]
Kind = Literal["argmax", "multilabel", "value"]


@dataclass(frozen=True, slots=True)
class ReadOut:
    """Where the answer is read and how logits become it.

    ``choices`` are the output ids an argmax or multilabel may pick, in id order (all of them when the spec lists none).
    A ``value`` is the one output itself, as a number; its code is the whole number within ``tolerance`` of it.
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
