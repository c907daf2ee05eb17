"""The checker's own reading of promises and programs: left to right as running totals, or else string by string."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from extract.check.language import Bools, Ints
from extract.check.program import Lets, Meaning, horner_step, in_range
from extract.check.reader import Unreadable

_Means = Callable[..., Meaning]
_PICKS = ("sum_over", "min_over", "max_over", "first", "last")
_FATAL = ("all", "distinct", "increasing")
#: Of keys that a selector picks; and automata, whose value at a position is their state.
_CHOOSERS = ("exists", "selector_width", *_PICKS)
_STEPPERS = ("scan", "horner")
#: Values at every position: totals only of what is inside another, where all others are of the whole string.
_INNER = ("running_count", *_STEPPERS)


def promise(lets: Lets, means: _Means, codes: Ints) -> Any:
    """Return the machine of a promise; ``means(lets, tokens, **words)`` evaluates, ``codes`` [letter] are tokens."""
    totals: list[ast.Call] = []
    is_streaming = _collect(lets["output"], totals, inside=False) and len(lets) == 1
    return Totals(lets, [lets["output"]], means, codes, totals) if is_streaming else Listed(lets, means, codes)


def program(lets: Lets, outputs: list[str], means: _Means, codes: Ints) -> Totals:
    """Return the machine of a program's outputs, which accepts everything; an output that is missing is never true.

    Raises:  Unreadable if an output cannot be read left to right as running totals.
    """
    inner = {name: node for name, node in lets.items() if not name.startswith("output")}
    roots, totals = [lets.get(name, ast.Constant(False)) for name in outputs], list[ast.Call]()
    for name, root in zip(outputs, roots, strict=True):
        if not _collect(root, totals, False, inner):
            raise Unreadable(f"program: {name} is none of the running totals that the checker reads left to right")
    return Totals(inner, roots, means, codes, totals, is_promise=False)


def _collect(node: ast.AST, totals: list[ast.Call], inside: bool, lets: Lets | None = None) -> bool:
    """List the running totals of a term, inner ones first; False if it cannot be read left to right."""
    if isinstance(node, ast.Name) and lets is not None and node.id in lets:
        return _collect(lets[node.id], totals, inside, lets)
    name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
    if node in totals:  # named, and used again: what it is so far is not what it is of the whole string
        return inside == (name in _INNER)
    if not isinstance(node, ast.Call) or name in ("abs", "min", "max", "int", "table", "table2"):
        return all(_collect(child, totals, inside, lets) for child in ast.iter_child_nodes(node))
    whole = name in ("count", "all", "any", "distinct", "increasing") or (
        name in _PICKS and ast.unparse(node.args[0]) == "everywhere" and not node.args[2:]
    )
    if lets is not None and name in _CHOOSERS and not inside and not node.keywords:
        return _collect_chosen(node, totals, lets)
    is_inner = name in _INNER if lets is not None else name == "running_count"
    if not (whole and not inside) and not (is_inner and inside):
        return False
    value = node.args[1] if name in _PICKS else node.args[0]
    totals.append(node) if (fits := _collect(value, totals, True, lets)) else None
    return fits and (name != "distinct" or ast.unparse(value) == "tokens")


def _collect_chosen(node: ast.Call, totals: list[ast.Call], lets: Lets) -> bool:
    """List a choice of keys, if which keys is each key's own affair and the default is written out."""
    if not all(_is_written(default) for default in node.args[2:]):
        return False
    parts = [*_key_parts(node.args[0], lets), *node.args[1:2]]
    if any(part is None or not _collect(part, totals, True, lets) for part in parts):
        return False
    totals.append(node)
    return True


def _key_parts(selector: ast.expr, lets: Lets) -> list[ast.expr | None]:
    """Return the terms on keys that a selector is made of; None among them if it looks at queries too."""
    match selector:
        case ast.Name(id="everywhere"):
            return []
        case ast.Name(id=name) if name in lets:
            return _key_parts(lets[name], lets)
        case ast.Call(func=ast.Name(id="keys_where"), args=[keys]):
            return [keys]
        case ast.Call(func=ast.Name(id="select"), args=[keys, query, _]) if _is_written(query):
            return [keys]
        case ast.BoolOp(values=values):
            return [part for value in values for part in _key_parts(value, lets)]
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return _key_parts(inner, lets)
    return [None]


def _is_written(node: ast.expr) -> bool:
    """Say whether a term is a literal."""
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant))


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

    def __init__(
        self, lets: Lets, roots: list[ast.expr], means: _Means, codes: Ints, totals: list[ast.Call],
        is_promise: bool = True,
    ) -> None:  # fmt: skip
        self._lets, self._means, self._codes, self._totals, self._length = lets, means, codes, totals, 0
        self._roots, self._is_promise = roots, is_promise
        self._names = [node.func.id for node in totals if isinstance(node.func, ast.Name)]
        bits = 1 + -(-len(codes) // 60)
        two = ("increasing", "first", "min_over", "max_over")
        self._widths = [bits if name == "distinct" else 1 + (name in two) for name in self._names]
        read = totals if is_promise else [*totals, *lets.values()]
        self.fixed = any(isinstance(n, ast.Name) and n.id == "length" for t in read for n in ast.walk(t))
        root = roots[0]
        parts = root.values if isinstance(root, ast.BoolOp) and isinstance(root.op, ast.And) else [root]
        parts = parts if is_promise else []
        self._fatal = [i for i, t in enumerate(totals) if t in parts and self._names[i] in _FATAL]

    def _columns(self, states: Ints) -> list[Ints]:
        return np.split(states, np.cumsum(self._widths)[:-1], axis=1) if self._totals else []

    def start(self, length: int) -> Ints:
        """Return the totals of the empty string. Shape: [1, width]."""
        self._length = length
        meaning, parts = self._means(self._lets, np.zeros((1, 0), np.int64)), []
        for node, name, width in zip(self._totals, self._names, self._widths, strict=True):
            first = 0 if name in ("running_count", "horner") else meaning(node).item() if name != "scan" else (
                meaning.constant(_argument(node, 1, "start") or ast.Constant(0)))  # fmt: skip
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
            x: Any = 1
            if name not in ("exists", "selector_width"):
                x = meaning.keys(node.args[1 if name in _PICKS else 0], name in ("sum_over", "horner"))
            x = np.broadcast_to(x, (len(states), 1)).astype(np.int64)
            if name in _CHOOSERS:
                chosen = np.broadcast_to(meaning(node.args[0])[:, 0], (len(states), 1))
                parts.append(np.where(chosen, _total(name, old, x, letters, position), old))
            elif name in _STEPPERS:
                parts.append(_stepped(meaning, node, old, x))
            else:
                parts.append(_total(name, old, x, letters, position))
            meaning.memo[node] = _shown(name, parts[-1])
        alive = np.ones(len(states), bool)
        for i in self._fatal:
            alive &= parts[i][:, 0] != 0
        return np.concatenate([np.zeros((len(states), 0), np.int64), *parts], axis=1), alive

    def accepts(self, states: Ints, length: int) -> Bools:
        """Ask the promise of the totals."""
        return np.asarray(self.values(states, length)[:, 0]) if self._is_promise else np.ones(len(states), bool)

    def values(self, states: Ints, length: int) -> Any:
        """Return the value of every root where the totals end. Shape: [state, root]."""
        meaning = self._means(self._lets, np.zeros((1, 0), np.int64), length=np.array([[length]]))
        for node, name, column in zip(self._totals, self._names, self._columns(states), strict=True):
            meaning.memo[node] = _shown(name, column)
        return np.column_stack([np.broadcast_to(meaning(root), (len(states), 1)) for root in self._roots])


def _shown(name: str, column: Ints) -> Any:
    """Return the value that a total's columns stand for."""
    return column[:, :1].astype(bool) if name in _FATAL or name in ("any", "exists") else column[:, :1]


def _argument(node: ast.Call, place: int, name: str) -> Any:
    """Return an argument given by place or by name, None if it is not given."""
    named = next((k.value for k in node.keywords if k.arg == name), None)
    return node.args[place] if len(node.args) > place else named


def _stepped(meaning: Meaning, node: ast.Call, old: Ints, x: Ints) -> Ints:
    """Return the state of an automaton after one more value."""
    if isinstance(node.func, ast.Name) and node.func.id == "horner":
        by, modulus = (_argument(node, i, name) for i, name in ((1, "a"), (2, "m")))
        a, m = meaning.factor(by), 0 if modulus is None else meaning.factor(modulus)
        return np.asarray(in_range(horner_step(a, m, old, x)))
    letters, transitions = _argument(node, 2, "letters"), _argument(node, 3, "transitions")
    rows = np.array([[meaning.constant(t) for t in row.elts] for row in transitions.elts], np.int64)
    codes = [meaning.constant(letter) for letter in letters.elts]
    after = old.copy()
    for column, code in reversed(list(enumerate(codes))):  # the first letter that fits counts
        after = np.where(x == code, rows[old[:, 0], column][:, None], after)
    return after


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
    if name in ("min_over", "max_over", "first"):
        value, is_seen = old[:, :1], old[:, 1:] > 0
        both = value if name == "first" else np.minimum(value, x) if name == "min_over" else np.maximum(value, x)
        return np.concatenate([np.where(is_seen, both, x), np.ones_like(x)], axis=1)
    joined: dict[str, Callable[[Ints, Ints], Any]] = {
        "all": np.bitwise_and, "any": np.bitwise_or, "exists": np.bitwise_or, "last": lambda _, now: now,
    }  # fmt: skip
    after = np.asarray(joined.get(name, np.add)(old, x))
    return np.asarray(in_range(after)) if name == "sum_over" else after
