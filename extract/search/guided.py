"""The guided queue: candidates made of hinted selectors and features, best hints first, beside the blind bank.

It sees hints as terms with an order and nothing else of a network. What it proposes goes through the same gate as
everything; without hints it is empty. Candidates are counted one by one, so that it can take turns with the bank.
Heads over hinted selectors and values come first, then pairs of what those gave, joined by one operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import ProgramError
from extract.hints import Hints
from extract.lang.batch import Batch, Value, evaluate_term
from extract.lang.sorts import sorts_of
from extract.lang.terms import Term
from extract.search.builders import EVERYWHERE, INDICES, TOKENS, choose, readable, symbol_or_integer
from extract.search.goals import Goal
from extract.vocabulary import Vocabulary

_MOST_SELECTORS, _MOST_VALUES, _MOST_PARTS = 32, 16, 96
_PICKS = ("first", "last", "sum_over", "min_over", "max_over")
_NUMERIC_PAIRS = ("==", "<", "<=", "-", "+", "min", "max")
_BOOLEAN_PAIRS = ("and", "or")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A term that equals a goal on every probe, by the goal's number."""

    goal: int
    term: Term


class GuidedQueue:
    """Tries hinted candidates in a fixed order; ``n_candidates`` counts those evaluated so far."""

    def __init__(self, hints: Hints, goals: list[Goal], batch: Batch, vocabulary: Vocabulary) -> None:
        self.n_candidates = 0
        self._goals, self._batch, self._vocabulary = goals, batch, vocabulary
        self._cache: dict[Term, Value] = {}
        self._parts: list[tuple[Term, str]] = []
        self._known: set[tuple[str, bytes]] = set()
        self._order = self._candidates(hints) if hints else iter(())

    def advance(self, n_candidates: int) -> Iterator[Proposal]:
        """Try up to so many candidates more and yield those that hit a goal, each once."""
        for _ in range(n_candidates):
            term = next(self._order, None)
            if term is None:
                return
            self.n_candidates += 1
            values = self._values(term)
            if values is not None:
                yield from self._hits(term, values)

    # -- the order --------------------------------------------------------------------------------------------------
    def _candidates(self, hints: Hints) -> Iterator[Term]:
        for term in self._first_level(hints):
            yield term
            self._keep(term)
        parts, self._cache = self._parts[:_MOST_PARTS], {}
        for left, right in _diagonal(len(parts)):
            yield from self._joined(parts[left], parts[right])

    def _first_level(self, hints: Hints) -> Iterator[Term]:
        """Yield features, and heads whose selector and value stand high in the hints, the best pairs first."""
        features = [hint.term for hint in hints.features]
        selectors = [hint.term for hint in hints.selectors[:_MOST_SELECTORS]]
        # the model's own tokens and positions are always worth moving, however well a twin shows them
        values = list(dict.fromkeys([TOKENS, INDICES, *(f for f in features if self._is(f, "position"))]))
        values = values[:_MOST_VALUES]
        moves = sorted((s + v, s, v) for s in range(len(selectors)) for v in range(len(values)))
        n_heads = max(len(moves), len(features), len(selectors))
        for turn in range(n_heads):
            if turn < len(features):
                yield from self._of_feature(features[turn])
            if turn < len(selectors):
                yield from (Term(name, (selectors[turn],)) for name in ("selector_width", "exists"))
            if turn < len(moves):
                _, s, v = moves[turn]
                yield from (Term(name, (selectors[s], values[v])) for name in _PICKS)

    def _of_feature(self, feature: Term) -> Iterator[Term]:
        yield feature
        if not self._is(feature, "position"):
            return
        yield from (Term(name, (feature,)) for name in ("count", "any", "all", "running_count"))
        yield Term("last", (EVERYWHERE, feature))

    def _joined(self, left: tuple[Term, str], right: tuple[Term, str]) -> Iterator[Term]:
        if left[1] != right[1]:
            return
        names = _BOOLEAN_PAIRS if left[1] == "B" else _NUMERIC_PAIRS
        for name in names:
            yield readable(Term(name, (left[0], right[0])))
            if name in ("-", "<", "<="):
                yield Term(name, (right[0], left[0]))

    def _keep(self, term: Term) -> None:
        """Keep a term as a part of pairs unless an earlier one has its values, or the language refuses it."""
        values = self._values(term)
        if values is None:
            return
        key = (str(values.dtype), np.ascontiguousarray(values).tobytes())
        if key not in self._known:
            self._known.add(key)
            self._parts.append((term, "B" if values.dtype == np.bool_ else "I"))

    # -- the goals --------------------------------------------------------------------------------------------------
    def _hits(self, term: Term, values: NDArray[Any]) -> Iterator[Proposal]:
        for number, goal in enumerate(self._goals):
            if values.shape[1] not in (1, goal.codes.shape[1]):
                continue
            if values.dtype == np.bool_ and goal.kind == "I":
                yield from self._as_choice(term, values, number, goal)
            elif (values.dtype == np.bool_) == (goal.kind == "B") and _equal(values, goal.codes, goal.mask):
                yield Proposal(number, term)

    def _as_choice(self, term: Term, values: NDArray[Any], number: int, goal: Goal) -> Iterator[Proposal]:
        """Yield ``a if condition else b`` where a condition tells a goal's only two answers apart."""
        codes = goal.distinct_codes()
        if len(codes) != 2:
            return
        for yes, no in (codes, codes[::-1]):
            if _equal(np.where(values, yes, no), goal.codes, goal.mask):
                branches = (symbol_or_integer(code, self._vocabulary) for code in (yes, no))
                yield Proposal(number, choose(term, *branches))

    def _values(self, term: Term) -> NDArray[Any] | None:
        """Return a term's cells on the probes [probe, cell]; None if the language refuses it."""
        try:
            values = evaluate_term(term, self._batch, self._vocabulary, self._cache)
        except ProgramError:
            return None
        finally:
            if len(self._cache) > 4 * _MOST_PARTS:
                self._cache.clear()
        return values

    def _is(self, term: Term, shape: str) -> bool:
        try:
            return sorts_of(term, self._vocabulary)[term].shape == shape
        except ProgramError:
            return False


def _equal(values: NDArray[Any], codes: NDArray[Any], mask: NDArray[np.bool_]) -> bool:
    return bool(((values == codes) | ~mask).all())


def _diagonal(n: int) -> Iterator[tuple[int, int]]:
    """Yield pairs left < right, those of small rank sum first."""
    for total in range(1, 2 * n - 2):
        for left in range(max(0, total - n + 1), (total + 1) // 2):
            yield left, total - left
