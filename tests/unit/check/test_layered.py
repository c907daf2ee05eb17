"""The checker's bounds of two layers, step by step: what each form must hold, computed plainly or at its worst."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.check import layered, memory, spans
from extract.check.forward import Forward
from extract.check.layered import Layered, Roots, positive
from extract.check.memory import Remembering
from extract.check.reader import Unreadable, read_network
from extract.check.slices import Slice
from extract.check.spans import Form
from extract.check.spec import read_task
from extract.formats.checkpoint import load_checkpoint
from tests.networks import random_network, write_gpt2
from tests.residuals import WIDE, drawn_forms, residuals, room, worst_attention
from tests.soundness.test_two_layer_bounds import checked_case

SEEDS = st.integers(0, 2**32 - 1)


def drawn_slice(rng: np.random.Generator, length: int, n_letters: int) -> Slice:
    """Strings that some random automaton with three states accepts, labelled by its last state; some steps are none."""
    while True:
        tables = [rng.integers(0, 3, (3 if p else 1, n_letters)) for p in range(length)]
        tables = [np.where(rng.random(table.shape) < 0.15, -1, table) for table in tables]
        whole = Slice(n_letters, tuple(tables), np.arange(3)[:, None])
        found = whole.kept(tables, whole.labels, rng.random(3) < 0.8)
        if found is not None:
            return found


def states_of(states: Remembering, strings: Any) -> Any:
    """The state of each string at every depth. Shape: [string, depth]."""
    found = np.zeros((len(strings), len(states.keys)), np.int64)
    for depth, table in enumerate(states.part.edges):
        found[:, depth + 1] = table[found[:, depth], strings[:, depth]]
    return found


# -- memory states -----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_states_tell_strings_apart_by_what_they_remember(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_letters, length = int(rng.integers(2, 4)), int(rng.integers(1, 6))
    part = drawn_slice(rng, length, n_letters)
    recent, counted = int(rng.integers(1, 4)), list(range(int(rng.integers(0, n_letters))))
    states, strings = Remembering(part, recent, counted), part.all()
    assert states.part.size() == len(strings) and sorted(states.part.all().tolist()) == sorted(strings.tolist())
    terms = rng.normal(0, 1, (length, n_letters, 2)) - 3.0
    best, walked = states.largest(terms), states_of(states, strings)
    sums = terms[np.arange(length), strings].sum(axis=1)
    for string, path in zip(strings.tolist(), walked.tolist(), strict=True):
        for depth, state in enumerate(path):
            last = ([-1] * recent + string[:depth])[-recent:]
            key = [*last, *(string[:depth].count(a) for a in counted)]
            assert states.keys[depth][state].tolist() == key
    for end in range(len(states.keys[-1])):
        assert np.allclose(best[end], sums[walked[:, -1] == end].max(axis=0))
    ends = states.keys[-1][rng.random(len(states.keys[-1])) < 0.5].tolist()
    for is_inside in (True, False):
        side = states.ending(ends, is_inside)
        chosen = [s for s, path in zip(strings.tolist(), walked, strict=True)
                  if (states.keys[-1][path[-1]].tolist() in ends) == is_inside]  # fmt: skip
        assert sorted([] if side is None else side.all().tolist()) == sorted(chosen)
        if side is not None:
            assert {tuple(row) for row in side.labels} <= {tuple(row) for row in part.labels}


def test_too_many_states_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Slice(2, tuple(np.zeros((1, 2), np.int64) for _ in range(4)), np.zeros((1, 1), np.int64))
    monkeypatch.setattr(memory, "_MOST_STATES", 16)
    assert len(Remembering(part, 4, []).keys[-1]) == 16
    monkeypatch.setattr(memory, "_MOST_STATES", 15)
    with pytest.raises(Unreadable, match="too many states"):
        Remembering(part, 4, [])


@pytest.mark.parametrize("recent", (-1, 0, 64, True, 1.0, "1", None))
def test_only_whole_numbers_of_letters_are_remembered(recent: Any) -> None:
    part = Slice(2, (np.zeros((1, 2), np.int64),), np.zeros((1, 1), np.int64))
    assert len(Remembering(part, 63, [0, 1]).keys[-1]) == 2
    with pytest.raises(ValueError, match="out of range"):
        Remembering(part, recent, [])
    for counted in ([2], [-1], [True], [0.0]):
        with pytest.raises(ValueError, match="out of range"):
            Remembering(part, 1, counted)


# -- quotients ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_quotients_lie_under_their_bounds_and_near(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bottom = 10.0 ** rng.uniform(-1.5, 1.5, (3, 6))
    top = rng.normal(0, 1, (3, 6)) * 10.0 ** rng.uniform(-2, 2) + bottom * rng.normal(0, 3)
    true = (top / bottom).max(axis=1)
    slack = 1e-12 * (np.abs(true) + 1)
    roots = Roots(bottom.min(axis=1), bottom.max(axis=1))

    def rest(t: Any) -> Any:
        return (top - t[:, None] * bottom).max(axis=1)

    t: Any = np.zeros(3) if seed % 2 else rng.normal(0, 3, 3)
    for i in range(7):
        roots.add(t, rest(t))
        assert (roots.above() >= true - slack).all()
        t, off = roots.next()
        # what is left is as said
        assert (roots.above() - true <= off + slack).all()
        assert i or np.isfinite(t).all()
    # where they are known exactly
    exact = Roots(bottom.min(axis=1), bottom.max(axis=1))
    exact.add(true, rest(true))
    assert np.allclose(exact.above(), true, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_a_chord_is_used_only_between_its_ends(seed: int) -> None:
    """Points in any order and on either side: every bound is one of the quotients."""
    rng = np.random.default_rng(seed)
    bottom, top = rng.uniform(0.5, 2, (200, 4)), rng.normal(0, 2, (200, 4))
    true = (top / bottom).max(axis=1)
    roots = Roots(bottom.min(axis=1), bottom.max(axis=1))
    for _ in range(4):
        t = true + rng.choice([-1.0, 1.0], 200) * 10.0 ** rng.uniform(-3, 0.5, 200)
        roots.add(t, (top - t[:, None] * bottom).max(axis=1))
        assert (roots.above() >= true - 1e-12).all()


# -- the first layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_first_layers_forms_hold_every_string(seed: int, tmp_path: Path) -> None:
    check, whole = checked_case(tmp_path, seed)
    task = check.task
    bounds = Layered(task, check.model.forward, 5, 2)
    whole = whole.at(1, seed % 3) or whole
    part = (whole.counting([seed % 3], 0, 5, 2, bool(seed % 2)) if seed % 3 else whole) or whole
    strings = part.all()
    rows = residuals(load_checkpoint(tmp_path).network, task.prompts(task.alphabet[strings]), 2)[0]
    rows = rows - rows.mean(axis=-1, keepdims=True)
    n_letters = np.cumsum([cell < 0 for cell in task.layout(5)])
    for recent, counted in ((5, []), (1, [1]), (2, [])):
        states = Remembering(part, recent, counted)
        walked = states_of(states, strings)
        for p, depth in enumerate(n_letters):
            form = bounds.residual(states, p)
            own = walked[:, depth]
            away = np.abs(rows[:, p] - form.centre[own])
            assert (away <= room(form)[own]).all()
            if recent == 5:
                assert float(form.reach().max()) < 1e-8, "one string in each state is known to its rounding"


@pytest.mark.parametrize(("drift", "is_known"), ((0.009, True), (0.011, False), (np.nan, False)))
def test_weights_too_uncertain_say_nothing(drift: float, is_known: bool, tmp_path: Path) -> None:
    check, whole = checked_case(tmp_path, 0)
    bounds, states = Layered(check.task, check.model.forward, 5, 2), Remembering(whole, 1, [])
    for seen in bounds.seen[2]:
        seen.drift[:] = drift
    if is_known:
        moved = min(2 * drift * seen.longest.sum() for seen in bounds.seen[2])
        assert (bounds.residual(states, 2).radius >= moved).all()
        for seen, heads in zip(bounds.seen[2], bounds.first[2], strict=True):
            seen.slip, heads[0].missed = seen.slip + 1, heads[0].missed + 1
        radius = bounds.residual(states, 2).radius
        assert (radius >= moved + 2).all() and np.isfinite(radius).all()
        return
    with pytest.raises(Unreadable, match="too uncertain"):
        bounds.residual(states, 2)


def test_weights_that_vanish_say_nothing(tmp_path: Path) -> None:
    check, whole = checked_case(tmp_path, 0)
    bounds, states = Layered(check.task, check.model.forward, 5, 2), Remembering(whole, 1, [])
    for heads in bounds.first[2]:
        heads[0].weight, heads[0].rest_weight = heads[0].weight * 1e-250, heads[0].rest_weight * 1e-250
    with pytest.raises(Unreadable, match="vanish"):
        bounds.residual(states, 2)
    light = [np.full((len(states.keys[1]), 2), weight) for weight in (1e-100, 1e-250)]
    sides = [np.ones((len(states.keys[1]), 4))]
    first = Remembering(whole.at(0, 0) or whole, 1, [])
    part = Slice(3, first.part.edges[:1], np.zeros((1, 1), np.int64))
    one, ends = Remembering(part, 1, []), np.zeros(2, np.int64)
    rows = [weight[: len(one.keys[1])] for weight in light]
    assert np.allclose(layered._quotients(one, [1], ends, rows[:1], rows[:1], [sides[0][: len(one.keys[1])]]), 1.0)
    with pytest.raises(Unreadable, match="vanish"):
        layered._quotients(one, [1], ends, rows[1:], rows[1:], [sides[0][: len(one.keys[1])]])


def test_large_parts_leave_room_for_their_rounding(tmp_path: Path) -> None:
    """What a sum is made of may be large and cancel; its rounding stays."""
    check, whole = checked_case(tmp_path, 0)
    states = Remembering(whole, 1, [])
    for large in (1e6, -1e6):
        bounds = Layered(check.task, check.model.forward, 5, 2)
        assert float(bounds.residual(states, 2).radius.min()) < 1e6 * 2.0**-53
        for heads in bounds.first[2]:
            heads[0].centre = heads[0].centre + large
        assert float(bounds.residual(states, 2).radius.min()) > 1e6 * 2.0**-53
        bounds = Layered(check.task, check.model.forward, 5, 2)
        for seen in bounds.seen[2]:
            seen.base = seen.base + large
        assert float(bounds.residual(states, 2).radius.min()) > 1e6 * 2.0**-53


@pytest.mark.parametrize(
    ("template", "at", "n_layers"),
    (("<s> {x}", "last", 2), ("{x} {x[0]}", "last", 2), ("<s> {x[1:]} {x[0]}", "last", 2), ("{x[1:]}", "last", 2),
     ("<s> {x}", "first", 2), ("<s> {x}", "every", 2), ("<s> {x}", "last", 1), ("<s> {x}", "last", 3)),
)  # fmt: skip
def test_only_prompts_in_order_read_at_the_end_by_two_layers(
    template: str, at: str, n_layers: int, tmp_path: Path
) -> None:
    write_gpt2(random_network(1, n_layers, 8, 2, 5, 12), tmp_path)
    (tmp_path / "spec.toml").write_text(
        'version = 1\nname = "case"\n[tokens]\nvocab = ["a", "b", "c", "<s>", "<e>"]\n[domain]\nmin_length = 4\n'
        f'max_length = 4\ntemplate = "{template}"\nalphabet = ["a", "b"]\n[readout]\nat = "{at}"\n'
    )
    try:
        task, forward = read_task(tmp_path / "spec.toml", 4, [0]), Forward(read_network(tmp_path))
    except Unreadable:
        pytest.skip("no such template")
    if (template, at, n_layers) == ("<s> {x}", "last", 2):
        assert Layered(task, forward, 4, 0).depths == [0, 1, 2, 3, 4]
        return
    with pytest.raises(Unreadable, match="two layers"):
        Layered(task, forward, 4, 0)


# -- the second layer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_second_layers_forms_hold_every_string(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check, part = checked_case(tmp_path, seed)
    task = check.task
    part = part.at(1, seed % 3) or part
    part = (part.counting([1], 0, 5, 2, bool(seed % 2)) if seed % 3 else part) or part
    strings = part.all()
    rows = residuals(load_checkpoint(tmp_path).network, task.prompts(task.alphabet[strings]), 2)[1][:, -1]
    seen = list[Form]()
    monkeypatch.setattr(layered, "positive", lambda form, margins: not seen.append(form))
    monkeypatch.setattr(layered, "_CELLS", 4096)
    margins: Any = None
    n_tight = 0
    for recent, counted in ((5, []), (3, [0])):
        seen.clear()
        states = Remembering(part, recent, counted)
        try:
            assert Layered(task, check.model.forward, 5, 2).bounded(states, margins)
        except Unreadable:
            assert recent < 5
            continue
        own = states_of(states, strings)[:, -1]
        centre, wide = (np.concatenate(pair) for pair in ([form.centre for form in seen], [room(f) for f in seen]))
        assert len(centre) == len(states.keys[-1])
        assert (_centred(rows - centre[own]) <= wide[own] + wide[own].mean(axis=1, keepdims=True)).all()
        n_tight += recent == 5 and float(wide.max()) < 1e-6
    assert n_tight == 1


def _centred(rows: Any) -> Any:
    # the first layer's forms are of vectors less their mean, which no layer norm sees
    return np.abs(rows - rows.mean(axis=1, keepdims=True))


def drawn_head(seed: int) -> tuple[Any, ...]:
    """Forms of queries, keys and values at random, over random memory states."""
    rng = np.random.default_rng(seed)
    length, n_letters, n_heads, width = int(rng.integers(2, 5)), 2, int(rng.integers(1, 3)), 3
    part = drawn_slice(rng, length, n_letters)
    states = Remembering(part, int(rng.integers(1, 3)), [])
    depths = sorted([*range(1, length + 1), *rng.integers(0, length + 1, 2).tolist()])
    depths.append(length)
    scale, wide = float(rng.choice([-0.4, 0.3, 1.0])), float(rng.choice([0.0, 1e-3, 0.1, 0.5]))
    sizes = [len(states.keys[depth]) for depth in depths]
    keys, values = ([drawn_forms(rng, n, n_heads * width, 2, wide, Form) for n in sizes] for _ in range(2))
    query = drawn_forms(rng, sizes[-1], n_heads * width, 2, wide * float(rng.choice([0.0, 1.0])), Form)
    bounds: Any = object.__new__(Layered)
    bounds.depths, bounds.n_heads, bounds.scale = depths, n_heads, scale
    return rng, bounds, states, query, keys, values


@pytest.mark.parametrize("seed", range(24))
def test_a_heads_output_is_held_at_its_worst(seed: int) -> None:
    rng, bounds, states, query, keys, values = drawn_head(seed)
    strings = states.part.all()
    walked = states_of(states, strings)
    n, ends = query.centre.shape[1] // bounds.n_heads, np.arange(len(query.centre))
    for h in range(bounds.n_heads):
        found = bounds.head(h, states, query, keys, values, ends)
        own = np.s_[:, h * n : (h + 1) * n]
        asked, mine, moved = query.some(own), [k.some(own) for k in keys], [v.some(own) for v in values]
        wide = room(found)
        for path in walked[rng.permutation(len(walked))[:12]]:
            end, at = path[-1], [int(path[depth]) for depth in bounds.depths]
            for along in [*np.eye(n), *-np.eye(n)]:
                symbols = rng.choice([-1.0, 1.0], query.noise.shape[2])
                away = rng.choice([-1.0, 1.0], n) * asked.radius[end]
                asking = asked.centre[end] + asked.noise[end] @ symbols + away
                output = worst_attention(asking, mine, moved, at, bounds.scale, along)
                assert (np.abs(output - found.centre[end]) <= wide[end] * (1 + WIDE(1e-15))).all()


@pytest.mark.parametrize("seed", range(24))
def test_scores_lie_in_their_intervals(seed: int) -> None:
    rng, bounds, _, query, keys, _ = drawn_head(seed)
    bounds.n_heads = 1
    common = np.mean([key.centre.mean(axis=0) for key in keys], axis=0).astype(WIDE)
    for key, (middle, spread) in zip(keys, bounds.scores(query, keys), strict=True):
        for _ in range(8):
            asking = _corner(rng, query)
            for sign in (-1.0, 1.0):
                # the key's corner that is best for each query
                by_noise = np.sign(np.einsum("fd,sdk->fsk", asking, key.noise)) * sign
                points = key.centre + np.einsum("sdk,fsk->fsd", key.noise.astype(WIDE), by_noise)
                points = points + sign * np.sign(asking)[:, None] * key.radius
                real = bounds.scale * np.einsum("fd,fsd->fs", asking, points - common)
                assert (np.abs(real - middle) <= spread).all()


def _corner(rng: np.random.Generator, form: Form) -> Any:
    symbols = rng.choice([-1.0, 1.0], (len(form.centre), form.noise.shape[2])).astype(WIDE)
    away = rng.choice([-1.0, 1.0], form.centre.shape) * form.radius
    return form.centre + np.einsum("fdk,fk->fd", form.noise.astype(WIDE), symbols) + away


# -- cutting -----------------------------------------------------------------------------------------------------------


class Distances:
    """Stands for margins: how far a form is from a point beyond a distance, each coordinate for itself."""

    def __init__(self, point: Any, distance: float) -> None:
        self.point, self.distance = point, distance

    def of(self, x: Form) -> tuple[Form, Any]:
        least = np.maximum(np.abs(x.centre - self.point) - x.reach(), 0.0).max(axis=1, keepdims=True)
        most = (np.abs(x.centre - self.point) + x.reach()).max(axis=1, keepdims=True)
        # and another decision, never the nearer one
        centre, half = (least + most) / 2 - self.distance, np.tile((most - least) / 2, 2)
        made = Form(np.concatenate([centre + 0.5, centre], axis=1), np.zeros((len(most), 2, 0)), half)
        return made, np.zeros_like(half)


@pytest.mark.parametrize("seed", range(40))
def test_pieces_leave_nothing_out(seed: int) -> None:
    """One point with a negative margin, anywhere in a form of many: it is found however the form is cut."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    forms = drawn_forms(rng, 5, n, k, 1.0, Form)
    which, distance = int(rng.integers(5)), 10.0 ** rng.uniform(-3, -0.7)
    point = _corner(rng, forms)[which].astype(float) if seed % 2 else _inside(rng, forms)[which]
    margins: Any = Distances(point, distance)
    assert not positive(forms, margins)
    alone = forms.some(np.array([which]))
    assert not positive(alone, margins)
    far: Any = Distances(point + 2 * (1 + alone.reach().max()), distance)
    assert positive(alone, far)


def _inside(rng: np.random.Generator, form: Form) -> Any:
    symbols = rng.uniform(-1, 1, (len(form.centre), form.noise.shape[2]))
    away = rng.uniform(-1, 1, form.centre.shape) * form.radius
    return form.centre + np.einsum("fdk,fk->fd", form.noise, symbols) + away


def test_cutting_decides_what_one_form_cannot() -> None:
    """Two coordinates that move together never meet a point off their line, which their ranges do."""
    form = Form(np.zeros((1, 2)), np.ones((1, 2, 1)), np.zeros((1, 2)))
    for at in (np.array([0.5, -0.5]), np.array([-0.9, 0.1])):
        margins: Any = Distances(at, 0.3)
        whole, _ = margins.of(form)
        assert float((whole.centre - whole.reach()).min()) < 0
        assert positive(form, margins)


def test_pieces_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    form = Form(np.zeros((1, 2)), np.ones((1, 2, 1)), np.zeros((1, 2)))
    margins: Any = Distances(np.array([0.5, -0.5]), 0.3)
    assert positive(form, margins)
    monkeypatch.setattr(layered, "_PIECES", 1)
    assert not positive(form, margins)


# -- forms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_forms_put_together_hold_what_they_held(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = drawn_forms(rng, 3, 4, 5, 0.3, Form)
    shorter, ends = layered._first(x, 2), rng.choice([-1.0, 1.0], (3, 5))
    point = x.centre + np.einsum("fdk,fk->fd", x.noise, ends) + x.radius
    left = point - shorter.centre - np.einsum("fdk,fk->fd", shorter.noise, ends[:, :2])
    assert shorter.noise.shape[2] == 2 and (np.abs(left) <= shorter.radius).all()
    folded = x.folded(2)
    assert (folded.reach() >= x.reach() * (1 - 1e-15)).all()
    heads = [drawn_forms(rng, 3, 2, 2, 0.3, Form) for _ in range(3)]
    joined = layered._joined(heads)
    for h, head in enumerate(heads):
        own = np.s_[:, 2 * h : 2 * h + 2]
        assert (joined.centre[own] == head.centre).all() and (joined.radius[own] == head.radius).all()
        expected = np.zeros((3, 2, 6))
        expected[:, :, 2 * h : 2 * h + 2] = head.noise
        assert (joined.noise[own] == expected).all()
    y = drawn_forms(rng, 3, 4, 2, 0.3, Form)
    both, more = layered._beside(x, y), rng.choice([-1.0, 1.0], (3, 2))
    second = y.centre + np.einsum("fdk,fk->fd", y.noise, more) - y.radius
    symbols = np.concatenate([ends, more], axis=1)
    left = point + second - both.centre - np.einsum("fdk,fk->fd", both.noise, symbols)
    assert (np.abs(left) <= both.radius).all()
    assert isinstance(both, spans.Form)
