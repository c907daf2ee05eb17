"""Where jobs are done: by workers of this machine, or by a dask cluster whose workers do each job the same way.

Either way a job runs in a process of its own under the same supervisor with the same limits and tries, so the results
are the same. The cluster must see the same files under the same paths.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from time import sleep
from types import TracebackType
from typing import Any, Protocol, Self

from extract.batch.workers import Done, Job, Supervisor
from extract.errors import ExtractError, UsageError

#: Seconds to wait for a scheduler to answer, and for a cluster to end in order.
_CONNECT_SECONDS, _CLOSE_SECONDS = 10, 1
#: Seconds between looks at what the cluster has done.
_POLL_SECONDS = 0.02

#: What ``Done`` holds beside its job.
Ended = tuple[dict[str, Any] | None, str, str, int, float]


class Engine(Protocol):
    """Does jobs; a context manager that leaves nothing running."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """End everything that runs."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Do the jobs and yield how each ended, as it does."""

    def add(self, job: Job) -> None:
        """Take a job; its name is that of no other job under way."""

    def step(self) -> Iterator[Done]:
        """Wait a little and yield what ended."""

    def drop(self) -> None:
        """Forget the jobs under way."""

    def come_up(self, memory_bytes: int) -> int:
        """Have workers come up for jobs with this memory limit; return how many jobs are done at a time."""


def engine_for(
    name: str, function: str, *, workers: int, scheduler: str | None, log: Path | None = None,
    started: Callable[[str], None] | None = None, is_kept: bool = False,
) -> Engine:  # fmt: skip
    """Return the engine of this name; ``is_kept`` is that of ``DaskEngine``.

    Raises:  UsageError if dask is asked for and not installed, or a scheduler is named for another engine.
    """
    if name == "dask":
        return DaskEngine(function, workers=workers, scheduler=scheduler, started=started, is_kept=is_kept)
    if scheduler is not None:
        raise UsageError("--scheduler belongs to --engine dask", hint="--engine dask --scheduler ADDR")
    return Supervisor(function, workers=workers, log=log, started=started)


class DaskEngine:
    """Jobs on a dask cluster: the scheduler at an address, or a cluster of this machine's own.

    ``is_kept``: the process in which a dask worker does a job is kept for the next one, until the engine ends.

    Raises:  UsageError if ``distributed`` is not installed; ExtractError if the scheduler does not answer.
    """

    def __init__(
        self, function: str, *, workers: int, scheduler: str | None, started: Callable[[str], None] | None = None,
        is_kept: bool = False,
    ) -> None:  # fmt: skip
        try:
            import distributed
        except ImportError as error:
            raise UsageError("--engine dask needs dask", hint="pip install 'extract[cluster]'") from error
        self._distributed: Any = distributed
        self._function = function
        self._workers, self._scheduler, self._started = workers, scheduler, started or (lambda name: None)
        self._token = uuid.uuid4().hex if is_kept else ""
        self._futures: dict[Any, Job] = {}
        self._cluster: Any = None
        self._client: Any = None

    def come_up(self, memory_bytes: int) -> int:
        """Return how many jobs the cluster does at a time; its workers are up."""
        return max(1, sum(int(n) for n in self._client.nthreads().values()))

    def __enter__(self) -> Self:
        logging.getLogger("distributed").setLevel(logging.ERROR)
        address: Any = self._scheduler
        try:
            if address is None:
                with _deaf_children():
                    self._cluster = address = self._distributed.LocalCluster(
                        n_workers=self._workers,
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address=":0",  # some free port: the usual one may be taken
                        silence_logs=logging.CRITICAL,
                    )
            self._client = self._distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            self.__exit__(None, None, None)
            raise ExtractError(f"no dask scheduler answers at {self._scheduler}: {error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None:
            self._kill_own_workers()
        elif self._token and self._client is not None:
            with suppress(OSError, TimeoutError, ValueError):  # what is lost with its cluster needs no end
                self._client.run(end_kept, self._token, on_error="ignore")
        for part in (self._client, self._cluster):
            if part is not None:
                with suppress(OSError):  # a cluster that does not end in time is killed with this process
                    part.close(timeout=_CLOSE_SECONDS)
        self._client = self._cluster = None

    def _kill_own_workers(self) -> None:
        """End the workers of a cluster of our own at once: asked in order, they would first finish what they do."""
        for nanny in getattr(self._cluster, "workers", {}).values():
            nanny.auto_restart = False
            if nanny.pid:
                with suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)

    def run(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Do the jobs and yield how each ended, as it does; a job whose dask workers are lost fails like any other."""
        for job in jobs:
            self.add(job)
        while self._futures:
            yield from self.step()

    def add(self, job: Job) -> None:
        """Take a job."""
        self._started(job.name)
        do = partial(do_kept, self._token) if self._token else do_apart
        self._futures[self._client.submit(do, self._function, asdict(job), pure=False, retries=2)] = job

    def step(self) -> Iterator[Done]:
        """Wait a little and yield what ended."""
        ended = [future for future in self._futures if future.done()]
        if not ended:
            sleep(_POLL_SECONDS)
        for future in ended:
            job = self._futures.pop(future)
            if future.status == "finished":
                yield Done(job, *future.result())
            else:
                why = type(future.exception()).__name__ if future.status == "error" else future.status
                yield Done(job, None, "died", f"the cluster lost the job: {why}")
            future.release()

    def drop(self) -> None:
        """Cancel what waits; what a worker has begun it ends, for nobody."""
        if self._futures:
            self._client.cancel(list(self._futures))
        self._futures.clear()


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Start threads and processes that Ctrl-C does not reach: they end in order with this one, which hears it later."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started by a thread, it would have that thread hear again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _supervisor(function: str) -> Supervisor:
    """Return a supervisor of one process, which dask's settings do not reach: by these a process gives all memory back
    at once, and arrays that come and go take half as long again."""
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)
    return Supervisor(function, workers=1)


def do_apart(function: str, job: dict[str, Any]) -> Ended:
    """Do one job in a process of its own, wherever this is called; return what ``Done`` holds."""
    with _supervisor(function) as supervisor:
        done = next(supervisor.run([Job(**job)]))
    return done.reply, done.code, done.reason, done.tries, done.seconds


#: By engine and thread, the process kept for its jobs.
_kept: dict[tuple[str, int], Supervisor] = {}
_over: set[str] = set()
_lock = threading.Lock()


def do_kept(token: str, function: str, job: dict[str, Any]) -> Ended:
    """Do one job in the process that this thread keeps for an engine; return what ``Done`` holds."""
    key = (token, threading.get_ident())
    with _lock:
        if token in _over:
            return None, "died", "the engine has ended", 1, 0.0
        supervisor = _kept.get(key) or _supervisor(function)
        _kept[key] = supervisor
    done = next(supervisor.run([Job(**job)]))
    with _lock:
        if token in _over:
            supervisor.close()
    return done.reply, done.code, done.reason, done.tries, done.seconds


def end_kept(token: str) -> None:
    """End the processes kept for an engine, with what they do."""
    with _lock:
        _over.add(token)
        for key in [key for key in _kept if key[0] == token]:
            supervisor = _kept.pop(key)
            if supervisor.is_busy:
                supervisor.give_up()
            else:
                supervisor.close()
