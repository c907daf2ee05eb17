"""Laws: the batched meaning of every well-sorted term is the interpreter's, cell by cell, and its sort is as drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.lang.batched import Batch, apply, evaluate_term
from extract.lang.interpret import default_code, evaluate_one
from extract.lang.operators import DEFAULTED_NAMES
from extract.lang.sorts import sort_of, sorts_of
from extract.lang.terms import Term
from extract.vocabulary import ABSENT, Vocabulary
from tests.laws.terms import MAX_STEPS, NUMBERS, SYMBOLS, batches, well_sorted_terms

SHAPES = ("whole", "position", "step")


def as_batch(rows: list[tuple[int, ...]], n_steps: int) -> Batch:
    """Pad inputs of any lengths."""
    codes = np.full((len(rows), max(map(len, rows))), ABSENT, dtype=np.int32)
    for i, row in enumerate(rows):
        codes[i, : len(row)] = row
    return Batch(codes, np.array([len(row) for row in rows], dtype=np.int32), n_steps)


def padded(cells: list[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return the interpreter's cells with 0 where no cell exists."""
    full = np.zeros(shape, dtype=np.int64)
    for i, cell in enumerate(cells):
        if isinstance(cell, list):
            full[i, : len(cell)] = cell
        else:
            full[i] = cell
    return full


def check_same(term: Term, rows: list[tuple[int, ...]], vocabulary: Vocabulary, n_steps: int) -> None:
    values = evaluate_term(term, as_batch(rows, n_steps), vocabulary)
    kind = sort_of(term, vocabulary).kind
    assert values.dtype == (np.int32 if kind == "I" else np.bool_)
    for i, row in enumerate(rows):
        expected = padded(evaluate_one(term, row, vocabulary, n_steps), values.shape[1:])
        np.testing.assert_array_equal(values[i].astype(np.int64), expected, err_msg=f"{term} on {row}")


@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@pytest.mark.parametrize("kind", ("I", "B", "S"))
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_batched_is_reference(kind: str, vocabulary: Vocabulary, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    term = data.draw(well_sorted_terms(kind, shape, vocabulary))
    check_same(term, data.draw(batches(vocabulary)), vocabulary, data.draw(st.integers(0, MAX_STEPS)))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_operator_by_operator_is_reference(data: st.DataObject) -> None:
    """Values fed to ``apply`` one operator at a time, as a search does, give what whole terms give."""
    vocabulary = data.draw(st.sampled_from((SYMBOLS, NUMBERS)))
    term = data.draw(well_sorted_terms("I", data.draw(st.sampled_from(SHAPES)), vocabulary))
    batch = as_batch(data.draw(batches(vocabulary)), 3)
    sorts = sorts_of(term, vocabulary)
    values: dict[Term, Any] = {}
    for subterm in term.subterms():
        default = 0
        if subterm.operator in DEFAULTED_NAMES:
            default = default_code(sorts[subterm.arguments[subterm.operator != "shift"]], vocabulary)
        arguments = [values[argument] for argument in subterm.arguments]
        values[subterm] = apply(
            subterm.operator, arguments, subterm.data, batch, vocabulary, shape=sorts[subterm].shape, default=default
        )
    expected = evaluate_term(term, batch, vocabulary)
    np.testing.assert_array_equal(np.broadcast_to(values[term], expected.shape), expected)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_drawn_terms_have_the_sort_asked_for(data: st.DataObject) -> None:
    vocabulary = data.draw(st.sampled_from((SYMBOLS, NUMBERS)))
    kind, shape = data.draw(st.sampled_from(("I", "B", "S"))), data.draw(st.sampled_from(SHAPES))
    sort = sort_of(data.draw(well_sorted_terms(kind, shape, vocabulary)), vocabulary)
    assert sort.kind == kind
    assert sort.shape in ("whole", shape)
