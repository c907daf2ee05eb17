"""How the cells of a bucket lie in words: which type, which axes, and which cells count.

It knows frames and packing; it stores nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.search.frame import Frame, Shape
from extract.search.hashing import Words, from_words, to_words

Kind = Literal["I", "B", "S"]
Tag = Literal["T", "N", ""]
Array = NDArray[Any]


class Key(NamedTuple):
    """Names a bucket: integer, boolean or selector; token-like or number-like; which axis its queries run over."""

    kind: Kind
    tag: Tag
    shape: Shape


@dataclass(frozen=True, slots=True)
class Layout:
    """The type, axes and number of a row's cells, and the words in which all bits of the cells that count are set."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    n_cells: int
    mask: Words

    def pack(self, values: Array) -> Words:
        """Return values as rows of words, cells that do not count zero. Shape: [term, *shape] -> [term, word].

        Raises:  ValueError if the values do not spread over the axes: they were computed on other probes.
        """
        if values.shape[1:] != self.shape:
            values = np.broadcast_to(values, (len(values), *self.shape))
        rows = values.astype(self.dtype, copy=False).reshape(len(values), self.n_cells)
        return np.asarray(to_words(rows) & self.mask)

    def unpack(self, words: Words) -> Array:
        """Return rows of words as values. Shape: [term, word] -> [term, *shape]."""
        return from_words(words, self.dtype, self.n_cells).reshape(len(words), *self.shape)


def layout_of(key: Key, frame: Frame) -> Layout:
    """Return the layout of a bucket's rows on a frame."""
    mask = frame.mask(key.shape)
    if key.kind == "S":
        mask = mask[:, :, None] & frame.valid[:, None, :]
    dtype = frame.tokens.dtype if key.kind == "I" else np.dtype(np.bool_)
    cells = mask.reshape(1, -1)
    if key.kind == "I":
        cells = -cells.astype(dtype)  # minus one: all bits set
    return Layout(dtype, mask.shape, mask.size, to_words(cells)[0])
