"""Divide and conquer over the domain: split the inputs by a cheap predicate, solve each part, join by if-then-else.

A part is solved by a term that gets every gate input of the part right: one of the bank, a closed form fitted to the
part, or a term that is right on most of the domain. Parts nobody solves are split once more. Everything is a proposal;
the gate compares the joined term on every input. It knows no verdicts and no networks.

Source:  Alur, Radhakrishna, Udupa 2017, "Scaling enumerative program synthesis via divide and conquer", section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.batched import evaluate_term
from extract.lang.cost import cost as term_cost
from extract.lang.terms import Term
from extract.search import closed_forms
from extract.search.bank import Bank, Key, Tag
from extract.search.builders import choose
from extract.search.gate import Gate
from extract.search.goals import Goal

Booleans = NDArray[np.bool_]

#: Predicates tried, cheapest first; each costs one look at the bank and a few terms judged on the gate set.
_MOST_PREDICATES, _PREDICATE_COST = 48, 6
_DEPTH = 2
#: Splits followed into a further level, widest solved part first.
_MOST_FOLLOWED = 6
#: A part must hold enough inputs that a term that fits them says something.
_FEWEST_PROBES, _FEWEST_GATE = 4, 24
_TERMS_PER_PART = 4
_ROWS_PER_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of the inputs. Shapes: ``probes`` [probe], ``gate`` [gate input]."""

    probes: Booleans
    gate: Booleans

    def split(self, by: _Part) -> tuple[_Part, _Part]:
        """Return the inputs where a predicate holds, and those where it does not."""
        return _Part(self.probes & by.probes, self.gate & by.gate), _Part(
            self.probes & ~by.probes, self.gate & ~by.gate
        )

    @property
    def is_telling(self) -> bool:
        """Whether the part holds enough inputs for a fit to say something."""
        return int(self.probes.sum()) >= _FEWEST_PROBES and int(self.gate.sum()) >= _FEWEST_GATE


class Division:
    """Divides one goal by predicates of a bank that was grown on the gate's probes."""

    def __init__(self, gate: Gate, index: int, bank: Bank, cost: int) -> None:
        self._gate, self._index, self._bank, self._cost = gate, index, bank, cost
        self._goal = gate.states[index].goal
        self._predicates = self._telling_predicates()
        self._wrong, self._ids = self._wrong_by_term()
        self._right_on_gate: dict[Term, Booleans] = {}

    def proposals(self) -> Iterator[Term]:
        """Yield joined terms that are right on every input asked, at most one."""
        everything = _Part(np.ones(len(self._gate.probes), dtype=np.bool_), np.ones(len(self._gate.gate), np.bool_))
        found = self._solve(everything, _DEPTH)
        if found is not None:
            yield found

    def _solve(self, part: _Part, depth: int) -> Term | None:
        """Return the cheapest division found of one part into solved parts."""
        if depth == 0:
            return None
        splits: list[tuple[int, int, Term, Term | None, Term | None, _Part]] = []
        best: Term | None = None
        for predicate, by in self._predicates:
            yes, no = part.split(by)
            if not (yes.is_telling and no.is_telling):
                continue
            then, otherwise = self._leaf(yes), self._leaf(no)
            if then is not None and otherwise is not None:
                best = _cheaper(best, choose(predicate, then, otherwise))
            elif then is not None or otherwise is not None:
                solved, rest = (yes, no) if then is not None else (no, yes)
                splits.append((-int(solved.gate.sum()), len(splits), predicate, then, otherwise, rest))
        if best is not None:
            return best
        for _, _, predicate, then, otherwise, rest in sorted(splits, key=lambda s: s[:2])[:_MOST_FOLLOWED]:
            below = self._solve(rest, depth - 1)
            if below is not None:
                best = _cheaper(best, choose(predicate, then or below, otherwise or below))
        return best

    def _leaf(self, part: _Part) -> Term | None:
        """Return the cheapest term known to be right on every gate input of a part."""
        fitting = [t for t in self._candidates(part) if bool(self._right(t)[part.gate].all())]
        return min(fitting, key=lambda t: (term_cost(t), str(t)), default=None)

    def _candidates(self, part: _Part) -> Iterator[Term]:
        hits = first_clear(self._wrong, part.probes, _TERMS_PER_PART)
        yield from (self._bank.term(int(self._ids[i])) for i in hits)
        yield from (scored.term for _, scored in self._gate.states[self._index].partial)
        yield from closed_forms.proposals(self._masked(part), self._gate.frame, self._gate.oracle.domain)

    def _masked(self, part: _Part) -> Goal:
        mask = self._goal.mask & part.probes[:, None]
        return replace(self._goal, mask=mask, target=np.where(mask, self._goal.target, self._goal.target.dtype.type(0)))

    def _right(self, term: Term) -> Booleans:
        if term not in self._right_on_gate:
            self._right_on_gate[term] = self._gate.right(self._index, term)
        return self._right_on_gate[term]

    def _telling_predicates(self) -> list[tuple[Term, _Part]]:
        """Return cheap sequence-wide booleans that split the gate set, one per way of splitting it."""
        values, ids = self._bank.rows_up_to(Key("B", "", "whole"), min(self._cost, _PREDICATE_COST))
        found: dict[bytes, tuple[Term, _Part]] = {}
        for row, term_id in zip(values, ids, strict=True):
            probes = np.asarray(row[:, 0], dtype=np.bool_)
            n_yes = int(probes.sum())
            if min(n_yes, len(probes) - n_yes) < _FEWEST_PROBES:
                continue
            term = self._bank.term(int(term_id))
            on_gate = evaluate_term(term, self._gate.batch, self._gate.oracle.domain.vocabulary)[:, 0]
            # a predicate and its negation split alike
            key = (on_gate ^ on_gate[0]).tobytes()
            found.setdefault(key, (term, _Part(probes, np.asarray(on_gate, dtype=np.bool_))))
            if len(found) == _MOST_PREDICATES:
                break
        return list(found.values())

    def _wrong_by_term(self) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """Say which probes each bank term of the goal's sort gets wrong, as bits. Shapes: [word, term], [term]."""
        goal = self._goal
        tags: tuple[Tag, ...] = ("",) if goal.kind == "B" else ("T", "N") if goal.tag == "" else (goal.tag,)
        words = [bit_words(np.zeros((0, len(goal.mask)), dtype=np.bool_))]
        all_ids: list[NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)]
        for tag in tags:
            typed = np.ones_like(goal.mask) if goal.kind == "B" else (goal.codes >= 1 << 30) == (tag == "T")
            for shape in dict.fromkeys((goal.shape, "whole")):
                values, ids = self._bank.rows_up_to(Key(goal.kind, tag, shape), self._cost)
                for start in range(0, len(ids), _ROWS_PER_BLOCK):
                    words.append(bit_words(_wrong(values[start : start + _ROWS_PER_BLOCK], goal, typed)))
                all_ids.append(ids)
        return np.concatenate(words, axis=1), np.concatenate(all_ids)


def bit_words(rows: Booleans) -> NDArray[np.uint64]:
    """Return rows as bits in words of 64, the words of all rows side by side. Shapes: [row, bit], [word, row]."""
    packed = np.packbits(rows, axis=1)
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    return np.ascontiguousarray(padded.view(np.uint64).T)


def first_clear(words: NDArray[np.uint64], asked: Booleans, most: int) -> list[int]:
    """Return the first rows of ``bit_words`` that have no bit where it is asked for. Shape: ``asked`` [bit]."""
    bits, found = bit_words(asked[None])[:, 0], list[int]()
    for start in range(0, words.shape[1], _ROWS_PER_BLOCK):
        block = words[:, start : start + _ROWS_PER_BLOCK]
        hit = np.zeros(block.shape[1], dtype=np.uint64)
        for word, mask in zip(block, bits, strict=True):
            hit |= word & mask
        found += (np.flatnonzero(hit == 0) + start).tolist()
        if len(found) >= most:
            break
    return found[:most]


def _wrong(values: NDArray[Any], goal: Goal, typed: Booleans) -> Booleans:
    wrong = ((values != goal.target[None]) | ~typed[None]) & goal.mask[None]
    return np.asarray(wrong.any(axis=2))


def _cheaper(left: Term | None, right: Term) -> Term:
    """Return the cheaper of two terms, the first where they cost the same."""
    return right if left is None or term_cost(right) < term_cost(left) else left
