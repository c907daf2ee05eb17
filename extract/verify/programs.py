"""Program against program: do two programs give the same answers on a domain, and if not, on which input?

The cheapest method that can decide a length decides it: the same terms, some inputs, all inputs, automata, the solver.
A difference is believed only after the reference interpreter has seen it; sameness is claimed only where every input of
a length was evaluated or followed, or the solver found none. This room refuses to know networks and how programs were
found.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.errors import DomainError, ProgramError, SoundnessAlarm
from extract.lang.batched import Batch, evaluate
from extract.lang.interpret import answer
from extract.lang.sorts import Sort, check_program, sort_of
from extract.lang.syntax import parse_term
from extract.lang.terms import Program, Term
from extract.readout import same_answers
from extract.verify.encode import Automaton, Facts, Question
from extract.verify.reading import read_together
from extract.verify.solver import Outcome, Sat, SolverProcess, Undecided, Unsat

#: Lengths with at most this many inputs are evaluated outright: faster than asking the solver.
_FEW_INPUTS = 4_096
#: Lengths with at most this many inputs are evaluated when the solver does not decide them.
_SOME_INPUTS = 200_000
#: What the solver may spend on a length that can be evaluated instead: about the time that takes.
_QUICK_RLIMIT = 1_000_000
#: Inputs of each kind tried first at every other length; most different programs differ on one of them.
_N_SAMPLED = 512
_SEED = 20_230
#: Inputs evaluated at once.
_CHUNK = 1 << 15
#: An automaton with more transitions than this is sent as the promise's term, where it has one.
_MANY_TRANSITIONS = 20_000
_TOO_MANY_TRANSITIONS = 2_000_000


@dataclass(frozen=True, slots=True)
class Distinguished:
    """The programs differ on this input (token ids); the answers are the reference interpreter's."""

    tokens: tuple[int, ...]
    offset: int
    left_answer: tuple[int, ...]
    right_answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SameOnDomain:
    """The programs give equal answers to every input of these lengths; ``method`` names what showed it."""

    lengths: tuple[int, ...]
    method: str


@dataclass(frozen=True, slots=True)
class NotDecided:
    """No difference was found and some length is open; ``reason`` is for people, ``lengths_done`` are the same."""

    reason: str
    lengths_done: tuple[int, ...]


Comparison = Distinguished | SameOnDomain | NotDecided


def distinguish(
    left: Program,
    right: Program,
    domain: Domain,
    *,
    rlimit: int,
    seconds: float,
    lengths: Sequence[int] | None = None,
) -> Comparison:
    """Compare two programs on a domain (``ProgramComparer.distinguish`` for one pair)."""
    with ProgramComparer(domain) as comparer:
        return comparer.distinguish(left, right, rlimit=rlimit, seconds=seconds, lengths=lengths)


class ProgramComparer:
    """Compares programs on one domain, keeping the solver's process and the inputs between comparisons."""

    def __init__(self, domain: Domain, *, memory_bytes: int = 2 << 30) -> None:
        self.domain = domain
        self._solver = SolverProcess(
            Facts(domain.vocabulary, domain.readout, domain.alphabet), memory_bytes=memory_bytes
        )
        self._promises: dict[int, _Promise] = {}
        #: All inputs of the lengths that have few, a sample of the others.
        self._batches: dict[int, Batch] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the solver's process."""
        self._solver.close()

    def distinguish(
        self, left: Program, right: Program, *, rlimit: int, seconds: float, lengths: Sequence[int] | None = None
    ) -> Comparison:
        """Find an input of the domain on which two programs differ, or show that there is none.

        Units:   ``rlimit`` is z3's resource count for each length; ``seconds`` (wall clock, all lengths) only guards.
        Ensures: a difference replays with the reference interpreter; ``SameOnDomain`` only if every input of every
                 length asked for was evaluated, followed by automata, or excluded by the solver.
        Raises:  ProgramError if a program does not fit the read-out; SoundnessAlarm if a difference does not replay.
        """
        for program in (left, right):
            check_program(program, self.domain.vocabulary, self.domain.readout)
        asked = tuple(n for n in (self.domain.lengths if lengths is None else lengths) if self.domain.size_at(n))
        if left == right:
            return SameOnDomain(asked, "the same terms")
        deadline = time.monotonic() + seconds
        reasons: dict[int, str] = {}
        methods: set[str] = set()
        for length in asked:
            looked = self._look(left, right, length, deadline)
            if isinstance(looked, Distinguished):
                return looked
            if isinstance(looked, Undecided):
                reasons[length] = looked.reason
            else:
                methods.add(looked)
        read = read_together(left, right, self.domain, list(reasons))
        if read.difference is not None:
            return self._replayed(left, right, read.difference)
        for length in read.same:
            del reasons[length]
            methods.add("automata")
        for length in list(reasons):
            solved = self._solve(left, right, length, rlimit, deadline)
            if isinstance(solved, Distinguished):
                return solved
            if isinstance(solved, Undecided):
                reasons[length] = solved.reason
            else:
                del reasons[length]
                methods.add(solved)
        if reasons:
            reason = "; ".join(f"length {length}: {reason}" for length, reason in reasons.items())
            return NotDecided(reason, tuple(n for n in asked if n not in reasons))
        return SameOnDomain(asked, " and ".join(sorted(methods)) or "no inputs")

    def _look(self, left: Program, right: Program, length: int, deadline: float) -> Distinguished | Undecided | str:
        """Evaluate all inputs of a length if they are few, else some."""
        if self._n_inputs(length) <= _FEW_INPUTS:
            return self._differ_on_all(left, right, length, deadline)
        if length not in self._batches:
            self._batches[length] = self._batch(_chosen_inputs(self.domain, length))
        return self._compare(left, right, self._batches[length]) or Undecided("not asked")

    def _solve(
        self, left: Program, right: Program, length: int, rlimit: int, deadline: float
    ) -> Distinguished | Undecided | str:
        """Ask the solver about a length; what it leaves open is evaluated while that is feasible."""
        if time.monotonic() > deadline:
            return Undecided("wall clock ended")
        is_listable = _FEW_INPUTS < self._n_inputs(length) <= _SOME_INPUTS
        outcome = self._ask(left, right, length, min(rlimit, _QUICK_RLIMIT) if is_listable else rlimit, deadline)
        if isinstance(outcome, Sat):
            return self._replayed(left, right, outcome.tokens)
        if isinstance(outcome, Unsat):
            return "solver"
        if is_listable:
            evaluated = self._differ_on_all(left, right, length, deadline)
            return outcome if isinstance(evaluated, Undecided) else evaluated
        return outcome

    def _n_inputs(self, length: int) -> float:
        """The number of inputs of a length that can be listed; infinite if they cannot."""
        return self.domain.size_at(length) if self.domain.is_exact_at(length) else float("inf")

    def _differ_on_all(
        self, left: Program, right: Program, length: int, deadline: float
    ) -> Distinguished | Undecided | str:
        size = self.domain.size_at(length)
        for start in range(0, size, _CHUNK):
            if time.monotonic() > deadline:
                return Undecided("wall clock ended")
            batch = self._batches.get(length) if size <= _FEW_INPUTS else None
            if batch is None:
                batch = self._batch(self.domain.tokens(length, start, min(start + _CHUNK, size)))
                if size <= _FEW_INPUTS:
                    self._batches[length] = batch
            found = self._compare(left, right, batch)
            if found is not None:
                return found
        return "evaluation of all inputs"

    def _batch(self, tokens: NDArray[np.int32]) -> Batch:
        n, length = tokens.shape
        return Batch(self.domain.vocabulary.token_codes[tokens], np.full(n, length, dtype=np.int32))

    def _compare(self, left: Program, right: Program, batch: Batch) -> Distinguished | Undecided | None:
        v, readout = self.domain.vocabulary, self.domain.readout
        try:
            differ = ~same_answers(evaluate(left, batch, v, readout), evaluate(right, batch, v, readout))
        except ProgramError as error:  # well sorted, but its integers may leave 32 bits
            return Undecided(error.line())
        rows = np.flatnonzero(differ)
        if not len(rows):
            return None
        id_of = {int(v.token_codes[token]): token for token in self.domain.alphabet}
        return self._replayed(left, right, tuple(id_of[int(code)] for code in batch.codes[rows[0]]))

    def _ask(self, left: Program, right: Program, length: int, rlimit: int, deadline: float) -> Outcome:
        if length not in self._promises:
            self._promises[length] = _promise(self.domain, length)
        promise = self._promises[length]
        if promise.reason:
            return Undecided(promise.reason)
        question = Question(length, left, right, promise.automaton, promise.terms)
        return self._solver.ask(question, rlimit=rlimit, seconds=max(deadline - time.monotonic(), 0.0))

    def _replayed(self, left: Program, right: Program, tokens: tuple[int, ...]) -> Distinguished:
        """The difference as the reference interpreter sees it, or an alarm."""
        domain = self.domain
        codes = tuple(int(domain.vocabulary.token_codes[token]) for token in tokens)
        answers = [answer(program, codes, domain, domain.readout) for program in (left, right)]
        if answers[0] == answers[1] or not domain.contains(tokens, domain.offsets[0]):
            raise SoundnessAlarm(
                f"{domain.text_of(tokens)} was found to distinguish two programs, expected the interpreter to agree",
                hint="both answer " + " ".join(domain.readout.text(code, domain.vocabulary) for code in answers[0]),
            )
        return Distinguished(tokens, domain.offsets[0], answers[0], answers[1])


def _chosen_inputs(domain: Domain, length: int) -> NDArray[np.int32]:
    """Uniform inputs, and strings of three letters at most, unevenly mixed, some sorted, some palindromes, that are
    inputs: rare counts, ties and repetitions are common among them."""
    random = np.random.default_rng(_SEED + length)
    n = _N_SAMPLED
    letters = np.array(domain.alphabet, dtype=np.int32)[random.integers(0, len(domain.alphabet), (n, 3))]
    picked = (random.random((n, length)) < random.random((n, 1))).astype(np.intp) + (random.random((n, length)) < 0.1)
    patterned = np.take_along_axis(letters, picked, axis=1)
    patterned[: n // 4].sort(axis=1)
    half = length // 2
    patterned[n // 4 : n // 2, length - half :] = patterned[n // 4 : n // 2, :half][:, ::-1]
    kept = patterned[domain.holds(patterned)]
    try:
        return np.concatenate([domain.sample(n, _SEED, length).tokens, kept])
    except DomainError:  # none found by trial
        return kept


@dataclass(frozen=True, slots=True)
class _Promise:
    """The inputs of one length as the solver is told them; ``reason`` says why it cannot be."""

    automaton: Automaton | None = None
    terms: tuple[Term, ...] = ()
    reason: str = ""


def _promise(domain: Domain, length: int) -> _Promise:
    if domain.promise_text is None:
        return _Promise()
    graph = domain.graph_at(length)
    size = sum(layer.size for layer in graph.next[:length]) if graph is not None else _TOO_MANY_TRANSITIONS + 1
    if size > _MANY_TRANSITIONS:
        terms = _promise_terms(domain)
        if terms is not None:
            return _Promise(terms=terms)
    if graph is None or size > _TOO_MANY_TRANSITIONS:
        return _Promise(reason=f"the promise {domain.promise_text} has no automaton small enough at length {length}")
    layers = tuple(tuple(map(tuple, layer.tolist())) for layer in graph.next[:length])
    return _Promise(Automaton(layers, tuple(graph.accept[length].tolist())))


def _promise_terms(domain: Domain) -> tuple[Term, ...] | None:
    """The promise as boolean terms, or None where it is not all written in the language (a regular expression)."""
    terms = []
    for promise in domain.strings.promises:
        try:
            term = parse_term(promise.text)
            if sort_of(term, domain.vocabulary) != Sort("B", "", "whole"):
                return None
        except ProgramError:
            return None
        terms.append(term)
    return tuple(terms)
