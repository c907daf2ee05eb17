"""Laws: the graph of a program gives every input of a domain the interpreter's answer, and counts them exactly."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.domain import Domain, build_domain
from extract.lang.interpret import answer
from extract.lang.program_graph import NotReadable, ProgramGraph, program_graph
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.lang.terms import Program
from extract.spec import parse_spec
from tests.laws.terms import NUMBERS, SYMBOLS, well_sorted_terms

LONGEST = 4
QUIET = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
PROMISES = {
    "all strings": "",
    "counted": "where = \"2 * count(tokens == 'a') <= length\"",
    "pattern": "matches = '(a|bb)*c?'",
    "both ways": 'where = "first(everywhere, tokens) == last(everywhere, tokens)"',
}


def domain_of(promise: str = "", readout: str = "", numeric: bool = False, max_length: int = LONGEST) -> Domain:
    vocabulary = NUMBERS if numeric else SYMBOLS
    alphabet = ["1", "2", "-1"] if numeric else ["a", "b", "c"]
    spec = f"""version = 1
[tokens]
vocab = {list(vocabulary.names)}
numeric = {str(numeric).lower()}
[domain]
alphabet = {alphabet}
min_length = 0
max_length = {max_length}
template = "<bos> {{x}}"
{promise}
[readout]
{readout}
"""
    return build_domain(parse_spec(spec), compile_promise)


def check(program: Program, domain: Domain, graph: ProgramGraph, length: int, cell: int | None = None) -> None:
    """Compare a graph with the interpreter on every string of the length, inputs or not."""
    found: Counter[tuple[int, ...]] = Counter()
    for letters in product(range(len(domain.alphabet)), repeat=length):
        tokens = tuple(domain.alphabet[letter] for letter in letters)
        expected = None
        if domain.contains(tokens, 0):
            codes = tuple(int(domain.vocabulary.token_codes[t]) for t in tokens)
            expected = answer(program, codes, domain, domain.readout)
            expected = expected if cell is None else (expected[cell],)
            found[expected] += 1
        assert graph.answer(letters) == expected, (program, letters)
    assert graph.counts() == dict(found)
    for cells, n in found.items():
        part = graph.inputs_with(cells)
        assert part.size(length) == n
        assert all(graph.answer(tuple(row)) == cells for row in part.letters(length, 0, n).tolist())


@pytest.mark.parametrize("promise", PROMISES.values(), ids=PROMISES)
@QUIET
@given(data=st.data())
def test_values(promise: str, data: st.DataObject) -> None:
    domain = domain_of(promise)
    program = Program("value", (("output", data.draw(well_sorted_terms("I", "whole", SYMBOLS))),))
    for length in range(LONGEST + 1):
        graph = program_graph(program, domain, length)
        if domain.size_at(length):
            assert isinstance(graph, ProgramGraph), graph
            check(program, domain, graph, length)
        else:
            assert isinstance(graph, NotReadable)


@QUIET
@given(data=st.data())
def test_numeric_values(data: st.DataObject) -> None:
    domain = domain_of(numeric=True)
    program = Program("value", (("output", data.draw(well_sorted_terms("I", "whole", NUMBERS))),))
    for length in range(LONGEST + 1):
        graph = program_graph(program, domain, length)
        assert isinstance(graph, ProgramGraph), graph
        check(program, domain, graph, length)


@QUIET
@given(data=st.data())
def test_labels(data: st.DataObject) -> None:
    domain = domain_of(PROMISES["counted"], 'kind = "multilabel"\nchoices = ["a", "c", "<bos>"]')
    chosen = data.draw(st.lists(st.sampled_from(["a", "c", "<bos>"]), unique=True))
    program = Program("multilabel", tuple((x, data.draw(well_sorted_terms("B", "whole", SYMBOLS))) for x in chosen))
    for length in range(LONGEST):
        graph = program_graph(program, domain, length)
        assert isinstance(graph, ProgramGraph), graph
        check(program, domain, graph, length)


@QUIET
@given(data=st.data())
def test_an_answer_per_token(data: st.DataObject) -> None:
    domain = domain_of(PROMISES["counted"], 'at = "every"')
    program = Program("every", (("output", data.draw(well_sorted_terms("I", "position", SYMBOLS))),))
    for length, cell in ((1, 0), (3, 0), (3, 2), (4, 1)):
        graph = program_graph(program, domain, length, cell=cell)
        assert isinstance(graph, ProgramGraph), graph
        check(program, domain, graph, length, cell)


@QUIET
@given(data=st.data())
def test_machine_and_list_make_the_same_graph(data: st.DataObject) -> None:
    domain = domain_of(PROMISES["counted"])
    program = Program("value", (("output", data.draw(well_sorted_terms("I", "whole", SYMBOLS))),))
    read, listed = (program_graph(program, domain, 3, max_steps=steps) for steps in (10**6, -1))
    assert isinstance(read, ProgramGraph) and isinstance(listed, ProgramGraph)
    assert read.answers == listed.answers
    assert all(np.array_equal(a, b) for a, b in zip(read.next, listed.next, strict=True))


BINARY = """version = 1
[tokens]
vocab = ["0", "1"]
[domain]
max_length = 200
"""


@pytest.mark.parametrize(
    ("text", "widest"),
    [
        ("'1' if count(tokens == '0') < count(tokens == '1') else '0'", 201),
        ("'1' if count(tokens == '1') % 3 == 1 else '0'", 3),
        ("'1' if 5 <= count(tokens == '1') else '0'", 6),
        ("last(everywhere, tokens)", 2),
        ("'1' if any(tokens == '1' and shift(tokens, 1) == '1') else '0'", 3),
        ("min_over(everywhere, horner(int(tokens == '1'), 2, 7))", 50),
        ("'1' if exists(select(indices, 100, '==') and keys_where(tokens == '1')) else '0'", 2),
    ],
)
def test_long_inputs_have_small_graphs(text: str, widest: int) -> None:
    domain = build_domain(parse_spec(BINARY), compile_promise)
    program = parse_program(f"output = {text}", "value")
    graph = program_graph(program, domain, 200)
    assert isinstance(graph, ProgramGraph), graph
    assert graph.size == 2**200
    assert max(graph.n_states) <= widest
    # the graph answers random inputs as the interpreter does
    rng = np.random.default_rng(3)
    for letters in (rng.random((20, 200)) < rng.random((20, 1))).astype(int).tolist():
        codes = tuple(int(domain.vocabulary.token_codes[letter]) for letter in letters)
        assert graph.answer(tuple(letters)) == answer(program, codes, domain, domain.readout)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("first(select(rank(tokens), 3, '=='), tokens)", "rank"),
        ("sum_over(everywhere, selector_width(select(tokens, tokens, '==')))", "select"),
        ("sum_over(everywhere, horner(indices + int(tokens == '1'), 3, 0))", "automaton"),
    ],
)
def test_what_is_too_large_is_refused_by_name(text: str, named: str) -> None:
    domain = build_domain(parse_spec(BINARY), compile_promise)
    program = parse_program(f"output = {text}", "value")
    found = program_graph(program, domain, 30, max_steps=50_000)
    assert isinstance(found, NotReadable)
    assert named in found.reason and "30" in found.reason
