"""Speed of the search's inner loops in CPU seconds of one core: distinct programs and candidates.

A distinct program is a term whose values on 256 probe cells no cheaper term has: operator, 128-bit hash, merging and
provenance are all in the figure, as are the candidates that were merged. The grammar has ten variables, the constants
0 and 1, and up to three of the operators named in each row; the last level keeps hashes and provenance, not values,
since nothing is built on it. A rate is the best of the repetitions; ``virtual_pairs.py`` has the last level that is
never built. Nothing here is imported by the tool.

    python benchmarks/synthesis_rates.py
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.bitvectors import BITVECTORS, Binary, Terms

N_CELLS = 256
REPETITIONS = 5

ARITHMETIC = (
    Binary("+", np.add),
    Binary("-", np.subtract, commutes=False),
    Binary("min", np.minimum),
    Binary("max", np.maximum),
)


def grown(operators: tuple[Binary, ...], dtype: type[Any], n_variables: int, levels: int) -> Terms:
    """Exhaust a grammar on 256 cells."""
    rng = np.random.default_rng(0)
    variables = rng.integers(0, 8, size=(n_variables, N_CELLS)).astype(dtype)
    constants = {str(c): np.full(N_CELLS, c, dtype=dtype) for c in (0, 1)}
    names = (f"v{i}" for i in range(n_variables))
    terms = Terms({**dict(zip(names, variables, strict=True)), **constants}, operators)
    for level in range(1, levels + 1):
        terms.grow(level, keep=level < levels)
    return terms


def cpu_seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the least CPU seconds of the repetitions and the last result."""
    seconds = []
    for _ in range(REPETITIONS):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def program_rates() -> None:
    """Print distinct programs and candidates per second."""
    print("grammar on 256 cells             candidates  distinct  CPU s  M candidates/s  M distinct/s  MB")
    rows = (
        ("+ - min max, 8-bit cells", ARITHMETIC, np.int8, 10, 3),
        ("+ - min max, 16-bit cells", ARITHMETIC, np.int16, 10, 3),
        ("+ - & | ^, 8-bit cells", BITVECTORS, np.uint8, 10, 3),
    )
    for name, operators, dtype, n_variables, levels in rows:
        seconds, terms = cpu_seconds(lambda o=operators, d=dtype, n=n_variables, k=levels: grown(o, d, n, k))
        megabytes = (terms.classes.memory_bytes + terms.provenance.memory_bytes) >> 20
        print(
            f"{name:31}  {terms.n_candidates:10d}  {terms.classes.n:8d}  {seconds:5.2f}"
            f"  {terms.n_candidates / seconds / 1e6:14.2f}  {terms.classes.n / seconds / 1e6:12.2f}  {megabytes:2d}",
            flush=True,
        )


def main() -> int:
    """Print the rates."""
    program_rates()
    return 0


if __name__ == "__main__":
    sys.exit(main())
