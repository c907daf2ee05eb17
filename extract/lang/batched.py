"""Answers of programs on many inputs: the output adapters in batches, cut so that memory stays bounded.

It turns the values of terms (``batch.py``) into the cells of ``Answers.values``; it knows no operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.batch import Batch, Value, apply, evaluate_term
from extract.lang.elementwise import ELEMENTWISE, numbers
from extract.lang.interpret import MOST_STEPS
from extract.lang.number_answers import number_answer
from extract.lang.sorts import check_program
from extract.lang.terms import Program, Term
from extract.lang.windows import aggregate
from extract.readout import ReadOut
from extract.vocabulary import ABSENT, Codes, Vocabulary, whole_codes

__all__ = ["ELEMENTWISE", "Batch", "aggregate", "apply", "evaluate", "evaluate_term", "number_codes"]

#: Cells held per intermediate value: large enough to amortise numpy's call overhead, small enough for the cache.
_CELLS_PER_CHUNK = 1 << 19


def evaluate(program: Program, batch: Batch, vocabulary: Vocabulary, readout: ReadOut) -> Codes:
    """Return a program's answers, as ``Answers.values`` describes them.

    Shape:   [input, width]: 1, the longest length (``every``), the labels, or the generated tokens (``max_new``, or
             as many as the longest answer has when that is 0).
    Raises:  ProgramError if the program does not fit the read-out or could leave 32 bits on this width.
    """
    check_program(program, vocabulary, readout)
    if program.adapter == "step":
        return _by_steps(program.term(), batch, vocabulary, readout)
    if program.adapter == "generate":
        batch = replace(batch, n_steps=_steps_needed(program, batch, vocabulary, readout))
    width = {"value": 1, "every": batch.codes.shape[1], "generate": batch.n_steps}.get(program.adapter)
    labels = readout.labels(vocabulary) if width is None else ()
    answers = np.full((len(batch), len(labels) if width is None else width), ABSENT, dtype=np.int32)
    for rows in _chunks(program, batch):
        answers[rows] = _answer_chunk(program, batch.take(rows), vocabulary, labels, is_number=readout.kind == "value")
    return answers


def number_codes(term: Term, batch: Batch, vocabulary: Vocabulary, cache: dict[Term, Value] | None = None) -> Codes:
    """Return an output term's cells as answers to a real read-out. Shape and errors: as ``evaluate_term``.

    Raises:  ProgramError also where a whole number has no code.
    """
    known: dict[Term, Value] = {} if cache is None else cache

    def value(part: Term) -> NDArray[Any]:
        return evaluate_term(part, batch, vocabulary, known)

    evaluated = value(term)  # refuses what is badly sorted before its parts are looked at
    found = number_answer(term, value, lambda part: whole_codes(value(part)), lambda c, a, b: np.where(value(c), a, b))
    return np.broadcast_to(found, evaluated.shape)


def _answer_chunk(
    program: Program, batch: Batch, vocabulary: Vocabulary, labels: tuple[str, ...], *, is_number: bool
) -> Codes:
    cache: dict[Term, Value] = {}
    if program.adapter == "multilabel":
        terms = dict(program.outputs)
        cells = np.zeros((len(batch), len(labels)), dtype=np.int32)
        for column, label in enumerate(labels):
            if label in terms:
                cells[:, column] = evaluate_term(terms[label], batch, vocabulary, cache)[:, 0]
        return cells
    term = program.term()
    values = (number_codes if is_number else evaluate_term)(term, batch, vocabulary, cache)
    if program.adapter == "value":
        return values
    if program.adapter == "every":
        return np.where(batch.mask, values, np.int32(ABSENT))[:, : batch.codes.shape[1]]
    wanted = numbers(evaluate_term(program.term("output_length"), batch, vocabulary, cache))
    return np.where(np.arange(batch.n_steps, dtype=np.int32)[None, :] < wanted, values, np.int32(ABSENT))


def _chunks(program: Program, batch: Batch) -> Iterator[slice]:
    pairs = any(subterm.operator == "select" for term in program.terms() for subterm in term.subterms())
    cells = max(batch.width, batch.n_steps) * (batch.width if pairs else 1)
    size = max(1, _CELLS_PER_CHUNK // cells)
    for start in range(0, len(batch), size):
        yield slice(start, min(start + size, len(batch)))


def _steps_needed(program: Program, batch: Batch, vocabulary: Vocabulary, readout: ReadOut) -> int:
    if readout.max_new:
        return readout.max_new
    if batch.n_steps:
        return batch.n_steps
    term = program.term("output_length")
    longest = 0
    for rows in _chunks(program, batch):
        longest = max(longest, int(numbers(evaluate_term(term, batch.take(rows), vocabulary)).max(initial=0)))
    return min(longest, MOST_STEPS)


def _by_steps(term: Term, batch: Batch, vocabulary: Vocabulary, readout: ReadOut) -> Codes:
    stop = None if readout.stop is None else int(vocabulary.token_codes[readout.stop])
    n_steps = readout.max_new or batch.n_steps or MOST_STEPS
    n, width = len(batch), batch.codes.shape[1]
    answers = np.full((n, n_steps), ABSENT, dtype=np.int32)
    size = max(1, _CELLS_PER_CHUNK // (max(width + min(n_steps, 64), 1) ** 2))
    longest = 0
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        written = _write_on(term, batch.take(rows), vocabulary, stop, n_steps)
        answers[rows, : written.shape[1]] = written
        longest = max(longest, written.shape[1])
    return answers if readout.max_new or batch.n_steps else answers[:, :longest]


def _write_on(term: Term, batch: Batch, vocabulary: Vocabulary, stop: int | None, n_steps: int) -> Codes:
    codes, lengths = batch.codes, batch.lengths.astype(np.int32)
    active: NDArray[np.bool_] = np.ones(len(batch), dtype=np.bool_)
    written: list[Codes] = []
    while len(written) < n_steps and active.any():
        so_far = Batch(codes, lengths, 0, batch.lengths)
        cells = evaluate_term(term, so_far, vocabulary)[:, 0]
        if stop is not None:
            active = active & (cells != stop)
        column = np.where(active, cells, np.int32(ABSENT))
        written.append(column)
        codes = np.concatenate([codes, np.full((len(batch), 1), ABSENT, dtype=np.int32)], axis=1)
        codes[np.flatnonzero(active), lengths[active]] = cells[active]
        lengths = lengths + active.astype(np.int32)
    return np.stack(written, axis=1) if written else np.zeros((len(batch), 0), dtype=np.int32)
