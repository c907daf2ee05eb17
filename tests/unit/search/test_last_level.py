"""Whatever pair is planted, the virtual last level proposes it or something as cheap that gives the goal too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from extract.lang.elementwise import ELEMENTWISE
from extract.lang.terms import Term
from extract.search import last_level
from extract.search.columns import MARGIN_BITS, Effort, Terms, surprise, telling_cells
from extract.search.decisions import Learner, Tree, conditions_of, leaves_of
from extract.search.joins import modulo, residue_keys
from tests.unit.search.planted import Planted

Array = NDArray[Any]
ROWS = st.integers(0, 39)
SEEDS = st.integers(0, 1 << 16)
SHAPES = st.sampled_from(["whole", "position"])

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "(a + b) % 5": lambda a, b: (a + b) % 5,
    "(a - b) % 7": lambda a, b: (a - b) % 7,
    "min": np.minimum,
    "max": np.maximum,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "table2": lambda a, b: (3 * a + 2 * b * b) % 4,
}
CONNECTIVES: dict[str, Callable[[Array, Array], Array]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "and not": lambda a, b: a & ~b,
    "or not": lambda a, b: a | ~b,
    "xor": lambda a, b: a ^ b,
    "xnor": lambda a, b: ~(a ^ b),
}


#: What the operators of a case cost together where that is more than one; a modulus above 2 counts twice.
EXTRA = {"(a + b) % 5": 4, "(a - b) % 7": 4, "!=": 2, "and not": 2, "or not": 2, "xor": 2, "xnor": 2}


def meaning(term: Term, planted: Planted) -> Array:
    """The values of a proposal: planted rows at the leaves, the language's elementwise operators above them."""
    if term.operator == "integer":
        number = int(term.data[0])  # type: ignore[arg-type]
        return planted.integers[number - 1000].astype(np.int64) if number >= 1000 else np.int64(number)  # type: ignore
    if term.operator == "boolean":
        return planted.booleans[int(term.data[0]) - 1000]  # type: ignore[arg-type, no-any-return]
    arguments = [meaning(argument, planted) for argument in term.arguments]
    if term.operator in ("table", "table2"):
        listed = {(k if isinstance(k, tuple) else (k,)): v for k, v in term.data[0]}  # type: ignore
        keys = np.broadcast_arrays(*arguments)
        flat = zip(*(k.ravel().tolist() for k in keys), strict=True)
        return np.array([listed.get(key, term.data[1]) for key in flat]).reshape(keys[0].shape)
    return ELEMENTWISE[term.operator](*arguments)


def best(planted: Planted, wanted: Array) -> tuple[int, Term] | None:
    """The cheapest proposal over all levels whose meaning is the goal on every cell that counts."""
    goal = planted.goal(wanted)
    right = []
    for cost in (1, 2, 3):
        for cost_found, term in last_level.proposals(planted.bank, goal, cost):
            given_values = np.broadcast_to(meaning(term, planted), goal.target.shape)
            if (given_values == goal.target)[goal.mask].all():
                right.append((cost_found, repr(term), term))
    return min(right)[::2] if right else None


def is_beyond(planted: Planted, wanted: Array) -> bool:
    """Whether a boolean is neither constant nor a bank term nor the negation of one: growth itself finds those."""
    cells = wanted[planted.mask]
    rows = planted.booleans[:, planted.mask]
    return len(np.unique(cells)) > 1 and not any((row == cells).all() or (row != cells).all() for row in rows)


def cost_of(row: int) -> int:
    """What the language says a planted leaf costs: a large integer 2, a boolean constant 1, so at most 2."""
    return 2


@pytest.mark.parametrize("name", BINARY)
@given(seed=SEEDS, a=ROWS, b=ROWS, shape=SHAPES)
@settings(max_examples=8, deadline=None)
def test_a_planted_pair_of_integers_is_proposed(name: str, seed: int, a: int, b: int, shape: Any) -> None:
    planted = Planted.draw(seed, shape)
    wanted = BINARY[name](planted.integers[a], planted.integers[b])
    assume(len(np.unique(wanted[planted.mask])) > 1)
    found = best(planted, wanted)
    assert found is not None
    assert name == "table2" or found[0] <= cost_of(a) + cost_of(b) + EXTRA.get(name, 1)


@pytest.mark.parametrize("name", CONNECTIVES)
@given(seed=SEEDS, a=ROWS, b=ROWS, shape=SHAPES)
@settings(max_examples=8, deadline=None)
def test_a_planted_pair_of_booleans_is_proposed(name: str, seed: int, a: int, b: int, shape: Any) -> None:
    planted = Planted.draw(seed, shape)
    wanted = CONNECTIVES[name](planted.booleans[a], planted.booleans[b])
    assume(a != b and is_beyond(planted, wanted))
    found = best(planted, wanted)
    assert found is not None
    assert found[0] <= cost_of(a) + cost_of(b) + EXTRA.get(name, 1)


def tells(planted: Planted, wanted: Array) -> float:
    """The bits a goal has to tell beyond the planted term that is right on most cells."""
    rows = planted.booleans if wanted.dtype == np.bool_ else planted.integers
    cells = telling_cells(planted.goal(wanted))
    best_right = max(int((row == wanted)[planted.mask].sum()) for row in rows)
    return surprise(cells, max(best_right, int(np.unique(cells.codes, return_counts=True)[1].max())))


@given(seed=SEEDS, rows=st.tuples(ROWS, ROWS, ROWS))
@settings(max_examples=8, deadline=None)
def test_planted_covers_by_three_are_proposed(seed: int, rows: tuple[int, int, int]) -> None:
    planted = Planted.draw(seed, "position")
    x, y, z = (planted.integers[k] for k in rows)
    p, q, r = (planted.booleans[k] for k in rows)
    for wanted in (np.maximum(np.maximum(x, y), z), p & q & r, p | q | r):
        if tells(planted, wanted) >= 3 * np.log2(80) + MARGIN_BITS:
            assert best(planted, wanted) is not None


@given(seed=SEEDS, rows=st.tuples(ROWS, ROWS, ROWS))
@settings(max_examples=8, deadline=None)
def test_planted_choices_are_proposed(seed: int, rows: tuple[int, int, int]) -> None:
    planted = Planted.draw(seed, "position")
    x, y = (planted.integers[k] for k in rows[:2])
    wanted = np.where(planted.booleans[rows[2]], x, y)
    assume(tells(planted, wanted) >= 12 + 2 * np.log2(200))
    assert best(planted, wanted) is not None


@given(seed=SEEDS, rows=st.tuples(ROWS, ROWS), a=st.integers(60, 119), b=st.integers(60, 119))
@settings(max_examples=8, deadline=None)
def test_choices_by_a_comparison_of_any_two_integers_are_proposed(
    seed: int, rows: tuple[int, int], a: int, b: int
) -> None:
    """Only the first 48 integers are compared ahead of the choice: these are not among them."""
    planted = Planted.draw(seed, "position", n=120, high=40)
    x, y = (planted.integers[k] for k in rows)
    less = planted.integers[a] < planted.integers[b]
    wanted = np.where(less, x, y)
    differs = (x != y)[planted.mask]
    assume(5 < (differs & less[planted.mask]).sum() < differs.sum() - 5)
    assert best(planted, wanted) is not None


def test_wrong_proposals_are_rare_enough_not_to_hide_the_right_one() -> None:
    planted = Planted.draw(3, "position")
    goal = planted.goal(planted.integers[5] + planted.integers[9])
    found = [term for cost in (1, 2, 3) for _, term in last_level.proposals(planted.bank, goal, cost)]
    right = [(np.broadcast_to(meaning(t, planted), goal.target.shape) == goal.target)[goal.mask].all() for t in found]
    assert sum(right) >= 1 and np.mean(right) > 0.5


def test_the_greatest_of_three_is_written_with_comparisons_that_no_bank_holds() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 20, size=(3, 200)).astype(np.int16)
    terms = Terms(values, np.arange(3, dtype=np.int32), np.ones(3, dtype=np.int32), 0)
    nothing = Terms(np.zeros((0, 200), dtype=np.bool_), np.zeros(0, np.int32), np.zeros(0, np.int32), 0)
    target = values.max(axis=0)
    leaves = leaves_of(values == target, terms.costs)
    conditions = conditions_of(nothing, [terms])
    trees = Learner(leaves, conditions, Effort(1 << 26), 1000.0).trees()

    def given_by(tree: Tree) -> Array:
        if tree.then is None or tree.otherwise is None:
            return values[leaves.source[tree.row]]
        return np.where(conditions.bits[tree.row], given_by(tree.then), given_by(tree.otherwise))

    assert trees and (given_by(trees[0]) == target).all()
    assert trees[0].cost == 16  # three choices, three comparisons of two leaves each, four branches


@given(st.lists(st.integers(-(1 << 52), 1 << 52), min_size=1), st.integers(1, 65), st.integers(-(1 << 40), 1 << 40))
def test_modulo_is_the_remainder(numbers: list[int], modulus: int, multiple: int) -> None:
    near = [multiple * modulus + d for d in (-1, 0, 1) if abs(multiple * modulus + d) <= 1 << 52]
    whole = [*numbers, *near]
    assert modulo(np.array(whole, dtype=np.float64), modulus).tolist() == [n % modulus for n in whole]


@given(st.integers(2, 65), st.integers(0, 1000))
def test_residue_keys_are_linear_modulo_m(modulus: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-(1 << 30), 1 << 30, size=(5, 40)) for _ in range(2))
    keys, both = (residue_keys(v, modulus) for v in (a, b)), residue_keys(a + b, modulus)
    assert (modulo(sum(keys), modulus) == both).all()
    assert (residue_keys(a % modulus, modulus) == residue_keys(a, modulus)).all()
