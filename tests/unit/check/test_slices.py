"""The checker reads programs left to right as its own interpreter reads them, and cuts and counts strings rightly."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.check.answers import program_answers
from extract.check.program import parse
from extract.check.reader import Unreadable
from extract.check.slices import Slice, answering, whole_slice
from extract.check.spec import Task
from extract.lang.interpret import evaluate_one
from extract.lang.syntax import parse_term, print_term
from tests.laws.terms import NUMBERS, SYMBOLS, well_sorted_terms
from tests.unit.check.test_spec import both

RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
#: Terms that must be readable, not only right where they are.
READABLE = (
    "count(tokens == 'a') < count(tokens == 'b')",
    "last(select(tokens, 'c', '!='), tokens) == 'a'",
    "first(select(tokens, 'c', '!='), tokens, 'c') == 'b'",
    "exists(keys_where(running_count(tokens == 'a') == 2) and not select(tokens, 'c', '=='))",
    "selector_width(select(tokens, 'a', '==') or keys_where(indices == 0)) == length // 2",
    "any(running_count(tokens == 'a') - running_count(tokens == 'b') < 0)",
    "max_over(keys_where(tokens == 'a'), indices, 7) == 7",
    "min_over(everywhere, indices + int(tokens == 'b')) == 0",
    "last(everywhere, scan(tokens, 0, ('a', 'b'), ((1, 0), (0, 1)))) == 1",
    "last(everywhere, horner(table(tokens, {'a': 1, 'b': 2}, 0), 3, 5)) == 4",
    "sum_over(keys_where(tokens != 'c'), indices) % 3 == 1",
    "length % 2 == 0",
    "distinct(tokens)",
)


def task_of(vocabulary: Any, alphabet: list[str], length: int, **readout: Any) -> Task:
    spec = {
        "version": 1, "name": "case", "tokens": {"vocab": list(vocabulary.names), "numeric": vocabulary.numeric},
        "domain": {"alphabet": alphabet, "min_length": 0, "max_length": length, "template": "<bos> {x}"},
        "readout": {"at": "last", **readout},
    }  # fmt: skip
    return both(spec)[1]


def labelled(task: Task, text: str, length: int) -> tuple[dict[tuple[int, ...], list[int]], dict[Any, list[int]]]:
    """What the machine and what the interpreter say of every string of letters."""
    lets = parse(text)
    whole = whole_slice(task, answering(task, lets), length)
    assert whole is not None
    assert whole.size() == len(task.alphabet) ** length
    said = {}
    for row in whole.all().tolist():
        state = 0
        for table, letter in zip(whole.edges, row, strict=True):
            state = int(table[state, letter])
        said[tuple(row)] = whole.labels[state].tolist()
    rows = np.array(list(said), np.int64).reshape(len(said), length)
    adapter = "multilabel" if task.kind == "multilabel" else "value"
    cells = program_answers(task, lets, adapter, task.alphabet[rows], whole.labels.shape[1])
    return said, dict(zip(said, cells.tolist(), strict=True))


@pytest.mark.parametrize("condition", READABLE)
def test_programs_of_one_answer(condition: str) -> None:
    task = task_of(SYMBOLS, ["a", "b", "c"], 5)
    for length in range(6):
        said, expected = labelled(task, f"here = {condition}\noutput = 'a' if here else 'b'", length)
        assert said == expected, length


def test_programs_of_labels_share_their_parts() -> None:
    task = task_of(SYMBOLS, ["a", "b"], 4, kind="multilabel")
    text = "n = count(tokens == 'a')\noutput['a'] = n < 2\nhalf = length // 2\noutput['c'] = n == half"
    said, expected = labelled(task, text, 4)
    assert said == expected
    assert {tuple(row) for row in said.values()} == {(0, 1, 0, 0), (0, 0, 0, 0), (0, 0, 1, 0)}


@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@RELAXED
@given(data=st.data())
def test_random_terms(vocabulary: Any, data: st.DataObject) -> None:
    alphabet = ["a", "b", "c"] if vocabulary is SYMBOLS else ["0", "1", "2"]
    term = data.draw(well_sorted_terms("B", "whole", vocabulary))
    text = print_term(term)
    task = task_of(vocabulary, alphabet, 4, kind="multilabel", choices=[alphabet[0]])
    for length in range(1, 5):
        try:
            said, _ = labelled(task, f"output[{alphabet[0]!r}] = {text}", length)
        except Unreadable:
            return
        for letters, cells in said.items():
            codes = tuple(int(task.token_codes[task.alphabet[a]]) for a in letters)
            assert cells == [int(evaluate_one(parse_term(text), codes, vocabulary)[0])], (text, codes)


@pytest.mark.parametrize(
    "text",
    (
        "tokens",
        "indices",
        "first(select(indices, length - 1, '=='), tokens)",
        "rank(tokens)",
        "'a' if distinct(running_count(tokens == 'a')) else 'b'",
    ),
)
def test_what_cannot_be_read_left_to_right_is_refused(text: str) -> None:
    task = task_of(SYMBOLS, ["a", "b"], 3)
    with pytest.raises((Unreadable, ValueError)):
        whole_slice(task, answering(task, parse(f"output = {text}")), 3)


@pytest.mark.parametrize("text", ("n > 0 and count(indices < n) > 1", "count(indices < n) > 1 or n > 3"))
def test_what_is_known_only_at_the_end_is_not_read_before_it(text: str) -> None:
    """A named count of the whole string, used inside another one too: what it is so far would be wrong there."""
    task = task_of(SYMBOLS, ["a", "b", "c"], 5)
    with pytest.raises(Unreadable, match="left to right"):
        answering(task, parse(f"n = count(tokens == 'a')\noutput = 'a' if {text} else 'b'"))
    with pytest.raises(Unreadable, match="left to right"):
        answering(task, parse("n = running_count(tokens == 'a')\noutput = 'a' if any(n == 2) and n > 1 else 'b'"))


def strings(part: Slice | None) -> list[tuple[int, ...]]:
    return [] if part is None else [tuple(row) for row in part.all().tolist()]


def test_slices_part_the_strings() -> None:
    task = task_of(SYMBOLS, ["a", "b", "c"], 4)
    whole = whole_slice(task, answering(task, parse("output = 'a' if count(tokens == 'a') == 1 else 'b'")), 4)
    assert whole is not None
    every = list(itertools.product(range(3), repeat=4))
    ones = whole.answering([int(task.token_codes[1])])
    assert ones is not None
    assert strings(ones) == [w for w in every if w.count(0) == 1]
    assert strings(ones.at(2, 0)) == [w for w in every if w.count(0) == 1 and w[2] == 0]
    for cut, start, stop in itertools.product((0, 1, 3), (0, 1), (3, 4)):
        for is_more in (False, True):
            part = ones.counting([1, 2], start, stop, cut, is_more)
            expected = [
                w for w in every if w.count(0) == 1 and (sum(a in (1, 2) for a in w[start:stop]) > cut) == is_more
            ]
            assert strings(part) == expected
            assert part is None or part.size() == len(expected)
    terms = np.random.default_rng(1).normal(size=(4, 3, 5))
    sums = terms[np.arange(4), np.array(strings(ones))].sum(axis=1)
    assert np.allclose(ones.largest(terms), sums.max(axis=0), rtol=1e-14)
    assert set(map(tuple, ones.drawn(50).tolist())) <= set(strings(ones))
    assert all(ones.holds(list(w)) == (w.count(0) == 1) for w in every)
    shares = [[np.mean([w[p] == a for w in strings(ones)]) for a in range(3)] for p in range(4)]
    assert np.allclose(ones.means(), shares)
