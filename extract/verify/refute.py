"""Strings decided one by one, for boxes that are small and for the search of a difference before anything is proved.

The search follows the linear part of a margin to the strings at its ends; whoever uses what it finds asks the model.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extract.verify.affine import Floats
from extract.verify.cells import CellFormat
from extract.verify.stages import Stages, Stream
from extract.verify.terms import TokenTerms
from extract.verify.trie_attention import quotient


class Deciding(Protocol):
    """What decides strings: a network's stages and the form of its answers."""

    stages: Stages
    form: CellFormat


class Place(Protocol):
    """The terms of one length, offset and template."""

    terms: TokenTerms
    query_letter: int | None
    n_keys: int


def decide_strings(by: Deciding, place: Place, strings: NDArray[np.intp]) -> tuple[NDArray[Any], Floats, Floats]:
    """Return stored cells [string, cell], margins [string] and rounding bounds [string] of strings of letters.

    All strings have the same letter where the query is one.
    """
    terms, stages = place.terms, by.stages
    variant = 0 if place.query_letter is None else int(strings[0, place.query_letter])
    total = np.repeat(terms.constant[:, variant, None], len(strings), axis=1)
    for p, part in enumerate(terms.letters):
        total += part[:, variant][:, strings[:, p]]
    heads, errors = quotient(stages, terms, total, place.n_keys)
    query = np.repeat(terms.query.rows[:, variant, None], len(strings), axis=1)
    stream = stages.combine(0, Stream(query, terms.query.norm, terms.query.errors), heads, errors)
    logits, bound = stages.logits(stages.mlp(0, stream))
    cells, margins = by.form.decide(logits)
    return cells.T, margins, np.full(len(strings), bound)
