"""One row per operator: its arguments, its sort, its cost, its sentence, its empty case and its surface syntax.

Every meaning (interpreter, batches, machines, emitted Python, solver encodings) follows these rows. Predicates take
(key, query), always in this order. This room knows no inputs and evaluates nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from extract.vocabulary import SYMBOL_BASE, UNITS

#: The code of "no symbol", written ``''``: equal to no token, before every symbol in order. Never ABSENT.
NO_SYMBOL = SYMBOL_BASE - 1
#: Means are integers in units of 1/720720 (the least common multiple of 1..16), rounded down. Fractions whose
#: denominators multiply to at most 720720 stay distinct and in order, so comparing means is exact up to width 848.
MEAN_SCALE = UNITS
#: The six predicates of ``select``, read as ``key <predicate> query``.
RELATIONS = ("==", "!=", "<", "<=", ">", ">=")

ArgumentKind = Literal["I", "B", "S", "IB", "BS"]
TagRule = Literal["any", "number", "comparable"]
ResultTag = Literal["T", "N", "Z", "", "joined", "data"]
ShapeRule = Literal["whole", "position", "step", "joined", "query", "selected"]


@dataclass(frozen=True, slots=True)
class Argument:
    """What one argument must be.

    ``kind`` lists the kinds allowed. ``along`` says which axis it is read on: the ``answer``'s (elementwise, queries)
    or the input's ``positions`` (keys, running values). A ``number`` may be used in arithmetic; the ``comparable``
    arguments of one operator must agree on being tokens or numbers.
    """

    name: str
    kind: ArgumentKind
    along: Literal["answer", "positions"] = "answer"
    tag: TagRule = "any"
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the language. ``data`` names the constants a term of this operator carries, in order."""

    name: str
    arguments: tuple[Argument, ...]
    data: tuple[str, ...]
    result: Literal["I", "B", "S", "same"]
    tag: ResultTag
    shape: ShapeRule
    cost: int
    surface: str
    sentence: str
    empty: str

    @property
    def n_required(self) -> int:
        """The least number of arguments."""
        return sum(not argument.optional for argument in self.arguments)


_NEVER = "never out of range"


def _leaf(name: str, tag: ResultTag, shape: ShapeRule, sentence: str) -> Operator:
    return Operator(name, (), (), "I", tag, shape, 1, name, sentence, _NEVER)


def _number(name: str) -> Argument:
    return Argument(name, "I", tag="number")


def _value(name: str, tag: TagRule = "comparable") -> Argument:
    return Argument(name, "I", "positions", tag)


_DEFAULT = Argument("default", "I", optional=True, tag="comparable")
_SELECTOR = Argument("selector", "S")
_BOOLEANS = Argument("b", "B", "positions")
_COMPARED = (Argument("x", "I", tag="comparable"), Argument("y", "I", tag="comparable"))
_DEFAULT_CASE = "the default; omitted: 0, or no symbol where the values are tokens that are not numbers"

_LEAVES = (
    _leaf("tokens", "T", "position", "the input's token at each position"),
    _leaf("indices", "N", "position", "each position's index, from 0"),
    _leaf("length", "N", "whole", "the number of tokens of the input"),
    _leaf("step", "N", "step", "the index of the output being generated, from 0"),
    _leaf("prompt_length", "N", "whole", "the number of tokens before the first generated one (step adapter only)"),
    Operator("integer", (), ("value",), "I", "data", "whole", 1, "3", "an integer constant", _NEVER),
    Operator(
        "symbol",
        (),
        ("name",),
        "I",
        "T",
        "whole",
        1,
        "'a'",
        "the token or output of this name; '' is no symbol",
        _NEVER,
    ),
    Operator("boolean", (), ("value",), "B", "", "whole", 1, "True", "true (1) or false (0)", _NEVER),
)


def _arithmetic(name: str, sentence: str, *, surface: str = "") -> Operator:
    arguments = (_number("x"), _number("y"))
    return Operator(name, arguments, (), "I", "Z", "joined", 1, surface or f"x {name} y", sentence, _NEVER)


_ELEMENTWISE = (
    _arithmetic("+", "the sum"),
    _arithmetic("-", "the difference"),
    _arithmetic("*", "the product"),
    _arithmetic("//", "the quotient rounded down; the divisor is a constant above 0", surface="x // 3"),
    _arithmetic("%", "the remainder, never negative; the divisor is a constant above 0", surface="x % 3"),
    Operator(
        "min", _COMPARED, (), "I", "joined", "joined", 1, "min(x, y)", "the smaller; symbols in order of name", _NEVER
    ),
    Operator(
        "max", _COMPARED, (), "I", "joined", "joined", 1, "max(x, y)", "the larger; symbols in order of name", _NEVER
    ),
    Operator("abs", (_number("x"),), (), "I", "Z", "joined", 1, "abs(x)", "the absolute value", _NEVER),
    Operator("int", (Argument("b", "B"),), (), "I", "N", "joined", 1, "int(b)", "1 where b holds, else 0", _NEVER),
    Operator(
        "if",
        (Argument("condition", "B"), Argument("then", "IB"), Argument("otherwise", "IB")),
        (), "same", "joined", "joined", 1, "x if b else y", "x where b holds, else y", _NEVER,
    ),
    Operator("==", _COMPARED, (), "B", "", "joined", 1, "x == y", "equal; != is its negation", _NEVER),
    Operator(
        "<", _COMPARED, (), "B", "", "joined", 1, "x < y",
        "less; symbols in order of name; y > x is the same", _NEVER,
    ),
    Operator("<=", _COMPARED, (), "B", "", "joined", 1, "x <= y", "at most; y >= x is the same", _NEVER),
    Operator(
        "and", (Argument("a", "BS"), Argument("b", "BS")), (), "same", "", "joined", 1, "a and b",
        "both, of booleans or of selectors", _NEVER,
    ),
    Operator(
        "or", (Argument("a", "BS"), Argument("b", "BS")), (), "same", "", "joined", 1, "a or b",
        "either, of booleans or of selectors", _NEVER,
    ),
    Operator(
        "not", (Argument("a", "BS"),), (), "same", "", "joined", 1, "not a",
        "the negation; of a selector: the keys it does not pick", _NEVER,
    ),
    Operator(
        "table", (Argument("x", "I"),), ("entries", "default"), "I", "data", "joined", 1,
        "table(x, {'a': 1, 'b': 2}, 0)", "the entry listed for x",
        "the default where x is not listed (omitted in the text: 0)",
    ),
    Operator(
        "table2", (Argument("x", "I"), Argument("y", "I")), ("entries", "default"), "I", "data", "joined", 1,
        "table2(x, y, {('a', 1): 2}, 0)", "the entry listed for the pair (x, y)",
        "the default where the pair is not listed (omitted in the text: 0)",
    ),
)  # fmt: skip

_SELECTORS = (
    Operator(
        "select",
        (Argument("keys", "I", "positions", "comparable"), Argument("queries", "I", tag="comparable")),
        ("relation",), "S", "", "selected", 1, "select(keys, queries, '==')",
        "the keys for which `key relation query` holds", "picks nothing where no key fits",
    ),
    Operator(
        "before", (), (), "S", "", "position", 1, "before",
        "the positions left of the query", "picks nothing at index 0",
    ),
    Operator("upto", (), (), "S", "", "position", 1, "upto", "the positions left of the query, and itself", _NEVER),
    Operator(
        "after", (), (), "S", "", "position", 1, "after",
        "the positions right of the query", "picks nothing at the last index",
    ),
    Operator(
        "everywhere", (), (), "S", "", "whole", 1, "everywhere",
        "every position", "picks nothing in an empty input",
    ),
    Operator(
        "keys_where", (_BOOLEANS,), (), "S", "", "whole", 1, "keys_where(b)", "the positions where b holds",
        "picks nothing where b never holds",
    ),
)  # fmt: skip


def _picked(name: str, sentence: str) -> Operator:
    arguments = (_SELECTOR, _value("values"), _DEFAULT)
    surface = f"{name}(selector, x, default)"
    return Operator(name, arguments, (), "I", "joined", "query", 1, surface, sentence, _DEFAULT_CASE)


_AGGREGATES = (
    Operator("exists", (_SELECTOR,), (), "B", "", "query", 1, "exists(selector)", "whether any key is picked", "false"),
    Operator(
        "selector_width", (_SELECTOR,), (), "I", "N", "query", 1, "selector_width(selector)",
        "how many keys are picked", "0",
    ),
    Operator(
        "sum_over", (_SELECTOR, _value("values", "number")), (), "I", "Z", "query", 1, "sum_over(selector, x)",
        "the sum of x over the keys picked", "0",
    ),
    Operator(
        "mean", (_SELECTOR, _value("values", "number")), (), "I", "Z", "query", 1, "mean(selector, x)",
        "the mean of x over the keys picked, in units of 1/720720, rounded down", "0",
    ),
    _picked("min_over", "the least x over the keys picked"),
    _picked("max_over", "the greatest x over the keys picked"),
    _picked("first", "x at the first key picked"),
    _picked("last", "x at the last key picked"),
    Operator(
        "count", (_BOOLEANS,), (), "I", "N", "whole", 1, "count(b)",
        "how many positions of the input satisfy b", "0",
    ),
    Operator(
        "all", (_BOOLEANS,), (), "B", "", "whole", 1, "all(b)",
        "whether b holds at every position of the input", "true",
    ),
    Operator(
        "any", (_BOOLEANS,), (), "B", "", "whole", 1, "any(b)",
        "whether b holds at some position of the input", "false",
    ),
)  # fmt: skip

_RUNNING = (
    Operator(
        "running_count", (_BOOLEANS,), (), "I", "N", "position", 1, "running_count(b)",
        "how many positions up to and including this one satisfy b", _NEVER,
    ),
    Operator(
        "rank", (_value("x", "any"),), (), "I", "N", "position", 1, "rank(x)",
        "how many positions have a smaller x, or an equal x further left", _NEVER,
    ),
    Operator(
        "shift", (_value("x"), _DEFAULT), ("k",), "I", "joined", "position", 1,
        "shift(x, 1, default)", "x as it was k positions to the left (to the right for k below 0)", _DEFAULT_CASE,
    ),
    Operator(
        "scan", (_value("x", "any"),), ("start", "letters", "transitions"), "I", "N", "position", 0,
        "scan(x, start=0, letters=('a', 'b'), transitions=((0, 1), (1, 0)))",
        "the state of an automaton after reading x from the left up to this position; transitions[state][letter]",
        "an x that is not a listed letter leaves the state as it is",
    ),
    Operator(
        "horner", (_value("x", "number"),), ("a", "m"), "I", "Z", "position", 1, "horner(x, 10, 7)",
        "r = a*r + x from the left, starting at 0, modulo m; m = 0 (omitted in the text) takes no remainder", _NEVER,
    ),
)  # fmt: skip

_PROMISES = (
    Operator(
        "distinct", (_value("x", "any"),), (), "B", "", "whole", 4, "distinct(x)",
        "whether no value of x occurs twice", "true",
    ),
    Operator(
        "distinct_pairs", (_value("x", "any"),), (), "B", "", "whole", 5, "distinct_pairs(x)",
        "whether no ordered pair of neighbours (x[i], x[i+1]) occurs twice", "true below length 2",
    ),
    Operator(
        "unique_mode", (_value("x", "any"),), (), "B", "", "whole", 6, "unique_mode(x)",
        "whether one value of x occurs more often than every other", "false",
    ),
    Operator(
        "increasing", (_value("x", "any"),), (), "B", "", "whole", 4, "increasing(x)",
        "whether x grows strictly from each position to the next", "true below length 2",
    ),
)  # fmt: skip

#: Every operator by name, in the order of the language's description.
OPERATORS: dict[str, Operator] = {
    row.name: row for row in (*_LEAVES, *_ELEMENTWISE, *_SELECTORS, *_AGGREGATES, *_RUNNING, *_PROMISES)
}
#: Operators that combine what a selector picks.
AGGREGATE_NAMES: frozenset[str] = frozenset(
    row.name for row in _AGGREGATES if row.arguments and row.arguments[0] == _SELECTOR
)
#: Aggregates (and ``shift``) with an optional default as their last argument.
DEFAULTED_NAMES: frozenset[str] = frozenset({"first", "last", "min_over", "max_over", "shift"})
#: Names written as a bare word, not as a call.
WORDS: frozenset[str] = frozenset(row.name for row in OPERATORS.values() if row.surface == row.name)
