"""Two programs compared through the command line: verdicts, counts, exit codes, no checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import MAJORITY, Done, extract

PARITY = "'1' if count(tokens == '1') % 2 == 1 else '0'"
SCANNED = "s = scan(tokens, start=0, letters=('0', '1'), transitions=((0, 1), (1, 0)))\noutput = last(everywhere, s)"
LEFT = "'0' if count(tokens == '1') < count(tokens == '0') else '1'"
RIGHT = "'1' if length < 2 * count(tokens == '1') else '0'"


def against(folder: Path, left: str, right: str, *more: str) -> Done:
    for name, text in (("left.txt", left), ("right.txt", right)):
        (folder / name).write_text(text if "output" in text else f"output = {text}\n")
    return extract("verify", str(folder / "left.txt"), "--against", str(folder / "right.txt"), *more, cwd=folder)


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "task.toml"
    path.write_text('version = 1\n[tokens]\nvocab = ["0", "1"]\n[domain]\nmax_length = 40\n')
    return str(path)


def result(done: Done) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(done.out)
    assert sum(int(value[name]) for name in ("same", "differ", "undecided")) == int(value["inputs_total"])
    for row in value["by_length"]:
        assert sum(int(row[name]) for name in ("same", "differ", "undecided")) == int(row["inputs"])
    return value


def test_equal_for_every_length(tmp_path: Path, spec: str) -> None:
    right = SCANNED.replace("output = last", "output = '1' if last") + " == 1 else '0'"
    done = against(tmp_path, PARITY, right, "--spec", spec, "--json")
    found = result(done)
    assert (done.code, found["status"], found["equal_from_length"]) == (0, "equal", 1)
    assert "however long" in found["claim"] and found["difference"] is None
    assert "EQUAL" in against(tmp_path, PARITY, right, "--spec", spec).out


def test_different_with_the_first_input_and_an_exact_count(tmp_path: Path, spec: str) -> None:
    done = against(tmp_path, LEFT, RIGHT, "--spec", spec, "--max-length", "4", "--json")
    found = result(done)
    assert (done.code, found["status"], found["differ"]) == (1, "different", 2 + 6)
    assert found["difference"] == {"tokens": ["0", "1"], "left": ["1"], "right": ["0"], "minimal": True}
    text = against(tmp_path, LEFT, RIGHT, "--spec", spec, "--max-length", "4").out
    assert "exactly 8 of the 30" in text and "on 0 1 the left says 1, the right 0, minimal" in text


def test_the_spec_beside_a_checkpoint_will_do(tmp_path: Path) -> None:
    done = against(tmp_path, LEFT, RIGHT, "--spec", str(MAJORITY / "spec.toml"), "--json")
    beside = extract(
        "verify",
        str(tmp_path / "left.txt"),
        str(MAJORITY),
        "--against",
        str(tmp_path / "right.txt"),
        "--json",
        cwd=tmp_path,
    )
    found, again = result(done), result(beside)
    assert (done.code, found["status"]) == (0, "equal")
    assert {k: v for k, v in found.items() if k != "run"} == {k: v for k, v in again.items() if k != "run"}


def test_undecided_is_said(tmp_path: Path, spec: str) -> None:
    ranked = "first(select(rank(tokens), 20, '=='), tokens, '0')"
    right = f"{ranked} if 25 < length else '0'"
    done = against(tmp_path, ranked, right, "--spec", spec, "--max-length", "24", "--time", "50ms", "--json")
    found = result(done)
    assert done.code in (1, 3) and found["status"] in ("different", "undecided")


def test_what_makes_no_sense_is_refused(tmp_path: Path, spec: str) -> None:
    assert against(tmp_path, LEFT, RIGHT).code == 2
    assert against(tmp_path, LEFT, RIGHT, "--spec", spec, "--cert", "x.json").code == 2
    assert against(tmp_path, LEFT, "output = (", "--spec", spec).code == 4
    assert extract("verify", str(tmp_path / "left.txt"), cwd=tmp_path).code == 2
