"""The first layer of a causal network as tables: at every position, for every memory state, the residual vectors.

The attention of a first layer is, for one query token, a quotient of sums of one term per letter; over the strings
that lead to one state its range is found by max-plus passes. Every entry is an affine form whose symbols are axes of
the heads' outputs. It refuses to know later layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.verify.affine import Affine, Floats, gamma
from extract.verify.context import Context, Memory
from extract.verify.head_sums import HeadSums
from extract.verify.paths import Paths
from extract.verify.quotients import Quotients
from extract.verify.stages import Stages
from extract.verify.terms import TokenParts, TokenTerms, cells_of

_SLACK = 1 + 2.0**-30
#: Axes of one head's output that become symbols; what is left of it is in the radius.
_AXES = 12
#: Points between the ends of a range at which a quotient is compared.
_GRID = 8
#: Terms below this share of the largest say nothing about the axes.
_FAINT = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class _Head:
    """One head's outputs for one query token: ``value`` [position, letter, axis] of each token about ``centre``
    [d_model], along ``axes`` [d_model, axis]; ``fixed`` [axis] is the template's value about the centre; ``missed``
    [d_model] bounds what the axes leave of any."""

    centre: Floats
    axes: Floats
    weight: Floats
    value: Floats
    fixed_weight: float
    fixed: Floats
    missed: Floats

    @staticmethod
    def of(sums: HeadSums, h: int) -> _Head:
        weight, fixed_weight = sums.weights[h], float(sums.fixed_weights[h])
        safe = np.where(weight > 0, weight, 1.0)[..., None]
        own = sums.values[h] / safe
        fixed = sums.fixed_values[h] / fixed_weight if fixed_weight > 0 else np.zeros(own.shape[-1])
        whole = float(weight.sum()) + fixed_weight
        centre = (sums.values[h].sum(axis=(0, 1)) + sums.fixed_values[h]) / whole
        own = np.where(weight[..., None] > 0, own - centre, 0.0)
        fixed = fixed - centre if fixed_weight > 0 else np.zeros_like(centre)
        rows = np.concatenate([own.reshape(-1, len(centre)), fixed[None]])
        shares = np.append(weight.reshape(-1), fixed_weight) / whole
        spread = rows * np.sqrt(shares + _FAINT)[:, None]
        padded = np.concatenate([spread, np.zeros((len(centre), len(centre)))])
        axes = np.linalg.svd(padded, full_matrices=False)[2].T
        axes = axes[:, : min(_AXES, sums.stages.d_head, len(centre))]
        value = rows @ axes
        left = np.abs(rows - value @ axes.T).max(axis=0)
        n = len(centre) + axes.shape[1] + 8
        far = np.abs(rows).max(axis=0) + np.abs(centre)
        rounding = gamma(n) * (far + far @ np.abs(axes) @ np.abs(axes).T)
        shape = (*weight.shape, axes.shape[1])
        return _Head(
            centre, axes, weight, value[:-1].reshape(shape), fixed_weight, value[-1], (left + rounding) * _SLACK
        )

    def range(self, context: Context, ends: NDArray[np.intp], allowed: NDArray[np.bool_]) -> tuple[Floats, ...]:
        """Bound the denominator and the output along the axes, on the way to some states. Shapes: ``allowed``
        [position, letter]; least and most [state], low and high [state, axis]."""
        n, m = len(self.weight), self.value.shape[2]
        both = np.concatenate([self.weight[..., None], -self.weight[..., None]], axis=2)
        size = float(np.where(allowed, self.weight, 0.0).max(axis=1, initial=0.0).sum()) + self.fixed_weight
        extreme = context.largest(both)[ends]
        rounding = gamma(n + 4) * size
        most = extreme[:, 0] + self.fixed_weight + rounding
        least = self.fixed_weight - extreme[:, 1] - rounding
        values = np.concatenate([self.value, -self.value], axis=2)
        fixed = np.concatenate([self.fixed, -self.fixed])
        seen = np.where(allowed[..., None], values, -np.inf).max(axis=(0, 1), initial=-np.inf)
        top = np.maximum(seen, fixed if self.fixed_weight > 0 else -np.inf)
        bound = Quotients(least[:, None], most[:, None], (len(ends), 2 * m))

        def learn(points: Floats) -> None:
            """Learn from some points [point, form]."""
            apart = values[:, :, None] - points
            terms = (self.weight[..., None, None] * apart).reshape(*self.weight.shape, points.size)
            rest = context.largest(terms)[ends].reshape(len(ends), *points.shape)
            rest = rest + self.fixed_weight * (fixed - points)
            far = np.maximum(np.abs(values).max(axis=(0, 1), initial=0.0), np.abs(fixed)) + np.abs(points)
            rest = rest + gamma(n + 8) * far * size
            for i, point in enumerate(points):
                bound.learn(np.broadcast_to(point, bound.high.shape), rest[:, i])

        learn(np.zeros((1, 2 * m)))
        high = np.minimum(bound.high, top + 1e-14 * np.abs(top))
        first, last = -high[:, m:].min(axis=0), high[:, :m].max(axis=0)
        if np.isfinite(first).all() and np.isfinite(last).all() and (first < last).any():
            shares = np.linspace(0.0, 1.0, _GRID)[:, None]
            inside = first + (last - first) * shares
            learn(np.concatenate([inside, -inside[::-1]], axis=1))
        high = np.minimum(bound.high, top + 1e-14 * np.abs(top))
        return least, most, -high[:, m:], high[:, :m]

    def effect(self, share: Floats, allowed: NDArray[np.bool_], is_counted: bool) -> Floats:
        """Return about how far the letter at each position moves the output, beyond what their counts say if these are
        known. Shapes: ``share`` and ``allowed`` [position, letter]; answer [position]."""
        mean = self.weight * share
        whole = float(mean.sum()) + self.fixed_weight
        centre = (np.einsum("pa,pam->m", mean, self.value) + self.fixed_weight * self.fixed) / max(whole, 1e-300)
        rest = whole - mean.sum(axis=1, keepdims=True)
        part = self.weight / np.maximum(self.weight + rest, 1e-300)
        moved = part[..., None] * (self.value - centre)
        is_free = allowed.sum(axis=1) > 1
        if is_counted and is_free.any():
            moved = moved - moved[is_free].mean(axis=0)
        most = np.where(allowed[..., None], moved, -np.inf).max(axis=1)
        least = np.where(allowed[..., None], moved, np.inf).min(axis=1)
        return np.asarray(np.sqrt(((most - least) ** 2).sum(axis=1)))


class LayerTables:
    """The first layer's tables of one length and offset, for any set of its strings.

    ``positions`` are those of the prompt up to the one read; ``depths`` says how many letters each has seen, and
    ``is_letter`` whether it holds the last of them rather than a token of the template.
    """

    def __init__(self, stages: Stages, domain: Domain, length: int, offset: int) -> None:
        layout = domain.template.layout(length)
        self.stages, self.n_positions = stages, len(layout)
        self.is_letter = [cell < 0 for cell in layout]
        self.depths = np.cumsum(self.is_letter).tolist()
        alphabet = np.array(domain.alphabet)
        parts = TokenParts(stages, cells_of(layout, alphabet), offset)
        self.sums: list[list[HeadSums]] = []
        self._heads: list[list[list[_Head]]] = []
        for p in range(len(layout)):
            terms = TokenTerms(parts, alphabet, layout[: p + 1], p + 1, p)
            sums = [HeadSums.of(stages, terms, variant, p + 1) for variant in range(terms.n_variants)]
            self.sums.append(sums)
            self._heads.append([[_Head.of(part, h) for h in range(stages.n_heads)] for part in sums])

    def over(self, context: Context, position: int) -> Affine:
        """Return the residual vectors after the first attention at a position, a form for each state at its depth."""
        depth = self.depths[position]
        n_states, d = len(context.keys[depth]), self.stages.architecture.d_model
        allowed = np.array([(table >= 0).any(axis=0) for table in context.paths.next[:depth]])
        allowed = allowed.reshape(depth, context.paths.n_letters)
        n_axes = sum(head.axes.shape[1] for head in self._heads[position][0])
        centre, radius = np.zeros((n_states, d)), np.full((n_states, d), np.inf)
        noise = np.zeros((n_states, d, n_axes))
        for variant, (sums, heads) in enumerate(zip(self.sums[position], self._heads[position], strict=True)):
            ends = np.arange(n_states)
            if self.is_letter[position]:
                ends = np.flatnonzero(context.last_letters(depth) == variant)
            if len(ends):
                part = self._forms(context, ends, allowed, sums, heads)
                centre[ends], noise[ends], radius[ends] = part.centre, part.noise, part.radius
        return Affine(centre, noise, radius)

    def influence(self, paths: Paths, memory: Memory, attention: Floats) -> Floats:
        """Return about how much the letter at each place of the input matters to what is computed at later positions,
        beyond what they remember; ``attention`` says how much each of these matters. Shapes: [position]; [place]."""
        share = paths.marginals()
        allowed = np.array([(table >= 0).any(axis=0) for table in paths.next]).reshape(share.shape)
        total = np.zeros(len(share))
        for p, depth in enumerate(self.depths):
            seen = max(0, depth - memory.recent)
            for variant, heads in enumerate(self._heads[p]):
                part = share[depth - 1, variant] if self.is_letter[p] else 1.0
                if not seen or not part:
                    continue
                for head in heads:
                    effect = head.effect(share[:depth], allowed[:depth], bool(memory.counted))[:seen]
                    total[:seen] += part * effect * attention[p]
        return total

    def _forms(
        self, context: Context, ends: NDArray[np.intp], allowed: NDArray[np.bool_], sums: HeadSums, heads: list[_Head]
    ) -> Affine:
        centre = np.broadcast_to(sums.base, (len(ends), len(sums.base)))
        size = np.abs(sums.base) + sum(np.abs(head.centre) for head in heads)
        slip, noise, smallest = sums.slip + sum(head.missed for head in heads), [], np.inf
        for head in heads:
            least, _, low, high = head.range(context, ends, allowed)
            middle, half = (low + high) / 2, np.maximum((high - low) / 2, 0.0)
            half = half * (1 + 1e-15) + 1e-15 * np.abs(middle)
            centre = centre + head.centre + middle @ head.axes.T
            size = size + (np.abs(middle) + half) @ np.abs(head.axes).T
            noise.append(head.axes * half[:, None, :])
            smallest = min(smallest, float(least.min()))
        if not (smallest > 0 and all(np.isfinite(part).all() for part in noise)):
            return Affine(np.zeros_like(size), np.zeros((*size.shape, sum(h.axes.shape[1] for h in heads))),
                          np.full_like(size, np.inf))  # fmt: skip
        ball = float(sums.errors(np.array([smallest]))[0])
        radius = (slip + ball + gamma(2 * len(sums.base) + 8) * size) * _SLACK
        return Affine(np.asarray(centre), np.concatenate(noise, axis=2), radius)


def is_in_order(layout: tuple[int, ...]) -> bool:
    """Say whether a prompt holds every letter of the input once, in order; the template may stand anywhere between."""
    letters = [-1 - cell for cell in layout if cell < 0]
    return letters == list(range(len(letters)))
