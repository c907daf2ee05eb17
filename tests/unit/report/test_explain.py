"""Words for every operator, and branches that are counted exactly."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from extract.explaining import explain
from extract.lang.operators import OPERATORS
from extract.lang.syntax import parse_program, parse_term
from extract.lang.terms import Term
from extract.report.explain import program_words, term_words
from extract.report.report import ProgramPart, Report, ResultError, Task
from tests.unit.report.test_report import RUN, full_report

SPEC = """
version = 1
[tokens]
vocab = ["a", "b"]
[domain]
max_length = 3
[readout]
at = "last"
"""


def example(name: str) -> Term:
    """A term of one operator with leaves below it; sorts do not matter to words."""
    row = OPERATORS[name]
    constants = {
        "value": 1, "name": "a", "relation": "<", "k": 1, "a": 2, "m": 3, "start": 0, "default": 0,
        "entries": (("a", 1), ("b", 2)), "letters": ("a", "b"), "transitions": ((0, 1), (1, 0)),
    }  # fmt: skip
    return Term(name, tuple(Term("tokens") for _ in row.arguments), tuple(constants[d] for d in row.data))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_words(name: str) -> None:
    words = term_words(example(name))
    assert words and "{" not in words


def test_words_follow_argument_order() -> None:
    words = term_words(parse_term("select(tokens, indices, '<')"))
    assert words == "the positions whose token is less than the index"
    assert term_words(parse_term("'a' if length < 3 else 'b'")) == "'a' if (the length is less than 3), otherwise 'b'"


def test_shared_parts_are_named_once() -> None:
    lines = program_words(parse_program("n = count(tokens == 'a')\noutput = n * n\n", "value"))
    assert lines == [
        "Let [A] be the number of positions where (the token equals 'a').",
        "The answer is [A] times [A].",
    ]


def result_with(text: str, digest: str) -> Report:
    """A result about strings of a and b up to length 3 with one program."""
    report = full_report()
    assert report.task is not None
    domain = msgspec.structs.replace(report.task.domain, alphabet=("a", "b"), max_length=3)
    task = Task(digest, "", domain, report.task.readout)
    program = ProgramPart(text, None, None, "", 1, None, "proved", None)
    return msgspec.structs.replace(report, task=task, programs=(program,))


def test_branches_are_counted_on_the_whole_domain(tmp_path: Path) -> None:
    import hashlib

    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    digest = hashlib.sha256(spec.read_bytes()).hexdigest()
    text = "output = 'a' if length < 2 else 'b' if count(tokens == 'a') == 3 else 'a'"
    told = explain(result_with(text, digest), spec)
    assert [(b.value, b.n_cells, b.n_total) for b in told.branches] == [("'a'", 2, 14), ("'b'", 1, 14), ("'a'", 11, 14)]
    assert [b.example for b in told.branches] == ["a", "a a a", "a a"]
    assert [(e.tokens, e.answer) for e in told.examples] == [("a", "a"), ("a a a", "b")]
    assert "all inputs" in told.looked_at


def test_another_spec_is_refused_and_a_missing_one_is_said(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    with pytest.raises(ResultError, match="another spec"):
        explain(result_with("output = 'a'", "00"), spec)
    told = explain(result_with("output = 'a'", "00"))
    assert told.branches == () and "--spec" in told.looked_at


def test_a_result_without_a_program_has_nothing_to_explain() -> None:
    with pytest.raises(ResultError, match="no program"):
        explain(Report(status="error", run=RUN))


def test_a_mean_that_is_the_answer_is_told_as_a_number() -> None:
    program = parse_program("x = mean(upto, int(tokens == 'a'))\noutput = x if indices < 2 else x + 1\n", "every")
    (told,) = program_words(program, are_numbers=True)[-1:]
    assert told.startswith("The answer at each position is (the mean, over the positions up to it, of")
    assert "in units of 1/720720" in told.split("otherwise")[1]
    assert "in units" in program_words(program)[0]
