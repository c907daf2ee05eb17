"""The bank keeps one cheapest representative per class and can rebuild every term it stores."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from extract.lang.batched import Batch, evaluate_term
from extract.lang.terms import Term
from extract.oracle import ProbeSet
from extract.probe.choose import choose_probes
from extract.search.bank import Bank, Key
from extract.search.frame import frame_of
from extract.search.layers import Grammar
from extract.vocabulary import SYMBOL_BASE
from tests.unit.search.worlds import domain, oracle

WORLD = domain("ab", lengths=(0, 5))


def grown(max_cost: int, work: int = 200_000_000) -> tuple[Bank, Grammar, ProbeSet]:
    asked = oracle(WORLD, lambda codes: (codes[-1],) if codes else (WORLD.vocabulary.symbol_code("a"),))
    probes, _ = choose_probes(asked, n_probes=40, n_gate=50, seed=0)
    bank = Bank(frame_of(probes, WORLD.vocabulary, WORLD.readout))
    grammar = Grammar(bank, constants=(0, 1, 2, 3), symbols=("a", "b"), work=work)
    for cost in range(1, max_cost + 1):
        grammar.grow(cost)
    return bank, grammar, probes


def test_stored_values_are_the_language_meaning_of_the_rebuilt_terms() -> None:
    bank, _, probes = grown(5)
    batch = Batch(probes.inputs.codes(WORLD.vocabulary), probes.inputs.lengths, 1)
    checked = 0
    for kind in ("I", "B"):
        for key in bank.keys(kind):
            values, ids = bank.rows_up_to(key, 5)
            mask = bank.frame.mask(key.shape)
            for row, term_id in islice(zip(values, ids, strict=True), 0, None, 7):
                meant = np.broadcast_to(evaluate_term(bank.term(int(term_id)), batch, WORLD.vocabulary), row.shape)
                meant = np.where(meant >= SYMBOL_BASE - 1, meant - SYMBOL_BASE, meant) if kind == "I" else meant
                assert (np.where(mask, meant, 0) == np.where(mask, row, 0)).all(), bank.term(int(term_id))
                checked += 1
    assert checked > 100


def test_representatives_are_distinct_and_in_cost_order() -> None:
    bank, _, _ = grown(5)
    for key in bank.keys("I"):
        values, ids = bank.rows_up_to(key, 5)
        rows = {row.tobytes() for row in values}
        assert len(rows) == len(values)
        costs = [bank.cost(int(i)) for i in ids]
        assert costs == sorted(costs)


def test_growth_is_reproducible() -> None:
    first, second = grown(4)[0], grown(4)[0]
    assert first.n_distinct == second.n_distinct
    assert [first.term(i) for i in range(first.n_distinct)] == [second.term(i) for i in range(second.n_distinct)]


def test_completeness_is_lost_where_the_work_ends() -> None:
    _, rich, _ = grown(4)
    _, poor, _ = grown(4, work=200_000)
    assert rich.complete_to_cost == 4
    assert poor.complete_to_cost < 4


def test_rows_that_are_not_held_are_recomputed() -> None:
    bank, _, _ = grown(5)
    poor = Bank(bank.frame, memory_bytes=20_000)
    grammar = Grammar(poor, constants=(0, 1, 2, 3), symbols=("a", "b"), work=200_000_000)
    for cost in range(1, 6):
        grammar.grow(cost)
    assert poor.memory_bytes < bank.memory_bytes
    assert poor.n_distinct == bank.n_distinct
    for kind in ("I", "B", "S"):
        for key in bank.keys(kind):
            assert any(b.n_held < b.n for b in poor.buckets.values())
            for mine, theirs in zip(poor.rows_up_to(key, 5), bank.rows_up_to(key, 5), strict=True):
                assert (mine == theirs).all(), key
            assert (poor.words_up_to(key, 5)[0] == bank.words_up_to(key, 5)[0]).all()


def test_a_term_is_placed_once_whatever_its_class_is_called() -> None:
    bank, _, _ = grown(1)
    key = Key("I", "N", "position")
    indices = int(bank.run(key, 1)[1][0])
    moved = bank.place(key, "shift", (1,), [indices], 1)
    assert bank.term(moved) == Term("shift", (Term("indices"),), (1,))
    assert bank.place(key, "shift", (1,), [indices], 1) == moved
    assert bank.place(key, "shift", (0,), [indices], 1) == indices
    values, ids = bank.rows(key, 1)
    row = values[list(ids).index(moved)]
    assert (row[:, 1:] == np.where(bank.frame.valid, np.arange(row.shape[1]) - 1, 0)[:, 1:]).all()


def test_values_of_another_frame_are_refused() -> None:
    bank, _, _ = grown(1)
    from extract.search.bank import Origin

    with pytest.raises(ValueError):
        bank.append(Key("I", "N", "position"), np.zeros((1, 3, 2), np.int16), Origin("tokens", (), (), 1))
