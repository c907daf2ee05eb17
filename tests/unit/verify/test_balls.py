"""Balls beside affine forms: what is computed of a form holds what the functions make of everything in it."""

from __future__ import annotations

import numpy as np
import pytest

from extract.check import spans
from extract.verify.affine import Affine, Map


@pytest.mark.parametrize("seed", range(12))
def test_a_norm_a_map_and_an_activation_hold_every_vector(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, size = 6, float(rng.choice([1e-3, 0.1, 0.4]))
    centre, noise, matrix = rng.normal(0, 1, n), 0.1 * rng.normal(0, 1, (n, 3)), rng.normal(0, 1, (4, n))
    form = Affine(centre, noise, np.zeros(n)).with_ball(np.array(size))
    centred = form.centred()
    z = centred.times(centred.square_mean(1e-5).inverse_root())
    made = z.mapped(Map(matrix, np.zeros(4), np.abs(matrix), np.zeros(4))).activated("gelu_tanh")
    theirs = spans.Form(centre, noise, np.zeros(n), size * np.eye(n)[None])
    normed, _ = spans.normalised(theirs, 1e-5)
    other = spans.linear(normed, matrix, np.zeros(4), np.abs(matrix), np.zeros(4))
    for _ in range(200):
        e, v = rng.uniform(-1, 1, 3), rng.normal(0, 1, n)
        x = centre + noise @ e + size * v / np.linalg.norm(v)
        c = x - x.mean()
        hidden = matrix @ (c / np.sqrt((c * c).mean() + 1e-5))
        active = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
        assert (np.abs(active - made.centre) <= made.reach).all()
        assert (np.abs(hidden - other.centre) <= other.reach()).all()
    if size < 0.01:
        # what moves along the ball is as its norm says, not as the sum over its coordinates
        bare = Affine(centre, noise, np.zeros(n)).mapped(Map(matrix, np.zeros(4), np.abs(matrix), np.zeros(4)))
        with_ball = form.mapped(Map(matrix, np.zeros(4), np.abs(matrix), np.zeros(4)))
        assert (with_ball.reach - bare.reach <= size * np.linalg.norm(matrix, axis=1) * (1 + 1e-6)).all()
