"""From logits to answers: which output wins, and by how much. Pure functions on logits; no network here.

A near-tie, a difference that float64 rounding could have made, is treated as the exact tie it stands for: no output
wins, and the first in id order is only noted, so that answers do not depend on how inputs were batched.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from extract.readout import nearest_fractions

#: Margins are rounded to this, so that they do not depend on how inputs were batched.
_GRAIN = 2.0**-30
_PAIR = 2


@dataclass(frozen=True, slots=True)
class Decisions:
    """Shapes: ``picks`` [input, decision] indices among the choices (multilabel: 0 or 1), ``margins`` [input], ``tied``
    [input, decision]: where no choice wins, and the pick is only the first of the best."""

    picks: Tensor
    margins: Tensor
    tied: Tensor


def argmax_decisions(logits: Tensor, choices: Tensor, tie: float = _GRAIN) -> Decisions:
    """Pick the top choice at every position. Shape: ``logits`` [input, position, d_vocab_out], ``choices`` [choice].

    ``tie`` is ``Network.tie``.
    Units:   the margin is top minus second logit, the least over positions that are not tied, 0 if all are; infinite
             where there is no decision.
    """
    offered = logits[..., choices]
    n_inputs, n_positions = offered.shape[:2]
    if n_positions == 0:
        none = offered.new_zeros((n_inputs, 0), dtype=torch.long)
        return Decisions(none, _no_decision(offered), none.bool())
    best = offered.topk(min(_PAIR, offered.shape[-1]), dim=-1).values
    top = best[..., 0]
    width = _tie_width(top, tie)
    picks = (offered >= (top - width)[..., None]).to(torch.uint8).argmax(dim=-1)
    if best.shape[-1] < _PAIR:
        return Decisions(picks, _no_decision(offered), torch.zeros_like(picks, dtype=torch.bool))
    margins = _rounded(top - best[..., 1], width)
    tied = margins == 0
    least = torch.where(tied, torch.inf, margins).amin(dim=1)
    return Decisions(picks, torch.where(tied.all(dim=1), 0.0, least), tied)


def multilabel_decisions(logits: Tensor, choices: Tensor, threshold: float, tie: float = _GRAIN) -> Decisions:
    """Say for each choice whether its logit is above the threshold. Shape: ``logits`` [input, d_vocab_out].

    Units:   the margin is the least distance of a logit to the threshold; a logit on the threshold is not above it.
    """
    distance = logits[:, choices].double() - threshold
    width = _tie_width(logits[:, choices], tie)
    margins = _rounded(distance.abs(), width)
    return Decisions((distance > width).long(), margins.amin(dim=1), margins == 0)


def value_decisions(outputs: Tensor, tolerance: float) -> Decisions:
    """Say which simple fraction is within tolerance of each value. Shape: ``outputs`` [input, position].

    ``picks`` are codes in units of 1/720720, or NO_NUMBER.
    Units:   the margin is the room between a value's distance to the nearest fraction and the tolerance.
    """
    values = outputs.double()
    codes, rooms, _ = nearest_fractions(values.numpy(), tolerance)
    picks, room = torch.from_numpy(codes), torch.from_numpy(rooms)
    tied = ~(room.abs() > _tie_width(values, _GRAIN))
    least = torch.where(tied, torch.inf, room.abs()).amin(dim=1) if outputs.shape[1] else _no_decision(values)
    is_open = tied.all(dim=1) if outputs.shape[1] else torch.zeros(len(values), dtype=torch.bool)
    return Decisions(picks, torch.where(is_open, 0.0, least), tied)


def _tie_width(values: Tensor, tie: float) -> Tensor:
    """Return the tie width per value; float32 logits keep their exact order, for comparison with other tools."""
    if values.dtype == torch.float32:
        return torch.zeros_like(values)
    return values.abs().clamp_min(1.0) * tie


def _rounded(differences: Tensor, tie: Tensor) -> Tensor:
    """Return margins without the bits that depend on batching; ties are 0."""
    values, tie = differences.double(), tie.double()
    rounded = torch.where(tie > 0, torch.round(values / _GRAIN) * _GRAIN, values)
    return torch.where(values <= tie, torch.zeros_like(values), rounded)


def _no_decision(offered: Tensor) -> Tensor:
    return torch.full((offered.shape[0],), torch.inf, dtype=torch.float64)
