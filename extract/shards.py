"""Shards: parts of one big piece of work done elsewhere, messages out and replies in, in the order of the messages.

Whoever shares work out decides by the replies alone and in their order, so that where shards are done, and how many at
a time, changes no result. Messages and replies are plain JSON values, and a reply is data: its reader checks it. This
room knows no worker and no cluster.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Message = Mapping[str, Any]
Reply = Mapping[str, Any]
Stop = Callable[[], bool]

#: Cells are small numbers that repeat: more effort than the least saves little.
_COMPRESSION = 1


@dataclass(frozen=True, slots=True)
class Lost:
    """A shard that has no reply after every try; ``reason`` is a sentence for people."""

    reason: str


class BadReply(ValueError):
    """A reply is not what was asked for; the message says how."""


class Shards(Protocol):
    """Does shards; replies come in the order of the messages whatever does them."""

    def map(self, messages: Iterable[Message], stop: Stop) -> Generator[Reply | Lost, None, None]:
        """Yield what became of each message, in their order; messages are drawn as workers become free.

        It ends early once ``stop`` says so. Closed, it drops what is under way.
        """


def packed(values: NDArray[Any]) -> str:
    """Return an array's numbers as text: row by row, compressed, in base 64."""
    plain = np.ascontiguousarray(values)
    little = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(zlib.compress(little.tobytes(), _COMPRESSION)).decode("ascii")


def unpacked(text: Any, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array that a text holds.

    Raises:  BadReply unless it holds exactly the numbers of this type and shape; no more than those are decompressed.
    """
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if not isinstance(text, str):
        raise BadReply(f"numbers are {type(text).__name__}, expected text")
    try:
        reader = zlib.decompressobj()
        data = reader.decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise BadReply(f"numbers cannot be read: {error}") from error
    if len(data) != size or reader.unused_data:
        raise BadReply(f"numbers of {len(data)} bytes or more, expected {size}")
    return np.frombuffer(data, kind.newbyteorder("<")).astype(kind).reshape(shape)


def whole(reply: Reply, name: str, least: int, most: int) -> int:
    """Return an integer of a reply. Raises: BadReply unless it is one from ``least`` to ``most``."""
    value = reply.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadReply(f"{name} is {value!r}, expected an integer from {least} to {most}")
    return value
