"""The safetensors reader: whatever was stored comes back exactly, and a file that lies is refused before it is read."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load as reference_load

from extract.errors import CheckpointError
from extract.formats.gates import OpenedFile
from extract.formats.safetensors import Header, Tensors, read_header

NAMES = st.text("abcXYZ019_./", min_size=1, max_size=12)
SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple)
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "BOOL": 1}


def assemble(table: dict[str, Any] | str, data: bytes) -> bytes:
    header = (table if isinstance(table, str) else json.dumps(table)).encode()
    return struct.pack("<Q", len(header)) + header + data


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def stored(tensors: dict[str, tuple[str, np.ndarray[Any, Any]]]) -> bytes:
    table, data = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        table[name] = entry(dtype, list(array.shape), len(data), len(data) + len(raw))
        data += raw
    return assemble(table, data)


def read(path: Path) -> tuple[Header, Tensors]:
    with OpenedFile(path) as file:
        header = read_header(file)
        return header, Tensors(file, header)


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Path]:
    folder = tmp_path_factory.mktemp("files")

    def write(data: bytes) -> Path:
        path = folder / "model.safetensors"
        path.write_bytes(data)
        return path

    return write


finite32 = hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
finite16 = hnp.arrays(np.float16, SHAPES, elements=st.floats(width=16, allow_nan=False, allow_infinity=False))
bits16 = hnp.arrays(np.uint16, SHAPES, elements=st.integers(0, 65535).filter(lambda b: b & 0x7F80 != 0x7F80))


@given(st.dictionaries(NAMES, finite32, min_size=1, max_size=5))
def test_float32_round_trip(file: Callable[[bytes], Path], arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    data = stored({name: ("F32", array) for name, array in arrays.items()})
    header, tensors = read(file(data))
    assert set(header.tensors) == set(arrays)
    assert tensors.digest == hashlib.sha256(data).hexdigest()
    for name, array in arrays.items():
        back = tensors.array(name)
        assert back.dtype == np.float32 and back.shape == array.shape
        assert back.tobytes() == array.tobytes()
        assert np.array_equal(reference_load(data)[name], back)


@given(finite16, bits16, finite32)
def test_other_floats_are_widened_exactly(
    file: Callable[[bytes], Path],
    half: np.ndarray[Any, Any],
    brain: np.ndarray[Any, Any],
    single: np.ndarray[Any, Any],
) -> None:
    double = single.astype(np.float64)
    data = stored({"a": ("F16", half), "b": ("BF16", brain), "c": ("F64", double)})
    _, tensors = read(file(data))
    assert np.array_equal(tensors.array("a").astype(np.float64), half.astype(np.float64))
    rebuilt = (brain.reshape(-1).astype(np.uint64) << 16).astype(np.uint32).tobytes()
    assert tensors.array("b").tobytes() == rebuilt
    assert np.array_equal(tensors.array("c").astype(np.float64), double)


@given(st.integers(0, 5), st.sampled_from([0.1, 1e300, -1e-320, 1 + 2.0**-40]))
def test_a_float64_that_float32_cannot_hold_is_refused(file: Callable[[bytes], Path], i: int, value: float) -> None:
    array = np.zeros((2, 3))
    array.reshape(-1)[i] = value
    _, tensors = read(file(stored({"w": ("F64", array)})))
    with pytest.raises(CheckpointError, match=rf"w\[{i // 3}, {i % 3}\] is .*float32 cannot hold"):
        tensors.array("w")


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_name_the_tensor(file: Callable[[bytes], Path], dtype: str, value: float) -> None:
    array = np.array([1.0, value], np.float32)
    kinds: dict[str, np.ndarray[Any, Any]] = {
        "F64": array.astype(np.float64), "F32": array, "F16": array.astype(np.float16),
        "BF16": (array.view(np.uint32) >> 16).astype(np.uint16),
    }  # fmt: skip
    _, tensors = read(file(stored({"blocks.w": (dtype, kinds[dtype])})))
    with pytest.raises(CheckpointError, match=r"blocks\.w\[1\] is -?(nan|inf), expected a finite number"):
        tensors.array("blocks.w")


@given(st.binary(max_size=64), st.integers(0, 400), st.integers(0, 255))
def test_damage_is_refused_or_harmless(file: Callable[[bytes], Path], tail: bytes, position: int, byte: int) -> None:
    good = stored({"a": ("F32", np.ones((3, 4), np.float32)), "b": ("U8", np.zeros(5, np.uint8))})
    damaged = bytearray(good)
    damaged[position % len(good)] = byte
    for data in (bytes(damaged), good + tail, good[: position % len(good)], tail):
        try:
            header, tensors = read(file(data))
            arrays = [tensors.array(n) for n, t in header.tensors.items() if t.is_float]
        except CheckpointError as error:
            assert "\n" not in error.line() and len(error.line()) < 600
        else:
            assert sum(a.size for a in arrays) <= len(data)


W = entry("F32", [2], 0, 8)
HOSTILE: list[tuple[str, bytes, str]] = [
    ("empty", b"", "is empty"),
    ("seven bytes", b"\1\0\0\0\0\0\0", "has 7 bytes"),
    ("header of 10^18 bytes", struct.pack("<Q", 10**18) + b"{}", "header has 1000000000000000000 bytes"),
    ("header just over the limit", struct.pack("<Q", (1 << 20) + 1) + b"{" * 64, "expected at most 1048576"),
    ("header longer than the file", struct.pack("<Q", 500) + b'{"a":1}', "is truncated: 15 bytes"),
    ("not JSON", assemble("{nonsense", b""), "not JSON at line 1 column 2"),
    ("not UTF-8", struct.pack("<Q", 3) + b'{"\xff', "byte 2 is not UTF-8"),
    ("a list", assemble("[1, 2]", b""), "a JSON list"),
    ("no tensors", assemble({}, b""), "names no tensors"),
    ("only metadata", assemble({"__metadata__": {"a": "b"}}, b""), "names no tensors"),
    ("metadata of numbers", assemble({"__metadata__": {"a": 1}, "w": W}, bytes(8)), "__metadata__"),
    ("a key twice", assemble('{"w": %s, "w": %s}' % ((json.dumps(W),) * 2), bytes(8)), "occurs twice"),
    ("NaN in the header", assemble('{"w": NaN}', bytes(8)), "holds NaN"),
    ("deep nesting", assemble("[" * 100_000, b""), "nested too deeply"),
    ("deep nesting in an entry", assemble('{"w":' + "[" * 100_000, b""), "nested too deeply"),
    ("a number of 5000 digits", assemble('{"w": ' + "9" * 5000 + "}", b""), "number that cannot be read"),
    ("too many tensors", assemble({f"w{i}": entry("U8", [1], i, i + 1) for i in range(4097)}, bytes(4097)), "4097"),
    ("a name with spaces", assemble({"w w": W}, bytes(8)), "is not plain"),
    ("a name with a newline", assemble({"w\n": W}, bytes(8)), "is not plain"),
    ("a name of letters that look plain", assemble({"ｗ": W}, bytes(8)), "is not plain"),
    ("an empty name", assemble({"": W}, bytes(8)), "is not plain"),
    ("a name of 300 letters", assemble({"w" * 300: W}, bytes(8)), "is not plain"),
    ("an entry of one number", assemble({"w": 3}, b""), "is described by 3"),
    ("an entry with a further field", assemble({"w": {**W, "strides": [1]}}, bytes(8)), "is described by"),
    ("unknown dtype", assemble({"w": entry("F8_E4M3", [8], 0, 8)}, bytes(8)), "has dtype \"F8_E4M3\""),
    ("dtype is a list", assemble({"w": {**W, "dtype": ["F32"]}}, bytes(8)), "has dtype"),
    ("shape is a number", assemble({"w": {**W, "shape": 2}}, bytes(8)), "has shape 2"),
    ("shape of truths", assemble({"w": {**W, "shape": [True, 2]}}, bytes(8)), "has shape"),
    ("shape of fractions", assemble({"w": {**W, "shape": [2.0]}}, bytes(8)), "has shape"),
    ("nine dimensions", assemble({"w": entry("F32", [1] * 9, 0, 4)}, bytes(4)), "at most 8"),
    ("size zero", assemble({"w": entry("F32", [0], 0, 0)}, b""), "sizes between 1 and"),
    ("size below zero", assemble({"w": entry("F32", [-2], 0, 8)}, bytes(8)), "sizes between 1 and"),
    ("size beyond 2^20", assemble({"w": entry("U8", [2**20 + 1], 0, 2**20 + 1)}, b""), "sizes between 1 and 1048576"),
    ("10^12 elements in 4 bytes", assemble({"w": entry("F32", [10**6, 10**6], 0, 4)}, bytes(4)), "4000000000000 bytes"),
    ("offsets in reverse", assemble({"w": entry("F32", [2], 8, 0)}, bytes(8)), "expected a range of 8 bytes"),
    ("offset below zero", assemble({"w": entry("F32", [2], -8, 0)}, bytes(8)), "expected a range of 8 bytes"),
    ("three offsets", assemble({"w": {**W, "data_offsets": [0, 4, 8]}}, bytes(8)), "two whole numbers"),
    ("a gap", assemble({"w": W, "v": entry("F32", [1], 12, 16)}, bytes(16)), "leaves a gap"),
    ("a gap at the front", assemble({"w": entry("F32", [2], 4, 12)}, bytes(12)), "leaves a gap"),
    ("an overlap", assemble({"w": W, "v": entry("F32", [2], 4, 12)}, bytes(12)), "overlaps"),
    ("twice the same bytes", assemble({"w": W, "v": W}, bytes(8)), "overlaps"),
    ("truncated data", assemble({"w": W}, bytes(7)), "is truncated: 7 bytes of tensors"),
    ("bytes after the end", assemble({"w": W}, bytes(9)), "1 more than its header names"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_hostile_files(file: Callable[[bytes], Path], data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(file(data))
    line = caught.value.line()
    assert message in line
    assert "model.safetensors" in line
    assert "\n" not in line and len(line) < 500


def test_a_header_length_that_spells_a_pickle_is_still_safetensors(file: Callable[[bytes], Path]) -> None:
    filler = "x" * (0x0480 - len(assemble({"__metadata__": {"f": ""}, "w": W}, b"")) + 8)
    data = assemble({"__metadata__": {"f": filler}, "w": W}, bytes(8))
    assert data[:2] == b"\x80\x04"
    header, _ = read(file(data))
    assert set(header.tensors) == {"w"}


def test_integers_and_masks_are_kept_out_of_the_weights(file: Callable[[bytes], Path]) -> None:
    header, tensors = read(file(stored({"mask": ("BOOL", np.ones(3, np.bool_)), "n": ("I64", np.ones(2, np.int64))})))
    assert not any(t.is_float for t in header.tensors.values())
    with pytest.raises(CheckpointError, match="mask has dtype BOOL"):
        tensors.array("mask")
