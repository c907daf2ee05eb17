"""How many candidates it takes to find a program, with hints from inside the network and without.

    python benchmarks/guidance.py                       # the shipped checkpoints
    python benchmarks/guidance.py FOLDER[=N] ...        # others, inputs to length N

``blind`` is the bank alone, counted to the end of the level that held the first program exact on every probe (levels
are judged whole, so this is at most one level too many; the level before ended at the number in brackets). ``guided``
is the guided queue's count at its first program exact on the probes and the gate; interleaved 1:1 a run needs twice
the smaller of the two at most. Where closed forms or a machine solve every goal the bank is not asked; where they solve
one of several, it counts as given for both. Combinations that the bank's last level decides without building them are
not in its count. Counts do not depend on the machine; ``cost`` is of the cheapest terms found by each.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from extract.errors import ExtractError
from extract.hints import NO_HINTS, Hints
from extract.oracle import Oracle, ProbeSet
from extract.outcome import Budget
from extract.probe.choose import choose_probes
from extract.probe.hints import hints_of
from extract.progress import Silent
from extract.search import closed_forms
from extract.search.gate import Gate
from extract.search.portfolio import Portfolio
from extract.stages_load import load_subject
from extract.stages_model import oracle_of

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
SHIPPED = ("majority", "reverse", "histogram")
N_PROBES, N_GATE, SEED = 72, 1500, 0
#: The guided queue alone gives up here; the bank's limit is the budget's.
MOST_GUIDED, MOST_BLIND = 40_000, 1_500_000


class Counter(Silent):
    """Remembers how many candidates the bank has counted, now and a level before."""

    def __init__(self) -> None:
        self.before = self.now = 0

    def advance(self, done: int, total: int | None, unit: str) -> None:
        """Note a level."""
        self.before, self.now = self.now, done


@dataclass(frozen=True)
class Found:
    """Candidates until every goal had an exact term (None: never), the count a level before, and the terms' cost."""

    n_candidates: int | None
    at_least: int
    cost: int | None
    seconds: float

    def text(self) -> str:
        """One cell of the table."""
        if self.n_candidates is None:
            return f"none in {self.at_least:,}"
        return (
            f"{self.n_candidates:,} ({self.at_least:,})"
            if self.at_least < self.n_candidates
            else f"{self.n_candidates:,}"
        )


def blind(oracle: Oracle, probes: ProbeSet, gate: ProbeSet) -> Found | None:
    """Run the portfolio without hints until each goal has a term; None if closed forms or machines gave them all."""
    counter, started = Counter(), time.process_time()
    solved: list[tuple[int, int]] = []

    def is_over() -> bool:
        if all(state.exact for state in portfolio.states) and not solved:
            solved.append((counter.now, counter.before))
        return bool(solved)

    budget = Budget(n_candidates=MOST_BLIND)
    portfolio = Portfolio(Gate(oracle, probes, gate), budget, counter, is_over, hints=NO_HINTS)
    portfolio.solve()
    is_over()
    seconds = time.process_time() - started
    if not solved:
        return Found(None, counter.now, None, seconds)
    cost = sum(state.best_cost() for state in portfolio.states)
    return None if solved[0][0] == 0 else Found(solved[0][0], solved[0][1], cost, seconds)


def guided(oracle: Oracle, probes: ProbeSet, gate: ProbeSet, hints: Hints) -> Found:
    """Run the guided queue alone, every hit judged by the portfolio's gate."""
    started = time.process_time()
    portfolio = Portfolio(Gate(oracle, probes, gate), Budget(), Silent(), hints=hints)
    queue, closed = portfolio.guided, Portfolio(Gate(oracle, probes, gate), Budget(), Silent())
    for index, state in enumerate(closed.states):
        for term in closed_forms.proposals(state.goal, closed.frame, oracle.domain):
            closed.consider(index, term, "closed form")
    is_given = [bool(state.exact) for state in closed.states]
    if not all(is_given):
        for state, settled, given in zip(portfolio.states, closed.states, is_given, strict=True):
            state.exact = settled.exact if given else []
    for proposal in queue.advance(MOST_GUIDED):
        portfolio.consider(proposal.goal, proposal.term, "guided")
        if all(state.exact for state in portfolio.states):
            cost = sum(state.best_cost() for state in portfolio.states)
            return Found(queue.n_candidates, queue.n_candidates, cost, time.process_time() - started)
    return Found(None, queue.n_candidates, None, time.process_time() - started)


def measure(folder: Path, max_length: int | None) -> str:
    """One row of the table."""
    subject = load_subject(folder, None, max_length)
    network, domain = subject.checkpoint.network, subject.domain
    oracle = oracle_of(subject.checkpoint, domain)
    probes, gate = choose_probes(oracle, n_probes=N_PROBES, n_gate=N_GATE, seed=SEED)
    started = time.process_time()
    hints = hints_of(network, domain, seed=SEED)
    looking = time.process_time() - started
    led, unled = guided(oracle, probes, gate, hints), blind(oracle, probes, gate)
    name = f"{folder.name[:34]} to {domain.max_length}"
    if unled is None:
        return f"| {name} | closed form or machine | {led.text()} | | {looking:.1f} s |"
    ratio = ""
    if led.n_candidates and unled.n_candidates:
        ratio = f"{unled.n_candidates / led.n_candidates:,.0f}x"
    costs = f"{led.cost or '-'} / {unled.cost or '-'}"
    return f"| {name} | {unled.text()} | {led.text()} | {ratio} | {looking:.1f} s | {costs} |"


def main(arguments: list[str]) -> int:
    """Print the table."""
    asked = [argument.partition("=") for argument in arguments] or [(str(CHECKPOINTS / n), "", "") for n in SHIPPED]
    print("| checkpoint | blind | guided | ratio | looking inside | cost guided / blind |\n|---|---|---|---|---|---|")
    for folder, _, longest in asked:
        try:
            print(measure(Path(folder), int(longest) if longest else None), flush=True)
        except ExtractError as error:
            print(f"| {Path(folder).name} | {error.line()} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
