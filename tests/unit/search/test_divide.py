"""Which terms get every probe of a part right, told from bits: the same as by looking."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from extract.search import divide
from extract.search.divide import bit_words, first_clear


@example(n_bits=64, n_rows=5, most=4, share=0.01, seed=0)
@example(n_bits=65, n_rows=0, most=4, share=0.5, seed=0)
@given(
    n_bits=st.integers(1, 200), n_rows=st.integers(0, 60), most=st.integers(1, 5),
    share=st.sampled_from((0.0, 0.01, 0.1, 0.5)), seed=st.integers(0, 1000),
)  # fmt: skip
def test_first_clear_rows(n_bits: int, n_rows: int, most: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, asked = rng.random((n_rows, n_bits)) < share, rng.random(n_bits) < 0.3
    expected = np.flatnonzero(~rows[:, asked].any(axis=1))[:most].tolist()
    before = divide._ROWS_PER_BLOCK
    for block in (7, before):
        divide._ROWS_PER_BLOCK = block
        try:
            assert first_clear(bit_words(rows), asked, most) == expected
        finally:
            divide._ROWS_PER_BLOCK = before
