"""How an answer is kept compactly: one small cell per decision, and back to codes.

An argmax cell is the index of the chosen output among the read-out's choices, one more for an absent cell; a
multilabel answer is its labels as packed bits, a value the code of the number it is. This room knows the
read-out and no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.readout import ReadOut, nearest_fractions
from extract.vocabulary import ABSENT, Codes, Vocabulary

Cells = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class CellFormat:
    """The meaning of cells: ``codes[i]`` is the code of an argmax cell i; the last is ABSENT.

    ``n_labels`` is 0 for argmax; a multilabel answer of n labels takes ceil(n / 8) bytes. ``fed_back[i]`` is the token
    id that a generated cell i becomes in the prompt, ``stop`` the one that ends a sequence (-1: none).
    """

    readout: ReadOut
    codes: Codes
    n_labels: int
    dtype: np.dtype[Any]
    fed_back: NDArray[np.int32]
    stop: int

    @staticmethod
    def of(readout: ReadOut, vocabulary: Vocabulary) -> CellFormat:
        """Return the format of a read-out's answers."""
        chosen = [] if readout.kind == "value" else list(readout.choices)
        codes = np.append(vocabulary.output_codes[chosen], np.int32(ABSENT)).astype(np.int32)
        n_labels = len(readout.choices) if readout.kind == "multilabel" else 0
        dtype = np.dtype(np.uint8 if n_labels or len(codes) <= 256 else np.uint16)
        dtype = np.dtype(np.int32) if readout.kind == "value" else dtype
        names = [vocabulary.output_names[i] for i in readout.choices] if readout.at == "generate" else []
        fed_back = np.array([vocabulary.token_id(name) for name in names], dtype=np.int32)
        stop = -1 if readout.stop is None else readout.stop
        return CellFormat(readout, codes, n_labels, dtype, fed_back, stop)

    @property
    def absent(self) -> int:
        """The cell of a token that does not exist."""
        return len(self.codes) - 1

    def width(self, n_decisions: int) -> int:
        """Return the cells of an answer with a number of decisions (1; the length; tokens generated)."""
        return (self.n_labels + 7) // 8 if self.n_labels else n_decisions

    def columns(self, n_decisions: int) -> int:
        """Return the width of an answer as codes: its labels, or its decisions."""
        return self.n_labels or n_decisions

    def holds(self, cells: Cells) -> bool:
        """Say whether cells have a meaning each."""
        is_index = not self.n_labels and self.readout.kind != "value"
        return not is_index or not cells.size or int(cells.max()) <= self.absent

    def decide(self, logits: NDArray[Any]) -> tuple[Cells, NDArray[Any]]:
        """Return the cells [cell, row] and the margins [row] of logits [choice, row]; ties have margin 0.

        A margin that is not a number stays so: it is above no bound.
        """
        if self.n_labels:
            threshold = logits.dtype.type(self.readout.threshold)
            margins = np.abs(logits - threshold).min(axis=0)
            return np.packbits(logits > threshold, axis=0), margins
        if self.readout.kind == "value":
            return self._numbers(logits[0].astype(np.promote_types(logits.dtype, np.float64)))
        best = logits[0].copy()
        second = np.full_like(best, -np.inf)
        chosen = np.zeros(logits.shape[1], dtype=self.dtype)
        for index in range(1, len(logits)):
            row = logits[index]
            np.maximum(second, np.minimum(best, row), out=second)
            chosen[row > best] = index
            np.maximum(best, row, out=best)
        return chosen[None, :], best - second

    def _numbers(self, values: NDArray[Any]) -> tuple[Cells, NDArray[Any]]:
        """Return the codes of fractions within tolerance, and the room that is left or lacking for certain."""
        codes, room, slip = nearest_fractions(values, self.readout.tolerance)
        return codes[None, :], np.maximum(np.abs(room) - slip, 0)

    def decode(self, cells: Cells, n_decisions: int) -> Codes:
        """Return ``Answers.values`` rows of stored cells [row, cell]."""
        if self.n_labels:
            return np.unpackbits(cells, axis=1, count=self.n_labels).astype(np.int32)
        if self.readout.kind == "value":
            return cells[:, :n_decisions].astype(np.int32)
        return self.codes[cells[:, :n_decisions]]
