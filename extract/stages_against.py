"""The stage that compares two programs on the domain of a spec; no checkpoint is read, whether there is one or not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from extract.domain import Domain, build_domain
from extract.errors import ExtractError, UsageError
from extract.lang.cost import program_cost
from extract.lang.printing import print_program
from extract.lang.promise import compile_promise
from extract.lang.terms import Program
from extract.progress import Progress
from extract.report.comparison import ComparedLength, ComparisonReport, Difference, ProgramText
from extract.report.report import ReadOutPart, count
from extract.spec import load_spec, with_overrides
from extract.stages_load import find_spec, located, program_on
from extract.stages_report import answer_names, domain_part
from extract.stages_run import Stopwatch
from extract.verify.against import Compared, compare_programs


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstRequest:
    """What ``extract verify --against`` is asked: two programs with where they came from, and a spec or a checkpoint
    that has one beside it. ``seconds`` guard the solver, ``memory_bytes`` bound it."""

    left: str
    right: str
    places: tuple[str, str]
    spec: Path | None
    checkpoint: Path | None = None
    max_length: int | None = None
    seconds: float = 600.0
    memory_bytes: int = 2 << 30


def verify_against(request: AgainstRequest, progress: Progress | None = None) -> ComparisonReport:
    """Decide whether two programs are equal on every input of a domain.

    Raises:  ExtractError with the exit code it deserves.
    """
    watch = Stopwatch(progress)
    watch.phase("load")
    if request.spec is None and request.checkpoint is None:
        raise UsageError("two programs are compared on a domain", hint="name its spec with --spec")
    path = request.spec or find_spec(request.checkpoint or Path(), None)
    loaded = load_spec(path)
    used = with_overrides(loaded.spec, max_length=request.max_length)
    try:
        domain = build_domain(used, compile_promise)
    except ExtractError as error:
        raise located(error, str(path)) from error.__cause__
    texts = zip((request.left, request.right), request.places, strict=True)
    left, right = (program_on(domain, text, place) for text, place in texts)
    watch.phase("verify")
    found = compare_programs(
        left, right, domain, seconds=request.seconds, memory_bytes=request.memory_bytes, progress=watch
    )
    return _report(left, right, domain, used.domain.template, loaded.digest, found, watch)


def _report(
    left: Program, right: Program, domain: Domain, template: str, digest: str, found: Compared, watch: Stopwatch
) -> ComparisonReport:
    parts, readout = found.lengths, domain.readout
    same, differ, undecided = (sum(getattr(p, name) for p in parts) for name in ("same", "differ", "undecided"))
    difference = None
    if found.example is not None:
        example = found.example
        difference = Difference(
            tuple(domain.vocabulary.names[t] for t in example.tokens),
            answer_names(domain, example.left_answer),
            answer_names(domain, example.right_answer),
            found.is_first,
        )
    return ComparisonReport(
        status="equal" if found.is_equal else "different" if found.example is not None else "undecided",
        left=_text(left),
        right=_text(right),
        spec_sha256=digest,
        domain=domain_part(domain, template),
        readout=ReadOutPart(
            at=readout.at,
            kind=readout.kind,
            choices=readout.labels(domain.vocabulary),
            threshold=readout.threshold,
            stop=None if readout.stop is None else domain.vocabulary.names[readout.stop],
            max_new=readout.max_new,
        ),
        claim=_claim(domain, found, same + differ + undecided, differ),
        equal_from_length=found.holds_from,
        inputs_total=count(same + differ + undecided),
        same=count(same),
        differ=count(differ),
        undecided=count(undecided),
        by_length=tuple(
            ComparedLength(
                p.length, count(p.same + p.differ + p.undecided), count(p.same), count(p.differ), count(p.undecided),
                p.method,
            )
            for p in parts
        ),
        difference=difference,
        reason=found.reason,
        run=watch.run_part(),
    )  # fmt: skip


def _text(program: Program) -> ProgramText:
    text = print_program(program)
    return ProgramText(text, hashlib.sha256(text.encode()).hexdigest(), program_cost(program))


def _claim(domain: Domain, found: Compared, total: int, differ: int) -> str:
    """Return the claim as one sentence that quotes the domain."""
    names = ",".join(domain.vocabulary.names[i] for i in domain.alphabet)
    promise = f" with {domain.promise_text}" if domain.promise_text else ""
    where = f"strings over {{{names}}} of length {domain.min_length}"
    if found.holds_from is not None:
        return f"the programs agree on all {where} or more, however long{promise}"
    where = f"the {total} {where} to {domain.max_length}{promise}"
    if found.is_equal:
        return f"the programs agree on all of {where}"
    least = "at least" if any(p.undecided for p in found.lengths) else "exactly"
    return f"the programs differ on {least} {differ} of {where}"
