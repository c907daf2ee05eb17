"""The forward pass of every architecture, against torch's own modules and against formulas written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from extract.errors import CheckpointError
from extract.model.forward import Forward, nothing_seen
from extract.network import Norm
from tests.architectures import Parts, network_of, parts


def as_tensor(array: Any) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(array))


@pytest.mark.parametrize("attention", ("bidirectional", "causal"))
@pytest.mark.parametrize("activation", ("relu", "gelu_erf"))
@pytest.mark.parametrize("place", ("before", "after"))
def test_it_is_torch_s_own_encoder(place: Any, activation: Any, attention: Any) -> None:
    drawn = Parts(n_layers=2, attention=attention, norm_place=place, activation=activation)
    network = network_of(drawn, 3)
    a = network.architecture
    layer = nn.TransformerEncoderLayer(
        a.d_model, a.n_heads, a.d_mlp, 0.0, "relu" if activation == "relu" else "gelu", a.norm_eps,
        batch_first=True, norm_first=place == "before",
    )  # fmt: skip
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(a.d_model, a.norm_eps), enable_nested_tensor=False).eval()
    with torch.no_grad():
        for theirs, ours in zip(encoder.layers, network.layers, strict=True):
            joined = [w.transpose(1, 0, 2).reshape(a.d_model, -1).T for w in (ours.W_Q, ours.W_K, ours.W_V)]
            theirs.self_attn.in_proj_weight.copy_(as_tensor(np.concatenate(joined)))
            biases = np.concatenate([b.reshape(-1) for b in (ours.b_Q, ours.b_K, ours.b_V)])
            theirs.self_attn.in_proj_bias.copy_(as_tensor(biases))
            theirs.self_attn.out_proj.weight.copy_(as_tensor(ours.W_O.reshape(-1, a.d_model).T))
            theirs.self_attn.out_proj.bias.copy_(as_tensor(ours.b_O))
            for module, weight, bias in (
                (theirs.linear1, ours.W_in.T, ours.b_in),
                (theirs.linear2, ours.W_out.T, ours.b_out),
            ):
                module.weight.copy_(as_tensor(weight))
                module.bias.copy_(as_tensor(bias))
            for module, norm in ((theirs.norm1, ours.norm_attention), (theirs.norm2, ours.norm_mlp)):
                assert norm is not None
                module.weight.copy_(as_tensor(norm.weight))
                module.bias.copy_(as_tensor(norm.bias))
        assert encoder.norm is not None and network.norm_final is not None and network.pos_embed is not None
        encoder.norm.weight.copy_(as_tensor(network.norm_final.weight))
        encoder.norm.bias.copy_(as_tensor(network.norm_final.bias))
        tokens = torch.randint(0, 4, (7, 6), generator=torch.Generator().manual_seed(0))
        x = as_tensor(network.embed)[tokens] + as_tensor(network.pos_embed)[:6]
        mask = nn.Transformer.generate_square_subsequent_mask(6) if attention == "causal" else None
        expected = encoder(x, mask=mask) @ as_tensor(network.W_U) + as_tensor(network.b_U)
    found = Forward(network).logits(tokens)
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("pairing", ("halves", "neighbours"))
@pytest.mark.parametrize("n_dims", (2, 4))
@pytest.mark.parametrize("offset", (0, 3))
def test_rotations_are_complex_products(offset: int, n_dims: int, pairing: str) -> None:
    """A pair of numbers is a complex number, and turning by an angle multiplies it: scores are real parts."""
    drawn = Parts(norm="none", positions="rotary", rotary_dims=n_dims, pairing=pairing, has_mlp=False)
    network = network_of(drawn, 5)
    tokens = np.array([[0, 3, 1, 2, 2]])
    found = Forward(network).trace(as_tensor(tokens), offset)["layers.0.scores"][0]
    x, layer = network.embed[tokens[0]].astype(np.float64), network.layers[0]
    for h in range(2):
        q, k = x @ layer.W_Q[h] + layer.b_Q[h], x @ layer.W_K[h] + layer.b_K[h]
        score = q[:, n_dims:] @ k[:, n_dims:].T
        for i in range(n_dims // 2):
            a, b = (i, i + n_dims // 2) if pairing == "halves" else (2 * i, 2 * i + 1)
            turn = np.exp(1j * (np.arange(5) + offset) * 100.0 ** (-2 * i / n_dims))
            one, two = (q[:, a] + 1j * q[:, b]) * turn, (k[:, a] + 1j * k[:, b]) * turn
            score = score + (one[:, None] * two.conj()).real
        assert np.allclose(found[h], score * network.architecture.attention_scale[0], atol=1e-12)


def test_rotations_see_differences_of_positions_only() -> None:
    network = network_of(Parts(n_layers=2, positions="rotary", attention="causal"), 1)
    tokens = torch.tensor([[0, 1, 2, 3]])
    assert torch.allclose(Forward(network).logits(tokens, 0), Forward(network).logits(tokens, 5), atol=1e-11)


def test_a_masked_key_is_as_good_as_absent() -> None:
    """Without positions, a bidirectional network answers as if hidden tokens were not there."""
    network = network_of(Parts(n_layers=2, positions="none", masked_token=3), 2)
    long = Forward(network).logits(torch.tensor([[3, 0, 1, 3, 2]]), read=[1, 2, 4])
    assert torch.allclose(long, Forward(network).logits(torch.tensor([[0, 1, 2]])), atol=1e-12)


def test_mixed_attention_adds_every_value() -> None:
    network = network_of(Parts(norm="none", softmax_share=0.25, has_mlp=False), 4)
    tokens = torch.tensor([[0, 1, 2]])
    mixed = Forward(network).trace(tokens)["layers.0.pattern"]
    a = replace(network.architecture, softmax_share=1.0)
    plain = Forward(replace(network, architecture=a)).trace(tokens)["layers.0.pattern"]
    assert np.allclose(mixed, 0.25 * plain + 0.75)


def test_mixed_attention_that_hides_keys_is_refused() -> None:
    network = network_of(Parts(softmax_share=0.25), 4)
    for change in ({"attention": "causal"}, {"masked_token": 0}):
        with pytest.raises(CheckpointError, match="hidden"):
            replace(network, architecture=replace(network.architecture, **change))


def test_rms_norms_gates_and_solu_by_hand() -> None:
    drawn = Parts(norm="rms", activation="solu", has_gate=True, has_hidden_norm=True, has_final_norm=False)
    network = network_of(drawn, 6)
    trace, layer = Forward(network).trace(torch.tensor([[0, 1, 2]])), network.layers[0]

    def rms(x: Any, norm: Norm | None) -> Any:
        assert norm is not None
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-3) * norm.weight

    assert layer.W_gate is not None and layer.b_gate is not None
    z = rms(trace["layers.0.middle"], layer.norm_mlp)
    gate = z @ layer.W_gate.astype(np.float64) + layer.b_gate
    share = np.exp(gate - gate.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    units = rms(gate * share * (z @ layer.W_in.astype(np.float64) + layer.b_in), layer.norm_hidden)
    assert np.allclose(trace["layers.0.mlp_pre"], gate, atol=1e-12)
    assert np.allclose(trace["layers.0.mlp_post"], units, atol=1e-12)
    assert math.isclose(float(trace["layers.0.pattern"].sum()), 6.0, abs_tol=1e-12)


@settings(max_examples=40, deadline=None)
@given(drawn=parts, seed=st.integers(0, 99))
def test_nothing_depends_on_how_it_is_run(drawn: Parts, seed: int) -> None:
    """The table of the first layer, hooks, positions read and token by token are all the same function."""
    network = network_of(drawn, seed)
    forward = Forward(network)
    tokens = torch.randint(0, 4, (3, 5), generator=torch.Generator().manual_seed(seed))
    every = forward.logits(tokens, 2)
    room = 1e-9 * float(1 + every.abs().max())
    hooked = forward.logits(tokens, 2, hook=lambda _, value: value)
    assert (every - hooked).abs().max() <= room
    assert (every[:, [1, 4]] - forward.logits(tokens, 2, read=[1, 4])).abs().max() <= room
    if network.architecture.attention == "causal":
        memory, pieces = nothing_seen(2), []
        for i in range(5):
            logits, memory = forward.run(tokens[:, i : i + 1], memory, [0])
            pieces.append(logits)
        assert (torch.cat(pieces, dim=1) - every).abs().max() <= room
