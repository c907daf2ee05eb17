"""The composition root: from a checkpoint and a spec to a report, one line per stage.

It joins the rooms and holds no method of its own; what is reported as proved has passed the checker in this run.
Rooms that load torch are imported once the checkpoint is known to be good, so that a bad one is refused at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from extract.outcome import Budget, Spent
from extract.progress import Progress
from extract.report.files import refuse_overwrite, write_file
from extract.report.report import Report
from extract.stages_load import file_subject, load_subject, program_for
from extract.stages_run import Stopwatch

if TYPE_CHECKING:
    from extract.cegis import Synthesis
    from extract.hints import Hints
    from extract.oracle import Oracle
    from extract.shards import Shards
    from extract.stages_verify import TableVerifier

Method = Literal["auto", "bounds", "enumerate"]

_NOMINAL_SECONDS = 600.0
#: Candidates a nominal core tries in a second; it bounds the search when little time is given.
_CANDIDATES_PER_SECOND = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What ``extract verify`` is asked; ``place`` names where the program's text came from.

    ``method`` is how: by enumeration only, by bounds wherever they apply, or (``auto``) by enumeration where the domain
    fits the limits, else class by class where the network allows; else short lengths by enumeration, long ones by
    bounds, and those that bounds leave undecided by enumeration if the limits allow.
    ``seconds`` become limits on work that do not depend on the machine. ``certificate`` is where to write the
    certificate, None for nowhere; ``outputs`` are files the caller will write, refused before the work if they exist.
    """

    checkpoint: Path
    program: str
    place: str = "program"
    spec: Path | None = None
    max_length: int | None = None
    offsets: tuple[int, ...] | None = None
    semantics: str = "real"
    method: Method = "auto"
    seconds: float = _NOMINAL_SECONDS
    memory_bytes: int = 4 << 30
    certificate: Path | None = None
    outputs: tuple[Path, ...] = ()
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What ``extract run`` is asked; fields it shares with ``VerifyRequest`` mean the same.

    ``emit`` is where the first program goes as a Python file; ``strict`` prefers any exact program to exceptions.
    """

    checkpoint: Path
    spec: Path | None = None
    max_length: int | None = None
    offsets: tuple[int, ...] | None = None
    semantics: str = "real"
    method: Method = "auto"
    seconds: float = _NOMINAL_SECONDS
    memory_bytes: int = 4 << 30
    max_cost: int = 24
    n_programs: int = 1
    strict: bool = False
    seed: int = 0
    certificate: Path | None = None
    emit: Path | None = None
    outputs: tuple[Path, ...] = ()
    force: bool = False


def run(request: RunRequest, progress: Progress | None = None, shards: Shards | None = None) -> Report:
    """Find programs for a checkpoint, verify them on the whole domain, certify the first.

    ``shards`` do parts of the verification elsewhere, and change no result.
    Raises:  ExtractError with the exit code it deserves; files are written whole or not at all.
    """
    watch = Stopwatch(progress)
    watch.phase("load")
    subject = load_subject(request.checkpoint, request.spec, request.max_length, request.offsets)
    for path in filter(None, (request.certificate, request.emit, *request.outputs)):
        refuse_overwrite(path, file_subject(subject), force=request.force)

    from extract.stages_certificate import certify_first, write_certificate
    from extract.stages_hints import hints_for, mechanisms
    from extract.stages_judge import judge
    from extract.stages_model import oracle_of
    from extract.stages_report import python_text, run_report
    from extract.stages_verify import TableVerifier

    oracle = oracle_of(subject.checkpoint, subject.domain)
    with TableVerifier(subject, oracle, request, watch, shards) as verifier:
        watch.phase("probe")
        hints = hints_for(subject, request.seed)
        synthesis = _synthesis(oracle, verifier, request, hints, watch)
        judged = tuple(judge(verifier, candidate) for candidate in synthesis.candidates)
    certified, judged = certify_first(subject, judged, watch)
    written = write_certificate(certified, request.certificate, subject, force=request.force) if certified else None
    seen = mechanisms(subject, judged, request.seed)
    synthesis = replace(synthesis, properties={**synthesis.properties, **seen})
    if request.emit is not None and judged:
        write_file(request.emit, python_text(subject, judged[0].program).encode(), force=request.force)
    return run_report(subject, synthesis, judged, written, request.max_cost, watch)


def verify_program(request: VerifyRequest, progress: Progress | None = None, shards: Shards | None = None) -> Report:
    """Decide whether a program equals the model on the whole domain; any difference refutes it.

    ``shards`` do parts of the verification elsewhere, and change no result.
    Raises:  ExtractError with the exit code it deserves.
    """
    watch = Stopwatch(progress)
    watch.phase("load")
    subject = load_subject(request.checkpoint, request.spec, request.max_length, request.offsets)
    program = program_for(subject, request.program, request.place)
    for path in filter(None, (request.certificate, *request.outputs)):
        refuse_overwrite(path, file_subject(subject), force=request.force)

    from extract.stages_certificate import certify_first, write_certificate
    from extract.stages_judge import given, judge
    from extract.stages_model import oracle_of
    from extract.stages_report import verify_report
    from extract.stages_verify import TableVerifier

    oracle = oracle_of(subject.checkpoint, subject.domain)
    with TableVerifier(subject, oracle, request, watch, shards) as verifier:
        judged = judge(verifier, given(verifier, program))
    certified, (judged,) = certify_first(subject, (judged,), watch)
    written = write_certificate(certified, request.certificate, subject, force=request.force) if certified else None
    return verify_report(subject, judged, written, verifier.is_interrupted, watch)


def _synthesis(
    oracle: Oracle, verifier: TableVerifier, request: RunRequest, hints: Hints, watch: Stopwatch
) -> Synthesis:
    """Search; after Ctrl-C, what the loop had, or the program it was asking about."""
    from extract.cegis import Synthesis, synthesize

    try:
        found = synthesize(
            oracle, verifier, _budget(request), seed=request.seed, n_programs=request.n_programs, progress=watch,
            hints=hints, is_strict=request.strict,
        )  # fmt: skip
    except KeyboardInterrupt:
        found = Synthesis((), "none", Spent(), None, None, {}, (), 0, "interrupt")
    if found.budget_hit == "interrupt":
        verifier.is_interrupted = True  # what is said from here on is what is known: no bounds, no more enumeration
    return found if found.candidates else replace(found, candidates=verifier.best_so_far())


def _budget(request: RunRequest) -> Budget:
    """Return the search's limits: work that does not depend on the machine, and the clock as a guard."""
    most = Budget().n_candidates
    candidates = min(most, int(request.seconds * _CANDIDATES_PER_SECOND))
    return Budget(
        n_candidates=max(candidates, int(most * request.seconds / _NOMINAL_SECONDS)),
        max_cost=request.max_cost,
        memory_bytes=request.memory_bytes,
        seconds=request.seconds,
    )
