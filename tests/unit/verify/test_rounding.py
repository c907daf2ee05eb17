"""Bounds hold: norms are never under the true ones, and no float evaluation strays further than its bound."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from extract.domain import Domain
from extract.network import Network, Norm
from extract.verify.cells import CellFormat
from extract.verify.plain import Decided, StagesForward, decide_inputs
from extract.verify.rounding import FLOAT32, FLOAT64, Arithmetic, gamma, group_max, group_min, larger, over
from extract.verify.stages import Stages, claims_of
from extract.verify.weight_norms import absolute_bound, measure_weights, product_bound, spectral_bound
from tests.networks import random_network
from tests.unit.verify.enumeration_cases import brute_logits, make_domain


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e30])
)
def test_spectral_bound_is_above_and_near_the_norm(rows: int, columns: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, columns)) * scale * rng.choice([0.0, 1.0], size=(rows, columns), p=[0.3, 0.7])
    true = float(np.linalg.norm(matrix / scale, 2)) * scale
    assert true * (1 - 1e-12) <= spectral_bound(matrix) <= true * 1.05 + 1e-300
    positive = float(np.linalg.norm(np.abs(matrix) / scale, 2)) * scale
    assert positive * (1 - 1e-12) <= absolute_bound(matrix) <= positive * 1.2 + 1e-300
    other = rng.normal(size=(columns, 3))
    whole = spectral_bound(matrix) * spectral_bound(other)
    assert product_bound(matrix, other, whole) == product_bound(matrix, other)
    assert product_bound(matrix, other) >= float(np.linalg.norm(matrix / scale @ other, 2)) * scale * (1 - 1e-12)


def test_absolute_bound_of_reducible_matrices_and_limits() -> None:
    assert 1.0 <= absolute_bound(np.diag([1.0, 1e-3, 0.0])) <= 1.01
    assert absolute_bound(np.zeros((2, 3))) == 0.0 and absolute_bound(np.zeros((0, 3))) == 0.0
    assert absolute_bound(np.array([[1.0, math.inf]])) == math.inf
    assert math.sqrt(6) <= absolute_bound(-np.ones((2, 3))) <= math.sqrt(6) * (1 + 1e-8)


def test_gamma_and_its_limits() -> None:
    assert gamma(3, 2.0**-53) >= 3 * 2.0**-53
    assert gamma(2**24, 2.0**-24) == math.inf
    assert over(1.0, 0.0) == math.inf and over(1.0, 2.0) == 0.5
    assert np.array_equal(over(np.ones(2), np.array([0.0, 4.0])), [math.inf, 0.25])


@given(st.floats(allow_nan=False), st.just(math.nan))
def test_not_a_number_is_never_hidden(x: float, nan: float) -> None:
    assert math.isnan(larger(x, nan)) and math.isnan(larger(nan, x))
    assert np.isnan(larger(np.array([x]), nan)).all()
    values = np.array([x, nan])
    assert math.isnan(group_max(values, None)) and math.isnan(group_min(values, None))


def exact_margins(network: Network, domain: Domain, tokens: NDArray[np.int32]) -> NDArray[np.longdouble]:
    """Margins from 64-bit mantissas (where the platform has them): errors far below those bounded here."""
    rows = []
    for row in tokens:
        logits = extended_logits(network, [int(t) for t in domain.render(row[None])[0]])
        top = np.sort(logits[list(domain.readout.choices)])[::-1]
        rows.append(top[0] - top[1])
    return np.array(rows, dtype=np.longdouble)


def extended_logits(network: Network, prompt: list[int]) -> NDArray[np.longdouble]:
    wide = np.longdouble
    a = network.architecture
    x = network.embed[prompt].astype(wide)
    if network.pos_embed is not None:
        x = x + network.pos_embed[: len(prompt)].astype(wide)

    def norm(x: NDArray[np.longdouble], n: Norm | None) -> NDArray[np.longdouble]:
        if n is None:
            return x
        centred = x - x.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + wide(a.norm_eps))
        return np.asarray(centred / deviation * n.weight + n.bias)

    for index, layer in enumerate(network.layers):
        z = norm(x, layer.norm_attention)
        mixed = np.zeros_like(x) + layer.b_O
        for h in range(a.n_heads):
            q, k, v = (z @ w[h].astype(wide) + b[h] for w, b in (
                (layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V)))  # fmt: skip
            scores = q @ k.T * wide(a.attention_scale[index])
            if a.attention == "causal":
                scores[np.triu(np.ones(scores.shape, bool), 1)] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed = mixed + weights @ v / weights.sum(axis=1, keepdims=True) @ layer.W_O[h].astype(wide)
        x = x + mixed
        hidden = norm(x, layer.norm_mlp) @ layer.W_in.astype(wide) + layer.b_in
        gate = 1 / (1 + np.exp(-2 * np.sqrt(2 / wide(np.pi)) * (hidden + wide(0.044715) * hidden**3)))
        x = x + (hidden * gate) @ layer.W_out.astype(wide) + layer.b_out
    return np.asarray(norm(x, network.norm_final)[-1] @ network.W_U.astype(wide) + network.b_U)


def decided(
    network: Network,
    domain: Domain,
    claims: tuple[Arithmetic, ...],
    dtype: type,
    *,
    fine: bool,
    tie: float | None = None,
) -> Decided:
    weights = measure_weights(network, domain.readout)
    weights = weights if tie is None else replace(weights, tie=tie)
    stages = Stages(network, domain.readout, weights, dtype, claims, is_fine=fine)
    form = CellFormat.of(domain.readout, domain.vocabulary)
    return decide_inputs(StagesForward(stages), domain, form, domain.tokens(4, 0, domain.size_at(4)), 0)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n_layers=st.integers(0, 2), spread=st.sampled_from([0.05, 0.3, 0.8]))
def test_errors_stay_within_every_bound(seed: int, n_layers: int, spread: float) -> None:
    network = random_network(seed, n_layers=n_layers, spread=spread)
    domain = make_domain(max_length=4)
    exact = exact_margins(network, domain, domain.tokens(4, 0, 16))
    for dtype in (np.float32, np.float64, np.longdouble):
        for fine in (False, True):
            found = decided(network, domain, (), dtype, fine=fine, tie=2.0**-500)  # what is left is rounding alone
            own = 2 if dtype is np.longdouble else 1  # what is called exact is rounded too
            assert (np.abs(found.margins - exact) <= own * found.bounds).all()
            assert np.isfinite(found.bounds).all() or dtype is np.float32
    coarse = decided(network, domain, (), np.float64, fine=False).bounds
    assert (decided(network, domain, (), np.float64, fine=True).bounds <= coarse * 1.01).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n_layers=st.integers(1, 2))
def test_a_claim_about_float32_covers_float32(seed: int, n_layers: int) -> None:
    network = random_network(seed, n_layers=n_layers, spread=0.3)
    domain = make_domain(max_length=4)
    strict = decided(network, domain, claims_of("f32-any-order"), np.float64, fine=True)
    narrow = decided(network, domain, (), np.float32, fine=True)
    usual = decided(network, domain, (), np.float64, fine=True)
    assert (strict.bounds >= usual.bounds).all()
    assert (np.abs(strict.margins - narrow.margins) <= strict.bounds).all()
    sure = strict.margins > strict.bounds
    assert np.array_equal(strict.cells[:, sure], narrow.cells[:, sure])


def test_the_least_deviation_keeps_constant_vectors_finite() -> None:
    network = random_network(1, spread=0.3)
    flat = np.ones_like(network.embed)
    constant = replace(network, embed=flat, pos_embed=None, W_U=network.W_U)
    domain = make_domain(max_length=4)
    found = decided(constant, domain, (), np.float64, fine=False)
    assert np.isfinite(found.bounds).all()
    logits = brute_logits(constant, [0, 1, 0, 1], 0)[-1]
    top = np.sort(logits)[::-1]
    assert np.allclose(found.margins, top[0] - top[1], atol=1e-9)


@pytest.mark.parametrize("arithmetic", [FLOAT32, FLOAT64])
def test_large_values_make_the_bound_infinite(arithmetic: Arithmetic) -> None:
    dtype = np.float32 if arithmetic is FLOAT32 else np.float64
    network = random_network(2, spread=0.3)
    huge = replace(network, embed=network.embed * np.float32(1e30))
    domain = make_domain(max_length=4)
    with np.errstate(all="ignore"):
        bounds = decided(huge, domain, (), dtype, fine=False).bounds
    assert np.isinf(bounds).all() == (arithmetic is FLOAT32)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_every_run_of_consecutive_values_has_its_own_extremes(group: int, n_runs: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=group * n_runs)
    runs = [values[i : i + group] for i in range(0, len(values), group)]
    assert list(group_max(values, group)) == [run.max() for run in runs]  # type: ignore[arg-type]
    assert list(group_min(values, group)) == [run.min() for run in runs]  # type: ignore[arg-type]
    assert (group_max(values, None), group_min(values, None)) == (values.max(), values.min())
