"""Checkpoints as transformers itself writes them, and wrappers around state dicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.check.reader import read_network
from extract.formats import load_checkpoint
from extract.network import Network
from tests.checker_agrees import differences
from tests.network_logits import logits
from tests.unit.formats.originals import randomised
from tests.unit.formats.test_layouts import lens, nano, worst, write

ROTARY = {"rope_theta": 40.0, "rope_type": "default"}
SIZES: dict[str, Any] = {
    "vocab_size": 11, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 12, "rope_parameters": ROTARY, "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def agrees(network: Network, model: Any, n_vocab: int) -> None:
    rng = np.random.default_rng(0)
    for length in (1, 4, 9):
        ids = rng.integers(0, n_vocab, length)
        with torch.no_grad():
            expected = model(torch.from_numpy(ids)[None]).logits[0].numpy()
        found = logits(network, ids)
        # transformers computes in float32
        assert np.abs(found - expected).max() < 1e-5 * max(10.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_the_family_of_llama(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    changes = {"Qwen3": {"head_dim": 6}, "Mistral": {"sliding_window": None}}.get(name, {})
    config = getattr(transformers, f"{name}Config")(**SIZES, **changes)
    model = randomised(getattr(transformers, f"{name}ForCausalLM")(config), 0, spread=0.3)
    model.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.format == "llama"
    agrees(checkpoint.network, model, 11)
    assert differences(checkpoint.network, read_network(tmp_path)) == []


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_gpt2_in_a_bin_file(activation: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 7, "n_embd": 12, "n_head": 3, "n_layer": 2, "n_positions": 10}
    config = transformers.GPT2Config(**sizes, activation_function=activation, bos_token_id=None, eos_token_id=None)
    model = randomised(transformers.GPT2LMHeadModel(config), 1)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    torch.save({"step": 1}, tmp_path / "training_args.bin")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.format == "gpt2"
    agrees(checkpoint.network, model, 7)
    assert differences(checkpoint.network, read_network(tmp_path)) == []


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "model."])
@pytest.mark.parametrize("is_torch", [True, False])
def test_wrappers_change_nothing(prefix: str, is_torch: bool, tmp_path: Path) -> None:
    module, state, config, _ = lens(0)
    inner: dict[str, Any] = {prefix + name: value for name, value in state.items()}
    outer = {"epoch": 3, "state_dict": inner, "optimizer": {"state": {}, "lr": 0.1}} if is_torch else inner
    network = load_checkpoint(write(outer, config, tmp_path, is_torch)).network
    assert worst(network, module, 1) < 1e-5
    assert differences(network, read_network(tmp_path)) == []


def test_compiled_nanogpt_keeps_its_arguments(tmp_path: Path) -> None:
    module, whole, _, _ = nano(5, bias=True)
    whole["model"] = {f"_orig_mod.{name}": value for name, value in whole["model"].items()}
    network = load_checkpoint(write(whole, None, tmp_path, is_torch=True)).network
    assert network.architecture.activation == "gelu_erf"
    assert worst(network, module, 2) < 1e-5
    assert differences(network, read_network(tmp_path)) == []
