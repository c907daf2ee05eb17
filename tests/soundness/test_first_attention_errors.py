"""Errors of one attention in float32, key by key, against evaluations in hostile orders of hostile networks.

Means far above deviations, deviations down to eps, weights that cancel, weights of all sizes; every sum in a random, a
pairwise or the worst order, layer norms of centred values or by Welford's update, gains applied or multiplied in.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.check.anykind import forward_of
from extract.check.attended import Attended
from extract.check.forward import SINGLE
from extract.check.reader import read_network
from extract.check.spec import read_task
from extract.network import Network, Norm
from extract.verify.care import CAREFUL, CareStages
from extract.verify.head_sums import HeadSums
from extract.verify.stages import claims_of
from extract.verify.terms import TokenParts, TokenTerms, cells_of
from tests.networks import random_network, write_neutral
from tests.soundness.test_welford import F32, LONG, by_update
from tests.unit.verify.enumeration_cases import make_domain

Floats = NDArray[Any]
N = 4
SPEC = """version = 1
name = "case"
[tokens]
vocab = ["a", "b", "c", "<s>", "<e>"]
[domain]
min_length = 4
max_length = 4
template = "<s> {x}"
alphabet = ["a", "b", "c"]
offsets = [1]
[readout]
at = "last"
kind = "argmax"
"""


class Hostile:
    """One way to evaluate an attention in float32."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.order, self.norm = rng, str(rng.choice(["any", "pairs", "rising", "falling"])), rng.integers(3)
        self.is_folded, self.is_product, self.is_early = rng.integers(2, size=3) > 0

    def total(self, terms: Floats) -> Floats:
        terms = terms.astype(F32)
        first, width = terms.reshape(-1, terms.shape[-1])[0], terms.shape[-1]
        if self.order == "pairs":
            terms = terms[..., self.rng.permutation(width)]
            while terms.shape[-1] > 1:
                if terms.shape[-1] % 2:
                    terms = np.concatenate([terms, 0 * terms[..., :1]], axis=-1)
                terms = terms[..., ::2] + terms[..., 1::2]
            return np.asarray(terms[..., 0])
        orders = {
            "any": self.rng.permutation(width),
            "rising": np.argsort(np.abs(first)),
            "falling": np.argsort(-first),
        }
        made = np.zeros(terms.shape[:-1], F32)
        for k in orders[self.order]:
            made = made + terms[..., k]
        return made

    def linear(self, x: Floats, weights: Floats, bias: Floats | None = None) -> Floats:
        terms = x[..., None, :] * weights.T
        if bias is not None:
            terms = np.concatenate([terms, np.broadcast_to(bias[:, None], (*terms.shape[:-1], 1))], axis=-1)
        return self.total(terms)

    def normalised(self, x: Floats, eps: float) -> Floats:
        d = F32(x.shape[-1])
        if self.norm:
            order = np.argsort(-np.abs(x[0])) if self.order == "falling" else self.rng.permutation(x.shape[-1])
            mean, squares = by_update(x, order, self.norm > 1)
            centred = x - mean[:, None]
        else:
            centred = x - (self.total(x) / d)[:, None]
            squares = self.total(centred * centred)
        deviation = np.sqrt(squares / d + F32(eps))[:, None]
        return np.asarray(centred * (F32(1) / deviation) if self.is_product else centred / deviation)

    def mapped(self, z: Floats, norm: Norm | None, weights: Floats, bias: Floats) -> Floats:
        if norm is None:
            return self.linear(z, weights, bias)
        if self.is_folded:
            return self.linear(z, norm.weight[:, None] * weights, self.linear(norm.bias[None], weights, bias)[0])
        return self.linear(z * norm.weight + norm.bias, weights, bias)

    def residual(self, network: Network, ids: NDArray[np.intp]) -> Floats:
        """The last position's residual vector after the attention."""
        a, layer = network.architecture, network.layers[0]
        assert network.pos_embed is not None
        x = network.embed[ids] + network.pos_embed[1 : 1 + len(ids)]
        z, norm, scale = x, layer.norm_attention, F32(a.attention_scale[0])
        z = x if norm is None else self.normalised(x, a.norm_eps)
        means = []
        for h in range(a.n_heads):
            query = self.mapped(z[-1:], norm, layer.W_Q[h], layer.b_Q[h])
            key, value = (self.mapped(z, norm, w[h], b[h]) for w, b in ((layer.W_K, layer.b_K), (layer.W_V, layer.b_V)))
            scores = (self.linear(query * scale, key.T) if self.is_early else self.linear(query, key.T) * scale)[0]
            weights = np.exp(scores - scores.max())
            shares = weights if self.is_early else weights / self.total(weights)
            mean = self.linear(shares[None], value)[0]
            means.append(mean / self.total(weights) if self.is_early else mean)
        return x[-1] + self.linear(np.concatenate(means)[None], layer.W_O.reshape(-1, a.d_model), layer.b_O)[0]


def exact(network: Network, ids: NDArray[np.intp]) -> Floats:
    """The same to more digits."""
    a, layer = network.architecture, network.layers[0]
    assert network.pos_embed is not None
    x = network.embed[ids].astype(LONG) + network.pos_embed[1 : 1 + len(ids)]
    z = x
    if layer.norm_attention is not None:
        centred = x - x.mean(axis=1, keepdims=True)
        z = centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + LONG(a.norm_eps))
        z = z * layer.norm_attention.weight + layer.norm_attention.bias
    total = x[-1] + layer.b_O
    for h in range(a.n_heads):
        query, key, value = (
            z @ w[h].astype(LONG) + b[h]
            for w, b in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
        )
        scores = key @ query[-1] * LONG(a.attention_scale[0])
        weights = np.exp(scores - scores.max())
        total = total + (weights / weights.sum()) @ value @ layer.W_O[h].astype(LONG)
    return np.asarray(total)


def hostile_network(rng: np.random.Generator, kind: str) -> Network:
    norm = "none" if rng.integers(3) == 0 else "layernorm"
    network = random_network(
        int(rng.integers(1 << 30)), 1, int(rng.choice([4, 8, 16])), int(rng.choice([1, 2])), 5, 9, norm=norm, d_mlp=8,
        spread=float(rng.choice([0.05, 0.3, 1.0])),
    )  # fmt: skip
    assert network.pos_embed is not None
    layer, embed, pos = network.layers[0], network.embed.copy(), network.pos_embed.copy()
    size = F32(10.0 ** rng.integers(0, 4))
    if kind == "mean":
        embed = embed + size
    elif kind == "constant":
        embed, pos = size / 10 + F32(1e-4) * embed, F32(1e-4) * pos
    elif kind == "spike":
        embed[:, 0] += size
    elif kind == "large":
        embed = embed * size
    q, k, v, o = (
        (w * F32(10.0 ** rng.choice([-2, -1, 0, 1]))).astype(F32) for w in (layer.W_Q, layer.W_K, layer.W_V, layer.W_O)
    )
    biases = [layer.b_Q, layer.b_K, layer.b_V]
    gained = layer.norm_attention
    if gained is not None:
        gained = Norm(gained.weight * F32(10.0 ** rng.integers(-1, 2)), gained.bias * F32(10.0 ** rng.integers(0, 3)))
    if kind == "cancelling":
        for weights in (q, k, v):
            weights[:, 1], weights[:, 3] = -weights[:, 0], weights[:, 2] * F32(1.0001)
        embed[:, 1], pos[:, 1], o[:, 1] = embed[:, 0], pos[:, 0], -o[:, 0] * F32(1.001)
        if gained is not None:
            biases = [-np.einsum("d,hdk->hk", gained.bias, w).astype(F32) for w in (q, k, v)]
    layer = replace(
        layer, W_Q=q, W_K=k, W_V=v, W_O=o, b_Q=biases[0], b_K=biases[1], b_V=biases[2], norm_attention=gained
    )
    scale = float(rng.choice([1 / math.sqrt(network.architecture.d_head), -0.7, 3.0]))
    eps = float(rng.choice([1e-5, 1e-12, 1e-2]))
    a = replace(network.architecture, norm_eps=eps, attention_scale=(scale,))
    return replace(network, architecture=a, embed=embed, pos_embed=pos, layers=(layer,))


def bounds(network: Network, folder: Path, query: int) -> list[float]:
    """What the prover and the checker say of all inputs that end in a letter."""
    domain = make_domain(
        alphabet=("a", "b", "c"), template="<s> {x}", min_length=N, max_length=N, offsets=(1,), kind="argmax", at="last"
    )
    stages = CareStages(network, domain.readout, claims_of("f32-any-order"))(CAREFUL)
    layout, alphabet = domain.template.layout(N), np.array(domain.alphabet)
    terms = TokenTerms(TokenParts(stages, cells_of(layout, alphabet), 1), alphabet, layout, N + 1, N)
    whole = np.ones(stages.n_heads)
    ours = HeadSums.of(stages, terms, query, N + 1).computed(None, (whole, whole)).errors[1]
    write_neutral(network, folder, attention_scale=network.architecture.attention_scale[0])
    (folder / "spec.toml").write_text(SPEC)
    task = read_task(folder / "spec.toml", 5, [1])
    theirs = Attended(task, forward_of(read_network(folder), SINGLE), N, 1, N, query).start().error
    return [float(ours), float(theirs)]


@pytest.mark.parametrize("kind", ["plain", "mean", "constant", "spike", "large", "cancelling"])
def test_no_order_leaves_the_bounds_of_an_attention(kind: str, tmp_path: Path) -> None:
    nearest, n_finite = 0.0, 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network, query, folder = hostile_network(rng, kind), int(rng.integers(3)), tmp_path / str(seed)
        folder.mkdir()
        with np.errstate(all="ignore"):
            said = bounds(network, folder, query)
            for _ in range(12):
                letters = np.append(rng.integers(0, 3, N - 1), query)
                ids = np.append(3, letters)  # <s> and the letters
                made = Hostile(rng).residual(network, ids)
                off = float(np.linalg.norm((made - exact(network, ids)).astype(np.float64)))
                for bound in said:
                    assert off <= bound or bound == math.inf
                    nearest = max(nearest, off / bound)
        n_finite += sum(bound < math.inf for bound in said)
    assert n_finite >= 2 and nearest > 1e-3, "bounds this far off would be met by anything"
