"""Safetensors files that must be refused: headers that lie, and bytes that are none."""

from __future__ import annotations

import json
import struct
from typing import Any

from tests.hostile.bad_torch_files import Case, Damage


def write(data: bytes) -> Damage:
    return lambda folder, _: (folder / "model.safetensors").write_bytes(data)


def raw(header: bytes, data: bytes = b"") -> Damage:
    return write(struct.pack("<Q", len(header)) + header + data)


def one(data: bytes = bytes(16), name: str = "w", **changes: Any) -> Damage:
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changes
    return raw(json.dumps({name: entry}).encode(), data)


def many(n: int) -> Damage:
    table = {f"w{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(n)}
    return raw(json.dumps(table).encode(), bytes(n))


def two(first: tuple[int, int], second: tuple[int, int], n_bytes: int) -> Damage:
    table = {
        name: {"dtype": "U8", "shape": [b - a], "data_offsets": [a, b]}
        for name, (a, b) in (("a", first), ("b", second))
    }
    return raw(json.dumps(table).encode(), bytes(n_bytes))


CASES: dict[str, Case] = {
    "empty": (write(b""), ["empty (0 bytes)"]),
    "five bytes": (write(b"\x05\0\0\0\0"), ["5 bytes"]),
    "a header of 2^60 bytes": (write(struct.pack("<Q", 1 << 60) + b"{}"), ["expected at most 1048576"]),
    "a header of 2 MiB": (write(struct.pack("<Q", 2 << 20) + b"{" + b" " * (2 << 20)), ["expected at most 1048576"]),
    "a header past the end": (write(struct.pack("<Q", 500) + b"{}"), ["truncated"]),
    "no JSON": (raw(b"{nope}"), ["not JSON", "line 1"]),
    "a list": (raw(b"[1]"), ["expected an object"]),
    "no UTF-8": (raw(b'{"\xff": 1}'), ["UTF-8"]),
    "NaN": (raw(b'{"w": NaN}'), ["NaN"]),
    "a key twice": (raw(b'{"w": 1, "w": 2}'), ["twice"]),
    "nested 100000 deep": (raw(b'{"w":' + b"[" * 100_000), ["nested"]),
    "a number of 10000 digits": (raw(b'{"w": ' + b"9" * 10_000 + b"}"), ["number"]),
    "no tensors": (raw(b"{}"), ["no tensors"]),
    "metadata only": (raw(b'{"__metadata__": {"format": "pt"}}'), ["no tensors"]),
    "metadata of numbers": (raw(b'{"__metadata__": {"a": 1}}'), ["__metadata__"]),
    "5000 tensors": (many(5000), ["5000 tensors"]),
    "an entry that is a number": (raw(b'{"w": 3}'), ["w is described by 3"]),
    "an entry without offsets": (raw(b'{"w": {"dtype": "F32", "shape": [1]}}'), ["data_offsets"]),
    "an unknown dtype": (one(dtype="F8_E4M3"), ["F8_E4M3"]),
    "a negative size": (one(shape=[-4]), ["[-4]"]),
    "a size of zero": (one(b"", shape=[0], data_offsets=[0, 0]), ["[0]"]),
    "a size of 10^12": (one(shape=[10**12]), ["1000000000000"]),
    "a size that is true": (one(shape=[True]), ["true"]),
    "nine axes": (one(b"\0" * 4, shape=[1] * 9, data_offsets=[0, 4]), ["at most 8"]),
    "offsets of other length": (one(data_offsets=[0, 12]), ["16 bytes"]),
    "offsets backwards": (one(data_offsets=[16, 0]), ["16 bytes"]),
    "offsets before the start": (one(data_offsets=[-16, 0]), ["16 bytes"]),
    "overlap": (two((0, 4), (2, 6), 6), ["overlaps"]),
    "a gap": (two((0, 4), (6, 8), 8), ["gap"]),
    "past the end": (one(bytes(12)), ["truncated"]),
    "more bytes than named": (one(bytes(20)), ["4 more"]),
    "a name of two lines": (one(name="a\nb"), ["not plain"]),
    "a name of a path": (one(name="../" * 100), ["not plain"]),
    "a name with a terminal code": (one(name="\x1b[2J"), ["not plain"]),
}
