"""One self-contained HTML page of results: no server, no network, nothing loaded, everything escaped.

It lays out finished results; what they say was decided elsewhere. Names, tokens and programs come from files that
nobody vouches for, so every value goes through the template's escaping.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from extract.report.pictures import agreement_picture, margin_picture
from extract.report.report import CounterexamplePart, InputPart, Report, number
from extract.report.scoreboard import COUNTED_HERE, STATUSES, BatchRow, FamilyScore, FieldScore
from extract.report.screen import grouped
from extract.report.text import HEADLINES, architecture_text, domain_text, sentence_of
from extract.version import VERSION

#: The first line of every page, by which one of ours is known.
MARK = "<!-- a page of extract report -->"
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Card:
    """A row as the template needs it: words and pictures, no decisions left."""

    row: BatchRow
    anchor: str
    word: str
    sentence: str
    program: str
    name_parts: tuple[str, ...]
    model: str
    domain: str
    inputs: str
    counts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    agreement: Markup
    legend: str
    margins: Markup
    examples: tuple[tuple[str, str, str, str], ...]
    exceptions: tuple[str, ...]
    n_more: int

    @property
    def report(self) -> Report:
        """The result itself."""
        return self.row.report


def page(
    title: str, rows: Sequence[BatchRow], scores: Sequence[FamilyScore] = (), field: Sequence[FieldScore] = ()
) -> str:
    """Return the page as text, the same for the same rows; ``scores`` by family, the last of all rows."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    cards = [_card(i, row) for i, row in enumerate(rows)]
    totals = [(HEADLINES[s][0].lower(), s, sum(row.report.status == s for row in rows)) for s in STATUSES]
    return environment.get_template("page.html").render(
        mark=Markup(MARK), title=title, cards=cards, totals=[t for t in totals if t[2]], version=VERSION,
        statuses=[(word, status) for word, status, n in totals if n], scores=scores, field=field,
        counted_here=COUNTED_HERE, points=sum(row.points for row in rows),
        wrong=sum(row.spot_wrong > 0 for row in rows),
        contradicted=sum(row.outcome == "contradicted" for row in rows),
    )  # fmt: skip


def _card(i: int, row: BatchRow) -> Card:
    report = row.report
    word = HEADLINES[report.status][0]
    by_length = () if report.verdict is None else report.verdict.by_length
    examples = report.counterexamples[:_LISTED]
    exceptions = _exceptions(report)
    return Card(
        row=row,
        anchor=f"row{i}",
        word=word.lower(),
        sentence=report.error.message if report.error is not None else sentence_of(report),
        program="; ".join(report.programs[0].text.strip().splitlines()) if report.programs else "",
        name_parts=tuple(re.findall(r"[^/_]*[/_]?", row.name)),
        model=architecture_text(report),
        domain=domain_text(report),
        inputs="" if row.n_inputs is None else _size(row.n_inputs),
        counts=_counts(report),
        notes=_notes(row),
        agreement=agreement_picture(by_length),
        legend=_legend(report),
        margins=margin_picture(by_length),
        examples=tuple(_example(item) for item in examples),
        exceptions=tuple(_input(item) for item in exceptions[:_LISTED]),
        n_more=max(len(report.counterexamples) - _LISTED, len(exceptions) - _LISTED, 0),
    )


def _exceptions(report: Report) -> tuple[InputPart, ...]:
    found = report.programs[0].exceptions if report.programs else None
    if report.status != "proved_except" or report.counterexamples or found is None:
        return ()
    return found.inputs or ()


def _legend(report: Report) -> str:
    """Name the colours that an agreement picture has beside the one for agreement."""
    told = report.verdict
    if told is None:
        return ""
    return ("; red: differ" if number(told.disagree) else "") + ("; grey: undecided" if number(told.undecided) else "")


def _counts(report: Report) -> tuple[tuple[str, str], ...]:
    facts: list[tuple[str, str]] = []
    if report.verdict is not None:
        for name, count in (
            ("agree", report.verdict.agree), ("differ", report.verdict.disagree),
            ("undecided", report.verdict.undecided),
        ):  # fmt: skip
            if number(count):
                facts.append((name, _size(number(count))))
        facts.append(("method", report.verdict.method))
    if report.numerics is not None:
        if report.numerics.min_margin is not None:
            facts.append(("least margin", f"{report.numerics.min_margin:.3g}"))
        if report.numerics.error_bound is not None:
            facts.append(("error bound", f"{report.numerics.error_bound:.1g}"))
        facts.append(("fragile", _size(number(report.numerics.fragile_count))))
        facts.append(("semantics", report.numerics.semantics))
    return tuple(facts)


def _notes(row: BatchRow) -> tuple[str, ...]:
    report, notes = row.report, list(row.report.warnings)
    if row.spot_wrong:
        notes.insert(0, f"the spot check refutes this on {row.spot_wrong} of {row.spot_tried} inputs tried")
    if row.outcome in ("missed", "contradicted"):
        notes.insert(0, f"{row.outcome}: expected {' or '.join(row.expected)}")
    if report.error is not None and report.error.hint is not None:
        notes.append(f"hint: {report.error.hint}")
    if report.budget_hit:
        notes.append(f"what ran out: {report.budget_hit}" if " " not in report.budget_hit else report.budget_hit)
    if report.search is not None and report.search.unique_to_cost is not None:
        notes.append(f"unique up to cost {report.search.unique_to_cost} on this domain")
    return tuple(notes)


def _example(item: CounterexamplePart) -> tuple[str, str, str, str]:
    margin = "" if item.margin is None else f"{item.margin:.2g}"
    return (
        _input(InputPart(item.tokens, item.offset)), " ".join(item.model) or "(empty)",
        " ".join(item.program) or "(empty)", margin,
    )  # fmt: skip


def _input(item: InputPart) -> str:
    text = " ".join(item.tokens) if item.tokens else "(empty)"
    return text + (f" at offset {item.offset}" if item.offset else "")


def _size(n: int) -> str:
    return grouped(n) if n < 10**12 else f"{n:.3e}"
