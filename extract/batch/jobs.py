"""What a worker does for one message: run a row of a suite, or train the checkpoint of one.

Messages and replies are plain JSON values. An error that can be explained is a result with status ``error``; a bug is
one too, so that one bad checkpoint never ends a batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from extract.errors import ExtractError
from extract.progress import Silent
from extract.report.report import ErrorPart, Report
from extract.stages_run import Stopwatch

if TYPE_CHECKING:
    from extract.pipeline import RunRequest


def do(message: dict[str, Any]) -> dict[str, Any]:
    """Do one message, ``{"do": "run" | "train", ...}``."""
    return train(message) if message["do"] == "train" else run_row(message)


def run_row(message: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a row without its ``run``, what differs from run to run, and the spot check."""
    from extract.batch.spot_check import spot_check
    from extract.pipeline import run

    watch = Stopwatch()
    checkpoint, spec = Path(message["checkpoint"]), None if message["spec"] is None else Path(message["spec"])
    spot = None
    try:
        report = run(_request(message, checkpoint, spec))
        checked = spot_check(report, checkpoint, spec)
        spot = None if checked is None else checked.as_dict()
    except MemoryError:
        raise
    except Exception as error:
        report = error_report(error, watch)
    value = msgspec.to_builtins(report)
    told = {"result": {key: part for key, part in value.items() if key != "run"}, "spot": spot, "run": value["run"]}
    return dict(told)


def _request(message: dict[str, Any], checkpoint: Path, spec: Path | None) -> RunRequest:
    from extract.pipeline import RunRequest

    return RunRequest(
        checkpoint=checkpoint,
        spec=spec,
        max_length=message["max_length"],
        seconds=message["seconds"],
        memory_bytes=message["memory_bytes"],
        max_cost=message["max_cost"],
        seed=message["seed"],
        certificate=Path(message["certificate"]),
        force=True,
    )


def error_report(error: Exception, watch: Stopwatch) -> Report:
    """Return the result of a row that ended in an error."""
    if isinstance(error, ExtractError):
        message = f"{error.place}: {error.message}" if error.place else error.message
        part = ErrorPart(error.code, " ".join(message.split()), error.hint)
    else:
        part = ErrorPart(ExtractError.code, " ".join(f"{type(error).__name__}: {error}".split()), None)
    return Report(status="error", error=part, run=watch.run_part())


def train(message: dict[str, Any]) -> dict[str, Any]:
    """Train a checkpoint into the cache, or find it there; return what is noted of it, or the error."""
    from extract.train.cache import make, plan_for

    try:
        plan = plan_for(message["task"], message["seed"], message["steps"])
        return {"note": make(plan, Path(message["cache"]), Silent())}
    except ExtractError as error:
        return {"error": {"code": error.code, "message": error.line()}}
