"""What is known of each program at the end: its status, its evidence, and its replayed differences from the model."""

from __future__ import annotations

from dataclasses import dataclass

from extract.cegis import Candidate, Synthesis
from extract.certificate_file import status_of
from extract.lang.cost import program_cost
from extract.lang.terms import Program
from extract.outcome import Certificate, Certified, Counterexample, Refuted, Unknown
from extract.report.report import Status
from extract.stages_load import Subject
from extract.stages_verify import TableVerifier

#: What ``budget_hit`` says after Ctrl-C.
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Judged:
    """A program with its status; ``differences`` are replayed, in canonical order, all of them if listed completely.

    ``smallest`` is a difference from which no token can be deleted; ``reason`` says why nothing was decided.
    """

    program: Program
    cost: int
    stage: str
    status: Status
    certificate: Certificate | None
    differences: tuple[Counterexample, ...] = ()
    smallest: Counterexample | None = None
    reason: str | None = None


def judge(verifier: TableVerifier, candidate: Candidate) -> Judged:
    """Turn a candidate's verdict into a status; differences few enough to list exactly are exceptions.

    What no independent check can confirm is undecided, whatever the enumeration found.

    Raises:  SoundnessAlarm if a difference does not replay.
    """
    verdict = candidate.verdict
    known = (candidate.program, candidate.cost, candidate.stage)
    doubt = uncheckable(verifier.subject)
    if isinstance(verdict, Certified):
        return Judged(*known, "undecided" if doubt else "proved", verdict.certificate, reason=doubt)
    if isinstance(verdict, Unknown):
        return Judged(*known, "undecided", verdict.certificate, reason=verdict.reason)
    differences = verifier.exceptions(candidate.program, verdict)
    status = refuted_status(verifier.subject, verdict)
    return Judged(*known, status, verdict.certificate, differences, verdict.counterexamples[0])


def given(verifier: TableVerifier, program: Program) -> Candidate:
    """Judge a program somebody wrote; after Ctrl-C, by what was enumerated until then."""
    try:
        verdict = verifier.verdict(program)
    except KeyboardInterrupt:
        if not verifier.is_interrupted:
            raise
        verdict = verifier.verdict(program)
    return Candidate(program, program_cost(program), verdict, "given")


def uncheckable(subject: Subject) -> str | None:
    """Return why no independent check of a claim about this domain is possible, None if one is."""
    if not subject.domain.size_is_exact:
        return "the size of the domain is only an upper bound"
    if subject.spec.domain.self_allowed:
        return "the domain is what the model itself allows, which the independent checker does not know"
    return None


def refuted_status(subject: Subject, verdict: Refuted) -> Status:
    """Return ``proved_except`` for few, exactly counted differences, else ``refuted``."""
    if verdict.certificate is None or uncheckable(subject):
        return "refuted"
    return status_of(verdict.certificate.tally, subject.domain.size)


def run_status(synthesis: Synthesis, judged: tuple[Judged, ...], max_cost: int) -> tuple[Status, str | None]:
    """Return the status of a whole run, and what it lacked if it is undecided.

    That no program matches is said only where the search was exhausted to the cost asked for.
    """
    if judged and judged[0].status in ("proved", "proved_except"):
        return judged[0].status, synthesis.budget_hit
    if synthesis.budget_hit == "interrupt":
        return "undecided", INTERRUPTED
    if judged and judged[0].status == "undecided":
        return "undecided", synthesis.budget_hit or judged[0].reason
    if synthesis.complete_to_cost is not None and synthesis.complete_to_cost >= max_cost:
        return "no_program", None
    searched = f"the search is complete to cost {synthesis.complete_to_cost}" if synthesis.complete_to_cost else None
    return "undecided", synthesis.budget_hit or searched or "the search ended without a program that matches"
