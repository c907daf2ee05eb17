"""If-then-else over bank terms: branches that each give the goal on some cells, conditions that separate them.

A decision tree in the manner of EUSolver (Alur et al. 2017, section 4), but with every branch and condition tried at
once: one matrix product says how many cells each branch explains on each side of each condition. Conditions are the
bank's booleans and comparisons of two cheap bank integers, which need not be in the bank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.search.columns import MARGIN_BITS, Effort, Terms, packed, unique_rows
from extract.search.comparisons import compare
from extract.search.joins import Pair

Array = NDArray[Any]

_MOST_LEAVES = 192
_MOST_CONDITIONS = 4096
_MOST_COMPARED = 48
_BEAM = 4
_DEEPEST = 3


class Conditions(NamedTuple):
    """Distinct splits of the cells, cheapest first; ``source`` names a boolean's row or a pair of integers' rows.

    Shapes: ``bits`` [condition, cell], ``costs`` [condition]; ``table`` tells which ``Terms`` a pair's rows are in.
    """

    bits: NDArray[np.bool_]
    costs: NDArray[np.int64]
    source: list[int | tuple[int, Pair]]


class Leaves(NamedTuple):
    """Distinct sets of cells that a branch gets right, cheapest first. Shapes: ``bits`` [leaf, cell], others [leaf]."""

    bits: NDArray[np.bool_]
    costs: NDArray[np.int64]
    source: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Tree:
    """A decision: a leaf's row, or a condition's row with both branches. ``cost`` is the cost as a tree."""

    cost: int
    row: int
    then: Tree | None = None
    otherwise: Tree | None = None


def conditions_of(booleans: Terms, integers: list[Terms]) -> Conditions:
    """Collect the splits: bank booleans, and comparisons of the cheapest integers of each list."""
    bits = [booleans.values[: 4 * _MOST_CONDITIONS]]
    costs = [booleans.costs[: 4 * _MOST_CONDITIONS].astype(np.int64)]
    source: list[int | tuple[int, Pair]] = list(range(len(bits[0])))
    for number, terms in enumerate(integers):
        n = min(len(terms), _MOST_COMPARED)
        values = terms.values[:n]
        left, right = (part.ravel() for part in np.indices((n, n)))
        for name, chosen in (("eq", left < right), ("lt", left != right)):
            a, b = left[chosen], right[chosen]
            bits.append(compare(name, values[a], values[b]))
            added = terms.costs[a].astype(np.int64) + terms.costs[b] + 1
            costs.append(added)
            source += [(number, Pair(int(c), name, int(i), int(j))) for c, i, j in zip(added, a, b, strict=True)]
    every, cost = np.concatenate(bits), np.concatenate(costs)
    order = np.argsort(cost, kind="stable")
    order = order[every[order].any(axis=1) & ~every[order].all(axis=1)]
    # a condition and its negation split alike: the branches are swapped
    upright = every[order] ^ every[order][:, :1]
    order = order[unique_rows(packed(upright))][:_MOST_CONDITIONS]
    return Conditions(every[order], cost[order], [source[k] for k in order])


def leaves_of(matches: Array, costs: Array) -> Leaves:
    """Keep the branches that no cheaper one beats everywhere. Shape: matches [term, cell], costs [term]."""
    order = np.lexsort((-matches.sum(axis=1), costs))
    order = order[matches[order].any(axis=1)]
    order = order[unique_rows(packed(matches[order]))]
    if len(order) > 4 * _MOST_LEAVES:
        most = np.argsort(-matches[order].sum(axis=1), kind="stable")[: 4 * _MOST_LEAVES]
        order = order[np.sort(most)]
    rows = matches[order].astype(np.float32)
    shared = rows @ rows.T
    beaten = np.triu(shared == shared.diagonal()[None, :], k=1).any(axis=0)
    order = order[~beaten]
    if len(order) > _MOST_LEAVES:
        order = order[np.sort(np.argsort(-matches[order].sum(axis=1), kind="stable")[:_MOST_LEAVES])]
    return Leaves(matches[order], costs[order].astype(np.int64), order)


class Choice(NamedTuple):
    """Two leaves that give the goal on all cells together, and where only one of them does: what a condition must be.

    Shapes: ``cells`` [cell] says where the condition matters, ``wanted`` its value at those cells.
    """

    then: int
    otherwise: int
    cells: NDArray[np.bool_]
    wanted: NDArray[np.bool_]


def choices_of(leaves: Leaves, most: int) -> list[Choice]:
    """Return the cheapest pairs of leaves that leave no cell open and need each other, one order of each."""
    wrong = (~leaves.bits).astype(np.float32)
    together = np.triu((wrong @ wrong.T) == 0, k=1)
    left, right = np.nonzero(together)
    order = np.argsort(leaves.costs[left] + leaves.costs[right], kind="stable")[:most]
    found = []
    for a, b in zip(left[order].tolist(), right[order].tolist(), strict=True):
        cells = leaves.bits[a] ^ leaves.bits[b]
        found.append(Choice(a, b, cells, leaves.bits[a][cells]))
    return found


class Learner:
    """Finds cheap decision trees over fixed leaves and conditions.

    ``bits`` is what the goal has to tell beyond its best leaf: a tree of several conditions must not take more.
    """

    def __init__(self, leaves: Leaves, conditions: Conditions, effort: Effort, bits: float) -> None:
        self._leaves = leaves
        self._conditions = conditions
        self._effort = effort
        self._bits = bits
        self._leaf_cells = leaves.bits.astype(np.float32)
        self._condition_cells = conditions.bits.astype(np.float32)

    def trees(self) -> list[Tree]:
        """Return the cheapest tree of one condition, and of up to three conditions deep, where there are any."""
        n_cells = self._leaves.bits.shape[1]
        if not len(self._leaves.bits) or not len(self._conditions.bits) or not self._leaves.bits.any(axis=0).all():
            return []
        cells = np.ones(n_cells, dtype=np.bool_)
        for depth in range(1, _DEEPEST + 1):
            if self._needs(depth) > self._bits:
                return []  # so many trees are tried that one would fit by chance
            tree = self._best(cells, depth)
            if tree is not None:
                return [tree] if self._needs(_n_conditions(tree)) <= self._bits else []
        return []

    def _needs(self, n_conditions: int) -> float:
        """Return the bits that choose the conditions and leaves of a tree, and the margin unless it is a single one."""
        per_condition, per_leaf = (math.log2(len(part)) for part in (self._conditions.bits, self._leaves.bits))
        margin = MARGIN_BITS if n_conditions > 1 else 0.0
        return n_conditions * per_condition + (n_conditions + 1) * per_leaf + margin

    def _best(self, cells: NDArray[np.bool_], depth: int) -> Tree | None:
        alone = self._leaves.bits[:, cells].all(axis=1)
        if alone.any():
            row = int(alone.argmax())
            return Tree(int(self._leaves.costs[row]), row)
        n_leaves, n_conditions, n_cells = len(self._leaves.bits), len(self._conditions.bits), int(cells.sum())
        if depth == 0 or not self._effort.take(n_leaves * n_conditions * (1 + n_cells // 32)):
            return None
        leaf_cells = self._leaf_cells[:, cells]
        condition_cells = self._condition_cells[:, cells]
        on_true = condition_cells @ leaf_cells.T
        on_false = leaf_cells.sum(axis=1)[None, :] - on_true
        n_true = condition_cells.sum(axis=1)
        n_false = n_cells - n_true
        solved_true, solved_false = on_true == n_true[:, None], on_false == n_false[:, None]
        both = solved_true.any(axis=1) & solved_false.any(axis=1) & (n_true > 0) & (n_false > 0)
        if both.any():
            rows = np.flatnonzero(both)
            then, otherwise = solved_true[rows].argmax(axis=1), solved_false[rows].argmax(axis=1)
            leaf_costs = self._leaves.costs
            costs = 1 + self._conditions.costs[rows] + leaf_costs[then] + leaf_costs[otherwise]
            k = int(costs.argmin())
            left, right = int(then[k]), int(otherwise[k])
            return Tree(int(costs[k]), int(rows[k]), Tree(int(leaf_costs[left]), left),
                        Tree(int(leaf_costs[right]), right))  # fmt: skip
        if depth == 1:
            return None
        explained = on_true.max(axis=1) + on_false.max(axis=1)
        explained[(n_true == 0) | (n_false == 0)] = -1
        return self._split(cells, depth, np.argsort(-explained, kind="stable")[:_BEAM])

    def _split(self, cells: NDArray[np.bool_], depth: int, tried: NDArray[np.intp]) -> Tree | None:
        """Recurse into both sides of the most promising conditions; keep the cheapest tree."""
        best: Tree | None = None
        for row in tried:
            holds = self._conditions.bits[row]
            then = self._best(cells & holds, depth - 1)
            otherwise = self._best(cells & ~holds, depth - 1) if then is not None else None
            if then is None or otherwise is None:
                continue
            cost = 1 + int(self._conditions.costs[row]) + then.cost + otherwise.cost
            if best is None or cost < best.cost:
                best = Tree(cost, int(row), then, otherwise)
        return best


def _n_conditions(tree: Tree) -> int:
    if tree.then is None or tree.otherwise is None:
        return 0
    return 1 + _n_conditions(tree.then) + _n_conditions(tree.otherwise)
