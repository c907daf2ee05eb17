"""Progress as values handed upward: stages tell an observer what they do and never print.

It knows nothing of terminals; ``cli`` and ``report`` decide what is shown.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """An observer of long work. Calls are cheap and may be frequent; the observer thins them out."""

    def phase(self, name: str) -> None:
        """A stage begins: ``load``, ``probe``, ``search``, ``verify``, ``check``."""

    def advance(self, done: int, total: int | None, unit: str) -> None:
        """The current stage did ``done`` of ``total`` units (None: unknown), for example inputs or candidates."""


class Silent:
    """An observer that ignores everything."""

    def phase(self, name: str) -> None:
        """Ignore."""

    def advance(self, done: int, total: int | None, unit: str) -> None:
        """Ignore."""
