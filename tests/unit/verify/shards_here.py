"""Shards without workers: every message is done here at once, through the text that a worker would see."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any

from extract.shards import Lost, Message, Reply, Stop

#: Makes of a shard's number and its reply what arrives.
Fate = Callable[[int, dict[str, Any]], Reply | Lost]


class ShardsHere:
    """Does shards by a function, so many ahead of the first whose reply is not taken; ``fate`` says what arrives."""

    def __init__(self, do: Callable[[Message], dict[str, Any]], fate: Fate = lambda _, reply: reply) -> None:
        self._do, self._fate, self.n_done = do, fate, 0

    def map(self, messages: Iterable[Message], stop: Stop) -> Generator[Reply | Lost, None, None]:
        left = iter(messages)
        waiting: list[Message] = []
        while not stop():
            waiting += islice(left, 4 - len(waiting))
            if not waiting:
                return
            reply = json.loads(json.dumps(self._do(json.loads(json.dumps(waiting.pop(0)))), allow_nan=False))
            self.n_done += 1
            yield self._fate(self.n_done - 1, reply)
