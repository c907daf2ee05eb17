"""The checker's own bounds of a network after its one attention layer: forms with noise symbols, rounded outwards.

A form (centre, noise, radius) holds all x with |x - centre - noise @ e| <= radius for an e in [-1, 1]^k. Every step
returns a form that holds the real function of all that its argument holds, its own rounding added to the radius.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from extract.check.forward import DOUBLE, Forward, gain_of
from extract.check.weights import Floats

#: Covers the rounding of sums of non-negative numbers, and what underflows.
_UP, _TINY = 1 + 1e-9, 1e-290
#: Bounds of |f''|; relu has its corner at 0 instead.
CURVATURES = {"gelu_tanh": 0.8, "gelu_erf": 0.8, "silu": 0.51}
_N_POINTS = 25


class Form(NamedTuple):
    """Shapes: ``centre``, ``radius`` [..., n], ``noise`` [..., n, symbol]; leading axes hold forms side by side."""

    centre: Floats
    noise: Floats
    radius: Floats

    def reach(self) -> Floats:
        """Return how far each coordinate can be from its centre."""
        return np.asarray((np.abs(self.noise).sum(axis=-1) + self.radius) * _UP)

    def some(self, which: Any) -> Form:
        """Return some of the forms that stand side by side, or of their coordinates."""
        return Form(self.centre[which], self.noise[which], self.radius[which])

    def folded(self, n: int) -> Form:
        """Return the form with all symbols but the n largest in the radius."""
        order = np.argsort(-(self.noise**2).sum(axis=-2), axis=-1, kind="stable")[..., None, :]
        noise = np.take_along_axis(self.noise, order, axis=-1)
        return Form(self.centre, noise[..., :n], (self.radius + np.abs(noise[..., n:]).sum(axis=-1)) * _UP)


def _gamma(n: int) -> float:
    return 1.01 * n * DOUBLE


def linear(x: Form, matrix: Floats, shift: Floats, sizes: Floats, slips: Floats) -> Form:
    """Return ``matrix @ x + shift``; ``sizes`` bound what each entry was computed from, ``slips`` the shift's error."""
    whole = (np.abs(x.centre) + x.reach()) @ sizes.T
    radius = x.radius @ np.abs(matrix).T + slips + _gamma(matrix.shape[1] + 12) * (whole + np.abs(shift)) + _TINY
    return Form(x.centre @ matrix.T + shift, matrix @ x.noise, radius * _UP)


def total(x: Form, y: Form) -> Form:
    """Return the sum; the symbols of ``x`` are the first ones of ``y``."""
    noise = y.noise.copy()
    noise[..., : x.noise.shape[-1]] += x.noise
    size = np.abs(x.centre) + np.abs(y.centre) + x.reach() + y.reach()
    return Form(x.centre + y.centre, noise, (x.radius + y.radius + _gamma(2) * size) * _UP)


def _mean(x: Floats) -> Floats:
    return np.asarray(x.mean(axis=-1, keepdims=True))


def centred(x: Form) -> Form:
    """Return the form less its coordinates' mean."""
    size = np.abs(x.centre) + x.reach()
    radius = x.radius + _mean(x.radius) + _gamma(x.centre.shape[-1] + 6) * (size + _mean(size))
    return Form(x.centre - _mean(x.centre), x.noise - x.noise.mean(axis=-2, keepdims=True), radius * _UP)


def inverse_deviation(x: Form, eps: float) -> Form:
    """Return (mean square of the coordinates + eps) ^ -1/2 as a form of one coordinate, of the same symbols."""
    n, size = x.centre.shape[-1], np.abs(x.centre) + x.reach()
    spread = np.abs(x.noise).sum(axis=-1)
    # |noise @ e|^2 lies between 0 and this
    most = (spread * spread).sum(axis=-1) * _UP
    if x.noise.shape[-1] <= 4 * n:
        gram = np.abs(np.swapaxes(x.noise, -1, -2) @ x.noise).sum(axis=(-1, -2))
        most = np.minimum(most, gram * _UP + _gamma(n + 4) * most)
    middle = ((x.centre * x.centre).sum(axis=-1) + most / 2) / n + eps
    slopes = (2 / n) * (x.centre[..., None, :] @ x.noise)
    error = (most / 2 + 2 * (x.radius * size).sum(axis=-1) + (x.radius * x.radius).sum(axis=-1)) / n * _UP
    error = error + _gamma(n + 12) * (4 * (size * size).sum(axis=-1) / n + eps + most / n) + _TINY
    reach = (np.abs(slopes).sum(axis=(-1, -2)) + error) * _UP
    floor = eps * (1 - 1e-12) + (np.maximum(np.abs(x.centre) - x.reach(), 0.0) ** 2).sum(axis=-1) / n * (1 - 1e-9)
    low, high = np.maximum((middle - reach) * (1 - 1e-14), floor), (middle + reach) * (1 + 1e-14)
    known = (low > 0) & (low <= high) & np.isfinite(high)
    low, high = np.where(known, low, 1.0), np.where(known, high, 1.0)
    # t^-1/2 is convex: over a line of this slope it is highest at an end, and lowest where its tangent is parallel
    slope = -1 / (np.sqrt(low * high) * (np.sqrt(low) + np.sqrt(high)))
    top = np.maximum(low**-0.5 - slope * low, high**-0.5 - slope * high)
    touch = np.minimum(np.maximum((-2 * slope) ** (-2 / 3), low), high)
    bottom = touch**-0.5 - slope * touch
    rounding = 100 * DOUBLE * (low**-0.5 - slope * high)
    radius = (np.abs(top - bottom) / 2 + rounding - slope * error) * _UP
    radius = np.where(known, radius + _gamma(8) * -slope * (np.abs(middle) + reach), np.inf)
    centre = np.where(known, slope * middle + (top + bottom) / 2, 0.0)
    noise = np.where(known[..., None, None], slope[..., None, None] * slopes, 0.0)
    return Form(centre[..., None], noise, radius[..., None])


def product(x: Form, factor: Form) -> Form:
    """Return x times a form of one coordinate, whose symbols are among those of x: one new symbol for what is left of
    the factor, and one for each symbol of x for the product of noises."""
    f, rest = factor.centre, factor.reach()
    first = f[..., None] * x.noise
    first[..., : factor.noise.shape[-1]] += x.centre[..., None] * factor.noise
    noise = np.concatenate([first, (x.centre * factor.radius)[..., None], x.noise * rest[..., None]], axis=-1)
    size = (np.abs(x.centre) + x.reach()) * (np.abs(f) + rest)
    radius = x.radius * (np.abs(f) + rest) + _gamma(12) * size + _TINY
    return Form(x.centre * f, noise, radius * _UP)


def normalised(x: Form, eps: float) -> Form:
    """Return a layer norm before its gain and shift."""
    z = centred(x)
    return product(z, inverse_deviation(z, eps))


def activated(x: Form, forward: Forward) -> Form:
    """Return the activation of every coordinate: a line, and a new symbol for how far the function leaves it."""
    kind, reach = forward.weights.activation or "", x.reach()
    low, high = x.centre - reach * (1 + 1e-14), x.centre + reach * (1 + 1e-14)
    low, high = low - 1e-15 * np.abs(low), high + 1e-15 * np.abs(high)
    width, size = high - low, np.maximum(np.abs(low), np.abs(high))
    points = low + np.linspace(0.0, 1.0, _N_POINTS).reshape(-1, *[1] * low.ndim) * width
    points[-1] = high
    values = forward.activate(points)
    slope = np.where(width > 1e-6 * size, (values[-1] - values[0]) / np.where(width > 0, width, 1.0), 0.5)
    rest = values - slope * points
    top, bottom, gap = rest.max(axis=0), rest.min(axis=0), np.zeros_like(low)
    if kind == "relu":
        bottom = np.where((low < 0) & (high > 0), np.minimum(bottom, 0.0), bottom)
    else:
        # between two points a function leaves its chord by at most max |f''| times the square of their distance over 8
        gap = CURVATURES[kind] / 8 * (width / (_N_POINTS - 1) * (1 + 1e-9) + 1e-14 * size) ** 2
    error = (gap + 64 * DOUBLE * size * (1 + np.abs(slope)) + (top - bottom) / 2) * _UP + _TINY
    radius = np.abs(slope) * x.radius + _gamma(8) * (np.abs(slope) * (np.abs(x.centre) + reach) + np.abs(top + bottom))
    noise = np.concatenate([slope[..., None] * x.noise, error[..., None] * np.eye(low.shape[-1])], axis=-1)
    return Form(slope * x.centre + (top + bottom) / 2, noise, radius * _UP)


class Mlp:
    """One layer's norm and MLP, added to the residual vectors they are of."""

    def __init__(self, forward: Forward, layer: int) -> None:
        weights = forward.weights
        one, d = weights.layers[layer], len(weights.W_U)
        self.forward, self.eps, self.is_there = forward, weights.norm_eps, one.W_in.shape[1] > 0
        self.into = after_norm(gain_of(one.norm_mlp, d), one.W_in, np.abs(one.W_in), one.b_in)
        self.out = (one.W_out.T, one.b_out, np.abs(one.W_out).T, np.zeros(len(one.b_out)))

    def after(self, x: Form) -> Form:
        """Return the residual vectors after the MLP, the symbols of ``x`` first."""
        if not self.is_there:
            return x
        z = normalised(x, self.eps) if self.eps > 0 else x
        return total(x, linear(activated(linear(z, *self.into), self.forward), *self.out))


class Margins:
    """The margins of one answer's decisions, as functions of the residual vector after the attention."""

    def __init__(self, forward: Forward, columns: Floats, sizes: Floats, shift: Floats) -> None:
        weights = forward.weights
        d = len(weights.W_U)
        self.eps, self.mlp, self.tie = weights.norm_eps, Mlp(forward, len(weights.layers) - 1), weights.tie
        self.largest = np.abs(weights.W_U), float(np.abs(weights.b_U).max())
        self.head = after_norm(gain_of(weights.norm_final, d), columns, sizes, shift)

    def width(self, n_axes: int) -> int:
        """Return how many numbers a form of so many symbols needs here, about."""
        hidden, d = (int(n) for n in self.mlp.into[0].shape)
        return (3 * n_axes + hidden) * max(d, hidden)

    def of(self, x: Form) -> Form:
        """Return the margins over a form of residual vectors; its symbols come first."""
        y = self.mlp.after(x)
        y = _folded(y, x.noise.shape[1]) if y.centre.ndim == 1 else y
        matrix, shift, sizes, slips = self.head
        if not self.eps > 0:
            # margins this close to the largest logit are ties, and no answer
            top = ((np.abs(y.centre) + y.reach()) @ self.largest[0]).max(axis=-1) + self.largest[1]
            return linear(y, matrix, shift, sizes, slips + self.tie * np.maximum(top, 1.0)[..., None] * _UP)
        y = centred(y)
        raw = product(
            linear(y, matrix, np.zeros(len(shift)), sizes, np.zeros(len(shift))), inverse_deviation(y, self.eps)
        )
        return Form(raw.centre + shift, raw.noise, (raw.radius + slips + _gamma(2) * np.abs(shift)) * _UP)

    def least(
        self, centre: Floats, axes: Floats, low: Floats, high: Floats, slip: Floats, below: Callable[[Floats], Floats],
        most_pieces: int,
    ) -> float:  # fmt: skip
        """Return a lower bound of all margins for ``centre + axes @ z``, z between bounds, off by at most ``slip``;
        where pieces run out, some number that is not positive.

        ``below(directions)`` bounds ``directions @ z`` from below over all z that occur. Pieces not yet positive are
        halved along their widest axis until there are too many.
        """
        lengths = np.sqrt((axes * axes).sum(axis=0))
        waiting, n_pieces, least = [(low, high)], 1, math.inf
        while waiting:
            low, high = waiting.pop()
            found = self._piece(centre, axes, low, high, slip, below)
            if found > 0:
                least = min(least, found)
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
        return least

    def _piece(
        self, centre: Floats, axes: Floats, low: Floats, high: Floats, slip: Floats, below: Callable[[Floats], Floats]
    ) -> float:
        middle, half = (low + high) / 2, (high - low) / 2
        half = half * (1 + 1e-14) + 1e-14 * np.abs(middle)
        rounding = _gamma(len(half) + 6) * (np.abs(centre) + np.abs(axes) @ (np.abs(middle) + half))
        with np.errstate(all="ignore"):
            found = self.of(Form(centre + axes @ middle, axes * half, (slip + rounding) * _UP))
            least = (found.centre - found.reach()) - _gamma(4) * (np.abs(found.centre) + found.reach())
        if not np.isfinite(least).all():
            return -math.inf
        bad = np.flatnonzero(least <= 0)
        if len(bad):
            own = found.noise[bad][:, : len(half)]
            directions = own / np.where(half > 0, half, 1.0)
            by_box = np.abs(own).sum(axis=1)
            lowest = below(directions) - directions @ middle - _gamma(len(half) + 12) * (
                np.abs(directions) @ (np.abs(middle) + half))  # fmt: skip
            gain = np.maximum(lowest + by_box * (1 - 1e-12), 0.0) * (1 - 1e-12)
            least[bad] += np.where(np.isfinite(gain), gain, 0.0)
        return float(least.min())


def _folded(x: Form, n_first: int) -> Form:
    """Return the form with its many small symbols beyond the first in the radius, up to a hundredth of all."""
    weights = np.abs(x.noise).sum(axis=0)
    whole = weights.sum()
    weights[:n_first] = np.inf
    order = np.argsort(weights, kind="stable")
    small = order[np.cumsum(weights[order]) <= 0.01 * whole]
    radius = x.radius + np.abs(x.noise[:, small]).sum(axis=1)
    return Form(x.centre, np.delete(x.noise, small, axis=1), radius * _UP)


def after_norm(
    norm: tuple[Floats, Floats], weight: Floats, sizes: Floats, shift: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the matrix, shift, sizes and shift's error of a map after a layer norm's gain and shift."""
    gain, offset = norm
    slips = _gamma(len(weight) + 8) * (np.abs(offset) @ sizes + 2 * np.abs(shift))
    return (weight * gain[:, None]).T, offset @ weight + shift, (sizes * np.abs(gain)[:, None]).T, slips
