"""Slots and registers: the storage of a left-to-right reader and the instructions that fill it.

A slot holds a value at the current position; a register keeps one between positions. Which terms become which is
decided in ``streams.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from extract.lang.elementwise import SCALAR, constant_code, number, table_codes
from extract.lang.linear import Combination
from extract.lang.operators import OPERATORS
from extract.lang.sorts import Sort
from extract.lang.terms import Term
from extract.vocabulary import Vocabulary

#: One instruction of a step: (slot values, registers before, registers after, position, token code).
Instruction = Callable[[list[Any], tuple[Any, ...], list[Any], int, int], None]


class Refused(Exception):
    """A term that cannot be read from the left with small memory; caught where a machine is asked for."""


@dataclass(frozen=True, slots=True)
class Side:
    """A selector read from the left: which side of the query, and the slot of its key condition (None: all keys)."""

    side: str
    keys: int | None


class Registers:
    """Slots, registers and the instructions of one step, in order."""

    def __init__(self, vocabulary: Vocabulary, sorts: dict[Term, Sort], length: int | None) -> None:
        self.vocabulary = vocabulary
        self.sorts = sorts
        self.length = length
        self.instructions: list[Instruction] = []
        self.template: list[Any] = []
        self.initial: list[Hashable] = []
        self.needs: list[frozenset[int]] = []  # registers each register's update reads, transitively
        self._slot_needs: list[frozenset[int]] = []
        self._nonnegative: set[int] = set()
        self._slots: dict[Any, int] = {}
        self._registers: dict[Any, int] = {}
        self._sides: dict[Term, Side] = {}

    def new_slot(self, value: Any, needs: frozenset[int], nonnegative: bool) -> int:
        self.template.append(value)
        self._slot_needs.append(needs)
        slot = len(self.template) - 1
        if nonnegative:
            self._nonnegative.add(slot)
        return slot

    def constant_slot(self, value: Any) -> int:
        key = ("constant", type(value).__name__, value)
        if key not in self._slots:
            self._slots[key] = self.new_slot(value, frozenset(), value >= 0)
        return self._slots[key]

    def computed(
        self, read: Callable[[list[Any], int, int], Any], sources: tuple[int, ...], *, nonnegative: bool = False
    ) -> int:
        needs = frozenset().union(*(self._slot_needs[s] for s in sources))
        slot = self.new_slot(None, needs, nonnegative)

        def run(v: list[Any], old: tuple[Any, ...], new: list[Any], position: int, code: int) -> None:
            v[slot] = read(v, position, code)

        self.instructions.append(run)
        return slot

    def apply(self, function: Callable[..., Any], sources: list[int], *, nonnegative: bool = False) -> int:
        if len(sources) == 1:
            (a,) = sources
            return self.computed(lambda v, position, code: function(v[a]), (a,), nonnegative=nonnegative)
        if len(sources) == 2:
            a, b = sources
            return self.computed(lambda v, position, code: function(v[a], v[b]), (a, b), nonnegative=nonnegative)
        return self.computed(
            lambda v, position, code: function(*(v[s] for s in sources)), tuple(sources), nonnegative=nonnegative
        )

    def register_slot(self, register: int, *, before: bool = False) -> int:
        """Return a slot holding a register, as it was before or is after this position."""
        slot = self.new_slot(None, self.needs[register] | {register}, False)

        def run(v: list[Any], old: tuple[Any, ...], new: list[Any], position: int, code: int) -> None:
            v[slot] = old[register] if before else new[register]

        self.instructions.append(run)
        return slot

    # -- constants -----------------------------------------------------------------------------------------------

    def constant(self, term: Term) -> Any:
        """Return the value of a sequence-wide term known before reading. Raises: Refused."""
        name = term.operator
        if name in ("integer", "symbol"):
            return constant_code(term.data[0], self.vocabulary)
        if name == "boolean":
            return bool(term.data[0])
        if name == "length" and self.length is not None:
            return self.length
        if name in SCALAR:
            row = OPERATORS[name]
            values = [self.constant(argument) for argument in term.arguments]
            pairs = zip(row.arguments, values, strict=False)
            return SCALAR[name](*(number(v) if e.tag == "number" else v for e, v in pairs))
        if name in ("table", "table2"):
            keys = [self.constant(argument) for argument in term.arguments]
            key = keys[0] if name == "table" else tuple(keys)
            listed = table_codes(term.data[0], self.vocabulary)
            return listed.get(key, constant_code(term.data[1], self.vocabulary))
        raise Refused(name)

    # -- registers -----------------------------------------------------------------------------------------------

    def register(self, key: Any, initial: Hashable, update: Callable[..., Any], sources: tuple[int, ...]) -> int:
        """Return the register with this key: ``update(old value, *slot values)`` at each position."""
        if key in self._registers:
            return self._registers[key]
        register = len(self.initial)
        self.initial.append(initial)
        self.needs.append(frozenset().union(*(self._slot_needs[s] for s in sources)))
        self._registers[key] = register

        def run(v: list[Any], old: tuple[Any, ...], new: list[Any], position: int, code: int) -> None:
            new[register] = update(old[register], *[v[s] for s in sources])

        self.instructions.append(run)
        return register

    def sum_register(self, combination: Combination, modulus: int = 0, cap: int | None = None) -> int:
        """Return the register of a combination of sums: exact, modulo ``modulus``, or stopping at ``cap``."""
        slots = tuple(slot for slot, _ in combination)
        factors = tuple(factor for _, factor in combination)

        def update(value: int, *increments: int) -> int:
            total: int = value + sum(f * i for f, i in zip(factors, increments, strict=True))
            return total % modulus if modulus else total if cap is None else min(total, cap)

        return self.register(("sum", combination, modulus, cap), 0, update, slots)

    def grows(self, combination: Combination) -> bool:
        """Say whether a combination of sums never decreases."""
        return all(factor > 0 and slot in self._nonnegative for slot, factor in combination)
