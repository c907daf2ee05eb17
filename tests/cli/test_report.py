"""``extract report``: pages from results and batches, refusals in one line, nobody's file overwritten."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import cli
from extract.report.html import MARK
from extract.report.report import to_json
from tests.cli.command import extract, small_task
from tests.unit.report.test_report import full_report


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    (tmp_path / "result.json").write_bytes(to_json(full_report()))
    return tmp_path / "result.json"


def test_a_result_becomes_a_page_beside_it(result: Path) -> None:
    assert cli.main(["report", str(result)]) == 0
    page = result.with_suffix(".html")
    assert MARK in page.read_text()
    assert cli.main(["report", str(result)]) == 0  # our own page may be drawn again


def test_a_page_goes_where_it_is_asked_to(result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(result), "-o", "-"]) == 0
    assert capfd.readouterr().out.startswith("<!doctype html>")
    assert cli.main(["report", str(result), "-o", str(tmp_path / "a.html")]) == 0
    assert MARK in (tmp_path / "a.html").read_text()


def test_somebody_elses_file_is_left_alone(result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.html").write_text("mine")
    assert cli.main(["report", str(result), "-o", str(tmp_path / "notes.html")]) == 74
    assert "--force" in capfd.readouterr().err
    assert (tmp_path / "notes.html").read_text() == "mine"
    assert cli.main(["report", str(result), "-o", str(tmp_path / "notes.html"), "--force"]) == 0


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b"[1]"])
def test_what_is_no_result_is_4_in_one_line(
    content: bytes | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("x.json", "x.jsonl"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert cli.main(["report", str(tmp_path / name)]) == 4
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert name in err
    (tmp_path / "empty").mkdir()
    assert cli.main(["report", str(tmp_path / "empty")]) == 4
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.suffix == ".html") == []


def test_run_writes_the_page_too(tmp_path: Path) -> None:
    folder = small_task(tmp_path / "small", max_length=2)
    done = extract("run", folder, "--report", tmp_path / "page.html", "--time", "20s", cwd=tmp_path)
    assert done.code in (0, 1, 3), done.err
    assert MARK in (tmp_path / "page.html").read_text()
    again = extract("run", folder, "--report", tmp_path / "page.html", "--time", "20s", cwd=tmp_path)
    assert again.code == 74  # a page says when it was made by no digest: replacing it is asked for
    assert "--force" in again.err
