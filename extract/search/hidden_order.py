"""Sorting by a key that tokens do not show: what is moved past what, in short answers, gives the order.

It looks at answers that rearrange their input and proposes a stable sort by a table of keys; the gate decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.batched import Batch
from extract.lang.terms import Datum, Term
from extract.search.builders import INDICES, STEP, TOKENS, datum, pick, table
from extract.search.goals import Goal
from extract.vocabulary import Codes

#: A model may err on some inputs; fewer rearrangements than this are no sort.
_MOSTLY = 0.95
_MOST_READ, _LONGEST_READ = 600, 8


def proposals(goal: Goal, batch: Batch, domain: Domain) -> Iterator[Term]:
    """Yield the stable sort by the order that a goal's answers show, if they are rearrangements of their inputs.

    The key of a token is the number of tokens seen to be moved before it.
    Cost:    a few hundred short inputs are looked at, pair by pair.
    """
    if goal.kind != "I" or goal.shape not in ("position", "step") or batch.codes.shape[1] > goal.codes.shape[1]:
        return
    rows = [i for i in np.flatnonzero(batch.lengths <= _LONGEST_READ)[:_MOST_READ] if _is_whole(goal, batch, int(i))]
    answers = [(batch.codes[i, :n], goal.codes[i, :n]) for i in rows if (n := int(batch.lengths[i]))]
    moved = [(given, answer) for given, answer in answers if (np.sort(given) == np.sort(answer)).all()]
    if not moved or len(moved) < _MOSTLY * len(answers):
        return
    letters = [int(domain.vocabulary.token_codes[i]) for i in domain.alphabet]
    before = _moved_before(moved, letters)
    if not before.any() or (before & before.T).any():
        return
    keys = before.sum(axis=0)
    entries: dict[Datum, Datum] = {
        datum(code, domain.vocabulary): int(key) for code, key in zip(letters, keys, strict=True)
    }
    query = STEP if goal.shape == "step" else INDICES
    yield pick(Term("rank", (table(TOKENS, entries),)), query, TOKENS)


def _is_whole(goal: Goal, batch: Batch, row: int) -> bool:
    """Say whether an answer has exactly one determined cell for each token of its input."""
    n = int(batch.lengths[row])
    return bool(goal.mask[row, :n].all()) and not bool(goal.mask[row, n:].any())


def _moved_before(moved: list[tuple[Codes, Codes]], letters: list[int]) -> NDArray[np.bool_]:
    """Say which letters were moved before which, from inputs whose tokens all differ. Shape: [letter, letter]."""
    number = {code: k for k, code in enumerate(letters)}
    before = np.zeros((len(letters), len(letters)), dtype=np.bool_)
    for given, answer in moved:
        place = {int(code): k for k, code in enumerate(given)}
        if len(place) < len(given):
            continue
        for k, first in enumerate(answer):
            for later in answer[k + 1 :]:
                if place[int(first)] > place[int(later)]:
                    before[number[int(first)], number[int(later)]] = True
    return before
