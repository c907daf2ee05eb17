"""Affine forms: vectors as a centre plus noise symbols in [-1, 1], every operation with its own rounding in the radius.

A form stands for all vectors x with |x - centre - noise @ e| <= radius, elementwise, for some e in [-1, 1]^k. What an
operation cannot keep linear becomes a noise symbol, so that it is not counted once per coordinate. Each result
contains the real function of everything its arguments contain. Assumes: float64 with round-to-nearest.

A form may have balls beside: matrices that are applied to vectors of norm at most 1, one each, and added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.network import Activation
from extract.verify.activations import CURVATURES, ROUNDINGS, activate, slope

Floats = NDArray[np.float64]

_UNIT = 2.0**-53
#: Covers the rounding of a bound computed from non-negative terms, up to 10^5 of them.
_SLACK = 1 + 2.0**-30
#: Covers what underflows in any operation here.
_TINY = 1e-290
#: Points at which a curved activation is compared with a line; between two of them it leaves its chord by at most
#: curvature * step^2 / 8.
_POINTS = 33


def gamma(n: int) -> float:
    """Return the relative error of n roundings."""
    return n * _UNIT / (1 - n * _UNIT)


@dataclass(frozen=True, slots=True)
class Map:
    """A matrix and a shift as computed. ``sizes`` [out, in] bound the absolute terms each entry was computed from, and
    ``slips`` [out] the error of each shift; ``roundings`` counts those of an entry."""

    matrix: Floats
    shift: Floats
    sizes: Floats
    slips: Floats
    roundings: int = 0


@dataclass(frozen=True, slots=True)
class Affine:
    """One form, or an array of forms along leading axes that every operation keeps.

    Shapes: ``centre`` [..., n], ``noise`` [..., n, symbol], ``radius`` [..., n] without negative entries; ``balls``
    [..., n, ball, m], None if there are none.
    """

    centre: Floats
    noise: Floats
    radius: Floats
    balls: Floats | None = None

    @property
    def spread(self) -> Floats:
        """How far the noise and the balls alone move each coordinate. Shape: [..., n]."""
        spread: Floats = np.abs(self.noise).sum(axis=-1) + _lengths(self.balls)
        return spread * _SLACK

    def with_ball(self, size: Floats) -> Affine:
        """Return the form with a ball of a radius about each of its vectors; it has none yet. Shape: ``size`` [...]."""
        ball = np.broadcast_to(np.eye(self.centre.shape[-1])[:, None], (*self.centre.shape, 1, self.centre.shape[-1]))
        return Affine(self.centre, self.noise, self.radius, ball * np.asarray(size)[..., None, None, None])

    @property
    def reach(self) -> Floats:
        """A bound of each coordinate's distance from its centre. Shape: [..., n]."""
        return np.asarray((self.spread + self.radius) * _SLACK)

    def __getitem__(self, which: Any) -> Affine:
        """Return some of an array of forms."""
        balls = None if self.balls is None else self.balls[which]
        return Affine(self.centre[which], self.noise[which], self.radius[which], balls)

    def mapped(self, by: Map) -> Affine:
        """Return the image under a linear map."""
        size = (np.abs(self.centre) + self.spread + self.radius) @ by.sizes.T
        rounding = gamma(by.matrix.shape[1] + by.roundings + 3) * (size + np.abs(by.shift)) + by.slips + _TINY
        radius = (self.radius @ np.abs(by.matrix).T + rounding) * _SLACK
        balls = None
        if self.balls is not None:
            *_, n, m = self.balls.shape
            balls = by.matrix @ self.balls.reshape(*self.balls.shape[:-2], n * m)
            balls = balls.reshape(*balls.shape[:-1], n, m)
        return Affine(self.centre @ by.matrix.T + by.shift, by.matrix @ self.noise, radius, balls)

    def plus(self, other: Affine) -> Affine:
        """Return the sum; the shorter list of symbols is the beginning of the longer one."""
        k = max(self.noise.shape[-1], other.noise.shape[-1])
        left, right = _widened(self.noise, k), _widened(other.noise, k)
        size = np.abs(self.centre) + np.abs(other.centre) + self.spread + other.spread
        radius = (self.radius + other.radius + gamma(1) * size) * _SLACK
        return Affine(self.centre + other.centre, left + right, radius, _added(self.balls, other.balls))

    def centred(self) -> Affine:
        """Return the form less the mean of its coordinates."""
        n = self.centre.shape[-1]
        size = np.abs(self.centre) + self.spread
        rounding = gamma(n + 4) * (size + _mean(size))
        radius = (self.radius + _mean(self.radius) + rounding) * _SLACK
        noise = self.noise - self.noise.mean(axis=-2, keepdims=True)
        balls = None if self.balls is None else self.balls - self.balls.mean(axis=-3, keepdims=True)
        return Affine(self.centre - _mean(self.centre), noise, radius, balls)

    def square_mean(self, plus: float) -> Scalar:
        """Return the mean square of the coordinates plus a constant, as a form with one more symbol."""
        n = self.centre.shape[-1]
        inside, spread = self.reach, self.spread
        size = np.abs(self.centre) + inside
        squared = (spread * spread).sum(axis=-1)
        most = (np.abs(self.noise).sum(axis=-1) ** 2).sum(axis=-1) * _SLACK**3
        if self.noise.shape[-1] <= 4 * n:
            gram = np.swapaxes(self.noise, -1, -2) @ self.noise
            most = np.abs(gram).sum(axis=(-1, -2)) * _SLACK + gamma(n + 2) * squared
        if self.balls is not None:
            most = (np.sqrt(most) + _norms(self.balls)) ** 2 * _SLACK + gamma(n + 4) * squared
        blurred = (2 * (self.radius * size).sum(axis=-1) + (self.radius * self.radius).sum(axis=-1)) * _SLACK
        rounding = gamma(n + 8) * (4 * (size * size).sum(axis=-1) / n + plus + most / n)
        radius = (most / (2 * n) + blurred / n + rounding + _TINY) * _SLACK
        centre = ((self.centre * self.centre).sum(axis=-1) + most / 2) / n + plus
        linear = (2 / n) * (self.centre[..., None, :] @ self.noise)[..., 0, :]
        least = (np.maximum(np.abs(self.centre) - inside, 0) ** 2).sum(axis=-1) / n * (1 - 2.0**-30)
        balls = None if self.balls is None else (2 / n) * np.einsum("...n,...nbm->...bm", self.centre, self.balls)
        return Scalar(centre, linear, radius, least + plus * (1 - 2e-15), balls)

    def times(self, factor: Scalar) -> Affine:
        """Return the product with a number: new symbols for the number's rest, and for each product of noises."""
        k = max(self.noise.shape[-1], factor.noise.shape[-1])
        own, others = _widened(self.noise, k), _widened(factor.noise[..., None, :], k)
        by, moved = np.asarray(factor.centre)[..., None], factor.reach[..., None]
        rest = np.asarray(factor.radius)[..., None]
        noise = np.concatenate(
            [by[..., None] * own + self.centre[..., None] * others, (self.centre * rest)[..., None],
             self.noise * moved[..., None]], axis=-1
        )  # fmt: skip
        size = (np.abs(self.centre) + self.spread) * (np.abs(by) + moved)
        radius = self.radius * (np.abs(by) + moved) + gamma(8) * size + _TINY
        balls = None if self.balls is None else by[..., None, None] * self.balls
        if factor.balls is not None:
            balls = _added(balls, self.centre[..., None, None] * factor.balls[..., None, :, :])
        if self.balls is not None and balls is not None:
            # a ball times the rest of the number is a ball of its own
            balls = np.concatenate([balls, self.balls * moved[..., None, None]], axis=-2)
        return Affine(self.centre * by, noise, radius * _SLACK, balls)

    def activated(self, kind: Activation) -> Affine:
        """Return the activation of every coordinate: a line each, and a symbol each for the distance from it."""
        reach = self.reach
        low, high = self.centre - reach, self.centre + reach
        low, high = low - gamma(2) * np.abs(low), high + gamma(2) * np.abs(high)
        slopes, middle, radius = _line(kind, low, high)
        centre = slopes * self.centre + middle
        n = centre.shape[-1]
        live = (radius > 0).reshape(-1, n).any(axis=0)
        noise = np.concatenate([slopes[..., None] * self.noise, radius[..., None] * np.eye(n)[:, live]], axis=-1)
        size = np.abs(slopes) * (np.abs(self.centre) + self.spread) + np.abs(middle)
        slip = np.abs(slopes) * self.radius + gamma(4) * size + _TINY
        balls = None if self.balls is None else slopes[..., None, None] * self.balls
        return Affine(centre, noise, np.asarray(slip * _SLACK), balls)

    def trimmed(self, n_kept: int, share: float) -> Affine:
        """Return one form with the least symbols beyond the first ``n_kept`` folded into the radius: those that add up
        to at most a share of the whole."""
        weights = np.abs(self.noise).sum(axis=0)
        weights[:n_kept] = np.inf
        order = np.argsort(weights, kind="stable")
        small = order[np.cumsum(weights[order]) <= share * np.abs(self.noise).sum()]
        if not len(small):
            return self
        kept = np.ones(self.noise.shape[1], dtype=np.bool_)
        kept[small] = False
        radius = (self.radius + np.abs(self.noise[:, small]).sum(axis=1)) * _SLACK
        return Affine(self.centre, self.noise[:, kept], radius, self.balls)

    def folded(self, n_kept: int) -> Affine:
        """Return the forms with all symbols beyond the first ``n_kept`` in the radius."""
        radius = (self.radius + np.abs(self.noise[..., n_kept:]).sum(axis=-1)) * _SLACK
        return Affine(self.centre, self.noise[..., :n_kept], radius, self.balls)

    def compacted(self, n_kept: int) -> Affine:
        """Return the forms with their largest symbols only, the largest first; the others are in the radius."""
        if self.noise.shape[-1] <= n_kept:
            return self
        order = np.argsort(-(self.noise * self.noise).sum(axis=-2), axis=-1, kind="stable")
        noise = np.take_along_axis(self.noise, order[..., None, :], axis=-1)
        return Affine(self.centre, noise, self.radius, self.balls).folded(n_kept)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, or an array of them: ``|x - centre - noise @ e| <= radius``, and at least ``least``.

    Shapes: ``noise`` [..., symbol], ``balls`` [..., ball, m], the others [...].
    """

    centre: Floats
    noise: Floats
    radius: Floats
    least: Floats
    balls: Floats | None = None

    @property
    def reach(self) -> Floats:
        """A bound of the distance from the centre."""
        return np.asarray((np.abs(self.noise).sum(axis=-1) + _lengths(self.balls) + self.radius) * _SLACK)

    def inverse_root(self) -> Scalar:
        """Return x^-1/2 of a positive number: the chord's slope, and the distance from it in the radius.

        Ensures: infinite radius where the number is not known to be positive.
        """
        reach = self.reach
        low = np.maximum((self.centre - reach) * (1 - 1e-15) - _TINY, self.least)
        high = (self.centre + reach) * (1 + 1e-15) + _TINY
        is_known = (low > 0) & np.isfinite(high)
        low = np.where(is_known, low, 1.0)
        high = np.where(is_known, np.maximum(high, low), 1.0)
        first, last = 1 / np.sqrt(low), 1 / np.sqrt(high)
        # any slope is sound; the chord's, in a form without cancellation, is the best
        line = -first * last / (np.sqrt(low) + np.sqrt(high))
        touch = np.minimum(np.maximum((-2 * line) ** (-2 / 3), low), high)
        top = np.maximum(first - line * low, last - line * high)
        bottom = touch**-0.5 - line * touch
        rounding = 64 * _UNIT * (first + np.abs(line) * high)
        middle, half = (top + bottom) / 2, np.abs(top - bottom) / 2
        slip = np.abs(line) * self.radius + gamma(4) * (np.abs(line) * (np.abs(self.centre) + reach))
        radius = np.where(is_known, (half + rounding + slip) * _SLACK, np.inf)
        line = np.where(is_known, line, 0.0)
        centre = np.where(is_known, line * np.where(is_known, self.centre, 0.0) + middle, 0.0)
        noise = np.where(is_known[..., None], line[..., None] * self.noise, 0.0)
        balls = None
        if self.balls is not None:
            balls = np.where(is_known[..., None, None], line[..., None, None] * self.balls, 0.0)
        return Scalar(centre, noise, radius, np.full_like(centre, -np.inf), balls)


def _mean(x: Floats) -> Floats:
    return np.asarray(x.mean(axis=-1, keepdims=True))


def _lengths(balls: Floats | None) -> Floats:
    """Return how far balls move each coordinate, together. Shapes: [..., n, ball, m]; [..., n]."""
    return np.zeros(()) if balls is None else np.asarray(np.sqrt((balls * balls).sum(axis=-1)).sum(axis=-1) * _SLACK)


def _norms(balls: Floats) -> Floats:
    """Return a bound of the norm of what balls add. Shapes: [..., n, ball, m]; [...]."""
    each = np.moveaxis(balls, -2, 0)
    frobenius = (each * each).sum(axis=(-1, -2))
    gram = np.abs(np.swapaxes(each, -1, -2) @ each).sum(axis=-1).max(axis=-1)
    # a symmetric matrix's norm is at most its largest absolute row sum
    squares = np.minimum(frobenius, gram + gamma(balls.shape[-3] + 2) * balls.shape[-1] * frobenius) * _SLACK
    return np.asarray(np.sqrt(squares).sum(axis=0) * _SLACK)


def _added(left: Floats | None, right: Floats | None) -> Floats | None:
    """Return the sum of balls, the shorter list of them the beginning of the longer one."""
    if left is None or right is None:
        return right if left is None else left
    if left.shape[-2] > right.shape[-2]:
        left, right = right, left
    more = np.zeros((*left.shape[:-2], right.shape[-2] - left.shape[-2], left.shape[-1]))
    return np.asarray(right + np.concatenate([left, more], axis=-2))


def _widened(noise: Floats, n_symbols: int) -> Floats:
    """Return noise with columns of zeros added."""
    k = noise.shape[-1]
    return noise if k == n_symbols else np.concatenate([noise, np.zeros((*noise.shape[:-1], n_symbols - k))], axis=-1)


def _line(kind: Activation, low: Floats, high: Floats) -> tuple[Floats, Floats, Floats]:
    """Return slopes, shifts and radii with |f(x) - slope x - shift| <= radius for x between low and high."""
    width = high - low
    steps = np.linspace(0.0, 1.0, _POINTS).reshape(-1, *[1] * low.ndim)
    points = low + width * steps
    points[-1] = high
    values = activate(kind, points.copy())
    size = np.abs(points).max(axis=0)
    safe = np.where(width > 0, width, 1.0)
    chord = np.where(width > 1e-6 * size, (values[-1] - values[0]) / safe, 0.0)
    is_wide = width > 1e-6 * size
    if kind == "relu":
        candidates = [np.where(is_wide, chord, np.where(low > 0, 1.0, 0.0))]
    else:
        tangent = slope(kind, points[_POINTS // 2])
        candidates = [np.where(is_wide, chord, tangent), tangent]
    found: list[tuple[Floats, Floats, Floats]] = []
    for line in candidates:
        # evaluating costs ROUNDINGS u |x|, and each point may be off its place by a rounding, f is 1.13-Lipschitz
        noise = (ROUNDINGS[kind] + 8) * 2 * _UNIT * size * (1 + np.abs(line)) + _TINY
        gap = _gap(kind, width, size) + noise
        rest = values - line * points
        top, bottom = rest.max(axis=0), rest.min(axis=0)
        if kind == "relu":
            top, bottom = np.maximum(rest[0], rest[-1]), np.minimum(rest[0], rest[-1])
            bottom = np.where((low < 0) & (high > 0), np.minimum(bottom, 0.0), bottom)
        found.append((line, (top + bottom) / 2, ((top - bottom) / 2 + gap) * _SLACK))
    first, last = found[0], found[-1]
    better = first[2] <= last[2]
    slopes, middle, radius = (np.where(better, a, b) for a, b in zip(first, last, strict=True))
    return slopes, middle, radius


def _gap(kind: Activation, width: Floats, size: Floats) -> Floats:
    """Return how far a curved activation leaves its chords between the points; relu is exact at its ends and 0."""
    if kind == "relu":
        return np.zeros_like(width)
    step = width / (_POINTS - 1) * (1 + 1e-9) + 8 * _UNIT * size
    return np.asarray(CURVATURES[kind] * step * step / 8)
