"""The loop finds *this* kind of program, at no more than this cost, from behaviour alone; checked on whole domains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from extract.cegis import Differences, Row, Synthesis, synthesize
from extract.domain import Domain
from extract.lang.batched import Batch, evaluate
from extract.lang.syntax import print_program
from extract.lang.terms import Program
from extract.oracle import Oracle
from extract.outcome import Budget, Certificate, Certified, Counterexample, Refuted, Tally, Verdict
from extract.progress import Silent
from extract.readout import Inputs, same_answers
from tests.unit.search.worlds import domain, oracle


class ExhaustiveVerifier:
    """Compares with the oracle on every input: the definition of the verdict, affordable on these domains."""

    def __init__(self, asked: Oracle) -> None:
        self.domain = asked.domain
        rows = [
            (tuple(int(t) for t in row), self.domain.offsets[0])
            for length in range(self.domain.min_length, self.domain.max_length + 1)
            for row in self.domain.tokens(length, 0, self.domain.size_at(length))
        ]
        self.inputs = Inputs.of(rows)
        self.answers = asked.answer(self.inputs)

    def differences(self, program: Program, limit: int) -> Differences:
        n_steps = max(self.answers.values.shape[1], 1)
        batch = Batch(self.inputs.codes(self.domain.vocabulary), self.inputs.lengths, n_steps)
        values = evaluate(program, batch, self.domain.vocabulary, self.domain.readout)
        wrong = np.flatnonzero(~same_answers(values, self.answers.values))
        return Differences(tuple(self.inputs.row(int(i)) for i in wrong[:limit]), len(wrong), len(self.inputs))

    def verdict(self, program: Program) -> Verdict:
        found = self.differences(program, 1)
        assert found.n_total is not None
        tally = Tally(found.n_compared - found.n_total, found.n_total)
        certificate = Certificate(program, "test", "real", (), tally, 0.0, 0.0, (), 0, ())
        if not found.rows:
            return Certified(certificate)
        tokens, offset = found.rows[0]
        return Refuted((Counterexample(tokens, offset, 0, (), (), 0.0, "test"),), certificate)

    def distinguish(self, left: Program, right: Program) -> tuple[Row | None, str]:
        return None, "not tried"


def solve(world: Domain, function: Callable[[tuple[int, ...]], tuple[int, ...]], **limits: int) -> Synthesis:
    asked = oracle(world, function)
    budget = Budget(n_candidates=limits.pop("n_candidates", 300_000), **limits)
    return synthesize(asked, ExhaustiveVerifier(asked), budget, seed=0, n_programs=1, progress=Silent())


@dataclass(frozen=True)
class Task:
    world: Domain
    function: Callable[[tuple[int, ...]], tuple[int, ...]]
    most_cost: int


BITS = domain("01", lengths=(1, 9))
ZERO, ONE = (BITS.vocabulary.symbol_code(c) for c in "01")
DIGITS = domain("0123", lengths=(1, 5), numeric=True)
PER_TOKEN = domain("abc", lengths=(1, 6), at="every")
COUNTS = domain("012345", lengths=(1, 5), at="every", numeric=True)
COPIES = domain("abcd", lengths=(1, 5), at="generate", max_new=7)
SORTED = domain("0123", lengths=(1, 5), at="generate", numeric=True, max_new=7)
PAIRS = domain("0123456", lengths=(2, 2), numeric=True)
INCREASING = domain("0123456789", lengths=(2, 2), at="generate", numeric=True, where="increasing(tokens)", max_new=12)

LETTERS = domain("abcn", lengths=(2, 5), where="not any(tokens == 'n')")
NONE = LETTERS.vocabulary.symbol_code("<eos>")


def follower(codes: tuple[int, ...]) -> tuple[int, ...]:
    """The token after the latest earlier occurrence of the last token, or ``<eos>`` where there is none."""
    found = [codes[i + 1] for i in range(len(codes) - 1) if codes[i] == codes[-1]]
    return (found[-1] if found else NONE,)


TASKS = {
    "induction": Task(LETTERS, follower, 8),
    "first token": Task(BITS, lambda c: (c[0],), 3),
    "last token": Task(BITS, lambda c: (c[-1],), 3),
    "parity of ones": Task(BITS, lambda c: ((ZERO, ONE)[c.count(ONE) % 2],), 11),
    "majority": Task(
        domain("01", lengths=(1, 9), where="count(tokens == '0') != count(tokens == '1')"),
        lambda c: (ONE if c.count(ONE) > c.count(ZERO) else ZERO,),
        11,
    ),
    "two last ones": Task(BITS, lambda c: ((ZERO, ONE)[int(c[-2:] == (ONE, ONE))],), 14),
    "maximum": Task(DIGITS, lambda c: (max(c),), 3),
    "range": Task(DIGITS, lambda c: (max(c) - min(c),), 6),
    "sum mod 4": Task(DIGITS, lambda c: (sum(c) % 4,), 6),
    "sum of two mod 7": Task(PAIRS, lambda c: (sum(c) % 7,), 6),
    "copy per token": Task(PER_TOKEN, lambda c: c, 1),
    "previous token or own": Task(PER_TOKEN, lambda c: (c[0], *c[:-1]), 7),
    "running count of own token": Task(
        COUNTS, lambda c: tuple(c[: i + 1].count(x) for i, x in enumerate(c)), 6
    ),
    "count of own token": Task(COUNTS, lambda c: tuple(c.count(x) for x in c), 4),
    "copy": Task(COPIES, lambda c: c, 6),
    "reverse": Task(COPIES, lambda c: c[::-1], 9),
    "sort": Task(SORTED, lambda c: tuple(sorted(c)), 7),
    "count from a to b": Task(INCREASING, lambda c: tuple(range(c[0], c[1] + 1)), 11),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_finds_a_program_that_is_right_on_the_whole_domain(name: str) -> None:
    task = TASKS[name]
    result = solve(task.world, task.function)
    assert result.candidates, "nothing was proposed"
    best = result.candidates[0]
    assert isinstance(best.verdict, Certified), print_program(best.program)
    assert best.cost <= task.most_cost, print_program(best.program)


def test_a_model_wrong_on_one_input_gives_the_program_and_its_one_exception() -> None:
    wrong = (ONE, ZERO, ONE, ONE, ZERO, ZERO, ONE, ZERO)

    def function(codes: tuple[int, ...]) -> tuple[int, ...]:
        right = codes[-1]
        return (ZERO + ONE - right,) if codes == wrong else (right,)

    result = solve(BITS, function)
    best = result.candidates[0]
    assert isinstance(best.verdict, Refuted)
    assert best.verdict.certificate is not None
    assert best.verdict.certificate.tally.disagree == 1
    assert best.verdict.counterexamples[0].tokens == tuple(BITS.vocabulary.token_id("01"[c - ZERO]) for c in wrong)


def test_renaming_symbols_and_permuting_ids_change_nothing_but_names() -> None:
    left = solve(domain("ab"), lambda c: (c[0],)).candidates[0].program
    right = solve(domain("ba"), lambda c: (c[0],)).candidates[0].program
    assert left == right


def test_the_same_seed_gives_the_same_programs() -> None:
    task = TASKS["two last ones"]
    first, second = (solve(task.world, task.function) for _ in range(2))
    assert [print_program(c.program) for c in first.candidates] == [print_program(c.program) for c in second.candidates]


def test_no_budget_gives_no_program_and_no_error() -> None:
    task = TASKS["reverse"]
    result = solve(task.world, task.function, n_rounds=0)
    assert result.candidates == ()


def test_a_model_wrong_on_many_inputs_still_gives_the_plain_program_as_the_best_known() -> None:
    def function(codes: tuple[int, ...]) -> tuple[int, ...]:
        is_wrong = len(codes) > 2 and sum((i + 3) * (c - codes[0] + 7) for i, c in enumerate(codes)) % 13 == 0
        return codes[:-1] if is_wrong else codes

    best = solve(COPIES, function, n_candidates=300_000, n_rounds=2).candidates[0]
    assert isinstance(best.verdict, Refuted)
    assert print_program(best.program) == (
        "output = first(select(indices, step, '=='), tokens)\noutput_length = length\n"
    )
