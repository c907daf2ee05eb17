"""What must not matter does not: names, the ids of the vocabulary and the seed change no verdict."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from extract import RunRequest, run
from extract.report.report import Report

SHIPPED = Path(__file__).resolve().parents[2] / "benchmarks" / "checkpoints"
LENGTHS = {"majority": 9, "histogram": 5, "reverse": 4}


def permuted(source: Path, target: Path, seed: int) -> Path:
    """Copy a checkpoint with the ids of its (tied) vocabulary permuted, and another name."""
    spec = (source / "spec.toml").read_text()
    names = tomllib.loads(spec)["tokens"]["vocab"]
    order = np.random.default_rng(seed).permutation(len(names))
    tensors = load_file(source / "model.safetensors")
    tensors["transformer.wte.weight"] = np.ascontiguousarray(tensors["transformer.wte.weight"][order])
    target.mkdir()
    save_file(tensors, target / "model.safetensors")
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    line = next(line for line in spec.splitlines() if line.startswith("vocab"))
    listed = ", ".join(f'"{names[i]}"' for i in order)
    text = spec.replace(line, f"vocab = [{listed}]").replace(f'name = "{source.name}"', 'name = "another"')
    (target / "spec.toml").write_text(text)
    return target


def outcome(report: Report) -> tuple[object, ...]:
    """The verdict: status, exact counts and the cost of the program found."""
    verdict = report.verdict
    return report.status, verdict.agree, verdict.disagree, verdict.undecided, [p.cost for p in report.programs]


@pytest.mark.parametrize("name", LENGTHS)
def test_ids_names_and_seeds_change_no_verdict(name: str, tmp_path: Path) -> None:
    plain = run(RunRequest(checkpoint=SHIPPED / name, max_length=LENGTHS[name]))
    other = run(RunRequest(checkpoint=permuted(SHIPPED / name, tmp_path / "x", 5), max_length=LENGTHS[name]))
    assert plain.status == "proved"
    assert outcome(other) == outcome(plain)
    assert [p.text for p in other.programs] == [p.text for p in plain.programs]
    seeded = run(RunRequest(checkpoint=SHIPPED / name, max_length=LENGTHS[name], seed=11))
    assert outcome(seeded) == outcome(plain)
