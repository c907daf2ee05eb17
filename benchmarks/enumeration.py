"""Speed of enumeration as ratios of runs in one process: ours against plain batched forward passes on the same inputs.

The plain passes compute every position of every prompt in batches and read the last one; they are given the best of a
few batch sizes, float32 wherever we used it for some inputs, and one core. Ours is everything from weights to answers:
measuring norms, tables, second looks, digests. A ratio is the median of three repetitions, ours and the plain passes
in turn. A row's length sets what sharing can save: a plain pass computes every position, a sum table one, so that a
ratio much above the number of positions is out of reach for wide networks. Nothing here is imported by the tool.

    python benchmarks/enumeration.py [--only tomita4] [--checkpoints ../shared/checkpoints/drasp]
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from extract.domain import Domain, build_domain
from extract.errors import ExtractError
from extract.formats import load_checkpoint
from extract.lang.promise import compile_promise
from extract.network import Layer, Network, Norm
from extract.progress import Silent
from extract.spec import TaskSpec, load_spec, with_overrides
from extract.verify.activations import activate
from extract.verify.enumerate import enumerate_model
from tests.networks import random_network

Floats = NDArray[Any]
#: Inputs the plain passes are timed on; their speed does not depend on how many there are.
N_PLAIN = 16_384
BATCHES = (256, 1024, 4096)
REPETITIONS = 3
#: Ours is run again until it has taken so many seconds, in every repetition.
LEAST_SECONDS = 0.1


@dataclass(frozen=True)
class Case:
    """One row of the table: a network and a domain of one or more lengths."""

    name: str
    network: Network
    domain: Domain

    @property
    def requirement(self) -> str:
        """The requirement that the row is measured against, empty for rows that only inform."""
        if self.network.architecture.n_layers == 1:
            return ONE_LAYER
        return DEEPER if self.domain.lengths[0] == self.domain.lengths[-1] == 12 else ""


@dataclass(frozen=True)
class Measured:
    """What was measured of a case: inputs, methods, inputs per second by ours, numpy and torch, and the ratios."""

    case: Case
    n_inputs: int
    methods: tuple[str, ...]
    ours: float
    numpy: float
    torch: float
    over_numpy: float
    over_torch: float


ONE_LAYER, DEEPER = "one layer, sum table", "two or more layers, length 12"
#: The least ratio to plain numpy.
REQUIRED = {ONE_LAYER: 20.0, DEEPER: 5.0}


def numpy_forward(network: Network, prompts: NDArray[np.int32], dtype: type) -> Floats:
    """Return the logits at the last position: the plain batched pass in numpy."""
    a = network.architecture
    width = prompts.shape[1]
    x: Floats = network.embed.astype(dtype)[prompts]
    if network.pos_embed is not None:
        x = x + network.pos_embed.astype(dtype)[:width]
    hidden_from = (
        np.triu(np.ones((width, width), bool), 1) if a.attention == "causal" else np.zeros((width, width), bool)
    )
    for index, layer in enumerate(network.layers):
        x = x + _attention(x, layer, a.attention_scale[index], hidden_from, a.norm_eps)
        z = _norm(x, layer.norm_mlp, a.norm_eps)
        x = (
            x
            + activate(a.activation, z @ layer.W_in.astype(dtype) + layer.b_in.astype(dtype))
            @ layer.W_out.astype(dtype)
            + layer.b_out.astype(dtype)
        )
    last = _norm(x[:, -1], network.norm_final, a.norm_eps)
    return np.asarray(last @ network.W_U.astype(dtype) + network.b_U.astype(dtype))


def _attention(x: Floats, layer: Layer, scale: float, hidden_from: NDArray[np.bool_], eps: float) -> Floats:
    h, d, k = layer.W_Q.shape
    z = _norm(x, layer.norm_attention, eps)
    q, key, v = (
        (z @ w.transpose(1, 0, 2).reshape(d, -1).astype(x.dtype) + b.reshape(-1).astype(x.dtype))
        .reshape(*z.shape[:2], h, k)
        .transpose(0, 2, 1, 3)
        for w, b in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
    )
    scores = q @ key.transpose(0, 1, 3, 2) * x.dtype.type(scale)
    scores[:, :, hidden_from] = -np.inf
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed = (scores @ v).transpose(0, 2, 1, 3).reshape(*z.shape[:2], h * k)
    return np.asarray(mixed @ layer.W_O.reshape(h * k, d).astype(x.dtype) + layer.b_O.astype(x.dtype))


def _norm(x: Floats, norm: Norm | None, eps: float) -> Floats:
    if norm is None:
        return x
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    result = centred / np.sqrt(variance + x.dtype.type(eps)) * norm.weight.astype(x.dtype) + norm.bias.astype(x.dtype)
    return np.asarray(result)


class TorchForward:
    """The plain batched pass in torch, with its own fused kernels."""

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        self.network, self.dtype = network, dtype

    def tensor(self, array: Floats) -> torch.Tensor:
        """Return a weight in the float type of the pass."""
        return torch.from_numpy(np.array(array)).to(self.dtype)

    def __call__(self, prompts: NDArray[np.int32]) -> torch.Tensor:
        """Return the logits at the last position."""
        net, a = self.network, self.network.architecture
        ids = torch.from_numpy(prompts.astype(np.int64))
        x = self.tensor(net.embed)[ids]
        if net.pos_embed is not None:
            x = x + self.tensor(net.pos_embed)[: ids.shape[1]]
        for index, layer in enumerate(net.layers):
            h, d, k = layer.W_Q.shape
            z = self._norm(x, layer.norm_attention)
            q, key, v = (
                (z @ self.tensor(w.transpose(1, 0, 2).reshape(d, -1)) + self.tensor(b.reshape(-1)))
                .view(*z.shape[:2], h, k)
                .transpose(1, 2)
                for w, b in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
            )
            mixed = torch.nn.functional.scaled_dot_product_attention(
                q, key, v, is_causal=a.attention == "causal", scale=a.attention_scale[index]
            )
            mixed = mixed.transpose(1, 2).reshape(*z.shape[:2], h * k)
            x = x + mixed @ self.tensor(layer.W_O.reshape(h * k, d)) + self.tensor(layer.b_O)
            hidden = self._norm(x, layer.norm_mlp) @ self.tensor(layer.W_in) + self.tensor(layer.b_in)
            hidden = torch.nn.functional.gelu(hidden, approximate="tanh" if a.activation == "gelu_tanh" else "none")
            x = x + hidden @ self.tensor(layer.W_out) + self.tensor(layer.b_out)
        return self._norm(x[:, -1], net.norm_final) @ self.tensor(net.W_U) + self.tensor(net.b_U)

    def _norm(self, x: torch.Tensor, norm: Norm | None) -> torch.Tensor:
        if norm is None:
            return x
        weight, bias = self.tensor(norm.weight), self.tensor(norm.bias)
        return torch.nn.functional.layer_norm(x, (x.shape[-1],), weight, bias, self.network.architecture.norm_eps)


def seconds_per_input(run: Callable[[NDArray[np.int32]], object], domain: Domain) -> float:
    """Return the processor time of a plain pass per input, lengths weighted as in the domain, best batch size."""
    total = sum(domain.size_at(n) for n in domain.lengths)
    best = math.inf
    for batch in BATCHES:
        spent = 0.0
        for length in domain.lengths:
            size = domain.size_at(length)
            n = min(size, batch, max(1, N_PLAIN * size // total))
            if not n:
                continue
            prompts = domain.render(domain.tokens(length, 0, n))
            run(prompts)
            started = time.process_time()
            run(prompts)
            spent += (time.process_time() - started) / n * size
        best = min(best, spent / total)
    return best


def ours_per_input(case: Case) -> tuple[float, int, tuple[str, ...]]:
    """Return the processor time of an enumeration per input, the inputs and the methods."""
    n_runs, started = 0, time.process_time()
    while not n_runs or time.process_time() - started < LEAST_SECONDS:
        table = enumerate_model(case.network, case.domain, progress=Silent())
        n_runs += 1
    spent = time.process_time() - started
    return spent / n_runs / max(table.n_evaluated, 1), table.n_evaluated, table.methods


def measure(case: Case) -> Measured:
    """Time one case, all contestants in turn."""
    domain = case.domain
    for length in domain.lengths:
        domain.graph_at(length)
    _, n_inputs, methods = ours_per_input(case)
    is_single = any("float32" in m for m in methods)
    dtype = np.float32 if is_single else np.float64
    torch_pass = TorchForward(case.network, torch.float32 if is_single else torch.float64)
    times = []
    for _ in range(REPETITIONS):
        best, _, _ = ours_per_input(case)
        plain = seconds_per_input(lambda prompts: numpy_forward(case.network, prompts, dtype), domain)
        with torch.inference_mode():
            fused = seconds_per_input(torch_pass, domain)
        times.append((best, plain, fused))
    ours, plain, fused = (statistics.median(column) for column in zip(*times, strict=True))
    over_numpy = statistics.median(p / o for o, p, _ in times)
    over_torch = statistics.median(f / o for o, _, f in times)
    return Measured(case, n_inputs, methods, 1 / ours, 1 / plain, 1 / fused, over_numpy, over_torch)


def row_of(m: Measured) -> str:
    """Return a case's row of the table."""
    a, wanted = m.case.network.architecture, m.case.requirement
    verdict = "" if not wanted else "met" if m.over_numpy >= REQUIRED[wanted] else "SHORT"
    kinds = ", ".join(dict.fromkeys(f"{method.split(',')[0]} {method.split()[-1]}" for method in m.methods))
    return (
        f"{m.case.name:28} {a.n_layers}x{a.d_model:<4} {m.n_inputs:>9,} {m.ours:>10,.0f} {m.numpy:>8,.0f}"
        f" {m.torch:>8,.0f} {m.over_numpy:>6.1f}x {m.over_torch:>6.1f}x {verdict:>5}  {kinds}"
    )


def verdicts(measured: list[Measured]) -> list[str]:
    """Return one line per requirement: how many rows meet it, and which is lowest."""
    lines = []
    for wanted, least in REQUIRED.items():
        rows = [m for m in measured if m.case.requirement == wanted]
        if not rows:
            continue
        met, low = sum(m.over_numpy >= least for m in rows), min(rows, key=lambda m: m.over_numpy)
        a = low.case.network.architecture
        lines.append(
            f"{wanted}: >= {least:g}x numpy met by {met} of {len(rows)} rows;"
            f" lowest {low.over_numpy:.1f}x ({low.case.name}, {a.n_layers}x{a.d_model})"
        )
    return lines


def binary_domain(low: int, high: int) -> Domain:
    """Return all strings of two letters between two lengths, framed by a start and an end token."""
    raw = {
        "version": 1,
        "name": "case",
        "tokens": {"vocab": ["a", "b", "c", "<s>", "<e>"]},
        "domain": {"alphabet": ["a", "b"], "template": "<s> {x} <e>", "min_length": low, "max_length": high},
        "readout": {"at": "last"},
    }
    return build_domain(msgspec.convert(raw, TaskSpec), compile_promise)


def majority_network() -> Network:
    """Return a one-layer network that sees little but how many letters are of each kind: opposite embeddings, faint
    positions, nearly uniform attention."""
    network = random_network(7, n_layers=1, d_model=16, n_heads=1, d_vocab=5, n_ctx=32, spread=0.25)
    embed, layer = network.embed.copy(), network.layers[0]
    embed[1] = -embed[0]
    faint = np.float32(0.1)
    positions = np.zeros_like(embed[:1]) if network.pos_embed is None else network.pos_embed * faint
    layer = replace(layer, W_Q=layer.W_Q * faint, b_Q=layer.b_Q * faint)
    return replace(network, embed=embed, pos_embed=positions, layers=(layer,), W_U=embed.T)


def cases(folder: Path) -> list[Case]:
    """Return random networks of several shapes, and the real checkpoints where they are present."""
    made = []
    for layers, d_model in ((1, 16), (1, 64), (2, 16), (2, 64), (3, 32)):
        network = random_network(1, n_layers=layers, d_model=d_model, d_vocab=5, n_ctx=32, spread=0.25)
        made.append(Case("random, length 1-12", network, binary_domain(1, 12)))
        made.append(Case("random, length 12", network, binary_domain(12, 12)))
        if layers == 1:
            made.append(Case("random, length 18", network, binary_domain(18, 18)))
    made.append(Case("majority-like, length 12", majority_network(), binary_domain(12, 12)))
    made.append(Case("majority-like, length 20", majority_network(), binary_domain(20, 20)))
    wanted = {"D2": 36, "bin_majority-": 20, "ab_d_bc": 16, "D4": 16, "tomita4": 18, "tomita5": 12}
    for name, longest in wanted.items():
        for path in sorted(folder.glob(f"*{name}*")):
            try:
                domain = build_domain(
                    with_overrides(load_spec(path / "spec.toml").spec, max_length=longest), compile_promise
                )
                made.append(Case(f"{name.strip('-')} to length {longest}", load_checkpoint(path).network, domain))
            except ExtractError as error:
                sys.stderr.write(f"{path.name}: {error}\n")
    return made


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parents[2] / "shared" / "checkpoints" / "drasp"
    parser.add_argument("--checkpoints", type=Path, default=default)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("inputs per second of processor time, one core; ratios are medians of 3, ours and plain in turn")
    print(
        f"{'case':28} {'shape':6} {'inputs':>9} {'ours':>10} {'numpy':>8} {'torch':>8} {'/numpy':>7} {'/torch':>7}"
        f" {'':>5}  method"
    )
    measured = []
    for case in cases(options.checkpoints):
        if options.only in case.name:
            measured.append(measure(case))
            print(row_of(measured[-1]), flush=True)
    print(*verdicts(measured), sep="\n")


if __name__ == "__main__":
    main()
