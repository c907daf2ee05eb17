"""Cells of whole-number counters against lists of strings: which strings each has, how many, and their largest sums."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.verify.counters import MAX_SUM, Cut, counter, divided, largest, sizes
from tests.unit.verify.test_paths import CASES, Word, case, words_of

KEPT = {shape: case(*shape) for shape in CASES}


@settings(max_examples=60, deadline=None)
@given(shape=st.sampled_from(CASES), top=st.sampled_from((1, 3, 1000, MAX_SUM // 8)), seed=st.integers(0, 999))
def test_cells_are_the_strings_of_one_label_and_sum(shape: tuple[int, int, int], top: int, seed: int) -> None:
    (paths, said), rng = KEPT[shape], np.random.default_rng(seed)
    weights = rng.integers(0, top, (paths.length, paths.n_letters))
    ranks = {label: rank for rank, label in enumerate(sorted(set(said.values())))}

    def cell_of(word: Word) -> tuple[int, int]:
        return ranks[said[word]], int(weights[np.arange(len(word)), list(word)].sum())

    found = divided(paths, weights)
    assert found is not None
    made, cells = found
    expected = Counter(map(cell_of, said))
    places = {cell: place for place, cell in enumerate(sorted(expected))}
    assert [tuple(cell) for cell in cells.tolist()] == list(places)
    assert sizes(made) == [expected[cell] for cell in places]
    assert words_of(made) == sorted(said)
    cut = Cut(np.ones(1), weights, cells, rng.integers(-1, 2, len(cells)))
    terms, fixed = rng.normal(size=(paths.length, paths.n_letters, 2)), rng.normal(size=2)
    tops = np.full((len(cells), 2), -np.inf)
    for word in said:
        cell = places[cell_of(word)]
        assert made.label_of(word) == cell
        side = int(cut.sides[cell])
        assert cut.side_of(ranks[said[word]], word) == (side, int((cut.sides[:cell] == side).sum()))
        tops[cell] = np.maximum(tops[cell], terms[np.arange(len(word)), list(word)].sum(axis=0) + fixed)
    claimed = largest(made, terms, fixed)
    assert (claimed >= tops).all() and np.allclose(claimed, tops, atol=1e-11)
    parts = cut.apply(paths)
    assert [side for side, _ in parts] == sorted(set(cut.sides.tolist()))
    for side, part in parts:
        own = sorted(word for word in said if cut.sides[places[cell_of(word)]] == side)
        assert words_of(part) == own


@pytest.mark.parametrize("weight", (-1, MAX_SUM))
def test_weights_that_no_cell_could_hold_are_refused(weight: int) -> None:
    paths, _ = KEPT[2, 5, 2]
    weights = np.ones((5, 2), np.int64)
    weights[2, 1] = weight
    with pytest.raises(ValueError, match="negative or too large"):
        divided(paths, weights)


def test_more_states_than_allowed_are_none() -> None:
    paths, _ = KEPT[2, 5, 2]
    weights = np.array([[0, 1 << p] for p in range(5)])
    n_states = 1 + sum(len(set(word[: p + 1] for word in words_of(paths))) for p in range(5))
    assert divided(paths, weights, n_states) is not None
    assert divided(paths, weights, n_states - 1) is None


@settings(max_examples=30, deadline=None)
@given(shape=st.sampled_from(CASES), seed=st.integers(0, 999))
def test_counters_are_whole_and_as_fine_as_allowed(shape: tuple[int, int, int], seed: int) -> None:
    (paths, _), rng = KEPT[shape], np.random.default_rng(seed)
    terms = rng.normal(size=(paths.length, paths.n_letters))
    coarse, fine = (counter(paths, terms, n) for n in (20, 20_000))
    for weights in (coarse, fine):
        assert weights.dtype == np.int64 and (weights >= 0).all()
    assert fine.sum() >= coarse.sum()
    assert not counter(paths, np.zeros_like(terms), 20).any()
