"""Trees of if-then-else against their definition, and against trees that are known to exist."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.search.unify import Leaf, Split, Tree, decision_tree, leaves, tree_values


def built(rng: np.random.Generator, n_splits: int, n_terms: int, n_conditions: int) -> Tree:
    if not n_splits:
        return Leaf(int(rng.integers(n_terms)))
    left = int(rng.integers(n_splits))
    parts = (built(rng, k, n_terms, n_conditions) for k in (left, n_splits - 1 - left))
    return Split(int(rng.integers(n_conditions)), *parts)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_what_is_found_matches_every_example(seed: int, n_splits: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, size=(12, 20))
    conditions = rng.random((15, 20)) < 0.5
    target = tree_values(built(rng, n_splits, 12, 15), values, conditions)
    tree = decision_tree(values == target, conditions, np.arange(12) // 4, np.arange(15) // 5)
    if n_splits < 2:
        assert tree is not None  # trees with one split are found whenever they exist
    if tree is not None:
        assert (tree_values(tree, values, conditions) == target).all()
        assert sum(1 for _ in leaves(tree)) <= 8


def test_maximum_of_four_needs_nested_splits() -> None:
    values = np.random.default_rng(0).integers(-9, 10, size=(4, 32))
    pairs = [(i, j) for i in range(4) for j in range(4) if i < j]
    conditions = np.stack([values[i] <= values[j] for i, j in pairs])
    tree = decision_tree(values == values.max(axis=0), conditions, np.ones(4, int), np.ones(6, int))
    assert tree is not None
    assert (tree_values(tree, values, conditions) == values.max(axis=0)).all()


def test_an_example_that_no_term_matches_has_no_tree() -> None:
    matches = np.array([[True, False, False], [False, True, False]])
    assert decision_tree(matches, ~matches, np.ones(2, int), np.ones(2, int)) is None


def test_of_equal_trees_the_cheapest_is_taken() -> None:
    matches = np.array([[True, True], [True, True]])
    assert decision_tree(matches, matches[:0], np.array([3, 2]), np.zeros(0, int)) == Leaf(1)
