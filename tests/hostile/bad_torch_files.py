"""Torch files that must be refused: calls hidden everywhere a pickle has room for one, and archives that lie."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.networks import gpt2_tensors, random_network

#: What a case writes into a checkpoint folder; the second path is a folder that a payload would make.
Damage = Callable[[Path, Path], object]
Case = tuple[Damage, list[str]]


def state(seed: int = 3) -> dict[str, torch.Tensor]:
    """The weights of the small task as torch would save them."""
    return {k: torch.from_numpy(np.array(v)) for k, v in gpt2_tensors(random_network(seed, n_ctx=40)).items()}


def saved(value: Any, *, is_zip: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


class Calls:
    """A pickle of it calls something when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Stateful:
    """A pickle of it makes an instance and gives it a state."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __setstate__(self, value: Any) -> None:
        os.mkdir(value["canary"])


def makes(canary: Path) -> Calls:
    return Calls(os.mkdir, str(canary))


def repacked(data: bytes, change: Callable[[dict[str, bytes]], object], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of torch with its entries changed, written again by the standard library."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def pickled(opcodes: bytes) -> bytes:
    """An archive of torch whose pickle is these bytes."""
    return repacked(saved({"w": torch.ones(2)}), lambda entries: entries.update({"archive/data.pkl": opcodes}))


def raw_pickle(value: Any, protocol: int = 2) -> bytes:
    return pickled(pickle.dumps(value, protocol=protocol))


def write(data: bytes, name: str = "model.pt") -> Damage:
    def damage(folder: Path, _: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(data)

    return damage


def write_with(make: Callable[[Path], bytes], name: str = "model.pt") -> Damage:
    """Write a file whose payload would make the canary's folder."""

    def damage(folder: Path, canary: Path) -> None:
        write(make(canary), name)(folder, canary)

    return damage


def hooked(canary: Path) -> bytes:
    """A tensor whose hooks are a call: the last argument of what rebuilds it."""
    data = saved({"w": torch.ones(2)})
    call = pickle.dumps(makes(canary), protocol=2)[2:-1]
    empty = b"ccollections\nOrderedDict\n"

    def change(entries: dict[str, bytes]) -> None:
        name = next(n for n in entries if n.endswith("data.pkl"))
        at = entries[name].index(empty)
        end = entries[name].index(b")R", at) + 2
        entries[name] = entries[name][:at] + call + entries[name][end:]
        assert entries[name] != data

    return repacked(data, change)


def lying_size(numel: int) -> bytes:
    """A tensor that claims more elements than its storage holds."""
    return saved({"w": torch.ones(1).as_strided((1, 1), (1, 1)).expand(1 << 10, numel)})


def stored_shorter(entries: dict[str, bytes]) -> None:
    name = next(n for n in entries if "/data/" in n)
    entries[name] = entries[name][:-4]


def without_storage(entries: dict[str, bytes]) -> None:
    del entries[next(n for n in entries if "/data/" in n)]


def renamed(entries: dict[str, bytes], new: str) -> None:
    entries[new] = entries.pop(next(n for n in entries if "/data/" in n))


def duplicate_entry() -> bytes:
    buffer = io.BytesIO(saved(state()))
    with zipfile.ZipFile(buffer, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    return buffer.getvalue()


def other_local_name() -> bytes:
    data = saved(state())
    at = data.index(b"archive/data/0")
    return data[:at] + b"archive/data/9" + data[at + 14 :]


def directory_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        for i in range(20_000):
            archive.writestr(f"archive/data/{i:0100d}", b"")
    return buffer.getvalue()


def collisions() -> bytes:
    """Keys that all have the same hash: a dict of them takes hours."""
    keys = b"".join(b"\x8a\x0a" + (i * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for i in range(200_000))
    return pickled(b"\x80\x02}(" + keys + b"u.")


def doubled(tail: bytes) -> bytes:
    """A tuple of a tuple of ... 60 deep, each level twice: 2^60 to whoever walks or hashes it, 60 to a memo."""
    return b"\x80\x02)q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + tail


def wide(key: bytes, n: int = 100_000) -> bytes:
    """A dict with so many entries of one key that each hold one dict with as many entries."""
    entry = b"X" + struct.pack("<I", len(key)) + key
    inner = b"}q\x00(" + b"X\x01\x00\x00\x00aN" * n + b"u"
    return b"\x80\x02" + inner + b"0}(" + (entry + b"h\x00") * n + b"u."


def old(value: Any) -> bytes:
    return saved(value, is_zip=False)


def old_with_count(count: int) -> bytes:
    data = old({"w": torch.ones(4)})
    at = data.rindex(struct.pack("<Q", 4))
    return data[:at] + struct.pack("<Q", count) + data[at + 8 :]


def torchscript() -> bytes:
    def change(entries: dict[str, bytes]) -> None:
        entries["archive/constants.pkl"] = b"\x80\x02)."
        entries["archive/code/__torch__.py"] = b"pass"

    return repacked(saved({"w": torch.ones(2)}), change)


NO_RUN = ["nothing in it was run"]
CASES: dict[str, Case] = {
    "a call in the state dict": (write_with(lambda c: saved({**state(), "x": makes(c)})), ["posix.mkdir", *NO_RUN]),
    "a call in an old file": (write_with(lambda c: old({**state(), "x": makes(c)}), "model.bin"), ["posix.mkdir"]),
    "a call beside the weights": (
        write_with(lambda c: saved({"model": state(), "rest": [1, makes(c)]}), "x.ckpt"),
        ["posix.mkdir", *NO_RUN],
    ),
    "a call as a key": (write_with(lambda c: saved({"model": state(), "o": {makes(c): 1}})), ["posix.mkdir"]),
    "a call in a tensor's hooks": (write_with(hooked), ["posix.mkdir"]),
    "a call as the whole file": (write_with(lambda c: saved(makes(c))), ["posix.mkdir"]),
    "a call of protocol 4": (write_with(lambda c: raw_pickle({"w": makes(c)}, protocol=4)), ["posix.mkdir"]),
    "a call of protocol 5": (write_with(lambda c: raw_pickle({"w": makes(c)}, protocol=5)), ["posix.mkdir"]),
    "eval": (write_with(lambda c: saved({"w": Calls(eval, f"__import__('os').mkdir({str(c)!r})")})), ["eval"]),
    "exec": (write_with(lambda c: saved({"w": Calls(exec, f"import os; os.mkdir({str(c)!r})")})), ["exec"]),
    "getattr": (write(saved({"w": Calls(getattr, "x", "upper")})), ["getattr"]),
    "an object with a state": (write_with(lambda c: saved({**state(), "x": Stateful(c)})), ["Stateful"]),
    "a plain pickle": (write_with(lambda c: pickle.dumps(makes(c))), ["Python pickle"]),
    "a plain pickle of numbers": (write(pickle.dumps({"w": [1.0]}), "w.pth"), ["Python pickle"]),
    "protocol 0": (write(pickled(b"cos\nsystem\n(S'true'\ntR.")), ["opcode"]),
    "an instance of protocol 1": (write(pickled(b"\x80\x02(ios\nsystem\n.")), ["opcode"]),
    "an extension code": (write(pickled(b"\x80\x02\x82\x01.")), ["opcode"]),
    "a whole module": (write(saved(torch.nn.Linear(2, 2))), ["whole pickled object", "state_dict", "torch.save"]),
    "a whole module, old": (write(old(torch.nn.Linear(2, 2)), "m.pth"), ["whole pickled object", "torch.save"]),
    "a TorchScript program": (write(torchscript()), ["TorchScript"]),
    "NumPy inside": (write(saved({**state(), "n": np.float64(2)})), ["NumPy", "state_dict"]),
    "a list of losses": (write(saved([1.0, 0.5])), ["no tensors", "list of 2"]),
    "an empty dict": (write(saved({})), ["no tensors", "empty"]),
    "hyper-parameters only": (write(saved({"lr": 0.1, "heads": 2})), ["no tensors", "'lr'"]),
    "one tensor": (write(saved(torch.ones(3))), ["one tensor without a name"]),
    "weights under unusual keys": (write(saved({"ema": state(), "net": state()})), ["ema", "state_dict_key"]),
    "two state dicts": (write(saved({"model": state(), "state_dict": state()})), ["expected one", "state_dict_key"]),
    "compressed": (write(repacked(saved(state()), lambda e: None, zipfile.ZIP_DEFLATED)), ["compressed"]),
    "a pickle of 5 MiB": (
        write(pickled(b"\x80\x02B" + struct.pack("<I", 5 << 20) + b"x" * (5 << 20) + b".")),
        ["4194304"],
    ),
    "a million opcodes": (write(pickled(b"\x80\x02" + b"N0" * 500_000 + b"N.")), ["opcodes"]),
    "nested 250000 deep": (write(pickled(b"\x80\x02" + b"]" * 250_000 + b"a" * 249_999 + b".")), ["no tensors"]),
    "a dict that holds itself": (write(pickled(b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.")), ["no tensors"]),
    "lists that double": (
        write(pickled(b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(200)) + b".")),
        ["no tensors"],
    ),
    "a key of 2^60 parts": (write(pickled(doubled(b"0}(h<\x88u."))), ["no tensors"]),
    "a tensor of 2^60 parts": (
        write(pickled(doubled(b"0ctorch._utils\n_rebuild_tensor_v2\n(h<h<h<h<tR."))),
        ["one tensor without a name"],
    ),
    "a type of 2^60 parts": (
        write(pickled(doubled(b"0}X\x01\x00\x00\x00wctorch._tensor\n_rebuild_from_type_v2\n(h<h<h<h<tRs."))),
        ["no tensors"],
    ),
    "a storage of 2^60 parts": (
        write(pickled(doubled(
            b"0}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storageh<h<h<h<tQh<h<h<tRs."
        ))),
        ["w is stored as tuple"],
    ),
    "one key 100000 times": (write(pickled(wide(b"model"))), ["twice"]),
    "one mapping 100000 times": (write(pickled(wide(b"other"))), ["twice"]),
    "keys of one hash": (write(collisions()), ["no tensors"]),
    "no end": (write(pickled(b"\x80\x02}")), ["damaged"]),
    "a mark too few": (write(pickled(b"\x80\x02Nt.")), ["mark"]),
    "a memo never made": (write(pickled(b"\x80\x02h\x07.")), ["makes no sense"]),
    "protocol 9": (write(pickled(b"\x80\x09}.")), ["protocol 9"]),
    "cut in half": (write(saved(state())[: len(saved(state())) // 2]), ["damaged zip archive", "fetch"]),
    "bytes after the end": (write(saved(state()) + b"\0" * 7), ["damaged zip archive"]),
    "bytes before the start": (write(b"PK\x03\x04" + saved(state())), ["damaged zip archive"]),
    "line ends converted": (write(saved(state()).replace(b"\n", b"\r\n")), ["damaged zip archive"]),
    "a storage missing": (write(repacked(saved(state()), without_storage)), ["which the file has not"]),
    "a storage too short": (write(repacked(saved(state()), stored_shorter)), ["but its storage has"]),
    "a tensor of 2^30 from one number": (write(lying_size(1 << 20)), ["but its storage has 1"]),
    "a tensor of 2^21 rows": (write(lying_size(1 << 21)), ["expected sizes between 1 and"]),
    "overlapping rows": (write(saved({"w": torch.ones(9).as_strided((3, 3), (1, 1))})), ["strides", "contiguous"]),
    "every second number": (write(saved({"w": torch.ones(9)[::2]})), ["strides", "contiguous"]),
    "no numbers": (write(saved({"w": torch.ones(0, 3)})), ["[0, 3]"]),
    "complex numbers": (write(saved({"w": torch.ones(2, dtype=torch.complex64)})), ["ComplexFloatStorage"]),
    "a sparse tensor": (write(saved({"w": torch.ones(2).to_sparse()})), ["would call torch."]),
    "a quantized tensor": (write(saved({"w": torch.ones(2).to(torch.float8_e4m3fn)})), ["w "]),
    "5000 tensors": (write(saved({f"w{i}": torch.ones(1) for i in range(5000)})), ["5000 tensors", "4096"]),
    "a name of two lines": (write(saved({"a\nb": torch.ones(2)})), ["not plain"]),
    "a name that is a number": (write(saved({7: torch.ones(2)})), ["not plain"]),
    "a path out of the folder": (
        write(repacked(saved(state()), lambda e: renamed(e, "archive/../../x"))),
        ["plain names"],
    ),
    "an absolute path": (write(repacked(saved(state()), lambda e: renamed(e, "/etc/x"))), ["plain names"]),
    "an entry twice": (write(duplicate_entry()), ["twice"]),
    "an entry with two names": (write(other_local_name()), ["damaged zip archive"]),
    "20000 entries": (write(directory_bomb()), ["of entries"]),
    "big-endian": (
        write(repacked(saved(state()), lambda e: e.update({"archive/byteorder": b"big"}))),
        ["byte order"],
    ),
    "an old file cut short": (write(old(state())[:-40], "m.ckpt"), ["truncated"]),
    "an old file with 2^61 numbers": (write(old_with_count(1 << 61), "m.bin"), ["truncated"]),
    "an old file of its first pickle": (write(old(state())[:15]), ["damaged"]),
}  # fmt: skip
