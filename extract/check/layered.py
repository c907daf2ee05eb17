"""The checker's own bounds of a causal network of two layers, for every memory state in which strings of a slice end.

The first layer is a table of forms over memory states, position by position. In the second, every key's score and
value lie in intervals there, and a head's output is again a sum of weight times value over a sum of weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from extract.check.attended import Attended
from extract.check.forward import DOUBLE, Forward, gain_of
from extract.check.language import Bools, Ints
from extract.check.margins import Margins
from extract.check.memory import Remembering
from extract.check.reader import Unreadable
from extract.check.spans import Form, Mlp, after_norm, linear, normalised, total
from extract.check.spec import Task
from extract.check.weights import Floats

_UP = 1 + 1e-9
#: Axes of a head's output that become symbols, symbols kept of the residual vector and before it is cut, pieces.
_AXES, _FURTHER, _SYMBOLS, _PIECES = 12, 10, 40, 80
_PASSES, _CELLS, _AT_ONCE = 7, 1 << 21, 64


def _gamma(n: int) -> float:
    return 1.01 * n * DOUBLE


class Roots:
    """Upper bounds of N / D for sums with ``least`` <= D <= ``most``, from upper bounds f of max(N - t D) at some t.

    N / D <= t + f / D; and max(N - t D) is convex in t, so that it lies below its chords.
    """

    def __init__(self, least: Floats, most: Floats) -> None:
        self.least, self.most, self.seen = least, most, list[tuple[Floats, Floats]]()

    def add(self, t: Floats, f: Floats) -> None:
        """Note a value."""
        self.seen.append((t, f))

    def above(self) -> Floats:
        """Return upper bounds of the quotients."""
        tried = []
        for t, f in self.seen:
            step = np.where(f > 0, f / self.least, f / self.most)
            tried.append(t + step + 1e-14 * (np.abs(t) + np.abs(step)))
            for s, g in self.seen:
                chord = t + f * (s - t) / np.where(f > g, f - g, 1.0) + 1e-14 * (np.abs(t) + np.abs(s))
                tried.append(np.where((t < s) & (f > 0) & (g <= 0), chord, np.inf))
        return np.asarray(np.min(tried, axis=0))

    def next(self) -> tuple[Floats, float]:
        """Return where to look next, and about how far off the bounds can be."""
        t, f = self.seen[-1]
        low = np.max([t + np.where(f > 0, f / self.most, f / self.least) for t, f in self.seen], axis=0)
        high = self.above()
        is_between = np.logical_and(
            *(np.any([(g > 0) == side for _, g in self.seen], axis=0) for side in (True, False))
        )
        guess = np.where(is_between, low + 0.6 * (high - low), t + f / np.sqrt(self.least * self.most))
        return np.minimum(np.maximum(guess, low), high), float((high - low).max(initial=0.0))


class FirstHead:
    """One head of the first layer at one position for one query token: values along axes about a centre."""

    def __init__(self, seen: Attended, h: int, depth: int, width: int) -> None:
        self.weight, self.rest_weight = seen.weight[h, :depth], float(seen.rest_weight[h])
        weight = np.append(self.weight.reshape(-1), self.rest_weight)
        rows = np.concatenate(
            [seen.value[h, :depth].reshape(len(weight) - 1, len(seen.base)), seen.rest_value[h][None]]
        )
        live = (weight > 0)[:, None]
        self.centre = rows.sum(axis=0) / weight.sum()
        rows = np.where(live, rows / np.where(live, weight[:, None], 1.0) - self.centre, 0.0)
        scaled = rows * np.sqrt(weight / weight.sum() + 1e-3)[:, None]
        d = len(self.centre)
        self.axes = np.linalg.svd(np.concatenate([scaled, np.zeros((d, d))]), full_matrices=False)[2].T
        self.axes = self.axes[:, : min(_AXES, width, d)]
        along, size = rows @ self.axes, np.abs(rows).max(axis=0) + np.abs(self.centre)
        self.value = along[:-1].reshape(*self.weight.shape, self.axes.shape[1])
        self.rest = along[-1]
        self.missed = np.abs(rows - along @ self.axes.T).max(axis=0) * _UP
        self.missed += _gamma(2 * d + 12) * (size + np.abs(self.axes) @ (np.abs(self.axes).T @ size))

    def over(self, memory: Remembering, ends: Ints, allowed: Bools) -> tuple[Floats, Floats, Floats]:
        """Return bounds for some states: the least denominator [end], and the range along each axis [end, axis]."""
        n, m = len(self.weight) + 8, self.value.shape[2]
        heavy = np.where(allowed, self.weight, 0.0).max(axis=1, initial=0.0).sum() + self.rest_weight
        extreme = memory.largest(np.stack([self.weight, -self.weight], axis=2))[ends]
        most = extreme[:, :1] + self.rest_weight + _gamma(n) * heavy
        least = self.rest_weight - extreme[:, 1:] - _gamma(n) * heavy
        if not (least > 1e-200).all():
            raise Unreadable("attention weights vanish")
        value = np.concatenate([self.value, -self.value], axis=2)
        rest, roots = np.append(self.rest, -self.rest), Roots(least, most)
        far = np.maximum(np.abs(value).max(axis=(0, 1), initial=0.0), np.abs(rest))
        # a mean is at most the largest of what it is a mean of
        top = np.where(allowed[..., None], value, -np.inf).max(axis=(0, 1), initial=-np.inf)
        top = np.maximum(top, rest) if self.rest_weight > 0 else top

        def look(points: Floats) -> None:
            terms = self.weight[..., None, None] * (value[:, :, None] - points)
            sums = memory.largest(terms.reshape(*self.weight.shape, points.size))[ends].reshape(
                len(ends), *points.shape
            )
            sums = sums + self.rest_weight * (rest - points) + _gamma(n + 4) * heavy * (far + np.abs(points))
            for i, point in enumerate(points):
                roots.add(np.broadcast_to(point, sums[:, i].shape), sums[:, i])

        look(np.zeros((1, 2 * m)))
        high = np.minimum(roots.above(), top)
        low, up = -high[:, m:].min(axis=0), high[:, :m].max(axis=0)
        grid = low + (up - low) * np.linspace(0.0, 1.0, 8)[:, None]
        look(np.concatenate([grid, -grid[::-1]], axis=1))
        high = np.minimum(roots.above(), top)
        return least, np.minimum(-high[:, m:], high[:, :m]), high[:, :m]


class Layered:
    """A network of two layers at one length and offset."""

    def __init__(self, task: Task, forward: Forward, length: int, offset: int) -> None:
        w, layout = forward.weights, task.layout(length)
        letters = [-1 - cell for cell in layout if cell < 0]
        if letters != list(range(length)) or len(w.layers) != 2 or task.at != "last":
            raise Unreadable("our bounds for two layers are for prompts with the letters in order, read at the end")
        self.is_letter = [cell < 0 for cell in layout]
        self.depths = [int(n) for n in np.cumsum(self.is_letter)]
        self.seen, self.first = list[list[Attended]](), list[list[list[FirstHead]]]()
        for p, cell in enumerate(layout):
            tokens = range(len(task.alphabet)) if cell < 0 else [-1]
            self.seen.append([Attended(task, forward, length, offset, p, a) for a in tokens])
            width = w.layers[0].W_V.shape[2]
            heads = [[FirstHead(seen, h, self.depths[p], width) for h in range(w.n_heads)] for seen in self.seen[p]]
            self.first.append(heads)
        self.mlp, self.eps, self.n_heads, self.scale = Mlp(forward, 0), w.norm_eps, w.n_heads, w.attention_scale[1]
        one, d = w.layers[1], len(w.W_U)
        maps = [(one.W_Q, one.b_Q), (one.W_K, one.b_K), (one.W_V, one.b_V)]
        joined = [(part.swapaxes(0, 1).reshape(d, -1), shift.reshape(-1)) for part, shift in maps]
        norm = gain_of(one.norm_attention, d)
        self.qkv = [after_norm(norm, part, np.abs(part), shift) for part, shift in joined]
        out = one.W_O.reshape(-1, d)
        self.out = (out.T, one.b_O, np.abs(out).T, np.zeros(d))

    def residual(self, memory: Remembering, p: int) -> Form:
        """Return the residual vectors after the first attention at a position, by the states at its depth."""
        depth, keys = self.depths[p], memory.keys[self.depths[p]]
        kinds = [(edge >= 0).any(axis=0) for edge in memory.part.edges[:depth]]
        allowed = np.array(kinds, bool).reshape(depth, memory.part.n_letters)
        forms = list[tuple[Ints, Form]]()
        for letter, (seen, heads) in enumerate(zip(self.seen[p], self.first[p], strict=True)):
            ends = np.flatnonzero(keys[:, memory.recent - 1] == letter) if self.is_letter[p] else np.arange(len(keys))
            if not len(ends):
                continue
            centre, noise, slip = np.tile(seen.base, (len(ends), 1)), [], seen.slip + 0.0
            size = np.abs(seen.base)
            for h, head in enumerate(heads):
                least, low, high = head.over(memory, ends, allowed)
                lost = float(seen.drift[h] + (depth + 8) * 1e-300 / least.min())
                if not lost < 0.01:
                    raise Unreadable("attention weights are too uncertain")
                middle, half = (low + high) / 2, (high - low) / 2 + 1e-15 * (np.abs(low) + np.abs(high))
                centre = centre + head.centre + middle @ head.axes.T
                noise.append(head.axes * half[:, None])
                slip = slip + head.missed + 2.1 * lost * float(seen.longest[h])
                size = size + np.abs(head.centre) + (np.abs(middle) + half) @ np.abs(head.axes).T
            radius = (slip + _gamma(2 * len(seen.base) + 12) * size) * _UP
            forms.append((ends, Form(centre, np.concatenate(noise, axis=2), radius)))
        order = np.argsort(np.concatenate([ends for ends, _ in forms]))
        parts = [np.concatenate([form[i] for _, form in forms])[order] for i in range(3)]
        return Form(*parts)

    def bounded(self, memory: Remembering, margins: Margins) -> bool:
        """Say whether our bounds make all margins positive in every state in which the strings end."""
        keys, values = [], []
        for p in range(len(self.depths)):
            residual = self.residual(memory, p)
            n = residual.noise.shape[2]
            x = self.mlp.after(residual).after
            z, _ = normalised(x, self.eps)
            query, key, value = (linear(z, *part) for part in self.qkv)
            keys.append(_first(key, n))
            values.append(_first(value, n))
            if not (np.isfinite(keys[-1].radius).all() and np.isfinite(values[-1].radius).all()):
                return False
        x, query = x.folded(n + _FURTHER), _first(query, n)
        most = max(len(key.centre) for key in keys)
        step = max(1, _CELLS // (most * 2 * query.centre.shape[1] // self.n_heads))
        for start in range(0, len(x.centre), step):
            ends = np.arange(start, min(start + step, len(x.centre)))
            heads = [self.head(h, memory, query.some(ends), keys, values, ends) for h in range(self.n_heads)]
            found = _beside(x.some(ends), linear(_joined(heads), *self.out))
            if not positive(found.folded(_SYMBOLS), margins):
                return False
        return True

    def head(self, h: int, memory: Remembering, query: Form, keys: list[Form], values: list[Form], ends: Ints) -> Form:
        """Return what one head adds for some last states, before the output matrix."""
        n = query.centre.shape[1] // self.n_heads
        own = np.s_[:, h * n : (h + 1) * n]
        query, keys, values = query.some(own), [key.some(own) for key in keys], [v.some(own) for v in values]
        scores = self.scores(query, keys)
        top = np.max([(middle + spread).max(axis=1) for middle, spread in scores], axis=0)
        light, heavy = [], []
        for middle, spread in scores:
            light.append(np.maximum(np.exp(middle - spread - top[:, None]).T * (1 - 1e-12) - 1e-300, 0.0))
            heavy.append(np.exp(middle + spread - top[:, None]).T * (1 + 1e-12) + 1e-300)
        rows = np.concatenate([value.centre for value in values])
        centre = rows.mean(axis=0)
        axes = np.linalg.svd(np.concatenate([rows - centre, np.zeros((n, n))]), full_matrices=False)[2].T
        turned = (axes.T, -(axes.T @ centre), np.abs(axes).T, _gamma(n + 4) * (np.abs(axes).T @ np.abs(centre)))
        sides, far = [], np.zeros(n)
        for value in values:
            moved = linear(value, *turned)
            reach = moved.reach() + 1e-15 * (np.abs(moved.centre) + moved.reach())
            sides.append(np.concatenate([moved.centre + reach, reach - moved.centre], axis=1))
            far = np.maximum(far, (np.abs(value.centre - centre) + value.reach()).max(axis=0) * _UP)
        high = _quotients(memory, self.depths, ends, light, heavy, sides)
        middle, half = (high[:, :n] - high[:, n:]) / 2, np.maximum((high[:, :n] + high[:, n:]) / 2, 0.0)
        half = half * (1 + 1e-14) + 1e-15 * np.abs(middle)
        left = np.abs(np.eye(n) - axes @ axes.T) + _gamma(n + 8) * (np.abs(axes) @ np.abs(axes.T))
        size = np.abs(centre) + (np.abs(middle) + half) @ np.abs(axes).T
        return Form(centre + middle @ axes.T, axes * half[:, None], (left @ far + _gamma(n + 8) * size) * _UP)

    def scores(self, query: Form, keys: list[Form]) -> list[tuple[Floats, Floats]]:
        """Return about what each score is, less that of one key for all, and how far off it may be. [end, state]."""
        common = np.mean([key.centre.mean(axis=0) for key in keys], axis=0)
        found, n = [], query.centre.shape[1] + query.noise.shape[2] + 16
        reach, size = query.reach(), np.abs(query.centre) + query.reach()
        for key in keys:
            apart = key.centre - common
            slip = key.radius + 1e-15 * (np.abs(key.centre) + np.abs(common))
            away = key.reach() + 1e-15 * (np.abs(key.centre) + np.abs(common))
            spread = np.abs(np.einsum("fd,sdk->fsk", query.centre, key.noise, optimize=True)).sum(axis=2)
            spread += np.abs(np.einsum("fdk,sd->fsk", query.noise, apart, optimize=True)).sum(axis=2)
            spread += query.radius @ np.abs(apart).T + np.abs(query.centre) @ slip.T + reach @ away.T
            spread += _gamma(n) * (size @ (np.abs(apart) + away).T)
            middle = self.scale * (query.centre @ apart.T)
            found.append((middle, abs(self.scale) * spread * _UP + _gamma(8) * np.abs(middle)))
        return found


def _first(x: Form, n: int) -> Form:
    """Return a form with its first symbols only, the others in the radius."""
    return Form(x.centre, x.noise[..., :n], (x.radius + np.abs(x.noise[..., n:]).sum(axis=-1)) * _UP)


def _joined(heads: list[Form]) -> Form:
    """Return forms as one with all their coordinates; no two share a symbol."""
    n, k = heads[0].noise.shape[:2]
    noise = np.zeros((n, k * len(heads), k * len(heads)))
    for h, head in enumerate(heads):
        noise[:, h * k : (h + 1) * k, h * k : (h + 1) * k] = head.noise
    parts = (np.concatenate([head[i] for head in heads], axis=1) for i in (0, 2))
    return Form(next(parts), noise, next(parts))


def _beside(x: Form, y: Form) -> Form:
    """Return the sum of two forms that share no symbol."""
    noise = np.concatenate([np.zeros_like(x.noise), y.noise], axis=2)
    return total(x, Form(y.centre, noise, y.radius))


def _quotients(
    memory: Remembering, depths: list[int], ends: Ints, light: list[Floats], heavy: list[Floats], sides: list[Floats]
) -> Floats:
    """Return upper bounds [end, form] of the mean of ``sides`` [state, form] under weights between ``light`` and
    ``heavy`` [state, end], over the strings that lead to each end."""
    n, count = len(depths), np.arange(len(ends))

    def largest(term: Callable[[int], Floats]) -> Floats:
        value: Floats = np.zeros((1, 1, 1))
        for depth in range(len(memory.keys)):
            value = memory.entered(depth - 1, value) if depth else value
            for p in range(n):
                value = value + term(p) if depths[p] == depth else value
        return np.asarray(value[ends, count])

    most = largest(lambda p: heavy[p][..., None]) * (1 + _gamma(n + 4))
    least = -largest(lambda p: -light[p][..., None]) * (1 - _gamma(n + 4))
    if not (least > 1e-200).all():
        raise Unreadable("attention weights vanish")
    far = np.max([np.abs(side).max(axis=0) for side in sides], axis=0)
    top = np.max([side.max(axis=0) for side in sides], axis=0)

    def rest(t: Floats, forms: Ints) -> Floats:
        def term(p: int) -> Floats:
            apart = sides[p][:, None, forms] - t
            return np.asarray(np.where(apart > 0, heavy[p][..., None], light[p][..., None]) * apart)

        return np.asarray(largest(term) + _gamma(n + 12) * most * (far[forms] + np.abs(t)))

    forms = np.arange(len(far))
    roots, t = Roots(least, most), np.zeros((len(ends), len(far)))
    f = rest(t, forms)
    roots.add(t, f)
    high = np.minimum(roots.above(), top)
    waiting = np.ones(len(far) // 2, bool)
    while True:
        width = (high[:, : len(waiting)] + high[:, len(waiting) :]).max(axis=0)
        wide = waiting & (width >= 0.08 * width.max())
        if not wide.any():
            break
        waiting &= ~wide
        some = np.flatnonzero(np.tile(wide, 2))
        roots.seen = [(t[:, some], f[:, some])]
        for _ in range(_PASSES):
            tried, off = roots.next()
            if not off > 0.01 * width[wide].max():
                break
            roots.add(tried, rest(tried, some))
        high[:, some] = np.minimum(high[:, some], roots.above())
    return np.asarray(high)


def positive(x: Form, margins: Margins) -> bool:
    """Say whether all margins are positive on every form, cut along its widest symbols where that is needed."""
    owner = np.arange(len(x.centre))
    pieces = np.ones(len(owner), np.int64)
    while len(owner):
        parts = [margins.of(x.some(np.s_[i : i + _AT_ONCE]))[0] for i in range(0, len(owner), _AT_ONCE)]
        least = np.concatenate([((p.centre - p.reach()) - _gamma(4) * (np.abs(p.centre) + p.reach())).min(axis=1)
                                for p in parts])  # fmt: skip
        left = np.flatnonzero(~(least > 0))
        np.add.at(pieces, owner[left], 1)
        if (pieces > _PIECES).any():
            return False
        x, owner = x.some(left), np.tile(owner[left], 2)
        rows, widest = np.arange(len(left)), (x.noise**2).sum(axis=1).argmax(axis=1)
        half = x.noise[rows, :, widest] / 2
        noise = x.noise.copy()
        noise[rows, :, widest] = half
        radius = x.radius + 4 * DOUBLE * (np.abs(x.centre) + np.abs(half))
        x = Form(*(np.concatenate(pair) for pair in ((x.centre - half, x.centre + half), (noise, noise),
                                                     (radius, radius))))  # fmt: skip
    return True
