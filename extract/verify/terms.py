"""What a token at a position adds to the sums that a first layer's attention is a quotient of.

With the query's token and position fixed, exp(score) and exp(score) * value depend on one token and its position
alone. Both are tabulated here in float64, from projections with rounding bounds; what sums them is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.verify.stages import Projections, Stages, Stream

#: Tabulated weights are multiplied by this power of two: a row's largest is then far from underflow.
_LIFT = 2.0**40


class TokenParts:
    """The first layer's queries, keys and values of (position, token) cells, made once for all places that see some."""

    def __init__(self, stages: Stages, cells: Iterable[tuple[int, int]], offset: int) -> None:
        self.stages = stages
        ordered = sorted(set(cells))
        self._column = {cell: column for column, cell in enumerate(ordered)}
        tokens = np.array([token for _, token in ordered], dtype=np.int32)
        positions = np.array([position for position, _ in ordered], dtype=np.int64)
        self._stream = stages.embed(tokens, positions + offset, 1)
        self._parts = stages.project(0, self._stream, 1)

    def of(self, cells: list[tuple[int, int]], is_query: NDArray[np.bool_]) -> tuple[Stream, Projections]:
        """Return the queries' residual rows and the projections of some cells, each measured by its worst cell."""
        columns = np.array([self._column[cell] for cell in cells], dtype=np.intp)
        own = columns[is_query]

        def asking(per_cell: NDArray[Any]) -> float:
            return float(per_cell[own].max())

        def seen(per_cell: NDArray[Any]) -> float:
            return float(per_cell[columns].max())

        stream, parts = self._stream, self._parts
        rows = np.ascontiguousarray(stream.rows[:, own])
        return Stream(rows, asking(stream.norm), tuple(asking(e) for e in stream.errors)), Projections(
            parts.query[:, own],
            parts.key[:, columns],
            parts.value[:, columns],
            parts.query_measure.mapped(asking),
            parts.key_measure.mapped(seen),
            parts.value_measure.mapped(seen),
        )


def cells_of(layout: tuple[int, ...], alphabet: NDArray[Any]) -> list[tuple[int, int]]:
    """Return every (position, token) that a layout's prompts have, in order."""
    letters = [int(a) for a in alphabet]
    return [(p, token) for p, cell in enumerate(layout) for token in ([cell] if cell >= 0 else letters)]


class TokenTerms:
    """What every token at every position adds to the sums, for every variant of the query token.

    ``layout`` holds a token id or -1-i for x[i] per prompt position; the first ``n_seen`` positions are summed, and the
    query is the token at ``read``.
    Shapes: ``constant`` [term, variant] is the sum over the template's tokens; ``letters[i]`` [term, variant, letter]
    that of the places of x[i]. The first head * d_head terms are weighted values, one weight per head follows.
    """

    def __init__(
        self,
        made: TokenParts,
        alphabet: NDArray[Any],
        layout: tuple[int, ...],
        n_seen: int,
        read: int,
    ) -> None:
        self.stages = stages = made.stages
        self.dtype = stages.dtype
        cells = [(p, token) for p, token in cells_of(layout, alphabet) if p < n_seen or p == read]
        positions = np.array([p for p, _ in cells])
        is_query = positions == read
        self.query, self.parts = made.of(cells, is_query)
        self.n_variants = int(is_query.sum())
        self.width = stages.n_heads * (stages.d_head + 1)
        table = self._table(self.parts)
        self.constant = np.zeros((self.width, self.n_variants))
        n_letters = len([c for c in set(layout) if c < 0])
        self.letters = [np.zeros((self.width, self.n_variants, len(alphabet)), self.dtype) for _ in range(n_letters)]
        for position, cell in enumerate(layout[:n_seen]):
            part = table[:, :, positions == position]
            if cell >= 0:
                self.constant += part[:, :, 0]
            else:
                self.letters[-1 - cell] += part.astype(self.dtype)
        self.constant = self.constant.astype(self.dtype)

    def _table(self, parts: Projections) -> NDArray[np.float64]:
        """Return the terms [term, variant, pair] of every (position, token) pair, in float64."""
        h, k = self.stages.n_heads, self.stages.d_head
        query, key, value = (p.astype(np.float64).reshape(h, k, -1) for p in (parts.query, parts.key, parts.value))
        scores = np.einsum("hkv,hkn->hvn", query, key) * self.stages.scales[0]
        weights = np.exp(scores - scores.max(axis=2, keepdims=True)) * _LIFT
        weighted = value[:, :, None, :] * weights[:, None]
        return np.concatenate([weighted.reshape(h * k, *weights.shape[1:]), weights])
