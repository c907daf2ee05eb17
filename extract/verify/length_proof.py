"""What boxes found of one length and offset as a value: the tree as a certificate stores it, and how it came about.

It can be made here or by a worker; a worker's is checked for shape and counted anew. This room bounds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.domain import Domain
from extract.outcome import Tally
from extract.shards import BadReply, whole
from extract.verify.box_proof import MAX_BOXES, BoxResult
from extract.verify.boxes import Node
from extract.verify.context import Memory

#: Strings that a proof keeps at most, as differences.
_MOST_STRINGS = 1 << 10
#: Boxes that a proof may say it took: one part of its work counts as many.
_MOST_BOXES = MAX_BOXES**2
#: Where the children of each kind of split begin.
_CHILDREN = {"a": 1, "p": 2, "c": 5, "e": 3, "s": 4}

Strings = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class LengthProof:
    """One length and offset decided box by box; ``tree`` is compact JSON, the rest is as in ``BoxResult``.

    The tally counts strings of open leaves as undecided, those known to differ too. ``error`` bounds, in logits, the
    rounding error in float32 of every margin decided, where that is claimed.
    """

    length: int
    offset: int
    tree: str
    tally: Tally
    n_boxes: int
    different: Strings
    inside_open: Strings
    enough: int | None
    error: float = 0.0

    @staticmethod
    def of(domain: Domain, result: BoxResult) -> LengthProof:
        """Return a result as a value."""
        leaves = result.tree.leaves()
        agree, disagree = sum(leaf.agree for leaf in leaves), sum(leaf.disagree for leaf in leaves)
        least = min((leaf.least for leaf in leaves), default=float("inf"))
        tally = Tally(agree, disagree, result.tree.size - agree - disagree, least)
        written = _written(domain, result, result.tree)
        text = json.dumps(written, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return LengthProof(
            result.length, result.offset, text, tally, result.n_boxes, result.different, result.inside_open,
            result.enough, max((leaf.error for leaf in leaves if leaf.undecided < leaf.size), default=0.0),
        )  # fmt: skip

    def holds_for(self, asked: int, max_boxes: int) -> bool:
        """Say whether a limit of boxes would have given the same as the one that was asked for."""
        return asked == max_boxes or (self.enough is not None and max_boxes >= self.enough)

    def reply(self) -> dict[str, Any]:
        """Return the proof as a reply."""
        return {
            "tree": self.tree, "n_boxes": self.n_boxes, "enough": self.enough, "error": self.error,
            "different": [list(string) for string in self.different],
            "inside_open": [list(string) for string in self.inside_open],
        }  # fmt: skip

    @staticmethod
    def from_reply(domain: Domain, length: int, offset: int, reply: Mapping[str, Any]) -> LengthProof:
        """Return the proof that a reply holds; whether its bounds are right is for a checker to say.

        Raises:  BadReply unless the tree is one of this length, counts add up, and differences are inputs of it.
        """
        tree, enough = reply.get("tree"), reply.get("enough")
        if not isinstance(tree, str):
            raise BadReply(f"a tree is {type(tree).__name__}, expected text")
        tally = counted(tree)
        if tally.total != domain.size_at(length):
            raise BadReply(f"a tree of {tally.total} strings, expected the {domain.size_at(length)} of length {length}")
        different = _strings(domain, length, reply.get("different"))
        inside = _strings(domain, length, reply.get("inside_open"))
        if not set(inside) <= set(different) or len(set(different)) < len(different):
            raise BadReply("strings that differ are listed twice, or are none of those that do")
        n_boxes = whole(reply, "n_boxes", 0, _MOST_BOXES)
        return LengthProof(
            length, offset, tree, tally, n_boxes, different, inside,
            None if enough is None else whole(reply, "enough", 0, _MOST_BOXES), _error(reply.get("error")),
        )  # fmt: skip


def counted(tree: str) -> Tally:
    """Return the counts of all leaves of a tree as it is written.

    Raises:  BadReply if it is no tree.
    """
    try:
        waiting: list[tuple[list[Any], Any]] = [(json.loads(tree), None)]
        tally = Tally()
        while waiting:
            node, said = waiting.pop()
            if node[0] in _CHILDREN:
                is_answer = node[0] == "a"
                waiting += [(child, key if is_answer else said) for key, child in node[_CHILDREN[node[0]] :]]
            else:
                tally = tally + _leaf(node, said)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise BadReply(f"a tree cannot be read: {type(error).__name__}: {error}") from error
    return tally


def _leaf(node: list[Any], said: Any) -> Tally:
    """Return the counts of a leaf where the program's answer is ``said``."""
    kind, size = node[0], int(node[1])
    agree = disagree = 0
    least = float("inf")
    if kind == "b":
        agree, disagree, least = (size, 0, float(node[2])) if node[3] == said else (0, size, float(node[2]))
    elif kind == "l":
        agree, disagree = int(node[2]), int(node[3])
        least = least if node[4] is None else float(node[4])
    elif kind != "o":
        raise BadReply(f"a node of kind {kind!r}")
    if min(size, agree, disagree, size - agree - disagree) < 0 or not least > 0:
        raise BadReply(f"a leaf of {size} strings, {agree} and {disagree} decided, margins from {least}")
    return Tally(agree, disagree, size - agree - disagree, least)


def _error(value: Any) -> float:
    """Return a rounding error. Raises: BadReply unless it is a finite number from 0 on."""
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise BadReply(f"a rounding error of {value!r}, expected a number from 0 on")
    return float(value)


def _strings(domain: Domain, length: int, value: Any) -> Strings:
    """Return strings of letters. Raises: BadReply unless they are some inputs of a length."""
    n = len(domain.alphabet)
    if not isinstance(value, list) or len(value) > _MOST_STRINGS:
        raise BadReply(f"strings that differ, expected a list of at most {_MOST_STRINGS}")
    for string in value:
        is_string = isinstance(string, list) and len(string) == length
        if not is_string or not all(type(a) is int and 0 <= a < n for a in string):
            raise BadReply(f"{string!r} differs, expected {length} letters below {n}")
    if value:
        tokens = np.array(domain.alphabet, np.int32)[np.array(value, np.intp).reshape(len(value), length)]
        if not domain.holds(tokens).all():
            raise BadReply("a string that differs is no input")
    return tuple(tuple(string) for string in value)


def _written(domain: Domain, result: BoxResult, node: Node) -> list[Any]:
    """Return a node as lists.

    Leaves: ["b", size, least margin, answer] bounded, of two layers with a memory behind, ["l", size, agree, disagree,
    least margin] listed, ["o", size] open. Splits: ["a", [answer, child], ...] by the program's answer, ["p", position,
    [letter, child], ...] by a letter, ["c", letters, start, stop, cut, [0 or 1, child], ...] by a count of at most the
    cut, or more, ["e", memory, [[letter, ..., count, ...], ...], [0 or 1, child], ...] by whether what is remembered at
    the end is none or one of those listed, ["s", direction, [[weight of each letter], ... for each position], [side,
    number of cells, ...], [side, child], ...] by the cells of a division in order of sums, side -1 what is left over. A
    memory is [recent, [counted letter, ...]]; in it and in what is remembered
    letters are numbers of the alphabet. Sizes are decimal strings.
    """
    names, split = domain.vocabulary.names, node.split
    if split is None:
        if node.kind == "bounded":
            memory = [] if node.memory is None else [_memory(node.memory)]
            return ["b", str(node.size), node.least, _answer(domain, node.model), *memory]
        if node.kind == "listed":
            least = node.least if node.agree + node.disagree else None
            return ["l", str(node.size), node.agree, node.disagree, least]
        return ["o", str(node.size)]
    children = [(key, _written(domain, result, child)) for key, child in node.children]
    if split.kind == "answer":
        return ["a", *[[_answer(domain, result.answers[key]), child] for key, child in children]]
    if split.sums is not None:
        sums = split.sums
        first = np.flatnonzero(np.diff(sums.sides, prepend=-2))
        runs = np.column_stack([sums.sides[first], np.diff(np.append(first, len(sums.sides)))]).ravel()
        return ["s", sums.direction.tolist(), sums.weights.tolist(), runs.tolist(), *map(list, children)]
    if split.kind == "at":
        return ["p", split.start, *[[names[domain.alphabet[key]], child] for key, child in children]]
    if split.memory is not None:
        return ["e", _memory(split.memory), [list(end) for end in sorted(split.ends)], *map(list, children)]
    letters = [names[domain.alphabet[a]] for a in split.letters]
    return ["c", letters, split.start, split.stop, split.cut, *[[key, child] for key, child in children]]


def _memory(memory: Memory) -> list[Any]:
    return [memory.recent, list(memory.counted)]


def _answer(domain: Domain, cells: tuple[int, ...]) -> list[Any]:
    """Return an answer's cells as names, or as 0 and 1 for labels."""
    is_set = domain.readout.kind == "multilabel"
    return [cell if is_set else domain.vocabulary.name(cell) for cell in cells]
