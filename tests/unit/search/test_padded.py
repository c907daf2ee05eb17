"""Padded answers: the list and where it ends are found apart, and together they give every answer."""

from __future__ import annotations

import numpy as np
import pytest

from extract.lang.batched import evaluate_term
from extract.outcome import Budget
from extract.probe.choose import choose_probes
from extract.progress import Silent
from extract.search.gate import Gate
from extract.search.padded import padded_goals
from extract.search.portfolio import Portfolio
from tests.unit.search.worlds import Function, domain, oracle

NUMBERS = domain("0123", lengths=(1, 5), at="every", numeric=True)
LETTERS = domain("abcd", lengths=(1, 5), at="every")
BUDGET = Budget(n_candidates=300_000)


def gate_of(world, function: Function) -> Gate:  # type: ignore[no-untyped-def]
    return Gate(oracle(world, function), *choose_probes(oracle(world, function), n_probes=40, n_gate=300, seed=0))


def padded(kept: list[int], n: int, mark: int) -> tuple[int, ...]:
    return (*kept, *[mark] * (n - len(kept)))


def by_frequency(x: tuple[int, ...]) -> list[int]:
    return sorted(dict.fromkeys(x), key=lambda c: (-x.count(c), x.index(c)))


RULES = {
    "once each": lambda x: list(dict.fromkeys(x)),
    "sorted, once each": lambda x: sorted(set(x)),
    "by frequency, once each": by_frequency,
    "without the second letter": lambda x: [c for c in x if c != LETTER[len(LETTER) // 2]],
}
LETTER = [0, 1, 2, 3]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("world", [NUMBERS, LETTERS], ids=["numbers", "letters"])
def test_padded_lists_are_found(world, name: str) -> None:  # type: ignore[no-untyped-def]
    mark = world.vocabulary.symbol_code("<eos>")
    codes = [int(world.vocabulary.token_codes[token]) for token in world.alphabet]

    def answer(x: tuple[int, ...]) -> tuple[int, ...]:
        kept = RULES[name](tuple(codes.index(c) for c in x))
        return padded([codes[k] for k in kept], len(x), mark)

    gate = gate_of(world, answer)
    portfolio = Portfolio(gate, BUDGET, Silent())
    next((None for _ in portfolio.stages() if portfolio.is_solved), None)
    assert gate.states[0].exact
    best = gate.states[0].exact[0].term
    values = np.broadcast_to(evaluate_term(best, gate.batch, world.vocabulary), gate.states[0].gate.codes.shape)
    assert ((values == gate.states[0].gate.codes) | ~gate.states[0].gate.mask).all()


def test_a_number_per_input_may_be_a_mark_instead() -> None:
    world = domain("abcd", lengths=(1, 5))
    mark, first = (world.vocabulary.symbol_code(name) for name in ("<eos>", "a"))
    gate = gate_of(world, lambda x: (x.count(first) if first in x else mark,))
    assert len(padded_goals(gate)) == 1
    portfolio = Portfolio(gate, BUDGET, Silent())
    next((None for _ in portfolio.stages() if portfolio.is_solved), None)
    assert gate.states[0].exact


def test_only_one_mark_beside_letters_or_numbers_is_a_padding() -> None:
    eos, bos = (LETTERS.vocabulary.symbol_code(name) for name in ("<eos>", "<bos>"))
    assert len(padded_goals(gate_of(LETTERS, lambda x: (eos, *x[1:])))) == 1
    assert not padded_goals(gate_of(LETTERS, lambda x: x))
    assert not padded_goals(gate_of(LETTERS, lambda x: (eos, bos, *x)[: len(x)]))
    assert not padded_goals(gate_of(LETTERS, lambda x: (eos,) * len(x)))
