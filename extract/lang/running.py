"""Batched meanings of what reads an input from the left, sorts it or summarises it: loops over positions, never inputs.

Arrays are [input, position] int32 with a boolean ``mask`` of the cells that exist. It knows no terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.elementwise import constant_code, table_codes
from extract.lang.terms import Datum
from extract.vocabulary import Vocabulary

Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]

_LARGEST = np.int32(np.iinfo(np.int32).max)
_WIDEST_LOOKUP = 1 << 16


def rank(values: Ints, mask: Bools) -> Ints:
    """Return the stable rank of each value by (value, index)."""
    order = np.argsort(np.where(mask, values, _LARGEST), axis=1, kind="stable")
    ranks = np.empty(values.shape, dtype=np.int32)
    index = np.broadcast_to(np.arange(values.shape[1], dtype=np.int32), values.shape)
    np.put_along_axis(ranks, order, index, axis=1)
    return ranks


def shift(values: Ints, k: int, default: Ints, lengths: Ints) -> Ints:
    """Return the values k places to the left, the default where there is none."""
    width = values.shape[1]
    source = np.arange(width) - k
    inside = (source >= 0)[None, :] & (source[None, :] < lengths[:, None])
    moved = values[:, np.clip(source, 0, width - 1)]
    return np.where(inside, moved, default)


def scan(values: Ints, data: tuple[Datum, ...], vocabulary: Vocabulary) -> Ints:
    """Return the automaton's state after each position."""
    start, letters, transitions = data
    assert isinstance(letters, tuple) and isinstance(transitions, tuple)
    columns = {constant_code(letter, vocabulary): j for j, letter in enumerate(letters)}
    stay = np.arange(len(transitions), dtype=np.int32)[:, None]
    listed = np.array(transitions, dtype=np.int32).reshape(len(transitions), len(letters))
    steps = np.concatenate([listed, stay], axis=1)
    read = lookup(values, columns, len(letters))
    state = np.full(len(values), start, dtype=np.int32)
    states = np.empty(values.shape, dtype=np.int32)
    for position in range(values.shape[1]):
        state = steps[state, read[:, position]]
        states[:, position] = state
    return states


def horner(values: Ints, a: int, m: int) -> Ints:
    """Return r = a*r + value from the left, modulo m unless m is 0."""
    r = np.zeros(len(values), dtype=np.int64)
    remainders = np.empty(values.shape, dtype=np.int32)
    for position in range(values.shape[1]):
        r = a * r + values[:, position]
        if m:
            r %= m
        remainders[:, position] = r
    return remainders


def lookup(values: Ints, listed: dict[int, int], default: int) -> Ints:
    """Return the listed value of each cell, the default where it is not listed."""
    if not listed:
        return np.full(values.shape, default, dtype=np.int32)
    keys = np.array(sorted(listed), dtype=np.int64)
    found = np.array([listed[int(key)] for key in keys], dtype=np.int32)
    low, span = int(keys[0]), int(keys[-1] - keys[0]) + 1
    if span <= _WIDEST_LOOKUP:
        slots = np.full(span + 1, default, dtype=np.int32)
        slots[keys - low] = found
        index = values.astype(np.int64) - low
        return slots[np.where((index >= 0) & (index < span), index, span)]
    place = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    return np.where(keys[place] == values, found[place], np.int32(default))


def lookup_pair(left: Ints, right: Ints, listed: dict[tuple[int, int], int], default: int) -> Ints:
    """Return the listed value of each pair of cells, the default where it is not listed."""
    rows = {key: i for i, key in enumerate(sorted({a for a, _ in listed}))}
    columns = {key: j for j, key in enumerate(sorted({b for _, b in listed}))}
    grid = np.full((len(rows) + 1, len(columns) + 1), default, dtype=np.int32)
    for (a, b), value in listed.items():
        grid[rows[a], columns[b]] = value
    return grid[lookup(left, rows, len(rows)), lookup(right, columns, len(columns))]


def look_up(name: str, arguments: list[Ints], data: tuple[Datum, ...], vocabulary: Vocabulary) -> Ints:
    """Return the cells of ``table`` or ``table2``."""
    listed: dict[Any, int] = table_codes(data[0], vocabulary)
    default = constant_code(data[1], vocabulary)
    if name == "table":
        return lookup(arguments[0], listed, default)
    return lookup_pair(arguments[0], arguments[1], listed, default)


def _has_repeat(values: NDArray[Any], mask: Bools) -> Bools:
    ordered = np.sort(np.where(mask, values, np.iinfo(values.dtype).max), axis=1)
    n_valid = mask.sum(axis=1)[:, None]
    inside = np.arange(1, values.shape[1])[None, :] < n_valid
    return np.asarray(((ordered[:, 1:] == ordered[:, :-1]) & inside).any(axis=1))


def _has_unique_mode(values: Ints, mask: Bools) -> Bools:
    ordered = np.sort(np.where(mask, values, _LARGEST), axis=1)
    n_valid = mask.sum(axis=1)[:, None]
    index = np.arange(values.shape[1])[None, :]
    fresh = np.ones(values.shape, dtype=np.bool_)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    run_start = np.maximum.accumulate(np.where(fresh, index, 0), axis=1)
    run_length = np.where(index < n_valid, index - run_start + 1, 0)
    longest = run_length.max(axis=1, keepdims=True, initial=0)
    return np.asarray(((run_length == longest) & (run_length > 0)).sum(axis=1) == 1)


def summary(name: str, values: NDArray[Any], mask: Bools) -> NDArray[Any]:
    """Return count, all, any or a promise word of each input. Shape: [input, 1]."""
    if name == "count":
        return np.asarray((values & mask).sum(axis=1, dtype=np.int32, keepdims=True))
    if name == "all":
        return np.asarray((values | ~mask).all(axis=1, keepdims=True))
    if name == "any":
        return np.asarray((values & mask).any(axis=1, keepdims=True))
    if name == "distinct":
        return ~_has_repeat(values, mask)[:, None]
    if name == "unique_mode":
        return _has_unique_mode(values, mask)[:, None]
    both = mask[:, 1:] & mask[:, :-1]
    if name == "increasing":
        return np.asarray(((values[:, 1:] > values[:, :-1]) | ~both).all(axis=1, keepdims=True))
    pairs = (values[:, :-1].astype(np.int64) << 32) + values[:, 1:]
    return ~_has_repeat(pairs, both)[:, None]
