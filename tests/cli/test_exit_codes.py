"""Every way a run can end has its exit code, whatever made it end so."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import msgspec
import pytest

import cli
from extract import errors, pipeline
from extract.report.report import Report
from extract.report.schema import result_schema
from tests.cli.command import environment
from tests.unit.report.test_report import full_report


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ends_with(outcome: Report | BaseException, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """The exit code of a run that ends as told."""

    def run(*_: object) -> Report:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(pipeline, "run", run)
    return cli.main(["-q", "run", "anything", *options])


@pytest.mark.parametrize(
    ("status", "options", "expected"),
    [
        ("proved", (), 0),
        ("proved", ("--strict",), 0),
        ("proved_except", (), 0),
        ("proved_except", ("--strict",), 1),
        ("refuted", (), 1),
        ("no_program", (), 1),
        ("undecided", (), 3),
    ],
)
def test_statuses(
    status: str, options: tuple[str, ...], expected: int,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    report = msgspec.structs.replace(full_report(), status=status)
    assert ends_with(report, monkeypatch, "--json", *options) == expected
    value = json.loads(capfd.readouterr().out)
    jsonschema.validate(value, result_schema())
    assert value["status"] == status


def test_an_interrupted_run_is_printed_and_130(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    report = msgspec.structs.replace(full_report(), status="undecided", budget_hit="interrupted")
    assert ends_with(report, monkeypatch) == 130
    assert "UNDECIDED" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.UsageError("x"), 2),
        (errors.BudgetError("x"), 3),
        (MemoryError(), 3),
        (errors.SpecError("x"), 4),
        (errors.DomainError("x"), 4),
        (errors.CheckpointError("x"), 4),
        (errors.ProgramError("x"), 4),
        (errors.SoundnessAlarm("x"), 5),
        (RuntimeError("x"), 70),
        (AssertionError("x"), 70),
        (RecursionError("x"), 70),
        (errors.OutputError("x"), 74),
        (KeyboardInterrupt(), 130),
        (cli.Terminated(), 143),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_errors(
    error: BaseException, expected: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ends_with(error, monkeypatch, "--json") == expected
    seen = capfd.readouterr()
    assert "Traceback" not in seen.err and seen.err.count("\n") <= 1
    if isinstance(error, Exception):
        value = json.loads(seen.out)
        jsonschema.validate(value, result_schema())
        assert value["status"] == "error"


def test_ctrl_c_inside_exec_is_130_too(tmp_path: Path) -> None:
    """A library that is being imported may be executing generated code when the signal arrives."""
    script = (
        "import os, signal, sys, time, cli\n"
        "from extract import pipeline\n"
        "def interrupted(*_):\n"
        "    exec('import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)')\n"
        "pipeline.run = interrupted\n"
        "sys.exit(cli.main(['run', 'anything']))\n"
    )
    (tmp_path / "interrupted_in_exec.py").write_text(script)
    command = [sys.executable, "-m", "interrupted_in_exec"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True)
    assert done.returncode == 130, done.stderr


def test_verbose_shows_where_an_internal_error_was(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "run", lambda *_: 1 / 0)
    assert cli.main(["-v", "run", "anything"]) == 70
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_result_that_cannot_be_filed_is_still_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = ends_with(full_report(), monkeypatch, "--json", "-o", str(tmp_path / "absent" / "r.json"))
    assert code == 74
    assert json.loads(capfd.readouterr().out)["status"] == "proved_except"
