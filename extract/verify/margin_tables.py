"""What each token at each position adds to the decisions of an attention-only network with one head.

With the query fixed, a decision's margin times the common positive denominator of the attention is a sum of one term
per prompt position. Both factors of the terms are tabulated with rigorous error bounds. It refuses to know programs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.network import Network
from extract.verify.bounded import Bounded, Floats
from extract.verify.stages import SEMANTICS


@dataclass(frozen=True, slots=True)
class Decisions:
    """The margins that must be positive for an answer: ``own`` [variant, decision] of the query's own path, ``token``
    [position, letter, decision] of what attention moves."""

    own: Bounded
    token: Bounded


class MarginTables:
    """The tables of one length at one offset.

    Shapes: ``scores`` [variant, position, letter], the query being one of ``n_variants`` tokens at the read position;
    ``own`` [variant, choice] and ``token`` [position, letter, choice] are logits; a template's position has the same
    numbers for every letter. ``letters_at[i]`` lists the positions that hold x[i] and are seen, ``constants`` those of
    the template; ``query_letter`` is the index of the input's token that is the query, None for the template's.
    """

    def __init__(self, network: Network, domain: Domain, length: int, offset: int) -> None:
        a, layer = network.architecture, network.layers[0]
        layout = domain.template.layout(length)
        read = 0 if domain.readout.at == "first" else len(layout) - 1
        seen = layout[: read + 1] if a.attention == "causal" else layout
        alphabet = np.array(domain.alphabet)
        self.query_letter = -1 - layout[read] if layout[read] < 0 else None
        self.letters_at = [[p for p, cell in enumerate(seen) if cell == -1 - i] for i in range(length)]
        self.constants = [p for p, cell in enumerate(seen) if cell >= 0]
        self.n_positions, n_letters = len(seen), len(alphabet)
        tokens = np.array([[cell] * n_letters if cell >= 0 else alphabet for cell in seen])
        queries = alphabet if layout[read] < 0 else np.array([layout[read]])
        self.n_variants = len(queries)
        stream = self._embedded(network, tokens, np.arange(len(seen))[:, None] + offset)
        stream = stream.reshape(len(seen) * n_letters, a.d_model)
        asking = self._embedded(network, queries, np.full(len(queries), read + offset))
        exact, choices = Bounded.exact, list(domain.readout.choices)
        query = asking @ exact(layer.W_Q[0]) + exact(layer.b_Q[0])
        key, value = (stream @ exact(w[0]) + exact(b[0]) for w, b in ((layer.W_K, layer.b_K), (layer.W_V, layer.b_V)))
        turned = Bounded(key.value.T, key.error.T)
        self.scores = (query @ turned).scaled(a.attention_scale[0]).reshape(self.n_variants, len(seen), n_letters)
        unembed = exact(network.W_U[:, choices])
        self.token = ((value @ exact(layer.W_O[0])) @ unembed).reshape(len(seen), n_letters, len(choices))
        self.own = (asking + exact(layer.b_O)) @ unembed + exact(network.b_U[choices])

    @staticmethod
    def _embedded(network: Network, tokens: NDArray[np.int_], positions: NDArray[np.int_]) -> Bounded:
        x = Bounded.exact(network.embed[tokens])
        return x if network.pos_embed is None else x + Bounded.exact(network.pos_embed[positions])

    def argmax_decisions(self, chosen: int) -> Decisions:
        """Return the margins of one choice, by its place among the choices, over every other."""
        others = [i for i in range(self.own.value.shape[-1]) if i != chosen]
        mine = slice(chosen, chosen + 1)
        return Decisions(self.own[:, mine] - self.own[:, others], self.token[..., mine] - self.token[..., others])

    def label_decisions(self, cells: tuple[int, ...], threshold: float) -> Decisions:
        """Return the distances from the threshold, on the side that each label's cell says."""
        sign = Bounded.exact(np.where(np.array(cells) > 0, 1.0, -1.0))
        return Decisions((self.own - Bounded.exact(np.array(threshold))) * sign, self.token * sign)

    def weights(self, variant: int, allowed: list[NDArray[np.bool_]]) -> Bounded:
        """Return exp(score), the greatest of an allowed letter about 1. Shape: [position, letter].

        ``allowed`` [letter] by the input's position; other letters get 0, and are never asked for.
        """
        mask = np.zeros(self.scores.value.shape[1:], dtype=np.bool_)
        mask[self.constants] = True
        for places, letters in zip(self.letters_at, allowed, strict=True):
            mask[places] = letters
        scores = self.scores[variant]
        top = scores.value[mask].max()
        shifted = scores - Bounded.exact(np.array(top))
        kept = Bounded(np.where(mask, shifted.value, 0.0), np.where(mask, shifted.error, 0.0)).exp()
        return Bounded(np.where(mask, kept.value, 0.0), np.where(mask, kept.error, 0.0))


def why_not(network: Network, domain: Domain, semantics: str) -> str | None:
    """Return why a network and read-out are not separable, None if they are."""
    a, readout = network.architecture, domain.readout
    if network.beyond_gpt2 or a.attention != "causal":
        return f"the network has {', '.join(network.beyond_gpt2) or f'{a.attention} attention'}"
    if a.n_layers != 1 or a.d_mlp or a.norm != "none":
        return "the network is not one layer of attention alone, without norm and MLP"
    if a.n_heads != 1:
        return f"{a.n_heads} heads have a denominator each, expected one head"
    if readout.at not in ("last", "first") or readout.kind not in ("argmax", "multilabel"):
        return f"the read-out is {readout.kind} at {readout.at}, expected argmax or multilabel at one position"
    if semantics not in SEMANTICS:
        return f"the semantics is {semantics}, expected {' or '.join(SEMANTICS)}"
    return None


__all__ = ["Bounded", "Decisions", "Floats", "MarginTables", "why_not"]
