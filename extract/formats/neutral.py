"""The neutral layout: a network stored as it is thought of here, for architectures no other format has.

Tensors carry ``Network``'s own names and shapes; ``config.json`` beside them says everything the tensors do not, and
nothing is guessed. It is what ``extract train`` writes for networks that are no GPT-2.

``config.json`` holds ``model_type`` ("extract-neutral"), ``attention``, ``attention_scale`` (a number, or one for
each layer), ``norm``, ``positions``, and where they apply ``norm_eps``, ``norm_place``, ``activation``, ``n_ctx``,
``head_activation``, ``rotary`` (``base``, ``n_dims``, ``pairing``), ``softmax_share``, ``masked_token`` and
``embed_scale``; sizes may be repeated there and must then agree. Gates, embedding bias, a head's hidden layer and norms
are where their tensors are, in all layers or in none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np

from extract.errors import CheckpointError, SpecError
from extract.formats.format import Equations, Format, Match, Plan, Source
from extract.formats.neutral_config import head_activation, read_architecture
from extract.formats.safetensors import Header, Tensors
from extract.network import Architecture, Array, Head, Layer, Network, Norm

#: What ``model_type`` in config.json says.
MODEL_TYPE: Final = "extract-neutral"
_ATTENTION: Final = {
    "W_Q": ("H", "D", "K"), "b_Q": ("H", "K"), "W_K": ("H", "D", "K"), "b_K": ("H", "K"), "W_V": ("H", "D", "K"),
    "b_V": ("H", "K"), "W_O": ("H", "K", "D"), "b_O": ("D",),
}  # fmt: skip
_MLP: Final = {"W_in": ("D", "M"), "b_in": ("M",), "W_out": ("M", "D"), "b_out": ("D",)}
_GATE: Final = {"W_gate": ("D", "M"), "b_gate": ("M",)}
#: Norms of a layer, each in all layers or in none, with their width.
_SITES: Final = {"norm_attention": "D", "norm_mlp": "D", "norm_query": "K", "norm_key": "K", "norm_hidden": "M"}
_ONCE: Final = {"pos_embed": ("C", "D"), "embed_bias": ("D",)}
_HEAD: Final = {"head.W": ("D", "D"), "head.b": ("D",)}
_LAYER_NUMBER = re.compile(r"layers\.(0|[1-9][0-9]{0,3})\.", re.ASCII)
_NORM_NAMES: Final = {"layernorm": "layer norm", "rms": "RMS norm"}


@final
class Neutral(Format):
    """``embed``, ``layers.i.W_Q`` [head, d_model, d_head] ..., ``W_U``; MLPs, norms and positions where present."""

    name = "neutral"
    title = "extract's neutral layout"

    def match(self, header: Header) -> Match:
        """Explain the names and shapes as the neutral layout's."""
        known = _known(header)
        leftover = tuple(name for name in sorted(header.tensors) if name not in known)
        missing = tuple(name for name in known if name not in header.tensors and name != "b_U")
        n_tensors = len(header.tensors)
        if "embed" not in header.tensors or not _n_layers(header):
            return Match(self.title, 0, n_tensors, tuple(sorted(header.tensors)), missing)
        failure = Equations(known, _dimensions(header)).failure(header)
        for name in known:
            info = header.tensors.get(name)
            if failure is None and info is not None and not info.is_float:
                failure = f"{name} has dtype {info.dtype}, expected F64, F32, F16 or BF16"
        told = f"all {n_tensors} tensor names are the neutral layout's, all shapes fit"
        evidence = () if leftover or missing or failure else (told,)
        return Match(self.title, n_tensors - len(leftover), n_tensors, leftover, missing, failure, evidence)

    def plan(self, source: Source) -> Plan:
        """Conclude the architecture; every fact is in config.json, and the spec may repeat it.

        Raises:  CheckpointError for a config that is absent, incomplete or contradicts the tensors; SpecError where
                 the spec contradicts it.
        """
        config, header = source.config, source.header
        if config.text("model_type") != MODEL_TYPE:
            raise CheckpointError(
                f"model_type is {config.values.get('model_type')!r}, expected {MODEL_TYPE!r} beside tensors of "
                "the neutral layout",
                place=config.place,
                hint="the config.json belongs to the checkpoint and says what its tensors do not",
            )
        architecture = read_architecture(config, header, _dimensions(header), _n_layers(header))
        if "head.W" in header.tensors:
            head_activation(config)
        _check_spec(source, architecture)
        a = architecture
        neurons = f"{a.activation}" if a.d_mlp else "no MLP"
        norm = f"{_NORM_NAMES[a.norm]}, eps {a.norm_eps}" if a.norm != "none" else "no norm"
        told = f"{a.attention} attention, {neurons}, {norm}, attention scale {a.attention_scale[0]:.9g}"
        return Plan(architecture, (), (f"{config.place} says: {told}",))

    def build(self, source: Source, plan: Plan, tensors: Tensors) -> Network:
        """Read the weights under their own names."""
        a = plan.architecture
        if a is None:
            raise LookupError("a plan without an architecture builds no network")
        names = source.header.tensors
        return Network(
            architecture=a,
            digest=tensors.digest,
            embed=tensors.array("embed"),
            pos_embed=tensors.array("pos_embed") if "pos_embed" in names else None,
            layers=tuple(_layer(tensors, f"layers.{i}.", a, names) for i in range(a.n_layers)),
            norm_final=_norm(tensors, "norm_final", names),
            W_U=tensors.array("W_U"),
            b_U=tensors.array("b_U") if "b_U" in names else np.zeros(a.d_vocab_out, np.float32),
            embed_bias=tensors.array("embed_bias") if "embed_bias" in names else None,
            head=_head(tensors, source, names),
        )


def _n_layers(header: Header) -> int:
    numbers = [int(m.group(1)) for name in header.tensors if (m := _LAYER_NUMBER.match(name))]
    return min(max(numbers, default=-1) + 1, len(header.tensors))


def _known(header: Header) -> dict[str, tuple[str, ...]]:
    """Return every name the file should have with its shape; MLPs and norms are in all layers or in none."""

    def has(*ends: str) -> bool:
        return any(name.endswith(ends) for name in header.tensors)

    def norm(site: str, width: str) -> dict[str, tuple[str, ...]]:
        return {f"{site}.{part}": (width,) for part in ("weight", "bias") if has(f"{site}.weight", f"{site}.bias")}

    has_mlp = has(".W_in", ".W_out")
    parts: dict[str, tuple[str, ...]] = {**_ATTENTION, **(_MLP if has_mlp else {})}
    parts |= _GATE if has_mlp and has(".W_gate") else {}
    for site, width in _SITES.items():
        parts |= norm(site, width) if has_mlp or site not in ("norm_mlp", "norm_hidden") else {}
    names: dict[str, tuple[str, ...]] = {"embed": ("V", "D")}
    names |= {name: shape for name, shape in _ONCE.items() if name in header.tensors}
    names |= {f"layers.{i}.{part}": shape for i in range(_n_layers(header)) for part, shape in parts.items()}
    names |= norm("norm_final", "D") | (_HEAD | norm("head.norm", "D") if has("head.W", "head.b") else {})
    return names | {"W_U": ("D", "U"), "b_U": ("U",)}


def _dimensions(header: Header) -> dict[str, int]:
    """Solve the letters from one tensor each; wrong ranks give sizes that fail the equations."""

    def size(name: str, axis: int, rank: int) -> int:
        info = header.tensors.get(name)
        return info.shape[axis] if info is not None and len(info.shape) == rank else 0

    return {
        "V": size("embed", 0, 2), "D": size("embed", 1, 2), "C": size("pos_embed", 0, 2), "U": size("W_U", 1, 2),
        "H": size("layers.0.W_Q", 0, 3), "K": size("layers.0.W_Q", 2, 3), "M": size("layers.0.W_in", 1, 2),
    }  # fmt: skip


def _check_spec(source: Source, a: Architecture) -> None:
    """Refuse a spec whose ``[model]`` says anything else. Raises: SpecError."""
    facts = source.facts
    if facts is None:
        return
    said = {
        "heads": a.n_heads, "kv_heads": a.n_heads, "activation": a.activation if a.d_mlp else None,
        "norm": "rmsnorm" if a.norm == "rms" else a.norm,
        "norm_position": "pre" if a.norm_place == "before" else "post", "eps": a.norm_eps or None,
        "attention": a.attention, "attention_scale": a.attention_scale[0], "positions": a.positions,
        "pad_mask": a.masked_token is not None,
        "attention_mix": None if a.softmax_share == 1.0 else a.softmax_share,
        "rope_theta": None if a.rotary is None else a.rotary.base,
    }  # fmt: skip
    for name, expected in said.items():
        value = getattr(facts, name)
        if value is not None and value != expected:
            raise SpecError(f"$.model.{name}: {value!r}, but {source.config.place} says {expected!r}")


def _norm(tensors: Tensors, name: str, names: Mapping[str, Any]) -> Norm | None:
    if f"{name}.weight" not in names:
        return None
    return Norm(tensors.array(f"{name}.weight"), tensors.array(f"{name}.bias"))


def _head(tensors: Tensors, source: Source, names: Mapping[str, Any]) -> Head | None:
    if "head.W" not in names:
        return None
    norm = _norm(tensors, "head.norm", names)
    return Head(tensors.array("head.W"), tensors.array("head.b"), norm, head_activation(source.config))


def _layer(tensors: Tensors, at: str, a: Architecture, names: Mapping[str, Any]) -> Layer:
    def mlp(name: str, *shape: int) -> Array:
        return tensors.array(f"{at}{name}") if a.d_mlp else np.zeros(shape, np.float32)

    parts: dict[str, Any] = {name: tensors.array(f"{at}{name}") for name in _ATTENTION}
    parts |= {site: _norm(tensors, f"{at}{site}", names) for site in _SITES}
    parts |= {name: tensors.array(f"{at}{name}") for name in _GATE if f"{at}{name}" in names}
    return Layer(
        **parts,
        W_in=mlp("W_in", a.d_model, 0),
        b_in=mlp("b_in", 0),
        W_out=mlp("W_out", 0, a.d_model),
        b_out=mlp("b_out", a.d_model),
    )
