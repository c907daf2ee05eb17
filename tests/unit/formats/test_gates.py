"""The gates: every kind of file that is not a safetensors file is refused by name, and nothing in it is run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from extract.errors import CheckpointError
from extract.formats.checkpoint import load_checkpoint
from extract.formats.gates import parse_json_object, read_json_object
from tests.networks import random_network, write_gpt2


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


class RunsOnLoad:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


TORCH = zipped(archive__data_dot_pkl=b"\x80\x02}.", archive__version=b"3")
FILES = [
    ("model.pt", b"", "is empty"),
    ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
    ("model.pt", TORCH, "no tensors were found: it holds an empty mapping"),
    ("renamed.safetensors", TORCH, "no tensors were found"),
    ("model.pt", TORCH[:60], "damaged zip archive"),
    ("weights.npz", npz(), "1 tensors of no known format"),
    ("other.zip", zipped(a=b"b"), "zip archive"),
    ("old.pt", pickle.dumps({"a": 1}, protocol=2), "Python pickle"),
    ("new.pt", pickle.dumps({"a": 1}, protocol=4), "Python pickle"),
    ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
    ("model.gguf", b"GGUF" + bytes(64), "GGUF"),
    ("array.npy", b"\x93NUMPY" + bytes(64), "NumPy .npy"),
    ("model.tar.gz", b"\x1f\x8b" + bytes(64), "gzip"),
    ("readme.md", b"# A model\n" * 20, "probably not a safetensors file"),
]


@pytest.mark.parametrize(("name", "data", "message"), FILES, ids=[f"{n}: {m}" for n, _, m in FILES])
def test_other_kinds_are_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(tmp_path / name)
    assert caught.value.line().startswith(f"{name}: ")
    assert caught.value.exit_code == 4


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    target = tmp_path / "was_executed"
    payload = pickle.dumps(RunsOnLoad(str(target)))
    (tmp_path / "plain.pt").write_bytes(payload)
    (tmp_path / "zipped.pt").write_bytes(zipped(archive__data_dot_pkl=payload))
    for name in ("plain.pt", "zipped.pt"):
        with pytest.raises(CheckpointError, match="pickle"):
            load_checkpoint(tmp_path / name)
    assert not target.exists()


def test_nodes_that_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(CheckpointError, match="is a named pipe, expected a regular file"):
        load_checkpoint(tmp_path / "pipe.safetensors")
    with pytest.raises(CheckpointError, match="is a device, expected a regular file"):
        load_checkpoint(Path(os.devnull))
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "absent.safetensors")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load_checkpoint(tmp_path / "loop")
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load_checkpoint(Path("a\0b"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write_gpt2(random_network(0), tmp_path) / "model.safetensors"
    path.chmod(0)
    with pytest.raises(CheckpointError, match="cannot be opened: Permission denied"):
        load_checkpoint(tmp_path)


def test_a_folder_names_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint \\(found: nothing\\)"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="sharded"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(TORCH)
    with pytest.raises(CheckpointError, match=r"holds 2 \.pt files \(a\.pt, b\.pt\), expected one"):
        load_checkpoint(tmp_path)


def test_a_sparse_giant_is_refused_by_its_shapes(tmp_path: Path) -> None:
    n = 1 << 20
    header = b'{"w": {"dtype": "F32", "shape": [%d, 4096], "data_offsets": [0, %d]}}' % (n, n * 4096 * 4)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + n * 4096 * 4)
    with pytest.raises(CheckpointError, match="no known format"):
        load_checkpoint(tmp_path)


def test_the_memory_limit_is_checked_before_reading(tmp_path: Path) -> None:
    folder = write_gpt2(random_network(0), tmp_path)
    with pytest.raises(CheckpointError, match="more than the limit of 0 MiB"):
        load_checkpoint(folder, memory_limit=10_000)


def test_json_places(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{\n "a": 1,\n}')
    with pytest.raises(CheckpointError, match=r"config\.json: is not JSON at line 3 column 1"):
        read_json_object(path)
    path.write_text(" " * (1 << 20) + "{}")
    with pytest.raises(CheckpointError, match="expected at most 1048576"):
        read_json_object(path)
    assert parse_json_object(b'{"a": [1, null, "\\u00e9"]}', "here") == {"a": [1, None, "é"]}
