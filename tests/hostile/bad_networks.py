"""Checkpoints that are well-formed files and no usable network, and paths that are no files."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.hostile.bad_torch_files import Case, Damage

WTE, FC = "transformer.wte.weight", "transformer.h.0.mlp.c_fc.weight"


def tensors(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path, _: Path) -> None:
        values = load_file(folder / "model.safetensors")
        change(values)
        save_file({k: np.ascontiguousarray(v) for k, v in values.items()}, folder / "model.safetensors")

    return damage


def set_at(name: str, value: float) -> Damage:
    return tensors(lambda values: values[name].__setitem__((0,) * values[name].ndim, value))


def replace(name: str, change: Callable[[Any], Any]) -> Damage:
    return tensors(lambda values: values.update({name: change(values[name])}))


def config(**changes: object) -> Damage:
    def damage(folder: Path, _: Path) -> None:
        value = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(value | changes))

    return damage


def text(name: str, content: str | bytes) -> Damage:
    return lambda folder, _: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def instead(name: str, content: bytes) -> Damage:
    """Write a file of another name in place of the weights."""

    def damage(folder: Path, _: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)

    return damage


def node(make: Callable[[Path], object]) -> Damage:
    """Put something that is no regular file in place of the weights."""

    def damage(folder: Path, _: Path) -> None:
        (folder / "model.safetensors").unlink()
        make(folder / "model.safetensors")

    return damage


def spec(old: str, new: str) -> Damage:
    def damage(folder: Path, _: Path) -> None:
        found = (folder / "spec.toml").read_text()
        assert old in found
        (folder / "spec.toml").write_text(found.replace(old, new))

    return damage


def two_files(folder: Path, _: Path) -> None:
    (folder / "model.safetensors").unlink()
    for name in ("a.pt", "b.pt"):
        (folder / name).write_bytes(b"x")


def sharded(folder: Path, _: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")


def nothing(folder: Path, _: Path) -> None:
    for child in folder.iterdir():
        if child.name != "spec.toml":
            child.unlink()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def nan_npz(folder: Path, canary: Path) -> None:
    values = load_file(folder / "model.safetensors")
    values[WTE][1, 2] = np.nan
    instead("weights.npz", npz(**values))(folder, canary)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4b3b950e\nsize 417247\n"
CASES: dict[str, Case] = {
    "NaN": (set_at(WTE, np.nan), [WTE, "nan", "finite"]),
    "infinity": (set_at(FC, np.inf), [FC, "inf", "finite"]),
    "NaN in an archive of arrays": (nan_npz, [f"{WTE}[1, 2]", "nan"]),
    "a float64 that float32 is not": (replace(WTE, lambda x: x.astype(np.float64) + 1e-12), ["float32", "exactly"]),
    "weights of integers": (replace(WTE, lambda x: x.astype(np.int32)), [WTE, "I32"]),
    "a tensor missing": (tensors(lambda v: v.pop("transformer.ln_f.bias")), ["missing", "ln_f.bias"]),
    "most tensors missing": (
        tensors(lambda v: [v.pop(k) for k in list(v) if k != WTE]),
        ["missing"],
    ),
    "a tensor too many": (tensors(lambda v: v.update({"lora.a": np.ones(2, np.float32)})), ["lora.a"]),
    "a layer missing": (
        tensors(lambda v: [v.update({k.replace("h.0.", "h.1."): v.pop(k)}) for k in list(v) if "h.0." in k]),
        ["missing"],
    ),
    "a neuron missing": (replace(FC, lambda x: x[:, :-1]), ["c_fc", "expected"]),
    "a matrix of three axes": (replace(WTE, lambda x: x[None]), ["wte", "expected"]),
    "names of no format": (
        tensors(lambda v: [v.update({f"q{i}": v.pop(k)}) for i, k in enumerate(list(v))]),
        ["no known"],
    ),
    "three heads for a width of eight": (config(n_head=3), ["n_head", "3"]),
    "no heads": (config(n_head=0), ["n_head", "0"]),
    "heads in words": (config(n_head="two"), ["n_head", "two"]),
    "another vocabulary": (config(vocab_size=77), ["vocab_size", "77"]),
    "more layers than there are": (config(n_layer=9), ["n_layer", "9"]),
    "a width of 10^9": (config(n_embd=10**9), ["n_embd", "1000000000"]),
    "other positions": (config(n_positions=1024), ["n_positions", "1024"]),
    "an unknown activation": (config(activation_function="mish"), ["activation_function", "mish"]),
    "a negative eps": (config(layer_norm_epsilon=-1e-5), ["layer_norm_epsilon"]),
    "another architecture": (config(model_type="bert"), ["model_type", "bert"]),
    "cross attention": (config(add_cross_attention=True), ["add_cross_attention"]),
    "quantized": (config(quantization_config={"bits": 4}), ["quantization_config"]),
    "a head that is not there": (config(tie_word_embeddings=False), ["tie_word_embeddings", "lm_head"]),
    "a config that is no JSON": (text("config.json", '{"n_head": 2,}'), ["config.json", "line 1"]),
    "a config of a list": (text("config.json", "[]"), ["config.json", "object"]),
    "a config that says it twice": (text("config.json", '{"n_head": 2, "n_head": 4}'), ["n_head", "twice"]),
    "a config of 2 MiB": (text("config.json", b" " * (2 << 20)), ["config.json", "at most"]),
    "no config": (lambda folder, _: (folder / "config.json").unlink(), ["heads", "activation"]),
    "a vocabulary too short": (spec('"<s>", "<e>"', '"<s>"'), ["$.tokens.vocab", "4", "5"]),
    "inputs too long": (spec("max_length = 5", "max_length = 50"), ["n_ctx"]),
    "a spec that contradicts": (spec("[readout]", "[model]\nheads = 4\n[readout]"), ["$.model.heads", "4"]),
    "a spec of another format": (spec("[readout]", '[model]\nformat = "tracr"\n[readout]'), ["$.model.format"]),
    "a key where nothing is nested": (
        spec("[readout]", '[model]\nstate_dict_key = "model"\n[readout]'),
        ["$.model.state_dict_key"],
    ),
    "a Git LFS pointer": (text("model.safetensors", LFS), ["Git LFS pointer", "git lfs pull"]),
    "a Git LFS pointer for a torch file": (instead("model.pt", LFS), ["Git LFS pointer", "git lfs pull"]),
    "a web page": (text("model.safetensors", "<!DOCTYPE html><html>" + "x" * 200), ["not a safetensors"]),
    "an HDF5 file": (instead("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(64)), ["HDF5"]),
    "a GGUF file": (instead("model.gguf", b"GGUF" + bytes(64)), ["GGUF"]),
    "a gzip archive": (text("model.safetensors", b"\x1f\x8b" + bytes(64)), ["gzip", "unpack"]),
    "objects in an archive of arrays": (instead("w.npz", npz(w=np.array([{}], dtype=object))), ["Python objects"]),
    "texts in an archive of arrays": (instead("w.npz", npz(w=np.array(["a"]))), ["dtype '<U1'"]),
    "a folder": (node(Path.mkdir), ["a folder"]),
    "a named pipe": (node(os.mkfifo), ["a named pipe"]),
    "a device": (node(lambda path: path.symlink_to("/dev/zero")), ["a device"]),
    "a link to itself": (node(lambda path: path.symlink_to(path.name)), ["cannot be opened"]),
    "a link to nothing": (node(lambda path: path.symlink_to("absent")), ["no such file"]),
    "an empty torch file": (instead("model.pt", b""), ["empty (0 bytes)"]),
    "sharded weights": (sharded, ["sharded"]),
    "two torch files": (two_files, ["2 .pt files", "name the file"]),
    "no weights": (nothing, ["no checkpoint"]),
}  # fmt: skip
