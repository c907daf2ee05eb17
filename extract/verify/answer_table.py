"""The model's answer on every input of a domain, decided once and compared with any number of programs.

A table is a slab of compact cells per offset and length, in enumeration order, with the least margin and the digest
of every run of 65,536 ranks and the ranks that no precision tried could decide. It refuses to know how answers came
about; the writer's caller says how certain each is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import DomainError
from extract.shards import BadReply, Reply, packed, unpacked, whole
from extract.verify.cells import CellFormat, Cells
from extract.vocabulary import UNDETERMINED, Codes

#: Ranks per region (outcome.Region).
REGION = 65_536
_BYTES_PER_REGION = 8 + 8 + 64


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """The answers of one offset and length: ranks 0 to ``evaluated`` of ``size``.

    ``fragile`` ranks, ascending, are evaluated but not wholly decided, ``unsure`` [fragile, cell] says which cells of
    theirs are not; ``min_margins`` and ``digests`` have one entry per
    region that was begun, margins over decided inputs only; ``bounds`` holds the rounding bound under which the input
    of each least margin was decided.
    """

    offset: int
    length: int
    size: int
    n_decisions: int
    evaluated: int
    cells: Cells
    fragile: NDArray[np.int64]
    unsure: NDArray[np.bool_]
    min_margins: NDArray[np.float64]
    bounds: NDArray[np.float64]
    digests: tuple[str, ...]

    def regions(self) -> Iterator[tuple[int, int, int]]:
        """Yield (index, start, stop) of every region of evaluated ranks."""
        for index, start in enumerate(range(0, self.evaluated, REGION)):
            yield index, start, min(start + REGION, self.evaluated)


@dataclass(frozen=True, slots=True, eq=False)
class AnswerTable:
    """All slabs of a domain in canonical order, lengths not evaluated included as empty slabs.

    ``error_bound`` is the largest rounding bound under which an input counts as decided, in logits; ``reason`` says
    for people why inputs are missing, empty if none are; ``work`` is in estimated multiply-adds.
    """

    format: CellFormat
    slabs: tuple[Slab, ...]
    semantics: str
    methods: tuple[str, ...]
    error_bound: float
    work: int
    reason: str
    assumptions: tuple[str, ...] = field(default=())

    @property
    def n_evaluated(self) -> int:
        """The number of inputs evaluated."""
        return sum(slab.evaluated for slab in self.slabs)

    @property
    def n_fragile(self) -> int:
        """The number of inputs evaluated and undecided."""
        return sum(len(slab.fragile) for slab in self.slabs)

    @property
    def min_margin(self) -> float:
        """The least margin among decided inputs, in logits; infinite if there are none."""
        return min((float(slab.min_margins.min(initial=np.inf)) for slab in self.slabs), default=float("inf"))

    @property
    def least_margin_bound(self) -> float:
        """The rounding bound under which the input of the least margin was decided; 0 if none was."""
        begun = [slab for slab in self.slabs if len(slab.min_margins)]
        if not begun:
            return 0.0
        margins = np.concatenate([slab.min_margins for slab in begun])
        return float(np.concatenate([slab.bounds for slab in begun])[margins.argmin()])

    def slab(self, offset: int, length: int) -> Slab:
        """Return the slab of an offset and length. Raises: DomainError if the table has none."""
        for slab in self.slabs:
            if slab.offset == offset and slab.length == length:
                return slab
        raise DomainError(f"offset {offset} and length {length} are not in the answer table")

    def values(self, offset: int, length: int, start: int, stop: int) -> Codes:
        """Return the answers of ranks ``start`` to ``stop``, UNDETERMINED in the cells that are not decided.

        Shape:   [rank, width], as ``Answers.values``.

        Raises:  DomainError if some of the ranks were not evaluated.
        """
        slab = self.slab(offset, length)
        if not 0 <= start <= stop <= slab.evaluated:
            raise DomainError(
                f"ranks {start} to {stop} of length {length} asked, of which {slab.evaluated} were evaluated"
            )
        values = self.format.decode(slab.cells[start:stop], slab.n_decisions)
        low, high = np.searchsorted(slab.fragile, [start, stop])
        if low < high:
            rows = slab.fragile[low:high] - start
            values[rows] = np.where(slab.unsure[low:high], np.int32(UNDETERMINED), values[rows])
        return values


class SlabWriter:
    """A slab being filled; memory is taken at once, and a rank may be written again when it is known better.

    It holds all ranks below ``size``, or those from ``first`` on only: a part that another writer absorbs.
    """

    def __init__(self, form: CellFormat, offset: int, length: int, size: int, n_decisions: int, first: int = 0) -> None:
        self.form, self.offset, self.length, self.size, self.n_decisions = form, offset, length, size, n_decisions
        self.first = self.evaluated = first
        self.error_bound = 0.0
        self._cells: Cells = np.zeros((size - first, form.width(n_decisions)), dtype=form.dtype)
        n_regions = -(-size // REGION) - first // REGION
        self._margins = np.full(n_regions, np.inf)
        self._bounds = np.zeros(n_regions)
        self._doubtful: list[NDArray[np.int64]] = []
        self._tied: list[NDArray[np.int64]] = []
        self._unsure: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []

    @property
    def n_doubtful(self) -> int:
        """The number of ranks written as doubtful that a closer look might decide."""
        return sum(len(ranks) for ranks in self._doubtful)

    @staticmethod
    def bytes_needed(form: CellFormat, size: int, n_decisions: int) -> int:
        """Return the memory of a slab of this size."""
        return size * form.width(n_decisions) * form.dtype.itemsize + (size // REGION + 1) * _BYTES_PER_REGION

    def write(
        self,
        start: int,
        cells: Cells,
        margins: NDArray[Any],
        is_sure: NDArray[np.bool_],
        bound: float,
        is_tied: NDArray[np.bool_] | None = None,
        unsure: NDArray[np.bool_] | None = None,
    ) -> None:
        """Write consecutive ranks from ``start``. Shapes: cells [cell, rank], margins, is_sure and is_tied [rank].

        ``bound`` is the rounding bound the sure ones are above; the others are kept as doubtful, those certainly tied
        for good. ``unsure`` [rank, answer cell] says which cells of theirs are not decided (None: all).
        """
        n = len(margins)
        self._cells[start - self.first : start - self.first + n] = cells.T
        doubtful, tied = ~is_sure, np.zeros(0, np.intp)
        if doubtful.any():
            margins = np.where(is_sure, margins, np.inf)
            if unsure is not None:
                self._unsure.append((np.flatnonzero(doubtful) + start, unsure[doubtful]))
            if is_tied is not None:
                tied = np.flatnonzero(doubtful & is_tied)
                doubtful = doubtful & ~is_tied
        self._note(start, np.flatnonzero(doubtful), tied, margins, bound)

    def _note(
        self, start: int, doubtful: NDArray[np.intp], tied: NDArray[np.intp], margins: NDArray[Any], bound: float
    ) -> None:
        n = len(margins)
        for ranks, kept in ((doubtful, self._doubtful), (tied, self._tied)):
            if len(ranks):
                kept.append(ranks.astype(np.int64) + start)
        if len(doubtful) + len(tied) < n:
            self.error_bound = max(self.error_bound, bound)
        for region in range(start // REGION, -(-(start + n) // REGION)):
            part = margins[max(region * REGION - start, 0) : (region + 1) * REGION - start]
            self._lower(region, float(part.min(initial=np.inf)), bound)

    def _lower(self, region: int, least: float, bound: float) -> None:
        """Take a least margin of a region; of equal ones, the first."""
        at = region - self.first // REGION
        if least < self._margins[at]:
            self._margins[at], self._bounds[at] = least, bound

    def rewrite(
        self,
        ranks: NDArray[np.int64],
        cells: Cells,
        margins: NDArray[Any],
        bounds: NDArray[Any],
        is_tied: NDArray[np.bool_] | None = None,
        unsure: NDArray[np.bool_] | None = None,
    ) -> None:
        """Write scattered ranks that were doubtful; those whose margin is not above their own bound stay so."""
        self._cells[ranks - self.first] = cells.T
        is_sure = margins > bounds
        tied = np.zeros(len(ranks), np.bool_) if is_tied is None else is_tied & ~is_sure
        self._doubtful.append(ranks[~is_sure & ~tied])
        self._tied.append(ranks[tied])
        if unsure is not None:
            self._unsure.append((ranks[~is_sure], unsure[~is_sure]))
        if is_sure.any():
            self.error_bound = max(self.error_bound, float(bounds[is_sure].max()))
        for region in np.unique(ranks[is_sure] // REGION):
            chosen = np.flatnonzero(is_sure & (ranks // REGION == region))
            least = chosen[margins[chosen].argmin()]
            self._lower(int(region), float(margins[least]), float(bounds[least]))

    def part(self, first: int, stop: int) -> SlabWriter:
        """Return an empty writer of the ranks ``first`` to ``stop``."""
        return SlabWriter(self.form, self.offset, self.length, stop, self.n_decisions, first)

    def reply(self) -> dict[str, Any]:
        """Return what a part's writer holds, as a reply."""
        return {
            "evaluated": self.evaluated, "error_bound": self.error_bound,
            "cells": packed(self._cells[: self.evaluated - self.first]),
            "margins": packed(self._margins), "bounds": packed(self._bounds),
            **{name: _ranks_reply(kept) for name, kept in (("doubtful", self._doubtful), ("tied", self._tied))},
            "unsure": [_ranks_reply([ranks for ranks, _ in self._unsure]),
                       packed(np.concatenate([marks for _, marks in self._unsure])) if self._unsure else ""],
        }  # fmt: skip

    def absorb(self, part: SlabWriter) -> None:
        """Take over what a part's writer holds; parts come in order."""
        if part.first != self.evaluated:
            raise DomainError(f"a part from rank {part.first} on, expected {self.evaluated}")
        n = part.evaluated - part.first
        self._cells[part.first - self.first : part.first - self.first + n] = part._cells[:n]
        self._doubtful += part._doubtful
        self._tied += part._tied
        self._unsure += part._unsure
        self.error_bound, self.evaluated = max(self.error_bound, part.error_bound), part.evaluated
        for index in np.flatnonzero(np.isfinite(part._margins)):
            region = part.first // REGION + int(index)
            self._lower(region, float(part._margins[index]), float(part._bounds[index]))

    def fill(self, reply: Reply) -> None:
        """Fill an empty part's writer with what a reply says. Raises: BadReply unless it has the part's shape."""
        n_regions, first = len(self._margins), self.first
        self.evaluated = whole(reply, "evaluated", first, self.size)
        n = self.evaluated - first
        self._cells[:n] = unpacked(reply.get("cells"), self.form.dtype, (n, self._cells.shape[1]))
        self._margins = unpacked(reply.get("margins"), np.float64, (n_regions,))
        self._bounds = unpacked(reply.get("bounds"), np.float64, (n_regions,))
        bound = reply.get("error_bound")
        if not isinstance(bound, float) or not 0 <= bound < np.inf or not (self._margins > 0).all():
            raise BadReply("margins or their bound, expected numbers above 0 and one that is finite")
        if not (np.isfinite(self._bounds) & (self._bounds >= 0)).all() or not self.form.holds(self._cells[:n]):
            raise BadReply("bounds or answers out of range")
        self.error_bound = bound
        self._doubtful = [self._ranks(reply.get("doubtful"))]
        self._tied = [self._ranks(reply.get("tied"))]
        match reply.get("unsure"):
            case [told, marks]:
                ranks, width = self._ranks(told), self.form.columns(self.n_decisions)
                self._unsure = [(ranks, unpacked(marks, np.bool_, (len(ranks), width)))] if len(ranks) else []
            case _:
                raise BadReply("unsure answers, expected ranks and marks")

    def _ranks(self, told: Any) -> NDArray[np.int64]:
        """Return ranks that a reply tells. Raises: BadReply unless they ascend within what it evaluated."""
        match told:
            case [int(n), text] if 0 <= n <= self.evaluated - self.first:
                ranks = unpacked(text, np.int64, (n,))
            case _:
                raise BadReply("ranks, expected their number and text")
        if n and (ranks[0] < self.first or ranks[-1] >= self.evaluated or (np.diff(ranks) <= 0).any()):
            raise BadReply("ranks out of range or order")
        return ranks

    def doubtful(self) -> NDArray[np.int64]:
        """Return the ranks written as doubtful and forget them; ``rewrite`` must follow for every one."""
        ranks = np.sort(np.concatenate(self._doubtful)) if self._doubtful else np.zeros(0, dtype=np.int64)
        self._doubtful = []
        return ranks[ranks < self.evaluated]

    def keep_doubtful(self, ranks: NDArray[np.int64]) -> None:
        """Put ranks back among the doubtful."""
        self._doubtful.append(ranks)

    def finish(self) -> Slab:
        """Return the slab as a value."""
        fragile = np.sort(np.concatenate([self.doubtful(), *self._tied]))
        fragile = fragile[fragile < self.evaluated]
        cells = self._cells[: self.evaluated]
        digests = tuple(
            region_digest(self.form.decode(cells[start : start + REGION], self.n_decisions))
            for start in range(0, self.evaluated, REGION)
        )
        unsure = np.ones((len(fragile), self.form.columns(self.n_decisions)), np.bool_)
        for ranks, marks in self._unsure:
            at = np.minimum(np.searchsorted(fragile, ranks), max(len(fragile) - 1, 0))
            kept = fragile[at] == ranks if len(fragile) else np.zeros(len(ranks), np.bool_)
            unsure[at[kept]] = marks[kept]
        n = len(digests)
        margins, bounds = self._margins[:n], self._bounds[:n]
        facts = (self.offset, self.length, self.size, self.n_decisions, self.evaluated)
        return Slab(*facts, cells, fragile, unsure, margins, bounds, digests)


def _ranks_reply(kept: list[NDArray[np.int64]]) -> list[int | str]:
    ranks = np.concatenate([np.zeros(0, np.int64), *kept]).astype(np.int64)
    return [len(ranks), packed(ranks)]


def region_digest(values: Codes) -> str:
    """Return the sha256 of answers in rank order, each row as little-endian int32 codes."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<i4").tobytes()).hexdigest()


def empty_slab(form: CellFormat, offset: int, length: int, size: int, n_decisions: int) -> Slab:
    """Return the slab of a length that was not evaluated."""
    cells: Cells = np.zeros((0, form.width(n_decisions)), dtype=form.dtype)
    none = np.zeros(0, dtype=np.int64)
    unsure = np.zeros((0, form.columns(n_decisions)), np.bool_)
    return Slab(offset, length, size, n_decisions, 0, cells, none, unsure, np.zeros(0), np.zeros(0), ())
