"""Boolean circuits and integers with finitely many values: what a program's meaning is made of at one length.

An integer of the language takes finitely many values on inputs of one length, so it is kept as a family of exclusive
guards, one per value: no width to overflow, and every operator is applied to plain Python integers. This room knows
gates, families and clauses; it refuses to know terms, tokens and solvers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from extract.errors import BudgetError

#: A literal is twice a gate's number, plus one when negated. Gate 0 is the constant false.
Literal = int
FALSE: Literal = 0
TRUE: Literal = 1
#: Deterministic limits: beyond them an encoding is refused, never approximated.
MAX_GATES = 1_500_000
MAX_CELLS = 40_000
#: Above this many values a variable is coded in binary: pairwise exclusion clauses grow with the square.
_LARGEST_ONE_HOT = 12


@dataclass(frozen=True, slots=True)
class Guarded:
    """An integer that is ``values[i]`` exactly when ``guards[i]`` holds; on every input exactly one guard holds."""

    guards: tuple[Literal, ...]
    values: tuple[int, ...]

    @property
    def low(self) -> int:
        """The least value."""
        return min(self.values)

    @property
    def high(self) -> int:
        """The greatest value."""
        return max(self.values)


def constant(value: int) -> Guarded:
    """Return the integer that is the same on every input."""
    return Guarded((TRUE,), (value,))


class Circuit:
    """A growing circuit of conjunctions with shared structure; equal conjunctions are one gate.

    ``gates[i]`` is None for an input variable and the sorted literals of a conjunction otherwise. ``clauses`` tie the
    variables of one integer together; ``lemmas`` follow from them.
    """

    def __init__(self) -> None:
        self.gates: list[tuple[Literal, ...] | None] = [None]
        self.clauses: list[tuple[Literal, ...]] = []
        self.lemmas: list[tuple[Literal, ...]] = []
        self._known: dict[tuple[Literal, ...], Literal] = {}
        #: Sets of literals of which exactly one holds, though no integer has them as guards.
        self._groups: dict[Literal, list[frozenset[Literal]]] = {}
        #: The family a literal was chosen from, and the indices of its guards that it stands for.
        self._origin: dict[Literal, tuple[tuple[Literal, ...], frozenset[int]]] = {}
        self._chosen: dict[tuple[tuple[Literal, ...], tuple[int, ...]], Literal] = {}

    # -- gates -------------------------------------------------------------------------------------------------

    def variable(self) -> Literal:
        """Return a fresh input."""
        self.gates.append(None)
        return 2 * (len(self.gates) - 1)

    def both(self, a: Literal, b: Literal) -> Literal:
        """Return the conjunction of two literals."""
        if a > b:
            a, b = b, a
        if a == FALSE or a ^ b == 1:
            return FALSE
        if a in (TRUE, b):
            return b
        left = self._origin.get(a)
        if left is not None:
            right = self._origin.get(b)
            if right is not None and left[0] == right[0]:
                return self.choose(left[0], tuple(sorted(left[1] & right[1])))
        return self._gate((a, b))

    def either(self, a: Literal, b: Literal) -> Literal:
        """Return the disjunction of two literals."""
        return self.both(a ^ 1, b ^ 1) ^ 1

    def conjunction(self, literals: Iterable[Literal]) -> Literal:
        """Return the conjunction of any number of literals; of none, true."""
        kept = set(literals)
        kept.discard(TRUE)
        if FALSE in kept or any(a ^ 1 in kept for a in kept):
            return FALSE
        if len(kept) <= 1:
            return kept.pop() if kept else TRUE
        return self._gate(tuple(sorted(kept)))

    def disjunction(self, literals: Iterable[Literal]) -> Literal:
        """Return the disjunction of any number of literals; of none, false."""
        return self.conjunction([a ^ 1 for a in literals]) ^ 1

    def mux(self, condition: Literal, yes: Literal, no: Literal) -> Literal:
        """Return ``yes`` where the condition holds and ``no`` elsewhere."""
        if yes == no:
            return yes
        if condition & 1:
            condition, yes, no = condition ^ 1, no, yes
        if no == yes ^ 1 and yes & 1:
            return self.mux(condition, no, yes) ^ 1
        return self.either(self.both(condition, yes), self.both(condition ^ 1, no))

    def _gate(self, key: tuple[Literal, ...]) -> Literal:
        found = self._known.get(key)
        if found is None:
            if len(self.gates) >= MAX_GATES:
                raise BudgetError(f"the encoding needs more than {MAX_GATES} gates")
            found = 2 * len(self.gates)
            self.gates.append(key)
            self._known[key] = found
        return found

    # -- integers ----------------------------------------------------------------------------------------------

    def unknown(self, values: Sequence[int]) -> Guarded:
        """Return a fresh integer that takes any one of the distinct values."""
        n = len(values)
        if n == 1:
            return constant(values[0])
        if n > _LARGEST_ONE_HOT:
            return self._binary(values)
        if n == 2:
            guard = self.variable()
            return self._family((guard, guard ^ 1), tuple(values))
        guards = tuple(self.variable() for _ in values)
        self.clauses.extend(_exactly_one(guards))
        return self._family(guards, tuple(values))

    def note_exactly_one(self, literals: Sequence[Literal]) -> None:
        """Note that exactly one literal holds on every input: a consequence that the solver need not derive."""
        if TRUE in literals:
            self.lemmas.extend((a ^ 1,) for a in literals if a not in (FALSE, TRUE))
            return
        group = frozenset(a for a in literals if a != FALSE)
        if len(group) > 1 and len(group) == sum(a != FALSE for a in literals):
            for a in group:
                self._groups.setdefault(a, []).append(group)
        self.lemmas.extend(_exactly_one([a for a in literals if a != FALSE]))

    def _none_of(self, literals: Sequence[Literal]) -> Literal | None:
        """That no literal holds, where at most one is known to hold on every input; None where that is not known."""
        asked = frozenset(literals)
        if len(asked) < len(literals) or not asked:
            return None
        for group in self._groups.get(literals[0], ()):
            if asked <= group:
                return FALSE if asked == group else self.disjunction(literals) ^ 1
        origins = [self._origin.get(a, ((), frozenset())) for a in literals]
        family = origins[0][0]
        held = frozenset().union(*(holds for _, holds in origins))
        if any(other != family for other, _ in origins) or len(held) < sum(len(holds) for _, holds in origins):
            return None
        return self.choose(family, tuple(i for i in range(len(family)) if i not in held)) if family else None

    def _binary(self, values: Sequence[int]) -> Guarded:
        bits = [self.variable() for _ in range((len(values) - 1).bit_length())]
        guards = [self.conjunction(b ^ (~code >> k & 1) for k, b in enumerate(bits)) for code in range(1 << len(bits))]
        self.clauses.extend((guard ^ 1,) for guard in guards[len(values) :])
        return self._family(tuple(guards[: len(values)]), tuple(values))

    def truth(self, literal: Literal) -> Guarded:
        """Return 1 where the literal holds and 0 elsewhere."""
        if literal in (FALSE, TRUE):
            return constant(literal)
        even = literal & ~1
        return Guarded((even, even ^ 1), (1, 0) if even == literal else (0, 1))

    def choose(self, guards: tuple[Literal, ...], holds: tuple[int, ...]) -> Literal:
        """Return the disjunction of the guards at the given indices, written on the smaller side of the family."""
        n = len(guards)
        if not holds or len(holds) == n:
            return FALSE if not holds else TRUE
        found = self._chosen.get((guards, holds))
        if found is None:
            if 2 * len(holds) < n or (2 * len(holds) == n and holds[0] == 0):
                found = self.disjunction(guards[i] for i in holds)
            else:
                inside = set(holds)
                found = self.disjunction(guards[i] for i in range(n) if i not in inside) ^ 1
            self._chosen[guards, holds] = found
            self._origin.setdefault(found, (guards, frozenset(holds)))
            self._origin.setdefault(found ^ 1, (guards, frozenset(range(n)).difference(holds)))
        return found

    def where(self, value: Guarded, predicate: Callable[[int], bool]) -> Literal:
        """Return the literal that says the integer satisfies a predicate."""
        return self.choose(value.guards, tuple(i for i, v in enumerate(value.values) if predicate(v)))

    def compare(self, a: Guarded, b: Guarded, relation: Callable[[int, int], bool]) -> Literal:
        """Return the literal that says two integers stand in a relation."""
        if a.guards == b.guards:
            return self.choose(
                a.guards, tuple(i for i, (v, w) in enumerate(zip(a.values, b.values, strict=True)) if relation(v, w))
            )
        if (len(a.guards), a.guards) > (len(b.guards), b.guards):
            return self.compare(b, a, lambda w, v: relation(v, w))
        rows: dict[tuple[int, ...], list[int]] = {}
        for i, v in enumerate(a.values):
            rows.setdefault(tuple(j for j, w in enumerate(b.values) if relation(v, w)), []).append(i)
        return self.disjunction(
            self.both(self.choose(a.guards, tuple(row)), self.choose(b.guards, column)) for column, row in rows.items()
        )

    def apply(self, function: Callable[[int, int], int], a: Guarded, b: Guarded) -> Guarded:
        """Return a function of two integers; families are multiplied out only where they differ.

        Raises:  BudgetError beyond MAX_CELLS pairs of values.
        """
        if (values := self._along(a.guards, b)) is not None:
            return Guarded(a.guards, tuple(map(function, a.values, values)))
        if (values := self._along(b.guards, a)) is not None:
            return Guarded(b.guards, tuple(map(function, values, b.values)))
        a, b = self.merged(a), self.merged(b)
        if len(a.guards) * len(b.guards) > MAX_CELLS:
            raise BudgetError(f"{len(a.guards)} x {len(b.guards)} pairs of values exceed {MAX_CELLS}")
        cells: dict[int, list[Literal]] = {}
        for p, v in zip(a.guards, a.values, strict=True):
            for q, w in zip(b.guards, b.values, strict=True):
                guard = self.both(p, q)
                if guard:
                    cells.setdefault(function(v, w), []).append(guard)
        return self._from_cells(cells)

    def _along(self, guards: tuple[Literal, ...], value: Guarded) -> tuple[int, ...] | None:
        """The values of an integer at each guard of a family, if the family is known to determine it."""
        if value.guards == guards:
            return value.values
        if len(value.guards) == 1:
            return value.values * len(guards)
        values: dict[int, int] = {}
        for guard, v in zip(value.guards, value.values, strict=True):
            family, holds = self._origin.get(guard, ((), frozenset()))
            if family != guards:
                return None
            values.update(dict.fromkeys(holds, v))
        return tuple(values[i] for i in range(len(guards))) if len(values) == len(guards) else None

    def merged(self, value: Guarded) -> Guarded:
        """Return the same integer with distinct values only."""
        if len(set(value.values)) == len(value.values):
            return value
        indices: dict[int, list[int]] = {}
        for i, v in enumerate(value.values):
            indices.setdefault(v, []).append(i)
        return Guarded(tuple(self.choose(value.guards, tuple(i)) for i in indices.values()), tuple(indices))

    def select(self, condition: Literal, yes: Guarded, no: Guarded) -> Guarded:
        """Return one integer where the condition holds and another elsewhere."""
        if condition in (FALSE, TRUE) or yes == no:
            return yes if condition == TRUE or yes == no else no
        guards, holds = self._origin.get(condition, ((condition, condition ^ 1), frozenset((0,))))
        along = [self._along(guards, value) for value in (yes, no)]
        if along[0] is not None and along[1] is not None:
            return Guarded(guards, tuple(y if i in holds else n for i, (y, n) in enumerate(zip(*along, strict=True))))
        yes, no = self.merged(yes), self.merged(no)
        left = dict(zip(yes.values, yes.guards, strict=True))
        right = dict(zip(no.values, no.guards, strict=True))
        return self._from_cells(
            {v: [self.mux(condition, left.get(v, FALSE), right.get(v, FALSE))] for v in {**left, **right}}
        )

    def total(self, values: Iterable[Guarded]) -> Guarded:
        """Return the sum, added in order."""
        result = constant(0)
        for value in values:
            result = self.apply(lambda a, b: a + b, result, value)
        return result

    def first_of(self, cases: Iterable[tuple[Literal, Guarded]], otherwise: Guarded) -> Guarded:
        """Return the integer of the first case whose condition holds."""
        live = [case for case in cases if case[0] != FALSE]
        cells: dict[int, list[Literal]] = {}
        open_ = self._none_of([condition for condition, _ in live])
        if open_ is not None:
            for condition, value in live:
                self._add(cells, condition, value)
        else:
            open_ = TRUE
            for condition, value in live:
                self._add(cells, self.both(open_, condition), value)
                open_ = self.both(open_, condition ^ 1)
        self._add(cells, open_, otherwise)
        return self._from_cells(cells)

    def total_over(self, cases: Sequence[tuple[Literal, Guarded]]) -> Guarded:
        """Return the sum of the integers whose condition holds."""
        if self._none_of([condition for condition, _ in cases if condition != FALSE]) is not None:
            return self.first_of(cases, constant(0))
        return self.total(self.select(condition, value, constant(0)) for condition, value in cases)

    def extreme(self, cases: Sequence[tuple[Literal, Guarded]], otherwise: Guarded, *, least: bool) -> Guarded:
        """Return the least (or greatest) integer among the cases whose condition holds, or another if none does."""
        if self._none_of([condition for condition, _ in cases if condition != FALSE]) is not None:
            return self.first_of(cases, otherwise)
        reached = {v for condition, value in cases if condition != FALSE for v in value.values}
        cells: dict[int, list[Literal]] = {}
        before = FALSE
        for v in sorted(reached, reverse=not least):
            within = v.__ge__ if least else v.__le__
            now = self.disjunction(self.both(condition, self.where(value, within)) for condition, value in cases)
            cells.setdefault(v, []).append(self.both(now, before ^ 1))
            before = now
        self._add(cells, before ^ 1, otherwise)
        return self._from_cells(cells)

    def _add(self, cells: dict[int, list[Literal]], condition: Literal, value: Guarded) -> None:
        if condition == FALSE:
            return
        for guard, v in zip(value.guards, value.values, strict=True):
            cells.setdefault(v, []).append(self.both(condition, guard))

    def _from_cells(self, cells: Mapping[int, list[Literal]]) -> Guarded:
        pairs = [(self.disjunction(guards), v) for v, guards in cells.items()]
        kept = sorted((guard, v) for guard, v in pairs if guard != FALSE)
        for guard, v in kept:
            if guard == TRUE:
                return constant(v)
        return self._family(tuple(g for g, _ in kept), tuple(v for _, v in kept))

    def _family(self, guards: tuple[Literal, ...], values: tuple[int, ...]) -> Guarded:
        for i, guard in enumerate(guards):
            self._origin.setdefault(guard, (guards, frozenset((i,))))
        return Guarded(guards, values)

    # -- meaning -----------------------------------------------------------------------------------------------

    def dimacs(self, goals: Sequence[Literal]) -> str:
        """Write "every clause and every goal holds" in DIMACS form, for the gates these depend on.

        Ensures: variable i is gate i.
        """
        wanted = [goal for goal in goals if goal != TRUE]
        if FALSE in wanted:
            return "p cnf 1 2\n1 0\n-1 0\n"
        cone = self._cone([*wanted, *(literal for clause in self.clauses for literal in clause)])
        lemmas = (lemma for lemma in self.lemmas if all(literal >> 1 in cone for literal in lemma))
        lines = [" ".join(map(_signed, clause)) + " 0" for clause in (*self.clauses, *lemmas)]
        lines.extend(_signed(goal) + " 0" for goal in wanted)
        for gate in sorted(cone):
            parts = self.gates[gate]
            if parts is not None:
                lines.extend(f"-{gate} {_signed(a)} 0" for a in parts)
                lines.append(f"{gate} " + " ".join([_signed(a ^ 1) for a in parts]) + " 0")
        return f"p cnf {len(self.gates)} {len(lines)}\n" + "\n".join(lines) + "\n"

    def _cone(self, literals: Iterable[Literal]) -> set[int]:
        needed: set[int] = set()
        stack = [literal >> 1 for literal in literals]
        while stack:
            gate = stack.pop()
            if gate not in needed:
                needed.add(gate)
                stack.extend(literal >> 1 for literal in self.gates[gate] or ())
        return needed

    def holds(self, literal: Literal, true_inputs: frozenset[int]) -> bool:
        """Say whether a literal holds when exactly these input gates are true."""
        parts = self.gates[literal >> 1]
        inside = literal >> 1 in true_inputs if parts is None else all(self.holds(a, true_inputs) for a in parts)
        return inside ^ bool(literal & 1)


def _exactly_one(literals: Sequence[Literal]) -> list[tuple[Literal, ...]]:
    return [tuple(literals), *((a ^ 1, b ^ 1) for i, a in enumerate(literals) for b in literals[:i])]


def _signed(literal: Literal) -> str:
    return f"-{literal >> 1}" if literal & 1 else f"{literal >> 1}"
