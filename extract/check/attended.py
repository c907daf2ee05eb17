"""The checker's own range of what one attention layer adds at the read position, over all strings of a slice.

With the query token fixed, each head's output is a sum over the prompt of weight times value, over the sum of weights;
both are sums of one term per letter, so their ranges over a slice are longest paths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from extract.check.forward import DOUBLE, LARGE, Forward
from extract.check.language import Ints
from extract.check.reader import Unreadable
from extract.check.single import Start
from extract.check.slices import Slice
from extract.check.spec import Task
from extract.check.weights import Floats

_UP = 1 + 1e-9


def _gamma(n: int) -> float:
    return 1.01 * n * DOUBLE


class Range(NamedTuple):
    """Residual vectors ``centre + axes @ z`` of a slice, z from ``low`` to ``high``, off by at most ``slip``.

    ``below(directions)`` bounds ``directions @ z`` from below, [form, axis] to [form]. ``middles`` [head, d_model] are
    the outputs that the centre is made of; ``least`` and ``most`` [head] bound the sums of weights.
    """

    centre: Floats
    axes: Floats
    low: Floats
    high: Floats
    slip: Floats
    below: Callable[[Floats], Floats]
    middles: Floats
    least: Floats
    most: Floats


class Attended:
    """The first layer's terms of one length, offset, prompt position ``read`` and query letter (-1: the query is of the
    template).

    Shapes: ``weight`` [head, position, letter], ``value`` [head, position, letter, d_model] and the same of the
    template's tokens, ``rest_weight`` [head], ``rest_value`` [head, d_model]; ``far`` [head, d_model] bounds the value
    of any one token. A weight is off by less than ``drift`` of itself; all other errors are in ``slip`` [d_model].
    """

    def __init__(self, task: Task, forward: Forward, length: int, offset: int, read: int, letter: int) -> None:
        w, layer, d = forward.weights, forward.layers[0], forward.weights.embed.shape[1]
        layout = task.layout(length)
        seen = layout[: read + 1] if w.attention == "causal" else layout
        cells = [(p, a) for p, c in enumerate(seen) for a in (range(len(task.alphabet)) if c < 0 else [-1])]
        where = np.array([p for p, _ in cells])
        ids = np.array([layout[p] if a < 0 else task.alphabet[a] for p, a in cells])
        x = w.embed[ids] + w.places[where + offset]
        e = _UP * forward.unit * (np.linalg.norm(x, axis=1) + forward.lost * d)
        z, ez = forward.normalise(x, e)
        (q, k, v), scale = (part(z) for part in layer.qkv), layer.scale
        own = next(i for i, (p, a) in enumerate(cells) if p == read and (a < 0 or a == letter))
        slip = [forward.gamma(d + 6) * part.local(forward.size(z, ez)) for part in layer.qkv]
        eq, ek, ev = (part.gain * ez + local for part, local in zip(layer.qkv, slip, strict=True))
        scores = np.einsum("hd,hnd->hn", q[:, own], k) * scale
        scores -= scores.max(axis=1, keepdims=True)
        nq, nk = np.linalg.norm(q[:, own], axis=1)[:, None] + 2 * eq[:, [own]], np.linalg.norm(k, axis=2) + 2 * ek
        by_query = np.linalg.norm(k @ layer.qkv[0].weight.swapaxes(1, 2), axis=2)
        by_key = np.linalg.norm(q[:, [own]] @ layer.qkv[1].weight.swapaxes(1, 2), axis=2)
        local = [part.entries(forward, z, ez, made) for part, made in zip(layer.qkv, (q, k, v), strict=True)]
        drift = ez[own] * by_query + by_key * ez + (local[0][:, [own]] * (np.abs(k) + ek[..., None])).sum(axis=2)
        drift += (local[1] * (np.abs(q[:, [own]]) + eq[:, [own], None])).sum(axis=2)
        drift += forward.gamma(k.shape[2] + 3) * (nq * nk + forward.lost * d) + 3 * eq[:, [own]] * ek
        drift = 1.01 * abs(scale) * drift - forward.gamma(2) * scores + forward.gamma(len(cells) + 12)
        self.drift = drift.max(axis=1)
        by_head = layer.attn_proj[0].reshape(w.n_heads, -1, d)
        weights = np.exp(scores)
        values = np.einsum("hnk,hkd->hnd", v, by_head)
        sizes = np.einsum("hnk,hkd->hnd", np.abs(v), np.abs(by_head))
        self.far = sizes.max(axis=1) * _UP
        # the mean of values whose own errors, and the products with the output matrix, are bounded one by one
        off = (layer.out * ev).max(axis=1).sum() * 1.01
        self.longest = (layer.out * (np.linalg.norm(v, axis=2) + 2 * ev)).max(axis=1) * 1.01
        base = x[own] + layer.attn_proj[1]
        size = np.abs(x[own]) + np.abs(layer.attn_proj[1]) + self.far.sum(axis=0)
        if w.norm_eps > 0:  # what follows is a norm that takes the mean away
            base, values = base - base.mean(), values - values.mean(axis=2, keepdims=True)
        self.far = self.far + self.far.mean(axis=1, keepdims=True)
        self.slip = off + e[own] + _gamma(d + by_head.shape[1] + 12) * (size + size.mean())
        self.base, self.length, self.size = base, length, float(np.linalg.norm(size))
        self.size_of = max(nq.max(), nk.max(), self.size, float(np.linalg.norm(v, axis=2).max() + 2 * ev.max()))
        self._e, self._forward, self._n_seen = float(e[own]), forward, len(seen)
        off_by = layer.value_out * ez + np.linalg.norm(local[2] @ np.abs(by_head), axis=2)
        costs = self._costed(drift, v, layer.out * ev, off_by, by_head)
        n_letters, h = len(task.alphabet), w.n_heads
        self.weight, self.rest_weight = np.zeros((h, length, n_letters)), np.zeros(h)
        self.value, self.rest_value = np.zeros((h, length, n_letters, d)), np.zeros((h, d))
        self.costs, self.rest_costs = np.zeros((h, length, n_letters, 3)), np.zeros((h, 3))
        for i, (p, a) in enumerate(cells):
            weighted = weights[:, i, None] * values[:, i]
            if a < 0:
                self.rest_weight, self.rest_value = self.rest_weight + weights[:, i], self.rest_value + weighted
                self.rest_costs += (weights[:, i] * costs[:, :, i]).T
            else:
                self.costs[:, -1 - layout[p], a] += (weights[:, i] * costs[:, :, i]).T
                self.weight[:, -1 - layout[p], a] += weights[:, i]
                self.value[:, -1 - layout[p], a] += weighted

    def _costed(self, drift: Floats, v: Floats, ev: Floats, off: Floats, by_head: Floats) -> Floats:
        """Return what keys cost a mean in this arithmetic, by weight: drifts, how far these and the values' errors
        move the mean, the values' distances from one vector; ``ev`` and ``off`` [head, key] bound values' errors after
        the output matrix. Shape: [3, head, key].

        A weight is off by at most e^t - 1 of itself where its drift is t: 1.03 t, and 1.05 times it, up to t = 0.04.
        """
        mixed = np.einsum("hnk,hkd->hnd", v, by_head)
        away = np.linalg.norm(mixed - (mixed.max(axis=1, keepdims=True) + mixed.min(axis=1, keepdims=True)) / 2, axis=2)
        away = away + 2 * ev
        costs = np.stack([1.03 * drift, 1.03 * drift * away + 1.05 * off, away]) * _UP
        self.costs_most = costs.max(axis=2)
        self._joined = np.abs(v) @ np.abs(by_head) + ev[..., None], np.abs(mixed) + ev[..., None]
        self.is_known = self.size_of < LARGE and bool((self.drift < 0.04).all())
        return np.asarray(costs)

    def start(self, strings: Slice | None = None, extent: tuple[Floats, Floats] | None = None) -> Start:
        """Return what holds of residual vectors computed with the forward's own unit, over a slice whose sums of
        weights are bounded, or over all strings: how far means move with their weights and values, and the rounding of
        their sums and of the product."""
        forward, d, n = self._forward, len(self.base), self._n_seen
        layer, means = forward.layers[0], 1.0 * self.costs_most
        for h in range(means.shape[1]):
            if strings is None or extent is None:
                break
            found = self._quotient(strings, h, self.costs[h], self.rest_costs[h], extent[0][h], extent[1][h])
            # the weights summed are within a hundredth of the real ones, which moves means by 1.01 / 0.99 at most
            means[:, h] = np.minimum(means[:, h], 1.03 * found + 1e-90 * means[:, h])
        moved, cost, away = means
        error = self._e + ((cost + moved * away) / (1 - np.minimum(moved, 0.5))).sum() * _UP
        # the mean's own sums, by shares of at most 1 + ``mixing`` in all; then a product whose partial sums are of its
        # positive or of its negative terms
        tiny, mixing = forward.lost * forward.unit, forward.gamma(2 * n + 14)
        constant, rows = np.abs(layer.attn_proj[1]), len(layer.attn_proj[0])
        size, made = ((1 + mixing) * part.max(axis=1).sum(axis=0) + constant for part in self._joined)
        error += (mixing + n * tiny) * np.linalg.norm(size)
        error += np.linalg.norm(forward.summed(rows + 1, size, made + mixing * size))
        error += tiny * (rows * d + n * np.abs(layer.attn_proj[0]).sum())
        error += 1.01 * forward.unit * (self.size + error + forward.lost * d)
        missing = self.size if forward.weights.norm_eps > 0 else 0.0
        is_known = self.is_known and (moved < 0.1).all()
        return Start(np.array(error if is_known else np.inf), np.array(self.size), np.array(missing))

    def rows(self, strings: Ints) -> Floats:
        """Return the residual vectors of strings, about. Shapes: [string, position], [string, d_model]."""
        places = np.arange(self.length)
        weight = self.weight[:, places, strings].sum(axis=2) + self.rest_weight[:, None]
        value = self.value[:, places, strings].sum(axis=2) + self.rest_value[:, None]
        return np.asarray(self.base + (value / weight[..., None]).sum(axis=0))

    def over(self, strings: Slice, first: Floats | None = None) -> Range:
        """Return what ``Margins`` needs of a slice; the first axes span the columns of ``first`` if there are any.

        Raises:  Unreadable where weights may vanish.
        """
        share = strings.means()
        weight = (self.weight * share).sum(axis=(1, 2)) + self.rest_weight
        middles = (np.einsum("hpad,pa->hd", self.value, share) + self.rest_value) / weight[:, None]
        centre = self.base + middles.sum(axis=0)
        terms = self.weight.transpose(1, 2, 0)
        rounding = _gamma(self.length + 8) * (terms.max(axis=1).sum(axis=0) + self.rest_weight)
        most = strings.largest(terms) + self.rest_weight + rounding
        least = self.rest_weight - strings.largest(-terms) - rounding
        # what a weight may lose to underflow, and how far a mean moves when its weights move by so much of themselves
        lost = self.drift + (self.length + 8) * 1e-300 / np.maximum(least, 1e-200)
        if not ((least > 1e-200).all() and (lost < 0.01).all()):
            raise Unreadable("attention weights vanish or are too uncertain")
        axes = np.linalg.svd(self.rows(strings.drawn(64)) - centre)[2].T
        axes = axes if first is None else np.linalg.qr(np.column_stack([first, axes]))[0]
        moved = float((2.1 * lost * self.longest).sum())
        far = self.far.sum(axis=0) + np.abs(middles).sum(axis=0)
        apart = np.abs(np.eye(len(axes)) - axes @ axes.T) + _gamma(len(axes) + 6) * (np.abs(axes) @ np.abs(axes.T))
        slip = (self.slip + moved + apart @ far + _gamma(8) * (np.abs(self.base) + far)) * _UP

        def lowest(directions: Floats) -> Floats:
            """Return lower bounds of directions.T @ (residual - centre). Shapes: [d_model, form], [form]."""
            rough = _gamma(len(axes) + self.length + 16) * (far @ np.abs(directions))
            found = -self._highest(strings, middles, -directions, least, most) - rough
            return np.asarray(found - 1e-13 * np.abs(found))

        def below(directions: Floats) -> Floats:
            """Return lower bounds of directions @ z. Shapes: [form, axis], [form]."""
            rough = _gamma(2 * len(axes) + 12) * (far @ (np.abs(axes) @ np.abs(directions.T)))
            return np.asarray(lowest(axes @ directions.T) - rough)

        low, high = np.minimum(lowest(axes), 0.0), np.maximum(-lowest(-axes), 0.0)
        return Range(centre, axes, low, high, slip, below, middles, least, most)

    def _highest(self, strings: Slice, middles: Floats, directions: Floats, least: Floats, most: Floats) -> Floats:
        """Return upper bounds of directions.T @ sum of outputs less middles. Shapes: [d_model, form]; [form]."""
        n, apart, parts = directions.shape[1], np.zeros(directions.shape[1]), []
        for h, middle in enumerate(middles):
            offset = middle @ directions
            term = self.value[h] @ directions - self.weight[h][..., None] * offset
            rest = self.rest_value[h] @ directions - self.rest_weight[h] * offset
            parts.append((term, rest))
            apart = apart + self._quotient(strings, h, term, rest, least[h], most[h])
        if len(parts) == 1:
            return apart
        half = (least + most) / 2
        joint = self._sum(
            strings, sum((p / w for (p, _), w in zip(parts, half, strict=True)), np.zeros_like(parts[0][0])),
            sum((r / w for (_, r), w in zip(parts, half, strict=True)), np.zeros(n)),
        )  # fmt: skip
        for (term, rest), low, high, w in zip(parts, least, most, half, strict=True):
            top, bottom = self._sum(strings, term, rest) / w, -self._sum(strings, -term, -rest) / w
            joint = joint + np.max([t * f for t in (top, bottom) for f in (w / high - 1, w / low - 1)], axis=0)
            size = np.abs(term).max(axis=1).sum(axis=0) + np.abs(rest)
            joint = joint + 1e-14 * (np.abs(top) + np.abs(bottom)) * high / low + _gamma(len(parts) + 4) * size / w
        return np.minimum(apart, joint)

    def _quotient(self, strings: Slice, h: int, term: Floats, rest: Floats, least: float, most: float) -> Floats:
        """Return upper bounds of the means of terms that hold their weights already. Shapes: [position, letter, form],
        [form]; [form]."""
        bound = np.zeros(len(rest))
        for _ in range(1 if most < 1.001 * least else 5):
            # sum(part) / sum(weight) <= t + sum(part - t weight) / sum(weight), for any t
            left = self._sum(strings, term - self.weight[h][..., None] * bound, rest - self.rest_weight[h] * bound)
            left = left + _gamma(6) * np.abs(bound) * most
            tried = bound + np.where(left > 0, left / least, left / most) * (1 + 1e-14 * np.sign(left))
            bound = tried if not bound.any() else np.minimum(bound, tried)
        return bound

    def _sum(self, strings: Slice, terms: Floats, rest: Floats) -> Floats:
        size = np.abs(terms).max(axis=1).sum(axis=0) + np.abs(rest)
        return np.asarray(strings.largest(terms) + rest + _gamma(self.length + 8) * size * _UP)
