"""Memory states say what they should of every string, and quotients over paths stay under their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.check.memory import Remembering
from extract.check.slices import Slice
from extract.verify.affine import Affine, Floats
from extract.verify.boxes import Split
from extract.verify.context import Context, Memory, memory_of
from extract.verify.paths import Paths
from extract.verify.quotients import Quotients

SEEDS = st.integers(0, 2**32 - 1)


def random_paths(rng: np.random.Generator, length: int, n_letters: int) -> Paths:
    """Strings that some random automaton with three states accepts, labelled by its last state; some steps are none."""
    while True:
        table = rng.integers(0, 3, (3, n_letters)).astype(np.int32)
        table[rng.random(table.shape) < 0.15] = -1
        found = Paths(n_letters, (table[:1], *[table] * (length - 1)), np.arange(3)).only(rng.random(3) < 0.8)
        if found is not None:
            return found


def walked(context: Context, string: tuple[int, ...]) -> list[int]:
    states = [0]
    for table, letter in zip(context.paths.next, string, strict=True):
        states.append(int(table[states[-1], letter]))
    return states


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_states_say_what_was_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_letters, length = int(rng.integers(2, 4)), int(rng.integers(1, 6))
    paths = random_paths(rng, length, n_letters)
    memory = Memory(int(rng.integers(1, 4)), tuple(range(int(rng.integers(0, n_letters)))))
    context = Context.of(paths, memory)
    strings = [tuple(int(a) for a in row) for row in paths.strings()]
    assert context.paths.size == paths.size == sum(context.counts()) == len(strings)
    terms = rng.normal(size=(length, n_letters, 3))
    totals = [np.array([terms[p, a] for p, a in enumerate(string)]) for string in strings]
    ends = np.array([walked(context, string)[-1] for string in strings])
    for string in strings:
        for depth, state in enumerate(walked(context, string)):
            assert tuple(context.keys[depth][state].tolist()) == memory.of(string[:depth])
    for depth in range(length + 1):
        states = np.array([walked(context, string)[depth] for string in strings])
        best = context.largest(terms[:depth])
        for state in range(len(context.keys[depth])):
            sums = [total[:depth].sum(axis=0) for total, s in zip(totals, states, strict=True) if s == state]
            assert np.allclose(best[state], np.max(sums, axis=0))
    chosen = frozenset(tuple(key) for key in context.keys[-1][:: int(rng.integers(1, 4))].tolist())
    parts = dict(Split("ends", memory=memory, ends=chosen).apply(paths))
    for key, part in parts.items():
        assert all((memory.of(tuple(row)) in chosen) == bool(key) for row in part.strings().tolist())
    assert sum(part.size for part in parts.values()) == paths.size
    assert ends.max() < len(context.keys[-1])


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_the_checkers_states_are_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_letters, length = int(rng.integers(2, 4)), int(rng.integers(1, 6))
    paths = random_paths(rng, length, n_letters)
    memory = Memory(int(rng.integers(1, 4)), (0,))
    part = Slice(n_letters, tuple(table.astype(np.int64) for table in paths.next), paths.labels[:, None])
    mine, other = Context.of(paths, memory), Remembering(part, memory.recent, list(memory.counted))
    terms = rng.normal(size=(length, n_letters, 2))
    for depth in range(length + 1):
        pairs = []
        for keys, best in ((mine.keys, mine.largest(terms[:depth])), (other.keys, other.largest(terms[:depth]))):
            rows = np.concatenate([keys[depth], best], axis=1).round(9).tolist()
            pairs.append(sorted(rows))
        assert pairs[0] == pairs[1]
    ends = [[int(v) for v in key] for key in other.keys[-1][::2]]
    inside, outside = other.ending(ends, True), other.ending(ends, False)
    assert sum(side.size() for side in (inside, outside) if side is not None) == paths.size


@pytest.mark.parametrize(("recent", "counted"), ((0, []), (1, [3]), (1, [True]), (1.0, []), (99, [])))
def test_the_checker_refuses_other_memories(recent: object, counted: list[object]) -> None:
    part = Slice(2, (np.zeros((1, 2), np.int64),), np.zeros((1, 1), np.int64))
    with pytest.raises(ValueError, match="out of range"):
        Remembering(part, recent, counted)


def test_small_alphabets_are_counted_and_remembered_for_longer() -> None:
    assert memory_of(2) == Memory(5, (1,))
    assert memory_of(3) == Memory(3, (1, 2))
    assert memory_of(40).recent == 1 and memory_of(40).counted == ()


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_quotients_stay_under_their_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    bottom = 10.0 ** rng.uniform(-2, 2, (3, n))
    top = rng.normal(size=(3, n)) * 10.0 ** rng.uniform(-2, 2)
    true = (top / bottom).max(axis=1)
    known = Quotients(bottom.min(axis=1), bottom.max(axis=1), (3,))

    def rest(t: Floats) -> Floats:
        return np.asarray((top - t[:, None] * bottom).max(axis=1))

    t = rng.normal(size=3)
    for _ in range(6):
        known.learn(t, rest(t) + 1e-13)
        assert (known.high >= true).all()
        t = known.next()
        assert np.isfinite(t).all()
    for _ in range(30):
        known.learn(t, rest(t))
        t = known.next()
    assert (known.high >= true - 1e-12 * np.abs(true)).all()
    unknown = Quotients(np.array([0.0]), np.array([1.0]), (1,))
    unknown.learn(np.zeros(1), np.ones(1))
    assert unknown.high[0] == np.inf


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_forms_side_by_side_are_forms(seed: int) -> None:
    """Every operation on an array of forms is the operation on each."""
    rng = np.random.default_rng(seed)
    x = Affine(rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 5)) * 0.3, np.abs(rng.normal(size=(3, 4))) * 0.01)
    alone = [x[i] for i in range(3)]
    root, roots = x.square_mean(1e-5).inverse_root(), [y.square_mean(1e-5).inverse_root() for y in alone]
    made = [x.centred(), x.activated("gelu_tanh"), x.times(root), x.folded(2), x.compacted(2)]
    each = [[y.centred(), y.activated("gelu_tanh"), y.times(r), y.folded(2), y.compacted(2)]
            for y, r in zip(alone, roots, strict=True)]  # fmt: skip
    for i in range(3):
        for whole, part in zip(made, each[i], strict=True):
            assert np.allclose(whole.centre[i], part.centre) and np.allclose(whole.reach[i], part.reach)
    cut = x.compacted(3)
    assert (cut.reach >= x.reach - 1e-12).all()
