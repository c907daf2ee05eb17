"""The forward pass of a ``Network`` in torch, in float64 or float32, on batches of prompts of one length.

It computes logits and, on request, every named activation (trace.py). It knows token ids and position ids and
refuses to know what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from extract.errors import DomainError
from extract.model.parts import Gain, activate, normed, rotated, turns
from extract.model.trace import Hook, Trace
from extract.network import Layer, Network, Norm

Precision = Literal["float64", "float32"]
#: One head each of queries, keys and values: [input, head, position, d_head].
_Heads = tuple[Tensor, Tensor, Tensor]
#: Numbers in the table of the first layer's projections: 8 MiB, which a processor's cache mostly holds.
_LARGEST_TABLE = 1 << 20
DTYPES: dict[Precision, torch.dtype] = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class _LayerWeights:
    """One block with heads side by side: ``W_QKV`` [d_model, 3 * head * d_head], ``W_O`` [head * d_head, d_model]."""

    norm_attention: Gain | None
    W_QKV: Tensor
    b_QKV: Tensor
    W_O: Tensor
    b_O: Tensor
    norm_mlp: Gain | None
    W_in: Tensor
    b_in: Tensor
    W_out: Tensor
    b_out: Tensor
    norm_query: Gain | None
    norm_key: Gain | None
    gate: tuple[Tensor, Tensor] | None
    norm_hidden: Gain | None


@dataclass(frozen=True, slots=True)
class Memory:
    """Keys and values of every layer for the positions seen so far: [input, head, position, d_head] each.

    ``hidden`` [input, position] says which keys no query may see, None where all may be seen.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    n_positions: int
    offset: int
    hidden: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys[0]) if self.keys else 0

    def take(self, rows: Tensor) -> Memory:
        """Return the memory of some of the inputs."""
        keys, values = tuple(k[rows] for k in self.keys), tuple(v[rows] for v in self.values)
        hidden = None if self.hidden is None else self.hidden[rows]
        return Memory(keys, values, self.n_positions, self.offset, hidden)


def nothing_seen(offset: int) -> Memory:
    """Return the memory before the first token, whose position id will be ``offset``."""
    return Memory((), (), 0, offset)


class Forward:
    """A network ready to run. Weights are converted once; no gradient is ever recorded."""

    def __init__(self, network: Network, precision: Precision = "float64") -> None:
        self.network = network
        self.precision = precision
        self.dtype = DTYPES[precision]
        self._embed = self._tensor(network.embed)
        self._pos_embed = self._tensor(network.pos_embed) if network.pos_embed is not None else None
        self._embed_bias = None if network.embed_bias is None else self._tensor(network.embed_bias)
        a, head = network.architecture, network.head
        self._turns = None if a.rotary is None else turns(a.rotary, a.n_ctx, self.dtype)
        self._layers = tuple(self._layer(layer) for layer in network.layers)
        self._head = None if head is None else (self._tensor(head.W), self._tensor(head.b), self._norm(head.norm))
        self._norm_final = self._norm(network.norm_final)
        self._W_U = self._tensor(network.W_U)
        self._b_U = self._tensor(network.b_U)
        self._first = self._first_layer_table()

    @property
    def has_shareable_work(self) -> bool:
        """Whether prompts that begin alike are worth running together: not when a table holds all the early work."""
        a = self.network.architecture
        return a.attention == "causal" and not (a.n_layers <= 1 and self._first is not None)

    def logits(
        self, tokens: Tensor, offset: int = 0, read: Sequence[int] | None = None, hook: Hook | None = None
    ) -> Tensor:
        """Run prompts and return logits at some positions.

        Shape:   ``tokens`` [input, position] ids; ``read`` lists positions (None: all); the result is [input, read,
                 d_vocab_out]. Position ids are ``offset`` + index.
        Raises:  DomainError for an empty prompt, a position id beyond n_ctx, or a token id beyond d_vocab.
        """
        if hook is None:
            return self.run(tokens, nothing_seen(offset), read)[0]
        logits, _ = self._run(tokens, nothing_seen(offset), None, hook)
        return logits if read is None else logits[:, list(read)]

    def run(self, tokens: Tensor, memory: Memory, read: Sequence[int] | None) -> tuple[Tensor, Memory]:
        """Run tokens that follow those in memory; causal networks only, unless nothing was seen.

        Shape:   ``tokens`` [input, position]; ``read`` counts from the first of them; returns logits [input, read,
                 d_vocab_out] and the memory with the tokens added.
        Raises:  DomainError as ``logits`` does, and for a bidirectional network that has already seen tokens.
        """
        if memory.n_positions and self.network.architecture.attention != "causal":
            raise DomainError("a bidirectional network cannot be extended token by token, expected causal attention")
        queries = None if read is None else torch.tensor(list(read), dtype=torch.long)
        return self._run(tokens, memory, queries, None)

    def begin(self, tokens: Tensor, offset: int = 0) -> tuple[Tensor, Memory]:
        """Run prompts and return the logits at their last position [input, d_vocab_out] with what to go on from."""
        logits, memory = self.run(tokens, nothing_seen(offset), [tokens.shape[1] - 1])
        return logits[:, 0], memory

    def extend(self, memory: Memory, tokens: Tensor) -> tuple[Tensor, Memory]:
        """Add one token per input; causal networks only. Shape: ``tokens`` [input]; returns as ``begin`` does."""
        logits, memory = self.run(tokens[:, None], memory, [0])
        return logits[:, 0], memory

    def trace(self, tokens: Tensor, offset: int = 0, names: Sequence[str] | None = None) -> Trace:
        """Run prompts and keep the named activations (None: all)."""
        kept: dict[str, NDArray[np.floating[Any]]] = {}

        def keep(name: str, value: Tensor) -> Tensor:
            if names is None or name in names:
                kept[name] = value.numpy()
            return value

        self.logits(tokens, offset, hook=keep)
        architecture = self.network.architecture
        return Trace(kept, architecture.n_layers, architecture.n_heads)

    @torch.no_grad()
    def _run(self, tokens: Tensor, memory: Memory, read: Tensor | None, hook: Hook | None) -> tuple[Tensor, Memory]:
        """Run with the last layer's queries, and all that follows them, at the positions read only (None: all)."""
        self._check(tokens, memory)
        observe = hook or _pass_on
        x = None if self._first is not None and hook is None else observe("embed", self._embedded(tokens, memory, None))
        keys, values = [], []
        for i, layer in enumerate(self._layers):
            queries = read if i == len(self._layers) - 1 else None
            if x is None:
                x, projected = self._looked_up(tokens, memory, queries)
            else:
                projected = self._projected(layer, x, queries, memory.offset + memory.n_positions)
                x = x if queries is None else x[:, queries]
            query, key, value = projected
            if memory.n_positions:
                key = torch.cat([memory.keys[i], key], dim=2)
                value = torch.cat([memory.values[i], value], dim=2)
            x = self._block(i, x, (query, key, value), self._unseen(tokens, memory, queries), hook)
            keys.append(key)
            values.append(value)
        if x is None or (not self._layers and read is not None):
            x = self._embedded(tokens, memory, read)
        x = observe("final", self._normed(x, self._norm_final))
        if self._head is not None and self.network.head is not None:
            W, b, norm = self._head
            x = observe("head", activate(self._normed(x @ W + b, norm), self.network.head.activation))
        logits = observe("logits", x @ self._W_U + self._b_U)
        n_seen = memory.n_positions + tokens.shape[1]
        return logits, Memory(tuple(keys), tuple(values), n_seen, memory.offset, self._hidden(tokens, memory))

    def _embedded(self, tokens: Tensor, memory: Memory, at: Tensor | None) -> Tensor:
        x = functional.embedding(tokens if at is None else tokens[:, at], self._embed)
        if self.network.architecture.embed_scale != 1.0:
            x = x * self.network.architecture.embed_scale
        if self._embed_bias is not None:
            x = x + self._embed_bias
        if self._pos_embed is None:
            return x
        first = memory.offset + memory.n_positions
        positions = self._pos_embed[first : first + tokens.shape[1]]
        return x + (positions if at is None else positions[at])

    def _projected(self, layer: _LayerWeights, x: Tensor, queries: Tensor | None, first: int) -> _Heads:
        """Return queries, keys and values ready to be compared; ``first`` is the first position id."""
        z = x if self._is_after else self._normed(x, layer.norm_attention)
        query, key, value = self._split(z @ layer.W_QKV + layer.b_QKV, 3)
        query, key = self._normed(query, layer.norm_query), self._normed(key, layer.norm_key)
        rotary = self.network.architecture.rotary
        if rotary is not None and self._turns is not None:
            cos, sin = (table[first : first + x.shape[1]] for table in self._turns)
            query, key = rotated(query, rotary, cos, sin), rotated(key, rotary, cos, sin)
        return (query if queries is None else query[:, :, queries], key, value)

    def _looked_up(self, tokens: Tensor, memory: Memory, queries: Tensor | None) -> tuple[Tensor, _Heads]:
        """Return residual and projections of the first layer, which depend on a token and its position only."""
        if self._first is None:
            raise LookupError("this network has no table of its first layer")
        first = memory.offset + memory.n_positions
        cells = tokens + torch.arange(first, first + tokens.shape[1]) * self.network.architecture.d_vocab
        query = functional.embedding(cells if queries is None else cells[:, queries], self._first[0])
        key, value = self._split(functional.embedding(cells, self._first[1]), 2)
        return self._embedded(tokens, memory, queries), (self._split(query, 1)[0], key, value)

    def _split(self, joined: Tensor, n_parts: int) -> Tensor:
        """Split [input, position, part * head * d_head] into [part, input, head, position, d_head]."""
        a = self.network.architecture
        return joined.view(*joined.shape[:2], n_parts, a.n_heads, a.d_head).permute(2, 0, 3, 1, 4)

    @property
    def _is_after(self) -> bool:
        return self.network.architecture.norm_place == "after"

    def _hidden(self, tokens: Tensor, memory: Memory) -> Tensor | None:
        """Return which keys hold the masked token [input, key], those in memory first; None without one."""
        masked = self.network.architecture.masked_token
        if masked is None:
            return None
        here = tokens == masked
        return here if memory.hidden is None else torch.cat([memory.hidden, here], dim=1)

    def _unseen(self, tokens: Tensor, memory: Memory, queries: Tensor | None) -> Tensor | None:
        """Return which keys a query may not see, [query, key] or [input, 1, query, key]; None when all may be seen."""
        later, hidden = self._later(tokens, memory, queries), self._hidden(tokens, memory)
        if hidden is None or not hidden.any():
            return later
        n_queries = tokens.shape[1] if queries is None else len(queries)
        unseen = hidden[:, None, None].expand(-1, -1, n_queries, -1)
        return unseen if later is None else unseen | later

    def _later(self, tokens: Tensor, memory: Memory, queries: Tensor | None) -> Tensor | None:
        """Return where a key comes after a query [query, key], or None when no key does."""
        if self.network.architecture.attention != "causal":
            return None
        n_seen, n_new = memory.n_positions, tokens.shape[1]
        at = torch.arange(n_new) if queries is None else queries
        later = torch.arange(n_seen + n_new) > (at + n_seen)[:, None]
        return later if later.any() else None

    def _block(self, i: int, x: Tensor, projected: _Heads, unseen: Tensor | None, hook: Hook | None) -> Tensor:
        a, observe, layer = self.network.architecture, hook or _pass_on, self._layers[i]
        query, key, value = projected
        scores = query @ key.transpose(2, 3) * a.attention_scale[i]
        if unseen is not None:
            scores = scores.masked_fill(unseen, -torch.inf)
        scores = observe(f"layers.{i}.scores", scores)
        pattern = torch.softmax(scores, dim=-1)
        if a.masked_token is not None:
            # a query that sees nothing attends to nothing: its answer is never relied on (network.py)
            pattern = pattern.nan_to_num(0.0)
        if a.softmax_share != 1.0:
            pattern = a.softmax_share * pattern + (1 - a.softmax_share)
        pattern = observe(f"layers.{i}.pattern", pattern)
        mixed = pattern @ value
        if hook is None:
            attention = mixed.transpose(1, 2).reshape(*x.shape[:2], len(layer.W_O)) @ layer.W_O + layer.b_O
        else:
            heads = mixed @ layer.W_O.view(a.n_heads, a.d_head, a.d_model)
            attention = observe(f"layers.{i}.heads", heads).sum(dim=1) + layer.b_O
            attention = observe(f"layers.{i}.attention", attention)
        x = x + attention
        x = observe(f"layers.{i}.middle", self._normed(x, layer.norm_attention) if self._is_after else x)
        z = x if self._is_after else self._normed(x, layer.norm_mlp)
        W, b = layer.gate or (layer.W_in, layer.b_in)
        post = activate(observe(f"layers.{i}.mlp_pre", z @ W + b), a.activation)
        if layer.gate is not None:
            post = post * (z @ layer.W_in + layer.b_in)
        post = observe(f"layers.{i}.mlp_post", self._normed(post, layer.norm_hidden))
        x = x + observe(f"layers.{i}.mlp", post @ layer.W_out + layer.b_out)
        return observe(f"layers.{i}.residual", self._normed(x, layer.norm_mlp) if self._is_after else x)

    def _check(self, tokens: Tensor, memory: Memory) -> None:
        a = self.network.architecture
        n_positions = memory.n_positions + tokens.shape[1]
        if n_positions == 0:
            raise DomainError("an empty prompt was asked, expected at least one token")
        if memory.offset < 0 or memory.offset + n_positions > a.n_ctx:
            raise DomainError(
                f"a prompt of {n_positions} tokens at offset {memory.offset} needs position ids up to "
                f"{memory.offset + n_positions - 1}, but n_ctx is {a.n_ctx}",
            )
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < a.d_vocab:
            raise DomainError(f"token ids {int(tokens.min())} to {int(tokens.max())}, expected 0 to {a.d_vocab - 1}")

    @torch.no_grad()
    def _first_layer_table(self) -> tuple[Tensor, Tensor] | None:
        """Return queries [cell, head * d_head] and keys with values [cell, 2 * head * d_head] of the first layer.

        A cell is position * d_vocab + token. None when the table would be large, or there is no layer.
        """
        a = self.network.architecture
        n_cells, width = a.n_ctx * a.d_vocab, a.n_heads * a.d_head
        if not self._layers or 3 * n_cells * width > _LARGEST_TABLE:
            return None
        tokens = torch.arange(a.d_vocab)[:, None].expand(-1, a.n_ctx)
        x = self._embedded(tokens, nothing_seen(0), None)
        # [token, head, position, d_head] to [position * d_vocab + token, head * d_head]
        parts = (
            part.permute(2, 0, 1, 3).reshape(n_cells, width) for part in self._projected(self._layers[0], x, None, 0)
        )
        query, key, value = parts
        return query.contiguous(), torch.cat([key, value], dim=1)

    def _normed(self, x: Tensor, norm: Gain | None) -> Tensor:
        return normed(x, norm, self.network.architecture.norm, self.network.architecture.norm_eps)

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.tensor(np.ascontiguousarray(array), dtype=self.dtype)

    def _norm(self, norm: Norm | None) -> Gain | None:
        return None if norm is None else (self._tensor(norm.weight), self._tensor(norm.bias))

    def _layer(self, layer: Layer) -> _LayerWeights:
        d_model = self.network.architecture.d_model
        joined = [w.transpose(1, 0, 2).reshape(d_model, -1) for w in (layer.W_Q, layer.W_K, layer.W_V)]
        biases = [b.reshape(-1) for b in (layer.b_Q, layer.b_K, layer.b_V)]
        return _LayerWeights(
            norm_attention=self._norm(layer.norm_attention),
            W_QKV=self._tensor(np.concatenate(joined, axis=1)),
            b_QKV=self._tensor(np.concatenate(biases)),
            W_O=self._tensor(layer.W_O.reshape(-1, d_model)),
            b_O=self._tensor(layer.b_O),
            norm_mlp=self._norm(layer.norm_mlp),
            W_in=self._tensor(layer.W_in),
            b_in=self._tensor(layer.b_in),
            W_out=self._tensor(layer.W_out),
            b_out=self._tensor(layer.b_out),
            norm_query=self._norm(layer.norm_query),
            norm_key=self._norm(layer.norm_key),
            gate=None if layer.W_gate is None or layer.b_gate is None else (
                self._tensor(layer.W_gate), self._tensor(layer.b_gate)),
            norm_hidden=self._norm(layer.norm_hidden),
        )  # fmt: skip


def _pass_on(_name: str, value: Tensor) -> Tensor:
    return value
