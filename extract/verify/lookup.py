"""A table's answers on a whole domain: rows read off in enumeration order, nothing evaluated and nothing rounded.

An input without a row is doubtful and stays so. This room refuses to know any program.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from extract.domain import Domain
from extract.oracle import LookupOracle
from extract.progress import Progress
from extract.readout import Inputs
from extract.verify.answer_table import REGION, AnswerTable, Slab, SlabWriter, empty_slab
from extract.verify.cells import CellFormat, Cells
from extract.vocabulary import Codes

SEMANTICS = "exact"
ASSUMPTIONS = ("the model is the table: whatever the rows were taken from is not part of the claim",)


def enumerate_table(
    oracle: LookupOracle,
    *,
    memory_bytes: int = 4 << 30,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
) -> AnswerTable:
    """Look the answer to every input of the domain up, shortest first, as far as the memory allows.

    Ensures: every input evaluated and not fragile has the answer of its row, exactly.
    """
    domain, form = oracle.domain, CellFormat.of(oracle.domain.readout, oracle.domain.vocabulary)
    slabs: list[Slab] = []
    reason, left, done = "", memory_bytes, 0
    for offset in domain.offsets:
        for length in domain.lengths:
            size, width = domain.size_at(length), n_decisions(oracle, length)
            if not size:
                continue
            needed = SlabWriter.bytes_needed(form, size, width)
            if not domain.is_exact_at(length):
                reason = reason or f"inputs of length {length} cannot be listed"
            elif needed > left:
                reason = reason or f"the answers of length {length} need {needed:,} bytes, more than are left"
            elif stop():
                reason = reason or "stopped before all inputs were looked up"
            if reason:
                slabs.append(empty_slab(form, offset, length, size, width))
                continue
            left -= needed
            slabs.append(_slab(oracle, form, SlabWriter(form, offset, length, size, width)))
            done += size
            progress.advance(done, domain.size, "inputs")
    return AnswerTable(form, tuple(slabs), SEMANTICS, ("table lookup",), 0.0, done, reason, ASSUMPTIONS)


def n_decisions(oracle: LookupOracle, length: int) -> int:
    """Return the cells of an answer to inputs of a length: 1, the length, or the most tokens generated."""
    readout = oracle.domain.readout
    if readout.at == "generate":
        return readout.max_new or oracle.table.outputs.shape[1]
    return length if readout.at == "every" else 1


def _slab(oracle: LookupOracle, form: CellFormat, writer: SlabWriter) -> Slab:
    domain: Domain = oracle.domain
    for start in range(0, writer.size, REGION):
        stop = min(start + REGION, writer.size)
        tokens = domain.tokens(writer.length, start, stop)
        n = len(tokens)
        inputs = Inputs(tokens, np.full(n, writer.length, np.int32), np.full(n, writer.offset, np.int32))
        answers = oracle.answer(inputs)
        cells = _cells(form, answers.values, writer.n_decisions)
        writer.write(start, cells, answers.margins, answers.margins > 0, 0.0)
        writer.evaluated = stop
    return writer.finish()


def _cells(form: CellFormat, values: Codes, width: int) -> Cells:
    """Return the cells [cell, row] of answers [row, cell], absent ones filled up to a width in decisions."""
    if form.n_labels:
        return np.packbits(values == 1, axis=1).T
    order = np.argsort(form.codes, kind="stable")
    cells: Cells = np.full((width, len(values)), form.absent, dtype=form.dtype)
    cells[: values.shape[1]] = order[np.searchsorted(form.codes, values, sorter=order)].T[:width]
    return cells
