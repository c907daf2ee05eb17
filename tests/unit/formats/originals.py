"""The frameworks whose files are read, written down again as small torch modules under their own parameter names.

Each computes logits [position, output] of one prompt as its framework does. They are what readers are compared with.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Any] = {
    "relu": F.relu, "gelu": F.gelu, "gelu_new": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu,
    "solu": lambda x: x * x.softmax(-1), "solu_ln": lambda x: x * x.softmax(-1),
}  # fmt: skip


def drawn(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.4)


def attended(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float, hidden: Tensor | None = None) -> Tensor:
    """Attention over [head, position, d_head]; ``hidden`` marks keys."""
    scores = q @ k.transpose(-1, -2) * scale
    n = scores.shape[-1]
    if causal:
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf)
    return scores.softmax(-1) @ v


def by_head(x: Tensor, heads: int) -> Tensor:
    return x.reshape(len(x), heads, -1).transpose(0, 1)


def joined(x: Tensor) -> Tensor:
    return x.transpose(0, 1).reshape(x.shape[1], -1)


class LensNorm(nn.Module):
    def __init__(self, kind: str | None, width: int, eps: float) -> None:
        super().__init__()
        self.kind, self.eps = kind, eps
        if kind in ("LN", "RMS"):
            self.w = drawn(width)
        if kind == "LN":
            self.b = drawn(width)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind is None:
            return x
        if self.kind.startswith("LN"):
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()
        x = x * self.w if self.kind in ("LN", "RMS") else x
        return x + self.b if self.kind == "LN" else x


class LensAttention(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.c = c
        h, d, k, g = c["n_heads"], c["d_model"], c["d_head"], c.get("n_key_value_heads")
        self.W_Q, self.W_O, self.b_Q, self.b_O = drawn(h, d, k), drawn(h, k, d), drawn(h, k), drawn(d)
        for x in "KV":
            name = f"_W_{x}" if g else f"W_{x}"
            setattr(self, name, drawn(g or h, d, k))
            setattr(self, name.replace("W", "b"), drawn(g or h, k))
        n = c["n_ctx"]
        self.register_buffer("mask", torch.ones(n, n).tril().bool())
        self.register_buffer("IGNORE", torch.tensor(-math.inf))
        if c.get("positional_embedding_type") == "rotary":
            dims = c["rotary_dim"]
            freq = c["rotary_base"] ** (torch.arange(dims // 2, dtype=torch.float64) / (dims / 2))
            freq = freq.repeat_interleave(2) if c["rotary_adjacent_pairs"] else freq.repeat(2)
            angles = torch.arange(n, dtype=torch.float64)[:, None] / freq
            self.register_buffer("rotary_sin", angles.sin().float())
            self.register_buffer("rotary_cos", angles.cos().float())

    def turn(self, x: Tensor) -> Tensor:
        if self.c.get("positional_embedding_type") != "rotary":
            return x
        dims = self.c["rotary_dim"]
        part, rest = x[..., :dims], x[..., dims:]
        flipped = part.clone()
        if self.c["rotary_adjacent_pairs"]:
            flipped[..., ::2], flipped[..., 1::2] = -part[..., 1::2], part[..., ::2]
        else:
            flipped[..., : dims // 2], flipped[..., dims // 2 :] = -part[..., dims // 2 :], part[..., : dims // 2]
        n = x.shape[-2]
        return torch.cat([part * self.rotary_cos[:n] + flipped * self.rotary_sin[:n], rest], -1)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        h, g = self.c["n_heads"], self.c.get("n_key_value_heads")
        q = torch.einsum("pd,hdk->hpk", x, self.W_Q) + self.b_Q[:, None]
        k, v = (
            torch.einsum("pd,hdk->hpk", x, getattr(self, f"{'_' if g else ''}W_{y}"))
            + getattr(self, f"{'_' if g else ''}b_{y}")[:, None]
            for y in "KV"
        )
        if g:
            k, v = (y.repeat_interleave(h // g, 0) for y in (k, v))
        scale = 1 / math.sqrt(self.c["d_head"]) if self.c.get("use_attn_scale", True) else 1.0
        is_causal = self.c["attention_dir"] == "causal"
        z = attended(self.turn(q), self.turn(k), v, causal=is_causal, scale=scale, hidden=hidden)
        return torch.einsum("hpk,hkd->pd", z, self.W_O) + self.b_O


class LensMlp(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        d, m, self.act = c["d_model"], c["d_mlp"], c["act_fn"]
        self.W_in, self.b_in, self.W_out, self.b_out = drawn(d, m), drawn(m), drawn(m, d), drawn(d)
        if c.get("gated_mlp"):
            self.W_gate = drawn(d, m)
            nn.init.zeros_(self.b_in)
        if self.act.endswith("_ln"):
            self.ln = LensNorm("LN", m, c["eps"])

    def forward(self, x: Tensor) -> Tensor:
        act = ACTIVATIONS[self.act]
        if hasattr(self, "W_gate"):
            units = act(x @ self.W_gate) * (x @ self.W_in) + self.b_in
        else:
            units = act(x @ self.W_in + self.b_in)
        return (self.ln(units) if hasattr(self, "ln") else units) @ self.W_out + self.b_out


class HookedTransformer(nn.Module):
    """TransformerLens 1 to 3; ``pad`` is what a hook outside the file hides."""

    def __init__(self, c: dict[str, Any], pad: int | None = None) -> None:
        super().__init__()
        self.c, self.pad = c, pad
        d, norm = c["d_model"], c["normalization_type"]
        self.embed = nn.ParameterDict({"W_E": drawn(c["d_vocab"], d)})
        if c.get("positional_embedding_type", "standard") == "standard":
            self.pos_embed = nn.ParameterDict({"W_pos": drawn(c["n_ctx"], d)})
        self.blocks = nn.ModuleList()
        for _ in range(c["n_layers"]):
            block = nn.Module()
            block.ln1, block.attn = LensNorm(norm, d, c["eps"]), LensAttention(c)
            if not c.get("attn_only"):
                block.ln2, block.mlp = LensNorm(norm, d, c["eps"]), LensMlp(c)
            self.blocks.append(block)
        self.ln_final = LensNorm(norm, d, c["eps"])
        self.unembed = nn.ParameterDict({"W_U": drawn(d, c["d_vocab_out"]), "b_U": drawn(c["d_vocab_out"])})

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed["W_E"][ids]
        if hasattr(self, "pos_embed"):
            x = x + self.pos_embed["W_pos"][: len(ids)]
        hidden = None if self.pad is None else (ids == self.pad)[None, :]
        for block in self.blocks:
            x = x + block.attn(block.ln1(x), hidden)
            x = x if self.c.get("attn_only") else x + block.mlp(block.ln2(x))
        return self.ln_final(x) @ self.unembed["W_U"] + self.unembed["b_U"]


class LeftFacing(nn.Module):
    """The grokking notebooks of 2022; ``is_easy`` is the EasyTransformer between them and TransformerLens."""

    def __init__(self, c: dict[str, Any], is_easy: bool = False) -> None:
        super().__init__()
        self.c, self.is_easy = c, is_easy
        v, u, d, h, k, m, n = (
            c[x] for x in ("d_vocab", "d_vocab_out", "d_model", "n_heads", "d_head", "d_mlp", "n_ctx")
        )
        self.embed = nn.ParameterDict({"W_E": drawn(d, v)})
        self.pos_embed = nn.ParameterDict({"W_pos": drawn(d, n) if is_easy else drawn(n, d)})
        self.blocks = nn.ModuleList()
        for _ in range(c["n_layers"]):
            block = nn.Module()
            block.attn = nn.ParameterDict({f"W_{x}": drawn(h, k, d) for x in "QKV"})
            block.attn["W_O"] = drawn(h, d, k) if is_easy else drawn(d, h * k)
            block.attn.register_buffer("mask", torch.ones(n, n).tril())
            if m:
                block.mlp = nn.ParameterDict(
                    {"W_in": drawn(m, d), "b_in": drawn(m), "W_out": drawn(d, m), "b_out": drawn(d)}
                )
            self.blocks.append(block)
        self.unembed = nn.ParameterDict({"W_U": drawn(u, d) if is_easy else drawn(d, u)})

    def forward(self, ids: Tensor) -> Tensor:
        c, share = self.c, self.c.get("attn_coeff", 1.0)
        pos = self.pos_embed["W_pos"].T if self.is_easy else self.pos_embed["W_pos"]
        x = self.embed["W_E"].T[ids] + pos[: len(ids)]
        for block in self.blocks:
            q, k, v = (torch.einsum("hkd,pd->hpk", block.attn[f"W_{y}"], x) for y in "QKV")
            z = attended(q, k, v, causal=c["attention_dir"] == "causal", scale=1 / math.sqrt(c["d_head"]))
            z = share * z + (1 - share) * v.sum(1, keepdim=True)
            if self.is_easy:
                x = x + torch.einsum("hdk,hpk->pd", block.attn["W_O"], z)
            else:
                x = x + torch.einsum("df,pf->pd", block.attn["W_O"], joined(z))
            if c["d_mlp"]:
                units = ACTIVATIONS[c["act_fn"]](torch.einsum("md,pd->pm", block.mlp["W_in"], x) + block.mlp["b_in"])
                x = x + torch.einsum("dm,pm->pd", block.mlp["W_out"], units) + block.mlp["b_out"]
        return x @ (self.unembed["W_U"].T if self.is_easy else self.unembed["W_U"])


def randomised(module: nn.Module, seed: int, spread: float = 0.4) -> nn.Module:
    """Give every parameter of torch's own layers random values, gains around 1; returns the module in evaluation."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            is_gain = p.ndim == 1 and name.endswith("weight")
            p.copy_(torch.randn_like(p) * spread + (1 if is_gain else 0))
    return module.eval()
