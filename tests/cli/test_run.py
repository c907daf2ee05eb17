"""The whole way through the command line: programs, verdicts, certificates, exit codes, files, repeatability."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from extract.report.schema import result_schema
from tests.cli.command import MAJORITY, Done, environment, extract, small_task

SHORT = ("--max-length", "6")


def result(done: Done) -> dict[str, Any]:
    """The result on standard output, valid against its schema, its counts adding up."""
    value: dict[str, Any] = json.loads(done.out)
    jsonschema.validate(value, result_schema())
    if value["verdict"] is not None:
        parts = sum(int(value["verdict"][name]) for name in ("agree", "disagree", "undecided"))
        assert parts == int(value["verdict"]["inputs_total"]) == int(value["task"]["domain"]["size"])
        rows = value["verdict"]["by_length"]
        for name in ("inputs", "agree", "disagree", "undecided"):
            total = "inputs_total" if name == "inputs" else name
            assert sum(int(row[name]) for row in rows) == int(value["verdict"][total])
    return value


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run on a shipped checkpoint ended well, with every file it can write."""
    folder = tmp_path_factory.mktemp("proved")
    done = extract("run", MAJORITY, *SHORT, "--json", "-o", "result.json", "--emit", "program.py", cwd=folder)
    assert done.code == 0, done.err
    (folder / "out.json").write_text(done.out)
    (folder / "program.txt").write_text(result(done)["programs"][0]["text"])
    return folder


def test_a_shipped_checkpoint_is_proved(proved: Path) -> None:
    value = json.loads((proved / "out.json").read_text())
    assert value["status"] == "proved"
    assert value["verdict"]["disagree"] == value["verdict"]["undecided"] == 0
    assert value["certificate"]["checked"] is True
    assert value["certificate"]["file"] == "majority.cert.json"
    assert (proved / "result.json").read_text() == (proved / "out.json").read_text()
    assert sorted(os.listdir(proved)) == [
        "majority.cert.json", "out.json", "program.py", "program.txt", "result.json",
    ]  # fmt: skip


def test_the_screen_says_what_the_result_says(tmp_path: Path) -> None:
    done = extract("run", MAJORITY, *SHORT, cwd=tmp_path)
    assert done.code == 0
    for word in ("model", "domain", "PROVED", "output =", "least margin", "certificate majority.cert.json"):
        assert word in " ".join(done.out.split())
    assert "✓ load" in done.err and "\x1b" not in done.out + done.err


def test_the_emitted_program_stands_alone(proved: Path) -> None:
    code = (proved / "program.py").read_text()
    assert "import " not in code.replace("from __future__ import annotations", "")
    done = subprocess.run([sys.executable, "-I", "program.py"], cwd=proved, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_certificate_is_accepted_and_an_edit_is_not(proved: Path, tmp_path: Path) -> None:
    assert extract("check", proved / "majority.cert.json", MAJORITY, cwd=tmp_path).code == 0
    assert extract("check", proved / "majority.cert.json", MAJORITY, "--full", cwd=tmp_path).code == 0
    data = json.loads((proved / "majority.cert.json").read_text())
    data["claim"]["agree"] = str(int(data["claim"]["agree"]) + 1)
    (tmp_path / "edited.cert.json").write_text(json.dumps(data))
    done = extract("check", "edited.cert.json", MAJORITY, cwd=tmp_path)
    assert done.code == 5, done.err
    assert "Traceback" not in done.err


def test_a_certificate_of_another_checkpoint_is_rejected(proved: Path, tmp_path: Path) -> None:
    other = small_task(tmp_path / "task")
    done = extract("check", proved / "majority.cert.json", other, cwd=tmp_path)
    assert done.code in (4, 5), done.err


def test_the_program_found_verifies_and_a_wrong_one_is_refuted(proved: Path, tmp_path: Path) -> None:
    done = extract("verify", proved / "program.txt", MAJORITY, *SHORT, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert result(done)["status"] == "proved"
    wrong = "output = '1' if count(tokens == '0') < count(tokens == '1') and length < 5 else '0'"
    done = extract("verify", "-", MAJORITY, *SHORT, "--json", cwd=tmp_path, stdin=wrong)
    assert done.code == 1, done.err
    value = result(done)
    assert value["status"] == "refuted"
    first = value["counterexamples"][0]
    assert first["replayed"] is True and first["model"] == ["1"] and first["program"] == ["0"]
    assert len(first["tokens"]) == 5
    assert os.listdir(tmp_path) == []


def test_the_result_is_explained(proved: Path, tmp_path: Path) -> None:
    done = extract("explain", proved / "result.json", "--spec", MAJORITY / "spec.toml", cwd=tmp_path)
    assert done.code == 0, done.err
    for word in ("In words", "Branches", "Smallest examples"):
        assert word in done.out


def test_two_runs_differ_only_inside_run(proved: Path, tmp_path: Path) -> None:
    done = extract("run", MAJORITY, *SHORT, "--json", cwd=tmp_path, PYTHONHASHSEED="17")
    first, second = json.loads((proved / "out.json").read_text()), result(done)
    first.pop("run"), second.pop("run")
    assert json.dumps(first) == json.dumps(second)
    assert (proved / "majority.cert.json").read_bytes() == (tmp_path / "majority.cert.json").read_bytes()


def test_names_and_paths_choose_nothing(proved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "anything"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "spec.toml"):
        (folder / name).write_bytes((MAJORITY / name).read_bytes())
    text = (folder / "spec.toml").read_text()
    (folder / "spec.toml").write_text(text.replace('name = "majority"', 'name = "parity"\n').replace("majority", "x"))
    first, second = (
        json.loads((proved / "out.json").read_text()),
        result(extract("run", folder, *SHORT, "--json", cwd=tmp_path)),
    )
    for name in ("text", "cost", "status", "exceptions"):
        assert [p[name] for p in first["programs"]] == [p[name] for p in second["programs"]]
    assert first["verdict"] == second["verdict"]


def test_running_again_replaces_its_own_files_and_no_others(proved: Path, tmp_path: Path) -> None:
    for attempt in range(2):
        done = extract("run", MAJORITY, *SHORT, "-o", "r.json", "-q" if attempt else "--json", cwd=tmp_path)
        assert done.code in (0, 2), done.err
    (tmp_path / "mine.json").write_text("mine")
    done = extract("run", MAJORITY, *SHORT, "--cert", "mine.json", cwd=tmp_path)
    assert done.code == 74 and "--force" in done.err
    assert (tmp_path / "mine.json").read_text() == "mine"
    done = extract("run", MAJORITY, *SHORT, "-o", "mine.json", cwd=tmp_path)
    assert done.code == 74 and done.out == "" and "search" not in done.err
    done = extract("run", MAJORITY, *SHORT, "--cert", "mine.json", "--force", cwd=tmp_path)
    assert done.code == 0 and (tmp_path / "mine.json").read_text() != "mine"


def test_a_domain_too_large_is_undecided_and_says_how_large(tmp_path: Path) -> None:
    folder = small_task(tmp_path / "task", max_length=38)
    done = extract("run", folder, "--time", "2s", "--json", cwd=tmp_path)
    assert done.code == 3, done.err
    value = result(done)
    assert value["status"] == "undecided"
    assert int(value["task"]["domain"]["size"]) == 2**39 - 2
    assert int(value["verdict"]["undecided"]) > 0
    assert value["budget_hit"] is not None
    done = extract("verify", "-", folder, "--time", "2s", "--json", cwd=tmp_path, stdin=value["programs"][0]["text"])
    assert done.code in (1, 3)
    assert str(2**39 - 2) in json.dumps(result(done))


def test_errors_are_json_too(tmp_path: Path) -> None:
    done = extract("run", tmp_path / "absent", "--json", cwd=tmp_path)
    assert done.code == 4
    value = result(done)
    assert value["status"] == "error" and value["error"]["code"] == "checkpoint"


@pytest.mark.parametrize(("signal_number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("delay", [0.0, 0.7, 3.0])
def test_signals_end_a_run_soon_and_cleanly(
    signal_number: signal.Signals, expected: int, delay: float, tmp_path: Path
) -> None:
    folder = small_task(tmp_path / "task", max_length=38)
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "cli", "run", str(folder), "--json"]
    # as a user has it: with warnings as errors the interpreter's own importer complains of the file it was reading
    plain = environment(PYTHONWARNINGS="")
    process = subprocess.Popen(command, cwd=work, env=plain, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "load" in process.stderr.readline()  # something is said within a second; the handlers are there by then
    time.sleep(delay)
    process.send_signal(signal_number)
    started = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == expected, err
    assert time.monotonic() - started < 20
    assert "Traceback" not in err
    assert not [name for name in os.listdir(work) if name.endswith(".part")]
    if expected == 130 and out:
        assert result(Done(130, out, err))["status"] == "undecided"
