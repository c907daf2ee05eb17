"""A finished batch as values and as lines for people: every row's verdict, the score by family, what changed since.

It lays out what ``batch`` has judged; it judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

from extract.report.report import Report, number
from extract.report.screen import grouped
from extract.report.text import HEADLINES, apart_from_ties

#: What became of an expectation: contradicted by a definite verdict, missed by an open one, or there was none.
Outcome = Literal["met", "missed", "contradicted", "none"]
STATUSES = ("proved", "proved_except", "refuted", "undecided", "no_program", "error")
_SHORT = {"proved_except": "except", "no_program": "no program"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One row of a batch: its result, what was expected, and what the spot check said (None: nothing to check).

    ``seconds`` are the wall time of the last try, ``tries`` how many workers it took.
    """

    name: str
    family: str
    report: Report
    expected: tuple[str, ...] = ()
    outcome: Outcome = "none"
    spot_tried: int | None = None
    spot_wrong: int = 0
    seconds: float = 0.0
    tries: int = 1
    points: int = 0

    @property
    def cost(self) -> int | None:
        """The cost of the first program."""
        return self.report.programs[0].cost if self.report.programs else None

    @property
    def n_inputs(self) -> int | None:
        """The size of the domain."""
        return None if self.report.task is None else number(self.report.task.domain.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyScore:
    """The rows of one family, or of all: how many ended how, points, and what went wrong."""

    family: str
    by_status: dict[str, int]
    points: int
    contradicted: int
    missed: int
    wrong: int
    inputs: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldScore:
    """What a published work reports and counts (its words), beside how many rows of its tasks are proved here."""

    work: str
    figure: str
    counted: str
    rows: int
    proved: int
    proved_except: int

    @property
    def here(self) -> str:
        """What was proved here, as a few words."""
        return f"{self.proved} of {self.rows}" + (f", {self.proved_except} except" if self.proved_except else "")


@dataclass(frozen=True, slots=True)
class Change:
    """How one row differs between two batches; a status is None where a batch lacks the row."""

    name: str
    statuses: tuple[str | None, str | None]
    costs: tuple[int | None, int | None]
    seconds: tuple[float | None, float | None]
    is_worse: bool

    @property
    def ratio(self) -> float | None:
        """The later time over the earlier one."""
        before, after = self.seconds
        return None if not before or after is None else after / before


def row_line(row: BatchRow, width: int) -> Text:
    """Return a row as one line: verdict, cost, inputs, time, and what is wrong with it."""
    report = row.report
    line = Text.assemble((f" {_word(report.status):<11}", HEADLINES[report.status][1]), f" {row.name:<{width}}")
    cost = "" if row.cost is None else f"cost {row.cost}"
    inputs = "" if row.n_inputs is None else f"{_size(row.n_inputs)} inputs"
    line.append(f"  {cost:<9} {inputs:>14}  {row.seconds:7.1f} s")
    for note in _notes(row):
        line.append(f"  {note}", "bold red" if row.outcome == "contradicted" or row.spot_wrong else "yellow")
    return line


def _notes(row: BatchRow) -> list[str]:
    report, notes = row.report, []
    if row.spot_wrong:
        notes.append(f"WRONG on {row.spot_wrong} of {row.spot_tried} inputs tried")
    if row.outcome in ("missed", "contradicted"):
        notes.append(f"{row.outcome}: expected {' or '.join(_word(s) for s in row.expected)}")
    found = report.programs[0].exceptions if report.programs else None
    if report.status == "proved_except" and found is not None:
        notes.append(f"{grouped(number(found.count))} differ")
    if report.error is not None:
        notes.append(report.error.message)
    elif apart_from_ties(report) is not None:
        notes.append("ties apart: agrees")
    elif report.status == "undecided" and report.budget_hit:
        notes.append(report.budget_hit)
    return notes


def table_lines(rows: Sequence[BatchRow]) -> list[Text]:
    """Return every row as a line, in order."""
    width = max((len(row.name) for row in rows), default=0)
    return [row_line(row, width) for row in rows]


def score_lines(scores: Sequence[FamilyScore]) -> list[Text]:
    """Return the score by family; the last is of all rows."""
    width = max(len(score.family) for score in scores)
    heads = "".join(f"{_word(status):>12}" for status in STATUSES)
    lines = [Text(f" {'family':<{width}}{heads}{'points':>9}{'inputs':>13}{'time':>10}", "cyan")]
    for score in scores:
        counts = "".join(f"{score.by_status.get(status, 0) or '·':>12}" for status in STATUSES)
        text = f" {score.family:<{width}}{counts}{score.points:>9}{_size(score.inputs):>13}{score.seconds:>8.1f} s"
        lines.append(Text(text, "bold" if score is scores[-1] else ""))
    whole = scores[-1]
    for n, sentence in (
        (whole.wrong, "reported proofs are refuted by the spot check: believe nothing of this batch"),
        (whole.contradicted, "verdicts contradict what was expected"),
        (whole.missed, "expected verdicts were not reached"),
    ):
        if n:
            lines.append(Text(f" {n} {sentence}", "yellow" if n == whole.missed else "bold red"))
    return lines


#: What is counted here, beside what others count.
COUNTED_HERE = "rows whose trained network equals a program on every input of the domain"


def field_lines(field: Sequence[FieldScore]) -> list[Text]:
    """Return what published works report of the same tasks, beside what was proved here; nothing where none does."""
    if not field:
        return []
    width = max(len(part.work) for part in field)
    lines = [Text(f" beside published figures, which count other things; here: {COUNTED_HERE}", "cyan")]
    for part in field:
        lines.append(Text(f" {part.work:<{width}}  here {part.here}; published: {part.figure}"))
        lines.append(Text(f"   which counts: {part.counted}", "dim"))
    return lines


def change_lines(changes: Sequence[Change], ratio: float | None, n_same: int) -> list[Text]:
    """Return what changed between two batches: verdicts first, then costs and large time ratios."""
    width = max((len(change.name) for change in changes), default=0)
    lines = []
    for change in changes:
        before, after = (_word(status) if status else "absent" for status in change.statuses)
        costs = tuple("-" if cost is None else str(cost) for cost in change.costs)
        text = f" {change.name:<{width}}  {before if before == after else f'{before} -> {after}':<26}"
        text += f"cost {costs[0] if costs[0] == costs[1] else f'{costs[0]} -> {costs[1]}':<12}"
        text += "" if change.ratio is None else f"time x{change.ratio:.2f}"
        style = "bold red" if change.is_worse else "green" if before != after else ""
        lines.append(Text(text.rstrip(), style))
    tail = "" if ratio is None else f" · median time ratio {ratio:.2f}"
    lines.append(Text(f" {len(changes)} rows changed, {n_same} did not{tail}", "bold"))
    return lines


def live_table(done: Sequence[BatchRow], running: Iterable[tuple[str, float]], n_total: int) -> Table:
    """Return the live view: what is running, the last rows that ended, and how many of each status there are."""
    table = Table.grid(padding=(0, 1))
    for row in done[-8:]:
        table.add_row(row_line(row, max(len(r.name) for r in done[-8:])))
    for name, seconds in running:
        table.add_row(Text(f" ...         {name}  {seconds:.0f} s", "dim"))
    counts = [f"{sum(r.report.status == s for r in done)} {_word(s)}" for s in STATUSES]
    table.add_row(Text(f" {len(done)} of {n_total} rows · " + " · ".join(c for c in counts if c[0] != "0"), "bold"))
    return table


def _word(status: str) -> str:
    return _SHORT.get(status, status)


def _size(n: int) -> str:
    return grouped(n) if n < 10**9 else f"{n:.2e}"
