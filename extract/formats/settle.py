"""From a reading and what is stated to an architecture: every fact settled once, contradicted facts refused.

Tensors come first, then what is always so in the format, then config.json, the file and the spec, which must agree,
and last what the format's own code does where nobody says otherwise. A fact that is still open is listed for the spec.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from extract.errors import CheckpointError
from extract.formats.layout import Reading
from extract.formats.safetensors import FLOATS, Header
from extract.formats.stated import Stated, same
from extract.network import Architecture, NormKind, Rotary

#: Positions that are computed where neither file nor config bounds them.
DEFAULT_POSITIONS: Final = 512
_STREAM_NORMS: Final = ("norm_attention.weight", "norm_mlp.weight", "norm_final.weight")
_LARGEST_EPS, _LARGEST_CONTEXT = 1.0, 1 << 16
_SIZES: Final = (("d_model", "D"), ("d_mlp", "M"), ("d_vocab", "V"), ("d_vocab_out", "U"), ("n_ctx", "C"))
#: What the spec can say, and what to write there; facts it cannot say are named as keys of config.json.
ASK: Final[Mapping[str, str]] = {
    "activation": '[model] activation = ... (one of "gelu_tanh", "gelu_erf", "relu", "silu", "solu")',
    "attention": '[model] attention = ... ("causal" or "bidirectional"; a stored mask does not say)',
    "eps": "[model] eps = ... (of the norms; often 1e-5)",
    "norm": '[model] norm = ... ("layernorm", "rmsnorm" or "none"; norms without gain leave no tensors)',
    "norm_place": '[model] norm_position = ... ("pre" or "post")',
    "positions": '[model] positions = ... ("sinusoidal", "rotary" or "none"; no table is stored)',
    "rotary_base": "[model] rope_theta = ... (the base of the rotary positions)",
    "pad_token": "config.json pad_token_id = ... (the id that pad masking hides)",
    "embed_scale": "config.json embed_scale = ... (what multiplies the embedding: 1, or sqrt(d_model))",
    "kv_heads": "[model] kv_heads = ... (heads of keys and values)",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """What a format says about facts. ``always``: by definition, contradiction is refused; ``usually``: what its own
    code does unless something states otherwise; ``norm_without_shift``: the kind of norm that stores only a gain;
    ``hides_norms``: whether it has norms without any tensors."""

    always: Mapping[str, Any] = field(default_factory=dict)
    usually: Mapping[str, Any] = field(default_factory=dict)
    norm_without_shift: NormKind = "rms"
    hides_norms: bool = False
    must_ask: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """An architecture, or what is missing for one, and the evidence in sentences. ``sizes`` are complete;
    ``has_bare_norms``: the stream's norms are there, without gains and shifts."""

    architecture: Architecture | None
    missing: tuple[str, ...]
    evidence: tuple[str, ...]
    sizes: Mapping[str, int]
    has_bare_norms: bool


class Facts:
    """The facts of one network as they are settled; ``missing`` grows with every open question."""

    def __init__(self, stated: Stated, policy: Policy, title: str) -> None:
        self.stated, self.policy, self.title = stated, policy, title
        self.missing: list[str] = []
        self.assumed: list[str] = []

    def get(self, fact: str, default: Any = None) -> Any:
        """Return a fact: by definition, as stated, as usual, or the default. Raises: for contradictions."""
        if fact in self.policy.always:
            value = self.policy.always[fact]
            self.stated.require(fact, value, f"as {self.title} always has it")
            return value
        value = self.stated.value(fact)
        if value is None and fact not in self.policy.must_ask and fact in self.policy.usually:
            value = self.policy.usually[fact]
            self.assumed.append(f"{fact.replace('_', ' ')} {value}")
        return default if value is None else value

    def need(self, fact: str) -> Any:
        """Return a fact, or None after putting it on the list of missing ones."""
        value = self.get(fact)
        if value is None:
            self.missing.append(ASK[fact])
        return value


def settle(reading: Reading, header: Header, stated: Stated, policy: Policy, title: str) -> Settled:
    """Settle the architecture of a file that a layout explains in full.

    Raises:  CheckpointError where config.json or the file contradicts the tensors, SpecError where the spec does.
    """
    facts = Facts(stated, policy, title)
    sizes = _sizes(reading, facts)
    norm, eps, place, is_bare = _norm(reading, facts)
    positions, rotary, n_ctx = _positions(reading, facts, sizes)
    attention = facts.need("attention")
    share = facts.get("softmax_share", 1.0)
    masked = _masked(facts, sizes)
    needs_activation = "W_in" in reading.roles or "head.W" in reading.roles
    activation: Any = facts.need("activation") if needs_activation else "relu"
    embed_scale = facts.need("embed_scale") if "embed_scale" in policy.must_ask else facts.get("embed_scale", 1.0)
    if share != 1.0 and (attention == "causal" or masked is not None):
        raise CheckpointError(
            f"attention weights are said to be {share} * softmax + {1 - share:.6g}, which is read where every key is "
            "seen only, but keys are hidden here",
            place="config.json",
        )
    scale, scale_words = _scale(facts, sizes, reading.n_layers)
    _check_parts(reading, facts)
    if facts.missing:
        return Settled(None, tuple(dict.fromkeys(facts.missing)), (), sizes, is_bare)
    floats = sorted({FLOATS[header.tensors[n].dtype] for role in reading.roles for n in reading.names_of(role)})
    made = Architecture(
        n_layers=reading.n_layers, d_model=sizes["D"], n_heads=sizes["H"], d_head=sizes["K"], d_mlp=sizes.get("M", 0),
        n_ctx=n_ctx, d_vocab=sizes["V"], d_vocab_out=sizes.get("U", sizes["V"]), attention=attention, norm=norm,
        norm_eps=eps, activation=activation, positions=positions, attention_scale=scale, dtype="+".join(floats),
        norm_place=place, rotary=rotary, softmax_share=share, masked_token=masked, embed_scale=embed_scale,
    )  # fmt: skip
    return Settled(made, (), _evidence(made, facts, reading, scale_words), sizes, is_bare)


def _sizes(reading: Reading, facts: Facts) -> dict[str, int]:
    """Complete the sizes: heads from config or spec where shapes show only their product with d_head."""
    sizes, stated = dict(reading.sizes), facts.stated
    for fact, letter in _SIZES:
        if letter in sizes:
            stated.require(fact, sizes[letter], "the size of the tensors")
    if "W_in" not in reading.roles:
        sizes["M"] = 0
    if "W_U" not in reading.roles and sizes.get("U") is None:
        sizes["U"] = sizes["V"]
    stated.require("n_layers", reading.n_layers, "the layers of the tensors")
    if "H" in sizes:
        stated.require("heads", sizes["H"], "the heads of the tensors")
    elif "K" in sizes and "HK" in sizes:
        sizes["H"] = sizes["HK"] // sizes["K"]
        stated.require("heads", sizes["H"], "the heads of the tensors")
    else:
        _heads(sizes, facts)
    if "K" not in sizes:
        sizes["K"] = sizes["HK"] // sizes["H"]
    stated.require("d_head", sizes["K"], "the size of a head")
    if "G" not in sizes:
        has_groups = "GK" in sizes
        sizes["G"] = sizes["GK"] // sizes["K"] if has_groups else sizes["H"]
    if not facts.missing:
        stated.require("kv_heads", sizes["G"], "the heads of keys and values")
        if sizes["H"] * sizes["K"] != sizes.get("HK", sizes["H"] * sizes["K"]) or sizes["H"] % sizes["G"] or (
            "GK" in sizes and sizes["G"] * sizes["K"] != sizes["GK"]
        ):  # fmt: skip
            raise CheckpointError(
                f"{sizes['H']} heads of {sizes['K']} with {sizes['G']} of keys and values do not fit projections of "
                f"{sizes.get('HK')} and {sizes.get('GK', sizes.get('HK'))} rows",
                place="config.json",
            )
    return sizes


def _heads(sizes: dict[str, int], facts: Facts) -> None:
    width, heads = sizes["HK"], facts.get("heads")
    if heads is None:
        d_head = facts.stated.value("d_head")
        heads = width // d_head if d_head and d_head > 0 and width % d_head == 0 else None
    if heads is None:
        divisors = [n for n in range(1, min(width, 64) + 1) if width % n == 0]
        facts.missing.append(f"[model] heads = ... (a divisor of {width}: {', '.join(map(str, divisors))})")
        heads = 1
    elif heads < 1 or width % heads:
        raise facts.stated.statements("heads")[0].error(
            f"expected a divisor of {width}, the width of the heads together"
        )
    sizes["H"] = heads


def _norm(reading: Reading, facts: Facts) -> tuple[NormKind, float, Any, bool]:
    """Return the kind of norm, its epsilon, its place, and whether the stream's norms are there without any tensor."""
    stored = [role for role in reading.roles if "norm" in role and role.endswith(".weight")]
    stream = [role for role in stored if role in _STREAM_NORMS]
    inner = _stored_kind(reading, facts, [role for role in stored if role not in _STREAM_NORMS])
    kind: Any = _stored_kind(reading, facts, stream) or "none"
    is_bare = False
    if stream and facts.policy.always.get("norm") != "stored":
        facts.stated.require("norm", kind, "as the stored norms are")
        if facts.policy.hides_norms:
            facts.stated.require("norm_is_bare", False, "the norms have gains")
    elif not stream and facts.policy.hides_norms:
        kind = facts.need("norm")
        is_bare = kind in ("layernorm", "rms")
        if is_bare:
            facts.stated.require("norm_is_bare", True, "no gains of norms are stored")
    elif not stream and inner is None:
        facts.stated.require("norm", "none", "no norms are stored")
    if inner not in (None, kind) and kind not in (None, "none"):
        raise CheckpointError(f"the stream has {kind} norms and other parts have {inner} ones, expected one kind")
    kind = inner if kind == "none" and inner is not None else kind
    if kind in (None, "none"):
        return "none", 0.0, "before", False
    eps, place = facts.need("eps"), facts.need("norm_place") if stream or is_bare else facts.get("norm_place", "before")
    if eps is not None and not 0 < eps <= _LARGEST_EPS:
        raise facts.stated.statements("eps")[0].error(f"expected a number above 0, at most {_LARGEST_EPS}")
    return kind, eps or 0.0, place, is_bare


def _stored_kind(reading: Reading, facts: Facts, roles: list[str]) -> NormKind | None:
    """Return the kind of norm that stored gains and shifts show; None without any."""
    if not roles:
        return None
    has_shift = any(role.replace(".weight", ".bias") in reading.roles for role in roles)
    return "layernorm" if has_shift else facts.policy.norm_without_shift


def _positions(reading: Reading, facts: Facts, sizes: dict[str, int]) -> tuple[Any, Rotary | None, int]:
    if "pos_embed" in reading.roles:
        said = facts.stated.value("positions")
        if said not in (None, "learned", "sinusoidal"):
            facts.stated.require("positions", "learned", "a table of positions is stored")
        return said or "learned", None, sizes["C"]
    positions = facts.need("positions")
    if positions == "learned":
        raise facts.stated.statements("positions")[0].error("but no table of positions is stored")
    n_ctx = facts.stated.value("n_ctx") or facts.stated.value("positions_limit")
    if n_ctx is None:
        n_ctx = sizes.get("C", DEFAULT_POSITIONS)
        facts.assumed.append(f"positions up to {n_ctx}, as nothing bounds them (n_ctx in config.json does)")
    if not 1 <= n_ctx <= _LARGEST_CONTEXT:
        raise CheckpointError(f"n_ctx is {n_ctx}, expected 1 to {_LARGEST_CONTEXT}", place="config.json")
    if positions != "rotary":
        return positions, None, n_ctx
    base, n_dims = facts.need("rotary_base"), facts.stated.value("rotary_dims") or sizes["K"]
    if base is not None and not base > 0:
        raise facts.stated.statements("rotary_base")[0].error("expected a number above 0")
    if n_dims % 2 or not 0 < n_dims <= sizes["K"]:
        raise CheckpointError(f"rotates {n_dims} of {sizes['K']} dimensions, expected an even number of them")
    return positions, Rotary(base or 1.0, n_dims, facts.get("rotary_pairs", "halves")), n_ctx


def _masked(facts: Facts, sizes: Mapping[str, int]) -> int | None:
    if not facts.get("pad_mask", False):
        return None
    token = facts.need("pad_token")
    if token is not None and not 0 <= token < sizes["V"]:
        raise facts.stated.statements("pad_token")[0].error(f"expected an id below {sizes['V']}")
    return token if token is None else int(token)


def _scale(facts: Facts, sizes: Mapping[str, int], n_layers: int) -> tuple[tuple[float, ...], str]:
    """Return what multiplies query-key products in each layer; every statement must mean the same number."""
    root, stated = 1 / math.sqrt(sizes["K"]), facts.stated
    means: list[tuple[float, Any]] = []
    flags = stated.statements("is_scaled")
    is_off = any(not s.value for s in flags)
    means += [(root if s.value else 1.0, s) for s in flags if not (s.value and stated.statements("scale_divisor"))]
    means += [(1 / s.value, s) for s in stated.statements("scale_divisor") if s.value > 0 and not is_off]
    means += [(s.value, s) for s in stated.statements("attention_scale")]
    means += [(root, s) for s in stated.statements("scale_text")]
    scale = means[0][0] if means else root
    for value, statement in means:
        if not same(value, scale):
            raise statement.error(f"but the attention scale is {scale:.9g}")
    scale = root if same(scale, root) else scale
    by_layer = bool(stated.value("by_layer"))
    words = "1/sqrt(d_head)" if scale == root else f"{scale:.9g}"
    scales = tuple(scale / (i + 1) if by_layer else scale for i in range(n_layers))
    return scales, words + (" / (layer + 1)" if by_layer else "")


def _check_parts(reading: Reading, facts: Facts) -> None:
    """Refuse configs that speak of parts the tensors do not have."""
    has_mlp, has_gate = "W_in" in reading.roles, "W_gate" in reading.roles
    facts.stated.require("attn_only", not has_mlp, "an MLP is stored" if has_mlp else "no MLP is stored")
    facts.stated.require("gated", has_gate, "a gate is stored" if has_gate else "no gate is stored")
    if "W_U" not in reading.roles:
        facts.stated.require("tied", True, "no unembedding is stored")


def _evidence(a: Architecture, facts: Facts, reading: Reading, scale_words: str) -> tuple[str, ...]:
    mlp = ("gated " if "W_gate" in reading.roles else "") + f"MLP with {a.activation}" if a.d_mlp else "no MLP"
    norm = f"{a.norm} {a.norm_place} each part, eps {a.norm_eps:.9g}" if a.norm != "none" else "no norm"
    lines = [f"{a.attention} attention, heads {a.n_heads}, scale {scale_words}; {mlp}; {norm}; {a.positions} positions"]
    if a.softmax_share != 1.0:
        lines.append(f"attention weights are {a.softmax_share!r} * softmax + {1 - a.softmax_share!r} (mixed attention)")
    if a.masked_token is not None:
        lines.append(f"keys that hold token {a.masked_token} are hidden")
    if a.rotary is not None:
        lines.append(f"rotary base {a.rotary.base:.9g}, {a.rotary.n_dims} dimensions paired by {a.rotary.pairing}")
    if facts.assumed:
        lines.append(f"as the format's own code has it, since nothing else is stated: {'; '.join(facts.assumed)}")
    return tuple(lines)
