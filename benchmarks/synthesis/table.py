"""The benchmark's table and summary as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.synthesis.measuring import FACTOR, Measurement

_HEADER = (
    f"{'task':30} {'inputs':>7} {'result':8} {'first':>7} {'cpu':>6} {'total':>6} {'candidates':>11} {'distinct':>9} "
    f"{'MB':>5} {'cost':>4} {'known':>5} {'ratio':>5}  stage, note"
)
_TIMES = (1.0, 10.0, 60.0)


def header() -> str:
    """Return the column names."""
    return _HEADER


def line(m: Measurement) -> str:
    """Return one task's row; a program that is right but too dear is marked."""
    ratio = f"{m.cost / m.known_cost:.2f}" if m.cost and m.status == "found" else "-"
    cost = str(m.cost) if m.cost is not None and m.status == "found" else "-"
    notes = [m.stage if m.status == "found" else "", m.note, f"stopped by {m.stopped}" if m.stopped else ""]
    if m.status == "found" and not m.is_small:
        notes.append("TOO DEAR")
    if m.n_wrong:
        notes.append(f"differs on {m.n_wrong}")
    return (
        f"{m.name:30} {m.n_inputs:>7} {m.status:8} {_seconds(m.wall):>7} {_seconds(m.cpu):>6} {_seconds(m.total):>6} "
        f"{m.n_candidates:>11} {m.n_distinct:>9} {m.peak_mb:>5} {cost:>4} {m.known_cost:>5} {ratio:>5}  "
        + ", ".join(note for note in notes if note)
    )


def summary(results: Sequence[Measurement]) -> str:
    """Return what the whole table says, then the same by family."""
    lines = [_counts("all", results)]
    lines += [_counts(f, [m for m in results if m.family == f]) for f in dict.fromkeys(m.family for m in results)]
    n_wrong = sum(m.status == "wrong" for m in results)
    n_lost = sum(m.status in ("crashed", "killed") for m in results)
    peak = max((m.peak_mb for m in results), default=0)
    within = "".join(f"{f'{t:.0f} s':>8}" for t in _TIMES)
    return "\n".join([
        "",
        "Share of the tasks solved, by wall and by processor seconds until the first certified program that costs at",
        f"most {FACTOR} x the smallest cost known:",
        f"{'family':14} {'tasks':>5} {'found':>5} {'small':>5} |{within} wall |{within} cpu",
        *lines,
        f"peak memory {peak} MB; crashed or killed {n_lost}; wrong on the bounded domain {n_wrong}",
    ])  # fmt: skip


def _counts(name: str, results: Sequence[Measurement]) -> str:
    n = len(results)
    small = [m for m in results if m.status == "found" and m.small_wall is not None and m.small_cpu is not None]
    wall = "".join(f"{_share(sum((m.small_wall or 0.0) <= t for m in small), n):>8}" for t in _TIMES)
    cpu = "".join(f"{_share(sum((m.small_cpu or 0.0) <= t for m in small), n):>8}" for t in _TIMES)
    n_found = sum(m.status == "found" for m in results)
    return f"{name:14} {n:>5} {n_found:>5} {sum(m.is_small for m in results):>5} |{wall}      |{cpu}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
