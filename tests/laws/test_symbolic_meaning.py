"""Law: the symbolic meaning of every well-sorted term is the interpreter's, on every assignment of its letters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.lang.interpret import evaluate_one
from extract.lang.operators import OPERATORS
from extract.lang.sorts import sort_of
from extract.lang.terms import Term
from extract.verify.circuit import Circuit
from extract.verify.symbolic import OPERATOR_MEANINGS, Booleans, Integers, Selections, SymbolicInput
from extract.vocabulary import Vocabulary
from tests.laws.circuits import Evaluated
from tests.laws.terms import MAX_STEPS, NUMBERS, SYMBOLS, well_sorted_terms

SHAPES = ("whole", "position", "step")
LONGEST = 5


def alphabet_of(vocabulary: Vocabulary) -> list[int]:
    """Return the codes an unknown token may have: a symbol of the numeric vocabulary among them."""
    return [int(c) for name, c in zip(vocabulary.names, vocabulary.token_codes, strict=True) if "<" not in name]


def cells_of(values: Evaluated, meaning: Integers | Booleans | Selections, row: int) -> list[Any]:
    if isinstance(meaning, Integers):
        return [int(values.integer(cell)[row]) for cell in meaning.cells]
    if isinstance(meaning, Booleans):
        return [bool(values.literal(cell)[row]) for cell in meaning.cells]
    return [[bool(values.literal(cell)[row]) for cell in query] for query in meaning.rows]


def check_same(term: Term, words: list[tuple[int, ...]], vocabulary: Vocabulary, n_steps: int) -> None:
    """Compare the two meanings on words of one length."""
    circuit = Circuit()
    length = len(words[0])
    letters = [circuit.unknown(alphabet_of(vocabulary)) for _ in range(length)]
    meaning = SymbolicInput(circuit, letters, vocabulary, n_steps=n_steps).meaning(term)
    assert meaning.shape == sort_of(term, vocabulary).shape
    values = Evaluated(circuit, letters, np.array(words, dtype=np.int64).reshape(len(words), length))
    assert values.clauses_hold(circuit.clauses) and values.clauses_hold(circuit.lemmas)
    for row, word in enumerate(words):
        expected = [
            cell if isinstance(cell, list) else int(cell) for cell in evaluate_one(term, word, vocabulary, n_steps)
        ]
        assert cells_of(values, meaning, row) == expected, f"{term} on {word}"


@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@pytest.mark.parametrize("kind", ("I", "B", "S"))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_symbolic_is_reference(kind: str, vocabulary: Vocabulary, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    term = data.draw(well_sorted_terms(kind, shape, vocabulary))
    length = data.draw(st.integers(0, LONGEST))
    word = st.tuples(*[st.sampled_from(alphabet_of(vocabulary))] * length)
    check_same(
        term, data.draw(st.lists(word, min_size=1, max_size=8)), vocabulary, data.draw(st.integers(0, MAX_STEPS))
    )


def test_every_operator_has_a_symbolic_meaning() -> None:
    assert set(OPERATOR_MEANINGS) == set(OPERATORS)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (Term("rank", (Term("tokens"),)), [(2, 0, 2, 1), (0, 0, 0, 0)]),
        (Term("mean", (Term("before"), Term("tokens"))), [(2, 0, -1, -1), (0, 0, 0, 0)]),
        (Term("min_over", (Term("before"), Term("tokens"), Term("length"))), [(2, 0, -1, 1)]),
    ],
    ids=("rank", "mean", "min_over"),
)
def test_hand_picked_cases(term: Term, words: list[tuple[int, ...]]) -> None:
    check_same(term, words, NUMBERS, 0)
