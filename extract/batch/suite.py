"""A suite: the checkpoints to run, with the budgets and the verdicts somebody expects, as a folder tree or suite.toml.

Rows are in the order of their names' parts, or of the file; nothing is run here. A row's digest covers the bytes of its
checkpoint and spec, or the recipe it is trained from, so that a ledger cannot be continued with other inputs.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from extract.batch.ledger import SCHEMA
from extract.errors import ExtractError, UsageError
from extract.train.cache import Plan, plan_for
from extract.version import VERSION

_SPECS = ("spec.toml", "spec.json")
STATUSES = ("proved", "proved_except", "refuted", "no_program", "undecided", "error")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,@-]*(?:/[A-Za-z0-9][A-Za-z0-9._+=,@-]*)*")
_LARGEST_SUITE = 4 << 20


class SuiteError(ExtractError):
    """A suite that cannot be read, or names something that is not there."""

    exit_code = 4
    code = "suite"


class _RowFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[row]]`` of suite.toml."""

    name: str
    checkpoint: str | None = None
    spec: str | None = None
    train: str | None = None
    seed: int = 0
    steps: int | None = None
    expected: tuple[str, ...] = ()
    exceptions: int | None = None
    max_length: int | None = None
    max_cost: int | None = None
    seconds: float | None = None


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a published work reports of tasks that rows of the suite are named after, one ``[[published]]``.

    ``rows`` are shell patterns of row names, ``figure`` what the work reports, ``counted`` what it counts.
    """

    work: str
    rows: tuple[str, ...]
    figure: str
    counted: str


class _SuiteFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """suite.toml."""

    version: int
    row: tuple[_RowFile, ...]
    published: tuple[Published, ...] = ()
    name: str = ""
    description: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What every row may use: nominal seconds of work, bytes the search may hold, the cost of the largest program."""

    seconds: float = 600.0
    memory_bytes: int = 4 << 30
    max_cost: int = 24
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One checkpoint of a suite; ``expected`` are the statuses that contradict nothing (none: no expectation).

    ``plan`` says how the checkpoint is trained where it is not there yet; ``exceptions`` is the exact number of
    exceptional inputs that is expected, and ``digest`` covers everything the result depends on.
    """

    name: str
    checkpoint: Path | None
    budget: Budget
    spec: Path | None = None
    plan: Plan | None = None
    expected: tuple[str, ...] = ()
    exceptions: int | None = None
    max_length: int | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """Rows in order, the digest of all of them together with the version that reads them, and what others report."""

    name: str
    rows: tuple[Row, ...]
    published: tuple[Published, ...] = ()

    @property
    def digest(self) -> str:
        """The sha256 of what the results of the suite depend on."""
        told = [SCHEMA, VERSION, [(row.name, row.digest) for row in self.rows]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def load_suite(path: Path, budget: Budget, seconds: float | None = None) -> Suite:
    """Read a folder tree in which every folder with a spec is a row, or a suite.toml (also one in the folder named).

    ``seconds`` go before those of a suite.toml, and those before the budget's.
    Raises:  SuiteError naming the place; the checkpoints themselves are not read as networks yet.
    """
    if not path.exists():
        raise SuiteError("no such file or folder, expected a suite", place=str(path))
    file = path / "suite.toml" if path.is_dir() else path
    suite = (
        _from_file(file, budget, seconds)
        if file.is_file()
        else _from_tree(path, replace(budget, seconds=seconds or budget.seconds))
    )
    if not suite.rows:
        raise SuiteError("has no row: no folder in it has a spec.toml", place=str(path), hint="extract spec init CKPT")
    return replace(suite, rows=tuple(replace(row, digest=_digest(row)) for row in suite.rows))


def select(suite: Suite, pattern: str | None, shard: tuple[int, int]) -> tuple[Row, ...]:
    """Return the rows whose name matches a shell pattern (or contains it), then every n-th of them from the i-th.

    Raises:  UsageError if none is left by the pattern.
    """
    rows = suite.rows
    if pattern is not None:
        rows = tuple(r for r in rows if fnmatch.fnmatchcase(r.name, pattern) or pattern in r.name)
        if not rows:
            raise UsageError(f"--filter {pattern!r} matches none of {len(suite.rows)} rows, such as "
                             f"{suite.rows[0].name}")  # fmt: skip
    index, n_shards = shard
    return rows[index - 1 :: n_shards]


def _from_tree(root: Path, budget: Budget) -> Suite:
    found = [Path(folder) for folder, _, files in _walk(root) if any(spec in files for spec in _SPECS)]
    rows: dict[str, Row] = {}
    for folder in sorted(found, key=lambda folder: folder.relative_to(root).parts):
        name = _safe(folder.relative_to(root).as_posix() if folder != root else root.resolve().name)
        while name in rows:
            name += "+"
        rows[name] = Row(name=name, checkpoint=folder, budget=budget)
    return Suite(root.resolve().name, tuple(rows.values()))


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield folder, folders, files


def _safe(name: str) -> str:
    """Return a folder's name with every character that a row's name may not have replaced."""
    parts = [re.sub(r"[^A-Za-z0-9._+=,@-]", "_", part) for part in name.split("/")]
    return "/".join(part if part[0].isalnum() else f"x{part}" for part in parts)


def _from_file(path: Path, budget: Budget, seconds: float | None) -> Suite:
    try:
        with path.open("rb") as file:
            read = msgspec.convert(tomllib.loads(file.read(_LARGEST_SUITE).decode()), _SuiteFile)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SuiteError(f"is no suite: {error}", place=str(path)) from error
    if read.version != 1:
        raise SuiteError(f"$.version is {read.version}, expected 1", place=str(path))
    rows: dict[str, Row] = {}
    for i, given in enumerate(read.row):
        try:
            row = _row(given, path.parent, budget, seconds, read.seconds)
            if row.name in rows:
                raise SuiteError(f"$.name is {row.name!r} twice, expected every row to have its own")
        except ExtractError as error:
            error.place = f"{path}: $.row[{i}]" + (f" ({given.name})" if given.name else "")
            raise
        rows[row.name] = row
    for i, other in enumerate(read.published):
        for pattern in other.rows:
            if not fnmatch.filter(rows, pattern):
                raise SuiteError(f"{pattern!r} matches no row", place=f"{path}: $.published[{i}].rows")
    return Suite(read.name or path.resolve().parent.name, tuple(rows.values()), read.published)


def _row(given: _RowFile, base: Path, budget: Budget, *seconds: float | None) -> Row:
    """Check a row; its seconds are the first that are given: those asked for, its own, the suite's."""
    if not _NAME.fullmatch(given.name) or len(given.name) > 200:
        raise SuiteError(f"$.name is {given.name!r}, expected letters, digits and . _ + = , @ - between slashes")
    if (given.checkpoint is None) == (given.train is None):
        raise SuiteError("expected either $.checkpoint, a path, or $.train, a task of extract train")
    for status in given.expected:
        if status not in STATUSES:
            raise SuiteError(f"$.expected has {status!r}, expected some of {', '.join(STATUSES)}")
    asked, of_suite = seconds
    chosen = next((s for s in (asked, given.seconds, of_suite) if s is not None), None)
    if chosen is not None and not 0 < chosen < 1e6:
        raise SuiteError(f"$.seconds is {chosen}, expected more than 0 and less than a million")
    own = replace(
        budget, seconds=budget.seconds if chosen is None else chosen, max_cost=given.max_cost or budget.max_cost
    )
    checkpoint = None if given.checkpoint is None else base / given.checkpoint
    if checkpoint is not None and not checkpoint.exists():
        raise SuiteError(f"$.checkpoint {given.checkpoint!r} is not there")
    return Row(
        name=given.name,
        checkpoint=checkpoint,
        budget=own,
        spec=None if given.spec is None else base / given.spec,
        plan=None if given.train is None else plan_for(given.train, given.seed, given.steps),
        expected=given.expected,
        exceptions=given.exceptions,
        max_length=given.max_length,
    )


def _digest(row: Row) -> str:
    told: dict[str, Any] = {"budget": asdict(row.budget), "max_length": row.max_length}
    if row.plan is not None:
        told["plan"] = row.plan.digest
    if row.checkpoint is not None:
        told["checkpoint"] = _content(row.checkpoint)
    if row.spec is not None:
        told["spec"] = _content(row.spec)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _content(path: Path) -> list[tuple[str, str]]:
    """Return the names and digests of a file, or of the files of a folder and not of folders in it."""
    folder = path if path.is_dir() else path.parent
    try:
        files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    except OSError:
        files = []
    if not path.is_dir():
        files = [file for file in files if file == path or file.name in (*_SPECS, "config.json")]
    found = []
    for file in files:
        try:
            with file.open("rb") as stream:
                found.append((file.name, hashlib.file_digest(stream, "sha256").hexdigest()))
        except OSError:  # its row will say why; the others go on
            found.append((file.name, "unreadable"))
    return found
