"""The clock that guards long work: seconds of wall clock, less those spent waiting while others had the processors.

Budgets are counts; a clock only ends what takes far too long, and then says so. A guard that ran on while a busy
machine kept the process waiting would end one run and not the next, on the same input: so that wait is not counted
where the system tells it (Linux, ``schedstat``, second field: nanoseconds in the run queue). Elsewhere, and beyond
``_MOST_WAITING`` times the seconds given, the wall clock decides.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

#: However busy the machine, a guard ends after this many times its seconds.
_MOST_WAITING = 4.0


class Guard:
    """Ends after some seconds, counted from when it is made (None: never), for the thread that makes it."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._start, self._waited = time.monotonic(), self._waiting()

    def is_over(self) -> bool:
        """Say whether the seconds have passed."""
        if self._seconds is None:
            return False
        elapsed = time.monotonic() - self._start
        if elapsed <= self._seconds:
            return False
        return elapsed > _MOST_WAITING * self._seconds or elapsed - (self._waiting() - self._waited) > self._seconds

    def _waiting(self) -> float:
        """Return the seconds this thread has waited for a processor so far; 0 where nobody says."""
        try:
            return int(self._schedule.read_text(encoding="ascii").split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0
