"""The plain batched forward pass: every position of every prompt, nothing shared, one rounding bound per input.

It serves bidirectional attention and odd templates, and decides again, in float64 and input by input, what a faster
method left doubtful. Generation runs the whole pass once per token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.verify.cells import CellFormat, Cells
from extract.verify.stages import Floats, Projections, Stages, Stream, Weighing

#: Floats held for one batch of scores and hidden activations, about.
_BATCH_FLOATS = 1 << 21
_NOBODY = np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Decided:
    """Answers to a batch: cells [cell, input], margins and the bounds they must exceed [input].

    ``unsure`` [input, answer cell] says which cells are not decided; ``is_tied`` [input] of which inputs it is certain
    that no precision would tell more, since every such cell is a tie.
    """

    cells: Cells
    margins: NDArray[Any]
    bounds: NDArray[Any]
    unsure: NDArray[np.bool_]
    is_tied: NDArray[np.bool_]


class Evaluator(Protocol):
    """What evaluates prompts, nothing shared between them: see ``StagesForward`` and ``Partwise``."""

    def batch_size(self, n_positions: int) -> int:
        """Return how many prompts of a rendered length to evaluate at once."""

    def logits(
        self, prompts: NDArray[np.int32], offset: int, reads: tuple[int, ...]
    ) -> tuple[Floats, NDArray[Any], NDArray[Any]]:
        """Return chosen logits [choice, input * read], and for every [input, read] (or [input, 1]: for all that are
        read) a margin bound and the width of ties, 0 where that is not known."""


class StagesForward:
    """Evaluates by stages: one norm bounds the error of a whole vector."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages

    def batch_size(self, n_positions: int) -> int:
        """Return how many prompts of a rendered length fit into one batch."""
        a = self.stages.architecture
        per_input = n_positions * (4 * a.d_model + 3 * a.n_heads * a.d_head + 2 * a.d_mlp + a.n_heads * n_positions)
        return max(1, _BATCH_FLOATS // max(per_input, 1))

    def logits(
        self, prompts: NDArray[np.int32], offset: int, reads: tuple[int, ...]
    ) -> tuple[Floats, NDArray[Any], NDArray[Any]]:
        """Return chosen logits, one margin bound per input, and no width of ties."""
        logits, bounds = forward(self.stages, prompts, offset, reads)
        return logits, bounds[:, None], np.zeros((len(prompts), 1))


def decide_inputs(
    by: Evaluator, domain: Domain, form: CellFormat, tokens: NDArray[np.int32], offset: int, n_decisions: int = 1
) -> Decided:
    """Decide inputs of one length at one offset. Shape: tokens [input, length] ids of ``{x}``.

    ``n_decisions`` is the most tokens to generate, where the read-out generates.

    Ensures: where a margin exceeds its bound, the decisions are those of the real function of the stored weights and
    of every arithmetic the evaluator claims; nothing elsewhere.
    """
    prompts = domain.render(tokens)
    size = by.batch_size(prompts.shape[1])
    parts = []
    for start in range(0, len(prompts), size):
        batch = prompts[start : start + size]
        if domain.readout.at == "generate":
            parts.append(_generate(by, form, batch, offset, n_decisions))
        else:
            reads = domain.read_positions(tokens.shape[1])
            parts.append(_read(by, form, batch, offset, reads))
    if not parts:
        none = np.zeros((form.width(n_decisions), 0), form.dtype)
        return Decided(none, np.zeros(0), np.zeros(0), np.zeros((0, form.columns(n_decisions)), np.bool_), _NOBODY)
    return Decided(
        np.concatenate([p.cells for p in parts], axis=1),
        np.concatenate([p.margins for p in parts]),
        np.concatenate([p.bounds for p in parts]),
        np.concatenate([p.unsure for p in parts]),
        np.concatenate([p.is_tied for p in parts]),
    )


def _read(by: Evaluator, form: CellFormat, prompts: NDArray[np.int32], offset: int, reads: tuple[int, ...]) -> Decided:
    n = len(prompts)
    if not reads:
        none, nobody = np.zeros((0, n), form.dtype), np.zeros(n, np.bool_)
        return Decided(none, np.full(n, np.inf), np.zeros(n), nobody[:, None][:, :0], nobody)
    logits, bounds, ties = by.logits(prompts, offset, reads)
    cells, margins = form.decide(logits)
    margins = margins.reshape(n, len(reads))
    is_sure, is_tie = margins > bounds, margins + (bounds - ties) < ties
    is_decided = is_sure.all(axis=1)
    is_tied = (is_sure | is_tie).all(axis=1) & ~is_decided
    unsure = np.repeat(~is_sure, form.n_labels, axis=1) if form.n_labels else ~is_sure
    # the bound of the least margin where all are above theirs, else of the one that is furthest below its own
    worst = np.where(is_decided, margins.argmin(axis=1), (margins - bounds).argmin(axis=1))
    bounds = np.broadcast_to(bounds, margins.shape)[np.arange(n), worst]
    margins = margins.min(axis=1)
    if not form.n_labels:
        cells = np.ascontiguousarray(cells.reshape(n, len(reads)).T)
    return Decided(cells, margins, bounds, unsure, is_tied)


def _generate(by: Evaluator, form: CellFormat, prompts: NDArray[np.int32], offset: int, n_new: int) -> Decided:
    n = len(prompts)
    cells = np.full((n_new, n), form.absent, dtype=form.dtype)
    margins, bounds, tied = np.full(n, np.inf), np.zeros(n), np.zeros(n, np.bool_)
    alive = np.arange(n)
    for step in range(n_new):
        if not len(alive):
            break
        part = _read(by, form, prompts, offset, (prompts.shape[1] - 1,))
        # a decision counts by its slack above its own bound; the least margin is reported
        bounds[alive] = np.maximum(bounds[alive], part.bounds)
        margins[alive] = np.minimum(margins[alive], part.margins)
        tied[alive] |= part.is_tied
        chosen = form.fed_back[part.cells[0]]
        going = chosen != form.stop
        cells[step, alive[going]] = part.cells[0, going]
        prompts = np.concatenate([prompts[going], chosen[going, None]], axis=1)
        alive = alive[going]
    unsure = np.repeat(~(margins > bounds)[:, None], n_new, axis=1)
    return Decided(cells, margins, bounds, unsure, tied)


def forward(
    stages: Stages, prompts: NDArray[np.int32], offset: int, reads: tuple[int, ...]
) -> tuple[Floats, NDArray[Any]]:
    """Return chosen logits [choice, input * read] and one margin bound per input.

    Shapes:  prompts [input, position] ids; rows are input-major. Only the read positions pass the last layer.
    """
    n, width = prompts.shape
    positions = np.tile(np.arange(offset, offset + width), n)
    stream = stages.embed(prompts.reshape(-1), positions, 1)
    chosen = np.array(reads)
    if not stages.n_layers:
        stream = _take(stream, n, chosen)
    for layer in range(stages.n_layers):
        parts = stages.project(layer, stream, 1)
        queries = np.arange(width)
        if layer == stages.n_layers - 1:
            stream, queries = _take(stream, n, chosen), chosen
        heads, spread = _attend(stages, layer, parts, n, width, queries)
        seen = _seen(parts, n, queries, stages.architecture.attention == "causal")
        errors = stages.attended(layer, seen, Weighing(width, spread=spread))
        stream = stages.mlp(layer, stages.combine(layer, stream, heads, errors, 1), 1)
    logits, bounds = stages.logits(stream, 1)
    return logits, np.broadcast_to(bounds, (n * len(chosen),)).reshape(n, -1).max(axis=1)


def _take(stream: Stream, n: int, reads: NDArray[Any]) -> Stream:
    rows = stream.rows.reshape(len(stream.rows), n, -1)[:, :, reads]
    errors = tuple(e.reshape(n, -1)[:, reads].reshape(-1) for e in stream.errors)
    norm = stream.norm.reshape(n, -1)[:, reads].reshape(-1)
    return Stream(np.ascontiguousarray(rows.reshape(len(rows), -1)), norm, errors)


def _seen(parts: Projections, n: int, queries: NDArray[Any], is_causal: bool) -> Projections:
    """Return the measures of the chosen queries, and the worst of the keys and values that each of them sees."""

    def own(per_row: NDArray[Any]) -> NDArray[Any]:
        return per_row.reshape(n, -1)[:, queries].reshape(-1)

    def worst(per_row: NDArray[Any]) -> NDArray[Any]:
        rows = per_row.reshape(n, -1)
        if is_causal:
            return np.maximum.accumulate(rows, axis=1)[:, queries].reshape(-1)
        return np.repeat(rows.max(axis=1), len(queries))

    return replace(
        parts,
        query_measure=parts.query_measure.mapped(own),
        key_measure=parts.key_measure.mapped(worst),
        value_measure=parts.value_measure.mapped(worst),
    )


def _attend(
    stages: Stages, layer: int, parts: Projections, n: int, width: int, queries: NDArray[Any]
) -> tuple[Floats, NDArray[Any]]:
    """Return the heads' values [head * d_head, input * query] at the chosen query positions, and per column
    the root mean square distance of values from their weighted mean, worst over heads."""
    shape = (stages.n_heads, stages.d_head, n, width)
    query = parts.query.reshape(shape)[:, :, :, queries].transpose(0, 2, 3, 1)
    key = parts.key.reshape(shape).transpose(0, 2, 1, 3)
    value = parts.value.reshape(shape).transpose(0, 2, 3, 1)
    scores = query @ key
    scores *= stages.dtype.type(stages.scales[layer])
    if stages.architecture.attention == "causal":
        scores[:, :, queries[:, None] < np.arange(width)] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    heads = scores @ value
    squares = np.einsum("hnkd,hnkd->hnk", value, value)
    variance = (scores @ squares[..., None])[..., 0] - np.einsum("hnqd,hnqd->hnq", heads, heads)
    spread = np.sqrt(np.maximum(variance.max(axis=0), 0)).astype(np.float64).reshape(-1)
    return np.ascontiguousarray(heads.transpose(0, 3, 1, 2).reshape(stages.n_heads * stages.d_head, -1)), spread
