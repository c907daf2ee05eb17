"""Bounds end where they have cost what deciding a length without them would."""

from __future__ import annotations

import pytest

from extract.progress import Silent
from extract.verify.climb import BoxClimber, Climb
from tests.soundness.test_box_bounds import drawn_case
from tests.unit.verify.enumeration_cases import BruteOracle

LENGTH = 12
#: Drawn networks whose architecture bounds are for.
SEEDS = (2, 3, 18, 20, 22, 26)


def climbed(seed: int, worth: int | None) -> Climb:
    network, domain, program, _ = drawn_case(seed, LENGTH)
    climber = BoxClimber(
        network, domain, BruteOracle(network, domain), "real", work_limit=10**12, progress=Silent(),
        stop=lambda: False, worth=lambda length: worth if length == LENGTH else None,
    )  # fmt: skip
    return climber.climb(program, [(LENGTH, 0)])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_length_gets_no_more_boxes_than_it_is_worth(seed: int) -> None:
    free, held = climbed(seed, None), climbed(seed, 0)
    assert held.tally.undecided > free.tally.undecided == 0
    assert held.tally.total == free.tally.total
    assert climbed(seed, 10**12) == free
