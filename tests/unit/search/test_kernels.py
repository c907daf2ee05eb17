"""Kernels against plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from extract.search import kernels

_ROWS = hnp.arrays(np.int16, st.tuples(st.integers(1, 30), st.integers(1, 9)), elements=st.integers(-3, 3))


@given(_ROWS)
def test_hash_classes_are_row_classes(rows: np.ndarray) -> None:
    weights = kernels.hash_weights(rows.shape[1])
    hashes = kernels.hash_rows(rows, weights)
    for i in range(len(rows)):
        for j in range(i):
            assert (rows[i] == rows[j]).all() == (hashes[i] == hashes[j]).all()


@given(_ROWS)
def test_first_occurrences_are_the_first_of_each_class_in_order(rows: np.ndarray) -> None:
    hashes = kernels.hash_rows(rows, kernels.hash_weights(rows.shape[1]))
    seen: dict[bytes, int] = {}
    for i, row in enumerate(rows):
        seen.setdefault(row.tobytes(), i)
    assert kernels.first_occurrences(hashes).tolist() == sorted(seen.values())


@given(_ROWS)
def test_seen_hashes_contain_what_was_added_and_nothing_else(rows: np.ndarray) -> None:
    hashes = kernels.hash_rows(rows, kernels.hash_weights(rows.shape[1]))
    half = len(rows) // 2
    seen = kernels.SeenHashes()
    seen.add(hashes[:half][kernels.first_occurrences(hashes[:half])] if half else hashes[:0])
    known = {row.tobytes() for row in rows[:half]}
    assert seen.contains(hashes).tolist() == [row.tobytes() in known for row in rows]


@given(st.integers(0, 10_000))
def test_heads_equal_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_s, n_v, n, n_q, n_k = (int(x) for x in rng.integers(1, 5, size=5))
    selectors = rng.random((n_s, n, n_q, n_k)) < 0.4
    values = rng.integers(-5, 6, size=(n_v, n, n_k)).astype(np.int16)
    results = {
        "sum": kernels.sums(selectors, values),
        "first": kernels.picks(selectors, values, last=False, default=7),
        "last": kernels.picks(selectors, values, last=True, default=7),
        "min": kernels.extremes(selectors, values, largest=False, default=7),
        "max": kernels.extremes(selectors, values, largest=True, default=7),
    }
    for index in np.ndindex(n_s, n_v, n, n_q):
        s, v, i, q = index
        picked = [int(values[v, i, k]) for k in range(n_k) if selectors[s, i, q, k]]
        assert results["sum"][index] == sum(picked)
        assert results["first"][index] == (picked[0] if picked else 7)
        assert results["last"][index] == (picked[-1] if picked else 7)
        assert results["min"][index] == (min(picked) if picked else 7)
        assert results["max"][index] == (max(picked) if picked else 7)


@given(st.integers(0, 10_000))
def test_rank_is_stable(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_k = int(rng.integers(1, 7))
    length = int(rng.integers(0, n_k + 1))
    values = rng.integers(0, 3, size=(1, 1, n_k)).astype(np.int16)
    valid = np.arange(n_k)[None] < length
    order = sorted(range(length), key=lambda k: (values[0, 0, k], k))
    expected = [order.index(k) if k < length else 0 for k in range(n_k)]
    assert kernels.stable_rank(values, valid)[0, 0].tolist() == expected
