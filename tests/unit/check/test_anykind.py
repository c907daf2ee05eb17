"""The checker's forward pass of any architecture: the same function as torch's, and bounds that hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.check.anykind import AnyKind
from extract.check.forward import Forward as CheckForward
from extract.check.reader import read_network
from extract.check.weights import Head, Rotary
from extract.model.forward import Forward
from extract.readout import ReadOut
from extract.verify.partwise import Partwise
from tests.architectures import Parts, network_of, parts
from tests.networks import random_network, write_gpt2, write_neutral

LETTERS = ReadOut("last", "argmax", (0, 1, 2, 3))


@settings(max_examples=150, deadline=None)
@given(drawn=parts, seed=st.integers(0, 999))
def test_three_forward_passes_agree_and_every_bound_holds(drawn: Parts, seed: int) -> None:
    """Torch, the verifier and the checker share no code for this; the truth is the verifier's in more than float64."""
    network = network_of(drawn, seed)
    prompts = np.random.default_rng(seed).integers(0, 4, (5, 5)).astype(np.int32)
    with TemporaryDirectory() as place:
        weights = read_network(write_neutral(network, Path(place)))
    said = Forward(network).logits(torch.from_numpy(prompts.astype(np.int64)), 1).numpy()
    places = (0, 1, 2, 3, 4)
    is_exact = "gelu_erf" not in (drawn.activation, drawn.head)
    with np.errstate(all="ignore"):
        truth = said.astype(np.longdouble)
        if is_exact:
            truth = Partwise(network, LETTERS, np.longdouble, is_fine=True).values(prompts, 1, places)[0]
        checked, bounds = AnyKind(weights).logits(prompts, 1, 0)
        found = [
            Partwise(network, LETTERS, np.float64, is_fine=fine).values(prompts, 1, places) for fine in (True, False)
        ]
    size = 1 + np.abs(said).max()
    room = (2.0**-62 if is_exact else 1e-12) * size
    for values, errors in [*found, (checked, np.broadcast_to(bounds[1][..., None], checked.shape))]:
        is_bounded = errors < np.inf
        assert (np.abs(values - said)[is_bounded] <= 1e-9 * size).all()
        assert (np.abs(values - truth)[is_bounded] <= errors[is_bounded] + room).all()
    if network.architecture.masked_token is None and drawn.norm != "none":
        assert np.isfinite(found[0][1]).mean() > 0.5


def test_whatever_is_not_of_gpt2s_kind_is_not_taken_for_it(tmp_path: Path) -> None:
    """One thing more than GPT-2 has, or one less: the bounds for its kind refuse it, and a certificate tells it."""
    plain = read_network(write_gpt2(random_network(1), tmp_path))
    assert plain.has_plain_parts and plain.is_plain and CheckForward(plain).weights is plain
    d, k, m = len(plain.W_U), plain.layers[0].W_Q.shape[2], plain.layers[0].W_in.shape[1]
    pair = lambda n: (np.ones(n), np.zeros(n))  # noqa: E731
    told: dict[str, Any] = {
        "norm_place": "after", "masked_token": 0,
        "embed_scale": 2.0, "norm": "rms", "activation": "solu",
        "head": Head(np.eye(d), np.zeros(d), None, "relu"),
    }  # fmt: skip
    changed = {name: replace(plain, **{name: value}) for name, value in told.items()}
    changed["softmax_share"] = replace(plain, attention="bidirectional", softmax_share=0.5)
    changed["rotary"] = replace(plain, pos_embed=None, rotary=Rotary(1e4, k, "halves"))
    assert all(w.facts != plain.facts for w in changed.values())
    changed |= {"embed_bias": replace(plain, embed_bias=np.ones(d)), "no last norm": replace(plain, norm_final=None)}
    for name, value in (
        ("norm_query", pair(k)), ("norm_key", pair(k)), ("norm_hidden", pair(m)), ("norm_mlp", None),
        ("norm_attention", None), ("gate", (np.ones((d, m)), np.zeros(m))),
    ):  # fmt: skip
        changed[name] = replace(plain, layers=(replace(plain.layers[0], **{name: value}),))
    for name, weights in changed.items():
        assert not weights.has_plain_parts, name
        with pytest.raises(ValueError, match="GPT-2"):
            CheckForward(weights)
