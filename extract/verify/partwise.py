"""The forward pass of any network there is a value for, part by part, with a bound on the error of every entry.

It serves what the stages do not: parts that GPT-2 does not have, and weights of many sizes without norms, as compiled
networks have them, where one norm for a whole vector would say too little. Nothing is shared between prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.network import Activation, Layer, Network, Norm
from extract.readout import ReadOut
from extract.verify.entrywise import Approx, Entrywise, Floats, Map

#: Floats of one activation of a batch, about: a few of them should stay in a core's cache.
_BATCH_FLOATS = 1 << 17


@dataclass(frozen=True, slots=True)
class _Maps:
    """One layer's maps, heads side by side."""

    layer: Layer
    query: Map
    key: Map
    value: Map
    out: Map
    into: Map
    gate: Map | None
    back: Map


class Partwise:
    """A network in one float type; ``is_fine`` keeps bounds for every input instead of one for a batch."""

    def __init__(self, network: Network, readout: ReadOut, dtype: type[np.floating[Any]], *, is_fine: bool) -> None:
        self.network, self.architecture = network, network.architecture
        self.by = Entrywise(dtype, is_fine=is_fine)
        self._choices, self._threshold = list(readout.choices), readout.threshold
        self._is_difference, self._is_choice = readout.kind == "argmax", readout.kind != "value"
        kind = self.by.dtype
        self._embed = np.asarray(network.embed, kind)
        self._layers = tuple(self._maps(layer) for layer in network.layers)
        head = network.head
        self._head = None if head is None else Map.of(head.W, head.b, kind)
        self._unembed = Map.of(network.W_U[:, self._choices], network.b_U[self._choices], kind)

    def _maps(self, layer: Layer) -> _Maps:
        d, kind = self.architecture.d_model, self.by.dtype
        units = self._live_units(layer)

        def joined(weight: Floats, bias: Floats) -> Map:
            return Map.of(weight.transpose(1, 0, 2).reshape(d, -1), bias.reshape(-1), kind)

        has_gate = layer.W_gate is not None and layer.b_gate is not None
        return _Maps(
            layer,
            joined(layer.W_Q, layer.b_Q),
            joined(layer.W_K, layer.b_K),
            joined(layer.W_V, layer.b_V),
            Map.of(layer.W_O.reshape(-1, d), layer.b_O, kind),
            Map.of(layer.W_in[:, units], layer.b_in[units], kind),
            Map.of(layer.W_gate, layer.b_gate, kind) if has_gate else None,  # type: ignore[arg-type]
            Map.of(layer.W_out[units], layer.b_out, kind),
        )

    def _live_units(self, layer: Layer) -> NDArray[np.intp]:
        """Return the hidden units that can add anything; every activation of one number is 0 at 0."""
        if self.architecture.activation == "solu" or layer.norm_hidden is not None or layer.W_gate is not None:
            return np.arange(layer.W_in.shape[1])
        moves = layer.W_in.any(axis=0) | (layer.b_in != 0)
        return np.flatnonzero(moves & layer.W_out.any(axis=1))

    def batch_size(self, n_positions: int) -> int:
        """Return how many prompts of a rendered length to evaluate at once."""
        a = self.architecture
        widest = max(a.d_model, a.d_mlp, a.n_heads * a.d_head, a.n_heads * n_positions)
        return max(1, _BATCH_FLOATS // max(1, widest * n_positions))

    def logits(
        self, prompts: NDArray[np.int32], offset: int, reads: tuple[int, ...]
    ) -> tuple[Floats, NDArray[Any], NDArray[Any]]:
        """Return chosen logits [choice, input * read], and [input, read] a margin bound and the width of ties.

        Shapes:  prompts [input, position] ids; rows are input-major.
        Ensures: a margin above its bound is the real one's sign; one that is below the width of ties less the rest of
                 the bound stays a tie however precisely it is computed.
        """
        final = self.stream(prompts, offset, reads)
        found = self.by.linear(final, self._unembed)
        size = self.by.size(found.value) + found.error
        top = np.maximum(size.max(axis=2, initial=1.0), abs(self._threshold))
        off = found.error.max(axis=2, initial=0.0) + 2 * self.by.unit * top
        # a value near the edge of its tolerance is answered as such an edge by oracles
        ties = (self.network.tie if self._is_choice else 2.0**-30) * top
        bound = (2 if self._is_difference else 1) * off * 1.001 + ties
        shape = found.value.shape[:2]
        rows = found.value.reshape(-1, len(self._choices)).T
        return np.ascontiguousarray(rows), np.broadcast_to(bound, shape), np.broadcast_to(ties, shape)

    def values(
        self, prompts: NDArray[np.int32], offset: int, reads: tuple[int, ...]
    ) -> tuple[Floats, NDArray[np.float64]]:
        """Return the chosen outputs [input, read, choice] as numbers, and a bound of the error of each."""
        found = self.by.linear(self.stream(prompts, offset, reads), self._unembed)
        return found.value, np.broadcast_to(found.error, found.value.shape)

    def stream(self, prompts: NDArray[np.int32], offset: int, reads: tuple[int, ...]) -> Approx:
        """Return what the unembedding is applied to, at the positions read. Shape: [input, read, d_model]."""
        a, by, network = self.architecture, self.by, self.network
        positions = np.arange(offset, offset + prompts.shape[1])
        hidden = None if a.masked_token is None else prompts == a.masked_token
        x = self._start(prompts, positions)
        for i, maps in enumerate(self._layers):
            is_last = i == len(self._layers) - 1
            x = self._attention(x, maps, positions, hidden, reads if is_last else None, a.attention_scale[i])
            x = self._mlp(x, maps)
        x = x if self._layers else x.at(np.s_[:, list(reads)])
        x = self._normed(x, network.norm_final)
        if self._head is None or network.head is None:
            return x
        x = self._normed(by.linear(x, self._head), network.head.norm)
        return by.activation(x, network.head.activation)

    def _start(self, prompts: NDArray[np.int32], positions: NDArray[np.intp]) -> Approx:
        network, by = self.network, self.by
        x = by.exact(self._embed[prompts])
        if self.architecture.embed_scale != 1.0:
            x = by.scaled(x, self.architecture.embed_scale)
        for part in (network.embed_bias, None if network.pos_embed is None else network.pos_embed[positions]):
            if part is not None:
                x = by.add(x, Approx(np.asarray(part, by.dtype), np.zeros(part.shape)))
        return x

    def _normed(self, x: Approx, norm: Norm | None) -> Approx:
        a = self.architecture
        return x if norm is None else self.by.norm(x, norm.weight, norm.bias, a.norm, a.norm_eps)

    def _heads(self, x: Approx, by: Map) -> Approx:
        """Return [input, head, position, d_head]."""
        made, a = self.by.linear(x, by), self.architecture

        def split(array: Floats) -> Floats:
            return array.reshape(*array.shape[:2], a.n_heads, a.d_head).swapaxes(1, 2)

        return Approx(split(made.value), split(made.error))

    def _attention(
        self,
        x: Approx,
        maps: _Maps,
        positions: NDArray[np.intp],
        hidden: NDArray[np.bool_] | None,
        reads: tuple[int, ...] | None,
        scale: float,
    ) -> Approx:
        """Return the stream after the attention, at the positions read (None: all)."""
        a, by, layer = self.architecture, self.by, maps.layer
        is_after = a.norm_place == "after"
        if not layer.W_O.any() or not (layer.W_V.any() or layer.b_V.any()):
            x = self._with_bias(x if reads is None else x.at(np.s_[:, list(reads)]), maps.out)
            return self._normed(x, layer.norm_attention) if is_after else x
        z = x if is_after else self._normed(x, layer.norm_attention)
        at = np.arange(len(positions)) if reads is None else np.array(reads, np.intp)
        picked = np.s_[:, at]
        own, x = (z, x) if reads is None else (z.at(picked), x.at(picked))
        query = self._normed(self._heads(own, maps.query), layer.norm_query)
        key, value = self._normed(self._heads(z, maps.key), layer.norm_key), self._heads(z, maps.value)
        if a.rotary is not None:
            query, key = by.turned(query, a.rotary, positions[at]), by.turned(key, a.rotary, positions)
        turned = Approx(key.value.swapaxes(2, 3), key.error.swapaxes(2, 3))
        scores = by.scaled(by.product(query, turned), scale)
        seen = np.ones((len(at), len(positions)), np.bool_)
        if a.attention == "causal":
            seen = np.arange(len(positions)) <= at[:, None]
        if hidden is not None:
            seen = seen & ~hidden[:, None, None, :]
            value = self._without(value, hidden[:, None, :, None])
        pattern = by.softmax(scores, seen)
        if a.softmax_share == 1.0:
            mixed = by.mean(pattern, value)
        else:
            rest = by.dtype.type(1) - by.dtype.type(a.softmax_share)
            even = Approx(np.full((1,) * 4, rest), np.full((1,) * 4, 2 * by.unit * float(abs(rest))))
            mixed = by.product(by.add(by.scaled(pattern, a.softmax_share), even), value)

        def joined(array: Floats) -> Floats:
            return array.swapaxes(1, 2).reshape(array.shape[0], len(at), -1)

        heads = by.linear(Approx(joined(mixed.value), joined(mixed.error)), maps.out)
        x = by.add(x, heads)
        return self._normed(x, layer.norm_attention) if is_after else x

    def _with_bias(self, x: Approx, by: Map) -> Approx:
        """Return what is left of a part whose output is its bias."""
        return self.by.add(x, Approx(by.bias, np.zeros(len(by.bias)))) if by.bias.any() else x

    def _without(self, value: Approx, hidden: NDArray[np.bool_]) -> Approx:
        """Return values that nobody sees as zeros, so that no error of theirs, infinite ones included, counts."""
        unseen = hidden if self.by.is_fine else hidden.all(axis=0, keepdims=True)
        return Approx(np.where(hidden, 0, value.value), np.where(unseen, 0.0, value.error))

    def _mlp(self, x: Approx, maps: _Maps) -> Approx:
        a, by, layer = self.architecture, self.by, maps.layer
        is_after, kind = a.norm_place == "after", a.activation
        z = x if is_after else self._normed(x, layer.norm_mlp)
        if len(maps.back.sizes):
            units = self._units(z, maps, kind)
            x = by.add(x, by.linear(self._normed(units, layer.norm_hidden), maps.back))
        else:
            x = self._with_bias(x, maps.back)
        return self._normed(x, layer.norm_mlp) if is_after else x

    def _units(self, z: Approx, maps: _Maps, kind: Activation) -> Approx:
        by, plain = self.by, self.by.linear(z, maps.into)
        if maps.gate is None:
            return by.activation(plain, kind)
        return by.times(by.activation(by.linear(z, maps.gate), kind), plain)
