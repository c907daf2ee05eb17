"""What a batch meets outside itself: disks that are full or gone, workers that die in every way, hundreds of rows."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extract.batch.ledger import LEDGER, LOCK, RESULT, decode_line
from tests.cli.command import extract
from tests.tables import Row, write_table
from tests.unit.batch.suites import calls, fake_bench, fake_suite, finish, forget_calls, soon, start, workers_of
from tests.unit.batch.test_bench import ON_LINUX, names_in, stable


def lines_are_whole(ledger: Path) -> bool:
    data = ledger.read_bytes() if ledger.is_file() else b""
    return all(decode_line(line) for line in data.splitlines(keepends=True))


SLOWLY = [pytest.param(limit, marks=pytest.mark.slow) for limit in (1, 300, 600, 700, 1000, 2000, 3000, 3500, 4000)]


@pytest.mark.parametrize("limit", [100, 1500, 2500, *SLOWLY])
def test_a_full_disk_is_74_and_loses_nothing(limit: int, tmp_path: Path) -> None:
    suite = fake_suite(tmp_path, {}, {}, {}, {}, {})

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code, out, err = fake_bench(suite, "-o", tmp_path / "out", cwd=tmp_path, preexec=small_files)
    assert (code, out) == (74, ""), err
    assert "File too large" in err
    assert "Traceback" not in err
    assert lines_are_whole(tmp_path / "out" / LEDGER), "half a line was left"
    assert not (tmp_path / "out" / RESULT).exists()
    kept = names_in(tmp_path / "out" / LEDGER)
    forget_calls(suite)
    assert fake_bench(suite, "-o", tmp_path / "out", cwd=tmp_path)[0] == 0
    assert fake_bench(suite, "-o", tmp_path / "whole", cwd=tmp_path)[0] == 0
    assert stable(tmp_path / "out") == stable(tmp_path / "whole")
    assert all(calls(suite)[name] == 1 for name in kept)


def a_file_for_the_folder(out: Path) -> None:
    out.write_text("mine")


def a_file_for_its_parent(out: Path) -> None:
    out.parent.rmdir()
    out.parent.write_text("mine")


def a_link_to_nowhere(out: Path) -> None:
    out.symlink_to("/proc/self/no/such/folder")


def a_folder_for(name: str) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        (out / name / "inside").mkdir(parents=True)

    return make


PLACES: dict[str, Callable[[Path], None]] = {
    "a file stands where the folder should": a_file_for_the_folder,
    "a file stands where its parent should": a_file_for_its_parent,
    "the folder is a link to nowhere": a_link_to_nowhere,
    "the ledger is a folder": a_folder_for(LEDGER),
    "the lock is a folder": a_folder_for(LOCK),
    "the result is a folder": a_folder_for(RESULT),
}


@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_place_that_takes_no_files_is_74_in_one_line(place: str, tmp_path: Path) -> None:
    suite = fake_suite(tmp_path, {}, {})
    (tmp_path / "deep").mkdir()
    out = tmp_path / "deep" / "out"
    PLACES[place](out)
    code, told, err = fake_bench(suite, "-o", out, cwd=tmp_path)
    assert (code, told) == (74, ""), err
    (complaint,) = [line for line in err.splitlines() if line.startswith("extract:")]
    assert str(tmp_path / "deep") in complaint
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.part"))
    assert place != "the result is a folder" or names_in(out / LEDGER) == {"even/row00", "odd/row01"}


@ON_LINUX
def test_a_folder_removed_meanwhile_is_74_and_leaves_no_worker(tmp_path: Path) -> None:
    suite = fake_suite(tmp_path, {}, *[{"seconds": 0.5}] * 3)
    process = start("bench", suite, "-o", tmp_path / "out", cwd=tmp_path)
    assert soon(lambda: bool(names_in(tmp_path / "out" / LEDGER)), 60)
    shutil.rmtree(tmp_path / "out")
    code, out, err = finish(process)
    assert (code, out) == (74, ""), err
    assert "Traceback" not in err
    assert not workers_of(process.pid)
    assert fake_bench(suite, "-o", tmp_path / "out", cwd=tmp_path)[0] == 0


@pytest.mark.slow
def test_many_faults_end_with_the_same_result(tmp_path: Path) -> None:
    """50 deaths, 10 hangs, 10 in C, 10 memory deaths, none fatal: the result is that of a run without them."""
    clean = fake_suite(tmp_path / "clean", *[{}] * 40)
    assert fake_bench(clean, "-o", tmp_path / "whole", "--jobs", "2", cwd=tmp_path)[0] == 0
    expected = [json.loads(line) for line in stable(tmp_path / "whole").splitlines()][1:-1]
    faults = [{"die": 2}] * 15 + [{"die": 1, "hang": 2}] * 10 + [{"die": 1, "eat": 2}] * 10 + [{"spin": 2}] * 5
    faulty = fake_suite(tmp_path / "faulty", *faults)
    options = ("--jobs", "2", "--memory", "16MiB")
    process = start("bench", faulty, "-o", tmp_path / "out", *options, cwd=tmp_path, FAKE_WALL="8")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    assert set(calls(faulty).values()) == {3}
    found = [json.loads(line) for line in stable(tmp_path / "out").splitlines()][1:-1]
    assert [(row["name"], row["result"]) for row in found] == [(row["name"], row["result"]) for row in expected]


def answer_of(i: int) -> Callable[[Row], Row]:
    """One of some functions of short inputs."""
    return (
        lambda row: (row[-1],),
        lambda row: (row[0],),
        lambda row: (len(row),),
        lambda row: (max(row),),
        lambda row: (i % 3,),
    )[i % 5]  # type: ignore[return-value]


def table_suite(folder: Path, n_rows: int) -> Path:
    for i in range(n_rows):
        readout = 'at = "last"\noutputs = ["0", "1", "2", "3"]'
        write_table(folder / f"family{i % 5}" / f"row{i:03d}", answer_of(i), longest=2, readout=readout)
    return folder


@pytest.mark.slow
def test_five_hundred_rows_are_done_in_one_go(tmp_path: Path) -> None:
    """Real rows, tables of a dozen inputs: all proved, the supervisor holds no more at the end than it must."""
    suite = table_suite(tmp_path / "suite", 500)
    options = ("--time", "10s", "--max-cost", "4", "--jobs", "2", "--json")
    done = extract("bench", suite, "-o", tmp_path / "out", *options, cwd=tmp_path, timeout=3600)
    assert done.code == 0, done.err[-2000:]
    header, *rows, summary = map(json.loads, done.out.splitlines())
    assert header["n_rows"] == len(rows) == len({row["name"] for row in rows}) == 500
    assert {row["result"]["status"] for row in rows} == {"proved"}
    assert {row["run"]["tries"] for row in rows} == {1}
    assert summary["score"]["all"]["points"] == 5000
    assert len(list((tmp_path / "out" / "certificates").iterdir())) == 500
    assert not list(tmp_path.rglob("*.part"))


@ON_LINUX
@pytest.mark.slow
def test_real_rows_killed_at_random_end_with_the_same_bytes(tmp_path: Path) -> None:
    """Searches, proofs and certificates are cut off anywhere: 20 kills among 30 tables."""
    draw, suite = random.Random(11), table_suite(tmp_path / "suite", 30)
    options, real = ("--time", "10s", "--max-cost", "4", "--jobs", "2"), {"FAKE_JOB": "extract.batch.jobs:do"}
    assert extract("bench", suite, "-o", tmp_path / "whole", *options, cwd=tmp_path, timeout=1800).code == 0
    done: set[str] = set()
    for _ in range(20):
        process = start("bench", suite, "-o", tmp_path / "out", *options, cwd=tmp_path, **real)
        soon(lambda: bool(names_in(tmp_path / "out" / LEDGER) - done) or process.poll() is not None, 60)  # noqa: B023
        time.sleep(draw.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert done <= names_in(tmp_path / "out" / LEDGER), "an acknowledged row was lost"
        done = names_in(tmp_path / "out" / LEDGER)
        if len(done) > 25:
            shutil.rmtree(tmp_path / "out")
            done = set()
    assert extract("bench", suite, "-o", tmp_path / "out", *options, cwd=tmp_path, timeout=1800).code == 0
    assert stable(tmp_path / "out") == stable(tmp_path / "whole")
    both = [{p.name: p.read_bytes() for p in (tmp_path / o / "certificates").iterdir()} for o in ("out", "whole")]
    assert {name: stable_certificate(data) for name, data in both[0].items()} == {
        name: stable_certificate(data) for name, data in both[1].items()
    }


def stable_certificate(data: bytes) -> Any:
    value = json.loads(data)
    value.pop("run", None)
    return value
