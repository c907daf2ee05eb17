"""Bad input of every kind: one line with value, expectation and place, the right exit code, nothing written."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.cli.command import extract, small_task

Damage = Callable[[Path], object]


def tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Damage:
    def damage(folder: Path) -> None:
        values = load_file(folder / "model.safetensors")
        change(values)
        save_file(values, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def nan(values: dict[str, np.ndarray]) -> None:
    values["transformer.wte.weight"][0, 0] = np.nan


def wrong_shape(values: dict[str, np.ndarray]) -> None:
    values["transformer.h.0.mlp.c_fc.weight"] = values["transformer.h.0.mlp.c_fc.weight"][:, :-1].copy()


def unknown_format(values: dict[str, np.ndarray]) -> None:
    values["something.else"] = np.ones(3, np.float32)


def config(**changes: object) -> Damage:
    def damage(folder: Path) -> None:
        value = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(value | changes))

    return damage


def spec(old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        text = (folder / "spec.toml").read_text()
        assert old in text
        (folder / "spec.toml").write_text(text.replace(old, new))

    return damage


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def overwrite(name: str, data: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(data)


CASES: dict[str, tuple[Damage, list[str]]] = {
    "no weights": (remove("model.safetensors"), ["no checkpoint"]),
    "no config": (remove("config.json"), ["config"]),
    "no spec": (remove("spec.toml"), ["spec.toml", "extract spec init"]),
    "empty weights": (overwrite("model.safetensors", b""), ["model.safetensors"]),
    "truncated weights": (overwrite("model.safetensors", b"\x10\0\0\0\0\0\0\0{"), ["model.safetensors"]),
    "pickle": (overwrite("model.safetensors", b"\x80\x04K\x01."), ["model.safetensors"]),
    "lfs pointer": (overwrite("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), ["LFS"]),
    "wrong shape": (tensors(wrong_shape), ["c_fc", "expected"]),
    "not a number": (tensors(nan), ["nan"]),
    "unknown format": (tensors(unknown_format), ["something.else"]),
    "contradictory config": (config(n_head=3), ["3"]),
    "config of another model": (config(vocab_size=77), ["77"]),
    "config bomb": (config(n_embd=10**9), ["1000000000"]),
    "short vocabulary": (spec('"<s>", "<e>"', '"<s>"'), ["$.tokens.vocab", "4 names", "5"]),
    "duplicate token": (spec('"c",', '"a",'), ["$.tokens.vocab", "twice"]),
    "empty domain": (spec('template = "<s> {x}"', 'template = "<s> {x}"\nwhere = "length < 0"'), ["no input"]),
    "bad regular expression": (spec('template = "<s> {x}"', 'template = "<s> {x}"\nmatches = "(a"'), ["matches"]),
    "bad promise": (spec('template = "<s> {x}"', 'template = "<s> {x}"\nwhere = "count("'), ["where"]),
    "hostile promise": (
        spec('template = "<s> {x}"', 'template = "<s> {x}"\nwhere = "__import__(\'os\').getpid() == 1"'),
        ["where"],
    ),
    "too long for the positions": (spec("max_length = 5", "max_length = 50"), ["n_ctx"]),
    "unknown field": (spec("min_length = 1", "min_len = 1"), ["$.domain.min_len"]),
    "wrong type": (spec("min_length = 1", 'min_length = "one"'), ["$.domain.min_length", "one"]),
    "not TOML": (overwrite("spec.toml", b"version = "), ["TOML"]),
    "spec of zeros": (overwrite("spec.toml", bytes(100)), ["spec.toml"]),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_checkpoint_or_spec(name: str, tmp_path: Path) -> None:
    damage, expected = CASES[name]
    folder = small_task(tmp_path / "task")
    damage(folder)
    work = tmp_path / "work"
    work.mkdir()
    done = extract("-q", "run", folder, cwd=work)
    assert done.code == 4, done.err
    assert_one_line(done.err, expected)
    assert done.out == ""
    assert os.listdir(work) == []


def assert_one_line(text: str, expected: list[str]) -> None:
    assert text.count("\n") == 1 and text.startswith("extract: "), text
    assert "Traceback" not in text
    for word in expected:
        assert word.lower() in text.lower(), f"{word!r} not in {text!r}"


def test_missing_checkpoint(tmp_path: Path) -> None:
    done = extract("-q", "run", tmp_path / "absent", cwd=tmp_path)
    assert done.code == 4
    assert_one_line(done.err, ["absent", "expected"])


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_checkpoint(tmp_path: Path) -> None:
    folder = small_task(tmp_path / "task")
    (folder / "model.safetensors").chmod(0)
    done = extract("-q", "run", folder, cwd=tmp_path)
    assert done.code == 4
    assert_one_line(done.err, ["Permission denied"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("output = (", []),
        ("", []),
        ("output = nothing", ["nothing"]),
        ("output = tokens + 1", []),
        ("output = 'q'", ["q"]),
        ("import os", []),
        ("output = __import__('os').system('true')", []),
        ("output = " + "(" * 500 + "1" + ")" * 500, []),
        ("output = 'a'\n" * 2000, []),
    ],
)
def test_programs_that_are_none(text: str, expected: list[str], tmp_path: Path) -> None:
    folder = small_task(tmp_path / "task")
    (tmp_path / "program.txt").write_text(text)
    done = extract("-q", "verify", "program.txt", folder, cwd=tmp_path)
    assert done.code == 4, done.err
    assert_one_line(done.err, ["program.txt", *expected])


def test_missing_program(tmp_path: Path) -> None:
    done = extract("-q", "verify", "absent.txt", small_task(tmp_path / "task"), cwd=tmp_path)
    assert done.code == 4
    assert_one_line(done.err, ["absent.txt"])


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\xfe", b'{"schema": "other/1"}', b"{" * 100_000])
def test_certificates_that_are_none(data: bytes, tmp_path: Path) -> None:
    folder = small_task(tmp_path / "task")
    (tmp_path / "a.cert.json").write_bytes(data)
    done = extract("-q", "check", "a.cert.json", folder, cwd=tmp_path)
    assert done.code == 4, done.err
    assert_one_line(done.err, ["a.cert.json"])


@pytest.mark.parametrize("data", ["", "{}", '{"schema": "extract.result/1"}', "[" * 100_000])
def test_results_that_are_none(data: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(data)
    done = extract("-q", "explain", "result.json", cwd=tmp_path)
    assert done.code == 4, done.err
    assert_one_line(done.err, ["result.json"])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["run"],
        ["run", "a", "b"],
        ["run", "a", "--unknown"],
        ["run", "a", "--time", "soon"],
        ["run", "a", "--time", "0s"],
        ["run", "a", "--memory", "lots"],
        ["run", "a", "--max-length", "-1"],
        ["run", "a", "--offsets", "1-"],
        ["run", "a", "--top", "0"],
        ["--color", "red", "run", "a"],
        ["completion", "csh"],
        ["spec"],
        ["train", "unknown-task", "-o", "x"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], tmp_path: Path) -> None:
    done = extract(*arguments, cwd=tmp_path)
    assert done.code == 2, done.err
    assert done.out == "" and done.err
    assert "Traceback" not in done.err
    assert os.listdir(tmp_path) == []
