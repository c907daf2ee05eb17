"""Law: the symbolic meaning of every well-sorted term is the interpreter's, on every assignment of its letters."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import ProgramError
from extract.lang.interpret import evaluate_one
from extract.lang.operators import OPERATORS, RELATIONS, Operator
from extract.lang.sorts import sort_of
from extract.lang.terms import Datum, Term
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
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_symbolic_is_reference(kind: str, vocabulary: Vocabulary, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    term = data.draw(well_sorted_terms(kind, shape, vocabulary))
    length = data.draw(st.integers(0, LONGEST))
    word = st.tuples(*[st.sampled_from(alphabet_of(vocabulary))] * length)
    check_same(
        term, data.draw(st.lists(word, min_size=1, max_size=8)), vocabulary, data.draw(st.integers(0, MAX_STEPS))
    )


class AtTheRoot:
    """Random well-sorted terms with a chosen operator at the root, drawn from the rows' argument kinds alone."""

    def __init__(self, seed: int, vocabulary: Vocabulary) -> None:
        self.random = random.Random(seed)
        self.vocabulary = vocabulary

    def term(self, row: Operator, depth: int) -> Term | None:
        """Return a term, or None if what was drawn is badly sorted."""
        n_arguments = self.random.randint(row.n_required, len(row.arguments))
        arguments = [self.argument(expected.kind, depth) for expected in row.arguments[:n_arguments]]
        if row.name in ("//", "%") and arguments:
            arguments[1] = Term("integer", (), (self.random.randint(1, 4),))
        if any(argument is None for argument in arguments):
            return None
        term = Term(row.name, tuple(a for a in arguments if a is not None), self.data(row.name))
        try:
            sort_of(term, self.vocabulary)
        except ProgramError:
            return None
        return term

    def argument(self, kinds: str, depth: int) -> Term | None:
        kind = self.random.choice(kinds)
        rows = [row for row in OPERATORS.values() if row.result == kind and (depth > 0 or not row.arguments)]
        return self.term(self.random.choice(rows), depth - 1)

    def datum(self) -> Datum:
        names = [name for name in self.vocabulary.names if "<" not in name]
        return self.random.choice([*names, "", self.random.randint(-3, 4), self.random.randint(0, 2)])

    def data(self, name: str) -> tuple[Datum, ...]:
        small, pick = self.random.randint(-3, 4), self.random.choice
        n_states = self.random.randint(1, 3)
        keys = tuple(dict.fromkeys(self.datum() for _ in range(3)))
        pairs = tuple(dict.fromkeys((self.datum(), self.datum()) for _ in range(4)))
        rows = tuple(tuple(self.random.randrange(n_states) for _ in keys) for _ in range(n_states))
        choices: dict[str, tuple[Datum, ...]] = {
            "integer": (small,),
            "symbol": (pick([*self.vocabulary.names, ""]),),
            "boolean": (pick([0, 1]),),
            "select": (pick(RELATIONS),),
            "table": (tuple((key, i) for i, key in enumerate(keys)), small),
            "table2": (tuple((pair, i) for i, pair in enumerate(pairs)), small),
            "shift": (small,),
            "scan": (self.random.randrange(n_states), keys, rows),
            "horner": (small, pick([0, 2, 3, 5])),
        }
        return choices.get(name, ())


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_at_the_root(name: str) -> None:
    for k, vocabulary in enumerate((SYMBOLS, NUMBERS)):
        drawn = AtTheRoot(k, vocabulary)
        letters = alphabet_of(vocabulary)
        n_checked = 0
        for _ in range(4000):
            term = drawn.term(OPERATORS[name], 1 + n_checked % 2)
            if term is None:
                continue
            length = drawn.random.randint(0, LONGEST)
            words = [tuple(drawn.random.choice(letters) for _ in range(length)) for _ in range(8)]
            check_same(term, words, vocabulary, drawn.random.randint(0, MAX_STEPS))
            n_checked += 1
            if n_checked == (40 if OPERATORS[name].arguments else 4):
                break
        assert n_checked >= 4


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
