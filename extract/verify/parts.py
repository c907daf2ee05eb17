"""Parts of an enumeration done by shards: the message for each, the reply of a worker, and what is taken of it.

A reply tells after every step how many inputs were finished and how many of them are doubtful, so that whoever decides
whether to start over sees what one process would have seen, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from extract.shards import BadReply, Lost, Message, Reply, Shards, Stop, whole
from extract.verify.answer_table import SlabWriter
from extract.verify.methods import Methods, Work, nowhere
from extract.verify.prefix_trie import Ranges

#: Says of inputs finished and doubtful whether the arithmetic is not careful enough.
IsTooDoubtful = Callable[[int, int], bool]

#: After a step: inputs finished, and doubtful ones among them.
Step = tuple[int, int]


class PartLost(Exception):
    """A part has no reply, or one that is refused; the sentence is for people."""


def shared(
    shards: Shards, work: Work, writers: dict[int, SlabWriter], message: Message, stop: Stop
) -> Generator[Step, None, None]:
    """Have the parts of a work done, in order into the writers; yield after every step.

    ``message`` is what all parts have in common. A part is taken over once its last step is asked for.
    Raises:  PartLost; what came before is in the writers.
    """
    own = {n: writers[n] for n in work.lengths}
    messages = ({**message, "part": index} for index in range(len(work.ranges)))
    with closing(shards.map(messages, stop)) as replies:
        for index, reply in enumerate(replies):
            if isinstance(reply, Lost):
                raise PartLost(reply.reason)
            finished, doubtful = counts(own)
            try:
                parts, steps = _read(own, work.ranges[index], reply)
            except BadReply as error:
                raise PartLost(f"a reply was refused, {error}") from error
            for done, doubts in steps:
                yield finished + done, doubtful + doubts
            if any(part.evaluated < work.ranges[index][n][1] for n, part in parts.items()):
                raise PartLost("a reply was refused, a part that ends early")
            for n, part in parts.items():
                own[n].absorb(part)


def counts(writers: dict[int, SlabWriter]) -> Step:
    """Return how many inputs are written, and how many of them are doubtful."""
    return sum(w.evaluated for w in writers.values()), sum(w.n_doubtful for w in writers.values())


def _read(own: dict[int, SlabWriter], ranges: Ranges, reply: Reply) -> tuple[dict[int, SlabWriter], list[Step]]:
    """Return a reply's parts and steps. Raises: BadReply unless they are of the ranks asked for and fit each other."""
    told, steps = reply.get("slabs"), reply.get("steps")
    if not isinstance(told, list) or len(told) != len(own) or not all(isinstance(slab, dict) for slab in told):
        raise BadReply(f"slabs, expected a list of {len(own)}")
    parts = {n: writer.part(*ranges[n]) for n, writer in own.items()}
    for part, slab in zip(parts.values(), told, strict=True):
        part.fill(slab)
    is_list = isinstance(steps, list) and all(isinstance(s, list) and len(s) == 2 for s in steps)
    if not is_list or not all(type(n) is int and n >= 0 for s in steps or [] for n in s):
        raise BadReply("steps, expected pairs of counts")
    found = [(int(a), int(b)) for a, b in steps or []]
    n_done = sum(part.evaluated - part.first for part in parts.values())
    last = (n_done, sum(part.n_doubtful for part in parts.values()))
    if (found[-1] if found else (0, 0)) != last or any(a < b for a, b in found) or sorted(found) != found:
        raise BadReply(f"steps, expected ascending ones to {last}")
    return parts, found


class PartWorker:
    """Does parts for messages, keeping the work of the last one."""

    def __init__(self, methods: Methods) -> None:
        self.methods = methods
        self._key: tuple[Any, ...] = ()
        self._work: Work | None = None

    def do(self, message: Message, is_too_doubtful: IsTooDoubtful) -> dict[str, Any]:
        """Return the reply to a message of ``shared``.

        A part ends early where the arithmetic would be too doubtful even if all before it were not at all.
        """
        work = self._begun(tuple(message["lengths"]), message["offset"], message["care"], message["work"])
        ranges, offset = work.ranges[whole(message, "part", 0, len(work.ranges) - 1)], message["offset"]
        parts = {n: self.methods.writer(n, offset, *ranges[n]) for n in work.lengths}
        before = sum(first for first, _ in ranges.values())
        steps: list[list[int]] = []
        with np.errstate(all="ignore"):
            for _ in work.run(message["part"], parts):
                finished, doubtful = counts(parts)
                steps.append([finished - before, doubtful])
                if is_too_doubtful(finished, doubtful):
                    break
        return {"slabs": [part.reply() for part in parts.values()], "steps": steps}

    def _begun(self, lengths: tuple[int, ...], offset: int, care: int, index: int) -> Work:
        key = (lengths, offset, care, index)
        if self._work is None or self._key != key:
            self._work = None  # two works may be more than the memory allows
            works: Iterator[Work] = self.methods.works(lengths, offset, self.methods.cares()[care])
            work = next(work for i, work in enumerate(works) if i == index)
            with np.errstate(all="ignore"):
                work.begin(nowhere(self.methods, work.lengths, offset))
            self._key, self._work = key, work
        return self._work
