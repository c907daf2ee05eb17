"""The checker's own forward pass for networks of any kind: every position of every prompt, errors entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.check.forward import DOUBLE, Forward
from extract.check.parts import activated, dot, known, linear, normalised, plus, softmax, times, turned
from extract.check.reader import Unreadable
from extract.check.weights import Floats, Layer, Pair, Weights

#: Prompts evaluated at once are such that one activation has about so many numbers.
_NUMBERS = 1 << 16


class AnyKind:
    """A network of any kind, evaluated as the plain ``Forward`` evaluates GPT-2's."""

    def __init__(self, weights: Weights) -> None:
        self.weights, self.unit = weights, DOUBLE

    def logits(self, prompts: NDArray[np.int32], offset: int, first: int) -> tuple[Floats, Floats]:
        """Return what ``Forward.logits`` does: logits from position ``first`` on, and bounds [2, input, position] of
        the difference of any two and of any one."""
        w = self.weights
        widest = max([len(w.W_U), *(layer.W_in.shape[1] for layer in w.layers), w.n_heads * prompts.shape[1]])
        n_rows = max(1, _NUMBERS // (widest * prompts.shape[1]))
        values, bounds = [], []
        with np.errstate(all="ignore"):
            for start in range(0, len(prompts), n_rows):
                value, error = self._evaluated(prompts[start : start + n_rows], offset, first)
                alone = error.max(axis=2) * 1.001
                values.append(value)
                bounds.append(np.stack([2 * alone + 4 * DOUBLE * np.abs(value).max(axis=2), alone]))
        return np.concatenate(values), np.concatenate(bounds, axis=1)

    def _evaluated(self, prompts: NDArray[np.int32], offset: int, first: int) -> Pair:
        w, places = self.weights, np.arange(offset, offset + prompts.shape[1])
        x = known(w.embed[prompts])
        x = times(x, known(np.array(w.embed_scale))) if w.embed_scale != 1 else x
        for part in (w.embed_bias, None if w.pos_embed is None else w.pos_embed[places]):
            x = x if part is None else plus(x, known(part))
        for layer, scale in zip(w.layers, w.attention_scale, strict=True):
            given: dict[str, Any] = {"layer": layer, "scale": scale, "prompts": prompts, "places": places}
            x = self._around(x, layer.norm_attention, partial(self._mixed, **given))
            x = self._around(x, layer.norm_mlp, partial(self._mlp, layer=layer))
        x = self._normed((x[0][:, first:], x[1][:, first:]), w.norm_final)
        if w.head is not None:
            x = activated(self._normed(linear(x, w.head.W, w.head.b), w.head.norm), w.head.activation)
        return linear(x, w.W_U, w.b_U)

    def _normed(self, x: Pair, norm: Pair | None) -> Pair:
        return normalised(x, norm, self.weights.norm, self.weights.norm_eps)

    def _around(self, x: Pair, norm: Pair | None, part: Callable[[Pair], Pair]) -> Pair:
        """Add a part's output to the stream, its norm before the part or after the sum."""
        if self.weights.norm_place == "before":
            return plus(x, part(self._normed(x, norm)))
        return self._normed(plus(x, part(x)), norm)

    def _mixed(self, z: Pair, layer: Layer, scale: float, prompts: NDArray[np.int32], places: Floats) -> Pair:
        """Return what attention adds, of what it is applied to. Shape: [input, position, d_model]."""
        w, n = self.weights, prompts.shape[1]
        wide = z[0][:, None], z[1][:, None]
        query, key, value = (
            self._headwise(wide, weight, bias)
            for weight, bias in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
        )
        query, key = self._normed(query, layer.norm_query), self._normed(key, layer.norm_key)
        if w.rotary is not None:
            query, key = turned(query, w.rotary, places), turned(key, w.rotary, places)
        seen = np.tri(n, dtype=bool) if w.attention == "causal" else np.ones((n, n), bool)
        if w.masked_token is not None:
            hidden = prompts == w.masked_token
            seen = seen & ~hidden[:, None, None]
            value = tuple(np.where(hidden[:, None, :, None], 0.0, part) for part in value)  # type: ignore[assignment]
        scores = dot(query, (key[0].swapaxes(2, 3), key[1].swapaxes(2, 3)))
        pattern = softmax(times(scores, known(np.array(scale))), seen)
        if w.softmax_share != 1:
            rest = np.array(1 - w.softmax_share), np.array(DOUBLE)
            pattern = plus(times(pattern, known(np.array(w.softmax_share))), rest)
        mixed = dot(pattern, value)
        joined = (part.swapaxes(1, 2).reshape(len(prompts), n, -1) for part in mixed)
        return linear((next(joined), next(joined)), layer.W_O.reshape(-1, layer.W_O.shape[2]), layer.b_O)

    @staticmethod
    def _headwise(wide: Pair, weight: Floats, bias: Floats) -> Pair:
        made = dot(wide, known(weight))
        return plus(made, known(bias[:, None]))

    def _mlp(self, z: Pair, layer: Layer) -> Pair:
        if not layer.W_in.shape[1]:
            return known(np.broadcast_to(layer.b_out, z[0].shape))
        kind, units = self.weights.activation or "relu", linear(z, layer.W_in, layer.b_in)
        units = activated(units, kind) if layer.gate is None else times(activated(linear(z, *layer.gate), kind), units)
        return linear(self._normed(units, layer.norm_hidden), layer.W_out, layer.b_out)


def forward_of(weights: Weights, unit: float) -> Forward | AnyKind:
    """Return the forward pass whose bounds are tightest. Raises: Unreadable for other arithmetic than our own."""
    is_tracr_like = weights.norm == "none" and unit == DOUBLE and len(weights.layers) > 1
    if weights.is_plain and not is_tracr_like:
        return Forward(weights, unit)
    if unit != DOUBLE:
        raise Unreadable("no bound is known for other arithmetic than real numbers in networks of this kind")
    return AnyKind(weights)
