"""Arrays of whole domains: complete, in order, and equal to what the domain room reads from the exported spec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from extract.domain import build_domain
from extract.lang.promise import compile_promise
from extract.spec import load_spec
from extract.train.data import NOT_READ, examples, inputs, render
from extract.train.export import spec_text
from extract.train.tasks import TASKS, TaskRecord

LISTED = [record for record in TASKS.values() if record.draw is None]
each_task = pytest.mark.parametrize("record", LISTED, ids=lambda record: record.name)


def test_render_places_every_token() -> None:
    assert render("<bos> {x} <sep>", ("a", "b")) == (("<bos>", "a", "b", "<sep>"), (1, 2))
    assert render("{x[0]} + {x[1]} =", ("3", "3")) == (("3", "+", "3", "="), (0, 2))


@each_task
def test_the_spec_describes_the_same_inputs(record: TaskRecord, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(spec_text(record), encoding="utf-8")
    domain = build_domain(load_spec(path).spec, compile_promise)
    token_id = {name: i for i, name in enumerate(record.vocab)}
    ours: dict[int, list[list[int]]] = {}
    for tokens in inputs(record):
        ours.setdefault(len(tokens), []).append([token_id[name] for name in tokens])
    assert domain.size == sum(map(len, ours.values()))
    assert domain.size_is_exact
    for length, rows in ours.items():
        assert np.array_equal(domain.tokens(length, 0, domain.size_at(length)), np.array(rows))


@each_task
def test_the_spec_renders_and_reads_at_the_same_places(record: TaskRecord, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(spec_text(record), encoding="utf-8")
    domain = build_domain(load_spec(path).spec, compile_promise)
    data = examples(record)
    for length in range(record.min_length, record.max_length + 1):
        rows = np.flatnonzero(data.lengths == length)
        prompts = domain.render(domain.tokens(length, 0, domain.size_at(length)))
        assert np.array_equal(prompts, data.tokens[rows, : prompts.shape[1]])
        read = tuple(np.flatnonzero(data.targets[rows[0]] != NOT_READ))
        expected = domain.read_positions(length)
        assert read[: len(expected)] == expected
        assert domain.rendered_length(length) + domain.readout.max_new <= record.n_positions


@each_task
def test_targets_spell_the_answer(record: TaskRecord) -> None:
    data = examples(record)
    for row, tokens in enumerate(inputs(record)):
        if row % 97 and row + 1 < len(data):
            continue
        read = data.targets[row][data.targets[row] != NOT_READ]
        names = tuple(record.output_names[i] for i in read)
        stop = ("<eos>",) if record.at == "generate" else ()
        assert names == (*record.answer(tokens), *stop)
