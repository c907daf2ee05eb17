"""The arithmetic stage: describes answers by counts, last symbols, bounded depths, sums and base-b values.

It takes the place of a transition table where a person would write arithmetic: it fits conditions and numbers to the
answers on a sample of inputs over the features of ``features.py``, and over what may be said of earlier positions
(whether something ever happened, how often). Everything is a proposal; the gate decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.batched import Batch
from extract.lang.cost import cost
from extract.lang.terms import Datum, Term
from extract.search.builders import INDICES, IS_REPEATED, TOKENS, choose, constant, datum, integer, table
from extract.search.features import Cells, Feature, FeatureSet, at_end, letter_classes, letter_values
from extract.search.goals import Goal
from extract.search.numbers import numbers, of_one
from extract.search.predicates import conditions, opposite
from extract.vocabulary import SYMBOL_BASE

_MOST_INPUTS = 320
_MOST_LAST_INPUTS = 32
_MOST_CODES = 4
_MOST_ENTRIES = 64


def proposals(goals: Mapping[int, Goal], batch: Batch, domain: Domain) -> Iterator[tuple[int, Term]]:
    """Yield arithmetic descriptions of goals on a batch, each with its goal's number.

    Features are evaluated once for all goals. Nothing is said of answers per generated token.
    """
    wanted = {number: goal for number, goal in goals.items() if goal.shape != "step"}
    if not wanted or len(batch) < 2:
        return
    rows = sample_rows(list(wanted.values()))
    part = batch.take(rows)
    feature_sets: dict[str, FeatureSet] = {}
    for number, goal in wanted.items():
        if goal.shape not in feature_sets:
            # goals of positions are one per task, so what it leaves open may stay out of all features
            is_open = None if goal.shape == "whole" else ~goal.mask[rows][:, : part.mask.shape[1]]
            feature_sets[goal.shape] = FeatureSet(part, domain, is_whole=goal.shape == "whole", open_cells=is_open)
        for term in _of_goal(goal, rows, feature_sets[goal.shape], domain):
            yield number, term


def _of_goal(goal: Goal, rows: NDArray[np.intp], features: FeatureSet, domain: Domain) -> Iterator[Term]:
    codes = goal.codes[rows]
    target = (codes[:, 0] if features.is_whole else codes[:, : features.mask.shape[1]][features.mask]).astype(np.int64)
    distinct = [int(c) for c in np.unique(target)]
    if len(distinct) < 2:
        return
    if goal.kind == "I":
        yield from _tables(target, features, domain)
        if goal.tag == "N":
            yield from _numbers(target, features, domain)
    if len(distinct) <= _MOST_CODES:
        yield from _chains(target, distinct, goal, features, domain)


def sample_rows(goals: Sequence[Goal]) -> NDArray[np.intp]:
    """Choose inputs: the same number for each answer where there is one per input, else evenly; and the last ones,
    which are counterexamples where there have been any."""
    n = len(goals[0].codes)
    chosen = set(range(max(0, n - _MOST_LAST_INPUTS), n))
    for goal in goals:
        if goal.shape != "whole":
            chosen.update(range(0, n, max(1, -(-n // _MOST_INPUTS))))
            continue
        codes = goal.distinct_codes()
        share = max(8, _MOST_INPUTS // (len(codes) * len(goals)))
        for code in codes:
            places = np.flatnonzero(goal.codes[:, 0] == code)
            chosen.update(places[:: max(1, -(-len(places) // share))].tolist())
    return np.array(sorted(chosen), dtype=np.intp)


def _numbers(target: Cells, features: FeatureSet, domain: Domain) -> Iterator[Term]:
    """Yield arithmetic of the plain features; only where there is none, functions of what happened earlier."""
    is_found = False
    for term in numbers(target, features.all):
        is_found = True
        yield term
    for f in () if is_found else _of_the_past(features, domain):
        yield from of_one(target, f)


def _tables(target: Cells, features: FeatureSet, domain: Domain) -> Iterator[Term]:
    """Yield features that are the answer, and tables of one feature that determines it."""
    vocabulary = domain.vocabulary
    if len({bool(c >= SYMBOL_BASE) for c in np.unique(target)}) > 1:
        return
    for f in features.all:
        if (f.values == target).all():
            yield f.term
            continue
        keys, first, inverse = np.unique(f.values, return_index=True, return_inverse=True)
        if len(keys) > _MOST_ENTRIES or not (target[first][inverse] == target).all():
            continue
        is_symbol = bool((keys >= SYMBOL_BASE - 1).any())
        if is_symbol and (keys < SYMBOL_BASE).any():
            continue  # "no symbol" cannot be listed
        entries: dict[Datum, Datum] = {
            datum(int(k), vocabulary): datum(int(c), vocabulary) for k, c in zip(keys, target[first], strict=True)
        }
        yield table(f.term, entries)


def _chains(target: Cells, distinct: list[int], goal: Goal, features: FeatureSet, domain: Domain) -> Iterator[Term]:
    """Yield conditions (for booleans), or answers chosen by a chain of conditions."""
    if goal.kind == "B":
        yield from _conditions(target == 1, features, domain)
        return
    if len(distinct) > 2:
        chain = _chain(target, distinct, features, domain)
        if chain is not None:
            yield chain
        return
    no, yes = distinct
    for condition in _conditions(target == yes, features, domain):
        if (no, yes) == (0, 1):
            yield Term("int", (condition,))
        branches = constant(yes, domain.vocabulary), constant(no, domain.vocabulary)
        yield choose(condition, *branches)
        yield choose(opposite(condition), *branches[::-1])


def _conditions(wanted: NDArray[np.bool_], features: FeatureSet, domain: Domain) -> list[Term]:
    """Return conditions over the plain features; only where there are none, over what happened earlier too."""
    found = conditions(wanted, features.all) or conditions(wanted, [*features.all, *_of_the_past(features, domain)])
    opposites = {b: other for pair in letter_classes(domain) for b, other in (pair, pair[::-1])}
    return [form for condition in found for form in dict.fromkeys((condition, in_words(condition, opposites)))]


def in_words(condition: Term, opposites: Mapping[Term, Term]) -> Term:
    """Return a condition with counts compared with 0 written as ``any`` and ``all``."""
    if condition.operator in ("and", "or", "not"):
        return Term(condition.operator, tuple(in_words(part, opposites) for part in condition.arguments))
    left, right = (*condition.arguments, TOKENS, TOKENS)[:2]
    if condition.operator == "==" and left.operator == "count" and right == integer(0):
        return Term("all", (opposites.get(left.arguments[0], opposite(left.arguments[0])),))
    if condition.operator == "<" and left == integer(0) and right.operator == "count":
        return Term("any", right.arguments)
    return condition


def _chain(target: Cells, distinct: list[int], features: FeatureSet, domain: Domain) -> Term | None:
    """Split off, again and again, the answer with the cheapest condition among the cells that are left."""
    left = features.all
    steps: list[tuple[Term, int]] = []
    codes = list(distinct)
    while len(codes) > 1:
        options = [(cost(found[0]), code, found[0]) for code in codes if (found := conditions(target == code, left))]
        if not options:
            return None
        _, code, condition = min(options, key=lambda option: option[:2])
        steps.append((condition, code))
        codes.remove(code)
        keep = target != code
        target = target[keep]
        left = [f.on(keep) for f in left]
    result = constant(codes[0], domain.vocabulary)
    for condition, code in reversed(steps):
        result = choose(condition, constant(code, domain.vocabulary), result)
    return result


def _of_the_past(features: FeatureSet, domain: Domain) -> list[Feature]:
    """Return how many positions so far satisfy each of many conditions: 0 says never, and of an opposite, always."""
    if features.past is not None:
        return features.past
    terms = [Term("running_count", (b,)) for b in _events(domain)]
    features.past = features.evaluated([at_end(t) if features.is_whole else t for t in terms])
    return features.past


def _events(domain: Domain) -> Iterator[Term]:
    """Yield conditions of a position: on its neighbours, its window, its index, and the counts up to it."""
    vocabulary = domain.vocabulary
    previous = Term("shift", (TOKENS,), (1,))
    yield Term("==", (previous, TOKENS))
    yield IS_REPEATED
    yield Term("not", (IS_REPEATED,))
    if vocabulary.numeric:
        numbers_used = vocabulary.token_codes[list(domain.alphabet)]
        if (numbers_used == 0).any():  # the token before the first must not be taken for a 0
            yield Term("==", (Term("shift", (TOKENS, integer(int(numbers_used.min()) - 1)), (1,)), TOKENS))
        yield Term("<", (previous, TOKENS))
        yield Term("<", (TOKENS, previous))
    classes = [b for b, _ in letter_classes(domain)]
    n_letters = min(len(domain.alphabet), len(classes))
    singles = classes[:n_letters] if n_letters <= 4 else []
    codes = [int(vocabulary.token_codes[token]) for token in domain.alphabet][:n_letters]
    for own, b in zip(codes, singles, strict=False):
        for code in codes:
            follows = Term("and", (Term("==", (previous, constant(code, vocabulary))), b))
            yield follows
            if code == own:  # three of a kind
                yield Term("and", (Term("==", (Term("shift", (TOKENS,), (2,)), constant(code, vocabulary))), follows))
        for r in (0, 1):
            yield Term("and", (b, Term("==", (Term("%", (INDICES, integer(2))), integer(r)))))
        for other in singles:
            if other != b:
                seen = Term("running_count", (other,))
                yield Term("and", (b, Term("<", (integer(0), seen))))
                yield Term("and", (b, Term("==", (Term("%", (seen, integer(2))), integer(1)))))
                yield Term("<", (Term("running_count", (b,)), seen))
    if n_letters == 2:
        x = letter_values(domain)[0]
        for value in range(8):
            yield Term("==", (Term("horner", (x,), (2, 8)), integer(value)))
