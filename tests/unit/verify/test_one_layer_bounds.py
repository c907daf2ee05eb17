"""The steps of one layer's bounds by themselves, where a whole proof would not show a bound that is too small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.check.forward import Forward
from extract.check.margins import Margins
from extract.check.reader import read_network
from extract.verify.box_proof import BoxProver, _SumRun
from extract.verify.final_stage import Cell, FinalStage
from tests.networks import random_network, write_gpt2
from tests.soundness.test_box_bounds import drawn_case, paths_of
from tests.unit.check.test_spans import after_attention
from tests.unit.verify.enumeration_cases import make_domain


@pytest.mark.parametrize("seed", range(30))
def test_ranges_about_any_centre_hold_every_string(seed: int) -> None:
    """Whatever vectors outputs are taken from, and of whatever sign the range is then."""
    network, domain, program, _ = drawn_case(seed, 4)
    prover, paths, rng = BoxProver(network, domain), paths_of(domain, program, 4), np.random.default_rng(seed)
    run = prover._run(4, 0, ((0,),))
    assert isinstance(run, _SumRun)
    if run.query_letter is not None:
        only = paths.with_letters(run.query_letter, paths.letters_at(run.query_letter)[:1])
        assert only is not None
        paths = only
    sums = prover._sums(run, paths)
    outputs, extent = sums.rows(paths.strings()) - sums.base, sums.extent(paths)
    if not (extent[0] > 0).all():
        return
    for size in (0.0, 1.0, 30.0):
        centres = sums.centres(paths) + size * rng.normal(0, 1, sums.centres(paths).shape)
        directions = rng.normal(0, 1, (outputs.shape[1], 6))
        low, high = sums.range(paths, centres, directions, extent)
        along = (outputs - centres.sum(axis=0)) @ directions
        room = 1e-12 * (1 + np.abs(along).max())
        assert (low <= along.min(axis=0) + room).all() and (along.max(axis=0) <= high + room).all()


@pytest.mark.parametrize("seed", range(20))
def test_margins_of_what_occurs_are_above_their_bounds(seed: int, tmp_path: Path) -> None:
    """What occurs may be any part of a cell, a corner alone too: both sides' bounds hold there, cut or not."""
    rng = np.random.default_rng(seed)
    network = random_network(seed, d_model=8, spread=0.5)
    forward = Forward(read_network(write_gpt2(network, tmp_path)))
    domain = make_domain(choices=("a", "b", "c"))
    final, columns = FinalStage(network, domain.readout), forward.weights.W_U[:, :1] - forward.weights.W_U[:, 1:3]
    margins = Margins(forward, columns, np.abs(columns) + 2 * np.abs(forward.weights.W_U[:, 1:3]), np.zeros(2))
    axes = np.linalg.qr(rng.normal(0, 1, (8, 8)))[0]
    for width in (0.02, 0.3, 1.0):
        centre, low = rng.normal(0, 1, 8), -width * rng.uniform(0, 1, 8)
        high = low + width * rng.uniform(0.5, 1.5, 8)
        for share in (np.zeros(8), np.ones(8), rng.integers(0, 2, 8), rng.uniform(0, 1, 8)):
            z = low + share * (high - low)
            logits = after_attention(forward.weights, (centre + axes @ z).astype(np.longdouble))
            true = float((logits[0] - logits[1:3]).min())

            def below(directions: Any, z: Any = z) -> Any:
                return directions @ z - 1e-12 * np.abs(directions).sum(axis=1)

            cell, slip = Cell(centre, axes, low, high, np.full(8, 1e-12)), np.full(8, 1e-12)
            for n_pieces in (1, 8):
                assert final.least(cell, (0,), n_pieces, below)[0] <= true
                # what gives up returns some number that is not positive
                found = margins.least(centre, axes, low, high, slip, below, n_pieces)
                assert found <= max(true, 0.0)
            assert margins._piece(centre, axes, low, high, slip, below)[0] <= true


@pytest.mark.parametrize("seed", range(4))
def test_weights_that_may_vanish_say_nothing(seed: int) -> None:
    """Where a denominator is not known to be positive no range is, and no vector."""
    network, domain, program, _ = drawn_case(seed, 4)
    prover, paths = BoxProver(network, domain), paths_of(domain, program, 4)
    run: Any = prover._run(4, 0, ((0,),))
    if run.query_letter is not None:
        paths = paths.with_letters(run.query_letter, paths.letters_at(run.query_letter)[:1]) or paths
    sums = prover._sums(run, paths)
    least, most = sums.extent(paths)
    assert (least > 0).all() and (least <= most).all()
    centres = sums.centres(paths)
    directions = np.eye(centres.shape[1])
    for h in range(len(least)):
        for low in (0.0, -1.0, np.nan):
            some = least.copy()
            some[h] = low
            below, above = sums.range(paths, centres, directions, (some, most))
            assert not np.isfinite(below).any() and not np.isfinite(above).any()
            errors = sums.errors(some)
            assert not np.isfinite(errors).any()
    assert np.isfinite(sums.errors(least)).all() and np.min(sums.errors(least)) > 0
    # what a weight times itself may lose counts, the more the smaller the denominator
    assert float(sums.errors(least * 1e-290)[0]) > float(sums.errors(least)[0])
    own = np.where(sums.weights[..., None] > 0, sums.values / np.maximum(sums.weights, 1e-300)[..., None], 0.0)
    assert (np.abs(own).max(axis=(1, 2)) <= sums.reach).all()
