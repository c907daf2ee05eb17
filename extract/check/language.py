"""The checker's own counting and listing of strings: regular expressions, automata, graphs of reachable states.

A machine reads letters (indices into the alphabet) left to right; its states are rows of integers: ``start``, ``step``
(the next states, and which can still be accepted), ``accepts``; ``fixed`` if they depend on the length of the string.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.check.reader import Unreadable

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MAX_STATES = 1 << 21
_CAP = 1 << 61
_WORD: Any = ("star", ("any", frozenset()))
_ONE = r"'([^']*)'|(<[^>']*>)|\\(.)|([^\\])"
_LEX = re.compile(
    r"\s+|\[(\^?)((?:\\.|\](?=[^\]]*\])|[^\]\\])(?:\\.|[^\]\\])*)\]|\{\s*(\d+)\s*(,?)\s*(\d*)\s*\}|" + _ONE
)


class Table:
    """A finite automaton as a machine; ``rows`` [state][letter] with -1 for no way on."""

    fixed = False

    def __init__(self, rows: list[list[int]], accepting: list[bool], start: int = 0) -> None:
        self._rows, self._accepting, self._start = np.array(rows, np.int64), np.array(accepting, bool), start

    def start(self, length: int) -> Ints:
        """Return the start state. Shape: [1, 1]."""
        return np.array([[self._start]], np.int64)

    def step(self, states: Ints, letters: Ints, position: int) -> tuple[Ints, Bools]:
        """Return the states after one letter each, and which of them exist."""
        after = self._rows[states[:, 0], letters]
        return after[:, None], after >= 0

    def accepts(self, states: Ints, length: int) -> Bools:
        """Say which states accept."""
        return np.asarray(self._accepting[states[:, 0]])


class Strings:
    """The strings over ``n_letters`` that every machine accepts, in lexicographic order by length."""

    def __init__(self, machines: list[Any], n_letters: int) -> None:
        self.machines, self._n_letters = machines, n_letters
        self._layers: dict[int, tuple[list[Ints], list[list[Ints]]]] = {}
        self._counts: dict[int, list[Any]] = {}

    def states(self, length: int) -> tuple[list[Ints], list[list[Ints]]]:
        """Return the edges [state, letter] (-1: rejected) and every machine's states, by depth."""
        return self._explore(length)

    def _explore(self, length: int) -> tuple[list[Ints], list[list[Ints]]]:
        """The edges [state, letter] (-1: rejected) and every machine's states, by depth."""
        key = length if any(m.fixed for m in self.machines) else -1
        edges, layers = self._layers.setdefault(key, ([], [[m.start(length) for m in self.machines]]))
        for p in range(len(edges), length):
            n = len(layers[p][0]) if layers[p] else 1
            letters, alive, after = np.tile(np.arange(self._n_letters), n), np.ones(n * self._n_letters, bool), []
            for machine, states in zip(self.machines, layers[p], strict=True):
                moved, able = machine.step(np.repeat(states, self._n_letters, axis=0), letters, p)
                after.append(moved)
                alive &= able
            target = np.full(len(letters), -1, np.int64)
            rows = np.column_stack([np.zeros(len(letters), np.int64), *after])[alive]
            distinct, target[alive] = np.unique(rows, axis=0, return_inverse=True)
            if len(distinct) > _MAX_STATES:
                raise Unreadable(f"the promise needs more than {_MAX_STATES} states at length {length}")
            edges.append(target.reshape(n, self._n_letters))
            cuts = np.cumsum([1] + [moved.shape[1] for moved in after])[:-1]
            layers.append(np.split(distinct, cuts, axis=1)[1:] if after else [])
        return edges, layers

    def graph(self, length: int) -> tuple[list[Ints], list[Ints], Bools]:
        """Return the edges by depth [state, letter] (-1: rejected), every machine's last states, and which accept."""
        edges, layers = self._explore(length)
        accepted = np.ones(len(layers[length][0]) if self.machines else 1, bool)
        for machine, states in zip(self.machines, layers[length], strict=True):
            accepted &= machine.accepts(states, length)
        return edges[:length], layers[length], accepted

    def _tails(self, length: int) -> list[Any]:
        """For each depth, how many accepted strings of this length go on from each state, as exact integers."""
        if length not in self._counts:
            edges, _, accepted = self.graph(length)
            tails: list[Any] = [accepted.astype(np.int64).astype(object)]
            for p in reversed(range(length)):
                tails.append(np.append(tails[-1], 0)[edges[p]].sum(axis=1))
            self._counts[length] = tails[::-1]
        return self._counts[length]

    def size(self, length: int) -> int:
        """Return the exact number of strings of a length."""
        return int(self._tails(length)[0].sum())

    def letters(self, length: int, ranks: Ints) -> Ints:
        """Return the strings of the given ranks. Shape: [rank, length]."""
        edges, tails = self._explore(length)[0], self._tails(length)
        left, state, found = ranks.copy(), np.zeros(len(ranks), np.int64), np.zeros((len(ranks), length), np.int64)
        for p in range(length):
            capped = np.append(np.minimum(tails[p + 1], _CAP // self._n_letters), 0).astype(np.int64)
            below = np.cumsum(capped[edges[p]], axis=1)
            found[:, p] = letter = (below[state] <= left[:, None]).sum(axis=1)
            left -= np.where(letter > 0, below[state, letter - 1], 0)
            state = edges[p][state, letter]
        return found

    def rank(self, letters: list[int]) -> int:
        """Return the rank of a string among those of its length, or -1 if it is not accepted."""
        edges, tails, state, rank = self._explore(len(letters))[0], self._tails(len(letters)), 0, 0
        for p, letter in enumerate(letters):
            counts = np.append(tails[p + 1], 0)[edges[p][state]]
            if counts[letter] == 0:
                return -1
            rank, state = rank + int(counts[:letter].sum()), int(edges[p][state, letter])
        return rank if tails[-1][state] else -1


def regular(text: str, names: list[str], prefixes: bool) -> Table:
    """Return the automaton of a regular expression over token names, or of all prefixes of its words.

    Its states are sets of partial derivatives (Antimirov 1996).
    """
    first = frozenset([_Parser(text, names).whole()])
    found, rows = {first: 0}, []
    for state in (queue := [first]):
        after = [frozenset(t for term in state for t in _derive(term, a)) for a in range(len(names))]
        for target in after:
            if target and target not in found:
                found[target] = len(found)
                queue.append(target)
        rows.append([found[target] if target else -1 for target in after])
        if len(found) > 1 << 15:
            raise Unreadable(f"regular expression {text!r}: too many states")
    accepting: list[bool] = []
    grown = [any(map(_empty, state)) for state in queue]
    while grown != accepting:
        accepting = grown
        grown = [
            a or (prefixes and any(t >= 0 and accepting[t] for t in r)) for a, r in zip(accepting, rows, strict=True)
        ]
    return Table(rows, accepting)


def _empty(term: Any) -> bool:
    kind, *parts = term
    return (
        kind == "star" or (kind == "or" and any(map(_empty, parts[0]))) or (kind == "then" and all(map(_empty, parts)))
    )


def _then(left: Any, right: Any) -> Any:
    return right if left == _WORD else left if right == _WORD else ("then", left, right)


def _derive(term: Any, letter: int) -> set[Any]:
    kind, *parts = term
    if kind == "any":
        return {_WORD} if letter in parts[0] else set()
    if kind == "or":
        return {t for part in parts[0] for t in _derive(part, letter)}
    found = {_then(t, term if kind == "star" else parts[1]) for t in _derive(parts[0], letter)}
    return found | _derive(parts[1], letter) if kind == "then" and _empty(parts[0]) else found


class _Parser:
    """Recursive descent over a regular expression; terms are (any, letters), (then, a, b), (or, set), (star, a)."""

    def __init__(self, text: str, names: list[str]) -> None:
        self._text, self._names = text, names
        found = list(_LEX.finditer(text))
        if sum(len(m.group()) for m in found) != len(text):
            raise self._fail()
        self._items = [m for m in reversed(found) if not m.group().isspace()]

    def _fail(self) -> Unreadable:
        return Unreadable(f"regular expression {self._text!r} is not one over the tokens of the alphabet")

    def _letter(self, name: str) -> int:
        if name not in self._names:
            raise self._fail()
        return self._names.index(name)

    def _peek(self) -> str:
        return self._items[-1].group() if self._items else ""

    def whole(self) -> Any:
        """Return the term of the whole text. Raises: Unreadable."""
        term = self._alternatives()
        if self._items:
            raise self._fail()
        return term

    def _alternatives(self) -> Any:
        parts = [self._sequence()]
        while self._peek() == "|":
            self._items.pop()
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else ("or", frozenset(parts))

    def _sequence(self) -> Any:
        items, term = [], _WORD
        while self._peek() not in ("", "|", ")"):
            items.append(self._repeated())
        for item in reversed(items):
            term = _then(item, term)
        return term

    def _repeated(self) -> Any:
        term = self._item()
        while self._items and (self._peek() in ("*", "+", "?") or self._items[-1].group(3)):
            sign, (least, comma, most) = self._peek(), self._items.pop().groups()[2:5]
            low = int(least or sign == "+")
            high = 1 if sign == "?" else int(most) if most else low if least and not comma else None
            if max(low, high or 0) > 200 or (high is not None and high < low):
                raise self._fail()
            tail = _WORD if high is not None else ("star", term)
            for _ in range(high - low if high is not None else 0):
                tail = ("or", frozenset([_WORD, _then(term, tail)]))
            for _ in range(low):
                tail = _then(term, tail)
            term = tail
        return term

    def _item(self) -> Any:
        item = self._items.pop()
        excludes, inside, _, _, _, *one = item.groups()
        name = next((part for part in one if part is not None), "")
        if inside is not None:
            chosen = self._one_of(inside)
            return ("any", frozenset(range(len(self._names))) - chosen if excludes else chosen)
        if one[3] == "(":
            term = self._alternatives()
            if self._peek() != ")":
                raise self._fail()
            self._items.pop()
            return term
        if one[3] is not None and one[3] in ".*+?{})]|":
            if name != ".":
                raise self._fail()
            return ("any", frozenset(range(len(self._names))))
        return ("any", frozenset([self._letter(name)]))

    def _one_of(self, inside: str) -> frozenset[int]:
        chosen: set[int] = set()
        parts = [next(g for g in m.groups() if g is not None) for m in re.finditer(_ONE, inside, re.DOTALL)]
        i = 0
        while i < len(parts):
            name = parts[i]
            i += 1
            if name.isspace() and name not in self._names:
                continue
            chosen.add(self._letter(name))
            if i + 1 < len(parts) and parts[i] == "-":
                self._letter(last := parts[i + 1])
                chosen |= {j for j, n in enumerate(self._names) if len(n) == 1 and name <= n <= last}
                i += 2
        return frozenset(chosen)
