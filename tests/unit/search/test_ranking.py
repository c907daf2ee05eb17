"""Which description comes first: short rules before listings, exact programs before much longer lists of exceptions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extract.search.ranking import listed_cost, poor_cost

counts = st.integers(0, 10**9)


@given(counts, counts)
def test_more_exceptions_never_cost_less(one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert listed_cost(few) <= listed_cost(many)


@given(st.integers(8, 10**8))
def test_a_reader_goes_through_no_long_list(n: int) -> None:
    assert 0 <= listed_cost(2 * n) - listed_cost(n) <= 9


@given(st.integers(0, 8))
def test_few_exceptions_are_listed_one_by_one(n: int) -> None:
    assert listed_cost(n) == 2 * n


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 200))
def test_poor_description_loses_with_failures_and_length(failures: int, inputs: int, cost: int) -> None:
    failures = min(failures, inputs)
    assert poor_cost(cost, failures - 1, inputs) <= poor_cost(cost, failures, inputs)
    assert poor_cost(cost, failures, inputs) < poor_cost(cost + 1, failures, inputs)


def test_plain_rule_comes_before_a_listing_that_is_right_a_little_more_often() -> None:
    assert poor_cost(18, 1909, 32768) < poor_cost(507, 1552, 32768)
    assert 6 + listed_cost(60) < 19 + listed_cost(43)


def test_mostly_right_comes_before_short_and_mostly_wrong() -> None:
    assert poor_cost(40, 20, 100) < poor_cost(5, 65, 100)
