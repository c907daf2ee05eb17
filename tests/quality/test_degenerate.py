"""Domains, models and budgets at the edge: the loop ends with what is known, and says so."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from extract.cegis import Synthesis, synthesize
from extract.errors import ContradictionError
from extract.oracle import Oracle
from extract.outcome import Budget, Certified, Refuted
from extract.progress import Silent
from extract.readout import Answers, Inputs
from tests.quality.test_synthesis import ExhaustiveVerifier, solve
from tests.unit.search.worlds import domain, oracle

BITS = domain("ab", lengths=(1, 6))
A, B = (BITS.vocabulary.symbol_code(c) for c in "ab")


@pytest.mark.parametrize("at", ["last", "every", "generate"])
@pytest.mark.parametrize("lengths", [(1, 1), (0, 0), (0, 4)])
def test_constant_models_and_tiny_domains_are_solved(at: str, lengths: tuple[int, int]) -> None:
    alphabet = "a" if lengths == (1, 1) else "ab"
    world = domain(alphabet, lengths=lengths, at=at, max_new=2 if at == "generate" else 0)
    code = world.vocabulary.symbol_code("a")
    result = solve(world, lambda c: (code,) * (len(c) if at == "every" else 1))
    assert isinstance(result.candidates[0].verdict, Certified)
    assert result.candidates[0].cost <= 2


@pytest.mark.parametrize("limits", [{"n_candidates": 0}, {"max_cost": 0}, {"n_rounds": 0}, {"seconds": 1e-9}])
def test_a_budget_of_nothing_ends_at_once_without_an_error(limits: dict[str, Any]) -> None:
    result: Synthesis = solve(BITS, lambda c: ((A, B)[c.count(B) % 3 == 1],), **limits)
    assert result.spent.n_candidates < 1000
    assert all(isinstance(c.verdict, Certified | Refuted) for c in result.candidates)


def test_no_memory_to_hold_values_changes_no_program() -> None:
    function: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda c: ((A, B)[c.count(B) % 2],)  # noqa: E731
    plain, bare = (solve(BITS, function, memory_bytes=n, n_candidates=20_000).candidates[0] for n in (1 << 30, 0))
    assert isinstance(bare.verdict, Certified)
    assert bare.program == plain.program


class _Fickle(Oracle):
    """Answers every question anew."""

    def __init__(self) -> None:
        self.domain = BITS
        self._turn = itertools.count()

    def answer(self, inputs: Inputs) -> Answers:
        turn = next(self._turn)
        return oracle(BITS, lambda c: ((A, B)[(turn + len(c)) % 3 == 0],)).answer(inputs)


def test_a_model_that_contradicts_itself_is_refused_with_the_input_and_both_answers() -> None:
    asked = _Fickle()
    with pytest.raises(ContradictionError, match=r"at offset 0 with '[ab]' and then with '[ab]'"):
        synthesize(asked, ExhaustiveVerifier(asked), Budget(), seed=0, n_programs=1, progress=Silent())


def test_ctrl_c_at_any_question_leaves_the_best_so_far() -> None:
    """Interrupt the n-th membership query, for several n: the loop returns, and says that it was interrupted."""
    function: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda c: ((A, B)[c.count(B) % 2],)  # noqa: E731
    seen = 0
    for n in (4, 6, 9, 14):
        interrupted = _InterruptedAt(n, oracle(BITS, function))
        verifier = ExhaustiveVerifier(oracle(BITS, function))
        result = synthesize(interrupted, verifier, Budget(), seed=0, n_programs=1, progress=Silent())
        seen += result.budget_hit == "interrupt"
    assert seen


class _InterruptedAt(Oracle):
    """Ctrl-C arrives while the n-th question is being answered."""

    def __init__(self, n: int, asked: Oracle) -> None:
        self.domain = asked.domain
        self._asked, self._left = asked, n

    def answer(self, inputs: Inputs) -> Answers:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt
        return self._asked.answer(inputs)
