"""Shards keep their order whatever becomes of workers; what is lost says why, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extract.batch.shards import WorkerShards
from extract.batch.workers import Supervisor
from extract.errors import UsageError
from extract.shards import Lost
from tests.cli.command import environment
from tests.unit.batch.suites import soon

MIB = 1 << 20


def work(message: dict[str, Any]) -> dict[str, Any]:
    """Wait, die, or hang as the message says; answer with its number."""
    time.sleep(message.get("seconds", 0.0))
    if message.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if message.get("hang"):
        time.sleep(600)
    return {"n": message["n"], "pid": os.getpid()}


def shards(function: str = "tests.unit.batch.test_shards:work") -> WorkerShards:
    return WorkerShards(function, engine="local", workers=2, scheduler=None, seconds=10.0, memory_bytes=200 * MIB)


def process_ids(by: WorkerShards) -> tuple[int, ...]:
    assert isinstance(by._engine, Supervisor)
    return by._engine.process_ids


def never() -> bool:
    return False


def test_replies_come_in_order_and_messages_are_drawn_as_needed() -> None:
    drawn: list[int] = []

    def messages() -> Iterator[dict[str, Any]]:
        for n in range(20):
            drawn.append(n)
            yield {"n": n, "seconds": 0.05 if n % 4 == 0 else 0.0}

    seen = 0
    with shards() as by:
        for reply in by.map(messages(), never):
            assert not isinstance(reply, Lost) and reply["n"] == seen
            seen += 1
            assert len(drawn) <= seen + 2 * 2
        pids = process_ids(by)
    assert seen == 20
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_shard_that_always_kills_its_worker_is_lost_alone() -> None:
    with shards() as by:
        found = list(by.map(({"n": n, "die": n == 1} for n in range(4)), never))
    lost = found[1]
    assert isinstance(lost, Lost) and "signal 9 in each of 3 tries" in lost.reason
    assert [r["n"] for r in found if not isinstance(r, Lost)] == [0, 2, 3]


def test_a_worker_killed_from_outside_loses_nothing() -> None:
    killed = []
    with shards() as by:
        for n, reply in enumerate(by.map(({"n": n, "seconds": 0.05} for n in range(12)), never)):
            assert not isinstance(reply, Lost) and reply["n"] == n
            if n in (2, 6):
                killed.append(process_ids(by)[0])
                os.kill(killed[-1], signal.SIGKILL)
        assert not set(killed) & set(process_ids(by))


def test_a_stop_ends_hung_shards_at_once() -> None:
    since = time.monotonic()
    with shards() as by:
        first = next(by.map(({"n": n, "hang": n > 0} for n in range(3)), never))
        assert not isinstance(first, Lost)
        assert list(by.map(({"n": n, "hang": True} for n in range(3)), lambda: time.monotonic() - since > 2.0)) == []
        pids = process_ids(by)
    assert time.monotonic() - since < 30
    assert soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_what_is_closed_is_dropped_and_the_next_map_is_whole() -> None:
    with shards() as by:
        replies = by.map(({"n": n, "hang": n == 1} for n in range(4)), never)
        next(replies)
        replies.close()
        found = [reply for reply in by.map(({"n": n} for n in range(10, 14)), never) if not isinstance(reply, Lost)]
    assert [reply["n"] for reply in found] == [10, 11, 12, 13]


def test_workers_that_cannot_start_lose_every_shard_and_raise_nothing() -> None:
    with shards(function="tests.no_such_module:do") as by:
        found = list(by.map(({"n": n} for n in range(3)), never))
    assert len(found) == 3 and all(isinstance(r, Lost) and "do not start" in r.reason for r in found)


def test_a_scheduler_belongs_to_dask() -> None:
    with pytest.raises(UsageError, match="--engine dask"):
        WorkerShards("a:b", engine="local", workers=2, scheduler="tcp://a:1", seconds=1.0, memory_bytes=MIB)


DASK = """
import os, sys
from extract.batch.shards import WorkerShards
from extract.shards import Lost

if __name__ == "__main__":
    function = "tests.unit.batch.test_shards:work"
    with WorkerShards(function, engine="dask", workers=2, scheduler=None, seconds=10.0, memory_bytes=200 << 20) as by:
        found = list(by.map(({"n": n, "die": n == 3} for n in range(8)), lambda: False))
        hung = by.map(({"n": n, "hang": n > 0} for n in range(3)), lambda: False)
        next(hung)
        hung.close()
    lost = [reply.reason for reply in found if isinstance(reply, Lost)]
    replies = [reply for reply in found if not isinstance(reply, Lost)]
    print([reply["n"] for reply in replies], lost, *{reply["pid"] for reply in replies}, sep=";")
"""


def test_dask_keeps_a_process_for_each_worker_and_ends_it(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    (tmp_path / "some.py").write_text(DASK)
    done = subprocess.run(
        [sys.executable, "some.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told, lost, *pids = done.stdout.strip().split(";")
    assert told == "[0, 1, 2, 4, 5, 6, 7]"
    assert "signal 9 in each of 3 tries" in lost
    assert 1 <= len(pids) <= 4
    assert soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10)
