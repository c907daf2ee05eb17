"""Programs from the terms of each goal: exact ones where every goal has some, else those that agree most."""

from __future__ import annotations

from itertools import islice, product

from extract.lang.terms import Adapter, Program
from extract.search.gate import GoalState
from extract.search.portfolio import Portfolio
from extract.search.ranking import STAGES, program_order

_MOST_COMBINED = 64

Staged = tuple[Program, str]


def programs_of(portfolio: Portfolio, n_terms: int) -> list[Staged]:
    """Return the programs of a portfolio with their stages, cheapest first where all goals have an exact term.

    At most ``n_terms`` terms are taken of each goal.
    """
    views = portfolio.views()
    programs = [found for adapter, states in views for found in assembled(adapter, states, n_terms)]
    if all(state.exact for _, states in views for state in states):
        programs.sort(key=lambda staged: program_order(staged[0]))
    return programs


def assembled(adapter: Adapter, states: list[GoalState], n_terms: int) -> list[Staged]:
    """Combine the terms of one view of the answer; a program's stage is the last of its terms'."""
    choices = [(state.exact or [scored for _, scored in state.partial])[:n_terms] for state in states]
    programs = []
    for combination in islice(product(*choices), _MOST_COMBINED):
        outputs = tuple((state.goal.name, scored.term) for state, scored in zip(states, combination, strict=True))
        programs.append((Program(adapter, outputs), max((s.stage for s in combination), key=STAGES.index)))
    return programs
