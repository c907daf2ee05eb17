"""What a token at a position adds to the sums that a first layer's attention is a quotient of.

With the query's token and position fixed, exp(score) and exp(score) * value depend on one token and its position
alone. Both are tabulated here in float64, from projections with rounding bounds; what sums them is the caller's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.verify.stages import Projections, Stages, Stream

#: Tabulated weights are multiplied by this power of two: a row's largest is then far from underflow.
_LIFT = 2.0**40


class TokenTerms:
    """What every token at every position adds to the sums, for every variant of the query token.

    ``layout`` holds a token id or -1-i for x[i] per prompt position; the first ``n_seen`` positions are summed, and the
    query is the token at ``read``.
    Shapes: ``constant`` [term, variant] is the sum over the template's tokens; ``letters[i]`` [term, variant, letter]
    that of the places of x[i]. The first head * d_head terms are weighted values, one weight per head follows.
    """

    def __init__(
        self,
        stages: Stages,
        alphabet: NDArray[Any],
        layout: tuple[int, ...],
        n_seen: int,
        read: int,
        offset: int,
    ) -> None:
        self.stages, self.dtype = stages, stages.dtype
        cells = [(p, [c] if c >= 0 else list(alphabet)) for p, c in enumerate(layout) if p < n_seen or p == read]
        tokens = np.array([t for _, choice in cells for t in choice], dtype=np.int32)
        positions = np.array([p for p, choice in cells for _ in choice])
        stream = stages.embed(tokens, positions + offset)
        self.parts = stages.project(0, stream)
        is_query = positions == read
        self.query = Stream(np.ascontiguousarray(stream.rows[:, is_query]), stream.norm, stream.errors)
        self.n_variants = int(is_query.sum())
        self.width = stages.n_heads * (stages.d_head + 1)
        table = self._table(self.parts, is_query)
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

    def _table(self, parts: Projections, is_query: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the terms [term, variant, pair] of every (position, token) pair, in float64."""
        h, k = self.stages.n_heads, self.stages.d_head
        query, key, value = (p.astype(np.float64).reshape(h, k, -1) for p in (parts.query, parts.key, parts.value))
        scores = np.einsum("hkv,hkn->hvn", query[:, :, is_query], key) * self.stages.scales[0]
        weights = np.exp(scores - scores.max(axis=2, keepdims=True)) * _LIFT
        weighted = value[:, :, None, :] * weights[:, None]
        return np.concatenate([weighted.reshape(h * k, *weights.shape[1:]), weights])
