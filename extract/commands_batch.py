"""The commands about many results: ``bench`` runs a suite, or compares two of its results; ``report`` draws a page."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from extract.batch.ledger import LEDGER, RESULT, Line, read_result
from extract.errors import ExtractError, OutputError, SoundnessAlarm, UsageError
from extract.report.batch_screen import BatchScreen
from extract.report.report import Report
from extract.report.scoreboard import BatchRow, FamilyScore, FieldScore
from extract.report.streams import say, write_data, write_lines
from extract.shards import Shards

Options = dict[str, Any]
_STDIO = Path("-")


def shards_of(options: Options) -> AbstractContextManager[Shards | None]:
    """Return the workers that ``--engine`` and ``--jobs`` ask for; None in it where one process does it all."""
    if options["engine"] == "local" and options["jobs"] == 1 and options["scheduler"] is None:
        return nullcontext()
    from extract.batch.shards import WorkerShards
    from extract.stages_shards import FUNCTION

    return WorkerShards(
        FUNCTION, engine=options["engine"], workers=options["jobs"], scheduler=options["scheduler"],
        seconds=options["seconds"], memory_bytes=options["memory"],
    )  # fmt: skip


def bench_command(common: Options, options: Options) -> int:
    """Run a suite, or compare two batches. Returns the exit code."""
    if options["compare"] is not None:
        return _compare(common, options)
    if options["suite"] is None or options["output"] is None:
        raise UsageError("no suite or no folder given, expected SUITE -o DIR", hint="or --compare A B")
    if options["output"] == _STDIO:
        raise UsageError("-o is -, expected a folder: a batch leaves a ledger and certificates")

    from extract.batch.bench import BenchRequest, bench
    from extract.batch.suite import Budget
    from extract.report.scoreboard import field_lines, score_lines, table_lines

    cache = os.environ.get("EXTRACT_CACHE")
    request = BenchRequest(
        suite=options["suite"],
        output=options["output"],
        pattern=options["filter"],
        shard=options["shard"],
        budget=Budget(memory_bytes=options["memory"], max_cost=options["max_cost"], seed=options["seed"]),
        seconds=options["seconds"],
        workers=options["jobs"],
        engine=options["engine"],
        scheduler=options["scheduler"],
        cache=None if cache is None else Path(cache),
        force=options["force"],
    )
    try:
        with BatchScreen(common["color"], quiet=common["quiet"]) as screen:
            batch = bench(request, screen)
    except BaseException as error:
        if not isinstance(error, Exception):  # Ctrl-C or SIGTERM
            say(f"extract: stopped; what is done is in {options['output'] / LEDGER}, "
                "the same command goes on from there")  # fmt: skip
        raise
    if options["as_json"]:
        write_data(batch.result.read_bytes())
    else:
        write_lines([*table_lines(batch.rows), *score_lines(batch.scores), *field_lines(batch.field)], common["color"])
    return _exit_code(batch.rows, batch.scores, options["fail_on"])


def _exit_code(rows: tuple[BatchRow, ...], scores: tuple[FamilyScore, ...], fail_on: tuple[str, ...]) -> int:
    """Return 5 if the spot check refutes a proof, 1 if a row ended as it should not, 0 otherwise."""
    if scores[-1].wrong:
        return SoundnessAlarm.exit_code
    for row in rows:
        is_expected = row.outcome == "met"
        if row.outcome in fail_on or (row.report.status in fail_on and not is_expected):
            return 1
    return 0


def _compare(common: Options, options: Options) -> int:
    """Say what changed between two batches; 1 if a verdict became worse."""
    from extract.batch.scoring import compare
    from extract.report.scoreboard import change_lines

    if options["suite"] is not None or options["output"] is not None:
        raise UsageError("SUITE or -o with --compare, expected two results only")
    before, after = ({row.name: row for row in read_batch(path)[0]} for path in options["compare"])
    changes, ratio, n_same = compare(before, after)
    write_lines(change_lines(changes, ratio, n_same), common["color"])
    return 1 if any(change.is_worse for change in changes) else 0


def read_batch(path: Path) -> tuple[tuple[BatchRow, ...], tuple[FieldScore, ...]]:
    """Read a batch, its folder, or its result or ledger: its rows, and what stands beside published figures.

    Raises:  SuiteError naming the damaged line.
    """
    from extract.batch.scoring import batch_row, field_of
    from extract.batch.suite import SuiteError

    file = path
    if path.is_dir():
        file = next((path / name for name in (RESULT, LEDGER) if (path / name).is_file()), path / RESULT)
    try:
        _, lines, summary = read_result(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SuiteError(f"is no batch: {reason}", place=str(file), hint="extract bench SUITE -o DIR") from error
    return tuple(batch_row(line, *_expectation(line)) for line in lines), field_of(summary)


def _expectation(line: Line) -> tuple[tuple[str, ...], int | None]:
    return tuple(line.get("expected", ())), line.get("exceptions")


def report_command(common: Options, options: Options) -> int:
    """Draw one page from a batch or a result. Returns the exit code."""
    from extract.commands import page_of
    from extract.report.html import MARK, page

    path: Path = options["result"]
    if path.is_dir() or path.suffix == ".jsonl":
        from extract.batch.scoring import scores

        rows, field = read_batch(path)
        title = path.resolve().name if path.is_dir() else path.stem
        data = page(title, rows, scores(rows), field).encode()
    else:
        data = page_of(_result(path), path.stem)
    output: Path = options["output"] or (path / "report.html" if path.is_dir() else path.with_suffix(".html"))
    if output == _STDIO:
        write_data(data)
        return 0
    is_ours = output.is_file() and MARK.encode() in output.read_bytes()[:200]
    if output.is_file() and not (is_ours or options["force"]):
        raise OutputError(f"{output} exists and is no page of this tool", hint="--force replaces it")
    from extract.report.files import write_file

    write_file(output, data, force=True)
    say(f" {output}")
    return 0


def _result(path: Path) -> Report:
    from extract.report.report import ResultError, from_json
    from extract.stages_load import located

    try:
        return from_json(path.read_bytes())
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise ResultError(reason, place=str(path), hint="a folder of extract bench, or extract run -o") from error
    except ExtractError as error:
        raise located(error, str(path)) from error.__cause__
