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
        drift = ez[own] * by_query + by_key * ez + slip[0] * nk + slip[1] * nq
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
        self.start = self._start(
            forward, v, ev, (layer.value_out * ez + layer.out * slip[2]).max(axis=1), float(e[own])
        )
        if max(nq.max(), nk.max()) >= LARGE:
            self.start = Start(np.array(np.inf), *self.start[1:])
        n_letters, h = len(task.alphabet), w.n_heads
        self.weight, self.rest_weight = np.zeros((h, length, n_letters)), np.zeros(h)
        self.value, self.rest_value = np.zeros((h, length, n_letters, d)), np.zeros((h, d))
        for i, (p, a) in enumerate(cells):
            weighted = weights[:, i, None] * values[:, i]
            if a < 0:
                self.rest_weight, self.rest_value = self.rest_weight + weights[:, i], self.rest_value + weighted
            else:
                self.weight[:, -1 - layout[p], a] += weights[:, i]
                self.value[:, -1 - layout[p], a] += weighted

    def _start(self, forward: Forward, v: Floats, ev: Floats, off: Floats, e: float) -> Start:
        """Return what holds of residual vectors computed with the forward's own unit: the values' errors ``off`` after
        the output matrix, how far their mean moves with the weights, and the rounding of sums and product."""
        layer, d, n = forward.layers[0], len(self.base), v.shape[1]
        long = np.linalg.norm(v, axis=2).max(axis=1) + 2 * ev.max(axis=1)
        # moved by weights off by a share, a mean stays within that share of the distances from any one vector
        middle = (v.max(axis=1, keepdims=True) + v.min(axis=1, keepdims=True)) / 2
        apart = np.linalg.norm(v - middle, axis=2).max(axis=1) + 2 * ev.max(axis=1)
        summed = forward.gamma(n + 12) * long * (1 + forward.lost * n)
        error = e + (off + layer.out[:, 0] * (1.05 * self.drift * apart + summed)).sum() * 1.05
        joined, constant = layer.sizes[0]
        error += forward.gamma(d + len(layer.attn_proj[0]) + 6) * (np.linalg.norm(long) * joined + constant)
        error += 1.01 * forward.unit * (self.size + error + forward.lost * d)
        is_small = (self.drift < 0.01).all() and max(self.size, long.max()) < LARGE
        missing = self.size if forward.weights.norm_eps > 0 else 0.0
        return Start(np.array(error if is_small else np.inf), np.array(self.size), np.array(missing))

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
            # sum(part) / sum(weight) <= t + sum(part - t weight) / sum(weight), for any t
            bound = np.zeros(n)
            for _ in range(1 if most[h] < 1.001 * least[h] else 5):
                left = self._sum(strings, term - self.weight[h][..., None] * bound, rest - self.rest_weight[h] * bound)
                left = left + _gamma(6) * np.abs(bound) * most[h]
                tried = bound + np.where(left > 0, left / least[h], left / most[h]) * (1 + 1e-14 * np.sign(left))
                bound = tried if not bound.any() else np.minimum(bound, tried)
            apart = apart + bound
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

    def _sum(self, strings: Slice, terms: Floats, rest: Floats) -> Floats:
        size = np.abs(terms).max(axis=1).sum(axis=0) + np.abs(rest)
        return np.asarray(strings.largest(terms) + rest + _gamma(self.length + 8) * size * _UP)
