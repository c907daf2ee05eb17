"""One function per command: options in, streams and files written, exit code out.

It joins the pipeline to the report room and decides nothing about programs. Heavy rooms are imported inside the
functions that need them, after the first line has been said.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extract.errors import BudgetError, ExtractError, ProgramError, SoundnessAlarm, UsageError
from extract.report.files import Subject, write_file
from extract.report.report import ErrorPart, Report, Run, to_json
from extract.report.screen import Screen, grouped
from extract.report.streams import write_data, write_lines
from extract.report.text import check_lines, fact_lines, result_lines
from extract.stages_run import Stopwatch

Options = dict[str, Any]
_STDIO = Path("-")
_EXIT_CODES = {"proved": 0, "proved_except": 0, "refuted": 1, "no_program": 1, "undecided": 3}
_INTERRUPTED = 130
_LARGEST_FILE = 64 << 20


def run_command(common: Options, options: Options) -> int:
    """Find and prove programs for a checkpoint. Returns the exit code."""

    def work(screen: Screen) -> Report:
        from extract.commands_batch import shards_of
        from extract.pipeline import RunRequest, run
        from extract.stages_load import default_name

        request = RunRequest(
            checkpoint=options["checkpoint"],
            **_common_fields(options),
            max_cost=options["max_cost"],
            n_programs=options["top"],
            strict=options["strict"],
            seed=options["seed"],
            certificate=options["cert"] or Path(default_name(options["checkpoint"])),
            emit=options["emit"],
        )
        with shards_of(options) as shards:
            return run(request, screen, shards)

    return _report(common, options, work)


def verify_command(common: Options, options: Options) -> int:
    """Decide whether a program equals the model, or another program. Returns the exit code."""
    if options["against"] is not None:
        return _against(common, options)
    if options["checkpoint"] is None:
        raise UsageError("no checkpoint given, expected PROGRAM CKPT", hint="or PROGRAM --against PROGRAM2 --spec SPEC")

    def work(screen: Screen) -> Report:
        from extract.commands_batch import shards_of
        from extract.pipeline import VerifyRequest, verify_program

        request = VerifyRequest(
            checkpoint=options["checkpoint"],
            **_common_fields(options),
            program=_read_text(options["program"]),
            place=str(options["program"]),
            certificate=options["cert"],
        )
        with shards_of(options) as shards:
            return verify_program(request, screen, shards)

    return _report(common, options, work)


def _against(common: Options, options: Options) -> int:
    """Compare two programs on a domain. Returns the exit code."""
    from extract.report.comparison import comparison_lines
    from extract.stages_against import AgainstRequest, verify_against

    for name in ("cert", "offsets"):
        if options[name] is not None:
            raise UsageError(f"--{name} with --against, expected neither: it says nothing about programs")
    left, right = options["program"], options["against"]
    request = AgainstRequest(
        left=_read_text(left),
        right=_read_text(right),
        places=(str(left), str(right)),
        spec=options["spec"],
        checkpoint=options["checkpoint"],
        max_length=options["max_length"],
        seconds=options["seconds"],
        memory_bytes=options["memory"],
    )
    output: Path | None = options["output"]
    as_json, watch = options["as_json"] or output == _STDIO, Stopwatch()
    try:
        with Screen(common["color"], quiet=common["quiet"]) as screen:
            report = verify_against(request, screen)
    except Exception as error:
        if as_json:
            write_data(to_json(_error_report(error, watch.run_part())))
        raise
    data = to_json(report)
    if output not in (None, _STDIO):
        write_file(output, data, force=options["force"])
    if as_json:
        write_data(data)
    else:
        write_lines(comparison_lines(report), common["color"])
    return {"equal": 0, "different": 1, "undecided": 3}[report.status]


def _common_fields(options: Options) -> Options:
    """Return the fields that both requests have."""
    output = options["output"]
    return {
        "spec": options["spec"],
        "max_length": options["max_length"],
        "offsets": options["offsets"],
        "outputs": tuple(path for path in (output, options.get("report")) if path not in (None, _STDIO)),
        "force": options["force"],
        "semantics": options["semantics"],
        "method": options["method"],
        "seconds": options["seconds"],
        "memory_bytes": options["memory"],
    }


def _report(common: Options, options: Options, work: Callable[[Screen], Report]) -> int:
    """Do the work under a progress screen, then write its report to the streams and files asked for."""
    as_json = options["as_json"] or options["output"] == _STDIO
    output: Path | None = options["output"] if options["output"] != _STDIO else None
    watch = Stopwatch()
    try:
        with Screen(common["color"], quiet=common["quiet"]) as screen:
            screen.phase("load")
            report = work(screen)
    except Exception as error:
        if as_json:
            write_data(to_json(_error_report(error, watch.run_part())))
        raise
    data = to_json(report)
    try:
        if output is not None:
            write_file(output, data, _subject(report), force=options["force"])
        if options.get("report") is not None:
            write_file(options["report"], page_of(report, str(options["checkpoint"])), force=options["force"])
    finally:
        if as_json:
            write_data(data)
        else:
            write_lines(result_lines(report, _next_command(options, report, output)), common["color"])
    if report.budget_hit == "interrupted":
        return _INTERRUPTED
    return 1 if report.status == "proved_except" and options.get("strict") else _EXIT_CODES[report.status]


def page_of(report: Report, name: str) -> bytes:
    """Return the HTML page of one result; ``name`` is what it is called where its task has no name."""
    from extract.report.html import page
    from extract.report.scoreboard import BatchRow

    name = report.task.name if report.task is not None and report.task.name else name
    row = BatchRow(name=name, family=name, report=report, seconds=sum(report.run.seconds.values()))
    return page(name, (row,)).encode()


def _next_command(options: Options, report: Report, output: Path | None) -> str | None:
    if output is not None and report.programs:
        return f"extract explain {output}"
    if report.certificate is not None and report.certificate.file is not None:
        return f"extract check {options['cert'] or report.certificate.file} {options['checkpoint']}"
    return None


def _subject(report: Report) -> Subject | None:
    if report.model is None or report.task is None:
        return None
    return Subject(report.model.sha256, report.task.spec_sha256)


def _error_report(error: Exception, run: Run) -> Report:
    if isinstance(error, ExtractError):
        message = f"{error.place}: {error.message}" if error.place else error.message
        return Report(status="error", error=ErrorPart(error.code, " ".join(message.split()), error.hint), run=run)
    kind = BudgetError.code if isinstance(error, MemoryError) else "internal"
    return Report(status="error", error=ErrorPart(kind, f"{type(error).__name__}: {error}", None), run=run)


def _read_text(path: Path) -> str:
    """Return a program given as a file or on standard input. Raises: ProgramError if it cannot be read."""
    try:
        if path == _STDIO:
            return sys.stdin.buffer.read(_LARGEST_FILE).decode("utf-8")
        with path.open("rb") as file:
            return file.read(_LARGEST_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProgramError(f"byte {error.start} is not UTF-8, expected text", place=str(path)) from error
    except OSError as error:
        raise ProgramError(f"cannot be read: {error.strerror or error}", place=str(path)) from error


def inspect_command(common: Options, options: Options) -> int:
    """Show what a checkpoint is; loads no torch. Returns the exit code."""
    from extract.formats import inspect_checkpoint
    from extract.report.inspection import inspection_lines
    from extract.spec import load_spec
    from extract.stages_inspect import inspection_report
    from extract.stages_load import beside

    spec = options["spec"] or beside(options["checkpoint"])
    facts = load_spec(spec).spec.model if spec is not None else None
    report = inspection_report(inspect_checkpoint(options["checkpoint"], facts))
    if options["as_json"]:
        write_data(to_json(report))
    else:
        write_lines(inspection_lines(report), common["color"])
    return 0


def check_command(common: Options, options: Options) -> int:
    """Re-check a certificate independently. Returns the exit code."""
    from extract.report.report import CheckReport, count
    from extract.stages_certificate import recheck

    with Screen(common["color"], quiet=common["quiet"]) as screen:
        screen.phase("check")
        found = recheck(options["certificate"], options["checkpoint"], options["spec"], options["full"], screen)
    report = CheckReport(
        "extract.check/1", found.accepted, found.is_doubt, found.reasons, found.coverage, count(found.n_reevaluated)
    )
    if options["as_json"]:
        write_data(to_json(report))
    else:
        write_lines(check_lines(report), common["color"])
    if found.is_doubt:
        return BudgetError.exit_code
    return 0 if found.accepted else SoundnessAlarm.exit_code


def train_command(common: Options, options: Options) -> int:
    """Train a small checkpoint for a named task, or name the tasks. Returns the exit code."""
    if options["is_list"]:
        from extract.train.tasks import task_families

        write_lines(
            fact_lines([(family, " ".join(names)) for family, names in task_families().items()]), common["color"]
        )
        return 0
    if options["task"] is None or options["output"] is None:
        raise UsageError("no task or no folder given, expected TASK -o DIR", hint="extract train --list")
    with Screen(common["color"], quiet=common["quiet"]) as screen:
        screen.phase("load")
        from extract.train.tasks import task

        task(options["task"])
        from extract.train.training import train_task

        screen.phase("train")
        made = train_task(
            options["task"], options["output"], seed=options["seed"], progress=screen, force=options["force"]
        )
    tried = "inputs drawn" if made.is_drawn else "inputs"
    right = f"{grouped(made.exact_inputs)} of {grouped(made.total_inputs)} {tried} right"
    facts = [
        ("checkpoint", str(made.path)),
        (
            "trained",
            f"{right}, least margin {made.least_margin:.2g}, {grouped(made.steps)} steps, seed {options['seed']}",
        ),
        ("next", f"extract run {made.path}"),
    ]
    write_lines(fact_lines(facts), common["color"])
    return 0


def spec_init_command(common: Options, options: Options) -> int:
    """Write the skeleton of a spec for a checkpoint. Returns the exit code."""
    from dataclasses import asdict

    from extract.formats import inspect_checkpoint
    from extract.spec_tools import skeleton

    found = inspect_checkpoint(options["checkpoint"])
    facts = {"format": found.format} | (asdict(found.architecture) if found.architecture is not None else {})
    facts = {"d_vocab_out": found.d_vocab_out or found.d_vocab} | facts
    text = skeleton(int(facts.get("d_vocab", found.d_vocab)), facts, found.spec_must_add).encode()
    if options["output"] in (None, _STDIO):
        write_data(text)
    else:
        write_file(options["output"], text, force=options["force"])
    return 0


def spec_check_command(common: Options, options: Options) -> int:
    """Check a spec, against a checkpoint if one is given. Returns the exit code."""
    from extract.spec_tools import check
    from extract.stages_load import load_subject

    facts = [(fact.name, fact.value) for fact in check(options["spec_file"])]
    if options["checkpoint"] is not None:
        subject = load_subject(options["checkpoint"], options["spec_file"])
        facts.append(("checkpoint", f"{subject.checkpoint.path_basename} fits"))
    write_lines(fact_lines(facts), common["color"])
    return 0


def spec_size_command(common: Options, options: Options) -> int:
    """Count the inputs of a domain by length. Returns the exit code."""
    from extract.domain import build_domain
    from extract.lang.promise import compile_promise
    from extract.report.report import LengthSize, SizeReport, count
    from extract.spec import load_spec, with_overrides
    from extract.spec_tools import size_table, size_text

    spec = with_overrides(
        load_spec(options["spec_file"]).spec, max_length=options["max_length"], offsets=options["offsets"]
    )
    table = size_table(build_domain(spec, compile_promise))
    if options["as_json"]:
        rows = tuple(LengthSize(row.length, count(row.size * table.n_offsets)) for row in table.rows)
        report = SizeReport("extract.size/1", count(table.total), table.is_exact, spec.domain.offsets, rows)
        write_data(to_json(report))
    else:
        facts = [(f"length {row.length}", f"{'' if row.is_exact else 'at most '}{row.size:,}") for row in table.rows]
        write_lines(fact_lines([*facts, ("inputs", size_text(table))]), common["color"])
    return 0


def spec_schema_command(common: Options) -> int:
    """Print the JSON Schema of a task spec. Returns the exit code."""
    from extract.spec_tools import schema

    write_data(schema().rstrip("\n").encode() + b"\n")
    return 0


def explain_command(common: Options, options: Options) -> int:
    """Explain the first program of a result. Returns the exit code."""
    from extract.explaining import explain
    from extract.report.explain import explanation_lines
    from extract.report.report import from_json
    from extract.stages_load import located

    path: Path = options["result"]
    try:
        report = from_json(_read_text(path).encode())
        told = explain(report, options["spec"], None if path == _STDIO else path.parent)
    except ExtractError as error:
        raise located(error, "standard input" if path == _STDIO else str(path)) from error.__cause__
    write_lines([*result_lines(report), *explanation_lines(told)], common["color"])
    return 0
