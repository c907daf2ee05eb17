"""A brute-force look at what was reported: some inputs of the domain, one by one, model against program.

It asks the plain forward pass and the reference interpreter, not the enumeration that made the proof, so that a proof
that is wrong on many inputs, or whose list of exceptions is, does not pass. It proves nothing itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from extract.domain import Domain
from extract.errors import DomainError
from extract.lang.interpret import answer
from extract.readout import Inputs, same_answers
from extract.report.report import Report, number
from extract.stages_load import load_subject, read_program
from extract.stages_model import oracle_of
from extract.vocabulary import ABSENT

#: Inputs tried: all of a domain up to the first size; else the shortest, some drawn at random, some exceptions listed.
N_ALL, N_SHORT, N_DRAWN, N_LISTED = 1000, 300, 500, 50
_SEED = 7


@dataclass(frozen=True, slots=True)
class SpotCheck:
    """How many inputs were tried and on how many the result says something wrong; ``first`` is one of those."""

    tried: int
    wrong: int
    first: str | None

    def as_dict(self) -> dict[str, object]:
        """Return it as plain data."""
        return asdict(self)


def spot_check(report: Report, checkpoint: Path, spec: Path | None) -> SpotCheck | None:
    """Try some inputs of a result that claims a proof; None for any other result.

    A proof is wrong where program and model differ; with exceptions, where an exception listed is none or there is a
    difference that is not listed (if all are listed).
    """
    if report.status not in ("proved", "proved_except") or report.task is None or not report.programs:
        return None
    asked = report.task.domain
    subject = load_subject(checkpoint, spec, asked.max_length, asked.offsets)
    domain, vocabulary = subject.domain, subject.domain.vocabulary
    program = read_program(report.programs[0].text, domain.readout.at, domain.readout.kind)
    listed = _listed(report, domain)
    inputs = _chosen(domain, sorted(listed)[:N_LISTED])
    said = oracle_of(subject.checkpoint, domain).answer(inputs)
    codes = inputs.codes(vocabulary)
    ours = [
        answer(program, tuple(int(c) for c in codes[i, : inputs.lengths[i]]), domain, domain.readout)
        for i in range(len(inputs))
    ]
    width = max(map(len, ours), default=0)
    told = np.array([[*row, *[ABSENT] * (width - len(row))] for row in ours], dtype=np.int32).reshape(-1, width)
    agrees = same_answers(told, said.values)
    is_complete = report.programs[0].exceptions is None or report.programs[0].exceptions.inputs is not None
    wrong: list[str] = []
    for i in range(len(inputs)):
        is_listed = report.status == "proved_except" and inputs.row(i) in listed
        may_differ = is_listed or (report.status == "proved_except" and not is_complete)
        if (is_listed and agrees[i]) or not (agrees[i] or may_differ):
            wrong.append(domain.text_of(inputs.row(i)[0]))
    return SpotCheck(len(inputs), len(wrong), wrong[0] if wrong else None)


def _listed(report: Report, domain: Domain) -> set[tuple[tuple[int, ...], int]]:
    found = report.programs[0].exceptions
    if found is None or found.inputs is None or not number(found.count):
        return set()
    ids = {name: i for i, name in enumerate(domain.vocabulary.names)}
    return {(tuple(ids[name] for name in item.tokens), item.offset) for item in found.inputs}


def _chosen(domain: Domain, listed: list[tuple[tuple[int, ...], int]]) -> Inputs:
    rows = list(listed)
    left = N_ALL if domain.size <= N_ALL else N_SHORT
    for length in domain.lengths:
        if left <= 0 or not domain.is_exact_at(length):
            break
        try:
            tokens = domain.tokens(length, 0, min(left, domain.size_at(length)))
        except DomainError:  # counted, but not to be listed: the drawn ones must do
            break
        rows += [(tuple(int(t) for t in row), offset) for row in tokens for offset in domain.offsets]
        left -= len(tokens)
    drawn = domain.sample(N_DRAWN, _SEED)
    rows += [drawn.row(int(i)) for i in np.arange(len(drawn))]
    return Inputs.of(list(dict.fromkeys(rows)))
