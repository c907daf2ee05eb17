"""Padding, chunking and windows of batches where random terms seldom look."""

from __future__ import annotations

import numpy as np
import pytest

from extract.lang.batched import Batch, evaluate, evaluate_term
from extract.lang.emit import expected_answer, to_python
from extract.lang.interpret import evaluate_one
from extract.lang.syntax import parse_program, parse_term
from extract.readout import ReadOut
from extract.vocabulary import ABSENT, Vocabulary

LETTERS = Vocabulary(("a", "b"))
NUMBERS = Vocabulary(("0", "1", "+"), numeric=True)


def test_queries_beyond_a_length_pick_nothing() -> None:
    batch = Batch(np.array([[5, ABSENT], [5, 6]], dtype=np.int32), np.array([1, 2], dtype=np.int32))
    for text in ("everywhere or before", "not before", "before or after", "select(indices, indices, '<=')"):
        selector = evaluate_term(parse_term(text), batch, NUMBERS)
        assert not selector[0, 1].any() and not selector[0, :, 1].any(), text


@pytest.mark.parametrize("name", ("first", "last", "min_over", "max_over", "sum_over", "mean"))
@pytest.mark.parametrize("side", ("before", "upto", "after", "everywhere"))
def test_windows_are_their_spelled_out_selectors(name: str, side: str) -> None:
    relation = {"before": "<", "upto": "<=", "after": ">", "everywhere": "!="}[side]
    query = "-1" if side == "everywhere" else "indices"
    codes = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=np.int32)
    batch = Batch(codes, np.array([4, 3, 0], dtype=np.int32))
    window = f"{name}({side} and keys_where(tokens == 1), indices * tokens)"
    spelled = f"{name}(select(indices, {query}, '{relation}') and not keys_where(tokens == 0), indices * tokens)"
    np.testing.assert_array_equal(*(evaluate_term(parse_term(text), batch, NUMBERS) for text in (window, spelled)))


def test_an_empty_batch_and_empty_inputs_have_answers() -> None:
    program = parse_program("output = last(everywhere, tokens, 'b')", "value")
    readout = ReadOut("last", "argmax", (0, 1))
    for n in (0, 2):
        batch = Batch(np.zeros((n, 0), dtype=np.int32), np.zeros(n, dtype=np.int32))
        assert evaluate(program, batch, LETTERS, readout).tolist() == [[LETTERS.symbol_code("b")]] * n


def test_symbols_count_as_nothing_in_arithmetic() -> None:
    codes = tuple(int(NUMBERS.token_codes[i]) for i in (1, 2, 1))
    assert evaluate_one(parse_term("sum_over(everywhere, tokens)"), codes, NUMBERS) == [2]
    batch = Batch(np.array([codes], dtype=np.int32), np.array([3], dtype=np.int32))
    assert evaluate_term(parse_term("tokens + 1"), batch, NUMBERS).tolist() == [[2, 1, 2]]


def test_variables_of_emitted_files_hide_no_helper() -> None:
    text = "output = (count(indices == 0) + sum_over(everywhere, tokens)) * count(indices == 0)"
    program, readout = parse_program(text, "value"), ReadOut("last", "argmax", (0, 1))
    namespace: dict[str, object] = {"__name__": "emitted"}
    exec(compile(to_python(program, NUMBERS, readout), "emitted.py", "exec"), namespace)
    predict = namespace["predict"]
    assert callable(predict)
    assert predict(["1", "+"]) == expected_answer(program, ("1", "+"), NUMBERS, readout) == "2"
