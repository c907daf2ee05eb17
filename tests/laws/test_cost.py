"""Laws: cost rises strictly from part to whole, counts shared parts once, and never depends on names."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.lang.cost import cost, node_cost, program_cost
from extract.lang.terms import Program, Term
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
