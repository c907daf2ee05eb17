"""Closed forms of generated answers: what stands at each output index, and how many outputs there are.

Outputs are read from positions of the input (or of digits computed there) by an index affine in the output index, in
pieces where one read ends and the next goes on; or they are arithmetic progressions. Lengths are affine in one or two
sequence-wide values, or the greater or smaller of two. Everything is fitted to all probes and only proposed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.batch import Batch, Value, evaluate_term
from extract.lang.cost import cost
from extract.lang.elementwise import numbers
from extract.lang.syntax import print_term
from extract.lang.terms import Datum, Term
from extract.search.builders import (
    EVERYWHERE,
    INDICES,
    IS_REPEATED,
    LENGTH,
    STEP,
    TOKENS,
    choose,
    integer,
    last_of,
    ranks_by_count,
    symbol_or_integer,
)
from extract.search.digits import Source, digit_sources, separators
from extract.search.frame import Frame
from extract.search.goals import Goal
from extract.search.reads import Read, joined, looked_up, places_of
from extract.vocabulary import SYMBOL_BASE, Vocabulary

Array = NDArray[Any]

_MOST_PROPOSED, _MOST_PARTIAL, _MOST_SPLITS = 12, 3, 6
_MOST_LETTERS, _MOST_ENTRIES = 8, 20
_OFFSETS = (0, -1, 1, -2, 2)
_CELLS_PER_ENTRY = 3


class GeneratedForms:
    """Proposes terms for the outputs and the lengths of generated answers; the values of terms are computed once.

    ``batch`` holds the probes of ``frame`` as programs see them.
    """

    def __init__(self, frame: Frame, batch: Batch, domain: Domain) -> None:
        self.batch, self.vocabulary = batch, domain.vocabulary
        self._cache: dict[Term, Value] = {}
        marks = separators(frame, domain)
        self.digits = tuple(digit_sources(frame, domain, marks))
        self.wholes = tuple(_whole_features(domain, marks))

    def proposals(self, goal: Goal, slack: float = 0.0) -> list[Term]:
        """Return terms worth judging for an output (a value per output index) or a length (one value per input).

        ``slack`` is the share of cells that may be wrong, for models that err. Cheapest first.
        """
        if not goal.mask.any() or goal.kind != "I":
            return []
        if goal.shape == "step":
            terms = [*self._progressions(goal, slack), *self._reads(goal, slack)]
        else:
            terms = list(self._lengths(goal, slack)) if goal.tag == "N" else []
        distinct = dict.fromkeys(terms)
        n_wrong = {term: int((~self._right(goal, term)).sum()) if slack else 0 for term in distinct}
        return sorted(distinct, key=lambda term: (n_wrong[term], cost(term), print_term(term)))[:_MOST_PROPOSED]

    def _right(self, goal: Goal, term: Term) -> NDArray[np.bool_]:
        """Say on which probes a term gives the whole answer. Shape: [probe]."""
        values = evaluate_term(term, self.batch, self.vocabulary, self._cache)
        return np.asarray(((np.broadcast_to(values, goal.codes.shape) == goal.codes) | ~goal.mask).all(axis=1))

    def splits(self, goal: Goal, term: Term) -> Iterator[Term]:
        """Yield ``other if length <= k else term``, where the term is right on all longer inputs.

        Trained models are often at odds with their task on inputs shorter than they were trained on.
        """
        right, lengths = self._right(goal, term), self.batch.lengths
        if right.all() or 2 * int((wrong := lengths[~right]).max()) > int(lengths.max()):
            return
        bound = int(wrong.max())
        short = replace(goal, mask=goal.mask & (lengths <= bound)[:, None])
        for other in [*self._by_index(short), *self.proposals(short)][:_MOST_SPLITS]:
            yield choose(Term("<=", (LENGTH, integer(bound))), other, term)

    def _by_index(self, goal: Goal) -> Iterator[Term]:
        """Yield a constant, or a table of the output index, where that gives the answer."""
        codes = goal.codes[goal.mask]
        if (codes == codes[0]).all():
            yield symbol_or_integer(int(codes[0]), self.vocabulary)
        elif goal.shape == "step":
            steps = np.broadcast_to(np.arange(goal.codes.shape[1]), goal.codes.shape)[goal.mask]
            entries = _entries(steps, codes, 0.0, per_entry=1)
            if entries is not None:
                yield _named(STEP, entries, self.vocabulary)

    def values(self, term: Term) -> Array:
        """Return a term's cells on the probes as numbers. Shape: [probe, query]."""
        return numbers(evaluate_term(term, self.batch, self.vocabulary, self._cache))

    def whole(self, term: Term) -> Array:
        """Return a sequence-wide term's value on each probe. Shape: [probe]."""
        return self.values(term)[:, 0].astype(np.int64)

    # -- lengths ----------------------------------------------------------------------------------------------------
    def _lengths(self, goal: Goal, slack: float) -> Iterator[Term]:
        """Yield sequence-wide terms that equal the goal."""
        rows = goal.mask[:, 0]
        target = goal.codes[rows, 0].astype(np.int64)
        features = self._distinct([LENGTH, *self.wholes, *(mark for s in self.digits for mark in s.marks)])
        for term, x in features:
            yield from _scaled(term, x[rows], target, slack)
        for i, (left, x) in enumerate(features):
            for right, y in features[i + 1 :]:
                yield from _combined(left, x[rows], right, y[rows], target, slack)

    def _distinct(self, terms: list[Term]) -> list[tuple[Term, Array]]:
        """Return the terms whose values differ from those before them and from any constant."""
        found: dict[bytes, tuple[Term, Array]] = {}
        for term in terms:
            x = self.whole(term)
            if len(x) and (x != x[0]).any():
                found.setdefault(x.tobytes(), (term, x))
        return list(found.values())

    # -- progressions -----------------------------------------------------------------------------------------------
    def _progressions(self, goal: Goal, slack: float) -> Iterator[Term]:
        """Yield ``start + step`` times a small factor, where the answers are numbers."""
        if goal.tag != "N":
            return
        steps = np.arange(goal.codes.shape[1], dtype=np.int64)[None, :]
        features = [(term, x) for term, x in self._distinct([LENGTH, *self.wholes])]
        for factor in (1, -1, 2, -2):
            starts = goal.codes - factor * steps
            axis = STEP if abs(factor) == 1 else Term("*", (STEP, integer(2)))
            constant = _constant(starts[goal.mask], slack)
            if constant is not None:
                yield _moved(axis, factor > 0, integer(constant))
            for term, x in features:
                constant = _constant((starts - x[:, None])[goal.mask], slack)
                if constant is not None and abs(constant) <= 2:
                    yield _moved(axis, factor > 0, _plus(term, constant))

    # -- reads ------------------------------------------------------------------------------------------------------
    def _reads(self, goal: Goal, slack: float) -> Iterator[Term]:
        """Yield reads that are right wherever they reach, joined until every output is covered; else the best few."""
        found = [read for keys in self._keys() for read in self._plain_reads(goal, keys)]
        is_covered = False
        for term in islice(joined(found, goal, self.vocabulary, slack), _MOST_PROPOSED):
            is_covered = True
            yield term
        for source in self.digits:
            for _, term in sorted(self._digit_reads(goal, source, slack), key=lambda found: found[0])[:_MOST_PARTIAL]:
                is_covered = True
                yield term
        if slack and not is_covered:
            shares = sorted(found, key=lambda read: (-int(read.right.sum()), read.cost))[:_MOST_PARTIAL]
            yield from (read.term for read in shares if 2 * read.right.sum() >= len(read.right))

    def _keys(self) -> Iterator[Term]:
        yield INDICES
        yield Term("selector_width", (Term("after"),))
        yield Term("rank", (TOKENS,))
        yield Term("running_count", (Term("not", (IS_REPEATED,)),))
        yield from ranks_by_count()

    def _queries(self, wholes: list[tuple[Term | None, Array]], n_steps: int) -> Iterator[tuple[Term, Array]]:
        """Yield index terms with their values. Shape: [probe, step]."""
        steps = np.arange(n_steps, dtype=np.int64)[None, :]
        axes = [(STEP, steps)]
        axes += [(Term(name, (STEP, integer(k))), f(steps, k)) for name, f in _BY_CONSTANT for k in (2, 3)]
        for axis, along in axes:
            for whole, x in wholes:
                yield _moved(axis, True, whole), along + x[:, None]
                if whole is not None:
                    yield _moved(axis, False, whole), x[:, None] - along
                    if whole.operator != "integer":
                        yield Term("-", (axis, whole)), along - x[:, None]

    def _index_wholes(self, marks: tuple[Term, ...] = ()) -> list[tuple[Term | None, Array]]:
        """Return what an index may be moved by: nothing, a small constant, a feature and a small constant."""
        n = len(self.batch)
        wholes: list[tuple[Term | None, Array]] = [(None, np.zeros(n, dtype=np.int64))]
        wholes += [(integer(k), np.full(n, k, dtype=np.int64)) for k in _OFFSETS if k]
        for term, x in self._distinct([LENGTH, Term("*", (LENGTH, integer(2))), *self.wholes, *marks]):
            wholes += [(_plus(term, k), x + k) for k in _OFFSETS]
        return wholes

    def _plain_reads(self, goal: Goal, keys: Term) -> Iterator[Read]:
        codes, mask = evaluate_term(TOKENS, self.batch, self.vocabulary, self._cache), goal.mask
        places = places_of(self.values(keys), self.batch)
        for query, index in self._queries(self._index_wholes(), mask.shape[1]):
            at = looked_up(places, index)
            inside = (at >= 0)[mask]
            if inside.any():
                right = (np.take_along_axis(codes, np.maximum(at, 0), axis=1) == goal.codes)[mask] & inside
                if right.any():
                    term = Term("first", (Term("select", (keys, query), ("==",)), TOKENS))
                    yield Read(term, cost(term), inside, right)

    def _digit_reads(self, goal: Goal, source: Source, slack: float) -> Iterator[tuple[tuple[int, int], Term]]:
        """Yield reads of computed digits, named by a table, each after its number of wrong cells and its cost."""
        values, mask = self.values(source.term), goal.mask
        places = places_of(self.values(INDICES), self.batch)
        for query, index in self._queries(self._index_wholes(source.marks), mask.shape[1]):
            at = looked_up(places, index)
            if (at < 0)[mask].sum() > slack * mask.sum():
                continue
            # outside the input a read gives 0, as the language does
            read = np.where(at < 0, 0, np.take_along_axis(values, np.maximum(at, 0), axis=1))
            entries = _entries(read[mask], goal.codes[mask], slack)
            if entries is not None:
                term = Term("first", (Term("select", (INDICES, query), ("==",)), source.term))
                n_wrong = sum(entries.get(int(x)) != int(c) for x, c in zip(read[mask], goal.codes[mask], strict=True))
                yield (n_wrong, cost(term)), _named(term, entries, self.vocabulary)


_BY_CONSTANT = (("//", np.floor_divide), ("%", np.remainder))


def _whole_features(domain: Domain, marks: tuple[int, ...]) -> Iterator[Term]:
    """Yield sequence-wide values: where separators stand, how often letters occur, what numeric tokens say."""
    vocabulary = domain.vocabulary
    for token in marks:
        name = Term("symbol", (), (vocabulary.names[token],))
        at = Term("first", (Term("select", (TOKENS, name), ("==",)), INDICES))
        yield from (at, Term("-", (LENGTH, at)))
    if any(int(vocabulary.token_codes[t]) < SYMBOL_BASE for t in domain.alphabet):
        yield Term("first", (EVERYWHERE, TOKENS))
        yield last_of(TOKENS)
        yield from (Term(name, (EVERYWHERE, TOKENS)) for name in ("max_over", "min_over", "sum_over"))
    if len(domain.alphabet) <= _MOST_LETTERS:
        codes = (int(vocabulary.token_codes[token]) for token in domain.alphabet)
        letters = (symbol_or_integer(code, vocabulary) for code in codes)
        yield from (Term("count", (Term("==", (TOKENS, letter)),)) for letter in letters)
    yield Term("count", (Term("not", (IS_REPEATED,)),))


def _constant(values: Array, slack: float) -> int | None:
    """Return the value that all cells but a share have, or None."""
    # a value that more than half of the cells have is their median
    middle = np.partition(values, len(values) // 2)[len(values) // 2]
    n_wrong = int((values != middle).sum())
    return int(middle) if n_wrong <= slack * len(values) else None


def _scaled(term: Term, x: Array, target: Array, slack: float) -> Iterator[Term]:
    """Yield affine forms of one feature that equal the target."""
    for factor in (1, -1, 2, 3):
        constant = _constant(target - factor * x, slack)
        if constant is not None:
            part = term if abs(factor) == 1 else Term("*", (term, integer(factor)))
            yield _plus(part, constant) if factor > 0 else Term("-", (integer(constant), part))
    for k in (0, 1):
        if _constant(target - (x + k) // 2, slack) == 0:
            yield Term("//", (_plus(term, k), integer(2)))


def _combined(left: Term, x: Array, right: Term, y: Array, target: Array, slack: float) -> Iterator[Term]:
    """Yield sums, differences, the greater and the smaller of two features, plus a constant, that equal the target."""
    pairs = (
        ("+", left, right, x + y), ("-", left, right, x - y), ("-", right, left, y - x),
        ("max", left, right, np.maximum(x, y)), ("min", left, right, np.minimum(x, y)),
    )  # fmt: skip
    for name, a, b, value in pairs:
        constant = _constant(target - value, slack)
        if constant is not None:
            yield _plus(Term(name, (a, b)), constant)


def _plus(term: Term, constant: int) -> Term:
    if not constant:
        return term
    return Term("+" if constant > 0 else "-", (term, integer(abs(constant))))


def _moved(axis: Term, is_rising: bool, whole: Term | None) -> Term:
    """Return ``axis + whole`` or ``whole - axis``."""
    if whole is None:
        return axis
    if whole.operator != "integer":
        return Term("+", (axis, whole)) if is_rising else Term("-", (whole, axis))
    value = whole.data[0]
    assert isinstance(value, int)
    return _plus(axis, value) if is_rising else Term("-", (whole, axis))


def _entries(values: Array, codes: Array, slack: float, *, per_entry: int = _CELLS_PER_ENTRY) -> dict[int, int] | None:
    """Return value -> code if the answer is a function of the value that the probes show often enough."""
    pairs, counts = np.unique(np.stack([values, codes]), axis=1, return_counts=True)
    entries: dict[int, int] = {}
    n_right = 0
    for i in np.argsort(-counts, kind="stable"):
        value, code = (int(x) for x in pairs[:, i])
        if value not in entries:
            entries[value] = code
            n_right += int(counts[i])
    if len(codes) - n_right > slack * len(codes) or not 1 < len(entries) <= _MOST_ENTRIES:
        return None
    return dict(sorted(entries.items())) if len(codes) >= per_entry * len(entries) else None


def _named(term: Term, entries: dict[int, int], vocabulary: Vocabulary) -> Term:
    """Return the term itself where it already is the answer, else a table of its values."""
    if all(value == code for value, code in entries.items()):
        return term

    def answer(code: int) -> Datum:
        return vocabulary.name(code) if code >= SYMBOL_BASE else code

    codes = list(entries.values())
    commonest = max(sorted(set(codes)), key=codes.count)
    rows: tuple[Datum, ...] = tuple((value, answer(code)) for value, code in entries.items() if code != commonest)
    return Term("table", (term,), (rows, answer(commonest)))
