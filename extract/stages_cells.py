"""Single answers of a claim that leaves some undetermined: how many agree and differ, and where the others are.

A Tracr program leaves some positions undefined, and the compiled model has tied logits there: no such input is decided,
yet every other answer of it is. Nothing is decided here, only counted and put in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from extract.certificate_file import cell_counts
from extract.domain import Domain
from extract.outcome import CellTally, Certificate
from extract.report.report import Cells, PositionPart, count

_MOST_NAMED = 4
_COUNTS = ("total", "agree", "disagree", "undetermined")


def cells_part(domain: Domain, certificate: Certificate | None) -> Cells | None:
    """Return the counts of single answers; None where all inputs are decided, or single answers were not counted."""
    if certificate is None or certificate.tally.agree + certificate.tally.disagree == domain.size:
        return None
    if domain.readout.at != "every":
        tally = certificate.tally
        left = count(domain.size - tally.agree - tally.disagree)
        return Cells(count(domain.size), count(tally.agree), count(tally.disagree), left, (), None)
    counts = cell_counts(certificate, domain)
    if counts is None:
        return None
    counted = [(region.length, region.cells) for region in certificate.regions if region.cells is not None]
    total, agree, disagree, undetermined = (count(counts[name]) for name in _COUNTS)
    return Cells(total, agree, disagree, undetermined, _positions(domain, counted), _where(domain, counted))


Counted = list[tuple[int, CellTally]]


def _positions(domain: Domain, counted: Counted) -> tuple[PositionPart, ...]:
    there, undetermined = _by_place(domain, counted, lambda _, position: position)
    return tuple(PositionPart(p, count(there[p]), count(undetermined[p])) for p in sorted(there) if undetermined[p])


def _by_place(domain: Domain, counted: Counted, place: Callable[[int, int], int]) -> tuple[Counter[int], Counter[int]]:
    """Return how many answers are at each place, a function of length and position, and how many are undetermined."""
    there: Counter[int] = Counter()
    determined: Counter[int] = Counter()
    for length in domain.lengths:
        for position in range(length):
            there[place(length, position)] += domain.size_at(length) * len(domain.offsets)
    for length, cells in counted:
        n_inputs = (cells.agree + cells.disagree + sum(cells.undetermined)) // length if length else 0
        for position, n in enumerate(cells.undetermined):
            determined[place(length, position)] += n_inputs - n
    return there, there - determined


def _where(domain: Domain, counted: Counted) -> str | None:
    """Say which answers are undetermined if they are those at some positions of every input, from either end."""
    for place in (_from_start, _from_end):
        there, undetermined = _by_place(domain, counted, place)
        places = sorted(p for p in there if undetermined[p])
        if places and len(places) <= _MOST_NAMED and all(undetermined[p] == there[p] for p in places):
            return f"{_named(places)} of every input"
    return None


def _named(places: list[int]) -> str:
    """Return positions in words; those counted from the end, below 0, are the last so many or named one by one."""
    if places == list(range(-len(places), 0)):
        return "the last position" if len(places) == 1 else f"the last {len(places)} positions"
    plural = "s" if len(places) > 1 else ""
    return f"position{plural} {', '.join(map(str, places))}{' from the end' if places[0] < 0 else ''}"


def _from_start(_: int, position: int) -> int:
    return position


def _from_end(length: int, position: int) -> int:
    return position - length
