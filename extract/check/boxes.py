"""The checker's re-proof of lengths decided box by box: the tree is cut again, every leaf is bounded again.

A leaf counts as bounded only if our own bounds, derived from nothing the certificate says but its cuts, make every
margin of the stated answer positive. Sizes are counted again; what the tree does not reach is missing and rejected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from extract.check.answers import Model
from extract.check.attended import Attended
from extract.check.forward import SINGLE, Forward
from extract.check.layered import Layered
from extract.check.margins import Margins, decisions
from extract.check.memory import Remembering
from extract.check.program import Lets
from extract.check.reader import Unreadable
from extract.check.slices import Slice, answering, whole_slice
from extract.check.spec import Task
from extract.check.sums import CellRanges, Divided
from extract.check.weights import Floats, Weights

_MOST_NODES, _MOST_LISTED, _PIECES, _DEEPEST = 100_000, 1 << 20, 64, 400


def is_bounded(task: Task, weights: Weights) -> bool:
    """Say whether the checker has bounds for a task and network at all."""
    is_choice = task.kind == "multilabel" or (task.kind == "argmax" and len(task.choices) > 1)
    if len(weights.layers) == 1:
        return weights.has_plain_parts and task.at in ("last", "first") and is_choice
    is_whole = weights.is_plain and weights.norm_eps > 0 and weights.activation is not None
    return len(weights.layers) == 2 and is_whole and task.at == "last" and is_choice


class BoxCheck:
    """One entry of a certificate's boxes: ``reasons`` say what is wrong, ``unproved`` which leaves our bounds do not
    confirm though nothing speaks against them; ``rest`` is then the entry with these undecided, None if no input is
    left."""

    def __init__(self, task: Task, model: Model, lets: Lets, entry: dict[str, Any], reasons: list[str]) -> None:
        self.task, self.model, self.entry, self.reasons = task, model, entry, reasons
        self.length, self.offset = entry["length"], entry["offset"]
        self.place = f"boxes of length {self.length}, offset {self.offset}"
        self.sums, self.least, self.n_leaves, self.unproved = [0, 0, 0], math.inf, 0, list[str]()
        self.kept, self.refused = math.inf, list[tuple[Slice, int, int]]()
        self.rest: dict[str, Any] | None = None
        #: The largest error of single precision by our own bounds, where leaves are decided.
        self.error = 0.0
        self.margins: dict[tuple[int, ...], Margins] = {}
        self.attended: dict[int, tuple[Attended, Attended | None]] = {}
        self.layered: Layered | None = None
        self.directions: list[Floats] = []
        forward = model.forward
        # inputs are evaluated one by one where attention looks ahead; the bounds are those of the same parts
        self._forward = Forward(forward.weights)
        self._single = forward if isinstance(forward, Forward) and forward.unit == SINGLE else None
        layout = task.layout(self.length)
        self.read = 0 if task.at == "first" else len(layout) - 1
        self.query = -1 - layout[self.read] if layout[self.read] < 0 else None
        self.program, self.open, self.n_nodes = answering(task, lets), list[Slice](), 0

    def reject(self, holds: bool, reason: str) -> None:
        """Note a reason unless the condition holds."""
        if not holds and len(self.reasons) < 20:
            self.reasons.append(f"{self.place}: {' '.join(reason.split())}")

    def run(self) -> None:
        """Check the whole tree, the witnesses, and the entry's own numbers."""
        whole = whole_slice(self.task, self.program, self.length)
        if whole is None:
            raise Unreadable(f"{self.place}: the length has no input")
        tree = json.loads(self.entry["tree"])
        self.node(tree, whole, None, 0)
        n_inside, n_lost = self.witnesses(whole)
        self.sums = [self.sums[0], self.sums[1] + n_inside, self.sums[2] - n_inside]
        stated = [int(self.entry[name]) for name in ("agree", "disagree", "undecided")]
        self.reject(stated == self.sums, f"its counts are {stated}, the leaves say {self.sums}")
        least = self.least if self.least < math.inf else None
        self.reject(
            self.entry["min_margin"] == least, f"min_margin is {self.entry['min_margin']}, the leaves say {least}"
        )
        if self._single is not None:
            self.error = max([self.error, *(margins.worst for margins in self.margins.values())])
            stated = self.entry["error_bound"]
            self.reject(type(stated) is float and 0 <= stated < math.inf, f"its error bound {stated!r} is no number")
        if self.unproved:
            self.rest = self.confirmed(tree, n_lost)

    def confirmed(self, tree: list[Any], n_lost: int) -> dict[str, Any] | None:
        """Return the entry with the leaves open that our bounds do not confirm, ``n_lost`` witnesses in them; None if
        that decides nothing."""
        lost = [sum(size for _, side, size in self.refused if side == at) for at in (0, 1)]
        agree, differ = self.sums[0] - lost[0], self.sums[1] - lost[1] + n_lost
        if agree + differ == 0:
            return None
        counts = {"agree": agree, "disagree": differ, "undecided": sum(self.sums) - agree - differ}
        text = json.dumps(tree, separators=(",", ":"), ensure_ascii=True)
        least = self.kept if self.kept < math.inf else None
        return {**self.entry, **{name: str(n) for name, n in counts.items()}, "tree": text, "min_margin": least}

    def node(self, node: list[Any], part: Slice, said: list[int] | None, depth: int) -> None:
        """Check a node of the tree: a leaf, or a split with all its children."""
        kind, size, self.n_nodes = node[0], part.size(), self.n_nodes + 1
        if depth > _DEEPEST or self.n_nodes > _MOST_NODES:
            raise Unreadable(f"{self.place}: a tree of more than {_MOST_NODES} nodes or {_DEEPEST} levels")
        if kind in ("b", "l", "o"):
            self.n_leaves += 1
            self.reject(node[1] == str(size), f"leaf {self.n_leaves} holds {size} inputs, not {node[1]}")
            self.leaf(node, part, said, size)
            return
        if kind == "s":
            self.divided(node, part, said, depth)
            return
        found, total = set[tuple[int, ...]](), 0
        for key, child in node[{"a": 1, "p": 2, "c": 5, "e": 3}[kind] :]:
            side = self.side(kind, key)
            inside = self.cut(node, side, part)
            # one spelling of a side only: the same child twice could stand in for another of its size
            self.reject(inside is not None and side not in found, f"a child {key} is empty or there twice")
            found.add(side)
            if inside is not None:
                total += inside.size()
                self.node(child, inside, list(side) if kind == "a" else said, depth + 1)
        self.reject(total == size, f"the children of a split hold {total} of {size} inputs")

    def divided(self, node: list[Any], part: Slice, said: list[int] | None, depth: int) -> None:
        """Check strings divided by partial sums: the parts that have one answer, then what is left over."""
        made, before = Divided(node, part, len(self._forward.weights.W_U)), self.directions
        children = dict(node[4:])
        fits = len(children) == len(node[4:]) and set(children) == {int(side) for side in np.unique(made.sides)}
        self.reject(fits and min(children) >= -1, "the sides of a division are not those of its cells")
        self.reject(int(made.counts.sum()) == part.size(), "the cells of a division do not hold its inputs")
        self.directions = [made.direction, *before]
        ranges = self._ranges(made)
        for side, child in node[4:] if fits else []:
            inside = made.inside(side)
            if inside is None:
                raise ValueError("a side of a division is empty")
            if side < 0:
                self.node(child, inside, said, depth + 1)
                continue
            self.n_leaves, size, cells = self.n_leaves + 1, made.size(side), np.flatnonzero(made.sides == side)
            is_open = child == ["o", str(size)]
            fits_size = is_open or (child[:2] == ["b", str(size)] and len(child) == 4)
            self.reject(fits_size, f"leaf {self.n_leaves} holds {size} inputs")
            bounded: Callable[[], bool] = bool  # no, unless there are ranges
            if ranges is not None and not is_open:
                bounded = partial(ranges.bounded, cells, self._margins([self.code(cell) for cell in child[3]]))
            self.leaf(child, inside, said, size, bounded)
        self.directions = before

    def _ranges(self, made: Divided) -> CellRanges | None:
        """Return the ranges of a division's cells; None where arithmetic is not real, the query is not
        one token or weights may vanish."""
        letters = [-1] if self.query is None else made.part.letters(self.query)
        is_plain = len(self.model.forward.weights.layers) == 1 and self._single is None
        if len(letters) != 1 or not is_plain:
            return None
        with np.errstate(all="ignore"):
            try:
                return CellRanges(self._attended(letters[0])[0], made, np.array(self.directions).T)
            except Unreadable:
                return None

    def code(self, cell: Any) -> int:
        """Return the code of a cell of an answer as the tree writes it."""
        return int(cell) if self.task.kind == "multilabel" else self.task.code(cell)

    def letter(self, name: str) -> int:
        """Return the number of a letter of the alphabet. Raises: ValueError if it is none."""
        return int(np.flatnonzero(self.task.alphabet == self.task.names.index(name)).item())

    def side(self, kind: str, key: Any) -> tuple[int, ...]:
        """Return a child's key as numbers: the codes of an answer, a letter, or 0 or 1."""
        if kind == "a":
            return tuple(self.code(cell) for cell in key)
        return (self.letter(key) if kind == "p" else key,)

    def cut(self, node: list[Any], side: tuple[int, ...], part: Slice) -> Slice | None:
        """Return the strings of a slice on one side of a split."""
        if node[0] == "a":
            return part.answering(list(side))
        if node[0] == "e":
            if side[0] not in (0, 1):
                raise ValueError("a side of ends is 0 or 1")
            return Remembering(part, *node[1]).ending(node[2], side[0] == 1)
        if node[0] == "p":
            return part.at(range(self.length)[node[1]], side[0])
        _, letters, start, stop, cut = node[:5]
        are_counts = all(type(n) is int for n in (start, stop, cut, *side))
        if not (are_counts and 0 <= start < stop <= self.length and 0 <= cut <= self.length and side[0] in (0, 1)):
            raise ValueError("a count of letters is out of range")
        return part.counting([self.letter(a) for a in letters], start, stop, cut, side[0] == 1)

    def leaf(
        self, node: list[Any], part: Slice, said: list[int] | None, size: int, bounded: Callable[[], bool] | None = None
    ) -> None:
        """Check a leaf and add its counts; ``bounded`` says whether our bounds confirm its answer."""
        if said is None:
            raise ValueError("a leaf is not below a split by the program's answers")
        if node[0] == "o":
            self.open.append(part)
            self.sums[2] += size
            return
        if node[0] == "l":
            self.listed(node, part, said, size)
            return
        least, answer = node[2], [self.code(cell) for cell in node[3]]
        self.reject(type(least) is float and least > 0, f"leaf {self.n_leaves} has the least margin {least}")
        drawn = self.task.alphabet[part.drawn(16)]
        cells, margin, bound, _ = self.model.answers(drawn, self.offset, drawn)
        fits = bool((cells == answer).all() and least <= float((margin + 2 * bound).min()))
        self.reject(fits, f"leaf {self.n_leaves} holds inputs of another answer or of a smaller margin")
        side = 0 if answer == said else 1
        self.sums[side] += size
        self.least = min(self.least, least)
        if fits and not (bounded or partial(self.bounded, part, answer, *node[4:]))():
            self.unproved.append(f"{self.place}, leaf {self.n_leaves}")
            self.refused.append((part, side, size))
            node[:] = ["o", str(size)]
        else:
            self.kept = min(self.kept, least)

    def listed(self, node: list[Any], part: Slice, said: list[int], size: int) -> None:
        """Evaluate every input of a leaf again."""
        if not all(type(n) is int for n in node[2:4]):
            raise ValueError("a leaf's counts are not numbers")
        if size > _MOST_LISTED:
            raise Unreadable(f"{self.place}: a leaf lists {size} inputs")
        agree = differ = doubtful = 0
        margins = [np.zeros(0)]
        for tokens in np.array_split(self.task.alphabet[part.all()], size // 4096 + 1):
            cells, margin, bound, _ = self.model.answers(tokens, self.offset, tokens)
            same, sure = (cells == said).all(axis=1), margin > bound
            agree, differ = agree + int((same & sure).sum()), differ + int((~same & sure).sum())
            doubtful += int((~(margin > 1000 * bound + 1e-6)).sum())
            self.error = max(self.error, float(bound[sure].max(initial=0.0)))
            margins.append(margin + 2 * bound)
        fits = (
            node[2] <= agree
            and node[3] <= differ
            and 0 <= size - node[2] - node[3] <= doubtful
            and node[2] >= 0 <= node[3]
        )
        self.reject(fits, f"leaf {self.n_leaves} has {agree} that agree and {differ} that differ, not {node[2:4]}")
        has_margin = node[2] + node[3] > 0
        # whichever are undecided, the least margin of so many decided inputs is at most this
        least = float(np.sort(np.concatenate(margins))[max(size - node[2] - node[3], 0) :].min(initial=math.inf))
        fits = (type(node[4]) is float and 0 < node[4] <= least + 1e-6 * least) if has_margin else node[4] is None
        self.reject(fits, f"leaf {self.n_leaves} has the least margin {least}, not {node[4]}")
        self.sums = [self.sums[0] + node[2], self.sums[1] + node[3], self.sums[2] + size - node[2] - node[3]]
        least = node[4] if has_margin else math.inf
        self.least, self.kept = min(self.least, least), min(self.kept, least)

    def witnesses(self, whole: Slice) -> tuple[int, int]:
        """Replay the inputs said to differ; return how many of them no leaf counts, and how many are in leaves that our
        bounds do not confirm."""
        rows, n_inside, n_lost = [[self.letter(name) for name in names] for names in self.entry["witnesses"]], 0, 0
        self.reject(len({tuple(row) for row in rows}) == len(rows), "an input is listed twice")
        for row in rows:
            if len(row) != self.length or not whole.holds(row):
                raise ValueError("a witness is not an input")
            cells, margin, bound, _ = self.model.answers(
                self.task.alphabet[[row]], self.offset, np.zeros((1, 1), np.int64)
            )
            state = 0
            for table, letter in zip(whole.edges, row, strict=True):
                state = int(table[state, letter])
            differs = (cells[0] != whole.labels[state]).any() and margin[0] > bound[0]
            self.reject(bool(differs), "a witness does not differ")
            n_inside += sum(part.holds(row) for part in self.open)
            n_lost += sum(part.holds(row) for part, *_ in self.refused)
        return n_inside, n_lost

    def bounded(self, part: Slice, answer: list[int], memory: list[Any] | None = None) -> bool:
        """Say whether our own bounds make every margin of an answer positive on a slice.

        Two layers need to be told what their states remember.
        """
        if len(self.model.forward.weights.layers) == 2:
            return memory is not None and self._bounded_by_states(part, answer, memory)
        return all(self._bounded(inside, letter, answer) for letter, inside in self._by_query(part))

    def _by_query(self, part: Slice) -> Iterator[tuple[int, Slice]]:
        if self.query is None:
            yield -1, part
            return
        for letter in part.letters(self.query):
            inside = part.at(self.query, letter)
            if inside is not None:
                yield letter, inside

    def _margins(self, answer: list[int]) -> Margins:
        key = tuple(answer)
        if key not in self.margins:
            self.margins[key] = Margins(
                self._forward, *decisions(self.task, self._forward.weights, answer), self._single
            )
        return self.margins[key]

    def _bounded_by_states(self, part: Slice, answer: list[int], memory: list[Any]) -> bool:
        if self._single is not None:
            raise Unreadable("bounds for two layers are for real numbers")
        if self.layered is None:
            self.layered = Layered(self.task, self._forward, self.length, self.offset)
        states = Remembering(part, *memory)
        with np.errstate(all="ignore"):
            try:
                return self.layered.bounded(states, self._margins(answer))
            except Unreadable:
                return False

    def _attended(self, letter: int) -> tuple[Attended, Attended | None]:
        if letter not in self.attended:
            place = (self.length, self.offset, self.read, letter)
            single = None if self._single is None else Attended(self.task, self._single, *place)
            self.attended[letter] = Attended(self.task, self._forward, *place), single
        return self.attended[letter]

    def _bounded(self, part: Slice, letter: int, answer: list[int]) -> bool:
        attended, single = self._attended(letter)
        with np.errstate(all="ignore"):
            try:
                found = attended.over(part)
            except Unreadable:
                return False
            start = None if single is None else single.start(part, (found.least, found.most))
            return self._margins(answer).least(*found[:6], _PIECES, start) > 0
