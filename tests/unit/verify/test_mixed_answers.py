"""Answers that are tokens at some positions and numbers at others have no order to be read in: refused by name."""

from __future__ import annotations

import pytest

from extract.lang.program_graph import read_pair
from extract.lang.registers import Refused
from extract.verify.reading import ReadTogether, read_together
from tests.unit.search.worlds import domain
from tests.unit.verify.test_programs import parsed

WORLD = domain("01", lengths=(1, 6), at="every")
LEFT = parsed("output = '0' if indices < 1 else last(before, indices)", "every")
RIGHT = parsed("output = last(before, indices) if exists(before) else '0'", "every")


def test_they_are_not_read_from_the_left() -> None:
    assert read_together(LEFT, RIGHT, WORLD, (1, 2, 3)) == ReadTogether(None, ())
    with pytest.raises(Refused, match="tokens and numbers"):
        read_pair(LEFT, RIGHT, WORLD, 3)
