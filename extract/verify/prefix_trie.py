"""Enumeration of causal networks over a trie of prefixes: keys and values are computed once per prefix and shared.

A depth-first walk over the input graph holds one block of nodes per prompt position, at most ``block_size`` wide.
Template tokens after the input and generated tokens are levels with one branch. All lengths of a graph are one walk
where the template is constant around ``{x}``. This room knows networks only through ``Stages``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.input_graph import InputGraph
from extract.readout import At
from extract.verify.answer_table import SlabWriter
from extract.verify.cells import CellFormat, Cells
from extract.verify.rounding import Scalar
from extract.verify.stages import Projections, Stages, Stream, Weighing
from extract.verify.terms import TokenParts, TokenTerms, cells_of
from extract.verify.trie_attention import Indices, Level, Lineage, Trunk, attend, attend_by_sums
from extract.verify.trie_plan import LETTER, WalkPlan

#: By length, who takes its answers; ``evaluated`` is the rank that is written next.
Writers: TypeAlias = Mapping[int, SlabWriter]
#: By length, the first rank and the one after the last.
Ranges: TypeAlias = dict[int, tuple[int, int]]

#: Inputs below a part, about, and the most parts: a worker makes the levels above them again.
_INPUTS_PER_PART, _MOST_PARTS = 1 << 17, 64


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Nodes of one prompt position in lexicographic order, with all that their children need of them.

    ``cells`` [decision, node] are the decisions on the way that count, with their least margin and whether all were
    sure; ``bound`` is the largest one under which some was.
    """

    position: int
    state: Indices
    lineage: Lineage
    cells: Cells
    margins: NDArray[Any]
    is_sure: NDArray[np.bool_]
    bound: float


@dataclass(frozen=True, slots=True, eq=False)
class _Children:
    """Nodes still to be made under some ``rows`` of a block: tokens, and letters where they are the input's."""

    parent: _Block
    rows: Indices
    tokens: Indices
    letters: Indices | None
    state: Indices


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Children at a place of the plan: ``index`` in its body, ``depth`` letters read with them."""

    children: _Children
    index: int
    depth: int


class TrieWalk:
    """One walk over the prompts of some lengths of a graph at one offset; writes each length's slab in rank order.

    It begins, and then its parts can be walked anywhere and in any order: ``ranges`` are the ranks of each.
    ``per_row`` keeps one rounding bound per node instead of one per block; ``n_held`` blocks may be held above parts.
    """

    name = "prefix trie"

    def __init__(
        self,
        stages: Stages,
        domain: Domain,
        form: CellFormat,
        graph: InputGraph,
        plan: WalkPlan,
        *,
        offset: int,
        block_size: int,
        per_row: bool,
        n_held: int = _MOST_PARTS,
    ) -> None:
        self.stages, self.form, self.graph, self.plan, self.lengths = stages, form, graph, plan, plan.lengths
        self._n_parts = min(_MOST_PARTS, sum(map(domain.size_at, plan.lengths)) // _INPUTS_PER_PART)
        self._n_held, self._below, self.ranges = n_held, list[_Piece](), list[Ranges]()
        self.offset, self.block_size = offset, block_size
        self.group = 1 if per_row else None
        self.at: At = domain.readout.at
        self.alphabet = np.array(domain.alphabet, dtype=np.int32)
        self._reachable = plan.reachable(graph)
        # a first layer is served by sums, for one bound per block; generated tokens still attend to its keys
        self._has_sums = stages.n_layers > 0 and not per_row
        self._keeps_first = not self._has_sums or self.at == "generate"
        self._terms: dict[tuple[int, int], TokenTerms] = {}
        if self._has_sums:
            ends = {plan.end_of(length) for length in plan.lengths}
            layouts = [self._layout((len(plan.body), 0)), *(self._layout((end, len(plan.tail))) for end in ends)]
            cells = [cell for layout in layouts for cell in cells_of(layout, self.alphabet)]
            self._parts = TokenParts(stages, cells, offset)

    def begin(self, writers: Writers) -> None:
        """Walk level by level until there are parts enough; answer the inputs that end on the way.

        How many parts there are depends on the walk and on nothing else.
        """
        root = self._root()
        if 0 in self.plan.lengths and self.plan.end_of(0) == 0:
            self._finish(root, 0, writers)
        pieces, n_blocks = self._pieces(root, 0, 0), 0
        while 0 < len(pieces) < self._n_parts and n_blocks + len(pieces) <= self._n_held:
            n_blocks += len(pieces)
            pieces = [child for piece in pieces for child in self.step(piece, writers)]
        self._below, self.ranges = pieces, self._ranges(pieces, {n: w.evaluated for n, w in writers.items()})

    def run(self, part: int, writers: Writers) -> Iterator[None]:
        """Walk all that is below a part, depth first; yield after every block."""
        stack = [self._below[part]]
        while stack:
            stack += self.step(stack.pop(), writers)[::-1]
            yield

    def step(self, piece: _Piece, writers: Writers) -> list[_Piece]:
        """Make a piece's nodes, answer the inputs that end there, and return the pieces below."""
        end = piece.index + 1
        block = self._grow(piece.children, self._is_read(piece), (end, 0))
        if piece.depth in self.plan.lengths and end >= self.plan.end_of(piece.depth):
            self._finish(block, piece.depth, writers)
        return self._pieces(block, end, piece.depth)

    def _ranges(self, pieces: list[_Piece], before: dict[int, int]) -> list[Ranges]:
        """Return the ranks below each piece: the inputs there are counted."""
        if not pieces:
            return []
        depth, done, ranges = pieces[0].depth, before, list[Ranges]()
        below = {length: self.plan.n_below(self.graph, depth, length) for length in self.plan.lengths if length > depth}
        if pieces[0].index < self.plan.end_of(depth) and depth in self.plan.lengths:
            below[depth] = self.graph.accept[depth].astype(np.int64)
        for piece in pieces:
            after = {n: done[n] + int(counts[piece.children.state].sum()) for n, counts in below.items()}
            ranges.append({n: (done[n], after.get(n, done[n])) for n in done})
            done = done | after
        return ranges

    def _root(self) -> _Block:
        trunks = (Trunk.empty(self.stages),) * self.stages.n_layers
        cells, sure = np.zeros((0, 1), self.form.dtype), np.ones(1, np.bool_)
        return _Block(-1, np.zeros(1, np.int32), Lineage(trunks, (), (), ()), cells, np.full(1, np.inf), sure, 0.0)

    def _pieces(self, block: _Block, index: int, depth: int) -> list[_Piece]:
        """Return the next level's nodes in lexicographic order, in pieces of at most a block."""
        if index == len(self.plan.body):
            return []
        token = self.plan.body[index]
        letters: Indices | None = None
        if token != LETTER:
            rows: Indices = np.flatnonzero(self._reachable[depth][block.state])
            tokens, state = np.full(len(rows), token, np.int32), block.state[rows]
        else:
            following = self.graph.next[depth][block.state]
            rows, letters = np.nonzero((following >= 0) & self._reachable[depth + 1][following])
            tokens, state, depth = self.alphabet[letters], following[rows, letters], depth + 1
        pieces = []
        for start in range(0, len(rows), self.block_size):
            part = slice(start, start + self.block_size)
            own = None if letters is None else letters[part]
            pieces.append(_Piece(_Children(block, rows[part], tokens[part], own, state[part]), index, depth))
        return pieces

    def _is_read(self, piece: _Piece) -> bool:
        if self.at == "every":
            return self.plan.body[piece.index] == LETTER
        if self.at == "first":
            return piece.index == 0
        is_end = piece.depth in self.plan.lengths and piece.index + 1 == self.plan.end_of(piece.depth)
        return is_end and not self.plan.tail

    def _grow(self, new: _Children, is_read: bool, place: tuple[int, int] | None) -> _Block:
        """Make the block of these nodes; ``place`` says where their token stands in the plan (None: generated)."""
        parent, rows = new.parent, new.rows
        lineage = parent.lineage.of_children(rows)
        kept: list[Projections | None] = []
        stages, last = self.stages, self.stages.n_layers - 1
        stream = stages.embed(new.tokens, self.offset + parent.position + 1, self.group)
        for layer in range(stages.n_layers):
            if layer == 0 and place is not None and self._has_sums:
                kept.append(
                    self._projected(parent, rows, stream, layer, has_queries=False) if self._keeps_first else None
                )
                if layer < last or is_read:
                    stream = self._first_layer(lineage, new, place)
                continue
            has_queries = layer < last or is_read
            parts = self._projected(parent, rows, stream, layer, has_queries=has_queries)
            kept.append(parts)
            if has_queries:
                heads, spread = attend(stages, layer, parts, lineage, self.group)
                errors = stages.attended(layer, parts, Weighing(parent.position + 2, spread=spread))
                stream = stages.mlp(layer, stages.combine(layer, stream, heads, errors, self.group), self.group)
        block = _Block(
            parent.position + 1, new.state, lineage.with_level(Level.of(stages, rows, new.letters, kept)),
            parent.cells[:, rows], parent.margins[rows], parent.is_sure[rows], parent.bound,
        )  # fmt: skip
        return self._decided(block, stream) if is_read else block

    def _projected(
        self, parent: _Block, rows: Indices, stream: Stream, layer: int, *, has_queries: bool
    ) -> Projections:
        """Return a layer's projections, key and value measures widened to all that each node sees."""
        parts = self.stages.project(layer, stream, self.group, has_queries=has_queries)
        before = parent.lineage.seen(layer)
        if before is None:
            return parts
        key, value = before
        if self.group is not None:
            key, value = key.mapped(lambda e: e[rows]), value.mapped(lambda e: e[rows])
        return replace(
            parts, key_measure=parts.key_measure.joined(key), value_measure=parts.value_measure.joined(value)
        )

    def _first_layer(self, lineage: Lineage, new: _Children, place: tuple[int, int]) -> Stream:
        """Return the stream after the first layer, its attention served by sums."""
        stages, n_keys = self.stages, new.parent.position + 2
        if place not in self._terms:
            self._terms[place] = TokenTerms(self._parts, self.alphabet, self._layout(place), n_keys, n_keys - 1)
        stream, heads, errors = attend_by_sums(stages, self._terms[place], lineage, new.letters, len(new.rows), n_keys)
        return stages.mlp(0, stages.combine(0, stream, heads, errors))

    def _layout(self, place: tuple[int, int]) -> tuple[int, ...]:
        """Return what stands up to a place: so many entries of the body, then so many of the tail."""
        letters = iter(range(len(self.plan.body)))
        cells = [-1 - next(letters) if token == LETTER else token for token in self.plan.body[: place[0]]]
        return (*cells, *self.plan.tail[: place[1]])

    def _decided(self, block: _Block, stream: Stream) -> _Block:
        """Return the block with the decision at each of its nodes, after those on the way where every one counts."""
        logits, bound = self.stages.logits(stream, self.group)
        cells, margins = self.form.decide(logits)
        is_sure, worst = margins > bound, _worst(bound, margins)
        if self.at != "every":
            return replace(block, cells=cells, margins=margins, is_sure=is_sure, bound=worst)
        return replace(
            block,
            cells=np.concatenate([block.cells, cells]),
            margins=np.minimum(block.margins, margins),
            is_sure=block.is_sure & is_sure,
            bound=max(block.bound, worst),
        )

    def _finish(self, block: _Block, depth: int, writers: Writers) -> None:
        """Answer the inputs that end at the block's nodes and write them."""
        accepted: Indices = np.flatnonzero(self.graph.accept[depth][block.state])
        n = len(accepted)
        if not n:
            return
        if self.at in ("last", "generate"):
            for index, token in enumerate(self.plan.tail, 1):
                place = (self.plan.end_of(depth), index)
                tokens = np.full(n, token, np.int32)
                new = _Children(block, accepted, tokens, None, block.state[accepted])
                block = self._grow(new, index == len(self.plan.tail), place)
                accepted = np.arange(n)
        writer = writers[depth]
        if self.at == "generate":
            block, accepted = self._generated(block, accepted, writer.n_decisions)
        writer.write(
            writer.evaluated, block.cells[:, accepted], block.margins[accepted], block.is_sure[accepted], block.bound
        )
        writer.evaluated += n

    def _generated(self, block: _Block, rows: Indices, n_new: int) -> tuple[_Block, Indices]:
        """Return the block with whole generated sequences as its cells; its own decision is the first token.

        Only sequences that go on are fed back; a sequence is sure when each of its decisions was.
        """
        cells = np.full((n_new, len(rows)), self.form.absent, self.form.dtype)
        margins, is_sure = block.margins[rows], block.is_sure[rows]
        result = replace(block, cells=cells, margins=margins, is_sure=is_sure, state=block.state[rows])
        alive, bound = np.arange(len(rows)), block.bound
        for step in range(n_new):
            margins[alive] = np.minimum(margins[alive], block.margins[rows])
            is_sure[alive] &= block.is_sure[rows]
            bound = max(bound, block.bound)
            chosen = block.cells[-1, rows]
            tokens = self.form.fed_back[chosen]
            going = np.flatnonzero(tokens != self.form.stop)
            alive, rows = alive[going], rows[going]
            cells[step, alive] = chosen[going]
            if step + 1 == n_new or not len(alive):
                break
            block = self._grow(_Children(block, rows, tokens[going], None, block.state[rows]), True, None)
            rows = np.arange(len(alive))
        return replace(result, bound=bound), np.arange(cells.shape[1])


def _worst(bound: Scalar, margins: NDArray[Any]) -> float:
    """Return the largest bound under which a decision was sure."""
    if not isinstance(bound, np.ndarray):
        return float(bound) if np.isfinite(bound) else 0.0
    return float(np.where(margins > bound, bound, 0.0).max(initial=0.0))
