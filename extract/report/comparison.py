"""The comparison of two programs as a value, as JSON ``extract.comparison/1`` and as a few lines for people."""

from __future__ import annotations

from typing import Literal

from rich.text import Text

from extract.report.report import Count, DomainPart, Part, ReadOutPart, Run, number
from extract.report.screen import grouped
from extract.report.text import fact_lines

Status = Literal["equal", "different", "undecided"]
_HEADLINES = {
    "equal": ("EQUAL", "bold green", "on every input of the domain"),
    "different": ("DIFFERENT", "bold red", "the programs differ"),
    "undecided": ("UNDECIDED", "bold yellow", "no difference found, and not every input of the domain was decided"),
}


class ProgramText(Part, frozen=True):
    """One of the two programs."""

    text: str
    sha256: str
    cost: int


class ComparedLength(Part, frozen=True):
    """What was decided at one length, offsets not counted: programs do not see them."""

    length: int
    inputs: Count
    same: Count
    differ: Count
    undecided: Count
    method: str


class Difference(Part, frozen=True):
    """An input on which the programs differ, by names; ``minimal``: the first such input of the shortest length."""

    tokens: tuple[str, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]
    minimal: bool


class ComparisonReport(Part, frozen=True, kw_only=True):
    """The result; same, differ and undecided add up to ``inputs_total``. ``equal_from_length`` is a length from which
    on the programs are equal on every input that keeps the promise, however long; null where that is not known."""

    schema: Literal["extract.comparison/1"] = "extract.comparison/1"
    status: Status
    left: ProgramText
    right: ProgramText
    spec_sha256: str
    domain: DomainPart
    readout: ReadOutPart
    claim: str
    equal_from_length: int | None
    inputs_total: Count
    same: Count
    differ: Count
    undecided: Count
    by_length: tuple[ComparedLength, ...]
    difference: Difference | None
    reason: str | None
    run: Run


def comparison_lines(report: ComparisonReport) -> list[Text]:
    """Return the screen of a comparison."""
    word, style, sentence = _HEADLINES[report.status]
    sides = (("left", report.left.text), ("right", report.right.text))
    lines = fact_lines([(name, "; ".join(text.strip().splitlines())) for name, text in sides])
    lines.append(Text.assemble((f" {word}  ", style), sentence))
    lines.append(Text(f"   {report.claim}"))
    if report.status != "equal":
        total = f"of {grouped(number(report.inputs_total))} strings"
        parts = [f"{grouped(number(report.same))} same", f"{grouped(number(report.differ))} differ"]
        if number(report.undecided):
            parts.append(f"{grouped(number(report.undecided))} undecided")
        lines.append(Text(f"   {' · '.join(parts)} {total}"))
    if report.difference is not None:
        found = report.difference
        left, right = " ".join(found.left) or "(empty)", " ".join(found.right) or "(empty)"
        kind = ", minimal" if found.minimal else ""
        lines.append(Text(f"   on {' '.join(found.tokens) or '(empty)'} the left says {left}, the right {right}{kind}"))
    if report.reason is not None:
        lines.append(Text(f"   reason: {report.reason}"))
    return lines
