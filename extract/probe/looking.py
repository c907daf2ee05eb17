"""What a network shows on a few inputs: attention patterns and residual streams where programs have cells.

A program's cells are the input's tokens, the read-out, or the steps of a generated answer; a place is the prompt
position behind each. It scores nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.batch import Batch
from extract.model.observed import Floats, Observed
from extract.network import Array, Layer, Network, Norm
from extract.readout import Inputs
from extract.vocabulary import ABSENT, Codes

Place = Literal["position", "whole", "step"]

#: Inputs longer than this tell little more about a head and take the square of their length.
_LONGEST = 12
_LENGTHS, _PER_LENGTH = 4, 20


@dataclass(frozen=True, slots=True)
class Asked:
    """Inputs with the generated token ids that follow each (-1 beyond, no column for other read-outs), and as codes."""

    inputs: Inputs
    written: NDArray[np.int32]
    batch: Batch


@dataclass(frozen=True, slots=True)
class Seen:
    """What one network showed. Shapes, by place: ``patterns`` [layer, head, input, query, key + 1], keys are tokens of
    the input and last comes the rest of the prompt; ``residual`` [layer, input, query, d_model]; ``mask``
    [input, query] says which cells exist."""

    patterns: dict[Place, Floats]
    residual: dict[Place, Floats]
    mask: dict[Place, NDArray[np.bool_]]


def draw(domain: Domain, seed: int) -> Inputs:
    """Return inputs of a few lengths, distinct ones of each, in a fixed order for one seed."""
    lengths = [n for n in domain.lengths if n and (domain.size_at(n) or not domain.is_exact_at(n))]
    usual = [n for n in lengths if n <= _LONGEST] or lengths[:1]
    picked = sorted({usual[int(i)] for i in np.linspace(len(usual) / 3, len(usual) - 1, _LENGTHS)}) if usual else []
    rows: list[tuple[tuple[int, ...], int]] = []
    for n in picked:
        drawn = domain.sample(_PER_LENGTH, seed + n, n)
        rows += list(dict.fromkeys(drawn.row(i) for i in range(len(drawn))))
    return Inputs.of(rows)


def ask(domain: Domain, inputs: Inputs, answers: Codes) -> Asked:
    """Return inputs with what the model wrote after them, where it generates; ``answers`` are its cells."""
    vocabulary, n_steps = domain.vocabulary, 0
    written = np.full((len(inputs), 0), -1, dtype=np.int32)
    if domain.readout.at == "generate":
        n_steps = answers.shape[1]
        known = {int(code): i for i, code in enumerate(vocabulary.token_codes)}
        written = np.array([[known.get(int(c), -1) for c in row] for row in answers], np.int32).reshape(-1, n_steps)
    return Asked(inputs, written, Batch(inputs.codes(vocabulary), inputs.lengths, n_steps))


def look(network: Network, domain: Domain, asked: Asked) -> Seen:
    """Run a network on the inputs and gather patterns and residual streams by place."""
    observed, a = Observed(network), network.architecture
    inputs, n, width = asked.inputs, len(asked.inputs), asked.batch.width
    sizes: dict[Place, int] = {"position": width, "whole": 1, "step": asked.written.shape[1]}
    mask: dict[Place, NDArray[np.bool_]] = {p: np.zeros((n, q), np.bool_) for p, q in sizes.items()}
    shape = (a.n_layers, a.n_heads, n)
    patterns: dict[Place, Floats] = {p: np.zeros((*shape, q, width + 1)) for p, q in sizes.items()}
    residual: dict[Place, Floats] = {p: np.zeros((a.n_layers, n, q, a.d_model)) for p, q in sizes.items()}
    names = [f"layers.{i}.{name}" for i in range(a.n_layers) for name in ("pattern", "residual")]
    for i in range(n):
        tokens, offset = inputs.tokens[i : i + 1, : inputs.lengths[i]], int(inputs.offsets[i])
        prompt, places, keys = _laid_out(domain, tokens, asked.written[i])
        trace = observed.trace(prompt, offset, names)
        for place, positions in places.items():
            cells = slice(0, len(positions))
            mask[place][i, cells] = True
            for layer in range(a.n_layers):
                pattern = trace[f"layers.{layer}.pattern"][0][:, positions]
                patterns[place][layer, :, i, cells, : len(keys)] = pattern[:, :, keys]
                patterns[place][layer, :, i, cells, -1] = 1 - pattern[:, :, keys].sum(axis=2)
                residual[place][layer, i, cells] = trace[f"layers.{layer}.residual"][0, positions]
    return Seen(patterns, residual, mask)


def _laid_out(
    domain: Domain, tokens: NDArray[np.int32], written: NDArray[np.int32]
) -> tuple[NDArray[np.int64], dict[Place, list[int]], list[int]]:
    """Return a prompt with what was written after it, the position behind every cell, and behind every token."""
    cells = list(domain.template.layout(tokens.shape[1]))
    keys = [cells.index(-1 - i) for i in range(tokens.shape[1])]
    after = [int(t) for t in written if t >= 0]
    prompt = np.concatenate([domain.render(tokens)[0], after[:-1] if after else []]).astype(np.int64)[None]
    places: dict[Place, list[int]] = {"position": keys, "whole": [], "step": []}
    if domain.readout.at == "generate":
        places["step"] = [len(cells) - 1 + j for j in range(len(after))]
    elif domain.readout.at != "every":
        places["whole"] = list(domain.read_positions(tokens.shape[1]))
    return prompt, places, keys


def untrained_twin(network: Network, seed: int) -> Network:
    """Return a network of the same architecture whose weights are drawn with the same spread, tensor by tensor.

    An untrained network also "holds" position and length in its residual stream: what it shows is no finding.
    """
    rng = np.random.default_rng(seed)

    def drawn(array: Array, *, is_map: bool = True) -> Array:
        # a map of zeros is drawn like a fresh one: a twin that could not look anywhere would show nothing by chance
        spread = (float(array.std()) if array.size else 0.0) or (network.architecture.d_model**-0.5 if is_map else 0.0)
        return rng.normal(0.0, spread, array.shape).astype(np.float32)

    def norm(like: Norm | None) -> Norm | None:
        return None if like is None else Norm(np.ones_like(like.weight), np.zeros_like(like.bias))

    def layer(like: Layer) -> Layer:
        held = {f.name: getattr(like, f.name) for f in fields(like)}
        parts: dict[str, Any] = {
            k: drawn(v, is_map=k.startswith("W")) if isinstance(v, np.ndarray) else norm(v) for k, v in held.items()
        }
        return Layer(**parts)

    positions = None if network.pos_embed is None else drawn(network.pos_embed)
    return replace(
        network, embed=drawn(network.embed), pos_embed=positions, layers=tuple(map(layer, network.layers)),
        norm_final=norm(network.norm_final), W_U=drawn(network.W_U), b_U=np.zeros_like(network.b_U), digest="",
    )  # fmt: skip


def total_variation(pattern: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """Return how far attention is from looking evenly at the chosen keys. Shapes: pattern [..., key + 1], chosen
    [..., key] (broadcast); [...].

    Attention to the rest of the prompt counts as looking at nothing: it is left out of the comparison unless nothing
    is chosen, when it is what is right. 0 is equal, 1 is disjoint.
    """
    inside = pattern[..., :-1]
    held = inside.sum(axis=-1)
    count = chosen.sum(axis=-1)
    even = chosen / np.maximum(count, 1)[..., None]
    apart = 0.5 * np.abs(inside / np.maximum(held, 1e-9)[..., None] - even).sum(axis=-1)
    apart = np.where(held < math.ulp(1.0), 1.0, np.minimum(apart, 1.0))
    return np.asarray(np.where(count > 0, apart, held))


def used_codes(asked: Asked) -> list[int]:
    """Return the codes that occur in the inputs, ascending."""
    codes = asked.batch.codes
    return [int(c) for c in np.unique(codes[codes != ABSENT])]
