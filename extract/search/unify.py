"""Joins terms that are right on some examples into a tree of if-then-else that is right on all of them.

Given which examples each term matches and where each condition holds, the terms are the leaves and the conditions the
splits of a small decision tree. It knows neither what the terms mean nor how the examples came about, and what it
returns fits the examples given: whether it fits others is for its caller to find out.

Source:  Alur, Radhakrishna, Udupa 2017, "Scaling Enumerative Program Synthesis via Divide and Conquer" (EUSolver),
         sections 3-4, for the reduction and the entropy; the exact step for one split and the beam are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.search.hashing import Words, first_occurrences, hash_weights, hash_words, to_words

Booleans = NDArray[np.bool_]
Costs = NDArray[np.signedinteger[Any]]

#: Splits tried per node that no single split solves, best first.
_BEAM = 4
_MOST_NODES = 400
_MOST_TERMS, _MOST_CONDITIONS = 256, 4096


@dataclass(frozen=True, slots=True)
class Leaf:
    """A term, by its row in the matches given."""

    term: int


@dataclass(frozen=True, slots=True)
class Split:
    """``then`` where a condition holds (by its row in the conditions given), ``otherwise`` elsewhere."""

    condition: int
    then: Tree
    otherwise: Tree


Tree = Leaf | Split


def decision_tree(
    matches: Booleans, conditions: Booleans, term_costs: Costs, condition_costs: Costs, *, most_splits: int = 7
) -> Tree | None:
    """Return a cheap tree that matches every example, or None if none was found.

    Shape:   matches [term, example], conditions [condition, example], costs [term] and [condition].
    The cost of a tree is the sum of its parts' costs, 1 per split. Trees with no split or one are found whenever they
    exist among the terms and conditions considered: those that are not matched by a term (condition) that is as cheap
    and at least as good, the first ``_MOST_TERMS`` and ``_MOST_CONDITIONS`` of them by cost. Deeper trees are sought
    along the splits of least entropy: None does not mean that there is none.
    Cost:    O(conditions * terms * examples / 64) per node, at most ``_MOST_NODES`` nodes.
    """
    if not matches.any(axis=0).all():
        return None
    terms = _useful_terms(matches, term_costs)
    splits = _distinct_conditions(conditions, condition_costs)
    search = _Search(
        matches[terms], conditions[splits], term_costs[terms].astype(np.int64), condition_costs[splits].astype(np.int64)
    )
    found = search.best(np.ones(matches.shape[1], dtype=np.bool_), most_splits)
    return None if found is None else _renumbered(found[1], terms, splits)


def tree_values(tree: Tree, values: NDArray[Any], conditions: Booleans) -> NDArray[Any]:
    """Return a tree's value on each example. Shape: values [term, example], conditions [condition, example]."""
    if isinstance(tree, Leaf):
        return np.asarray(values[tree.term])
    branches = (tree_values(branch, values, conditions) for branch in (tree.then, tree.otherwise))
    return np.where(conditions[tree.condition], *branches)


def leaves(tree: Tree) -> Iterator[int]:
    """Yield the terms of a tree from left to right."""
    if isinstance(tree, Leaf):
        yield tree.term
    else:
        yield from leaves(tree.then)
        yield from leaves(tree.otherwise)


class _Search:
    """Best trees for subsets of the examples, remembered by subset."""

    def __init__(self, matches: Booleans, conditions: Booleans, term_costs: Costs, condition_costs: Costs) -> None:
        self._matches, self._conditions = matches, conditions
        self._term_costs, self._condition_costs = term_costs, condition_costs
        self._missed = to_words(~matches)
        self._holds, self._fails = to_words(conditions), to_words(~conditions)
        self._known: dict[tuple[bytes, int], tuple[int, Tree] | None] = {}
        self._n_nodes = 0

    def best(self, subset: Booleans, most_splits: int) -> tuple[int, Tree] | None:
        """Return the cheapest tree found for a subset of the examples, with its cost."""
        key = (subset.tobytes(), most_splits)
        if key not in self._known:
            self._known[key] = self._seek(subset, most_splits)
        return self._known[key]

    def _seek(self, subset: Booleans, most_splits: int) -> tuple[int, Tree] | None:
        words = to_words(subset[None])[0]
        fitting = np.flatnonzero(~(self._missed & words).any(axis=1))
        if len(fitting):
            term = fitting[np.argmin(self._term_costs[fitting])]
            return int(self._term_costs[term]), Leaf(int(term))
        self._n_nodes += 1
        if most_splits < 1 or not len(self._conditions) or self._n_nodes > _MOST_NODES:
            return None
        yes, no = self._fitting(self._holds & words), self._fitting(self._fails & words)
        both = np.flatnonzero((yes >= 0) & (no >= 0))
        if len(both):
            costs = self._condition_costs[both] + self._term_costs[yes[both]] + self._term_costs[no[both]]
            c = int(both[np.argmin(costs)])
            return int(costs.min()) + 1, Split(c, Leaf(int(yes[c])), Leaf(int(no[c])))
        if most_splits < 2:
            return None
        candidates = [self._joined(c, subset, most_splits) for c in self._promising(subset, yes, no)]
        return min((f for f in candidates if f is not None), key=lambda found: found[0], default=None)

    def _joined(self, condition: int, subset: Booleans, most_splits: int) -> tuple[int, Tree] | None:
        holds = self._conditions[condition]
        # splits are shared out as they are used: first the side with fewer examples
        sides = sorted((False, True), key=lambda side: int((subset & (holds == side)).sum()))
        found: dict[bool, tuple[int, Tree]] = {}
        left = most_splits - 1
        for side in sides:
            part = self.best(subset & (holds == side), left)
            if part is None:
                return None
            found[side] = part
            left -= sum(1 for _ in leaves(part[1])) - 1
        cost = found[True][0] + found[False][0] + int(self._condition_costs[condition]) + 1
        return cost, Split(condition, found[True][1], found[False][1])

    def _fitting(self, parts: Words) -> NDArray[np.intp]:
        """Return for each part of the examples the cheapest term that matches it, -1 if none. Terms are by cost."""
        result = np.full(len(parts), -1, dtype=np.intp)
        todo = np.arange(len(parts))
        for term, missed in enumerate(self._missed):
            fits = ~(parts[todo] & missed).any(axis=1)
            result[todo[fits]] = term
            todo = todo[~fits]
            if not len(todo):
                break
        return result

    def _promising(self, subset: Booleans, yes: NDArray[np.intp], no: NDArray[np.intp]) -> list[int]:
        """Return the conditions to try: those of least expected entropy, a side that one term settles counting zero."""
        held = self._conditions & subset
        size = held.sum(axis=1)
        splits = np.flatnonzero((size > 0) & (size < subset.sum()))
        if not len(splits):
            return []
        held = held[splits]
        n_held = size[splits]
        n_failed = subset.sum() - n_held
        entropy = np.where(yes[splits] >= 0, 0.0, self._entropy(held)) * n_held
        entropy += np.where(no[splits] >= 0, 0.0, self._entropy(subset & ~held)) * n_failed
        order = np.lexsort((splits, self._condition_costs[splits], np.round(entropy, 9)))
        return [int(c) for c in splits[order[:_BEAM]]]

    def _entropy(self, parts: Booleans) -> NDArray[np.float64]:
        """Return the entropy of the leaf that an example of each part needs, larger terms being likelier."""
        weights = parts.astype(np.float64)
        matches = self._matches.astype(np.float64)
        cover = weights @ matches.T
        shares = weights / np.maximum(cover @ matches, 1.0)
        likely = cover * (shares @ matches.T) / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        return np.asarray(-(likely * np.log2(np.maximum(likely, 1e-300))).sum(axis=1))


def _useful_terms(matches: Booleans, costs: Costs) -> NDArray[np.intp]:
    """Return the terms worth a leaf, by cost: those that match something no cheaper term taken covers entirely."""
    order = np.argsort(costs, kind="stable")
    order = order[matches[order].any(axis=1)]
    words = to_words(matches[order])
    order = order[first_occurrences(hash_words(words, hash_weights(words.shape[1])))]
    words = to_words(matches[order])
    taken: list[int] = []
    kept = np.empty((min(_MOST_TERMS, len(order)), words.shape[1]), dtype=np.uint64)
    for i, row in enumerate(words):
        if len(taken) == len(kept):
            break
        if not (~(row & ~kept[: len(taken)]).any(axis=1)).any():
            kept[len(taken)] = row
            taken.append(i)
    return order[taken]


def _distinct_conditions(conditions: Booleans, costs: Costs) -> NDArray[np.intp]:
    """Return the cheapest condition of each way to split the examples; one that always holds or never does is none."""
    order = np.argsort(costs, kind="stable")
    order = order[conditions[order].any(axis=1) & ~conditions[order].all(axis=1)]
    if not len(order):
        return order
    chosen = conditions[order]
    words = to_words(chosen ^ chosen[:, :1])  # a condition and its negation split alike
    return order[first_occurrences(hash_words(words, hash_weights(words.shape[1])))][:_MOST_CONDITIONS]


def _renumbered(tree: Tree, terms: NDArray[np.intp], conditions: NDArray[np.intp]) -> Tree:
    if isinstance(tree, Leaf):
        return Leaf(int(terms[tree.term]))
    branches = (_renumbered(branch, terms, conditions) for branch in (tree.then, tree.otherwise))
    return Split(int(conditions[tree.condition]), *branches)
