"""The solver's process: three outcomes, deterministic budgets, and no process left behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from extract.lang.syntax import parse_program
from extract.verify.encode import Question
from extract.verify.solver import Sat, SolverProcess, Undecided, Unsat, check, decide
from tests.unit.search.worlds import domain
from tests.unit.verify.test_encode import facts_of

ROOT = Path(__file__).resolve().parents[3]
PLENTY = 100_000_000


def question(length: int, left: str, right: str) -> Question:
    return Question(length, parse_program(left, "value"), parse_program(right, "value"))


ONES = "output = '1' if count(tokens == '1') > 3 else '0'"
SAME = question(8, ONES, "output = '0' if count(tokens == '0') >= length - 3 else '1'")
OTHER = question(8, ONES, "output = '1' if count(tokens == '1') > 4 else '0'")
WORLD = domain("01")
#: Sums against a last digit, in a world of ten digits: equal, and far beyond any budget here.
HARD_WORLD = domain("0123456789", lengths=(1, 20), numeric=True)
HARD = question(11, "output = sum_over(everywhere, tokens) % 10", "output = last(everywhere, horner(tokens, 1, 10))")


#: The same in a world of two digits, and hard enough to be interrupted.
STUBBORN = question(
    14,
    "output = sum_over(everywhere, selector_width(select(tokens, tokens, '==')))",
    "output = length + 2 * sum_over(everywhere, selector_width(select(tokens, tokens, '==') and before))",
)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_running(pid):
            return True
        time.sleep(0.02)
    return False


def pigeons(n: int) -> str:
    """n + 1 pigeons in n holes: unsatisfiable, and hard."""
    clauses = [[i * n + j + 1 for j in range(n)] for i in range(n + 1)]
    clauses += [[-(a * n + j + 1), -(b * n + j + 1)] for j in range(n) for a in range(n + 1) for b in range(a)]
    lines = [" ".join(map(str, clause)) + " 0" for clause in clauses]
    return f"p cnf {(n + 1) * n} {len(lines)}\n" + "\n".join(lines) + "\n"


def test_check_has_three_outcomes() -> None:
    assert check("p cnf 2 2\n1 0\n-2 0\n", PLENTY).result == frozenset({1})
    assert check("p cnf 1 2\n1 0\n-1 0\n", PLENTY).result is False
    unknown = check(pigeons(10), 20_000)
    assert isinstance(unknown.result, str) and unknown.result


def test_the_resource_limit_is_deterministic() -> None:
    assert check(pigeons(6), PLENTY) == check(pigeons(6), PLENTY)
    assert check(pigeons(10), 50_000) == check(pigeons(10), 50_000)


def test_decide_without_a_process() -> None:
    assert decide(SAME, facts_of(WORLD), PLENTY) == Unsat()
    found = decide(OTHER, facts_of(WORLD), PLENTY)
    assert isinstance(found, Sat) and found.tokens.count(1) == 4


def test_one_process_answers_many_questions_the_same_way() -> None:
    with SolverProcess(facts_of(WORLD)) as solver:
        outcomes = [solver.ask(q, rlimit=PLENTY, seconds=30) for q in (SAME, OTHER, SAME, OTHER)]
        assert outcomes[:2] == outcomes[2:] == [Unsat(), decide(OTHER, facts_of(WORLD), PLENTY)]
        assert solver.n_started == 1
        pid = solver.process_id
    assert pid is not None and ends_within(pid, 5) and solver.process_id is None


def test_a_small_budget_gives_undecided_with_its_reason() -> None:
    with SolverProcess(facts_of(HARD_WORLD)) as solver:
        found = solver.ask(HARD, rlimit=200_000, seconds=60)
        assert isinstance(found, Undecided) and found.reason.startswith("z3: ")
        assert solver.ask(HARD, rlimit=200_000, seconds=60) == found and solver.n_started == 1


def test_an_encoding_too_large_gives_undecided() -> None:
    huge = question(12, "output = last(everywhere, horner(tokens, 10, 0))", "output = length")
    with SolverProcess(facts_of(HARD_WORLD)) as solver:
        found = solver.ask(huge, rlimit=PLENTY, seconds=60)
        assert isinstance(found, Undecided) and "exceed" in found.reason


def test_the_clock_kills_and_the_next_question_starts_afresh() -> None:
    with SolverProcess(facts_of(HARD_WORLD)) as solver:
        solver.start()
        pid = solver.process_id
        began = time.monotonic()
        found = solver.ask(HARD, rlimit=4_000_000_000, seconds=0.5)
        assert isinstance(found, Undecided) and time.monotonic() - began < 10
        assert pid is not None and ends_within(pid, 5)
        easy = question(3, "output = length", "output = 3")
        assert solver.ask(easy, rlimit=PLENTY, seconds=60) == Unsat() and solver.n_started == 2


def test_a_process_killed_from_outside_gives_undecided() -> None:
    with SolverProcess(facts_of(HARD_WORLD)) as solver:
        solver.start()
        pid = solver.process_id
        assert pid is not None
        threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
        found = solver.ask(HARD, rlimit=4_000_000_000, seconds=60)
        assert isinstance(found, Undecided) and "ended with status -9" in found.reason


def test_too_little_memory_gives_undecided() -> None:
    with SolverProcess(facts_of(HARD_WORLD), memory_bytes=1 << 20) as solver:
        found = solver.ask(HARD, rlimit=4_000_000_000, seconds=60)
        assert isinstance(found, Undecided)


def test_a_bug_in_the_process_is_raised_with_its_trace() -> None:
    broken = Question(3, parse_program("output = length", "value"), parse_program("output = 'no such name'", "value"))
    with SolverProcess(facts_of(WORLD)) as solver, pytest.raises(RuntimeError, match="KeyError"):
        solver.ask(broken, rlimit=PLENTY, seconds=60)


@pytest.mark.parametrize("reply", ('{"ready": true}', "{}", '{"unsat": false}', '{"tokens": null}'))
def test_a_reply_that_is_none_of_three_is_never_unsat(reply: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with SolverProcess(facts_of(WORLD)) as solver:
        monkeypatch.setattr(solver, "start", lambda: None)
        monkeypatch.setattr(solver, "_exchange", lambda *_: json.loads(reply))
        with pytest.raises(RuntimeError, match="failed on"):
            solver.ask(SAME, rlimit=PLENTY, seconds=60)


def test_an_interrupted_question_never_answers_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    with SolverProcess(facts_of(WORLD)) as solver:
        solver.start()
        previous = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(Interrupted):
                solver.ask(STUBBORN, rlimit=4_000_000_000, seconds=60)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        assert solver.process_id is None
        assert isinstance(solver.ask(OTHER, rlimit=PLENTY, seconds=60), Sat)


_SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.unit.verify.test_solver import HARD, HARD_WORLD, facts_of
from extract.verify.solver import SolverProcess
with SolverProcess(facts_of(HARD_WORLD)) as solver:
    solver.start()
    print(solver.process_id, flush=True)
    try:
        solver.ask(HARD, rlimit=4_000_000_000, seconds=60)
    except KeyboardInterrupt:
        print("cancelled", solver.process_id, flush=True)
"""


@pytest.mark.parametrize("how", (signal.SIGINT, signal.SIGKILL), ids=("cancelled", "killed"))
def test_no_process_outlives_its_parent(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _SCRIPT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        assert is_running(child)
        parent.send_signal(how)
        said = parent.stdout.read()
        assert parent.wait(timeout=20) == (0 if how == signal.SIGINT else -how)
    assert said == ("cancelled None\n" if how == signal.SIGINT else "")
    assert ends_within(child, 10)
