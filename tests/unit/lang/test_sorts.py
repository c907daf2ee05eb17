"""Badly sorted terms and programs are refused with the operator, what was found and what was expected."""

from __future__ import annotations

import pytest

from extract.errors import ProgramError
from extract.lang.operators import OPERATORS
from extract.lang.promise import compile_promise
from extract.lang.ranges import integer_ranges
from extract.lang.sorts import Sort, check_program, sort_of
from extract.lang.syntax import parse_program, parse_term
from extract.lang.terms import Adapter, Term
from extract.readout import ReadOut
from extract.vocabulary import Vocabulary

LETTERS = Vocabulary(("a", "b", "3"))
NUMBERS = Vocabulary(("0", "1", "2"), numeric=True)
LAST = ReadOut("last", "argmax", (0, 1))


@pytest.mark.parametrize(
    ("text", "sort"),
    (
        ("tokens", Sort("I", "T", "position")),
        ("indices", Sort("I", "N", "position")),
        ("step", Sort("I", "N", "step")),
        ("length - 1", Sort("I", "Z", "whole")),
        ("tokens == 'a'", Sort("B", "", "position")),
        ("select(tokens, 'a', '==')", Sort("S", "", "whole")),
        ("before", Sort("S", "", "position")),
        ("select(indices, step, '==')", Sort("S", "", "step")),
        ("last(everywhere, tokens)", Sort("I", "T", "whole")),
        ("last(before, tokens, 'a')", Sort("I", "T", "position")),
        ("count(tokens == 'a')", Sort("I", "N", "whole")),
        ("first(select(indices, step, '=='), tokens)", Sort("I", "T", "step")),
        ("-1", Sort("I", "Z", "whole")),
        ("table(tokens, {'a': 1}, 0)", Sort("I", "N", "position")),
        ("table(tokens, {'a': 1}, 'b')", Sort("I", "", "position")),
        ("'a' if length < 2 else 'b'", Sort("I", "T", "whole")),
        ("not before", Sort("S", "", "position")),
        ("before and keys_where(tokens == 'a')", Sort("S", "", "position")),
        ("shift(tokens, 1)", Sort("I", "T", "position")),
    ),
)
def test_sorts(text: str, sort: Sort) -> None:
    assert sort_of(parse_term(text), LETTERS) == sort


@pytest.mark.parametrize(
    ("text", "said"),
    (
        ("tokens == 3", "== mixes tokens with numbers"),
        ("tokens + 1", "+ has tokens as x, expected numbers"),
        ("tokens == 'z'", "'z' names no token or output, expected one of 'a', 'b', '3'"),
        ("indices + step", "+ combines a value per position with a value per output index"),
        ("count(step == 1)", "count reads b along the input, found a value per output index"),
        ("select(step, indices, '==')", "select reads keys along the input"),
        ("exists(tokens == 'a')", "exists has a boolean as selector, expected a selector (hint: keys_where(b)"),
        ("count(indices)", "count has an integer as b, expected a boolean"),
        ("before and tokens == 'a'", "and has a selector and a boolean, expected two of one kind"),
        ("sum_over(before, tokens)", "sum_over has tokens as values, expected numbers"),
        ("indices // length", "// divides by a computed value, expected an integer constant above 0"),
        ("indices % 0", "% divides by 0, expected an integer constant above 0"),
        ("indices // -2", "// divides by -2"),
        ("(tokens == 'a') + 1", "+ has a boolean as x, expected an integer (hint: int(b)"),
        ("('a' if length < 2 else 3) == 'a'", "a mixture of tokens and numbers"),
        ("first(before, tokens, 0)", "first mixes tokens with numbers"),
        ("scan(tokens, start=2, letters=('a',), transitions=((0,),))", "scan has the state 2, expected 0..0"),
        ("scan(tokens, letters=('a', 'b'), transitions=((0,),))", "wrong width, expected 2"),
        ("table(tokens, {'a': 1, 'a': 2}, 0)", "lists the key 'a' twice"),
        ("table2(tokens, tokens, {'a': 1}, 0)", "has the key 'a', expected 2 constants"),
        ("select(tokens, tokens, '=')", "select has the relation '='"),
        ("horner(indices, 2, -3)", "horner has modulus -3"),
    ),
)
def test_refusals(text: str, said: str) -> None:
    with pytest.raises(ProgramError) as caught:
        sort_of(parse_term(text), LETTERS)
    assert said in caught.value.line()


def test_numeric_tokens_are_numbers() -> None:
    assert sort_of(parse_term("tokens + 1"), NUMBERS).tag == "Z"
    assert sort_of(parse_term("tokens == 3"), NUMBERS).kind == "B"


@pytest.mark.parametrize(
    ("adapter", "text", "readout", "said"),
    (
        ("value", "output = tokens", LAST, "output has one value per position, expected whole"),
        ("value", "output = length == 1", LAST, "output is a boolean, expected an integer"),
        ("every", "output = 1", LAST, "the program is every, expected value"),
        ("multilabel", "output['z'] = True", ReadOut("last", "multilabel", (0, 1)), "output['z'] is no label"),
        ("value", "output = prompt_length", LAST, "prompt_length is used in a program that is value, expected step"),
        (
            "generate",
            "output = tokens\noutput_length = 1",
            ReadOut("generate", "argmax", (0,)),
            "one value per position",
        ),
    ),
)
def test_programs_that_do_not_fit(adapter: Adapter, text: str, readout: ReadOut, said: str) -> None:
    with pytest.raises(ProgramError) as caught:
        check_program(parse_program(text, adapter), LETTERS, readout)
    assert said in caught.value.line()


@pytest.mark.parametrize(
    ("text", "said"),
    (
        ("tokens == 'a'", "the promise is a boolean per position, expected one boolean (hint: all(b)"),
        ("length", "the promise is an integer per input"),
        ("before", "the promise is a selector per position"),
        ("any(indices == prompt_length)", "the promise uses step or prompt_length"),
    ),
)
def test_promises_that_are_none(text: str, said: str) -> None:
    with pytest.raises(ProgramError) as caught:
        compile_promise(text, LETTERS)
    assert said in caught.value.line()


@pytest.mark.parametrize(
    ("text", "fits"),
    (
        ("horner(tokens, 10)", True),
        ("horner(tokens, 1000)", False),
        ("length * length * length", True),
        ("sum_over(everywhere, indices * 100000000)", False),
        ("mean(everywhere, tokens * 1000)", False),
        ("1073741823", False),
        ("horner(tokens, 2147483648, 2147483647) % 3", False),
        ("horner(tokens, 1000, 97)", True),
    ),
)
def test_integers_stay_within_32_bits(text: str, fits: bool) -> None:
    term = parse_term(text)
    if fits:
        integer_ranges(term, NUMBERS, 8)
    else:
        with pytest.raises(ProgramError, match="expected integers within 2\\^30"):
            integer_ranges(term, NUMBERS, 8)


def test_every_row_says_what_it_is() -> None:
    for name, row in OPERATORS.items():
        assert row.name == name
        assert row.sentence and row.empty and row.surface
        optional = [argument.optional for argument in row.arguments]
        assert optional == sorted(optional), "optional arguments come last"


def test_unknown_operators_and_wrong_counts_are_refused() -> None:
    for term in (Term("nothing"), Term("count"), Term("integer"), Term("tokens", (Term("tokens"),))):
        with pytest.raises(ProgramError):
            sort_of(term, LETTERS)


@pytest.mark.parametrize("name", ("integer", "shift"))
def test_what_is_remembered_of_one_is_not_said_of_true(name: str) -> None:
    """1, 1.0 and True are equal and hash alike: a node with one must not vouch for another."""
    arguments = () if name == "integer" else (Term("tokens"),)
    assert sort_of(Term(name, arguments, (1,)), LETTERS).kind == "I"
    for datum in (True, 1.0):
        with pytest.raises(ProgramError):
            sort_of(Term(name, arguments, (datum,)), LETTERS)  # type: ignore[arg-type]


def test_what_is_remembered_of_one_vocabulary_is_not_said_of_another() -> None:
    with pytest.raises(ProgramError):
        sort_of(parse_term("tokens + 1"), LETTERS)
    assert sort_of(parse_term("tokens + 1"), NUMBERS).tag == "Z"
    with pytest.raises(ProgramError):
        sort_of(parse_term("tokens + 1"), LETTERS)
