"""The checker's readers take what they know and refuse everything else in one line, quickly."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.check.reader import Unreadable, parse_json, read_network, read_tensors
from tests.networks import gpt2_tensors, random_network, write_gpt2


def stored(header: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + payload


def one(entry: dict[str, Any], payload: bytes = b"\0" * 16) -> bytes:
    return stored(json.dumps({"x": entry}).encode(), payload)


GOOD = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
BAD_FILES = {
    "empty": b"",
    "short": b"\x05\0",
    "header longer than the file": struct.pack("<Q", 1 << 40) + b"{}",
    "header too long": struct.pack("<Q", 1 << 21) + b" " * (1 << 21),
    "not JSON": stored(b"{nope}"),
    "a list": stored(b"[]"),
    "a repeated key": stored(b'{"x": 1, "x": 2}'),
    "deep": stored(b"[" * 100_000),
    "wrong size": one(GOOD | {"shape": [5]}),
    "negative size": one(GOOD | {"shape": [-4]}),
    "huge size": one(GOOD | {"shape": [10**12]}),
    "past the end": one(GOOD | {"data_offsets": [0, 32]}),
    "unknown type": one(GOOD | {"dtype": "F8_E4M3"}),
    "no offsets": one({"dtype": "F32", "shape": [4]}),
    "text": one(GOOD | {"data_offsets": "all"}),
    "nothing in it": one({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
    "not a number": one(GOOD, struct.pack("<4f", 0, 1, float("nan"), 2)),
    "infinite": one(GOOD, struct.pack("<4f", 0, 1, float("inf"), 2)),
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(BAD_FILES[name])
    with pytest.raises(Unreadable) as error:
        read_tensors(path)
    assert "\n" not in str(error.value)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        read_network(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(("dtype", "kind"), (("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2")))
def test_every_float_type_is_read_as_float32(dtype: str, kind: str, tmp_path: Path) -> None:
    values = np.array([1.5, -2.25, 1e-3, 3.14159265358979]).astype(kind)
    path = tmp_path / "model.safetensors"
    entry = {"dtype": dtype, "shape": [2, 2], "data_offsets": [0, values.nbytes]}
    path.write_bytes(one(entry, values.tobytes()))
    assert read_tensors(path)[0]["x"].reshape(-1).tolist() == values.astype(np.float32).astype(np.float64).tolist()


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    values = np.array([1.5, -2.25, 0.0, 96.0], np.float32)
    path = tmp_path / "model.safetensors"
    half = (values.view(np.uint32) >> 16).astype("<u2")
    path.write_bytes(one({"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}, half.tobytes()))
    assert read_tensors(path)[0]["x"].tolist() == values.tolist()


def test_a_network_is_read_as_it_was_written(tmp_path: Path) -> None:
    for prefix in ("transformer.", ""):
        for tied in (True, False):
            network = random_network(5, n_layers=2, tied=tied)
            found = read_network(write_gpt2(network, tmp_path / f"{prefix}{tied}", prefix))
            assert found.is_plain
            for name in ("embed", "pos_embed", "W_U", "b_U"):
                assert np.array_equal(getattr(found, name), getattr(network, name))
            for mine, layer in zip(found.layers, network.layers, strict=True):
                for name in ("W_Q", "b_Q", "W_K", "b_K", "W_V", "b_V", "W_O", "b_O", "W_in", "b_in", "W_out", "b_out"):
                    assert np.array_equal(getattr(mine, name), getattr(layer, name)), name
                for pair, norm in ((mine.norm_attention, layer.norm_attention), (mine.norm_mlp, layer.norm_mlp)):
                    assert np.array_equal(pair, (norm.weight, norm.bias))
            assert np.array_equal(found.norm_final, (network.norm_final.weight, network.norm_final.bias))
            assert (found.n_heads, found.activation, found.norm_eps) == (2, "gelu_tanh", 1e-5)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    (
        lambda config: config.update(n_head=3),
        lambda config: config.update(n_head=0),
        lambda config: config.pop("n_head"),
        lambda config: config.update(activation_function="mish"),
        lambda config: config.pop("activation_function"),
        lambda config: config.pop("layer_norm_epsilon"),
        lambda config: config.update(layer_norm_epsilon="tiny"),
    ),
)
def test_configs_that_do_not_say_enough_are_refused(change: Change, tmp_path: Path) -> None:
    folder = write_gpt2(random_network(5), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Unreadable):
        read_network(folder)


def test_the_spec_may_say_what_the_config_does_not(tmp_path: Path) -> None:
    folder = write_gpt2(random_network(5), tmp_path)
    (folder / "config.json").unlink()
    found = read_network(folder, {"heads": 4, "eps": 1e-6, "activation": "relu"})
    assert (found.n_heads, found.norm_eps, found.activation) == (4, 1e-6, "relu")


@pytest.mark.parametrize("name", ("h.0.attn.c_proj.bias", "ln_f.weight", "wpe.weight", "h.1.mlp.c_fc.weight"))
def test_other_shapes_and_names_are_refused(name: str, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = write_gpt2(random_network(5, n_layers=2), tmp_path)
    tensors = gpt2_tensors(random_network(5, n_layers=2))
    part = tensors.pop(f"transformer.{name}")
    for other in ({}, {f"transformer.{name}": part[..., :-1].copy()}, {f"transformer.{name}": part, "extra": part}):
        save_file({**tensors, **other}, folder / "model.safetensors")
        with pytest.raises(Unreadable):
            read_network(folder)


@pytest.mark.parametrize(
    "text", ("", "[1]", '{"a": NaN}', '{"a": Infinity}', '{"a": 1, "a": 1}', "[" * 100_000, "\xff")
)
def test_json_is_strict(text: str) -> None:
    with pytest.raises(Unreadable):
        parse_json(text.encode("latin-1"), "place")
