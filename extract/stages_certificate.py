"""The stage after the proof: the claim as a file, and the independent check that everything reported has passed.

The checker shares no code with what made the claim; this stage hands it files, as anyone else would.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from extract.certificate_file import certificate_bytes
from extract.check.check import CheckResult, check_certificate
from extract.check.reader import Unreadable
from extract.errors import CertificateError, SoundnessAlarm
from extract.outcome import Certificate, Counterexample
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
    """A certificate as a file that the checker has accepted."""

    data: bytes
    coverage: str
    method: str


def certify(
    subject: Subject, certificate: Certificate, exceptions: tuple[Counterexample, ...], progress: Progress
) -> Certified:
    """Store a claim and have it checked independently before anybody sees it.

    ``exceptions`` are the inputs that differ, in canonical order, as many as a certificate lists.
    Raises:  SoundnessAlarm with the checker's reasons if it does not accept the claim.
    """
    progress.phase("check")
    data = certificate_bytes(
        certificate,
        subject.domain,
        network=subject.checkpoint.network,
        spec_digest=subject.loaded.digest,
        counterexamples=exceptions,
    )
    with tempfile.TemporaryDirectory(prefix="extract-") as folder:
        path = Path(folder) / "claim.cert.json"
        path.write_bytes(data)
        found = recheck(path, subject.path, subject.spec_path, False, progress)
    if not found.accepted:
        raise SoundnessAlarm(
            f"the independent checker rejects the certificate: {'; '.join(found.reasons[:3])}",
            hint="believe nothing of this result, and please report it",
        )
    return Certified(data, found.coverage, certificate.method)


def certify_first(subject: Subject, judged: tuple[Judged, ...], progress: Progress) -> Certified | None:
    """Certify what is known of the first program; None if nothing is, or nobody else could check it."""
    if not judged or judged[0].certificate is None or uncheckable(subject) is not None:
        return None
    return certify(subject, judged[0].certificate, judged[0].differences, progress)


def write_certificate(certified: Certified, path: Path | None, subject: Subject, *, force: bool) -> CertificatePart:
    """Write a checked certificate, if there is a path to, and return its part of the report. Raises: OutputError."""
    if path is not None:
        write_file(path, certified.data, file_subject(subject), force=force)
    digest = hashlib.sha256(certified.data).hexdigest()
    return CertificatePart(file=path.name if path else None, sha256=digest, kind=certified.method, checked=True)
