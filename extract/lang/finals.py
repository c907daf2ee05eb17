"""Values known at the end of an input, and when they are settled before it.

A sequence-wide term becomes a Final over registers; logic and choices know when what they depend on no longer
matters. Positions inside a term are compiled by ``streams.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from extract.lang.elementwise import SCALAR, constant_code, number, table_codes
from extract.lang.interpret import default_code
from extract.lang.linear import Linear, normalised
from extract.lang.operators import OPERATORS
from extract.lang.registers import Refused
from extract.lang.streams import Streams
from extract.lang.terms import Term
from extract.lang.windows import exact_mean_of

State = tuple[Any, ...]


class _Open:
    """The value of something not settled yet."""

    __slots__ = ()


OPEN = _Open()


@dataclass(frozen=True, slots=True)
class Final:
    """A value known at the end of the input.

    ``value(registers, length)`` is exact at the end; ``settle(registers)`` is the value if no continuation can change
    it, else OPEN. ``registers`` are read directly; ``children`` are the values it is made of; ``pick`` chooses the
    children that still matter when the value is settled (all of them by default).
    """

    value: Callable[[State, int], Any]
    settle: Callable[[State], Any]
    registers: tuple[int, ...] = ()
    children: tuple[Final, ...] = ()
    relevant: Callable[[State], Sequence[Final]] | None = None


class Finals:
    """Compiles sequence-wide terms; positions inside them go to the streams."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._known: dict[Term, Final] = {}

    def final(self, term: Term) -> Final:
        """Return the value of a sequence-wide term. Raises: Refused."""
        if term not in self._known:
            self._known[term] = self._make(term)
        return self._known[term]

    def _make(self, term: Term) -> Final:
        try:
            return _known(self._streams.constant(term))
        except Refused:
            pass
        name, arguments = term.operator, term.arguments
        if self._streams.sorts[term].shape != "whole":
            raise Refused(f"{name} per position")
        if name == "length":
            return Final(lambda state, length: length, lambda state: OPEN)
        if name in ("and", "or", "not", "if"):
            return _LOGIC[name]([self.final(argument) for argument in arguments])
        if name in ("+", "-", "*", "%", "count", "sum_over", "selector_width"):
            return self._arithmetic(term)
        if name in ("==", "<", "<=") and all(self._streams.sorts[a].tag in ("N", "Z") for a in arguments):
            return self._comparison(name, self._linear(arguments[0]).plus(self._linear(arguments[1]), -1))
        if name in SCALAR:
            return _strict(SCALAR[name], self._arguments(term))
        if name in ("table", "table2"):
            listed = table_codes(term.data[0], self._streams.vocabulary)
            default = constant_code(term.data[1], self._streams.vocabulary)
            look = (lambda x: listed.get(x, default)) if name == "table" else (lambda *pair: listed.get(pair, default))
            return _strict(look, self._arguments(term))
        if name in ("first", "last", "min_over", "max_over", "exists", "mean"):
            return self._picked(term)
        return self._summary(term)

    def _arguments(self, term: Term) -> list[Final]:
        row = OPERATORS[term.operator]
        pairs = zip(row.arguments, term.arguments, strict=False)
        return [self._number(a) if expected.tag == "number" else self.final(a) for expected, a in pairs]

    def _number(self, term: Term) -> Final:
        inner = self.final(term)
        return _strict(number, [inner]) if self._streams.sorts[term].tag == "T" else inner

    # -- sums ----------------------------------------------------------------------------------------------------

    def _linear(self, term: Term) -> Linear:
        name, arguments = term.operator, term.arguments
        try:
            return Linear(number(self._streams.constant(term)))
        except Refused:
            pass
        if name == "length":
            return Linear(length=1)
        if name in ("+", "-"):
            return self._linear(arguments[0]).plus(self._linear(arguments[1]), 1 if name == "+" else -1)
        if name == "*":
            left, right = (self._linear(argument) for argument in arguments)
            if right.is_constant:
                left, right = right, left
            if left.is_constant:
                return Linear().plus(right, left.constant)
        if name in ("count", "sum_over", "selector_width"):
            side, increment = self._streams.increment(term)
            if side == "everywhere":
                return Linear(sums={increment: 1})
            raise Refused(f"{name} per position")
        return Linear(others={term: 1})

    def _other(self, term: Term) -> Final:
        """Return the value of a part that is not linear itself."""
        if term.operator == "*":
            return _strict(SCALAR["*"], self._arguments(term))
        if term.operator == "%":
            return self._remainder(term)
        return self._number(term)

    def _arithmetic(self, term: Term) -> Final:
        linear = self._linear(term)
        if linear.others.get(term):
            return self._other(term)
        return self._evaluated(linear, 0)

    def _remainder(self, term: Term) -> Final:
        modulus = self._streams.constant(term.arguments[1])
        return self._evaluated(self._linear(term.arguments[0]), modulus)

    def _evaluated(self, linear: Linear, modulus: int) -> Final:
        constant, per_length = linear.constant, linear.length
        children = tuple(self._other(other) for other in linear.others)
        factors = tuple(linear.others.values())
        registers: tuple[int, ...] = ()
        factor = 1
        if linear.sums:
            combination = tuple(sorted(linear.sums.items()))
            if modulus:
                combination = tuple((slot, c % modulus) for slot, c in combination)
            else:
                combination, factor = normalised(linear.sums)
            registers = (self._streams.sum_register(combination, modulus),)

        def value(state: State, length: int) -> int:
            total = constant + per_length * length + sum(factor * state[r] for r in registers)
            total += sum(f * child.value(state, length) for f, child in zip(factors, children, strict=True))
            return int(total % modulus) if modulus else int(total)

        def settle(state: State) -> Any:
            if registers or per_length or any(child.settle(state) is OPEN for child in children):
                return OPEN
            return value(state, 0)

        return Final(value, settle, registers, children)

    def _comparison(self, name: str, linear: Linear) -> Final:
        compare = SCALAR[name]
        if linear.sums and not linear.length and not linear.others:
            combination, factor = normalised(linear.sums)
            if self._streams.grows(combination):
                constant = linear.constant
                # Beyond the cap the sum's sign, and so the comparison with 0, never changes again.
                cap = max(0, -constant // factor + 1)
                register = self._streams.sum_register(combination, cap=cap)
                return Final(
                    lambda state, length: compare(constant + factor * state[register], 0),
                    lambda state: compare(constant + factor * cap, 0) if state[register] >= cap else OPEN,
                    (register,),
                )
        return _strict(lambda x: compare(x, 0), [self._evaluated(linear, 0)])

    # -- what a selector picks, and summaries --------------------------------------------------------------------

    def _picked(self, term: Term) -> Final:
        name, arguments, streams = term.operator, term.arguments, self._streams
        side = streams.side(arguments[0])
        if side.side != "everywhere":
            raise Refused(f"{name} per position")
        if name == "mean":
            _, total = streams.increment(Term("sum_over", arguments))
            _, width = streams.increment(Term("selector_width", arguments[:1]))
            pair = (streams.sum_register(((total, 1),)), streams.sum_register(((width, 1),)))
            return Final(lambda state, length: exact_mean_of(state[pair[0]], state[pair[1]]), lambda state: OPEN, pair)
        values = None if name == "exists" else streams.slot(arguments[1])
        register = streams.pick_register(name, side.keys, values)
        if name == "exists":
            return _absorbing(register, True)
        if len(arguments) > 2:
            default = self.final(arguments[2])
        else:
            default = _known(default_code(streams.sorts[arguments[1]], streams.vocabulary))
        settles = name == "first"

        def value(state: State, length: int) -> Any:
            return default.value(state, length) if state[register] is None else state[register]

        def settle(state: State) -> Any:
            return state[register] if settles and state[register] is not None else OPEN

        return Final(value, settle, (register,), (default,), lambda state: (default,) if settle(state) is OPEN else ())

    def _summary(self, term: Term) -> Final:
        name, streams = term.operator, self._streams
        if name not in _SUMMARIES:
            raise Refused(name)
        slot = streams.slot(term.arguments[0])
        if name in ("all", "any"):
            if name == "all":
                register = streams.register(("all", slot), True, lambda old, b: bool(old and b), (slot,))
            else:
                register = streams.pick_register("exists", slot, None)
            return _absorbing(register, name == "any")
        initial, update = _SUMMARIES[name]
        register = streams.register((name, slot), initial, update, (slot,))
        if name == "unique_mode":
            return Final(lambda state, length: _has_mode(state[register]), lambda state: OPEN, (register,))
        return Final(
            lambda state, length: state[register] is not None,
            lambda state: False if state[register] is None else OPEN,
            (register,),
        )


def _known(value: Any) -> Final:
    return Final(lambda state, length: value, lambda state: value)


def _absorbing(register: int, settled: bool) -> Final:
    """A boolean register that keeps one of its values for ever."""
    return Final(
        lambda state, length: state[register],
        lambda state: settled if state[register] is settled else OPEN,
        (register,),
    )


def _strict(function: Callable[..., Any], children: Sequence[Final]) -> Final:
    """A function of values that needs all of them."""

    def settle(state: State) -> Any:
        values = [child.settle(state) for child in children]
        return OPEN if any(value is OPEN for value in values) else function(*values)

    return Final(
        lambda state, length: function(*(child.value(state, length) for child in children)),
        settle, (), tuple(children),
    )  # fmt: skip


def _junction(deciding: bool) -> Callable[[Sequence[Final]], Final]:
    """``and`` (decided by one false) or ``or`` (decided by one true)."""

    def build(children: Sequence[Final]) -> Final:
        def decided_by(state: State) -> Final | None:
            return next((child for child in children if child.settle(state) is deciding), None)

        def settle(state: State) -> Any:
            if decided_by(state) is not None:
                return deciding
            return OPEN if any(child.settle(state) is OPEN for child in children) else not deciding

        def value(state: State, length: int) -> bool:
            values = (child.value(state, length) for child in children)
            return any(values) if deciding else all(values)

        def relevant(state: State) -> Sequence[Final]:
            chosen = decided_by(state)
            return children if chosen is None else (chosen,)

        return Final(value, settle, (), tuple(children), relevant)

    return build


def _choice(children: Sequence[Final]) -> Final:
    condition, then, otherwise = children

    def chosen(state: State) -> Final | None:
        known = condition.settle(state)
        return None if known is OPEN else then if known else otherwise

    def settle(state: State) -> Any:
        branch = chosen(state)
        if branch is not None:
            return branch.settle(state)
        values = [then.settle(state), otherwise.settle(state)]
        return values[0] if OPEN not in values and values[0] == values[1] else OPEN

    def relevant(state: State) -> Sequence[Final]:
        branch = chosen(state)
        return children if branch is None else (condition, branch)

    def value(state: State, length: int) -> Any:
        return (then if condition.value(state, length) else otherwise).value(state, length)

    return Final(value, settle, (), tuple(children), relevant)


_LOGIC: dict[str, Callable[[Sequence[Final]], Final]] = {
    "and": _junction(False),
    "or": _junction(True),
    "not": lambda children: _strict(SCALAR["not"], children),
    "if": _choice,
}


def _add_new(seen: frozenset[Any] | None, value: Any) -> frozenset[Any] | None:
    return None if seen is None or value in seen else seen | {value}


def _add_pair(seen: tuple[Any, frozenset[Any]] | None, value: Any) -> tuple[Any, frozenset[Any]] | None:
    if seen is None:
        return None
    previous, pairs = seen
    if previous is None:
        return (value, pairs)
    return None if (previous, value) in pairs else (value, pairs | {(previous, value)})


def _grow(last: tuple[Any, ...] | None, value: Any) -> tuple[Any, ...] | None:
    return None if last is None or (last and value <= last[0]) else (value,)


def _tally(counts: tuple[tuple[Any, int], ...], value: Any) -> tuple[tuple[Any, int], ...]:
    tally = Counter(dict(counts))
    tally[value] += 1
    return tuple(sorted(tally.items()))


def _has_mode(counts: tuple[tuple[Any, int], ...]) -> bool:
    ordered = sorted(n for _, n in counts)
    return bool(ordered) and (len(ordered) == 1 or ordered[-2] < ordered[-1])


_SUMMARIES: dict[str, tuple[Hashable, Callable[..., Any]]] = {
    "all": (True, SCALAR["and"]),
    "any": (False, SCALAR["or"]),
    "distinct": (frozenset(), _add_new),
    "distinct_pairs": ((None, frozenset()), _add_pair),
    "increasing": ((), _grow),
    "unique_mode": ((), _tally),
}
