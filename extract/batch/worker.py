"""The life of a worker process: messages from standard input, replies to standard output, one line of JSON each.

Its first act is to tie its life to the supervisor's; then it bounds its own memory and imports the one function it was
started for. What the function prints goes to standard error, so that only replies are replies.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

_PR_SET_PDEATHSIG = 1
#: Address space of libraries counts little against the data limit; the heap beyond the resident limit does.
_SLACK_BYTES = 512 << 20


def main() -> None:
    """Answer messages until standard input closes."""
    function_name, parent, memory_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _die_with(parent)
    _bound_memory(memory_bytes)
    replies = os.dup(1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module, _, name = function_name.partition(":")
    function = getattr(import_module(module), name)
    _reply(replies, {"ready": True})
    for line in sys.stdin.buffer:
        try:
            reply = function(json.loads(line))
        except MemoryError:
            _reply(replies, {"lost": "memory"})
            os._exit(1)
        _reply(replies, reply)


def _reply(descriptor: int, value: dict[str, Any]) -> None:
    data = memoryview(json.dumps(value, allow_nan=False).encode() + b"\n")
    while data:
        data = data[os.write(descriptor, data) :]


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends (Linux); elsewhere the closed pipe does, between jobs."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _bound_memory(memory_bytes: int) -> None:
    """Make an allocation far beyond the limit fail here, before the system looks for somebody to kill."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = memory_bytes + _SLACK_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
