"""Position-by-position meaning of terms: what a left-to-right reader must remember, as few registers as it can.

A term per position becomes a slot computed at each step; sums, extremes and automata become registers kept between
steps. Sums that only occur in one linear combination share one register, so a difference of counts is one number.
Terms that need the future, or all of the past, are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from extract.lang.elementwise import RELATION_SCALAR, SCALAR, constant_code, number, table_codes
from extract.lang.interpret import default_code
from extract.lang.linear import Linear, normalised
from extract.lang.operators import OPERATORS
from extract.lang.registers import Refused, Registers, Side
from extract.lang.terms import Datum, Term


class Streams(Registers):
    """The slots and registers of some terms, built up term by term."""

    # -- slots ---------------------------------------------------------------------------------------------------

    def slot(self, term: Term) -> int:
        """Return the slot that holds a term's value at the current position. Raises: Refused."""
        if term not in self._slots:
            self._slots[term] = self._make_slot(term)
        return self._slots[term]

    def _make_slot(self, term: Term) -> int:
        name, arguments = term.operator, term.arguments
        if name == "tokens":
            return self.computed(lambda v, position, code: code, ())
        if name == "indices":
            return self.computed(lambda v, position, code: position, (), nonnegative=True)
        if self.sorts[term].shape == "whole":
            return self.constant_slot(self.constant(term))
        if name in ("+", "-", "*", "%", "running_count", "sum_over", "selector_width"):
            return self._linear_slot(term)
        if name in ("==", "<", "<=") and self._is_numeric(arguments):
            return self._comparison(name, self.linear(arguments[0]).plus(self.linear(arguments[1]), -1))
        if name in SCALAR:
            return self.apply(SCALAR[name], self._argument_slots(term), nonnegative=self.sorts[term].kind == "B")
        if name in ("table", "table2"):
            listed, default = table_codes(term.data[0], self.vocabulary), constant_code(term.data[1], self.vocabulary)
            read = (lambda x: listed.get(x, default)) if name == "table" else (lambda x, y: listed.get((x, y), default))
            return self.apply(read, self._argument_slots(term))
        if name == "shift":
            return self._shift(term)
        if name in ("scan", "horner"):
            return self._automaton(term)
        if name in ("first", "last", "min_over", "max_over", "exists"):
            return self._running_pick(term)
        raise Refused(name)

    def _argument_slots(self, term: Term) -> list[int]:
        row = OPERATORS[term.operator]
        pairs = zip(row.arguments, term.arguments, strict=False)
        return [self.number_slot(a) if expected.tag == "number" else self.slot(a) for expected, a in pairs]

    def number_slot(self, term: Term) -> int:
        """Return the slot of a value as arithmetic reads it."""
        slot = self.slot(term)
        return self.apply(number, [slot]) if self.sorts[term].tag == "T" else slot

    def _is_numeric(self, terms: tuple[Term, ...]) -> bool:
        return all(self.sorts[term].kind == "I" and self.sorts[term].tag in ("N", "Z") for term in terms)

    # -- linear combinations -------------------------------------------------------------------------------------

    def linear(self, term: Term) -> Linear:
        """Return an integer term per position as a linear combination. Raises: Refused."""
        name, arguments = term.operator, term.arguments
        if self.sorts[term].shape == "whole":
            return Linear(number(self.constant(term)))
        if name in ("+", "-"):
            return self.linear(arguments[0]).plus(self.linear(arguments[1]), 1 if name == "+" else -1)
        if name == "*":
            left, right = (self.linear(argument) for argument in arguments)
            if right.is_constant:
                left, right = right, left
            if left.is_constant:
                return Linear().plus(right, left.constant)
        elif name in ("running_count", "sum_over", "selector_width"):
            side, increment = self.increment(term)
            if side == "everywhere":
                raise Refused(f"{name} of the whole input at a position")
            return Linear(sums={increment: 1}, slots={increment: -1} if side == "before" else {})
        elif name == "%":
            return Linear(slots={self._remainder(term): 1})
        return Linear(slots={self._plain_slot(term): 1})

    def _plain_slot(self, term: Term) -> int:
        if term.operator == "*":
            return self.apply(SCALAR["*"], [self.number_slot(argument) for argument in term.arguments])
        return self.number_slot(term)

    def increment(self, term: Term) -> tuple[str, int]:
        """Return the side and the increment's slot of a sum over the input: a count, a width or a sum."""
        name, arguments = term.operator, term.arguments
        if name in ("count", "running_count"):
            return ("everywhere" if name == "count" else "upto"), self.slot(arguments[0])
        side = self.side(arguments[0])
        if name == "selector_width":
            return side.side, self.constant_slot(1) if side.keys is None else side.keys
        value = self.number_slot(arguments[1])
        if side.keys is None:
            return side.side, value
        key = ("increment", side.keys, value)
        if key not in self._slots:
            nonnegative = value in self._nonnegative
            self._slots[key] = self.apply(lambda k, x: x if k else 0, [side.keys, value], nonnegative=nonnegative)
        return side.side, self._slots[key]

    def _linear_slot(self, term: Term) -> int:
        if term.operator == "%":
            return self._remainder(term)
        linear = self.linear(term)
        if not linear.sums and term.operator == "*" and len(linear.slots) == 1 and not linear.constant:
            ((slot, factor),) = linear.slots.items()
            if factor == 1:
                return slot
        return self._evaluated(linear)

    def _evaluated(self, linear: Linear, modulus: int = 0) -> int:
        """Return the slot of a linear combination at each position."""
        sources, factors = list(linear.slots), list(linear.slots.values())
        if linear.sums:
            combination, factor = (
                (tuple(sorted((s, c % modulus) for s, c in linear.sums.items())), 1)
                if modulus
                else normalised(linear.sums)
            )
            sources.append(self.register_slot(self.sum_register(combination, modulus)))
            factors.append(factor)
        constant = linear.constant

        def value(*cells: int) -> int:
            total = constant + sum(f * c for f, c in zip(factors, cells, strict=True))
            return total % modulus if modulus else total

        return self.apply(value, sources) if sources else self.constant_slot(value())

    def _remainder(self, term: Term) -> int:
        key = ("remainder", term)
        if key not in self._slots:
            modulus = self.constant(term.arguments[1])
            self._slots[key] = self._evaluated(self.linear(term.arguments[0]), modulus)
        return self._slots[key]

    def _comparison(self, name: str, linear: Linear) -> int:
        compare = SCALAR[name]
        return self.apply(lambda x: compare(x, 0), [self._evaluated(linear)], nonnegative=True)

    # -- selectors -----------------------------------------------------------------------------------------------

    def side(self, selector: Term) -> Side:
        """Return a selector as a side of the query and a condition on keys. Raises: Refused."""
        if selector not in self._sides:
            self._sides[selector] = self._make_side(selector)
        return self._sides[selector]

    def _make_side(self, selector: Term) -> Side:
        name, arguments = selector.operator, selector.arguments
        if name in ("before", "upto", "everywhere"):
            return Side(name, None)
        if name == "keys_where":
            return Side("everywhere", self.slot(arguments[0]))
        if name == "select":
            return self._select_side(selector)
        if name == "not":
            inner = self.side(arguments[0])
            if inner.side != "everywhere":
                raise Refused("not of a window")
            if inner.keys is None:
                return Side("everywhere", self.constant_slot(False))
            return Side("everywhere", self.apply(SCALAR["not"], [inner.keys], nonnegative=True))
        if name not in ("and", "or"):
            raise Refused(name)
        left, right = self.side(arguments[0]), self.side(arguments[1])
        sides = {left.side, right.side}
        if name == "and":
            sides.discard("everywhere")
            joined = "everywhere" if not sides else "before" if "before" in sides else sides.pop()
        elif len(sides) > 1:
            raise Refused("or of two windows")
        else:
            joined = left.side
        conditions = [side.keys for side in (left, right) if side.keys is not None]
        if len(conditions) == 2:
            return Side(joined, self.apply(SCALAR[name], conditions, nonnegative=True))
        return Side(joined, conditions[0] if conditions and name == "and" else None)

    def _select_side(self, selector: Term) -> Side:
        keys, queries = selector.arguments
        relation = str(selector.data[0])
        if self.sorts[queries].shape == "whole":
            sources = [self.slot(keys), self.constant_slot(self.constant(queries))]
            return Side("everywhere", self.apply(RELATION_SCALAR[relation], sources, nonnegative=True))
        if keys.operator == "indices" == queries.operator and relation in ("<", "<="):
            return Side("before" if relation == "<" else "upto", None)
        raise Refused("select with a query per position")

    # -- what else is remembered ---------------------------------------------------------------------------------

    def pick_register(self, name: str, keys: int | None, values: int | None) -> int:
        """Return the register of first, last, min_over, max_over (None until a key is picked) or exists (a boolean)."""
        condition = self.constant_slot(True) if keys is None else keys
        if name == "exists" or values is None:
            return self.register(("any", condition), False, lambda old, k: bool(old or k), (condition,))
        better: dict[str, Callable[[Any, Any], Any]] = {
            "first": lambda old, x: old,
            "last": lambda old, x: x,
            "min_over": min,
            "max_over": max,
        }
        choose = better[name]

        def update(old: Any, key: bool, value: Any) -> Any:
            return old if not key else value if old is None else choose(old, value)

        return self.register((name, condition, values), None, update, (condition, values))

    def _running_pick(self, term: Term) -> int:
        name, arguments = term.operator, term.arguments
        side = self.side(arguments[0])
        if side.side == "everywhere":
            raise Refused(f"{name} of the whole input at a position")
        values = None if name == "exists" else self.slot(arguments[1])
        register = self.pick_register(name, side.keys, values)
        found = self.register_slot(register, before=side.side == "before")
        if name == "exists":
            return found
        default = (
            self.slot(arguments[2])
            if len(arguments) > 2
            else self.constant_slot(default_code(self.sorts[arguments[1]], self.vocabulary))
        )
        return self.apply(lambda x, d: d if x is None else x, [found, default])

    def _shift(self, term: Term) -> int:
        k = term.data[0]
        assert isinstance(k, int)
        if k < 0:
            raise Refused("shift from the right")
        value = self.slot(term.arguments[0])
        if k == 0:
            return value
        default = (
            self.slot(term.arguments[1])
            if len(term.arguments) > 1
            else self.constant_slot(default_code(self.sorts[term.arguments[0]], self.vocabulary))
        )
        register = self.register(("shift", value, k), (), lambda old, x: (*old, x)[-k:], (value,))
        found = self.register_slot(register, before=True)
        return self.apply(lambda past, d: past[0] if len(past) == k else d, [found, default])

    def _automaton(self, term: Term) -> int:
        value = self._argument_slots(term)[0]
        if term.operator == "horner":
            a, m = (datum for datum in term.data if isinstance(datum, int))

            def step(old: int, x: int) -> int:
                return (a * old + x) % m if m else a * old + x

            return self.register_slot(self.register((term, "horner"), 0, step, (value,)))
        start, letters, transitions = term.data
        assert isinstance(start, int) and isinstance(letters, tuple)
        column = {constant_code(letter, self.vocabulary): j for j, letter in enumerate(letters)}
        rows: Datum = transitions

        def move(old: int, x: int) -> Any:
            row = rows[old] if isinstance(rows, tuple) else ()
            return row[column[x]] if x in column and isinstance(row, tuple) else old

        return self.register_slot(self.register((term, "scan"), start, move, (value,)))
