"""What follows the attention at the read position, on affine forms: layer norm, MLP, layer norm, differences of logits.

It bounds every decision of an answer over a set of residual vectors. Where one form is too coarse the set is cut along
its own noise symbols, the widest first. It refuses to know which inputs the vectors come from.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.network import Architecture, Array, Layer, Network, Norm
from extract.readout import ReadOut
from extract.verify.affine import Affine, Floats, Map, Scalar, gamma
from extract.verify.form_errors import Computed, FormErrors, MlpForms

#: Symbols that add up to less than this share of a vector's spread are folded into its radius before the last norm.
_FOLDED_SHARE = 0.01
#: Cutting is given up after so many pieces if more than this share of the doubt is left.
_EARLY, _TOO_SLOW = 8, 0.5
#: Margins must be above this share of the largest logit, if that is above 1: oracles answer nearer ones as ties.
_TIE = 2.0**-28


@dataclass(frozen=True, slots=True)
class Cell:
    """Vectors ``centre + axes @ z`` with z between ``low`` and ``high``, off by at most ``slip`` in each coordinate.

    ``computed`` says what is known of computed vectors, where arithmetics are claimed.

    Shapes: ``centre``, ``slip`` [d_model]; ``axes`` [d_model, axis]; ``low``, ``high`` [axis].
    """

    centre: Floats
    axes: Floats
    low: Floats
    high: Floats
    slip: Floats
    computed: Computed | None = None

    def form(self) -> Affine:
        """Return the vectors as an affine form, one symbol per axis."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        half = half * (1 + 1e-15) + 1e-15 * np.abs(middle)
        size = np.abs(self.centre) + np.abs(self.axes) @ (np.abs(middle) + half)
        radius = (self.slip + gamma(len(half) + 4) * size) * (1 + 2.0**-30)
        return Affine(self.centre + self.axes @ middle, self.axes * half, radius)

    def halves(self, axis: int) -> tuple[Cell, Cell]:
        """Return the two halves along an axis."""
        middle = (self.low[axis] + self.high[axis]) / 2
        high, low = self.high.copy(), self.low.copy()
        high[axis] = low[axis] = middle
        return (
            Cell(self.centre, self.axes, self.low, high, self.slip, self.computed),
            Cell(self.centre, self.axes, low, self.high, self.slip, self.computed),
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far the decisions' margins over one cell are at least above what they must exceed [decision], the form the
    margins came from, the part of each that is linear in the cell's axes [decision, axis], and how far margins of the
    arithmetics claimed can be from the real ones, a number for each form."""

    least: Floats
    form: Affine
    linear: Floats
    error: Floats


class MlpStage:
    """One layer's norm and MLP, added to the residual vectors they are of."""

    def __init__(self, layer: Layer, architecture: Architecture) -> None:
        self.kind, self.eps = architecture.activation, architecture.norm_eps
        self.has_norm, self.is_there = layer.norm_mlp is not None, architecture.d_mlp > 0
        self._shift = layer.b_out.astype(np.float64)
        self._into = folded_map(layer.norm_mlp, layer.W_in, layer.b_in)
        self._out = folded_map(None, layer.W_out, layer.b_out)

    @property
    def sizes(self) -> tuple[Floats, Floats]:
        """The absolute values of both matrices [out, in], the gain of the norm before multiplied in."""
        return self._into.sizes, self._out.sizes

    def steps(self, x: Affine) -> MlpForms:
        """Return what the MLP computes of residual vectors and the stream after it, the symbols of ``x`` first."""
        if not self.is_there:
            d = len(self._shift)
            return MlpForms(None, None, None, None, x.plus(Affine(self._shift, np.zeros((d, 0)), np.zeros(d))))
        z, square = normalised(x, self.eps) if self.has_norm else (x, None)
        hidden = z.mapped(self._into)
        active = hidden.activated(self.kind)
        return MlpForms(square, z, hidden, active, x.plus(active.mapped(self._out)))


def normalised(x: Affine, eps: float) -> tuple[Affine, Scalar]:
    """Return a layer norm without its gain and shift, and the mean square that it divides by the root of."""
    centred = x.centred()
    square = centred.square_mean(eps)
    return centred.times(square.inverse_root()), square


class FinalStage:
    """The stages after the last layer's attention, as maps with their own rounding."""

    def __init__(self, network: Network, readout: ReadOut, errors: FormErrors | None = None) -> None:
        self.readout, self.eps = readout, network.architecture.norm_eps
        self.has_final_norm = network.norm_final is not None
        self._mlp = MlpStage(network.layers[-1], network.architecture)
        self._network, self._last = network, len(network.layers) - 1
        #: The errors of the arithmetics claimed; None for claims about real numbers alone.
        self.errors = errors if errors is not None and errors.has_claims else None
        sizes = np.abs(network.W_U).astype(np.float64)
        #: Bounds of logits from those of residual vectors, and the share of the largest logit that is a tie.
        self._largest = sizes, float(np.abs(network.b_U).max(initial=0.0))
        if network.norm_final is not None:
            gain, offset = (
                np.abs(part).astype(np.float64) for part in (network.norm_final.weight, network.norm_final.bias)
            )
            self._largest = sizes * gain[:, None], float((offset @ sizes + np.abs(network.b_U)).max(initial=0.0))
        self._tie = max(_TIE, 2 * network.tie)
        self._maps: dict[tuple[int, ...], Map] = {}

    def decisions(self, answer: tuple[int, ...]) -> Map:
        """Return the map from the last normalised vector to the margins that must be positive for an answer.

        ``answer``: the place of the chosen output among the read-out's choices, or 0 or 1 for each label.
        """
        if answer not in self._maps:
            choices = list(self.readout.choices)
            columns = self._network.W_U[:, choices].astype(np.float64)
            bias = self._network.b_U[choices].astype(np.float64)
            if self.readout.kind == "multilabel":
                signs = np.where(np.array(answer) > 0, 1.0, -1.0)
                matrix, sizes = columns * signs, np.abs(columns)
                shift, slips = signs * (bias - self.readout.threshold), np.abs(bias) + abs(self.readout.threshold)
            else:
                own = answer[0]
                others = [i for i in range(len(choices)) if i != own]
                matrix, sizes = (
                    columns[:, [own]] - columns[:, others],
                    np.abs(columns[:, [own]]) + np.abs(columns[:, others]),
                )
                shift, slips = bias[own] - bias[others], np.abs(bias[own]) + np.abs(bias[others])
            self._maps[answer] = _with_norm(self._network.norm_final, matrix, sizes, shift, gamma(3) * slips)
        return self._maps[answer]

    def bound(self, x: Affine, answer: tuple[int, ...], computed: Computed | None = None) -> Bounds:
        """Bound the margins of an answer's decisions over a form of residual vectors, or over each of an array, less
        what they must exceed: the width of ties, and the errors of the arithmetics claimed.

        ``computed`` says where these start; it is needed where any are claimed.
        """
        found = self._bounds(x, answer, computed)
        if self.errors is None or computed is None or (found.least > 0).all() or not (found.form.centre > 0).any():
            return found
        other = self.about(x, answer, computed)
        if x.centre.ndim > 1:
            is_better = other.least.min(axis=-1) > found.least.min(axis=-1)
            least = np.where(is_better[..., None], other.least, found.least)
            linear = np.where(is_better[..., None, None], other.linear, found.linear)
            return Bounds(least, found.form, linear, np.where(is_better, other.error, found.error))
        return other if other.least.min() > found.least.min() else found

    def about(self, x: Affine, answer: tuple[int, ...], computed: Computed) -> Bounds:
        """Bound the same with the vectors computed so far in balls about the real ones: a form follows the directions
        in which errors matter, norms do not."""
        if self.errors is None:
            raise ValueError("no arithmetic is claimed")
        size = np.max(np.broadcast_arrays(*computed.errors[1:]), axis=0)
        about = x.with_ball(np.broadcast_to(size, x.centre.shape[:-1]))
        found = self._bounds(about, answer, self.errors.about(computed, size))
        # beside rounding from here on: the balls, and what is not linear, by twice its bound at most
        rest = 2 * (found.form.reach - np.abs(found.linear).sum(axis=-1)).max(axis=-1)
        error = np.asarray((found.error + rest) * (1 + 2.0**-30))
        return Bounds(found.least, found.form, found.linear, np.where(np.isfinite(error), error, np.inf))

    def _bounds(self, x: Affine, answer: tuple[int, ...], computed: Computed | None) -> Bounds:
        n_axes = x.noise.shape[-1]
        steps = self._mlp.steps(x)
        y, square = steps.after, None
        if y.centre.ndim == 1:
            y = y.trimmed(n_axes, _FOLDED_SHARE)
        head = self.decisions(answer)
        if self.has_final_norm:
            y = y.centred()
            plain = Map(head.matrix, np.zeros_like(head.shift), head.sizes, np.zeros_like(head.slips), head.roundings)
            square = y.square_mean(self.eps)
            product = y.mapped(plain).times(square.inverse_root())
            shift = Affine(head.shift, np.zeros((len(head.shift), 0)), head.slips)
            margins = shift.plus(product)
        else:
            margins = y.mapped(head)
        error = self._moved(steps, square, computed)
        room = np.asarray(self._tied(y) + error)[..., None]
        least = margins.centre - margins.reach - room
        least = least - gamma(6) * (np.abs(margins.centre) + margins.reach + room)
        least = np.where(np.isfinite(least), least, -np.inf)
        return Bounds(np.asarray(least), margins, margins.noise[..., :n_axes], error)

    def _tied(self, y: Affine) -> Floats:
        """Return the width of ties among the logits of last residual vectors, for each form: every network's own share
        of a bound of the largest logit."""
        if self.has_final_norm:  # a normalised vector is no longer than the root of its dimension
            columns = np.sqrt((self._largest[0] ** 2).sum(axis=0)).max(initial=0.0)
            top = np.full(y.centre.shape[:-1], columns * len(self._largest[0]) ** 0.5 + self._largest[1])
        else:
            top = ((np.abs(y.centre) + y.reach) @ self._largest[0]).max(axis=-1) + self._largest[1]
        return np.asarray(self._tie * np.maximum(top, 1.0) * (1 + 2.0**-30))

    def _moved(self, steps: MlpForms, square: Scalar | None, computed: Computed | None) -> Floats:
        """Return how far margins of the arithmetics claimed can be from the real ones, for each form."""
        if self.errors is None:
            return np.zeros(())
        if computed is None:
            raise ValueError("nothing is known of what the arithmetics claimed have computed so far")
        after = self.errors.after_mlp(self._last, steps, self._mlp.sizes, computed)
        return np.asarray(self.errors.room(square, after))

    def least(
        self, cell: Cell, answer: tuple[int, ...], max_cells: int, below: Callable[[Floats], Floats]
    ) -> tuple[float, float, Bounds]:
        """Return by how much all margins over a cell are at least above what they must exceed, the largest error of the
        arithmetics claimed on the pieces it took, and the bounds over the whole cell.

        ``below(directions)`` bounds ``directions @ z`` from below over all z that occur, [decision, axis] ->
        [decision]; what occurs need not fill the cell. Cutting ends when every piece is positive, or when the first
        cuts have gained little.
        """
        whole = self._improved(cell, answer, below)
        pieces = [(float(whole.least.min()), 0, cell, whole)]
        n_pieces = number = 1
        start = pieces[0][0]
        while pieces[0][0] <= 0 and n_pieces < max_cells:
            if n_pieces == _EARLY and pieces[0][0] < _TOO_SLOW * start:
                break
            _, _, worst, bounds = heapq.heappop(pieces)
            for half in worst.halves(self._axis(worst, bounds)):
                part = self._improved(half, answer, below)
                heapq.heappush(pieces, (float(part.least.min()), number, half, part))
                number += 1
            n_pieces += 1
        return pieces[0][0], max(float(piece.error) for *_, piece in pieces), whole

    def _improved(self, cell: Cell, answer: tuple[int, ...], below: Callable[[Floats], Floats]) -> Bounds:
        """Return the bounds over a cell, their linear part bounded over what occurs where that is better."""
        with np.errstate(all="ignore"):
            found = self.bound(cell.form(), answer, cell.computed)
        failing = np.flatnonzero(found.least <= 0)
        if not len(failing) or not np.isfinite(found.least[failing]).all():
            return found
        half, middle = (cell.high - cell.low) / 2, (cell.low + cell.high) / 2
        half = half * (1 + 1e-15) + 1e-15 * np.abs(middle)
        safe = np.where(half > 0, half, 1.0)
        directions = np.where(half > 0, found.linear[failing] / safe, 0.0)
        size = np.abs(directions) @ (np.abs(middle) + half)
        by_cell = np.abs(found.linear[failing]).sum(axis=1)
        lowest = below(directions) - directions @ middle - gamma(len(half) + 8) * size
        gain = np.maximum(lowest + by_cell * (1 - 1e-12), 0.0)
        least = found.least.copy()
        least[failing] += np.where(np.isfinite(gain), gain * (1 - 1e-12), 0.0)
        return Bounds(least, found.form, found.linear, found.error)

    @staticmethod
    def _axis(cell: Cell, bounds: Bounds) -> int:
        """Return the axis to cut: the one along which the vectors are spread the most."""
        spread = (cell.high - cell.low) * np.sqrt((cell.axes * cell.axes).sum(axis=0))
        return int(spread.argmax())


def folded_map(norm: Norm | None, weights: Array, bias: Array) -> Map:
    """Return x -> norm(x) @ weights + bias, the norm's gain and shift only."""
    matrix = weights.astype(np.float64)
    return _with_norm(norm, matrix, np.abs(matrix), bias.astype(np.float64), np.zeros(matrix.shape[1]))


def _with_norm(norm: Norm | None, matrix: Floats, sizes: Floats, shift: Floats, slips: Floats) -> Map:
    """Return x -> norm(x) @ matrix + shift, the norm's gain and shift only, as a map of columns."""
    if norm is None:
        return Map(matrix.T.copy(), shift, sizes.T.copy(), slips, 3)
    gain, offset = norm.weight.astype(np.float64), norm.bias.astype(np.float64)
    moved = offset @ matrix + shift
    slip = slips + gamma(len(matrix) + 6) * (np.abs(offset) @ sizes + np.abs(shift))
    return Map((matrix * gain[:, None]).T.copy(), moved, (sizes * np.abs(gain)[:, None]).T.copy(), slip, 5)


__all__ = ["Bounds", "Cell", "FinalStage", "MlpStage", "NDArray", "folded_map", "normalised"]
