"""The checker's reader of torch files and NumPy archives agrees with the other one, and refuses what it must."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.check.containers import Malformed, read_container
from extract.check.reader import Unreadable, read_network, read_tensors, weights_file
from extract.formats.gates import OpenedFile
from extract.formats.safetensors import Tensors
from extract.formats.weights import read_weights_header
from tests.networks import gpt2_tensors, random_network, write_gpt2

WEIGHTS = {
    "a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(1 / 3), "c": torch.ones(2, 2, dtype=torch.bfloat16) / 3,
    "d": torch.ones(3, dtype=torch.float16) / 7, "e": torch.nn.Parameter(torch.randn(2, 3, 4).permute(2, 0, 1)),
}  # fmt: skip
BESIDE = {"model_args": {"n_head": 4, "bias": False, "names": ["a", None]}, "iter_num": 3, "loss": 0.25}
FILES: dict[str, Any] = {
    "alone": WEIGHTS,
    "with a mask": WEIGHTS | {"h.0.attn.mask": torch.ones(2, 2, dtype=torch.bool)},
    "nanoGPT": {"model": {f"_orig_mod.{k}": v for k, v in WEIGHTS.items()}, "optimizer": {"state": {}}, **BESIDE},
    "Lightning": {"state_dict": {f"model.{k}": v for k, v in WEIGHTS.items()}, "hyper_parameters": BESIDE},
    "twice nested": {"state_dict": {"model": WEIGHTS, "step": 1}, "epoch": 2},
    "beside a loss": {"model_state": WEIGHTS, "loss": torch.tensor(0.5), "betas": (0.9, 0.99)},
}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_both_readers_agree(name: str, is_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(FILES[name], path, _use_new_zipfile_serialization=is_zip)
    found, digest, _ = read_tensors(path)
    assert sorted(found) == sorted(WEIGHTS)
    with OpenedFile(path) as file:
        header = read_weights_header(file)
        tensors = Tensors(file, header)
    assert digest == tensors.digest
    assert read_container(path.read_bytes())[1] == header.metadata
    for key, array in found.items():
        assert array.dtype == np.float64
        assert np.array_equal(array, tensors.array(key))
        assert np.array_equal(array, WEIGHTS[key].detach().double().numpy())


def test_the_key_of_the_spec(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "ema": {"a": torch.zeros(1)}}, tmp_path / "x.pt")
    assert read_tensors(tmp_path / "x.pt")[0]["a"].tolist() == [1]
    assert read_tensors(tmp_path / "x.pt", "ema")[0]["a"].tolist() == [0]
    with pytest.raises(Unreadable):
        read_tensors(tmp_path / "x.pt", "other")


@pytest.mark.parametrize("kind", ["new.pt", "old.ckpt", "plain.npz", "packed.npz"])
def test_a_network_of_every_container(kind: str, tmp_path: Path) -> None:
    network = random_network(7, n_layers=2)
    expected = read_network(write_gpt2(network, tmp_path))
    (tmp_path / "model.safetensors").unlink()
    write_as(kind, gpt2_tensors(network), tmp_path)
    found = read_network(tmp_path)
    assert found.facts == expected.facts
    assert np.array_equal(found.embed, expected.embed)
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert np.array_equal(one.W_Q, other.W_Q) and np.array_equal(one.W_out, other.W_out)


def write_as(kind: str, arrays: dict[str, Any], folder: Path) -> Path:
    if kind.endswith("npz"):
        (np.savez if kind == "plain.npz" else np.savez_compressed)(folder / kind, **arrays)
    else:
        state = {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
        torch.save({"state_dict": state}, folder / kind, _use_new_zipfile_serialization=kind == "new.pt")
    return folder / kind


def test_a_folder_with_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(Unreadable, match=r"2 \.pt files"):
        weights_file(tmp_path)


class Runs:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def zipped(pickled: bytes, **storages: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in {"data.pkl": pickled, **{f"data/{k[1:]}": v for k, v in storages.items()}}.items():
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def bad_files(target: Path) -> dict[str, bytes]:
    deep = b"\x80\x02" + b"](" * 1000 + b"." * 1
    many = b"\x80\x02]q\x00(" + b"h\x00" * 600_000 + b"e."
    return {
        "a call": zipped(pickle.dumps({"w": Runs(target)}, protocol=2)),
        "a call in an old file": pickle.dumps(Runs(target), protocol=2),
        "a whole module": saved(torch.nn.Linear(2, 2)),
        "numpy": saved({"w": torch.ones(2), "n": np.float64(3)}),
        "a list": saved([1.0, 2.0]),
        "deep": zipped(deep),
        "long": zipped(many),
        "no end": zipped(b"\x80\x02}"),
        "no storage": saved({"w": torch.ones(2)}).replace(b"archive/data/0", b"archive/data/7"),
        "expanded": saved({"w": torch.ones(1).expand(10**4, 10**4)}),
        "empty tensor": saved({"w": torch.ones(0)}),
        "truncated": saved({"w": torch.ones(20)})[:-200],
        "text": b"PK\x03\x04" + b"x" * 100,
        "objects": objects(),
        "two places": saved({"model": {"w": torch.ones(1)}, "state_dict": {"w": torch.ones(1)}}),
    }


def objects() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.array([{}], dtype=object))
    return buffer.getvalue()


def test_bad_files_are_refused_and_nothing_runs(tmp_path: Path) -> None:
    target = tmp_path / "was_executed"
    for name, data in bad_files(target).items():
        with pytest.raises(Malformed) as error:
            read_container(data)
        assert "\n" not in str(error.value), name
    assert not target.exists()


def test_the_negative_checkpoints_are_refused(shared_checkpoints: Path) -> None:
    paths = [p for p in sorted((shared_checkpoints / "negative").iterdir()) if p.suffix in (".pt", ".pth")]
    assert len(paths) == 9
    for path in paths:
        if path.name != "partial_state_dict.pt":
            with pytest.raises(Unreadable):
                read_tensors(path)
    assert not Path("extract_pickle_was_executed").exists()
