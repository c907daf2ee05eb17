"""What the solver is asked: two programs on the unknown inputs of one length, as clauses.

The promise becomes the states of the domain's automaton (or the promise's own term), a program its symbolic meaning,
and the question "do the answers differ at this cell" one literal per cell. Everything here can be written as plain
data, because the solver lives in another process. This room knows no process and draws no conclusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.errors import BudgetError, ProgramError
from extract.lang.elementwise import number
from extract.lang.interpret import MOST_STEPS
from extract.lang.number_answers import number_answer
from extract.lang.sorts import Shape
from extract.lang.terms import Program, Term
from extract.readout import ReadOut
from extract.verify.circuit import FALSE, TRUE, Circuit, Guarded, Literal, constant
from extract.verify.symbolic import Integers, SymbolicInput
from extract.vocabulary import ABSENT, Vocabulary, whole_codes

#: A generated answer longer than this is not encoded: every output index is a cell of its own.
_LONGEST_ANSWER = 256
#: A step program is encoded anew for every token it may write, so fewer are allowed.
_MOST_STEPS_UNROLLED = 48


@dataclass(frozen=True, slots=True)
class Facts:
    """What all questions about one domain share: names, read-out, and the alphabet's token ids."""

    vocabulary: Vocabulary
    readout: ReadOut
    alphabet: tuple[int, ...]

    def to_data(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        v, r = self.vocabulary, self.readout
        readout = [r.at, r.kind, list(r.choices), r.threshold, r.stop, r.max_new, r.tolerance]
        vocabulary = [list(v.names), v.numeric, list(v.outputs)]
        return {"vocabulary": vocabulary, "readout": readout, "alphabet": list(self.alphabet)}

    @staticmethod
    def from_data(data: dict[str, Any]) -> Facts:
        """Read what ``to_data`` wrote."""
        names, numeric, outputs = data["vocabulary"]
        at, kind, choices, *rest = data["readout"]
        vocabulary = Vocabulary(tuple(names), numeric, tuple(outputs))
        return Facts(vocabulary, ReadOut(at, kind, tuple(choices), *rest), tuple(data["alphabet"]))


@dataclass(frozen=True, slots=True)
class Automaton:
    """The inputs of one length as a layered automaton: ``next[p][state][letter]`` is a state of layer p + 1 or -1,
    the start is state 0, ``accept[state]`` says which states of the last layer accept."""

    next: tuple[tuple[tuple[int, ...], ...], ...]
    accept: tuple[bool, ...]

    def live(self) -> tuple[frozenset[int], ...]:
        """Return for each layer the states from which an input can end."""
        layers = [frozenset(s for s, accepts in enumerate(self.accept) if accepts)]
        for rows in reversed(self.next):
            layers.append(frozenset(s for s, row in enumerate(rows) if any(t in layers[-1] for t in row)))
        return tuple(reversed(layers))


@dataclass(frozen=True, slots=True)
class Question:
    """On which input of ``length`` tokens, if any, do two programs differ?

    Inputs are the strings of the automaton (None: all strings of the alphabet) on which every term of ``where``,
    boolean and sequence-wide, holds.
    """

    length: int
    left: Program
    right: Program
    automaton: Automaton | None = None
    where: tuple[Term, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Return the question as JSON values."""
        automaton = None if self.automaton is None else [self.automaton.next, self.automaton.accept]
        programs = [_program_data(self.left), _program_data(self.right)]
        return {
            "length": self.length,
            "programs": programs,
            "automaton": automaton,
            "where": _terms_data(self.where),
        }

    @staticmethod
    def from_data(data: dict[str, Any]) -> Question:
        """Read what ``to_data`` wrote."""
        left, right = (_program_of(program) for program in data["programs"])
        automaton = data["automaton"]
        known = None if automaton is None else Automaton(_tupled(automaton[0]), _tupled(automaton[1]))
        return Question(data["length"], left, right, known, _terms_of(data["where"]))


@dataclass(frozen=True, slots=True)
class Encoding:
    """A question as a circuit: ``cells`` say where the answers differ, ``promise`` that the tokens are an input.

    ``letters[p]`` is the token id at position p. Cells that can never differ are left out.
    """

    circuit: Circuit
    letters: tuple[Guarded, ...]
    promise: Literal
    cells: tuple[Literal, ...]

    def dimacs(self, cells: Sequence[Literal]) -> str:
        """Write "the tokens are an input and one of these cells differs" in DIMACS form; variable i is gate i."""
        return self.circuit.dimacs([self.promise, self.circuit.disjunction(cells)])

    def tokens(self, true_gates: frozenset[int]) -> tuple[int, ...]:
        """Return the token ids of a model, given by the gates that are true in it."""
        return tuple(
            next(v for g, v in zip(letter.guards, letter.values, strict=True) if self.circuit.holds(g, true_gates))
            for letter in self.letters
        )


def encode(question: Question, facts: Facts) -> Encoding:
    """Encode a question.

    Ensures: an input of the domain satisfies ``promise`` and one of ``cells`` exactly when the programs' reference
             answers to it differ.
    Raises:  BudgetError if the circuit would exceed its limits.
    """
    circuit = Circuit()
    letters, promise = _inputs(circuit, question, facts)
    codes = facts.vocabulary.token_codes
    tokens = [Guarded(a.guards, tuple(int(codes[v]) for v in a.values)) for a in letters]
    x = SymbolicInput(circuit, tokens, facts.vocabulary)
    promise = circuit.conjunction([promise, *(x.booleans(term)[0] for term in question.where)])
    left, right = (answer_cells(program, circuit, tokens, facts) for program in (question.left, question.right))
    width = max(len(left), len(right))
    nothing = constant(ABSENT)
    pairs = zip(*(cells + [nothing] * (width - len(cells)) for cells in (left, right)), strict=True)
    differ = (circuit.compare(a, b, int.__ne__) for a, b in pairs)
    return Encoding(circuit, letters, promise, tuple(dict.fromkeys(d for d in differ if d != FALSE)))


def answer_cells(program: Program, circuit: Circuit, tokens: Sequence[Guarded], facts: Facts) -> list[Guarded]:
    """Return the cells of a program's answer to unknown tokens (codes), ABSENT after the end of a generated one.

    Raises:  BudgetError as ``encode`` does, also for generated answers that may be too long.
    """
    x = SymbolicInput(circuit, tokens, facts.vocabulary, n_prompt=0)
    if program.adapter == "multilabel":
        terms = dict(program.outputs)
        labels = facts.readout.labels(facts.vocabulary)
        return [circuit.truth(x.booleans(terms[name])[0]) if name in terms else constant(0) for name in labels]
    if program.adapter == "generate":
        return _generated(program, circuit, tokens, facts)
    if program.adapter == "step":
        return _generated_by_steps(program, circuit, tokens, facts)
    found = x.meaning(program.term())
    assert isinstance(found, Integers)
    shape: Shape = "position" if program.adapter == "every" else "whole"
    if facts.readout.kind == "value":
        return _numbers(program.term(), x, shape)
    return list(x.integers(program.term(), shape))


def _numbers(term: Term, x: SymbolicInput, shape: Shape) -> list[Guarded]:
    """Return an output term's cells as answers to a real read-out. Raises: BudgetError where a number has no code."""

    def whole(part: Term) -> list[Guarded]:
        try:
            return [
                Guarded(cell.guards, tuple(whole_codes(np.array(cell.values, dtype=object)).tolist()))
                for cell in x.integers(part, shape)
            ]
        except ProgramError as error:
            raise BudgetError(error.line()) from error

    def choice(condition: Term, then: list[Guarded], otherwise: list[Guarded]) -> list[Guarded]:
        return list(map(x.circuit.select, x.booleans(condition, shape), then, otherwise))

    return number_answer(term, lambda part: list(x.integers(part, shape)), whole, choice)


def _generated(program: Program, circuit: Circuit, tokens: Sequence[Guarded], facts: Facts) -> list[Guarded]:
    most = facts.readout.max_new or MOST_STEPS
    wanted = SymbolicInput(circuit, tokens, facts.vocabulary, n_prompt=0).integers(program.term("output_length"))[0]
    n_tokens = Guarded(wanted.guards, tuple(max(0, min(number(v), most)) for v in wanted.values))
    n_steps = n_tokens.high
    if n_steps > _LONGEST_ANSWER:
        raise BudgetError(f"the answer may have {n_steps} tokens, more than {_LONGEST_ANSWER} are not encoded")
    x = SymbolicInput(circuit, tokens, facts.vocabulary, n_steps=n_steps, n_prompt=0)
    cells = x.integers(program.term(), "step")
    nothing = constant(ABSENT)
    return [circuit.select(circuit.where(n_tokens, j.__lt__), cell, nothing) for j, cell in enumerate(cells)]


def _generated_by_steps(program: Program, circuit: Circuit, tokens: Sequence[Guarded], facts: Facts) -> list[Guarded]:
    stop = None if facts.readout.stop is None else int(facts.vocabulary.token_codes[facts.readout.stop])
    written: list[Guarded] = []
    answer: list[Guarded] = []
    running = TRUE
    while running != FALSE and len(written) < (facts.readout.max_new or MOST_STEPS):
        if len(written) >= _MOST_STEPS_UNROLLED:
            raise BudgetError(f"the answer may be longer than {_MOST_STEPS_UNROLLED} tokens, which is not encoded")
        x = SymbolicInput(circuit, [*tokens, *written], facts.vocabulary, n_prompt=len(tokens))
        cell = x.integers(program.term())[0]
        running = circuit.both(running, circuit.where(cell, lambda v: v != stop))
        answer.append(circuit.select(running, cell, constant(ABSENT)))
        written.append(cell)
    return answer


def _inputs(circuit: Circuit, question: Question, facts: Facts) -> tuple[tuple[Guarded, ...], Literal]:
    """Fresh letters (token ids) for every position, and the literal that says the automaton accepts them."""
    n, alphabet = question.length, facts.alphabet
    if question.automaton is None:
        return tuple(circuit.unknown(alphabet) for _ in range(n)), TRUE
    live = question.automaton.live()
    if 0 not in live[0]:
        return (constant(alphabet[0]),) * n, FALSE
    letters: list[Guarded] = []
    state = constant(0)
    for rows, after in zip(question.automaton.next, live[1:], strict=True):
        possible = [a for a in range(len(alphabet)) if any(rows[s][a] in after for s in set(state.values) - {-1})]
        letter = circuit.unknown(possible)
        letters.append(Guarded(letter.guards, tuple(alphabet[a] for a in letter.values)))

        def step(s: int, a: int, rows: tuple[tuple[int, ...], ...] = rows, after: frozenset[int] = after) -> int:
            return rows[s][a] if s >= 0 and rows[s][a] in after else -1

        state = circuit.merged(circuit.apply(step, state, letter))
    return tuple(letters), circuit.where(state, lambda s: s >= 0)


# -- terms as plain data: a list of nodes, arguments before the nodes that use them ------------------------------------


def _terms_data(terms: Sequence[Term]) -> dict[str, Any]:
    index: dict[Term, int] = {}
    for term in terms:
        for part in term.subterms():
            index.setdefault(part, len(index))
    nodes = [[part.operator, [index[a] for a in part.arguments], part.data] for part in index]
    return {"nodes": nodes, "roots": [index[term] for term in terms]}


def _terms_of(data: dict[str, Any]) -> tuple[Term, ...]:
    terms: list[Term] = []
    for operator, arguments, constants in data["nodes"]:
        terms.append(Term(operator, tuple(terms[i] for i in arguments), _tupled(constants)))
    return tuple(terms[i] for i in data["roots"])


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _program_data(program: Program) -> dict[str, Any]:
    names = [name for name, _ in program.outputs]
    return {"adapter": program.adapter, "names": names, **_terms_data(program.terms())}


def _program_of(data: dict[str, Any]) -> Program:
    return Program(data["adapter"], tuple(zip(data["names"], _terms_of(data), strict=True)))
