"""Lower bounds of the margins over an array of forms, those that fail cut along their own symbols, all at once.

A form holds what its two halves hold together, so that a bound of every piece is one of the whole. It refuses to know
which inputs the forms come from.
"""

from __future__ import annotations

import numpy as np

from extract.verify.affine import Affine, Floats
from extract.verify.final_stage import FinalStage
from extract.verify.form_errors import Computed

#: Symbols kept in a form before it is cut, and pieces of one form at most.
_SYMBOLS, _PIECES = 36, 32
#: A margin counts as positive above this share of the one at the centre, so that other bounds confirm it.
_ROOM = 0.03
#: Forms bounded at once.
_BATCH = 64
#: A form is given up when after so many cuts more than this share of its doubt is left.
_EARLY, _TOO_SLOW = 3, 0.4


def least_margins(
    final: FinalStage, forms: Affine, answer: tuple[int, ...], computed: Computed | None = None
) -> Floats:
    """Return by how much all margins of an answer are at least above what they must exceed, over each form; pieces are
    cut until each is so and some more, or there are too many. Shapes: ``forms`` [form, d_model]; answer [form].

    ``computed`` holds for all forms.
    """
    n = len(forms.centre)
    is_known = np.isfinite(forms.centre).all(axis=1) & np.isfinite(forms.radius).all(axis=1)
    is_known &= np.isfinite(forms.noise).all(axis=(1, 2))
    least = np.where(is_known, np.inf, -np.inf)
    owner = np.flatnonzero(is_known)
    pieces, n_pieces, start = forms[owner].compacted(_SYMBOLS), np.ones(n, dtype=np.int64), np.full(n, np.nan)
    needed = np.zeros(n)
    level = 0
    while len(owner):
        found, middle = _bounds(final, pieces, answer, computed)
        if not level:
            start[owner] = found
            needed[owner] = np.maximum(0.0, _ROOM * middle)
        is_over = found > needed[owner]
        np.minimum.at(least, owner[is_over], found[is_over])
        left = np.flatnonzero(~is_over)
        np.add.at(n_pieces, owner[left], 1)
        is_hopeless = n_pieces[owner[left]] > _PIECES
        if level == _EARLY:
            is_hopeless |= ~(found[left] > _TOO_SLOW * start[owner[left]])
        lost = np.unique(owner[left[is_hopeless]])
        least[lost] = -np.inf
        left = left[~np.isin(owner[left], lost)]
        pieces, owner = _halves(pieces[left]), np.tile(owner[left], 2)
        level += 1
    return least


def _bounds(
    final: FinalStage, forms: Affine, answer: tuple[int, ...], computed: Computed | None
) -> tuple[Floats, Floats]:
    """Return the least margin over each form, and the least margin at its centre, about."""
    parts = [final.bound(forms[i : i + _BATCH], answer, computed) for i in range(0, len(forms.centre), _BATCH)]
    least = np.concatenate([part.least.min(axis=1) for part in parts])
    return least, np.concatenate([part.form.centre.min(axis=1) for part in parts])


def _halves(forms: Affine) -> Affine:
    """Return the two halves of every form along its widest symbol, first all of one side, then all of the other."""
    noise = forms.noise.copy()
    rows = np.arange(len(noise))
    widest = (noise * noise).sum(axis=1).argmax(axis=1) if noise.shape[2] else np.zeros(len(noise), dtype=np.int64)
    if not len(noise) or not noise.shape[2]:
        return forms[np.zeros(0, dtype=np.int64)] if not len(noise) else forms[np.tile(rows, 2)]
    half = noise[rows, :, widest] / 2
    noise[rows, :, widest] = half
    size = np.abs(forms.centre) + np.abs(half)
    radius = forms.radius + 2.0**-52 * size
    return Affine(
        np.concatenate([forms.centre - half, forms.centre + half]), np.concatenate([noise, noise]),
        np.concatenate([radius, radius]),
    )  # fmt: skip


__all__ = ["least_margins"]
