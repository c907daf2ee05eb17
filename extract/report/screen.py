"""Progress on standard error: a live line on a terminal, otherwise one line per phase and at most one each 10 s.

It observes and never decides anything; a closed or full standard error silences it and nothing else.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from time import monotonic
from types import TracebackType

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from extract.report.streams import Color, console, encodable, say

_SECONDS_BETWEEN_LINES = 10.0


def grouped(n: int) -> str:
    """Return a number with its digits in groups of three."""
    return f"{n:,}".replace(",", " ")


class Screen:
    """Shows phases while they run; use it as a context manager.

    ``seconds`` holds the time of each phase that has ended; a phase entered twice adds up.
    """

    def __init__(self, color: Color = "auto", *, quiet: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._quiet = quiet
        self._phase: str | None = None
        self._started = self._last_line = monotonic()
        self._facts: dict[str, str] = {}
        self._live: Live | None = None
        self._color = color

    def __enter__(self) -> Screen:
        if not self._quiet and sys.stderr.isatty() and console(sys.stderr, self._color).is_terminal:
            with suppress(OSError):
                self._live = Live(
                    console=console(sys.stderr, self._color),
                    transient=True,
                    refresh_per_second=8,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._close_phase()
        if self._live is not None:
            with suppress(OSError, ValueError):
                self._live.stop()
        if self.seconds and not self._quiet:
            say(" " + self._summary())

    def phase(self, name: str) -> None:
        """End the phase before and begin another."""
        if name == self._phase:
            return
        self._close_phase()
        self._phase, self._started, self._last_line = name, monotonic(), monotonic()
        if self._live is not None:
            self._draw()
        elif not self._quiet and name not in self.seconds:
            say(f" {name} ...")

    def advance(self, done: int, total: int | None, unit: str) -> None:
        """Take note of how far the phase has come; shown when there is time."""
        if self._phase is None:
            return
        of = f" of {grouped(total)}" if total is not None and total != done else ""
        self._facts[self._phase] = f"{grouped(done)}{of} {unit}"
        now = monotonic()
        if self._live is not None:
            if now - self._last_line > 0.1:
                self._last_line = now
                self._draw()
        elif not self._quiet and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            say(f" {self._phase} {self._facts[self._phase]}")

    def _close_phase(self) -> None:
        if self._phase is not None:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + monotonic() - self._started
        self._phase = None

    def _summary(self) -> str:
        parts = []
        for name, seconds in self.seconds.items():
            fact = f" ({self._facts[name]})" if name in self._facts else ""
            parts.append(f"✓ {name} {seconds:.1f}s{fact}")
        return "  ".join(parts)

    def _draw(self) -> None:
        if self._live is None or self._phase is None:
            return
        fact = self._facts.get(self._phase)
        text = f"{self._summary()}  {self._phase}{' ' + fact if fact else ''}"
        row = Table.grid(padding=(0, 1))
        row.add_row(Spinner("line"), Text(encodable(text, sys.stderr), overflow="ellipsis", no_wrap=True))
        with suppress(OSError, ValueError):
            self._live.update(row)
