"""Everything that can go wrong and be explained to a user: one class per cause, each with its exit code.

A message is one line with the value found, what was expected and the place; the hint says what to do next.
This room knows nothing else of the project and imports nothing of it.
"""

from __future__ import annotations

from typing import ClassVar


class ExtractError(Exception):
    """The root of every error that is reported as one line and an exit code (cli.md)."""

    exit_code: ClassVar[int] = 70
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str | None = None, place: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place

    def at(self, place: str) -> ExtractError:
        """Return the same error with a place added in front, unless it has one already."""
        if self.place is None:
            self.place = place
        return self

    def hinting(self, hint: str) -> ExtractError:
        """Return the same error with a hint, unless it has one already."""
        if self.hint is None:
            self.hint = hint
        return self

    def line(self) -> str:
        """Return the single line a user reads: ``place: message (hint: ...)``."""
        text = f"{self.place}: {self.message}" if self.place else self.message
        if self.hint:
            text += f" (hint: {self.hint})"
        return " ".join(text.split())

    def __str__(self) -> str:
        return self.line()


class UsageError(ExtractError):
    """The command line asks for something that makes no sense."""

    exit_code = 2
    code = "usage"


class SpecError(ExtractError):
    """The task spec is missing, malformed or contradicts the checkpoint; the message holds the field's path."""

    exit_code = 4
    code = "spec"


class DomainError(ExtractError):
    """A domain that is empty, or an input that is not in it."""

    exit_code = 4
    code = "domain"


class CheckpointError(ExtractError):
    """A checkpoint that cannot be read as a network: damaged, hostile, unknown, contradictory."""

    exit_code = 4
    code = "checkpoint"


class ContradictionError(ExtractError):
    """A model that answers the same input in two ways: nothing can be said about it."""

    exit_code = 4
    code = "contradiction"


class ProgramError(ExtractError):
    """A program, promise or regular expression that does not parse, or is badly sorted."""

    exit_code = 4
    code = "program"


class CertificateError(ExtractError):
    """A file that is not a certificate this version can read."""

    exit_code = 4
    code = "certificate"


class SoundnessAlarm(ExtractError):
    """A certificate was rejected or a counterexample did not replay: believe nothing of this result."""

    exit_code = 5
    code = "soundness"


class OutputError(ExtractError):
    """A result could not be written; what was there before is untouched."""

    exit_code = 74
    code = "output"


class BudgetError(ExtractError):
    """A stage needs more than its budget allows; the answer is ``undecided``, never a guess."""

    exit_code = 3
    code = "budget"


class UnconfirmedError(BudgetError):
    """The independent checker contradicts nothing, but its own rounding bounds do not confirm a claim."""
