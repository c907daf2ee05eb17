"""A batch from end to end: read the suite, open the ledger, train what is missing, do what is left, write the result.

What is in the ledger is never done again, and every result is on the disk before the next is taken, so a run may be
killed at any moment; the result is a function of the suite alone, apart from each line's ``run``.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from extract.batch.engines import Engine, engine_for
from extract.batch.jobs import error_report
from extract.batch.ledger import LEDGER, RESULT, Ledger, Line
from extract.batch.scoring import batch_row, field_scores, scores, summary_of
from extract.batch.suite import Budget, Published, Row, load_suite, select
from extract.batch.workers import Done, Job
from extract.errors import BudgetError, ExtractError, OutputError
from extract.report.files import replace_file
from extract.report.scoreboard import BatchRow, FamilyScore, FieldScore
from extract.stages_run import Stopwatch
from extract.train.cache import Plan, find

CERTIFICATES, CACHE, MANIFEST, LOG = "certificates", "cache", "manifest.json", "workers.log"
JOB = "extract.batch.jobs:do"
#: Wall seconds that a row may take for each nominal one, and for loading; then it hangs.
_PATIENCE, _EXTRA_SECONDS = 6.0, 120.0
_TRAINING_SECONDS = 1800.0
#: A process holds libraries, the model's answers and the checker's copies beside what the search may hold.
_MEMORY_SHARE, _EXTRA_BYTES = 2, 1 << 30


class Watcher(Protocol):
    """Sees a batch while it runs; it decides nothing."""

    def expect(self, names: tuple[str, ...], reused: int) -> None:
        """These rows will be done; so many are there already."""

    def begin(self, name: str) -> None:
        """A job begins, maybe again."""

    def end(self, name: str, row: BatchRow | None) -> None:
        """A row ended; None: its checkpoint is trained."""

    def warn(self, text: str) -> None:
        """Something was wrong and was put right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What ``extract bench`` is asked. ``shard`` is (i, n); ``cache`` holds trained checkpoints (None: in ``output``).
    ``seconds`` go before any of the suite's.

    ``job`` names the function that workers call, and ``wall_seconds`` is the wall time of one try
    (None: a multiple of the budget's).
    """

    suite: Path
    output: Path
    pattern: str | None = None
    shard: tuple[int, int] = (1, 1)
    budget: Budget = field(default_factory=Budget)
    seconds: float | None = None
    workers: int = 1
    engine: str = "local"
    scheduler: str | None = None
    cache: Path | None = None
    force: bool = False
    job: str = JOB
    wall_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A finished batch: its rows in suite order, the score by family and beside others, and where the result is."""

    rows: tuple[BatchRow, ...]
    scores: tuple[FamilyScore, ...]
    field: tuple[FieldScore, ...]
    result: Path


def bench(request: BenchRequest, watcher: Watcher) -> Batch:
    """Run the selected rows of a suite that are not in the ledger yet, and write the result.

    Raises:  SuiteError or UsageError before anything is written; OutputError if the disk does not take a line, the
             ledger is foreign, or another run writes there.
    """
    suite = load_suite(request.suite, request.budget, request.seconds)
    chosen = select(suite, request.pattern, request.shard)
    watch = Stopwatch()
    header = {"name": suite.name, "n_rows": len(suite.rows)}
    with Ledger(request.output, header, suite.digest, (row.name for row in suite.rows), force=request.force) as ledger:
        for sentence in ledger.damage:
            watcher.warn(f"extract: {request.output}: {sentence}; what it held is done again")
        _sweep(request.output)
        left = [row for row in chosen if row.name not in ledger.rows]
        watcher.expect(tuple(row.name for row in left), len(chosen) - len(left))
        if left:
            by_name = {row.name: row for row in left}
            with closing(_Runner(request, watcher, watch).lines(left)) as lines:
                for line in lines:
                    ledger.add(line)
                    watcher.end(line["name"], _judged(line, by_name[line["name"]]))
        _write_manifest(request, [row for row in suite.rows if row.name in ledger.rows])
        return _finished(request, ledger, chosen, suite.published)


def _sweep(folder: Path) -> None:
    """Remove what a killed run was in the middle of writing; whoever holds the ledger's lock is alone here."""
    names = (f".{LEDGER}", f".{RESULT}", f".{MANIFEST}", f"{CERTIFICATES}/.*.cert.json")
    for pattern in names:
        for part in folder.glob(f"{pattern}.*.part"):
            with suppress(OSError):  # it takes room and does no harm
                part.unlink()


def _judged(line: Line, row: Row) -> BatchRow:
    return batch_row(line, row.expected, row.exceptions)


def _finished(request: BenchRequest, ledger: Ledger, chosen: Sequence[Row], published: Sequence[Published]) -> Batch:
    lines, rows = [], []
    for row in chosen:
        line = ledger.rows[row.name]
        judged = _judged(line, row)
        rows.append(judged)
        run = line["run"]
        stable = {key: value for key, value in line.items() if key != "run"}
        told = {"expected": list(row.expected), "exceptions": row.exceptions}
        lines.append({**stable, **told, "outcome": judged.outcome, "points": judged.points, "run": run})
    parts, field = scores(rows), field_scores(published, rows)
    ledger.finish(lines, summary_of(parts, field))
    return Batch(tuple(rows), parts, field, request.output / RESULT)


class _Runner:
    """Does rows: trains what they need first, then hands them to the engine."""

    def __init__(self, request: BenchRequest, watcher: Watcher, watch: Stopwatch) -> None:
        self._request, self._watcher, self._watch = request, watcher, watch
        self._cache = request.cache or request.output / CACHE
        (request.output / CERTIFICATES).mkdir(exist_ok=True)

    def lines(self, rows: Sequence[Row]) -> Generator[Line, None, None]:
        """Yield a ledger's line for each row as it ends. Raises: OutputError if a worker could not write its files."""
        request = self._request
        engine = engine_for(
            request.engine, request.job, workers=request.workers, log=request.output / LOG,
            scheduler=request.scheduler, started=self._watcher.begin,
            # a cluster of our own ends with us, whatever happens, and what it keeps with it
            is_kept=request.scheduler is None,
        )  # fmt: skip
        with engine:
            failed = self._trained(engine, [row.plan for row in rows if row.plan is not None])
            for row in rows:
                if row.plan is not None and row.plan.digest in failed:
                    yield self._failure(row, ExtractError(failed[row.plan.digest]))
            ready = [row for row in rows if row.plan is None or row.plan.digest not in failed]
            by_name = {row.name: row for row in ready}
            for done in engine.run([self._job(row) for row in ready]):
                yield self._line(by_name[done.job.name], done)

    def _trained(self, engine: Engine, plans: Sequence[Plan]) -> dict[str, str]:
        """Train what is not in the cache; return why, for each plan that could not be trained."""
        missing = {plan.digest: plan for plan in plans if find(plan, self._cache) is None}
        jobs = [
            Job(f"train {plan.folder_name}",
                {"do": "train", "task": plan.task, "seed": plan.seed, "steps": plan.steps, "cache": str(self._cache)},
                _TRAINING_SECONDS, self._memory_bytes)
            for plan in missing.values()
        ]  # fmt: skip
        by_name = {f"train {plan.folder_name}": plan for plan in missing.values()}
        failed: dict[str, str] = {}
        for done in engine.run(jobs):
            error = {"code": done.code, "message": done.reason} if done.reply is None else done.reply.get("error")
            if error is not None and error["code"] == OutputError.code:
                raise OutputError(error["message"])
            if error is not None:
                failed[by_name[done.job.name].digest] = f"training failed: {error['message']}"
            self._watcher.end(done.job.name, None)
        return failed

    @property
    def _memory_bytes(self) -> int:
        return _MEMORY_SHARE * self._request.budget.memory_bytes + _EXTRA_BYTES

    def _job(self, row: Row) -> Job:
        checkpoint = row.checkpoint if row.plan is None else self._cache / row.plan.folder_name
        certificate = self._request.output / CERTIFICATES / f"{row.name.replace('/', '__')}.cert.json"
        message: dict[str, Any] = {
            "do": "run",
            "name": row.name,
            "checkpoint": str(checkpoint),
            "spec": None if row.spec is None else str(row.spec),
            "max_length": row.max_length,
            "seconds": row.budget.seconds,
            "memory_bytes": row.budget.memory_bytes,
            "max_cost": row.budget.max_cost,
            "seed": row.budget.seed,
            "certificate": str(certificate),
        }
        wall = self._request.wall_seconds or _PATIENCE * row.budget.seconds + _EXTRA_SECONDS
        return Job(row.name, message, wall, self._memory_bytes)

    def _line(self, row: Row, done: Done) -> Line:
        if done.reply is None:
            return self._failure(row, BudgetError(done.reason), done)
        error = done.reply["result"].get("error")
        if error is not None and error["code"] == OutputError.code:
            raise OutputError(error["message"], hint=error["hint"])
        return self._told(row, done.reply, done)

    def _failure(self, row: Row, error: ExtractError, done: Done | None = None) -> Line:
        value = msgspec.to_builtins(error_report(error, self._watch))
        run = value.pop("run")
        if done is not None:
            value["error"]["code"] = done.code
        return self._told(row, {"result": value, "spot": None, "run": run}, done)

    def _told(self, row: Row, reply: Mapping[str, Any], done: Done | None) -> Line:
        seconds, tries = (done.seconds, done.tries) if done is not None else (0.0, 1)
        run = {**reply["run"], "wall_seconds": round(seconds, 3), "tries": tries}
        return {"name": row.name, "digest": row.digest, "result": reply["result"], "spot": reply["spot"], "run": run}


def _write_manifest(request: BenchRequest, rows: Sequence[Row]) -> None:
    """Write what is known of the trained checkpoints: steps, inputs right, digests of the files."""
    cache = request.cache or request.output / CACHE
    notes = {row.name: find(row.plan, cache) for row in rows if row.plan is not None}
    known = {name: note for name, note in notes.items() if note is not None}
    if known:
        path = request.output / MANIFEST
        try:
            replace_file(path, (json.dumps(known, indent=2) + "\n").encode())
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
