"""Consensus: the rule behind a model that errs too often for any program to fit all that is known of it.

A few inputs drawn at random are all right with some chance, and on those the plain rule is exact: the usual stages find
it at once, and the inputs that were not drawn say how often it holds (random sample consensus: Fischler and Bolles,
1981). A draw that holds an error finds nothing short, or something that few other inputs agree with. Whether a program
is right elsewhere is for others to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from extract.lang.terms import Program
from extract.oracle import Oracle, ProbeSet
from extract.outcome import Budget, Spent
from extract.progress import Silent
from extract.search.assembling import programs_of
from extract.search.gate import Gate
from extract.search.portfolio import Portfolio
from extract.search.ranking import poor_cost, program_order

#: Inputs of each draw: with one input in ten wrong, 12 are all right in two draws of seven, 24 in one of twelve; the
#: more there are, the fewer wrong programs fit them.
_DRAWS = (24, 12) * 6
#: Fewer inputs than this leave nothing to agree with.
_FEWEST = 48
#: A draw ends when it has tried one in so many of the candidates allowed: plain rules come early.
_SHARE_OF_DRAW = 60
#: Programs of a draw that are compared with the other inputs.
_MOST_COMPARED = 4


def consensus_programs(
    oracle: Oracle,
    gate: ProbeSet,
    budget: Budget,
    is_over: Callable[[], bool],
    *,
    seed: int,
) -> tuple[list[Program], Spent]:
    """Return programs that are right on a draw of inputs, best description first, and what was spent.

    All draws are searched side by side, stage by stage, until two of them agree on the best program so far.
    """
    if len(gate) < _FEWEST:
        return [], Spent()
    rng = np.random.default_rng([seed, len(gate)])
    draws = [gate.take(np.sort(rng.choice(len(gate), size=size, replace=False))) for size in _DRAWS]
    share = replace(budget, memory_bytes=budget.memory_bytes // len(draws))
    portfolios = [Portfolio(Gate(oracle, few, few), share, Silent(), is_over) for few in draws]
    consensus = _Consensus(oracle, gate)
    running = [(portfolio, portfolio.stages()) for portfolio in portfolios]
    while running and not consensus.is_reached and not is_over():
        running = [
            (portfolio, stages) for portfolio, stages in running if _goes_on(portfolio, stages, budget, consensus)
        ]
    spent = Spent()
    for portfolio in portfolios:
        spent.n_candidates += portfolio.spent.n_candidates
        spent.n_distinct += portfolio.spent.n_distinct
    return consensus.ranked(), spent


def _goes_on(portfolio: Portfolio, stages: Iterator[str], budget: Budget, consensus: _Consensus) -> bool:
    """Search a draw one stage further; return whether it goes on after that."""
    if consensus.is_reached or next(stages, None) is None:
        return False
    if portfolio.is_solved:
        consensus.add([program for program, _ in programs_of(portfolio, _MOST_COMPARED)][:_MOST_COMPARED])
        return False
    return portfolio.spent.n_candidates * _SHARE_OF_DRAW < budget.n_candidates


class _Consensus:
    """Programs of the draws by what they and their failures on the gate set cost to say."""

    def __init__(self, oracle: Oracle, gate: ProbeSet) -> None:
        self.is_reached = False
        self._oracle, self._gate = oracle, gate
        self._scores: dict[Program, int] = {}

    def add(self, found: list[Program]) -> None:
        """Add the programs of a draw."""
        met = set(self._scores)
        self._scores |= {program: self._score(program) for program in found if program not in met}
        best = self.ranked()[0]
        self.is_reached = best in met and best in found

    def ranked(self) -> list[Program]:
        """Return all programs, best first."""
        return sorted(self._scores, key=lambda program: (self._scores[program], program_order(program)))

    def _score(self, program: Program) -> int:
        gate = Gate(self._oracle, self._gate, self._gate)
        right = np.ones(len(gate.gate), dtype=np.bool_)
        for index, term in enumerate(program.terms()):
            right &= gate.right(index, term)
        return poor_cost(program_order(program)[0], int((~right).sum()), len(right))
