"""The options and arguments that commands share: one place where each long option gets its one meaning.

It parses what a user types into plain values and knows no command.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_DURATION_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGT]i?B)?")
_SIZE_BYTES = (
    {"B": 1}
    | {f"{c}iB": 1024**i for i, c in enumerate("KMGT", 1)}
    | {f"{c}B": 1000**i for i, c in enumerate("KMGT", 1)}
)


def duration(text: str) -> float:
    """Return the seconds of ``90s``, ``10m`` or ``2h``; a bare number is seconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise click.BadParameter(f"{text!r}, expected a duration above 0 such as 90s, 10m or 2h.")
    return float(found[1]) * _DURATION_SECONDS[found[2] or "s"]


def size(text: str) -> int:
    """Return the bytes of ``512MiB`` or ``4GB``; a bare number is bytes."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise click.BadParameter(f"{text!r}, expected a size above 0 such as 512MiB or 4GiB.")
    return int(float(found[1]) * _SIZE_BYTES[found[2] or "B"])


def numbers(text: str) -> tuple[int, ...]:
    """Return the integers of ``0,5,7-9`` in the order given."""
    found: list[int] = []
    for part in text.split(","):
        bounds = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        if bounds is None:
            raise click.BadParameter(f"{part!r}, expected position ids such as 0,5,7-9.")
        found += range(int(bounds[1]), int(bounds[2] or bounds[1]) + 1)
    return tuple(found)


def shard(text: str) -> tuple[int, int]:
    """Return the two numbers of ``2/3``: the second of three parts."""
    found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"{text!r}, expected I/N with I from 1 to N, such as 2/3.")
    return int(found[1]), int(found[2])


#: What a batch may fail on: how a row ended, or what became of its expectation.
_CAUSES = ("contradicted", "missed", "error", "undecided", "no_program", "refuted", "proved_except")


def causes(text: str) -> tuple[str, ...]:
    """Return the words of ``contradicted,error``; ``none`` is no word."""
    words = tuple(word.strip() for word in text.split(",")) if text.strip() != "none" else ()
    for word in words:
        if word not in _CAUSES:
            raise click.BadParameter(f"{word!r}, expected none or some of {', '.join(_CAUSES)}.")
    return words


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """Declare an option that may also be given as EXTRACT_NAME in the environment."""
    long = next(name for name in names if name.startswith("--"))
    attributes.setdefault("envvar", "EXTRACT_" + long[2:].replace("-", "_").upper())
    return click.option(*names, **attributes)


FILE = click.Path(path_type=Path)
CHECKPOINT = click.argument("checkpoint", metavar="CKPT", type=FILE)
SPEC = option("--spec", type=FILE, help="Task spec, TOML or JSON.  [default: spec.toml beside the checkpoint]")
MAX_LENGTH = option("--max-length", type=click.IntRange(0), help="Longest input in tokens, instead of the spec's.")
OFFSETS = option(
    "--offsets", type=numbers, metavar="LIST", help="First position ids, such as 0,5,7-9, instead of the spec's."
)
TIME = option("--time", "seconds", type=duration, metavar="DURATION", default="10m", show_default=True,
              help="Work limit in time on a nominal core; the clock itself only guards.")  # fmt: skip
MEMORY = option("--memory", type=size, metavar="SIZE", default="4GiB", show_default=True,
                help="Memory the search may hold.")  # fmt: skip
SEMANTICS = option("--semantics", type=click.Choice(["real", "f32-any-order"]), default="real", show_default=True,
                   help="Whose numbers the claim is about: exact ones, or float32 in any order too.")  # fmt: skip
VERIFY = option("--verify", "method", type=click.Choice(["auto", "bounds", "enumerate"]), default="auto",
                show_default=True,
                help="How: each input, bounds over many inputs at once, or what suits each length.")  # fmt: skip
JOBS = option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Processes that share a long verification; changes no result.")  # fmt: skip
ENGINE = option("--engine", type=click.Choice(["local", "dask"]), default="local", show_default=True,
                help="Where they run: here, or on a dask cluster that sees the same files.")  # fmt: skip
SCHEDULER = option("--scheduler", metavar="ADDR",
                   help="Address of a dask scheduler.  [default: a cluster of this machine]")  # fmt: skip

SEED = option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of everything sampled.")
MAX_COST = option("--max-cost", type=click.IntRange(1), default=24, show_default=True,
                  help="Cost of the largest program tried.")  # fmt: skip
CERT = option("--cert", type=FILE, help="Write the certificate here.")
FORCE = option("--force", is_flag=True, help="Replace existing files.")
JSON = option("--json", "as_json", is_flag=True, help="Print the result as JSON, and only that.")
OUTPUT = option("-o", "--output", type=click.Path(path_type=Path, allow_dash=True), help="Write the JSON result here.")


def sharing(command: Command) -> Command:
    """Declare who shares a long verification, and where."""
    return JOBS(ENGINE(SCHEDULER(command)))


def examples(*lines: str) -> str:
    """Return the end of a help text: examples, kept line by line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
