"""Mutation testing: ``python -m tests.mutation checker --sample 150 --seed 1`` prints the kill rate and the survivors.

Each mutant is written into a copy of the repository and its module's tests are run there, the fastest first, until one
fails. A mutant is killed by a failing test, or by using more processor time than any right run does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.plan import PARTS, Part

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("extract", "tests", "benchmarks", "cli.py", "pyproject.toml")
#: Processor seconds that a mutant's tests may use: several times what they use on the code as it is.
MOST_SECONDS = 240
#: The same of the quicker tests alone.
MOST_QUICK_SECONDS = 90
#: The exit status of a child that could not even ask its tests.
_BROKEN = 99


def drawn(part: Part, sample: int, seed: int) -> list[Mutant]:
    """Draw mutants of a part's modules, all alike likely; equal arguments give the same ones."""
    made = [m for path in part.modules for m in mutants(path, (ROOT / path).read_text(encoding="utf-8"))]
    return random.Random(seed).sample(made, min(sample, len(made)))


def drawn_of_each(part: Part, each: int, seed: int) -> list[Mutant]:
    """Draw as many mutants of every module; fewer are the first of more, and no module changes another's."""
    found = []
    for path in part.modules:
        made = mutants(path, (ROOT / path).read_text(encoding="utf-8"))
        random.Random(f"{seed} {path}").shuffle(made)
        found += made[:each]
    return found


def preload() -> None:
    """Import what every mutant's tests need and no mutant changes, once for all of them."""
    import hypothesis
    import msgspec
    import numpy
    import pytest
    import safetensors.numpy
    import torch

    assert all((hypothesis, msgspec, numpy, pytest, safetensors.numpy, torch))


def forget(target: Path) -> None:
    """Remove what python compiled of a module: files of one size and second look alike to it."""
    for made in (target.parent / "__pycache__").glob(f"{target.stem}.*"):
        made.unlink()


def verdict(folder: Path, tests: tuple[str, ...], seconds: int = MOST_SECONDS) -> str:
    """Run tests in a copy of the repository; return "" if they pass, else how the mutant died."""
    child = os.fork()
    if child == 0:
        _test(folder, tests, seconds)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _BROKEN:
        raise RuntimeError((folder / "log.txt").read_text(errors="replace")[-2000:])
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return "" if os.WEXITSTATUS(status) == 0 else f"exit {os.WEXITSTATUS(status)}"


def _test(folder: Path, tests: tuple[str, ...], seconds: int) -> None:
    """Be the child: never returns."""
    try:
        import pytest

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        os.chdir(folder)
        os.environ |= {"CI": "1", "PYTHONPATH": str(folder)}
        sys.path[:] = [str(folder), *(p for p in sys.path if p not in ("", str(ROOT)))]
        for name in [n for n in sys.modules if n.split(".")[0] in ("extract", "tests")]:
            del sys.modules[name]
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        options = [
            "-x",
            "-q",
            "-p",
            "no:randomly",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--hypothesis-profile=few",
        ]
        found = pytest.main([*options, "-W", "ignore::pytest.PytestAssertRewriteWarning", *tests])
    except BaseException:
        traceback.print_exc()
        found = _BROKEN
    os._exit(int(found))


def copies(n: int, folder: Path) -> Iterator[Path]:
    """Make copies of the repository to work in."""
    for i in range(n):
        copy = folder / str(i)
        for name in COPIED:
            given = ROOT / name
            if given.is_dir():
                shutil.copytree(given, copy / name, ignore=shutil.ignore_patterns(".*"))
            else:
                shutil.copy(given, copy / name)
        yield copy


def tried(
    mutant: Mutant, tests: tuple[str, ...], free: SimpleQueue[Path], seconds: int = MOST_SECONDS
) -> tuple[Mutant, str, str]:
    """Return a mutant, how it died ("" if it lives), and the last line its tests wrote."""
    folder = free.get()
    target = folder / mutant.path
    text = target.read_text(encoding="utf-8")
    try:
        target.write_text(mutant.text(text), encoding="utf-8")
        forget(target)
        died = verdict(folder, tests, seconds)
        lines = [x for x in (folder / "log.txt").read_text(errors="replace").splitlines() if x.startswith("FAILED")]
        return mutant, died, lines[-1] if lines else ""
    finally:
        target.write_text(text, encoding="utf-8")
        forget(target)
        free.put(folder)


def _by_module(records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        found.setdefault(record["path"], []).append(record)
    return found


def main() -> int:
    """Draw, try and report; exit 1 if the tests fail on the code as it is."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Which changes do the tests miss?")
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--each", type=int, help="draw so many of every module, instead of a sample of them all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--only", default="", help="of the mutants drawn, those of these numbers or files, separated by commas"
    )
    parser.add_argument("--quick", action="store_true", help="ask the quicker tests only")
    parser.add_argument("--trust", action="store_true", help="do not run the tests on the code as it is first")
    parser.add_argument("--json", type=Path, help="write every mutant and its fate to this file")
    given = parser.parse_args()
    part, begun = PARTS[given.part], time.monotonic()
    of_all = drawn_of_each(part, given.each, given.seed) if given.each else drawn(part, given.sample, given.seed)
    chosen = list(enumerate(of_all))
    if given.only:
        wanted = given.only.split(",")
        chosen = [(i, m) for i, m in chosen if str(i) in wanted or m.path.split("/")[-1] in wanted]
    preload()
    with tempfile.TemporaryDirectory() as folder:
        free: SimpleQueue[Path] = SimpleQueue()
        for copy in copies(given.jobs, Path(folder)):
            free.put(copy)
        if not given.trust:
            asked = dict.fromkeys(test for path in part.modules for test in part.tests_of(path, given.quick))
            if verdict(copy, tuple(asked)):
                sys.stdout.write(f"fails without any change:\n{(copy / 'log.txt').read_text()[-4000:]}\n")
                return 1
        records, alike = [], [m for _, m in chosen]
        seconds = MOST_QUICK_SECONDS if given.quick else MOST_SECONDS
        with ThreadPoolExecutor(given.jobs) as pool:
            for (i, _), (mutant, died, how) in zip(
                chosen,
                pool.map(lambda m: tried(m, part.tests_of(m.path, given.quick), free, seconds), alike),
                strict=True,
            ):
                alive = "SURVIVED, in a term for roundings," if mutant.is_rounding else "SURVIVED"
                records.append({**asdict(mutant), "n": i, "died": died})
                sys.stdout.write(f"{i} {died or alive} {mutant.path}:{mutant.line} {mutant.what} {how[:100]}\n")
                sys.stdout.flush()
    for name, some in {"all": records, **_by_module(records)}.items():
        lives = [r["is_rounding"] for r in some if not r["died"]]
        sys.stdout.write(f"{name}: killed {len(some) - len(lives)} of {len(some)}, {sum(lives)} live in roundings\n")
    sys.stdout.write(f"{time.monotonic() - begun:.0f} s\n")
    if given.json:
        given.json.write_text(json.dumps(records, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
