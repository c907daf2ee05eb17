"""The virtual last level: decides top-level combinations of bank terms against a goal without storing them.

Each operator has its own file; here they are called cheapest first, each with an allowance of pairs, and what they
find becomes terms. Everything is a proposal: the caller compares it with the language's own meaning. A level looks
only at combinations with a part of exactly the level's cost, so that calls at rising costs see each of them once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Term
from extract.search import covers, decisions, joins
from extract.search.bank import Bank, Key, Tag
from extract.search.builders import binary, choose, integer, symbol_or_integer
from extract.search.columns import (
    MARGIN_BITS,
    Cells,
    Effort,
    Proposal,
    Terms,
    keys_of,
    most_right,
    n_cells_for,
    n_terms,
    proposal,
    read,
    surprise,
    telling_cells,
)
from extract.search.comparisons import comparison_pairs
from extract.search.dependencies import Dependencies, entries_of
from extract.search.fits import Table, fitted
from extract.search.goals import Goal
from extract.search.virtual_heads import HeadSearch
from extract.vocabulary import SYMBOL_BASE

Array = NDArray[Any]

_MOST_KEPT = 12
_MOST_TABLES = 24
#: The terms that may be keys of a table: the cheapest of each sort.
_MOST_KEYS = 1 << 15
_TAGS: tuple[Tag, ...] = ("N", "T")
#: Pairs allowed per operator and level: so many per candidate of the bank's growth, within bounds.
_PAIRS_PER_CANDIDATE = 16
_LEAST_PAIRS, _MOST_PAIRS = 1 << 21, 1 << 26
_MOST_ADDED = 3
#: Pairs of branches for which comparisons are looked for that are not among the cheapest.
_MOST_CHOICES = 3
_LARGEST_MODULUS = 64
#: Terms compared with the goal at a time: what they need stays in the cache.
_BLOCK_ROWS = 1 << 14


def proposals(bank: Bank, goal: Goal, cost: int, *, is_derived: bool = False, patience: int = 1) -> Iterator[Proposal]:
    """Yield terms one operator above bank terms (a few for tables and choices) that give the goal on its cells.

    A derived goal is the condition of a choice between the two values of another goal, whose tables cover its own.
    ``patience`` multiplies the allowance of comparisons, for a level that no other follows.
    Cost:    an allowance of pairs per operator in proportion to the candidates that the bank has tried.
    """
    if not goal.mask.any():
        return
    if goal.kind == "B":
        yield from _of_booleans(bank, goal, cost, has_tables=not is_derived, patience=patience)
    else:
        yield from _of_integers(bank, goal, cost)


def _effort(bank: Bank) -> Effort:
    return Effort(min(_MOST_PAIRS, max(_LEAST_PAIRS, _PAIRS_PER_CANDIDATE * bank.n_candidates)))


def _read(bank: Bank, goal: Goal, cost: int) -> tuple[Cells, dict[Tag, Terms], Terms]:
    """Return the chosen cells, and the integers (by tag) and booleans on them."""
    keys = {tag: keys_of(goal, "I", tag) for tag in _TAGS}
    most = max(n_terms(bank, keys[tag], cost) for tag in _TAGS)
    cells = telling_cells(goal, n_cells_for(most))
    integers = {tag: read(bank, keys[tag], cells, cost) for tag in _TAGS}
    return cells, integers, read(bank, keys_of(goal, "B", ""), cells, cost)


# -- boolean goals --------------------------------------------------------------------------------------------------
def _of_booleans(bank: Bank, goal: Goal, cost: int, *, has_tables: bool, patience: int) -> Iterator[Proposal]:
    cells, integers, booleans = _read(bank, goal, cost)
    target = cells.target.astype(np.bool_)
    bits = surprise(cells, most_right(cells, [booleans]))
    for tag in _TAGS:
        effort = Effort(patience * _effort(bank).left)
        found = comparison_pairs(integers[tag], target, effort, has_le=tag == "N")
        yield from islice((_compared(bank, integers[tag], pair) for pair in found), _MOST_KEPT)
    covered = covers.connective_covers(booleans, target, _effort(bank), bits)
    yield from islice((_covered(bank, booleans, cover) for cover in covered), _MOST_KEPT)
    yield from islice(_exclusive(bank, booleans, target), _MOST_KEPT)
    if has_tables:
        yield from _tables(bank, goal, cells, [*integers.values()], bits)
    yield from _heads(bank, goal, cells, cost, None, bits=bits, has_tables=has_tables)


def _compared(bank: Bank, terms: Terms, pair: joins.Pair) -> Proposal:
    left, right = (bank.term(int(terms.ids[k])) for k in (pair.left, pair.right))
    if pair.operator == "ne":
        return proposal(Term("not", (binary("eq", left, right),)))
    return proposal(binary(pair.operator, left, right))


def _covered(bank: Bank, terms: Terms, cover: covers.Cover) -> Proposal:
    sides = []
    for side in cover.sides:
        term = bank.term(int(terms.ids[side.row]))
        sides.append(Term("not", (term,)) if side.is_negated else term)
    joined = sides[0]
    for side_term in sides[1:]:
        joined = binary(cover.operator, joined, side_term)
    return proposal(joined)


def _exclusive(bank: Bank, booleans: Terms, target: NDArray[np.bool_]) -> Iterator[Proposal]:
    """Yield ``not a if b else a`` (exclusive or) and ``a if b else not a``."""
    as_integers = replace(booleans, values=booleans.values.astype(np.int8))
    for wanted, is_same in ((target, False), (~target, True)):
        for pair in joins.modular_pairs(as_integers, wanted.astype(np.int8), 2, _effort(bank)):
            a, b = (bank.term(int(booleans.ids[k])) for k in (pair.left, pair.right))
            opposite = Term("not", (a,))
            yield proposal(choose(b, a, opposite) if is_same else choose(b, opposite, a))


# -- integer goals --------------------------------------------------------------------------------------------------
def _of_integers(bank: Bank, goal: Goal, cost: int) -> Iterator[Proposal]:
    cells, integers, booleans = _read(bank, goal, cost)
    bits = surprise(cells, most_right(cells, [integers[goal.tag]] if goal.tag else []))
    if goal.tag == "N":
        yield from _arithmetic(bank, integers["N"], cells.target)
    if goal.tag:
        found = covers.extreme_covers(integers[goal.tag], cells.target, _effort(bank), bits)
        yield from islice((_covered(bank, integers[goal.tag], cover) for cover in found), _MOST_KEPT)
    yield from _decisions(bank, goal, cells, integers, booleans)
    yield from _tables(bank, goal, cells, [*integers.values()], bits)
    varied = (integers["N"].values != integers["N"].values[:, :1]).any(axis=1)
    yield from _heads(bank, goal, cells, cost, integers["N"].take(np.flatnonzero(varied)[:_MOST_ADDED]), bits=bits)


def _arithmetic(bank: Bank, terms: Terms, target: Array) -> Iterator[Proposal]:
    def built(pairs: Iterable[joins.Pair], modulus: int = 0) -> Iterator[Proposal]:
        for pair in islice(pairs, _MOST_KEPT):
            term = binary(pair.operator, *(bank.term(int(terms.ids[k])) for k in (pair.left, pair.right)))
            yield proposal(binary("mod", term, integer(modulus)) if modulus else term)

    wide = target.astype(np.int64)
    yield from built(joins.sum_pairs(terms, wide, _effort(bank)))
    for modulus in _moduli(wide):
        yield from built(joins.modular_pairs(terms, wide, modulus, _effort(bank)), modulus)
    yield from built(joins.product_pairs(terms, wide, _effort(bank)))


def _moduli(target: Array) -> tuple[int, ...]:
    """Return the moduli that the wanted values suggest: one and two more than the greatest."""
    high = int(target.max(initial=0))
    if int(target.min(initial=0)) < 0 or not 1 <= high < _LARGEST_MODULUS:
        return ()
    return high + 1, high + 2


def _decisions(bank: Bank, goal: Goal, cells: Cells, integers: dict[Tag, Terms], booleans: Terms) -> Iterator[Proposal]:
    """Yield if-then-else trees whose branches are bank terms of the wanted sort, or the wanted constants."""
    tags: tuple[Tag, ...] = (goal.tag,) if goal.tag else _TAGS
    vocabulary = bank.frame.vocabulary
    are_symbols = cells.codes >= SYMBOL_BASE - 1
    constants = [symbol_or_integer(code, vocabulary) for code in goal.distinct_codes()]
    matches = [np.array([cells.codes == code for code in goal.distinct_codes()])]
    costs: list[Array] = [np.array([proposal(term).cost for term in constants])]
    places: list[tuple[Tag, int]] = []
    for tag in tags:
        typed = np.ones(len(cells), dtype=np.bool_) if goal.tag else are_symbols if tag == "T" else ~are_symbols
        matches.append((integers[tag].values == cells.target) & typed)
        costs.append(integers[tag].costs)
        places += [(tag, row) for row in range(len(integers[tag]))]
    leaves = decisions.leaves_of(np.concatenate(matches), np.concatenate(costs))
    lists = [integers[tag] for tag in _TAGS if len(integers[tag])]
    conditions = decisions.conditions_of(booleans, lists)

    def leaf(row: int) -> Term:
        source = int(leaves.source[row])
        if source < len(constants):
            return constants[source]
        tag, place = places[source - len(constants)]
        return bank.term(int(integers[tag].ids[place]))

    def condition(row: int) -> Term:
        source = conditions.source[row]
        if isinstance(source, int):
            return bank.term(int(booleans.ids[source]))
        number, pair = source
        return _compared(bank, lists[number], pair).term

    def built(tree: decisions.Tree) -> Term:
        if tree.then is None or tree.otherwise is None:
            return leaf(tree.row)
        return choose(condition(tree.row), built(tree.then), built(tree.otherwise))

    bits = surprise(cells, int(leaves.bits.sum(axis=1).max(initial=0)))
    trees = decisions.Learner(leaves, conditions, _effort(bank), bits).trees()
    for tree in trees:
        yield proposal(built(tree))
    for choice in [] if trees else decisions.choices_of(leaves, _MOST_CHOICES):
        for compared in _separating(bank, integers, choice):
            yield proposal(choose(compared, leaf(choice.then), leaf(choice.otherwise)))


def _separating(bank: Bank, integers: dict[Tag, Terms], choice: decisions.Choice) -> Iterator[Term]:
    """Yield comparisons of two bank integers that tell where which branch is right."""
    for tag, terms in integers.items():
        there = replace(terms, values=terms.values[:, choice.cells])
        effort = Effort(_effort(bank).left // _MOST_CHOICES)
        found = comparison_pairs(there, choice.wanted, effort, has_le=tag == "N")
        yield from (_compared(bank, terms, pair).term for pair in islice(found, _MOST_ADDED))


# -- tables and heads, for both kinds of goals ----------------------------------------------------------------------
def _tables(bank: Bank, goal: Goal, cells: Cells, lists: list[Terms], bits: float) -> Iterator[Proposal]:
    """Yield short forms of the goal as a function of one term, and of two terms of one or two sorts."""
    lists = [terms.cheapest(_MOST_KEYS) for terms in lists]
    is_symbol = np.concatenate([np.full(len(terms), tag == "T") for tag, terms in zip(_TAGS, lists, strict=True)])
    costs = np.concatenate([terms.costs for terms in lists])
    order = np.argsort(costs, kind="stable")
    values = np.concatenate([terms.values for terms in lists])[order]
    ids = np.concatenate([terms.ids for terms in lists])[order]
    n_old = sum(terms.n_old for terms in lists)
    terms = Terms(values, ids, costs[order], n_old)
    found = Dependencies(terms, cells, _effort(bank))
    for determined in (found.single(_MOST_TABLES), found.double(_MOST_TABLES)):
        proposed: list[Proposal] = []
        for dependency in determined:
            listed = entries_of(values[list(dependency.rows)], cells.codes)
            if listed is not None:
                sources = tuple(bank.term(int(ids[row])) for row in dependency.rows)
                symbols = tuple(bool(is_symbol[order[row]]) for row in dependency.rows)
                spare = bits - len(sources) * math.log2(len(terms)) - MARGIN_BITS
                table = Table(sources, *listed, symbols, goal.kind == "B", len(cells), spare)
                proposed += fitted(table, bank.frame.vocabulary)
        yield from sorted(proposed, key=lambda p: p.cost)[:_MOST_KEPT]


def _heads(
    bank: Bank,
    goal: Goal,
    cells: Cells,
    cost: int,
    added: Terms | None,
    *,
    bits: float,
    has_tables: bool = True,
) -> Iterator[Proposal]:
    search = HeadSearch(bank, goal, cells, cost, lambda: Effort(_effort(bank).left // 4))
    found = [
        *search.proposals(added, bits if has_tables else None),
        *search.met(),
        *islice(search.widths(), _MOST_KEPT),
    ]
    yield from sorted(found, key=lambda p: p.cost)[:_MOST_KEPT]


# -- almost right ---------------------------------------------------------------------------------------------------
def agreement(bank: Bank, goal: Goal, cost: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Count for each bank term of the goal's sort how many probes it gets entirely right. Shape: [term], [term]."""
    keys = [Key(goal.kind, goal.tag, shape) for shape in dict.fromkeys((goal.shape, "whole"))]
    counts, all_ids = [], []
    for key in keys:
        values, ids = bank.rows_up_to(key, cost)
        counts.append(np.zeros(0, dtype=np.int64))
        for start in range(0, len(ids), _BLOCK_ROWS):
            right = (values[start : start + _BLOCK_ROWS] == goal.target[None]) | ~goal.mask[None]
            counts.append(right.all(axis=2).sum(axis=1))
        all_ids.append(ids)
    return np.concatenate(counts), np.concatenate(all_ids)
