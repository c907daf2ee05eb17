"""Boxes: slices of the inputs of one length, and the tree of splits that makes them.

A box holds its strings as paths, all with one answer of the program; splitting it conditions the strings on the letter
at one position or on how often some letters occur between two positions. Children are disjoint and together their
parent, and path counts say so exactly. It refuses to know any bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from extract.verify.affine import Floats
from extract.verify.context import Context, Memory
from extract.verify.counters import Cut
from extract.verify.paths import Paths

SplitKind = Literal["answer", "at", "count", "ends", "sums"]
LeafKind = Literal["bounded", "listed", "open"]


@dataclass(frozen=True, slots=True)
class Split:
    """How a box is cut: by the program's ``answer``; by the letter ``at`` position ``start``; by a ``count`` of
    ``letters`` at the positions ``start`` to ``stop``, at most ``cut`` against more; by whether the string's ``memory``
    is one of ``ends``; or by the sides that its ``sums`` are on.

    Empty children are left out.
    """

    kind: SplitKind
    letters: tuple[int, ...] = ()
    start: int = 0
    stop: int = 0
    cut: int = 0
    memory: Memory | None = None
    ends: frozenset[tuple[int, ...]] = frozenset()
    sums: Cut | None = None

    def apply(self, paths: Paths) -> list[tuple[int, Paths]]:
        """Return the children of some strings with their keys: a label, a letter, 0 for the smaller counts and for ends
        that are not listed, or a side."""
        parts: list[tuple[int, Paths | None]]
        if self.kind == "answer":
            parts = [(int(label), paths.labelled(int(label))) for label in np.unique(paths.labels)]
        elif self.kind == "at":
            parts = [(a, paths.with_letters(self.start, (a,))) for a in paths.letters_at(self.start)]
        elif self.sums is not None:
            parts = self.sums.apply(paths)
        elif self.memory is not None:
            context = Context.of(paths, self.memory)
            listed = context.ends_in(self.ends)
            parts = [(0, context.paths.only(~listed)), (1, context.paths.only(listed))]
        else:
            counted, n = paths.counted(self.letters, self.start, self.stop)
            parts = [(0, counted.only(n <= self.cut)), (1, counted.only(n > self.cut))]
            parts = [(key, part and part.merged()) for key, part in parts]
        return [(key, part) for key, part in parts if part is not None]


@dataclass(slots=True)
class Node:
    """A box of the tree and what is known of it.

    ``size`` is its exact number of strings. A leaf that is ``bounded`` has one answer of the model, ``model``, on all
    of them, every margin at least ``least``; one that is ``listed`` was decided string by string, ``least`` over those
    decided; one that is ``open`` is undecided. ``error`` is the largest rounding error of an arithmetic claimed that
    margins had to exceed, 0 where real numbers alone are claimed. Inner nodes have a split and its children.
    ``memory`` is what the states of a bounded leaf have to say for its bound, None if nothing.
    """

    size: int
    kind: LeafKind = "open"
    model: tuple[int, ...] = ()
    memory: Memory | None = None
    least: float = float("inf")
    error: float = 0.0
    agree: int = 0
    disagree: int = 0
    split: Split | None = None
    children: list[tuple[int, Node]] = field(default_factory=list)

    @property
    def undecided(self) -> int:
        """The number of strings not decided in this leaf."""
        return self.size - self.agree - self.disagree

    @property
    def is_divided(self) -> bool:
        """Whether the node's strings are divided by partial sums."""
        return self.split is not None and self.split.sums is not None

    def become(self, other: Node) -> None:
        """Take over what is known of the same strings."""
        for name in ("kind", "model", "memory", "least", "error", "agree", "disagree", "split", "children"):
            setattr(self, name, getattr(other, name))

    def leaves(self) -> list[Node]:
        """Return the leaves below, in order."""
        found, waiting = [], [self]
        while waiting:
            node = waiting.pop()
            if node.split is None:
                found.append(node)
            waiting += [child for _, child in reversed(node.children)]
        return found


def leaf_of(tree: Node, paths: Paths, string: tuple[int, ...]) -> Node:
    """Return the leaf of a tree that holds a string of its paths."""
    node, label = tree, 0
    while node.split is not None:
        split, key = node.split, 0
        if split.kind == "answer":
            key = paths.label_of(string)
        elif split.kind == "at":
            key = string[split.start]
        elif split.sums is not None:
            key, label = split.sums.side_of(label, string)
        elif split.memory is not None:
            key = int(split.memory.of(string) in split.ends)
        else:
            key = int(sum(a in split.letters for a in string[split.start : split.stop]) > split.cut)
        node = dict(node.children)[key]
    return node


def choose_split(paths: Paths, effect: Floats) -> Split | None:
    """Choose the split that takes most of a sum's range out of a box; None if its letters are all fixed.

    Shapes: ``effect`` [position, letter] are the sum's terms. Weighed are the letter at each position, and the count
    of each letter in the whole string, in halves and in quarters: a count by the mean of its effect, a position by
    what that mean leaves.
    """
    length, n_letters = effect.shape
    allowed = np.array([(table >= 0).any(axis=0) for table in paths.next]).reshape(length, n_letters)
    n_allowed = allowed.sum(axis=1)
    free = n_allowed > 1
    if not free.any():
        return None
    middle = np.where(allowed, effect, 0.0).sum(axis=1) / np.maximum(n_allowed, 1)
    moved = np.where(allowed & free[:, None], effect - middle[:, None], 0.0)
    spans = _spans(length)
    best, chosen = -1.0, Split("at", start=int(np.flatnonzero(free)[0]))
    least, most = _count_ranges(paths, spans)
    whole = np.zeros(n_letters)
    for s, (start, stop) in enumerate(spans):
        live = allowed[start:stop] & free[start:stop, None]
        mean = moved[start:stop].sum(axis=0) / np.maximum(live.sum(axis=0), 1)
        whole = mean if s == 0 else whole
        for a in range(n_letters):
            weight = abs(mean[a] if s == 0 else mean[a] - whole[a]) * (most[s, a] - least[s, a])
            if most[s, a] > least[s, a] and weight > best * (1 + 1e-9):
                best, chosen = weight, Split("count", (a,), start, stop, int((most[s, a] + least[s, a]) // 2))
    rest = np.where(allowed, moved - whole, np.nan)
    for p in np.flatnonzero(free):
        weight = float(np.nanmax(rest[p]) - np.nanmin(rest[p]))
        if weight > best * (1 + 1e-9):
            best, chosen = weight, Split("at", start=int(p))
    return chosen


def _spans(length: int) -> list[tuple[int, int]]:
    spans = [(0, length)]
    for n_parts in (2, 4):
        cuts = [length * i // n_parts for i in range(n_parts + 1)]
        spans += [(a, b) for a, b in pairwise(cuts) if b - a > 1]
    return spans


def _count_ranges(paths: Paths, spans: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the least and the largest count of each letter in each span. Shapes: [span, letter]."""
    n_letters, length = paths.n_letters, paths.length
    terms = np.zeros((length, n_letters, len(spans), n_letters))
    for s, (start, stop) in enumerate(spans):
        for a in range(n_letters):
            terms[start:stop, a, s, a] = 1.0
    flat = terms.reshape(length, n_letters, -1)
    both = paths.largest(np.concatenate([flat, -flat], axis=2)).reshape(2, len(spans), n_letters)
    return -both[1].astype(np.int64), both[0].astype(np.int64)
