"""The checker's own lower bounds of margins over sets of residual vectors, cut into pieces where they are too coarse.

A margin is bounded less what it must exceed: the width of ties, and the error of single precision where a claim is
about that too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from extract.check.forward import DOUBLE, Forward, gain_of
from extract.check.single import Start, after_mlp, margin_errors
from extract.check.spans import Form, Mlp, after_norm, centred, inverse_deviation, linear, product
from extract.check.spec import Task
from extract.check.weights import Floats, Weights

_UP = 1 + 1e-9


def _gamma(n: int) -> float:
    return 1.01 * n * DOUBLE


class Margins:
    """The margins of one answer's decisions, as functions of the residual vector after the attention; ``single`` is the
    network in single precision where a claim is about that too."""

    def __init__(
        self, forward: Forward, columns: Floats, sizes: Floats, shift: Floats, single: Forward | None = None
    ) -> None:
        weights, self.single = forward.weights, single
        #: The largest error in single precision of any margins found to be positive.
        self.worst = 0.0
        d = len(weights.W_U)
        self.eps, self.mlp, self.tie = weights.norm_eps, Mlp(forward, len(weights.layers) - 1), weights.tie
        self.largest = np.abs(weights.W_U), float(np.abs(weights.b_U).max())
        norm = gain_of(weights.norm_final, d)
        self.head = after_norm(norm, columns, sizes, shift)
        self.made_of = np.abs(norm[1]) @ sizes + np.abs(shift) + 2 * np.abs(weights.b_U).max()

    def width(self, n_axes: int) -> int:
        """Return how many numbers a form of so many symbols needs here, about."""
        hidden, d = (int(n) for n in self.mlp.into[0].shape)
        return (3 * n_axes + hidden) * max(d, hidden)

    def of(self, x: Form, start: Start | None = None) -> tuple[Form, Floats]:
        """Return the margins over a form of residual vectors, what they must exceed in the radius, and the part of that
        which is the error of single precision; its symbols come first. ``start`` says how far computed vectors are from
        these, where that matters."""
        steps = self.mlp.after(x)
        y, inverse = steps.after, None
        y = _folded(y, x.noise.shape[1]) if y.centre.ndim == 1 else y
        matrix, shift, sizes, slips = self.head
        if not self.eps > 0:
            # margins this close to the largest logit are ties, and no answer
            top = ((np.abs(y.centre) + y.reach()) @ self.largest[0]).max(axis=-1) + self.largest[1]
            made = linear(y, matrix, shift, sizes, slips + self.tie * np.maximum(top, 1.0)[..., None] * _UP)
        else:
            y = centred(y)
            inverse = inverse_deviation(y, self.eps)
            raw = product(linear(y, matrix, np.zeros(len(shift)), sizes, np.zeros(len(shift))), inverse)
            made = Form(
                raw.centre + shift, raw.noise, (raw.radius + slips + _gamma(2) * np.abs(shift)) * _UP, raw.balls
            )
        if self.single is None:
            return made, np.zeros_like(made.radius)
        if start is None:
            raise ValueError("nothing is known of vectors in single precision")
        at = after_mlp(self.single, len(self.single.layers) - 1, start, steps)
        moved = margin_errors(self.single, at, inverse, (matrix, sizes, self.made_of))
        return Form(made.centre, made.noise, (made.radius + moved) * _UP, made.balls), moved

    def nearer(self, x: Form, start: Start | None) -> tuple[Form, Floats]:
        """Return the better of both ways for one form."""
        found, moved = self.of(x, start)
        least = (found.centre - found.reach()).min()
        if start is None or least > 0 or not np.isfinite(start.error):
            return found, moved
        other, error = self.about(x, start)
        return (other, error) if (other.centre - other.reach()).min() > least else (found, moved)

    def about(self, x: Form, start: Start) -> tuple[Form, Floats]:
        """Return the same for one form, the error that ``start`` tells a ball about the vectors: it is carried on in
        every direction as far as that one goes."""
        ball = start.error * np.eye(len(x.centre))[None]
        near = Start(np.zeros(()), start.size + start.error, start.missing)
        other, rest = self.of(x._replace(balls=ball), near)
        # what is not linear in the symbols of x differs by twice its bound at most
        apart = 2 * (other.reach() - np.abs(other.noise[:, : x.noise.shape[1]]).sum(axis=1))
        return other, np.asarray((rest + apart) * _UP)

    def least(
        self, centre: Floats, axes: Floats, low: Floats, high: Floats, slip: Floats, below: Callable[[Floats], Floats],
        most_pieces: int, start: Start | None = None,
    ) -> float:  # fmt: skip
        """Return a lower bound of all margins for ``centre + axes @ z``, z between bounds, off by at most ``slip``;
        where pieces run out, some number that is not positive.

        ``below(directions)`` bounds ``directions @ z`` from below over all z that occur. Pieces not yet positive are
        halved along their widest axis until there are too many.
        """
        lengths = np.sqrt((axes * axes).sum(axis=0))
        waiting, n_pieces, least, worst = [(low, high)], 1, math.inf, self.worst
        while waiting:
            low, high = waiting.pop()
            found, error = self._piece(centre, axes, low, high, slip, below, start)
            if found > 0:
                least, worst = min(least, found), max(worst, error)
                continue
            n_pieces += 1
            if n_pieces > most_pieces or (found == -math.inf and n_pieces > 64):
                return found
            axis = int(((high - low) * lengths).argmax())
            middle = (low[axis] + high[axis]) / 2
            for end, value in ((0, low), (1, high)):
                part = value.copy()
                part[axis] = middle
                waiting.append((low, part) if end else (part, high))
        self.worst = worst
        return least

    def _piece(
        self, centre: Floats, axes: Floats, low: Floats, high: Floats, slip: Floats, below: Callable[[Floats], Floats],
        start: Start | None = None,
    ) -> tuple[float, float]:  # fmt: skip
        middle, half = (low + high) / 2, (high - low) / 2
        half = half * (1 + 1e-14) + 1e-14 * np.abs(middle)
        rounding = _gamma(len(half) + 6) * (np.abs(centre) + np.abs(axes) @ (np.abs(middle) + half))
        with np.errstate(all="ignore"):
            found, error = self.nearer(Form(centre + axes @ middle, axes * half, (slip + rounding) * _UP), start)
            least = (found.centre - found.reach()) - _gamma(4) * (np.abs(found.centre) + found.reach())
        if not np.isfinite(least).all():
            return -math.inf, math.inf
        bad = np.flatnonzero(least <= 0)
        if len(bad):
            own = found.noise[bad][:, : len(half)]
            directions = own / np.where(half > 0, half, 1.0)
            by_box = np.abs(own).sum(axis=1)
            lowest = below(directions) - directions @ middle - _gamma(len(half) + 12) * (
                np.abs(directions) @ (np.abs(middle) + half))  # fmt: skip
            gain = np.maximum(lowest + by_box * (1 - 1e-12), 0.0) * (1 - 1e-12)
            least[bad] += np.where(np.isfinite(gain), gain, 0.0)
        return float(least.min()), float(error.max(initial=0.0))


def _folded(x: Form, n_first: int) -> Form:
    """Return the form with its many small symbols beyond the first in the radius, up to a hundredth of all."""
    weights = np.abs(x.noise).sum(axis=0)
    whole = weights.sum()
    weights[:n_first] = np.inf
    order = np.argsort(weights, kind="stable")
    small = order[np.cumsum(weights[order]) <= 0.01 * whole]
    radius = x.radius + np.abs(x.noise[:, small]).sum(axis=1)
    return Form(x.centre, np.delete(x.noise, small, axis=1), radius * _UP, x.balls)


def decisions(task: Task, weights: Weights, answer: Sequence[int]) -> tuple[Floats, Floats, Floats]:
    """Return columns of the unembedding whose products must be positive for an answer, bounds of what they are made of,
    and what is added to each product."""
    choices = task.choices
    columns, bias = weights.W_U[:, choices], weights.b_U[choices]
    if task.kind == "multilabel":
        signs = np.where(np.array(answer) > 0, 1.0, -1.0)
        return columns * signs, np.abs(columns), (bias - task.threshold) * signs
    codes = task.output_codes[choices]
    own = int(np.flatnonzero(codes == answer[0])[0])
    others = np.delete(np.arange(len(codes)), own)
    mine, rest = columns[:, [own]], columns[:, others]
    return mine - rest, np.abs(mine) + np.abs(rest), bias[own] - bias[others]
