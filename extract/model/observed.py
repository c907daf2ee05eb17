"""A network to look into and to change in one place at a time: prompts and activations in, activations out, as numpy.

It runs the forward pass in float64 and chooses nothing: what to look at, and what a change means, is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.model.forward import Forward
from extract.model.trace import Trace
from extract.network import Network

Floats = NDArray[np.floating[Any]]
Prompts = NDArray[np.integer[Any]]


@final
class Observed:
    """A network's activations on batches of prompts of one length, as they are or with one thing changed."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._forward = Forward(network)

    def trace(self, prompts: Prompts, offset: int, names: Sequence[str] | None = None) -> Trace:
        """Return the named activations (None: all). Shape: prompts [input, position] ids."""
        return self._forward.trace(_tensor(prompts), offset, names)

    def with_head(self, prompts: Prompts, offset: int, layer: int, head: int, output: Floats) -> Floats:
        """Return the logits [input, position, d_vocab_out] with another output in a head's place.

        Shape:   output [input or 1, position, d_model].
        """
        given = torch.from_numpy(np.ascontiguousarray(output)).to(self._forward.dtype)

        def hook(name: str, value: Tensor) -> Tensor:
            if name != f"layers.{layer}.heads":
                return value
            changed = value.clone()
            changed[:, head] = given
            return changed

        return self._logits(prompts, offset, hook)

    def without(self, prompts: Prompts, offset: int, part: Floats) -> Floats:
        """Return the logits with a part [input, position, d_model] taken out of the final residual stream only."""
        given = torch.from_numpy(np.ascontiguousarray(part)).to(self._forward.dtype)
        last = f"layers.{self.network.architecture.n_layers - 1}.residual"
        return self._logits(prompts, offset, lambda name, value: value - given if name == last else value)

    def _logits(self, prompts: Prompts, offset: int, hook: Any) -> Floats:
        logits: Floats = self._forward.logits(_tensor(prompts), offset, hook=hook).numpy()
        return logits


def _tensor(prompts: Prompts) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(prompts, dtype=np.int64))
