"""The checker's own reading of what is said about a network beside its tensors: config.json, the file, the spec.

Every source must agree; a key that changes the function in a way not known here leaves no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

_INNER = ("model_config", "model_args", "model", "cfg", "hyper_parameters", "hparams", "input_encoder")
#: Names of facts in the wild, by ours.
_KEYS = {
    "heads": "n_heads n_head num_heads num_attention_heads nhead heads",
    "kv_heads": "n_key_value_heads num_key_value_heads n_kv_heads n_kv_head kv_heads",
    "d_head": "d_head head_dim key_size",
    "n_ctx": "n_ctx n_positions block_size",
    "limit": "max_position_embeddings max_seq_len max_len context_length",
    "activation": "act_fn activation activation_function hidden_act hidden_activation",
    "eps": "eps layer_norm_epsilon layer_norm_eps rms_norm_eps norm_eps",
    "attention": "attention_dir attention causal is_causal",
    "norm": "normalization_type norm layer_norm",
    "norm_place": "norm_position norm_place norm_first",
    "positions": "positional_embedding_type positional positions positional_encoding",
    "base": "rotary_base rope_theta",
    "n_dims": "rotary_dim",
    "pairing": "rotary_adjacent_pairs rope_traditional",
    "share": "attn_coeff attention_mix softmax_share",
    "embed_scale": "embed_scale",
    "is_masked": "pad_is_masked pad_mask",
    "pad": "pad_token_id pad_token_index pad_encoding",
    "scale": "attention_scale",
    "tied": "tie_word_embeddings",
    "model_type": "model_type",
}
_WORDS: dict[str, dict[Any, Any]] = {
    "activation": {
        "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu_erf", "gelu_python": "gelu_erf",
        "swish": "silu", "swiglu": "silu", "solu_ln": "solu",
    },
    "attention": {True: "causal", False: "bidirectional"},
    "norm": {
        None: "none", "ln": "layernorm", "lnpre": "layernorm", "layer_norm": "layernorm", "rmspre": "rms",
        "rmsnorm": "rms", "rms_norm": "rms", True: "layernorm", False: "none",
    },
    "norm_place": {"pre": "before", "post": "after", True: "before", False: "after"},
    "positions": {"standard": "learned", "absolute": "learned", "sinusoid": "sinusoidal", "rope": "rotary"},
    "pairing": {True: "neighbours", False: "halves"},
}  # fmt: skip
_OFF: tuple[Any, ...] = (None, False, -1, [], {})
_UNKNOWN = (
    "attn_scores_soft_cap",
    "output_logits_soft_cap",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "alibi",
    "use_local_attn",
    "parallel_attn_mlp",
    "use_normalization_before_and_after",
    "add_cross_attention",
    "num_experts",
    "use_sliding_window",
    "use_NTK_by_parts_rope",
    "is_encoder_decoder",
    "quantization_config",
    "pruned_heads",
    "attention_multiplier",
    "query_pre_attn_scalar",
    "num_local_experts",
)
_MULTIPLIERS = ("embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale", "partial_rotary_factor")


class Facts:
    """What is said of a network by its own files and by ``[model]`` of the spec."""

    def __init__(self, config: dict[str, Any], inside: dict[str, Any], told: dict[str, Any]) -> None:
        outer = [config, inside]
        self.sources = [*outer, *(d[k] for d in outer for k in _INNER if isinstance(d.get(k), dict)), told]
        self.config, self.inside = config, inside
        for source in self.sources:
            wrong = [key for key in _UNKNOWN if source.get(key) not in _OFF]
            wrong += [key for key in _MULTIPLIERS if source.get(key) not in (None, 1)]
            window = source.get("sliding_window") is not None and source.get("use_sliding_window") is not False
            if wrong or window or set(source.get("layer_types") or ()) - {"full_attention"}:
                raise ValueError(f"{wrong or 'attention windows'}: not known to the checker")

    def said(self, fact: str) -> Iterator[Any]:
        """Yield each source's word on a fact, in our words."""
        words = _WORDS.get(fact, {})
        for source in self.sources:
            for key in _KEYS[fact].split():
                value = source.get(key)
                if value is None and (key != "normalization_type" or key not in source):
                    continue
                value = value.split(",")[0].strip().lower() if isinstance(value, str) else value
                yield words.get(value, value)
            for key in ("rope_parameters", "rope_scaling") if fact == "base" else ():
                inner = source.get(key) or {}
                if inner.get("rope_type", inner.get("type", "default")) != "default":
                    raise ValueError(f"{key} scales the rotation")
                if inner.get("rope_theta") is not None:
                    yield inner["rope_theta"]

    def get(self, fact: str, default: Any = None) -> Any:
        """Return what all sources say of a fact, or the default. Raises: ValueError if two differ."""
        found = list(self.said(fact))
        if any(not _same(value, found[0]) for value in found):
            raise ValueError(f"{fact} is said to be {found}")
        return found[0] if found else default

    def fixed(self, fact: str, value: Any) -> Any:
        """Return a fact of the format itself. Raises: ValueError if a source says another."""
        if any(not _same(said, value) for said in self.said(fact)):
            raise ValueError(f"{fact} is said to be {list(self.said(fact))}, but is {value}")
        return value

    def need(self, fact: str) -> Any:
        """Return a fact that somebody must say. Raises: ValueError if nobody does."""
        value = self.get(fact)
        if value is None:
            raise ValueError(f"nobody says {fact}")
        return value

    def scales(self, d_head: int, n_layers: int) -> tuple[float, ...]:
        """Return what multiplies query-key products in each layer."""
        root, found = 1 / math.sqrt(d_head), list(self.said("scale"))
        by_layer = False
        for source in self.sources:
            divisor = source.get("attn_scale") or 0
            is_off = source.get("use_attn_scale") is False or source.get("scale_attn_weights") is False
            is_on = source.get("use_attn_scale") is True or source.get("scale_attn_weights") is True
            found += [1.0] if is_off else [1 / divisor] if divisor > 0 else [root] if is_on else []
            by_layer |= bool(source.get("scale_attn_by_inverse_layer_idx"))
        if any(not _same(value, found[0]) for value in found):
            raise ValueError(f"the attention scale is said to be {found}")
        scale = root if not found or _same(found[0], root) else float(found[0])
        return tuple(scale / (i + 1 if by_layer else 1) for i in range(n_layers))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)
