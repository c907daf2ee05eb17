"""Torch files: what torch wrote comes back exactly, names, dtypes, values and the rest, without torch."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import CheckpointError, ExtractError, SpecError
from extract.formats.checkpoint import load_checkpoint
from extract.formats.gates import OpenedFile
from extract.formats.safetensors import Header, Tensors
from extract.formats.weights import read_weights_header
from extract.spec import ModelFacts
from tests.networks import gpt2_tensors, random_network, write_gpt2

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = st.text("abcXYZ019_./", min_size=1, max_size=12)
SHAPES = st.lists(st.integers(1, 4), max_size=3)
PLAIN: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner),
    max_leaves=4,
)


def read(path: Path, facts: ModelFacts | None = None) -> tuple[Header, Tensors]:
    with OpenedFile(path) as file:
        header = read_weights_header(file, facts)
        return header, Tensors(file, header)


def save(value: Any, path: Path, *, is_zip: bool = True, protocol: int = 2) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    return path


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    shape = draw(SHAPES)
    seed = draw(st.integers(0, 1000))
    whole = (torch.randn([n + 1 for n in shape], generator=torch.Generator().manual_seed(seed)) * 9).to(dtype)
    # the last block of a larger storage, its axes in some order: an offset and strides, as views are saved
    part = whole[tuple(slice(1, None) for _ in shape)] if draw(st.booleans()) else whole.contiguous()
    part = part.clone() if draw(st.booleans()) else part.clone().reshape(-1).view(part.shape)
    return part.permute(draw(st.permutations(range(len(shape)))))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    state=st.dictionaries(NAMES, tensors(), min_size=1, max_size=4),
    is_zip=st.booleans(),
    protocol=st.sampled_from([2, 3, 4, 5]),
    is_parameter=st.booleans(),
)
def test_what_torch_stores_comes_back(
    tmp_path: Path, state: dict[str, torch.Tensor], is_zip: bool, protocol: int, is_parameter: bool
) -> None:
    floats = {n: t for n, t in state.items() if t.is_floating_point()}
    stored = state | ({n: torch.nn.Parameter(t) for n, t in floats.items()} if is_parameter else {})
    path = save(OrderedDict(stored), tmp_path / "x.pt", is_zip=is_zip, protocol=protocol)
    header, found = read(path)
    assert list(header.tensors) == list(stored)
    for name, tensor in stored.items():
        info = header.tensors[name]
        assert (info.shape, DTYPES[info.dtype]) == (tuple(tensor.shape), tensor.dtype)
        if info.is_float and tensor.dtype != torch.float64:
            assert np.array_equal(found.array(name), tensor.detach().float().numpy())
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rest=st.dictionaries(st.text("efg", min_size=1, max_size=4), PLAIN, max_size=4), is_zip=st.booleans())
def test_what_stands_beside_the_weights(tmp_path: Path, rest: dict[str, Any], is_zip: bool) -> None:
    def without_deep(value: Any, depth: int = 4) -> bool:
        if isinstance(value, (list, dict)):
            parts = value.values() if isinstance(value, dict) else value
            return depth > 0 and all(without_deep(part, depth - 1) for part in parts)
        return True

    path = save({"model": {"w": torch.ones(2)}, **rest}, tmp_path / "x.pt", is_zip=is_zip)
    header, _ = read(path)
    kept = {k: v for k, v in rest.items() if without_deep(v)}
    assert {k: header.metadata[k] for k in kept} == kept
    assert list(header.tensors) == ["w"]


@pytest.mark.parametrize("outer", ["state_dict", "model", "model_state_dict", "model_state"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "model.", "module._orig_mod."])
def test_the_known_places_and_prefixes(outer: str, prefix: str, tmp_path: Path) -> None:
    state = {f"{prefix}a.weight": torch.ones(2), f"{prefix}b": torch.zeros(3)}
    value = {outer: state, "optimizer": {"state": {0: {"exp_avg": torch.ones(5)}}}, "loss": torch.tensor(0.5)}
    header, _ = read(save(value, tmp_path / "x.ckpt"))
    assert list(header.tensors) == ["a.weight", "b"]
    assert outer in header.evidence[0] and prefix in header.evidence[0]
    nested, _ = read(save({"state_dict": value}, tmp_path / "y.ckpt"))
    assert list(nested.tensors) == ["a.weight", "b"]


def test_a_prefix_of_some_names_stays(tmp_path: Path) -> None:
    header, _ = read(save({"model.a": torch.ones(2), "head": torch.ones(1)}, tmp_path / "x.pt"))
    assert list(header.tensors) == ["model.a", "head"]


def test_the_spec_names_an_unusual_place(tmp_path: Path) -> None:
    path = save({"ema": {"a": torch.ones(2)}, "net": {"a": torch.zeros(2)}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r'only under ema, net.*state_dict_key = "ema"'):
        read(path)
    _, found = read(path, ModelFacts(state_dict_key="net"))
    assert found.array("a").tolist() == [0, 0]
    with pytest.raises(SpecError, match=r"state_dict_key: 'x', but x\.pt has ema, net"):
        read(path, ModelFacts(state_dict_key="x"))
    two = save({"model": {"a": torch.ones(2)}, "state_dict": {"a": torch.ones(2)}}, tmp_path / "y.pt")
    with pytest.raises(CheckpointError, match="holds tensors under state_dict and model, expected one"):
        read(two)


def test_a_network_is_the_same_from_every_container(tmp_path: Path) -> None:
    network = random_network(3, n_layers=2)
    expected = load_checkpoint(write_gpt2(network, tmp_path / "safe")).network
    arrays = gpt2_tensors(network)
    for name in ("new.pt", "old.bin", "plain.npz", "packed.npz"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text((tmp_path / "safe" / "config.json").read_text())
        if name.endswith("npz"):
            (np.savez if name == "plain.npz" else np.savez_compressed)(
                folder / name, **{k: np.asfortranarray(v) for k, v in arrays.items()}
            )
        else:
            state = {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
            save({"epoch": 3, "state_dict": state}, folder / name, is_zip=name == "new.pt")
        found = load_checkpoint(folder)
        assert found.network.digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert np.array_equal(found.network.W_U, expected.W_U)
        for mine, theirs in zip(found.network.layers, expected.layers, strict=True):
            assert np.array_equal(mine.W_Q, theirs.W_Q) and np.array_equal(mine.b_out, theirs.b_out)


def test_cuda_files_are_read_where_they_are(tmp_path: Path) -> None:
    path = save({"w": torch.arange(4.0)}, tmp_path / "x.pt", is_zip=False)
    path.write_bytes(path.read_bytes().replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    assert read(path)[1].array("w").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (torch.ones(1).expand(1000, 1000), "1000000 elements from 0 on, but its storage has 1"),
        (torch.ones(6)[::2], "strides \\[2\\], expected every element stored once"),
        (torch.ones(4).as_strided((2, 2), (1, 1)), "strides \\[1, 1\\]"),
        (torch.ones(0), "shape \\[0\\], expected sizes between 1"),
        (torch.ones(2, dtype=torch.complex64), "stored as torch.ComplexFloatStorage"),
    ],
)
def test_tensors_that_are_no_plain_range(view: torch.Tensor, message: str, tmp_path: Path) -> None:
    for is_zip in (True, False):
        with pytest.raises(CheckpointError, match=message):
            read(save({"w": view}, tmp_path / "x.pt", is_zip=is_zip))


def test_every_torch_file_among_the_checkpoints_is_read_as_torch_does(shared_checkpoints: Path) -> None:
    paths = [p for p in sorted(shared_checkpoints.rglob("*")) if p.suffix in (".pt", ".pth", ".ckpt", ".bin")]
    assert paths
    for path in paths:
        try:
            header, found = read(path)
        except ExtractError:
            assert path.parent.name == "negative", path
            continue
        reference = torch.load(path, weights_only=True, map_location="cpu")
        reference = reference.get("state_dict", reference.get("model", reference))
        assert list(header.tensors) == list(reference)
        for name, tensor in reference.items():
            if tensor.isfinite().all() and tensor.is_floating_point():
                assert np.array_equal(found.array(name), tensor.numpy())
