"""The ledger: JSON Lines with a checksum in every line, written through to the disk, read back line by line.

A line that is torn, damaged or contradicted by another is dropped and named, and its row is done again; a ledger of
another suite or version is refused. Everything that differs between two equal runs is under a line's ``run``, which has
a checksum of its own, so that ledgers and results compare equal without it. It refuses to know what a row says.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from extract.errors import OutputError
from extract.report.files import replace_file
from extract.version import VERSION

SCHEMA = "extract.bench/1"
LEDGER, RESULT, LOCK = "ledger.jsonl", "result.jsonl", ".lock"
#: No line of ours is longer: the checkpoints are small and a result lists a bounded number of inputs.
_LONGEST_LINE = 64 << 20

Line = dict[str, Any]


def encode_line(body: Mapping[str, Any]) -> bytes:
    """Return a line with its checksums, the same bytes for the same value; ``run``, if there is one, comes last.

    Raises:  ValueError for a number that is not finite.
    """
    stable = {key: value for key, value in body.items() if key not in ("run", "sha256")}
    line = {"sha256": _digest(stable), **stable}
    if "run" in body:
        run = {key: value for key, value in body["run"].items() if key != "sha256"}
        line["run"] = {"sha256": _digest(run), **run}
    return _text(line) + b"\n"


def decode_line(data: bytes) -> Line | None:
    """Return the value of a line without its checksums, or None unless every byte of it is as it was written."""
    try:
        line = json.loads(data)
        if not isinstance(line, dict) or encode_line(line) != data:
            return None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    body = {key: value for key, value in line.items() if key != "sha256"}
    if "run" in body:
        body["run"] = {key: value for key, value in body["run"].items() if key != "sha256"}
    return body


def without_run(data: bytes) -> bytes:
    """Return a ledger or result without what differs between two equal runs."""
    lines = (decode_line(line) for line in data.splitlines(keepends=True))
    return b"".join(encode_line({k: v for k, v in line.items() if k != "run"}) for line in lines if line is not None)


def _digest(value: object) -> str:
    return hashlib.sha256(_text(value)).hexdigest()


def _text(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Contents:
    """What a ledger holds: its rows by name, and what was wrong with the lines that were dropped."""

    rows: Mapping[str, Line] = field(default_factory=dict)
    damage: tuple[str, ...] = ()
    n_valid: int = 0


def read_lines(data: bytes, suite: str, names: Iterable[str]) -> Contents:
    """Read the lines of a ledger for the suite with this digest, in whatever order they are.

    A row that is there twice counts once; if the two differ by more than their ``run``, both are dropped.
    Raises:  OutputError if an undamaged line belongs to another suite, or was written by another version.
    """
    known, rows, damage, conflicting, n_valid = set(names), dict[str, Line](), list[str](), set[str](), 0
    for number, text in enumerate(data.splitlines(keepends=True), start=1):
        line = decode_line(text)
        if line is None:
            damage.append(f"line {number} is " + ("damaged" if text.endswith(b"\n") else "cut off"))
            continue
        _refuse_foreign(line, suite, number)
        n_valid += 1
        name = line.get("name")
        if line.get("kind") != "row" or name in conflicting:
            continue
        if name not in known:
            damage.append(f"line {number} is a row {name!r}, which the suite does not have")
        elif name in rows and _stable(rows[name]) != _stable(line):
            damage.append(f"line {number} contradicts an earlier line about {name}")
            conflicting.add(name)
            del rows[name]
        else:
            rows.setdefault(name, line)
    return Contents(rows, tuple(damage), n_valid)


def _refuse_foreign(line: Line, suite: str, number: int) -> None:
    found = {"schema": line.get("schema"), "version": line.get("version"), "suite": line.get("suite")}
    for key, expected in (("schema", SCHEMA), ("version", VERSION), ("suite", suite)):
        if found[key] != expected:
            raise OutputError(
                f"line {number} has {key} {_short(found[key])}, expected {_short(expected)}: a ledger of another "
                f"{'suite or budget' if key == 'suite' else 'version'}",
                hint="another folder with -o, or --force to begin again",
            )


def _short(value: object) -> str:
    return str(value)[:16]


def _stable(line: Line) -> Line:
    return {key: value for key, value in line.items() if key != "run"}


def stamped(kind: str, suite: str, body: Mapping[str, Any]) -> Line:
    """Return a line's value with what says whose it is in front."""
    stamp = {"kind": kind, "schema": SCHEMA, "version": VERSION, "suite": suite}
    return stamp | {key: value for key, value in body.items() if key not in stamp}


class Ledger:
    """One folder's ledger, open for one writer; use it as a context manager.

    ``rows`` are the rows it held when it was opened and those added since; ``damage`` names the lines it dropped.
    Raises:  OutputError if another process writes here, the ledger is another suite's, or the disk does not take it.
    """

    def __init__(
        self, folder: Path, header: Mapping[str, Any], suite: str, names: Iterable[str], *, force: bool = False
    ) -> None:
        self._folder, self._path, self._suite = folder, folder / LEDGER, suite
        self._header = stamped("header", suite, header)
        self._names, self._force = tuple(names), force
        self.rows: dict[str, Line] = {}
        self.damage: tuple[str, ...] = ()
        self._lock = self._file = -1

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            self._take_lock()
            self._open()
        except OSError as error:
            self._close()
            raise OutputError(f"{self._folder} cannot hold a ledger: {error.strerror or error}") from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._close()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise OutputError(
                f"another run (process {owner}) writes to {self._folder}", hint="wait for it, or another folder with -o"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _open(self) -> None:
        data = b"" if self._force or not self._path.exists() else _read(self._path)
        try:
            found = read_lines(data, self._suite, self._names)
        except OutputError as error:
            raise error.at(str(self._path)) from None
        self.rows, self.damage = dict(found.rows), found.damage
        if data and not found.n_valid:  # nothing of ours is left in it: keep whatever it is
            os.replace(self._path, self._path.with_suffix(".damaged"))
        clean = b"".join(encode_line(line) for line in (self._header, *self.rows.values()))
        if clean != data:
            replace_file(self._path, clean)
            folder = os.open(self._folder, os.O_RDONLY)
            os.fsync(folder)  # else the name, and with it every row added later, may not survive a power cut
            os.close(folder)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row and wait until it is on the disk; on failure the file ends where it did.

        Raises:  OutputError if it cannot be written.
        """
        line = stamped("row", self._suite, row)
        self._append(encode_line(line))
        self.rows[str(line["name"])] = line

    def finish(self, rows: Iterable[Mapping[str, Any]], summary: Mapping[str, Any]) -> bytes:
        """Write the result: header, these rows in this order, summary. Returns its bytes.

        Raises:  OutputError if it cannot be written; an earlier result is then as it was.
        """
        told = [stamped("row", self._suite, row) for row in rows]
        lines = [self._header, *told, stamped("summary", self._suite, summary)]
        data = b"".join(encode_line(line) for line in lines)
        try:
            replace_file(self._folder / RESULT, data)
        except OSError as error:
            raise OutputError(f"{self._folder / RESULT} cannot be written: {error.strerror or error}") from error
        return data

    def _append(self, data: bytes) -> None:
        before = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, before)
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}") from error

    def _close(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read()
    if any(len(line) > _LONGEST_LINE for line in data.splitlines()):
        raise OutputError(f"{path} has a line above {_LONGEST_LINE >> 20} MiB, expected a ledger")
    return data


def read_result(path: Path) -> tuple[Line, tuple[Line, ...], Line | None]:
    """Read a finished result, or a ledger that is not: header, rows in the order found, summary or None.

    Raises:  OutputError never; OSError if the file cannot be read; ValueError naming the line that is damaged.
    """
    header: Line | None = None
    summary: Line | None = None
    rows: dict[str, Line] = {}
    for number, text in enumerate(_read(path).splitlines(keepends=True), start=1):
        line = decode_line(text)
        if line is None or line.get("schema") != SCHEMA:
            raise ValueError(f"line {number} is no undamaged line of an {SCHEMA}")
        if line["kind"] == "header":
            header = line
        elif line["kind"] == "summary":
            summary = line
        else:
            rows[str(line["name"])] = line
    if header is None:
        raise ValueError(f"has no header line of an {SCHEMA}")
    return header, tuple(rows.values()), summary
