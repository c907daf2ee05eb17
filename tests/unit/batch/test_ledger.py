"""The ledger loses nothing acknowledged and believes nothing damaged: whatever happened to it resumes to the same."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.batch.ledger import LEDGER, RESULT, Ledger, decode_line, encode_line, read_result, stamped, without_run
from extract.errors import OutputError

SUITE = "5" * 64
NAMES = tuple(f"family{i % 2}/row{i}" for i in range(5))
_clock = count()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(st.text(max_size=6).filter(lambda k: k not in ("run", "sha256")), json_values, max_size=5)
runs = st.dictionaries(st.text(max_size=6).filter(lambda k: k != "sha256"), json_values, max_size=3)


def opened(folder: Path, **changes: Any) -> Ledger:
    given: dict[str, Any] = {"header": {"name": "s"}, "suite": SUITE, "names": NAMES} | changes
    return Ledger(folder, **given)


def row(name: str) -> dict[str, Any]:
    """What a row comes to: the same each time, apart from its run."""
    return {"name": name, "result": {"status": "proved", "n": len(name), "x": 0.1}, "run": {"at": next(_clock)}}


def run(folder: Path, stop_after: int | None = None) -> tuple[list[str], bytes]:
    """Do what is missing, as a batch does; return the names done and the result's bytes."""
    done = []
    with opened(folder) as ledger:
        for name in NAMES:
            if name not in ledger.rows:
                if stop_after is not None and len(done) >= stop_after:
                    return done, b""
                ledger.add(row(name))
                done.append(name)
        return done, ledger.finish([ledger.rows[name] for name in NAMES], {"n": len(NAMES)})


@pytest.fixture(scope="module")
def whole() -> Iterator[tuple[bytes, bytes]]:
    with tempfile.TemporaryDirectory() as name:
        _, result = run(Path(name))
        yield (Path(name) / LEDGER).read_bytes(), without_run(result)


@given(bodies, st.none() | runs)
def test_a_line_comes_back_as_it_was(body: dict[str, Any], spent: dict[str, Any] | None) -> None:
    value = body if spent is None else {**body, "run": spent}
    assert decode_line(encode_line(value)) == value


@given(bodies, runs, st.integers(0, 1 << 20), st.integers(1, 255))
def test_any_flipped_byte_is_noticed(body: dict[str, Any], spent: dict[str, Any], place: int, change: int) -> None:
    line = bytearray(encode_line({**body, "run": spent}))
    line[place % len(line)] ^= change
    assert decode_line(bytes(line)) is None


def truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        if changed:
            changed[draw.randrange(len(changed))] ^= draw.randint(1, 255)
    return bytes(changed)


def duplicate(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    return data + b"".join(draw.choices(lines, k=3)) if lines else data


def reorder(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    draw.shuffle(lines)
    return b"".join(lines)


def drop(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join(line for line in lines if draw.random() < 0.7)


def garbage(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.randbytes(draw.randint(1, 50)) + data[place:]


def interleave(data: bytes, draw: random.Random) -> bytes:
    """Two writers without a lock: each line in two pieces with another's between."""
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return data
    cut = draw.randrange(len(lines[-1]))
    return b"".join(lines[:-2]) + lines[-1][:cut] + lines[-2] + lines[-1][cut:]


DAMAGES = (truncate, flip, duplicate, reorder, drop, garbage, interleave)


@settings(max_examples=50)
@given(
    n_done=st.integers(0, len(NAMES)),
    damages=st.lists(st.sampled_from(DAMAGES), max_size=3),
    seed=st.integers(0, 1 << 30),
)
def test_any_prefix_and_any_damage_resume_to_the_same_bytes(
    n_done: int, damages: list[Any], seed: int, whole: tuple[bytes, bytes]
) -> None:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, n_done)
        data = (folder / LEDGER).read_bytes()
        for damage in damages:
            data = damage(data, draw)
        (folder / LEDGER).write_bytes(data)
        intact = {line["name"] for line in map(decode_line, data.splitlines(keepends=True)) if line and "name" in line}
        done, result = run(folder)
        assert without_run(result) == whole[1]
        assert not intact & set(done) - {"s"}, "an acknowledged row was done again"
        with opened(folder) as ledger:
            assert not ledger.damage
            assert set(ledger.rows) == set(NAMES)


def test_rows_that_contradict_each_other_are_both_dropped(tmp_path: Path) -> None:
    run(tmp_path)
    other = stamped("row", SUITE, {**row(NAMES[0]), "result": {"status": "refuted"}})
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(encode_line(other))
    with opened(tmp_path) as ledger:
        assert NAMES[0] not in ledger.rows
        assert "contradicts" in ledger.damage[0]


@pytest.mark.parametrize(("key", "value"), [("suite", "6" * 64), ("version", "0.0.0"), ("schema", "extract.bench/9")])
def test_a_foreign_ledger_is_refused_and_left_alone(key: str, value: str, tmp_path: Path) -> None:
    run(tmp_path)
    lines = [decode_line(line) for line in (tmp_path / LEDGER).read_bytes().splitlines(keepends=True)]
    foreign = b"".join(encode_line({**line, key: value}) for line in lines if line is not None)
    (tmp_path / LEDGER).write_bytes(foreign)
    with pytest.raises(OutputError, match=f"{key} .*expected .*--force"), opened(tmp_path):
        pass
    assert (tmp_path / LEDGER).read_bytes() == foreign
    with opened(tmp_path, force=True) as ledger:
        assert not ledger.rows


def test_one_foreign_row_is_enough_to_refuse(tmp_path: Path) -> None:
    run(tmp_path, 2)
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(encode_line(stamped("row", "7" * 64, row(NAMES[3]))))
    with pytest.raises(OutputError, match="suite"), opened(tmp_path):
        pass


def test_a_file_with_nothing_of_ours_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_bytes(b"dear diary\n")
    with opened(tmp_path) as ledger:
        assert ledger.damage == ("line 1 is damaged",)
    assert (tmp_path / LEDGER).with_suffix(".damaged").read_bytes() == b"dear diary\n"


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        with pytest.raises(OutputError, match=r"another run \(process \d+\)"), opened(tmp_path):
            pass
        ledger.add(row(NAMES[0]))
    with opened(tmp_path) as ledger:
        assert set(ledger.rows) == {NAMES[0]}


def test_ledgers_of_shards_laid_end_to_end_are_a_ledger(tmp_path: Path, whole: tuple[bytes, bytes]) -> None:
    for shard in range(2):
        with opened(tmp_path / str(shard)) as ledger:
            for name in NAMES[shard::2]:
                ledger.add(row(name))
    (tmp_path / "all").mkdir()
    joined = b"".join((tmp_path / str(shard) / LEDGER).read_bytes() for shard in range(2))
    (tmp_path / "all" / LEDGER).write_bytes(joined)
    done, result = run(tmp_path / "all")
    assert (done, without_run(result)) == ([], whole[1])


def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        with pytest.raises(ValueError, match="JSON"):
            ledger.add({"name": NAMES[0], "result": {"x": float("nan")}, "run": {}})
        assert not ledger.rows


def test_the_result_reads_back_and_damage_to_it_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    header, rows, summary = read_result(tmp_path / RESULT)
    assert header["name"] == "s"
    assert [line["name"] for line in rows] == list(NAMES)
    assert summary is not None
    assert all(json.loads(line) for line in (tmp_path / RESULT).read_bytes().splitlines())
    data = (tmp_path / RESULT).read_bytes()
    (tmp_path / RESULT).write_bytes(data.replace(b"proved", b"Proved", 1))
    with pytest.raises(ValueError, match="line 2"):
        read_result(tmp_path / RESULT)
