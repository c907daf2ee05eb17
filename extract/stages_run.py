"""What belongs to one run and to no other: its clock, its machine, its libraries."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from time import monotonic

from extract.progress import Progress, Silent
from extract.report.report import Run
from extract.version import VERSION

_LIBRARIES = ("numpy", "torch", "z3-solver", "sympy")


class Stopwatch:
    """An observer that times phases and hands everything on to another observer."""

    def __init__(self, observer: Progress | None = None) -> None:
        self._observer = observer if observer is not None else Silent()
        self._started = datetime.now(UTC)
        self._phase: str | None = None
        self._since = monotonic()
        self._seconds: dict[str, float] = {}

    def phase(self, name: str) -> None:
        """End the phase before, begin another."""
        if name != self._phase:
            self._close()
            self._phase = name
        self._observer.phase(name)

    def advance(self, done: int, total: int | None, unit: str) -> None:
        """Hand on."""
        self._observer.advance(done, total, unit)

    def _close(self) -> None:
        now = monotonic()
        if self._phase is not None:
            self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._since = now

    def run_part(self) -> Run:
        """Return everything about this run that another one would not repeat."""
        self._close()
        versions = {"extract": VERSION, "python": platform.python_version()}
        for name in _LIBRARIES:
            with suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
        return Run(
            started=self._started.isoformat(timespec="seconds"),
            seconds={name: round(seconds, 3) for name, seconds in self._seconds.items()},
            peak_rss_mb=_peak_rss_mb(),
            host=platform.platform(),
            versions=versions,
        )


def _peak_rss_mb() -> float | None:
    """Return the most memory the process has held, in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    units = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units, 1)
