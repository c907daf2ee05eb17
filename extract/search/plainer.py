"""Plainer programs: what a model does on its shorter inputs, where an exact program of all of them came out long.

Trained models mostly err on their longest inputs, and a program that describes such errors hides the rule they break.
The same search on the shorter half of the lengths does not see them; whether its program is right elsewhere is for
others to say.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from extract.lang.terms import Program
from extract.oracle import Oracle, ProbeSet
from extract.outcome import Budget, Spent
from extract.progress import Progress
from extract.search.assembling import programs_of
from extract.search.gate import Gate
from extract.search.portfolio import Portfolio
from extract.search.ranking import program_order

#: Fewer inputs than this determine nothing.
_FEWEST = 24
_MOST_TERMS = 3


def plainer_programs(
    oracle: Oracle,
    probes: tuple[ProbeSet, ProbeSet],
    budget: Budget,
    progress: Progress,
    is_over: Callable[[], bool],
    most_cost: int,
) -> tuple[list[Program], Spent]:
    """Return programs below a cost that are right on the shorter inputs, cheapest first, and what was spent.

    ``probes`` are the bank's probes and the gate's.
    """
    gate = _shorter(probes[1], int(probes[1].inputs.lengths.max(initial=0)) // 2)
    few = _shorter(probes[0], int(probes[1].inputs.lengths.max(initial=0)) // 2)
    if len(gate) < _FEWEST or not len(few):
        return [], Spent()
    portfolio = Portfolio(Gate(oracle, few, gate), budget, progress, is_over)
    portfolio.has_certified = True
    for _ in portfolio.stages():
        if sum(state.best_cost() for state in portfolio.states) < most_cost:
            break
    programs = [program for program, _ in programs_of(portfolio, _MOST_TERMS)]
    return [p for p in programs if program_order(p)[0] < most_cost], portfolio.spent


def _shorter(probes: ProbeSet, most: int) -> ProbeSet:
    return probes.take(np.flatnonzero(probes.inputs.lengths <= most))
