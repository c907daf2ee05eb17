"""The symbolic meaning of terms: what every operator makes of an unknown input of one known length.

Each operator's row (``extract.lang.operators``) becomes gates of a ``Circuit``; the reference interpreter is the
definition it must agree with. This room refuses to know programs, domains and solvers.
"""

from __future__ import annotations

import operator as python
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import TypeVar

from extract.lang.elementwise import constant_code, number, table_codes
from extract.lang.interpret import default_code
from extract.lang.operators import MEAN_SCALE, OPERATORS
from extract.lang.sorts import sort_of
from extract.lang.terms import Datum, Term
from extract.verify.circuit import FALSE, TRUE, Circuit, Guarded, Literal, constant
from extract.verify.sequences import (
    are_distinct,
    are_neighbours_distinct,
    has_unique_mode,
    is_increasing,
    rank,
    running,
)
from extract.vocabulary import Vocabulary

Cell = TypeVar("Cell")
Shape = OneOf["whole", "position", "step"]

_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "==": python.eq,
    "!=": python.ne,
    "<": python.lt,
    "<=": python.le,
    ">": python.gt,
    ">=": python.ge,
}
_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "+": python.add,
    "-": python.sub,
    "*": python.mul,
    "//": python.floordiv,
    "%": python.mod,
    "min": min,
    "max": max,
}


@dataclass(frozen=True, slots=True)
class Integers:
    """An integer per cell: one cell for a whole value, one per position, or one per output index."""

    shape: Shape
    cells: tuple[Guarded, ...]


@dataclass(frozen=True, slots=True)
class Booleans:
    """A literal per cell, cells as in ``Integers``."""

    shape: Shape
    cells: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Selections:
    """A literal per query and key; ``shape`` is the queries', keys are positions."""

    shape: Shape
    rows: tuple[tuple[Literal, ...], ...]


Meaning = Integers | Booleans | Selections


class SymbolicInput:
    """An input of known length whose tokens are integers of a circuit; terms are given their meaning once.

    ``n_steps`` is the number of output indices of ``step``-shaped terms, ``n_prompt`` the value of ``prompt_length``.
    """

    def __init__(
        self,
        circuit: Circuit,
        tokens: Sequence[Guarded],
        vocabulary: Vocabulary,
        *,
        n_steps: int = 0,
        n_prompt: int | None = None,
    ) -> None:
        self.circuit = circuit
        self.tokens = tuple(tokens)
        self.vocabulary = vocabulary
        self.n_steps = n_steps
        self.n_prompt = len(self.tokens) if n_prompt is None else n_prompt
        self._known: dict[Term, Meaning] = {}

    @property
    def length(self) -> int:
        """The number of tokens."""
        return len(self.tokens)

    def meaning(self, term: Term) -> Meaning:
        """Return the meaning of a well-sorted term.

        Raises:  BudgetError if it needs more gates or values than the circuit allows.
        """
        for part in term.subterms():
            if part not in self._known:
                self._known[part] = OPERATOR_MEANINGS[part.operator](self, part)
        return self._known[term]

    def integers(self, term: Term, shape: Shape | None = None) -> tuple[Guarded, ...]:
        """Return the cells of an integer term, repeated to a shape."""
        found = self.meaning(term)
        if not isinstance(found, Integers):
            raise TypeError(f"{term.operator} is not an integer")
        return self._repeat(found.cells, found.shape, shape)

    def argument(self, term: Term, i: int, shape: Shape | None = None) -> tuple[Guarded, ...]:
        """Return the cells of an integer argument as the operator's row reads it: a symbol in arithmetic is 0."""
        cells = self.integers(term.arguments[i], shape)
        if OPERATORS[term.operator].arguments[i].tag != "number":
            return cells
        return tuple(Guarded(cell.guards, tuple(map(number, cell.values))) for cell in cells)

    def booleans(self, term: Term, shape: Shape | None = None) -> tuple[Literal, ...]:
        """Return the cells of a boolean term, repeated to a shape."""
        found = self.meaning(term)
        if not isinstance(found, Booleans):
            raise TypeError(f"{term.operator} is not a boolean")
        return self._repeat(found.cells, found.shape, shape)

    def selections(self, term: Term, shape: Shape | None = None) -> tuple[tuple[Literal, ...], ...]:
        """Return the rows of a selector, repeated to a shape of queries."""
        found = self.meaning(term)
        if not isinstance(found, Selections):
            raise TypeError(f"{term.operator} is not a selector")
        return self._repeat(found.rows, found.shape, shape)

    def code(self, datum: Datum) -> int:
        """Return the code of a constant: an integer itself, a name's symbol."""
        return constant_code(datum, self.vocabulary)

    def n_cells(self, shape: Shape) -> int:
        """Return the number of cells of a shape."""
        return {"whole": 1, "position": self.length, "step": self.n_steps}[shape]

    def joined(self, *terms: Term) -> Shape:
        """Return the shape of an elementwise combination."""
        shapes = [self.meaning(term).shape for term in terms]
        return next((shape for shape in shapes if shape != "whole"), "whole")

    def _repeat(self, cells: tuple[Cell, ...], have: Shape, want: Shape | None) -> tuple[Cell, ...]:
        if want is None or want == have:
            return cells
        if have != "whole":
            raise TypeError(f"a {have} value where a {want} value is expected")
        return cells * self.n_cells(want)

    def default(self, term: Term, n_required: int, shape: Shape) -> tuple[Guarded, ...]:
        """Return the default of an operator that has one: its last argument, or what an omitted one means."""
        if len(term.arguments) > n_required:
            return self.integers(term.arguments[n_required], shape)
        code = default_code(sort_of(term.arguments[-1], self.vocabulary), self.vocabulary)
        return (constant(code),) * self.n_cells(shape)


# -- leaves and elementwise ----------------------------------------------------------------------------------------


def _leaf(x: SymbolicInput, term: Term) -> Meaning:
    match term.operator:
        case "tokens":
            return Integers("position", x.tokens)
        case "indices":
            return Integers("position", tuple(constant(i) for i in range(x.length)))
        case "step":
            return Integers("step", tuple(constant(i) for i in range(x.n_steps)))
        case "length":
            return Integers("whole", (constant(x.length),))
        case "prompt_length":
            return Integers("whole", (constant(x.n_prompt),))
        case "boolean":
            return Booleans("whole", (TRUE if term.data[0] else FALSE,))
    return Integers("whole", (constant(x.code(term.data[0])),))


def _arithmetic(x: SymbolicInput, term: Term) -> Meaning:
    function, shape = _ARITHMETIC[term.operator], x.joined(*term.arguments)
    left, right = x.argument(term, 0, shape), x.argument(term, 1, shape)
    return Integers(shape, tuple(x.circuit.apply(function, a, b) for a, b in zip(left, right, strict=True)))


def _absolute(x: SymbolicInput, term: Term) -> Meaning:
    shape = x.joined(*term.arguments)
    cells = x.argument(term, 0)
    return Integers(shape, tuple(Guarded(a.guards, tuple(map(abs, a.values))) for a in cells))


def _integer_of(x: SymbolicInput, term: Term) -> Meaning:
    cells = x.booleans(term.arguments[0])
    return Integers(x.joined(*term.arguments), tuple(map(x.circuit.truth, cells)))


def _if(x: SymbolicInput, term: Term) -> Meaning:
    condition, yes, no = term.arguments
    shape = x.joined(*term.arguments)
    conditions = x.booleans(condition, shape)
    if isinstance(x.meaning(yes), Booleans):
        either = zip(conditions, x.booleans(yes, shape), x.booleans(no, shape), strict=True)
        return Booleans(shape, tuple(x.circuit.mux(c, a, b) for c, a, b in either))
    numbers = zip(conditions, x.integers(yes, shape), x.integers(no, shape), strict=True)
    return Integers(shape, tuple(x.circuit.select(c, a, b) for c, a, b in numbers))


def _comparison(x: SymbolicInput, term: Term) -> Meaning:
    relation, shape = _RELATIONS[term.operator], x.joined(*term.arguments)
    left, right = (x.integers(argument, shape) for argument in term.arguments)
    return Booleans(shape, tuple(x.circuit.compare(a, b, relation) for a, b in zip(left, right, strict=True)))


def _connective(x: SymbolicInput, term: Term) -> Meaning:
    combine = x.circuit.both if term.operator == "and" else x.circuit.either
    shape = x.joined(*term.arguments)
    if isinstance(x.meaning(term.arguments[0]), Selections):
        left, right = (x.selections(argument, shape) for argument in term.arguments)
        return Selections(shape, tuple(tuple(map(combine, a, b)) for a, b in zip(left, right, strict=True)))
    return Booleans(shape, tuple(map(combine, *(x.booleans(argument, shape) for argument in term.arguments))))


def _not(x: SymbolicInput, term: Term) -> Meaning:
    found = x.meaning(term.arguments[0])
    if isinstance(found, Selections):
        return Selections(found.shape, tuple(tuple(a ^ 1 for a in row) for row in found.rows))
    return Booleans(found.shape, tuple(a ^ 1 for a in x.booleans(term.arguments[0])))


def _table(x: SymbolicInput, term: Term) -> Meaning:
    known, otherwise = table_codes(term.data[0], x.vocabulary), x.code(term.data[1])
    shape = x.joined(*term.arguments)
    first, *rest = (x.integers(argument, shape) for argument in term.arguments)
    if not rest:
        cells = (Guarded(a.guards, tuple(known.get(v, otherwise) for v in a.values)) for a in first)
        return Integers(shape, tuple(cells))
    pairs = zip(first, rest[0], strict=True)
    return Integers(shape, tuple(x.circuit.apply(lambda v, w: known.get((v, w), otherwise), a, b) for a, b in pairs))


# -- selectors and aggregates --------------------------------------------------------------------------------------


def _select(x: SymbolicInput, term: Term) -> Meaning:
    relation = _RELATIONS[str(term.data[0])]
    keys, queries = x.integers(term.arguments[0], "position"), x.integers(term.arguments[1])
    rows = tuple(tuple(x.circuit.compare(key, query, relation) for key in keys) for query in queries)
    return Selections(x.joined(term.arguments[1]), rows)


def _mask(x: SymbolicInput, term: Term) -> Meaning:
    if term.operator == "everywhere":
        return Selections("whole", ((TRUE,) * x.length,))
    if term.operator == "keys_where":
        return Selections("whole", (x.booleans(term.arguments[0], "position"),))
    relation = {"before": python.lt, "upto": python.le, "after": python.gt}[term.operator]
    cells = range(x.length)
    return Selections("position", tuple(tuple(TRUE if relation(k, q) else FALSE for k in cells) for q in cells))


def _quantifier(x: SymbolicInput, term: Term) -> Meaning:
    if term.operator == "exists":
        rows = x.selections(term.arguments[0])
        return Booleans(x.joined(term.arguments[0]), tuple(map(x.circuit.disjunction, rows)))
    cells = x.booleans(term.arguments[0], "position")
    holds = x.circuit.conjunction(cells) if term.operator == "all" else x.circuit.disjunction(cells)
    return Booleans("whole", (holds,))


def _count(x: SymbolicInput, term: Term) -> Meaning:
    c = x.circuit
    if term.operator == "selector_width":
        rows = x.selections(term.arguments[0])
        return Integers(x.joined(term.arguments[0]), tuple(c.total(map(c.truth, row)) for row in rows))
    counts = [constant(0)]
    for cell in x.booleans(term.arguments[0], "position"):
        counts.append(c.apply(python.add, counts[-1], c.truth(cell)))
    return Integers("whole", (counts[-1],)) if term.operator == "count" else Integers("position", tuple(counts[1:]))


def _sum_over(x: SymbolicInput, term: Term) -> Meaning:
    c, shape = x.circuit, x.joined(term.arguments[0])
    values = x.argument(term, 1, "position")
    rows = x.selections(term.arguments[0])
    sums = tuple(c.total_over(list(zip(row, values, strict=True))) for row in rows)
    if term.operator == "sum_over":
        return Integers(shape, sums)
    widths = (c.total(map(c.truth, row)) for row in rows)
    means = (c.apply(lambda s, w: s * MEAN_SCALE // w if w else 0, s, w) for s, w in zip(sums, widths, strict=True))
    return Integers(shape, tuple(means))


def _pick(x: SymbolicInput, term: Term) -> Meaning:
    c, shape = x.circuit, x.joined(term.arguments[0], *term.arguments[2:])
    values = x.integers(term.arguments[1], "position")
    rows, defaults = x.selections(term.arguments[0], shape), x.default(term, 2, shape)
    cells = []
    for row, default in zip(rows, defaults, strict=True):
        cases = list(zip(row, values, strict=True))
        match term.operator:
            case "first":
                cells.append(c.first_of(cases, default))
            case "last":
                cells.append(c.first_of(reversed(cases), default))
            case "min_over":
                cells.append(c.extreme(cases, default, least=True))
            case _:
                cells.append(c.extreme(cases, default, least=False))
    return Integers(shape, tuple(cells))


# -- values that run along the input -------------------------------------------------------------------------------


def _rank(x: SymbolicInput, term: Term) -> Meaning:
    return Integers("position", rank(x.circuit, x.integers(term.arguments[0], "position")))


def _shift(x: SymbolicInput, term: Term) -> Meaning:
    values, defaults = x.integers(term.arguments[0], "position"), x.default(term, 1, "position")
    k = x.code(term.data[0])
    cells = (values[i - k] if 0 <= i - k < x.length else defaults[i] for i in range(x.length))
    return Integers("position", tuple(cells))


def _scan(x: SymbolicInput, term: Term) -> Meaning:
    start, letters, transitions = term.data
    assert isinstance(letters, tuple) and isinstance(transitions, tuple)
    column = {x.code(letter): i for i, letter in enumerate(letters)}
    table = [tuple(x.code(cell) for cell in row) for row in transitions if isinstance(row, tuple)]

    def step(state: int, letter: int) -> int:
        return table[state][column[letter]] if letter in column else state

    return Integers("position", running(x.circuit, x.argument(term, 0, "position"), x.code(start), step))


def _horner(x: SymbolicInput, term: Term) -> Meaning:
    a, m = (x.code(datum) for datum in term.data)

    def step(r: int, v: int) -> int:
        return (a * r + v) % m if m else a * r + v

    return Integers("position", running(x.circuit, x.argument(term, 0, "position"), 0, step))


def _promise(x: SymbolicInput, term: Term) -> Meaning:
    property_of = _PROPERTIES[term.operator]
    return Booleans("whole", (property_of(x.circuit, x.integers(term.arguments[0], "position")),))


_PROPERTIES: dict[str, Callable[[Circuit, Sequence[Guarded]], Literal]] = {
    "distinct": are_distinct,
    "distinct_pairs": are_neighbours_distinct,
    "unique_mode": has_unique_mode,
    "increasing": is_increasing,
}
#: What every operator of the language means here, by name.
OPERATOR_MEANINGS: dict[str, Callable[[SymbolicInput, Term], Meaning]] = {
    **dict.fromkeys(("tokens", "indices", "length", "step", "prompt_length", "integer", "symbol", "boolean"), _leaf),
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    **dict.fromkeys(("==", "<", "<="), _comparison),
    **dict.fromkeys(("and", "or"), _connective),
    **dict.fromkeys(("table", "table2"), _table),
    **dict.fromkeys(("before", "upto", "after", "everywhere", "keys_where"), _mask),
    **dict.fromkeys(("exists", "all", "any"), _quantifier),
    **dict.fromkeys(("count", "running_count", "selector_width"), _count),
    **dict.fromkeys(("sum_over", "mean"), _sum_over),
    **dict.fromkeys(("first", "last", "min_over", "max_over"), _pick),
    **dict.fromkeys(_PROPERTIES, _promise),
    "abs": _absolute,
    "int": _integer_of,
    "if": _if,
    "not": _not,
    "select": _select,
    "rank": _rank,
    "shift": _shift,
    "scan": _scan,
    "horner": _horner,
}
