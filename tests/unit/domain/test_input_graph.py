"""Input graphs: the strings a promise keeps, no other, counted, listed, ranked and drawn as a list would be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.automata import Language, regular_expression
from extract.errors import DomainError
from extract.input_graph import InputStrings, building
from extract.input_graph.building import distinct_rows, read_machine
from extract.input_graph.strings import DistinctStrings
from tests.unit.domain.promises import HandPromise, Readable, StepMachine, String, all_strings

ALPHABET = (4, 1, 3)


@pytest.fixture(autouse=True, scope="module", params=["read", "listed"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here runs with and without the short cut for lengths of few strings."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "read":
            patch.setattr("extract.input_graph.strings._FEW_STRINGS", 0)
        yield request.param


@st.composite
def promised(draw: st.DrawFn) -> tuple[InputStrings, list[String]]:
    """A random set of strings over a random alphabet, said by a promise of a random kind, and the same as a list."""
    alphabet = ALPHABET[: draw(st.integers(1, 3))]
    low = draw(st.integers(0, 3))
    high = draw(st.integers(low, 4))
    universe = all_strings(alphabet, low, high)
    kept = draw(
        st.one_of(
            st.sets(st.sampled_from(universe)),
            st.integers(0, 4).map(lambda m: {s for s in universe if sum(s) % 5 <= m}),
        )
    )
    readable: Readable = draw(st.sampled_from(["always", "with a length", "never"]))
    strings = InputStrings(alphabet, low, high, (HandPromise(kept.__contains__, readable),))
    return strings, [string for string in universe if string in kept]


def listed(strings: InputStrings, length: int) -> list[String]:
    size = strings.size(length)
    return [tuple(row) for row in strings.tokens(length, 0, size).tolist()] if size else []


@settings(max_examples=50)
@given(promised())
def test_the_strings_are_those_the_promise_keeps_in_order(case: tuple[InputStrings, list[String]]) -> None:
    strings, expected = case
    assert [string for length in strings.lengths for string in listed(strings, length)] == expected
    assert sum(strings.size(length) for length in strings.lengths) == len(expected)
    assert all(strings.is_exact(length) for length in strings.lengths)


@settings(max_examples=50)
@given(promised())
def test_graphs_are_disjoint_by_length_and_complete(case: tuple[InputStrings, list[String]]) -> None:
    strings, expected = case
    graphs = strings.graphs()
    for length in range(6):
        assert sum(graph.size(length) for graph in graphs) == sum(len(s) == length for s in expected)
        assert sum(bool(graph.size(length)) for graph in graphs) <= 1
    for string in all_strings(strings.alphabet, 0, 4):
        letters = tuple(strings.alphabet.index(token) for token in string)
        assert any(graph.contains(letters) for graph in graphs) == (string in expected)


@settings(max_examples=50)
@given(promised())
def test_graphs_are_trimmed(case: tuple[InputStrings, list[String]]) -> None:
    for graph in case[0].graphs():
        assert len(graph.next) == graph.max_length and len(graph.accept) == graph.max_length + 1
        for depth, table in enumerate(graph.next):
            assert table.shape == (len(graph.accept[depth]), graph.n_letters)
            assert set(table[table >= 0].tolist()) == set(range(len(graph.accept[depth + 1])))
            assert ((table >= 0).any(axis=1) | graph.accept[depth]).all()
        assert graph.accept[graph.max_length].all()
        assert next(d for d, row in enumerate(graph.accept) if row.any()) == graph.min_length


@settings(max_examples=50)
@given(promised(), st.data())
def test_rank_undoes_tokens(case: tuple[InputStrings, list[String]], data: st.DataObject) -> None:
    strings, expected = case
    for length in strings.lengths:
        rows = [s for s in expected if len(s) == length]
        for rank, row in enumerate(rows):
            assert strings.rank(tuple(strings.alphabet.index(token) for token in row)) == rank
        start = data.draw(st.integers(0, len(rows)))
        stop = data.draw(st.integers(start, len(rows)))
        if rows:
            assert [tuple(row) for row in strings.tokens(length, start, stop).tolist()] == rows[start:stop]


@settings(max_examples=50)
@given(promised())
def test_equal_sets_have_equal_graphs_however_they_were_made(case: tuple[InputStrings, list[String]]) -> None:
    strings, expected = case
    for length in strings.lengths:
        here = {s for s in expected if len(s) == length}
        made = [
            InputStrings(strings.alphabet, length, length, (HandPromise(here.__contains__, readable),)).graph(length)
            for readable in ("always", "with a length", "never")
        ]
        for graph in made[1:]:
            assert (graph is None) == (made[0] is None)
            if graph is not None and made[0] is not None:
                assert all(np.array_equal(a, b) for a, b in zip(graph.next, made[0].next, strict=True))
                assert all(np.array_equal(a, b) for a, b in zip(graph.accept, made[0].accept, strict=True))


@settings(max_examples=50)
@given(promised(), st.integers(0, 5))
def test_samples_are_inputs_and_repeatable(case: tuple[InputStrings, list[String]], seed: int) -> None:
    strings, expected = case
    for length in strings.lengths:
        if strings.size(length) == 0:
            with pytest.raises(DomainError, match="nothing to draw"):
                strings.sample(length, 3, seed)
            continue
        rows = strings.sample(length, 20, seed)
        assert rows.shape == (20, length)
        assert {tuple(row) for row in rows.tolist()} <= set(expected)
        assert np.array_equal(rows, strings.sample(length, 20, seed))


def test_sampling_is_uniform_over_strings_not_over_branches() -> None:
    lonely = HandPromise(lambda s: s[0] == 1 or s == (0, 0, 0, 0), "always")
    rows = InputStrings((0, 1), 4, 4, (lonely,)).sample(4, 9_000, seed=1)
    counts = np.bincount(rows @ (8, 4, 2, 1), minlength=16)
    assert counts[1:8].sum() == 0 and (counts[[0, *range(8, 16)]] > 880).all() and (counts < 1120).all()


@given(st.integers(0, 30), st.data())
def test_big_counts_stay_exact(extra: int, data: st.DataObject) -> None:
    length = 60 + extra
    strings = InputStrings((0, 1), length, length, ())
    assert strings.size(length) == 2**length
    rank = data.draw(st.integers(0, 2**length - 3))
    rows = strings.tokens(length, rank, rank + 3).tolist()
    assert [int("".join(map(str, row)), 2) for row in rows] == [rank, rank + 1, rank + 2]
    assert strings.rank(tuple(rows[1])) == rank + 1


def test_one_range_spans_many_blocks() -> None:
    strings = InputStrings((1, 0), 0, 17, ())
    rows = strings.tokens(17, 3, 2**17 - 5)
    assert np.array_equal(rows @ (2 ** np.arange(16, -1, -1)), 2**17 - 1 - np.arange(3, 2**17 - 5))


@given(st.lists(st.lists(st.integers(-1, 70), min_size=3, max_size=3), max_size=40), st.integers(0, 100))
def test_distinct_rows_number_rows_by_content(rows: list[list[int]], shift: int) -> None:
    table = np.array(rows, dtype=np.int32).reshape(-1, 3)
    table[table >= 0] *= shift * 1000 + 1
    unique, classes = distinct_rows(table)
    assert len({tuple(row) for row in unique.tolist()}) == len(unique)
    for row, number in zip(table.tolist(), classes.tolist(), strict=True):
        assert (number == -1) == (max(row) < 0)
        assert number == -1 or unique[number].tolist() == row


@given(st.integers(1, 6), st.integers(0, 4))
def test_distinct_strings_by_combinatorics(n_letters: int, length: int) -> None:
    rows = [s for s in product(range(n_letters), repeat=length) if len(set(s)) == length]
    counted = DistinctStrings(n_letters)
    assert counted.size(length) == len(rows)
    assert [tuple(r) for r in counted.letters_at(length, range(len(rows))).tolist()] == rows
    assert [counted.rank(row) for row in rows] == list(range(len(rows)))


def test_distinct_tokens_need_no_graph() -> None:
    promise = HandPromise(lambda s: len(set(s)) == len(s), text=" distinct( tokens )")
    strings = InputStrings(tuple(range(150)), 1, 30, (promise,))
    assert strings.size(3) == 3_307_800 and strings.is_exact(30)
    assert strings.size(30) == np.prod(np.arange(121, 151).astype(object))
    half = strings.size(30) // 2
    row = strings.tokens(30, half, half + 1)[0]
    assert strings.rank(tuple(row.tolist())) == half
    assert len(set(strings.sample(30, 1, seed=0)[0].tolist())) == 30


def test_a_promise_that_cannot_be_listed_has_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.input_graph.strings.MAX_LISTED_STRINGS", 100)
    monkeypatch.setattr("extract.input_graph.strings._FEW_STRINGS", 0)
    ends_equal = HandPromise(lambda s: s[0] == s[-1])
    no_aa = Language("no aa", regular_expression("(b|ab)*(a|)", ("a", "b")), (0, 1))
    strings = InputStrings((0, 1), 1, 12, (no_aa, ends_equal))
    fibonacci = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377]
    assert not strings.is_exact(12) and strings.size(12) == fibonacci[12]
    assert strings.is_exact(9) and strings.size(9) < fibonacci[9]
    with pytest.raises(DomainError, match="neither counted nor listed"):
        strings.tokens(12, 0, 1)
    drawn = strings.sample(12, 50, seed=3)
    assert (drawn[:, 0] == drawn[:, -1]).all() and no_aa.holds(drawn).all()
    assert max(graph.max_length for graph in strings.graphs()) == 9


def test_a_machine_with_too_many_states_is_listed_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MAX_STATES_PER_DEPTH", 10)
    odd = HandPromise(lambda s: s.count(0) % 2 == 1, "always")
    strings = InputStrings((0, 1), 0, 9, (odd,))
    assert [strings.size(n) for n in range(10)] == [0, *(2 ** (n - 1) for n in range(1, 10))]
    assert [tuple(r) for r in strings.tokens(2, 0, 2).tolist()] == [(0, 1), (1, 0)]
    assert all(strings.is_exact(n) for n in range(10))


def test_too_many_steps_end_the_reading_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MAX_STEPS", 100)
    machine = StepMachine(0, lambda s, p, x: s + x, lambda s, n: s % 2 == 0)
    graph, covered = read_machine(machine, (0, 1), 0, 50)
    assert graph is not None and 5 < covered < 50 and graph.size(covered) == 2 ** (covered - 1)


def test_majority_to_length_100_counts_ties_out() -> None:
    from math import comb

    machine = StepMachine((0, 0), lambda s, p, x: (s[0] + x, s[1] + 1 - x), lambda s, n: s[0] != s[1])
    promise = HandPromise(lambda s: sum(s) * 2 != len(s), "always", reader=machine)
    strings = InputStrings((0, 1), 1, 100, (promise,))
    total = sum(strings.size(n) for n in range(1, 101))
    assert total == 2**101 - 2 - sum(comb(n, n // 2) for n in range(2, 101, 2))


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 17)])
def test_ranks_outside_the_length_are_refused(start: int, stop: int) -> None:
    with pytest.raises(DomainError, match="expected ranks within 0 to 16"):
        InputStrings((0, 1), 4, 4, ()).tokens(4, start, stop)


def test_a_machine_that_accepts_nothing_may_say_so_at_once() -> None:
    machine = StepMachine(None, lambda s, p, x: s, lambda s, n: True)
    promise = HandPromise(lambda s: False, "always", reader=machine)
    assert [InputStrings((0, 1), 0, 3, (promise, promise)).size(n) for n in range(4)] == [0] * 4
    assert read_machine(machine, (0, 1), 0, 3) == (None, 3)


def test_all_strings_need_no_reading() -> None:
    strings = InputStrings(tuple(range(700)), 1, 300, ())
    assert strings.size(300) == 700**300 and strings.is_exact(300)
    assert strings.tokens(300, 700**299 * 7, 700**299 * 7 + 1)[0, 0] == 7


def test_a_length_outside_the_domain_is_refused() -> None:
    strings = InputStrings((0, 1), 2, 4, ())
    assert strings.size(5) == 0 and strings.graph(1) is None
    with pytest.raises(DomainError, match="length 5, expected 2 to 4"):
        strings.tokens(5, 0, 0)
