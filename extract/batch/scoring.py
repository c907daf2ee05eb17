"""What a row's result is worth: expectations held against it, points as in verification contests, sums by family.

A solved row is worth 10 points, an open one 0, a wrong proof -150: one wrong proof costs more than fifteen are worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from statistics import median
from typing import Any

import msgspec

from extract.batch.ledger import Line
from extract.batch.suite import Published
from extract.report.report import Report, Run, from_json, number
from extract.report.scoreboard import BatchRow, Change, FamilyScore, FieldScore, Outcome

SOLVED, OPEN, WRONG = 10, 0, -150
#: The family of rows that are in no folder.
TOP = "top"
_DEFINITE = ("proved", "proved_except", "refuted")
_SOLVED = ("proved", "proved_except")
#: Statuses from best to worst, for saying that a verdict became worse.
_ORDER = ("proved", "proved_except", "refuted", "no_program", "undecided", "error")
#: A time ratio within these says nothing on a machine with other work.
_SAME_TIME = (0.67, 1.5)


def outcome_of(report: Report, expected: Sequence[str], exceptions: int | None) -> Outcome:
    """Say what became of an expectation.

    An exact number of exceptions is contradicted by a definite verdict with any other number.
    """
    if not expected:
        return "none"
    if report.status not in expected:
        return "contradicted" if report.status in _DEFINITE else "missed"
    if exceptions is not None and report.status in _SOLVED and n_exceptions(report) != exceptions:
        return "contradicted"
    return "met"


def n_exceptions(report: Report) -> int:
    """Return the number of inputs on which the first program is proved to differ."""
    if not report.programs or report.programs[0].exceptions is None:
        return 0
    return number(report.programs[0].exceptions.count)


def points_of(report: Report, outcome: Outcome, spot_wrong: int) -> int:
    """Return the points of a row: a proof that contradicts the expectation or the spot check is wrong."""
    if report.status not in _SOLVED:
        return OPEN
    return WRONG if spot_wrong or outcome == "contradicted" else SOLVED


def report_of(line: Line) -> Report:
    """Return the result in a ledger's line as a report. Raises: ResultError if it is none of this version."""
    run = {name: line["run"].get(name) for name in Run.__struct_fields__}
    return from_json(msgspec.json.encode({**line["result"], "run": run}))


def batch_row(line: Line, expected: Sequence[str] = (), exceptions: int | None = None) -> BatchRow:
    """Judge a ledger's line."""
    report, spot, run = report_of(line), line.get("spot"), line["run"]
    outcome = outcome_of(report, expected, exceptions)
    n_wrong = spot["wrong"] if spot is not None else 0
    return BatchRow(
        name=line["name"],
        family=line["name"].split("/")[0] if "/" in line["name"] else TOP,
        report=report,
        expected=tuple(expected),
        outcome=outcome,
        spot_tried=None if spot is None else spot["tried"],
        spot_wrong=n_wrong,
        seconds=run.get("wall_seconds", 0.0),
        tries=run.get("tries", 1),
        points=points_of(report, outcome, n_wrong),
    )


def scores(rows: Sequence[BatchRow]) -> tuple[FamilyScore, ...]:
    """Return the score of each family in the order they appear, then of all rows."""
    families = dict.fromkeys(row.family for row in rows)
    parts = [_score(family, [row for row in rows if row.family == family]) for family in families]
    return (*parts, _score("all", rows))


def _score(family: str, rows: Iterable[BatchRow]) -> FamilyScore:
    rows, by_status = list(rows), dict[str, int]()
    for row in rows:
        by_status[row.report.status] = by_status.get(row.report.status, 0) + 1
    return FamilyScore(
        family=family,
        by_status=dict(sorted(by_status.items())),
        points=sum(row.points for row in rows),
        contradicted=sum(row.outcome == "contradicted" for row in rows),
        missed=sum(row.outcome == "missed" for row in rows),
        wrong=sum(row.spot_wrong > 0 for row in rows),
        inputs=sum(row.n_inputs or 0 for row in rows),
        seconds=sum(row.seconds for row in rows),
    )


def field_scores(published: Sequence[Published], rows: Sequence[BatchRow]) -> tuple[FieldScore, ...]:
    """Return what was proved of the rows that each published work is about; works without any are left out."""
    found = []
    for work in published:
        own = [row for row in rows if any(fnmatchcase(row.name, pattern) for pattern in work.rows)]
        right = [row.report.status for row in own if row.points != WRONG]
        if own:
            counts = {"rows": len(own), "proved": right.count("proved"), "proved_except": right.count("proved_except")}
            found.append(FieldScore(work=work.work, figure=work.figure, counted=work.counted, **counts))
    return tuple(found)


def field_of(summary: Line | None) -> tuple[FieldScore, ...]:
    """Return the comparison with published figures that a result's summary line holds."""
    return () if summary is None else tuple(FieldScore(**part) for part in summary.get("published", ()))


def summary_of(parts: Sequence[FamilyScore], field: Sequence[FieldScore] = ()) -> dict[str, Any]:
    """Return the score as plain data; times are under ``run``."""
    stable = ("by_status", "points", "contradicted", "missed", "wrong")
    told = {p.family: {key: getattr(p, key) for key in stable} | {"inputs": str(p.inputs)} for p in parts}
    beside = {"published": [asdict(part) for part in field]} if field else {}
    return {"score": told, **beside, "run": {"seconds": {p.family: round(p.seconds, 3) for p in parts}}}


def compare(
    before: Mapping[str, BatchRow], after: Mapping[str, BatchRow]
) -> tuple[tuple[Change, ...], float | None, int]:
    """Return the rows that changed between two batches, the median time ratio, and how many rows did not change.

    A row changed if its verdict or cost did, if only one batch has it, or if its time did by half and a second.
    """
    every = [_change(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]
    ratios = [change.ratio for change in every if change.ratio is not None]
    changes = [change for change in every if _is_change(change)]
    changes.sort(key=lambda c: (not c.is_worse, c.statuses[0] == c.statuses[1], c.costs[0] == c.costs[1]))
    return tuple(changes), median(ratios) if ratios else None, len(every) - len(changes)


def _change(name: str, old: BatchRow | None, new: BatchRow | None) -> Change:
    statuses = (None if old is None else old.report.status, None if new is None else new.report.status)
    is_worse = old is not None and (new is None or _rank(new) > _rank(old))
    costs = (None if old is None else old.cost, None if new is None else new.cost)
    seconds = (None if old is None else old.seconds, None if new is None else new.seconds)
    return Change(name, statuses, costs, seconds, is_worse)


def _rank(row: BatchRow) -> int:
    return _ORDER.index(row.report.status)


def _is_change(change: Change) -> bool:
    if change.statuses[0] != change.statuses[1] or change.costs[0] != change.costs[1]:
        return True
    old, new = change.seconds
    is_long = abs((old or 0.0) - (new or 0.0)) > 1.0
    return change.ratio is not None and is_long and not _SAME_TIME[0] <= change.ratio <= _SAME_TIME[1]
