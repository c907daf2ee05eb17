"""One layer's attention over a slice of inputs: what it adds to the residual at the read position, and its exact range.

With the query fixed, every head's output is a quotient of two sums over the prompt, of weight times value and of
weights. Over a set of paths both are ranged by max-plus passes: a quotient is at most t if the largest sum of
weight * (value - t) is at most 0, so that numerator and denominator stay correlated. It refuses to know what follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.verify.affine import Floats, gamma
from extract.verify.cell_errors import of_means
from extract.verify.form_errors import Computed, FormErrors
from extract.verify.paths import Paths
from extract.verify.rounding import Errors, Scalar
from extract.verify.stages import Stages, Weighing
from extract.verify.terms import KeyCosts, TokenParts, TokenTerms, cells_of

_SLACK = 1 + 2.0**-30
#: Passes that tighten the range of a quotient after the first.
_PASSES = 3
#: Denominators this close need no further pass.
_CLOSE = 1.002


@dataclass(frozen=True, slots=True, eq=False)
class HeadSums:
    """The terms of one length, offset and query token.

    Shapes: ``base`` [d_model], the residual without attention; ``weights`` [head, position, letter] and ``values``
    [head, position, letter, d_model], each token's weight, and its weight times value through the output matrix;
    ``fixed_weights`` [head] and ``fixed_values`` [head, d_model] are the template's; ``reach`` [head, d_model] bounds a
    single token's value. ``slip`` [d_model] is the rounding of all of these, relative to the sums of their terms;
    ``norm`` bounds that of the residual vectors, their mean included, which is taken out of all the others where they
    are ``is_centred``. ``apart`` bounds the distance of a single token's value, before the output matrix, from some
    vector that is the same for all, as computed and worst over heads.
    """

    stages: Stages
    terms: TokenTerms
    n_keys: int
    base: Floats
    weights: Floats
    values: Floats
    fixed_weights: Floats
    fixed_values: Floats
    reach: Floats
    slip: Floats
    norm: float
    is_centred: bool
    apart: float
    variant: int
    costs: tuple[KeyCosts, ...]

    @staticmethod
    def of(stages: Stages, terms: TokenTerms, variant: int, n_keys: int) -> HeadSums:
        """Gather the terms for one query token; ``stages`` and ``terms`` are in float64."""
        layer, d = stages.network.layers[0], stages.architecture.d_model
        h, k = stages.n_heads, stages.d_head
        letters = np.array([part[:, variant] for part in terms.letters]).reshape(-1, terms.width, _n_letters(terms))
        summed = letters.transpose(1, 0, 2)
        weights, fixed_weights = summed[h * k :], terms.constant[h * k :, variant]
        out = layer.W_O.astype(np.float64)
        # what follows is a norm, which takes the mean away
        is_centred = stages.network.norm_final is not None and (layer.norm_mlp is not None or not layer.W_in.size)
        mixed = summed[: h * k].reshape(h, k, *summed.shape[1:])
        fixed = terms.constant[: h * k, variant].reshape(h, k)
        values = np.einsum("hkpa,hkd->hpad", mixed, out)
        fixed_values = np.einsum("hk,hkd->hd", fixed, out)
        # a single token's value, entry by entry: it bounds every mean of values, and the rounding of their sums
        sizes = np.einsum("hkpa,hkd->hpad", np.abs(mixed), np.abs(out))
        live = np.where(weights > 0, weights, 1.0)
        own = np.where(weights[..., None] > 0, sizes / live[..., None], 0.0)
        fixed_size = np.einsum("hk,hkd->hd", np.abs(fixed), np.abs(out))
        has_fixed = fixed_weights > 0
        fixed_own = np.where(has_fixed[:, None], fixed_size / np.where(has_fixed, fixed_weights, 1.0)[:, None], 0.0)
        reach = np.maximum(own.reshape(h, -1, d).max(axis=1, initial=0.0), fixed_own) * _SLACK
        base = terms.query.rows[:, variant].astype(np.float64) + layer.b_O.astype(np.float64)
        size = np.abs(terms.query.rows[:, variant]) + np.abs(layer.b_O) + reach.sum(axis=0)
        slip, norm = gamma(k + 8) * size, float(np.sqrt((size * size).sum())) * _SLACK
        if is_centred:
            base = base - base.mean()
            values = values - values.mean(axis=3, keepdims=True)
            fixed_values = fixed_values - fixed_values.mean(axis=1, keepdims=True)
            slip = slip + slip.mean() + gamma(d + 4) * (size + size.mean())
            reach = reach + reach.mean(axis=1, keepdims=True)
        return HeadSums(
            stages, terms, n_keys, base, np.ascontiguousarray(weights), values, fixed_weights, fixed_values,
            reach * _SLACK, slip * _SLACK, norm, is_centred, _apart(terms.parts.value, h), variant,
            tuple(terms.key_costs(arithmetic, n_keys) for arithmetic in stages.analysis.arithmetics[1:]),
        )  # fmt: skip

    @property
    def length(self) -> int:
        """The number of letters of an input."""
        return int(self.weights.shape[1])

    def centres(self, paths: Paths) -> Floats:
        """Return the heads' outputs for mean sums over the paths, about. Shape: [head, d_model]."""
        share = paths.marginals()
        weight = np.einsum("hpa,pa->h", self.weights, share) + self.fixed_weights
        value = np.einsum("hpad,pa->hd", self.values, share) + self.fixed_values
        return np.asarray(value / np.maximum(weight, 1e-300)[:, None])

    def rows(self, strings: NDArray[np.intp]) -> Floats:
        """Return the residual vectors of some strings, about. Shapes: [string, position], [string, d_model]."""
        places = np.arange(self.length)
        weight = self.weights[:, places, strings].sum(axis=2) + self.fixed_weights[:, None]
        value = self.values[:, places, strings].sum(axis=2) + self.fixed_values[:, None]
        return np.asarray(self.base + (value / weight[..., None]).sum(axis=0))

    def extent(self, paths: Paths) -> tuple[Floats, Floats]:
        """Return lower and upper bounds of the heads' denominators over the paths. Shapes: [head], [head]."""
        terms = self.weights.transpose(1, 2, 0)
        size = np.abs(terms).max(axis=1).sum(axis=0) + self.fixed_weights
        rounding = gamma(self.length + 4) * size
        high = paths.largest(terms) + self.fixed_weights + rounding
        low = self.fixed_weights - paths.largest(-terms) - rounding
        return np.asarray(low), np.asarray(high)

    def errors(self, least: Floats) -> Errors:
        """Bound the distance of the real residual vectors from the quotients of these sums.

        ``least`` are lower bounds of the denominators [head].
        """
        smallest = float(least.min())
        faded = 4 * self.n_keys * 2.0**-1022 / smallest if smallest > 0 else np.inf
        weighing = Weighing(self.n_keys, faded=faded, spread=self.apart)
        attended = self.stages.attended(0, self.terms.parts, weighing)
        query = self.terms.query
        return self.stages.analysis.add(query.errors, attended, self.norm)

    def computed(self, paths: Paths | None, extent: tuple[Floats, Floats]) -> Computed:
        """Return what is known of the residual vectors of some paths as arithmetics other than the real one compute
        them; of all if None."""
        others: list[Scalar] = []
        for arithmetic, costs in zip(self.stages.analysis.arithmetics[1:], self.costs, strict=True):
            means = self._means(paths, extent, costs) if costs.drift < 2.0**-20 else np.full((3, 1), np.inf)
            error = float(of_means(*means)) + costs.rounded + self.terms.query.errors[len(others) + 1]
            size = self.norm + error
            total = error + 2 * arithmetic.unit * size * _SLACK
            others.append(total if size < arithmetic.large else np.inf)
        return Computed((0.0, *others), self.norm, self.norm if self.is_centred else 0.0)

    def _means(self, paths: Paths | None, extent: tuple[Floats, Floats], costs: KeyCosts) -> Floats:
        """Return bounds of the means of what keys cost, under the real weights over some paths. Shape: [3, head]."""
        n_heads, largest = len(self.weights), costs.largest[:, self.variant].reshape(-1, 3)
        means = largest.copy()
        for h in range(n_heads):
            if paths is None or not np.isfinite(largest).all():
                break
            rows = slice(3 * h, 3 * h + 3)
            part = np.array([place[rows, self.variant] for place in costs.letters]).transpose(0, 2, 1)
            found = self._quotient(paths, h, part, costs.constant[rows, self.variant], (extent[0][h], extent[1][h]))
            means[h] = np.minimum(largest[h], found)
        # the weights summed are ours; what of them has faded weighs on no more than the largest
        faded = 8 * self.n_keys * 2.0**-1022 / np.maximum(extent[0], 2.0**-900)[:, None]
        return np.asarray((means * (1 + 4 * costs.drift) + faded * largest).T * _SLACK)

    def range(
        self, paths: Paths, centres: Floats, directions: Floats, extent: tuple[Floats, Floats]
    ) -> tuple[Floats, Floats]:
        """Bound ``directions.T @ (output - sum of centres)`` over the paths. Shapes: ``centres`` [head, d_model],
        ``directions`` [d_model, m]; bounds [m], [m].

        ``output`` is the sum of the quotients, without ``base``; this arithmetic's own rounding is inside the bounds.
        """
        m = directions.shape[1]
        both = np.concatenate([directions, -directions], axis=1)
        least, most = extent
        highest, parts, fixed_parts = np.zeros(2 * m), [], []
        for h in range(len(self.weights)):
            offset = centres[h] @ both
            part = self.values[h] @ both - self.weights[h][..., None] * offset
            fixed = self.fixed_values[h] @ both - self.fixed_weights[h] * offset
            highest += self._quotient(paths, h, part, fixed, (float(least[h]), float(most[h])))
            parts.append(part)
            fixed_parts.append(fixed)
        if len(parts) > 1:
            highest = np.minimum(highest, self._joint(paths, parts, fixed_parts, extent))
        size = np.abs(both)
        slip = gamma(len(both) + 12) * ((self.reach + np.abs(centres)) @ size).sum(axis=0)
        highest = (highest + slip) + 1e-14 * np.abs(highest)
        return -highest[m:], highest[:m]

    def _largest(self, paths: Paths, terms: Floats, fixed: Floats) -> Floats:
        size = np.abs(terms).max(axis=1).sum(axis=0) + np.abs(fixed)
        return np.asarray(paths.largest(terms) + fixed + gamma(self.length + 6) * size * _SLACK)

    def _quotient(self, paths: Paths, h: int, part: Floats, fixed: Floats, extent: tuple[float, float]) -> Floats:
        """Return upper bounds of (sum of part) / (sum of weights): for any t it is at most t plus the largest sum of
        part - t * weight, over a denominator: the least if that is positive, else the most."""
        least, most = extent
        if not least > 0:
            return np.full(part.shape[2], np.inf)
        weights = self.weights[h][..., None]
        bound = over(self._largest(paths, part, fixed), least, most)
        for _ in range(_PASSES if most > _CLOSE * least else 0):
            rest = self._largest(paths, part - weights * bound, fixed - self.fixed_weights[h] * bound)
            size = np.abs(bound) * gamma(3) * (1 + most / least)
            bound = np.minimum(bound, bound + over(rest, least, most) + size)
        return bound

    def _joint(self, paths: Paths, parts: list[Floats], fixed: list[Floats], extent: tuple[Floats, Floats]) -> Floats:
        """Return upper bounds of the sum of all heads' quotients, as one linear form over mean denominators plus the
        product of each head's form with how far its denominator is from that mean."""
        least, most = extent
        if not (least > 0).all():
            return np.full(parts[0].shape[2], np.inf)
        mean = (least + most) / 2
        total: Floats = sum((p / d for p, d in zip(parts, mean, strict=True)), np.zeros_like(parts[0]))
        total_fixed: Floats = sum((f / d for f, d in zip(fixed, mean, strict=True)), np.zeros_like(fixed[0]))
        sizes: Floats = sum(
            (np.abs(p).max(axis=1).sum(axis=0) / d for p, d in zip(parts, mean, strict=True)), 0.0 * fixed[0]
        )
        highest = self._largest(paths, total, total_fixed) + gamma(len(parts) + 4) * sizes
        for part, rest, low, high, d in zip(parts, fixed, least, most, mean, strict=True):
            highest = highest + swayed(self._largest(paths, part, rest) / d, d / high - 1, d / low - 1)
        return highest


def over(numerator: Floats, least: Floats | float, most: Floats | float) -> Floats:
    """Return upper bounds of quotients by numbers between two positive ones."""
    quotient = np.where(numerator > 0, numerator / least, numerator / most)
    return np.asarray(quotient + 1e-15 * np.abs(quotient))


def swayed(top: Floats, shrink: Floats | float, grow: Floats | float) -> Floats:
    """Return upper bounds of forms times a share between two; ``top`` [..., form] bounds the forms from above, the
    second half of them the opposites of the first."""
    bottom = -np.roll(top, top.shape[-1] // 2, axis=-1)
    corners = np.array([top * shrink, top * grow, bottom * shrink, bottom * grow])
    size = np.abs(corners).max(axis=0) + np.abs(top) + np.abs(bottom)
    return np.asarray(corners.max(axis=0) + 1e-14 * size)


def attended_room(stages: Stages, domain: Domain, length: int, offset: int) -> float:
    """Return what a real margin must exceed for the arithmetics claimed to decide alike, at every input of a length and
    offset; for one layer of attention alone, read at one position."""
    errors = FormErrors(stages.analysis)
    if not errors.has_claims:
        return 0.0
    layout = domain.template.layout(length)
    read = 0 if domain.readout.at == "first" else len(layout) - 1
    n_seen = read + 1 if stages.architecture.attention == "causal" else len(layout)
    alphabet = np.array(domain.alphabet)
    terms = TokenTerms(TokenParts(stages, cells_of(layout, alphabet), offset), alphabet, layout, n_seen, read)
    whole = np.full(stages.n_heads, 1.0)  # our own weights are not what is claimed
    sums = [HeadSums.of(stages, terms, variant, n_seen) for variant in range(terms.n_variants)]
    return max(float(errors.room(None, part.computed(None, (whole, whole)))) for part in sums)


def _apart(values: NDArray[Any], n_heads: int) -> float:
    """Return the largest distance of values [head * d_head, cell] from the middle of their head's, worst over heads.

    Under any weights their root mean square distance from their mean is at most that from any vector.
    """
    heads = values.astype(np.float64).reshape(n_heads, -1, values.shape[1])
    moved = heads - (heads.max(axis=2, keepdims=True) + heads.min(axis=2, keepdims=True)) / 2
    return float(np.sqrt((moved * moved).sum(axis=1)).max(initial=0.0)) * (1 + 2.0**-20)


def _n_letters(terms: TokenTerms) -> int:
    return terms.letters[0].shape[2] if terms.letters else 1
