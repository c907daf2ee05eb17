"""The checker's own bounds of a network after its one attention layer: forms with noise symbols, rounded outwards.

A form (centre, noise, radius) holds all x with |x - centre - noise @ e| <= radius for an e in [-1, 1]^k. Every step
returns a form that holds the real function of all that its argument holds, its own rounding added to the radius.
Balls beside are matrices applied to vectors of norm at most 1, each to its own, and added.
"""

from __future__ import annotations

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
    """Shapes: ``centre``, ``radius`` [..., n], ``noise`` [..., n, symbol]; leading axes hold forms side by side.
    ``balls`` [ball, n, m] are for one form alone, None if there are none."""

    centre: Floats
    noise: Floats
    radius: Floats
    balls: Floats | None = None

    def reach(self) -> Floats:
        """Return how far each coordinate can be from its centre."""
        far = np.abs(self.noise).sum(axis=-1) + self.radius
        return np.asarray((far if self.balls is None else far + np.linalg.norm(self.balls, axis=2).sum(axis=0)) * _UP)

    def some(self, which: Any) -> Form:
        """Return some of the forms that stand side by side, or of their coordinates."""
        if self.balls is not None:
            raise ValueError("forms side by side have no balls")
        return Form(self.centre[which], self.noise[which], self.radius[which])

    def folded(self, n: int) -> Form:
        """Return the form with all symbols but the n largest in the radius."""
        order = np.argsort(-(self.noise**2).sum(axis=-2), axis=-1, kind="stable")[..., None, :]
        noise = np.take_along_axis(self.noise, order, axis=-1)
        radius = (self.radius + np.abs(noise[..., n:]).sum(axis=-1)) * _UP
        return Form(self.centre, noise[..., :n], radius, self.balls)


def _gamma(n: int) -> float:
    return 1.01 * n * DOUBLE


def linear(x: Form, matrix: Floats, shift: Floats, sizes: Floats, slips: Floats) -> Form:
    """Return ``matrix @ x + shift``; ``sizes`` bound what each entry was computed from, ``slips`` the shift's error."""
    whole = (np.abs(x.centre) + x.reach()) @ sizes.T
    radius = x.radius @ np.abs(matrix).T + slips + _gamma(matrix.shape[1] + 12) * (whole + np.abs(shift)) + _TINY
    balls = None if x.balls is None else matrix @ x.balls
    return Form(x.centre @ matrix.T + shift, matrix @ x.noise, radius * _UP, balls)


def total(x: Form, y: Form) -> Form:
    """Return the sum; the symbols and balls of ``x`` are the first ones of ``y``."""
    noise, balls = y.noise.copy(), x.balls if y.balls is None else y.balls.copy()
    if balls is not None and x.balls is not None and y.balls is not None:
        balls[: len(x.balls)] += x.balls
    noise[..., : x.noise.shape[-1]] += x.noise
    size = np.abs(x.centre) + np.abs(y.centre) + x.reach() + y.reach()
    return Form(x.centre + y.centre, noise, (x.radius + y.radius + _gamma(2) * size) * _UP, balls)


def _mean(x: Floats) -> Floats:
    return np.asarray(x.mean(axis=-1, keepdims=True))


def centred(x: Form) -> Form:
    """Return the form less its coordinates' mean."""
    size = np.abs(x.centre) + x.reach()
    radius = x.radius + _mean(x.radius) + _gamma(x.centre.shape[-1] + 6) * (size + _mean(size))
    balls = None if x.balls is None else x.balls - x.balls.mean(axis=1, keepdims=True)
    return Form(x.centre - _mean(x.centre), x.noise - x.noise.mean(axis=-2, keepdims=True), radius * _UP, balls)


def inverse_deviation(x: Form, eps: float) -> Form:
    """Return (mean square of the coordinates + eps) ^ -1/2 as a form of one coordinate, of the same symbols."""
    n, size = x.centre.shape[-1], np.abs(x.centre) + x.reach()
    spread = np.abs(x.noise).sum(axis=-1)
    # |noise @ e|^2 lies between 0 and this
    most = (spread * spread).sum(axis=-1) * _UP
    if x.noise.shape[-1] <= 4 * n:
        gram = np.abs(np.swapaxes(x.noise, -1, -2) @ x.noise).sum(axis=(-1, -2))
        most = np.minimum(most, gram * _UP + _gamma(n + 4) * most)
    if x.balls is not None:
        # the norm of a matrix is at most its Frobenius norm, and the root of the largest row sum of its Gram matrix,
        # whose entries are off by less than whole * gamma(n + 4); |noise @ e + balls| is at most the sum of the norms
        whole = (x.balls**2).sum(axis=(1, 2)) * _UP
        grams = np.abs(x.balls.swapaxes(1, 2) @ x.balls).sum(axis=2).max(axis=1)
        grams = grams + _gamma(n + 4) * x.balls.shape[2] * whole
        most = (np.sqrt(most) + np.sqrt(np.minimum(whole, grams) * _UP).sum()) ** 2 * _UP
    middle = ((x.centre * x.centre).sum(axis=-1) + most / 2) / n + eps
    slopes = (2 / n) * (x.centre[..., None, :] @ x.noise)
    error = (most / 2 + 2 * (x.radius * size).sum(axis=-1) + (x.radius * x.radius).sum(axis=-1)) / n * _UP
    error = error + _gamma(n + 12) * (4 * (size * size).sum(axis=-1) / n + eps + most / n) + _TINY
    turned = None if x.balls is None else (2 / n) * (x.centre @ x.balls)
    away = 0.0 if turned is None else np.linalg.norm(turned, axis=1).sum()
    reach = (np.abs(slopes).sum(axis=(-1, -2)) + away + error) * _UP
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
    return Form(centre[..., None], noise, radius[..., None], None if turned is None else (slope * turned)[:, None])


def product(x: Form, factor: Form) -> Form:
    """Return x times a form of one coordinate, whose symbols are among those of x: one new symbol for what is left of
    the factor, and one for each symbol of x for the product of noises."""
    f, rest = factor.centre, factor.reach()
    first = f[..., None] * x.noise
    first[..., : factor.noise.shape[-1]] += x.centre[..., None] * factor.noise
    noise = np.concatenate([first, (x.centre * factor.radius)[..., None], x.noise * rest[..., None]], axis=-1)
    size = (np.abs(x.centre) + x.reach()) * (np.abs(f) + rest)
    radius = x.radius * (np.abs(f) + rest) + _gamma(12) * size + _TINY
    balls = x.balls
    if balls is not None:  # a ball times the factor's rest is a ball of its own; the factor's are those of x
        first = f[..., None] * balls + (0.0 if factor.balls is None else x.centre[:, None] * factor.balls)
        balls = np.concatenate([first, balls * rest[..., None]])
    elif factor.balls is not None:
        raise ValueError("a factor's balls are those of what it multiplies")
    return Form(x.centre * f, noise, radius * _UP, balls)


def normalised(x: Form, eps: float) -> tuple[Form, Form]:
    """Return a layer norm before its gain and shift, and one over the deviation."""
    z = centred(x)
    inverse = inverse_deviation(z, eps)
    return product(z, inverse), inverse


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
    balls = None if x.balls is None else slope[:, None] * x.balls
    return Form(slope * x.centre + (top + bottom) / 2, noise, radius * _UP, balls)


class Steps(NamedTuple):
    """One over the deviation, normalised vectors, hidden units before and after the activation (None where there is no
    such step), and the residual vectors after all."""

    inverse: Form | None
    z: Form | None
    hidden: Form | None
    active: Form | None
    after: Form


class Mlp:
    """One layer's norm and MLP, added to the residual vectors they are of."""

    def __init__(self, forward: Forward, layer: int) -> None:
        weights = forward.weights
        one, d = weights.layers[layer], len(weights.W_U)
        self.forward, self.eps, self.is_there = forward, weights.norm_eps, one.W_in.shape[1] > 0
        self.into = after_norm(gain_of(one.norm_mlp, d), one.W_in, np.abs(one.W_in), one.b_in)
        self.out = (one.W_out.T, one.b_out, np.abs(one.W_out).T, np.zeros(len(one.b_out)))

    def after(self, x: Form) -> Steps:
        """Return what the MLP makes of residual vectors, the symbols of ``x`` first."""
        if not self.is_there:
            return Steps(None, None, None, None, x)
        z, inverse = normalised(x, self.eps) if self.eps > 0 else (x, None)
        hidden = linear(z, *self.into)
        active = activated(hidden, self.forward)
        return Steps(inverse, z, hidden, active, total(x, linear(active, *self.out)))


def after_norm(
    norm: tuple[Floats, Floats], weight: Floats, sizes: Floats, shift: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the matrix, shift, sizes and shift's error of a map after a layer norm's gain and shift."""
    gain, offset = norm
    slips = _gamma(len(weight) + 8) * (np.abs(offset) @ sizes + 2 * np.abs(shift))
    return (weight * gain[:, None]).T, offset @ weight + shift, (sizes * np.abs(gain)[:, None]).T, slips
