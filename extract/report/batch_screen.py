"""Progress of a batch on standard error: a live table on a terminal, otherwise one line for every row that ends."""

from __future__ import annotations

import sys
from contextlib import suppress
from time import monotonic
from types import TracebackType

from rich.live import Live
from rich.table import Table
from rich.text import Text

from extract.report.scoreboard import BatchRow, live_table, row_line
from extract.report.streams import Color, console, encodable, say


class BatchScreen:
    """Shows rows as they begin and end; use it as a context manager. A closed standard error silences it."""

    def __init__(self, color: Color = "auto", *, quiet: bool = False) -> None:
        self._quiet, self._color = quiet, color
        self._live: Live | None = None
        self._done: list[BatchRow] = []
        self._running: dict[str, float] = {}
        self._n_total = self._width = 0

    def __enter__(self) -> BatchScreen:
        if not self._quiet and sys.stderr.isatty() and console(sys.stderr, self._color).is_terminal:
            with suppress(OSError):
                self._live = Live(
                    console=console(sys.stderr, self._color), transient=True, refresh_per_second=4,
                    redirect_stdout=False, redirect_stderr=False, get_renderable=self._table,
                )  # fmt: skip
                self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._live is not None:
            with suppress(OSError, ValueError):
                self._live.stop()

    def expect(self, names: tuple[str, ...], reused: int) -> None:
        """Say which rows will be done, and how many are there already."""
        self._n_total, self._width = len(names), max(map(len, names), default=0)
        if reused:
            self.note(f" {reused} rows are in the ledger already")
        self.note(f" {self._n_total} rows to do ...")

    def begin(self, name: str) -> None:
        """A row, or the training of its checkpoint, begins (again)."""
        self._running[name] = monotonic()

    def end(self, name: str, row: BatchRow | None) -> None:
        """A row ended; None for training."""
        self._running.pop(name, None)
        if row is None:
            self.note(f" {name} is trained")
            return
        self._done.append(row)
        if self._live is None and not self._quiet:
            done = f"{len(self._done)}/{self._n_total}"
            screen = console(sys.stderr, self._color)
            with suppress(OSError, ValueError):
                with screen.capture() as captured:
                    screen.print(Text.assemble(f" {done:>7}", row_line(row, self._width)), end="")
                say(captured.get())

    def note(self, text: str) -> None:
        """Say something beside the table."""
        if self._live is not None:
            with suppress(OSError, ValueError):
                self._live.console.print(Text(encodable(text, sys.stderr)))
        elif not self._quiet:
            say(text)

    def warn(self, text: str) -> None:
        """Say something that matters even when quiet."""
        if self._live is None:
            say(text)
        else:
            self.note(text)

    def _table(self) -> Table:
        now = monotonic()
        running = [(name, now - since) for name, since in list(self._running.items())]
        return live_table(list(self._done), running, self._n_total)
