"""Heads over all (selector, value) pairs of the bank, and short functions of such heads, decided without building.

``T = head(S, V)`` for every aggregate; ``T = a + head`` and the like for cheap a; and any function of a head: where
the head determines the goal on sampled conflicts, the table from head to goal is fitted like every other table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.operators import MEAN_SCALE, RELATIONS
from extract.lang.terms import Term
from extract.search.bank import Bank, Key, Tag
from extract.search.builders import NAMES, binary, integer, scaled, symbol_or_integer
from extract.search.columns import MARGIN_BITS, Cells, Effort, Proposal, Terms, proposal, shapes_of
from extract.search.dependencies import entries_of, separated
from extract.search.fits import Table, fitted
from extract.search.frame import NO_SYMBOL
from extract.search.goals import Goal
from extract.search.head_tests import EXACT, Bilinear, Heads, Pairs, survivors, width_pairs

Array = NDArray[Any]

_INTEGER_TAGS: tuple[Tag, ...] = ("N", "T")
_VALUE_TAGS: tuple[Tag, ...] = ("N", "T", "")
_MOST_FEATURES = 1 << 23
_MOST_ROWS = 1 << 14
_MOST_FOUND = 24
_MOST_ADDED = 4
_N_CONFLICTS = 12
_ROLLS = (5, 7, 11, 13)
_MOST_CHECKED = 1 << 13
_MOST_TABLES = 16
#: Selectors and values of means that are computed pair by pair, on so many cells before the rest.
_FEW_SELECTORS, _FEW_VALUES, _FEW_CELLS = 16, 256, 16


class HeadSearch:
    """The heads of one selector shape and one kind of value against one goal at one level."""

    def __init__(self, bank: Bank, goal: Goal, cells: Cells, cost: int, effort: Callable[[], Effort]) -> None:
        self._bank, self._goal, self._cells, self._cost, self._effort = bank, goal, cells, cost, effort
        self._all = slice(0, len(cells))

    def proposals(self, added: Terms | None, bits: float | None) -> Iterator[Proposal]:
        """Yield heads and functions of heads that give the goal.

        ``added`` are integers to add to a head; ``bits`` is what the goal has to tell to a function of a head, None if
        those are not wanted.
        """
        self._bits = bits
        for shape in shapes_of(self._goal):
            masks, ids = self._selectors(Key("S", "", shape))
            if not len(ids):
                continue
            n_old = int((self._bank.costs(ids) < self._cost).sum())
            selected = Heads(masks, self._cells)
            for tag in _VALUE_TAGS:
                values, value_ids = self._values(tag)
                if not len(value_ids):
                    continue
                old = n_old, int((self._bank.costs(value_ids) < self._cost).sum())
                heads = selected.reading(values)
                yield from self._of(heads, tag, ids, value_ids, old, added)

    def met(self) -> Iterator[Proposal]:
        """Yield widths of two selectors that meet, and whether any key is picked by both or none is."""
        goal, target = self._goal, self._cells.target
        if goal.kind == "I" and goal.tag != "N":
            return
        lists = [self._selectors(Key("S", "", shape)) for shape in shapes_of(goal)]
        for (masks, ids), (others, other_ids) in [(lists[0], part) for part in lists]:
            if not len(ids) or not len(other_ids):
                continue
            heads = Heads(masks, self._cells).reading(others, is_per_cell=True)
            build = _Builder(self._bank, ids, other_ids, "", are_selectors=True)
            old = tuple(int((self._bank.costs(i) < self._cost).sum()) for i in (ids, other_ids))
            if goal.kind == "B":
                yield from self._existing(heads, build, (old[0], old[1]))
                continue
            wanted = target.astype(np.int64)
            for s, v in self._found(heads, heads.sum_test(wanted), (old[0], old[1]), heads.summed, wanted):
                yield proposal(Term("selector_width", (build.both(s, v),)))

    def widths(self) -> Iterator[Proposal]:
        """Yield how many keys stand in a relation to the query: ``selector_width(select(a, b, relation))``.

        One side is of the level's cost, the other the same term or a cheap one; neither selector is in the bank.
        """
        goal = self._goal
        if goal.kind != "I" or goal.tag != "N":
            return
        for tag in _INTEGER_TAGS:
            keys, key_ids = self._values(tag)
            for shape in shapes_of(goal):
                queries, query_ids = self._bank.rows_up_to(Key("I", tag, shape), self._cost)
                queries, query_ids = queries[:_MOST_ROWS], query_ids[:_MOST_ROWS]
                query = self._cells.query if shape != "whole" else np.zeros_like(self._cells.query)
                at = queries[:, self._cells.probe, query]
                pairs = self._related(key_ids, query_ids, is_same=shape == "position")
                for relation in RELATIONS:
                    for i, j in width_pairs(relation, keys, at, pairs, self._cells, self._bank.frame.valid):
                        terms = self._bank.term(int(key_ids[i])), self._bank.term(int(query_ids[j]))
                        yield proposal(Term("selector_width", (Term("select", terms, (relation,)),)))

    def _related(self, key_ids: NDArray[np.int32], query_ids: NDArray[np.int32], *, is_same: bool) -> Pairs:
        """Pair fresh keys with cheap queries, cheap keys with fresh queries and, in one bucket, fresh terms each with
        itself."""
        old_keys, old_queries = (int((self._bank.costs(i) < self._cost).sum()) for i in (key_ids, query_ids))
        n_cheap = max(1, self._effort().left // (8 * max(1, len(key_ids) + len(query_ids))))
        left = np.indices((len(key_ids) - old_keys, min(len(query_ids), n_cheap))).reshape(2, -1)
        right = np.indices((min(old_keys, n_cheap), len(query_ids) - old_queries)).reshape(2, -1)
        own = np.arange(old_keys, min(len(key_ids), len(query_ids))) if is_same else np.zeros(0, dtype=np.intp)
        i = np.concatenate([left[0] + old_keys, right[0], own])
        return i, np.concatenate([left[1], right[1] + old_queries, own])

    def _selectors(self, key: Key) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        masks, ids = self._bank.rows_up_to(key, self._cost)
        n_keys = masks.shape[3]
        room = max(1, min(_MOST_ROWS, _MOST_FEATURES // max(1, len(self._cells) * n_keys)))
        query = self._cells.query if key.shape != "whole" else np.zeros_like(self._cells.query)
        return masks[:room][:, self._cells.probe, query], ids[:room]

    def _values(self, tag: Tag) -> tuple[Array, NDArray[np.int32]]:
        """Return values along the input: integers of a tag, or booleans as 0 and 1 for the empty tag."""
        key = Key("I", tag, "position") if tag else Key("B", "", "position")
        values, ids = self._bank.rows_up_to(key, self._cost)
        room = max(1, min(_MOST_ROWS, _MOST_FEATURES // max(1, values.shape[1] * values.shape[2])))
        values, ids = values[:room], ids[:room]
        return (values, ids) if tag else (values.astype(np.int8), ids)

    def _of(
        self, heads: Heads, tag: Tag, ids: NDArray[np.int32], value_ids: NDArray[np.int32], n_old: tuple[int, int],
        added: Terms | None,
    ) -> Iterator[Proposal]:  # fmt: skip
        build = _Builder(self._bank, ids, value_ids, tag)
        goal, target = self._goal, self._cells.target
        if goal.kind == "B":
            if tag == "":
                yield from self._existing(heads, build, n_old)
        elif tag == goal.tag:
            yield from self._picked(heads, build, n_old)
            yield from self._extremes(heads, build, n_old)
        if goal.kind == "I" and goal.tag == "N" and tag != "T":
            yield from self._summed(heads, build, n_old, target.astype(np.int64), None)
            if tag == "N" and int(np.abs(target).max(initial=0)) * 16 >= MEAN_SCALE:
                yield from self._means(heads, build, n_old)
            if self._has_several_answers:
                yield from self._floored(heads, build, n_old)
            for row in range(len(added) if added is not None else 0):
                assert added is not None
                yield from self._with(heads, build, n_old, added, row)
        for name in ("first", "last", "sum") if self._bits is not None else ():
            if (name != "sum") == (tag != "") or (name == "sum" and tag == "N"):
                yield from self._tables(name, heads, build, n_old)

    # -- one head -----------------------------------------------------------------------------------------------------
    def _found(
        self,
        heads: Heads,
        test: Bilinear,
        n_old: tuple[int, int],
        value: Callable[..., Array],
        wanted: Array,
        share: int = 1,
    ) -> Iterator[tuple[int, int]]:
        """Yield the surviving pairs whose head is the wanted value on every chosen cell."""
        n_found = 0
        for s, v in survivors(test, n_old, Effort(self._effort().left // share)):
            for start in range(0, len(s), 1 << 12):
                pair = s[start : start + (1 << 12)], v[start : start + (1 << 12)]
                for part in (slice(0, 16), self._all):
                    keep = (value(*pair, part) == wanted[part]).all(axis=1)
                    pair = pair[0][keep], pair[1][keep]
                yield from zip(pair[0].tolist(), pair[1].tolist(), strict=True)
                n_found += len(pair[0])
            if n_found >= _MOST_FOUND:
                return

    def _picked(self, heads: Heads, build: _Builder, n_old: tuple[int, int]) -> Iterator[Proposal]:
        target = self._cells.target
        default = NO_SYMBOL if build.tag == "T" else 0
        empty = heads.empty
        wide = target.astype(np.int64)[None]
        low = np.where(empty, wide, np.iinfo(np.int64).max).min(axis=1)
        high = np.where(empty, wide, np.iinfo(np.int64).min).max(axis=1)
        fits = low >= high  # one default serves every cell that picks nothing
        for name in ("first", "last"):
            test = heads.pick_test(name, target)
            test = test._replace(wanted=np.where(fits, test.wanted, -1).astype(np.float32))

            def value(s: NDArray[np.intp], v: NDArray[np.intp], part: slice, name: str = name) -> Array:
                return np.where(heads.empty[s, part], target[part][None], heads.chosen(name, s, v, part, 0))

            for s, v in self._found(heads, test, n_old, value, target):
                term = build.head(name, s, v)
                if empty[s].any() and int(low[s]) != default:
                    code = int(self._cells.codes[int(empty[s].argmax())])
                    constant = symbol_or_integer(code, self._bank.frame.vocabulary)
                    term = Term(term.operator, (*term.arguments, constant))
                yield proposal(term)

    def _extremes(self, heads: Heads, build: _Builder, n_old: tuple[int, int]) -> Iterator[Proposal]:
        target = self._cells.target
        default = NO_SYMBOL if build.tag == "T" else 0
        at = heads.at
        wanted = target[None, : heads.n_tested, None]
        needs = ~heads.empty[:, : heads.n_tested]
        fits = ((target == default) | ~heads.empty).all(axis=1)
        for name in ("min", "max"):
            test = heads.bound_test(at < wanted if name == "min" else at > wanted, at == wanted, needs)
            test = test._replace(wanted=np.where(fits, test.wanted, -EXACT).astype(np.float32))

            def value(s: NDArray[np.intp], v: NDArray[np.intp], part: slice, name: str = name) -> Array:
                return heads.extreme(name, s, v, part, default)

            for s, v in self._found(heads, test, n_old, value, target):
                yield proposal(build.head(f"{name}_over", s, v))

    def _summed(
        self, heads: Heads, build: _Builder, n_old: tuple[int, int], target: Array, outer: Callable[[Term], Term] | None
    ) -> Iterator[Proposal]:
        if not heads.are_small:
            return  # a level of huge values: the exact sums are left to the bank
        for s, v in self._found(heads, heads.sum_test(target), n_old, heads.summed, target, share=4 if outer else 1):
            term = build.head("sum", s, v)
            yield proposal(outer(term) if outer else term)

    def _means(self, heads: Heads, build: _Builder, n_old: tuple[int, int]) -> Iterator[Proposal]:
        def value(s: NDArray[np.intp], v: NDArray[np.intp], part: slice) -> Array:
            widths = np.maximum(heads.masks[s, part].sum(axis=2), 1)
            return np.asarray(heads.summed(s, v, part).astype(np.int64) * MEAN_SCALE // widths)

        target = self._cells.target.astype(np.int64)
        for s, v in self._found(heads, heads.mean_test(target, MEAN_SCALE), n_old, value, target):
            yield proposal(build.head("mean", s, v))

    @property
    def _has_several_answers(self) -> bool:
        """Whether the goal is a number of more than two values: no truth value times a constant."""
        return len(np.unique(self._cells.target)) > 2

    def _floored(self, heads: Heads, build: _Builder, n_old: tuple[int, int]) -> Iterator[Proposal]:
        """Yield means rounded down, of truth values times the largest answer: the cheapest fresh pairs, one by one.

        No product with a few features tells these, since every sum within a width of the answer will do.
        """
        target = self._cells.target.astype(np.int64)
        factor = int(target.max()) if build.tag == "" else 1
        s, v = np.indices((min(len(heads.masks), _FEW_SELECTORS), min(len(heads.values), _FEW_VALUES))).reshape(2, -1)
        fresh = (s >= n_old[0]) | (v >= n_old[1])
        s, v = s[fresh], v[fresh]
        for part in (slice(0, _FEW_CELLS), self._all):
            widths = np.maximum(heads.masks[s, part].sum(axis=2), 1)
            floors = heads.summed(s, v, part).astype(np.int64) * factor // widths
            kept = (floors == target[part]).all(axis=1)
            s, v = s[kept], v[kept]
        for i, j in zip(s.tolist()[:_MOST_FOUND], v.tolist()[:_MOST_FOUND], strict=True):
            yield proposal(binary("floordiv", build.mean(i, j, factor), integer(MEAN_SCALE)))

    def _with(
        self, heads: Heads, build: _Builder, n_old: tuple[int, int], added: Terms, row: int
    ) -> Iterator[Proposal]:
        """Yield ``head + a``, ``a - head`` and ``head - a``."""
        term = self._bank.term(int(added.ids[row]))
        target, a = self._cells.target.astype(np.int64), added.values[row].astype(np.int64)
        yield from self._summed(heads, build, n_old, target - a, lambda head: binary("add", head, term))
        yield from self._summed(heads, build, n_old, a - target, lambda head: binary("sub", term, head))
        yield from self._summed(heads, build, n_old, target + a, lambda head: binary("sub", head, term))

    def _existing(self, heads: Heads, build: _Builder, n_old: tuple[int, int]) -> Iterator[Proposal]:
        """Yield whether a key where a boolean holds is picked, and whether none is."""
        for wanted, is_negated in ((self._cells.target, False), (~self._cells.target, True)):
            # a selector that picks nothing somewhere cannot find a key there
            fits = np.logical_not((heads.empty & wanted[None]).any(axis=1))
            at = heads.at > 0
            tested = wanted[: heads.n_tested]
            needs = np.broadcast_to(tested, (len(heads.masks), len(tested)))
            test = heads.bound_test(at & ~tested[:, None], at & tested[:, None], needs)
            test = test._replace(wanted=np.where(fits, test.wanted, -EXACT).astype(np.float32))

            def value(s: NDArray[np.intp], v: NDArray[np.intp], part: slice) -> Array:
                return heads.summed(s, v, part) > 0

            for s, v in self._found(heads, test, n_old, value, wanted):
                yield proposal(build.existing(s, v, is_negated))

    # -- functions of a head ------------------------------------------------------------------------------------------
    def _tables(self, name: str, heads: Heads, build: _Builder, n_old: tuple[int, int]) -> Iterator[Proposal]:
        codes = self._cells.codes
        differ = np.flatnonzero(codes[1:] != codes[:-1])[:_N_CONFLICTS]
        if not len(differ):
            return
        default = NO_SYMBOL if build.tag == "T" else 0
        n_left, n_checked = _MOST_TABLES, 0
        for s, v in heads.dependent(name, np.stack([differ, differ + 1]), default, self._effort(), n_old):
            n_checked += len(s)
            if n_checked > _MOST_CHECKED:
                return
            for i, j, values in self._determining(name, heads, (s, v), default):
                listed = entries_of(values[None], codes)
                if listed is None:
                    continue
                is_symbol = build.tag == "T"
                spare = (self._bits or 0.0) - math.log2(len(heads.masks) * len(heads.values)) - MARGIN_BITS
                head = build.head(name, i, j)
                table = Table((head,), *listed, (is_symbol,), self._goal.kind == "B", len(codes), spare)
                yield from fitted(table, self._bank.frame.vocabulary)
                n_left -= 1
                if not n_left:
                    return

    def _determining(self, name: str, heads: Heads, pairs: Pairs, default: int) -> Iterator[tuple[int, int, Array]]:
        """Yield pairs with their head's values where it takes few values and separates more conflicts."""
        codes = self._cells.codes
        pairs_of_cells = [(np.arange(len(codes)), np.roll(np.arange(len(codes)), k)) for k in _ROLLS]
        first, second = (np.concatenate(part) for part in zip(*pairs_of_cells, strict=True))
        differ = codes[first] != codes[second]
        first, second = first[differ], second[differ]
        for start in range(0, len(pairs[0]), 1 << 11):
            s, v = (part[start : start + (1 << 11)] for part in pairs)
            values = heads.summed(s, v, self._all) if name == "sum" else heads.chosen(name, s, v, self._all, default)
            narrow = values.max(axis=1).astype(np.int64) - values.min(axis=1) < 256
            kept = np.flatnonzero(narrow)
            for part in (slice(0, 64), slice(64, None)):
                kept = kept[separated(values[kept], first[part], second[part]).all(axis=1)]
            for k in kept:
                yield int(s[k]), int(v[k]), values[k]


class _Builder:
    """Builds head terms from rows."""

    def __init__(
        self, bank: Bank, ids: NDArray[np.int32], value_ids: NDArray[np.int32], tag: Tag, *, are_selectors: bool = False
    ) -> None:
        self._bank, self._ids, self._value_ids, self.tag = bank, ids, value_ids, tag
        self.are_selectors = are_selectors

    def head(self, name: str, s: int, v: int) -> Term:
        """Return an aggregate of one pair."""
        value = self._bank.term(int(self._value_ids[v]))
        selector = self._bank.term(int(self._ids[s]))
        if self.tag == "":
            if selector == Term("everywhere") and name == "sum":
                return Term("count", (value,))
            if selector == Term("upto") and name == "sum":
                return Term("running_count", (value,))
            value = Term("int", (value,))
        return Term(NAMES.get(name, name), (selector, value))

    def mean(self, s: int, v: int, factor: int) -> Term:
        """Return the mean of integers, or of a factor where a boolean holds."""
        value, selector = self._bank.term(int(self._value_ids[v])), self._bank.term(int(self._ids[s]))
        return Term("mean", (selector, value if self.tag else scaled(value, factor)))

    def both(self, s: int, v: int) -> Term:
        """Return the selector of the keys that both pick, ``v`` being a selector's row or a boolean's."""
        selector, value = self._bank.term(int(self._ids[s])), self._bank.term(int(self._value_ids[v]))
        return Term("and", (selector, value if self.are_selectors else Term("keys_where", (value,))))

    def existing(self, s: int, v: int, is_negated: bool) -> Term:
        """Return whether there is such a key, or that there is none."""
        both = self.both(s, v)
        is_plain = both.arguments[0] == Term("everywhere") and not self.are_selectors
        found = Term("any", both.arguments[1].arguments) if is_plain else Term("exists", (both,))
        return Term("not", (found,)) if is_negated else found
