"""What the loop asks of a verifier, and what it says when it stops: values only.

They are apart from the loop so that whoever verifies or reports need not know how programs are searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from extract.lang.terms import Program
from extract.outcome import Spent, Verdict

Row = tuple[tuple[int, ...], int]


@dataclass(frozen=True, slots=True)
class Differences:
    """Inputs on which a program and the model differ, in canonical order (the first ``limit`` found), and how many
    there are in all when every input was compared (else None). ``n_compared`` inputs were looked at."""

    rows: tuple[Row, ...]
    n_total: int | None
    n_compared: int


class Verifier(Protocol):
    """What the loop asks about a program; every answer is about the whole domain or says how much of it."""

    def differences(self, program: Program, limit: int) -> Differences:
        """Return the first inputs on which program and model differ."""

    def verdict(self, program: Program) -> Verdict:
        """Decide whether program and model agree on every input of the domain."""

    def distinguish(self, left: Program, right: Program) -> tuple[Row | None, str]:
        """Return an input of the domain on which two programs differ, or None and "equal" or a reason."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A program with its verdict."""

    program: Program
    cost: int
    verdict: Verdict
    stage: str


@dataclass(frozen=True, slots=True)
class Rival:
    """Another program that matched every probe: ``relation`` is ``equal`` (on the whole domain), ``refuted`` (differs
    from the winner on ``row``, where the model agrees with the winner) or ``open``."""

    text: str
    cost: int
    relation: str
    row: Row | None


@dataclass(frozen=True, slots=True)
class Synthesis:
    """What the loop found, best first, and why it stopped.

    ``complete_to_cost`` is the tree cost to which the searched fragment (search/layers.py), with the best program's
    output adapter, was exhausted on the last probe set, up to equal values on it in the bank's narrow integers: what
    was not proposed by then does not match.
    ``unique_to_cost`` is the same cost once the best
    program is certified and every rival found is settled: each program of the fragment up to it equals the best one on
    the domain, or differs from the model on some input of the domain.
    """

    candidates: tuple[Candidate, ...]
    stage: str
    spent: Spent
    complete_to_cost: int | None
    unique_to_cost: int | None
    properties: dict[str, bool]
    rivals: tuple[Rival, ...]
    rounds: int
    budget_hit: str | None
