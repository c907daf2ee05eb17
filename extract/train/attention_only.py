"""One layer of causal attention between embedding and head: no norm, no MLP, no biases.

It is trained here and exported in the neutral layout, tensor by tensor under the network's own names. It refuses to
know any task.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.train.tasks import Shape

#: Positions start small beside tokens: most tasks begin with what the tokens are.
_POSITION_SHARE = 0.1


class AttentionOnly(nn.Module):
    """Embedding plus position, attention added, head of its own.

    Shapes: tokens [input, position] int64 to logits [input, position, d_vocab]. ``W_Q, W_K, W_V`` [head, d_model,
    d_head], ``W_O`` [head, d_head, d_model]. The initial weights depend on ``seed`` alone.
    """

    def __init__(self, shape: Shape, d_vocab: int, n_positions: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        d, h = shape.d_model, shape.n_heads

        def draw(*sizes: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*sizes, generator=generator) * (scale / math.sqrt(d)))

        self.embed, self.pos_embed = draw(d_vocab, d, scale=0.5), draw(n_positions, d, scale=0.5 * _POSITION_SHARE)
        self.W_Q, self.W_K, self.W_V = (draw(h, d, d // h, scale=1.0) for _ in range(3))
        self.W_O, self.W_U = draw(h, d // h, d, scale=1.0), draw(d, d_vocab, scale=1.0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits at every position. Shape: [input, position, d_vocab]."""
        n_positions = tokens.shape[1]
        x = functional.embedding(tokens, self.embed) + self.pos_embed[:n_positions]
        query, key, value = (torch.einsum("npd,hdk->nhpk", x, w) for w in (self.W_Q, self.W_K, self.W_V))
        scores = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])
        future = torch.ones(n_positions, n_positions, dtype=torch.bool).triu(1)
        pattern = scores.masked_fill(future, -math.inf).softmax(dim=-1)
        logits: Tensor = (x + torch.einsum("nhpk,hkd->npd", pattern @ value, self.W_O)) @ self.W_U
        return logits

    def neutral_weights(self) -> dict[str, Tensor]:
        """Return the weights under the neutral layout's names, absent biases as zeros."""
        inner = {name: getattr(self, name) for name in ("W_Q", "W_K", "W_V", "W_O")}
        h, d, k = self.W_Q.shape
        inner |= {name: torch.zeros(h, k) for name in ("b_Q", "b_K", "b_V")} | {"b_O": torch.zeros(d)}
        outer = {"embed": self.embed, "pos_embed": self.pos_embed, "W_U": self.W_U}
        return outer | {f"layers.0.{name}": tensor for name, tensor in inner.items()}
