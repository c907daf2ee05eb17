"""Each reference function against another definition of the same task, and each promise said twice against itself."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import UsageError
from extract.train.tasks import DEPTH, MODULUS, TASKS, Names, TaskRecord, bracket_states, is_bracket_prefix, task

REQUIRED = {
    "reverse", "histogram", "sort", "majority", "parity", "modular_addition", "max", "first_unique", "dyck2_depth",
    "induction",
}  # fmt: skip

bits = st.lists(st.sampled_from("01"), min_size=1, max_size=14).map(tuple)
letters = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(tuple)
numbers = st.lists(st.sampled_from("01234567"), min_size=1, max_size=8).map(tuple)


def walk(moves: list[int]) -> Names:
    """A prefix of a two-bracket word: move 0 or 1 opens a bracket, 2 closes the innermost one if any is open."""
    stack, word = [], []
    for move in moves:
        if move == 2 and stack:
            word.append(stack.pop())
        else:
            word.append("(["[move % 2])
            stack.append(")]"[move % 2])
    return tuple(word)


brackets = st.lists(st.sampled_from("()[]"), max_size=10).map(tuple) | st.lists(st.integers(0, 2), max_size=10).map(
    walk
)


def answer(name: str, tokens: Names) -> Names:
    return TASKS[name].answer(tokens)


def test_every_required_task_is_there() -> None:
    assert set(TASKS) >= REQUIRED
    assert all(record.name == name for name, record in TASKS.items())


@given(bits)
def test_majority_is_the_sign_of_a_sum(tokens: Names) -> None:
    balance = sum(1 if token == "1" else -1 for token in tokens)
    assert TASKS["majority"].admits(tokens) == (balance != 0)
    if balance:
        assert answer("majority", tokens) == ("1" if balance > 0 else "0",)


@given(letters)
def test_reverse_mirrors_every_place(tokens: Names) -> None:
    mirrored = answer("reverse", tokens)
    assert len(mirrored) == len(tokens)
    assert all(mirrored[i] == tokens[len(tokens) - 1 - i] for i in range(len(tokens)))


@given(numbers)
def test_histogram_counts_up_one_token_at_a_time(tokens: Names) -> None:
    seen: Counter[str] = Counter()
    for token, count in zip(tokens, answer("histogram", tokens), strict=True):
        seen[token] += 1
        assert count == str(seen[token])


@given(numbers)
def test_sort_is_an_ordered_permutation(tokens: Names) -> None:
    ordered = answer("sort", tokens)
    assert Counter(ordered) == Counter(tokens)
    assert all(int(left) <= int(right) for left, right in itertools.pairwise(ordered))


@given(bits)
def test_parity_is_a_chain_of_exclusive_ors(tokens: Names) -> None:
    assert answer("parity", tokens) == (str(reduce(lambda odd, token: odd ^ (token == "1"), tokens, False) * 1),)


@given(st.integers(0, MODULUS - 1), st.integers(0, MODULUS - 1))
def test_modular_sum_counts_round_a_clock(left: int, right: int) -> None:
    hand = left
    for _ in range(right):
        hand = 0 if hand == MODULUS - 1 else hand + 1
    assert answer("modular_addition", (str(left), str(right))) == (str(hand),)


@given(numbers)
def test_maximum_is_an_upper_bound_that_occurs(tokens: Names) -> None:
    (largest,) = answer("max", tokens)
    assert largest in tokens
    assert all(int(token) <= int(largest) for token in tokens)


@given(letters)
def test_first_unique_has_no_twin_and_no_forerunner(tokens: Names) -> None:
    lonely = [i for i, token in enumerate(tokens) if token not in tokens[:i] + tokens[i + 1 :]]
    assert answer("first_unique", tokens) == (tokens[lonely[0]] if lonely else "<none>",)


def reduced(text: str) -> str:
    """The brackets left after matched pairs are struck out until none is left."""
    while "()" in text or "[]" in text:
        text = text.replace("()", "").replace("[]", "")
    return text


@given(brackets)
def test_bracket_prefixes_reduce_to_opening_brackets(tokens: Names) -> None:
    prefixes = [reduced("".join(tokens[:i])) for i in range(len(tokens) + 1)]
    expected = all(set(left) <= set("([") and len(left) <= DEPTH for left in prefixes)
    assert is_bracket_prefix(tokens) == expected
    if expected:
        assert answer("dyck2_depth", tokens) == tuple(str(len(left)) for left in prefixes[1:])


def test_bracket_automaton_accepts_exactly_the_bracket_prefixes() -> None:
    rows = bracket_states()
    for length in range(7):
        for word in itertools.product(range(4), repeat=length):
            state = 0
            for letter in word:
                state = rows[state][letter] if state >= 0 else -1
            assert (state >= 0) == is_bracket_prefix(tuple("()[]"[letter] for letter in word))


@given(letters)
def test_induction_looks_for_the_last_pair(tokens: Names) -> None:
    pairs = [after for before, after in itertools.pairwise(tokens) if before == tokens[-1]]
    # The pair that ends in the last token itself starts one place earlier, so it counts.
    assert answer("induction", tokens) == (pairs[-1] if pairs else "<none>",)


LISTED = [record for record in TASKS.values() if record.draw is None]


@pytest.mark.parametrize("record", LISTED, ids=lambda record: record.name)
def test_answers_stay_inside_the_output_names(record: TaskRecord) -> None:
    for length in range(record.min_length, min(record.max_length, 4) + 1):
        for tokens in itertools.product(record.alphabet, repeat=length):
            if record.admits(tokens):
                given_answer = record.answer(tokens)
                assert set(given_answer) <= set(record.output_names)
                assert len(given_answer) == {"last": 1, "every": length}.get(record.at, len(given_answer))


def test_an_unknown_task_is_refused_with_the_list() -> None:
    with pytest.raises(
        UsageError, match=f"no task is named 'majorty', expected one of {len(TASKS)} such as majority, parity"
    ):
        task("majorty")


def test_records_load_no_torch() -> None:
    code = "import sys, extract.train.tasks, extract.train.data, extract.train.export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_domain_too_large_to_list_is_drawn_from() -> None:
    record, random = TASKS["max_of_10"], Random(1)
    assert record.draw is not None
    drawn = [record.draw(random) for _ in range(2000)]
    assert all(len(tokens) == 10 and set(tokens) <= set(record.alphabet) for tokens in drawn)
    assert {record.answer(tokens)[0] for tokens in drawn} == set(record.alphabet)
