"""Runs the search on one task in a process of its own, watched by its parent, and measures it."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import traceback
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

#: Importing the package and answering the domain are not measured, but must end.
_SETUP_SECONDS = 180.0
#: A search that takes this many times its limit is ended; the check of its program is allowed some seconds more.
_PATIENCE, _CHECK_SECONDS = 3.0, 60.0
#: A program found is small enough up to this multiple of the smallest known cost.
FACTOR = 1.3


@dataclass(frozen=True, slots=True)
class Limits:
    """What each search may use; ``candidates`` 0 means the engine's own default."""

    seconds: float = 60.0
    candidates: int = 0
    memory_bytes: int = 1 << 30
    seed: int = 0


@dataclass(slots=True)
class Measurement:
    """What one search did. Seconds are since the clock started; ``n_wrong`` counts inputs of the whole domain.

    ``status``: found, wrong (certified, yet differing on the domain), none, crashed, killed. ``wall``, ``cpu``: until
    the first certified program; ``small_wall``, ``small_cpu``: until the first of at most ``FACTOR`` times the smallest
    known cost.
    """

    name: str
    family: str
    known_cost: int
    status: str = "none"
    n_inputs: int = 0
    wall: float | None = None
    cpu: float | None = None
    small_wall: float | None = None
    small_cpu: float | None = None
    total: float | None = None
    total_cpu: float | None = None
    n_candidates: int = 0
    n_distinct: int = 0
    rounds: int = 0
    peak_mb: int = 0
    cost: int | None = None
    n_wrong: int | None = None
    stage: str = ""
    stopped: str = ""
    complete_to_cost: int | None = None
    program: str = ""
    note: str = ""
    certified: list[dict[str, float]] = field(default_factory=list)

    @property
    def is_small(self) -> bool:
        """Whether the program is correct and costs at most ``FACTOR`` times the smallest known."""
        return self.status == "found" and self.cost is not None and self.cost <= FACTOR * self.known_cost


def measured(name: str, limits: Limits) -> Measurement:
    """Run one task in a child process; a child that crashes or runs on is reported as that."""
    from benchmarks.synthesis.suite import by_name
    from extract.lang.cost import program_cost

    task = by_name(name)
    result = Measurement(name, task.family, program_cost(task.best_program()))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, name, limits), daemon=True)
    child.start()
    theirs.close()
    try:
        _listen(ours, result, limits)
    finally:
        child.kill()
        child.join()
        ours.close()
    return result


def _listen(pipe: Connection, result: Measurement, limits: Limits) -> None:
    waits = {
        "setting up": _SETUP_SECONDS, "searching": _PATIENCE * limits.seconds, "checking": _CHECK_SECONDS,
    }  # fmt: skip
    for phase, seconds in waits.items():
        if not pipe.poll(seconds):
            result.status, result.note = "killed", f"{phase} took longer than {seconds:.0f} s"
            return
        try:
            facts: dict[str, Any] = pipe.recv()
        except EOFError:
            result.status, result.note = "crashed", f"the process ended while {phase}"
            return
        for name, value in facts.items():
            setattr(result, name, value)
        if result.status == "crashed":
            return


def _child(pipe: Connection, name: str, limits: Limits) -> None:
    try:
        _search(pipe, name, limits)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        traceback.print_exc(file=sys.stderr)
        # last, because the parent ends this process once it knows
        pipe.send({"status": "crashed", "note": f"{type(error).__name__} at {where}: {error}"[:300]})


def _search(pipe: Connection, name: str, limits: Limits) -> None:
    """Set up, search, check: one message after each."""
    from benchmarks.synthesis.suite import by_name
    from benchmarks.synthesis.verifier import AnsweredDomain, ExhaustiveVerifier, n_wrong
    from extract.cegis import synthesize
    from extract.lang.cost import program_cost
    from extract.lang.syntax import parse_program, print_program
    from extract.outcome import Budget, Certified
    from extract.progress import Silent

    task = by_name(name)
    answered = AnsweredDomain(task)
    budget = Budget(
        n_candidates=limits.candidates or Budget().n_candidates,
        memory_bytes=limits.memory_bytes,
        seconds=limits.seconds,
    )
    pipe.send({"n_inputs": len(answered.inputs)})
    verifier = ExhaustiveVerifier(answered)
    found = synthesize(answered.oracle, verifier, budget, seed=limits.seed, n_programs=1, progress=Silent())
    wall, cpu = verifier.elapsed()
    facts: dict[str, Any] = {
        "total": wall, "total_cpu": cpu, "n_candidates": found.spent.n_candidates,
        "n_distinct": found.spent.n_distinct, "rounds": found.rounds, "peak_mb": _peak_mb(), "stage": found.stage,
        "stopped": found.budget_hit or "", "complete_to_cost": found.complete_to_cost,
        "certified": [asdict(moment) for moment in verifier.moments],
    }  # fmt: skip
    best = found.candidates[0] if found.candidates else None
    is_certified = best is not None and isinstance(best.verdict, Certified)
    if best is not None:
        facts |= {"cost": program_cost(best.program), "program": print_program(best.program)}
    if verifier.moments and is_certified:
        first = verifier.moments[0]
        most = FACTOR * program_cost(task.best_program())
        facts |= {"wall": first.wall, "cpu": first.cpu}
        small = next((moment for moment in verifier.moments if moment.cost <= most), None)
        if small is not None:
            facts |= {"small_wall": small.wall, "small_cpu": small.cpu}
    pipe.send(facts)
    if best is None:
        pipe.send({})
        return
    # the text is what a person gets: read it back, and compare it afresh
    wrong = n_wrong(task, parse_program(print_program(best.program), best.program.adapter))
    pipe.send({"n_wrong": wrong, "status": "none" if not is_certified else "wrong" if wrong else "found"})


def _peak_mb() -> int:
    """Return the most memory this process held; not what its parent held before it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) >> 10
    except (OSError, StopIteration):
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage >> (20 if sys.platform == "darwin" else 10)
