"""A second layer's attention at the read position, ranged over the strings that end in each memory state.

Every position's key and value is an affine form per memory state, so that its score and its value lie in intervals;
with these the output is again a quotient of sums over the path. The query's own uncertainty widens the scores about
a reference key, which the softmax does not see. It refuses to know how the first layer was bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from extract.network import Array, Network
from extract.verify.affine import Affine, Floats, Map, gamma
from extract.verify.context import Context, Indices
from extract.verify.final_stage import folded_map
from extract.verify.quotients import Quotients

_SLACK = 1 + 2.0**-30
#: Relative error of a weight: of exp at arguments to -700, and of their difference.
_WEIGHT_ERROR = 2.0**-40
_UNDERFLOW = 1e-300
#: Passes that tighten the wide quotients after the first, and the share of the widest from which one is wide.
_PASSES, _WIDE = 6, 0.08
#: Cells of one array of terms, about.
_TERMS = 1 << 21


@dataclass(frozen=True, slots=True)
class Projected:
    """Keys and values [state, head * d_head] of one position, in the states at its depth."""

    key: Affine
    value: Affine


class SecondLayer:
    """The second layer's attention of one network."""

    def __init__(self, network: Network) -> None:
        layer, a = network.layers[1], network.architecture
        self.n_heads, self.d_head, self.scale = a.n_heads, a.d_head, float(a.attention_scale[1])

        def joined(weights: Array, bias: Array) -> Map:
            flat = weights.transpose(1, 0, 2).reshape(a.d_model, -1)
            return folded_map(layer.norm_attention, flat, bias.reshape(-1))

        self._query, self._key = joined(layer.W_Q, layer.b_Q), joined(layer.W_K, layer.b_K)
        self._value = joined(layer.W_V, layer.b_V)
        self._out = folded_map(None, layer.W_O.reshape(-1, a.d_model), layer.b_O)

    def projected(self, z: Affine, n_symbols: int) -> Projected:
        """Return keys and values of normalised vectors, with so many symbols kept."""
        return Projected(z.mapped(self._key).folded(n_symbols), z.mapped(self._value).folded(n_symbols))

    def attention(self, visits: list[Floats], depths: list[int], parts: list[Projected], z: Affine) -> Floats:
        """Return about what share of the read position's attention each position gets, by the forms' centres.

        Shapes: ``visits`` [state] are the shares of the strings that pass each state of a depth; answer [position].
        """
        query = z.mapped(self._query).centre
        query = (visits[-1] @ query).reshape(self.n_heads, self.d_head)
        rows = []
        for depth, part in zip(depths, parts, strict=True):
            keys = part.key.centre.reshape(-1, self.n_heads, self.d_head)
            scores = self.scale * np.einsum("hd,shd->sh", query, keys)
            rows.append(np.log(visits[depth] @ np.exp(np.clip(scores, -300.0, 300.0))))
        shares = np.exp(rows - np.max(rows, axis=0))
        return np.asarray((shares / shares.sum(axis=0)).mean(axis=1))

    def attended(self, context: Context, depths: list[int], parts: list[Projected], x: Affine, z: Affine) -> Affine:
        """Return the residual vectors after the attention in each last state.

        ``x`` [last state, d_model] are those before it at the read position, ``z`` the same normalised; ``parts`` are
        the positions' up to that one, ``depths`` how many letters each has seen. The new symbols come after those of
        ``x``.
        """
        n_symbols = x.noise.shape[2]
        query = z.mapped(self._query).folded(parts[0].key.noise.shape[2])
        size = max(1, _TERMS // (2 * self.d_head * max(len(part.key.centre) for part in parts)))
        found = []
        for first in range(0, len(x.centre), size):
            some = np.arange(first, min(first + size, len(x.centre)))
            outputs = [self._head(h, context, depths, parts, query[some], some) for h in range(self.n_heads)]
            found.append(self._mixed(outputs, n_symbols))
        joined = Affine(*(np.concatenate(part) for part in zip(*((f.centre, f.noise, f.radius) for f in found),
                                                               strict=True)))  # fmt: skip
        return x.plus(joined)

    def _mixed(self, outputs: list[Affine], n_symbols: int) -> Affine:
        """Return the heads' outputs, each with symbols of its own, through the output matrix."""
        n, k = outputs[0].centre.shape
        noise = np.zeros((n, k * len(outputs), n_symbols + k * len(outputs)))
        for h, part in enumerate(outputs):
            noise[:, h * k : (h + 1) * k, n_symbols + h * k : n_symbols + (h + 1) * k] = part.noise
        centre = np.concatenate([part.centre for part in outputs], axis=1)
        return Affine(centre, noise, np.concatenate([part.radius for part in outputs], axis=1)).mapped(self._out)

    def _head(
        self, h: int, context: Context, depths: list[int], parts: list[Projected], query: Affine, ends: Indices
    ) -> Affine:
        """Return one head's outputs [end, d_head] in some last states."""
        own = np.s_[:, h * self.d_head : (h + 1) * self.d_head]
        keys, values = [part.key[own] for part in parts], [part.value[own] for part in parts]
        low, high = self._scores(query[own], keys)
        top = np.max([part.max(axis=1) for part in high], axis=0)[:, None]
        least_weight = [np.maximum(np.exp(s - top).T * (1 - _WEIGHT_ERROR) - _UNDERFLOW, 0.0) for s in low]
        most_weight = [np.exp(s - top).T * (1 + _WEIGHT_ERROR) + _UNDERFLOW for s in high]
        centre, axes, sides, slip = _sides(values)
        sums = _Sums(context, depths, ends, least_weight, most_weight, sides)
        reach = sums.quotients()
        m = self.d_head
        middle, half = (reach[:, :m] - reach[:, m:]) / 2, np.maximum((reach[:, :m] + reach[:, m:]) / 2, 0.0)
        half = half * (1 + 1e-15) + 1e-15 * np.abs(middle)
        size = np.abs(centre) + (np.abs(middle) + half) @ np.abs(axes).T
        radius = (slip + gamma(m + 6) * size) * _SLACK
        known = np.isfinite(half).all(axis=1, keepdims=True) & np.isfinite(middle).all(axis=1, keepdims=True)
        return Affine(
            np.where(known, centre + np.where(known, middle, 0.0) @ axes.T, 0.0),
            axes * np.where(known, half, 0.0)[:, None, :], np.where(known, radius, np.inf),
        )  # fmt: skip

    def _scores(self, query: Affine, keys: list[Affine]) -> tuple[list[Floats], list[Floats]]:
        """Return lower and upper bounds of every position's scores, less that of a reference key. Shape: [end,
        state]."""
        # any vector will do: it adds one number to all scores of a query
        reference = np.mean([key.centre.mean(axis=0) for key in keys], axis=0)
        n = self.d_head + query.noise.shape[2] + 12
        lows, highs = [], []
        for key in keys:
            apart = key.centre - reference
            slip = gamma(2) * (np.abs(key.centre) + np.abs(reference))
            far = np.abs(apart) + key.reach + slip
            by_key = np.abs(np.einsum("fd,sdk->fsk", query.centre, key.noise, optimize=True)).sum(axis=2)
            by_query = np.abs(np.einsum("fdk,sd->fsk", query.noise, apart, optimize=True)).sum(axis=2)
            middle = query.centre @ apart.T
            spread = by_key + by_query + query.radius @ np.abs(apart).T + np.abs(query.centre) @ (key.radius + slip).T
            spread = spread + query.reach @ (key.reach + slip).T
            spread = (spread + gamma(n) * ((np.abs(query.centre) + query.reach) @ far.T)) * _SLACK
            middle, spread = self.scale * middle, abs(self.scale) * spread
            spread = spread + gamma(4) * (np.abs(middle) + spread)
            lows.append(middle - spread)
            highs.append(middle + spread)
        return lows, highs


def _sides(values: list[Affine]) -> tuple[Floats, Floats, list[Floats], Floats]:
    """Return a centre [d_head] of all values, axes [d_head, axis] of their distances from it, the largest distances
    [state, 2 * axis] along these and against them, and what the axes leave of any [d_head]."""
    rows = np.concatenate([part.centre for part in values])
    rows = rows[np.isfinite(rows).all(axis=1)]
    centre = rows.mean(axis=0)
    padded = np.concatenate([rows - centre, np.zeros((len(centre), len(centre)))])
    axes = np.linalg.svd(padded, full_matrices=False)[2].T
    turned, n = np.abs(axes), len(centre)
    along = Map(axes.T, -(axes.T @ centre), turned.T, gamma(n + 2) * (turned.T @ np.abs(centre)))
    sides, far = [], np.zeros(n)
    for part in values:
        moved = part.mapped(along)
        reach = moved.reach + gamma(2) * (np.abs(moved.centre) + moved.reach)
        sides.append(np.concatenate([moved.centre + reach, reach - moved.centre], axis=1))
        far = np.maximum(far, (np.abs(part.centre - centre) + part.reach).max(axis=0))
    left = np.abs(np.eye(n) - axes @ axes.T) + gamma(n + 4) * (turned @ turned.T)
    return centre, axes, sides, (left @ far) * _SLACK


class _Sums:
    """The sums over paths of one head for some last states: weights between bounds [state, end] by position, values of
    at most ``sides`` [state, form]."""

    def __init__(
        self, context: Context, depths: list[int], ends: Indices, least: list[Floats], most: list[Floats],
        sides: list[Floats],
    ) -> None:  # fmt: skip
        self._context, self._depths, self._ends = context, depths, ends
        self._least_weight, self._most_weight, self._sides = least, most, sides
        self._n = len(depths)
        slack = gamma(self._n + 4)
        self._most = self._largest(lambda p: most[p][..., None])[:, 0] * (1 + slack)
        self._least = -self._largest(lambda p: -least[p][..., None])[:, 0] * (1 - slack)
        self._far = np.max([np.abs(part).max(axis=0) for part in sides], axis=0)

    def _largest(self, term: Callable[[int], Floats]) -> Floats:
        """Return for each end the largest sums on the way to it of terms [state, end, form]. Shape: [end, form]."""
        value, p = np.zeros((1, 1, 1)), 0
        for depth in range(len(self._context.keys)):
            if depth:
                value = self._context.advanced(depth - 1, value, None)
            while p < self._n and self._depths[p] == depth:
                value = value + term(p)
                p += 1
        return np.asarray(value[self._ends, np.arange(len(self._ends))])

    def _rest(self, t: Floats, forms: slice | Indices) -> Floats:
        """Return upper bounds of the largest sums of weight * (value - t). Shapes: t and answer [end, form]."""

        def term(p: int) -> Floats:
            apart = self._sides[p][:, None, forms] - t
            weight = np.where(apart > 0, self._most_weight[p][..., None], self._least_weight[p][..., None])
            return np.asarray(weight * apart)

        rest = self._largest(term)
        return np.asarray(rest + gamma(self._n + 8) * self._most[:, None] * (self._far[forms] + np.abs(t)))

    def quotients(self) -> Floats:
        """Return upper bounds of the quotients. Shape: [end, form]."""
        n, m = len(self._ends), self._far.shape[0]
        least, most = self._least[:, None], self._most[:, None]
        top = np.max([part.max(axis=0) for part in self._sides], axis=0)
        t = np.zeros((n, m))
        rest = self._rest(t, np.s_[:])
        first = Quotients(least, most, (n, m))
        first.learn(t, rest)
        high = np.minimum(first.high, top)
        waiting = np.ones(m // 2, dtype=np.bool_)
        while (self._least > 0).any():
            width = (high[:, : m // 2] + high[:, m // 2 :]).max(axis=0)
            wide = waiting & (width >= _WIDE * width.max())
            if not (wide.any() and np.isfinite(width).all()):
                break
            waiting &= ~wide
            some = np.flatnonzero(np.tile(wide, 2))
            high[:, some] = np.minimum(high[:, some], self._tightened(t[:, some], rest[:, some], some))
        return np.asarray(high)

    def _tightened(self, t: Floats, rest: Floats, forms: Indices) -> Floats:
        """Return upper bounds of some forms' quotients after further passes."""
        bound = Quotients(self._least[:, None], self._most[:, None], t.shape)
        bound.learn(t, rest)
        for _ in range(_PASSES):
            if bound.is_tight:
                break
            point = bound.next()
            bound.learn(point, self._rest(point, forms))
        return bound.high
