"""Idioms lie in their bank with the meaning the language gives them, and short joins of them are found."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import numpy as np
import pytest

from extract.lang.batched import Batch, evaluate_term
from extract.lang.sorts import sorts_of
from extract.oracle import ProbeSet
from extract.outcome import Budget
from extract.probe.choose import choose_probes
from extract.progress import Silent
from extract.search import idioms
from extract.search.bank import Bank, Key
from extract.search.frame import frame_of
from extract.search.gate import Gate
from extract.search.layers import Grammar
from extract.search.portfolio import Portfolio
from extract.vocabulary import SYMBOL_BASE, UNITS
from tests.unit.search.worlds import domain, oracle

SYMBOLS = domain("abc", lengths=(0, 6))
NUMBERS = domain("0123", lengths=(1, 5), numeric=True)


@pytest.mark.parametrize("world", [SYMBOLS, NUMBERS], ids=["symbols", "numbers"])
def test_every_idiom_is_in_the_bank_with_its_meaning(world: object) -> None:
    asked = oracle(world, lambda codes: (codes[-1],) if codes else (world.vocabulary.symbol_code("a"),))  # type: ignore
    probes: ProbeSet = choose_probes(asked, n_probes=40, n_gate=50, seed=0)[0]
    vocabulary = asked.domain.vocabulary
    bank = Bank(frame_of(probes, vocabulary, asked.domain.readout))
    grammar = Grammar(bank, constants=(0, 1, 2), symbols=(), work=100_000_000)
    assert next(idioms.grown(bank, grammar)) == 1
    batch = Batch(probes.inputs.codes(vocabulary), probes.inputs.lengths, 1)
    for term in idioms.idioms(is_numeric=vocabulary.numeric):
        sort = sorts_of(term, vocabulary)[term]
        if sort.kind == "S":
            continue
        tag = "" if sort.kind == "B" else "T" if sort.tag == "T" and not vocabulary.numeric else "N"
        meant = np.asarray(evaluate_term(term, batch, vocabulary))
        meant = np.where(meant >= SYMBOL_BASE - 1, meant - SYMBOL_BASE, meant) if sort.kind == "I" else meant
        values, _ = bank.rows_up_to(Key(sort.kind, tag, sort.shape), 1)  # type: ignore[arg-type]
        mask = bank.frame.mask(sort.shape)
        assert any((row == meant)[mask].all() for row in values), term


def _same_frequency(codes: tuple[int, ...]) -> tuple[int, ...]:
    counts = Counter(codes)
    return tuple(UNITS * sum(c == counts[code] for c in counts.values()) for code in codes)


def _longest_run(codes: tuple[int, ...]) -> tuple[int, ...]:
    return (UNITS * max((len(list(run)) for _, run in groupby(codes)), default=0),)


@pytest.mark.parametrize(
    ("function", "at", "most"), [(_same_frequency, "every", 22), (_longest_run, "last", 15)], ids=["counts", "runs"]
)
def test_what_is_dear_to_spell_is_found_by_its_idioms(function, at: str, most: int) -> None:  # type: ignore
    asked = oracle(domain("abc", lengths=(1, 6), at=at, kind="value"), function)
    probes, gate = choose_probes(asked, n_probes=60, n_gate=400, seed=0)
    portfolio = Portfolio(Gate(asked, probes, gate), Budget(), Silent())
    for stage in portfolio.stages():
        if stage == "idioms" and portfolio.is_solved and portfolio.states[0].best_cost() <= most:
            return
    pytest.fail("no stage of idioms found it")
