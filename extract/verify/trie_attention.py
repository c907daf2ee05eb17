"""Attention from the nodes of a trie to their ancestors: a matrix product where a block shares them, gathers where not.

In the first layer a node's scores and values depend on tokens and positions only, so that its attention is a quotient
of sums over its path; the sums are built from the root down, each node of the path once. This room knows blocks of
nodes and refuses to know which prompts they come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.verify.rounding import Errors, Measured, Scalar, Weighing, arithmetic_of
from extract.verify.stages import Floats, Projections, Stages, Stream
from extract.verify.terms import TokenTerms

Indices = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The nodes of one prompt position: their parents' columns in the level above, their letters (None where the token
    is the template's or generated), and per layer what attention to them needs.

    Shapes: ``keys`` and ``values`` [head * d_head, node], empty for a first layer that sums serve; ``squares`` [head,
    node] are the squared norms of the values where bounds are fine; ``seen`` are the worst measures of keys and values
    from the root to each node.
    """

    parents: Indices
    letters: Indices | None
    keys: tuple[Floats, ...]
    values: tuple[Floats, ...]
    squares: tuple[Floats, ...]
    seen: tuple[tuple[Measured, Measured] | None, ...]

    @staticmethod
    def of(stages: Stages, parents: Indices, letters: Indices | None, kept: list[Projections | None]) -> Level:
        """Build a level from the projections of its nodes, None for a layer nobody attends to by keys."""
        none = np.zeros((0, 0), stages.dtype)
        squares = []
        for parts in kept:
            heads = none.reshape(0, 1, 0) if parts is None else parts.value.reshape(stages.n_heads, stages.d_head, -1)
            squares.append(np.einsum("hkn,hkn->hn", heads, heads) if stages.is_fine else none)
        return Level(
            parents,
            letters,
            tuple(none if parts is None else parts.key for parts in kept),
            tuple(none if parts is None else parts.value for parts in kept),
            tuple(squares),
            tuple(None if parts is None else (parts.key_measure, parts.value_measure) for parts in kept),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Trunk:
    """The ancestors of one layer that a whole block shares: keys [head, ancestor, d_head], values [head, d_head,
    ancestor] and their squared norms [head, ancestor]."""

    keys: Floats
    values: Floats
    squares: Floats

    @staticmethod
    def empty(stages: Stages) -> Trunk:
        """Return the trunk of the root."""
        h, k, dtype = stages.n_heads, stages.d_head, stages.dtype
        return Trunk(np.zeros((h, 0, k), dtype), np.zeros((h, k, 0), dtype), np.zeros((h, 0), dtype))

    def extended(self, level: Level, layer: int, column: int) -> Trunk:
        """Return the trunk with one more ancestor at its end."""
        if not len(level.keys[layer]):
            return self
        h, _, k = self.keys.shape
        key = level.keys[layer][:, column].reshape(h, 1, k)
        value = level.values[layer][:, column].reshape(h, k, 1)
        squares = self.squares
        if len(level.squares[layer]):
            squares = np.concatenate([squares, level.squares[layer][:, column : column + 1]], 1)
        return Trunk(np.concatenate([self.keys, key], 1), np.concatenate([self.values, value], 2), squares)


@dataclass(frozen=True, slots=True, eq=False)
class Lineage:
    """The ancestors of a block's nodes: trunks per layer, the letters along the trunk, and below it one level per
    position with each node's column in it, nearest last."""

    trunks: tuple[Trunk, ...]
    trunk_letters: tuple[int, ...]
    levels: tuple[Level, ...]
    columns: tuple[Indices, ...]

    def seen(self, layer: int) -> tuple[Measured, Measured] | None:
        """Return the worst measures of a layer's keys and values among the nearest level's nodes and above."""
        return self.levels[-1].seen[layer] if self.levels else None

    def of_children(self, rows: Indices) -> Lineage:
        """Return the same ancestors for children of some nodes; what they all share joins the trunk."""
        columns = [column[rows] for column in self.columns]
        n_shared = 0
        while n_shared < len(columns) and columns[n_shared][0] == columns[n_shared][-1]:
            n_shared += 1
        trunks, letters = self.trunks, self.trunk_letters
        for level, column in zip(self.levels[:n_shared], columns[:n_shared], strict=True):
            at = int(column[0])
            trunks = tuple(trunk.extended(level, i, at) for i, trunk in enumerate(trunks))
            letters = letters if level.letters is None else (*letters, int(level.letters[at]))
        return Lineage(trunks, letters, self.levels[n_shared:], tuple(columns[n_shared:]))

    def with_level(self, level: Level) -> Lineage:
        """Return the ancestors that children of this level's nodes have."""
        own = np.arange(len(level.parents))
        return Lineage(self.trunks, self.trunk_letters, (*self.levels, level), (*self.columns, own))


def attend(
    stages: Stages, layer: int, parts: Projections, lineage: Lineage, group: int | None
) -> tuple[Floats, Scalar | None]:
    """Return the heads' values [head * d_head, node] of attention from each node to its ancestors and itself, and the
    spread of the values where bounds are fine."""
    h, k, n = stages.n_heads, stages.d_head, parts.query.shape[1]
    trunk = lineage.trunks[layer]
    n_trunk = trunk.keys.shape[1]
    query, key, value = (part.reshape(h, k, n) for part in (parts.query, parts.key, parts.value))
    weights = np.empty((h, n_trunk + len(lineage.levels) + 1, n), stages.dtype)
    np.matmul(trunk.keys, query, out=weights[:, :n_trunk])
    buffer = np.empty((h * k, n), stages.dtype)
    gathered = buffer.reshape(h, k, n)
    pairs = list(enumerate(zip(lineage.levels, lineage.columns, strict=True), n_trunk))
    for i, (level, column) in pairs:
        np.take(level.keys[layer], column, axis=1, out=buffer, mode="clip")
        np.einsum("hkn,hkn->hn", query, gathered, out=weights[:, i])
    np.einsum("hkn,hkn->hn", query, key, out=weights[:, -1])
    weights *= stages.dtype.type(stages.scales[layer])
    weights -= weights.max(axis=1, keepdims=True)
    np.exp(weights, out=weights)
    heads = trunk.values @ weights[:, :n_trunk]
    for i, (level, column) in pairs:
        np.take(level.values[layer], column, axis=1, out=buffer, mode="clip")
        gathered *= weights[:, i, None]
        heads += gathered
    heads += value * weights[:, -1:]
    total = np.add.reduce(weights, axis=1)
    heads /= total[:, None]
    spread = _spread(layer, lineage, value, weights, total, heads) if stages.is_fine else None
    if spread is not None and group is None:
        spread = spread.max(initial=0.0)
    return heads.reshape(h * k, n), spread


def _spread(
    layer: int, lineage: Lineage, value: Floats, weights: Floats, total: Floats, heads: Floats
) -> NDArray[np.float64]:
    """Return the root mean square distance of the values from their weighted mean, worst over heads. Shape: [node]."""
    n_trunk = lineage.trunks[layer].squares.shape[1]
    mean_square = np.einsum("ht,htn->hn", lineage.trunks[layer].squares, weights[:, :n_trunk])
    for i, (level, column) in enumerate(zip(lineage.levels, lineage.columns, strict=True), n_trunk):
        mean_square += level.squares[layer][:, column] * weights[:, i]
    mean_square += np.einsum("hkn,hkn->hn", value, value) * weights[:, -1]
    mean_square /= total
    variance = (mean_square - np.einsum("hkn,hkn->hn", heads, heads)).max(axis=0)
    spread: NDArray[np.float64] = np.sqrt(np.maximum(variance, 0)).astype(np.float64)
    return spread


def attend_by_sums(
    stages: Stages, terms: TokenTerms, lineage: Lineage, letters: Indices | None, n_nodes: int, n_keys: int
) -> tuple[Stream, Floats, Errors]:
    """Return the nodes' residual rows before the first layer, their heads' values, and the attention's errors.

    ``letters`` are the nodes' own letters, which say which variant of the query each has.
    """
    sums, depth, low = terms.constant[:, :, None], 0, 0
    for letter in lineage.trunk_letters:
        sums = sums + terms.letters[depth][:, :, letter, None]
        depth += 1
    for i, (level, column) in enumerate(zip(lineage.levels, lineage.columns, strict=True)):
        first, last = int(column[0]), int(column[-1]) + 1
        parents = level.parents[first:last] - low if i else np.zeros(last - first, np.intp)
        sums = np.take(sums, parents, axis=2, mode="clip")
        if level.letters is not None:
            sums += np.take(terms.letters[depth], level.letters[first:last], axis=2, mode="clip")
            depth += 1
        low = first
    n_parents = sums.shape[2]
    column = lineage.columns[-1] - low if lineage.columns else np.zeros(n_nodes, np.intp)
    rows = terms.query.rows
    if letters is not None:
        column = column + letters * n_parents
        rows = np.take(rows, letters, axis=1, mode="clip")
    total = np.take(sums.reshape(len(sums), -1), column, axis=1, mode="clip")
    if letters is not None:
        total += np.take(np.einsum("tvv->tv", terms.letters[depth]), letters, axis=1, mode="clip")
    heads, errors = quotient(stages, terms, total, n_keys)
    return Stream(rows, terms.query.norm, terms.query.errors), heads, errors


def quotient(stages: Stages, terms: TokenTerms, total: Floats, n_keys: int) -> tuple[Floats, Errors]:
    """Return the heads' values of summed terms [term, row], which are overwritten, and the attention's errors."""
    width = stages.n_heads * stages.d_head
    heads = total[:width].reshape(stages.n_heads, stages.d_head, -1)
    weight = total[width:]
    heads /= weight[:, None]
    least = float(weight.min()) if weight.size else 1.0
    tiny = arithmetic_of(stages.dtype).tiny
    faded = 4 * n_keys * tiny / least if least > 0 else np.inf
    return total[:width], stages.attended(0, terms.parts, Weighing(n_keys, faded=faded))
