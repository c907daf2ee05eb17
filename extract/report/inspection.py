"""What ``extract inspect`` says: a checkpoint's format and shape, and what its spec must add."""

from __future__ import annotations

from typing import Any, Literal

from rich.text import Text

from extract.report.report import Part
from extract.report.screen import grouped
from extract.report.text import fact_lines


class InspectionReport(Part, frozen=True):
    """A checkpoint as ``extract inspect --json`` prints it; ``arch`` is null when facts are missing."""

    schema: Literal["extract.inspect/1"]
    path: str
    file: str
    sha256: str
    format: str
    evidence: tuple[str, ...]
    arch: dict[str, Any] | None
    dtype: str
    params: int
    tensors: int
    spec_must_add: tuple[str, ...]


def inspection_lines(report: InspectionReport) -> list[Text]:
    """Return the screen of an inspection."""
    facts = [("checkpoint", f"{report.path}   {report.file}, sha256 {report.sha256}"), ("format", report.format)]
    facts += [("", line) for line in report.evidence]
    if report.format != "table":
        facts.append(("weights", f"{grouped(report.params)} in {report.tensors} tensors, {report.dtype}"))
    if report.arch is not None:
        shape = [f"{name} {value}" for name, value in report.arch.items() if not isinstance(value, tuple | list)]
        facts += [("shape" if i == 0 else "", " · ".join(shape[i : i + 6])) for i in range(0, len(shape), 6)]
    facts += [("spec adds" if i == 0 else "", line) for i, line in enumerate(report.spec_must_add)]
    return fact_lines(facts)
