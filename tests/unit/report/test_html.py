"""The page: complete, self-contained, escaped, the same bytes for the same rows."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.report.html import page
from extract.report.pictures import agreement_picture, margin_picture
from extract.report.report import Count, CounterexamplePart, ErrorPart, LengthTally, Report
from extract.report.scoreboard import BatchRow, FamilyScore, FieldScore
from tests.unit.report.test_report import full_report

VOID = {"meta", "wbr", "br", "circle", "rect", "polyline", "link", "img"}
HOSTILE = "</pre><script>alert(1)</script>\"'&<b onload=x>"


class Reader(HTMLParser):
    """Checks that every tag is closed in order, and keeps tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def rows(*reports: Report) -> list[BatchRow]:
    return [BatchRow(name=f"family/row{i}", family="family", report=report) for i, report in enumerate(reports)]


def test_the_page_says_what_the_result_says() -> None:
    report = full_report()
    text = "".join(read(page("all", rows(report, report))).text)
    for said in (report.programs[0].text, report.verdict.claim, report.model.sha256[:16], "family/row1"):
        assert said in text


def test_nothing_is_loaded_from_anywhere() -> None:
    reader = read(page("all", rows(full_report(), full_report())))
    tags = {tag for tag, _ in reader.seen}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "form"}
    for _, attributes in reader.seen:
        assert not {"src", "srcset", "action"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert "http" not in re.sub(r"http-equiv", "", page("all", rows(full_report())))
    assert "url(" not in page("all", rows(full_report()))


def test_hostile_names_tokens_and_programs_stay_text() -> None:
    report = full_report()
    program = msgspec.structs.replace(report.programs[0], text=HOSTILE, dialect=HOSTILE)
    example = CounterexamplePart((HOSTILE,), 0, 0, (HOSTILE,), (HOSTILE,), 1.0, True, True)
    model = msgspec.structs.replace(report.model, format=HOSTILE, path=HOSTILE, sha256=HOSTILE)
    hostile = msgspec.structs.replace(
        report, programs=(program,), counterexamples=(example,), model=model, warnings=(HOSTILE,), budget_hit=HOSTILE
    )
    made = [replace(row, name=HOSTILE) for row in rows(hostile, hostile)]
    reader = read(page(HOSTILE, made))
    assert [tag for tag, _ in reader.seen].count("script") == 1
    assert not any("onload" in attributes for _, attributes in reader.seen)
    assert HOSTILE in "".join(reader.text)


def test_the_same_rows_give_the_same_page() -> None:
    assert page("a", rows(full_report())) == page("a", rows(full_report()))


@pytest.mark.parametrize("status", ["proved", "proved_except", "refuted", "no_program", "undecided", "error"])
def test_a_result_with_nothing_in_it_has_a_page(status: str) -> None:
    bare = Report(status=status, run=full_report().run)  # type: ignore[arg-type]
    read(page("bare", rows(bare)))


counts = st.integers(0, 10) | st.integers(0, 1 << 80).map(lambda n: n if n <= 1 << 53 else str(n))
margins = st.none() | st.floats(0, 1e9, allow_nan=False)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 12), counts, counts, counts, margins), max_size=20))
def test_pictures_tell_every_length_and_are_well_formed(
    given_tallies: list[tuple[int, Count, Count, Count, float | None]],
) -> None:
    tallies = [LengthTally(n, 0, 0, a, d, u, m) for n, a, d, u, m in given_tallies]
    drawn = read(str(agreement_picture(tallies)))
    told = {n for n, a, d, u, _ in given_tallies if int(a) or int(d) or int(u)}
    titles = [text for text in drawn.text if text.startswith("length ")]
    assert len(titles) == len(told)
    for tag, attributes in drawn.seen:
        if tag == "rect":
            assert 0 < float(attributes["height"] or 0) <= 84
            assert float(attributes["y"] or 0) + float(attributes["height"] or 0) <= 84.11
            assert 0 <= float(attributes["y"] or 0) < 84
    differing = {n for n, _, d, _, _ in given_tallies if int(d)}
    assert sum(a.get("class") == "differ" for _, a in drawn.seen) == len(differing)
    least = read(str(margin_picture(tallies)))
    shown = {n for n, *_, m in given_tallies if m is not None}
    assert sum(tag == "circle" for tag, _ in least.seen) <= len(shown)


@pytest.mark.parametrize("n_lengths", [1, 5, 17, 18, 51, 64, 90])
def test_pictures_are_no_wider_than_a_telephone(n_lengths: int) -> None:
    tallies = [LengthTally(n, 0, 0, 5, 1, 2, 0.5) for n in range(n_lengths)]
    for picture in (agreement_picture(tallies), margin_picture(tallies)):
        reader = read(str(picture))
        attributes = next(attributes for tag, attributes in reader.seen if tag == "svg")
        assert float(attributes["width"] or 0) <= 340
        labels = [float(a["x"] or 0) for tag, a in reader.seen if tag == "text" and a["class"] == "axis middle"]
        assert all(right - left >= 16 for left, right in pairwise(labels))


def family_score(family: str, **by_status: int) -> FamilyScore:
    return FamilyScore(
        family=family, by_status=by_status, points=7, contradicted=0, missed=0, wrong=0, inputs=1, seconds=2.0
    )


def test_the_page_has_the_score_by_family_and_published_figures() -> None:
    report = full_report()
    scores = [family_score("one", proved=1), family_score("two", proved=1), family_score("all", proved=2)]
    field = [FieldScore(work=HOSTILE, figure="8 of 9", counted="samples", rows=2, proved=1, proved_except=1)]
    reader = read(page("all", rows(report, report), scores, field))
    cells = [text.strip() for text in reader.text]
    for said in ("score by family", "two", HOSTILE, "8 of 9", "samples", "1 of 2, 1 except"):
        assert said in cells
    bare = "".join(read(page("all", rows(report))).text)
    assert "score by family" not in bare
    assert "published" not in bare


def test_an_error_is_told_in_the_rows_with_its_hint() -> None:
    report = Report(status="error", error=ErrorPart("spec", "no alphabet", "give one"), run=full_report().run)
    text = read(page("all", rows(report, full_report()))).text
    assert sum("no alphabet" in part for part in text) == 2  # in its row, and in its card
    assert any("hint: give one" in part for part in text)
