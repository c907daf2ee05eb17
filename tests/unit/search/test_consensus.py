"""Consensus: a plain rule is found under errors that no program describes, and never invented where there is none."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

import pytest

from extract.lang.interpret import answer
from extract.lang.terms import Program
from extract.oracle import TableOracle
from extract.outcome import Budget
from extract.probe.choose import choose_probes
from extract.search.consensus import consensus_programs
from tests.unit.search.worlds import Function, domain, oracle

WORLD = domain("0123", lengths=(1, 6), at="every", numeric=True)
BUDGET = Budget(n_candidates=600_000)


def histogram(codes: tuple[int, ...]) -> tuple[int, ...]:
    counts = Counter(codes)
    return tuple(counts[code] for code in codes)


def erring(rule: Function, percent: int) -> Function:
    """The rule with another answer at one position of some inputs, chosen by their digests."""

    def answer(codes: tuple[int, ...]) -> tuple[int, ...]:
        digest = sha256(bytes(codes)).digest()
        right = list(rule(codes))
        if digest[0] * 100 < percent * 256:
            right[digest[1] % len(right)] ^= 1 + digest[2] % 3
        return tuple(right)

    return answer


def found(model: TableOracle, seed: int = 0) -> list[Program]:
    gate = choose_probes(model, n_probes=40, n_gate=400, seed=seed)[1]
    return consensus_programs(model, gate, BUDGET, lambda: False, seed=seed)[0]


@pytest.mark.parametrize("percent", [3, 10])
def test_rule_that_errs_is_found(percent: int) -> None:
    best = found(oracle(WORLD, erring(histogram, percent)))[0]
    for codes in [(0,), (1, 1, 2), (3, 0, 3, 3, 0), (2, 2, 2, 2, 2, 2)]:
        assert answer(best, codes, WORLD, WORLD.readout) == histogram(codes)


def test_draws_are_repeatable_and_end_in_time() -> None:
    model = oracle(WORLD, erring(histogram, 5))
    assert found(model, seed=3) == found(model, seed=3)
    gate = choose_probes(model, n_probes=40, n_gate=400, seed=0)[1]
    assert consensus_programs(model, gate, BUDGET, lambda: True, seed=0)[0] == []


def test_few_inputs_have_no_consensus() -> None:
    small = domain("01", lengths=(1, 4), at="every")
    model = oracle(small, lambda codes: codes)
    gate = choose_probes(model, n_probes=8, n_gate=30, seed=0)[1]
    assert consensus_programs(model, gate, BUDGET, lambda: False, seed=0)[0] == []
