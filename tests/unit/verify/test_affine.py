"""Affine forms hold what they say: every operation against its real function on points of the form, ends included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.check import spans
from extract.check.forward import Forward
from extract.check.reader import read_network
from extract.network import Activation
from extract.verify.activations import CURVATURES
from extract.verify.affine import Affine, Floats, Map, Scalar
from tests.networks import random_network, write_gpt2
from tests.unit.verify.enumeration_cases import _activation

KINDS: tuple[Activation, ...] = ("gelu_tanh", "gelu_erf", "relu", "silu")
SEEDS = st.integers(0, 2**32 - 1)


def draw_form(rng: np.random.Generator, n: int) -> Affine:
    k = int(rng.integers(0, 6))
    size = 10.0 ** rng.uniform(-4, 1)
    radius = np.abs(rng.normal(size=n)) * size * (rng.random() < 0.5) * 0.1
    return Affine(rng.normal(size=n) * 10.0 ** rng.uniform(-2, 1), rng.normal(size=(n, k)) * size, radius)


def points(rng: np.random.Generator, x: Affine, n: int = 60) -> tuple[Floats, Floats]:
    """Points of a form: [point, coordinate], with the symbols they come from [point, symbol]."""
    e = rng.uniform(-1, 1, (n, x.noise.shape[1]))
    e[: n // 2] = np.sign(e[: n // 2])
    off = np.sign(rng.normal(size=(n, len(x.centre)))) * x.radius
    return x.centre + e @ x.noise.T + off, e


def assert_holds(y: Affine, values: Floats, e: Floats) -> None:
    """Every value is in the form: with the known symbols as they are, the further ones anywhere."""
    known = y.noise[:, : e.shape[1]]
    rest = np.abs(y.noise[:, e.shape[1] :]).sum(axis=1) + y.radius
    apart = np.abs(values - y.centre - e @ known.T)
    assert (apart <= rest + 1e-13 * (1 + np.abs(values))).all(), float((apart - rest).max())


def exact(matrix: Floats) -> Map:
    n = len(matrix)
    return Map(matrix, np.arange(n) * 0.25, np.abs(matrix), np.zeros(n))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_linear_operations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = draw_form(rng, 4)
    values, e = points(rng, x)
    matrix = rng.normal(size=(3, 4))
    assert_holds(x.mapped(exact(matrix)), values @ matrix.T + np.arange(3) * 0.25, e)
    assert_holds(x.centred(), values - values.mean(axis=1, keepdims=True), e)
    square = x.mapped(exact(rng.normal(size=(4, 4)))).plus(x)
    assert square.noise.shape == x.noise.shape
    folded = x.trimmed(0, 0.5)
    assert (np.abs(values - folded.centre) <= folded.reach + 1e-13 * (1 + np.abs(values))).all()


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_sums_share_their_symbols(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = Affine(rng.normal(size=3), rng.normal(size=(3, 4)), np.zeros(3))
    values, e = points(rng, x)
    longer = x.activated("gelu_tanh")
    expected = values + np.vectorize(lambda h: _activation("gelu_tanh", h))(values)
    assert_holds(x.plus(longer), expected, e)
    assert_holds(longer.plus(x), expected, e)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_activations(kind: Activation, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = draw_form(rng, 5)
    values, e = points(rng, x)
    assert_holds(x.activated(kind), np.vectorize(lambda h: _activation(kind, h))(values), e)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_normalisation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = draw_form(rng, 5)
    values, e = points(rng, x)
    mean = (values**2).mean(axis=1) + 1e-5
    square = x.square_mean(1e-5)
    as_form = Affine(np.array([square.centre]), square.noise[None], np.array([square.radius]))
    assert_holds(as_form, mean[:, None], e)
    assert (mean >= square.least * (1 - 1e-12)).all()
    root = square.inverse_root()
    as_form = Affine(np.array([root.centre]), root.noise[None], np.array([root.radius]))
    assert_holds(as_form, (mean**-0.5)[:, None], e)
    assert_holds(x.times(root), values * (mean**-0.5)[:, None], e)


def scalar(centre: float) -> Scalar:
    return Scalar(np.array(centre), np.array([1.5]), np.array(0.0), np.array(-np.inf))


def test_a_number_not_known_to_be_positive_has_no_root() -> None:
    assert scalar(1.0).inverse_root().radius == np.inf
    assert scalar(np.nan).inverse_root().radius == np.inf


@pytest.mark.parametrize("kind", KINDS)
def test_wide_and_narrow_ranges(kind: Activation) -> None:
    grid = np.concatenate([-np.logspace(-12, 3, 40), [0.0], np.logspace(-12, 3, 40)])
    for width in (0.0, 1e-15, 1e-8, 1e-3, 0.5, 4.0, 60.0):
        x = Affine(grid, np.diag(np.full(len(grid), width)), np.zeros(len(grid)))
        y = x.activated(kind)
        for step in np.linspace(-1, 1, 41):
            values = np.array([_activation(kind, float(h)) for h in grid + width * step])
            assert_holds(y, values[None], np.full((1, len(grid)), step))


# -- the checker's own forms -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=KINDS)
def forward(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Forward:
    folder = tmp_path_factory.mktemp(request.param)
    return Forward(read_network(write_gpt2(random_network(1, activation=request.param), folder)))


def test_the_checkers_curvatures_are_the_proved_ones() -> None:
    assert {k: v for k, v in CURVATURES.items() if k != "relu"} == spans.CURVATURES


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_the_checkers_forms(forward: Forward, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = draw_form(rng, 5)
    x = spans.Form(drawn.centre, drawn.noise, drawn.radius)
    values, e = points(rng, drawn)
    kind, matrix = forward.weights.activation, rng.normal(size=(3, 5))
    none = np.zeros(3)
    activate: Callable[[Floats], Floats] = np.vectorize(lambda h: _activation(kind, h))
    assert_holds(as_affine(spans.linear(x, matrix, none, np.abs(matrix), none)), values @ matrix.T, e)
    assert_holds(as_affine(spans.centred(x)), values - values.mean(axis=1, keepdims=True), e)
    active = spans.activated(x, forward)
    assert_holds(as_affine(active), activate(values), e)
    assert_holds(as_affine(spans.total(x, active)), values + activate(values), e)
    root = spans.inverse_deviation(x, 1e-5)
    scale = ((values**2).mean(axis=1) + 1e-5) ** -0.5
    assert_holds(as_affine(root), scale[:, None], e)
    assert_holds(as_affine(spans.product(x, root)), values * scale[:, None], e)


def as_affine(form: spans.Form) -> Affine:
    return Affine(form.centre, form.noise, form.radius)
