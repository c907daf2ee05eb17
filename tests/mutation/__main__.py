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
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.mutation import in_memory
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


def drawn_of_each(part: Part, each: int, seed: int, is_visible: bool = False) -> list[Mutant]:
    """Draw as many mutants of every module; fewer are the first of more, and no module changes another's.

    ``is_visible`` leaves out those in terms for roundings.
    """
    found = []
    for path in part.modules:
        made = mutants(path, (ROOT / path).read_text(encoding="utf-8"))
        random.Random(f"{seed} {path}").shuffle(made)
        made = [m for m in made if not (is_visible and m.is_rounding)]
        found += made[:each]
    return found


def preload() -> None:
    """Import what every mutant's tests need and no mutant changes, once for all of them, with one thread each.

    The package itself is imported for the sake of what it imports: every child forgets it and reads its own copy.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    import hypothesis
    import msgspec
    import numpy
    import pytest
    import safetensors.numpy
    import torch

    import extract.pipeline

    assert all((extract.pipeline, hypothesis, msgspec, numpy, pytest, safetensors.numpy, torch))


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


def _in_memory(part: Part, chosen: list[Mutant], is_quick: bool) -> int:
    """Try mutants module by module, without a file changed; print each one's fate and each module's sums."""
    os.environ["CI"] = "1"
    seconds = MOST_QUICK_SECONDS if is_quick else MOST_SECONDS
    with tempfile.TemporaryDirectory() as folder:
        for path in dict.fromkeys(m.path for m in chosen):
            fates: Counter[str] = Counter()

            def note(mutant: Mutant, code: int, last: str, fates: Counter[str] = fates) -> None:
                fate = {in_memory.PASSED: "SURVIVED", in_memory.UNPLACED: "UNPLACED"}.get(code, "killed")
                fate += ", in a term for roundings," * (mutant.is_rounding and fate == "SURVIVED")
                fates[fate] += 1
                by = f" {code} {last[:90]}" if fate == "killed" else ""
                sys.stdout.write(f"{fate} {mutant.path}:{mutant.line} {mutant.what}{by}\n")
                sys.stdout.flush()

            def told(mutant: Mutant, code: int, last: str, note: Any = note, fates: Counter[str] = fates) -> None:
                note(mutant, code, last)
                if fates.total() == sum(m.path == mutant.path for m in chosen):
                    sys.stdout.write(f"{mutant.path}: {dict(fates)}\n")

            in_memory.try_all([m for m in chosen if m.path == path], ROOT, part.tests_of(path, is_quick), seconds,
                              Path(folder) / "log.txt", told)  # fmt: skip
    return 0


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
    parser.add_argument("--in-memory", action="store_true", help="swap code instead of writing files: faster")
    parser.add_argument("--visible", action="store_true", help="with --each: none in terms for roundings")
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
    chosen = list(enumerate(drawn(part, given.sample, given.seed)))
    if given.each:
        chosen = list(enumerate(drawn_of_each(part, given.each, given.seed, given.visible)))
    if given.only:
        wanted = given.only.split(",")
        chosen = [(i, m) for i, m in chosen if str(i) in wanted or m.path.split("/")[-1] in wanted]
    preload()
    if given.in_memory:
        return _in_memory(part, [m for _, m in chosen], given.quick)
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
