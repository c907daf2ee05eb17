"""Enumeration of one-layer networks read at one position: the answer depends on sums of per-token terms only.

With the query fixed, attention is a quotient of two sums over the prompt's tokens: of exp(score) * value and of
exp(score). The sums of all left halves and of all right halves of the inputs are tabulated, so that an input costs one
vector addition, a division and what follows the attention at one position. This room serves causal and bidirectional
attention, any template and any promise that has an input graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.input_graph import InputGraph
from extract.network import Architecture
from extract.verify.answer_table import SlabWriter
from extract.verify.cells import CellFormat, Cells
from extract.verify.stages import Floats, Stages, Stream
from extract.verify.terms import TokenParts, TokenTerms, cells_of
from extract.verify.trie_attention import quotient


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    """Sums of one half of the inputs: ``sums`` [term, variant, string] (one variant where the half holds the query's
    letter, then ``variant`` [string] says which); ``state`` [string] of the node between the halves."""

    sums: Floats
    variant: NDArray[np.int64] | None
    state: NDArray[np.int32]


def applies(stages_layers: int, domain: Domain, attention: str) -> bool:
    """Say whether the method decides this read-out: one layer, one position whose prompt always ends in view."""
    return stages_layers == 1 and domain.readout.at in ("last", "first") and attention in ("causal", "bidirectional")


class SumTable:
    """The tables of one length at one offset; ``decide`` writes any run of ranks."""

    def __init__(
        self,
        stages: Stages,
        domain: Domain,
        form: CellFormat,
        graph: InputGraph,
        length: int,
        offset: int,
        *,
        max_table_floats: int,
    ) -> None:
        self.stages, self.form, self.graph, self.length = stages, form, graph, length
        layout = domain.template.layout(length)
        read = 0 if domain.readout.at == "first" else len(layout) - 1
        seen = layout[: read + 1] if stages.architecture.attention == "causal" else layout
        self.n_keys = len(seen)
        self.query_letter = -1 - layout[read] if layout[read] < 0 else None
        self.is_small = False
        # sums of counts stay under the number of all strings, restricted or not; Python's integers where that is large
        self._count_type = np.dtype(np.int64 if graph.n_letters**length < 2**62 else object)
        alphabet = np.array(domain.alphabet)
        made = TokenParts(stages, cells_of(layout, alphabet), offset)
        self._terms = TokenTerms(made, alphabet, layout, len(seen), read)
        cut, n_floats = self._cut()
        if n_floats > max_table_floats:
            return
        self.is_small = True
        self._left = self._half(0, cut, [0], self._terms.constant[:, :, None])
        states = np.unique(self._left.state)
        nothing = np.zeros((self._terms.width, self._terms.n_variants, 1), stages.dtype)
        halves = [self._half(cut, length, [int(s)], nothing) for s in states]
        counts = np.zeros(len(graph.accept[cut]), dtype=np.int64)
        counts[states] = [len(half.state) for half in halves]
        self._first_right = np.cumsum(counts) - counts
        self._right = _joined(halves)
        self._left_start = np.concatenate([[0], np.cumsum(counts[self._left.state])])

    def _counts(self) -> list[NDArray[Any]]:
        """Return the number of suffixes of every node, by depth, exactly."""
        counts: list[NDArray[Any]] = [self.graph.accept[self.length].astype(self._count_type)]
        for depth in range(self.length - 1, -1, -1):
            following, ahead = self.graph.next[depth], counts[-1]
            counts.append(np.where(following >= 0, ahead[following], 0).sum(axis=1))
        return counts[::-1]

    def _cut(self) -> tuple[int, int]:
        """Return the depth that makes the tables least, and their floats."""
        suffixes = self._counts()
        self._reachable = [np.asarray(c > 0, dtype=np.bool_) for c in suffixes]
        prefixes: NDArray[Any] = np.ones(1, dtype=self._count_type)
        best = (0, -1)
        variants = 1 if self.query_letter is None else self.graph.n_letters
        width = self._terms.width
        for depth in range(self.length + 1):
            on_left = self.query_letter is not None and self.query_letter < depth
            n_left = int(prefixes[self._reachable[depth]].sum())
            n_right = int(suffixes[depth][prefixes > 0].sum())
            size = width * (n_left * (1 if on_left else variants) + n_right * (variants if on_left else 1))
            if best[1] < 0 or size < best[1]:
                best = (depth, size)
            if depth < self.length:
                ahead: NDArray[Any] = np.zeros(len(self.graph.accept[depth + 1]), dtype=self._count_type)
                for letter in range(self.graph.n_letters):
                    target = self.graph.next[depth][:, letter]
                    np.add.at(ahead, target[target >= 0], prefixes[target >= 0])
                prefixes = ahead
        return best

    def _half(self, start: int, stop: int, states: list[int], sums: Floats) -> _Half:
        """Add to ``sums`` the terms of the letters ``start`` to ``stop`` of all strings from some states, in order."""
        terms = self._terms
        state = np.array(states, dtype=np.int32)
        variant: NDArray[np.int64] | None = None
        for depth in range(start, stop):
            following = self.graph.next[depth][state]
            rows, letters = np.nonzero((following >= 0) & self._reachable[depth + 1][following])
            state = following[rows, letters]
            step = terms.letters[depth]
            if variant is not None:
                variant = variant[rows]
                sums = sums[:, :, rows] + step[:, variant, letters][:, None, :]
            elif depth == self.query_letter:
                variant = letters.astype(np.int64)
                sums = sums[:, variant, rows][:, None, :] + step[:, variant, letters][:, None, :]
            else:
                sums = sums[:, :, rows] + step[:, :, letters]
        return _Half(sums, variant, state)

    def decide(self, start: int, stop: int, writer: SlabWriter, chunk: int) -> None:
        """Decide the inputs of ranks ``start`` to ``stop`` and write them, ``chunk`` at a time."""
        for first in range(start, stop, chunk):
            self._chunk(first, min(first + chunk, stop), writer)

    def _chunk(self, start: int, stop: int, writer: SlabWriter) -> None:
        left, right = self._rows(start, stop)
        cells, margins, bound = self._leaves(left, right)
        writer.write(start, cells, margins, margins > bound, bound)

    def decide_again(self, ranks: NDArray[np.int64], writer: SlabWriter) -> None:
        """Decide some ranks and write them over what was doubtful."""
        left = np.searchsorted(self._left_start, ranks, side="right") - 1
        right = self._first_right[self._left.state[left]] + ranks - self._left_start[left]
        cells, margins, bound = self._leaves(left, right)
        writer.rewrite(ranks, cells, margins, np.full(len(ranks), bound))

    def _leaves(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[Cells, NDArray[Any], float]:
        """Return cells, margins and their bound for pairs of halves."""
        stages, terms = self.stages, self._terms
        variant = self._variant(left, right)
        total = np.take(*_flat(self._left, left, variant), axis=1, mode="clip")
        total += np.take(*_flat(self._right, right, variant), axis=1, mode="clip")
        heads, errors = quotient(stages, terms, total, self.n_keys)
        query = terms.query.rows if variant is None else np.take(terms.query.rows, variant, axis=1, mode="clip")
        stream = stages.combine(0, Stream(query, terms.query.norm, terms.query.errors), heads, errors)
        logits, bound = stages.logits(stages.mlp(0, stream))
        cells, margins = self.form.decide(logits)
        return cells, margins, float(bound)

    def _rows(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the left and right string of every rank."""
        first = int(np.searchsorted(self._left_start, start, side="right")) - 1
        last = int(np.searchsorted(self._left_start, stop, side="left"))
        starts = self._left_start[first : last + 1].copy()
        shift = self._first_right[self._left.state[first:last]] - starts[:-1]
        np.clip(starts, start, stop, out=starts)
        counts = np.diff(starts)
        left = np.repeat(np.arange(first, last), counts)
        right = np.arange(start, stop) + np.repeat(shift, counts)
        return left, right

    def _variant(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64] | None:
        if self._left.variant is not None:
            return self._left.variant[left]
        return None if self._right.variant is None else self._right.variant[right]


def _flat(half: _Half, rows: NDArray[np.int64], variant: NDArray[np.int64] | None) -> tuple[Floats, NDArray[np.int64]]:
    """Return a half's table with one column per variant and string, and the columns of these strings."""
    n_variants, n = half.sums.shape[1:]
    table = half.sums.reshape(len(half.sums), -1)
    return table, rows if n_variants == 1 or variant is None else rows + variant * n


def _joined(halves: list[_Half]) -> _Half:
    variants = [half.variant for half in halves if half.variant is not None]
    return _Half(
        np.ascontiguousarray(np.concatenate([half.sums for half in halves], axis=2)),
        np.concatenate(variants) if variants else None,
        np.concatenate([half.state for half in halves]),
    )


def work_per_input(a: Architecture) -> int:
    """Return the multiply-adds of one input, about."""
    width = a.n_heads * a.d_head
    return width * (2 + a.d_model) + 2 * a.d_model * a.d_mlp + 4 * a.d_model + 8 * a.d_mlp


def regions_of(first: int, size: int, run: int) -> Iterator[tuple[int, int]]:
    """Yield consecutive runs of the ranks from the first on; all but the first begin at multiples of a run."""
    while first < size:
        stop = min(first - first % run + run, size)
        yield first, stop
        first = stop
