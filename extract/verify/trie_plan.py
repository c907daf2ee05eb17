"""The order in which a trie visits prompt positions: constant tokens and letters, then the tail after the input.

It knows layouts and graphs, and refuses to know any network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.input_graph import InputGraph

#: A body entry that branches over the next letter of the input.
LETTER = -1


@dataclass(frozen=True, slots=True)
class WalkPlan:
    """One walk: ``body`` are token ids or LETTER in prompt order, ``tail`` the token ids after an input's last letter.

    A walk over one length has every constant between letters in the body; a walk over several has them in front.
    """

    body: tuple[int, ...]
    tail: tuple[int, ...]
    lengths: tuple[int, ...]

    def end_of(self, depth: int) -> int:
        """Return the number of body entries after which an input of a length has been read."""
        seen = 0
        for index, token in enumerate(self.body):
            if seen == depth and (token == LETTER):
                return index
            seen += token == LETTER
        return len(self.body)

    def reachable(self, graph: InputGraph) -> tuple[NDArray[np.bool_], ...]:
        """Say of every node (by depth) whether an input of one of the walk's lengths continues it."""
        longest = max(self.lengths)
        rows: list[NDArray[np.bool_]] = []
        for depth in range(longest, -1, -1):
            here = graph.accept[depth].copy() if depth in self.lengths else np.zeros(len(graph.accept[depth]), np.bool_)
            if depth < longest:
                following = graph.next[depth]
                here |= ((following >= 0) & rows[-1][following]).any(axis=1)
            rows.append(here)
        return tuple(reversed(rows))

    def n_below(self, graph: InputGraph, depth: int, length: int) -> NDArray[np.int64]:
        """Return for every state at a depth the number of inputs of a length that continue it."""
        counts = graph.accept[length].astype(np.int64)
        for above in range(length - 1, depth - 1, -1):
            following = graph.next[above]
            counts = np.where(following >= 0, counts[following], 0).sum(axis=1)
        return counts


def plan_walks(domain: Domain, lengths: tuple[int, ...]) -> tuple[WalkPlan, ...] | None:
    """Return walks that cover lengths of one graph: a single one if the template is constant around ``{x}``.

    None if some layout has letters out of order or repeated: such prompts share no prefixes.
    """
    plans = [_plan_of(domain.template.layout(length), length) for length in lengths]
    if any(plan is None for plan in plans):
        return None
    whole = [plan for plan in plans if plan is not None]
    longest = whole[-1]
    n_front = next((i for i, token in enumerate(longest.body) if token == LETTER), len(longest.body))
    front = longest.body[:n_front]
    for plan, length in zip(whole, lengths, strict=True):
        joined = plan.body + plan.tail
        if joined != front + (LETTER,) * length + longest.tail:
            return tuple(whole)
    return (WalkPlan(front + (LETTER,) * lengths[-1], longest.tail, lengths),)


def _plan_of(layout: tuple[int, ...], length: int) -> WalkPlan | None:
    letters = [-1 - cell for cell in layout if cell < 0]
    if letters != list(range(length)):
        return None
    end = max((i for i, cell in enumerate(layout) if cell < 0), default=len(layout) - 1) + 1
    body = tuple(cell if cell >= 0 else LETTER for cell in layout[:end])
    return WalkPlan(body, layout[end:], (length,))
