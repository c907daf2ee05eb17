"""Help texts and schemas as files, so that a change to them is read as a diff.

``EXTRACT_UPDATE_SNAPSHOTS=1`` rewrites the files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from extract.report.schema import result_schema
from tests.cli.command import extract

HERE = Path(__file__).parent
COMMANDS = {
    "help": ["--help"],
    "help-run": ["run", "--help"],
    "help-inspect": ["inspect", "--help"],
    "help-verify": ["verify", "--help"],
    "help-check": ["check", "--help"],
    "help-explain": ["explain", "--help"],
    "help-bench": ["bench", "--help"],
    "help-report": ["report", "--help"],
    "help-train": ["train", "--help"],
    "help-completion": ["completion", "--help"],
    "help-spec": ["spec", "--help"],
    "help-spec-init": ["spec", "init", "--help"],
    "help-spec-check": ["spec", "check", "--help"],
    "help-spec-size": ["spec", "size", "--help"],
    "help-spec-schema": ["spec", "schema", "--help"],
}


def compare(name: str, text: str) -> None:
    """Compare a text with its file, or write the file when asked to."""
    path = HERE / name
    if os.environ.get("EXTRACT_UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{name} changed; EXTRACT_UPDATE_SNAPSHOTS=1 accepts it"


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str, tmp_path: Path) -> None:
    done = extract(*COMMANDS[name], cwd=tmp_path, COLUMNS="100")
    assert done.code == 0, done.err
    assert "Examples:" in done.out
    assert max(len(line) for line in done.out.splitlines()) <= 100
    compare(f"{name}.txt", done.out)


def test_result_schema() -> None:
    compare("result.schema.json", json.dumps(result_schema(), indent=2) + "\n")
