"""Running many prompts that begin alike: each distinct beginning is run once and its memory shared.

For causal networks only. It changes how much is computed, not what; it refuses to know why prompts are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.model.forward import Forward, Memory, nothing_seen

#: Copying the memory of one position costs this share of running one, per position already seen and per d_model of 64;
#: measured on models of 16 to 64 dimensions, only the choice of cuts depends on it.
_COPY_SHARE = 0.1
_WIDE = 64


def run_shared(forward: Forward, prompts: Tensor, offset: int, read: Sequence[int]) -> tuple[Tensor, Memory]:
    """Run prompts as ``Forward.run`` does from nothing, once per distinct beginning.

    Shape:   ``prompts`` [input, position]; returns logits [input, read, d_vocab_out] and the memory of every input.
    """
    n_inputs, n_positions = prompts.shape
    order, first_change = _sorted_by_beginning(prompts.numpy())
    tokens = prompts[torch.from_numpy(order)]
    memory, groups = nothing_seen(offset), np.zeros(n_inputs, dtype=np.intp)
    pieces: list[Tensor] = []
    start = 0
    for stop in _cuts(first_change, n_positions, _COPY_SHARE * min(1.0, forward.network.architecture.d_model / _WIDE)):
        heads = np.flatnonzero(first_change < stop)
        if start and len(heads) != len(memory):
            memory = memory.take(torch.from_numpy(groups[heads]))
        inside = sorted(position - start for position in read if start <= position < stop)
        piece = tokens[torch.from_numpy(heads), start:stop]
        logits, memory = forward.run(piece, memory, inside)
        groups = np.cumsum(first_change < stop) - 1
        pieces.append(logits[torch.from_numpy(groups)] if len(heads) != n_inputs else logits)
        start = stop
    back = torch.from_numpy(np.argsort(order))
    if len(memory) != n_inputs:
        memory = memory.take(torch.from_numpy(groups)[back])
    elif not np.array_equal(order, np.arange(n_inputs)):
        memory = memory.take(back)
    by_position = sorted(range(len(read)), key=lambda i: read[i])
    columns = torch.tensor([by_position.index(i) for i in range(len(read))], dtype=torch.long)
    return torch.cat(pieces, dim=1)[back][:, columns], memory


def _sorted_by_beginning(prompts: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return an order that puts equal beginnings together, and where each prompt first differs from the one before.

    Shape:   both [input]; the first prompt differs at -1, a repeated one at the number of positions.
    """
    order = np.lexsort(prompts.T[::-1])
    table = prompts[order]
    differs = table[1:] != table[:-1]
    change = np.where(differs.any(axis=1), differs.argmax(axis=1), prompts.shape[1])
    return order, np.concatenate([[-1], change]).astype(np.intp)


def _cuts(first_change: NDArray[np.intp], n_positions: int, copy_share: float) -> list[int]:
    """Return where to stop and share, the last position included: the cheapest cuts by a small dynamic program."""
    counts = np.bincount(first_change + 1, minlength=n_positions + 2)
    n_distinct = np.cumsum(counts)  # n_distinct[p]: beginnings of length p
    cost, came_from = np.zeros(n_positions + 1), np.zeros(n_positions + 1, dtype=np.intp)
    for stop in range(1, n_positions + 1):
        starts = np.arange(stop)
        spent = cost[:stop] + n_distinct[stop] * ((stop - starts) + copy_share * starts)
        came_from[stop] = spent.argmin()
        cost[stop] = spent[came_from[stop]]
    cuts = [n_positions]
    while came_from[cuts[-1]] > 0:
        cuts.append(int(came_from[cuts[-1]]))
    return cuts[::-1]
