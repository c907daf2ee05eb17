"""Questions as clauses: data round trips, the adapters' cells, and promises as automata or terms."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.domain import Domain
from extract.errors import BudgetError
from extract.lang.interpret import answer
from extract.lang.syntax import parse_program, parse_term
from extract.lang.terms import Adapter, Program, Term
from extract.verify.circuit import Circuit, Guarded
from extract.verify.encode import Automaton, Facts, Question, answer_cells, encode
from extract.vocabulary import ABSENT
from tests.laws.circuits import Evaluated
from tests.laws.terms import NUMBERS, SYMBOLS, integer, well_sorted_terms
from tests.unit.search.worlds import domain


def facts_of(world: Domain) -> Facts:
    return Facts(world.vocabulary, world.readout, world.alphabet)


def words_of(world: Domain, length: int) -> list[tuple[int, ...]]:
    """Every string of alphabet ids of a length, inputs or not."""
    return list(product(world.alphabet, repeat=length))


def codes_of(world: Domain, word: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(world.vocabulary.token_codes[token]) for token in word)


def check_cells(text: str, adapter: Adapter, world: Domain, length: int) -> None:
    """Compare a program's symbolic cells with the interpreter's answers on every string of a length."""
    program = parse_program(text, adapter)
    circuit = Circuit()
    letters = [circuit.unknown(codes_of(world, world.alphabet)) for _ in range(length)]
    cells = answer_cells(program, circuit, letters, facts_of(world))
    words = words_of(world, length)
    codes = np.array([codes_of(world, word) for word in words], dtype=np.int64).reshape(len(words), length)
    values = Evaluated(circuit, letters, codes)
    columns = [values.integer(cell) for cell in cells]
    for row, word in enumerate(words):
        found = [int(column[row]) for column in columns]
        expected = answer(program, codes_of(world, word), world, world.readout)
        assert tuple(found[: len(expected)]) == expected and set(found[len(expected) :]) <= {ABSENT}, (text, word)


@pytest.mark.parametrize("length", (0, 1, 4))
@pytest.mark.parametrize(
    ("text", "adapter", "world"),
    [
        ("output = '1' if count(tokens == '0') < 2 else '0'", "value", domain("01")),
        ("output = '1'", "every", domain("01", at="every")),
        ("output = rank(tokens)", "every", domain("012", at="every", numeric=True)),
        ("output['1'] = any(tokens == '1')\noutput['<eos>'] = length < 3", "multilabel",
         domain("01", kind="multilabel")),
        (
            "output = first(select(indices, step, '=='), tokens)\noutput_length = count(tokens == '1') + 1",
            "generate",
            domain("01", at="generate"),
        ),
        ("output = step * 2\noutput_length = length - 2", "generate", domain("01", at="generate", max_new=1)),
        ("output = tokens_of_two\n", "step", domain("01", at="generate", max_new=3)),
        ("output = '<eos>' if prompt_length + 2 < length else last(everywhere, tokens, '1')", "step",
         domain("01", at="generate")),
        ("output = '<eos>' if count(tokens == '0') > 2 else '0'", "step", domain("01", at="generate")),
    ],
)  # fmt: skip
def test_cells_are_the_interpreters(text: str, adapter: Adapter, world: Domain, length: int) -> None:
    check_cells(text.replace("tokens_of_two", "first(select(indices, 1, '=='), tokens, '0')"), adapter, world, length)


@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_questions_survive_json(vocabulary: object, data: st.DataObject) -> None:
    assert vocabulary in (SYMBOLS, NUMBERS)
    terms = [data.draw(well_sorted_terms("I", "whole", SYMBOLS)) for _ in range(2)]
    left, right = (Program("value", (("output", term),)) for term in terms)
    automaton = Automaton((((0, 1), (1, -1)), ((0, 0),)), (True, False))
    question = Question(data.draw(st.integers(0, 4)), left, right, automaton, (Term("boolean", (), (1,)),))
    assert Question.from_data(json.loads(json.dumps(question.to_data()))) == question


def test_facts_survive_json() -> None:
    for world in (domain("01"), domain("01", at="generate", max_new=3), domain("05", numeric=True)):
        assert Facts.from_data(json.loads(json.dumps(facts_of(world).to_data()))) == facts_of(world)


def accepted(world: Domain, question: Question) -> set[tuple[int, ...]]:
    """The strings that the encoding takes for inputs on which the answers differ."""
    encoding = encode(question, facts_of(world))
    found = set()
    for word in words_of(world, question.length):
        possible = all(token in letter.values for token, letter in zip(word, encoding.letters, strict=True))
        if not possible:
            continue
        row = np.array([word], dtype=np.int64).reshape(1, len(word))
        values = Evaluated(encoding.circuit, encoding.letters, row)
        assert values.clauses_hold(encoding.circuit.clauses)
        if values.literal(encoding.promise)[0] and any(values.literal(cell)[0] for cell in encoding.cells):
            found.add(word)
    return found


DIFFERENT = tuple(Program("value", (("output", integer(n)),)) for n in (0, 1))


@pytest.mark.parametrize("length", range(5))
@pytest.mark.parametrize("text", ("count(tokens == '0') == 2", "tokens_alternate", "all(tokens == '1') or length < 2"))
def test_a_promise_means_the_same_as_automaton_and_as_term(text: str, length: int) -> None:
    text = text.replace("tokens_alternate", "all(shift(tokens, 1) != tokens)")
    world = domain("01", lengths=(0, 4), where=text)
    inputs = {tuple(map(int, row)) for row in world.tokens(length, 0, world.size_at(length))}
    as_term = Question(length, *DIFFERENT, where=(parse_term(text),))
    assert accepted(world, as_term) == inputs
    graph = world.graph_at(length)
    if graph is None:
        assert not inputs
        return
    layers = tuple(tuple(tuple(row) for row in layer.tolist()) for layer in graph.next[:length])
    as_automaton = Question(length, *DIFFERENT, Automaton(layers, tuple(graph.accept[length].tolist())))
    assert accepted(world, as_automaton) == inputs


def test_an_automaton_without_inputs_is_never_satisfied() -> None:
    question = Question(1, *DIFFERENT, Automaton((((-1, -1),),), (True,)))
    assert accepted(domain("01"), question) == set()


def test_equal_meanings_need_no_solver() -> None:
    world = domain("01")
    left = parse_program("output = '1' if count(tokens == '0') < count(tokens == '1') else '0'", "value")
    right = parse_program("output = '1' if length < 2 * count(tokens == '1') else '0'", "value")
    assert encode(Question(12, left, right), facts_of(world)).cells == ()


def test_an_encoding_too_large_is_refused() -> None:
    world = domain("0123456789", numeric=True)
    left = parse_program("output = last(everywhere, horner(tokens, 10, 0))", "value")
    right = parse_program("output = last(everywhere, horner(tokens, 11, 0))", "value")
    with pytest.raises(BudgetError, match="pairs of values exceed"):
        encode(Question(10, left, right), facts_of(world))
    long = parse_program("output = '1'\noutput_length = length * 100", "generate")
    with pytest.raises(BudgetError, match="300 tokens"):
        encode(Question(3, long, long), facts_of(domain("01", at="generate")))


@settings(max_examples=100)
@given(n=st.integers(1, 40))
def test_an_unknown_integer_takes_every_value(n: int) -> None:
    circuit = Circuit()
    letter = circuit.unknown(range(n))
    values = Evaluated(circuit, [letter], np.arange(n, dtype=np.int64)[:, None])
    assert values.integer(letter).tolist() == list(range(n)) and values.clauses_hold(circuit.clauses)
    assert isinstance(letter, Guarded)
