"""Hugging Face GPT-2 files: a network written is the network read, whatever the variant; a lie is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from extract.errors import CheckpointError, SpecError
from extract.formats import inspect_checkpoint, load_checkpoint
from extract.network import Activation, Network
from extract.spec import ModelFacts
from tests.networks import gpt2_tensors, random_network, write_gpt2

ACTIVATIONS: list[Activation] = ["gelu_tanh", "gelu_erf", "relu", "silu"]


def same(left: Network, right: Network) -> bool:
    pairs = zip(left._expected_shapes(), right._expected_shapes(), strict=True)
    return left.architecture == right.architecture and all(
        a[0] == b[0] and np.array_equal(a[1], b[1]) for a, b in pairs
    )


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for key, value in changes.items():
        if value is KeyError:
            values.pop(key, None)
        else:
            values[key] = value
    path.write_text(json.dumps(values))


def edit_tensors(folder: Path, **changes: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    for key, value in changes.items():
        tensors[key.replace("__", ".")] = value
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "model.safetensors")


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    n_layers=st.integers(0, 3),
    n_heads=st.sampled_from([1, 2, 4]),
    activation=st.sampled_from(ACTIVATIONS),
    tied=st.booleans(),
    prefix=st.sampled_from(["transformer.", ""]),
    d_mlp=st.sampled_from([None, 5]),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    n_layers: int,
    n_heads: int,
    activation: Activation,
    tied: bool,
    prefix: str,
    d_mlp: int | None,
) -> None:
    if n_layers == 0:
        d_mlp = None
    network = random_network(seed, n_layers, 8, n_heads, activation=activation, tied=tied, d_mlp=d_mlp)
    folder = write_gpt2(network, tmp_path_factory.mktemp("gpt2"), prefix)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.format == "gpt2"
    assert same(checkpoint.network, network)
    assert np.shares_memory(checkpoint.network.W_U, checkpoint.network.embed) == tied
    assert checkpoint.n_parameters == sum(t.size for t in gpt2_tensors(network).values())
    assert same(load_checkpoint(folder / "model.safetensors").network, network)


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_attention_scale(tmp_path: Path, scaled: bool, by_layer: bool) -> None:
    folder = write_gpt2(random_network(1, 3, 8, 2), tmp_path)
    edit_config(folder, scale_attn_weights=scaled, scale_attn_by_inverse_layer_idx=by_layer)
    base = 0.5 if scaled else 1.0
    expected = [base / (i + 1) if by_layer else base for i in range(3)]
    assert load_checkpoint(folder).network.architecture.attention_scale == pytest.approx(expected)


def test_names_and_descriptions_decide_nothing(tmp_path: Path) -> None:
    network = random_network(2)
    folder = write_gpt2(network, tmp_path)
    edit_config(folder, architectures=["GPT2BCELMHeadModel"], description="an adder", _name_or_path="majority")
    assert same(load_checkpoint(folder).network, network)


def test_buffers_are_passed_over(tmp_path: Path) -> None:
    network = random_network(3, 2)
    folder = write_gpt2(network, tmp_path)
    mask = np.triu(np.ones((1, 1, 12, 12), np.uint8))  # not even causal
    buffers: dict[str, Any] = {"transformer__position_ids": np.arange(12)[None]}
    for i in range(2):
        buffers |= {
            f"transformer__h__{i}__attn__bias": mask,
            f"transformer__h__{i}__attn__masked_bias": np.array(-np.inf, np.float32),
        }
    edit_tensors(folder, **buffers)
    checkpoint = load_checkpoint(folder)
    assert same(checkpoint.network, network)
    assert any("mask buffers" in line for line in checkpoint.evidence)
    edit_tensors(folder, transformer__h__0__attn__bias=mask[..., :5])
    with pytest.raises(CheckpointError, match=r"h\.0\.attn\.bias is \[1, 1, 12, 5\], expected \[1, 1, C, C\]"):
        load_checkpoint(folder)


def test_a_stored_head_that_equals_the_embedding_is_tied(tmp_path: Path) -> None:
    network = random_network(4)
    folder = write_gpt2(network, tmp_path)
    edit_tensors(folder, lm_head__weight=network.embed)
    loaded = load_checkpoint(folder).network
    assert np.shares_memory(loaded.W_U, loaded.embed)


def test_nanogpt_orientation_is_told_apart(tmp_path: Path) -> None:
    folder = write_gpt2(random_network(5, tied=False), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    turned = {k: np.ascontiguousarray(v.T) if ".c_" in k and v.ndim == 2 else v for k, v in tensors.items()}
    save_file(turned, folder / "model.safetensors")
    checkpoint = load_checkpoint(folder)
    assert checkpoint.format == "nanogpt"
    assert same(checkpoint.network, random_network(5, tied=False))


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"n_embd": 10**9}, "n_embd is 1000000000, expected 8"),
    ({"n_embd": 16}, "n_embd is 16, expected 8"),
    ({"n_embd": "8"}, 'n_embd is "8", expected a whole number'),
    ({"n_embd": True}, "n_embd is true, expected a whole number"),
    ({"n_layer": 3}, "n_layer is 3, expected 2"),
    ({"n_positions": 13}, "n_positions is 13, expected 12"),
    ({"n_ctx": 1024}, "n_ctx is 1024, expected 12"),
    ({"vocab_size": 50257}, "vocab_size is 50257, expected 5"),
    ({"n_head": 3}, "n_head is 3, expected a divisor of n_embd = 8"),
    ({"n_head": 0}, "n_head is 0, expected a divisor"),
    ({"n_head": -2}, "n_head is -2, expected a divisor"),
    ({"n_inner": 31}, "n_inner is 31, expected 32"),
    ({"activation_function": "tanhshrink"}, 'activation_function is "tanhshrink", expected one of gelu_new'),
    ({"activation_function": ["relu"]}, "activation_function is"),
    ({"layer_norm_epsilon": 0}, "layer_norm_epsilon is 0, expected a number above 0"),
    ({"layer_norm_epsilon": 10**400}, "layer_norm_epsilon is 1000"),
    ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is"),
    ({"scale_attn_weights": 1}, "scale_attn_weights is 1, expected true or false"),
    ({"scale_attn_by_inverse_layer_idx": "no"}, "scale_attn_by_inverse_layer_idx is"),
    ({"reorder_and_upcast_attn": 0}, "reorder_and_upcast_attn is 0, expected true or false"),
    ({"add_cross_attention": True}, "add_cross_attention is true, expected false"),
    ({"model_type": "llama"}, 'model_type is "llama", expected "gpt2"'),
    ({"pruned_heads": {"0": [1]}}, "pruned_heads is"),
    ({"quantization_config": {"bits": 4}}, "quantization_config is"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings is false, but the checkpoint has no lm_head.weight"),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS, ids=[m for _, m in CONTRADICTIONS])
def test_config_contradictions(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = write_gpt2(random_network(6, 2), tmp_path)
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert caught.value.line().startswith("config.json: ")
    assert message in caught.value.line()
    assert "\n" not in caught.value.line() and len(caught.value.line()) < 400


def test_width_of_the_mlp_needs_saying(tmp_path: Path) -> None:
    folder = write_gpt2(random_network(6, d_mlp=7), tmp_path)
    edit_config(folder, n_inner=None)
    with pytest.raises(CheckpointError, match=r"n_inner is absent, which means 32, but mlp\.c_fc has 7"):
        load_checkpoint(folder)


def test_a_head_that_differs_but_is_declared_tied(tmp_path: Path) -> None:
    folder = write_gpt2(random_network(7, tied=False), tmp_path)
    for said in (True, KeyError):
        edit_config(folder, tie_word_embeddings=said)
        with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from wte\.weight"):
            load_checkpoint(folder)


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"transformer__wte__weight": None}, "missing transformer.wte.weight"),
    ({"transformer__h__0__attn__c_attn__bias": None}, "missing transformer.h.0.attn.c_attn.bias"),
    ({"transformer__ln_f__bias": None}, "missing transformer.ln_f.bias"),
    ({"score__weight": np.ones((2, 8), np.float32)}, "no place for score.weight"),
    ({"transformer__wpe__weight": np.ones((12, 9), np.float32)}, "wpe.weight is [12, 9], expected [C, D] = [12, 8]"),
    ({"lm_head__weight": np.ones((5, 9), np.float32)}, "lm_head.weight is [5, 9], expected [U, D]"),
    ({"transformer__h__1__mlp__c_fc__weight": np.ones((8, 31), np.float32)}, "[8, 31], expected [D, M] = [8, 32]"),
    ({"transformer__h__1__ln_1__weight": np.ones((1, 8), np.float32)}, "[1, 8], expected [D] = [8]"),
    ({"transformer__h__0__ln_1__weight": np.ones(8, np.int64)}, "has dtype I64, expected F64, F32, F16 or BF16"),
    ({"transformer__h__9999__ln_1__weight": np.ones(8, np.float32)}, "missing transformer.h.2"),
]


@pytest.mark.parametrize(("changes", "message"), MISFITS, ids=[m for _, m in MISFITS])
def test_misfits_name_the_tensor(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = write_gpt2(random_network(8, 2), tmp_path)
    edit_tensors(folder, **changes)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert "Hugging Face GPT-2: " in caught.value.line()
    assert message in caught.value.line()


def test_nan_weights_name_the_tensor(tmp_path: Path) -> None:
    folder = write_gpt2(random_network(9), tmp_path)
    bad = np.ones((32, 8), np.float32)
    bad[3, 4] = np.nan
    edit_tensors(folder, transformer__h__0__mlp__c_proj__weight=bad)
    for read in (load_checkpoint, inspect_checkpoint):
        with pytest.raises(CheckpointError, match=r"h\.0\.mlp\.c_proj\.weight\[3, 4\] is nan"):
            read(folder)


def test_other_layouts_are_named(tmp_path: Path) -> None:
    names = {
        "TransformerLens": ["embed.W_E", "pos_embed.W_pos", "blocks.0.attn.W_Q", "unembed.W_U"],
        "Tracr": ["token_embed", "pos_embed", "transformer/layer_0/attn/query/w", "transformer/layer_0/mlp/linear_1/b"],
        "minGPT": ["tok_emb.weight", "pos_emb", "blocks.0.attn.query.weight", "head.weight"],
        "Llama": ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.norm.weight"],
    }
    for title, keys in names.items():
        save_file({k: np.ones((2, 3), np.float32) for k in keys}, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=f"best guesses: .*{title}"):
            load_checkpoint(tmp_path)


def test_missing_facts_are_listed_and_the_spec_may_say_them(tmp_path: Path) -> None:
    network = random_network(10, 2, 8, 2, activation="relu")
    folder = write_gpt2(network, tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"heads = .*1, 2, 4, 8.*activation = .*eps = "):
        load_checkpoint(folder)
    facts = ModelFacts(format="gpt2", heads=2, activation="relu", eps=1e-5, attention="causal", norm="layernorm")
    assert same(load_checkpoint(folder, facts).network, network)
    inspection = inspect_checkpoint(folder)
    assert inspection.architecture is None
    assert [line.split(" = ")[0] for line in inspection.spec_must_add[:3]] == [
        "[model] heads", "[model] activation", "[model] eps"
    ]  # fmt: skip


SPEC_CONTRADICTIONS: list[tuple[ModelFacts, str]] = [
    (ModelFacts(heads=4), r"\$\.model\.heads: 4, but config\.json says n_head is 2"),
    (ModelFacts(kv_heads=1), r"\$\.model\.kv_heads: 1, but"),
    (ModelFacts(activation="relu"), r"\$\.model\.activation: 'relu', but config\.json says .*'gelu_new'"),
    (ModelFacts(eps=1e-6), r"\$\.model\.eps: 1e-06, but config\.json says layer_norm_epsilon is 1e-05"),
    (ModelFacts(attention="bidirectional"), r"\$\.model\.attention: 'bidirectional', but"),
    (ModelFacts(attention_scale=1.0), r"\$\.model\.attention_scale: 1\.0, but the checkpoint's is 0\.5"),
    (ModelFacts(positions="rotary"), r"\$\.model\.positions: 'rotary', but"),
    (ModelFacts(norm="none"), r"\$\.model\.norm: 'none', but"),
    (ModelFacts(norm_position="post"), r"\$\.model\.norm_position"),
    (ModelFacts(pad_mask=True), r"\$\.model\.pad_mask"),
    (ModelFacts(attention_mix=0.5), r"\$\.model\.attention_mix"),
    (ModelFacts(state_dict_key="model"), r"\$\.model\.state_dict_key"),
    (ModelFacts(format="table"), r"\$\.model\.format: 'table', but model\.safetensors is Hugging Face GPT-2"),
]


@pytest.mark.parametrize(("facts", "message"), SPEC_CONTRADICTIONS, ids=[m for _, m in SPEC_CONTRADICTIONS])
def test_spec_contradictions_name_both(tmp_path: Path, facts: ModelFacts, message: str) -> None:
    folder = write_gpt2(random_network(11, 1, 8, 2), tmp_path)
    with pytest.raises(SpecError, match=message):
        load_checkpoint(folder, facts)


def test_inspection(tmp_path: Path) -> None:
    network = random_network(12, 2, 8, 2)
    folder = write_gpt2(network, tmp_path / "some checkpoint")
    inspection = inspect_checkpoint(folder)
    assert inspection.architecture == network.architecture
    assert inspection.sha256 == load_checkpoint(folder).network.digest
    assert inspection.dtype == "float32"
    assert inspection.path_basename == "some checkpoint"
    assert any("[D, 3D]" in line for line in inspection.evidence)
    assert inspection.spec_must_add[0] == "[tokens] vocab = 5 names, list index = id"


def test_half_precision_files_give_their_exact_numbers(tmp_path: Path) -> None:
    network = random_network(13)
    folder = write_gpt2(network, tmp_path)
    halves = {k: v.astype(np.float16) for k, v in gpt2_tensors(network).items()}
    save_file(halves, folder / "model.safetensors")
    loaded = load_checkpoint(folder).network
    assert loaded.architecture.dtype == "float16"
    assert np.array_equal(loaded.embed, network.embed.astype(np.float16).astype(np.float32))
    assert loaded.architecture == replace(network.architecture, dtype="float16")


def test_inspecting_loads_no_heavy_library(tmp_path: Path) -> None:
    folder = write_gpt2(random_network(14), tmp_path)
    code = (
        "import sys, pathlib, extract.formats as f; f.inspect_checkpoint(pathlib.Path(sys.argv[1]));"
        "print([m for m in ('torch', 'z3', 'sympy', 'transformers', 'msgspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_checkpoints_are_read_or_refused_in_one_line(shared_checkpoints: Path) -> None:
    for folder in sorted((shared_checkpoints / "drasp").iterdir()):
        checkpoint = load_checkpoint(folder)
        assert checkpoint.network.architecture.activation == "gelu_tanh"
    for path in sorted((shared_checkpoints / "negative").iterdir()):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert "\n" not in caught.value.line()
