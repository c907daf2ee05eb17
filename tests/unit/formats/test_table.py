"""Tables: what is read is what was stored, and every kind of bad table is refused with one line, quickly."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.check.reader import Unreadable
from extract.check.table import TableRows
from extract.errors import CheckpointError, SpecError
from extract.formats import inspect_checkpoint, load_checkpoint
from extract.spec import ModelFacts
from extract.table_model import TableModel
from tests.networks import random_network, write_gpt2
from tests.tables import padded

IDS = st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=12)
GOOD = {"inputs": padded([[0], [1], [0, 1]]), "outputs": padded([[1], [0], [1, 0]])}


def saved(**arrays: Any) -> bytes:
    """The bytes numpy.savez writes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(entries: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    """An archive made by hand."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            archive.writestr(info, data)
    return buffer.getvalue()


def pair(inputs: bytes | None = None, outputs: bytes | None = None, **changes: Any) -> bytes:
    return zipped(
        {"inputs.npy": inputs or npy(GOOD["inputs"]), "outputs.npy": outputs or npy(GOOD["outputs"])}, **changes
    )


def declared(shape: str, descr: str = "|i1") -> bytes:
    """An array that says it has a shape and holds nothing."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def as_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = 0o120777 << 16


def with_flag(data: bytes, bit: int) -> bytes:
    """Set a flag bit of every entry, in both of its headers."""
    changed = bytearray(data)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = changed.find(signature)
        while place >= 0:
            changed[place + at] |= bit
            place = changed.find(signature, place + 4)
    return bytes(changed)


def flipped(data: bytes) -> bytes:
    """Damage the numbers, not the lists: the checksum no longer fits."""
    raw = np.zeros((400, 6), "int8")
    whole = bytearray(saved(inputs=raw, outputs=raw))
    whole[whole.find(b"NUMPY") + 400] ^= 1
    return bytes(whole)


EXECUTED = np.array([{"a": 1}], dtype=object)
BAD = [
    ("nothing", b"", "is empty|no tensors|empty"),
    ("only the signature", b"PK\x03\x04" + bytes(40), "damaged"),
    ("cut short", saved(**GOOD)[:-30], "damaged"),
    ("numbers damaged", flipped(b""), "damaged zip archive: Bad CRC"),
    ("a comment at the end", saved(**GOOD)[:-2] + b"\x03\x00abc", "damaged"),
    ("one array", saved(inputs=GOOD["inputs"]), "holds 'inputs.npy', expected inputs.npy and outputs.npy"),
    ("a third array", saved(**GOOD, more=np.zeros(1)), "and nothing else"),
    ("a path", zipped({"../inputs.npy": npy(GOOD["inputs"]), "outputs.npy": npy(GOOD["outputs"])}), "nothing else"),
    ("a link", pair(change=as_link), "not a plain file"),
    ("encrypted", with_flag(pair(), 1), "encrypted"),
    ("many entries", zipped({f"{i}.npy": b"" for i in range(3000)}), "bytes of entries"),
    ("objects", saved(inputs=EXECUTED, outputs=EXECUTED), "Python objects"),
    ("real numbers", saved(inputs=np.zeros((2, 2)), outputs=np.zeros((2, 2))), "dtype '<f8'"),
    ("names", saved(inputs=np.array([["a"]]), outputs=np.array([["b"]])), "dtype '<U1'"),
    ("fields", pair(npy(np.zeros(2, dtype=[("a", "i1")]))), "header numpy does not write"),
    ("no array", pair(b"hello there, world"), "is not a NumPy array"),
    ("a header of code", pair(declared("__import__('os')")), "header numpy does not write"),
    ("a huge shape", pair(declared("(1000000000000, 6)")), "not what its"),
    ("an overflowing shape", pair(declared("(4294967296, 4294967296, 2)")), "not what its"),
    ("more bytes than said", pair(npy(GOOD["inputs"]) + b"\0"), "not what its"),
    ("three axes", saved(inputs=np.zeros((2, 2, 2), int), outputs=np.zeros((2, 1), int)), "has shape"),
    ("rows that do not match", saved(inputs=GOOD["inputs"], outputs=GOOD["outputs"][:2]), "3 inputs and 2 outputs"),
    ("no rows", saved(inputs=np.zeros((0, 2), int), outputs=np.zeros((0, 1), int)), "holds no rows"),
    ("a negative id", saved(inputs=padded([[0], [-7]]), outputs=padded([[0], [0]])), r"inputs\[1, 0\] is -7"),
    ("a huge id", saved(inputs=padded([[0], [1]]), outputs=np.array([[0], [2**40]])), r"outputs\[1, 0\] is 1099"),
    ("a gap", saved(inputs=np.array([[0, -1, 1]]), outputs=np.array([[0]])), r"inputs\[0, 2\] is 1 after -1"),
    ("a contradiction", saved(inputs=padded([[0, 1], [1], [0, 1]]), outputs=padded([[1], [0], [0]])),
     r"answers input \[0, 1\] with \[1\] in row 0 and with \[0\] in row 2, expected one answer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "message"), BAD, ids=[name for name, _, _ in BAD])
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / "table.npz").write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(tmp_path, ModelFacts(format="table"))
    assert caught.value.exit_code == 4
    assert "table.npz" in caught.value.line() and "\n" not in caught.value.line()
    assert [path.name for path in tmp_path.iterdir()] == ["table.npz"]


@pytest.mark.parametrize(("name", "data"), [row[:2] for row in BAD], ids=[name for name, _, _ in BAD])
def test_the_checker_refuses_them_too(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / "table.npz").write_bytes(data)
    accepted = {"a comment at the end", "a link", "more bytes than said"}
    tolerated = name in accepted or name in {"a huge id"}
    try:
        TableRows(tmp_path / "table.npz")
    except Unreadable as error:
        assert "\n" not in str(error)
    else:
        assert tolerated


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    bomb = bytearray(npy(np.zeros((1 << 14, 1 << 14), "int8")))
    (tmp_path / "table.npz").write_bytes(pair(bytes(bomb)))
    del bomb
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(CheckpointError, match="would unpack to"):
        load_checkpoint(tmp_path / "table.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - started < 2
    assert peak < 50 << 20


@settings(max_examples=40)
@given(IDS, st.sampled_from(["int8", "uint8", "<i4", ">i2", "int64"]), st.booleans())
def test_a_table_finds_exactly_its_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], dtype: str,
                                        is_fortran: bool) -> None:  # fmt: skip
    rows = [row for i, row in enumerate(rows) if row not in rows[:i]]
    outputs = [[i % 3] for i in range(len(rows))]
    is_padded = len({len(row) for row in rows}) > 1
    inputs = padded(rows, "int64").astype("int64" if is_padded and dtype == "uint8" else dtype)
    path = tmp_path_factory.mktemp("table") / "some.npz"
    order = "F" if is_fortran else "C"
    path.write_bytes(saved(inputs=np.asarray(inputs, order=order), outputs=np.array(outputs, order=order)))
    checkpoint = load_checkpoint(path)
    assert isinstance(checkpoint.model, TableModel)
    asked = padded([*rows, [4, 4, 4, 4, 4], [9], []], "int32").astype(np.int32)
    expected = [*range(len(rows)), *(rows.index(row) if row in rows else -1 for row in ([4] * 5, [9], []))]
    assert checkpoint.model.find(asked).tolist() == expected
    checked = TableRows(path)
    for row, place in zip([*rows, [4] * 5, [9], []], expected, strict=True):
        found = int(checked.find(np.array([row], np.int64).reshape(1, -1))[0])
        assert (checked.outputs[found].tolist() if found >= 0 else None) == (outputs[place] if place >= 0 else None)


def test_rows_that_repeat_are_said_and_harmless(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(saved(inputs=padded([[0], [1], [0]]), outputs=np.array([1, 0, 1])))
    checkpoint = load_checkpoint(tmp_path)
    assert isinstance(checkpoint.model, TableModel)
    assert len(checkpoint.model.distinct) == 2
    assert "1 of them repeat another" in " ".join(checkpoint.evidence)
    assert TableRows(tmp_path / "t.npz").find(np.array([[1]])).tolist() == [2]


def test_inspection_says_what_it_is_and_what_the_spec_adds(tmp_path: Path) -> None:
    (tmp_path / "table.npz").write_bytes(saved(**GOOD))
    found = inspect_checkpoint(tmp_path)
    assert (found.format, found.n_parameters, found.dtype) == ("table", 0, "int16")
    assert any("3 rows, all inputs different; inputs of 1 to 2 tokens" in line for line in found.evidence)
    assert any("vocab" in line for line in found.spec_must_add)


def test_a_table_beside_weights_is_meant_where_the_spec_says_so(tmp_path: Path) -> None:
    write_gpt2(random_network(0), tmp_path)
    (tmp_path / "table.npz").write_bytes(saved(**GOOD))
    assert load_checkpoint(tmp_path).format == "gpt2"
    assert load_checkpoint(tmp_path, ModelFacts(format="table")).format == "table"
    with pytest.raises(SpecError, match=r"'gpt2', but table\.npz is a table"):
        load_checkpoint(tmp_path / "table.npz", ModelFacts(format="gpt2"))
    with pytest.raises(SpecError, match=r"'table', but model\.safetensors is"):
        load_checkpoint(tmp_path / "model.safetensors", ModelFacts(format="table"))
    with pytest.raises(CheckpointError, match="expected a network"):
        _ = load_checkpoint(tmp_path / "table.npz").network
