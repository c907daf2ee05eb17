"""Every format against its own framework: equal logits on random prompts; the checker reads the same network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from extract.check.reader import read_network
from extract.formats import load_checkpoint
from extract.network import Network
from extract.spec import ModelFacts
from tests.checker_agrees import differences
from tests.network_logits import logits
from tests.unit.formats import linear_originals as linear
from tests.unit.formats.originals import HookedTransformer, LeftFacing, drawn, randomised

Made = tuple[Callable[[torch.Tensor], torch.Tensor], dict[str, Any], dict[str, Any] | None, dict[str, Any]]


def lens(seed: int, facts: dict[str, Any] | None = None, pad: int | None = None, **changes: Any) -> Made:
    c: dict[str, Any] = {
        "n_layers": 2, "d_model": 12, "n_heads": 2, "d_head": 4, "d_mlp": 7, "n_ctx": 9, "d_vocab": 5, "d_vocab_out": 3,
        "act_fn": "gelu_new", "eps": 1e-5, "attention_dir": "causal", "normalization_type": "LN",
    }  # fmt: skip
    c |= changes
    c |= {"d_mlp": None} if c.get("attn_only") else {}
    module = randomised(HookedTransformer(c, pad), seed)
    if c.get("gated_mlp"):
        for block in module.blocks:  # type: ignore[union-attr]
            nn.init.zeros_(block.mlp.b_in)
    config = {**c, **({"pad_is_masked": True, "pad_token_id": pad} if pad is not None else {})}
    return module, dict(module.state_dict()), config, facts or {}


def left(seed: int, is_easy: bool = False, **changes: Any) -> Made:
    c: dict[str, Any] = {
        "n_layers": 1, "d_model": 8, "n_heads": 2, "d_head": 3, "d_mlp": 10, "n_ctx": 6, "d_vocab": 5, "d_vocab_out": 4,
        "act_fn": "relu", "attention_dir": "causal", "normalization_type": None,
    }  # fmt: skip
    module = randomised(LeftFacing(c | changes, is_easy), seed)
    return module, dict(module.state_dict()), c | changes, {}


def nano(seed: int, in_file: bool = True, config: dict[str, Any] | None = None, **options: Any) -> Made:
    sizes = {"v": 7, "n": 8, "d": 12, "heads": 3, "layers": 2}
    module = randomised(linear.NanoGpt(**sizes, **options), seed)
    state = dict(module.state_dict())
    args = {"n_layer": 2, "n_head": 3, "n_embd": 12, "block_size": 8, "bias": options["bias"], "vocab_size": 7}
    if in_file:
        return module, {"model": state, "model_args": args, "iter_num": 5}, None, {}
    return module, state, config, {} if config else {"heads": 3, "activation": "gelu_tanh"}


def native(seed: int, bridge: bool = False, **changes: Any) -> Made:
    c: dict[str, Any] = {
        "n_layers": 2, "d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 10, "n_ctx": 7, "d_vocab": 5, "d_vocab_out": 6,
        "act_fn": "gelu", "eps": 1e-5, "normalization_type": None, "rotary_dim": 4, "rotary_base": 50.0,
    }  # fmt: skip
    c |= changes
    module = randomised(linear.NativeLens(c), seed)
    state = dict(module.state_dict())
    if bridge:
        names = (("tok_embed", "embed"), ("layers", "blocks"), ("ln_out", "ln_final"), ("head", "unembed"), ("fc_", ""))
        names += (("pos.", "pos_embed."),)
        for old, new in names:
            state = {key.replace(old, new): value for key, value in state.items()}
    return module, state, c, {}


def llama(seed: int, tied: bool = True, prefix: bool = True, **options: Any) -> Made:
    c: dict[str, Any] = {
        "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "rms_norm_eps": 1e-6, "intermediate_size": 10, "rope_theta": 30.0, "tie_word_embeddings": tied, "vocab_size": 9,
        "hidden_act": "silu", "max_position_embeddings": 16,
    }  # fmt: skip
    module = randomised(linear.Llama(c, **options), seed)
    state = dict(module.state_dict())
    return module, state if prefix else {k.removeprefix("model."): v for k, v in state.items()}, c, {}


def per_head(seed: int, heads: int, bias: bool, causal: bool) -> Made:
    module = randomised(linear.PerHead(6, 9, 12, heads, 2, bias=bias, causal=causal), seed)
    return module, dict(module.state_dict()), {"attention_dir": "causal" if causal else "bidirectional"}, {}


def uva(seed: int, heads: int, layers: int) -> Made:
    module = randomised(linear.Uva(6, 12, heads, layers, 5), seed)
    facts = {"activation": "relu", "attention": "bidirectional", "norm_position": "post", "positions": "sinusoidal"}
    hyper = {"input_dim": 6, "model_dim": 12, "num_classes": 5, "num_heads": heads, "num_layers": layers, "lr": 0.1}
    inside = {"state_dict": dict(module.state_dict()), "hyper_parameters": hyper, "pytorch-lightning_version": "2.0"}
    return module, inside, None, facts


def encoder(seed: int, names: dict[str, str], pe: bool = False, final: bool = False, **changes: Any) -> Made:
    c: dict[str, Any] = {
        "d_model": 8, "nhead": 2, "num_layers": 2, "dim_feedforward": 11, "activation": "relu", "norm_first": False,
        "vocab_size": 6, "n_ctx": 9, "d_vocab_out": 4, "attention": "bidirectional",
    }  # fmt: skip
    c |= changes
    module = randomised(linear.Encoder(c, names, pe=pe, final=final), seed)
    config = {**c, **({"embed_scale": 8**0.5} if pe else {})}
    return module, dict(module.state_dict()), config, {}


def tracr(seed: int, heads: int, layers: int, causal: bool, rows: list[int]) -> Made:
    torch.manual_seed(seed)
    k, d, m = 3, 10, 4
    shapes: dict[str, tuple[int, ...]] = {"token_embed/embeddings": (6, d), "pos_embed/embeddings": (7, d)}
    for i in range(layers):
        at = f"transformer/layer_{i}"
        pairs = {f"{at}/attn/{x}": (d, heads * k) for x in ("query", "key", "value")}
        pairs |= {f"{at}/attn/linear": (heads * k, d), f"{at}/mlp/linear_1": (d, m), f"{at}/mlp/linear_2": (m, d)}
        for name, shape in pairs.items():
            shapes |= {f"{name}/w": shape, f"{name}/b": shape[1:]}
    params = {name: drawn(*shape).detach() for name, shape in shapes.items()}
    model = {
        "num_heads": heads,
        "num_layers": layers,
        "key_size": k,
        "mlp_hidden_size": m,
        "activation_function": "relu",
    }
    config = {"model_config": {**model, "layer_norm": False, "causal": causal}, "unembed": {"residual_rows": rows}}
    config |= {"max_seq_len": 6, "attention_score_scale": "1/sqrt(key_size)"}
    wide = {name: value.double() for name, value in params.items()}
    return lambda ids: linear.tracr(wide, config, ids), params, config, {}


TORCH_NAMES = {"embed": "embedding", "pos": "pos_embedding", "encoder": "transformer_encoder", "head": "fc_out"}
OTHER_NAMES = {"embed": "token_emb", "pos": "position", "encoder": "encoder", "head": "head"}
CASES: dict[str, tuple[str, Callable[[], Made]]] = {
    "lens": ("transformer_lens", lambda: lens(0)),
    "lens both ways": ("transformer_lens", lambda: lens(1, attention_dir="bidirectional", act_fn="gelu")),
    "lens attention only": ("transformer_lens", lambda: lens(2, attn_only=True, normalization_type=None)),
    "lens without gains": ("transformer_lens", lambda: lens(3, normalization_type="LNPre", act_fn="relu")),
    "lens rms": ("transformer_lens", lambda: lens(4, normalization_type="RMS", act_fn="silu", gated_mlp=True)),
    "lens rms without gains": ("transformer_lens", lambda: lens(5, normalization_type="RMSPre", use_attn_scale=False)),
    "lens grouped keys, rotary": (
        "transformer_lens",
        lambda: lens(6, n_heads=4, n_key_value_heads=2, d_head=6, positional_embedding_type="rotary", rotary_dim=4,
                     rotary_base=100, rotary_adjacent_pairs=False),
    ),
    "lens rotary neighbours": (
        "transformer_lens",
        lambda: lens(7, positional_embedding_type="rotary", rotary_dim=4, rotary_base=10, rotary_adjacent_pairs=True),
    ),
    "lens solu": ("transformer_lens", lambda: lens(8, act_fn="solu")),
    "lens solu with norm": ("transformer_lens", lambda: lens(9, act_fn="solu_ln")),
    "lens norm of the hidden units alone": (
        "transformer_lens", lambda: lens(12, act_fn="solu_ln", normalization_type=None, n_layers=1),
    ),
    "lens pad": ("transformer_lens", lambda: lens(10, pad=4, attention_dir="bidirectional")),
    "lens all square": ("transformer_lens", lambda: lens(11, n_heads=1, d_head=12, d_vocab=12, d_mlp=12)),
    "left": ("left_facing", lambda: left(0)),
    "left mixed": ("left_facing", lambda: left(1, attention_dir="bidirectional", attn_coeff=0.25)),
    "left head as wide as the model": ("left_facing", lambda: left(2, n_heads=1, d_head=8, d_vocab=8, d_mlp=8)),
    "left attention only": ("left_facing", lambda: left(3, d_mlp=None, n_layers=3)),
    "easy": ("easy_transformer", lambda: left(4, is_easy=True)),
    "easy deeper": ("easy_transformer", lambda: left(5, is_easy=True, n_layers=2, act_fn="gelu")),
    "easy bidirectional": ("easy_transformer", lambda: left(6, is_easy=True, attention_dir="bidirectional")),
    "nanogpt": ("nanogpt", lambda: nano(0, bias=True)),
    "nanogpt without biases": ("nanogpt", lambda: nano(1, bias=False)),
    "nanogpt untied": ("nanogpt", lambda: nano(2, False, bias=True, act="gelu_new", tied=False)),
    "nanogpt config beside": (
        "nanogpt", lambda: nano(3, False, {"model_args": {"n_head": 3, "n_layer": 2}}, bias=True),
    ),
    "mingpt": ("mingpt", lambda: mingpt(0, 2, 1)),
    "mingpt one head": ("mingpt", lambda: mingpt(1, 1, 2)),
    "mingpt three heads": ("mingpt", lambda: mingpt(2, 3, 1)),
    "native": ("transformer_lens_native", lambda: native(0)),
    "native rotary, grouped, gated, rms": (
        "transformer_lens_native",
        lambda: native(1, positional_embedding_type="rotary", n_key_value_heads=1, gated_mlp=True, act_fn="silu",
                       normalization_type="RMS"),
    ),
    "native with a config that says other pairs": (
        "transformer_lens_native",
        lambda: native(6, positional_embedding_type="rotary", rotary_adjacent_pairs=False, attn_only=True),
    ),
    "native attention only": ("transformer_lens_native", lambda: native(2, attn_only=True, d_mlp=None)),
    "bridge": ("transformer_lens_bridge", lambda: native(3, bridge=True)),
    "bridge gated": ("transformer_lens_bridge", lambda: native(4, bridge=True, gated_mlp=True, act_fn="silu")),
    "bridge attention only": ("transformer_lens_bridge", lambda: native(5, bridge=True, attn_only=True, d_mlp=None)),
    "llama": ("llama", lambda: llama(0, tied=False)),
    "qwen 2": ("llama", lambda: llama(1, bias=True)),
    "qwen 3": ("llama", lambda: llama(2, qk_norm=True)),
    "qwen 3 without prefix": ("llama", lambda: llama(3, prefix=False, qk_norm=True)),
    "per head": ("per_head", lambda: per_head(0, 4, False, True)),
    "per head with biases": ("per_head", lambda: per_head(1, 3, True, False)),
    "per head of twelve": ("per_head", lambda: per_head(2, 12, False, True)),
    "uva": ("uva_tutorial", lambda: uva(0, 1, 1)),
    "uva two heads": ("uva_tutorial", lambda: uva(1, 2, 1)),
    "uva three heads": ("uva_tutorial", lambda: uva(2, 3, 2)),
    "torch": ("torch_encoder", lambda: encoder(0, TORCH_NAMES)),
    "torch first": ("torch_encoder", lambda: encoder(1, OTHER_NAMES, final=True, norm_first=True, activation="gelu")),
    "torch causal": ("torch_encoder", lambda: encoder(2, TORCH_NAMES, attention="causal", nhead=4, bias=False)),
    "torch tutorial": ("torch_encoder", lambda: encoder(3, {**TORCH_NAMES, "head": "decoder"}, pe=True)),
    "tracr": ("tracr", lambda: tracr(0, 1, 1, False, [0, 3, 2])),
    "tracr numerical": ("tracr", lambda: tracr(1, 2, 3, True, [9])),
    "tracr deeper": ("tracr", lambda: tracr(2, 3, 2, False, [1, 2, 3, 4])),
}  # fmt: skip


def mingpt(seed: int, heads: int, layers: int) -> Made:
    module = randomised(linear.MinGpt(7, 8, 6, heads, layers), seed)
    return module, dict(module.state_dict()), {"n_head": heads}, {}


def write(state: dict[str, Any], config: dict[str, Any] | None, folder: Path, is_torch: bool) -> Path:
    folder.mkdir(exist_ok=True)
    if is_torch:
        torch.save(state, folder / "model.pt")
    else:
        save_file({name: value.clone().contiguous() for name, value in state.items()}, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def worst(network: Network, module: Callable[[torch.Tensor], torch.Tensor], seed: int) -> float:
    """The largest difference of logits over some random prompts of all lengths."""
    rng = np.random.default_rng(seed)
    if isinstance(module, nn.Module):
        module = module.double()
    found = 0.0
    for length in range(1, min(network.architecture.n_ctx, 9) + 1):
        ids = rng.integers(0, network.architecture.d_vocab, length)
        ids[0] = 0
        with torch.no_grad():
            expected = module(torch.from_numpy(ids)).numpy()
        found = max(found, float(np.abs(logits(network, ids) - expected).max()))
    return found


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", CASES)
def test_logits_and_checker_agree(name: str, tmp_path: Path) -> None:
    format_, make = CASES[name]
    module, state, config, facts = make()
    is_nested = not all(isinstance(value, torch.Tensor) for value in state.values())
    kinds = (True,) if is_nested else (False, True)
    for is_torch in kinds:
        folder = write(state, config, tmp_path / str(is_torch), is_torch)
        checkpoint = load_checkpoint(folder, ModelFacts(**facts))
        assert checkpoint.format == format_
        assert differences(checkpoint.network, read_network(folder, facts)) == []
        # randomly drawn weights of this size give logits of about ten
        assert worst(checkpoint.network, module, len(name)) < 1e-5
