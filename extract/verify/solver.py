"""The only door to the solver: one check call, in a child process that can be killed; three outcomes and no fourth.

The parent sends data (terms, the domain's automata) and a deterministic budget; the child builds the clauses with
``encode`` and asks z3. The reason of an ``Undecided`` is text for people and is never branched on. This room knows
processes and outcomes; it refuses to know why a question is asked.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from extract.errors import BudgetError
from extract.verify.circuit import FALSE, Literal
from extract.verify.encode import Facts, Question, encode

#: Start-up of Python, numpy and z3 in the child, and nothing else, may take this long.
_START_SECONDS = 60.0
_LARGEST_RLIMIT = (1 << 32) - 1
#: The parts of the budget left that the rounds may use: all cells in one check, a look at each cell, all that is left.
_SHARES = (4, 4, 1)
#: The child is told where this package lies, so it needs no installed copy and no environment variable.
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from extract.verify.solver import serve; serve(int(sys.argv[2]))"


@dataclass(frozen=True, slots=True)
class Sat:
    """An input satisfies the question: ``tokens`` are its ids."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsat:
    """No input of this length satisfies the question."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """The budget ended, the encoding was refused, or the process was killed; ``reason`` is for people only."""

    reason: str


Outcome = Sat | Unsat | Undecided


@dataclass(frozen=True, slots=True)
class Checked:
    """What z3 said about clauses: the true variables of a model, False when there is none, or text why it is not
    known; and the resource count it took."""

    result: frozenset[int] | bool | str
    n_rlimit: int


def check(dimacs: str, rlimit: int) -> Checked:
    """Decide a set of clauses with z3.

    The same text and limit give the same result: a fresh context each time, a resource limit and no clock.
    Units:   ``rlimit`` is z3's resource count (several millions a second on clauses).
    """
    import z3

    context = z3.Context()
    try:
        # Among z3's solvers this one took the least time on one-hot counts, ranks and comparisons of them.
        solver = z3.SolverFor("QF_BV", ctx=context)
        solver.set("rlimit", max(1, min(rlimit, _LARGEST_RLIMIT)))
        solver.from_string(dimacs)
        answer = solver.check()
        used = {key: value for key, value in solver.statistics()}.get("rlimit count", 0)
        if answer == z3.unsat:
            return Checked(False, used)
        if answer != z3.sat:
            return Checked(solver.reason_unknown(), used)
        model = solver.model()
        true = (d.name().removeprefix("k!") for d in model.decls() if z3.is_true(model[d]))
        return Checked(frozenset(int(name) for name in true if name.isdigit()), used)
    except z3.Z3Exception as error:
        return Checked(str(error), rlimit)


class SolverProcess:
    """A child process that answers questions about one domain, started when first needed, again when it was killed.

    ``facts`` describe the domain and are sent to every fresh child. A Ctrl-C while waiting kills
    the child and passes on; leaving the ``with`` block leaves no process behind, and a child whose parent died ends.
    """

    def __init__(self, facts: Facts, *, memory_bytes: int = 2 << 30) -> None:
        self._facts = facts
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.Queue[str | None] = queue.Queue()
        self._finalizer: weakref.finalize[..., SolverProcess] | None = None
        self.n_started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """The child's process id, or None when none is running."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the child unless it runs, and wait until it is ready.

        Raises:  RuntimeError if it does not come up.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        root = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, root, str(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self.n_started += 1
        self._finalizer = weakref.finalize(self, _end, self._process)
        self._replies = queue.Queue()
        threading.Thread(target=_read, args=(self._process.stdout, self._replies), daemon=True).start()
        try:
            reply = self._exchange({"facts": self._facts.to_data()}, time.monotonic() + _START_SECONDS)
        except queue.Empty:
            reply = {"unknown": f"no answer within {_START_SECONDS} s"}
        if reply is None or "ready" not in reply:
            self.close()
            raise RuntimeError(f"the solver process did not start: {reply}")

    def ask(self, question: Question, *, rlimit: int, seconds: float) -> Outcome:
        """Ask one question.

        Units:   ``rlimit`` decides; ``seconds`` (wall clock) only guards, and a child that exceeds it is killed.
        Raises:  RuntimeError if the child reports a bug (its own trace is in the message).
        """
        deadline = time.monotonic() + max(seconds, 0.0)
        self.start()
        process = self._process
        try:
            reply = self._exchange({"question": question.to_data(), "rlimit": rlimit}, deadline)
        except queue.Empty:
            return Undecided("wall clock ended")
        if reply is None:
            return Undecided(f"the solver process ended with status {process.returncode if process else None}")
        match reply:
            case {"tokens": list(tokens)}:
                return Sat(tuple(tokens))
            case {"unsat": True}:
                return Unsat()
            case {"unknown": str(reason)}:
                return Undecided(reason)
        raise RuntimeError(f"the solver process failed on {question}:\n{reply.get('bug', reply)}")

    def close(self) -> None:
        """End the child; asking again starts another."""
        if self._process is not None and self._finalizer is not None:
            self._finalizer()
        self._process = None

    def _exchange(self, message: dict[str, Any], deadline: float) -> dict[str, Any] | None:
        """Send a message and wait: the reply, None if the process ended. Raises: queue.Empty when the clock did.

        Ensures: a child whose reply was not read is gone, so no later question gets an answer to this one.
        """
        assert self._process is not None and self._process.stdin is not None
        line: str | None = None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._replies.get(timeout=max(deadline - time.monotonic(), 0.001))
        except BrokenPipeError:
            return None
        finally:
            if line is None:
                self.close()
        return None if line is None else dict(json.loads(line))


def _read(stream: IO[str] | None, replies: queue.Queue[str | None]) -> None:
    try:
        for line in stream or ():
            if line.endswith("\n"):  # else the process was killed while it wrote
                replies.put(line)
    except ValueError:
        pass  # the stream was closed while this thread waited on it
    replies.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                continue


# -- the child ---------------------------------------------------------------------------------------------------


def serve(memory_bytes: int) -> None:
    """Answer questions from standard input until it closes: the whole life of the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing but replies may reach the parent's pipe
    _limit_memory(memory_bytes)
    requests: queue.Queue[str] = queue.Queue()
    # The parent's death closes the pipe, also in the middle of a check: the watching thread then ends the process.
    threading.Thread(target=_watch, args=(sys.stdin, requests.put), daemon=True).start()
    facts: Facts | None = None
    while True:
        message = json.loads(requests.get())
        try:
            if "facts" in message:
                facts = Facts.from_data(message["facts"])
                reply: dict[str, Any] = {"ready": True}
            elif facts is None:
                reply = {"bug": "a question came before the facts"}
            else:
                reply = _reply(decide(Question.from_data(message["question"]), facts, message["rlimit"]))
        except BudgetError as error:
            reply = {"unknown": error.line()}
        except MemoryError:
            reply = {"unknown": f"out of memory (limit {memory_bytes} bytes)"}
        except Exception:
            reply = {"bug": traceback.format_exc()}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _reply(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Sat):
        return {"tokens": list(outcome.tokens)}
    return {"unknown": outcome.reason} if isinstance(outcome, Undecided) else {"unsat": True}


def decide(question: Question, facts: Facts, rlimit: int) -> Outcome:
    """Answer one question in this process: all cells at once, then, where that was too hard, cell by cell.

    Units:   ``rlimit`` is spent on all checks together.
    Raises:  BudgetError if the question is too large to encode.
    """
    encoding = encode(question, facts)
    left, reason = rlimit, "nothing was asked"
    open_cells = [encoding.cells] if encoding.cells and encoding.promise != FALSE else []
    for share in _SHARES:
        undecided: list[tuple[Literal, ...]] = []
        for i, cells in enumerate(open_cells):
            checked = check(encoding.dimacs(cells), left // (share * (len(open_cells) - i)))
            left = max(left - checked.n_rlimit, 0)
            if isinstance(checked.result, frozenset):
                return Sat(encoding.tokens(checked.result))
            if checked.result is not False:
                undecided.append(cells)
                reason = f"z3: {checked.result}"
        open_cells = [(cell,) for cells in undecided for cell in cells]
    return Undecided(reason) if open_cells else Unsat()


def _watch(stream: IO[str], put: Callable[[str], None]) -> None:
    for line in stream:
        put(line)
    os._exit(0)


def _limit_memory(memory_bytes: int) -> None:
    import z3

    z3.set_param("memory_max_size", max(1, memory_bytes >> 20))
    try:
        import resource
    except ImportError:  # not a POSIX system: z3's own limit stays
        return
    # Address space is larger than memory in use: z3's limit acts first, this one stops a runaway encoding.
    limit = 2 * memory_bytes + (1 << 30)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
