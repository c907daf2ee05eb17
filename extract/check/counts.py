"""What follows from counts: the statuses they allow, and sums of single answers, one per input and read position."""

from __future__ import annotations

from typing import Any

from extract.check.language import Ints

#: Counts of single answers; the last has one count per position.
CELLS = ("agree", "disagree", "undetermined")


def are_counts(*values: Any) -> bool:
    """Say whether all values are non-negative integers."""
    return all(type(value) is int and value >= 0 for value in values)


def statuses(agree: int, disagree: int, undecided: int) -> set[str]:
    """The statuses that follow from the numbers of inputs that agree, disagree and are undecided."""
    if disagree == 0:
        return {"undecided"} if undecided else {"proved"}
    if undecided:
        return {"refuted", "undecided"}
    return {"refuted", "proved_except"} if disagree * 100 <= agree + disagree else {"refuted"}


def cells_fit(cert: dict[str, Any], at: str, sizes: dict[int, int], n_offsets: int) -> bool:
    """Say whether counts of single answers are in no region, or complete in every one with the claim as their sum.

    Answers of inputs without a region are undetermined.
    """
    regions, claim = cert["regions"], cert["claim"].get("cells")
    stated = [r for r in regions if "cells" in r]
    if claim is None and not stated:
        return True
    fits, sums = at == "every" and len(stated) == len(regions) and not cert.get("boxes"), [0, 0]
    for r in stated:
        agree, disagree, tied = (r["cells"][name] for name in CELLS)
        fits = fits and are_counts(agree, disagree, *tied) and len(tied) == r["length"]
        fits = fits and agree + disagree + sum(tied) == (r["stop"] - r["start"]) * r["length"]
        sums = [sums[0] + agree, sums[1] + disagree]
    total = sum(length * size for length, size in sizes.items()) * n_offsets
    counts = (total, *sums, total - sum(sums))
    return fits and claim == dict(zip(("total", *CELLS), map(str, counts), strict=True))


def count_cells(model: Ints, program: Ints, sure: Any) -> dict[str, Any]:
    """Count the single answers of inputs. Shapes: [input, position]."""
    agree, disagree = ((model == program) & sure).sum(), ((model != program) & sure).sum()
    return dict(zip(CELLS, (int(agree), int(disagree), (~sure).sum(axis=0).tolist()), strict=True))
