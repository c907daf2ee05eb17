"""How far margins computed in single precision, in any order of sums, can be from the real ones of a whole set.

Beside a form of the real vectors goes one number, a bound in the Euclidean norm on the distance of the computed ones;
how large real vectors are, and how small their deviations, the form says.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from extract.check.forward import LARGE, Forward
from extract.check.spans import Form, Steps
from extract.check.weights import Floats

_UP = 1 + 1e-9


class Start(NamedTuple):
    """Computed residual vectors are within ``error`` of the real ones, whose norm is at most ``size``; that of what a
    form leaves out of them, their mean if a norm follows, at most ``missing``."""

    error: Floats
    size: Floats
    missing: Floats


def longest(x: Form) -> Floats:
    """Return a bound of the norms of the vectors of each form."""
    return np.asarray(np.linalg.norm(np.abs(x.centre) + x.reach(), axis=-1) * _UP)


def normalised_error(forward: Forward, start: Start, inverse: Form | None) -> tuple[Floats, Floats]:
    """Return the error and the norm of normalised vectors; ``inverse`` holds one over the deviation."""
    if inverse is None:
        return start.error, start.size
    most = (inverse.centre + inverse.reach())[..., 0]
    spread = np.where((most > 0) & (most < np.inf), (1 - 1e-9) / np.where(most > 0, most, 1.0), 0.0)
    error = forward.normalised_error(start.error, start.size, spread)
    return np.where(start.size < LARGE, error, np.inf), np.full(most.shape, forward.root)


def after_mlp(forward: Forward, layer: int, start: Start, steps: Steps) -> Start:
    """Return what holds after an MLP from the forms of its steps."""
    size, error, one = longest(steps.after) + start.missing, start.error, forward.layers[layer]
    if steps.z is not None and steps.hidden is not None and steps.active is not None:
        ez, norm = normalised_error(forward, start, steps.inverse)
        rows, width = one.mlp_proj[0].shape
        terms = np.linalg.norm((np.abs(steps.z.centre) + steps.z.reach()) @ np.abs(one.into.weight[0]), axis=-1)
        terms = terms * _UP + float(one.into.absolute[0, 0]) * ez
        local = forward.gamma(width + 6) * one.into.local(norm + ez, terms).reshape(np.shape(terms))
        wide = longest(steps.hidden) + one.into.gain[0, 0] * ez + local
        local = 1.13 * local + forward.gamma(16) * (wide + forward.lost * rows)
        moved, (whole, constant) = 1.13 * float(one.into.gain[0, 0]) * ez + local, one.sizes[1]
        terms = np.linalg.norm((np.abs(steps.active.centre) + steps.active.reach()) @ np.abs(one.mlp_proj[0]), axis=-1)
        error = error + one.slope * ez + one.back * local
        error = error + forward.gamma(rows + 6) * (terms * _UP + whole * moved + constant)
        error = np.where(wide < LARGE, error, np.inf)
    error = 1.01 * (error + 2 * forward.unit * (size + error + forward.lost * width_of(steps.after)))
    return Start(np.where(size < LARGE, error, np.inf), size, start.missing)


def width_of(x: Form) -> int:
    """Return the number of coordinates of a form."""
    return int(x.centre.shape[-1])


def margin_errors(forward: Forward, start: Start, inverse: Form | None, head: tuple[Floats, Floats, Floats]) -> Floats:
    """Return bounds of the errors of margins that are ``matrix @ z + shift``. Shape: [..., decision].

    ``head`` is the matrix, the sizes its entries were made of, and a bound of what each shift was made of.
    """
    matrix, sizes, shift = head
    ez, norm = normalised_error(forward, start, inverse)
    ez, norm = np.asarray(ez)[..., None], np.asarray(norm)[..., None]
    terms = np.linalg.norm(sizes, axis=1) * (norm + ez) + shift
    faded = forward.lost * matrix.shape[1] * (2 + norm + ez) * (2 + np.abs(sizes).max(initial=0.0))
    error = np.linalg.norm(matrix, axis=1) * ez + forward.gamma(matrix.shape[1] + 8) * (terms + faded)
    return np.where(terms < LARGE, error * 1.01, np.inf)
