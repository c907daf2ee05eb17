"""The neutral layout: what is written is what is read, by both readers, and nothing is guessed."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from extract.certificate_file import _facts
from extract.check.forward import Forward as CheckForward
from extract.check.reader import Unreadable, read_network
from extract.errors import CheckpointError, SpecError
from extract.formats import inspect_checkpoint, load_checkpoint
from extract.model.forward import Forward
from extract.network import Network
from extract.spec import ModelFacts
from tests.architectures import Parts, network_of, parts
from tests.networks import attention_only, random_network, write_gpt2, write_neutral


def same(left: Any, right: Any) -> None:
    """Compare two values field by field, arrays by their elements."""
    if isinstance(left, np.ndarray):
        assert np.array_equal(left, right)
    elif isinstance(left, tuple):
        assert len(left) == len(right)
        for one, two in zip(left, right, strict=True):
            same(one, two)
    elif is_dataclass(left):
        for field in fields(left):
            if field.name not in ("digest", "dtype"):
                same(getattr(left, field.name), getattr(right, field.name))
    else:
        assert left == right


@settings(max_examples=60, deadline=None)
@given(drawn=parts, seed=st.integers(0, 99))
def test_every_architecture_is_read_as_it_was_written(drawn: Parts, seed: int) -> None:
    network = network_of(drawn, seed)
    with TemporaryDirectory() as place:
        folder = write_neutral(network, Path(place))
        read, mine = load_checkpoint(folder).network, read_network(folder)
    same(read, network)
    a = network.architecture
    for name in ("embed", "pos_embed", "embed_bias", "W_U", "b_U"):
        same(getattr(mine, name), getattr(network, name))
    assert (mine.attention, mine.norm, mine.norm_place) == (a.attention, a.norm, a.norm_place)
    assert (mine.softmax_share, mine.masked_token, mine.embed_scale) == (a.softmax_share, a.masked_token, a.embed_scale)
    assert mine.is_plain == (not network.beyond_gpt2 and a.attention == "causal")
    assert mine.facts == _facts(read)
    for one, two in zip(mine.layers, network.layers, strict=True):
        gate = None if two.W_gate is None else (two.W_gate, two.b_gate)
        same(one.gate, gate)
        for site in ("attention", "mlp", "query", "key", "hidden"):
            norm = getattr(two, f"norm_{site}")
            same(getattr(one, f"norm_{site}"), None if norm is None else (norm.weight, norm.bias))


NETWORKS = {
    "attention only": attention_only(1),
    "no positions": attention_only(2, has_positions=False, n_layers=2, n_heads=2),
    "mlp without norm": random_network(3, norm="none", activation="relu", d_vocab_out=3),
    "all of a GPT-2": random_network(4, n_layers=2),
    "other logits": replace(attention_only(5, d_vocab_out=3), b_U=np.array([1, -2, 0.5], np.float32)),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_what_is_written_is_read(network: Network, tmp_path: Path) -> None:
    a = network.architecture
    fact = a.activation if a.d_mlp else "relu"
    eps = a.norm_eps if a.norm == "layernorm" else 0.0
    same(
        load_checkpoint(write_neutral(network, tmp_path)).network,
        replace(network, architecture=replace(a, activation=fact, norm_eps=eps)),
    )


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
    "unknown attention": ({"attention": "sideways"}, "attention"),
    "a list of scales too short": ({"attention_scale": []}, "attention_scale"),
    "a scale that is no number": ({"attention_scale": ["x"]}, "attention_scale"),
    "rotary without its facts": ({"positions": "rotary"}, "positions"),
    "a masked token that is none": ({"masked_token": 4}, "masked_token"),
    "mixed attention with hidden keys": ({"softmax_share": 0.5}, "hidden"),
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


@pytest.mark.parametrize("name", ("layers.0.W_in", "layers.0.W_Z", "scale", "head.norm.weight"))
def test_a_tensor_too_many_is_refused(name: str, tmp_path: Path) -> None:
    path = write_neutral(NETWORKS["attention only"], tmp_path) / "model.safetensors"
    save_file({**load_file(path), name: np.ones((6, 2), np.float32)}, path)
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
