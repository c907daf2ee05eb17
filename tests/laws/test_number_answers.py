"""Laws: a program's answer to a real read-out is one number, in every meaning: reference, batched, symbolic, emitted,
and the checker's own."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from extract.check.answers import _fractions, program_answers
from extract.check.program import Meaning, parse
from extract.check.spec import Task
from extract.errors import BudgetError, ProgramError
from extract.lang.batched import evaluate
from extract.lang.emit import expected_answer, to_python
from extract.lang.interpret import answer
from extract.lang.machine import Refused
from extract.lang.number_answers import counts_units, values_tell
from extract.lang.printing import print_program
from extract.lang.program_graph import read_pair
from extract.lang.syntax import parse_program
from extract.lang.terms import Adapter, Program, Term
from extract.readout import LARGEST_DENOMINATOR, ReadOut, largest_denominator, nearest_fractions
from extract.verify.circuit import Circuit, constant
from extract.verify.encode import Facts, answer_cells
from extract.verify.reading import read_together
from extract.vocabulary import (
    LARGEST_WHOLE,
    NO_NUMBER,
    SYMBOL_BASE,
    UNDETERMINED,
    UNITS,
    WHOLE_LIMIT,
    Vocabulary,
    number_text,
    whole_codes,
)
from tests.laws.circuits import Evaluated
from tests.laws.terms import NUMBERS, SYMBOLS, inputs, well_sorted_terms
from tests.laws.test_emit import run
from tests.laws.test_meanings import as_batch
from tests.unit.search.worlds import domain

RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
READOUTS: dict[Adapter, ReadOut] = {"value": ReadOut("last", "value", ()), "every": ReadOut("every", "value", ())}


def drawn_program(data: st.DataObject, adapter: Adapter, vocabulary: Vocabulary) -> Program:
    """A program whose outputs are means, whole numbers, symbols, and choices of these."""
    shape = "position" if adapter == "every" else "whole"

    def term(depth: int) -> Term:
        kind = data.draw(st.sampled_from(("mean", "mean", "number", "I") + ("if", "if") * (depth > 0)))
        if kind == "if":
            return Term("if", (data.draw(well_sorted_terms("B", shape, vocabulary, depth=2)), term(0), term(depth - 1)))
        if kind == "mean":
            selector = data.draw(well_sorted_terms("S", shape, vocabulary, depth=2))
            values = data.draw(well_sorted_terms("number", "position", vocabulary, depth=2))
            return Term("mean", (selector, values))
        return data.draw(well_sorted_terms(kind, shape, vocabulary, depth=2))

    program = Program(adapter, (("output", term(2)),))
    row = data.draw(inputs(vocabulary, 3))
    try:  # some means of large numbers leave 32 bits
        evaluate(program, as_batch([row], 0), vocabulary, READOUTS[adapter])
    except ProgramError:
        assume(False)
    return program


def checked(program: Program, row: tuple[int, ...], vocabulary: Vocabulary, readout: ReadOut) -> list[tuple[int, str]]:
    """The checker's codes and texts of an answer."""
    width = len(row) if program.adapter == "every" else 1
    task: Any = SimpleNamespace(
        token_codes=np.array([*row], np.int64), kind="value", symbols=dict.fromkeys(vocabulary.symbols),
        means=lambda lets, tokens, **words: Meaning(lets, vocabulary.symbol_code, vocabulary.numeric, tokens, **words),
    )  # fmt: skip
    task.symbols = {name: vocabulary.symbol_code(name) for name in vocabulary.symbols}
    tokens = np.arange(len(row))[None]
    cells = program_answers(task, parse(print_program(program)), program.adapter, tokens, width)[0]
    return [(int(code), Task.name(task, int(code))) for code in cells]


@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@pytest.mark.parametrize("adapter", tuple(READOUTS))
@RELAXED
@given(data=st.data())
def test_every_meaning_gives_one_number(adapter: Adapter, vocabulary: Vocabulary, data: st.DataObject) -> None:
    program, readout = drawn_program(data, adapter, vocabulary), READOUTS[adapter]
    rows = data.draw(st.lists(inputs(vocabulary, 3), min_size=1, max_size=4))
    try:
        cells = evaluate(program, as_batch(rows, 0), vocabulary, readout)
    except ProgramError:
        assume(False)
    facts = Facts(vocabulary, readout, tuple(range(len(vocabulary.names))))
    for found, row in zip(cells, rows, strict=True):
        expected = answer(program, row, vocabulary, readout)
        assert tuple(int(c) for c in found[: len(expected)]) == expected
        assert not {NO_NUMBER, UNDETERMINED} & set(expected)
        texts = [readout.text(code, vocabulary) for code in expected]
        for (code, text), mine, shown in zip(checked(program, row, vocabulary, readout), expected, texts, strict=True):
            assert text == shown
            assert code == mine or not -SYMBOL_BASE < mine < SYMBOL_BASE - 1
        circuit = Circuit()
        symbolic = answer_cells(program, circuit, [constant(code) for code in row], facts)
        values = Evaluated(circuit, [], np.zeros((1, 0), np.int64))
        assert [int(values.integer(cell)[0]) for cell in symbolic] == list(expected)
        names = tuple(vocabulary.names[list(vocabulary.token_codes).index(code)] for code in row)
        predict = run(to_python(program, vocabulary, readout, [names]))["predict"]
        assert predict(list(names)) == expected_answer(program, names, vocabulary, readout)


EXACT: list[tuple[str, str]] = [
    ("output = mean(everywhere, int(tokens == 'a'))", "1/3"),
    ("output = mean(keys_where(tokens == 'a'), indices)", "1"),
    ("output = mean(everywhere, int(tokens == 'a')) + 0", "240240"),
    ("output = 240240", "240240"),
    ("output = 0 - mean(everywhere, int(tokens == 'a'))", "-240240"),
    ("output = mean(everywhere, 0 - indices)", "-1"),
    ("output = 1489 if length == 3 else 2", "1489"),
    ("output = mean(everywhere, int(tokens == 'a')) if length == 3 else length", "1/3"),
    ("output = mean(everywhere, int(tokens == 'a')) if length == 2 else length", "3"),
    ("x = mean(everywhere, int(tokens == 'a'))\noutput = x if x < 2 else (x if x < 1 else 0 - x)", "-240240"),
    ("output = 0 - 536870911", "-536870911"),
]


@pytest.mark.parametrize(("text", "expected"), EXACT)
def test_the_rule_by_example(text: str, expected: str) -> None:
    program, readout = parse_program(text, "value"), READOUTS["value"]
    row = tuple(int(SYMBOLS.symbol_code(name)) for name in "bab")
    (code,) = answer(program, row, SYMBOLS, readout)
    assert readout.text(code, SYMBOLS) == expected
    assert (-SYMBOL_BASE < code < SYMBOL_BASE) == (abs(Fraction(expected)) <= LARGEST_WHOLE)
    assert checked(program, row, SYMBOLS, readout)[0][1] == expected
    names = ("b", "a", "b")
    assert run(to_python(program, SYMBOLS, readout, [names]))["predict"](list(names)) == expected


@given(st.lists(st.integers(1 - WHOLE_LIMIT, WHOLE_LIMIT - 1), min_size=1, unique=True))
def test_whole_numbers_have_codes_of_their_own(numbers: list[int]) -> None:
    codes = whole_codes(np.array(numbers, np.int32))
    assert len(set(codes.tolist())) == len(numbers)
    assert [number_text(int(code)) for code in codes] == list(map(str, numbers))
    assert codes.min() > NO_NUMBER and codes.max() < SYMBOL_BASE - 1
    for number, code in zip(numbers, codes.tolist(), strict=True):
        assert code == number * UNITS if abs(number) <= LARGEST_WHOLE else code <= -SYMBOL_BASE


@pytest.mark.parametrize("number", (WHOLE_LIMIT, -WHOLE_LIMIT, WHOLE_LIMIT + 5))
def test_larger_numbers_are_refused(number: int) -> None:
    program = Program("value", (("output", Term("integer", (), (number,))),))
    row, readout = (int(SYMBOLS.symbol_code("a")),), READOUTS["value"]
    with pytest.raises(ProgramError, match="expected numbers within 2"):
        answer(program, row, SYMBOLS, readout)
    with pytest.raises(ProgramError, match="expected numbers within 2"):
        evaluate(program, as_batch([row], 0), SYMBOLS, readout)
    with pytest.raises(BudgetError, match="expected numbers within 2"):
        answer_cells(program, Circuit(), [constant(row[0])], Facts(SYMBOLS, readout, (0, 1)))


# -- from numbers to codes -------------------------------------------------------------------------------------------
TOLERANCES = st.one_of(st.floats(1e-9, 0.499), st.sampled_from((0.25, 0.249, 1 / 12, 1e-4, 0.002)))


@given(tolerance=TOLERANCES)
def test_fractions_are_further_apart_than_two_tolerances(tolerance: float) -> None:
    most = largest_denominator(tolerance)
    known = {Fraction(p, q) for q in range(1, most + 1) for p in range(q + 1)}
    ordered = sorted(known)
    assert all(b - a > 2 * Fraction(tolerance) for a, b in pairwise(ordered))
    if most < LARGEST_DENOMINATOR:
        assert Fraction(1, most * (most + 1)) <= 2 * Fraction(tolerance) * (1 + Fraction(1, 2**52))


@given(
    tolerance=TOLERANCES,
    near=st.fractions(-1495, 1495, max_denominator=40),
    off=st.floats(-1.0, 1.0),
    scale=st.sampled_from((0.0, 1e-12, 1e-6, 1e-3, 0.1, 1.0)),
)
def test_codes_and_rooms_are_those_of_exact_arithmetic(
    tolerance: float, near: Fraction, off: float, scale: float
) -> None:
    value = float(near) + off * scale * tolerance * 2
    exact, most = Fraction(value), largest_denominator(tolerance)
    far, nearest = min(
        (abs(exact - Fraction(round(exact * q), q)), Fraction(round(exact * q), q)) for q in range(1, most + 1)
    )
    room = Fraction(tolerance) - far
    expected = int(nearest * UNITS) if room > 0 and abs(nearest * UNITS) < SYMBOL_BASE else NO_NUMBER
    for codes, rooms, slips in (
        nearest_fractions(np.array([value]), tolerance),
        _fractions(np.array([value]), tolerance),
    ):
        slip = Fraction(float(slips[0]))
        assert abs(Fraction(float(rooms[0])) - room) <= slip
        assert slip < Fraction(1, 10**11)
        if abs(float(rooms[0])) > slip:
            assert int(codes[0]) == expected


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf, 1e300, -1e20))
def test_what_is_no_number_is_decided_by_nothing(value: float) -> None:
    for find in (nearest_fractions, _fractions):
        with np.errstate(all="ignore"):
            codes, rooms, slips = find(np.array([value]), 1e-4)
        assert codes[0] == NO_NUMBER
        assert not abs(rooms[0]) > slips[0]


# -- where answers are compared by their values ----------------------------------------------------------------------
PAIRS: list[tuple[str, str, bool]] = [
    ("length", "count(tokens == 'a')", True),
    ("mean(everywhere, int(tokens == 'a'))", "mean(everywhere, int(tokens == 'b'))", True),
    ("mean(everywhere, int(tokens == 'a'))", "240240", False),
    ("1 if length == 2 else mean(everywhere, int(tokens == 'a'))", "1", False),
]


@pytest.mark.parametrize(("left", "right", "tell"), PAIRS)
def test_machines_compare_values_only_where_they_tell(left: str, right: str, tell: bool) -> None:
    world = replace(domain("ab", lengths=(1, 3)), readout=READOUTS["value"])
    programs = [parse_program(f"output = {text}", "value") for text in (left, right)]
    assert values_tell(programs, READOUTS["value"]) == tell
    assert values_tell(programs, ReadOut("last", "argmax", (0,)))
    if not tell:
        assert None in [counts_units(p.term()) for p in programs] or len({counts_units(p.term()) for p in programs}) > 1
        assert read_together(*programs, world, (1, 2, 3)).same == ()
        with pytest.raises(Refused, match="fractions"):
            read_pair(*programs, world, 2)
