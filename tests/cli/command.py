"""The command in a subprocess, and small tasks for it: a checkpoint with a spec, made in a temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.networks import random_network, write_gpt2

ROOT = Path(__file__).resolve().parents[2]
MAJORITY = ROOT / "benchmarks" / "checkpoints" / "majority"

SPEC = """
version = 1
name = "small"

[tokens]
vocab = ["a", "b", "c", "<s>", "<e>"]

[domain]
alphabet = ["a", "b"]
min_length = 1
max_length = {max_length}
template = "<s> {{x}}"
{promise}

[readout]
at = "last"
kind = "argmax"
choices = ["a", "b"]
"""


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """The environment of a user who set nothing up, plus changes."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("EXTRACT_") and k not in ("NO_COLOR", "FORCE_COLOR")
    }
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | changes


def extract(*arguments: str | Path, cwd: Path, stdin: str = "", timeout: float = 300, **changes: str) -> Done:
    """Run the command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *map(str, arguments)],
        cwd=cwd, input=stdin.encode(), capture_output=True, env=environment(**changes), timeout=timeout,
    )  # fmt: skip
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def small_task(folder: Path, *, seed: int = 3, max_length: int = 5, promise: str = "") -> Path:
    """A checkpoint folder with random weights and a spec of a few dozen inputs."""
    write_gpt2(random_network(seed, n_ctx=40), folder)
    (folder / "spec.toml").write_text(SPEC.format(max_length=max_length, promise=promise))
    return folder
