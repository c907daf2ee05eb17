"""The least margin of a whole class of inputs: a shortest path through the class's graph, per decision, all at once.

For a number t, every input of the class has a margin above t exactly if the least sum of weight * (term - t) over the
paths is positive. The least margin itself is found by Newton's steps on t (Dinkelbach 1967) and then proved, a little
lower, with every rounding error counted. Mixed classes are split by prefixes as far as a budget goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from extract.input_graph import InputGraph
from extract.verify.bounded import Bounded, Floats
from extract.verify.margin_tables import Decisions, MarginTables

_MOST_STEPS = 60
#: Which share of the computed least margin to prove; less at every try.
_SHARES = (1 - 1e-9, 1 - 1e-6, 1 - 1e-3, 0.5, 1e-6)
#: Prefixes held while a mixed class is split, times decisions.
_MOST_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Judged:
    """Exact counts of a class and a proved lower bound of its least margin (infinite without any decision).

    ``slack`` is how far the bound lies below the computed least margin; ``doubtful`` is the input (letters) with the
    least margin of all where the class is not proved to agree.
    """

    agree: int
    disagree: int
    undecided: int
    margin: float
    slack: float
    doubtful: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class _Steps:
    """Terms of one pass: ``letters[i]`` [letter, decision] of x[i], ``constant`` [decision] of the template."""

    letters: list[Floats]
    constant: Floats


def _added(left: Floats, right: Floats) -> Floats:
    """Return a sum rounded down: small sums stay as exact as large ones, so no bound need cover a whole class."""
    return np.asarray(np.nextafter(left + right, -np.inf))


class ClassOfInputs:
    """The inputs of one answer and one query token, with the margins that must be positive for them."""

    def __init__(
        self, tables: MarginTables, graph: InputGraph, length: int, variant: int, decisions: Decisions
    ) -> None:
        self.length, self.n_letters = length, graph.n_letters
        self.tables = tables
        self.next = [table.copy() for table in graph.next[:length]]
        if tables.query_letter is not None:
            kept = np.arange(self.n_letters) == variant
            self.next[tables.query_letter][:, ~kept] = -1
        self.live = [np.asarray(graph.accept[length])]
        for table in reversed(self.next):
            ahead = np.append(self.live[-1], False)
            table[~ahead[table]] = -1
            self.live.append(np.asarray((table >= 0).any(axis=1)))
        self.live.reverse()
        self.counts = self._counts()
        self.size = int(self.counts[0][0])
        self._reached = self._reachable()
        if not self.size:
            return
        allowed = [np.asarray((t[r] >= 0).any(axis=0)) for t, r in zip(self.next, self._reached, strict=False)]
        self.weight = tables.weights(variant, allowed)
        own = decisions.own[variant]
        spread = Bounded(np.broadcast_to(own.value, decisions.token.value.shape), np.broadcast_to(
            own.error, decisions.token.value.shape))  # fmt: skip
        self.terms = decisions.token + spread
        self.allowed = allowed

    def _counts(self) -> list[NDArray[np.object_]]:
        """The exact number of suffixes of every state, by depth."""
        counts: list[NDArray[np.object_]] = [self.live[-1].astype(np.int64).astype(object)]
        for table in reversed(self.next):
            counts.append(np.asarray(np.append(counts[-1], 0)[table].sum(axis=1), dtype=object))
        return counts[::-1]

    def _reachable(self) -> list[NDArray[np.bool_]]:
        reached = [np.array(self.live[0], copy=True)]
        for depth, table in enumerate(self.next):
            ahead = np.zeros(len(self.live[depth + 1]), dtype=np.bool_)
            targets = table[reached[-1]]
            ahead[targets[targets >= 0]] = True
            reached.append(ahead)
        return reached

    def _steps(self, product: Floats) -> _Steps:
        """Gather [position, letter, decision] terms by the input's positions, rounded down."""
        tables, nothing = self.tables, np.zeros(product.shape[1:])
        letters = [reduce(_added, product[places]) if places else nothing for places in tables.letters_at]
        constant = reduce(_added, product[tables.constants, 0]) if tables.constants else nothing[0]
        return _Steps(letters, constant)

    def _least(self, steps: _Steps, carried: _Steps | None = None) -> tuple[Floats, Floats]:
        """Return the least path sum per decision, and the carried sum along that path. Shape: [decision] each."""
        return self._all_least(steps, carried)[0]

    def _all_least(self, steps: _Steps, carried: _Steps | None) -> list[tuple[Floats, Floats]]:
        """The least sums of suffixes, rounded down, by depth [state, decision]; at depth 0 with the constants added."""
        n = len(steps.constant)
        value = np.where(self.live[-1][:, None], 0.0, np.inf) + np.zeros(n)
        along = np.zeros_like(value)
        result = [(value, along)]
        for depth in range(self.length - 1, -1, -1):
            table = self.next[depth]
            open_ = table >= 0
            ahead = _added(steps.letters[depth][None], value[np.where(open_, table, 0)])
            ahead[~open_] = np.inf
            chosen = ahead.argmin(axis=1)
            value = np.take_along_axis(ahead, chosen[:, None], axis=1)[:, 0]
            if carried is not None:
                target = np.take_along_axis(table, chosen.reshape(len(table), -1), axis=1)
                column = np.arange(n)
                step = carried.letters[depth][chosen, column]
                along = np.where(target >= 0, step + along[np.maximum(target, 0), column], 0.0)
            result.append((value, along))
        whole = _added(value[0], steps.constant)
        total = along[0] + carried.constant if carried is not None else along[0]
        result[-1] = (whole, total)
        return result[::-1]

    def least_margins(self) -> Floats:
        """Return the least margin of the class per decision, as computed: no proof. Shape: [decision]."""
        weight = self.weight.value[:, :, None] * np.ones(self.terms.value.shape[2])
        carried = self._steps(weight)
        t: Floats = np.zeros(self.terms.value.shape[2])
        for _ in range(_MOST_STEPS):
            value, total = self._least(self._steps(weight * (self.terms.value - t)), carried)
            moved = t + value / total
            if not np.isfinite(moved).all() or (np.abs(moved - t) <= 1e-12 * (1 + np.abs(t))).all():
                break
            t = moved
        return t

    def is_above(self, t: float) -> bool:
        """Say whether it is proved that every margin of every input of the class is above t."""
        return bool((self._least(self._steps(self._product(t).low))[0] > 0).all())

    def _product(self, t: float) -> Bounded:
        n = self.terms.value.shape[2]
        weight = Bounded(self.weight.value[:, :, None], self.weight.error[:, :, None])
        return weight * (self.terms - Bounded.exact(np.full(n, t)))

    def worst_input(self) -> tuple[int, ...]:
        """Return the letters of the input with the least margin of all, as computed."""
        margins = self.least_margins()
        steps = self._steps(self.weight.value[:, :, None] * (self.terms.value - margins))
        decision = int(margins.argmin())
        values = self._all_least(steps, None)
        state, word = 0, []
        for depth in range(self.length):
            row = self.next[depth][state]
            ahead = steps.letters[depth][:, decision] + self._at(values, depth + 1, row, decision)
            ahead[row < 0] = np.inf
            letter = int(ahead.argmin())
            word.append(letter)
            state = int(row[letter])
        return tuple(word)

    def any_input(self) -> tuple[int, ...]:
        """Return the letters of the first input of the class."""
        state, word = 0, []
        for table in self.next:
            word.append(int(np.flatnonzero(table[state] >= 0)[0]))
            state = int(table[state, word[-1]])
        return tuple(word)

    def _at(self, values: list[tuple[Floats, Floats]], depth: int, states: NDArray[np.int32], decision: int) -> Floats:
        if depth == self.length:
            return np.zeros(len(states))
        return np.asarray(values[depth][0][np.maximum(states, 0), decision])

    def judge(self, room: float = 0.0) -> Judged:
        """Decide the class: proved to agree with a margin above ``room``, or counted as far as splitting goes, an input
        that differs by margins as far below 0."""
        if self.terms.value.shape[2] == 0:
            return Judged(self.size, 0, 0, np.inf, 0.0, None)
        least = float(self.least_margins().min())
        for share in _SHARES:
            t = least * share
            if t > room and self.is_above(t):
                return Judged(self.size, 0, 0, t, least - t, None)
        agree, disagree = self._split(room) if np.isfinite(room) else (0, 0)
        agree = 0 if agree == self.size else agree  # signs without a margin are no proof that can be checked
        return Judged(agree, disagree, self.size - agree - disagree, np.inf, 0.0, self.worst_input())

    def _split(self, room: float) -> tuple[int, int]:
        """Count inputs proved to agree and to differ, prefix by prefix, shortest first, within the budget."""
        low, high = self._steps(self._product(room).low), self._steps(-self._product(-room).high)
        lows, highs = ([v for v, _ in self._all_least(_Steps(s.letters, 0 * s.constant), None)] for s in (low, high))
        states, n = np.zeros(1, dtype=np.int64), len(low.constant)
        sums = [low.constant[None], high.constant[None]]
        agree = disagree = 0
        for depth in range(self.length + 1):
            rest = [lows[depth][states], highs[depth][states]] if depth else [lows[0][None], highs[0][None]]
            sure = (_added(sums[0], rest[0]) > 0).all(axis=1)
            wrong = (_added(sums[1], rest[1]) > 0).any(axis=1) & ~sure
            agree += int(self.counts[depth][states[sure]].sum())
            disagree += int(self.counts[depth][states[wrong]].sum())
            kept = ~(sure | wrong)
            states, sums = states[kept], [s[kept] for s in sums]
            if depth == self.length or not len(states):
                break
            rows, letters = np.nonzero(self.next[depth][states] >= 0)
            if len(rows) * n > _MOST_CELLS:
                break
            sums = [_added(s[rows], t.letters[depth][letters]) for s, t in zip(sums, (low, high), strict=True)]
            states = self.next[depth][states[rows], letters].astype(np.int64)
        return agree, disagree
