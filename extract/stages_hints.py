"""What is seen inside a network: hints before the search, and mechanism observations once a program stands.

Neither touches a verdict: hints order what is tried, observations are said beside the properties. A table has neither.
"""

from __future__ import annotations

from extract.formats import Checkpoint
from extract.hints import NO_HINTS, Hints
from extract.lang.printing import print_term
from extract.lang.terms import Program, Term
from extract.stages_judge import Judged
from extract.stages_load import Subject
from extract.table_model import TableModel

#: Interventions are tried for so many terms of a program, the largest first, and only on networks with few heads.
_MOST_TERMS, _MOST_HEADS = 6, 8
_HEADS_MAKE = frozenset({"first", "last", "sum_over", "min_over", "max_over", "selector_width", "exists", "count",
                         "running_count", "any", "all", "mean"})  # fmt: skip


def hints_for(subject: Subject, seed: int) -> Hints:
    """Return what the model's inside suggests to try first; nothing for a model without an inside."""
    if _is_box(subject.checkpoint):
        return NO_HINTS
    from extract.probe.hints import hints_of

    return hints_of(subject.checkpoint.network, subject.domain, seed=seed)


def mechanisms(subject: Subject, judged: tuple[Judged, ...], seed: int) -> dict[str, bool]:
    """Return which heads carry which terms of the first program, each confirmed by interchange interventions.

    Only of a program that is the model on the domain, up to the exceptions counted; otherwise nothing is said.
    """
    if not judged or judged[0].status not in ("proved", "proved_except") or _is_box(subject.checkpoint):
        return {}
    program, network = judged[0].program, subject.checkpoint.network
    architecture, readout = network.architecture, subject.domain.readout
    if architecture.n_layers * architecture.n_heads > _MOST_HEADS or readout.at == "generate":
        return {}
    if program.adapter not in ("value", "every"):
        return {}
    from extract.model.observed import Observed
    from extract.probe.interventions import carriers

    found = carriers(Observed(network), subject.domain, program, _made_by_heads(program), seed=seed)
    return {f"layer_{f.layer}_head_{f.head}_carries {print_term(f.term)}": True for f in found}


def _made_by_heads(program: Program) -> list[Term]:
    """Return the parts of a program that an attention head could have made, outermost first."""
    parts = [term for term in program.term().subterms() if term.operator in _HEADS_MAKE]
    return parts[::-1][:_MOST_TERMS]


def _is_box(checkpoint: Checkpoint) -> bool:
    return isinstance(checkpoint.model, TableModel)
