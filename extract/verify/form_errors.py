"""How far every arithmetic claimed can be from the real one, over whole sets of vectors given as affine forms.

A form says how large the real activations of a set are and how small their deviations; with these the error analysis
of single inputs holds for all of the set at once. What an arithmetic may do is said there alone. It refuses to know
which inputs a set comes from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from extract.verify.affine import Affine, Floats
from extract.verify.affine import Scalar as Number
from extract.verify.rounding import Analysis, Errors, Scalar

_SLACK = 1 + 2.0**-30


@dataclass(frozen=True, slots=True)
class Computed:
    """What is known of computed residual vectors beside a form of the real ones.

    ``errors`` bound their distance from these in every arithmetic analysed, of which the first does not count: no
    vector of a form was computed. ``norm`` bounds the real vectors' norms, and ``missing`` the norm of what the form
    leaves out of them: their mean, where a norm takes it away.
    """

    errors: Errors
    norm: Scalar
    missing: Scalar


class MlpForms(NamedTuple):
    """The steps of an MLP on forms: its normalised argument and the mean square before (None without a norm), hidden
    units before and after the activation, and the stream after it; the three in the middle are None without an MLP."""

    square: Number | None
    normalised: Affine | None
    hidden: Affine | None
    active: Affine | None
    after: Affine


class FormErrors:
    """The error analysis of one network on forms."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self._root = math.sqrt(analysis.weights.d_model)

    @property
    def has_claims(self) -> bool:
        """Whether any arithmetic beside our own is analysed."""
        return len(self.analysis.arithmetics) > 1

    def normalised(self, square: Number | None, at: Computed) -> tuple[Errors, Scalar]:
        """Return the errors and the largest norm of what a layer norm makes of vectors, before its gain and shift; of
        the vectors themselves where there is none."""
        if square is None:
            return at.errors, at.norm
        return self.analysis.normalise(at.errors, deviation(square), at.norm), self._root

    def about(self, at: Computed, size: Scalar) -> Computed:
        """Return what is known of computed vectors beside a form of themselves, ``size`` about the real ones."""
        return Computed(self._nothing(), at.norm + size, at.missing)

    def after_mlp(self, layer: int, steps: MlpForms, sizes: tuple[Floats, Floats], at: Computed) -> Computed:
        """Return what is known after an MLP; ``sizes`` [out, in] are the absolute values of its two matrices, the gain
        of the norm before the first multiplied in."""
        norm = length(steps.after) + at.missing
        if steps.hidden is None or steps.active is None or steps.normalised is None:
            return Computed(self.analysis.add(at.errors, self._nothing(), norm), norm, at.missing)
        norms = self.analysis.weights.layers[layer]
        errors, size = self.normalised(steps.square, at)
        terms = spread(steps.normalised, sizes[0]), spread(steps.active, sizes[1])
        moved = self.analysis.mlp(norms, errors, size, length(steps.hidden), None, terms)
        return Computed(self.analysis.add(at.errors, moved, norm), norm, at.missing)

    def room(self, square: Number | None, at: Computed) -> Scalar:
        """Return what a real margin must exceed for every arithmetic claimed to decide as it does; ``square`` is the
        mean square that the last norm divides by, None without one."""
        errors, size = self.normalised(square, at)
        return self.analysis.margin_bound((0.0, *self.analysis.head(errors, size)[1:]))

    def _nothing(self) -> Errors:
        return tuple(0.0 for _ in self.analysis.arithmetics)


def deviation(square: Number) -> Scalar:
    """Return a lower bound of the square root of a mean square."""
    least = np.maximum((square.centre - square.reach) * (1 - 1e-15), square.least)
    return _plain(np.sqrt(np.maximum(np.where(np.isfinite(least), least, 0.0), 0.0)) * (1 - 1e-15))


def length(x: Affine) -> Scalar:
    """Return an upper bound of the norms of the vectors of each form."""
    size = np.abs(x.centre) + x.reach
    return _plain(np.sqrt((size * size).sum(axis=-1)) * _SLACK)


def spread(x: Affine, sizes: Floats) -> Scalar:
    """Return an upper bound of the norm of ``sizes @ |x|`` over each form; ``sizes`` [out, in] are not negative."""
    made = (np.abs(x.centre) + x.reach) @ sizes.T
    return _plain(np.sqrt((made * made).sum(axis=-1)) * _SLACK)


def _plain(x: Floats) -> Scalar:
    return float(x) if np.ndim(x) == 0 else np.asarray(x)
