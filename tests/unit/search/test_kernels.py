"""Kernels against plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from extract.search import kernels


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
