"""Activations by name: what one forward pass computed on a batch, kept only when somebody asks for it.

Names: ``embed``, ``layers.i.scores``, ``.pattern``, ``.heads``, ``.attention``, ``.middle``, ``.mlp_pre``,
``.mlp_post``, ``.mlp``, ``.residual``, then ``final`` and ``logits``. It computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from extract.errors import DomainError

#: Sees every named activation while it is computed and returns the one to go on with (the same, or a replacement).
Hook = Callable[[str, torch.Tensor], torch.Tensor]
#: The activations of one layer, in the order they are computed.
LAYER_NAMES = ("scores", "pattern", "heads", "attention", "middle", "mlp_pre", "mlp_post", "mlp", "residual")


def activation_names(n_layers: int) -> tuple[str, ...]:
    """Return every name a trace of a network of this depth has, in the order of computation."""
    layers = tuple(f"layers.{i}.{name}" for i in range(n_layers) for name in LAYER_NAMES)
    return ("embed", *layers, "final", "logits")


@dataclass(frozen=True, slots=True)
class Trace:
    """The activations of one batch of prompts of one length.

    Shape:   ``embed``, ``attention``, ``middle``, ``mlp``, ``residual``, ``final`` [input, position, d_model];
             ``scores`` (scaled, -inf where masked) and ``pattern`` [input, head, query, key]; ``heads`` [input, head,
             position, d_model] (each head's share of ``attention``, without the bias b_O); ``mlp_pre``, ``mlp_post``
             [input, position, d_mlp]; ``logits`` [input, position, d_vocab_out].
    Units:   ``pattern`` is probability, ``logits`` are logits, the rest residual-stream units.
    """

    activations: Mapping[str, NDArray[np.floating[Any]]]
    n_layers: int
    n_heads: int

    def __getitem__(self, name: str) -> NDArray[np.floating[Any]]:
        try:
            return self.activations[name]
        except KeyError:
            raise DomainError(
                f"no activation {name!r} in a network of {self.n_layers} layers",
                hint=f"names: {', '.join(self.activations)}",
            ) from None

    def attention_pattern(self, layer: int, head: int) -> NDArray[np.floating[Any]]:
        """Return the attention weights of one head.

        Shape:   [input, query, key]; each row over keys sums to 1.
        Raises:  DomainError if layer or head is out of range.
        """
        if not 0 <= layer < self.n_layers:
            raise DomainError(f"layer {layer} asked of a network with {self.n_layers} layers")
        if not 0 <= head < self.n_heads:
            raise DomainError(f"head {head} asked of layer {layer}, which has {self.n_heads} heads")
        return self.activations[f"layers.{layer}.pattern"][:, head]
