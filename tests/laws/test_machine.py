"""Laws: a machine, where one exists, answers as the interpreter does on every input, and prunes only what is lost."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.lang.interpret import answer, evaluate_one
from extract.lang.machine import OPEN, program_machine, term_machine
from extract.lang.promise import TermPromise
from extract.lang.terms import Program, Term
from extract.readout import ReadOut
from extract.vocabulary import Vocabulary
from tests.laws.terms import NUMBERS, SYMBOLS, well_sorted_terms

LONGEST = 4


def letters_of(vocabulary: Vocabulary) -> list[int]:
    """Return three token ids, a symbol of the numeric vocabulary among them."""
    return [0, 1, 2] if vocabulary is SYMBOLS else [1, 3, 4]


def codes_of(word: tuple[int, ...], vocabulary: Vocabulary) -> tuple[int, ...]:
    return tuple(int(vocabulary.token_codes[letter]) for letter in word)


@pytest.mark.parametrize("known", (False, True), ids=("any_length", "known_length"))
@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_machine_is_reference(vocabulary: Vocabulary, known: bool, data: st.DataObject) -> None:
    term = data.draw(well_sorted_terms(data.draw(st.sampled_from(("I", "B"))), "whole", vocabulary))
    letters = letters_of(vocabulary)
    for length in range(LONGEST + 1):
        machine = term_machine(term, vocabulary, length if known else None)
        if machine is None:
            return
        runs = {(): machine.start()}
        for position in range(length):
            runs = {(*w, a): machine.step(s, position, a) for w, s in runs.items() for a in letters}
        for word, state in runs.items():
            expected = evaluate_one(term, codes_of(word, vocabulary), vocabulary)[0]
            assert machine.values(state, length)[0] == expected, (term, word)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_settled_values_never_change(data: st.DataObject) -> None:
    term = data.draw(well_sorted_terms(data.draw(st.sampled_from(("I", "B"))), "whole", SYMBOLS))
    machine = term_machine(term, SYMBOLS)
    if machine is None:
        return
    runs = {(): machine.start()}
    settled: dict[tuple[int, ...], object] = {}
    for position in range(LONGEST):
        for word, state in runs.items():
            settled[word] = machine.settled(state)
        runs = {(*w, a): machine.step(s, position, a) for w, s in runs.items() for a in (0, 1)}
    for word in runs:
        value = evaluate_one(term, codes_of(word, SYMBOLS), SYMBOLS)[0]
        for cut in range(LONGEST):
            assert settled[word[:cut]] is OPEN or settled[word[:cut]] == value, (term, word, cut)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_promise_machine_is_reference(data: st.DataObject) -> None:
    term = data.draw(well_sorted_terms("B", "whole", SYMBOLS))
    machine = TermPromise("", term, SYMBOLS).machine(None)
    if machine is None:
        return
    for length in range(LONGEST + 1):
        for word in product((0, 1), repeat=length):
            state = machine.start()
            for position, letter in enumerate(word):
                state = None if state is None else machine.step(state, position, letter)
            accepted = state is not None and machine.accepts(state, length)
            assert accepted == evaluate_one(term, codes_of(word, SYMBOLS), SYMBOLS)[0]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_program_machine_is_reference(data: st.DataObject) -> None:
    labels = ("a", "<bos>", "c")
    readout = ReadOut("last", "multilabel", (1, 2, 3))
    chosen = data.draw(st.lists(st.sampled_from(labels), unique=True))
    outputs: tuple[tuple[str, Term], ...] = tuple(
        (label, data.draw(well_sorted_terms("B", "whole", SYMBOLS))) for label in chosen
    )
    program = Program("multilabel", outputs)
    machine = program_machine(program, SYMBOLS, readout)
    if machine is None:
        return
    for word in product((0, 1), repeat=3):
        state = machine.start()
        for position, letter in enumerate(word):
            state = machine.step(state, position, letter)
        assert machine.answer(state, 3) == answer(program, codes_of(word, SYMBOLS), SYMBOLS, readout)
