"""Black boxes through the command line: found, proved with exact exceptions, certified, checked, repeatable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import extract
from tests.cli.test_run import result
from tests.tables import Row, write_table

WRONG = (0, 2, 1, 0, 2)
VERY_FEW = ("--time", "10s", "--max-cost", "5")


def count_of_last(row: Row) -> Row:
    """How often the last token occurs; wrong, as learned models are, on one long input."""
    return (row.count(row[-1]) if row != WRONG else 5,)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with one answer in 363 wrong."""
    readout = 'at = "last"\noutputs = ["0", "1", "2", "3", "4", "5"]'
    folder = tmp_path_factory.mktemp("box")
    return write_table(folder / "box", count_of_last, longest=5, readout=readout)


@pytest.fixture(scope="module")
def ran(box: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run ended well."""
    folder = tmp_path_factory.mktemp("ran")
    done = extract("run", box, *VERY_FEW, "--json", cwd=folder)
    assert done.code == 0, done.err
    (folder / "out.json").write_text(done.out)
    (folder / "program.txt").write_text(result(done)["programs"][0]["text"])
    return folder


def test_the_program_comes_out_with_its_exact_exceptions(ran: Path) -> None:
    value = json.loads((ran / "out.json").read_text())
    assert (value["status"], value["verdict"]["disagree"]) == ("proved_except", 1)
    assert value["programs"][0]["exceptions"] == {
        "count": 1, "inputs": [{"tokens": ["0", "2", "1", "0", "2"], "offset": 0}], "regions": None,
    }  # fmt: skip
    assert (value["model"]["format"], value["numerics"]["semantics"]) == ("table", "exact")
    assert value["certificate"]["checked"] is True


def test_it_is_repeatable_and_names_decide_nothing(ran: Path, box: Path, tmp_path: Path) -> None:
    """A second run says the same, of a folder and a task with other names, where --strict makes exceptions a no."""
    other = tmp_path / "sorted_backwards"
    other.mkdir()
    (other / "table.npz").write_bytes((box / "table.npz").read_bytes())
    (other / "spec.toml").write_text((box / "spec.toml").read_text().replace("a table", "sort"))
    done = extract("run", other, *VERY_FEW, "--strict", "--json", cwd=tmp_path)
    first, again = json.loads((ran / "out.json").read_text()), result(done)
    assert done.code == 1
    assert (again["model"].pop("path"), first["model"].pop("path")) == ("sorted_backwards", "box")
    assert (again["task"].pop("name"), first["task"].pop("name")) == ("sort", "a table")
    for value in (first, again):
        del value["task"]["spec_sha256"], value["certificate"], value["run"]
        for program in value["programs"]:
            del program["python"]  # it quotes the spec's sha256
    assert again == first


def test_check_and_verify(ran: Path, box: Path, tmp_path: Path) -> None:
    assert extract("check", ran / "box.cert.json", box, "--full", cwd=tmp_path).code == 0
    named = (box / "table.npz", "--spec", box / "spec.toml")
    assert extract("check", ran / "box.cert.json", *named, cwd=tmp_path).code == 0
    done = extract("verify", ran / "program.txt", box, cwd=tmp_path)
    assert done.code == 1 and "REFUTED" in done.out and "answers looked up" in done.out
    with np.load(box / "table.npz") as stored:
        changed = {name: stored[name].copy() for name in stored}
    changed["outputs"][-1] = 3
    (tmp_path / "changed").mkdir()
    (tmp_path / "changed" / "spec.toml").write_text((box / "spec.toml").read_text())
    np.savez(tmp_path / "changed" / "table.npz", **changed)
    done = extract("check", ran / "box.cert.json", tmp_path / "changed", cwd=tmp_path)
    assert done.code == 5 and "sha256" in done.out


def test_inspect_and_spec(box: Path, tmp_path: Path) -> None:
    done = extract("inspect", box, "--json", cwd=tmp_path)
    value = json.loads(done.out)
    assert (done.code, value["format"], value["arch"]["n_rows"]) == (0, "table", 363)
    assert "363 rows" in extract("inspect", box / "table.npz", cwd=tmp_path).out
    text = extract("spec", "init", box / "table.npz", cwd=tmp_path).out
    assert "the longest input of the table has 5 tokens" in text and 'outputs = ["output0"' in text
    done = extract("spec", "check", box / "spec.toml", box, cwd=tmp_path)
    assert done.code == 0 and "box fits" in done.out


def test_a_contradiction_is_one_line_and_exit_4(box: Path, tmp_path: Path) -> None:
    with np.load(box / "table.npz") as stored:
        changed = {name: np.concatenate([stored[name], stored[name][:1]]) for name in stored}
    changed["outputs"][-1] = 4
    np.savez(tmp_path / "table.npz", **changed)
    (tmp_path / "spec.toml").write_text((box / "spec.toml").read_text())
    done = extract("run", tmp_path, cwd=tmp_path)
    assert done.code == 4 and not done.out
    told = [line for line in done.err.splitlines() if "table.npz" in line]
    assert len(told) == 1 and told[0].startswith("extract: table.npz: answers input [0] with [1] in row 0 and with [4]")


REAL = [
    ("tp_hist", "output = selector_width(select(tokens, tokens, '=='))", 55986, 2),
    ("tpcat_sort", "output = first(select(rank(tokens), indices, '=='), tokens)", 19530, 11),
    ("tp_reverse", "output = first(select(indices, length - 1 - indices, '=='), tokens)", 19530, 60),
]


@pytest.mark.parametrize(("name", "program", "total", "wrong"), REAL, ids=[row[0] for row in REAL])
def test_the_intended_programs_are_counted_against_real_tables(
    shared_checkpoints: Path, tmp_path: Path, name: str, program: str, total: int, wrong: int
) -> None:
    folder = shared_checkpoints / "transformer_programs" / name
    if not folder.is_dir():
        pytest.skip("these tables are not beside this repository")
    done = extract("verify", "-", folder, "--json", "--cert", "c.json", cwd=tmp_path, stdin=program)
    value = result(done)
    assert (value["verdict"]["inputs_total"], value["verdict"]["disagree"]) == (total, wrong)
    assert extract("check", "c.json", folder, cwd=tmp_path).code == 0
