"""Every known program of ``tests/cases.py`` parses, costs what it should and gives its answers by every meaning."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from extract.lang.batched import Batch, evaluate
from extract.lang.cost import program_cost
from extract.lang.dialect import dialect
from extract.lang.emit import expected_answer, to_python
from extract.lang.interpret import answer
from extract.lang.listing import rasp_listing
from extract.lang.machine import program_machine
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program, print_program
from extract.readout import Inputs
from extract.vocabulary import ABSENT
from tests.cases import CASES, Case

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
def test_answers(case: Case) -> None:
    program = parse_program(case.text, case.adapter)
    for tokens, expected in case.answers:
        found = expected_answer(program, tokens, case.vocabulary, case.readout)
        assert (frozenset(found) if isinstance(found, set) else tuple(found)) == (
            expected if isinstance(expected, frozenset) else tuple(expected)
        )


@every_case
def test_answers_in_batches(case: Case) -> None:
    program = parse_program(case.text, case.adapter)
    rows = [(tuple(case.vocabulary.token_id(t) for t in tokens), 0) for tokens, _ in case.answers]
    inputs = Inputs.of(rows)
    codes = inputs.codes(case.vocabulary)
    cells = evaluate(program, Batch(codes, inputs.lengths), case.vocabulary, case.readout)
    for i in range(len(rows)):
        expected = answer(program, tuple(int(c) for c in codes[i, : inputs.lengths[i]]), case.vocabulary, case.readout)
        assert tuple(int(c) for c in cells[i] if c != ABSENT) == expected


@every_case
def test_cost_and_dialect(case: Case) -> None:
    program = parse_program(case.text, case.adapter)
    assert program_cost(program) == case.cost
    assert dialect(program) == case.dialect


@every_case
def test_text_round_trip(case: Case) -> None:
    program = parse_program(case.text, case.adapter)
    assert parse_program(print_program(program), case.adapter) == program


@every_case
def test_emitted_file_passes_its_own_test(case: Case) -> None:
    program = parse_program(case.text, case.adapter)
    examples = [tokens for tokens, _ in case.answers]
    text = to_python(program, case.vocabulary, case.readout, examples, (case.name,))
    said: list[str] = []
    exec(compile(text, "emitted.py", "exec"), {"__name__": "__main__", "print": said.append})
    assert said == [f"{len(examples)} examples agree"]


@every_case
def test_machine_where_the_program_streams(case: Case) -> None:
    program = parse_program(case.text, case.adapter)
    machine = program_machine(program, case.vocabulary, case.readout)
    assert (machine is not None) == case.streams
    if machine is None:
        return
    letters = [case.vocabulary.token_id(name) for name in case.alphabet]
    for word in product(letters, repeat=min(case.max_length, 4)):
        state = machine.start()
        for position, letter in enumerate(word):
            state = machine.step(state, position, letter)
        codes = tuple(int(case.vocabulary.token_codes[letter]) for letter in word)
        assert machine.answer(state, len(word)) == answer(program, codes, case.vocabulary, case.readout)


@every_case
def test_promise_accepts_the_inputs_listed(case: Case) -> None:
    if case.where is None:
        pytest.skip("this case promises nothing")
    promise = compile_promise(case.where, case.vocabulary)
    for tokens, _ in case.answers:
        ids = np.array([[case.vocabulary.token_id(t) for t in tokens]], dtype=np.int32).reshape(1, len(tokens))
        assert promise.holds(ids).tolist() == [True]


def test_listing_names_selectors_and_aggregates() -> None:
    program = parse_program("output = last(select(indices, length - 1 - indices, '=='), tokens)", "every")
    assert rasp_listing(program) == (
        "v1     = map(length - 1)\n"
        "v2     = map(v1 - indices)\n"
        "s1     = select(indices, v2, (k, q) -> k == q)\n"
        "v3     = aggregate(s1, tokens, last)\n"
        "output = v3\n"
    )
