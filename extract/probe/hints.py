"""Hints from inside a network: which selectors its heads resemble, which features its residual stream holds.

Three observations, each against an untrained twin of the same shape: the total variation distance between attention
patterns and normalised selectors; a linear probe of the residual stream for each feature, judged on inputs it was not
fitted to; how much the logits move without a head. They order what is tried first and prove nothing.
Source:  Alain and Bengio 2016 (linear probes); Hewitt and Liang 2019 (control tasks); Wang et al. 2022 (ablations).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.errors import ProgramError
from extract.hints import HeadEffect, Hint, Hints
from extract.lang.batch import evaluate_term
from extract.lang.sorts import sorts_of
from extract.lang.terms import Term
from extract.model.network_oracle import NetworkOracle
from extract.model.observed import Floats, Observed
from extract.network import Network
from extract.probe.interventions import head_effects
from extract.probe.looking import (
    Asked,
    Place,
    Seen,
    ask,
    draw,
    look,
    total_variation,
    untrained_twin,
    used_codes,
)
from extract.vocabulary import SYMBOL_BASE, Vocabulary

_RELATIONS = ("==", "<", "<=", ">", ">=")
_MADE_BY_HEADS = frozenset(
    {"rank", "shift", "selector_width", "running_count", "count", "first", "last", "min_over", "max_over"}
)
_MOST_LETTERS = 6
_MODULI = (2, 3)
_MOST_CLASSES = 12
_MOST_HINTS = 48
#: Ridge of a probe, relative to the mean variance of the stream: few cells, many dimensions.
_RIDGE = 1e-2
_TWINS = 2


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """A term's cells on the inputs asked, and the place its queries stand at."""

    term: Term
    place: Place
    values: NDArray[Any]


def hints_of(network: Network, domain: Domain, *, seed: int) -> Hints:
    """Look into a network and return what to try first, best first; equal arguments give equal hints.

    Cost:    some eighty traced prompts of at most a dozen tokens, for the network and each twin.
    """
    oracle = NetworkOracle(network, domain)
    inputs = draw(domain, seed)
    if not len(inputs) or not network.layers:
        return Hints()
    asked = ask(domain, inputs, oracle.answer(inputs).values)
    trained = look(network, domain, asked)
    twins = [look(untrained_twin(network, seed + 1 + i), domain, asked) for i in range(_TWINS)]
    effects = head_effects(Observed(network), domain, asked)
    features = list(_evaluated(feature_terms(domain, asked), asked, domain))
    selectors = list(_evaluated(selector_terms(features, len(network.layers)), asked, domain))
    return Hints(_ranked_selectors(selectors, trained, twins, effects), _ranked_features(features, trained, twins),
                 effects)  # fmt: skip


# -- the terms looked for --------------------------------------------------------------------------------------------
def feature_terms(domain: Domain, asked: Asked) -> Iterator[Term]:
    """Yield small features of inputs, per token, per step and of the whole: what heads and MLPs may have computed."""
    tokens, indices, length, one = Term("tokens"), Term("indices"), Term("length"), Term("integer", (), (1,))
    same = Term("select", (tokens, tokens), ("==",))
    yield from (tokens, indices, length)
    if domain.readout.at == "generate":
        yield from (Term("step"), Term("-", (Term("-", (length, one)), Term("step"))), Term("+", (Term("step"), one)))
    yield Term("-", (Term("-", (length, one)), indices))
    yield from (Term("rank", (tokens,)), Term("shift", (tokens,), (1,)), Term("-", (indices, one)))
    yield from (Term("selector_width", (s,)) for s in (same, Term("and", (Term("upto"), same))))
    yield from (
        Term(f"{end}_over", (Term(window), tokens)) for end in ("min", "max") for window in ("everywhere", "upto")
    )
    yield from (Term(pick, (Term("everywhere"), tokens)) for pick in ("first", "last"))
    residues = [Term("%", (indices, Term("integer", (), (m,)))) for m in _MODULI]
    yield from residues
    for code in used_codes(asked)[:_MOST_LETTERS]:
        is_letter = Term("==", (tokens, _constant(code, domain.vocabulary)))
        yield from (is_letter, Term("running_count", (is_letter,)), Term("count", (is_letter,)))
        for residue, modulus in zip(residues, _MODULI, strict=True):
            for r in range(modulus):
                here = Term("and", (is_letter, Term("==", (residue, Term("integer", (), (r,))))))
                yield from (here, Term("count", (here,)))


def selector_terms(features: list[_Evaluated], n_layers: int) -> Iterator[Term]:
    """Yield windows, comparisons of features at keys and queries, and those within the prefix; keys where a bool is.

    A first layer compares tokens and positions; only later ones can compare what heads have made.
    """
    windows = [Term(name) for name in ("before", "upto", "after", "everywhere")]
    yield from windows
    compared = [f for f in features if f.values.dtype != np.bool_ and (n_layers > 1 or not _needs_a_head(f.term))]
    keys = [f.term for f in compared if f.place == "position"]
    queries = [f.term for f in compared]
    for key in keys:
        for query in queries:
            for relation in _RELATIONS:
                chosen = Term("select", (key, query), (relation,))
                yield chosen
                if relation == "==":
                    yield from (Term("and", (Term(window), chosen)) for window in ("upto", "before"))
    yield from (Term("keys_where", (f.term,)) for f in features if f.values.dtype == np.bool_ and f.place == "position")


def _needs_a_head(term: Term) -> bool:
    """Say whether a feature reads other tokens, so that no first layer can have it at its queries or keys."""
    return any(part.operator in _MADE_BY_HEADS for part in term.subterms())


def _constant(code: int, vocabulary: Vocabulary) -> Term:
    return Term("symbol", (), (vocabulary.name(code),)) if code >= SYMBOL_BASE else Term("integer", (), (code,))


def _evaluated(terms: Iterator[Term], asked: Asked, domain: Domain) -> Iterator[_Evaluated]:
    """Evaluate the terms that the language accepts on these inputs, one of each meaning, the first written."""
    known: set[tuple[Place, bytes]] = set()
    for term in dict.fromkeys(terms):
        try:
            values = evaluate_term(term, asked.batch, domain.vocabulary)
            place: Place = sorts_of(term, domain.vocabulary)[term].shape
        except ProgramError:
            continue  # badly sorted for this vocabulary, or steps where none are generated
        key = (place, np.ascontiguousarray(values).tobytes())
        if key not in known:
            known.add(key)
            yield _Evaluated(term, place, np.asarray(values))


# -- the scores ------------------------------------------------------------------------------------------------------
def _ranked_selectors(
    selectors: list[_Evaluated], trained: Seen, twins: list[Seen], effects: tuple[HeadEffect, ...]
) -> tuple[Hint, ...]:
    """Score every selector by the head most like it, heads that matter first, less what a twin's heads show."""
    found = []
    for chosen in selectors:
        if not _is_telling(chosen, trained.mask[chosen.place]):
            continue
        similar = _similarity(chosen, trained)
        chance = np.mean([_similarity(chosen, twin).max() for twin in twins])
        weighed = [(float(similar[e.layer, e.head] - chance) * e.largest, e) for e in effects]
        score, best = max(weighed, key=lambda pair: pair[0])
        found.append(Hint(chosen.term, score, f"layer {best.layer} head {best.head}"))
    return tuple(sorted(found, key=lambda h: -h.score)[:_MOST_HINTS])


def _is_telling(chosen: _Evaluated, mask: NDArray[np.bool_]) -> bool:
    """Say whether a selector chooses something for at least half of the queries that exist.

    One that mostly chooses nothing looks like every head that rests on the first position.
    """
    some = np.broadcast_to(chosen.values.any(axis=2), mask.shape)[mask]
    return bool(some.size and some.mean() >= 0.5)


def _similarity(chosen: _Evaluated, seen: Seen) -> Floats:
    """Return 1 minus the mean distance of every head's pattern from a selector. Shape: [layer, head]."""
    patterns, mask = seen.patterns[chosen.place], seen.mask[chosen.place]
    apart = total_variation(patterns, chosen.values)
    return np.asarray(1 - (apart * mask).sum(axis=(2, 3)) / mask.sum())


def _ranked_features(features: list[_Evaluated], trained: Seen, twins: list[Seen]) -> tuple[Hint, ...]:
    """Score every feature by how well a linear map reads it off the best layer, less what a twin's layers give."""
    found = []
    for place in ("position", "whole", "step"):
        here = [f for f in features if f.place == place]
        if not here or not trained.mask[place].any():
            continue
        read = _probe_scores(here, trained, place)
        chance = np.mean([_probe_scores(here, twin, place).max(axis=0) for twin in twins], axis=0)
        for i, feature in enumerate(here):
            layer = int(read[:, i].argmax())
            found.append(Hint(feature.term, float(read[layer, i] - chance[i]), f"layer {layer} residual, {place}"))
    return tuple(sorted(found, key=lambda h: -h.score)[:_MOST_HINTS])


def _probe_scores(features: list[_Evaluated], seen: Seen, place: Place) -> Floats:
    """Return the share of each feature's variance that a ridge regression explains on held-out inputs.

    Shape:   [layer, feature]; between 0 and 1. Every second input is held out.
    """
    mask = seen.mask[place]
    held_out = np.broadcast_to((np.arange(len(mask)) % 2 == 1)[:, None], mask.shape)[mask]
    columns = [_columns(np.broadcast_to(f.values, mask.shape)[mask]) for f in features]
    owner = np.repeat(np.arange(len(features)), [c.shape[1] for c in columns])
    wanted = np.concatenate(columns, axis=1)
    scores = np.zeros((len(seen.residual[place]), len(features)))
    for layer, stream in enumerate(seen.residual[place]):
        explained = _explained(stream[mask], wanted, held_out)
        for i in range(len(features)):
            scores[layer, i] = explained[owner == i].mean()
    return scores


def _columns(values: NDArray[Any]) -> Floats:
    """Return a feature as regression targets: one column per value while they are few, else the number itself."""
    distinct = np.unique(values)
    if len(distinct) > _MOST_CLASSES:
        return values.astype(np.float64)[:, None]
    return np.asarray(values[:, None] == distinct, dtype=np.float64)


def _explained(stream: Floats, wanted: Floats, held_out: NDArray[np.bool_]) -> Floats:
    """Return the held-out R squared, cut to [0, 1], of each wanted column. Shapes: [cell, d], [cell, column]."""
    fit, test = ~held_out, held_out
    if not fit.any() or not test.any():
        return np.zeros(wanted.shape[1])
    centre, middle = stream[fit].mean(axis=0), wanted[fit].mean(axis=0)
    x, y = stream[fit] - centre, wanted[fit] - middle
    gram = x.T @ x
    ridge = _RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
    weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T @ y)
    residue = wanted[test] - middle - (stream[test] - centre) @ weights
    spread = ((wanted[test] - middle) ** 2).sum(axis=0)
    return np.asarray(np.clip(1 - (residue**2).sum(axis=0) / np.maximum(spread, 1e-12), 0, 1) * (spread > 1e-12))
