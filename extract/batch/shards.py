"""Shards on the engines of a batch: local worker processes or a dask cluster, with the limits and tries of its rows.

It keeps the order of messages and their number under way; what they say is for others to know.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Self

from extract.batch.engines import DaskEngine, Engine
from extract.batch.workers import Done, Job, Supervisor
from extract.errors import ExtractError, UsageError
from extract.shards import Lost, Message, Reply, Stop

#: Shards handed out or done ahead of the first that is not done, for each worker.
_AHEAD = 2
#: Wall seconds that a shard may take for each nominal one of the whole, and for loading; then it hangs.
_PATIENCE, _EXTRA_SECONDS = 6.0, 120.0
#: A process holds libraries and the model beside what the work may hold.
_EXTRA_BYTES = 1 << 30


class WorkerShards:
    """Shards done by an engine's workers; a context manager that leaves nothing running.

    ``seconds`` and ``memory_bytes`` are what the whole may take: one shard is killed well above them. Workers come up
    at once, beside whatever goes before the first message.
    Raises:  UsageError or ExtractError as ``DaskEngine`` does.
    """

    def __init__(
        self, function: str, *, engine: str, workers: int, scheduler: str | None, seconds: float, memory_bytes: int
    ) -> None:
        if engine == "dask":
            self._engine: Engine = DaskEngine(
                function, workers=workers, scheduler=scheduler, started=lambda name: None, is_kept=True
            )
        elif scheduler is not None:
            raise UsageError("--scheduler belongs to --engine dask", hint="--engine dask --scheduler ADDR")
        else:
            self._engine = Supervisor(function, workers=workers)
        self._n_workers = workers
        self._limits = (_PATIENCE * seconds + _EXTRA_SECONDS, memory_bytes + _EXTRA_BYTES)
        self._names, self._begun = count(), ExitStack()

    def __enter__(self) -> Self:
        self._begun.enter_context(self._engine)
        if isinstance(self._engine, DaskEngine):
            self._n_workers = self._engine.n_workers
        elif isinstance(self._engine, Supervisor):
            self._engine.start_all(self._limits[1])
        return self

    def __exit__(self, *failure: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._begun.__exit__(*failure)  # type: ignore[arg-type]

    def map(self, messages: Iterable[Message], stop: Stop) -> Generator[Reply | Lost, None, None]:
        """Yield what became of each message, in their order (``Shards.map``)."""
        left, under_way, ended = iter(messages), list[str](), dict[str, Reply | Lost]()
        try:
            while not stop():
                self._draw(left, under_way)
                if not under_way:
                    return
                if under_way[0] in ended:
                    yield ended.pop(under_way.pop(0))
                    continue
                for name, found in self._stepped(under_way):
                    ended.setdefault(name, found)
        finally:
            self._engine.drop()

    def _draw(self, left: Iterator[Message], under_way: list[str]) -> None:
        while len(under_way) < _AHEAD * self._n_workers:
            message = next(left, None)
            if message is None:
                return
            under_way.append(f"shard {next(self._names)}")
            self._engine.add(Job(under_way[-1], message, *self._limits))

    def _stepped(self, under_way: list[str]) -> Iterator[tuple[str, Reply | Lost]]:
        """Yield what ended meanwhile; where no worker comes up at all, everything under way is lost."""
        try:
            for done in self._engine.step():
                yield done.job.name, _reply(done)
        except ExtractError as error:
            self._engine.drop()
            for name in under_way:
                yield name, Lost(error.line())


def _reply(done: Done) -> Reply | Lost:
    return Lost(done.reason) if done.reply is None else done.reply
