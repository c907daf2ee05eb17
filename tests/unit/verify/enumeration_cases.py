"""Small domains and an independent forward pass for the tests of enumeration: loops and float64, nothing shared."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain, build_domain
from extract.lang.promise import compile_promise
from extract.network import Network, Norm
from extract.oracle import Oracle
from extract.readout import Answers, Inputs, widen
from extract.spec import TaskSpec
from extract.vocabulary import ABSENT


def make_domain(
    *,
    vocab: tuple[str, ...] = ("a", "b", "c", "<s>", "<e>"),
    alphabet: tuple[str, ...] = ("a", "b"),
    template: str = "{x}",
    min_length: int = 1,
    max_length: int = 4,
    offsets: tuple[int, ...] = (0,),
    promise: dict[str, Any] | None = None,
    **readout: Any,
) -> Domain:
    """Build a domain from the fields of a spec that matter here."""
    domain = {
        "alphabet": alphabet, "template": template, "min_length": min_length, "max_length": max_length,
        "offsets": offsets, **(promise or {}),
    }  # fmt: skip
    raw = {"version": 1, "name": "case", "tokens": {"vocab": vocab}, "domain": domain, "readout": readout}
    return build_domain(msgspec.convert(raw, TaskSpec), compile_promise)


def all_inputs(domain: Domain) -> Inputs:
    """Return every input in canonical order."""
    rows = [
        (tuple(int(t) for t in row), offset)
        for offset in domain.offsets
        for length in domain.lengths
        for row in domain.tokens(length, 0, domain.size_at(length))
    ]
    return Inputs.of(rows)


class BruteOracle(Oracle):
    """The network's answers by a forward pass written for reading: one input at a time, position by position."""

    def __init__(self, network: Network, domain: Domain) -> None:
        self.network, self.domain = network, domain

    def answer(self, inputs: Inputs) -> Answers:
        """Answer every input alone."""
        rows = [self.answer_one(*inputs.row(i)) for i in range(len(inputs))]
        width = max((len(cells) for cells, _ in rows), default=0)
        values = [widen(np.array([cells], np.int32).reshape(1, -1), width) for cells, _ in rows]
        return Answers(np.concatenate(values), np.array([margin for _, margin in rows]))

    def answer_one(self, tokens: tuple[int, ...], offset: int) -> tuple[list[int], float]:
        """Return the answer's cells and its least margin."""
        readout, vocabulary = self.domain.readout, self.domain.vocabulary
        prompt = [int(t) for t in self.domain.render(np.array([tokens], np.int32).reshape(1, -1))[0]]
        choices = list(readout.choices)
        codes = vocabulary.output_codes[choices]
        if readout.at == "generate":
            return self._generate(prompt, offset, codes)
        logits = brute_logits(self.network, prompt, offset)
        cells, margin = [], math.inf
        for position in self.domain.read_positions(len(tokens)):
            row = logits[position, choices]
            if readout.kind == "multilabel":
                cells += [int(x > readout.threshold) for x in row]
                margin = min(margin, float(np.abs(row - readout.threshold).min()))
            else:
                top, gap = _top(row)
                cells.append(int(codes[top]))
                margin = min(margin, gap)
        return cells, margin

    def _generate(self, prompt: list[int], offset: int, codes: NDArray[np.int32]) -> tuple[list[int], float]:
        readout = self.domain.readout
        cells: list[int] = []
        margin = math.inf
        while len(cells) < (readout.max_new or 10**9) and offset + len(prompt) <= self.network.architecture.n_ctx:
            row = brute_logits(self.network, prompt, offset)[-1, list(readout.choices)]
            top, gap = _top(row)
            margin = min(margin, gap)
            if readout.choices[top] == readout.stop:
                break
            cells.append(int(codes[top]))
            prompt = [*prompt, readout.choices[top]]
        return cells, margin


def _top(row: NDArray[np.float64]) -> tuple[int, float]:
    order = np.argsort(-row, kind="stable")
    return int(order[0]), float(row[order[0]] - row[order[1]]) if len(row) > 1 else math.inf


def brute_logits(network: Network, prompt: list[int], offset: int) -> NDArray[np.float64]:
    """Return all logits [position, output] of one prompt."""
    a = network.architecture
    x = network.embed[prompt].astype(np.float64)
    if network.pos_embed is not None:
        x = x + network.pos_embed[offset : offset + len(prompt)].astype(np.float64)
    for index, layer in enumerate(network.layers):
        z = _norm(x, layer.norm_attention, a.norm_eps)
        total = np.zeros_like(x) + layer.b_O
        for head in range(a.n_heads):
            q, k, v = (
                z @ w[head].astype(np.float64) + b[head]
                for w, b in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
            )
            for i in range(len(prompt)):
                seen = i + 1 if a.attention == "causal" else len(prompt)
                scores = [float(q[i] @ k[j]) * a.attention_scale[index] for j in range(seen)]
                weights = [math.exp(s - max(scores)) for s in scores]
                mixed = sum(w * v[j] for j, w in enumerate(weights)) / sum(weights)
                total[i] += mixed @ layer.W_O[head].astype(np.float64)
        x = x + total
        hidden = _norm(x, layer.norm_mlp, a.norm_eps) @ layer.W_in.astype(np.float64) + layer.b_in
        active = np.array([[_activation(a.activation, float(h)) for h in row] for row in hidden]).reshape(hidden.shape)
        x = x + active @ layer.W_out.astype(np.float64) + layer.b_out
    logits: NDArray[np.float64] = (
        _norm(x, network.norm_final, a.norm_eps) @ network.W_U.astype(np.float64) + network.b_U
    )
    return logits


def _norm(x: NDArray[np.float64], norm: Norm | None, eps: float) -> NDArray[np.float64]:
    if norm is None:
        return x
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + eps)
    return np.asarray(centred / deviation * norm.weight + norm.bias)


def _activation(kind: str, h: float) -> float:
    if kind == "relu":
        return max(h, 0.0)
    if kind == "silu":
        return h / (1 + math.exp(-h)) if h > -700 else 0.0
    if kind == "gelu_erf":
        return 0.5 * h * (1 + math.erf(h / math.sqrt(2)))
    return 0.5 * h * (1 + math.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))


def with_columns(network: Network, columns: dict[int, NDArray[Any]], bias: dict[int, float] | None = None) -> Network:
    """Return the network with some unembedding columns, and some output biases, replaced."""
    matrix, shift = np.array(network.W_U), np.array(network.b_U)
    for index, column in columns.items():
        matrix[:, index] = column
    for index, value in (bias or {}).items():
        shift[index] = value
    return replace(network, W_U=matrix.astype(np.float32), b_U=shift.astype(np.float32))


__all__ = ["ABSENT", "BruteOracle", "all_inputs", "brute_logits", "make_domain", "with_columns"]
