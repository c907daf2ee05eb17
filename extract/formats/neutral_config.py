"""What the neutral layout's ``config.json`` says: every fact of the function that the tensors do not, and no guess.

It knows names of facts and their ranges, and reads no tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from extract.errors import CheckpointError
from extract.formats.config import Config
from extract.formats.safetensors import FLOATS, Header
from extract.network import (
    Activation,
    Architecture,
    Attention,
    NormKind,
    NormPlace,
    Pairing,
    Positions,
    Rotary,
)

_Fact = TypeVar("_Fact", str, float, int)
_Word = TypeVar("_Word", bound=str)
ACTIVATIONS: Final[dict[str, Activation]] = {
    "gelu_tanh": "gelu_tanh", "gelu_erf": "gelu_erf", "relu": "relu", "silu": "silu", "solu": "solu",
}  # fmt: skip
_ATTENTIONS: Final[dict[str, Attention]] = {"causal": "causal", "bidirectional": "bidirectional"}
_NORMS: Final[dict[str, NormKind]] = {"layernorm": "layernorm", "rms": "rms"}
_NO_NORM: Final[dict[str, NormKind]] = {"none": "none"}
_PLACES: Final[dict[str, NormPlace]] = {"before": "before", "after": "after"}
_PAIRINGS: Final[dict[str, Pairing]] = {"halves": "halves", "neighbours": "neighbours"}
#: Positions that go with a table of them, and those that do not.
_TABLED: Final[dict[str, Positions]] = {"learned": "learned", "sinusoidal": "sinusoidal"}
_TABLELESS: Final[dict[str, Positions]] = {"none": "none", "rotary": "rotary"}
_LARGEST_EPS, _LARGEST_CONTEXT, _LARGEST_BASE = 1.0, 1 << 20, 1e12


def read_architecture(config: Config, header: Header, sizes: Mapping[str, int], n_layers: int) -> Architecture:
    """Conclude the architecture from config and tensors. ``sizes`` are D, H, K, M, V, U, C as the tensors have them.

    Raises:  CheckpointError naming the fact that is absent, out of range, or not what the tensors are.
    """
    for key, letter in (("d_model", "D"), ("n_heads", "H"), ("d_head", "K"), ("d_vocab", "V"), ("d_vocab_out", "U")):
        config.require_equal(key, sizes[letter], "the tensors")
    config.require_equal("d_mlp", sizes["M"], "the tensors (0 without W_in)")
    config.require_equal("n_layers", n_layers, "the list of layers.*")
    names = header.tensors
    has_norm = any(".norm_" in name or name.startswith(("norm_final", "head.norm")) for name in names)
    norm = _word(config, "norm", _NORMS if has_norm else _NO_NORM)
    positions = _word(config, "positions", _TABLED if "pos_embed" in names else _TABLELESS)
    floats = sorted({FLOATS[t.dtype] for t in names.values() if t.is_float})
    return Architecture(
        n_layers=n_layers, d_model=sizes["D"], n_heads=sizes["H"], d_head=sizes["K"], d_mlp=sizes["M"],
        n_ctx=_n_ctx(config, sizes["C"] if "pos_embed" in names else None), d_vocab=sizes["V"],
        d_vocab_out=sizes["U"], attention=_word(config, "attention", _ATTENTIONS), norm=norm,
        norm_eps=_eps(config) if has_norm else 0.0,
        activation=_word(config, "activation", ACTIVATIONS) if sizes["M"] else "relu", positions=positions,
        attention_scale=_scales(config, n_layers), dtype="+".join(floats),
        norm_place=_word(config, "norm_place", _PLACES, "before"),
        rotary=_rotary(config, sizes["K"]) if positions == "rotary" else None,
        softmax_share=_or(config.number("softmax_share"), 1.0), masked_token=_masked(config, sizes["V"]),
        embed_scale=_or(config.number("embed_scale"), 1.0),
    )  # fmt: skip


def head_activation(config: Config) -> Activation:
    """Return the activation of the head's hidden layer. Raises: CheckpointError where the config does not say it."""
    return _word(config, "head_activation", ACTIVATIONS)


def _word(config: Config, key: str, known: Mapping[str, _Word], usual: _Word | None = None) -> _Word:
    said = config.text(key)
    if said is None and usual is not None:
        return usual
    if required(said, config, key) not in known:
        raise config.wrong(key, f"one of {', '.join(known)} beside these tensors")
    return known[str(said)]


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value


def _eps(config: Config) -> float:
    eps = required(config.number("norm_eps"), config, "norm_eps")
    if not 0 < eps <= _LARGEST_EPS:
        raise config.wrong("norm_eps", f"a number above 0, at most {_LARGEST_EPS}")
    return eps


def _n_ctx(config: Config, table: int | None) -> int:
    if table is not None:
        config.require_equal("n_ctx", table, "pos_embed")
        return table
    n_ctx = required(config.integer("n_ctx"), config, "n_ctx")
    if not 1 <= n_ctx <= _LARGEST_CONTEXT:
        raise config.wrong("n_ctx", f"1 to {_LARGEST_CONTEXT}")
    return n_ctx


def _scales(config: Config, n_layers: int) -> tuple[float, ...]:
    if not isinstance(config.values.get("attention_scale"), list):
        return (required(config.number("attention_scale"), config, "attention_scale"),) * n_layers
    listed: list[Any] = config.values["attention_scale"]
    scales = [Config({"attention_scale": value}, config.place).number("attention_scale") for value in listed]
    if len(scales) != n_layers or None in scales:
        raise config.wrong("attention_scale", f"a number, or {n_layers} of them")
    return tuple(scale for scale in scales if scale is not None)


def _masked(config: Config, d_vocab: int) -> int | None:
    token = config.integer("masked_token")
    if token is not None and not 0 <= token < d_vocab:
        raise config.wrong("masked_token", f"a token id, 0 to {d_vocab - 1}")
    return token


def _rotary(config: Config, d_head: int) -> Rotary:
    said = config.values.get("rotary")
    if not isinstance(said, dict) or set(said) != {"base", "n_dims", "pairing"}:
        raise CheckpointError("rotary is no object of base, n_dims and pairing, expected it beside rotary positions",
                              place=config.place)  # fmt: skip
    inner = Config(said, f"{config.place}: rotary")
    base, n_dims = required(inner.number("base"), inner, "base"), required(inner.integer("n_dims"), inner, "n_dims")
    if not 0 < base <= _LARGEST_BASE:
        raise inner.wrong("base", f"a number above 0, at most {_LARGEST_BASE:g}")
    if not 0 < n_dims <= d_head or n_dims % 2:
        raise inner.wrong("n_dims", f"an even number from 2 to d_head = {d_head}")
    return Rotary(base, n_dims, _word(inner, "pairing", _PAIRINGS))


def required(value: _Fact | None, config: Config, key: str) -> _Fact:
    """Return a fact that config.json must state. Raises: CheckpointError if it is absent."""
    if value is None:
        raise CheckpointError(f"{key} is absent, expected it beside tensors that do not say it", place=config.place)
    return value
