"""Tasks whose programs the virtual last level finds: clips, shifts, residues, tables of two terms, nested choices."""

from __future__ import annotations

import pytest

from extract.lang.syntax import print_program
from extract.outcome import Certified
from tests.quality.test_synthesis import Task, solve
from tests.unit.search.worlds import domain

DIGITS = domain("0123456789", lengths=(1, 3), at="every", numeric=True)
HISTOGRAM = domain("012345", lengths=(1, 5), at="every", numeric=True)
PAIRS = domain("01234567", lengths=(2, 2), numeric=True)
THREE = domain("0123456", lengths=(3, 3), numeric=True)


def bit(value: bool) -> int:
    return int(value)


TASKS = {
    "clip to 3..6": Task(DIGITS, lambda c: tuple(min(max(x, 3), 6) for x in c), 7),
    "caesar shift": Task(DIGITS, lambda c: tuple((x + 3) % 10 for x in c), 7),
    "divisible by 3": Task(DIGITS, lambda c: tuple(bit(x % 3 == 0) for x in c), 7),
    "affine": Task(HISTOGRAM, lambda c: tuple(5 - x for x in c), 4),
    "double histogram": Task(HISTOGRAM, lambda c: tuple(sum(c.count(y) == c.count(x) for y in c) for x in c), 5),
    "linear mod 5": Task(PAIRS, lambda c: ((2 * c[0] + c[1]) % 5,), 11),
    "distance": Task(PAIRS, lambda c: (abs(c[0] - c[1]),), 8),
    "product mod 7": Task(PAIRS, lambda c: (c[0] * c[1] % 7,), 9),
    "middle of three": Task(THREE, lambda c: (sorted(c)[1],), 7),
    "first if larger than last, else zero": Task(PAIRS, lambda c: (c[0] if c[0] > c[1] else 0,), 8),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_finds_a_short_program_that_is_right_on_the_whole_domain(name: str) -> None:
    task = TASKS[name]
    best = solve(task.world, task.function, n_candidates=100_000).candidates[0]
    assert isinstance(best.verdict, Certified), print_program(best.program)
    assert best.cost <= task.most_cost, print_program(best.program)
