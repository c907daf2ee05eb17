"""The checker's own meaning of program text: an interpreter of its syntax tree on batches of strings of one length.

Values are int64 or boolean arrays that broadcast: one column for the whole string, one per position or output step; a
selector is [row, query, key]. A promise is also read left to right, as a machine of running totals.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from extract.check.language import Ints
from extract.check.reader import Unreadable

_NO_SYMBOL, UNITS, _BIG = (1 << 30) - 1, 720_720, 1 << 40
_BY_TEXT: dict[str, Any] = dict(zip(("==", "!=", "<", "<=", ">", ">="), (
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge), strict=True))  # fmt: skip
_COMPARE: dict[Any, Any] = dict(
    zip((ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE), _BY_TEXT.values(), strict=True)
)
_ARITHMETIC: dict[Any, Any] = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
                               ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod}  # fmt: skip
Lets = dict[str, ast.expr]


def parse(text: str) -> Lets:
    """Return the expression of every let and output (``output['a']`` for labels); a bare expression is ``output``.

    Raises:  Unreadable for anything but assignments of expressions.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text if len(text) <= 1 << 18 else "too long").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"program does not parse: {error}") from error
    found: Lets = {}
    for line in body:
        target = line.targets[0] if isinstance(line, ast.Assign) and len(line.targets) == 1 else None
        name = ast.unparse(target) if target is not None else "output"
        if not isinstance(line, ast.Assign | ast.Expr) or name in found or name in _WORDS:
            raise Unreadable(f"program line {line.lineno} is not a new name = an expression")
        found[name] = line.value
    return found


class Meaning:
    """The values of terms on strings of one length. ``tokens`` [row, position] are codes; ``words`` override names;
    ``code`` gives the code of a quoted name, ``numeric`` says that tokens are numbers."""

    def __init__(self, lets: Lets, code: Callable[[str], int], numeric: bool, tokens: Ints, **words: Any) -> None:
        self.lets, self.code, self.numeric, self.n_keys = lets, code, numeric, tokens.shape[1]
        key = np.arange(self.n_keys)
        self.words: dict[str, Any] = {"tokens": tokens, "indices": key[None], "length": np.array([[self.n_keys]])}
        self.words |= {"before": (key < key[:, None])[None], "upto": (key <= key[:, None])[None]}
        self.words |= {"after": (key > key[:, None])[None], "everywhere": np.ones((1, 1, self.n_keys), bool), **words}
        self.memo: dict[ast.expr, Any] = {}

    def __call__(self, node: ast.expr) -> Any:
        """Return a node's value."""
        if node not in self.memo:
            self.memo[node] = self._value(node)
        return self.memo[node]

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name) if name in self.words:
                return self.words[name]
            case ast.Name(id=name) if name in self.lets:
                return self(self.lets[name])
            case ast.Constant(value=bool() | int() as number) if abs(number) < _NO_SYMBOL:
                return np.array([[number]])
            case ast.Constant(value=str() as name):
                return np.array([[self.code(name) if name else _NO_SYMBOL]])
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return in_range(-self.number(inner))
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return ~self(inner)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                x, y = self.number(left), self.number(right)
                if isinstance(op, ast.FloorDiv | ast.Mod) and not (y > 0).all():
                    raise Unreadable("program: a divisor is not positive")
                return in_range(_ARITHMETIC[type(op)](x, y))
            case ast.BoolOp(op=op, values=values):
                return reduce(operator.and_ if isinstance(op, ast.And) else operator.or_, map(self, values))
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
                parts = [self(left), *map(self, others)]
                return reduce(operator.and_, [_COMPARE[type(op)](*parts[i : i + 2]) for i, op in enumerate(ops)])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return np.where(self(test), self(body), self(orelse))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=named) if name in _RULES:
                return _RULES[name](self, *args, **{k.arg or "": k.value for k in named})
        raise Unreadable(f"program: {ast.unparse(node)[:80]!r} is not of the language")

    def number(self, node: ast.expr) -> Any:
        """Return a value as arithmetic reads it: symbols count as 0."""
        value = self(node)
        return np.where(value >= _NO_SYMBOL, 0, value)

    def answer(self, node: ast.expr) -> Any:
        """Return a node as a real answer: a mean counts units of 1/720720, other numbers are whole; branches each.

        Whole numbers whose units reach 2^30 are no model's answers: they stay themselves, 32 bits to the left.
        """
        match node:
            case ast.Name(id=name) if name in self.lets and name not in self.words:
                return self.answer(self.lets[name])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return np.where(self(test), self.answer(body), self.answer(orelse))
            case ast.Call(func=ast.Name(id="mean")):
                return self(node)
        value = self(node)
        near = np.clip(value, -1 << 30, 1 << 30)  # nothing may wrap round to an answer
        whole = np.where(np.abs(near) * UNITS < 1 << 30, near * UNITS, near << 32)
        return np.where(value >= _NO_SYMBOL, value, whole)

    def constant(self, node: ast.expr) -> int:
        """Return the number of a literal."""
        return int(self(node).item())

    def factor(self, node: ast.expr) -> int:
        """Return the number of a literal that is no value of a term: up to 2^31."""
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -self.factor(inner)
            case ast.Constant(value=int() as number) if abs(number) <= 1 << 31:
                return number
        return self.constant(node)

    def keys(self, node: ast.expr, numbers: bool = False) -> Any:
        """Return a value at every position. Shape: [row, position]."""
        value = self.number(node) if numbers else self(node)
        return np.broadcast_to(value, (len(value), self.n_keys))

    def is_symbol(self, node: ast.expr | None) -> bool:
        """Say whether a term's values are tokens that are not numbers."""
        match node:
            case ast.Name(id="tokens"):
                return not self.numeric
            case ast.Name(id=name) if name in self.lets and name not in self.words:
                return self.is_symbol(self.lets[name])
            case ast.Constant(value=value):
                return isinstance(value, str) and not self.numeric
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_symbol(body) and self.is_symbol(orelse)
            case ast.Call(func=ast.Name(id="min" | "max" | "shift"), args=[inner, *_]):
                return self.is_symbol(inner)
            case ast.Call(func=ast.Name(id="first" | "last" | "min_over" | "max_over"), args=[_, inner, *_]):
                return self.is_symbol(inner)
            case ast.Call(func=ast.Name(id="table" | "table2"), args=args, keywords=named):
                given = [*args, *[k.value for k in sorted(named, key=lambda k: k.arg == "default")]]
                entries = next((i for i, part in enumerate(given) if isinstance(part, ast.Dict)), len(given))
                parts = [
                    *(v for part in given if isinstance(part, ast.Dict) for v in part.values),
                    *given[entries + 1 :],
                ]
                return len(given) == entries + 2 and all(map(self.is_symbol, parts))
        return False

    def default(self, values: ast.expr, given: ast.expr | None) -> Any:
        """Return the default of an empty case: as given, no symbol for symbols, else 0."""
        return np.array([[_NO_SYMBOL if self.is_symbol(values) else 0]]) if given is None else self(given)

    def look_up(self, values: list[ast.expr], entries: ast.Dict, default: ast.expr | None) -> Any:
        """Return the entry of each value or tuple of values, else the default, else 0."""
        found = np.array([[0]]) if default is None else self(default)
        for key, entry in zip(entries.keys, entries.values, strict=True):
            parts = key.elts if isinstance(key, ast.Tuple | ast.List) else [key] if key is not None else []
            hits = [self(value) == self(part) for value, part in zip(values, parts, strict=True)]
            found = np.where(reduce(operator.and_, hits), self(entry), found)
        return found

    def extreme(self, selector: ast.expr, x: ast.expr, default: ast.expr | None, sign: int) -> Any:
        """Return the least (sign 1) or greatest (sign -1) x of the keys picked."""
        least = np.where(self(selector), sign * self.keys(x)[:, None, :], _BIG).min(axis=2, initial=_BIG)
        return np.where(least < _BIG, sign * least, self.default(x, default))

    def pick(self, selector: ast.expr, x: ast.expr, default: ast.expr | None, way: int) -> Any:
        """Return x at the first (way 1) or last (way -1) key picked."""
        chosen, values = np.broadcast_arrays(self(selector)[:, :, ::way], self.keys(x)[:, None, ::way])
        if self.n_keys == 0:
            return self.default(x, default) + np.zeros(chosen.shape[:2], np.int64)
        found = np.take_along_axis(values, chosen.argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
        return np.where(chosen.any(axis=2), found, self.default(x, default))

    def shift(self, x: ast.expr, k: ast.expr, default: ast.expr | None = None) -> Any:
        """Return x as it was k positions to the left."""
        source = np.arange(self.n_keys) - self.factor(k)
        inside = (source >= 0) & (source < self.n_keys)
        return np.where(inside, self.keys(x)[:, np.where(inside, source, 0)], self.default(x, default))

    def fold(self, values: Any, step: Callable[[Any, Any], Any], start: int) -> Any:
        """Return the running value of a step function along the positions."""
        state, found = np.full(len(values), start), np.zeros(values.shape, np.int64)
        for p in range(self.n_keys):
            found[:, p] = state = step(state, values[:, p])
        return found

    def scan(self, x: ast.expr, start: Any = None, letters: Any = None, transitions: Any = None) -> Any:
        """Return the state of an automaton after each position; values that are no letter leave it as it is."""
        rows = np.array([[self.constant(t) for t in row.elts] for row in transitions.elts], np.int64)
        codes = [self.constant(letter) for letter in letters.elts]
        first = self.constant(start) if start is not None else 0
        return self.fold(
            self.keys(x), lambda s, v: np.select([v == c for c in codes], [*rows[s].T], s) if codes else s, first
        )

    def horner(self, x: ast.expr, a: ast.expr, m: ast.expr | None = None) -> Any:
        """Return r = a * r + x from the left, modulo m unless it is 0."""
        by, modulus = self.factor(a), self.factor(m) if m is not None else 0
        return in_range(self.fold(self.keys(x, True), lambda r, v: horner_step(by, modulus, r, v), 0))


def in_range(values: Any) -> Any:
    """Return what arithmetic made as it is.

    Raises:  Unreadable where a number leaves (-2^30, 2^30 - 1): the language has none, and it would be read as a symbol
        or wrap round. Arguments in that range make none that wraps before it is seen here.
    """
    if values.size and not (values.min() > -1 << 30 and values.max() < _NO_SYMBOL):
        raise Unreadable("program: a number leaves the range of 2^30")
    return values


def horner_step(by: int, modulus: int, r: Any, v: Any) -> Any:
    """Return r times a factor plus v, modulo the modulus unless it is 0."""
    return (by * r + v) % modulus if modulus else in_range(by * r + v)


def _all_different(values: Any) -> Any:
    values = np.sort(values, axis=1)
    return (values[:, 1:] != values[:, :-1]).all(axis=1, keepdims=True)


def _has_unique_mode(values: Any) -> Any:
    often = (values[:, :, None] == values[:, None, :]).sum(axis=2)
    most = often.max(axis=1, keepdims=True, initial=0)
    return (most > 0) & ((often == most).sum(axis=1, keepdims=True) == most)


def _rank(x: Any) -> Any:
    key, query, left = x[:, None, :], x[:, :, None], np.tri(x.shape[1], k=-1, dtype=bool)
    return ((key < query) | ((key == query) & left)).sum(axis=2)


_RULES: dict[str, Callable[..., Any]] = {
    "min": lambda m, *xs: reduce(np.minimum, map(m, xs)),
    "max": lambda m, *xs: reduce(np.maximum, map(m, xs)),
    "abs": lambda m, x: in_range(np.abs(m.number(x))),
    "int": lambda m, b: m(b).astype(np.int64),
    "table": lambda m, x, entries, default=None: m.look_up([x], entries, default),
    "table2": lambda m, x, y, entries, default=None: m.look_up([x, y], entries, default),
    "select": lambda m, keys, queries, relation: _BY_TEXT[relation.value](
        m.keys(keys)[:, None, :], m(queries)[:, :, None]
    ),
    "keys_where": lambda m, b: m.keys(b)[:, None, :],
    "exists": lambda m, s: m(s).any(axis=2),
    "selector_width": lambda m, s: m(s).sum(axis=2),
    "sum_over": lambda m, s, x: in_range((m(s) * m.keys(x, True)[:, None, :]).sum(axis=2)),
    "mean": lambda m, s, x: in_range(_RULES["sum_over"](m, s, x) * UNITS // np.maximum(m(s).sum(axis=2), 1)),
    "min_over": lambda m, s, x, default=None: m.extreme(s, x, default, 1),
    "max_over": lambda m, s, x, default=None: m.extreme(s, x, default, -1),
    "first": lambda m, s, x, default=None: m.pick(s, x, default, 1),
    "last": lambda m, s, x, default=None: m.pick(s, x, default, -1),
    "count": lambda m, b: m.keys(b).sum(axis=1, keepdims=True),
    "all": lambda m, b: m.keys(b).all(axis=1, keepdims=True),
    "any": lambda m, b: m.keys(b).any(axis=1, keepdims=True),
    "running_count": lambda m, b: np.cumsum(m.keys(b), axis=1),
    "rank": lambda m, x: _rank(m.keys(x)),
    "shift": Meaning.shift,
    "scan": Meaning.scan,
    "horner": Meaning.horner,
    "distinct": lambda m, x: _all_different(m.keys(x)),
    "distinct_pairs": lambda m, x: _all_different(m.keys(x)[:, :-1] * (1 << 31) + m.keys(x)[:, 1:]),
    "unique_mode": lambda m, x: _has_unique_mode(m.keys(x)),
    "increasing": lambda m, x: (m.keys(x)[:, 1:] > m.keys(x)[:, :-1]).all(axis=1, keepdims=True),
}
_WORDS = {"tokens", "indices", "length", "step", "prompt_length", "before", "upto", "after", "everywhere", *_RULES}
