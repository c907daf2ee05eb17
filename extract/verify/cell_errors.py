"""How far an arithmetic's attention in the first layer can be from the real one, key by key and entry by entry.

What a first layer attends to are (position, token) cells whose activations are known. The error of a score counts by
the weight of its key, which the caller knows over its inputs; here is what each key costs. An error common to all
coordinates of a normalised vector (of its deviation, of its mean) moves a score by what it does to the whole vector.
It refuses to know which inputs are read.

With u the unit roundoff, c = x - mean, s the deviation and z = c / s: a computed z is
z (1 + a) - b + r, where |a| <= ``scale``, b is one number of at most ``shift`` for all coordinates, |r| <= ``rest``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.network import Norm
from extract.verify.rounding import Arithmetic, gamma, welford
from extract.verify.stages import Stages

Floats = NDArray[np.float64]

#: Covers the rounding of these bounds, and of the activations they are computed from beside their own known errors.
_WIDER = 1 + 2.0**-10
#: Rounding of our own products, relative to the sums of their absolute terms.
_OWN = 2.0**-40


class Keys(NamedTuple):
    """What every key costs one query, by head. Shapes: [head, variant, cell].

    ``moved`` bounds the error of a weight relative to itself; ``costs`` what that and the error of its value add to the
    error of the heads' mean, after the output matrix, per unit of weight; ``apart`` [head, cell] the distance of the
    values from one vector there.
    """

    moved: Floats
    costs: Floats
    apart: Floats


class _Normed(NamedTuple):
    """Normalised vectors [cell, d_model] and bounds of their errors. Shapes: ``scale``, ``shift`` [cell]; ``rest``,
    ``size`` [cell, d_model], the latter of computed vectors' entries."""

    z: Floats
    scale: Floats
    shift: Floats
    rest: Floats
    size: Floats


class _Side(NamedTuple):
    """Queries, keys or values [head, cell, d_head], about; ``bare`` without their shift. ``matrix`` [head, d_model,
    d_head] makes them; ``local`` [head, cell, d_head] bounds their own rounding, ``error`` all of theirs, ``off`` what
    our own are off by, in norm."""

    made: Floats
    bare: Floats
    matrix: Floats
    local: Floats
    error: Floats
    off: float


class CellErrors:
    """The errors of one arithmetic in the first layer of a network, for some cells.

    ``rows`` [d_model, cell] are the sums of embeddings, exact but for float64; ``own`` are our own errors of queries,
    keys and values there.
    """

    def __init__(self, stages: Stages, rows: Floats, own: tuple[float, float, float], arithmetic: Arithmetic) -> None:
        self.stages, self.a = stages, arithmetic
        self._x = rows.T.astype(np.float64)
        layer, self._u = stages.network.layers[0], arithmetic.unit
        self._d, self._k = self._x.shape[1], stages.d_head
        self._normed = self._normalised(layer.norm_attention)
        sides = ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
        self._query, self._key, self._value = (
            self._side(layer.norm_attention, weights.astype(np.float64), bias.astype(np.float64), off)
            for (weights, bias), off in zip(sides, own, strict=True)
        )
        self._out, self._b_out = layer.W_O.astype(np.float64), np.abs(layer.b_O).astype(np.float64)

    def _normalised(self, norm: Norm | None) -> _Normed:
        """Return the normalised vectors and what is known of computed ones, as the head of this file says.

        With e the mean's error and r the rounding of entries (``single``), c - e + r is divided by a deviation
        s sqrt(1 + t): 1 + a = (1 + t)^-1/2 and b = (1 + a) e / s. Beside relative roundings t is at most
        2 p / s + (p / s)^2, where p is what the root of the mean square is off by: of r, and half of what Welford's
        update loses; in centred values e adds in second order only.
        """
        x, u, tiny, d = self._x, self._u, self.a.tiny, self._d
        size = np.abs(x) * _WIDER
        if norm is None:
            rest = u * size + tiny
            return _Normed(x, np.zeros(len(x)), np.zeros(len(x)), rest, size + rest)
        centre = x.mean(axis=1)
        c = x - centre[:, None]
        eps = self.stages.architecture.norm_eps
        whole = np.sqrt((size * size).sum(axis=1)) * _WIDER
        deviation = np.sqrt((c * c).mean(axis=1) + eps)
        # what our own sums are off by is taken off the deviation: a bound of the real one from below
        s = deviation * (1 - _OWN) - 4 * gamma(d + 8, 2.0**-53) * whole / math.sqrt(d)
        s = np.maximum(s, self.stages.analysis.weights.least_deviation * (1 - _OWN))
        means, squares = welford(d)
        with np.errstate(all="ignore"):
            # a mean of any order, d roundings, or Welford's; and of what was read
            mean = gamma(max(d, means) + 4, u) * size.mean(axis=1) + 2 * u * size.mean(axis=1) + 4 * tiny
            # x read once, less a mean of at most |centre| + mean
            single = 5 * u * (size + np.abs(centre)[:, None] + mean[:, None]) + 4 * tiny
            part = np.sqrt((single * single).mean(axis=1))
            root = (part + gamma(squares + 4, u) / 2 * whole / math.sqrt(d)) / s
            moved = 2 * root + np.maximum(root, (mean + part) / s) ** 2
            relative = gamma(d + 16, u) + 2 * tiny / (s * s)
            spread = relative + (1 + relative) * moved
            scale = np.where(spread < 0.5, spread / (2 * (1 - spread)), np.inf) * _WIDER
            z = c / deviation[:, None]
            far = np.abs(z) + ((mean[:, None] + single) / s[:, None])
            rest = (single / s[:, None] + 4 * u * far) * (1 + scale[:, None]) + tiny
            shift = mean / s * (1 + scale) * _WIDER
            grown = np.abs(z) * (1 + scale[:, None]) + shift[:, None] + rest
        return _Normed(z, scale, shift, rest * _WIDER, grown * _WIDER)

    def _side(self, norm: Norm | None, weights: Floats, bias: Floats, off: float) -> _Side:
        """Return one side; a gain is applied to z or multiplied into the matrix, at one more rounding of each entry."""
        plain, shift, normed = weights, bias[:, None], self._normed
        matrix, moved, sizes = plain, shift, np.abs(shift)
        if norm is not None:
            gain, offset = norm.weight.astype(np.float64), norm.bias.astype(np.float64)
            matrix = plain * gain[:, None]
            moved, sizes = shift + (offset @ plain)[:, None], sizes + (np.abs(offset) @ np.abs(plain))[:, None]
        bare = normed.z @ matrix
        absolute = np.abs(matrix)
        # products that underflow, of z and gain as well as of either with the matrix
        lost = self._d * self.a.tiny * (2 + normed.size.max(axis=1) + np.abs(plain).max(initial=0.0))[:, None]
        made, size = bare + moved, normed.size @ absolute + sizes
        with np.errstate(all="ignore"):
            carried = normed.scale[:, None] * (np.abs(bare) + off) + normed.rest @ absolute
            carried = carried + normed.shift[:, None] * np.abs(matrix.sum(axis=1))[:, None]
            # what is summed are products of computed z: their sum is off by what z carries
            local = _summed(self._d + 1, self._u, size, np.abs(made) + off + carried) + 4 * self._u * size + lost
            local = local * _WIDER + gamma(self._d + 4, self._u) * (sizes - np.abs(shift))
        return _Side(made, bare, matrix, local, (carried + local) * _WIDER, off)

    def keys(self, variants: NDArray[np.intp], cells: NDArray[np.intp], n_keys: int) -> Keys:
        """Return what every one of some cells costs each query of some others, of at most ``n_keys`` keys."""
        query, key, u = _some(self._query, variants), _some(self._key, cells), self._u
        scale = abs(self.stages.scales[0])
        with np.errstate(all="ignore"):
            off = self._moved(query, key, variants) + self._moved(key, query, cells).swapaxes(1, 2)
            off = off + query.error @ key.error.swapaxes(1, 2)
            size = scale * ((np.abs(query.made) + query.error + query.off)
                            @ (np.abs(key.made) + key.error + key.off).swapaxes(1, 2))  # fmt: skip
            about = scale * (np.abs(query.made @ key.made.swapaxes(1, 2)) + off) + gamma(self._k + 4, u) * size
            top = np.minimum(size, about * _WIDER).max(axis=2, keepdims=True)
            moved = scale * off + gamma(self._k + 4, u) * size + 4 * u * top + (3 + n_keys / 16) * 8 * u
            moved = (moved + self._k * self.a.tiny * (1 + scale)) * _WIDER
            is_known = max(float(size.max()), float(np.abs(self._x).max())) < self.a.large
            moved = np.where((moved < 0.5) & is_known, np.expm1(np.minimum(moved, 0.5)), np.inf)
            apart, error = self._values(cells)
            costs = (moved * apart[:, None] + (1 + moved) * error[:, None]) * _WIDER
        return Keys(moved, np.where(np.isfinite(costs), costs, np.inf), apart)

    def _moved(self, one: _Side, other: _Side, cells: NDArray[np.intp]) -> Floats:
        """Return how far the error of one side moves the products with the other. Shape: [head, one's, other's]."""
        normed, turned = self._normed, other.made.swapaxes(1, 2)
        off = other.off * _length(one.bare).max() + one.off * (_length(other.made).max() + other.off)
        reached = one.matrix @ turned  # [head, d_model, other's]
        own = _OWN * (np.abs(one.matrix) @ np.abs(turned))
        whole = np.sqrt((one.matrix * one.matrix).sum(axis=(1, 2)))[:, None, None] * other.off
        by_scale = np.abs(one.bare @ turned) + _OWN * (np.abs(one.bare) @ np.abs(turned)) + 2 * off
        by_shift = np.abs(reached.sum(axis=1)) + own.sum(axis=1) + whole[:, 0] * math.sqrt(self._d)
        moved = normed.scale[cells][:, None] * by_scale + normed.shift[cells][:, None] * by_shift[:, None]
        moved = moved + normed.rest[cells] @ (np.abs(reached) + own + whole)
        return np.asarray(moved + one.local @ (np.abs(turned) + other.off))

    def _values(self, cells: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return how far values after the output matrix are from one vector, and their errors. Shapes: [head, cell]."""
        value, normed, out = _some(self._value, cells), self._normed, self._out
        mixed = value.made @ out
        away = mixed - (mixed.max(axis=1, keepdims=True) + mixed.min(axis=1, keepdims=True)) / 2
        norm = np.sqrt((out * out).sum(axis=(1, 2)))[:, None]
        own = norm * value.off + _OWN * _length(np.abs(value.made) @ np.abs(out))
        apart = _length(away) + own
        joint = value.matrix @ out
        error = normed.scale[cells] * (_length(value.bare @ out) + own)
        error = error + normed.shift[cells] * _length(joint.sum(axis=1))[:, None]
        by_norm = _length(normed.rest[cells]) * np.sqrt((joint * joint).sum(axis=(1, 2)))[:, None]
        error = error + np.minimum(by_norm, _length(normed.rest[cells] @ np.abs(joint)))
        return apart * _WIDER, (error + _length(value.local @ np.abs(out))) * _WIDER

    def rounded(self, cells: NDArray[np.intp], n_keys: int) -> float:
        """Bound the rounding of the weighted means of some cells' values and of the output matrix, all heads
        together.

        Computed shares add up to at most 1 + ``relative``, so that absolute terms, and their sums before rounding, are
        so many times the largest of any one key's at most; the rounding of means is ``relative`` to absolute terms.
        """
        value, absolute = _some(self._value, cells), np.abs(self._out)
        relative = gamma(2 * n_keys + 8, self._u) + n_keys * self.a.tiny / self._u + 4 * self._u
        off = (value.error + value.off) @ absolute
        sizes = (np.abs(value.made) @ absolute + off).max(axis=1).sum(axis=0) * (1 + relative) + self._b_out
        made = (np.abs(value.made @ self._out) + off).max(axis=1).sum(axis=0) * (1 + relative) + self._b_out
        n, size = len(self._out) * self._k, float(_length(sizes))
        is_known = relative < 0.5 and max(size, float(np.abs(value.made).max())) < self.a.large
        summed = float(_length(_summed(n + 1, self._u, sizes, made + relative * sizes)))
        lost = self.a.tiny * (n * self._d * (1 + size) + n_keys * float(absolute.sum()))
        return (relative * size + summed) * _WIDER + lost if is_known else math.inf


def of_means(moved: Floats, costs: Floats, apart: Floats) -> Floats:
    """Return the error of the heads' sum, of bounds of what keys cost on average under the real weights of each head.

    Shapes: [head, ...]; answer [...].
    """
    with np.errstate(all="ignore"):
        # weights w (1 + m) over their sum, of values v about v0: the mean of v moves by that of m (v - v0), less the
        # mean of m times that of v - v0, over 1 + the mean of m
        heads = np.where(moved < 0.5, (costs + moved * apart) / (1 - moved), np.inf)
        found = heads.sum(axis=0) * _WIDER
    return np.asarray(np.where(np.isfinite(found), found, np.inf))


def _summed(n: int, u: float, size: Floats, made: Floats) -> Floats:
    """Bound the rounding of sums of n terms in any order, from their sums of absolute values and of values.

    Each of the n - 1 additions rounds a sum over some terms, which is at most that of the positive ones or of the
    negative ones: half of the one sum and of the other.
    """
    return np.asarray(n * u * ((size + np.minimum(made, size)) / 2 + gamma(n + 8, u) * size))


def _some(side: _Side, cells: NDArray[np.intp]) -> _Side:
    """Return some cells of a side."""
    made, bare, local, error = (part[:, cells] for part in (side.made, side.bare, side.local, side.error))
    return _Side(made, bare, side.matrix, local, error, side.off)


def _length(x: Floats) -> Floats:
    return np.asarray(np.sqrt((x * x).sum(axis=-1)))
