"""What is stated about a network beside its tensors: by config.json, by the file itself, by ``[model]`` of the spec.

One fact has many names in the wild; here each name has a fact and a way to be read. Two statements of one fact that
differ are an error that names both, and a key that would change the function in a way not read here is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from extract.errors import CheckpointError, ExtractError, SpecError
from extract.formats.config import Config
from extract.formats.gates import shown

if TYPE_CHECKING:
    from extract.spec import ModelFacts

Reader = Callable[[Config, str], Any]

ACTIVATIONS: Final[Mapping[str, str]] = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_tanh": "gelu_tanh", "gelu": "gelu_erf",
    "gelu_python": "gelu_erf", "gelu_erf": "gelu_erf", "relu": "relu", "silu": "silu", "swish": "silu",
    "swiglu": "silu", "solu": "solu", "solu_ln": "solu",
}  # fmt: skip
_NORMS: Final = {
    "ln": "layernorm", "lnpre": "layernorm", "layernorm": "layernorm", "layer_norm": "layernorm", "rms": "rms",
    "rmspre": "rms", "rmsnorm": "rms", "rms_norm": "rms", "none": "none",
}  # fmt: skip
_POSITIONS: Final = {
    "standard": "learned", "learned": "learned", "absolute": "learned", "sinusoidal": "sinusoidal",
    "sinusoid": "sinusoidal", "rotary": "rotary", "rope": "rotary", "none": "none",
}  # fmt: skip
_PLACES: Final = {"pre": "before", "before": "before", "post": "after", "after": "after"}
#: Sub-objects of config.json, and of a checkpoint file, that hold facts as the outer object does.
_NESTED: Final = ("model_config", "model_args", "model", "cfg", "hyper_parameters", "hparams")


def _whole(config: Config, key: str) -> int | None:
    return config.integer(key)


def _number(config: Config, key: str) -> float | None:
    return config.number(key)


def _flag(config: Config, key: str) -> bool | None:
    return config.flag(key, default=False) if config.values.get(key) is not None else None


def _word(words: Mapping[str, str], *, first: bool = False, null: str | None = None) -> Reader:
    """Read a text by a table, in any case; ``first``: only the word before a comma; ``null``: what null means."""

    def read(config: Config, key: str) -> str | None:
        if config.values[key] is None:
            return null
        text = (config.text(key) or "").strip().lower()
        text = text.split(",")[0].strip() if first else text
        if text not in words:
            raise config.wrong(key, f"one of {', '.join(words)}")
        return words[text]

    return read


def _either(when_true: Any, when_false: Any) -> Reader:
    def read(config: Config, key: str) -> Any:
        flag = _flag(config, key)
        return None if flag is None else when_true if flag else when_false

    return read


def _bare(config: Config, key: str) -> bool | None:
    """Say whether a normalization_type names a norm without gain and shift."""
    text = config.text(key)
    return None if text is None or text.lower() not in _NORMS else text.lower().endswith("pre")


def _past_minus_one(config: Config, key: str) -> int | None:
    value = config.integer(key)
    return None if value == -1 else value


def _rope(config: Config, key: str) -> float | None:
    """Read the base from an object of rotary parameters; any scaling of frequencies is refused."""
    value = config.values[key]
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("rope_type", value.get("type", "default")) != "default":
        raise config.wrong(key, "null or the default rotation", "scaled rotations are not read")
    return Config(value, f"{config.place}: {key}").number("rope_theta")


#: Fact by fact: the keys that state it and how each is read.
KEYS: Final[Mapping[str, Mapping[str, Reader]]] = {
    "heads": dict.fromkeys(("n_heads", "n_head", "num_heads", "num_attention_heads", "nhead"), _whole),
    "kv_heads": dict.fromkeys(("n_key_value_heads", "num_key_value_heads", "n_kv_heads", "n_kv_head"), _whole),
    "d_head": dict.fromkeys(("d_head", "head_dim", "key_size"), _whole),
    "n_layers": dict.fromkeys(("n_layers", "n_layer", "num_layers", "num_hidden_layers"), _whole),
    "d_model": dict.fromkeys(("d_model", "n_embd", "hidden_size", "model_dim"), _whole),
    "d_mlp": dict.fromkeys(("d_mlp", "n_inner", "intermediate_size", "dim_feedforward", "mlp_hidden_size"), _whole),
    "d_vocab": dict.fromkeys(("d_vocab", "vocab_size", "input_dim"), _whole),
    "d_vocab_out": {"d_vocab_out": _past_minus_one, "num_classes": _whole},
    "n_ctx": dict.fromkeys(("n_ctx", "n_positions", "block_size"), _whole),
    "positions_limit": dict.fromkeys(("max_position_embeddings", "max_seq_len", "max_len", "context_length"), _whole),
    "activation": {
        key: _word(ACTIVATIONS)
        for key in ("act_fn", "activation", "activation_function", "hidden_act", "hidden_activation")
    },
    "eps": dict.fromkeys(("eps", "layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps", "norm_eps"), _number),
    "attention": {
        "attention_dir": _word({"causal": "causal", "bidirectional": "bidirectional"}),
        "attention": _word({"causal": "causal", "bidirectional": "bidirectional"}),
        "causal": _either("causal", "bidirectional"),
        "is_causal": _either("causal", "bidirectional"),
    },
    "norm": {
        "normalization_type": _word(_NORMS, null="none"),
        "norm": _word(_NORMS),
        "layer_norm": _either("layernorm", "none"),
    },
    "norm_is_bare": {"normalization_type": _bare},
    "norm_place": {
        "norm_position": _word(_PLACES),
        "norm_place": _word(_PLACES),
        "norm_first": _either("before", "after"),
    },
    "positions": {
        "positional_embedding_type": _word(_POSITIONS),
        "positional": _word(_POSITIONS, first=True),
        "positions": _word(_POSITIONS),
        "positional_encoding": _word(_POSITIONS),
    },
    "rotary_base": {
        "rotary_base": _number,
        "rope_theta": _number,
        "rope_parameters": _rope,
        "rope_scaling": _rope,
    },
    "rotary_dims": {"rotary_dim": _whole},
    "rotary_pairs": {
        "rotary_adjacent_pairs": _either("neighbours", "halves"),
        "rope_traditional": _either("neighbours", "halves"),
    },
    "is_scaled": dict.fromkeys(("use_attn_scale", "scale_attn_weights"), _flag),
    "scale_divisor": {"attn_scale": _number},
    "attention_scale": {"attention_scale": _number},
    "scale_text": {"attention_score_scale": _word({"1/sqrt(key_size)": "root", "1/sqrt(d_head)": "root"})},
    "by_layer": dict.fromkeys(("scale_attn_by_inverse_layer_idx",), _flag),
    "softmax_share": dict.fromkeys(("attn_coeff", "attention_mix", "softmax_share"), _number),
    "embed_scale": dict.fromkeys(("embed_scale",), _number),
    "pad_mask": dict.fromkeys(("pad_is_masked", "pad_mask"), _flag),
    "pad_token": dict.fromkeys(("pad_token_id", "pad_token_index", "pad_encoding"), _whole),
    "attn_only": {"attn_only": _flag},
    "gated": {"gated_mlp": _flag},
    "tied": dict.fromkeys(("tie_word_embeddings",), _flag),
    "model_type": {"model_type": lambda config, key: config.text(key)},
}
#: Where the spec states a fact, and its words where they differ from ours.
_SPEC: Final[Mapping[str, str]] = {
    "heads": "heads", "kv_heads": "kv_heads", "activation": "activation", "norm": "norm", "norm_place": "norm_position",
    "eps": "eps", "attention": "attention", "attention_scale": "attention_scale", "softmax_share": "attention_mix",
    "positions": "positions", "rotary_base": "rope_theta", "pad_mask": "pad_mask",
}  # fmt: skip
_SPEC_WORDS: Final = {"rmsnorm": "rms", "pre": "before", "post": "after"}
#: Keys that change the function unless they hold one of these values.
_HARMLESS: Final[Mapping[str, tuple[Any, ...]]] = {
    **dict.fromkeys(
        ("attn_scores_soft_cap", "output_logits_soft_cap", "attn_logit_softcapping", "final_logit_softcapping"),
        (None, -1, 0),
    ),
    **dict.fromkeys(
        ("use_local_attn", "parallel_attn_mlp", "use_normalization_before_and_after", "add_cross_attention", "alibi",
         "use_sliding_window", "use_NTK_by_parts_rope", "is_encoder_decoder", "quantization_config", "pruned_heads"),
        (None, False, {}, []),
    ),
    **dict.fromkeys(("embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale"), (None, 1)),
    **dict.fromkeys(("attention_multiplier", "query_pre_attn_scalar", "num_experts", "num_local_experts"), (None,)),
    "partial_rotary_factor": (None, 1),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statement:
    """One source's word on a fact: its value, the sentence to quote, and the error to raise about it."""

    value: Any
    words: str
    place: str
    is_spec: bool

    def error(self, problem: str, hint: str | None = None) -> ExtractError:
        """Return the error about this statement."""
        if self.is_spec:
            return SpecError(f"{self.words}, {problem}", hint=hint)
        return CheckpointError(f"{self.words}, {problem}", place=self.place, hint=hint)


class Stated:
    """Every statement about a network; ``configs`` are config.json and what the checkpoint file itself carries."""

    def __init__(self, configs: Iterable[Config], facts: ModelFacts | None, ignored: Iterable[str] = ()) -> None:
        self.configs = tuple(inner for config in configs for inner in _with_nested(config))
        self._facts, self._ignored = facts, frozenset(ignored)
        for config in self.configs:
            _refuse_unread(config)

    def statements(self, fact: str) -> list[Statement]:
        """Return what each source says of a fact, the spec last. Raises: CheckpointError for unreadable values."""
        found = []
        for config in self.configs:
            for key, read in KEYS.get(fact, {}).items():
                if key in config.values and key not in self._ignored:
                    value = read(config, key)
                    if value is not None:
                        words = f"{key} is {shown(config.values[key])}"
                        found.append(Statement(value, words, config.place, False))
        field = _SPEC.get(fact)
        told = getattr(self._facts, field, None) if field else None
        if told is not None:
            value = _SPEC_WORDS.get(told, told) if isinstance(told, str) else told
            found.append(Statement(value, f"$.model.{field}: {told!r}", "spec", True))
        return found

    def value(self, fact: str) -> Any:
        """Return the value all sources agree on, or None if none speaks. Raises: an error naming two that differ."""
        found = self.statements(fact)
        for other in found[1:]:
            if not same(other.value, found[0].value):
                raise other.error(f"but {found[0].place} says {found[0].words}")
        return found[0].value if found else None

    def require(self, fact: str, value: Any, why: str) -> None:
        """Check that whoever speaks of a fact says this value. Raises: an error that says why."""
        for statement in self.statements(fact):
            if not same(statement.value, value):
                raise statement.error(f"expected {value!r}, {why}")


def same(one: Any, other: Any) -> bool:
    """Say whether two values of a fact agree; numbers to six digits, as configs round them."""
    if isinstance(one, int | float) and isinstance(other, int | float) and not isinstance(one, bool):
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


def _with_nested(config: Config) -> list[Config]:
    inner = [(key, config.values.get(key)) for key in _NESTED]
    encoder = config.values.get("input_encoder")
    inner += [("input_encoder", encoder)]
    return [config, *(Config(value, f"{config.place}: {key}") for key, value in inner if isinstance(value, dict))]


def _refuse_unread(config: Config) -> None:
    for key, harmless in _HARMLESS.items():
        if config.values.get(key) not in harmless:
            raise config.wrong(key, f"{shown(harmless[-1])} or nothing", "what it does is not read, and not dropped")
    window = config.values.get("sliding_window")
    if window is not None and config.values.get("use_sliding_window") is not False:
        raise config.wrong("sliding_window", "null, or use_sliding_window false", "attention windows are not read")
    kinds = config.values.get("layer_types")
    if isinstance(kinds, list) and set(map(str, kinds)) - {"full_attention"}:
        raise config.wrong("layer_types", '"full_attention" in every layer')
    biased = config.values.get("positional_embedding_type")
    if biased in ("alibi", "shortformer", "relative_positional_bias"):
        raise config.wrong("positional_embedding_type", "standard, rotary or none", "others are not read")
