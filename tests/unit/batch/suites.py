"""Suites of fake checkpoints, and the batch command on them in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import cli
from extract.batch import bench as bench_room
from tests.cli.command import environment
from tests.unit.batch.driver import with_fakes


def fake_suite(root: Path, *rows: dict[str, Any]) -> Path:
    """A folder tree with one fake checkpoint for each row, in two families."""
    for i, row in enumerate(rows):
        folder = root / "suite" / ("even" if i % 2 == 0 else "odd") / f"row{i:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.toml").write_text("fake = true\n")
        (folder / "fake.json").write_text(json.dumps(row))
    return root / "suite"


def calls(suite: Path) -> dict[str, int]:
    """How often each row was done."""
    return {
        f"{path.parent.name}/{path.name.removesuffix('.calls')}": path.stat().st_size for path in suite.rglob("*.calls")
    }


def forget_calls(suite: Path) -> None:
    for path in suite.rglob("*.calls"):
        path.unlink()


def start(*arguments: str | Path, cwd: Path, preexec: Any = None, **changes: str) -> subprocess.Popen[bytes]:
    """Start the command with fake jobs."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.batch.driver", *map(str, arguments)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**changes), preexec_fn=preexec,
    )  # fmt: skip


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


def fake_bench(*arguments: str | Path, cwd: Path, **options: Any) -> tuple[int, str, str]:
    """Run the command with fake jobs to its end: exit code, standard output, standard error."""
    return finish(start("bench", *arguments, cwd=cwd, **options))


class Inside:
    """The command with fake jobs in this process: as ``fake_bench``, without the start of an interpreter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(bench_room, "bench", with_fakes)
        for name in [name for name in os.environ if name.startswith("EXTRACT_")]:
            monkeypatch.delenv(name)
        self._capfd = capfd

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        self._capfd.readouterr()
        code = cli.main(["bench", *map(str, arguments)])
        out, err = self._capfd.readouterr()
        return code, out, err


def workers_of(supervisor: int) -> list[int]:
    """The worker processes that a supervisor started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if str(supervisor).encode() in words and any(b"extract.batch.worker" in w for w in words) and state != "Z":
                found.append(int(entry.name))
    return found


def soon(holds: Any, seconds: float = 5.0) -> bool:
    """Whether something comes true within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return bool(holds())
