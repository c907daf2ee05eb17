"""Tables completed: a table that fits the probes and misses keys they do not show gets the entries of more inputs.

Without it every missing key costs a counterexample and a whole search. What it returns is a proposal like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from extract.lang.batched import Batch, evaluate_term
from extract.lang.operators import NO_SYMBOL
from extract.lang.terms import Term
from extract.search.builders import datum, table, table_of_pair
from extract.search.dependencies import entries_of
from extract.search.goals import Goal
from extract.vocabulary import Vocabulary

#: Entries added at most: so many, or a share of those there are. A table that lacks more was no description.
_FEW_ADDED, _ADDED_SHARE = 4, 0.5


def completed(term: Term, batch: Batch, goal: Goal, vocabulary: Vocabulary) -> Term | None:
    """Return a table with the entries that the goal's cells show; None if it is no table, or no function of its keys.

    Cost:    one evaluation of the keys, one sort of the cells.
    Raises:  ProgramError as the evaluation of its keys does.
    """
    if term.operator not in ("table", "table2") or goal.kind != "I":
        return None
    shape = goal.codes.shape
    keys = [np.broadcast_to(evaluate_term(a, batch, vocabulary), shape)[goal.mask] for a in term.arguments]
    listed = entries_of(np.array(keys), goal.codes[goal.mask])
    if listed is None or (listed[0] == NO_SYMBOL).any():
        return None
    listing: Any = term.data[0]
    old, default = dict(listing), term.data[1]
    named = [tuple(datum(int(k), vocabulary) for k in row) for row in listed[0]]
    values = [datum(int(code), vocabulary) for code in listed[1]]
    seen = {(key if len(key) > 1 else key[0]): value for key, value in zip(named, values, strict=True)}
    added = sum(value != old.get(key, default) for key, value in seen.items())
    if not added or added > max(_FEW_ADDED, _ADDED_SHARE * len(old)):
        return None
    # keys that only other inputs show stay as they are
    entries: Any = {**old, **seen}
    if len(term.arguments) == 1:
        return table(term.arguments[0], entries)
    return table_of_pair(term.arguments[0], term.arguments[1], entries)
