"""Local workers under a small supervisor: one process per worker, one JSON message per job, nothing lost.

A worker that dies, hangs, or holds too much memory is killed with everything it started, another takes its place, and
the job is tried again; after the last try it ends as a failure, never as nothing. Workers die with the supervisor. It
refuses to know what a job is: a worker imports the function that its messages name when it starts.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, Any, Self

from extract.errors import ExtractError

TRIES = 3
#: Seconds between looks at the clock and the workers' memory while nothing arrives.
_TICK = 0.2
#: Seconds a worker may take to come up on a busy machine before it counts as hung.
_START_SECONDS = 120.0
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A message for a worker, with the wall seconds and the resident bytes that one try may take."""

    name: str
    message: Message
    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """How a job ended: the reply, or None and why there is none (``died``, ``time`` or ``memory`` and a sentence);
    ``seconds`` is the wall time of its last try."""

    job: Job
    reply: dict[str, Any] | None
    code: str = ""
    reason: str = ""
    tries: int = 1
    seconds: float = 0.0


class WorkerLost(Exception):
    """A worker is gone without a reply; ``code`` and the sentence say why."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class _Worker:
    """One worker process and the job it has, if any."""

    def __init__(self, function: str, memory_bytes: int, log: IO[bytes] | int) -> None:
        root = str(Path(__file__).resolve().parents[2])
        code = "from extract.batch.worker import main; main()"
        paths = [root, *(path for path in sys.path if path and path != root)]
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, function, str(os.getpid()), str(memory_bytes)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True, bufsize=0,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self.memory_bytes = memory_bytes
        self.job: Job | None = None
        self.began = monotonic()
        self.deadline = self.began + _START_SECONDS
        self.is_ready = False
        self._buffer = b""

    @property
    def out(self) -> IO[bytes]:
        """Where its replies come from."""
        assert self.process.stdout is not None
        return self.process.stdout

    def give(self, job: Job) -> None:
        """Send a job. Raises: WorkerLost if the worker is gone."""
        assert self.process.stdin is not None
        self.job, self.began = job, monotonic()
        self.deadline = self.began + job.seconds
        data = memoryview(json.dumps(job.message).encode() + b"\n")
        try:
            while data:
                data = data[self.process.stdin.write(data) :]
        except OSError as error:
            raise self.lost() from error

    def read(self) -> dict[str, Any] | None:
        """Return a reply if one is complete. Raises: WorkerLost if the worker is gone or wrote something else."""
        data = os.read(self.out.fileno(), 1 << 20)
        if not data:
            raise self.lost()
        self._buffer += data
        if not self._buffer.endswith(b"\n"):
            return None
        line, self._buffer = self._buffer, b""
        try:
            reply = json.loads(line)
        except ValueError as error:
            raise WorkerLost("died", "the worker wrote something that is no reply") from error
        if reply.get("lost") == "memory":
            raise WorkerLost("memory", f"the worker ran out of its {self.memory_bytes >> 20} MiB of memory")
        return dict(reply)

    def check(self) -> None:
        """Raises: WorkerLost if it is over its time or memory."""
        if (self.job is not None or not self.is_ready) and monotonic() > self.deadline:
            limit = self.job.seconds if self.job is not None else _START_SECONDS
            raise WorkerLost("time", f"the worker was killed after {limit:g} s")
        if self.job is not None and _resident_bytes(self.process.pid) > self.job.memory_bytes:
            raise WorkerLost("memory", f"the worker was killed above {self.job.memory_bytes >> 20} MiB of memory")

    def lost(self) -> WorkerLost:
        """Wait for the process to end and say how it did."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        status = self.process.poll()
        if status is not None and status < 0:
            return WorkerLost("died", f"the worker was ended by signal {-status}")
        return WorkerLost("died", f"the worker ended with status {status}")

    def kill(self) -> None:
        """End the process and everything it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


class Supervisor:
    """Does jobs in worker processes; use it as a context manager, which leaves no process behind.

    ``function`` names what a worker calls with each message, as ``module:name``: message in, reply out. ``log`` is a
    file for what workers write to standard error. ``started`` is told the name of each job that begins.
    """

    def __init__(
        self,
        function: str,
        *,
        workers: int,
        log: Path | None = None,
        tries: int = TRIES,
        started: Callable[[str], None] | None = None,
    ) -> None:
        self._function, self._n_workers, self._tries = function, workers, tries
        self._log_path, self._log = log, None if log is None else log.open("ab", buffering=0)
        self._started = started or (lambda name: None)
        self._workers: list[_Worker] = []
        self._waiting: deque[tuple[Job, int]] = deque()
        self._tries_of: dict[str, int] = {}
        self._n_failed_starts = 0
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill every worker."""
        while self._workers:
            self._drop(self._workers[-1])
        self._selector.close()
        if self._log is not None:
            self._log.close()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The workers' process ids."""
        return tuple(worker.process.pid for worker in self._workers)

    @property
    def is_busy(self) -> bool:
        """Whether some worker has a job."""
        return any(worker.job is not None for worker in self._workers)

    def run(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Do the jobs, in order as workers become free, and yield how each ended as it does."""
        for job in jobs:
            self.add(job)
        n_left = len(jobs)
        while n_left:
            for done in self.step():
                n_left -= 1
                yield done

    def add(self, job: Job) -> None:
        """Take a job; its name is that of no other job under way."""
        self._waiting.append((job, 1))

    def step(self) -> Iterator[Done]:
        """Fill the workers, hand out jobs, wait a little for a reply, and yield what ended."""
        self._fill()
        for worker in list(self._workers):
            if worker.job is None and worker.is_ready and self._waiting:
                with self._caring(worker) as ended:
                    self._hand_out(worker)
                yield from ended
        events = {key.data for key, _ in self._selector.select(_TICK)}
        for worker in list(self._workers):
            with self._caring(worker) as ended:
                reply = worker.read() if worker in events else None
                if reply is not None and worker.is_ready and worker.job is not None:
                    tries = self._tries_of.pop(worker.job.name)
                    ended.append(Done(worker.job, reply, tries=tries, seconds=monotonic() - worker.began))
                    worker.job, self._n_failed_starts = None, 0
                worker.is_ready = worker.is_ready or reply is not None
                worker.check()
            yield from ended

    def come_up(self, memory_bytes: int) -> int:
        """Have every worker come up for jobs with this memory limit; return how many jobs are done at a time."""
        while len(self._workers) < self._n_workers:
            self._start(memory_bytes)
        return self._n_workers

    def drop(self) -> None:
        """Forget the jobs that wait, and kill the workers that have one."""
        self._waiting.clear()
        self._tries_of.clear()
        for worker in [worker for worker in self._workers if worker.job is not None]:
            self._drop(worker)

    def give_up(self) -> None:
        """Signal every worker to end, and try no job again; another thread may be stepping."""
        self._tries = 0
        for worker in list(self._workers):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.process.pid, signal.SIGKILL)

    @contextmanager
    def _caring(self, worker: _Worker) -> Iterator[list[Done]]:
        """Give a list for what ended; a worker lost meanwhile is replaced, and its job waits again or has failed."""
        ended: list[Done] = []
        try:
            yield ended
        except WorkerLost as lost:
            job = worker.job
            self._drop(worker)
            if job is None:
                self._start_failed(lost)
            elif self._tries_of[job.name] < self._tries:
                self._waiting.appendleft((job, self._tries_of[job.name] + 1))
            else:
                reason = f"{lost} in each of {self._tries} tries" if self._tries > 1 else str(lost)
                seconds = monotonic() - worker.began
                ended.append(Done(job, None, lost.code, reason, self._tries_of.pop(job.name), seconds))

    def _start_failed(self, lost: WorkerLost) -> None:
        self._n_failed_starts += 1
        if self._n_failed_starts >= self._tries * self._n_workers:
            where = f" (see {self._log_path})" if self._log_path is not None else ""
            raise ExtractError(f"workers do not start: {lost}{where}")

    def _hand_out(self, worker: _Worker) -> None:
        job, n = self._waiting.popleft()
        self._tries_of[job.name] = n
        self._started(job.name)
        worker.give(job)

    def _fill(self) -> None:
        """Start workers while there is more to do than there are free ones; each has the next job's memory limit."""
        n_free = sum(worker.job is None for worker in self._workers)
        while len(self._workers) < self._n_workers and n_free < len(self._waiting):
            self._start(self._waiting[0][0].memory_bytes)
            n_free += 1

    def _start(self, memory_bytes: int) -> None:
        log = self._log.fileno() if self._log is not None else subprocess.DEVNULL
        worker = _Worker(self._function, memory_bytes, log)
        self._workers.append(worker)
        self._selector.register(worker.out, selectors.EVENT_READ, worker)

    def _drop(self, worker: _Worker) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(worker.out)
        worker.kill()
        self._workers.remove(worker)


def _resident_bytes(process_id: int) -> int:
    """Return the resident bytes of a process, 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
