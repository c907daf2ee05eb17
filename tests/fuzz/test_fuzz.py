"""200,000 mutations of good files and texts: every reader takes or refuses each, soon and without eating memory.

The same mutations every time: a failure names its number, and ``mutated(...)`` makes it again. Longer and
coverage-guided runs: ``fuzz_atheris.py`` (see tests/README.md).
"""

from __future__ import annotations

import sys
import time

import pytest

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import EXTREMES, TARGETS, WORDS

N_MUTATIONS = 200_000
LONGEST_SECONDS = 2.0
LARGEST_GROWTH_BYTES = 1 << 30


def test_there_are_enough() -> None:
    assert sum(target.n_mutations for target in TARGETS.values()) >= N_MUTATIONS


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_good(name: str) -> None:
    target = TARGETS[name]
    taken = [target.run(seed) for seed in target.seeds]
    # an archive of unknown names is read in full and then refused: it is of no format
    assert all(taken) or target.read.__name__ == "weights"


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str) -> None:
    target, before, slowest, n_taken = TARGETS[name], memory(), (0.0, 0), 0
    for number in range(target.n_mutations):
        data = mutated(target.seeds, WORDS, EXTREMES, number)
        start = time.perf_counter()
        try:
            n_taken += target.run(data)
        except Exception as error:
            raise AssertionError(f"{name}: mutation {number} ended in {type(error).__name__}") from error
        slowest = max(slowest, (time.perf_counter() - start, number))
    assert slowest[0] < LONGEST_SECONDS, f"{name}: mutation {slowest[1]} took {slowest[0]:.1f} s"
    assert memory() - before < LARGEST_GROWTH_BYTES


def memory() -> int:
    """The largest memory this process has had so far, in bytes; 0 where it is not counted so."""
    if sys.platform != "linux":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
