"""A black box as a value: a table of inputs and outputs by id, with an exact lookup of many inputs at once.

Nothing is inside to look at, so an answer is a row and nothing is rounded. It refuses to know what ids are called, how
answers are read, and which inputs a claim is about: whether a table holds a whole domain is for ``stages_table``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from extract.errors import CheckpointError

Ids = NDArray[np.int32]

#: Ids are indices of names in a spec, which lists no more than this.
LARGEST_ID = 10_000


@dataclass(frozen=True, slots=True)
class TableShape:
    """What a table shows of itself: rows, tokens of its shortest and longest input, ids it uses, cells of an answer.

    ``d_vocab`` and ``d_vocab_out`` are one more than the largest id of inputs and of outputs.
    """

    n_rows: int
    min_length: int
    max_length: int
    d_vocab: int
    d_vocab_out: int
    n_cells: int


@dataclass(frozen=True, slots=True, eq=False)
class TableModel:
    """Rows of input ids and output ids, and the sha256 of the file they came from.

    Shapes: ``inputs`` [row, position] token ids of ``{x}``, ``outputs`` [row, cell] output ids, -1 past the end of
    each. A row may repeat another; two rows may not answer the same input differently.
    Raises:  CheckpointError naming the row for ids out of range, a gap, or a contradiction.
    """

    inputs: Ids
    outputs: Ids
    digest: str
    dtype: str
    lengths: NDArray[np.int32] = field(init=False)
    distinct: NDArray[np.int64] = field(init=False)
    _levels: tuple[NDArray[np.int64], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.outputs):
            raise CheckpointError(
                f"has {len(self.inputs)} inputs and {len(self.outputs)} outputs, expected one output for each input"
            )
        if not len(self.inputs):
            raise CheckpointError("holds no rows, expected one for each input of the domain")
        lengths = _lengths("inputs", self.inputs)
        _lengths("outputs", self.outputs)
        state, levels = np.zeros(len(self.inputs), dtype=np.int64), []
        for column in self.inputs.T:
            keys, state = np.unique(state * self._base + column + 1, return_inverse=True)
            levels.append(keys)
        _, first, place = np.unique(state, return_index=True, return_inverse=True)
        self._refuse_contradictions(first[place])
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "distinct", first)
        object.__setattr__(self, "_levels", tuple(levels))

    @property
    def _base(self) -> int:
        return LARGEST_ID + 2

    @property
    def shape(self) -> TableShape:
        """The numbers that describe the table."""
        d_vocab, d_vocab_out = (int(part.max(initial=-1)) + 1 for part in (self.inputs, self.outputs))
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        return TableShape(len(self.inputs), shortest, longest, d_vocab, d_vocab_out, self.outputs.shape[1])

    def find(self, tokens: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the first row of each input, -1 where the table has none.

        Shape:   tokens [input, position] ids, -1 past the end of each; [input].
        Cost:    one binary search per token; exact, nothing is hashed.
        """
        width = len(self._levels)
        known = (tokens[:, width:] < 0).all(axis=1) & (tokens <= LARGEST_ID).all(axis=1)
        state = np.zeros(len(tokens), dtype=np.int64)
        for position, keys in enumerate(self._levels):
            column = tokens[:, position] if position < tokens.shape[1] else np.full(len(tokens), -1)
            wanted = np.where(known, state * self._base + column + 1, -1)
            state = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            known &= keys[state] == wanted
        return np.where(known, self.distinct[state], -1)

    def _refuse_contradictions(self, first: NDArray[np.int64]) -> None:
        differs = (self.outputs != self.outputs[first]).any(axis=1)
        if not differs.any():
            return
        row = int(differs.argmax())
        earlier = int(first[row])
        told = [_row(part) for part in (self.inputs[row], self.outputs[earlier], self.outputs[row])]
        raise CheckpointError(
            f"answers input {told[0]} with {told[1]} in row {earlier} and with {told[2]} in row {row}, "
            f"expected one answer for each input ({int(differs.sum())} rows contradict an earlier one)",
            hint="a model that answers at random has no program; fix its randomness and list it again",
        )


def _lengths(name: str, ids: Ids) -> NDArray[np.int32]:
    """Return how many ids each row has. Raises: CheckpointError for an id out of range, or one after an end."""
    bad = (ids < -1) | (ids > LARGEST_ID)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise CheckpointError(f"{name}[{row}, {column}] is {ids[row, column]}, expected -1 to {LARGEST_ID}")
    gap = (ids[:, 1:] >= 0) & (ids[:, :-1] < 0)
    if gap.any():
        row, column = (int(i) for i in np.argwhere(gap)[0])
        raise CheckpointError(f"{name}[{row}, {column + 1}] is {ids[row, column + 1]} after -1, expected -1 to the end")
    lengths: NDArray[np.int32] = (ids >= 0).sum(axis=1, dtype=np.int32)
    return lengths


def _row(ids: Ids) -> list[int]:
    return [int(i) for i in ids if i >= 0]
