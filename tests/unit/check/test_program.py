"""The checker's own meaning of program text is the language's definition, on random well-sorted terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.check.program import Meaning, parse
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
