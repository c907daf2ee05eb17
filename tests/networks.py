"""Tiny networks for tests: random ones of any shape, and a writer of the Hugging Face GPT-2 files for them."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from extract.network import Activation, Architecture, Array, Attention, Layer, Network, Norm, NormKind

HUGGING_FACE_ACTIVATION = {"gelu_tanh": "gelu_new", "gelu_erf": "gelu", "relu": "relu", "silu": "silu"}


def random_network(
    seed: int,
    n_layers: int = 1,
    d_model: int = 8,
    n_heads: int = 2,
    d_vocab: int = 5,
    n_ctx: int = 12,
    *,
    d_mlp: int | None = None,
    d_vocab_out: int | None = None,
    attention: Attention = "causal",
    norm: NormKind = "layernorm",
    activation: Activation = "gelu_tanh",
    has_positions: bool = True,
    tied: bool | None = None,
    spread: float = 0.6,
) -> Network:
    """Draw a network whose weights are normal with standard deviation ``spread``; equal arguments give equal bytes.

    ``d_mlp`` defaults to 4 * d_model; ``tied`` (the unembedding is the embedding) to true unless ``d_vocab_out`` is
    given.
    """
    rng = np.random.default_rng(seed)
    d_head, width = d_model // n_heads, 4 * d_model if d_mlp is None else d_mlp

    def draw(*shape: int) -> Array:
        return rng.normal(0.0, spread, shape).astype(np.float32)

    def draw_norm() -> Norm | None:
        half = np.float32(0.5)
        return Norm(draw(d_model) * half + 1, draw(d_model) * half) if norm == "layernorm" else None

    def draw_layer() -> Layer:
        first = draw_norm()
        q, k, v = ((draw(n_heads, d_model, d_head), draw(n_heads, d_head)) for _ in "QKV")
        o, second = (draw(n_heads, d_head, d_model), draw(d_model)), draw_norm()
        into, out = (draw(d_model, width), draw(width)), (draw(width, d_model), draw(d_model))
        return Layer(first, *q, *k, *v, *o, second, *into, *out)

    embed, pos_embed = draw(d_vocab, d_model), draw(n_ctx, d_model) if has_positions else None
    layers = tuple(draw_layer() for _ in range(n_layers))
    norm_final = draw_norm()
    is_tied = d_vocab_out is None if tied is None else tied
    n_out = d_vocab if d_vocab_out is None else d_vocab_out
    unembed = embed.T if is_tied else draw(d_model, n_out)
    bias = np.zeros(n_out, np.float32)
    architecture = Architecture(
        n_layers=n_layers, d_model=d_model, n_heads=n_heads, d_head=d_head, d_mlp=width, n_ctx=n_ctx,
        d_vocab=d_vocab, d_vocab_out=n_out, attention=attention, norm=norm, norm_eps=1e-5, activation=activation,
        positions="learned" if has_positions else "none", attention_scale=(1 / math.sqrt(d_head),) * n_layers,
        dtype="float32",
    )  # fmt: skip
    network = Network(architecture, "", embed, pos_embed, layers, norm_final, unembed, bias)
    return replace(network, digest=_digest(network))


def gpt2_tensors(network: Network, prefix: str = "transformer.") -> dict[str, Array]:
    """Return the weights under Hugging Face GPT-2 names; ``lm_head.weight`` is left out when it is the embedding.

    A network without layer norm, positions, causal attention or with an output bias has no such file.
    """
    if network.pos_embed is None or network.norm_final is None or network.b_U.any():
        raise ValueError("GPT-2 files have layer norms and learned positions, and no output bias")
    d_model = network.architecture.d_model
    tensors = {f"{prefix}wte.weight": network.embed, f"{prefix}wpe.weight": network.pos_embed}
    for i, layer in enumerate(network.layers):
        joined = [w.transpose(1, 0, 2).reshape(d_model, -1) for w in (layer.W_Q, layer.W_K, layer.W_V)]
        parts = {
            "attn.c_attn.weight": np.concatenate(joined, axis=1),
            "attn.c_attn.bias": np.concatenate([layer.b_Q.reshape(-1), layer.b_K.reshape(-1), layer.b_V.reshape(-1)]),
            "attn.c_proj.weight": layer.W_O.reshape(-1, d_model), "attn.c_proj.bias": layer.b_O,
            "mlp.c_fc.weight": layer.W_in, "mlp.c_fc.bias": layer.b_in,
            "mlp.c_proj.weight": layer.W_out, "mlp.c_proj.bias": layer.b_out,
        }  # fmt: skip
        for name, norm in (("ln_1", layer.norm_attention), ("ln_2", layer.norm_mlp)):
            assert norm is not None
            parts |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
        tensors |= {f"{prefix}h.{i}.{name}": value for name, value in parts.items()}
    tensors |= {f"{prefix}ln_f.weight": network.norm_final.weight, f"{prefix}ln_f.bias": network.norm_final.bias}
    if not np.array_equal(network.W_U, network.embed.T):
        tensors["lm_head.weight"] = network.W_U.T
    return {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def gpt2_config(network: Network) -> dict[str, object]:
    """Return the ``config.json`` of the network as Hugging Face writes it, with the facts a reader needs."""
    a = network.architecture
    unscaled, plain = 1.0, 1 / math.sqrt(a.d_head)
    first = a.attention_scale[0] if a.attention_scale else plain
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": a.d_model,
        "n_head": a.n_heads,
        "n_layer": a.n_layers,
        "n_positions": a.n_ctx,
        "vocab_size": a.d_vocab,
        "n_inner": None if a.d_mlp == 4 * a.d_model else a.d_mlp,
        "activation_function": HUGGING_FACE_ACTIVATION[a.activation],
        "layer_norm_epsilon": a.norm_eps,
        "scale_attn_weights": not (first == unscaled and plain != unscaled),
        "scale_attn_by_inverse_layer_idx": len(set(a.attention_scale)) > 1,
        "reorder_and_upcast_attn": False,
        "tie_word_embeddings": bool(np.array_equal(network.W_U, network.embed.T)),
    }


def write_gpt2(network: Network, folder: Path, prefix: str = "transformer.") -> Path:
    """Write ``model.safetensors`` and ``config.json`` into a folder, made if missing; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(gpt2_tensors(network, prefix), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(gpt2_config(network), indent=2), encoding="utf-8")
    return folder


def _digest(network: Network) -> str:
    digest = hashlib.sha256(repr(network.architecture).encode())
    for _, array, _ in network._expected_shapes():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def neutral_tensors(network: Network) -> dict[str, Array]:
    """Return the weights under the names of the neutral layout; what the network lacks is left out."""
    tensors = {"embed": network.embed, "W_U": network.W_U}

    def norm(name: str, value: Norm | None) -> None:
        if value is not None:
            tensors.update({f"{name}.weight": value.weight, f"{name}.bias": value.bias})

    tensors |= {
        name: getattr(network, name) for name in ("pos_embed", "embed_bias") if getattr(network, name) is not None
    }
    if network.b_U.any():
        tensors["b_U"] = network.b_U
    if network.head is not None:
        tensors |= {"head.W": network.head.W, "head.b": network.head.b}
        norm("head.norm", network.head.norm)
    names = ["W_Q", "b_Q", "W_K", "b_K", "W_V", "b_V", "W_O", "b_O"]
    names += ["W_in", "b_in", "W_out", "b_out"] if network.architecture.d_mlp else []
    for i, layer in enumerate(network.layers):
        gate = ["W_gate", "b_gate"] if layer.W_gate is not None else []
        tensors |= {f"layers.{i}.{name}": getattr(layer, name) for name in [*names, *gate]}
        for site in ("norm_attention", "norm_mlp", "norm_query", "norm_key", "norm_hidden"):
            if network.architecture.d_mlp or site not in ("norm_mlp", "norm_hidden"):
                norm(f"layers.{i}.{site}", getattr(layer, site))
    norm("norm_final", network.norm_final)
    return {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def neutral_config(network: Network) -> dict[str, object]:
    """Return the ``config.json`` beside neutral tensors."""
    a = network.architecture
    config: dict[str, object] = {
        "model_type": "extract-neutral", "n_layers": a.n_layers, "d_model": a.d_model, "n_heads": a.n_heads,
        "d_head": a.d_head, "d_mlp": a.d_mlp, "n_ctx": a.n_ctx, "d_vocab": a.d_vocab, "d_vocab_out": a.d_vocab_out,
        "attention": a.attention, "positions": a.positions, "norm": a.norm,
        "attention_scale": a.attention_scale[0] if len(set(a.attention_scale)) == 1 else list(a.attention_scale),
        "norm_eps": a.norm_eps if a.norm != "none" else None, "activation": a.activation if a.d_mlp else None,
    }  # fmt: skip
    if network.beyond_gpt2:
        rotary = None if a.rotary is None else asdict(a.rotary)
        config |= {"norm_place": a.norm_place, "rotary": rotary, "softmax_share": a.softmax_share}
        config |= {"masked_token": a.masked_token, "embed_scale": a.embed_scale}
        config |= {"head_activation": network.head.activation if network.head else None}
    return config


def write_neutral(network: Network, folder: Path, **changes: object) -> Path:
    """Write a network in the neutral layout, some keys of its config changed; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(neutral_tensors(network), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**neutral_config(network), **changes}), encoding="utf-8")
    return folder


def attention_only(seed: int, **options: object) -> Network:
    """Draw one layer of attention with one head, and nothing else."""
    given = {"d_model": 6, "n_heads": 1, "d_vocab": 4, "d_mlp": 0, "norm": "none", "tied": False} | options
    network = random_network(seed, **given)  # type: ignore[arg-type]
    layers = tuple(replace(layer, b_out=np.zeros_like(layer.b_out)) for layer in network.layers)
    return replace(network, layers=layers)
