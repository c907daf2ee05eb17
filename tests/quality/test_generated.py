"""Generated answers come back as programs of known cost, exact on the whole domain, from behaviour alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract import RunRequest, run
from extract.domain import Domain
from extract.lang.syntax import print_program
from extract.lang.terms import Adapter
from extract.outcome import Certified
from tests.quality.test_synthesis import Task, solve
from tests.unit.search.worlds import Function, domain

LETTERS = domain("abcd", lengths=(1, 5), at="generate", max_new=16)
DISTINCT = domain("abcdef", lengths=(1, 5), at="generate", max_new=8, where="distinct(tokens)")
NUMBERS = domain("0123", lengths=(1, 5), at="generate", numeric=True, max_new=7)
INTERVALS = domain("0123456789", lengths=(2, 2), at="generate", numeric=True, where="increasing(tokens)", max_new=12)
STARTS = domain("0123456789", lengths=(1, 1), at="generate", numeric=True, max_new=12)
HALVES = domain("0123456789", lengths=(1, 2), at="generate", numeric=True, max_new=8)
MODULAR = domain("0123456", lengths=(2, 3), at="generate", numeric=True, max_new=6)
BITS = domain("01", lengths=(1, 8), at="generate", max_new=9)
OPERANDS = (
    "count(tokens == '+') == 1 and not (first(everywhere, tokens) == '+') and not (last(everywhere, tokens) == '+')"
)
BINARY = domain("01+", lengths=(3, 9), at="generate", max_new=10, where=OPERANDS)
TERNARY = domain("012+", lengths=(3, 7), at="generate", max_new=8, where=OPERANDS)
A = LETTERS.vocabulary.symbol_code("a")
PLUS = BINARY.vocabulary.symbol_code("+")


def spelled(value: int, base: int, *, is_reversed: bool) -> list[int]:
    """The digits of a number, most significant first unless reversed; no leading zeros."""
    digits = [value % base]
    while value := value // base:
        digits.append(value % base)
    return digits if is_reversed else digits[::-1]


def value_of(digits: list[int], base: int, *, is_reversed: bool) -> int:
    value = 0
    for digit in digits[::-1] if is_reversed else digits:
        value = base * value + digit
    return value


def adder(world: Domain, base: int, *, is_reversed: bool = False) -> Function:
    digit = [world.vocabulary.symbol_code(str(d)) for d in range(base)]
    plus = world.vocabulary.symbol_code("+")

    def add(codes: tuple[int, ...]) -> tuple[int, ...]:
        at = codes.index(plus)
        operands = ([digit.index(c) for c in part] for part in (codes[:at], codes[at + 1 :]))
        total = sum(value_of(part, base, is_reversed=is_reversed) for part in operands)
        return tuple(digit[d] for d in spelled(total, base, is_reversed=is_reversed))

    return add


def increment(codes: tuple[int, ...]) -> tuple[int, ...]:
    zero, one = (BITS.vocabulary.symbol_code(c) for c in "01")
    total = value_of([int(c == one) for c in codes], 2, is_reversed=False) + 1
    return tuple((zero, one)[total >> k & 1] for k in reversed(range(len(codes))))


def swapped(codes: tuple[int, ...]) -> tuple[int, ...]:
    at = codes.index(PLUS)
    return (*codes[at + 1 :], PLUS, *codes[:at])


def halved(codes: tuple[int, ...]) -> tuple[int, ...]:
    written = [codes[-1]]
    while written[-1]:
        written.append(written[-1] // 2)
    return tuple(written[1:])


def followed(codes: tuple[int, ...]) -> tuple[int, ...]:
    """From the last token on, what followed each token's first occurrence."""
    word = list(codes)
    while word[-1] in word[:-1] and len(word) < len(codes) + 16:
        word.append(word[word.index(word[-1]) + 1])
    return tuple(word[len(codes) :])


def fibonacci(codes: tuple[int, ...]) -> tuple[int, ...]:
    word = list(codes)
    while len(word) < len(codes) + 6:
        word.append((word[-1] + word[-2]) % 7)
    return tuple(word[len(codes) :])


TASKS: dict[str, tuple[Task, Adapter]] = {
    "copy": (Task(LETTERS, lambda c: c, 6), "generate"),
    "unique copy": (Task(DISTINCT, lambda c: c, 6), "generate"),
    "reverse": (Task(LETTERS, lambda c: c[::-1], 7), "generate"),
    "sort": (Task(NUMBERS, lambda c: tuple(sorted(c)), 6), "generate"),
    "sort descending": (Task(NUMBERS, lambda c: tuple(sorted(c, reverse=True)), 9), "generate"),
    "copy twice": (Task(LETTERS, lambda c: c + c, 10), "generate"),
    "each token twice": (Task(LETTERS, lambda c: tuple(x for x in c for _ in range(2)), 9), "generate"),
    "mirror": (Task(LETTERS, lambda c: c + c[::-1], 12), "generate"),
    "distinct tokens in order": (Task(LETTERS, lambda c: tuple(dict.fromkeys(c)), 13), "generate"),
    "tail and a": (Task(LETTERS, lambda c: (*c[1:], A), 8), "generate"),
    "swap operands": (Task(BINARY, swapped, 16), "generate"),
    "count": (Task(INTERVALS, lambda c: tuple(range(c[0], c[1] + 1)), 9), "generate"),
    "count down": (Task(STARTS, lambda c: tuple(range(c[0], -1, -1)), 7), "generate"),
    "binary addition": (Task(BINARY, adder(BINARY, 2), 38), "generate"),
    "binary addition, reversed": (Task(BINARY, adder(BINARY, 2, is_reversed=True), 35), "generate"),
    "ternary addition": (Task(TERNARY, adder(TERNARY, 3), 44), "generate"),
    "ternary addition, reversed": (Task(TERNARY, adder(TERNARY, 3, is_reversed=True), 41), "generate"),
    "binary increment": (Task(BITS, increment, 15), "generate"),
    "halving": (Task(HALVES, halved, 9), "step"),
    "following": (Task(LETTERS, followed, 7), "step"),
    "fibonacci mod 7": (Task(MODULAR, fibonacci, 8), "step"),
}


@pytest.mark.parametrize("name", TASKS)
def test_finds_the_program_of_a_generated_answer(name: str) -> None:
    task, adapter = TASKS[name]
    result = solve(task.world, task.function, n_candidates=60_000)
    assert result.candidates, "nothing was proposed"
    best = result.candidates[0]
    assert isinstance(best.verdict, Certified), print_program(best.program)
    assert best.program.adapter == adapter, print_program(best.program)
    assert best.cost <= task.most_cost, print_program(best.program)


def test_a_model_at_odds_with_its_task_on_short_inputs_is_described_exactly() -> None:
    right = adder(BINARY, 2)
    one, zero = (BINARY.vocabulary.symbol_code(c) for c in "10")
    result = solve(BINARY, lambda c: (one, zero) if len(c) == 3 else right(c), n_candidates=60_000)
    best = result.candidates[0]
    assert isinstance(best.verdict, Certified), print_program(best.program)
    assert "length <= 3" in print_program(best.program)
    assert best.cost <= 47


def test_digits_by_any_name_give_the_same_adder() -> None:
    letters = domain("xy+", lengths=(3, 7), at="generate", max_new=8, where=OPERANDS)
    digits = domain("01+", lengths=(3, 7), at="generate", max_new=8, where=OPERANDS)
    to_digit = {
        letters.vocabulary.symbol_code(a): digits.vocabulary.symbol_code(b) for a, b in zip("xy+", "01+", strict=True)
    }
    to_letter = {code: letter for letter, code in to_digit.items()}
    add = adder(digits, 2)
    found = solve(
        letters, lambda c: tuple(to_letter[d] for d in add(tuple(to_digit[x] for x in c))), n_candidates=60_000
    )
    expected = solve(digits, add, n_candidates=60_000)
    text = print_program(expected.candidates[0].program).replace("'0'", "'x'").replace("'1'", "'y'")
    assert isinstance(found.candidates[0].verdict, Certified)
    assert print_program(found.candidates[0].program) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "max_length", "most_cost"),
    [
        ("addition-best-4l2h64d3lr00drop", 8, 47),
        ("count-best-1l4h256d4lr01drop", 2, 9),
        ("unique_copy-best-2l1h64d3lr01drop", 5, 6),
    ],
)
def test_real_generating_checkpoints_are_proved(
    shared_checkpoints: Path, folder: str, max_length: int, most_cost: int
) -> None:
    report = run(RunRequest(checkpoint=shared_checkpoints / "drasp" / folder, max_length=max_length))
    assert report.status == "proved"
    assert report.programs[0].cost <= most_cost, report.programs[0].text
