"""The report as a value: the result JSON ``extract.result/1``, field by field.

This room turns finished values into text for people and bytes for machines; it computes no verdict and knows
neither networks nor search. Unknown is null and never missing, NaN cannot be stored, and everything that differs
between two equal runs is inside ``run``.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from extract.errors import ExtractError

SCHEMA: Literal["extract.result/1"] = "extract.result/1"

Status = Literal["proved", "proved_except", "refuted", "no_program", "undecided", "error"]

#: An exact number of things: an integer, or its decimal spelling above 2^53, where JSON readers lose digits.
Count = int | str
_LARGEST_EXACT = 1 << 53


def count(n: int) -> Count:
    """Return a count as the result stores it."""
    return n if abs(n) <= _LARGEST_EXACT else str(n)


def number(n: Count) -> int:
    """Return a stored count as an integer."""
    return int(n)


def finite(x: float | None) -> float | None:
    """Return a float as the result stores it: null where it is infinite or not a number."""
    return float(x) if x is not None and math.isfinite(x) else None


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of every object in a result; its fields are written in the order they are declared."""


class Model(Part, frozen=True):
    """The checkpoint: ``path`` is its base name, ``evidence`` the facts that settled the format."""

    path: str
    sha256: str
    format: str
    evidence: tuple[str, ...]
    arch: dict[str, Any]
    dtype: str
    params: int


class LengthSize(Part, frozen=True):
    """How many inputs of the domain have one length, offsets included."""

    length: int
    inputs: Count


class DomainPart(Part, frozen=True):
    """The inputs the claim quantifies over; ``size_is_exact`` is false where ``size`` is only an upper bound."""

    alphabet: tuple[str, ...]
    min_length: int
    max_length: int
    offsets: tuple[int, ...]
    template: str
    promise: str | None
    size: Count
    size_is_exact: bool
    by_length: tuple[LengthSize, ...]


class ReadOutPart(Part, frozen=True):
    """Where the answer is read and how logits become it."""

    at: str
    kind: str
    choices: tuple[str, ...]
    threshold: float
    stop: str | None
    max_new: int


class Task(Part, frozen=True):
    """The spec as used, after overrides."""

    spec_sha256: str
    name: str
    domain: DomainPart
    readout: ReadOutPart


class InputPart(Part, frozen=True):
    """One input by token names."""

    tokens: tuple[str, ...]
    offset: int


class Exceptions(Part, frozen=True):
    """The inputs on which a program is known to differ: how many, and which when they are listed."""

    count: Count
    inputs: tuple[InputPart, ...] | None
    regions: tuple[dict[str, Any], ...] | None


class ProgramPart(Part, frozen=True):
    """One program, with what is known about it over the whole domain."""

    text: str
    listing: str | None
    python: str | None
    sha256: str
    cost: int
    dialect: str | None
    status: Status
    exceptions: Exceptions | None


class LengthTally(Part, frozen=True):
    """What was decided at one length and offset."""

    length: int
    offset: int
    inputs: Count
    agree: Count
    disagree: Count
    undecided: Count
    min_margin: float | None


class PositionPart(Part, frozen=True):
    """How many of the answers at one position are undetermined, of all that the domain has there."""

    position: int
    cells: Count
    undetermined: Count


class Cells(Part, frozen=True):
    """Single answers, one per input and read position: agree, disagree and undetermined add up to ``total``.

    ``positions`` are those with undetermined answers, counted from 0 at the input's first token; none where an input
    has one answer. ``where`` says in words which answers are undetermined, null where no few words say it exactly.
    """

    total: Count
    agree: Count
    disagree: Count
    undetermined: Count
    positions: tuple[PositionPart, ...]
    where: str | None


class VerdictPart(Part, frozen=True):
    """The verdict on the first program; agree, disagree and undecided add up to ``inputs_total``.

    ``cells`` counts single answers; null where every input is decided, or they are not counted one by one.
    """

    method: str
    inputs_total: Count
    agree: Count
    disagree: Count
    undecided: Count
    by_length: tuple[LengthTally, ...]
    claim: str
    cells: Cells | None = None


class Numerics(Part, frozen=True):
    """The number semantics of the claim and how far the evidence is from its limits, in logits.

    ``error_bound`` is the rounding bound of the input with the least margin; every decided input is above its own. Of
    lengths decided by bounds it is the largest error of float32, where that is claimed; margins are what is left of
    them beyond it.
    """

    semantics: str
    min_margin: float | None
    error_bound: float | None
    fragile_count: Count
    fragile_examples: tuple[InputPart, ...]


class CounterexamplePart(Part, frozen=True):
    """An input on which program and model differ; answers by name, ``position`` the first differing cell."""

    tokens: tuple[str, ...]
    offset: int
    position: int
    model: tuple[str, ...]
    program: tuple[str, ...]
    margin: float | None
    replayed: bool
    minimal: bool


class CertificatePart(Part, frozen=True):
    """The certificate written, by base name; ``checked`` says that ``extract check`` accepted it in this run."""

    file: str | None
    sha256: str
    kind: str
    checked: bool


class RivalPart(Part, frozen=True):
    """Another program that matched every probe: ``equal`` to the first on the whole domain, ``refuted`` by ``input``,
    or ``open``."""

    text: str
    cost: int
    relation: str
    input: InputPart | None


class SearchPart(Part, frozen=True):
    """How the program was found and what is known of the programs that were not."""

    stage: str
    evaluated: int
    distinct: int
    complete_to_cost: int | None
    unique_to_cost: int | None
    properties: dict[str, bool]
    rivals: tuple[RivalPart, ...]


class ErrorPart(Part, frozen=True):
    """Why there is no result."""

    code: str
    message: str
    hint: str | None


class Run(Part, frozen=True):
    """Everything that differs between two equal runs."""

    started: str
    seconds: dict[str, float]
    peak_rss_mb: float | None
    host: str
    versions: dict[str, str]


class Report(Part, frozen=True, kw_only=True):
    """One result. Raises: ValueError when written with a number that is not finite."""

    schema: Literal["extract.result/1"] = SCHEMA
    status: Status
    model: Model | None = None
    task: Task | None = None
    programs: tuple[ProgramPart, ...] = ()
    verdict: VerdictPart | None = None
    numerics: Numerics | None = None
    counterexamples: tuple[CounterexamplePart, ...] = ()
    certificate: CertificatePart | None = None
    search: SearchPart | None = None
    budget_hit: str | None = None
    warnings: tuple[str, ...] = ()
    error: ErrorPart | None = None
    run: Run


class SizeReport(Part, frozen=True):
    """The size of a domain by length, offsets included, as ``extract spec size --json`` prints it."""

    schema: Literal["extract.size/1"]
    size: Count
    size_is_exact: bool
    offsets: tuple[int, ...]
    by_length: tuple[LengthSize, ...]


class CheckReport(Part, frozen=True):
    """What the independent checker found, as ``extract check --json`` prints it; no reasons means accepted.

    ``undecided`` says that the reasons contradict nothing: the checker's own rounding bounds are above some margins.
    """

    schema: Literal["extract.check/1"]
    accepted: bool
    undecided: bool
    reasons: tuple[str, ...]
    coverage: str
    inputs_evaluated: Count


class ResultError(ExtractError):
    """A file that is not a result this version can read."""

    exit_code = 4
    code = "result"


def to_json(report: Part) -> bytes:
    """Return the report as indented JSON with a final newline, the same bytes for the same value."""
    value = msgspec.to_builtins(report)
    _refuse_nan(value, "$")
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def from_json(data: bytes) -> Report:
    """Read a report back.

    Raises:  ResultError naming the field that is not as expected.
    """
    try:
        return msgspec.json.decode(data, type=Report)
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        raise ResultError(f"is not an {SCHEMA}: {error}", hint="extract run CKPT -o FILE writes one") from error


def _refuse_nan(value: Any, place: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} is {value}, expected a finite number or null")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_nan(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _refuse_nan(item, f"{place}[{i}]")
