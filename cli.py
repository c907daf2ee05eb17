"""The command line: options, streams and exit codes. Every command calls one public function of ``extract``.

Nothing heavy is imported here; each command imports what it calls, so help answers at once. This file claims the
module name ``cli`` of the environment it is installed in.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from extract.errors import BudgetError, ExtractError, OutputError, UsageError
from extract.options import (
    CERT,
    CHECKPOINT,
    FILE,
    FORCE,
    JSON,
    MAX_COST,
    MAX_LENGTH,
    MEMORY,
    OFFSETS,
    OUTPUT,
    SCHEDULER,
    SEED,
    SEMANTICS,
    SPEC,
    TIME,
    VERIFY,
    causes,
    duration,
    examples,
    option,
    shard,
    sharing,
)

# One thread inside a matrix product: ours are small, and idle helper threads slow them down (20x on two busy cores).
# Parallel work is ours to share out (``--jobs``). numpy and torch read these when they are first imported.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from extract.version import VERSION

        click.echo(f"extract {VERSION}")
        context.exit()


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "extract run bin_majority/",
        "extract run bin_majority/ --max-length 16 --json > result.json",
        "extract verify program.txt bin_majority/",
        "extract check bin_majority.cert.json bin_majority/",
    )
    + "\n\n\b\nExit codes:\n"
    + "  0 proved   1 definite no   2 usage   3 undecided   4 bad input   5 soundness alarm\n"
    + "  70 internal   74 output not written   130 Ctrl-C   141 broken pipe   143 SIGTERM",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@option("-q", "--quiet", is_flag=True, help="Say nothing while working.")
@option("-v", "--verbose", is_flag=True, help="Show the full trace of an internal error.")
@option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
        help="Colour the output; auto honours NO_COLOR and TERM=dumb.")  # fmt: skip
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Turn a small trained transformer into a readable program, and prove that both agree on every input of a
    stated domain."""
    context.obj = options


@cli.command(
    epilog=examples(
        "extract run bin_majority/",
        "extract run bin_majority/ --max-length 46 --jobs 8 --emit majority.py",
        "extract run model.safetensors --spec task.toml --json -o result.json",
    )
)
@CHECKPOINT
@SPEC
@MAX_LENGTH
@OFFSETS
@MAX_COST
@option("--top", type=click.IntRange(1, 100), default=1, show_default=True, help="How many programs to report.")
@option("--strict", is_flag=True, help="Exit 1 for a program with exceptions too.")
@VERIFY
@SEMANTICS
@TIME
@MEMORY
@sharing
@SEED
@option("--emit", type=FILE, help="Write the first program as a Python file that imports nothing.")
@option("--report", type=FILE, help="Write an HTML page of the result here.")
@option("--cert", type=FILE, help="Write the certificate here.  [default: NAME.cert.json in this folder]")
@FORCE
@JSON
@OUTPUT
@click.pass_obj
def run(common: dict[str, Any], /, **options: Any) -> int:
    """Find and prove programs.

    Programs are verified on the whole domain, and a certificate is written."""
    from extract.commands import run_command

    return run_command(common, options)


@cli.command(epilog=examples("extract inspect bin_majority/", "extract inspect model.safetensors --json"))
@CHECKPOINT
@SPEC
@JSON
@click.pass_obj
def inspect(common: dict[str, Any], /, **options: Any) -> int:
    """Show what a checkpoint is.

    Format, evidence, architecture, and what the spec must add."""
    from extract.commands import inspect_command

    return inspect_command(common, options)


@cli.command(
    epilog=examples(
        "echo \"output = last(everywhere, tokens, '0')\" | extract verify - tomita2/ --max-length 20",
        "extract verify program.txt bin_majority/ --max-length 46 --jobs 8",
        "extract verify mine.txt --against yours.txt --spec bin_majority/spec.toml --max-length 100",
    )
)
@click.argument("program", type=click.Path(path_type=Path, allow_dash=True))
@click.argument("checkpoint", metavar="[CKPT]", type=FILE, required=False)
@option("--against", type=FILE, metavar="PROGRAM2", help="Compare with this program instead of a model.")
@SPEC
@MAX_LENGTH
@OFFSETS
@VERIFY
@SEMANTICS
@TIME
@MEMORY
@sharing
@CERT
@FORCE
@JSON
@OUTPUT
@click.pass_obj
def verify(common: dict[str, Any], /, **options: Any) -> int:
    """Decide whether a program equals the model.

    The program is yours; it is compared on the whole domain, with counterexamples if it differs. With --against it is
    compared with another program on the domain of a spec, and no checkpoint is needed."""
    from extract.commands import verify_command

    return verify_command(common, options)


@cli.command(
    epilog=examples("extract check bin_majority.cert.json bin_majority/", "extract check a.cert.json a/ --full")
)
@click.argument("certificate", metavar="CERT", type=FILE)
@CHECKPOINT
@SPEC
@option("--full", is_flag=True, help="Evaluate every input again instead of a part of each region.")
@JSON
@click.pass_obj
def check(common: dict[str, Any], /, **options: Any) -> int:
    """Re-check a certificate.

    The checker is a separate program that shares no code with search and verification."""
    from extract.commands import check_command

    return check_command(common, options)


@cli.command(epilog=examples("extract explain result.json", "extract run bin_majority/ --json | extract explain -"))
@click.argument("result", type=click.Path(path_type=Path, allow_dash=True))
@SPEC
@click.pass_obj
def explain(common: dict[str, Any], /, **options: Any) -> int:
    """Explain the program of a result.

    In words, with the inputs that take each branch and small examples."""
    from extract.commands import explain_command

    return explain_command(common, options)


@cli.command(
    epilog=examples(
        "extract bench checkpoints/ -o results/",
        "extract bench benchmarks/suite/suite.toml -o results/ --filter 'rasp/*' --jobs 2",
        "extract bench checkpoints/ -o part2/ --shard 2/3",
        "extract bench --compare before/ after/",
    )
)
@click.argument("suite", metavar="[SUITE]", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, metavar="DIR", help="Folder of the ledger, the result, the certificates.")
@option("--filter", metavar="PATTERN", help="Only rows whose name matches, such as 'rasp/*', or contains this.")
@option("--shard", type=shard, default="1/1", metavar="I/N", help="Only the I-th of N equal parts.")
@option("--fail-on", type=causes, default="contradicted,error", show_default=True, metavar="LIST",
        help="Exit 1 if a row ends so, unexpected; also missed, undecided, no_program, refuted.")  # fmt: skip
@option("--time", "seconds", type=duration, metavar="DURATION", help="As for run.  [default: the suite's, or 10m]")
@MEMORY
@MAX_COST
@SEED
@option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Worker processes.")
@option("--engine", type=click.Choice(["local", "dask"]), default="local", show_default=True, help="Where rows run.")
@SCHEDULER
@click.option("--compare", nargs=2, type=FILE, metavar="A B", help="Say what changed between two results instead.")
@FORCE
@JSON
@click.pass_obj
def bench(common: dict[str, Any], /, **options: Any) -> int:
    """Run many checkpoints, and keep score.

    SUITE is a folder of folders with a spec.toml, or a suite.toml. Each row has its own process, time and memory; a
    killed run goes on where it was and ends with the same bytes. --time and --memory are for each row."""
    from extract.commands_batch import bench_command

    return bench_command(common, options)


@cli.command(epilog=examples("extract report results/", "extract report result.json -o page.html"))
@click.argument("result", metavar="DIR|RESULT", type=FILE)
@click.option("-o", "--output", type=click.Path(path_type=Path, allow_dash=True),
              help="Write the page here.  [default: report.html in DIR, or beside RESULT]")  # fmt: skip
@FORCE
@click.pass_obj
def report(common: dict[str, Any], /, **options: Any) -> int:
    """Draw results as one HTML page.

    The page needs no server and no network: programs, verdicts, agreement by length, margins, counterexamples."""
    from extract.commands_batch import report_command

    return report_command(common, options)


@cli.command(epilog=examples("extract train majority -o majority/", "extract train --list"))
@click.argument("task", metavar="[TASK]", required=False)
@option("-o", "--output", type=FILE, help="Folder to write the checkpoint and its spec to.")
@click.option("--list", "is_list", is_flag=True, help="Name the tasks by family instead.")
@SEED
@FORCE
@click.pass_obj
def train(common: dict[str, Any], /, **options: Any) -> int:
    """Train a small checkpoint.

    The named task gives something real to extract; its spec is written beside it."""
    from extract.commands import train_command

    return train_command(common, options)


@cli.group(
    epilog=examples("extract spec init bin_majority/ > spec.toml", "extract spec size spec.toml --max-length 30")
)
def spec() -> None:
    """Write, check and measure task specs."""


@spec.command("init", epilog=examples("extract spec init model.safetensors > spec.toml"))
@CHECKPOINT
@FORCE
@OUTPUT
@click.pass_obj
def spec_init(common: dict[str, Any], /, **options: Any) -> int:
    """Write a skeleton with every unknown marked."""
    from extract.commands import spec_init_command

    return spec_init_command(common, options)


@spec.command("check", epilog=examples("extract spec check spec.toml", "extract spec check spec.toml bin_majority/"))
@click.argument("spec_file", metavar="SPEC", type=FILE)
@click.argument("checkpoint", metavar="[CKPT]", type=FILE, required=False)
@click.pass_obj
def spec_check(common: dict[str, Any], /, **options: Any) -> int:
    """Check a spec, and against a checkpoint if one is given."""
    from extract.commands import spec_check_command

    return spec_check_command(common, options)


@spec.command(
    "size", epilog=examples("extract spec size spec.toml", "extract spec size spec.toml --max-length 64 --json")
)
@click.argument("spec_file", metavar="SPEC", type=FILE)
@MAX_LENGTH
@OFFSETS
@JSON
@click.pass_obj
def spec_size(common: dict[str, Any], /, **options: Any) -> int:
    """Count the inputs of the domain by length, exactly, without listing them."""
    from extract.commands import spec_size_command

    return spec_size_command(common, options)


@spec.command("schema", epilog=examples("extract spec schema > spec.schema.json"))
@click.pass_obj
def spec_schema(common: dict[str, Any], /) -> int:
    """Print the JSON Schema of a task spec."""
    from extract.commands import spec_schema_command

    return spec_schema_command(common)


@cli.command(epilog=examples('eval "$(extract completion bash)"', "extract completion fish | source"))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"no completion for {shell}, expected bash, zsh or fish")
    click.echo(kind(cli, {}, "extract", "_EXTRACT_COMPLETE").source())
    return 0


class Terminated(BaseException):
    """SIGTERM arrived: unwind, remove temporary files, leave."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; a plain KeyboardInterrupt through ``exec`` of a string makes CPython end by the signal, not our code."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; the entry point of the installed script."""
    from extract.report import streams

    streams.open_missing()
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    try:
        code = _dispatch(sys.argv[1:] if arguments is None else arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = 141
    except KeyboardInterrupt:
        streams.say("extract: interrupted")
        code = 130
    except Terminated:
        code = 143
    except OSError as error:
        streams.say(f"extract: standard output cannot be written: {error.strerror}")
        code = OutputError.exit_code
    streams.abandon()
    return code


def _stop(number: int, _: object) -> None:
    raise Terminated if number == signal.SIGTERM else Interrupted


def _dispatch(arguments: list[str]) -> int:
    from extract.report.streams import say

    if "_EXTRACT_COMPLETE" in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "extract", "_EXTRACT_COMPLETE", os.environ["_EXTRACT_COMPLETE"])
    try:
        with cli.make_context("extract", list(arguments)) as context:
            return int(cli.invoke(context) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "extract"
        is_help = isinstance(error, click.exceptions.NoArgsIsHelpError)
        say(error.format_message() if is_help else f"extract: {error.format_message()} (hint: {command} --help)")
        return UsageError.exit_code
    except ExtractError as error:
        say(f"extract: {error.line()}")
        return error.exit_code
    except MemoryError:
        say("extract: out of memory (hint: a smaller --max-length or --memory)")
        return BudgetError.exit_code
    except OSError:
        raise
    except Exception as error:
        line = f"extract: internal error: {type(error).__name__}: {error} (hint: extract -v shows where; please report)"
        verbose = "-v" in arguments or "--verbose" in arguments
        say("".join(traceback.format_exception(error)) if verbose else " ".join(line.split()))
        return ExtractError.exit_code


if __name__ == "__main__":
    sys.exit(main())
