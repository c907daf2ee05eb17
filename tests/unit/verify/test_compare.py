"""Counts are exact, regions add up, the first differences come first, and an early stop finds what is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.domain import Domain
from extract.lang.interpret import answer
from extract.lang.syntax import parse_program
from extract.lang.terms import Adapter
from extract.outcome import Refuted
from extract.progress import Silent
from extract.readout import Inputs
from extract.verify.answer_table import AnswerTable
from extract.verify.compare import InputCodes, compare, first_differences, fragile_inputs, present, verdict
from extract.verify.counterexamples import ask, minimised
from extract.verify.enumerate import enumerate_model
from extract.vocabulary import ABSENT
from tests.networks import random_network
from tests.unit.verify.enumeration_cases import BruteOracle, all_inputs, make_domain

PROGRAMS: dict[Adapter, tuple[str, ...]] = {
    "value": ("output = 'a'", "output = 'b' if count(tokens == 'a') < 2 else 'c'"),
    "every": ("output = tokens", "output = 'a' if indices == 1 else tokens"),
    "multilabel": ("output['a'] = length < 3", "output['b'] = any(tokens == 'b')\noutput['c'] = length == 2"),
    "generate": ("output = 'a'\noutput_length = 2", "output = 'b' if step < 1 else 'a'\noutput_length = length"),
}  # fmt: skip
READOUTS: dict[Adapter, dict[str, Any]] = {
    "value": {"at": "last"},
    "every": {"at": "every"},
    "multilabel": {"at": "last", "kind": "multilabel"},
    "generate": {"at": "generate", "stop": "<e>", "max_new": 3},
}


def world(adapter: Adapter, seed: int = 3) -> tuple[Domain, AnswerTable, BruteOracle]:
    network = random_network(seed, n_layers=2, n_ctx=10)
    domain = make_domain(template="<s> {x}", max_length=4, offsets=(0, 2), **READOUTS[adapter])
    return domain, enumerate_model(network, domain, progress=Silent()), BruteOracle(network, domain)


@pytest.mark.parametrize("text", [t for texts in PROGRAMS.values() for t in texts])
def test_counts_equal_one_by_one_comparison(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.verify.answer_table.REGION", 6)
    monkeypatch.setattr("extract.verify.compare.REGION", 6)
    adapter = next(a for a, texts in PROGRAMS.items() if text in texts)
    domain, table, oracle = world(adapter)
    program = parse_program(text, adapter)
    inputs = all_inputs(domain)
    model = oracle.answer(inputs).values
    codes = inputs.codes(domain.vocabulary)
    wrong = []
    for i in range(len(inputs)):
        mine = answer(program, tuple(int(c) for c in codes[i, : inputs.lengths[i]]), domain, domain.readout)
        if mine != present(model[i]):
            wrong.append(inputs.row(i))
    comparison = compare(program, table, domain)
    assert comparison.tally.disagree == len(wrong) and comparison.tally.total == domain.size
    assert [(d.tokens, d.offset) for d in comparison.first] == wrong
    assert all(r.stop - r.start <= 6 and r.tally.total == r.stop - r.start for r in comparison.regions)
    assert sum(r.tally.disagree for r in comparison.regions) == len(wrong)
    early = first_differences(program, table, domain, 2)
    assert [(d.tokens, d.offset) for d in early[:2]] == wrong[:2]
    assert {(d.tokens, d.offset) for d in early} <= set(wrong) and bool(early) == bool(wrong)
    if wrong:
        found = verdict(program, table, domain, oracle)
        assert isinstance(found, Refuted)
        assert [(e.tokens, e.offset) for e in found.counterexamples[1:]] == wrong[1:10]
        assert all(e.replayed and e.model != e.program for e in found.counterexamples)


def test_codes_are_kept_only_while_memory_allows() -> None:
    domain, _, _ = world("value")
    inputs = InputCodes(domain, memory_bytes=4 * 8)
    assert inputs.codes(2, 0, 4) is inputs.codes(2, 0, 4)
    assert inputs.codes(3, 0, 8) is not inputs.codes(3, 0, 8)
    assert np.array_equal(inputs.codes(3, 0, 8), domain.vocabulary.token_codes[domain.tokens(3, 0, 8)])


def test_fragile_inputs_are_listed_in_order() -> None:
    domain, table, _ = world("value")
    slabs = list(table.slabs)
    slabs[1] = replace(slabs[1], fragile=np.array([0, 3]), unsure=np.ones((2, 1), np.bool_))
    slabs[5] = replace(slabs[5], fragile=np.array([1]), unsure=np.ones((1, 1), np.bool_))
    doubtful = replace(table, slabs=tuple(slabs))
    a, b = domain.alphabet
    assert fragile_inputs(doubtful, domain, 10) == (((a, a), 0), ((b, b), 0), ((a, b), 2))
    assert fragile_inputs(doubtful, domain, 1) == (((a, a), 0),)
    counted = compare(parse_program("output = 'a'", "value"), doubtful, domain)
    assert counted.tally.undecided == doubtful.n_fragile == 3 and counted.tally.total == domain.size


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(0, 3))
def test_present_strips_absent_cells_at_the_end(cells: list[int], n_absent: int) -> None:
    assert present(np.array(cells + [ABSENT] * n_absent, dtype=np.int32)) == tuple(cells)


@settings(max_examples=20)
@given(st.integers(0, 500))
def test_minimal_counterexamples_have_no_smaller_neighbour(seed: int) -> None:
    network = random_network(seed, n_layers=1, n_ctx=10)
    domain = make_domain(template="<s> {x}", max_length=4, promise={"where": "any(tokens == 'a')"})
    oracle, program = BruteOracle(network, domain), parse_program("output = 'a'", "value")
    inputs = all_inputs(domain)
    examples = [ask(program, oracle, *inputs.row(i)) for i in range(len(inputs))]
    wrong = {e.tokens for e in examples if e is not None}
    if not wrong:
        return
    start = next(e for e in reversed(examples) if e is not None)
    least = minimised(program, oracle, start)
    assert least.minimal and least.tokens in wrong
    assert (len(least.tokens), least.tokens) <= (len(start.tokens), start.tokens)
    for i in range(len(least.tokens)):
        assert least.tokens[:i] + least.tokens[i + 1 :] not in wrong
    assert Inputs.of([(least.tokens, 0)]).row(0) == (least.tokens, 0)
