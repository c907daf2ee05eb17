"""More inputs than anybody can list, decided class by class through the command line: proved, refuted, re-checked."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import ROOT, extract

CHECKPOINT = str(ROOT / "benchmarks" / "checkpoints" / "max_of_10")
SIZE = 64**10


def verify(folder: Path, text: str, *more: str) -> tuple[int, dict[str, object]]:
    (folder / "p.txt").write_text(f"output = {text}\n")
    done = extract("verify", str(folder / "p.txt"), CHECKPOINT, "--json", *more, cwd=folder)
    return done.code, json.loads(done.out)


def test_the_largest_is_proved_and_the_certificate_is_small(tmp_path: Path) -> None:
    path = tmp_path / "max.cert.json"
    code, found = verify(tmp_path, "max_over(everywhere, tokens)", "--cert", str(path))
    assert (code, found["status"]) == (0, "proved")
    verdict = found["verdict"]
    assert isinstance(verdict, dict) and verdict["method"] == "separable"
    assert int(verdict["agree"]) == int(verdict["inputs_total"]) == SIZE
    numerics = found["numerics"]
    assert isinstance(numerics, dict) and 3.48 < numerics["min_margin"] < 3.49
    assert path.stat().st_size < 100_000
    assert extract("check", str(path), CHECKPOINT, cwd=tmp_path).code == 0
    edited = json.loads(path.read_text())
    edited["program"] = "output = last(everywhere, tokens)\n"
    path.write_text(json.dumps(edited))
    assert extract("check", str(path), CHECKPOINT, cwd=tmp_path).code == 5


def test_one_wrong_input_among_them_is_found(tmp_path: Path) -> None:
    text = "max_over(everywhere, tokens) if count(tokens == '63') < 10 else 62"
    code, found = verify(tmp_path, text)
    assert (code, found["status"]) == (1, "refuted")
    verdict, examples = found["verdict"], found["counterexamples"]
    assert isinstance(verdict, dict) and isinstance(examples, list)
    assert (int(verdict["agree"]), int(verdict["disagree"])) == (SIZE - 1, 1)
    assert examples[0]["tokens"] == ["63"] * 10


def test_what_does_not_apply_leaves_it_undecided(tmp_path: Path) -> None:
    code, found = verify(tmp_path, "max_over(everywhere, tokens)", "--verify", "enumerate")
    assert (code, found["status"]) == (3, "undecided")


def test_every_float32_evaluation_answers_as_the_real_function_does(tmp_path: Path) -> None:
    code, found = verify(tmp_path, "max_over(everywhere, tokens)", "--semantics", "f32-any-order")
    assert (code, found["status"]) == (0, "proved")
    numerics = found["numerics"]
    assert isinstance(numerics, dict)
    assert numerics["semantics"] == "f32-any-order" and 0 < numerics["error_bound"] < numerics["min_margin"]


def test_a_program_that_the_checker_cannot_follow_is_undecided(tmp_path: Path) -> None:
    text = "max_over(everywhere, shift(tokens, 0))"
    (tmp_path / "p.txt").write_text(f"output = {text}\n")
    done = extract("verify", str(tmp_path / "p.txt"), CHECKPOINT, cwd=tmp_path)
    assert done.code == 3
