"""The checker's own meaning of program text is the language's definition, on random well-sorted terms."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.check.program import Meaning, parse
from extract.check.promise import program
from extract.check.reader import Unreadable
from extract.lang.interpret import evaluate_one
from extract.lang.sorts import sort_of
from extract.lang.syntax import parse_term, print_term
from extract.vocabulary import Vocabulary
from tests.laws.terms import MAX_STEPS, NUMBERS, SYMBOLS, VOCABULARIES, inputs, well_sorted_terms

RELAXED = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def codes_of(vocabulary: Vocabulary) -> Callable[[str], int]:
    """The code of a quoted name, as a task of the checker would say."""
    return vocabulary.symbol_code


def checked_cells(text: str, vocabulary: Vocabulary, rows: list[tuple[int, ...]], n_cells: int) -> Any:
    """The checker's value of a term on strings of one length."""
    tokens = np.array(rows, np.int64).reshape(len(rows), -1)
    words = {"step": np.arange(MAX_STEPS)[None], "prompt_length": np.array([[tokens.shape[1]]])}
    meaning = Meaning(parse(text), codes_of(vocabulary), vocabulary.numeric, tokens, **words)
    return np.broadcast_to(meaning(meaning.lets["output"]), (len(rows), n_cells))


@pytest.mark.parametrize("shape", ("whole", "position", "step"))
@pytest.mark.parametrize("kind", ("I", "B", "number", "token"))
@RELAXED
@given(data=st.data())
def test_terms_mean_what_the_interpreter_says(kind: str, shape: str, data: st.DataObject) -> None:
    vocabulary = data.draw(st.sampled_from(VOCABULARIES))
    term = data.draw(well_sorted_terms(kind, shape, vocabulary))
    row = data.draw(inputs(vocabulary))
    other = data.draw(st.permutations(row))
    rows = [row, tuple(other)]
    width = {"whole": 1, "position": len(row), "step": MAX_STEPS}[sort_of(term, vocabulary).shape]
    for codes, found in zip(rows, checked_cells(print_term(term), vocabulary, rows, width), strict=True):
        expected = evaluate_one(term, codes, vocabulary, MAX_STEPS)
        assert [int(cell) for cell in found] == [int(cell) for cell in expected], print_term(term)


@pytest.mark.parametrize(
    ("text", "codes", "expected"),
    (
        ("-tokens + 3", (1, 2), [2, 1]),
        ("int(0 <= tokens <= 1)", (0, 1, 2), [1, 1, 0]),
        ("max(tokens, 1, indices)", (0, 0, 0), [1, 1, 2]),
        ("horner(tokens, m=5, a=2)", (1, 2), [1, 4]),
        ("table(tokens, default=7, entries={'1': 3})", (1, 2), [3, 7]),
        ("scan(tokens, letters=('1', '2'), transitions=((1, 0), (1, 0)))", (1, 0, 2), [1, 1, 0]),
        ("last(select(tokens, 9, relation='<'), indices)", (1, 2), [1, 1]),
        ("table2(tokens, indices, {(1, 0): 4})", (1, 1), [4, 0]),
    ),
)
def test_every_spelling_of_the_surface_is_read(text: str, codes: tuple[int, ...], expected: list[int]) -> None:
    assert checked_cells(text, NUMBERS, [codes], len(codes))[0].tolist() == expected
    reference = evaluate_one(parse_term(text), codes, NUMBERS)
    assert [int(cell) for cell in reference * (len(expected) // len(reference))] == expected


@pytest.mark.parametrize(
    "text",
    (
        "__import__('os')", "tokens.sum()", "[t for t in tokens]", "lambda: 1", "1.5", "b'a'", "count.__class__",
        "tokens if tokens else", "output = 1\noutput = 2", "tokens = 1", "a = 1; b = a", "x ** 2", "1 / 2", "None",
        "open('x')", "f'{1}'", "...", "selector_width(unknown)", "'no such name'", "99999999999",
    ),
)  # fmt: skip
def test_what_is_not_of_the_language_is_refused(text: str) -> None:
    with pytest.raises((Unreadable, KeyError)):
        checked_cells(text, SYMBOLS, [(SYMBOLS.symbol_code("a"),)], 1)


def drawn_arithmetic(draw: Any, depth: int) -> str:
    """Arithmetic of literals of any size that the surface has, as Python writes and computes it too."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        size = draw(st.sampled_from((3, 1 << 15, (1 << 30) - 2, 1 << 31)))
        return str(draw(st.integers(size - 2, size)))
    left = drawn_arithmetic(draw, depth - 1)
    match draw(st.sampled_from(("+", "-", "*", "*", "//", "%", "-x", "abs", "max", "sum", "horner"))):
        case "-x":
            return f"(-{left})"
        case "abs":
            return f"abs({left})"
        case "max":
            return f"max({left}, {drawn_arithmetic(draw, depth - 1)})"
        case "sum":
            return f"sum_over(everywhere, {left})"
        case "horner":
            return f"last(everywhere, horner({left}, {draw(st.sampled_from((2, -3, 1 << 15, 1 << 31)))}))"
        case operation:
            return f"({left} {operation} {drawn_arithmetic(draw, depth - 1)})"


def as_written(text: str, n_keys: int, largest: list[int]) -> int:
    """Return the value in unbounded integers; note every number on the way."""

    def value(node: ast.expr) -> int:
        found = inner(node)
        largest.append(found)
        return found

    def inner(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int() as number):
                return number
            case ast.UnaryOp(operand=operand):
                return -value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                x, y = value(left), value(right)
                symbol = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%"}[type(op)]
                if symbol in ("//", "%") and y <= 0:
                    raise ZeroDivisionError
                return {"+": x + y, "-": x - y, "*": x * y, "//": x // max(y, 1), "%": x % max(y, 1)}[symbol]
            case ast.Call(func=ast.Name(id="abs"), args=[x]):
                return abs(value(x))
            case ast.Call(func=ast.Name(id="max"), args=[x, y]):
                return max(value(x), value(y))
            case ast.Call(func=ast.Name(id="sum_over"), args=[_, x]):
                return n_keys * value(x)
            case ast.Call(args=[_, ast.Call(args=[x, ast.expr() as a])]):
                r, by = 0, -a.operand.value if isinstance(a, ast.UnaryOp) else a.value  # type: ignore[attr-defined]
                for _ in range(n_keys):
                    r = by * r + value(x)
                    largest.append(r)
                return r
        raise AssertionError(ast.dump(node))

    return value(ast.parse(text, mode="eval").body)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), n_keys=st.integers(1, 4))
def test_no_number_wraps_or_reads_as_a_symbol(data: st.DataObject, n_keys: int) -> None:
    """Arithmetic is that of unbounded integers, or refused: string by string, and left to right as running totals."""
    text, largest = drawn_arithmetic(data.draw, 3), list[int]()
    try:
        expected = as_written(text, n_keys, largest)
    except ZeroDivisionError:
        expected = None
    in_range = expected is not None and all(abs(n) < (1 << 30) - 1 for n in largest)
    row = (SYMBOLS.symbol_code("a"),) * n_keys

    def means(lets: Any, tokens: Any, **words: Any) -> Meaning:
        return Meaning(lets, codes_of(SYMBOLS), False, tokens, **words)

    def by_strings() -> int:
        return int(checked_cells(text, SYMBOLS, [row], 1)[0, 0])

    def by_totals() -> int:
        states = machine.start(n_keys)
        for p in range(n_keys):
            states = machine.step(states, np.zeros(1, np.int64), p)[0]
        return int(machine.values(states, n_keys)[0, 0])

    readings = [by_strings]
    try:
        machine = program(parse(f"output = {text}"), ["output"], means, np.array(row[:1], np.int64))
        readings.append(by_totals)
    except Unreadable:  # totals of totals are read string by string alone
        pass
    for read in readings:
        if in_range:
            assert read() == expected, text
        else:
            try:
                found = read()
            except Unreadable:
                continue
            assert found == expected, text
