"""The functions of a network's parts in torch: norms, activations, rotations. Pure functions of tensors.

It knows no weights and no network; which part comes where is the forward pass's to say.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from extract.network import Activation, NormKind, Rotary

#: A norm's gain and shift.
Gain = tuple[Tensor, Tensor]


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply a neuron's function: GELU by its tanh formula or exactly, ReLU, SiLU, or SoLU over the last axis.

    Source:  SoLU is x * softmax(x): Elhage et al. 2022, "Softmax Linear Units".
    """
    if activation == "gelu_tanh":
        return functional.gelu(x, approximate="tanh")
    if activation == "gelu_erf":
        return functional.gelu(x)
    if activation == "solu":
        return x * torch.softmax(x, dim=-1) if x.shape[-1] else x
    return functional.relu(x) if activation == "relu" else functional.silu(x)


def normed(x: Tensor, norm: Gain | None, kind: NormKind, eps: float) -> Tensor:
    """Apply a norm over the last axis, or nothing: layer norm, or root mean square without centring."""
    if norm is None:
        return x
    if kind == "rms":
        return functional.rms_norm(x, (x.shape[-1],), norm[0], eps=eps) + norm[1]
    return functional.layer_norm(x, (x.shape[-1],), *norm, eps=eps)


def turns(rotary: Rotary, n_ctx: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of every position's angles. Shape: [position, pair] each."""
    half = rotary.n_dims // 2
    frequencies = rotary.base ** (-2.0 * np.arange(half) / rotary.n_dims)
    angles = torch.from_numpy(np.arange(n_ctx)[:, None] * frequencies)
    return torch.cos(angles).to(dtype), torch.sin(angles).to(dtype)


def rotated(x: Tensor, rotary: Rotary, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every pair of the first dimensions. Shapes: ``x`` [..., position, d_head]; the tables [position, pair].

    Source:  Su et al. 2021, "RoFormer", section 3.2.
    """
    n = rotary.n_dims
    turned, rest = x[..., :n], x[..., n:]
    if rotary.pairing == "halves":
        one, two = turned[..., : n // 2], turned[..., n // 2 :]
    else:
        one, two = turned[..., 0::2], turned[..., 1::2]
    first, second = one * cos - two * sin, two * cos + one * sin
    if rotary.pairing == "halves":
        return torch.cat([first, second, rest], dim=-1)
    return torch.cat([torch.stack([first, second], dim=-1).flatten(-2), rest], dim=-1)
