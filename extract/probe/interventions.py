"""Interventions: what the network answers when one head's output is not its own.

Ablations say which heads matter. An interchange says what a head carries: between two inputs the head's output is
swapped, and the answer must become what a program says it is with one of its terms swapped. Observations about the
mechanism, on the pairs tried; nothing here touches a verdict about inputs and outputs.
Source:  Geiger et al. 2021, "Causal Abstractions of Neural Networks", interchange interventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from extract.domain import Domain
from extract.hints import HeadEffect
from extract.lang.batch import Batch, evaluate_term
from extract.lang.terms import Program, Term
from extract.model.observed import Floats, Observed, Prompts
from extract.probe.looking import Asked
from extract.readout import Inputs
from extract.vocabulary import Codes

#: An interchange is confirmed when so many pairs were tried and so large a share of them followed.
_FEWEST_PAIRS, _CONFIRMED = 24, 0.95
_MOST_PAIRS = 96


@dataclass(frozen=True, slots=True)
class Interchange:
    """One head, one term of a program, and how many of the swapped pairs answered as the program says.

    Only pairs count on which the swap must change the answer: a head that does nothing follows none.
    """

    layer: int
    head: int
    term: Term
    n_pairs: int
    n_followed: int

    @property
    def is_confirmed(self) -> bool:
        """Whether the head carries the term, on nearly all of enough pairs."""
        return self.n_pairs >= _FEWEST_PAIRS and self.n_followed >= _CONFIRMED * self.n_pairs


def head_effects(observed: Observed, domain: Domain, asked: Asked) -> tuple[HeadEffect, ...]:
    """Measure how much the logits at the read-out move without each head, all layers in order.

    Cost:    1 + 2 * heads passes over the prompts of each length.
    """
    a = observed.network.architecture
    moved = np.zeros((a.n_layers, a.n_heads, 2))
    spread = 0.0
    for length in np.unique(asked.inputs.lengths):
        rows = np.flatnonzero(asked.inputs.lengths == length)
        prompts = domain.render(asked.inputs.tokens[rows, :length])
        offset, read = int(asked.inputs.offsets[rows[0]]), list(domain.read_positions(int(length)))
        before, heads = _logits_and_heads(observed, prompts, offset)
        spread += float(np.abs(before[:, read] - before[:, read].mean(axis=-1, keepdims=True)).sum())
        for layer in range(a.n_layers):
            for head in range(a.n_heads):
                output = heads[layer][:, head]
                mean = output.mean(axis=0, keepdims=True)
                direct = observed.without(prompts, offset, output - mean)
                total = observed.with_head(prompts, offset, layer, head, mean)
                for kind, after in enumerate((direct, total)):
                    moved[layer, head, kind] += float(np.abs((after - before)[:, read]).sum())
    share = np.minimum(moved / max(spread, 1e-12), 1.0)
    return tuple(
        HeadEffect(layer, head, float(share[layer, head, 0]), float(share[layer, head, 1]))
        for layer in range(a.n_layers)
        for head in range(a.n_heads)
    )


def interchange(
    observed: Observed, domain: Domain, program: Program, term: Term, layer: int, head: int, *, seed: int
) -> Interchange:
    """Swap one head's output between inputs that differ in a term, and count the answers that follow the program.

    ``term`` is a part of the program; expected is the program's answer to the one input with the term's values of the
    other. For read-outs of one token (``last``, ``first``) and ``every``; others have no pairs.
    """
    n_pairs = n_followed = 0
    if domain.readout.kind == "argmax" and domain.readout.at != "generate":
        for base, source, expected in _pairs(domain, program, term, seed):
            answered = _answer_with_head_of(observed, domain, base, source, layer, head)
            n_pairs += len(expected)
            n_followed += int((answered == expected).all(axis=1).sum())
    return Interchange(layer, head, term, n_pairs, n_followed)


def _pairs(domain: Domain, program: Program, term: Term, seed: int) -> list[tuple[Inputs, Inputs, Codes]]:
    """Return batches of (base, source, expected answer), of one length and offset each, whose answers must change."""
    lengths = [n for n in domain.lengths if n > 1 and domain.size_at(n) > 1][:6]
    found = []
    for n in lengths:
        base, source = domain.sample(_MOST_PAIRS, seed + n, n), domain.sample(_MOST_PAIRS, seed + n + 1009, n)
        offsets = np.full(len(base), domain.offsets[0], dtype=np.int32)
        base, source = (Inputs(x.tokens[:, :n], x.lengths, offsets) for x in (base, source))
        batches = [Batch(x.codes(domain.vocabulary), x.lengths) for x in (base, source)]
        swapped = {term: evaluate_term(term, batches[1], domain.vocabulary)}
        plain = evaluate_term(program.term(), batches[0], domain.vocabulary)
        expected = evaluate_term(program.term(), batches[0], domain.vocabulary, dict(swapped))
        chosen = np.flatnonzero((plain != expected).any(axis=1))[: _MOST_PAIRS // len(lengths) + 1]
        if len(chosen):
            found.append((base.take(chosen), source.take(chosen), np.asarray(expected)[chosen]))
    return found


def _answer_with_head_of(
    observed: Observed, domain: Domain, base: Inputs, source: Inputs, layer: int, head: int
) -> Codes:
    """Return the answers to ``base`` with one head's output taken from the run on ``source``. Shape: [input, cell]."""
    prompts = [domain.render(x.tokens) for x in (base, source)]
    offset, length = int(base.offsets[0]), base.tokens.shape[1]
    _, heads = _logits_and_heads(observed, prompts[1], offset)
    logits = observed.with_head(prompts[0], offset, layer, head, heads[layer][:, head])
    choices = list(domain.readout.choices)
    picked = logits[:, list(domain.read_positions(length))][..., choices].argmax(axis=-1)
    codes: Codes = domain.vocabulary.output_codes[choices][picked]
    return codes


def _logits_and_heads(observed: Observed, prompts: Prompts, offset: int) -> tuple[Floats, list[Floats]]:
    """Return the logits of all positions, and each layer's head outputs [input, head, position, d_model]."""
    names = [f"layers.{i}.heads" for i in range(observed.network.architecture.n_layers)]
    trace = observed.trace(prompts, offset, [*names, "logits"])
    return trace["logits"], [trace[name] for name in names]


def carriers(
    observed: Observed, domain: Domain, program: Program, terms: Sequence[Term], *, seed: int
) -> tuple[Interchange, ...]:
    """Try every head for every term and return the interchanges that are confirmed, heads in order."""
    a = observed.network.architecture
    tried = [
        interchange(observed, domain, program, term, layer, head, seed=seed)
        for layer in range(a.n_layers)
        for head in range(a.n_heads)
        for term in terms
    ]
    return tuple(found for found in tried if found.is_confirmed)
