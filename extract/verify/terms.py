"""What a token at a position adds to the sums that a first layer's attention is a quotient of.

With the query's token and position fixed, exp(score) and exp(score) * value depend on one token and its position
alone. Both are tabulated here in float64, from projections with rounding bounds; what sums them is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.verify.cell_errors import CellErrors
from extract.verify.rounding import Arithmetic
from extract.verify.stages import Projections, Stages, Stream

Floats = NDArray[Any]

#: Tabulated weights are multiplied by this power of two: a row's largest is then far from underflow.
_LIFT = 2.0**40
#: An arithmetic less exact than float64 by as much as covers the rounding of its own analysis.
_OURS = Arithmetic("float64, nearly", 2.0**-50, 2.0**-1022, 2.0**300)


@dataclass(frozen=True, slots=True)
class KeyCosts:
    """What keys cost an arithmetic, times their weights: three rows for each head, of ``cell_errors.Keys``.

    Shapes: ``constant`` [3 * head, variant], ``letters[i]`` [3 * head, variant, letter], summed as the weights are;
    ``largest`` [3 * head, variant] of any one key, by itself. ``drift`` bounds how far our own weights are off,
    relative to themselves, and ``rounded`` the rounding of means and output matrix.
    """

    constant: Floats
    letters: list[Floats]
    largest: Floats
    drift: float
    rounded: float


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
        self._errors: dict[Arithmetic, CellErrors] = {}

    def errors(self, arithmetic: Arithmetic) -> CellErrors:
        """Return the errors of an arithmetic key by key."""
        if arithmetic not in self._errors:
            parts = self._parts
            own = (float(m.errors[0].max()) for m in (parts.query_measure, parts.key_measure, parts.value_measure))
            made = CellErrors(self.stages, self._stream.rows, (next(own), next(own), next(own)), arithmetic)
            self._errors[arithmetic] = made
        return self._errors[arithmetic]

    def columns(self, cells: list[tuple[int, int]]) -> NDArray[np.intp]:
        """Return the numbers of some cells."""
        return np.array([self._column[cell] for cell in cells], dtype=np.intp)

    def of(self, cells: list[tuple[int, int]], is_query: NDArray[np.bool_]) -> tuple[Stream, Projections]:
        """Return the queries' residual rows and the projections of some cells, each measured by its worst cell."""
        columns = self.columns(cells)
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
        self.made, self.stages = made, made.stages
        stages = self.stages
        self.dtype = stages.dtype
        cells = [(p, token) for p, token in cells_of(layout, alphabet) if p < n_seen or p == read]
        positions = np.array([p for p, _ in cells])
        is_query = positions == read
        self.query, self.parts = made.of(cells, is_query)
        self.n_variants = int(is_query.sum())
        self.width = stages.n_heads * (stages.d_head + 1)
        self._cells = cells, is_query
        self._places = layout, n_seen, len(alphabet), positions
        constant, self.letters = self._gathered(self._table(self.parts), self.dtype)
        self.constant = constant.astype(self.dtype)

    def _gathered(self, table: Floats, dtype: np.dtype[Any]) -> tuple[Floats, list[Floats]]:
        """Return the sums of terms [term, variant, pair] over the template's tokens and over each letter's places."""
        layout, n_seen, n_letters, positions = self._places
        constant = np.zeros(table.shape[:2])
        n_places = len([c for c in set(layout) if c < 0])
        letters = [np.zeros((*table.shape[:2], n_letters), dtype) for _ in range(n_places)]
        for position, cell in enumerate(layout[:n_seen]):
            part = table[:, :, positions == position]
            if cell >= 0:
                constant += part[:, :, 0]
            else:
                letters[-1 - cell] += part.astype(dtype)
        return constant, letters

    def key_costs(self, arithmetic: Arithmetic, n_keys: int) -> KeyCosts:
        """Return what each token's share of the weight costs an arithmetic, summed as the weights are."""
        cells, is_query = self._cells
        columns = self.made.columns(cells)
        keys = self.made.errors(arithmetic).keys(columns[is_query], columns, n_keys)
        rounded = self.made.errors(arithmetic).rounded(columns, n_keys)
        # our own weights are these up to what they are off by in an arithmetic a little less exact than ours
        ours = self.made.errors(_OURS).keys(columns[is_query], columns, n_keys).moved
        apart = np.broadcast_to(keys.apart[:, None], keys.costs.shape)
        parts = np.stack([keys.moved, keys.costs, apart], axis=1).reshape(-1, *keys.costs.shape[1:])
        weights = np.repeat(self._weights(self.parts), 3, axis=0)
        is_seen = weights > 0
        with np.errstate(all="ignore"):
            constant, letters = self._gathered(np.where(is_seen, weights * parts, 0.0), np.dtype(np.float64))
        largest = np.where(np.isfinite(parts), parts, np.inf).max(axis=2)
        return KeyCosts(constant, letters, largest, 2 * float(ours.max()), rounded)

    def _table(self, parts: Projections) -> NDArray[np.float64]:
        """Return the terms [term, variant, pair] of every (position, token) pair, in float64."""
        h, k = self.stages.n_heads, self.stages.d_head
        weights, value = self._weights(parts), parts.value.astype(np.float64).reshape(h, k, -1)
        weighted = value[:, :, None, :] * weights[:, None]
        return np.concatenate([weighted.reshape(h * k, *weights.shape[1:]), weights])

    def _weights(self, parts: Projections) -> Floats:
        """Return the weights [head, variant, pair], in float64."""
        h, k = self.stages.n_heads, self.stages.d_head
        query, key = (p.astype(np.float64).reshape(h, k, -1) for p in (parts.query, parts.key))
        scores = np.einsum("hkv,hkn->hvn", query, key) * self.stages.scales[0]
        return np.asarray(np.exp(scores - scores.max(axis=2, keepdims=True)) * _LIFT)
