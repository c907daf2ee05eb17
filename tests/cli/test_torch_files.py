"""A torch file and an archive of arrays go the whole way: inspected without torch, run, and re-checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from tests.cli.command import ROOT, environment, extract, small_task

LIGHT = """
import sys, cli
code = cli.main(sys.argv[1:])
assert not {"torch", "z3", "sympy"} & set(sys.modules), "heavy"
sys.exit(code)
"""


def as_container(folder: Path, kind: str) -> Path:
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if kind == "npz":
        np.savez(folder / "weights.npz", **arrays)
    else:
        state = {f"_orig_mod.{k}": torch.from_numpy(v) for k, v in arrays.items()}
        value = {"model": state, "model_args": {"n_head": 2}, "iter_num": 7}
        torch.save(value, folder / "ckpt.pt", _use_new_zipfile_serialization=kind == "pt")
    return folder


def test_run_and_check(tmp_path: Path) -> None:
    results = []
    for kind in ("safetensors", "pt", "npz"):
        folder = small_task(tmp_path / kind)
        if kind != "safetensors":
            as_container(folder, kind)
        done = extract("-q", "run", folder, "--json", "--cert", f"{kind}.json", cwd=tmp_path)
        assert done.code == 0, done.err
        results.append(json.loads(done.out))
        assert extract("check", f"{kind}.json", folder, cwd=tmp_path).code == 0
    for result in results[1:]:
        for part in ("status", "verdict", "numerics", "search"):
            assert result[part] == results[0][part], part
        assert result["model"]["arch"] == results[0]["model"]["arch"]
        assert [p["text"] for p in result["programs"]] == [p["text"] for p in results[0]["programs"]]
        assert result["model"]["sha256"] != results[0]["model"]["sha256"]


def test_inspect_is_light(tmp_path: Path) -> None:
    for kind in ("pt", "old pt", "npz"):
        folder = as_container(small_task(tmp_path / kind), kind)
        run = [sys.executable, "-c", LIGHT, "inspect", str(folder)]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
        assert ("NumPy archive" if kind == "npz" else "its entry model") in done.stdout
