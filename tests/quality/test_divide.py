"""Models that do one thing on some inputs and another on the rest are found by splitting the domain."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from extract.domain import Domain
from extract.lang.syntax import print_program
from extract.outcome import Certified
from tests.quality.test_synthesis import solve
from tests.unit.search.worlds import domain

LETTERS = domain("abc", lengths=(1, 6), at="every")
NUMBERS = domain("0123", lengths=(2, 5), numeric=True)

TASKS: dict[str, tuple[Domain, Callable[[tuple[int, ...]], tuple[int, ...]]]] = {
    "sorted where the length is odd, reversed elsewhere": (
        LETTERS, lambda c: tuple(sorted(c)) if len(c) % 2 else c[::-1],
    ),
    "by the first token": (NUMBERS, lambda c: (max(c) if c[0] == 3 else c.count(c[-1]),)),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_division_of_the_domain_is_found(name: str) -> None:
    world, function = TASKS[name]
    best = solve(world, function).candidates[0]
    assert isinstance(best.verdict, Certified), print_program(best.program)
    assert any(term.operator == "if" for term in best.program.terms())
