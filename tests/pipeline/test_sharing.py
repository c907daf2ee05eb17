"""One verification shared out: the same bytes for any number of processes and any engine, and an end in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from extract.batch.shards import WorkerShards
from extract.batch.workers import Supervisor
from extract.pipeline import VerifyRequest, verify_program
from extract.report.report import Report
from extract.shards import Lost, Message, Reply, Stop
from extract.stages_shards import FUNCTION
from tests.cli.command import SPEC, environment
from tests.networks import random_network, write_neutral
from tests.unit.batch.suites import soon, workers_of

#: Options of one process, of two here, and of two on a cluster.
ALONE, LOCAL, DASK = [], ["--jobs", "2"], ["--jobs", "2", "--engine", "dask"]


def constant_task(folder: Path, n_layers: int, lengths: tuple[int, int]) -> Path:
    """A checkpoint that always answers ``a``."""
    network = random_network(3, n_layers=n_layers, d_model=16 * n_layers, n_ctx=40, spread=0.05)
    bias = np.zeros_like(network.b_U)
    bias[0] = 9.0
    write_neutral(replace(network, b_U=bias), folder)
    text = SPEC.format(max_length=lengths[1], promise="")
    (folder / "spec.toml").write_text(text.replace("min_length = 1", f"min_length = {lengths[0]}"))
    return folder


@contextmanager
def started(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Verify ``output = 'a'`` in a group of its own, everything shared at once; it is ended whatever happens."""
    (folder / "program.txt").write_text("output = 'a'")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.sharing_driver", "verify", "program.txt", ".", "--json", *options],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def told(folder: Path, *options: str) -> tuple[str, bytes]:
    """Verify to the end; return the report without its run, and the certificate."""
    with started(folder, "--cert", "some.cert.json", "--force", *options) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    report = json.loads(out)
    assert report.pop("run")
    return json.dumps(report), (folder / "some.cert.json").read_bytes()


ON_DASK = pytest.param(DASK, marks=pytest.mark.slow)


@pytest.mark.parametrize("options", [LOCAL, DASK], ids=["local", "dask"])
def test_lengths_by_bounds_have_the_bytes_of_one_process(options: list[str], tmp_path: Path) -> None:
    check_engine(constant_task(tmp_path / "task", 1, (20, 26)), options, "--verify", "bounds")


@pytest.mark.parametrize("options", [LOCAL, ON_DASK], ids=["local", "dask"])
def test_enumerations_have_the_bytes_of_one_process(options: list[str], tmp_path: Path) -> None:
    check_engine(constant_task(tmp_path / "task", 1, (19, 19)), options, "--verify", "enumerate")


def check_engine(folder: Path, options: list[str], *others: str) -> None:
    if options == DASK:
        pytest.importorskip("distributed")
    assert told(folder, *others, *options) == told(folder, *others, *ALONE)


class Meddling:
    """Shards of two processes; something happens when each reply was taken."""

    def __init__(self, meddle: Callable[[int, Supervisor], None]) -> None:
        self._meddle = meddle
        self.shards = WorkerShards(
            FUNCTION, engine="local", workers=2, scheduler=None, seconds=60.0, memory_bytes=1 << 30
        )  # fmt: skip

    def map(self, messages: Iterable[Message], stop: Stop) -> Generator[Reply | Lost, None, None]:
        assert isinstance(self.shards._engine, Supervisor)
        self._meddle(-1, self.shards._engine)
        for n, reply in enumerate(self.shards.map(messages, stop)):
            yield reply
            self._meddle(n, self.shards._engine)


def meddled(folder: Path, meddle: Callable[[int, Supervisor], None], monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr("extract.verify.climb._ALONE_SECONDS", 0.0)
    by = Meddling(meddle)
    request = VerifyRequest(checkpoint=folder, program="output = 'a'", method="bounds", memory_bytes=1 << 30)
    with by.shards:
        return verify_program(request, shards=by)


def test_killed_workers_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, killed = constant_task(tmp_path / "task", 1, (20, 26)), list[int]()

    def kill(n: int, supervisor: Supervisor) -> None:
        if n in (0, 3) and supervisor.process_ids:
            killed.append(supervisor.process_ids[0])
            os.kill(killed[-1], signal.SIGKILL)

    found = msgspec.to_builtins(meddled(folder, kill, monkeypatch))
    assert len(killed) == 2
    alone = msgspec.to_builtins(
        verify_program(VerifyRequest(checkpoint=folder, program="output = 'a'", method="bounds", memory_bytes=1 << 30))
    )
    assert {k: v for k, v in found.items() if k != "run"} == {k: v for k, v in alone.items() if k != "run"}


def test_a_checkpoint_that_changed_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers read the files themselves; what they read must be what the claim is about."""
    folder = constant_task(tmp_path / "task", 1, (20, 26))
    weights = folder / "model.safetensors"
    right = weights.read_bytes()

    def change(n: int, _: Supervisor) -> None:
        weights.write_bytes(right[:-4] + bytes(4) if n < 0 else right)

    report = meddled(folder, change, monkeypatch)
    assert report.status == "undecided" and report.verdict is not None
    assert int(report.verdict.undecided) > 0
    assert "another checkpoint" in (report.budget_hit or "")


def shard_workers(place: Path) -> list[int]:
    """The processes that do shards for a command run in a folder, whoever started them."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if FUNCTION.encode() in words and (entry / "cwd").resolve() == place:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("options", [LOCAL, ON_DASK], ids=["local", "dask"])
def test_an_interrupt_ends_a_shared_run_in_order(options: list[str], tmp_path: Path) -> None:
    """Ctrl-C as a terminal sends it, to the whole group: what is known is told, exit 130, and nothing stays behind."""
    if options == DASK:
        pytest.importorskip("distributed")
    folder = constant_task(tmp_path / "deep", 2, (1, 23)).resolve()
    with started(folder, "--verify", "enumerate", "--time", "1h", *options) as process:
        assert process.stderr is not None
        seen = b""
        while b"verify" not in seen:
            more = os.read(process.stderr.fileno(), 1 << 12)
            assert more, seen.decode()
            seen += more
        assert soon(lambda: bool(shard_workers(folder)), 60)
        assert options == DASK or workers_of(process.pid)
        time.sleep(1.0)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"Traceback" not in err
    assert json.loads(out)["budget_hit"] == "interrupted"
    assert soon(lambda: not shard_workers(folder), 20)
