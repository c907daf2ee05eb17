"""Workers die, hang and eat memory; their jobs end well or as a failure after three tries; nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from extract.batch.workers import TRIES, Done, Job, Supervisor
from extract.errors import ExtractError
from tests.unit.batch.driver import FAKE
from tests.unit.batch.suites import calls, fake_suite, soon, workers_of

MIB = 1 << 20


def jobs(suite: Path, seconds: float = 30.0, memory: int = 400 * MIB) -> list[Job]:
    folders = sorted(path.parent for path in suite.rglob("fake.json"))
    return [Job(f"{f.parent.name}/{f.name}", {"checkpoint": str(f)}, seconds, memory) for f in folders]


def outcomes(suite: Path, n_workers: int = 1, **limits: Any) -> dict[str, Done]:
    with Supervisor(FAKE, workers=n_workers) as supervisor:
        found = {done.job.name: done for done in supervisor.run(jobs(suite, **limits))}
        pids = supervisor.process_ids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    return found


def test_every_job_ends_once_whatever_happens_to_its_workers(tmp_path: Path) -> None:
    rows = [{}, {"die": 1}, {"die": 2}, {"die": 3}, {"hang": 1}, {"raise": True}, {"status": "error"}, {}]
    suite = fake_suite(tmp_path, *rows)
    found = outcomes(suite, n_workers=2, seconds=1.5)
    assert set(found) == {job.name for job in jobs(suite)}
    ended = {i: found[f"{'even' if i % 2 == 0 else 'odd'}/row{i:02d}"] for i in range(len(rows))}
    assert [ended[i].tries for i in range(5)] == [1, 2, 3, 3, 2]
    assert all(ended[i].reply is not None for i in (0, 1, 2, 4, 6, 7))
    assert (ended[3].reply, ended[3].code) == (None, "died")
    assert ended[3].reason == "the worker was ended by signal 9 in each of 3 tries"
    assert ended[5].code == "died"
    assert calls(suite)["odd/row03"] == TRIES


def test_a_job_that_always_hangs_is_killed_each_time(tmp_path: Path) -> None:
    suite = fake_suite(tmp_path, {"hang": 9}, {})
    found = outcomes(suite, seconds=0.6)
    assert (found["even/row00"].code, found["even/row00"].tries) == ("time", 3)
    assert "killed after 0.6 s" in found["even/row00"].reason
    assert found["odd/row01"].reply is not None


def test_a_job_that_eats_memory_ends_alone(tmp_path: Path) -> None:
    suite = fake_suite(tmp_path, {"eat": 9}, {"eat": 1}, {})
    found = outcomes(suite, memory=200 * MIB)
    assert found["even/row00"].code == "memory"
    assert "200 MiB" in found["even/row00"].reason
    assert (found["odd/row01"].tries, found["even/row02"].tries) == (2, 1)


def test_an_allocation_far_beyond_the_limit_fails_in_the_worker(tmp_path: Path) -> None:
    with Supervisor("tests.unit.batch.test_workers:hog", workers=1) as supervisor:
        (done,) = supervisor.run([Job("hog", {}, 30.0, 64 * MIB)])
    assert done.code == "memory"


def hog(_: dict[str, Any]) -> dict[str, Any]:
    return {"size": len(bytearray(8 << 30))}


def test_a_worker_that_is_killed_from_outside_is_replaced(tmp_path: Path) -> None:
    suite = fake_suite(tmp_path, *[{"seconds": 0.05}] * 12)
    n_killed = 0
    with Supervisor(FAKE, workers=2) as supervisor:
        names = []
        for done in supervisor.run(jobs(suite)):
            names.append(done.job.name)
            assert done.reply is not None
            if len(names) in (2, 5, 8):
                os.kill(supervisor.process_ids[0], signal.SIGKILL)
                n_killed += 1
    assert (sorted(names), n_killed) == (sorted(job.name for job in jobs(suite)), 3)


def test_what_a_job_prints_is_no_reply(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Supervisor("tests.unit.batch.test_workers:chatter", workers=1, log=log) as supervisor:
        (done,) = supervisor.run([Job("a", {"n": 3}, 30.0, 400 * MIB)])
    assert done.reply == {"n": 3}
    assert "noise" in log.read_text()


def chatter(message: dict[str, Any]) -> dict[str, Any]:
    os.write(1, b"noise\n")
    return message


def test_workers_that_cannot_start_are_an_error_and_no_loop(tmp_path: Path) -> None:
    with Supervisor("tests.no_such_module:do", workers=1) as supervisor, pytest.raises(ExtractError, match="start"):
        list(supervisor.run([Job("a", {}, 30.0, 400 * MIB)]))


def test_workers_have_one_thread_and_no_terminal_signals(tmp_path: Path) -> None:
    with Supervisor("tests.unit.batch.test_workers:tell", workers=1) as supervisor:
        (done,) = supervisor.run([Job("a", {}, 30.0, 400 * MIB)])
    assert done.reply == {"threads": ["1", "1", "1"], "own_group": True}


def tell(_: dict[str, Any]) -> dict[str, Any]:
    threads = [os.environ[f"{library}_NUM_THREADS"] for library in ("OMP", "OPENBLAS", "MKL")]
    return {"threads": threads, "own_group": os.getpgid(0) == os.getpid()}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the parent's death is signalled on Linux")
def test_workers_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    from tests.unit.batch.suites import start

    suite = fake_suite(tmp_path, {"hang": 9}, {"hang": 9})
    process = start("bench", suite, "-o", tmp_path / "out", "--jobs", "2", cwd=tmp_path)
    assert soon(lambda: len(calls(suite)) == 2, 30), json.dumps(calls(suite))
    assert len(workers_of(process.pid)) == 2
    process.kill()
    process.communicate()
    assert soon(lambda: not workers_of(process.pid))
