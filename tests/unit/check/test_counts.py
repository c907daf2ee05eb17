"""Statuses and sums of single answers follow from counts, and from nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from extract.check.counts import are_counts, cells_fit, count_cells, statuses

SIZES, N_OFFSETS = {1: 2, 3: 8}, 2
TOTAL = (1 * 2 + 3 * 8) * N_OFFSETS


def claimed() -> dict[str, Any]:
    """Three regions: all of length 1 at one offset, and two halves of length 3."""
    regions = [
        {"length": 1, "start": 0, "stop": 2, "cells": {"agree": 1, "disagree": 0, "undetermined": [1]}},
        {"length": 3, "start": 0, "stop": 4, "cells": {"agree": 7, "disagree": 2, "undetermined": [0, 1, 2]}},
        {"length": 3, "start": 4, "stop": 8, "cells": {"agree": 12, "disagree": 0, "undetermined": [0, 0, 0]}},
    ]
    cells = {"total": str(TOTAL), "agree": "20", "disagree": "2", "undetermined": str(TOTAL - 22)}
    return {"regions": regions, "claim": {"cells": cells}, "boxes": []}


def fits(cert: dict[str, Any], at: str = "every") -> bool:
    try:
        return cells_fit(cert, at, SIZES, N_OFFSETS)
    except (KeyError, TypeError, ValueError):
        return False


def edits() -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything that makes single answers not fit, sums made right again where that is not the edit."""

    def edited(change: Any) -> dict[str, Any]:
        cert = copy.deepcopy(claimed())
        change(cert)
        return cert

    first, last = "agree", "disagree"
    yield "a region without", edited(lambda c: c["regions"][0].pop("cells"))
    yield "no sum", edited(lambda c: c["claim"].pop("cells"))
    yield "boxes beside them", edited(lambda c: c.update(boxes=[{}]))
    yield "a sum of all but one", edited(lambda c: c["claim"]["cells"].update(agree="19"))
    yield "moved", edited(lambda c: c["claim"]["cells"].update(agree="19", disagree="3"))
    yield "another total", edited(lambda c: c["claim"]["cells"].update(total=str(TOTAL + 1)))
    yield "a sum that is a number", edited(lambda c: c["claim"]["cells"].update(disagree=2))
    yield "one more", edited(lambda c: c["regions"][1]["cells"].update(undetermined=[0, 1, 3]))
    yield "one less", edited(lambda c: c["regions"][1]["cells"].update(undetermined=[0, 1, 1]))
    yield "a position more", edited(lambda c: c["regions"][1]["cells"].update(undetermined=[0, 1, 2, 0]))
    yield "a position less", edited(lambda c: c["regions"][1]["cells"].update(undetermined=[1, 2]))
    yield "below nothing", edited(lambda c: c["regions"][1]["cells"].update(undetermined=[-1, 2, 2]))
    yield "a fraction", edited(lambda c: c["regions"][1]["cells"].update(undetermined=[0.0, 1, 2]))
    yield "true", edited(lambda c: c["regions"][1]["cells"].update(undetermined=[0, True, 2]))
    both = {first: -1, last: 3}
    yield "counts below nothing", edited(lambda c: (c["regions"][0]["cells"].update({**both, "undetermined": [0]}),
                                                    c["claim"]["cells"].update(agree="18", disagree="5")))  # fmt: skip


def test_single_answers_that_fit() -> None:
    assert fits(claimed())
    without = claimed()
    del without["claim"]["cells"]
    for region in without["regions"]:
        del region["cells"]
    assert fits(without) and fits(without, "last")


@pytest.mark.parametrize(("what", "cert"), list(edits()), ids=lambda value: value if isinstance(value, str) else "")
def test_single_answers_that_do_not_fit(what: str, cert: dict[str, Any]) -> None:
    assert not fits(cert)


@pytest.mark.parametrize("at", ("last", "first", "generate"))
def test_only_answers_at_every_position_are_single(at: str) -> None:
    assert not fits(claimed(), at)


def test_single_answers_are_counted() -> None:
    model, program = np.array([[1, 2], [1, 1], [3, 3]]), np.array([[1, 1], [2, 1], [3, 3]])
    sure = np.array([[True, True], [False, True], [True, False]])
    assert count_cells(model, program, sure) == {"agree": 3, "disagree": 1, "undetermined": [1, 1]}


def test_counts_are_whole_numbers() -> None:
    assert are_counts(0, 1, 10**30) and are_counts()
    for value in (-1, 1.0, True, "1", None, np.int64(1)):
        assert not are_counts(0, value)


def test_statuses() -> None:
    """A share of one in a hundred may be excepted, no more; what is open may still be either."""
    assert statuses(5, 0, 0) == {"proved"} and statuses(0, 0, 0) == {"proved"}
    assert statuses(5, 0, 1) == {"undecided"}
    assert statuses(99, 1, 0) == {"refuted", "proved_except"}
    assert statuses(98, 1, 0) == {"refuted"} and statuses(0, 1, 0) == {"refuted"}
    assert statuses(98, 1, 5) == statuses(990, 1, 5) == {"refuted", "undecided"}
