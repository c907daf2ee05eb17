"""Arithmetic descriptions: exact on every cell they were fitted to, and what a person would write for known tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.domain import Domain
from extract.lang.batched import Batch, evaluate_term
from extract.lang.cost import cost
from extract.lang.syntax import print_term
from extract.lang.terms import Term
from extract.oracle import ProbeSet
from extract.probe.choose import choose_probes
from extract.readout import Inputs
from extract.search import arithmetic
from extract.search.builders import reading_effort
from extract.search.features import Feature
from extract.search.frame import frame_of
from extract.search.goals import goals_of
from extract.search.numbers import numbers
from extract.search.predicates import conditions
from tests.unit.search.worlds import domain, oracle

CELLS = st.lists(st.integers(-6, 6), min_size=12, max_size=12)
NAMES = ("indices", "length", "step")


def features_of(columns: Sequence[Sequence[int]]) -> list[Feature]:
    return [Feature(Term(name), np.array(c), 1) for name, c in zip(NAMES, columns, strict=False)]


def value(term: Term, known: dict[str, np.ndarray]) -> np.ndarray:
    """Evaluate the few operators the fits use, on named columns."""
    if term.operator in known:
        return known[term.operator]
    if term.operator in ("integer", "boolean"):
        return np.full(12, term.data[0])
    a, b, *_ = [*(value(t, known) for t in term.arguments), 0, 0]
    if term.operator == "table":
        entries, default = term.data
        return np.array([dict(entries).get(int(k), default) for k in a])  # type: ignore[arg-type, call-overload]
    meaning: dict[str, Callable[[], object]] = {
        "+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "//": lambda: a // b, "%": lambda: a % b,
        "min": lambda: np.minimum(a, b), "max": lambda: np.maximum(a, b), "abs": lambda: abs(a), "<": lambda: a < b,
        "<=": lambda: a <= b, "==": lambda: a == b, "not": lambda: ~a, "and": lambda: a & b, "or": lambda: a | b,
    }  # fmt: skip
    return np.asarray(meaning[term.operator]())


@given(st.lists(CELLS, min_size=1, max_size=3), st.data())
def test_what_is_fitted_is_exact_on_every_cell(columns: list[list[int]], data: st.DataObject) -> None:
    features = features_of(columns)
    known = {name: f.values for name, f in zip(NAMES, features, strict=False)}
    a, b = data.draw(st.tuples(st.sampled_from(features), st.sampled_from(features)))
    x, y = a.values, b.values
    targets = [x + 2 * y - 1, (x + y) % 3, abs(x - y), np.maximum(x, y), x * y, x // 2, data.draw(CELLS)]
    target = np.array(data.draw(st.sampled_from(targets)))
    for term in numbers(target, features):
        assert (value(term, known) == target).all(), term
    wanted = data.draw(st.sampled_from([x < y, (x == 1) & (y > 0), (x > 2) | (y % 2 == 0), x + y >= 3, target > 0]))
    for term in conditions(np.asarray(wanted), features):
        assert (value(term, known) == wanted).all(), term


@given(st.lists(st.integers(0, 1), min_size=4, max_size=40), st.integers(0, 3))
def test_the_intended_sum_is_found(bits: list[int], constant: int) -> None:
    x = np.arange(len(bits)) % 7
    y = np.array(bits) * 5 - np.arange(len(bits))
    features = features_of([x.tolist(), y.tolist()])
    target = 3 * x - 2 * y + constant
    assert any(True for _ in numbers(target, features))


# -- known tasks ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Task:
    world: Domain
    function: Callable[[tuple[int, ...]], tuple[int, ...]]
    most_cost: int


def of_word(letters: str, judge: Callable[[str], object], most_cost: int, lengths: tuple[int, int] = (1, 10)) -> Task:
    """A task on symbols whose answer is the second letter where the word is judged true, else the first."""
    world = domain(letters, lengths=lengths)
    codes = [world.vocabulary.symbol_code(c) for c in letters]

    def function(word: tuple[int, ...]) -> tuple[int, ...]:
        return (codes[bool(judge("".join(letters[codes.index(c)] for c in word)))],)

    return Task(world, function, most_cost)


def of_prefix(
    digits: str, judge: Callable[[tuple[int, ...]], object], most_cost: int, lengths: tuple[int, int] = (1, 8)
) -> Task:
    """A task on numbers with an answer at each position, from the prefix up to it."""
    world = domain(digits, lengths=lengths, at="every", numeric=True)
    return Task(world, lambda c: tuple(int(judge(c[: i + 1])) for i in range(len(c))), most_cost)  # type: ignore[call-overload]


def is_balanced(word: Sequence[object], opening: object) -> bool:
    depth = 0
    for letter in word:
        depth += 1 if letter == opening else -1
        if depth < 0:
            return False
    return depth == 0


def quotient_bit(bits: tuple[int, ...], divisor: int) -> int:
    number = int("".join(map(str, bits)), 2)
    return number // divisor - 2 * (int("0" + "".join(map(str, bits[:-1])), 2) // divisor)


def majority(values: tuple[int, ...]) -> int:
    return max(sorted(set(values)), key=values.count)


def spring(forces: tuple[int, ...]) -> int:
    position = velocity = 0
    for force in forces:
        velocity += force - position
        position += velocity
    return position


SIX = ("012345", (1, 4))
TASKS = {
    "only ones": of_word("01", lambda w: "0" not in w, 6),
    "even zeros and even ones": of_word("01", lambda w: w.count("0") % 2 == w.count("1") % 2 == 0, 14),
    "zeros less ones divisible by three": of_word("01", lambda w: (w.count("0") - w.count("1")) % 3 == 0, 14),
    "one descent at most": of_word("01", lambda w: re.fullmatch("0*1*0*1*", w), 11),
    "parity": of_word("01", lambda w: w.count("1") % 2, 10),
    "divisible by five": of_word("01", lambda w: int(w, 2) % 5 == 0, 14),
    "at least three": of_word("01", lambda w: w.count("1") >= 3, 8),
    "balanced": of_word("ab", lambda w: is_balanced(w, "a"), 17),
    "majority": of_word("01", lambda w: w.count("1") > w.count("0"), 9),
    "length a multiple of four, one letter": of_word("ab", lambda w: w.count("b") == 0 == len(w) % 4, 13, (0, 10)),
    "sum mod 3 so far": of_prefix("012", lambda c: sum(c) % 3, 4, (1, 6)),
    "last three alternate": of_prefix("01", lambda c: (0, 0, *c)[-3:] in ((0, 1, 0), (1, 0, 1)), 10),
    "balanced so far": of_prefix("01", lambda c: is_balanced(c, 0), 15),
    "palindrome so far": of_prefix("01", lambda c: c == c[::-1], 12),
    "parity of the last four": of_prefix("01", lambda c: sum(c[-4:]) % 2, 7),
    "sum of the last five": of_prefix("012", lambda c: sum(c[-5:]), 5, (1, 7)),
    "difference of the last two": of_prefix(SIX[0], lambda c: c[-1] - (0, *c)[-2], 3, SIX[1]),
    "carry over five": of_prefix(SIX[0], lambda c: sum(c) // 5 - sum(c[:-1]) // 5, 6, SIX[1]),
    "quotient bit of three": of_prefix("01", lambda c: quotient_bit(c, 3), 8),
    "quotient bit of seven": of_prefix("01", lambda c: quotient_bit(c, 7), 8),
    "even numbers so far": of_prefix(SIX[0], lambda c: sum(x % 2 == 0 for x in c), 6, SIX[1]),
    "greatest so far": of_prefix(SIX[0], max, 3, SIX[1]),
    "commonest so far of two": of_prefix("01", majority, 7),
    "commonest so far of three": of_prefix("012", majority, 18, (1, 6)),
    "sum of sums": of_prefix(SIX[0], lambda c: sum(sum(c[:i]) for i in range(1, len(c) + 1)), 3, SIX[1]),
    "spring": of_prefix(SIX[0], spring, 7, SIX[1]),
    "index parity": of_prefix("01", lambda c: (len(c) - 1) % 2, 3),
}  # fmt: skip


def found_terms(task: Task) -> list[Term]:
    """Return the proposals that are right on every input of the domain."""
    asked = oracle(task.world, task.function)
    world = task.world
    _, gate = choose_probes(asked, n_probes=40, n_gate=600, seed=0)
    batch = Batch(gate.inputs.codes(world.vocabulary), gate.inputs.lengths, 1)
    (goal,) = goals_of(gate, frame_of(gate, world.vocabulary, world.readout), world.readout, world.vocabulary)
    rows = [tuple(row) for n in world.lengths for row in world.tokens(n, 0, world.size_at(n)).tolist()]
    inputs = Inputs.of([(row, 0) for row in rows])
    everything = ProbeSet(inputs, asked.answer(inputs))
    whole = Batch(inputs.codes(world.vocabulary), inputs.lengths, 1)
    mask = whole.mask if goal.shape == "position" else np.ones((len(whole), 1), dtype=np.bool_)
    right = []
    for term in dict.fromkeys(term for _, term in arithmetic.proposals({0: goal}, batch, world)):
        values = evaluate_term(term, whole, world.vocabulary)
        if (values == everything.answers.values)[mask].all():
            right.append(term)
    return sorted(right, key=lambda term: (cost(term), reading_effort(term), print_term(term)))


@pytest.mark.parametrize("name", TASKS)
def test_describes_a_known_task_exactly_and_briefly(name: str) -> None:
    found = found_terms(TASKS[name])
    assert found, "nothing was right"
    assert cost(found[0]) <= TASKS[name].most_cost, print_term(found[0])


def test_renaming_the_symbols_renames_the_description() -> None:
    task = TASKS["balanced"]
    other = of_word("xy", lambda w: is_balanced(w, "x"), 17)
    renamed = [print_term(t).replace("'x'", "'a'").replace("'y'", "'b'") for t in found_terms(other)]
    assert renamed == [print_term(t) for t in found_terms(task)]
