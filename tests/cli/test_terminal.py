"""On a terminal: a live line while it works, colour, and nothing of it left in the result."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.cli.command import MAJORITY, environment

pty = pytest.importorskip("pty", reason="pseudo-terminals are POSIX's")


def on_terminal(arguments: list[str], cwd: Path, **changes: str) -> str:
    """What a person sees: both streams on one pseudo-terminal."""
    read, write = pty.openpty()
    variables = environment(**({"TERM": "xterm-256color", "COLUMNS": "140"} | changes))
    command = [sys.executable, "-m", "cli", *arguments]
    actions = [(os.POSIX_SPAWN_DUP2, write, n) for n in (0, 1, 2)]
    before = os.getcwd()
    os.chdir(cwd)
    try:
        process = os.posix_spawn(sys.executable, command, variables, file_actions=actions)
    finally:
        os.chdir(before)
        os.close(write)
    seen = b""
    while True:
        try:
            part = os.read(read, 1 << 16)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(read)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0, seen
    return seen.decode()


def test_a_run_is_live_and_colored(tmp_path: Path) -> None:
    seen = on_terminal(["run", str(MAJORITY), "--max-length", "4"], tmp_path)
    assert "\x1b[1;32m PROVED" in seen
    assert "\x1b[?25l" in seen and "✓ load" in seen
    assert seen.rindex("\x1b[?25h") < seen.index("PROVED")


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_plain_terminals_get_no_escape_codes(changes: dict[str, str], tmp_path: Path) -> None:
    seen = on_terminal(["run", str(MAJORITY), "--max-length", "4"], tmp_path, **changes)
    assert "PROVED" in seen and "\x1b" not in seen
