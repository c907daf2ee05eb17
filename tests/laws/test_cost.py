"""Laws: cost rises strictly from part to whole, counts shared parts once, and never depends on names."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.lang.cost import cost, node_cost, program_cost
from extract.lang.syntax import parse_term
from extract.lang.terms import Datum, Program, Term
from extract.search.builders import reading_effort
from tests.laws.terms import SYMBOLS, VOCABULARIES, well_sorted_terms


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_part_costs_less_than_the_whole(data: st.DataObject) -> None:
    term = data.draw(well_sorted_terms("I", "position", data.draw(st.sampled_from(VOCABULARIES))))
    for subterm in term.subterms():
        assert node_cost(subterm) >= 1
        assert cost(subterm) < cost(term) or subterm == term


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_shared_parts_count_once(data: st.DataObject) -> None:
    left, right = (data.draw(well_sorted_terms("B", "whole", SYMBOLS)) for _ in range(2))
    assert cost(Term("and", (left, left))) == cost(left) + 1
    both = program_cost(Program("multilabel", (("a", left), ("b", right))))
    assert max(cost(left), cost(right)) <= both <= cost(left) + cost(right)
    assert program_cost(Program("multilabel", (("a", left), ("b", left)))) == cost(left)


KEYS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


def table_cost_of(entries: dict[Datum, Datum], default: Datum) -> int:
    return node_cost(Term("table", (Term("tokens"),), (tuple(entries.items()), default)))


@given(keys=KEYS, value=st.integers(1, 5))
def test_listing_keys_is_paid_key_by_key(keys: list[str], value: int) -> None:
    costs = [table_cost_of(dict.fromkeys(keys[:n], value), 0) for n in range(1, len(keys) + 1)]
    assert costs == sorted(set(costs))
    assert costs[-1] >= 2 * len(keys)


@given(low=st.integers(-4, 4), n=st.integers(2, 12), a=st.integers(1, 3), b=st.integers(-3, 3))
def test_a_rule_on_a_range_is_cheap_and_its_gaps_are_not(low: int, n: int, a: int, b: int) -> None:
    rule: dict[Datum, Datum] = {k: a * k + b for k in range(low, low + n)}
    whole = table_cost_of(rule, 99)
    assert whole <= 4
    if n > 3:
        del rule[low + 1]
        assert table_cost_of(rule, 99) > whole


def test_a_rule_is_cheaper_than_its_tabulation() -> None:
    pairs = [
        ("count(tokens == 'a') % 2", "table(count(tokens == 'a'), {1: 1, 3: 1, 5: 1}, 0)"),
        ("int(count(tokens == 'a') == 0)", "table(count(tokens == 'a'), {0: 1}, 0)"),
        ("tokens % 2", "horner(tokens, 2, 2)"),
        ("count(tokens == 'a') % 3", "last(everywhere, scan(tokens, 0, ('a',), ((1,), (2,), (0,))))"),
    ]
    for rule, listing in pairs:
        left, right = parse_term(rule), parse_term(listing)
        assert (cost(left), reading_effort(left)) < (cost(right), reading_effort(right)), rule
