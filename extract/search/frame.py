"""The probes as the search sees them: token values, masks and sizes, in the smallest safe integer type.

Symbols are renumbered from 0 (their rank among symbol names) so that cells stay narrow; integers are themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.oracle import ProbeSet
from extract.readout import Inputs, ReadOut, widen
from extract.vocabulary import ABSENT, NO_NUMBER, SYMBOL_BASE, Codes, Vocabulary

Shape = Literal["whole", "position", "step"]
SHAPES: tuple[Shape, ...] = ("whole", "position", "step")

#: The narrow value of "no symbol": what first and last give on a symbol sequence when nothing is selected.
NO_SYMBOL = -1


@dataclass(frozen=True, slots=True)
class Frame:
    """Shapes: ``tokens`` [probe, key] narrow values, 0 beyond a length; ``valid`` [probe, key]; ``care`` [probe, step]
    marks the generated tokens that exist; ``lengths`` [probe]; ``prompts`` [probe] are the lengths of the prompts where
    the rest of each input was generated, else None."""

    tokens: NDArray[np.signedinteger[Any]]
    valid: NDArray[np.bool_]
    care: NDArray[np.bool_]
    lengths: NDArray[np.int32]
    vocabulary: Vocabulary
    prompts: NDArray[np.int32] | None = None

    @property
    def n_probes(self) -> int:
        """The number of probes."""
        return len(self.lengths)

    def n_queries(self, shape: Shape) -> int:
        """The number of cells per probe of a shape."""
        return int({"whole": 1, "position": self.valid.shape[1], "step": self.care.shape[1]}[shape])

    def mask(self, shape: Shape) -> NDArray[np.bool_]:
        """Return which cells count. Shape: [probe, query]."""
        if shape == "position":
            return self.valid
        return self.care if shape == "step" else np.ones((self.n_probes, 1), dtype=np.bool_)

    def narrow(self, codes: Codes) -> NDArray[np.signedinteger[Any]]:
        """Return codes as narrow values: symbols by rank, ABSENT as 0."""
        values = np.where(codes >= SYMBOL_BASE, codes - SYMBOL_BASE, codes)
        return np.where(codes == ABSENT, 0, values).astype(self.tokens.dtype)


def frame_of(
    probes: ProbeSet, vocabulary: Vocabulary, readout: ReadOut, prompts: NDArray[np.int32] | None = None
) -> Frame:
    """Build the frame of a probe set."""
    inputs: Inputs = probes.inputs
    codes = widen(inputs.codes(vocabulary), 1)  # one column at least, also where every probe is empty
    valid = codes != ABSENT
    n = len(inputs)
    is_generated = readout.at == "generate"
    care = probes.answers.values != ABSENT if is_generated else np.zeros((n, 0), dtype=np.bool_)
    care = care[:, : int(care.any(axis=0).sum())]
    values = np.where(codes >= SYMBOL_BASE, codes - SYMBOL_BASE, codes)
    values = np.where(valid, values, 0)
    answers = probes.answers.values
    wanted = answers[(answers > NO_NUMBER) & (np.abs(answers.astype(np.int64)) < SYMBOL_BASE)]
    largest = max(int(np.abs(part).max(initial=0)) for part in (values, wanted))
    largest = max(largest, values.shape[1], care.shape[1], 16)
    # answers, sums over a sequence and products with small constants must fit
    dtype: type[np.signedinteger[Any]] = np.int16 if largest * max(values.shape[1], 8) * 8 < 1 << 15 else np.int32
    return Frame(values.astype(dtype), valid, care, inputs.lengths, vocabulary, prompts)
