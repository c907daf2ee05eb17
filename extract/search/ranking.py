"""Which program is reported first: the order of candidates with their verdicts, and of programs without.

It compares what is known and asks nobody. A program together with a list of its exceptions is a description of a model;
the shorter description comes first, since a machine unrolled until it fits a model's mistakes says less about what the
model learned than a plain rule and the inputs that break it.
"""

from __future__ import annotations

from math import log2

from extract.lang.cost import program_cost
from extract.lang.syntax import print_program
from extract.lang.terms import Program
from extract.outcome import Certified, Refuted, Unknown, Verdict
from extract.search.builders import reading_effort
from extract.synthesis import Candidate

#: A program that differs on more than this share of the domain is no description of the model (cli.md).
MOST_EXCEPTIONS = 0.01
#: What listing one exception costs, in units of a program's cost, while they are few; a reader goes through no long
#: list, so from there on their number costs so much each time that it doubles.
LISTED_COST, _FEW, _DOUBLED = 2, 8, 8
#: What a poor description loses each time that its failures double.
_DOUBLED_FAILURES = 40
#: Only exact programs from this cost on are ever placed behind a shorter one with exceptions.
LONG = 20
#: The stages of the search in the order in which they are told.
STAGES = (
    "closed form", "automaton", "arithmetic", "guided", "bank", "last level", "divided", "agreement", "simplified",
    "rival",
)  # fmt: skip

ProgramOrder = tuple[int, list[int], str]


def program_order(program: Program) -> ProgramOrder:
    """Order programs by cost, then by the effort of reading them, then by text."""
    efforts = [reading_effort(term) for term in program.terms()]
    return program_cost(program), [sum(e) for e in zip(*efforts, strict=True)], print_program(program)


def has_few_exceptions(verdict: Verdict, size: int) -> bool:
    """Say whether a program differs on few inputs of a domain of some size, all of them counted."""
    if not isinstance(verdict, Refuted) or verdict.certificate is None:
        return False
    return verdict.certificate.tally.disagree <= MOST_EXCEPTIONS * size


def listed_cost(n_exceptions: int) -> int:
    """Return what listing so many exceptions costs, in units of a program's cost."""
    if n_exceptions <= _FEW:
        return LISTED_COST * n_exceptions
    return LISTED_COST * _FEW + int(_DOUBLED * log2(n_exceptions / _FEW))


def poor_cost(cost: int, n_failures: int, n_inputs: int) -> int:
    """Return how poor a description with many failures is: a plain rule that is mostly right comes before a listing of
    many more cases that is right a little more often."""
    return cost + int(_DOUBLED_FAILURES * log2(1 + 100 * n_failures / max(1, n_inputs)))


def described_cost(candidate: Candidate, size: int) -> int | None:
    """Return what a program and a list of its exceptions cost to say; None if it is undecided or a poor description.

    With exceptions it is at least ``LONG``, so that a shorter exact program is never placed behind, and a quarter is
    added: what is right everywhere may be somewhat longer.
    """
    verdict = candidate.verdict
    if isinstance(verdict, Certified):
        return candidate.cost
    if isinstance(verdict, Refuted) and verdict.certificate is not None and has_few_exceptions(verdict, size):
        told = candidate.cost + listed_cost(verdict.certificate.tally.disagree)
        return max(LONG, told + told // 4)
    return None


def candidate_order(candidate: Candidate, *, size: int, is_strict: bool) -> tuple[int, int, int, list[int], str]:
    """Order candidates: exact ones and those with few exceptions by what they cost to say, then undecided, then poor.

    The strict place every exact program before any with exceptions.
    """
    verdict, order = candidate.verdict, program_order(candidate.program)
    said = described_cost(candidate, size)
    if said is not None:
        return (2 if is_strict and isinstance(verdict, Refuted) else 0), said, *order
    if isinstance(verdict, Unknown):
        return 1, 0, *order
    tally = verdict.certificate.tally if verdict.certificate is not None else None
    n_failures, n_inputs = (tally.disagree, tally.total) if tally is not None else (1, 1)
    return 3, poor_cost(candidate.cost, n_failures, n_inputs), *order
