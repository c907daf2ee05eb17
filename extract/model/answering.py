"""From logits to answers: which output wins, and by how much. Pure functions on logits; no network here.

A near-tie, a difference that float64 rounding could have made, is treated as the exact tie it stands for: margin 0,
and the first output in id order is reported, so that answers do not depend on how inputs were batched.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Logit differences up to this, relative to the top logit above 1, are ties: rounding of float64 is far below it.
_TIE = 2.0**-30
_PAIR = 2


@dataclass(frozen=True, slots=True)
class Decisions:
    """Shapes: ``picks`` [input, decision] indices among the choices (multilabel: 0 or 1), ``margins`` [input]."""

    picks: Tensor
    margins: Tensor


def argmax_decisions(logits: Tensor, choices: Tensor) -> Decisions:
    """Pick the top choice at every position. Shape: ``logits`` [input, position, d_vocab_out], ``choices`` [choice].

    Units:   the margin is top minus second logit, the least over positions; infinite where there is no decision.
    """
    offered = logits[..., choices]
    n_inputs, n_positions = offered.shape[:2]
    if n_positions == 0:
        return Decisions(offered.new_zeros((n_inputs, 0), dtype=torch.long), _no_decision(offered))
    best = offered.topk(min(_PAIR, offered.shape[-1]), dim=-1).values
    top = best[..., 0]
    tie = _tie_width(top)
    picks = (offered >= (top - tie)[..., None]).to(torch.uint8).argmax(dim=-1)
    if best.shape[-1] < _PAIR:
        return Decisions(picks, _no_decision(offered))
    return Decisions(picks, _rounded(top - best[..., 1], tie).amin(dim=1))


def multilabel_decisions(logits: Tensor, choices: Tensor, threshold: float) -> Decisions:
    """Say for each choice whether its logit is above the threshold. Shape: ``logits`` [input, d_vocab_out].

    Units:   the margin is the least distance of a logit to the threshold; a logit on the threshold is not above it.
    """
    distance = logits[:, choices].double() - threshold
    tie = _tie_width(logits[:, choices])
    return Decisions((distance > tie).long(), _rounded(distance.abs(), tie).amin(dim=1))


def _tie_width(values: Tensor) -> Tensor:
    """Return the tie width per value; float32 logits keep their exact order, for comparison with other tools."""
    if values.dtype == torch.float32:
        return torch.zeros_like(values)
    return values.abs().clamp_min(1.0) * _TIE


def _rounded(differences: Tensor, tie: Tensor) -> Tensor:
    """Return margins without the bits that depend on batching; ties are 0."""
    values, tie = differences.double(), tie.double()
    rounded = torch.where(tie > 0, torch.round(values / _TIE) * _TIE, values)
    return torch.where(values <= tie, torch.zeros_like(values), rounded)


def _no_decision(offered: Tensor) -> Tensor:
    return torch.full((offered.shape[0],), torch.inf, dtype=torch.float64)
