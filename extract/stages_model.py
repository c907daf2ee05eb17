"""What kind of model a checkpoint is, settled in one place: how it is asked, enumerated, and fitted to a task.

It joins the rooms that know networks or tables and decides nothing about programs. Torch is loaded for networks only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from extract.domain import Domain
from extract.errors import CheckpointError, SpecError
from extract.formats import Checkpoint
from extract.model.fit import check_fit
from extract.oracle import LookupOracle, Oracle
from extract.progress import Progress
from extract.shards import Shards
from extract.table_model import TableModel
from extract.verify.answer_table import AnswerTable

#: Inputs looked up at a time for the first that a table lacks.
_CHUNK = 1 << 16


def oracle_of(checkpoint: Checkpoint, domain: Domain) -> Oracle:
    """Return the model behind membership queries."""
    if isinstance(checkpoint.model, TableModel):
        return LookupOracle(checkpoint.model, domain)
    from extract.model.network_oracle import NetworkOracle

    return NetworkOracle(checkpoint.model, domain)


def answers_of(
    checkpoint: Checkpoint,
    domain: Domain,
    *,
    semantics: str,
    work_limit: int,
    memory_bytes: int,
    progress: Progress,
    shards: Shards | None,
    stop: Callable[[], bool],
) -> AnswerTable:
    """Decide the model's answer on every input of the domain that the budget allows.

    A table's answers are read off whatever semantics is asked for: its own is ``exact``, which implies every other.
    """
    if isinstance(checkpoint.model, TableModel):
        from extract.verify.lookup import enumerate_table

        oracle = LookupOracle(checkpoint.model, domain)
        return enumerate_table(oracle, memory_bytes=memory_bytes, progress=progress, stop=stop)
    from extract.verify.enumerate import enumerate_model

    return enumerate_model(
        checkpoint.model, domain, semantics=semantics, work_limit=work_limit, memory_bytes=memory_bytes,
        progress=progress, shards=shards, stop=stop,
    )  # fmt: skip


def architecture_of(checkpoint: Checkpoint) -> tuple[dict[str, Any], str]:
    """Return what a report says of the model's shape, and the type of its numbers."""
    model = checkpoint.model
    if isinstance(model, TableModel):
        return asdict(model.shape), model.dtype
    return asdict(model.architecture), model.architecture.dtype


def check_model(checkpoint: Checkpoint, domain: Domain) -> None:
    """Check that a task and a model fit each other.

    Raises:  SpecError, DomainError or CheckpointError naming both sides.
    """
    if isinstance(checkpoint.model, TableModel):
        try:
            _check_table(checkpoint.model, domain)
        except CheckpointError as error:
            raise error.at(checkpoint.file.name) from None
    else:
        check_fit(checkpoint.model.architecture, domain)


def rows_outside(table: TableModel, domain: Domain) -> int:
    """Return how many different inputs of a table are not in the domain, and so not in any claim."""
    return len(table.distinct) - sum(_n_held(table, domain, length) for length in domain.lengths)


def _check_table(table: TableModel, domain: Domain) -> None:
    if domain.readout.kind == "value":
        raise SpecError("$.readout.kind: 'value', but a table's outputs are ids", hint="use argmax or multilabel")
    if domain.offsets != (0,):
        raise SpecError(
            f"$.domain.offsets: {list(domain.offsets)}, but a table knows no positions, expected [0]",
            hint="leave offsets out",
        )
    _check_ids("inputs", table.inputs, len(domain.vocabulary.names), "names in $.tokens.vocab")
    _check_answers(table, domain)
    for length in domain.lengths:
        if domain.is_exact_at(length):
            _check_complete(table, domain, length)


def _check_ids(name: str, ids: Any, n: int, what: str) -> None:
    bad = ids >= n
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise CheckpointError(f"{name}[{row}, {column}] is {ids[row, column]}, expected an id of the {n} {what}")


def _check_answers(table: TableModel, domain: Domain) -> None:
    """Every row has as many cells as the read-out reads, each an output that may be an answer."""
    readout, outputs = domain.readout, table.outputs
    names, n_cells = domain.vocabulary.output_names, (outputs >= 0).sum(axis=1)
    if readout.kind == "multilabel":
        expected = np.full(len(outputs), len(readout.choices))
        _check_ids("outputs", outputs, 2, "values 0 and 1 of a label")
    else:
        _check_ids("outputs", outputs, len(names), "outputs")
        allowed = np.zeros(len(names) + 1, dtype=np.bool_)
        allowed[list(readout.choices)] = allowed[-1] = True
        if readout.stop is not None and domain.vocabulary.names[readout.stop] in names:
            allowed[names.index(domain.vocabulary.names[readout.stop])] &= readout.at != "generate"
        if not allowed[outputs].all():
            row, column = (int(i) for i in np.argwhere(~allowed[outputs])[0])
            name = names[outputs[row, column]]
            raise CheckpointError(f"outputs[{row}, {column}] is {name!r}, which is no choice of the spec's read-out")
        expected = np.asarray({"every": table.lengths, "generate": n_cells}.get(readout.at, np.ones_like(n_cells)))
    wrong = n_cells != expected
    if wrong.any():
        row = int(wrong.argmax())
        raise CheckpointError(
            f"outputs[{row}] has {n_cells[row]} cells, expected {expected[row]}: the spec reads the answer at "
            f"{readout.at!r}, kind {readout.kind!r}"
        )
    if readout.at == "generate" and readout.max_new and outputs.shape[1] and n_cells.max() > readout.max_new:
        row = int(n_cells.argmax())
        raise CheckpointError(f"outputs[{row}] has {n_cells[row]} tokens, expected at most max_new = {readout.max_new}")


def _n_held(table: TableModel, domain: Domain, length: int) -> int:
    """Return how many different inputs of a length are both in the table and in the domain."""
    rows = table.distinct[table.lengths[table.distinct] == length]
    tokens = table.inputs[rows, :length] if length <= table.inputs.shape[1] else table.inputs[:0, :0]
    tokens = tokens[np.isin(tokens, domain.alphabet).all(axis=1)]
    return int(domain.holds(tokens).sum()) if len(tokens) else 0


def _check_complete(table: TableModel, domain: Domain, length: int) -> None:
    """Refuse a table that lacks an input of a length: a claim about every input needs an answer to every input."""
    size, held = domain.size_at(length), _n_held(table, domain, length)
    if held == size:
        return
    for start in range(0, size, _CHUNK):
        tokens = domain.tokens(length, start, min(start + _CHUNK, size))
        missing = table.find(tokens) < 0
        if missing.any():
            names = domain.text_of(tuple(int(t) for t in tokens[int(missing.argmax())]))
            raise CheckpointError(
                f"has no row for input {names}, and lacks {size - held} of the {size} inputs of length {length}",
                hint="a table must hold the whole domain: lower max_length, or state its promise with $.domain.where",
            )
