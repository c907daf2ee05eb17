"""The forward pass: it equals transformers' and a plain-numpy one, however it is asked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import DomainError
from extract.formats import load_checkpoint
from extract.model.forward import Forward
from extract.model.parts import activate
from extract.model.trace import activation_names
from extract.network import Activation, Attention, Network, Norm
from tests.networks import random_network, write_gpt2

ACTIVATIONS: list[Activation] = ["gelu_tanh", "gelu_erf", "relu", "silu"]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def plain_activation(x: Floats, activation: Activation) -> Floats:
    if activation == "gelu_tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    if activation == "gelu_erf":
        return np.asarray(0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))
    return np.asarray(np.maximum(x, 0) if activation == "relu" else x / (1 + np.exp(-x)))


def plain_norm(x: Floats, norm: Norm | None, eps: float) -> Floats:
    if norm is None:
        return x
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * norm.weight + norm.bias)


def plain_logits(network: Network, prompt: list[int], offset: int) -> Floats:
    """One prompt, one position and one head at a time, in numpy."""
    a = network.architecture
    x = network.embed[prompt].astype(np.float64)
    if network.pos_embed is not None:
        x = x + network.pos_embed[offset : offset + len(prompt)]
    for layer, scale in zip(network.layers, a.attention_scale, strict=True):
        normed, total = plain_norm(x, layer.norm_attention, a.norm_eps), np.tile(layer.b_O.astype(float), (len(x), 1))
        for h in range(a.n_heads):
            q = normed @ layer.W_Q[h] + layer.b_Q[h]
            k = normed @ layer.W_K[h] + layer.b_K[h]
            v = normed @ layer.W_V[h] + layer.b_V[h]
            for t in range(len(x)):
                stop = t + 1 if a.attention == "causal" else len(x)
                weights = np.exp(scale * (k[:stop] @ q[t]) - (scale * (k[:stop] @ q[t])).max())
                total[t] += (weights / weights.sum()) @ v[:stop] @ layer.W_O[h]
        x = x + total
        pre = plain_norm(x, layer.norm_mlp, a.norm_eps) @ layer.W_in + layer.b_in
        x = x + plain_activation(pre, a.activation) @ layer.W_out + layer.b_out
    return np.asarray(plain_norm(x, network.norm_final, a.norm_eps) @ network.W_U + network.b_U)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999),
    n_layers=st.integers(0, 3),
    attention=st.sampled_from(["causal", "bidirectional"]),
    activation=st.sampled_from(ACTIVATIONS),
    norm=st.sampled_from(["layernorm", "none"]),
    has_positions=st.booleans(),
    offset=st.integers(0, 5),
    n_tokens=st.integers(1, 7),
)
def test_it_computes_the_definition(
    seed: int, n_layers: int, attention: Attention, activation: Activation, norm: Any, has_positions: bool,
    offset: int, n_tokens: int,
) -> None:  # fmt: skip
    network = random_network(
        seed, n_layers, 8, 2, activation=activation, attention=attention, norm=norm, has_positions=has_positions,
        d_vocab_out=3, spread=0.4,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    prompts = rng.integers(0, 5, (9, n_tokens))
    forward = Forward(network)
    logits = forward.logits(torch.from_numpy(prompts), offset)
    expected = np.stack([plain_logits(network, row.tolist(), offset) for row in prompts])
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-10, atol=1e-10)
    read = rng.permutation(n_tokens)[:2].tolist()
    some = forward.logits(torch.from_numpy(prompts), offset, read)
    np.testing.assert_allclose(some.numpy(), expected[:, read], rtol=1e-10, atol=1e-10)
    single = Forward(network, "float32").logits(torch.from_numpy(prompts), offset)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-3, atol=1e-3)


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 5), st.integers(0, 3))
def test_going_on_from_memory_equals_starting_again(seed: int, n_layers: int, n_first: int, offset: int) -> None:
    network = random_network(seed, n_layers, 8, 2)
    forward = Forward(network)
    prompts = torch.from_numpy(np.random.default_rng(seed).integers(0, 5, (6, 9)))
    logits, memory = forward.begin(prompts[:, :n_first], offset)
    rows = torch.tensor([4, 0, 5, 2])
    prompts, memory = prompts[rows], memory.take(rows)
    for n in range(n_first, 9):
        logits, memory = forward.extend(memory, prompts[:, n])
        expected = forward.logits(prompts[:, : n + 1], offset, [n])[:, 0]
        torch.testing.assert_close(logits, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("tied", [True, False])
def test_it_equals_transformers(tmp_path: Path, activation: Activation, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    for seed, by_layer in ((1, False), (2, True)):
        network = random_network(seed, 2, 16, 4, 7, 20, activation=activation, tied=tied, spread=0.3)
        folder = write_gpt2(network, tmp_path / f"{seed}")
        config = folder / "config.json"
        flag = '"scale_attn_by_inverse_layer_idx": '
        config.write_text(config.read_text().replace(flag + "false", flag + str(by_layer).lower()))
        reference = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
        assert_equals_transformers(reference, load_checkpoint(folder).network)


def test_real_checkpoints_equal_transformers(shared_checkpoints: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for folder in sorted((shared_checkpoints / "drasp").iterdir()):
        reference = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
        assert_equals_transformers(reference, load_checkpoint(folder).network)


def assert_equals_transformers(reference: Any, network: Network) -> None:
    prompts = torch.from_numpy(np.random.default_rng(0).integers(0, network.architecture.d_vocab, (8, 12)))
    with torch.no_grad():
        expected = reference.double()(prompts, position_ids=torch.arange(3, 15).expand(8, -1)).logits
    difference = (Forward(network).logits(prompts, 3) - expected).abs().max()
    assert difference < 1e-9


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_traces(attention: Attention) -> None:
    network = random_network(3, 2, 8, 2, attention=attention)
    forward = Forward(network)
    prompts = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (4, 6)))
    trace = forward.trace(prompts, 2)
    assert tuple(trace.activations) == activation_names(2)
    np.testing.assert_allclose(trace["logits"], forward.logits(prompts, 2).numpy(), rtol=1e-11, atol=1e-11)
    for i in range(2):
        pattern, shares = trace[f"layers.{i}.pattern"], trace[f"layers.{i}.heads"]
        assert pattern.shape == (4, 2, 6, 6) and shares.shape == (4, 2, 6, 8)
        np.testing.assert_allclose(pattern.sum(-1), 1)
        assert (np.triu(pattern, 1) == 0).all() == (attention == "causal")
        total = shares.sum(1) + network.layers[i].b_O
        np.testing.assert_allclose(trace[f"layers.{i}.attention"], total)
        before = trace["embed"] if i == 0 else trace[f"layers.{i - 1}.residual"]
        np.testing.assert_allclose(trace[f"layers.{i}.middle"], before + trace[f"layers.{i}.attention"])
        np.testing.assert_allclose(
            trace[f"layers.{i}.residual"], trace[f"layers.{i}.middle"] + trace[f"layers.{i}.mlp"]
        )
    assert np.array_equal(trace.attention_pattern(1, 1), trace["layers.1.pattern"][:, 1])
    assert set(forward.trace(prompts, 0, ["final"]).activations) == {"final"}
    for layer, head, message in ((2, 0, "network with 2 layers"), (0, 5, "layer 0, which has 2 heads")):
        with pytest.raises(DomainError, match=message):
            trace.attention_pattern(layer, head)
    with pytest.raises(DomainError, match=r"no activation 'nonsense'"):
        trace["nonsense"]


def test_a_hook_replaces_activations() -> None:
    network = random_network(4, 2, 8, 2)
    forward = Forward(network)
    prompts = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (4, 6)))

    def without_last_layer(name: str, value: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(value) if name in ("layers.1.attention", "layers.1.mlp") else value

    shallow = forward.trace(prompts)["layers.0.residual"].astype(np.float64)
    final = plain_norm(shallow, network.norm_final, network.architecture.norm_eps)
    ablated = forward.logits(prompts, 0, [5, 1], hook=without_last_layer)
    np.testing.assert_allclose(ablated.numpy(), (final @ network.W_U)[:, [5, 1]], rtol=1e-10, atol=1e-10)


def test_what_does_not_fit_is_refused() -> None:
    forward = Forward(random_network(5, n_ctx=6))
    with pytest.raises(DomainError, match="prompt of 5 tokens at offset 2 needs position ids up to 6, but n_ctx is 6"):
        forward.logits(torch.zeros((1, 5), dtype=torch.long), 2)
    with pytest.raises(DomainError, match="empty prompt"):
        forward.logits(torch.zeros((1, 0), dtype=torch.long))
    with pytest.raises(DomainError, match="token ids 0 to 9, expected 0 to 4"):
        forward.logits(torch.tensor([[0, 9]]))
    _, memory = forward.begin(torch.zeros((1, 6), dtype=torch.long))
    with pytest.raises(DomainError, match="7 tokens at offset 0"):
        forward.extend(memory, torch.zeros(1, dtype=torch.long))
    both = Forward(random_network(5, attention="bidirectional"))
    _, memory = both.begin(torch.zeros((1, 2), dtype=torch.long))
    with pytest.raises(DomainError, match="cannot be extended"):
        both.extend(memory, torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: Activation) -> None:
    x = np.linspace(-6, 6, 200)
    np.testing.assert_allclose(
        activate(torch.from_numpy(x), activation).numpy(), plain_activation(x, activation), atol=1e-14
    )
