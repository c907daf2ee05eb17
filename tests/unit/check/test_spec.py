"""The checker counts, lists, ranks and renders a domain as the domain itself does, by other code."""

from __future__ import annotations

import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.check.reader import Unreadable
from extract.check.spec import Task, read_task
from extract.domain import Domain, build_domain
from extract.errors import ExtractError
from extract.lang.promise import compile_promise
from extract.lang.syntax import print_term
from extract.spec import load_spec
from tests.laws.terms import NUMBERS, SYMBOLS, well_sorted_terms

RELAXED = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


def both(spec: dict[str, Any]) -> tuple[Domain, Task]:
    """The domain of a spec as the project reads it, and as the checker does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        domain = build_domain(load_spec(path).spec, compile_promise)
        return domain, read_task(path, spec["domain"]["max_length"], list(domain.offsets))


def compare(spec: dict[str, Any]) -> None:
    """Assert that both agree on every string of every length; a domain without inputs is refused elsewhere."""
    try:
        domain, task = both(spec)
    except ExtractError as error:
        if "no input" in str(error):
            return
        raise
    assert list(task.lengths) == list(domain.lengths)
    assert task.alphabet.tolist() == list(domain.alphabet)
    assert task.token_codes.tolist() == domain.vocabulary.token_codes.tolist()
    assert task.output_codes.tolist() == domain.vocabulary.output_codes.tolist()
    for length in domain.lengths:
        size = domain.size_at(length)
        assert task.strings.size(length) == size
        letters = task.strings.letters(length, np.arange(size))
        tokens = task.alphabet[letters]
        assert tokens.tolist() == domain.tokens(length, 0, size).tolist() if size else True
        assert [task.strings.rank(row) for row in letters.tolist()] == list(range(size))
        if size:
            assert task.prompts(tokens).tolist() == domain.render(tokens.astype(np.int32)).tolist()
            assert task.strings.letters(length, np.arange(size // 2, size)).tolist() == letters[size // 2 :].tolist()


def a_spec(**domain: Any) -> dict[str, Any]:
    names = list(domain.pop("vocab", SYMBOLS.names))
    numeric = domain.pop("numeric", False)
    return {
        "version": 1,
        "tokens": {"vocab": names, "numeric": numeric},
        "domain": {"min_length": 0, "max_length": 4, "template": f"{names[0]} {{x}}", **domain},
    }


@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@RELAXED
@given(data=st.data())
def test_random_promises(vocabulary: Any, data: st.DataObject) -> None:
    where = print_term(data.draw(well_sorted_terms("B", "whole", vocabulary)))
    names = [n for n in vocabulary.names if "<" not in n and n != "+"]
    compare(a_spec(vocab=vocabulary.names, numeric=vocabulary.numeric, alphabet=names, max_length=3, where=where))


@pytest.mark.parametrize(
    "where",
    (
        "all(0 <= running_count(tokens == 'a') - running_count(tokens == 'b'))",
        "count(tokens == 'a') != count(tokens == 'b') and length % 2 == 1",
        "distinct(tokens)",
        "not distinct(tokens)",
        "increasing(tokens) or count(indices < 2) == 1",
        "count(tokens == 'c' and indices % 3 == length - 3) == 1",
        "any(tokens == 'c') and last(everywhere, tokens) != first(everywhere, tokens)",
        "max_over(everywhere, indices + int(tokens == 'a')) > 2 and min_over(everywhere, tokens) == 'a'",
        "sum_over(everywhere, int(tokens == 'a') * (indices + 1)) % 3 == 1",
        "count(tokens == last(everywhere, tokens)) == 1",
        "unique_mode(tokens)",
        "distinct_pairs(tokens)",
        "length == 2",
        "all(running_count(running_count(tokens == 'a') > 1) < 2)",
        "count(shift(tokens, 1) == tokens) == 0",
        "increasing(running_count(tokens == 'a'))",
        "all(tokens != '')",
    ),
)
def test_promises_of_every_kind(where: str) -> None:
    compare(a_spec(alphabet=["b", "a", "c"], where=where, max_length=5))


def expressions() -> st.SearchStrategy[str]:
    """Draw regular expressions over a, b, c."""
    leaf = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^b]", "[a-c]", "\\a", "'c'", "", "( )"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        repeats = st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "{2,3}", " {1, 2}", "*?", "+*"])
        return st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map(lambda p: f"({p[0]}|{p[1]})"),
            st.tuples(inner, repeats).map(lambda p: f"({p[0]}){p[1]}"),
        )

    return st.recursive(leaf, grow, max_leaves=6)


@RELAXED
@given(text=expressions(), field=st.sampled_from(["matches", "prefixes_of"]))
def test_random_regular_expressions(text: str, field: str) -> None:
    compare(a_spec(alphabet=["b", "a", "c"], **{field: text}))


@pytest.mark.parametrize(
    ("text", "names"),
    (
        ("(0|1[01]*)[+](0|1[01]*)", ["0", "1", "+"]),
        ("('10'|<x>)*5", ["10", "<x>", "5"]),
        ("[]a]+", ["]", "a"]),
        ("<|a", ["<", "a"]),
        ("[a\\]]*", ["]", "a", "b"]),
        ("\\(a*\\)", ["(", ")", "a"]),
        ("[0-9]{2}", [str(i) for i in range(10)]),
        ("a - b", ["a", "b", "-"]),
        ("[-a]*", ["a", "b", "-"]),
        ("(a|b){0}", ["a", "b"]),
    ),
)
def test_tokens_of_every_spelling(text: str, names: list[str]) -> None:
    compare(a_spec(vocab=names, alphabet=names, matches=text, max_length=3))


@pytest.mark.parametrize("text", ("a)", "(a", "*a", "a**b|{", "x", "[a", "a{3,2}", "a\\", "'a", "+", "a{", "]"))
def test_what_is_no_regular_expression_is_refused(text: str) -> None:
    with pytest.raises(ExtractError):
        both(a_spec(alphabet=["b", "a", "c"], matches=text))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(a_spec(alphabet=["b", "a", "c"], matches=text)), encoding="utf-8")
        with pytest.raises(Unreadable):
            read_task(path, 4, [0])


@RELAXED
@given(data=st.data())
def test_random_automata_beside_a_promise(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 4))
    rows = data.draw(st.lists(st.lists(st.integers(-1, n - 1), min_size=3, max_size=3), min_size=n, max_size=n))
    promise = data.draw(st.sampled_from([{}, {"where": "count(tokens == 'a') < 3"}, {"where": "distinct(tokens)"}]))
    automaton = {"start": data.draw(st.integers(0, n - 1)), "transitions": rows}
    compare(a_spec(alphabet=["b", "a", "c"], automaton=automaton, **promise))


@pytest.mark.parametrize(
    "template", ("<bos> {x} <bos>", "{x[0]} a {x[1:]}", "{x[-1]} {x[:-1]} c", "<bos> {x[0:2]} a {x[2:]} {x}")
)
def test_templates(template: str) -> None:
    compare(a_spec(alphabet=["b", "a", "c"], template=template, min_length=1))


def test_outputs_and_numeric_codes() -> None:
    spec = a_spec(vocab=("3", "x", "-1", "007"), numeric=True, alphabet=["3", "-1"])
    spec["readout"] = {"outputs": ["low", "2", "high"], "choices": ["high", "2"]}
    domain, task = both(spec)
    assert task.choices.tolist() == list(domain.readout.choices)
    for name in ("3", "x", "-1", "007", "low", "2", "high"):
        assert task.code(name) == domain.vocabulary.symbol_code(name)
        assert task.name(task.code(name)) == domain.vocabulary.name(task.code(name))
    with pytest.raises(Unreadable):
        task.code("nothing")
    compare(spec)


def test_names_are_numbers_only_where_the_spec_says_so() -> None:
    spec = a_spec(vocab=("3", "x", "-1"), alphabet=["3", "x"], where="count(tokens == '3') < 2")
    del spec["tokens"]["numeric"]
    domain, task = both(spec)
    assert not task.numeric
    assert [task.code(name) for name in ("3", "x", "-1")] == [
        domain.vocabulary.symbol_code(n) for n in ("3", "x", "-1")
    ]
    assert task.token_codes.tolist() == [task.code(name) for name in ("3", "x", "-1")]
    compare(spec)


def test_features_that_the_checker_does_not_know_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    for change in ({"version": 2}, {"domain": {"self_allowed": True}}):
        path.write_text(json.dumps({**a_spec(), **change}))
        with pytest.raises(Unreadable, match="version or self_allowed"):
            read_task(path, 3, [0])


def test_large_domains_are_counted_exactly_and_any_slice_is_listed() -> None:
    where = "count(tokens == 'a') != count(tokens == 'b')"
    _, task = both(a_spec(alphabet=["b", "a"], where=where, max_length=60, min_length=60))
    assert task.strings.size(60) == 2**60 - 118264581564861424
    start = 10**17
    rows = task.strings.letters(60, np.arange(start, start + 50))
    assert [task.strings.rank(row) for row in rows.tolist()] == list(range(start, start + 50))
    depth = "all(running_count(tokens == 'a') >= running_count(tokens == 'b'))"
    _, brackets = both(a_spec(alphabet=["a", "b"], where=depth, max_length=14))
    words = ["".join(w) for w in product("ab", repeat=9)]
    good = [w for w in words if all(w[:i].count("a") >= w[:i].count("b") for i in range(10))]
    assert brackets.strings.size(9) == len(good)
    found = brackets.strings.letters(9, np.arange(len(good)))
    assert ["".join("ab"[i] for i in row) for row in found] == good


def test_a_promise_that_cannot_be_counted_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.check.language._MAX_STATES", 1 << 10)
    _, task = both(a_spec(alphabet=["a", "b"], max_length=4, where="count(rank(tokens) == indices) == length"))
    with pytest.raises(Unreadable, match="states"):
        task.strings.size(40)
