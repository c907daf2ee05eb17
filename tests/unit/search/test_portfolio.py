"""A search that its clock cut short says so, wherever it was."""

from __future__ import annotations

import numpy as np
import pytest

from extract.outcome import Budget
from extract.probe.choose import choose_probes
from extract.progress import Silent
from extract.search.gate import Gate
from extract.search.portfolio import Portfolio
from tests.unit.search.worlds import domain, oracle


@pytest.mark.parametrize("stage", ["closed form", "bank", "heads", "never"])
def test_a_search_cut_short_says_so(stage: str) -> None:
    answers = np.random.default_rng(0).integers(0, 2, 1 << 9)  # no program of a few parts
    world = domain(lengths=(1, 8))
    codes = world.vocabulary.token_codes
    zero, one = int(codes[0]), int(codes[1])
    asked = oracle(world, lambda x: (one if answers[int("1" + "".join("01"[c == one] for c in x), 2)] else zero,))
    probes, gate = choose_probes(asked, n_probes=40, n_gate=300, seed=0)
    over: list[str] = []
    budget = Budget(max_cost=4, n_candidates=20_000)
    portfolio = Portfolio(Gate(asked, probes, gate), budget, Silent(), lambda: bool(over))
    seen = []
    for name in portfolio.stages():
        seen.append(name)
        if name == stage:
            over.append(name)
    assert "divided" in seen and not portfolio.is_solved
    assert portfolio.is_cut_short == (stage != "never")
