"""The screen of a result: the right headline, exact counts, plain characters where the stream needs them."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.text import Text

from extract.report.report import Cells, ErrorPart, PositionPart, Report, count
from extract.report.scoreboard import BatchRow, row_line
from extract.report.streams import console, encodable, wants_color
from extract.report.text import apart_from_ties, result_lines
from tests.unit.report.test_report import RUN, full_report


def plain(lines: list[Text]) -> str:
    return "\n".join(line.plain for line in lines)


def test_a_result_shows_counts_exactly() -> None:
    text = plain(result_lines(full_report(1 << 60)))
    assert "PROVED EXCEPT" in text
    assert "1 152 921 504 606 846 976 inputs" in text
    assert "1 differ" in text and "1 152 921 504 606 846 975 agree" in text


@pytest.mark.parametrize("status", ["proved", "proved_except", "refuted", "no_program", "undecided"])
def test_only_proved_says_proved_without_more(status: str) -> None:
    report = msgspec.structs.replace(full_report(), status=status)
    headlines = [
        line for line in plain(result_lines(report)).splitlines() if line.strip().isupper() or "PROVED" in line
    ]
    assert any("PROVED" in line for line in headlines) == (status in ("proved", "proved_except"))


def tied(disagree: int = 0, not_reached: int = 0, where: str | None = "position 0 of every input") -> Report:
    """A report on a program whose inputs are all undecided, for ties or because they were not reached."""
    report = msgspec.structs.replace(full_report(), status="undecided", counterexamples=())
    assert report.verdict is not None and report.numerics is not None
    positions = (PositionPart(0, 1364, 1364),)
    cells = Cells(6372, 5008 - disagree, disagree, 1364, positions, where)
    tally = {"agree": 0, "disagree": 0, "undecided": 1364, "inputs_total": 1364}
    verdict = msgspec.structs.replace(report.verdict, **tally, cells=cells)
    numerics = msgspec.structs.replace(report.numerics, fragile_count=1364 - not_reached)
    return msgspec.structs.replace(report, verdict=verdict, numerics=numerics)


def test_ties_apart_every_answer_agrees() -> None:
    text = plain(result_lines(tied()))
    sentence = (
        "every determined answer agrees: 5 008 of 6 372; "
        "the other 1 364 are tied or too close to tell (position 0 of every input)"
    )
    assert f"UNDECIDED  {sentence}" in text
    assert "1 364 undecided of 1 364 inputs" in text
    assert "undetermined: at positions 0 (1 364 of 1 364)" in plain(result_lines(tied(where=None)))


def test_a_batch_notes_what_agrees_apart_from_ties() -> None:
    def line(report: Report) -> str:
        return row_line(BatchRow(name="a/b", family="a", report=report), 5).plain

    assert "undecided" in line(tied()) and line(tied()).endswith("ties apart: agrees")
    assert "ties apart" not in line(tied(disagree=1))


@pytest.mark.parametrize("report", (tied(disagree=1), tied(not_reached=1)))
def test_nothing_agrees_apart_from_ties_where_one_differs_or_was_not_reached(report: Report) -> None:
    text = plain(result_lines(report))
    assert "every determined answer" not in text
    assert "1 364 undetermined of 6 372 answers, undetermined: position 0 of every input" in text


@pytest.mark.parametrize("status", ["proved", "proved_except", "refuted", "no_program", "error"])
def test_no_other_status_is_apart_from_ties(status: str) -> None:
    assert apart_from_ties(tied()) is not None
    assert apart_from_ties(msgspec.structs.replace(tied(), status=status)) is None


@pytest.mark.parametrize(
    ("disagree", "undecided", "sentence"),
    [
        (0, 5, "no difference found, and not every input was decided"),
        (3, 5, "differences were found, and not every input was decided"),
        (3, 0, "no program found is right on all inputs, or on all but 1 %: this comes closest"),
    ],
)
def test_undecided_says_what_is_known(disagree: int, undecided: int, sentence: str) -> None:
    report = tied(not_reached=1)
    assert report.verdict is not None
    verdict = msgspec.structs.replace(report.verdict, disagree=disagree, undecided=undecided)
    text = plain(result_lines(msgspec.structs.replace(report, verdict=verdict)))
    assert f"UNDECIDED  {sentence}" in text


def test_an_upper_bound_is_called_one() -> None:
    report = full_report()
    assert report.task is not None
    domain = msgspec.structs.replace(report.task.domain, size=count(5), size_is_exact=False)
    report = msgspec.structs.replace(report, task=msgspec.structs.replace(report.task, domain=domain))
    assert "at most 5 inputs" in plain(result_lines(report))


def test_an_error_is_one_line() -> None:
    report = Report(status="error", error=ErrorPart("spec", "wrong", "mend it"), run=RUN)
    assert plain(result_lines(report)).strip() == "ERROR  wrong (hint: mend it)"


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("color", "environment", "terminal", "expected"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"FORCE_COLOR": "1"}, False, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {}, True, False),
    ],
)
def test_color_is_as_asked(
    color: str, environment: dict[str, str], terminal: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = FakeTerminal() if terminal else io.StringIO()
    assert wants_color(stream, color) is expected  # type: ignore[arg-type]
    console(stream, color).print(Text("word", "bold red"))  # type: ignore[arg-type]
    assert ("\x1b[" in stream.getvalue()) is expected


@pytest.mark.parametrize(("encoding", "expected"), [("utf-8", "✓ a · b"), ("ascii", "* a - b"), ("latin-1", "* a - b")])
def test_decoration_fits_the_encoding(encoding: str, expected: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert encodable("✓ a · b", stream) == expected
