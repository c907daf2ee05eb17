"""A brute-force look at what was reported: some inputs of the domain, one by one, model against program.

It asks the plain forward pass and the reference interpreter, not the enumeration that made the proof, so that a proof
that is wrong on many inputs, or whose list of exceptions is, does not pass. It proves nothing itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from extract.domain import Domain
from extract.lang.interpret import answer
from extract.readout import Inputs
from extract.report.report import Report, number
from extract.stages_load import load_subject, read_program
from extract.stages_model import oracle_of
from extract.vocabulary import ABSENT, UNDETERMINED

#: Inputs tried: the shortest, as many drawn at random, and the exceptions listed.
N_SHORT, N_DRAWN, N_LISTED = 300, 500, 50
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
    is_complete = report.programs[0].exceptions is None or report.programs[0].exceptions.inputs is not None
    wrong: list[str] = []
    for i in range(len(inputs)):
        row = inputs.row(i)
        ours = answer(program, tuple(int(c) for c in codes[i, : inputs.lengths[i]]), domain, domain.readout)
        model = tuple(int(v) for v in said.values[i] if v != ABSENT)
        differs = len(ours) != len(model) or any(
            a != b for a, b in zip(ours, model, strict=True) if UNDETERMINED not in (a, b)
        )
        expected = row in listed if report.status == "proved_except" else False
        if differs != expected and (is_complete or expected or report.status == "proved"):
            wrong.append(domain.text_of(row[0]))
    return SpotCheck(len(inputs), len(wrong), wrong[0] if wrong else None)


def _listed(report: Report, domain: Domain) -> set[tuple[tuple[int, ...], int]]:
    found = report.programs[0].exceptions
    if found is None or found.inputs is None or not number(found.count):
        return set()
    ids = {name: i for i, name in enumerate(domain.vocabulary.names)}
    return {(tuple(ids[name] for name in item.tokens), item.offset) for item in found.inputs}


def _chosen(domain: Domain, listed: list[tuple[tuple[int, ...], int]]) -> Inputs:
    rows = list(listed)
    left = N_SHORT
    for length in domain.lengths:
        if left <= 0 or not domain.is_exact_at(length):
            break
        tokens = domain.tokens(length, 0, min(left, domain.size_at(length)))
        rows += [(tuple(int(t) for t in row), offset) for row in tokens for offset in domain.offsets]
        left -= len(tokens)
    drawn = domain.sample(N_DRAWN, _SEED)
    rows += [drawn.row(int(i)) for i in np.arange(len(drawn))]
    return Inputs.of(list(dict.fromkeys(rows)))
