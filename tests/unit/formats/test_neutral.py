"""The neutral layout: what is written is what is read, by both readers, and nothing is guessed."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from extract.check.forward import Forward as CheckForward
from extract.check.reader import Unreadable, read_network
from extract.errors import CheckpointError, SpecError
from extract.formats import inspect_checkpoint, load_checkpoint
from extract.model.forward import Forward
from extract.network import Network
from extract.spec import ModelFacts
from tests.networks import attention_only, random_network, write_gpt2, write_neutral

NETWORKS = {
    "attention only": attention_only(1),
    "no positions": attention_only(2, has_positions=False, n_layers=2, n_heads=2),
    "mlp without norm": random_network(3, norm="none", activation="relu", d_vocab_out=3),
    "all of a GPT-2": random_network(4, n_layers=2),
    "other logits": replace(attention_only(5, d_vocab_out=3), b_U=np.array([1, -2, 0.5], np.float32)),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_what_is_written_is_read(network: Network, tmp_path: Path) -> None:
    read = load_checkpoint(write_neutral(network, tmp_path)).network
    for field in fields(Network):
        mine, theirs = getattr(network, field.name), getattr(read, field.name)
        if isinstance(mine, np.ndarray):
            assert np.array_equal(mine, theirs)
    a, b = network.architecture, read.architecture
    fact = a.activation if a.d_mlp else "relu"
    assert replace(a, activation=fact, norm_eps=a.norm_eps if a.norm == "layernorm" else 0.0) == b
    for one, two in zip(network.layers, read.layers, strict=True):
        for name in ("W_Q", "b_K", "W_V", "W_O", "b_O", "W_in", "b_in", "W_out", "b_out"):
            assert np.array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_both_readers_compute_the_same_logits(network: Network, tmp_path: Path) -> None:
    import torch

    write_neutral(network, tmp_path)
    tokens = np.random.default_rng(0).integers(0, network.architecture.d_vocab, (40, 5)).astype(np.int32)
    expected = Forward(network).logits(torch.from_numpy(tokens.astype(np.int64)), 2).numpy()
    logits, bound = CheckForward(read_network(tmp_path)).logits(tokens, 2, 0)
    assert np.abs(logits - expected).max() <= bound[1].max() < 1e-8


def test_an_inspection_names_the_layout(tmp_path: Path) -> None:
    found = inspect_checkpoint(write_neutral(NETWORKS["attention only"], tmp_path))
    assert (found.format, found.architecture is not None) == ("neutral", True)
    assert any("no MLP" in line and "no norm" in line for line in found.evidence)
    assert inspect_checkpoint(write_gpt2(random_network(0), tmp_path / "gpt2")).format == "gpt2"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no model type": ({"model_type": None}, "model_type"),
    "another model type": ({"model_type": "gpt2"}, "model_type"),
    "no attention": ({"attention": None}, "attention"),
    "bidirectional": ({"attention": "bidirectional"}, "attention"),
    "a norm that is not there": ({"norm": "layernorm"}, "norm"),
    "no norm said": ({"norm": None}, "norm"),
    "positions that are there": ({"positions": "none"}, "positions"),
    "no scale": ({"attention_scale": None}, "attention_scale"),
    "another size": ({"d_model": 7}, "d_model"),
    "an MLP that is not there": ({"d_mlp": 24}, "d_mlp"),
    "another context": ({"n_ctx": 5}, "n_ctx"),
}


@pytest.mark.parametrize("changes, named", WRONG.values(), ids=WRONG)
def test_a_config_that_does_not_fit_is_refused(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=named):
        load_checkpoint(write_neutral(NETWORKS["attention only"], tmp_path, **changes))


def test_without_a_config_nothing_is_guessed(tmp_path: Path) -> None:
    (write_neutral(NETWORKS["attention only"], tmp_path) / "config.json").unlink()
    with pytest.raises(CheckpointError, match="model_type"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["layers.0.W_Q", "layers.0.b_O", "W_U", "embed"])
def test_a_missing_tensor_is_refused(name: str, tmp_path: Path) -> None:
    path = write_neutral(NETWORKS["attention only"], tmp_path) / "model.safetensors"
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)
    with pytest.raises(Unreadable):
        read_network(tmp_path)


def test_a_tensor_too_many_is_refused(tmp_path: Path) -> None:
    path = write_neutral(NETWORKS["attention only"], tmp_path) / "model.safetensors"
    save_file({**load_file(path), "layers.0.W_in": np.ones((6, 2), np.float32)}, path)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)
    with pytest.raises(Unreadable):
        read_network(tmp_path)


def test_a_spec_that_contradicts_is_refused(tmp_path: Path) -> None:
    write_neutral(NETWORKS["attention only"], tmp_path)
    for facts in (ModelFacts(heads=2), ModelFacts(norm="layernorm"), ModelFacts(activation="relu")):
        with pytest.raises(SpecError):
            load_checkpoint(tmp_path, facts)
    assert load_checkpoint(tmp_path, ModelFacts(heads=1, norm="none", format="neutral"))
