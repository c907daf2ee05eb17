"""Automata: minimal, trimmed, and the same language whichever way they are asked."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from extract.automata import Dfa, Language, table_automaton
from tests.unit.domain.promises import all_strings

#: Two automata of 4 states (and a dead one) that differ at all differ on a string of at most 8 letters.
STRINGS = all_strings((0, 1), 0, 8)


@st.composite
def automata(draw: st.DrawFn) -> Dfa:
    n = draw(st.integers(1, 4))
    rows = draw(st.lists(st.tuples(st.integers(-1, n - 1), st.integers(-1, n - 1)), min_size=n, max_size=n))
    return Dfa(tuple(rows), tuple(draw(st.lists(st.booleans(), min_size=n, max_size=n))))


def language(dfa: Dfa) -> list[bool]:
    return [dfa.accepts(string) for string in STRINGS]


@given(automata())
def test_minimal_keeps_the_language(dfa: Dfa) -> None:
    small = dfa.minimal()
    assert language(small) == language(dfa)
    assert len(small.accepting) <= len(dfa.accepting)
    assert small.minimal() == small


@given(automata(), automata())
def test_minimal_automata_are_equal_exactly_when_the_languages_are(left: Dfa, right: Dfa) -> None:
    assert (left.minimal() == right.minimal()) == (language(left) == language(right))


@given(automata())
def test_prefixes_are_the_beginnings_of_words(dfa: Dfa) -> None:
    words = [string for string in all_strings((0, 1), 0, 9) if dfa.accepts(string)]
    beginnings = {word[:n] for word in words for n in range(len(word) + 1)}
    short = [string for string in STRINGS if len(string) <= 3]
    assert [dfa.prefixes().accepts(s) for s in short] == [s in beginnings for s in short]


@given(automata())
def test_language_answers_batches_as_the_automaton_does(dfa: Dfa) -> None:
    promise = Language("by hand", dfa, (5, 2))
    rows = np.array([[(5, 2)[x] for x in string] for string in STRINGS if len(string) == 4], dtype=np.int32)
    assert promise.holds(rows).tolist() == [dfa.accepts(string) for string in STRINGS if len(string) == 4]


def test_language_rejects_tokens_outside_its_alphabet() -> None:
    everything = Language("all", Dfa(((0, 0),), (True,)), (5, 2))
    rows = np.array([[5, 2], [5, 3], [9, 2], [-1, 5]], dtype=np.int32)
    assert everything.holds(rows).tolist() == [True, False, False, False]
    assert everything.holds(np.zeros((1, 0), dtype=np.int32)).tolist() == [True]


def test_a_listed_automaton_starts_where_it_says() -> None:
    dfa = table_automaton(((0, 1), (-1, 0)), start=1)
    assert [dfa.accepts(s) for s in ((), (0,), (1,), (1, 1), (1, 1, 0))] == [True, False, True, True, False]
