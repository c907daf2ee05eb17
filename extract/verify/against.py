"""Two programs on a whole domain: equal, or different with the first input that shows it and how many there are.

Length by length, the cheapest complete method decides: both programs read together as one automaton, evaluation of all
inputs while they are few, one input of every pattern where letters are alike, and the solver last. Where both can be
read without knowing the length and their states are finitely many, the answer holds for every length there is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from extract.automata import Language
from extract.domain import Domain, Machine
from extract.errors import ProgramError, SoundnessAlarm
from extract.lang.batched import Batch, evaluate
from extract.lang.interpret import answer
from extract.lang.machine import Refused, is_timeless
from extract.lang.program_graph import DifferenceReader, NotReadable, difference_graph, read_pair
from extract.lang.promise import TermPromise
from extract.lang.sorts import check_program
from extract.lang.terms import Program
from extract.progress import Progress
from extract.readout import same_answers
from extract.verify import renaming
from extract.verify.programs import Distinguished, ProgramComparer, SameOnDomain

#: States followed before a pair of programs counts as not finite.
_MOST_STATES = 20_000
#: z3's resource count for one length.
_RLIMIT = 40_000_000


@dataclass(frozen=True, slots=True)
class LengthCompared:
    """Exact counts of the strings of one length; they add up to all of them. ``method`` decided what is decided."""

    length: int
    same: int
    differ: int
    undecided: int
    method: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What is known: counts by length, an input on which the programs differ with both answers, and for which lengths.

    ``is_first``: no shorter input differs, and none earlier of its length. ``holds_from``: the programs are equal on
    every input of this length or more, however long; None where that is not known. ``reason`` says what is open.
    """

    lengths: tuple[LengthCompared, ...]
    example: Distinguished | None
    is_first: bool
    holds_from: int | None
    reason: str | None

    @property
    def is_equal(self) -> bool:
        """Whether the programs give equal answers to every input of the domain."""
        return self.example is None and not any(part.differ or part.undecided for part in self.lengths)


def compare_programs(
    left: Program, right: Program, domain: Domain, *, seconds: float, memory_bytes: int, progress: Progress
) -> Compared:
    """Compare two programs on every input of a domain; offsets do not matter to programs.

    Ensures: a difference replays with the reference interpreter; counts are exact; what is open is undecided.
    Raises:  ProgramError if a program does not fit the read-out; SoundnessAlarm if a difference does not replay.
    Cost:    ``seconds`` of wall clock only guard the solver, and then lengths stay undecided.
    """
    for program in (left, right):
        check_program(program, domain.vocabulary, domain.readout)
    sizes = {n: domain.size_at(n) for n in domain.lengths if domain.size_at(n)}
    if left == right:
        parts = tuple(LengthCompared(n, size, 0, 0, "the same terms") for n, size in sizes.items())
        return Compared(parts, None, False, domain.min_length, None)
    holds_from = equal_from(left, right, domain)
    if holds_from is not None:
        parts = tuple(LengthCompared(n, size, 0, 0, "automata of every length") for n, size in sizes.items())
        return Compared(parts, None, False, holds_from, None)
    deadline = time.monotonic() + seconds
    parts_found: list[LengthCompared] = []
    example: Distinguished | None = None
    is_first, reasons = True, list[str]()
    with ProgramComparer(domain, memory_bytes=memory_bytes) as comparer:
        for done, length in enumerate(sizes):
            part, found, reason = _at_length(left, right, domain, length, comparer, deadline)
            parts_found.append(part)
            reasons += [reason] if reason else []
            if example is None and found is not None:
                example, is_first = found, is_first and part.method != "solver"
            is_first = is_first and (example is not None or not part.undecided)
            progress.advance(done + 1, len(sizes), "lengths")
    reason = "; ".join(reasons) or None
    return Compared(tuple(parts_found), example, is_first and example is not None, None, reason)


def _at_length(
    left: Program, right: Program, domain: Domain, length: int, comparer: ProgramComparer, deadline: float
) -> tuple[LengthCompared, Distinguished | None, str | None]:
    """Return the counts of one length, its first difference, and what is open."""
    size = domain.size_at(length)
    graph = difference_graph(left, right, domain, length) if domain.is_exact_at(length) else NotReadable("no count")
    if not isinstance(graph, NotReadable):
        n_differ = graph.counts().get((1,), 0)
        part = LengthCompared(length, size - n_differ, n_differ, 0, "automata")
        if graph.size != size:
            raise SoundnessAlarm(f"{graph.size} inputs of length {length} were followed, expected {size}")
        if not n_differ:
            return part, None, None
        letters = graph.inputs_with((1,)).letters(length, 0, 1)[0]
        tokens = tuple(domain.alphabet[int(letter)] for letter in letters)
        return part, _replayed(left, right, domain, tokens), None
    n_patterns = renaming.n_patterns(len(domain.alphabet), length)
    if domain.is_exact_at(length) and n_patterns <= renaming.MAX_PATTERNS and renaming.applies(left, right, domain):
        found = _by_patterns(left, right, domain, length)
        if found is not None:
            return found
    solved = comparer.distinguish(
        left, right, rlimit=_RLIMIT, seconds=max(deadline - time.monotonic(), 0.0), lengths=[length]
    )
    if isinstance(solved, SameOnDomain):
        return LengthCompared(length, size, 0, 0, solved.method), None, None
    if isinstance(solved, Distinguished):
        open_ = f"the inputs of length {length} that differ are not counted: {graph.reason}"
        return LengthCompared(length, 0, 1, size - 1, "solver"), solved, open_
    return LengthCompared(length, 0, 0, size, "none"), None, f"{solved.reason}; {graph.reason}"


def _by_patterns(
    left: Program, right: Program, domain: Domain, length: int
) -> tuple[LengthCompared, Distinguished | None, str | None] | None:
    """Evaluate one input of every pattern; None if the programs' integers do not allow it."""
    v, size, n_differ, n_all = domain.vocabulary, domain.size_at(length), 0, 0
    example: Distinguished | None = None
    for tokens, amounts in renaming.patterns(domain, length):
        batch = Batch(v.token_codes[tokens], np.full(len(tokens), length, dtype=np.int32))
        try:
            found = [evaluate(program, batch, v, domain.readout) for program in (left, right)]
        except ProgramError:
            return None
        rows = np.flatnonzero(~same_answers(*found))
        n_all += sum(amounts)
        n_differ += sum(amounts[int(row)] for row in rows)
        if len(rows) and example is None:
            example = _replayed(left, right, domain, tuple(int(t) for t in tokens[rows[0]]))
    if n_all != size:
        raise SoundnessAlarm(f"the patterns of length {length} stand for {n_all} inputs, expected {size}")
    return LengthCompared(length, size - n_differ, n_differ, 0, "patterns"), example, None


def _replayed(left: Program, right: Program, domain: Domain, tokens: tuple[int, ...]) -> Distinguished:
    """Return a difference as the reference interpreter sees it. Raises: SoundnessAlarm if it sees none."""
    codes = tuple(int(domain.vocabulary.token_codes[token]) for token in tokens)
    answers = [answer(program, codes, domain, domain.readout) for program in (left, right)]
    if answers[0] == answers[1] or not domain.contains(tokens, domain.offsets[0]):
        raise SoundnessAlarm(
            f"{domain.text_of(tokens)} was found to distinguish two programs, expected different answers"
        )
    return Distinguished(tokens, domain.offsets[0], answers[0], answers[1])


def equal_from(left: Program, right: Program, domain: Domain, most_states: int = _MOST_STATES) -> int | None:
    """Return a length from which on the programs are equal on every string that keeps the promise, however long.

    That is the domain's least length, or None where programs or promise need the length or positions, have too many
    states, or differ.
    Ensures: every state that any input of any such length leads to was followed, and its answers compared.
    """
    reader, promises = _reader(left, right, domain), _promises(domain)
    if reader is None or promises is None:
        return None
    starts = tuple(machine.start() for machine in promises)
    first = (0, starts, reader.start())
    if None in starts:
        return domain.min_length
    found, queue = {first}, [first]
    for depth, states, memory in queue:
        accepted = depth == domain.min_length and all(
            machine.accepts(state, depth) for machine, state in zip(promises, states, strict=True)
        )
        if accepted and reader.label(memory) != (0,):
            return None
        for letter in domain.alphabet:
            after = tuple(machine.step(state, depth, letter) for machine, state in zip(promises, states, strict=True))
            if None in after:
                continue
            node = (min(depth + 1, domain.min_length), after, reader.step(memory, depth, letter))
            if node not in found:
                if len(found) >= most_states:
                    return None
                found.add(node)
                queue.append(node)
    return domain.min_length


def _reader(left: Program, right: Program, domain: Domain) -> DifferenceReader | None:
    """Return a reader that needs neither length nor positions, None if there is none."""
    if not is_timeless((*left.terms(), *right.terms())):
        return None
    try:
        return DifferenceReader(read_pair(left, right, domain, None), 0, left.adapter == "every")
    except Refused:
        return None


def _promises(domain: Domain) -> list[Machine] | None:
    """Return the promises as machines that need neither length nor positions, None if one has none."""
    machines: list[Machine] = []
    for promise in domain.strings.promises:
        is_plain = isinstance(promise, Language) or (isinstance(promise, TermPromise) and is_timeless([promise.term]))
        machine = promise.machine(None) if is_plain else None
        if machine is None:
            return None
        machines.append(machine)
    return machines
