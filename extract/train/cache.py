"""Trained checkpoints kept between runs: a folder for each task, seed and recipe, used again while its bytes are right.

``training.json`` beside a checkpoint says how it came out and the digests of its files; it is written last, so that a
folder without it, or with other bytes, is made again. Planning loads no torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from extract.errors import OutputError, UsageError
from extract.progress import Progress
from extract.train.tasks import task

NOTE = "training.json"
_FILES = ("config.json", "model.safetensors", "spec.toml")
#: Answers that the digest of a plan covers, so that a changed reference function is noticed.
_N_ANSWERS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained: a task, a seed, at most so many steps (None: the task's own). ``digest`` covers all of it."""

    task: str
    seed: int
    steps: int | None
    digest: str

    @property
    def folder_name(self) -> str:
        """The name of its folder in a cache."""
        return f"{self.task}-{self.digest[:16]}"


def plan_for(name: str, seed: int = 0, steps: int | None = None) -> Plan:
    """Return the plan of training a task.

    Raises:  UsageError for an unknown task, a negative seed or no steps.
    """
    from extract.train.data import inputs
    from extract.train.export import spec_text

    record = task(name)
    if seed < 0 or (steps is not None and steps < 1):
        raise UsageError(f"seed {seed} and {steps} steps, expected a seed of at least 0 and at least 1 step")
    answers = [] if record.draw else [record.answer(tokens) for tokens in islice(inputs(record), _N_ANSWERS)]
    told = [spec_text(record), asdict(record.shape), asdict(record.recipe), seed, steps, answers]
    return Plan(name, seed, steps, hashlib.sha256(json.dumps(told).encode()).hexdigest())


def find(plan: Plan, cache: Path) -> dict[str, Any] | None:
    """Return what is noted of a plan's checkpoint in a cache, None unless every file is there as it was made."""
    folder = cache / plan.folder_name
    try:
        note = json.loads((folder / NOTE).read_bytes())
        if note["plan"] == plan.digest and note["sha256"] == _digests(folder):
            return dict(note)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def make(plan: Plan, cache: Path, progress: Progress) -> dict[str, Any]:
    """Return what is noted of a plan's checkpoint, after training it if it is not in the cache.

    Of two processes that want the same one, one waits and uses what the other made.
    Raises:  OutputError if the cache cannot be written.
    """
    folder = cache / plan.folder_name
    with _alone(cache, plan):
        note = find(plan, cache)
        if note is None:
            from extract.train.training import train_task

            with suppress(FileNotFoundError):
                (folder / NOTE).unlink()
            made = train_task(plan.task, folder, seed=plan.seed, progress=progress, force=True, n_steps=plan.steps)
            note = {
                "task": plan.task,
                "seed": plan.seed,
                "plan": plan.digest,
                "steps": made.steps,
                "right": made.exact_inputs,
                "inputs": made.total_inputs,
                "drawn": made.is_drawn,
                "least_margin": made.least_margin,
                "sha256": _digests(folder),
            }
            _write(folder / NOTE, note)
        return note


def _digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _FILES}


def _write(path: Path, note: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(json.dumps(note, indent=2) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _alone(cache: Path, plan: Plan) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = os.open(cache / f".{plan.folder_name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{cache} cannot hold checkpoints: {error.strerror or error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
