"""Programs against the stored answers: exact counts by region, the first differences, and the verdict.

A program is evaluated in batches on every input of the table; an input with a cell that is not decided, or that was not
evaluated, never counts as agreement: it is undecided unless a decided cell differs. This room refuses to know how a
program was found.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.batched import Batch, evaluate
from extract.lang.terms import Program
from extract.oracle import Oracle
from extract.outcome import CellTally, Certificate, Certified, Counterexample, Refuted, Region, Tally, Unknown, Verdict
from extract.readout import same_answers
from extract.verify.answer_table import REGION, AnswerTable, Slab
from extract.verify.climb import BoxClimber, Climb
from extract.verify.counterexamples import minimised, replayed
from extract.vocabulary import ABSENT, UNDETERMINED, Codes

#: Counterexamples replayed and reported by a verdict, and fragile inputs listed in a certificate.
_N_REPORTED = 10
_N_FRAGILE_LISTED = 1000
#: Slabs probed for a difference far from the first ones.
_N_SPREAD = 6
#: A program that differs on more than one evaluated input in so many is refuted without a look at longer ones.
_FAR_OFF = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """One input on which program and model differ: its place in canonical order, token ids and the model's answer."""

    offset: int
    length: int
    rank: int
    tokens: tuple[int, ...]
    model: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Exact counts; ``first`` are the first differing inputs in canonical order, fewer than all if there are many."""

    tally: Tally
    regions: tuple[Region, ...]
    first: tuple[Difference, ...]


class InputCodes:
    """The codes of a domain's inputs by region, kept while memory allows; one is shared by many comparisons."""

    def __init__(self, domain: Domain, memory_bytes: int = 1 << 28) -> None:
        self.domain = domain
        self._limit, self._held = memory_bytes, 0
        self._kept: OrderedDict[tuple[int, int, int], Codes] = OrderedDict()

    def codes(self, length: int, start: int, stop: int) -> Codes:
        """Return the codes of the strings of a length with ranks ``start`` to ``stop``. Shape: [n, length]."""
        key = (length, start, stop)
        if key not in self._kept:
            made = self.domain.vocabulary.token_codes[self.domain.tokens(length, start, stop)]
            if self._held + made.nbytes > self._limit:
                return made
            self._kept[key] = made
            self._held += made.nbytes
        return self._kept[key]


def compare(
    program: Program, table: AnswerTable, domain: Domain, *, limit: int = 1000, inputs: InputCodes | None = None
) -> Comparison:
    """Count agreements and differences on the whole domain, region by region.

    Ensures: the tally adds up to the domain's size (to its upper bound where the size is not exact).
    """
    inputs = inputs or InputCodes(domain)
    regions: list[Region] = []
    first: list[Difference] = []
    tally = Tally()
    for slab in table.slabs:
        for index, start, stop in slab.regions():
            differs = _differing(program, table, slab, start, stop, inputs)
            fragile = _fragile_between(slab, start, stop)
            # an input is undecided unless a cell of it that is decided differs already
            n_fragile = len(np.setdiff1d(fragile, differs, assume_unique=True))
            margin = float(slab.min_margins[index])
            part = Tally(stop - start - len(differs) - n_fragile, len(differs), n_fragile, margin)
            regions.append(Region(slab.length, slab.offset, start, stop, part, slab.digests[index]))
            tally = tally + part
            first += _described(table, slab, differs[: max(0, limit - len(first))], domain)
        tally = tally + Tally(undecided=slab.size - slab.evaluated)
    return Comparison(tally, tuple(regions), tuple(first))


def first_differences(
    program: Program,
    table: AnswerTable,
    domain: Domain,
    limit: int,
    *,
    inputs: InputCodes | None = None,
) -> tuple[Difference, ...]:
    """Return up to ``limit`` first differing inputs in canonical order, then a few from the longest lengths.

    Ensures: empty if and only if the program agrees with the model on every decided input.
    """
    inputs = inputs or InputCodes(domain)
    found: list[Difference] = []
    for slab, start, stop in _pieces(table):
        differs = _differing(program, table, slab, start, stop, inputs)
        found += _described(table, slab, differs[: limit - len(found)], domain)
        if len(found) >= limit:
            break
    if not found:
        return ()
    return tuple(dict.fromkeys([*found, *_spread(program, table, domain, inputs)]))


def verdict(
    program: Program,
    table: AnswerTable,
    domain: Domain,
    oracle: Oracle,
    *,
    inputs: InputCodes | None = None,
    climber: BoxClimber | None = None,
) -> Verdict:
    """Conclude: certified only if the program agrees on every input of the domain and nothing is left undecided.

    ``climber`` decides lengths that the table does not hold, unless the program is far off already.
    Raises:  SoundnessAlarm if a difference does not replay through the oracle and the reference interpreter.
    """
    inputs = inputs or InputCodes(domain)
    comparison = compare(program, table, domain, limit=_N_REPORTED, inputs=inputs)
    tally = comparison.tally
    climb = Climb((), (), "")
    if climber is not None and tally.disagree * _FAR_OFF <= table.n_evaluated:
        climb = climber.climb(program, unevaluated(table))
    if table.n_fragile and not climb.regions:
        comparison = replace(comparison, regions=with_cells(program, table, comparison.regions, inputs))
    certificate = _with_boxes(certificate_of(program, table, domain, comparison), climb)
    tally = certificate.tally
    if tally.disagree:
        examples = tuple(replayed(program, oracle, d.tokens, d.offset, d.model) for d in comparison.first)
        examples = (*examples, *climb.examples)[:_N_REPORTED]
        if not examples:
            return Unknown("a difference proved by bounds has no witness that replays", certificate)
        return Refuted((minimised(program, oracle, examples[0]), *examples[1:]), certificate)
    if not domain.size_is_exact:
        return Unknown("the number of inputs is known only from above", certificate)
    if tally.undecided or tally.agree != domain.size or table.n_fragile:
        return Unknown(_why(table, tally, climb), certificate)
    return Certified(certificate)


def unevaluated(table: AnswerTable) -> tuple[tuple[int, int], ...]:
    """Return the (length, offset) pairs of which the table has no answer."""
    return tuple((slab.length, slab.offset) for slab in table.slabs if slab.size and not slab.evaluated)


def _with_boxes(certificate: Certificate, climb: Climb) -> Certificate:
    """Return the claim with what boxes add to it: what they decide was undecided before."""
    if not climb.regions:
        return certificate
    added, before = climb.tally, certificate.tally
    undecided = before.undecided - added.agree - added.disagree
    least = min(before.min_margin, added.min_margin)
    tally = Tally(before.agree + added.agree, before.disagree + added.disagree, undecided, least)
    method = "enumeration and bounds" if certificate.regions else "bounds"
    # a box's least margin is a lower bound already: what was taken off it is the errors of float32, if any
    errors = max(region.error_bound for region in climb.regions)
    bound = errors if added.min_margin < before.min_margin else certificate.least_margin_bound
    return replace(certificate, method=method, tally=tally, boxes=climb.regions, least_margin_bound=bound)


def certificate_of(program: Program, table: AnswerTable, domain: Domain, comparison: Comparison) -> Certificate:
    """Return the claim of a comparison as a value."""
    return Certificate(
        program,
        "enumeration",
        table.semantics,
        comparison.regions,
        comparison.tally,
        table.error_bound,
        table.least_margin_bound,
        fragile_inputs(table, domain, _N_FRAGILE_LISTED),
        table.n_fragile,
        table.assumptions,
    )


def fragile_inputs(table: AnswerTable, domain: Domain, limit: int) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Return the first fragile inputs as (token ids, offset), in canonical order."""
    listed: list[tuple[tuple[int, ...], int]] = []
    for slab in table.slabs:
        for rank in slab.fragile[: limit - len(listed)]:
            row = domain.tokens(slab.length, int(rank), int(rank) + 1)[0]
            listed.append((tuple(int(t) for t in row), slab.offset))
    return tuple(listed)


def _why(table: AnswerTable, tally: Tally, climb: Climb) -> str:
    if climb.reason:
        return f"{tally.undecided} of {tally.total} inputs are undecided: {climb.reason}"
    reason = f"{tally.undecided} of {tally.total} inputs are undecided"
    if table.n_fragile:
        reason += f", {table.n_fragile} inputs have logits tied or within the rounding error of a tie"
    return f"{reason}: {table.reason}" if table.reason else reason


def _pieces(table: AnswerTable) -> Iterator[tuple[Slab, int, int]]:
    """Yield runs of evaluated ranks in canonical order, short ones first so that an early difference is cheap."""
    for slab in table.slabs:
        start, size = 0, REGION // 16
        while start < slab.evaluated:
            stop = min(start + size, slab.evaluated, (start // REGION + 1) * REGION)
            yield slab, start, stop
            start, size = stop, REGION


def _differing(
    program: Program, table: AnswerTable, slab: Slab, start: int, stop: int, inputs: InputCodes
) -> NDArray[np.int64]:
    """Return the ranks of a run on which program and model differ in a decided cell, ascending."""
    answers = _said(program, slab.length, start, stop, inputs)
    model = table.values(slab.offset, slab.length, start, stop)
    return np.flatnonzero(~same_answers(answers, model)).astype(np.int64) + start


def _said(program: Program, length: int, start: int, stop: int, inputs: InputCodes) -> Codes:
    """Return the program's answers to a run of inputs of one length. Shape: [rank, width]."""
    domain, codes = inputs.domain, inputs.codes(length, start, stop)
    batch = Batch(codes, np.full(len(codes), length, dtype=np.int32))
    return evaluate(program, batch, domain.vocabulary, domain.readout)


def with_cells(
    program: Program, table: AnswerTable, regions: tuple[Region, ...], inputs: InputCodes
) -> tuple[Region, ...]:
    """Return the regions with their single answers counted, where the read-out takes one at every position."""
    if inputs.domain.readout.at != "every":
        return regions
    return tuple(replace(region, cells=_cells(program, table, region, inputs)) for region in regions)


def _cells(program: Program, table: AnswerTable, region: Region, inputs: InputCodes) -> CellTally:
    run = (region.length, region.start, region.stop)
    model = table.values(region.offset, *run)[:, : region.length]
    said = _said(program, *run, inputs)[:, : region.length]
    is_open = model == UNDETERMINED
    n_differ = int(np.count_nonzero((said != model) & ~is_open))
    undetermined = tuple(int(n) for n in np.count_nonzero(is_open, axis=0))
    return CellTally(model.size - n_differ - sum(undetermined), n_differ, undetermined)


def _fragile_between(slab: Slab, start: int, stop: int) -> NDArray[np.int64]:
    low, high = np.searchsorted(slab.fragile, [start, stop])
    return slab.fragile[low:high]


def _described(table: AnswerTable, slab: Slab, ranks: NDArray[np.int64], domain: Domain) -> list[Difference]:
    result = []
    for rank in (int(r) for r in ranks):
        tokens = tuple(int(t) for t in domain.tokens(slab.length, rank, rank + 1)[0])
        row = table.values(slab.offset, slab.length, rank, rank + 1)[0]
        result.append(Difference(slab.offset, slab.length, rank, tokens, present(row)))
    return result


def present(row: Codes) -> tuple[int, ...]:
    """Return the cells of one answer that exist."""
    cells = [int(code) for code in row]
    while cells and cells[-1] == ABSENT:
        cells.pop()
    return tuple(cells)


def _spread(program: Program, table: AnswerTable, domain: Domain, inputs: InputCodes) -> list[Difference]:
    """Return a difference from the middle or end of some of the longest slabs, where one chunk there has any."""
    found: list[Difference] = []
    slabs = [slab for slab in table.slabs if slab.evaluated]
    for slab in slabs[-_N_SPREAD:]:
        size = min(REGION // 16, slab.evaluated)
        for start in dict.fromkeys(((slab.evaluated - size) // 2, slab.evaluated - size)):
            differs = _differing(program, table, slab, start, start + size, inputs)
            if len(differs):
                found += _described(table, slab, differs[len(differs) // 2 :][:1], domain)
                break
    return found


def counterexamples_of(
    program: Program, oracle: Oracle, differences: tuple[Difference, ...]
) -> tuple[Counterexample, ...]:
    """Replay differences through the oracle and the reference interpreter.

    Raises:  SoundnessAlarm if one does not replay.
    """
    return tuple(replayed(program, oracle, d.tokens, d.offset, d.model) for d in differences)
