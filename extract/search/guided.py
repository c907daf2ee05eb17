"""The guided queue: candidates made of hinted selectors and features, best hints first, beside the blind bank.

It sees hints as terms with an order and nothing else of a network. What it proposes goes through the same gate as
everything; without hints it is empty. Candidates are counted one by one, so that it can take turns with the bank.
Heads over hinted selectors and values take turns with pairs of what those gave, joined by one operator.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import ProgramError
from extract.hints import Hints
from extract.lang.batch import Batch, Value, checked_sorts, evaluate_term
from extract.lang.sorts import Shape, sorts_of
from extract.lang.terms import Term
from extract.search.builders import EVERYWHERE, INDICES, LENGTH, STEP, TOKENS, choose, readable, symbol_or_integer
from extract.search.goals import Goal
from extract.vocabulary import Vocabulary

_MOST_SELECTORS, _MOST_VALUES, _MOST_PARTS = 32, 16, 96
#: Pairs tried for each term of the first level.
_PAIRS_PER_TURN = 2
#: Leaves take their turn among the first, hinted or not.
_LEAF_TURN = 3
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
        self._queue: list[tuple[int, int, int]] = []  # sum of places, and the places of two parts
        self._joins: deque[Term] = deque()
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
        """Take turns: one term of the first level, then as many pairs of those kept so far, low turns first."""
        for _, term in sorted(self._first_level(hints), key=lambda pair: pair[0]):
            yield term
            self._keep(term)
            yield from islice(self._waiting(), _PAIRS_PER_TURN)
        yield from self._waiting()

    def _waiting(self) -> Iterator[Term]:
        """Yield what pairs of parts make, by the sum of their places; what is not taken waits."""
        while self._joins or self._queue:
            if not self._joins:
                _, left, right = heappop(self._queue)
                self._joins.extend(self._joined(self._parts[left], self._parts[right]))
            else:
                yield self._joins.popleft()

    def _first_level(self, hints: Hints) -> Iterator[tuple[int, Term]]:
        """Yield features, and heads whose selector and value stand high in the hints, each with its turn: the sum of
        the ranks of what it is made of."""
        features = list(dict.fromkeys([*(hint.term for hint in hints.features), TOKENS, INDICES, LENGTH, STEP]))
        selectors = [hint.term for hint in hints.selectors[:_MOST_SELECTORS]]
        for rank, feature in enumerate(features):
            yield (rank if feature.arguments else min(rank, _LEAF_TURN)), feature
            if self._is(feature, "position"):
                yield from ((rank + 1, Term(name, (feature,))) for name in ("count", "any", "all", "running_count"))
                yield rank + 1, Term("last", (EVERYWHERE, feature))
        # tokens, positions and letters first: they are worth moving however well an untrained network shows them
        values = [f for f in features if self._is(f, "position")]
        values = sorted(values, key=lambda f: any(argument.arguments for argument in f.arguments))[:_MOST_VALUES]
        for s, selector in enumerate(selectors):
            yield from ((s + 1, Term(name, (selector,))) for name in ("selector_width", "exists"))
            for v, value in enumerate(values):
                yield from ((s + v + 1, term) for term in self._moved(selector, value))

    def _moved(self, selector: Term, value: Term) -> Iterator[Term]:
        """Yield what one head makes of a value: picked, summed, the least or largest; of a bool, how often it holds."""
        sort = sorts_of(value, self._vocabulary)[value]
        if sort.kind == "B":
            yield Term("sum_over", (selector, Term("int", (value,))))
            return
        # the least of some symbols has no meaning a reader would guess: only numbers are summed and ordered
        names = _PICKS[:2] if sort.tag == "T" else _PICKS
        yield from (Term(name, (selector, value)) for name in names)

    def _joined(self, left: tuple[Term, str], right: tuple[Term, str]) -> Iterator[Term]:
        if left[1] != right[1]:
            return
        names = _BOOLEAN_PAIRS if left[1] == "B" else _NUMERIC_PAIRS
        for name in names:
            yield readable(Term(name, (left[0], right[0])))
            if name in ("-", "<", "<="):
                yield Term(name, (right[0], left[0]))

    def _keep(self, term: Term) -> None:
        """Keep a term as a part of pairs unless an earlier one has its values, or it has not the cells of a goal."""
        values = self._values(term)
        if values is None or self._shape(term) not in {"whole", *(goal.shape for goal in self._goals)}:
            return
        key = (str(values.dtype), np.ascontiguousarray(values).tobytes())
        if key not in self._known and len(self._parts) < _MOST_PARTS:
            self._known.add(key)
            for other in range(len(self._parts)):
                heappush(self._queue, (other + len(self._parts), other, len(self._parts)))
            self._parts.append((term, "B" if values.dtype == np.bool_ else "I"))

    # -- the goals --------------------------------------------------------------------------------------------------
    def _hits(self, term: Term, values: NDArray[Any]) -> Iterator[Proposal]:
        shape = self._shape(term)
        for number, goal in enumerate(self._goals):
            # cells by position and by step may be as many on the probes and are not on other inputs
            if shape not in ("whole", goal.shape):
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

    def _shape(self, term: Term) -> Shape:
        """Return the shape of a term that has been evaluated."""
        return checked_sorts(term, self._vocabulary, self._batch.width, self._batch.n_steps)[term].shape

    def _is(self, term: Term, shape: str) -> bool:
        try:
            return sorts_of(term, self._vocabulary)[term].shape == shape
        except ProgramError:
            return False


def _equal(values: NDArray[Any], codes: NDArray[Any], mask: NDArray[np.bool_]) -> bool:
    return bool(((values == codes) | ~mask).all())
