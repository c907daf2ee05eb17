"""The facts about a GPT-2 that its tensors do not carry: heads, activation, epsilon, attention scale.

They come from ``config.json`` or, where it is silent, from ``[model]`` of the spec; two sources that differ are an
error that names both. What GPT-2 cannot be (bidirectional, rotary, cross-attending) is refused here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extract.errors import CheckpointError, SpecError
from extract.formats.config import Config
from extract.network import Activation

if TYPE_CHECKING:
    from extract.spec import ModelFacts

#: Hugging Face's names of activations; the exact and the tanh formula of GELU differ by up to 5e-4.
ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu_erf", "gelu_python": "gelu_erf",
    "relu": "relu", "silu": "silu", "swish": "silu",
}  # fmt: skip
_LARGEST_EPS = 1.0
_SAME_SCALE = 1e-6


@dataclass(frozen=True, slots=True)
class Facts:
    """Settled facts, or the list of those that are ``missing`` and must be said by the spec."""

    n_heads: int
    norm_eps: float
    activation: Activation
    attention_scale: tuple[float, ...]
    missing: tuple[str, ...]
    evidence: tuple[str, ...]


def settle_facts(config: Config, facts: ModelFacts | None, d_model: int, n_layers: int) -> Facts:
    """Settle what config and spec say about a GPT-2 of this size.

    Raises:  CheckpointError for values GPT-2 cannot have, SpecError where the spec contradicts the checkpoint.
    """
    _check_config(config)
    _check_spec(facts)
    n_heads = _heads(config, facts, d_model)
    norm_eps = _eps(config, facts)
    activation = _activation(config, facts)
    missing = []
    if n_heads is None:
        divisors = [n for n in range(1, min(d_model, 64) + 1) if d_model % n == 0]
        missing.append(f"[model] heads = ... (a divisor of {d_model}: {', '.join(map(str, divisors))})")
    if activation is None:
        missing.append(f"[model] activation = ... (one of {', '.join(dict.fromkeys(ACTIVATIONS.values()))})")
    if norm_eps is None:
        missing.append("[model] eps = ... (of the layer norms; GPT-2's own is 1e-5)")
    scale, scale_words = _attention_scale(config, facts, d_model // (n_heads or d_model), n_layers)
    evidence = [f"heads {n_heads}, {activation}, eps {norm_eps}, attention scale {scale_words}"] if not missing else []
    architectures = config.values.get("architectures")
    if isinstance(architectures, list) and architectures:
        names = ", ".join(str(name)[:40] for name in architectures[:3])
        evidence.append(f"{config.place} names {names}; the name decides nothing")
    if config.flag("reorder_and_upcast_attn", default=False):
        evidence.append("reorder_and_upcast_attn changes rounding only; real arithmetic is the same function")
    return Facts(n_heads or 1, norm_eps or 0.0, activation or "relu", scale, tuple(missing), tuple(evidence))


def _check_config(config: Config) -> None:
    kind = config.text("model_type")
    if kind not in (None, "gpt2"):
        raise config.wrong("model_type", '"gpt2", as the tensor names say', "config.json belongs to another checkpoint")
    if config.flag("add_cross_attention", default=False):
        raise config.wrong("add_cross_attention", "false: a second input has no place in a domain of token strings")
    for key in ("pruned_heads", "quantization_config"):
        if config.values.get(key):
            raise config.wrong(key, "nothing: such checkpoints are not read")


def _check_spec(facts: ModelFacts | None) -> None:
    if facts is None:
        return
    fixed = {
        "norm": "layernorm", "norm_position": "pre", "attention": "causal", "positions": "learned", "pad_mask": False,
        "attention_mix": None, "rope_theta": None,
    }  # fmt: skip
    for name, expected in fixed.items():
        value = getattr(facts, name)
        if value is not None and value != expected:
            raise SpecError(
                f"$.model.{name}: {value!r}, but the checkpoint is a GPT-2, for which it is "
                + (f"{expected!r}" if expected is not None else "meaningless"),
                hint="leave the field out",
            )


def _heads(config: Config, facts: ModelFacts | None, d_model: int) -> int | None:
    said = config.integer("n_head")
    if said is not None and (said < 1 or d_model % said):
        raise config.wrong("n_head", f"a divisor of n_embd = {d_model}")
    for name in ("heads", "kv_heads"):
        value = getattr(facts, name, None)
        if value is not None and said is not None and value != said:
            raise SpecError(f"$.model.{name}: {value}, but {config.place} says n_head is {said}")
    told = facts.heads if facts is not None else None
    if told is not None and (told < 1 or d_model % told):
        raise SpecError(f"$.model.heads: {told}, expected a divisor of d_model = {d_model}")
    if facts is not None and facts.kv_heads is not None and facts.kv_heads != (said or told):
        raise SpecError(f"$.model.kv_heads: {facts.kv_heads}, but a GPT-2 has as many as heads, {said or told}")
    return said if said is not None else told


def _eps(config: Config, facts: ModelFacts | None) -> float | None:
    said = config.number("layer_norm_epsilon")
    if said is not None and not 0 < said <= _LARGEST_EPS:
        raise config.wrong("layer_norm_epsilon", f"a number above 0, at most {_LARGEST_EPS}")
    told = facts.eps if facts is not None else None
    if told is not None and not 0 < told <= _LARGEST_EPS:
        raise SpecError(f"$.model.eps: {told}, expected a number above 0, at most {_LARGEST_EPS}")
    if told is not None and said is not None and told != said:
        raise SpecError(f"$.model.eps: {told}, but {config.place} says layer_norm_epsilon is {said}")
    return said if said is not None else told


def _activation(config: Config, facts: ModelFacts | None) -> Activation | None:
    name = config.text("activation_function")
    if name is not None and name not in ACTIVATIONS:
        raise config.wrong("activation_function", f"one of {', '.join(ACTIVATIONS)}")
    said = ACTIVATIONS[name] if name is not None else None
    told = facts.activation if facts is not None else None
    if told is not None and said is not None and told != said:
        raise SpecError(
            f"$.model.activation: {told!r}, but {config.place} says activation_function is {name!r}, which is {said!r}"
        )
    return said if said is not None else told


def _attention_scale(
    config: Config, facts: ModelFacts | None, d_head: int, n_layers: int
) -> tuple[tuple[float, ...], str]:
    is_scaled = config.flag("scale_attn_weights", default=True)
    is_by_layer = config.flag("scale_attn_by_inverse_layer_idx", default=False)
    base = 1 / math.sqrt(d_head) if is_scaled else 1.0
    scale = tuple(base / (i + 1) if is_by_layer else base for i in range(n_layers))
    told = facts.attention_scale if facts is not None else None
    if told is not None and any(abs(told - s) > _SAME_SCALE * abs(s) for s in scale):
        raise SpecError(f"$.model.attention_scale: {told}, but the checkpoint's is {scale[0]:.9g}")
    words = "1/sqrt(d_head)" if is_scaled else "1"
    return scale, words + (" / (layer + 1)" if is_by_layer else "")


def missing_facts_error(place: str, missing: tuple[str, ...]) -> CheckpointError:
    """Return the error that lists what the spec must add."""
    return CheckpointError(
        f"does not say everything about the network; the spec must add: {'; '.join(missing)}",
        place=place,
        hint="or put the checkpoint's own config.json beside it",
    )
