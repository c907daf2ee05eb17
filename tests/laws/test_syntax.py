"""Laws: parsing what is printed gives the same term and the same program; printing is within the parser's gates."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.lang.syntax import parse_program, parse_term, print_program, print_term
from extract.lang.terms import Program, Term
from tests.laws.terms import VOCABULARIES, well_sorted_terms


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_parse_of_print_is_the_same_term(data: st.DataObject) -> None:
    vocabulary = data.draw(st.sampled_from(VOCABULARIES))
    kind, shape = data.draw(st.sampled_from(("I", "B", "S"))), data.draw(st.sampled_from(("whole", "position", "step")))
    term = data.draw(well_sorted_terms(kind, shape, vocabulary, depth=2))
    assert parse_term(print_term(term)) == term


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_parse_of_print_is_the_same_program(data: st.DataObject) -> None:
    vocabulary = data.draw(st.sampled_from(VOCABULARIES))
    if data.draw(st.booleans()):
        program = Program("every", (("output", data.draw(well_sorted_terms("I", "position", vocabulary))),))
    else:
        labels = data.draw(st.lists(st.sampled_from(("a", "'", "\\", "é", "output")), unique=True))
        draw = well_sorted_terms("B", "whole", vocabulary)
        program = Program("multilabel", tuple((label, data.draw(draw)) for label in labels))
    text = print_program(program)
    assert parse_program(text, program.adapter) == program
    assert print_program(parse_program(text, program.adapter)) == text


@given(st.integers(1, 150), st.sampled_from(("+", "and", "if")))
def test_deep_programs_print_within_the_gates(depth: int, operator: str) -> None:
    """A chain of any depth is cut by bindings, and a term used twice at every level stays linear in text."""
    term = Term("indices") if operator == "+" else Term("==", (Term("indices"), Term("length")))
    for level in range(depth):
        other = Term("integer", (), (level,)) if operator == "+" else Term("==", (Term("indices"), Term("length")))
        term = Term("if", (term, other, term)) if operator == "if" else Term(operator, (other, term))
    whole = Term("count", (term,)) if operator != "+" else Term("sum_over", (Term("everywhere"), term))
    program = Program("value", (("output", whole),))
    text = print_program(program)
    assert len(text) < 60 * depth + 200
    assert print_program(parse_program(text, "value")) == text
