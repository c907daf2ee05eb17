"""The last stage: finished values become the parts of a report. Nothing is decided here, only spelled out by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from extract.cegis import Synthesis
from extract.domain import Domain
from extract.lang.dialect import dialect
from extract.lang.emit import to_python
from extract.lang.listing import rasp_listing
from extract.lang.printing import print_program
from extract.lang.terms import Program
from extract.outcome import BoxRegion, Certificate, Counterexample, Region, Tally
from extract.report.report import (
    CertificatePart,
    CounterexamplePart,
    DomainPart,
    Exceptions,
    InputPart,
    LengthSize,
    LengthTally,
    Model,
    Numerics,
    ProgramPart,
    ReadOutPart,
    Report,
    RivalPart,
    SearchPart,
    Status,
    Task,
    VerdictPart,
    count,
    finite,
)
from extract.stages_cells import cells_part
from extract.stages_judge import INTERRUPTED, Judged, run_status, uncheckable
from extract.stages_load import Subject
from extract.stages_model import architecture_of, rows_outside
from extract.stages_run import Stopwatch
from extract.table_model import TableModel

_LISTED_FRAGILE = 20
_LISTED_COUNTEREXAMPLES = 100
_SELF_TESTS, _SELF_TEST_SEED = 24, 1


def model_part(subject: Subject) -> Model:
    """Return the checkpoint's part of the report."""
    checkpoint = subject.checkpoint
    arch, dtype = architecture_of(checkpoint)
    return Model(
        path=checkpoint.path_basename,
        sha256=checkpoint.model.digest,
        format=checkpoint.format,
        evidence=checkpoint.evidence,
        arch=arch,
        dtype=dtype,
        params=checkpoint.n_parameters,
    )


def task_part(subject: Subject) -> Task:
    """Return the spec's part of the report: the domain and read-out as used, after overrides."""
    domain, readout, spec = subject.domain, subject.domain.readout, subject.spec
    names = domain.vocabulary.names
    return Task(
        spec_sha256=subject.loaded.digest,
        name=spec.name,
        domain=domain_part(domain, spec.domain.template),
        readout=ReadOutPart(
            at=readout.at,
            kind=readout.kind,
            choices=readout.labels(domain.vocabulary),
            threshold=readout.threshold,
            stop=None if readout.stop is None else names[readout.stop],
            max_new=readout.max_new,
        ),
    )


def domain_part(domain: Domain, template: str) -> DomainPart:
    """Return the domain's part of the report, with the number of inputs of each length, offsets included."""
    n_offsets = len(domain.offsets)
    lengths = range(domain.min_length, domain.max_length + 1)
    return DomainPart(
        alphabet=tuple(domain.vocabulary.names[i] for i in domain.alphabet),
        min_length=domain.min_length,
        max_length=domain.max_length,
        offsets=domain.offsets,
        template=template,
        promise=domain.promise_text,
        size=count(domain.size),
        size_is_exact=domain.size_is_exact,
        by_length=tuple(LengthSize(n, count(domain.size_at(n) * n_offsets)) for n in lengths),
    )


def input_part(domain: Domain, tokens: tuple[int, ...], offset: int) -> InputPart:
    """Return an input by token names."""
    return InputPart(tuple(domain.vocabulary.names[i] for i in tokens), offset)


def counterexample_part(domain: Domain, found: Counterexample) -> CounterexamplePart:
    """Return a counterexample by names."""
    return CounterexamplePart(
        tokens=tuple(domain.vocabulary.names[i] for i in found.tokens),
        offset=found.offset,
        position=found.position,
        model=answer_names(domain, found.model),
        program=answer_names(domain, found.program),
        margin=finite(found.margin),
        replayed=found.replayed,
        minimal=found.minimal,
    )


def answer_names(domain: Domain, cells: tuple[int, ...]) -> tuple[str, ...]:
    """Return an answer as a person reads it: names of codes, or the labels in the set of a multilabel answer."""
    if domain.readout.kind == "multilabel":
        labels = domain.readout.labels(domain.vocabulary)
        return tuple(label for label, cell in zip(labels, cells, strict=True) if cell)
    return tuple(domain.readout.text(cell, domain.vocabulary) for cell in cells)


def tallies(domain: Domain, regions: Iterable[Region | BoxRegion]) -> tuple[LengthTally, ...]:
    """Return the counts by offset and length; inputs without a region are undecided."""
    known: dict[tuple[int, int], Tally] = {}
    for region in regions:
        key = (region.offset, region.length)
        known[key] = known.get(key, Tally()) + region.tally
    rows = []
    for offset in domain.offsets:
        for length in range(domain.min_length, domain.max_length + 1):
            size, tally = domain.size_at(length), known.get((offset, length), Tally())
            if size:
                rows.append(
                    LengthTally(
                        length=length,
                        offset=offset,
                        inputs=count(size),
                        agree=count(tally.agree),
                        disagree=count(tally.disagree),
                        undecided=count(size - tally.agree - tally.disagree),
                        min_margin=finite(tally.min_margin),
                    )
                )
    return tuple(rows)


def verdict_part(domain: Domain, certificate: Certificate | None, claim: str) -> VerdictPart:
    """Return the verdict's part of the report; the three counts add up to the domain's size."""
    tally = certificate.tally if certificate is not None else Tally()
    return VerdictPart(
        method=certificate.method if certificate is not None else "none",
        inputs_total=count(domain.size),
        agree=count(tally.agree),
        disagree=count(tally.disagree),
        undecided=count(domain.size - tally.agree - tally.disagree),
        by_length=tallies(domain, (*certificate.regions, *certificate.boxes) if certificate is not None else ()),
        claim=claim,
        cells=cells_part(domain, certificate),
    )


def numerics_part(domain: Domain, certificate: Certificate | None) -> Numerics | None:
    """Return the numerics of the evidence, None where there is none."""
    if certificate is None:
        return None
    listed = certificate.fragile[:_LISTED_FRAGILE]
    return Numerics(
        semantics=certificate.semantics,
        min_margin=finite(certificate.tally.min_margin),
        error_bound=finite(certificate.least_margin_bound),
        fragile_count=count(certificate.n_fragile),
        fragile_examples=tuple(input_part(domain, tokens, offset) for tokens, offset in listed),
    )


def exceptions_part(
    domain: Domain, certificate: Certificate | None, found: tuple[Counterexample, ...]
) -> Exceptions | None:
    """Return the inputs on which a program differs; None where nothing was counted."""
    if certificate is None:
        return None
    n = certificate.tally.disagree
    inputs = tuple(input_part(domain, item.tokens, item.offset) for item in found)
    return Exceptions(count(n), inputs if len(inputs) == n else None, None)


def claim_text(domain: Domain, status: str, certificate: Certificate | None) -> str:
    """Return the claim as one sentence that quotes the domain exactly."""
    names = ",".join(domain.vocabulary.names[i] for i in domain.alphabet)
    promise = f" with {domain.promise_text}" if domain.promise_text else ""
    offsets = ",".join(str(o) for o in domain.offsets)
    where = (
        f"the {domain.size} strings over {{{names}}} of length {domain.min_length} to {domain.max_length}"
        f"{promise}, first position {offsets}"
    )
    if domain.readout.kind == "value":
        where += f", a number agreeing with one within {domain.readout.tolerance:g} of it"
    tally = certificate.tally if certificate is not None else Tally()
    semantics = certificate.semantics if certificate is not None else "real"
    undecided = domain.size - tally.agree - tally.disagree
    if status == "proved":
        return f"program and model ({semantics}) agree on all of {where}"
    if status == "proved_except":
        return f"program and model ({semantics}) agree on all but exactly {tally.disagree} of {where}"
    return (
        f"of {where}, program and model ({semantics}) agree on {tally.agree}, differ on {tally.disagree}, "
        f"and {undecided} are undecided"
    )


def program_part(subject: Subject, judged: Judged) -> ProgramPart:
    """Return a program's part of the report, in every form it can be printed in."""
    program, domain = judged.program, subject.domain
    text = print_program(program)
    return ProgramPart(
        text=text,
        listing=rasp_listing(program),
        python=python_text(subject, program),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        cost=judged.cost,
        dialect=dialect(program),
        status=judged.status,
        exceptions=exceptions_part(domain, judged.certificate, judged.differences),
    )


def python_text(subject: Subject, program: Program) -> str:
    """Return a program as a Python file that imports nothing."""
    domain = subject.domain
    drawn = domain.sample(_SELF_TESTS, _SELF_TEST_SEED)
    rows = [drawn.row(i)[0] for i in range(len(drawn))]
    examples = tuple(tuple(domain.vocabulary.names[t] for t in row) for row in dict.fromkeys(rows))
    facts = (f"checkpoint sha256 {subject.checkpoint.model.digest}", f"spec sha256 {subject.loaded.digest}")
    return to_python(program, domain.vocabulary, domain.readout, examples, facts)


def search_part(subject: Subject, synthesis: Synthesis) -> SearchPart:
    """Return the search's part of the report."""
    rivals = tuple(
        RivalPart(
            text=rival.text,
            cost=rival.cost,
            relation=rival.relation,
            input=None if rival.row is None else input_part(subject.domain, *rival.row),
        )
        for rival in synthesis.rivals
    )
    return SearchPart(
        stage=synthesis.stage,
        evaluated=synthesis.spent.n_candidates,
        distinct=synthesis.spent.n_distinct,
        complete_to_cost=synthesis.complete_to_cost,
        unique_to_cost=synthesis.unique_to_cost,
        properties=synthesis.properties,
        rivals=rivals,
    )


def run_report(
    subject: Subject,
    synthesis: Synthesis,
    judged: tuple[Judged, ...],
    certificate: CertificatePart | None,
    max_cost: int,
    watch: Stopwatch,
) -> Report:
    """Return the report of a run."""
    status, budget_hit = run_status(synthesis, judged, max_cost)
    return _report(subject, status, judged, certificate, search_part(subject, synthesis), budget_hit, watch)


def verify_report(
    subject: Subject, judged: Judged, certificate: CertificatePart | None, is_interrupted: bool, watch: Stopwatch
) -> Report:
    """Return the report on a program that was given: any difference refutes it."""
    status: Status = "refuted" if judged.status == "proved_except" else judged.status
    budget_hit = INTERRUPTED if is_interrupted and status == "undecided" else judged.reason
    return _report(subject, status, (replace(judged, status=status),), certificate, None, budget_hit, watch)


def _report(
    subject: Subject,
    status: Status,
    judged: tuple[Judged, ...],
    certificate: CertificatePart | None,
    search: SearchPart | None,
    budget_hit: str | None,
    watch: Stopwatch,
) -> Report:
    domain = subject.domain
    evidence = judged[0].certificate if judged else None
    return Report(
        status=status,
        model=model_part(subject),
        task=task_part(subject),
        programs=tuple(program_part(subject, item) for item in judged),
        verdict=verdict_part(domain, evidence, claim_text(domain, status, evidence)),
        numerics=numerics_part(domain, evidence),
        counterexamples=counterexample_parts(domain, judged[0]) if judged else (),
        certificate=certificate,
        search=search,
        budget_hit=budget_hit,
        warnings=warnings_of(subject),
        run=watch.run_part(),
    )


def counterexample_parts(domain: Domain, judged: Judged) -> tuple[CounterexamplePart, ...]:
    """Return the differences of a program that are shown, the smallest first, then in canonical order."""
    smallest = judged.smallest
    if smallest is None:
        return ()
    others = [d for d in judged.differences if (d.tokens, d.offset) != (smallest.tokens, smallest.offset)]
    return tuple(counterexample_part(domain, item) for item in [smallest, *others][:_LISTED_COUNTEREXAMPLES])


def warnings_of(subject: Subject) -> tuple[str, ...]:
    """Return what a reader of the result should know about its domain."""
    doubt, model = uncheckable(subject), subject.checkpoint.model
    warnings = [] if doubt is None else [f"no certificate: {doubt}"]
    n_outside = rows_outside(model, subject.domain) if isinstance(model, TableModel) else 0
    if n_outside:
        warnings.append(f"{n_outside} inputs of the table are outside the domain and in no claim")
    return tuple(warnings)
