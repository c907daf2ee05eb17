"""Regular expressions: the same words as Python's own engine, and clear refusals."""

from __future__ import annotations

import re
import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.automata import regular_expression
from extract.automata.dfa import Dfa
from extract.errors import ProgramError
from tests.unit.domain.promises import all_strings

WORDS = ["".join("abc"[i] for i in string) for string in all_strings((0, 1, 2), 0, 5)]
LEAVES = st.sampled_from(["a", "b", "c", "[ab]", "[^a]", "[a-c]", ".", "()", "ab", "ca"])
BOUNDS = st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda b: f"{{{b[0]},{b[0] + b[1]}}}")
SUFFIXES = st.one_of(st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0}"]), BOUNDS)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(st.one_of(inner, st.just("")), min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, SUFFIXES).map(lambda part: f"({part[0]}){part[1]}"),
    ),
    max_leaves=8,
)


def accepted(expression: str, words: list[str], alphabet: str = "abc") -> list[bool]:
    dfa = regular_expression(expression, tuple(alphabet))
    return [dfa.accepts([alphabet.index(c) for c in word]) for word in words]


@given(EXPRESSIONS)
def test_words_are_those_of_the_standard_engine(expression: str) -> None:
    pattern = re.compile(expression)
    assert accepted(expression, WORDS) == [pattern.fullmatch(word) is not None for word in WORDS]


@pytest.mark.parametrize(
    ("expression", "inside", "outside"),
    [
        ("(0|1(0|1)*)[+](0|1(0|1)*)", ["0+0", "10+1", "1+101"], ["01+1", "+1", "1+", "1"]),
        ("(1|01|001)*(0|00|)", ["", "0", "00", "1001001"], ["000", "10001"]),
        (r"1\+1", ["1+1"], ["11", "111"]),
        (" 1 0 | 0 ", ["10", "0"], ["1", "0 0"]),
        ("(01){2}{2}", ["01010101"], ["0101", "010101"]),
        ("(1+)*{0,1}", ["", "1", "1111"], ["0"]),
        ("", [""], ["0"]),
    ],
)
def test_syntax(expression: str, inside: list[str], outside: list[str]) -> None:
    dfa = regular_expression(expression, ("0", "1", "+"))
    assert all(dfa.accepts(["01+".index(c) for c in word]) for word in inside)
    assert not any(dfa.accepts(["01+".index(c) for c in word if c != " "]) for word in outside)


def test_long_names_are_quoted_or_marked() -> None:
    alphabet = ("<go>", "stop it", "a", "'")
    dfa = regular_expression("<go> 'stop it'* [<go>a'stop it']", alphabet)
    assert dfa.accepts([0, 1, 1, 2]) and dfa.accepts([0, 0])
    assert not dfa.accepts([0, 3]) and not dfa.accepts([1, 2])
    assert regular_expression(r"\'", alphabet).accepts([3])


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("(a", "the end at character 2, expected ')'"),
        ("a)", "')' at character 1, expected the end"),
        ("*a", "'*' at character 0"),
        ("a{2,1}", "at least 2"),
        ("a{}", "expected a number"),
        ("a{999999}", "below 100000"),
        ("[ab", "expected ']'"),
        ("[c-a]", "increasing order"),
        ("x", "one of 'a b c'; not 'x'"),
        ("'ab", "closing quote"),
        ("a\\", "the alphabet"),
        ("a]", "']' at character 1"),
    ],
)
def test_a_mistake_is_named_with_its_place(expression: str, says: str) -> None:
    with pytest.raises(ProgramError, match=re.escape(says)):
        regular_expression(expression, ("a", "b", "c"))


@pytest.mark.parametrize(
    "expression",
    ["(" * 3000 + ")" * 3000, "a{90000}", "((a{90}){90}){90}", "(a|b)*a(a|b){40}", "(((((a+)+)+)+)+)+" * 500 + "x"],
)
def test_an_expression_that_would_explode_is_refused_soon(expression: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ProgramError):
        regular_expression(expression, ("a", "b"))
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("expression", ["a{2003}*", "a{3999}", "a{1000}|b{999}a", "(ab){1000}*|b", "a{0,1500}"])
def test_long_chains_take_no_time(expression: str) -> None:
    """Refinement that starts from acceptance alone takes one round for each state of a chain."""
    start = time.perf_counter()
    regular_expression(expression, ("a", "b"))
    assert time.perf_counter() - start < 2


@given(st.data())
def test_the_minimal_automaton_has_as_many_states_as_languages(data: st.DataObject) -> None:
    n_states, n_letters = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 2))
    targets = st.integers(-1, n_states - 1)
    rows = data.draw(st.lists(st.tuples(*[targets] * n_letters), min_size=n_states, max_size=n_states))
    automaton = Dfa(tuple(rows), tuple(data.draw(st.lists(st.booleans(), min_size=n_states, max_size=n_states))))
    minimal = automaton.minimal()
    # Myhill and Nerode: fewer letters than states reach every state, and tell every two of them apart
    words = [word for n in range(n_states) for word in product(range(n_letters), repeat=n)]
    languages = {tuple(automaton.accepts(prefix + word) for word in words) for prefix in words}
    assert len(minimal.accepting) == max(1, sum(map(any, languages)))
    assert {tuple(minimal.accepts(prefix + word) for word in words) for prefix in words} == languages
