"""Hashes and the hash table against dictionaries of bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from extract.search.hashing import HashTable, first_occurrences, from_words, hash_weights, hash_words, to_words

_SHAPES = st.tuples(st.integers(1, 30), st.integers(1, 70))
_ROWS = st.one_of(
    hnp.arrays(np.int16, _SHAPES, elements=st.integers(-2, 2)),
    hnp.arrays(np.int8, _SHAPES, elements=st.sampled_from([-128, 0, 127])),
    hnp.arrays(np.bool_, _SHAPES),
)


def hashes_of(rows: np.ndarray) -> np.ndarray:
    words = to_words(rows)
    return hash_words(words, hash_weights(words.shape[1]))


@given(_ROWS)
def test_words_unpack_to_the_rows_packed(rows: np.ndarray) -> None:
    assert (from_words(to_words(rows), rows.dtype, rows.shape[1]) == rows).all()


@given(_ROWS)
def test_hash_classes_are_row_classes(rows: np.ndarray) -> None:
    hashes = hashes_of(rows)
    assert (hashes[:, 1] % 2 == 1).all()
    same_rows = (rows[:, None] == rows[None]).all(axis=2)
    same_hashes = (hashes[:, None] == hashes[None]).all(axis=2)
    assert (same_rows == same_hashes).all()


@given(_ROWS)
def test_first_occurrences_are_the_first_of_each_class_in_order(rows: np.ndarray) -> None:
    seen: dict[bytes, int] = {}
    for i, row in enumerate(rows):
        seen.setdefault(row.tobytes(), i)
    assert first_occurrences(hashes_of(rows)).tolist() == sorted(seen.values())


@given(_ROWS, st.lists(st.integers(0, 30), max_size=4))
def test_a_table_fed_in_batches_numbers_classes_like_a_dictionary(rows: np.ndarray, cuts: list[int]) -> None:
    hashes = hashes_of(rows)
    table, known = HashTable(), dict[bytes, int]()
    for batch in np.split(np.arange(len(rows)), sorted(cuts)):
        fresh = []
        for position, i in enumerate(batch):
            if rows[i].tobytes() not in known:
                known[rows[i].tobytes()] = len(known)
                fresh.append(position)
        assert table.add(hashes[batch]).tolist() == fresh
        assert len(table) == len(known)
    assert table.find(hashes).tolist() == [known[row.tobytes()] for row in rows]


@given(st.integers(0, 1000))
def test_hashes_that_share_a_half_or_a_slot_stay_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # few distinct halves, all in the same slots, so that chains are long and the table has to grow
    hashes = rng.integers(0, 6, size=(3000, 2), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    table, known = HashTable(), dict[bytes, int]()
    for start in range(0, 3000, 500):
        fresh = []
        for position, row in enumerate(hashes[start : start + 500]):
            if row.tobytes() not in known:
                known[row.tobytes()] = len(known)
                fresh.append(position)
        assert table.add(hashes[start : start + 500]).tolist() == fresh
    assert table.find(hashes).tolist() == [known[row.tobytes()] for row in hashes]
    assert (table.find(hashes + np.uint64(64)) == -1).all()


def test_a_table_survives_growing() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 1 << 62, size=(20_000, 2), dtype=np.uint64) | np.uint64(1)
    table = HashTable()
    for start in range(0, len(hashes), 777):
        table.add(hashes[start : start + 777])
    assert (table.find(hashes) == np.arange(len(hashes))).all()
    assert len(table.add(hashes)) == 0
