"""The neutral layout: a network stored as it is thought of here, for architectures no other format has.

Tensors carry ``Network``'s own names and shapes; ``config.json`` beside them says everything the tensors do not, and
nothing is guessed. It is what ``extract train`` writes for networks that are no GPT-2.

``config.json`` holds ``model_type`` ("extract-neutral"), ``attention``, ``attention_scale``, ``norm``, ``positions``,
and where they apply ``norm_eps``, ``activation`` and ``n_ctx``; sizes may be repeated there and must then agree.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar, final

import numpy as np

from extract.errors import CheckpointError, SpecError
from extract.formats.config import Config
from extract.formats.format import Equations, Format, Match, Plan, Source
from extract.formats.safetensors import FLOATS, Header, Tensors
from extract.network import Activation, Architecture, Array, Layer, Network, Norm, NormKind

_Fact = TypeVar("_Fact", str, float, int)
#: What ``model_type`` in config.json says.
MODEL_TYPE: Final = "extract-neutral"
_ATTENTION: Final = {
    "W_Q": ("H", "D", "K"), "b_Q": ("H", "K"), "W_K": ("H", "D", "K"), "b_K": ("H", "K"), "W_V": ("H", "D", "K"),
    "b_V": ("H", "K"), "W_O": ("H", "K", "D"), "b_O": ("D",),
}  # fmt: skip
_MLP: Final = {"W_in": ("D", "M"), "b_in": ("M",), "W_out": ("M", "D"), "b_out": ("D",)}
_LAYER_NUMBER = re.compile(r"layers\.(0|[1-9][0-9]{0,3})\.", re.ASCII)
_ACTIVATIONS: Final[dict[str, Activation]] = {
    "gelu_tanh": "gelu_tanh", "gelu_erf": "gelu_erf", "relu": "relu", "silu": "silu",
}  # fmt: skip
_LARGEST_EPS, _LARGEST_CONTEXT = 1.0, 1 << 20


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
        architecture = _architecture(config, header)
        _check_spec(source, architecture)
        a = architecture
        neurons = f"{a.activation}" if a.d_mlp else "no MLP"
        norm = f"layer norm, eps {a.norm_eps}" if a.norm == "layernorm" else "no norm"
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
            layers=tuple(_layer(tensors, f"layers.{i}.", a) for i in range(a.n_layers)),
            norm_final=_norm(tensors, "norm_final", a),
            W_U=tensors.array("W_U"),
            b_U=tensors.array("b_U") if "b_U" in names else np.zeros(a.d_vocab_out, np.float32),
        )


def _n_layers(header: Header) -> int:
    numbers = [int(m.group(1)) for name in header.tensors if (m := _LAYER_NUMBER.match(name))]
    return min(max(numbers, default=-1) + 1, len(header.tensors))


def _known(header: Header) -> dict[str, tuple[str, ...]]:
    """Return every name the file should have with its shape; MLPs and norms are in all layers or in none."""
    has_norm = any(".norm_" in name or name.startswith("norm_final") for name in header.tensors)
    has_mlp = any(name.endswith((".W_in", ".W_out")) for name in header.tensors)
    sites = ["norm_attention", "norm_mlp"] if has_mlp else ["norm_attention"]
    norm = {"weight": ("D",), "bias": ("D",)}
    names: dict[str, tuple[str, ...]] = {"embed": ("V", "D")}
    if "pos_embed" in header.tensors:
        names["pos_embed"] = ("C", "D")
    for i in range(_n_layers(header)):
        parts: dict[str, tuple[str, ...]] = {**_ATTENTION, **(_MLP if has_mlp else {})}
        if has_norm:
            parts |= {f"{site}.{part}": shape for site in sites for part, shape in norm.items()}
        names |= {f"layers.{i}.{part}": shape for part, shape in parts.items()}
    if has_norm:
        names |= {f"norm_final.{part}": shape for part, shape in norm.items()}
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


def _architecture(config: Config, header: Header) -> Architecture:
    sizes, n_layers = _dimensions(header), _n_layers(header)
    for key, letter in (("d_model", "D"), ("n_heads", "H"), ("d_head", "K"), ("d_vocab", "V"), ("d_vocab_out", "U")):
        config.require_equal(key, sizes[letter], "the tensors")
    config.require_equal("d_mlp", sizes["M"], "the tensors (0 without W_in)")
    config.require_equal("n_layers", n_layers, "the list of layers.*")
    if _required(config.text("attention"), config, "attention") != "causal":
        raise config.wrong("attention", '"causal", the only one read from this layout')
    norm: NormKind = "layernorm" if "norm_final.weight" in header.tensors else "none"
    positions = "learned" if "pos_embed" in header.tensors else "none"
    for key, found in (("norm", norm), ("positions", positions)):
        if _required(config.text(key), config, key) != found:
            raise config.wrong(key, f'"{found}", as the tensors are')
    eps = config.number("norm_eps")
    if norm == "layernorm" and not 0 < _required(eps, config, "norm_eps") <= _LARGEST_EPS:
        raise config.wrong("norm_eps", f"a number above 0, at most {_LARGEST_EPS}")
    activation = config.text("activation")
    if sizes["M"] and _required(activation, config, "activation") not in _ACTIVATIONS:
        raise config.wrong("activation", f"one of {', '.join(_ACTIVATIONS)}")
    n_ctx = config.integer("n_ctx")
    if positions == "learned":
        config.require_equal("n_ctx", sizes["C"], "pos_embed")
        n_ctx = sizes["C"]
    elif not 1 <= _required(n_ctx, config, "n_ctx") <= _LARGEST_CONTEXT:
        raise config.wrong("n_ctx", f"1 to {_LARGEST_CONTEXT}")
    floats = sorted({FLOATS[t.dtype] for t in header.tensors.values() if t.is_float})
    return Architecture(
        n_layers=n_layers, d_model=sizes["D"], n_heads=sizes["H"], d_head=sizes["K"], d_mlp=sizes["M"],
        n_ctx=n_ctx or 0, d_vocab=sizes["V"], d_vocab_out=sizes["U"], attention="causal", norm=norm,
        norm_eps=(eps or 0.0) if norm == "layernorm" else 0.0,
        activation=_ACTIVATIONS[activation or "relu"] if sizes["M"] else "relu",
        positions="learned" if positions == "learned" else "none",
        attention_scale=(_required(config.number("attention_scale"), config, "attention_scale"),) * n_layers,
        dtype="+".join(floats),
    )  # fmt: skip


def _required(value: _Fact | None, config: Config, key: str) -> _Fact:
    """Return a fact that config.json must state. Raises: CheckpointError if it is absent."""
    if value is None:
        raise CheckpointError(f"{key} is absent, expected it beside tensors that do not say it", place=config.place)
    return value


def _check_spec(source: Source, a: Architecture) -> None:
    """Refuse a spec whose ``[model]`` says anything else. Raises: SpecError."""
    facts = source.facts
    if facts is None:
        return
    said = {
        "heads": a.n_heads, "kv_heads": a.n_heads, "activation": a.activation if a.d_mlp else None, "norm": a.norm,
        "norm_position": "pre", "eps": a.norm_eps or None, "attention": a.attention,
        "attention_scale": a.attention_scale[0], "positions": a.positions, "pad_mask": False, "attention_mix": None,
        "rope_theta": None,
    }  # fmt: skip
    for name, expected in said.items():
        value = getattr(facts, name)
        if value is not None and value != expected:
            raise SpecError(f"$.model.{name}: {value!r}, but {source.config.place} says {expected!r}")


def _norm(tensors: Tensors, name: str, a: Architecture) -> Norm | None:
    if a.norm == "none":
        return None
    return Norm(tensors.array(f"{name}.weight"), tensors.array(f"{name}.bias"))


def _layer(tensors: Tensors, at: str, a: Architecture) -> Layer:
    def mlp(name: str, *shape: int) -> Array:
        return tensors.array(f"{at}{name}") if a.d_mlp else np.zeros(shape, np.float32)

    attention: dict[str, Any] = {name: tensors.array(f"{at}{name}") for name in _ATTENTION}
    return Layer(
        norm_attention=_norm(tensors, f"{at}norm_attention", a),
        **attention,
        norm_mlp=_norm(tensors, f"{at}norm_mlp", a) if a.d_mlp else None,
        W_in=mlp("W_in", a.d_model, 0),
        b_in=mlp("b_in", 0),
        W_out=mlp("W_out", 0, a.d_model),
        b_out=mlp("b_out", a.d_model),
    )
