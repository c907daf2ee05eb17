"""The stage after the proof: the claim as a file, and the independent check that everything reported has passed.

The checker shares no code with what made the claim; this stage hands it files, as anyone else would.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extract.certificate_file import certificate_bytes, status_of
from extract.check.check import CheckResult, check_certificate
from extract.check.reader import Unreadable
from extract.errors import BudgetError, CertificateError, SoundnessAlarm, UnconfirmedError
from extract.outcome import BoxRegion, Certificate, Counterexample, Tally
from extract.progress import Progress
from extract.report.files import write_file
from extract.report.report import CertificatePart
from extract.stages_judge import Judged, uncheckable
from extract.stages_load import Subject, file_subject


def recheck(certificate: Path, checkpoint: Path, spec: Path | None, full: bool, progress: Progress) -> CheckResult:
    """Check a certificate file with the independent checker.

    Raises:  CertificateError if a file cannot be read.
    """
    try:
        return check_certificate(certificate, checkpoint, spec, full=full, progress=progress)
    except Unreadable as error:
        place = None if str(error).startswith((str(certificate), str(checkpoint), str(spec))) else str(certificate)
        raise CertificateError(str(error), place=place) from error


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate as a file that the checker has accepted, and the claim in it."""

    data: bytes
    coverage: str
    claim: Certificate


def certify(
    subject: Subject, certificate: Certificate, exceptions: tuple[Counterexample, ...], progress: Progress
) -> Certified:
    """Store a claim and have it checked independently before anybody sees it.

    ``exceptions`` are the inputs that differ, in canonical order, as many as a certificate lists. Boxes that the
    checker's own bounds do not confirm are undecided, and what is left is claimed.
    Raises:  SoundnessAlarm with the checker's reasons if it does not accept the claim; BudgetError if it does not know
             how to check one that was not made by enumeration; UnconfirmedError if its own bounds are too loose for it.
    """
    progress.phase("check")
    data, found = _checked(subject, certificate, exceptions, progress)
    for keeps_some in (True, False):  # what was confirmed among others is confirmed again; else its length goes
        if not found.unproved or len(found.reasons) != len(found.unproved) + found.n_doubts:
            break
        confirmed = [(length, offset, rest if keeps_some else None) for length, offset, rest in found.unproved]
        certificate = confirmed_boxes(certificate, confirmed)
        data, found = _checked(subject, certificate, exceptions, progress)
    if found.errors and found.is_doubt:
        # the larger of two bounds holds by both of them
        certificate = with_errors(certificate, found.errors)
        data, found = _checked(subject, certificate, exceptions, progress)
    if found.is_doubt and any(region.cells is not None for region in certificate.regions):
        # our bounds and the checker's may settle different answers of one input: then only inputs are claimed
        regions = tuple(replace(region, cells=None) for region in certificate.regions)
        certificate = replace(certificate, regions=regions)
        data, found = _checked(subject, certificate, exceptions, progress)
    if found.is_doubt:
        raise UnconfirmedError(f"the independent checker's own bounds do not confirm it: {found.reasons[0]}")
    if not found.accepted:
        raise SoundnessAlarm(
            f"the independent checker rejects the certificate: {'; '.join(found.reasons[:3])}",
            hint="believe nothing of this result, and please report it",
        )
    return Certified(data, found.coverage, certificate)


def _checked(
    subject: Subject, certificate: Certificate, exceptions: tuple[Counterexample, ...], progress: Progress
) -> tuple[bytes, CheckResult]:
    data = certificate_bytes(
        certificate,
        subject.domain,
        model=subject.checkpoint.model,
        spec_digest=subject.loaded.digest,
        counterexamples=exceptions,
    )
    with tempfile.TemporaryDirectory(prefix="extract-") as folder:
        path = Path(folder) / "claim.cert.json"
        path.write_bytes(data)
        try:
            return data, recheck(path, subject.path, subject.spec_path, False, progress)
        except CertificateError as error:
            if certificate.method == "enumeration":
                raise
            raise BudgetError(f"undecided: the independent checker cannot follow the claim: {error.message}") from error


def confirmed_boxes(
    certificate: Certificate, confirmed: Sequence[tuple[int, int, dict[str, Any] | None]]
) -> Certificate:
    """Return the claim with less decided at some (length, offset): what an entry says, or nothing where it is None."""
    entries = {(length, offset): rest for length, offset, rest in confirmed}
    kept: list[BoxRegion] = []
    for region in certificate.boxes:
        rest = entries.get((region.length, region.offset))
        if rest is not None:
            least = float("inf") if rest["min_margin"] is None else rest["min_margin"]
            tally = Tally(int(rest["agree"]), int(rest["disagree"]), int(rest["undecided"]), least)
            kept.append(replace(region, tally=tally, tree=rest["tree"]))
        elif (region.length, region.offset) not in entries:
            kept.append(region)
    before = sum((region.tally for region in certificate.boxes), Tally())
    left = sum((region.tally for region in kept), Tally())
    margins = [r.tally.min_margin for r in certificate.regions] + [r.tally.min_margin for r in kept]
    agree, disagree = before.agree - left.agree, before.disagree - left.disagree
    tally = Tally(
        certificate.tally.agree - agree,
        certificate.tally.disagree - disagree,
        certificate.tally.undecided + agree + disagree,
        min(margins, default=float("inf")),
    )
    return replace(certificate, tally=tally, boxes=tuple(kept))


def with_errors(certificate: Certificate, errors: tuple[tuple[int, int, float], ...]) -> Certificate:
    """Return the claim with larger error bounds of some boxes: (length, offset, bound)."""
    larger = {(length, offset): bound for length, offset, bound in errors}
    boxes = tuple(replace(r, error_bound=larger.get((r.length, r.offset), r.error_bound)) for r in certificate.boxes)
    before = max(region.error_bound for region in certificate.boxes)
    is_of_boxes = certificate.least_margin_bound == before
    bound = max(region.error_bound for region in boxes) if is_of_boxes else certificate.least_margin_bound
    return replace(certificate, boxes=boxes, least_margin_bound=bound)


def certify_first(
    subject: Subject, judged: tuple[Judged, ...], progress: Progress
) -> tuple[Certified | None, tuple[Judged, ...]]:
    """Certify what is known of the first program, None if nothing is or nobody else could check it; and of every other
    program that more than enumeration speaks for.

    Returns: the first one's certificate, and all programs as the checker leaves them.
    """
    first: Certified | None = None
    if uncheckable(subject) is not None:
        return first, judged
    confirmed: list[Judged] = []
    for rank, item in enumerate(judged):
        if item.certificate is None or (rank and item.certificate.method == "enumeration"):
            confirmed.append(item)
            continue
        try:
            found = certify(subject, item.certificate, item.differences, progress)
        except UnconfirmedError as error:
            # a difference that replays refutes whatever cannot be counted
            is_refuted = item.status == "refuted"
            confirmed.append(replace(item, status="refuted" if is_refuted else "undecided", reason=error.message))
            continue
        except BudgetError as error:
            if not rank:
                raise
            status = item.status if item.differences else "undecided"
            confirmed.append(replace(item, status=status, certificate=None, reason=error.message))
            continue
        first = first if rank else found
        confirmed.append(_as_checked(subject, item, found.claim))
    return first, tuple(confirmed)


def _as_checked(subject: Subject, judged: Judged, claim: Certificate) -> Judged:
    """Return what is known of a program by the claim that the checker accepted, which may be weaker than the first."""
    if claim is judged.certificate:
        return judged
    if judged.certificate is not None and (claim.tally, claim.regions) == (
        judged.certificate.tally,
        judged.certificate.regions,
    ):
        return replace(judged, certificate=claim)  # larger error bounds alone
    status = status_of(claim.tally, subject.domain.size)
    if status == "proved" or (status == "undecided" and judged.differences):
        status = "refuted" if judged.differences else "undecided"
    reason = judged.reason or "the checker's own bounds do not confirm all that ours say"
    return replace(judged, status=status, certificate=claim, reason=reason if status == "undecided" else judged.reason)


def write_certificate(certified: Certified, path: Path | None, subject: Subject, *, force: bool) -> CertificatePart:
    """Write a checked certificate, if there is a path to, and return its part of the report. Raises: OutputError."""
    if path is not None:
        write_file(path, certified.data, file_subject(subject), force=force)
    digest = hashlib.sha256(certified.data).hexdigest()
    return CertificatePart(file=path.name if path else None, sha256=digest, kind=certified.claim.method, checked=True)
