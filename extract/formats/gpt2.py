"""Hugging Face GPT-2: Conv1D weights ``[in, out]``, a head that is usually the embedding, facts in ``config.json``.

Source: the tensor names that ``GPT2LMHeadModel.save_pretrained`` writes, and design/formats.md. nanoGPT uses the same
names with transposed weights; the orientation of ``c_attn`` tells them apart.
"""

from __future__ import annotations

import re
from typing import Final, final

import numpy as np

from extract.errors import CheckpointError
from extract.formats.config import Config
from extract.formats.format import Equations, Format, Match, Plan, Source
from extract.formats.gpt2_facts import Facts, settle_facts
from extract.formats.safetensors import Header, Tensors
from extract.network import Architecture, Array, Layer, Network, Norm

PREFIX: Final = "transformer."
_LAYER_SHAPES = {
    "ln_1.weight": ("D",), "ln_1.bias": ("D",),
    "attn.c_attn.weight": ("D", "3D"), "attn.c_attn.bias": ("3D",),
    "attn.c_proj.weight": ("D", "D"), "attn.c_proj.bias": ("D",),
    "ln_2.weight": ("D",), "ln_2.bias": ("D",),
    "mlp.c_fc.weight": ("D", "M"), "mlp.c_fc.bias": ("M",),
    "mlp.c_proj.weight": ("M", "D"), "mlp.c_proj.bias": ("D",),
}  # fmt: skip
#: Masks and constants that older versions save; they are checked for shape and never read.
_LAYER_BUFFERS = {"attn.bias": ("1", "1", "C", "C"), "attn.masked_bias": ()}
_LAYER_NUMBER = re.compile(r"h\.(0|[1-9][0-9]{0,3})\.")
_HEAD = "lm_head.weight"
_MATRIX_RANK = 2


@final
class HuggingFaceGpt2(Format):
    """GPT-2 as transformers saves it, with or without the ``transformer.`` prefix, head tied or not."""

    name = "gpt2"
    title = "Hugging Face GPT-2"

    def match(self, header: Header) -> Match:
        """Explain the names and shapes as GPT-2's."""
        prefix, n_layers = _prefix(header), _n_layers(header)
        needed = _needed(prefix, n_layers)
        buffers = _buffers(prefix, n_layers, header)
        known = {**needed, **buffers, _HEAD: ("U", "D")}
        leftover = tuple(name for name in sorted(header.tensors) if name not in known)
        missing = tuple(name for name in needed if name not in header.tensors)
        n_tensors = len(header.tensors)
        is_solved = f"{prefix}wte.weight" in header.tensors and f"{prefix}wpe.weight" in header.tensors
        failure = Equations(known, _dimensions(header, prefix)).failure(header) if is_solved else None
        failure = failure or _stored_as_integers(header, [*needed, _HEAD])
        return Match(
            self.title,
            n_tensors - len(leftover),
            n_tensors,
            leftover,
            missing,
            failure,
            _match_evidence(header, prefix, n_layers, bool(buffers)) if not (leftover or missing or failure) else (),
        )

    def plan(self, source: Source) -> Plan:
        """Conclude the architecture from shapes, config and spec."""
        header, prefix, n_layers = source.header, _prefix(source.header), _n_layers(source.header)
        sizes = _dimensions(header, prefix)
        _check_sizes(source.config, sizes, n_layers)
        _check_tying(source.config, header)
        facts = settle_facts(source.config, source.facts, sizes["D"], n_layers)
        if facts.missing:
            return Plan(None, facts.missing, facts.evidence)
        floats = sorted({header.tensors[n].dtype for n in _needed(prefix, n_layers)})
        return Plan(_architecture(facts, sizes, n_layers, floats), (), facts.evidence)

    def build(self, source: Source, plan: Plan, tensors: Tensors) -> Network:
        """Read the weights and split them by head."""
        a = plan.architecture
        if a is None:
            raise LookupError("a plan without an architecture builds no network")
        prefix = _prefix(source.header)
        embed = tensors.array(f"{prefix}wte.weight")
        head = _head(source, tensors, embed)
        return Network(
            architecture=a,
            digest=tensors.digest,
            embed=embed,
            pos_embed=tensors.array(f"{prefix}wpe.weight"),
            layers=tuple(_layer(tensors, f"{prefix}h.{i}.", a) for i in range(a.n_layers)),
            norm_final=_norm(tensors, f"{prefix}ln_f"),
            W_U=head.T,
            b_U=np.zeros(a.d_vocab_out, np.float32),
        )


def _prefix(header: Header) -> str:
    return PREFIX if any(name.startswith(PREFIX) for name in header.tensors) else ""


def _n_layers(header: Header) -> int:
    prefix = _prefix(header)
    found = (_LAYER_NUMBER.match(n.removeprefix(prefix)) for n in header.tensors if n.startswith(prefix))
    # A hole in the numbering shows as missing names; more layers than tensors cannot be.
    numbers = [int(m.group(1)) for m in found if m]
    return min(max(numbers, default=-1) + 1, len(header.tensors))


def _needed(prefix: str, n_layers: int) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {"wte.weight": ("V", "D"), "wpe.weight": ("C", "D")}
    for i in range(n_layers):
        names |= {f"h.{i}.{name}": shape for name, shape in _LAYER_SHAPES.items()}
    names |= {"ln_f.weight": ("D",), "ln_f.bias": ("D",)}
    return {prefix + name: shape for name, shape in names.items()}


def _buffers(prefix: str, n_layers: int, header: Header) -> dict[str, tuple[str, ...]]:
    names = {f"{prefix}h.{i}.{n}": shape for i in range(n_layers) for n, shape in _LAYER_BUFFERS.items()}
    present = {name: shape for name, shape in names.items() if name in header.tensors}
    position_ids = f"{prefix}position_ids"
    if position_ids in header.tensors:
        present[position_ids] = ("1", "C") if len(header.tensors[position_ids].shape) == _MATRIX_RANK else ("C",)
    return present


def _dimensions(header: Header, prefix: str) -> dict[str, int]:
    """Solve the letters from one tensor each; wrong ranks give sizes that fail the equations."""

    def size(name: str, axis: int, default: int) -> int:
        info = header.tensors.get(name)
        return info.shape[axis] if info is not None and len(info.shape) == _MATRIX_RANK else default

    d_vocab, d_model = size(f"{prefix}wte.weight", 0, 0), size(f"{prefix}wte.weight", 1, 0)
    return {
        "V": d_vocab,
        "D": d_model,
        "C": size(f"{prefix}wpe.weight", 0, 0),
        "M": size(f"{prefix}h.0.mlp.c_fc.weight", 1, 4 * d_model),
        "U": size(_HEAD, 0, d_vocab),
    }


def _stored_as_integers(header: Header, names: list[str]) -> str | None:
    for name in names:
        info = header.tensors.get(name)
        if info is not None and not info.is_float:
            return f"{name} has dtype {info.dtype}, expected F64, F32, F16 or BF16"
    return None


def _match_evidence(header: Header, prefix: str, n_layers: int, has_buffers: bool) -> tuple[str, ...]:
    named = f"prefix {prefix!r}" if prefix else "no prefix"
    layers = "1 layer" if n_layers == 1 else f"{n_layers} layers"
    lines = [f"all {len(header.tensors)} tensor names are GPT-2's ({named}, {layers}), all shapes fit"]
    if n_layers:
        shape = list(header.tensors[f"{prefix}h.0.attn.c_attn.weight"].shape)
        lines.append(f"h.0.attn.c_attn.weight is {shape} = [D, 3D], so weights are Conv1D (nanoGPT: [3D, D])")
    if _HEAD not in header.tensors:
        lines.append("no lm_head.weight, so the unembedding is the embedding (tied)")
    if has_buffers:
        lines.append("mask buffers are passed over: GPT-2 attention is causal whatever they hold")
    return tuple(lines)


def _check_sizes(config: Config, sizes: dict[str, int], n_layers: int) -> None:
    config.require_equal("n_embd", sizes["D"], "wte.weight's rows")
    config.require_equal("n_layer", n_layers, "the list of h.* layers")
    config.require_equal("n_positions", sizes["C"], "wpe.weight")
    config.require_equal("n_ctx", sizes["C"], "wpe.weight")
    config.require_equal("vocab_size", sizes["V"], "wte.weight")
    n_inner = config.integer("n_inner")
    if n_inner is None and config.values and n_layers and sizes["M"] != 4 * sizes["D"]:
        raise CheckpointError(
            f"n_inner is absent, which means {4 * sizes['D']}, but mlp.c_fc has {sizes['M']} neurons",
            place=config.place,
            hint=f'set "n_inner": {sizes["M"]}',
        )
    if n_layers:
        config.require_equal("n_inner", sizes["M"], "mlp.c_fc")


def _check_tying(config: Config, header: Header) -> None:
    if _HEAD not in header.tensors and not config.flag("tie_word_embeddings", default=True):
        raise CheckpointError(
            "tie_word_embeddings is false, but the checkpoint has no lm_head.weight",
            place=config.place,
            hint="the head was not saved; save the GPT2LMHeadModel, not the model inside it",
        )


def _head(source: Source, tensors: Tensors, embed: Array) -> Array:
    """Return the head's rows: the embedding itself where they are equal, so that a tied head counts once."""
    if _HEAD not in source.header.tensors:
        return embed
    head = tensors.array(_HEAD)
    if np.array_equal(head, embed):
        return embed
    config = source.config
    if config.flag("tie_word_embeddings", default=True):
        said = "tie_word_embeddings is true" if "tie_word_embeddings" in config.values else "GPT-2's default"
        raise CheckpointError(
            f"{_HEAD} differs from wte.weight, but the config ties them ({said})",
            place=config.place,
            hint='set "tie_word_embeddings": false if the stored head is the one that was trained',
        )
    return head


def _architecture(facts: Facts, sizes: dict[str, int], n_layers: int, dtypes: list[str]) -> Architecture:
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    return Architecture(
        n_layers=n_layers,
        d_model=sizes["D"],
        n_heads=facts.n_heads,
        d_head=sizes["D"] // facts.n_heads,
        d_mlp=sizes["M"],
        n_ctx=sizes["C"],
        d_vocab=sizes["V"],
        d_vocab_out=sizes["U"],
        attention="causal",
        norm="layernorm",
        norm_eps=facts.norm_eps,
        activation=facts.activation,
        positions="learned",
        attention_scale=facts.attention_scale,
        dtype="+".join(names[d] for d in dtypes),
    )


def _norm(tensors: Tensors, name: str) -> Norm:
    return Norm(tensors.array(f"{name}.weight"), tensors.array(f"{name}.bias"))


def _layer(tensors: Tensors, at: str, a: Architecture) -> Layer:
    weights = _by_head(tensors.array(f"{at}attn.c_attn.weight"), a)
    biases = tensors.array(f"{at}attn.c_attn.bias").reshape(3, a.n_heads, a.d_head)
    return Layer(
        norm_attention=_norm(tensors, f"{at}ln_1"),
        W_Q=weights[0],
        b_Q=biases[0],
        W_K=weights[1],
        b_K=biases[1],
        W_V=weights[2],
        b_V=biases[2],
        W_O=tensors.array(f"{at}attn.c_proj.weight").reshape(a.n_heads, a.d_head, a.d_model),
        b_O=tensors.array(f"{at}attn.c_proj.bias"),
        norm_mlp=_norm(tensors, f"{at}ln_2"),
        W_in=tensors.array(f"{at}mlp.c_fc.weight"),
        b_in=tensors.array(f"{at}mlp.c_fc.bias"),
        W_out=tensors.array(f"{at}mlp.c_proj.weight"),
        b_out=tensors.array(f"{at}mlp.c_proj.bias"),
    )


def _by_head(c_attn: Array, a: Architecture) -> Array:
    """Split [d_model, 3 * head * d_head] into [3, head, d_model, d_head]."""
    split = c_attn.reshape(a.d_model, 3, a.n_heads, a.d_head)
    return np.ascontiguousarray(split.transpose(1, 2, 0, 3))
