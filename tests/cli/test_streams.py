"""Streams that are closed, full, piped or plain: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ROOT, environment, extract, small_task

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")


def shell(line: str, cwd: Path, **changes: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which $EXTRACT is the command."""
    variables = environment(**changes) | {"EXTRACT_COMMAND": f"{sys.executable} -m cli"}
    line = line.replace("extract ", f"{sys.executable} -m cli ")
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=variables, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_task(tmp_path_factory.mktemp("streams") / "task")


def test_nothing_but_the_result_on_standard_output(task: Path, tmp_path: Path) -> None:
    done = extract("inspect", task, "--json", cwd=tmp_path)
    assert done.code == 0
    assert json.loads(done.out)["schema"] == "extract.inspect/1"


def test_no_escape_codes_when_piped(task: Path, tmp_path: Path) -> None:
    for arguments in (["inspect", str(task)], ["--help"], ["spec", "check", str(task / "spec.toml")]):
        done = extract(*arguments, cwd=tmp_path, FORCE_COLOR="1", TERM="xterm-256color")
        assert "\x1b" not in done.out + done.err, arguments


def test_color_can_be_forced_and_forbidden(task: Path, tmp_path: Path) -> None:
    assert "\x1b[" in extract("--color", "always", "inspect", task, cwd=tmp_path, NO_COLOR="1").out
    assert "\x1b[" not in extract("--color", "never", "inspect", task, cwd=tmp_path).out


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/null", "2>/dev/full", "2> >(exec true)"])
def test_losing_standard_error_loses_no_result(redirection: str, task: Path, tmp_path: Path) -> None:
    if "full" in redirection and not FULL.exists():
        pytest.skip("/dev/full is Linux's")
    done = shell(f"extract spec size {task}/spec.toml --json {redirection}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == "extract.size/1"


@pytest.mark.parametrize(
    "command", ["--help", "spec schema", "completion bash", "inspect TASK", "spec size TASK/spec.toml"]
)
@needs_full
def test_a_full_disk_is_74(command: str, task: Path, tmp_path: Path) -> None:
    done = shell(f"extract {command.replace('TASK', str(task))} > /dev/full", tmp_path)
    assert done.returncode == 74, done.stderr
    assert done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr


def test_closed_standard_output_is_74(task: Path, tmp_path: Path) -> None:
    done = shell(f"extract inspect {task} >&-", tmp_path)
    assert done.returncode == 74, done.stderr


def test_a_closed_standard_error_is_open_for_the_solver(tmp_path: Path) -> None:
    """The solver's process used to inherit no standard error, and did not come up without one."""
    shipped = ROOT / "benchmarks" / "checkpoints" / "majority"
    done = shell(f"extract run {shipped} --json 2>&-", tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]
    assert json.loads(done.stdout)["search"]["rivals"]


@pytest.mark.parametrize("command", ["--help", "spec schema", "inspect TASK --json"])
def test_a_reader_that_has_gone_is_141_and_quiet(command: str, task: Path, tmp_path: Path) -> None:
    line = f"(sleep 0.2; extract {command.replace('TASK', str(task))}; echo $? >&2) | exec true"
    done = shell(line, tmp_path)
    assert done.stderr.strip() == b"141", done.stderr


def test_ascii_terminals_get_ascii(task: Path, tmp_path: Path) -> None:
    done = extract("inspect", task, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert done.out.isascii()


def test_the_module_runs_as_the_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "extract", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("extract ")


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion_scripts(shell_name: str, tmp_path: Path) -> None:
    done = extract("completion", shell_name, cwd=tmp_path)
    assert done.code == 0 and "_EXTRACT_COMPLETE" in done.out


def test_completion_offers_commands(tmp_path: Path) -> None:
    done = extract(cwd=tmp_path, _EXTRACT_COMPLETE="bash_complete", COMP_WORDS="extract sp", COMP_CWORD="1")
    assert done.code == 0 and "spec" in done.out


def test_environment_gives_options(task: Path, tmp_path: Path) -> None:
    done = extract("spec", "size", task / "spec.toml", "--json", cwd=tmp_path, EXTRACT_MAX_LENGTH="2")
    assert json.loads(done.out)["size"] == 2 + 4
