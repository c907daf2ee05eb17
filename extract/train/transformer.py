"""A small GPT-2: the module that is trained here and exported under GPT-2's own tensor names.

Causal attention, pre-norm blocks, tanh GELU, learned positions, tied unembedding: the function of ``GPT2LMHeadModel``.
Weight matrices are stored input first, as GPT-2 stores them. It refuses to know any task.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.train.tasks import Shape


class InputFirstLinear(nn.Module):
    """An affine map ``x @ weight + bias``. Shapes: ``weight`` [n_in, n_out], ``bias`` [n_out]."""

    def __init__(self, n_in: int, n_out: int, gain: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out, generator=generator) * (gain / math.sqrt(n_in)))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Return the image of the last axis."""
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class Attention(nn.Module):
    """Causal self-attention with ``n_heads`` heads; ``c_attn`` makes queries, keys and values side by side."""

    def __init__(self, shape: Shape, gain: float, generator: torch.Generator) -> None:
        super().__init__()
        self.n_heads = shape.n_heads
        self.c_attn = InputFirstLinear(shape.d_model, 3 * shape.d_model, 1.0, generator)
        self.c_proj = InputFirstLinear(shape.d_model, shape.d_model, gain, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the heads' output. Shape: [input, position, d_model] in and out."""
        n_inputs, n_positions, d_model = x.shape
        split = self.c_attn(x).view(n_inputs, n_positions, 3, self.n_heads, d_model // self.n_heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])
        future = torch.ones(n_positions, n_positions, dtype=torch.bool).triu(1)
        pattern = scores.masked_fill(future, -math.inf).softmax(dim=-1)
        joined: Tensor = self.c_proj((pattern @ value).transpose(1, 2).reshape(n_inputs, n_positions, d_model))
        return joined


class Mlp(nn.Module):
    """Two affine maps with a tanh GELU between; the hidden layer is four times as wide as the stream."""

    def __init__(self, shape: Shape, gain: float, generator: torch.Generator) -> None:
        super().__init__()
        self.c_fc = InputFirstLinear(shape.d_model, 4 * shape.d_model, 1.0, generator)
        self.c_proj = InputFirstLinear(4 * shape.d_model, shape.d_model, gain, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output. Shape: [input, position, d_model] in and out."""
        hidden = functional.gelu(self.c_fc(x), approximate="tanh")
        written: Tensor = self.c_proj(hidden)
        return written


class Block(nn.Module):
    """One pre-norm block: attention, then MLP, each added to the residual stream."""

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        gain = 1.0 / math.sqrt(2 * shape.n_layers)
        self.ln_1 = nn.LayerNorm(shape.d_model)
        self.attn = Attention(shape, gain, generator)
        self.ln_2 = nn.LayerNorm(shape.d_model)
        self.mlp = Mlp(shape, gain, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream after the block. Shape: [input, position, d_model] in and out."""
        x = x + self.attn(self.ln_1(x))
        after: Tensor = x + self.mlp(self.ln_2(x))
        return after


class SmallGPT2(nn.Module):
    """GPT-2 at toy size. ``state_dict`` has GPT-2's names without the ``transformer.`` prefix.

    Shapes: tokens [input, position] int64 to logits [input, position, d_vocab]. The initial weights depend on
    ``seed`` alone.
    """

    def __init__(self, shape: Shape, d_vocab: int, n_positions: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        scale = 0.5 / math.sqrt(shape.d_model)
        self.wte = nn.Parameter(torch.randn(d_vocab, shape.d_model, generator=generator) * scale)
        self.wpe = nn.Parameter(torch.randn(n_positions, shape.d_model, generator=generator) * scale)
        self.h = nn.ModuleList(Block(shape, generator) for _ in range(shape.n_layers))
        self.ln_f = nn.LayerNorm(shape.d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits at every position. Shape: [input, position, d_vocab]."""
        x = functional.embedding(tokens, self.wte) + self.wpe[: tokens.shape[1]]
        for block in self.h:
            x = block(x)
        logits: Tensor = self.ln_f(x) @ self.wte.T
        return logits
