"""Bounds of two layers, step by step: what each form must hold, computed plainly or at its worst."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from extract.verify import pieces, second_layer, two_layers
from extract.verify.affine import Affine
from extract.verify.context import Context, Memory
from extract.verify.pieces import least_margins
from extract.verify.second_layer import Projected, SecondLayer
from extract.verify.two_layers import ContextProver
from tests.residuals import WIDE, drawn_forms, residuals, room, worst_attention
from tests.soundness.test_box_bounds import paths_of
from tests.soundness.test_two_layer_bounds import drawn_case
from tests.unit.verify.test_context import random_paths

LENGTH = 4


def states_of(context: Context, strings: Any) -> Any:
    """The state of each string at every depth. Shape: [string, depth]."""
    found = np.zeros((len(strings), len(context.keys)), np.int64)
    for depth, table in enumerate(context.paths.next):
        found[:, depth + 1] = table[found[:, depth], strings[:, depth]]
    return found


def centred(rows: Any) -> Any:
    return rows - rows.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize("seed", range(6))
def test_both_layers_forms_hold_every_string(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, domain, program = drawn_case(seed, LENGTH)
    prover = ContextProver(network, domain)
    run: Any = prover._run(LENGTH, 3, ((0,),))
    paths = paths_of(domain, program, LENGTH)
    strings = np.asarray(paths.strings())
    prompts = domain.render(np.array(domain.alphabet, np.int32)[strings]).astype(np.int64)
    first, second = residuals(network, prompts, 3)
    ends = list[Affine]()
    monkeypatch.setattr(two_layers, "least_margins", lambda final, y, *_: ends.append(y) or np.zeros(len(y.centre)))
    monkeypatch.setattr(second_layer, "_TERMS", 2048)
    for memory in (Memory(LENGTH, ()), Memory(1, (1,)), Memory(2, ())):
        context = Context.of(paths, memory)
        walked = states_of(context, strings)
        for p, depth in enumerate(run.tables.depths):
            form = run.tables.over(context, p)
            own = walked[:, depth]
            assert (np.abs(centred(first[:, p]) - form.centre[own]) <= room(form)[own]).all()
            if memory.recent == LENGTH:
                assert float(form.reach.max()) < 1e-8, "one string in each state is known to its rounding"
        ends.clear()
        prover.least_margins(run.tables, context, (0,))
        for y in ends:
            own, wide = walked[:, -1], room(y)[walked[:, -1]]
            # the first layer's forms are of vectors less their mean, which no layer norm sees
            away = np.abs(centred(second[:, -1] - y.centre[own]))
            assert (away <= wide + wide.mean(axis=1, keepdims=True)).all()
        assert len(ends) == 1 or memory.recent < LENGTH
        assert memory.recent < LENGTH or float(room(ends[0]).max()) < 1e-6


def test_weights_that_may_vanish_say_nothing() -> None:
    network, domain, program = drawn_case(0, LENGTH)
    prover = ContextProver(network, domain)
    run: Any = prover._run(LENGTH, 0, ((0,),))
    context = Context.of(paths_of(domain, program, LENGTH), Memory(1, ()))
    known = prover.least_margins(run.tables, context, (0,))
    for heads in run.tables._heads[2]:
        heads[0] = replace(heads[0], weight=0.0 * heads[0].weight, fixed_weight=0.0)
    with np.errstate(all="ignore"):
        form = run.tables.over(context, 2)
        least, attention = prover.least_margins(run.tables, context, (0,))
    assert np.isinf(form.radius).all() and not form.noise.any()
    assert known[1] is not None and attention is None and (least == -np.inf).all()


def test_large_parts_leave_room_for_their_rounding() -> None:
    """What a sum is made of may be large and cancel; its rounding stays, and so does what a part may be off by."""
    network, domain, program = drawn_case(0, LENGTH)
    prover = ContextProver(network, domain)
    run: Any = prover._run(LENGTH, 0, ((0,),))
    context = Context.of(paths_of(domain, program, LENGTH), Memory(1, ()))
    assert float(run.tables.over(context, 2).radius.min()) < 1e6 * 2.0**-53
    tables, heads = run.tables, [list(part) for part in run.tables._heads[2]]
    tables._heads[2] = [[replace(part[0], centre=part[0].centre + 1e6), *part[1:]] for part in heads]
    assert float(tables.over(context, 2).radius.min()) > 1e6 * 2.0**-53
    tables._heads[2] = [[replace(part[0], missed=part[0].missed + 1), *part[1:]] for part in heads]
    tables.sums[2] = [replace(part, slip=part.slip + 2) for part in tables.sums[2]]
    assert float(tables.over(context, 2).radius.min()) > 3
    tables.sums[2] = [replace(part, slip=part.slip - 2, base=part.base - 1e6) for part in tables.sums[2]]
    tables._heads[2] = heads
    assert float(tables.over(context, 2).radius.min()) > 1e6 * 2.0**-53


def drawn_head(seed: int) -> tuple[Any, ...]:
    """Forms of queries, keys and values at random, over random memory states."""
    rng = np.random.default_rng(seed)
    length, n_heads, width = int(rng.integers(2, 5)), int(rng.integers(1, 3)), 3
    context = Context.of(random_paths(rng, length, 2), Memory(int(rng.integers(1, 3)), ()))
    depths = sorted([*range(1, length + 1), *rng.integers(0, length + 1, 2).tolist()])
    depths.append(length)
    wide, sizes = float(rng.choice([0.0, 1e-3, 0.1, 0.5])), [len(context.keys[depth]) for depth in depths]
    parts = [Projected(*(drawn_forms(rng, n, n_heads * width, 2, wide, Affine) for _ in range(2))) for n in sizes]
    query = drawn_forms(rng, sizes[-1], n_heads * width, 2, wide * float(rng.choice([0.0, 1.0])), Affine)
    layer: Any = object.__new__(SecondLayer)
    layer.n_heads, layer.d_head, layer.scale = n_heads, width, float(rng.choice([-0.4, 0.3, 1.0]))
    return rng, layer, context, depths, parts, query


@pytest.mark.parametrize("seed", range(24))
def test_a_heads_output_is_held_at_its_worst(seed: int) -> None:
    rng, layer, context, depths, parts, query = drawn_head(seed)
    walked = states_of(context, np.asarray(context.paths.strings()))
    n, ends = layer.d_head, np.arange(len(query.centre))
    for h in range(layer.n_heads):
        found = layer._head(h, context, depths, parts, query, ends)
        own = np.s_[:, h * n : (h + 1) * n]
        asked, keys, values = query[own], [part.key[own] for part in parts], [part.value[own] for part in parts]
        wide = room(found)
        for path in walked[rng.permutation(len(walked))[:12]]:
            end, at = path[-1], [int(path[depth]) for depth in depths]
            for along in [*np.eye(n), *-np.eye(n)]:
                symbols = rng.choice([-1.0, 1.0], query.noise.shape[2])
                away = rng.choice([-1.0, 1.0], n) * asked.radius[end]
                asking = asked.centre[end] + asked.noise[end] @ symbols + away
                output = worst_attention(asking, keys, values, at, layer.scale, along)
                assert (np.abs(output - found.centre[end]) <= wide[end] * (1 + WIDE(1e-15))).all()


@pytest.mark.parametrize("seed", range(24))
def test_scores_lie_between_their_bounds(seed: int) -> None:
    rng, layer, _, _, parts, query = drawn_head(seed)
    keys = [part.key for part in parts]
    layer.d_head *= layer.n_heads
    reference = np.mean([key.centre.mean(axis=0) for key in keys], axis=0).astype(WIDE)
    for key, low, high in zip(keys, *layer._scores(query, keys), strict=True):
        for _ in range(8):
            asking = corner(rng, query)
            for sign in (-1.0, 1.0):
                by_noise = np.sign(np.einsum("fd,sdk->fsk", asking, key.noise)) * sign
                points = key.centre + np.einsum("sdk,fsk->fsd", key.noise.astype(WIDE), by_noise)
                points = points + sign * np.sign(asking)[:, None] * key.radius
                real = layer.scale * np.einsum("fd,fsd->fs", asking, points - reference)
                assert (low <= real).all() and (real <= high).all()


def corner(rng: np.random.Generator, form: Affine, is_corner: bool = True) -> Any:
    """A point of each form, at one of its corners or anywhere inside."""
    symbols = rng.uniform(-1, 1, (len(form.centre), form.noise.shape[2])).astype(WIDE)
    away = rng.uniform(-1, 1, form.centre.shape)
    symbols, away = (np.sign(symbols), np.sign(away)) if is_corner else (symbols, away)
    return form.centre + np.einsum("fdk,fk->fd", form.noise.astype(WIDE), symbols) + away * form.radius


@pytest.mark.parametrize("seed", range(12))
def test_sides_and_what_the_axes_leave(seed: int) -> None:
    """A value is its centre, what lies along the axes, and a rest: all three as bounded."""
    rng = np.random.default_rng(seed)
    values = [drawn_forms(rng, 4, 3, 2, 0.3, Affine) for _ in range(3)]
    centre, axes, sides, slip = second_layer._sides(values)
    for form, side in zip(values, sides, strict=True):
        for _ in range(6):
            rows = corner(rng, form) - centre
            along = rows @ axes
            assert (np.concatenate([along, -along], axis=1) <= side).all()
            assert (np.abs(rows - along @ axes.T) <= slip).all()


# -- cutting -----------------------------------------------------------------------------------------------------------


class Distances:
    """Stands for margins: how far a form is from a point beyond a distance, each coordinate for itself."""

    def __init__(self, point: Any, distance: float) -> None:
        self.point, self.distance = point, distance

    def bound(self, x: Affine, answer: Any, computed: Any = None) -> Any:
        away = np.abs(x.centre - self.point)
        least = np.maximum(away - x.reach, 0.0).max(axis=1, keepdims=True) - self.distance
        middle = away.max(axis=1, keepdims=True) - self.distance
        # another decision, never the nearer one
        least, middle = (np.concatenate([part + 0.5, part], axis=1) for part in (least, middle))
        return SimpleNamespace(least=least, form=SimpleNamespace(centre=middle))


@pytest.mark.parametrize("seed", range(40))
def test_pieces_leave_nothing_out(seed: int) -> None:
    """The margin at any point of a form is at least what is said of it, however it is cut."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    forms, width = drawn_forms(rng, 5, n, k, 1.0, Affine), float(rng.choice([0.0, 0.01]))
    at = int(rng.integers(5))
    # a point inside, or as far beyond as cutting can tell
    point = corner(rng, forms, bool(seed % 2)).astype(float)[at] + (0.0, 0.3, 1.0)[seed % 3]
    final: Any = Distances(point, 10.0 ** rng.uniform(-3, -0.7) + width)
    least = least_margins(final, forms, (0,))
    for is_corner in (False, True) * 20:
        margins = np.abs(corner(rng, forms, is_corner) - point).max(axis=1) - final.distance
        assert (least <= margins + 1e-15).all()
    assert (seed % 3 > 0) or least[at] == -np.inf
    # one by one they are bounded as together
    alone = [float(least_margins(final, forms[[i]], (0,))[0]) for i in range(5)]
    assert np.array_equal(least, alone)


def test_cutting_decides_what_one_form_cannot() -> None:
    form = Affine(np.zeros((1, 2)), np.ones((1, 2, 1)), np.zeros((1, 2)))
    for at in (np.array([0.5, -0.5]), np.array([-0.9, 0.1])):
        final: Any = Distances(at, 0.3)
        assert float(final.bound(form, (0,)).least.min()) < 0
        assert 0 < least_margins(final, form, (0,))[0] <= 0.2


def test_margins_of_what_comes_near_are_cut_or_given_up() -> None:
    form = Affine(np.zeros((1, 1)), np.full((1, 1, 1), 0.5), np.zeros((1, 1)))
    nearest: Any = Distances(np.array([1.0]), 0.4)
    assert least_margins(nearest, form, (0,))[0] > 0
    nearest = Distances(np.array([1.0]), 0.51)
    assert least_margins(nearest, form, (0,))[0] == -np.inf


@pytest.mark.parametrize("part", ("centre", "noise", "radius"))
def test_a_form_that_is_no_number_has_no_margin(part: str) -> None:
    forms = Affine(np.zeros((2, 1)), np.zeros((2, 1, 1)), np.zeros((2, 1)))
    getattr(forms, part)[0] = np.inf
    final: Any = Distances(np.array([1.0]), 0.2)
    with np.errstate(all="ignore"):
        assert least_margins(final, forms, (0,)).tolist() == [-np.inf, 0.8]


@pytest.mark.parametrize("seed", range(12))
def test_halves_hold_what_the_whole_held(seed: int) -> None:
    rng = np.random.default_rng(seed)
    forms = drawn_forms(rng, 4, 3, 3, 0.3, Affine)
    halves = pieces._halves(forms)
    assert len(halves.centre) == 8
    widest = (forms.noise**2).sum(axis=1).argmax(axis=1)
    for _ in range(10):
        symbols = rng.choice([-1.0, 1.0], (4, 3)) * rng.choice([1.0, 0.3], (4, 1))
        points = forms.centre + np.einsum("fdk,fk->fd", forms.noise.astype(WIDE), symbols) + forms.radius
        for i in range(4):
            is_upper = symbols[i, widest[i]] > 0
            own = symbols[i].copy()
            own[widest[i]] = 2 * own[widest[i]] + (-1 if is_upper else 1)
            half = halves[4 * int(is_upper) + i]
            assert (np.abs(points[i] - half.centre - half.noise.astype(WIDE) @ own) <= half.radius).all()
    none = Affine(np.zeros((2, 3)), np.zeros((2, 3, 0)), np.zeros((2, 3)))
    assert len(pieces._halves(none).centre) == 4 and not len(pieces._halves(none[[]]).centre)
