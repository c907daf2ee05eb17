"""The checker's own forward pass: float64 numpy, with a running bound on the rounding error of every token's vector.

Beside each vector goes one number, a bound in the Euclidean norm on the distance between the real-arithmetic value of
the stored weights and any evaluation with unit roundoff ``unit``, summed in any order; results below the least normal
number may be lost. Prompts that share a prefix share its nodes. Assumed: exp, tanh and erf to four units in the last
place, and no overflow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.check.weights import Floats, Layer, Pair, Weights

Ids = NDArray[np.int64]

#: Unit roundoff of binary64 and binary32.
DOUBLE, SINGLE = 2.0**-53, 2.0**-24
#: Products of numbers below this do not overflow in binary32, nor do sums of them.
LARGE = 2.0**38
#: Covers second-order terms and the rounding of the bounds themselves.
_SLACK = 1.01
#: Least and greatest slope of each activation.
_SLOPES = {"gelu_tanh": (-0.13, 1.13), "gelu_erf": (-0.13, 1.13), "silu": (-0.1, 1.1), "relu": (0.0, 1.0)}
_ERF = np.frompyfunc(math.erf, 1, 1)


def _spectral(matrix: Floats) -> Floats:
    if not matrix.size:
        return np.zeros(matrix.shape[:-2])
    return np.asarray(np.linalg.norm(matrix, 2, axis=(-2, -1)))


def centring(d: int) -> tuple[float, float]:
    """Return by how many roundings of ||x|| d terms less their mean are off, and the root of their sum of squares.

    By Welford's update the mean of k terms moves by (x_k - m) / k: three roundings of (|x_k| + |m|) / k and one of the
    new mean, so that it is off by e_k <= g_k u ||x|| / sqrt(k), g_k = k - 1 + 3 + 3 (1 + ... + 1/(k - 1)), g_1 = 0.
    What the sum of squares S adds, (k - 1) / k y_k^2, is off by |y_k| (e_(k-1) (k - 1) / k + e_k) + e_(k-1) e_k. By
    Cauchy and Schwarz the root of S is off by half of (sqrt(sum g_k^2 / (k - 1)) + sqrt(sum g_(k-1)^2 / k)) u ||x||.
    """
    k = np.arange(2, d + 1)
    g = np.concatenate([[0.0], k + 2 + 3 * np.cumsum(1 / (k - 1))])
    return float(g[-1]), float(np.sqrt((g[1:] ** 2 / (k - 1)).sum()) + np.sqrt((g[:-1] ** 2 / k).sum())) / 2


def gain_of(norm: Pair | None, width: int) -> Pair:
    """Return a norm's gain and shift; 1 and 0 where there is none."""
    return norm or (np.ones(width), np.zeros(width))


class Linear:
    """``z @ weight + bias`` for a normalised z, the norm's gain and shift folded in, in groups of columns.

    Shapes: ``weight`` [group, d_model, width], ``bias`` [group, 1, width]; ``gain`` (spectral norm) [group, 1].
    """

    def __init__(self, norm: Pair, part: Floats, bias: Floats, lost: float) -> None:
        bias = bias[:, None]
        self.weight = norm[0][:, None] * part
        self.bias = (norm[1] @ part)[:, None, :] + bias
        self.gain = _spectral(self.weight)[:, None]
        self._shifts = (np.abs(norm[1]) @ np.abs(part))[:, None, :]
        self._sizes = self._shifts + np.abs(bias)
        self._faded, self._widest = lost * part.size, 2 + float(np.abs(part).max(initial=0.0))
        self.absolute = _spectral(np.abs(self.weight))[:, None] + self._faded
        self._constant = np.linalg.norm(self._sizes, axis=-1) + self._faded * self._widest

    def local(self, size: Any, terms: Any = None) -> Floats:
        """Return the rounding error per gamma for z of at most a norm; ``terms`` bounds the norm of |z| @ |weight|, if
        that is known. Shape: [group, 1]."""
        return np.asarray((size * self.absolute if terms is None else terms + size * self._faded) + self._constant)

    def entries(self, forward: Forward, z: Floats, ez: Floats, made: Floats) -> Floats:
        """Return the rounding errors of every entry, for z of these errors. Shapes: [group, node, width]."""
        n, known = self.weight.shape[1], np.abs(z) + ez[:, None]
        size, off = known @ np.abs(self.weight) + self._sizes, (self.gain * ez)[..., None]
        error = forward.summed(n + 1, size, np.abs(made) + off) + forward.gamma(n + 5) * self._shifts
        faded = forward.unit * self._faded * (self._widest + known.max())
        return np.asarray(_SLACK * (error + forward.gamma(4) * size + faded))

    def __call__(self, z: Floats) -> Floats:
        """Return [group, node, width]."""
        return z @ self.weight + self.bias


@dataclass(frozen=True, slots=True)
class Nodes:
    """The distinct prefixes of a batch of prompts, shortest first.

    ``tokens`` and ``places`` [node]; ``levels`` holds for each position its first node and the nodes on the way to
    each, [node of the level, position]; ``leaf`` [prompt, position] is the node of each prefix.
    """

    tokens: Ids
    places: Ids
    levels: tuple[tuple[int, Ids], ...]
    leaf: Ids

    @staticmethod
    def of(prompts: NDArray[np.int32], n_vocab: int) -> Nodes:
        """Build the tree of the prompts' prefixes."""
        n, length = prompts.shape
        group, leaf, tokens, levels, first = np.zeros(n, np.int64), np.zeros((n, length), np.int64), [], [], 0
        for p in range(length):
            _, row, group = np.unique(group * n_vocab + prompts[:, p], return_index=True, return_inverse=True)
            leaf[:, p] = first + group
            tokens.append(prompts[row, p].astype(np.int64))
            levels.append((first, leaf[row, : p + 1]))
            first += len(row)
        places = np.repeat(np.arange(length), [len(t) for t in tokens])
        return Nodes(np.concatenate(tokens), places, tuple(levels), leaf)


class _Layer:
    """One block with its norm folded in, and the spectral norms its error bounds need, by head where it has heads."""

    def __init__(self, w: Weights, layer: Layer, scale: float, lost: float) -> None:
        d, by_head = layer.W_O.shape[2], layer.W_O
        self.scale = scale
        self.attn_proj, self.mlp_proj = (by_head.reshape(-1, d), layer.b_O), (layer.W_out, layer.b_out)
        maps = (layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V)
        self.qkv = [Linear(gain_of(layer.norm_attention, d), *pair, lost) for pair in maps]
        self.into = Linear(gain_of(layer.norm_mlp, d), layer.W_in[None], layer.b_in[None], lost)
        self.out, self.value_out = _spectral(by_head)[:, None], _spectral(self.qkv[2].weight @ by_head)[:, None]
        self.sizes = [
            (float(_spectral(np.abs(m))), float(np.linalg.norm(b)) + lost * m.size)
            for m, b in (self.attn_proj, self.mlp_proj)
        ]
        low, high = _SLOPES[w.activation or "relu"]
        if w.activation is None:
            self.back = self.slope = 0.0
            return
        self.back = float(_spectral(self.mlp_proj[0]))
        middle = float(_spectral(self.into.weight[0] @ self.mlp_proj[0]))
        self.slope = (high + low) / 2 * middle + (high - low) / 2 * float(self.into.gain[0, 0]) * self.back


class Forward:
    """A network of plain parts with what its error bounds need, ready to be evaluated where attention is causal."""

    def __init__(self, weights: Weights, unit: float = DOUBLE) -> None:
        self.weights, self.unit, self._d = weights, unit, weights.embed.shape[1]
        self.root, self._centring = math.sqrt(self._d), centring(self._d)
        # what underflow loses over the unit roundoff: beside a size, it makes every rounding bound cover it
        self.lost = (2.0**-1022 if unit == DOUBLE else 2.0**-126) / unit
        if not weights.has_plain_parts:
            raise ValueError("the bounds in this norm are for GPT-2's kind of network")
        pairs = zip(weights.layers, weights.attention_scale, strict=True)
        self.layers = [_Layer(weights, *pair, self.lost) for pair in pairs]
        norm, unembed = gain_of(weights.norm_final, self._d), weights.W_U
        self._final = Linear(norm, unembed[None], weights.b_U[None], self.lost)
        columns = self._final.weight[0]
        squares = (columns * columns).sum(axis=0)
        apart = squares[:, None] + squares - 2 * columns.T @ columns
        self._reach = math.sqrt(apart.max() + 1e-9 * squares.max()), math.sqrt(squares.max())
        self._constant = float((np.abs(norm[1]) @ np.abs(unembed) + np.abs(weights.b_U)).max())
        self._constant += self.lost * self._d * (2 + float(np.abs(unembed).max()))

    def gamma(self, n: float) -> float:
        """Return the relative error of n roundings."""
        return _SLACK * n * self.unit / (1 - n * self.unit)

    def summed(self, n: int, size: Floats, made: Floats) -> Floats:
        """Return the rounding of sums of n terms in any order, from their sums of absolute values and of values.

        A partial sum is at most that of the positive terms or of the negative ones: half of one sum and the other.
        """
        return np.asarray(_SLACK * n * self.unit * ((size + np.minimum(made, size)) / 2 + self.gamma(n + 8) * size))

    def size(self, z: Floats, ez: Floats) -> float:
        """Return the largest norm of what a linear map is applied to."""
        return math.sqrt(self._d) if self.weights.norm_eps else float((np.linalg.norm(z, axis=1) + ez).max(initial=0.0))

    def normalise(self, x: Floats, error: Floats) -> tuple[Floats, Floats]:
        """Return normalised rows before gain and shift, and the errors of their 2-norms, from those of the rows."""
        eps = self.weights.norm_eps
        if not eps:
            return x, error
        centred = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=1) + eps)
        return centred / spread[:, None], self.normalised_error(error, np.linalg.norm(x, axis=1), spread)

    def normalised_error(self, error: Any, norm: Any, spread: Any) -> Any:
        """Return the errors of normalised rows from those of the rows, bounds of their norms and of their deviations.

        A row's own error moves it by at most that over the deviation. The mean's moves it along the ones, that of the
        sum of squares by Welford's update along itself, which is orthogonal: while the latter is less than a 64th of
        the deviation, by 1.02 times its first order; and each entry is rounded thrice.
        """
        d, eps, (means, squares) = self._d, self.weights.norm_eps, self._centring
        size = norm + 2 * error + self.lost * d
        inner = error + self.gamma(math.hypot(means, 1.02 * squares) + 3) * size
        near = np.maximum(spread - error / math.sqrt(d), math.sqrt(eps))
        is_known = (eps > self.lost * d) & (64 * self.gamma(squares) * size < math.sqrt(d) * near)
        least = np.maximum(spread - 2 * inner / math.sqrt(d), math.sqrt(eps))
        return np.where(is_known, _SLACK * inner / least + self.gamma(d + 8) * math.sqrt(d), np.inf)

    def activate(self, x: Floats) -> Floats:
        """Return the activation of every element."""
        kind = self.weights.activation
        if kind == "gelu_tanh":
            return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))))
        if kind == "gelu_erf":
            return np.asarray(0.5 * x * (1 + np.asarray(_ERF(x / math.sqrt(2)), np.float64)))
        return np.asarray(x / (1 + np.exp(-np.clip(x, -700, None)))) if kind == "silu" else np.maximum(x, 0.0)

    def _attention(self, z: Floats, ez: Floats, nodes: Nodes, layer: _Layer) -> tuple[Floats, Floats]:
        """Mix values along each node's prefix. Shapes: z [node, d_model]; returns the same and its error [node]."""
        (q, k, v), gamma, scale = (linear(z) for linear in layer.qkv), self.gamma(self._d + 6), layer.scale
        slip = [gamma * linear.local(self.size(z, ez)) for linear in layer.qkv]
        eq, ek, ev = (linear.gain * ez + local for linear, local in zip(layer.qkv, slip, strict=True))
        nq, nk, nv = (np.linalg.norm(part, axis=2) + 2 * e for part, e in ((q, eq), (k, ek), (v, ev)))
        by_query = np.linalg.norm(k @ layer.qkv[0].weight.swapaxes(1, 2), axis=2)
        by_key = np.linalg.norm(q @ layer.qkv[1].weight.swapaxes(1, 2), axis=2)
        mixed, error = np.zeros_like(v), np.zeros_like(ez)
        for first, path in nodes.levels:
            here, n_keys = slice(first, first + len(path)), path.shape[1]
            keys, values, own_k, own_q = k[:, path], v[:, path], nk[:, path], nq[:, here, None]
            scores = np.einsum("hmd,hmpd->hmp", q[:, here], keys) * scale
            scores -= scores.max(axis=2, keepdims=True)
            pattern = np.exp(scores)
            pattern /= pattern.sum(axis=2, keepdims=True)
            mixed[:, here] = np.einsum("hmp,hmpd->hmd", pattern, values)
            values -= mixed[:, here, None]
            away = np.sqrt(np.einsum("hmpd,hmpd->hmp", values, values))
            drift = ez[here, None] * by_query[:, path] + by_key[:, here, None] * ez[path]
            drift += slip[0][..., None] * own_k + slip[1][..., None] * own_q
            drift += (
                self.gamma(k.shape[2] + 3) * (own_q * own_k + self.lost * self._d) + 3 * eq[:, here, None] * ek[:, path]
            )
            drift = _SLACK * abs(scale) * drift - self.gamma(2) * scores + self.gamma(n_keys + 12)
            # a mean of values moves by the mean of (e^drift - 1) times their distance from it, over the new total
            rise = pattern * np.expm1(np.minimum(drift, 300.0))
            total = np.where(drift.max(axis=2) < 300.0, rise.sum(axis=2), np.inf)
            room = np.where(total < 0.5, 1 - np.minimum(total, 0.5), 0.0)
            whole = (pattern * nv[:, path]).sum(axis=2) + self.lost * (nv[:, path].max(axis=2) + self._d)
            moved = (rise * away).sum(axis=2) + self.gamma(n_keys + 3) * whole
            by_source = ((pattern + rise) * ez[path]).sum(axis=2)
            with np.errstate(divide="ignore", invalid="ignore"):
                part = (layer.out * (moved + slip[2]) + layer.value_out * by_source) / room
            error[here] = np.where(room > 0, part, np.inf).sum(axis=0)
        joined, (size, constant) = mixed.swapaxes(0, 1).reshape(len(z), -1), layer.sizes[0]
        size = gamma * (np.linalg.norm(joined, axis=1) * size + constant)
        return joined @ layer.attn_proj[0] + layer.attn_proj[1], error + size

    def _mlp(self, z: Floats, ez: Floats, layer: _Layer) -> tuple[Floats, Floats]:
        hidden, (size, constant), (weight, bias) = layer.into(z)[0], layer.sizes[1], layer.mlp_proj
        local = 1.13 * self.gamma(self._d + 6) * layer.into.local(self.size(z, ez))[0]
        local = local + self.gamma(16) * (np.linalg.norm(hidden, axis=1) + self.lost * hidden.shape[1])
        active = self.activate(hidden)
        error = layer.slope * ez + layer.back * local
        rounding = self.gamma(len(weight) + 1) * (np.linalg.norm(active, axis=1) * size + constant)
        return active @ weight + bias, _SLACK * error + rounding

    def _add(self, x: Floats, e: Floats, part: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
        total = x + part[0]
        return total, _SLACK * (e + part[1] + self.unit * (np.linalg.norm(total, axis=1) + self.lost * self._d))

    def logits(self, prompts: NDArray[np.int32], offset: int, first: int) -> tuple[Floats, Floats]:
        """Evaluate prompts of one length; return the logits from position ``first`` on, and two bounds of their errors.

        Shapes: ``prompts`` [input, position] token ids; logits [input, position, vocabulary]; bounds [2, input,
        position], of the difference of any two logits and of any one. ``offset`` is the first position id.
        """
        w, nodes = self.weights, Nodes.of(prompts, len(self.weights.embed))
        if not w.is_plain:
            raise ValueError("prompts share what their prefixes have in common only where attention is causal")
        x = w.embed[nodes.tokens] + w.places[nodes.places + offset]
        e = _SLACK * self.unit * (np.linalg.norm(x, axis=1) + self.lost * self._d)
        for layer in self.layers:
            x, e = self._add(x, e, self._attention(*self.normalise(x, e), nodes, layer))
            if w.activation is not None:
                x, e = self._add(x, e, self._mlp(*self.normalise(x, e), layer))
        read = nodes.leaf[:, first:]
        z, ez = self.normalise(x[read.reshape(-1)], e[read.reshape(-1)])
        apart, alone = self._reach
        local = self.gamma(self._d + 6) * (self.size(z, ez) * (alone + self.lost * self._d) + self._constant)
        bound = np.stack([apart * ez + 2 * local, alone * ez + local]) * _SLACK
        return self._final(z)[0].reshape(*read.shape, -1), bound.reshape(2, *read.shape)
