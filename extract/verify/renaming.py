"""Programs that do not care what their tokens are called: one input of every pattern of repetition stands for all.

Where programs and promise treat the letters alike, two programs differ on an input exactly if they differ on it with
the letters renamed; the patterns of a length are far fewer than its inputs, and each stands for a known number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import perm

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.operators import RELATIONS
from extract.lang.promise import TermPromise
from extract.lang.sorts import sorts_of
from extract.lang.terms import Datum, Program, Term

#: Operators whose outcome depends on which token is which, on tokens.
_ORDERING = frozenset({"<", "<=", "min", "max", "min_over", "max_over", "rank", "increasing", "unique_mode"})
_NAMING = frozenset({"table", "table2", "scan", "horner", "sum_over", "mean", "+", "-", "*", "//", "%", "abs"})
#: Patterns listed for one length.
MAX_PATTERNS = 1 << 20
_CHUNK = 1 << 14


def treats_letters_alike(terms: Sequence[Term], domain: Domain) -> bool:
    """Say whether renaming the letters of the alphabet renames what the terms give, and changes nothing else.

    Tokens may be compared for being equal, picked and moved; they may not be named, ordered or used as numbers.
    Assumes: tokens are symbols, not numbers.
    """
    vocabulary = domain.vocabulary
    letters = {vocabulary.names[token] for token in domain.alphabet}
    for term in terms:
        sorts = sorts_of(term, vocabulary)
        for part in term.subterms():
            is_of_tokens = any(sorts[a].kind == "I" and sorts[a].tag in ("T", "") for a in part.arguments)
            if not letters.isdisjoint(_texts(part.data)):
                return False
            if part.operator in _ORDERING | _NAMING and is_of_tokens:
                return False
            if part.operator == "select" and part.data[0] not in ("==", "!=") and is_of_tokens:
                return False
    return True


def _texts(datum: Datum) -> set[str]:
    """Return every name inside a constant; relations are no names of tokens."""
    if isinstance(datum, tuple):
        return set().union(*map(_texts, datum)) if datum else set()
    return {datum} if isinstance(datum, str) and datum not in RELATIONS else set()


def applies(left: Program, right: Program, domain: Domain) -> bool:
    """Say whether the inputs of a domain may be compared pattern by pattern."""
    promises = domain.strings.promises
    if domain.vocabulary.numeric or not all(isinstance(promise, TermPromise) for promise in promises):
        return False
    terms = [promise.term for promise in promises if isinstance(promise, TermPromise)]
    return treats_letters_alike([*terms, *left.terms(), *right.terms()], domain)


def n_patterns(n_letters: int, length: int) -> int:
    """Return the number of patterns of a length with at most so many different letters."""
    row = [1]  # row[m]: patterns with m different letters
    for _ in range(length):
        grown = [0] * (len(row) + 1)
        for m, n in enumerate(row):
            grown[m] += m * n
            grown[m + 1] += n
        row = grown
    return sum(row[: n_letters + 1])


def patterns(domain: Domain, length: int) -> Iterator[tuple[NDArray[np.int32], list[int]]]:
    """Yield the patterns of a length that keep the promise, as token ids, with the number of inputs of each.

    The first letters of the alphabet stand in order of appearance, so a pattern is the first of its inputs.
    """
    n_letters = len(domain.alphabet)
    rows: NDArray[np.int32] = np.zeros((1, 0), dtype=np.int32)
    used = np.zeros(1, dtype=np.int32)
    for _ in range(length):
        n_next = np.minimum(used + 1, n_letters)
        parent = np.repeat(np.arange(len(rows)), n_next)
        letter = (np.arange(len(parent)) - np.repeat(np.cumsum(n_next) - n_next, n_next)).astype(np.int32)
        rows = np.concatenate([rows[parent], letter[:, None]], axis=1)
        used = np.maximum(used[parent], letter + 1)
    ids = np.array(domain.alphabet, dtype=np.int32)
    for start in range(0, len(rows), _CHUNK):
        tokens = ids[rows[start : start + _CHUNK]]
        kept = domain.holds(tokens)
        yield tokens[kept], [perm(n_letters, int(m)) for m in used[start : start + _CHUNK][kept]]
