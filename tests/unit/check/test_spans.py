"""The checker's forms hold what they say: each step against its real function on points of the form, ends included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.check import spans
from extract.check.attended import Attended
from extract.check.forward import Forward
from extract.check.margins import Margins
from extract.check.reader import Unreadable, read_network
from extract.check.slices import whole_slice
from extract.check.spans import Form
from extract.check.weights import Weights
from tests.networks import random_network, write_gpt2
from tests.soundness.test_box_bounds import checked_case

WIDE = np.longdouble
Point = tuple[Any, Any]


def drawn_form(rng: np.random.Generator, n: int = 6, k: int = 4) -> Form:
    """A form of any size: wide and narrow, one of no radius or no noise among them."""
    scale = float(rng.choice([1e-9, 1e-3, 0.1, 1.0, 4.0]))
    radius = scale * rng.uniform(0, 0.3, n) * rng.choice([0.0, 1.0])
    return Form(rng.normal(0, 1, n), scale * rng.normal(0, 1, (n, k)) * rng.choice([0.0, 1.0, 1.0]), radius)


def points(rng: np.random.Generator, form: Form, n: int = 60) -> list[Point]:
    """Symbols and a vector that the form holds, corners above all."""
    found = []
    for i in range(n):
        symbols = rng.uniform(-1, 1, form.noise.shape[1]).astype(WIDE)
        symbols = np.sign(symbols) if i % 2 else symbols
        away = rng.choice([-1.0, 1.0], len(form.radius))
        found.append((symbols, form.centre.astype(WIDE) + form.noise.astype(WIDE) @ symbols + away * form.radius))
    return found


def assert_holds(form: Form, symbols: Any, value: Any, n_shared: int) -> None:
    """Check that a form holds a value whose first symbols are known; the others may be anything."""
    rest = np.abs(form.noise[:, n_shared:]).sum(axis=1) + form.radius
    middle = form.centre.astype(WIDE) + form.noise[:, :n_shared].astype(WIDE) @ symbols
    assert (np.abs(value - middle) <= rest * (1 + WIDE(2.0**-60))).all()


@pytest.mark.parametrize("seed", range(40))
def test_linear_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, other = drawn_form(rng), drawn_form(rng, k=6)
    matrix, shift = rng.normal(0, 2, (3, 6)), rng.normal(0, 1, 3)
    made = spans.linear(x, matrix, shift, np.abs(matrix), np.zeros(3))
    summed, middle = spans.total(x, other), spans.centred(x)
    for symbols, value in points(rng, x):
        assert_holds(made, symbols, matrix.astype(WIDE) @ value + shift, 4)
        assert_holds(middle, symbols, value - value.mean(), 4)
        new = np.concatenate([symbols, rng.choice([-1, 1], 2)])
        second = other.centre + other.noise.astype(WIDE) @ new + other.radius
        assert_holds(summed, new, value + second, 6)


@pytest.mark.parametrize("seed", range(60))
def test_inverse_deviations_and_products(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, eps = drawn_form(rng), float(rng.choice([1e-5, 1e-2, 1.0]))
    factor = spans.inverse_deviation(x, eps)
    made = spans.product(x, factor)
    for symbols, value in points(rng, x):
        inverse = ((value * value).mean() + eps) ** WIDE(-0.5)
        assert_holds(factor, symbols, np.array([inverse]), 4)
        if np.isfinite(made.centre).all():
            assert_holds(made, symbols, value * inverse, 4)


@pytest.mark.parametrize("kind", ("gelu_tanh", "gelu_erf", "silu", "relu"))
def test_activations(kind: Any, tmp_path: Path) -> None:
    forward = Forward(read_network(write_gpt2(random_network(1, activation=kind), tmp_path)))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = drawn_form(rng)
        made = spans.activated(x, forward)
        for symbols, value in points(rng, x, 200):
            assert_holds(made, symbols, forward.activate(value.astype(np.float64)), 4)


def after_attention(w: Weights, rows: Any, kind: Any = WIDE) -> Any:
    """The decisions' logits from residual vectors after the attention, as the textbook has them."""

    def norm(x: Any, pair: Any) -> Any:
        middle = x - x.mean(axis=-1, keepdims=True)
        return middle / np.sqrt((middle * middle).mean(axis=-1, keepdims=True) + w.norm_eps) * pair[0] + pair[1]

    one = w.layers[0]
    hidden = norm(rows, one.norm_mlp) @ one.W_in.astype(kind) + one.b_in
    active = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / kind(np.pi)) * (hidden + kind(0.044715) * hidden**3)))
    return norm(rows + active @ one.W_out.astype(kind) + one.b_out, w.norm_final) @ w.W_U.astype(kind)


@pytest.mark.parametrize("seed", range(12))
def test_margins_of_a_form(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(seed, d_model=8, spread=float(rng.choice([0.1, 0.5])))
    forward = Forward(read_network(write_gpt2(network, tmp_path)))
    columns = forward.weights.W_U[:, :1] - forward.weights.W_U[:, 1:]
    margins = Margins(forward, columns, np.abs(columns) + np.abs(forward.weights.W_U[:, 1:]), np.zeros(4))
    x = drawn_form(rng, 8)
    made, _ = margins.of(x)
    for symbols, value in points(rng, x):
        logits = after_attention(forward.weights, value)
        assert_holds(made, symbols, logits[0] - logits[1:], 4)


def residuals(w: Weights, prompts: Any, offset: int, read: int) -> Any:
    """The residual vector after attention at one position, less its mean. Shape: [prompt, d_model]."""
    x = (w.embed[prompts] + w.places[offset : offset + prompts.shape[1]]).astype(WIDE)
    one = w.layers[0]
    middle = x - x.mean(axis=-1, keepdims=True)
    z = middle / np.sqrt((middle * middle).mean(axis=-1, keepdims=True) + w.norm_eps)
    z = (z * one.norm_attention[0] + one.norm_attention[1])[:, : read + 1]  # type: ignore[index]
    out = x[:, read] + one.b_O
    for h in range(w.n_heads):
        q, k, v = (
            z @ weight[h].astype(WIDE) + bias[h]
            for weight, bias in ((one.W_Q, one.b_Q), (one.W_K, one.b_K), (one.W_V, one.b_V))
        )
        scores = np.einsum("nd,npd->np", q[:, read], k) * w.attention_scale[0]
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        out = out + np.einsum("np,npd->nd", share, v) @ one.W_O[h].astype(WIDE)
    return out - out.mean(axis=1, keepdims=True)


def spread_of_a_slice(folder: Path, seed: int, layout: str) -> tuple[float, float]:
    """Hold the range over a slice to all its strings; return the widest range claimed and found."""
    check, program, length = checked_case(folder, seed, layout)
    task, forward, rng = check.task, check.model.forward, np.random.default_rng(seed)
    part = whole_slice(task, program, length)
    assert part is not None and isinstance(forward, Forward)
    if check.query is not None:
        part = part.at(check.query, int(part.letters(check.query)[0])) or part
    part = (part.counting([1], 0, 5, 2, bool(seed % 2)) if seed % 3 else part) or part
    letter = -1 if check.query is None else int(part.letters(check.query)[0])
    read = 0 if task.at == "first" else len(task.layout(length)) - 1
    try:
        centre, axes, low, high, slip, below = Attended(task, forward, length, 2, read, letter).over(part)[:6]
    except Unreadable:
        return np.inf, 1.0
    rows = residuals(forward.weights, task.prompts(task.alphabet[part.all()]), 2, read) - centre
    along, room = rows @ axes, np.abs(axes).T @ slip
    assert (along >= low - room).all() and (along <= high + room).all()
    directions = rng.normal(0, 1, (5, len(axes)))
    assert (along @ directions.T >= below(directions) - np.abs(directions) @ room).all()
    return float((high - low).max()), float((along.max(axis=0) - along.min(axis=0)).max()) + 1e-9


@pytest.mark.parametrize("layout", ("gpt2", "neutral"))
def test_ranges_over_a_slice_hold_every_string(layout: str, tmp_path: Path) -> None:
    found = [spread_of_a_slice(tmp_path / str(seed), seed, layout) for seed in range(14)]
    assert sum(claimed < 3 * true for claimed, true in found) > 6, "ranges that are true and say nothing"


@pytest.mark.parametrize(
    ("drift", "weight", "is_known"),
    ((0.009, 1.0, True), (0.011, 1.0, False), (np.nan, 1.0, False), (0.0, 1e-250, False)),
)
def test_weights_that_vanish_or_are_too_uncertain_say_nothing(
    drift: float, weight: float, is_known: bool, tmp_path: Path
) -> None:
    check, program, length = checked_case(tmp_path, 0)
    part, forward, task = whole_slice(check.task, program, length), check.model.forward, check.task
    assert part is not None and isinstance(forward, Forward)
    read = 0 if task.at == "first" else len(task.layout(length)) - 1
    seen = Attended(task, forward, length, 2, read, -1 if check.query is None else 0)
    part = part if check.query is None else part.at(check.query, 0)
    assert part is not None
    own = np.where(seen.weight[..., None] > 0, seen.value / np.maximum(seen.weight, 1e-300)[..., None], 0.0)
    assert (np.linalg.norm(own, axis=-1).max(axis=(1, 2)) <= seen.longest).all()
    assert (np.abs(own).max(axis=(1, 2)) <= seen.far).all()
    seen.drift[:] = drift
    seen.weight, seen.rest_weight = seen.weight * weight, seen.rest_weight * weight
    seen.value, seen.rest_value = seen.value * weight, seen.rest_value * weight
    if is_known:
        assert np.isfinite(np.concatenate(seen.over(part)[:5], axis=None)).all()
        # a mean moves by about twice what its weights are off by of themselves; all else is added as it is
        assert (seen.over(part)[4] >= 2 * drift * seen.longest.sum()).all()
        seen.slip = seen.slip + 100 * seen.longest.sum()
        assert (seen.over(part)[4] >= seen.slip + 2 * drift * seen.longest.sum()).all()
        return
    with pytest.raises(Unreadable, match="vanish"):
        seen.over(part)


@pytest.mark.parametrize("kind", ("gelu_tanh", "relu"))
def test_forms_side_by_side_are_bounded_as_each_alone(kind: Any, tmp_path: Path) -> None:
    """As many forms as coordinates and symbols, so that an axis taken for another would go unnoticed by shapes."""
    rng, n = np.random.default_rng(0), 4
    forward = Forward(read_network(write_gpt2(random_network(1, activation=kind), tmp_path)))
    forms = [[drawn_form(rng, n, k) for _ in range(n)] for k in (n, n + 2)]
    matrix, shift = rng.normal(0, 2, (n, n)), rng.normal(0, 1, n)

    def steps(x: Form, longer: Form) -> list[Form]:
        inverse = spans.inverse_deviation(x, 1e-2)
        return [
            spans.linear(x, matrix, shift, np.abs(matrix), np.ones(n)), spans.total(x, longer), spans.centred(x),
            inverse, spans.product(x, inverse), spans.activated(x, forward), longer.folded(3), x.some(...),
            *spans.normalised(x, 1e-2),
        ]  # fmt: skip

    together = steps(*(Form(*map(np.stack, zip(*(x[:3] for x in some), strict=True))) for some in forms))
    for i, (x, longer) in enumerate(zip(*forms, strict=True)):
        for both, alone in zip(together, steps(x, longer), strict=True):
            for one, other in zip(both.some(i)[:3], alone[:3], strict=True):
                assert one.shape == other.shape
                assert np.allclose(one, other, rtol=1e-12, atol=1e-280)
