"""The frameworks whose weights are torch's linear layers, and Tracr's: see ``originals``."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tests.unit.formats.originals import ACTIVATIONS, attended, by_head, drawn, joined


class Rms(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def rotated(x: Tensor, base: float, dims: int, is_halves: bool) -> Tensor:
    """Rotary positions over [head, position, d_head], by complex multiplication of pairs."""
    angles = torch.arange(x.shape[1])[:, None] * base ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    part = x[..., :dims]
    pairs = part.unflatten(-1, (2, -1)).transpose(-1, -2) if is_halves else part.unflatten(-1, (-1, 2))
    turned = torch.view_as_real(
        torch.view_as_complex(pairs.double().contiguous()) * torch.polar(torch.ones_like(angles), angles)
    )
    turned = turned.transpose(-1, -2).flatten(-2) if is_halves else turned.flatten(-2)
    return torch.cat([turned.to(x.dtype), x[..., dims:]], -1)


class NanoGpt(nn.Module):
    """nanoGPT, and minGPT since 2022 with ``act="gelu_new"`` and a head of its own."""

    def __init__(
        self, v: int, n: int, d: int, heads: int, layers: int, *, bias: bool, act: str = "gelu", tied: bool = True
    ):
        super().__init__()
        self.heads, self.act = heads, act
        t = self.transformer = nn.ModuleDict({"wte": nn.Embedding(v, d), "wpe": nn.Embedding(n, d)})
        t["h"] = nn.ModuleList()
        for _ in range(layers):
            block = nn.ModuleDict({"ln_1": nn.LayerNorm(d, bias=bias), "ln_2": nn.LayerNorm(d, bias=bias)})
            block["attn"] = nn.ModuleDict(
                {"c_attn": nn.Linear(d, 3 * d, bias=bias), "c_proj": nn.Linear(d, d, bias=bias)}
            )
            block["attn"].register_buffer("bias", torch.ones(1, 1, n, n).tril())
            block["mlp"] = nn.ModuleDict(
                {"c_fc": nn.Linear(d, 4 * d, bias=bias), "c_proj": nn.Linear(4 * d, d, bias=bias)}
            )
            t["h"].append(block)
        t["ln_f"] = nn.LayerNorm(d, bias=bias)
        self.lm_head = nn.Linear(d, v, bias=False)
        if tied:
            self.lm_head.weight = t["wte"].weight

    def forward(self, ids: Tensor) -> Tensor:
        t = self.transformer
        x = t["wte"](ids) + t["wpe"].weight[: len(ids)]
        for block in t["h"]:
            q, k, v = (by_head(y, self.heads) for y in block["attn"]["c_attn"](block["ln_1"](x)).split(x.shape[1], 1))
            z = attended(q, k, v, causal=True, scale=1 / math.sqrt(q.shape[-1]))
            x = x + block["attn"]["c_proj"](joined(z))
            x = x + block["mlp"]["c_proj"](ACTIVATIONS[self.act](block["mlp"]["c_fc"](block["ln_2"](x))))
        return self.lm_head(t["ln_f"](x))


class MinGpt(nn.Module):
    """minGPT of 2020."""

    def __init__(self, v: int, n: int, d: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.tok_emb, self.pos_emb = nn.Embedding(v, d), drawn(1, n, d)
        self.blocks = nn.ModuleList()
        for _ in range(layers):
            attn = nn.ModuleDict({name: nn.Linear(d, d) for name in ("key", "query", "value", "proj")})
            attn.register_buffer("mask", torch.ones(1, 1, n, n).tril())
            mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d), nn.Dropout(0.1))
            self.blocks.append(
                nn.ModuleDict({"ln1": nn.LayerNorm(d), "ln2": nn.LayerNorm(d), "attn": attn, "mlp": mlp})
            )
        self.ln_f, self.head = nn.LayerNorm(d), nn.Linear(d, v, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tok_emb(ids) + self.pos_emb[0, : len(ids)]
        for block in self.blocks:
            z, attn = block["ln1"](x), block["attn"]
            q, k, v = (by_head(attn[name](z), self.heads) for name in ("query", "key", "value"))
            x = x + attn["proj"](joined(attended(q, k, v, causal=True, scale=1 / math.sqrt(q.shape[-1]))))
            x = x + block["mlp"](block["ln2"](x))
        return self.head(self.ln_f(x))


class NativeLens(nn.Module):
    """TransformerLens 4's own model; ``bridge`` gives it the names of a bridge."""

    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.c = c
        d, m, h, k, g = c["d_model"], c["d_mlp"], c["n_heads"], c["d_head"], c.get("n_key_value_heads") or c["n_heads"]
        norm = (
            (lambda: Rms(d, c["eps"]))
            if c.get("normalization_type") == "RMS"
            else lambda: nn.LayerNorm(d, eps=c["eps"])
        )
        self.tok_embed, self.layers = nn.Embedding(c["d_vocab"], d), nn.ModuleList()
        if c.get("positional_embedding_type", "standard") == "standard":
            self.pos = nn.Embedding(c["n_ctx"], d)
        for _ in range(c["n_layers"]):
            attn = nn.ModuleDict({"q": nn.Linear(d, h * k), "k": nn.Linear(d, g * k), "v": nn.Linear(d, g * k)})
            attn["o"] = nn.Linear(h * k, d)
            block = nn.ModuleDict({"ln1": norm(), "attn": attn})
            if not c.get("attn_only"):
                mlp = {"fc_in": nn.Linear(d, m), "fc_out": nn.Linear(m, d)}
                if c.get("gated_mlp"):
                    mlp = {x: nn.Linear(*s, bias=False) for x, s in (("gate", (d, m)), ("in", (d, m)), ("out", (m, d)))}
                block.update({"ln2": norm(), "mlp": nn.ModuleDict(mlp)})
            self.layers.append(block)
        self.ln_out, self.head = norm(), nn.Linear(d, c["d_vocab_out"], bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        c, x = self.c, self.tok_embed(ids)
        h, g = c["n_heads"], c.get("n_key_value_heads") or c["n_heads"]
        x = x + self.pos.weight[: len(ids)] if hasattr(self, "pos") else x
        for block in self.layers:
            z = block["ln1"](x)
            q, k, v = (by_head(block["attn"][y](z), n) for y, n in (("q", h), ("k", g), ("v", g)))
            if not hasattr(self, "pos"):
                q, k = (rotated(y, c["rotary_base"], c["rotary_dim"], is_halves=False) for y in (q, k))
            k, v = (y.repeat_interleave(h // g, 0) for y in (k, v))
            x = x + block["attn"]["o"](joined(attended(q, k, v, causal=True, scale=1 / math.sqrt(c["d_head"]))))
            if "mlp" in block:
                z, mlp, act = block["ln2"](x), block["mlp"], ACTIVATIONS[c["act_fn"]]
                x = x + (
                    mlp["out"](act(mlp["gate"](z)) * mlp["in"](z))
                    if "gate" in mlp
                    else mlp["fc_out"](act(mlp["fc_in"](z)))
                )
        return self.head(self.ln_out(x))


class Llama(nn.Module):
    """Llama, Qwen 2 (biases) and Qwen 3 (norms of queries and keys)."""

    def __init__(self, c: dict[str, Any], *, bias: bool = False, qk_norm: bool = False) -> None:
        super().__init__()
        self.c = c
        d, m, h, g = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"], c["num_key_value_heads"]
        k, eps = c["head_dim"], c["rms_norm_eps"]
        self.model = nn.ModuleDict(
            {"embed_tokens": nn.Embedding(c["vocab_size"], d), "layers": nn.ModuleList(), "norm": Rms(d, eps)}
        )
        for _ in range(c["num_hidden_layers"]):
            widths = {"q_proj": (d, h * k), "k_proj": (d, g * k), "v_proj": (d, g * k)}
            attn = nn.ModuleDict({name: nn.Linear(*w, bias=bias) for name, w in widths.items()})
            attn["o_proj"] = nn.Linear(h * k, d, bias=False)
            if qk_norm:
                attn.update({"q_norm": Rms(k, eps), "k_norm": Rms(k, eps)})
            wide = {"gate_proj": (d, m), "up_proj": (d, m), "down_proj": (m, d)}
            mlp = nn.ModuleDict({name: nn.Linear(*w, bias=False) for name, w in wide.items()})
            norms = {name: Rms(d, eps) for name in ("input_layernorm", "post_attention_layernorm")}
            self.model["layers"].append(nn.ModuleDict({"self_attn": attn, "mlp": mlp, **norms}))
        if not c["tie_word_embeddings"]:
            self.lm_head = nn.Linear(d, c["vocab_size"], bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        c, x = self.c, self.model["embed_tokens"](ids)
        h, g, k = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        for block in self.model["layers"]:
            z, attn, mlp = block["input_layernorm"](x), block["self_attn"], block["mlp"]
            q, key, v = (by_head(attn[f"{y}_proj"](z), n) for y, n in (("q", h), ("k", g), ("v", g)))
            if "q_norm" in attn:
                q, key = attn["q_norm"](q), attn["k_norm"](key)
            q, key = (rotated(y, c["rope_theta"], k, is_halves=True) for y in (q, key))
            key, v = (y.repeat_interleave(h // g, 0) for y in (key, v))
            x = x + attn["o_proj"](joined(attended(q, key, v, causal=True, scale=1 / math.sqrt(k))))
            z = block["post_attention_layernorm"](x)
            x = x + mlp["down_proj"](nn.functional.silu(mlp["gate_proj"](z)) * mlp["up_proj"](z))
        x = self.model["norm"](x)
        return self.lm_head(x) if hasattr(self, "lm_head") else x @ self.model["embed_tokens"].weight.T


class PerHead(nn.Module):
    def __init__(self, v: int, n: int, d: int, heads: int, layers: int, *, bias: bool, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.tok_embed, self.pos_embed, self.layers = nn.Embedding(v, d), nn.Embedding(n, d), nn.ModuleList()
        for _ in range(layers):
            head = [nn.ModuleDict({f"W_{x}": nn.Linear(d, d // heads, bias=bias) for x in "QKV"}) for _ in range(heads)]
            self.layers.append(nn.ModuleDict({"heads": nn.ModuleList(head), "W_O": nn.Linear(d, d, bias=bias)}))
        self.unembed = nn.Linear(d, v, bias=bias)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tok_embed(ids) + self.pos_embed.weight[: len(ids)]
        for layer in self.layers:
            parts = [
                attended(
                    *(head[f"W_{y}"](x) for y in "QKV"), causal=self.causal, scale=head["W_Q"].out_features ** -0.5
                )
                for head in layer["heads"]
            ]
            x = x + layer["W_O"](torch.cat(parts, -1))
        return self.unembed(x)


class Uva(nn.Module):
    """The UvA tutorial's predictor."""

    def __init__(self, v: int, d: int, heads: int, layers: int, out: int) -> None:
        super().__init__()
        self.heads, self.v = heads, v
        self.input_net = nn.Sequential(nn.Dropout(0.1), nn.Linear(v, d))
        self.transformer = nn.ModuleDict({"layers": nn.ModuleList()})
        for _ in range(layers):
            attn = nn.ModuleDict({"qkv_proj": nn.Linear(d, 3 * d), "o_proj": nn.Linear(d, d)})
            mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.Dropout(0.1), nn.ReLU(), nn.Linear(2 * d, d))
            norms = {"norm1": nn.LayerNorm(d), "norm2": nn.LayerNorm(d)}
            self.transformer["layers"].append(nn.ModuleDict({"self_attn": attn, "linear_net": mlp, **norms}))
        self.output_net = nn.Sequential(nn.Linear(d, d), nn.LayerNorm(d), nn.ReLU(), nn.Dropout(0.1), nn.Linear(d, out))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.input_net(nn.functional.one_hot(ids, self.v).to(self.input_net[1].weight.dtype))
        x = x + computed_sinusoids(len(ids), x.shape[1]).to(x.dtype)
        for block in self.transformer["layers"]:
            attn = block["self_attn"]
            qkv = attn["qkv_proj"](x).reshape(len(ids), self.heads, -1).permute(1, 0, 2)
            q, k, v = qkv.chunk(3, dim=-1)
            x = block["norm1"](x + attn["o_proj"](joined(attended(q, k, v, causal=False, scale=q.shape[-1] ** -0.5))))
            x = block["norm2"](x + block["linear_net"](x))
        return self.output_net(x)


def computed_sinusoids(n: int, d: int) -> Tensor:
    made = torch.zeros(n, d, dtype=torch.float64)
    position = torch.arange(n, dtype=torch.float64)[:, None]
    turn = torch.exp(torch.arange(0, d, 2, dtype=torch.float64) * (-math.log(10000.0) / d))
    made[:, 0::2] = torch.sin(position * turn)
    made[:, 1::2] = torch.cos(position * turn)[:, : d // 2]
    return made


class Encoder(nn.Module):
    """A model as people write it around nn.TransformerEncoder; the names around it vary."""

    def __init__(self, c: dict[str, Any], names: dict[str, str], *, pe: bool = False, final: bool = False) -> None:
        super().__init__()
        self.c, self.names, self.pe = c, names, pe
        d = c["d_model"]
        layer = nn.TransformerEncoderLayer(
            d, c["nhead"], c["dim_feedforward"], activation=c["activation"], norm_first=c["norm_first"],
            batch_first=True, bias=c.get("bias", True),
        )  # fmt: skip
        last = nn.LayerNorm(d) if final else None
        self.add_module(names["embed"], nn.Embedding(c["vocab_size"], d))
        if pe:
            self.pos_encoder = nn.Module()
            self.pos_encoder.register_buffer("pe", computed_sinusoids(c["n_ctx"], d)[:, None].float())
        else:
            self.add_module(names["pos"], nn.Embedding(c["n_ctx"], d))
        self.add_module(
            names["encoder"], nn.TransformerEncoder(layer, c["num_layers"], norm=last, enable_nested_tensor=False)
        )
        self.add_module(names["head"], nn.Linear(d, c["d_vocab_out"]))

    def forward(self, ids: Tensor) -> Tensor:
        part = dict(self.named_children())
        scale = math.sqrt(self.c["d_model"]) if self.pe else 1.0
        pos = self.pos_encoder.pe[: len(ids), 0] if self.pe else part[self.names["pos"]].weight[: len(ids)]
        x = part[self.names["embed"]](ids) * scale + pos
        mask = torch.ones(len(ids), len(ids)).triu(1).bool() if self.c["attention"] == "causal" else None
        return part[self.names["head"]](part[self.names["encoder"]](x[None], mask=mask)[0])


def tracr(params: dict[str, Tensor], c: dict[str, Any], ids: Tensor) -> Tensor:
    """An assembled Tracr model over its haiku parameters."""
    x = params["token_embed/embeddings"][ids] + params["pos_embed/embeddings"][: len(ids)]
    m = c["model_config"]
    for i in range(m["num_layers"]):
        at = f"transformer/layer_{i}"

        def linear(z: Tensor, name: str, at: str = at) -> Tensor:
            return z @ params[f"{at}/{name}/w"] + params[f"{at}/{name}/b"]

        q, k, v = (by_head(linear(x, f"attn/{y}"), m["num_heads"]) for y in ("query", "key", "value"))
        z = attended(q, k, v, causal=m["causal"], scale=m["key_size"] ** -0.5)
        x = x + linear(joined(z), "attn/linear")
        x = x + linear(ACTIVATIONS[m["activation_function"]](linear(x, "mlp/linear_1")), "mlp/linear_2")
    return x[:, c["unembed"]["residual_rows"]]
