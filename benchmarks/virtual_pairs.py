"""How many exact virtual pairs per second the last level decides: sums, order, equality, tables of two, heads.

``python benchmarks/virtual_pairs.py [terms]`` prints processor seconds and pairs per second of one core, for random
terms of 256 cells with one planted pair that every operator must find. Pairs are those decided, not those looked at.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from extract.search.columns import Cells, Effort, Terms
from extract.search.comparisons import lanes, scan_lanes
from extract.search.dependencies import Dependencies
from extract.search.head_tests import Bilinear, survivors
from extract.search.joins import linear_hashes, merged_sorted, sum_pairs

_CELLS = 256
_UNLIMITED = 1 << 60


def _timed(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Return the least processor time of a few runs, and what the last one gave."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def _terms(n: int, high: int, seed: int) -> Terms:
    values = np.random.default_rng(seed).integers(0, high, size=(n, _CELLS)).astype(np.int16)
    return Terms(values, np.arange(n, dtype=np.int32), np.ones(n, dtype=np.int32), 0)


def _line(name: str, seconds: float, n_pairs: float, found: bool) -> None:
    rate = n_pairs / max(seconds, 1e-9)
    print(f"{name:34s} {seconds:8.3f} s  {n_pairs:10.3g} pairs  {rate:10.3g} pairs/s  {'found' if found else 'MISSED'}")


def _sums(n: int) -> None:
    terms = _terms(n, 100, 1)
    target = terms.values[5].astype(np.int64) + terms.values[n - 7]
    seconds, found = _timed(lambda: list(sum_pairs(terms, target, Effort(_UNLIMITED))))
    _line("a + b, a - b (hash, sort, merge)", seconds, 3.0 * n * n, any({p.left, p.right} == {5, n - 7} for p in found))
    big = 1_000_000
    hashes = np.sort(np.random.default_rng(2).integers(0, 1 << 63, size=big).astype(np.uint64))
    needles = hashes[::-1] + np.uint64(1)
    needles[17] = hashes[4]
    order = np.arange(big)
    seconds, found = _timed(lambda: merged_sorted(needles, hashes, order))
    _line("merge of 1e6 with 1e6 sorted", seconds, float(big) ** 2, 17 in found[0])


def _orders(n: int) -> None:
    terms = _terms(n, 100, 3)
    target = terms.values[5] < terms.values[n - 7]
    first, second = lanes("lt", terms.values, target)

    def scan() -> bool:
        rows, columns = scan_lanes(first, second)
        exact = (terms.values[rows] < terms.values[columns]) == target
        return (5, n - 7) in zip(*(k[exact.all(axis=1)].tolist() for k in (rows, columns)), strict=True)

    seconds, found = _timed(scan)
    _line("a < b (eight cells per word)", seconds, float(n) * n, found)


def _equalities(n: int) -> None:
    terms = _terms(n, 3, 4)
    terms.values[n - 7, :128] = terms.values[5, :128]
    target = terms.values[5] == terms.values[n - 7]

    def join() -> bool:
        hashes = linear_hashes(terms.values[:, target])
        order = np.argsort(hashes)
        same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
        return {5, n - 7} in [{int(order[k]), int(order[k + 1])} for k in same]

    seconds, found = _timed(join)
    _line("a == b (group by hash)", seconds, float(n) * n / 2, found)


def _tables(n: int) -> None:
    terms = _terms(n, 4, 5)
    codes = ((terms.values[5] * 3 + terms.values[n - 7]) % 5).astype(np.int32)
    index = np.arange(_CELLS)
    cells = Cells(index, np.zeros_like(index), codes, codes)
    seconds, found = _timed(lambda: Dependencies(terms, cells, Effort(_UNLIMITED)).double(8))
    _line("table2(a, b) (conflict words)", seconds, float(n) * n / 2, any(set(d.rows) == {5, n - 7} for d in found))


def _heads(n: int) -> None:
    rng = np.random.default_rng(6)
    n_probes, n_keys = 12, 8
    left = (rng.random((n, n_probes * n_keys)) < 0.4).astype(np.float32)
    weights = np.repeat(rng.integers(1, 16, size=n_probes), n_keys).astype(np.float32)
    right = rng.integers(0, 10, size=(n, n_probes * n_keys)).astype(np.float32)
    wanted = float((left[5] * weights) @ right[n - 7])
    test = Bilinear(left * weights, right, np.full(n, wanted, dtype=np.float32))

    def decide() -> bool:
        found = False
        for s, v in survivors(test, (0, 0), Effort(_UNLIMITED)):
            exact = np.ones(len(s), dtype=np.bool_)
            for probe in range(n_probes):
                part = slice(probe * n_keys, (probe + 1) * n_keys)
                wanted_here = left[5, part] @ right[n - 7, part]
                alive = np.flatnonzero(exact)
                exact[alive] = (left[s[alive], part] * right[v[alive], part]).sum(axis=1) == wanted_here
            found |= bool(((s == 5) & (v == n - 7) & exact).any())
        return found

    seconds, found = _timed(decide)
    _line("sum_over(s, v) (matrix product)", seconds, float(n) * n, found)


def main() -> None:
    """Print one line per operator."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    print(f"{n} terms, {_CELLS} cells, one core, processor time")
    for part in (_sums, _orders, _equalities, _tables, _heads):
        part(n)


if __name__ == "__main__":
    main()
