"""Hostile and mistaken texts are refused before evaluation, with the place, what was found and what was expected."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import ProgramError
from extract.lang.syntax import parse_program, parse_term, print_program, print_term
from extract.lang.terms import Term

REFUSED = (
    "__import__('os').system('true')",
    "tokens.__class__",
    "open('/etc/passwd')",
    "[x for x in tokens]",
    "lambda: 0",
    "(yield)",
    "await tokens",
    "f'{tokens}'",
    "tokens[0]",
    "tokens[1:2]",
    "{1: 2}",
    "{tokens}",
    "(1, 2)",
    "[1]",
    "tokens if length",
    "tokens is None",
    "'a' in tokens",
    "tokens / 2",
    "tokens ** 2",
    "tokens << 1",
    "tokens & 1",
    "~tokens",
    "+tokens",
    "1.5",
    "1j",
    "b'a'",
    "None",
    "...",
    "(a := 1)",
    "*tokens",
    "print(tokens)",
    "eval('1')",
    "u'a'",
    "tokens()",
    "count",
    "count()",
    "count(1, 2)",
    "min(tokens)",
    "select(tokens, tokens)",
    "9" * 5000,
    "4294967296",
    "-4294967296",
    "table(tokens, [1, 2], 0)",
    "table(tokens, {**tokens}, 0)",
    "table(tokens, {1: [2.0]})",
    "scan(tokens)",
    "scan(tokens, start=0, letters=('a',), transitions=((0,),), more=1)",
    "horner(tokens)",
    "shift(tokens)",
    "shift(tokens, length)",
    "shift(tokens, k=1)",
    "count(b=tokens == 'a')",
    "count(*tokens)",
    "table(tokens, {'a': 1}, default=0, **{})",
    "x = 1",
    "1; 2",
    "1\n2",
    "",
    "tokens ==",
    "\x00",
    "integer(1)",
    "True()",
)

PROGRAMS_REFUSED = (
    "import os\noutput = 1",
    "output: int = 1",
    "output = 1\noutput = 2",
    "tokens = 1\noutput = 1",
    "a = b = 1\noutput = 1",
    "def output(): pass",
    "output += 1",
    "a, b = 1\noutput = 1",
    "output['a'] = True",
    "a = 1",
    "count = 1\noutput = 1",
    "a = 1\na = 2\noutput = 1",
    "output.x = 1",
    "output = a\na = 1",
    "for output in tokens: pass",
    "del output",
    "output_length = 1",
    "output = 1\noutput_length = 1",
    "\u00e9 = 1\noutput = 1",
    "1",
    "output = 1 if",
    "if True: output = 1",
    "'''text'''\noutput = 1",
    "global output",
    "output = 1  # fine\nwhile True: pass",
    "assert True\noutput = 1",
)


@pytest.mark.parametrize("text", REFUSED)
def test_refused_expressions(text: str) -> None:
    with pytest.raises(ProgramError):
        parse_term(text)


@pytest.mark.parametrize("text", PROGRAMS_REFUSED)
def test_refused_programs(text: str) -> None:
    with pytest.raises(ProgramError):
        parse_program(text, "value")


@pytest.mark.parametrize(
    "text",
    (
        "(" * 300 + "1" + ")" * 300,
        "-" * 50_000 + "1",
        "not " * 60 + "True",
        "1+" * 150 + "1",
        "1" + "+(1" * 40 + ")" * 40,
        "tokens == 'a' and " * 120 + "True",
        "count(" * 5000,
        "'" + "a" * 20_000 + "'",
        "[" * 5000,
        "table(tokens, {" + "1: (" * 3000,
        " " * 11_000 + "1",
        "1 < " * 250 + "1",
        "min(" + "1, " * 250 + "1)",
        "table(tokens, {" + "1: 1, " * 60_000 + "})",
        "x" * 300_000,
    ),
    ids=range(15),
)
def test_oversized_texts_are_refused_quickly(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ProgramError):
        parse_program(f"output = {text}", "value")
    assert time.perf_counter() - start < 2


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        term = parse_term(text)
    except ProgramError as error:
        assert "\n" not in error.line()
    else:
        assert parse_term(print_term(term)) == term


@pytest.mark.parametrize(
    ("text", "said"),
    (
        (
            "output = cuont(tokens == 'a')",
            "line 1, column 10: 'cuont' is no operator with arguments (hint: did you mean count?)",
        ),
        ("a = 1\noutput = tokns", "line 2, column 10: 'tokns' is not defined (hint: did you mean tokens?)"),
        (
            "output = 'é' / 2",
            "line 1, column 10: found div, expected + - * // or % (hint: // is division rounded down)",
        ),
        (
            "output = table(tokens, 'é', 0 ** 1)",
            "line 1, column 24: found constant, expected entries such as {'a': 1, 'b': 2}",
        ),
        ("length = 1", "line 1, column 1: 'length' is an operator, expected a new name"),
        ("output['a'] = True", "line 1, column 1: a value program has no labels, expected output = ..."),
    ),
)
def test_messages_name_place_value_and_expectation(text: str, said: str) -> None:
    with pytest.raises(ProgramError) as caught:
        parse_program(text, "value")
    assert caught.value.line() == said


@pytest.mark.parametrize(
    ("text", "same"),
    (
        ("a > b", "b < a"),
        ("a >= b", "b <= a"),
        ("a != b", "not a == b"),
        ("1 < a <= b", "1 < a and a <= b"),
        ("min(a, b, 1)", "min(min(a, b), 1)"),
        ("-a", "0 - a"),
        ("a and b and 1", "(a and b) and 1"),
        ("table(a, {1: 2})", "table(a, {1: 2}, 0)"),
        ("horner(a, 2)", "horner(a, 2, 0)"),
        ("scan(a, 1, ['x'], [[0], [1]])", "scan(a, start=1, letters=('x',), transitions=((0,), (1,)))"),
    ),
)
def test_sugar(text: str, same: str) -> None:
    lets = "a = indices\nb = length\n"
    parsed = [parse_program(f"{lets}output = {t}", "value") for t in (text, same)]
    assert parsed[0] == parsed[1]


def test_predicates_take_key_then_query() -> None:
    """The asymmetric relation: keys below the query, not above."""
    term = parse_term("select(indices, length, '<')")
    assert term == Term("select", (Term("indices"), Term("length")), ("<",))


def test_large_tables_are_literals() -> None:
    rows = tuple((state + 1) % 200 for state in range(200))
    term = Term("scan", (Term("tokens"),), (0, ("a",), tuple((row,) for row in rows)))
    assert parse_term(print_term(term)) == term


def test_shared_parts_are_named_once() -> None:
    text = print_program(
        parse_program(
            "output['a'] = count(tokens == 'a') - count(tokens == 'b') < 2\n"
            "output['b'] = 0 < count(tokens == 'a') - count(tokens == 'b')\n",
            "multilabel",
        )
    )
    assert text == (
        "difference = count(tokens == 'a') - count(tokens == 'b')\n"
        "output['a'] = difference < 2\n"
        "output['b'] = 0 < difference\n"
    )
