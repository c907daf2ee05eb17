"""Help, version and inspection of safetensors answer without loading torch, z3 or sympy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.networks import random_network, write_gpt2

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "z3", "sympy", "transformers")
COMMANDS = ["run", "inspect", "verify", "check", "explain", "bench", "report", "spec", "train", "completion"]

PROBE = """
import sys
import cli
code = cli.main(sys.argv[1:])
loaded = [name for name in {heavy} if name in sys.modules]
assert not loaded, loaded
sys.exit(code)
"""


def heavy_free(*arguments: str) -> subprocess.CompletedProcess[str]:
    probe = PROBE.format(heavy=HEAVY)
    return subprocess.run([sys.executable, "-c", probe, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([c, "--help"] for c in COMMANDS)], ids=" ".join)
def test_help_is_light(arguments: list[str]) -> None:
    done = heavy_free(*arguments)
    assert done.returncode == 0, done.stderr


def test_inspect_is_light(tmp_path: Path) -> None:
    folder = write_gpt2(random_network(0), tmp_path / "checkpoint")
    done = heavy_free("inspect", str(folder))
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_no_third_party() -> None:
    probe = "import sys, extract; sys.exit(bool({'torch', 'z3', 'sympy', 'numpy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT).returncode == 0
