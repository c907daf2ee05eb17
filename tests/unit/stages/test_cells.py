"""Single answers by position: sums that add up, and words about positions that are said only where they are exact."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from extract.domain import Domain, build_domain
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.outcome import CellTally, Certificate, Region, Tally
from extract.report.report import number
from extract.spec import parse_spec
from extract.stages_cells import cells_part

SPEC = {
    "version": 1,
    "name": "t",
    "tokens": {"vocab": ["a", "b"]},
    "domain": {"min_length": 1, "max_length": 4},
    "readout": {"at": "every", "outputs": ["a", "b"]},
}


def domain() -> Domain:
    return build_domain(parse_spec(json.dumps(SPEC), is_json=True), compile_promise)


def certificate(undetermined: dict[int, list[int]]) -> Certificate:
    """A claim in which all inputs of each length are undecided and the answers not undetermined agree."""
    regions = []
    for length, counts in undetermined.items():
        cells = CellTally(length * 2**length - sum(counts), 0, tuple(counts))
        regions.append(Region(length, 0, 0, 2**length, Tally(undecided=2**length), "", cells))
    tally = sum((region.tally for region in regions), Tally())
    program = parse_program("output = tokens", "every")
    return Certificate(program, "enumeration", "real", tuple(regions), tally, 0.0, 0.0, (), tally.undecided, ())


counts = st.fixed_dictionaries({n: st.lists(st.integers(0, 2**n), min_size=n, max_size=n) for n in range(1, 5)})
#: Which positions are undetermined in all inputs, from the start, or from the end below 0.
PLACES = st.sets(st.integers(-4, 3), min_size=1)


@given(counts)
def test_counts_add_up(undetermined: dict[int, list[int]]) -> None:
    part = cells_part(domain(), certificate(undetermined))
    assert part is not None
    expected = [sum(row[i] for row in undetermined.values() if i < len(row)) for i in range(4)]
    assert {p.position: p.undetermined for p in part.positions} == {i: n for i, n in enumerate(expected) if n}
    assert [p.cells for p in part.positions] == [sum(2**n for n in range(p.position + 1, 5)) for p in part.positions]
    assert number(part.agree) + number(part.undetermined) == part.total == 2 + 8 + 24 + 64


@given(counts, PLACES, st.booleans())
def test_words_about_positions_are_exact(noise: dict[int, list[int]], places: set[int], is_noisy: bool) -> None:
    def is_there(length: int, position: int) -> bool:
        return position in places or position - length in places

    sure = {n: [2**n * is_there(n, i) for i in range(n)] for n in range(1, 5)}
    seen = {n: [max(a, b) for a, b in zip(sure[n], noise[n], strict=True)] for n in sure} if is_noisy else sure
    part = cells_part(domain(), certificate(seen))
    assert part is not None
    full = {(n, i) for n in seen for i in range(n) if seen[n][i]}
    from_start, from_end = {i for _, i in full}, {i - n for n, i in full}
    is_whole = all(seen[n][i] in (0, 2**n) for n in seen for i in range(n))
    starts = is_whole and full == {(n, i) for n in seen for i in range(n) if i in from_start}
    ends = is_whole and full == {(n, i) for n in seen for i in range(n) if i - n in from_end}
    assert (part.where is not None) == (bool(full) and (starts or ends))
    if part.where is not None and starts:
        assert part.where.startswith("position") and "end" not in part.where
        assert [int(c) for c in part.where if c.isdigit()] == sorted(from_start)
    elif part.where is not None and from_end == {-1}:
        assert part.where == "the last position of every input"


def test_a_decided_domain_has_no_such_counts() -> None:
    known = certificate({n: [0] * n for n in range(1, 5)})
    size = domain().size
    assert size == 30
    decided = Certificate(
        known.program, "enumeration", "real", known.regions, Tally(size - 1, 1, 0, math.inf), 0.0, 0.0, (), 0, ()
    )
    assert cells_part(domain(), decided) is None and cells_part(domain(), None) is None
