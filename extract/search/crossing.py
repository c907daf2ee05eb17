"""Applies one binary operation to all pairs of two stacks of rows, in blocks that stay in the cache, and hashes them.

This is the inner loop of enumeration. It knows rows of machine words and numpy functions, not what they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.search.hashing import Hashes, Indices, Words, hash_words

Array = NDArray[Any]
#: A numpy function of two stacks that writes into ``out``.
Function = Callable[..., Any]

#: Bytes of results computed and hashed at a time (second-level cache) and given away at a time (last-level cache).
_STEP_BYTES, _BLOCK_BYTES = 1 << 19, 1 << 22
_MOST_ROWS = 1 << 15
#: Rows shorter than this are gathered into whole blocks first: numpy's inner loop would run over too few cells.
_SHORT_BYTES = 128
#: With fewer rows on the right, one call handles several rows on the left.
_FEW = 192


class Block(NamedTuple):
    """Results of some pairs. Shape: words [pair, word] and hashes [pair, 2], overwritten by the next block; [pair]."""

    words: Words
    hashes: Hashes
    left: Indices
    right: Indices


class Crossing:
    """Computes and hashes blocks of pairs of rows with as many cells each; buffers are reused from block to block.

    ``cells`` is the type of the rows given, ``results`` that of the rows computed (bool is packed to bits), ``mask``
    the words that every result is cut to (None: nothing is cut).
    """

    def __init__(
        self, n_cells: int, cells: np.dtype[Any], results: np.dtype[Any], weights: Hashes, mask: Words | None = None
    ) -> None:
        self._weights, self._mask = weights, mask
        self._is_packed = results == np.bool_ and cells != np.bool_
        n_bits = n_cells * (1 if self._is_packed else 8 * results.itemsize)
        self.n_words = -(-n_bits // 64)
        self._n_cells = n_cells
        n_rows = max(1, min(_MOST_ROWS, _BLOCK_BYTES // max(1, n_cells * results.itemsize)))
        self._n_rows = n_rows
        self._step = max(1, min(n_rows, _STEP_BYTES // max(1, n_cells * results.itemsize)))
        self._words: Words = np.zeros((n_rows, self.n_words), dtype=np.uint64)
        self._computed: Array = (
            np.empty((self._step, n_cells), dtype=np.bool_)
            if self._is_packed
            else self._words.view(results)[:, :n_cells]
        )
        self._hashes: Hashes = np.empty((n_rows, 2), dtype=np.uint64)

    def blocks(self, function: Function, left: Array, right: Array, *, is_symmetric: bool = False) -> Iterator[Block]:
        """Yield the results for all pairs, in the order of (left, right).

        Shape:   left [l, cell], right [r, cell].
        ``is_symmetric`` says that both stacks are the same and the function commutes: pairs whose right row comes
        before the left one may be left out.
        """
        n_right = len(right)
        if not n_right or not len(left):
            return
        triangle = is_symmetric and n_right >= _FEW
        firsts = np.arange(len(left)) if triangle else np.zeros(len(left), dtype=np.intp)
        ends = np.cumsum(n_right - firsts)
        total = int(ends[-1])
        for start in range(0, total, self._n_rows):
            stop = min(start + self._n_rows, total)
            pairs = np.arange(start, stop)
            lefts = np.searchsorted(ends, pairs, side="right") if triangle else pairs // n_right
            rights = pairs - (ends[lefts] - (n_right - firsts[lefts])) + firsts[lefts]
            self._compute(function, left, right, lefts, rights)
            n_rows = stop - start
            yield Block(self._words[:n_rows], self._hashes[:n_rows], lefts, rights)

    def _compute(self, function: Function, left: Array, right: Array, lefts: Indices, rights: Indices) -> None:
        for start in range(0, len(lefts), self._step):
            stop = min(start + self._step, len(lefts))
            out = self._computed[: stop - start] if self._is_packed else self._computed[start:stop]
            if left.strides[0] < _SHORT_BYTES:
                function(left[lefts[start:stop]], right[rights[start:stop]], out=out)
            else:
                _by_runs(function, left, right, lefts[start:stop], rights[start:stop], out)
            words = self._words[start:stop]
            if self._is_packed:
                _pack(out, words)
            if self._mask is not None:
                np.bitwise_and(words, self._mask, out=words)
            self._hashes[start:stop] = hash_words(words, self._weights)


def _pack(rows: Array, words: Words) -> None:
    n_cells = rows.shape[1]
    if n_cells % 64 == 0:
        words.view(np.uint8)[:] = np.packbits(rows.reshape(-1)).reshape(len(rows), n_cells // 8)
    else:
        words.view(np.uint8)[:, : -(-n_cells // 8)] = np.packbits(rows, axis=1)


def _by_runs(function: Function, left: Array, right: Array, lefts: Indices, rights: Indices, out: Array) -> None:
    """Compute pairs in runs of one left row, or of several left rows that meet all of a short right side."""
    n_right = len(right)
    at = 0
    while at < len(lefts):
        first, second = int(lefts[at]), int(rights[at])
        n_whole = (len(lefts) - at) // n_right if second == 0 and n_right < _FEW else 0
        if n_whole > 1:
            block = out[at : at + n_whole * n_right].reshape(n_whole, n_right, out.shape[1])
            function(left[first : first + n_whole, None], right[None], out=block)
            at += n_whole * n_right
            continue
        length = min(n_right - second, len(lefts) - at)
        function(left[first], right[second : second + length], out=out[at : at + length])
        at += length
