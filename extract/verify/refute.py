"""Strings of a box decided one by one, and the search for one on which the model differs before anything is proved.

The search follows the linear part of a margin to the string that makes it least. What it finds is only a suggestion:
whoever uses it asks the model.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extract.verify.affine import Floats
from extract.verify.cells import CellFormat
from extract.verify.head_sums import HeadSums
from extract.verify.paths import Paths
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


def worst_string(by: Deciding, place: Place, paths: Paths, effect: Floats, is_right: Any) -> NDArray[np.intp] | None:
    """Return a string at an end of a linear form that is not answered rightly, if one is. Shapes: ``effect``
    [position, letter]; answer [1, position]."""
    ends = np.stack([paths.best(effect), paths.best(-effect)])
    for end, cells in zip(ends, decide_strings(by, place, ends)[0], strict=True):
        if not is_right(cells):
            return np.asarray(end[None])
    return None


__all__ = ["HeadSums", "decide_strings", "worst_string"]
