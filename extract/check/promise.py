"""The checker's own reading of ``where`` promises: left to right as running totals, or else string by string."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from extract.check.language import Bools, Ints
from extract.check.program import Lets, Meaning

_Means = Callable[..., Meaning]
_PICKS = ("sum_over", "min_over", "max_over", "first", "last")
_FATAL = ("all", "distinct", "increasing")


def promise(lets: Lets, means: _Means, codes: Ints) -> Any:
    """Return the machine of a promise; ``means(lets, tokens, **words)`` evaluates, ``codes`` [letter] are tokens."""
    totals: list[ast.Call] = []
    is_streaming = _collect(lets["output"], totals, inside=False) and len(lets) == 1
    return Totals(lets, means, codes, totals) if is_streaming else Listed(lets, means, codes)


def running(node: ast.AST, totals: list[ast.Call], lets: Lets) -> bool:
    """List the running totals of a program's term, through the names it uses; False if there is any other part."""
    return _collect(node, totals, False, lets)


def _collect(node: ast.AST, totals: list[ast.Call], inside: bool, lets: Lets | None = None) -> bool:
    """List the running totals of a term, inner ones first; False if it cannot be read left to right."""
    if isinstance(node, ast.Name) and lets is not None and node.id in lets:
        return _collect(lets[node.id], totals, inside, lets)
    if node in totals:
        return True
    name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
    if not isinstance(node, ast.Call) or name in ("abs", "min", "max", "int", "table", "table2"):
        return all(_collect(child, totals, inside, lets) for child in ast.iter_child_nodes(node))
    whole = name in ("count", "all", "any", "distinct", "increasing") or (
        name in _PICKS and ast.unparse(node.args[0]) == "everywhere" and not node.args[2:]
    )
    if not (whole and not inside) and not (name == "running_count" and inside):
        return False
    value = node.args[1] if name in _PICKS else node.args[0]
    totals.append(node) if (fits := _collect(value, totals, True, lets)) else None
    return fits and (name != "distinct" or ast.unparse(value) == "tokens")


class Listed:
    """Every string is its own state, the number its letters spell; for promises that look both ways."""

    fixed = False

    def __init__(self, lets: Lets, means: _Means, codes: Ints) -> None:
        self._lets, self._means, self._codes = lets, means, codes

    def start(self, length: int) -> Ints:
        """Return the empty string. Shape: [1, 1]."""
        return np.zeros((1, 1), np.int64)

    def step(self, states: Ints, letters: Ints, position: int) -> tuple[Ints, Bools]:
        """Append one letter to each."""
        return states * len(self._codes) + letters[:, None], np.ones(len(states), bool)

    def accepts(self, states: Ints, length: int) -> Bools:
        """Ask the promise of each string."""
        powers = np.array([len(self._codes) ** i for i in range(length)][::-1], np.int64)
        parts = []
        for part in np.array_split(states, len(states) // 8192 + 1):
            value = self._means(self._lets, self._codes[part // powers % len(self._codes)])(self._lets["output"])
            parts.append(np.broadcast_to(value[:, 0], len(part)))
        return np.concatenate(parts)


class Totals:
    """Running totals as states: for each call a column with its value so far, and columns it needs to go on."""

    def __init__(self, lets: Lets, means: _Means, codes: Ints, totals: list[ast.Call]) -> None:
        self._lets, self._means, self._codes, self._totals, self._length = lets, means, codes, totals, 0
        self._names = [node.func.id for node in totals if isinstance(node.func, ast.Name)]
        bits = 1 + -(-len(codes) // 60)
        self._widths = [{"distinct": bits, "increasing": 2}.get(name, 1) for name in self._names]
        self.fixed = any(isinstance(n, ast.Name) and n.id == "length" for t in totals for n in ast.walk(t))
        root = lets["output"]
        parts = root.values if isinstance(root, ast.BoolOp) and isinstance(root.op, ast.And) else [root]
        self._fatal = [i for i, t in enumerate(totals) if t in parts and self._names[i] in _FATAL]

    def _columns(self, states: Ints) -> list[Ints]:
        return np.split(states, np.cumsum(self._widths)[:-1], axis=1) if self._totals else []

    def start(self, length: int) -> Ints:
        """Return the totals of the empty string. Shape: [1, width]."""
        self._length = length
        meaning, parts = self._means(self._lets, np.zeros((1, 0), np.int64)), []
        for node, name, width in zip(self._totals, self._names, self._widths, strict=True):
            first = 0 if name == "running_count" else meaning(node).item()
            parts.append(np.array([[first] + [0] * (width - 1)], np.int64))
        return np.concatenate([np.zeros((1, 0), np.int64), *parts], axis=1)

    def step(self, states: Ints, letters: Ints, position: int) -> tuple[Ints, Bools]:
        """Return the totals after one letter each, and which strings have broken no part of the promise."""
        here = np.array([[position]])
        meaning = self._means(
            self._lets, self._codes[letters][:, None], indices=here, length=np.array([[self._length]])
        )
        parts = []
        for node, name, old in zip(self._totals, self._names, self._columns(states), strict=True):
            x = meaning.keys(node.args[1 if name in _PICKS else 0], name == "sum_over")
            x = np.broadcast_to(x, (len(states), 1)).astype(np.int64)
            parts.append(_total(name, old, x, letters, position))
            meaning.memo[node] = parts[-1][:, :1].astype(bool) if name in _FATAL or name == "any" else parts[-1][:, :1]
        alive = np.ones(len(states), bool)
        for i in self._fatal:
            alive &= parts[i][:, 0] != 0
        return np.concatenate([np.zeros((len(states), 0), np.int64), *parts], axis=1), alive

    def ended(self, states: Ints, length: int) -> Meaning:
        """Return the meaning of terms where the totals end."""
        meaning = self._means(self._lets, np.zeros((1, 0), np.int64), length=np.array([[length]]))
        for node, name, column in zip(self._totals, self._names, self._columns(states), strict=True):
            meaning.memo[node] = column[:, :1].astype(bool) if name in _FATAL or name == "any" else column[:, :1]
        return meaning

    def accepts(self, states: Ints, length: int) -> Bools:
        """Ask the promise of the totals."""
        return np.broadcast_to(self.ended(states, length)(self._lets["output"])[:, 0], len(states))


def _total(name: str, old: Ints, x: Ints, letters: Ints, position: int) -> Ints:
    """Return the columns of one total after the value x of one more position."""
    if name == "distinct":
        after, cell = old.copy(), 1 + letters // 60
        rows, bit = np.arange(len(old)), np.int64(1) << (letters % 60)
        after[:, 0] &= after[rows, cell] & bit == 0
        after[rows, cell] |= bit
        return after * after[:, :1]
    if name == "increasing":
        after = np.concatenate([old[:, :1] & ((x > old[:, 1:]) | (position == 0)), x], axis=1)
        return after * after[:, :1]
    if name in ("min_over", "max_over", "first") and position == 0:
        return x
    joined: dict[str, Callable[[Ints, Ints], Any]] = {
        "all": np.bitwise_and, "any": np.bitwise_or, "min_over": np.minimum, "max_over": np.maximum,
        "first": lambda before, _: before, "last": lambda _, now: now,
    }  # fmt: skip
    return np.asarray(joined.get(name, np.add)(old, x))
