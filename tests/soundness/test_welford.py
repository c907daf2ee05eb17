"""Welford's update in float32 against what both sides say it is off by, in any order and by quotient or product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from extract.check.forward import SINGLE, Forward, centring
from extract.check.reader import read_network
from extract.verify.rounding import FLOAT32, Analysis, gamma, welford
from extract.verify.stages import claims_of
from extract.verify.weight_norms import measure_weights
from tests.networks import random_network, write_gpt2
from tests.unit.verify.enumeration_cases import make_domain

F32, LONG = np.float32, np.longdouble
Floats = NDArray[Any]


def by_update(x: Floats, order: Floats, is_product: bool) -> tuple[Floats, Floats]:
    """Welford's mean and sum of squares of the last axis in float32."""
    mean, squares = np.zeros(x.shape[:-1], F32), np.zeros(x.shape[:-1], F32)
    for n, k in enumerate(order, 1):
        step = x[..., k] - mean
        mean = mean + (step * (F32(1) / F32(n)) if is_product else step / F32(n))
        squares = squares + step * (x[..., k] - mean)
    return mean, squares


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(-4, 6), st.sampled_from(["flat", "one", "steps"]))
@settings(max_examples=150, deadline=None)
def test_an_update_is_off_by_what_is_said(seed: int, d: int, size: float, kind: str) -> None:
    """Of the mean by the mean of absolute values, of the root of the squares by the norm; both sides say the same."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, d)
    x = {"flat": x + 10**size, "one": np.where(np.arange(d) == 0, 10**size, x), "steps": np.sort(x) * 10**size}[kind]
    x = x.astype(F32)
    true, unit = x.astype(LONG), FLOAT32.unit
    mean, squares = by_update(x, rng.permutation(d), bool(rng.integers(2)))
    means, roots = welford(d)
    assert np.allclose((means, roots / 2), centring(d), rtol=1e-12)
    assert abs(mean - true.mean()) <= gamma(means, unit) * np.abs(true).mean()
    real = np.sqrt(((true - true.mean()) ** 2).sum())
    relative = gamma(d + 3, unit)
    highest = (real + gamma(roots, unit) / 2 * np.sqrt((true * true).sum())) ** 2 * (1 + relative)
    assert squares <= highest
    off = max(0.0, float(real - gamma(roots, unit) / 2 * np.sqrt((true * true).sum())))
    assert squares >= off**2 - relative * highest


@pytest.mark.parametrize("d", (2, 4, 8, 30))
def test_normalised_rows_are_off_by_less_than_both_sides_say(d: int, tmp_path: Path) -> None:
    """Means far above deviations, in hostile orders; a bound that does not hold there is infinite instead."""
    network = random_network(0, d_model=d, n_heads=1, d_mlp=2)
    forward = Forward(read_network(write_gpt2(network, tmp_path)), SINGLE)
    readout = make_domain().readout
    analysis = Analysis(measure_weights(network, readout), claims_of("f32-any-order"))
    single = next(i for i, a in enumerate(analysis.arithmetics) if a.unit == SINGLE)
    eps, rng, closest = network.architecture.norm_eps, np.random.default_rng(d), [0.0, 0.0]
    for _ in range(600):
        x = (rng.normal(0, 1, d) + 10.0 ** rng.uniform(-1, 4) * rng.choice([0.0, 1.0, -1.0])).astype(F32)
        true = x.astype(LONG)
        real = (true - true.mean()) / np.sqrt(((true - true.mean()) ** 2).mean() + LONG(eps))
        order = np.argsort(-np.abs(x)) if rng.integers(2) else rng.permutation(d)
        mean, squares = by_update(x, order, bool(rng.integers(2)))
        deviation = np.sqrt(squares / F32(d) + F32(eps))
        made = (x - mean) * (F32(1) / deviation) if rng.integers(2) else (x - mean) / deviation
        off = float(np.linalg.norm((made.astype(LONG) - real).astype(float)))
        norm, spread = float(np.linalg.norm(x.astype(float))), float(np.sqrt(true.astype(float).var() + eps))
        zero = (0.0,) * len(analysis.arithmetics)
        bounds = forward.normalised_error(0.0, norm, spread), analysis.normalise(zero, spread, norm)[single]
        for side, bound in enumerate(bounds):
            assert off <= bound
            closest[side] = max(closest[side], off / float(bound))
    assert min(closest) > 0.02  # the bounds say something
