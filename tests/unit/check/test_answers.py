"""The checker's answers are those of the project's own oracle and interpreter, for every read-out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.check.answers import Model, program_answers
from extract.check.anykind import forward_of
from extract.check.forward import DOUBLE, Forward
from extract.check.program import parse
from extract.check.reader import read_network
from extract.check.spec import read_task
from extract.domain import build_domain
from extract.lang.interpret import answer
from extract.lang.printing import print_program
from extract.lang.promise import compile_promise
from extract.model.network_oracle import NetworkOracle
from extract.readout import Inputs, same_answers
from extract.spec import load_spec
from extract.vocabulary import ABSENT
from tests.laws.terms import NUMBERS, SYMBOLS
from tests.laws.test_emit import drawn_program
from tests.networks import random_network, write_gpt2, write_neutral

NAMES = ["b", "a", "c", "<bos>", "<eos>"]
READOUTS: dict[str, dict[str, Any]] = {
    "last": {"at": "last"},
    "first": {"at": "first"},
    "every": {"at": "every"},
    "choices": {"at": "last", "choices": ["c", "a"]},
    "one choice": {"at": "last", "choices": ["c"]},
    "multilabel": {"at": "last", "kind": "multilabel", "threshold": 0.25, "choices": ["a", "b", "<eos>"]},
    "generate": {"at": "generate", "stop": "<eos>", "max_new": 4},
    "generate to the end": {"at": "generate", "stop": "b", "max_new": 0},
    "generate without stop": {"at": "generate", "max_new": 3},
}


@pytest.mark.parametrize("name", READOUTS)
@pytest.mark.parametrize("offset", (0, 2))
def test_the_model_answers_as_the_oracle_says(name: str, offset: int, tmp_path: Path) -> None:
    domain_table = {"min_length": 0, "max_length": 3, "template": "<bos> {x} a", "offsets": [offset]}
    spec = {"version": 1, "tokens": {"vocab": NAMES}, "domain": domain_table, "readout": READOUTS[name]}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    domain = build_domain(load_spec(tmp_path / "spec.json").spec, compile_promise)
    task = read_task(tmp_path / "spec.json", 3, [offset])
    rng = np.random.default_rng(0)
    for seed in range(4):
        network = random_network(seed, n_layers=1 + seed % 2, n_ctx=12)
        model = Model(task, Forward(read_network(write_gpt2(network, tmp_path))))
        oracle = NetworkOracle(network, domain)
        for length in domain.lengths:
            tokens = domain.tokens(length, 0, domain.size_at(length))
            drafts = rng.integers(0, 3, (len(tokens), model.width(length, offset))) + (1 << 30)
            cells, margins, bounds, _ = model.answers(tokens.astype(np.int64), offset, drafts)
            rows = [(tuple(int(t) for t in row), offset) for row in tokens]
            expected = oracle.answer(Inputs.of(rows))
            assert cells.shape[1] == model.width(length, offset)
            assert same_answers(cells.astype(np.int32), expected.values).all()
            assert np.allclose(margins, expected.margins, atol=1e-4)
            assert (bounds < 1e-6).all()


def test_generation_looks_both_ways_where_the_network_does(tmp_path: Path) -> None:
    """With bidirectional attention every token written changes what earlier positions hold."""
    table = {"min_length": 1, "max_length": 3, "template": "<bos> {x}"}
    readout = {"at": "generate", "stop": "<eos>", "max_new": 4}
    spec = {"version": 1, "tokens": {"vocab": NAMES}, "domain": table, "readout": readout}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    domain = build_domain(load_spec(tmp_path / "spec.json").spec, compile_promise)
    task, n_several = read_task(tmp_path / "spec.json", 3, [0]), 0
    for seed in range(4):
        network = random_network(seed, n_layers=2, n_ctx=12, attention="bidirectional")
        model = Model(task, forward_of(read_network(write_neutral(network, tmp_path)), DOUBLE))
        tokens = domain.tokens(3, 0, domain.size_at(3))
        expected = NetworkOracle(network, domain).answer(Inputs.of([(tuple(map(int, row)), 0) for row in tokens]))
        for draft in (np.full((len(tokens), 4), ABSENT), np.full((len(tokens), 4), 1 << 30), expected.values):
            drafted = np.pad(draft, ((0, 0), (0, 4 - draft.shape[1])), constant_values=ABSENT).astype(np.int64)
            cells, margins, _, _ = model.answers(tokens.astype(np.int64), 0, drafted)
            assert same_answers(cells.astype(np.int32), expected.values).all()
            assert np.allclose(margins, expected.margins, atol=1e-6)
        n_several += int((expected.values != ABSENT).sum() > 2 * len(tokens))
    assert n_several > 1


READ: dict[str, dict[str, Any]] = {
    "value": {"at": "last"},
    "every": {"at": "every"},
    "multilabel": {"at": "last", "kind": "multilabel"},
    "generate": {"at": "generate", "max_new": 4},
    "step": {"at": "generate", "stop": "", "max_new": 3},
}


@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@pytest.mark.parametrize("adapter", READ)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_programs_answer_as_the_interpreter_says(
    adapter: str, vocabulary: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    names = [n for n in vocabulary.names if "<" not in n and n != "+"]
    readout = READ[adapter] | ({"choices": list(vocabulary.names[:3])} if adapter != "step" else {})
    readout |= {"stop": vocabulary.names[0]} if "stop" in readout else {}
    tokens_table = {"vocab": list(vocabulary.names), "numeric": vocabulary.numeric}
    domain_table = {"alphabet": names, "min_length": 0, "max_length": 3, "template": "<bos> {x}"}
    folder = tmp_path_factory.getbasetemp() / f"{adapter}-{vocabulary.numeric}"
    folder.mkdir(exist_ok=True)
    path = folder / "spec.json"
    path.write_text(json.dumps({"version": 1, "tokens": tokens_table, "domain": domain_table, "readout": readout}))
    domain, task = build_domain(load_spec(path).spec, compile_promise), read_task(path, 3, [0])
    program = drawn_program(data, adapter, vocabulary)
    lets, length = parse(print_program(program)), data.draw(st.integers(0, 3))
    tokens = domain.tokens(length, 0, domain.size_at(length)).astype(np.int64)
    width = {"value": 1, "every": length, "multilabel": 3, "generate": 4, "step": 3}[adapter]
    found = program_answers(task, lets, adapter, tokens, width)
    assert found.shape == (len(tokens), width)
    for row, cells in zip(tokens, found, strict=True):
        codes = tuple(int(c) for c in vocabulary.token_codes[row])
        expected = answer(program, codes, vocabulary, domain.readout)
        assert [int(c) for c in cells if c != ABSENT] == list(expected), print_program(program)


@pytest.mark.parametrize(("n_in", "n_out", "fits"), ((5, 5, True), (6, 5, False), (5, 6, False), (4, 5, False)))
def test_only_networks_of_the_tasks_tokens_and_labels_fit(n_in: int, n_out: int, fits: bool, tmp_path: Path) -> None:
    table = {"min_length": 0, "max_length": 3, "template": "<bos> {x}"}
    spec = {"version": 1, "tokens": {"vocab": NAMES}, "domain": table, "readout": {"at": "last", "outputs": NAMES}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    network = random_network(0, d_vocab=n_in, d_vocab_out=n_out, tied=False, n_ctx=6)
    model = Model(read_task(tmp_path / "spec.json", 3, [0]), Forward(read_network(write_neutral(network, tmp_path))))
    assert model.fits(3, 0) == model.fits(3, 2) == fits
    assert not model.fits(3, 3)
