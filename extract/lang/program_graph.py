"""Programs as automata: for one length, which answer each input of a domain gets, as a graph with exact path counts.

A program that can be read from the left becomes its machine, explored together with the promise; any other is
evaluated on every input of the length while they are few, and its strings are merged. Both end in the smallest graph.
What is too large is refused with its reason. This room knows no network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain, InputGraph
from extract.errors import ProgramError
from extract.input_graph.building import canonical, distinct_rows, layers_of
from extract.lang.batched import Batch, evaluate
from extract.lang.machine import OPEN, Refused, TermMachine, read_terms
from extract.lang.number_answers import counts_units, values_tell
from extract.lang.sorts import check_program, is_mixed, sorts_of
from extract.lang.terms import Program, Term
from extract.readout import same_answers

States = NDArray[np.int32]
#: An answer as the interpreter gives it: one cell, or one for each label of a multilabel read-out.
Cells = tuple[int, ...]
#: Labels of a batch of inputs of one length, by evaluation. Shape: [input, cell].
Listing = Callable[[Batch], NDArray[np.int32]]

#: Steps of a machine for one graph, some ten microseconds each.
MAX_STEPS = 1_000_000
#: States at one depth before merging.
MAX_STATES_PER_DEPTH = 300_000
#: Inputs of one length evaluated one by one where the program cannot be read from the left.
MAX_LISTED = 1 << 20
_CHUNK = 1 << 15


@dataclass(frozen=True, slots=True)
class NotReadable:
    """Why a program has no graph at a length: the operator, or the size, that stands in the way."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class ProgramGraph:
    """The inputs of one length with the program's answer to each: a path from state 0 at depth 0 is an input.

    Shapes: ``next[p]`` [state at depth p, letter] holds the state at depth p + 1, or -1 where no input continues
    (letters index the domain's alphabet); ``answers`` [state at depth ``length``] are the answers, ascending.
    Ensures: every state lies on some path; no two states of a depth have the same answers to the same suffixes.
    """

    length: int
    n_letters: int
    next: tuple[States, ...]
    answers: tuple[Cells, ...]
    _memo: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def n_states(self) -> tuple[int, ...]:
        """The number of states at each depth."""
        return (*(len(table) for table in self.next), len(self.answers))

    @property
    def n_prefixes(self) -> tuple[NDArray[Any], ...]:
        """The exact number of prefixes that lead to each state, by depth: arrays of Python integers."""
        if "prefixes" not in self._memo:
            counts: list[NDArray[Any]] = [np.ones(1, dtype=object)]
            for depth, table in enumerate(self.next):
                ahead: NDArray[Any] = np.zeros(self.n_states[depth + 1], dtype=object)
                source, letter = np.nonzero(table >= 0)
                np.add.at(ahead, table[source, letter], counts[-1][source])
                counts.append(ahead)
            self._memo["prefixes"] = tuple(counts)
        found: tuple[NDArray[Any], ...] = self._memo["prefixes"]
        return found

    def counts(self) -> dict[Cells, int]:
        """Return the exact number of inputs of each answer."""
        return {cells: int(n) for cells, n in zip(self.answers, self.n_prefixes[-1], strict=True)}

    @property
    def size(self) -> int:
        """The exact number of inputs of the length."""
        return sum(self.counts().values())

    def answer(self, letters: tuple[int, ...]) -> Cells | None:
        """Return the answer to an input, None if the letters are no input of this length."""
        state = 0
        if len(letters) != self.length:
            return None
        for table, letter in zip(self.next, letters, strict=True):
            state = int(table[state, letter])
            if state < 0:
                return None
        return self.answers[state]

    def inputs_with(self, cells: Cells) -> InputGraph:
        """Return the graph of the inputs of one answer. Raises: KeyError if no input has it."""
        if cells not in self.answers:
            raise KeyError(cells)
        accept = [np.zeros(n, dtype=np.bool_) for n in self.n_states]
        accept[-1][self.answers.index(cells)] = True
        graph = canonical(self.next, accept, self.n_letters)
        if graph is None:
            raise LookupError(f"no input has the answer {cells}, though one did")
        return graph


def program_graph(
    program: Program, domain: Domain, length: int, *, cell: int | None = None, max_steps: int = MAX_STEPS
) -> ProgramGraph | NotReadable:
    """Return the inputs of one length as a graph labelled by the program's answers, or why there is none.

    ``cell``: for a program with an answer per token, the index of the token whose answer is the label.
    Ensures: the graph's paths are exactly the domain's inputs of the length, and each path's label is the
             interpreter's answer (the whole of it, or the one cell asked for).
    Raises:  ProgramError if the program does not fit the read-out.
    Cost:    at most ``max_steps`` steps of a machine, or ``MAX_LISTED`` inputs evaluated.
    """
    check_program(program, domain.vocabulary, domain.readout)
    if program.adapter in ("generate", "step"):
        return NotReadable("a generated answer is no label: its tokens depend on each other")
    if (program.adapter == "every") != (cell is not None) or (cell is not None and not 0 <= cell < length):
        return NotReadable(f"cell {cell} of an answer to {length} tokens was asked, expected one that exists")
    if not domain.is_exact_at(length):
        return NotReadable(f"the inputs of length {length} have no exact count")
    graph = domain.graph_at(length)
    if graph is None:
        known = "no inputs" if not domain.size_at(length) else "no graph of its inputs"
        return NotReadable(f"length {length} has {known}")

    def listed(batch: Batch) -> NDArray[np.int32]:
        found = evaluate(program, batch, domain.vocabulary, domain.readout)
        return found if cell is None else found[:, cell : cell + 1]

    try:
        if domain.readout.kind == "value" and not all(map(counts_units, program.terms())):
            raise Refused("a whole number as the answer to a real read-out")
        reader = _AnswerReader(read_terms(*_terms(program, domain), length), length, cell)
    except Refused as refused:
        return _listed(listed, domain, graph, length, f"{refused} cannot be read from the left")
    return _explored(reader, listed, domain, graph, length, max_steps)


def difference_graph(
    left: Program, right: Program, domain: Domain, length: int, *, max_steps: int = MAX_STEPS
) -> ProgramGraph | NotReadable:
    """Return the inputs of one length labelled ``(1,)`` where two programs answer differently, else ``(0,)``.

    Ensures: the graph's paths are exactly the domain's inputs of the length, each labelled as the interpreter's two
             answers compare.
    Raises:  ProgramError if a program does not fit the read-out.
    Cost:    as ``program_graph``.
    """
    for program in (left, right):
        check_program(program, domain.vocabulary, domain.readout)
    graph = domain.graph_at(length) if domain.is_exact_at(length) else None
    if graph is None:
        return NotReadable(f"the inputs of length {length} have no graph")

    def listed(batch: Batch) -> NDArray[np.int32]:
        found = [evaluate(program, batch, domain.vocabulary, domain.readout) for program in (left, right)]
        return np.asarray(~same_answers(*found), dtype=np.int32)[:, None]

    try:
        machine = read_pair(left, right, domain, length)
    except Refused as refused:
        return _listed(listed, domain, graph, length, f"{refused} cannot be read from the left")
    reader = DifferenceReader(machine, length, left.adapter == "every")
    return _explored(reader, listed, domain, graph, length, max_steps)


def read_pair(left: Program, right: Program, domain: Domain, length: int | None) -> TermMachine:
    """Return one machine of two programs' output terms, the left ones first, shared parts once. Raises: Refused."""
    if left.adapter != right.adapter or left.adapter in ("generate", "step"):
        raise Refused("a generated answer")
    if not values_tell((left, right), domain.readout):
        raise Refused("an if-then-else or a pair of fractions and whole numbers")
    pair = [_terms(program, domain) for program in (left, right)]
    return read_terms((*pair[0][0], *pair[1][0]), domain.vocabulary, pair[0][2] | pair[1][2], length)


def _terms(program: Program, domain: Domain) -> tuple[tuple[Term, ...], Any, Any]:
    """Return the output terms, one for each cell, all sequence-wide, with vocabulary and sorts.

    Raises:  Refused where one output is tokens here and numbers there, whose last one has no sort.
    """
    terms = program.terms()
    if program.adapter == "multilabel":
        never = Term("boolean", (), (0,))
        given = dict(program.outputs)
        terms = tuple(given.get(label, never) for label in domain.readout.labels(domain.vocabulary))
    elif program.adapter == "every":
        if any(is_mixed(sorts_of(term, domain.vocabulary)[term]) for term in terms):
            raise Refused("tokens and numbers in one answer")
        # read from the left with the length known, the value at a position is the last one of the prefix ending there
        terms = tuple(Term("last", (Term("everywhere"), term)) for term in terms)
    sorts = {part: sort for term in terms for part, sort in sorts_of(term, domain.vocabulary).items()}
    return terms, domain.vocabulary, sorts


class _Reader(Protocol):
    """Reads an input from the left; memories are hashable, ``label`` is asked at the end."""

    def start(self) -> Any:
        """Return the memory of nothing."""

    def step(self, memory: Any, depth: int, letter: int) -> Any:
        """Return the memory after the token id ``letter`` at index ``depth``."""

    def label(self, memory: Any) -> Cells:
        """Return the label of the whole input."""


@dataclass(frozen=True, slots=True)
class _AnswerReader:
    """Labels an input by the program's answer, or by one cell of it, remembered from its place on."""

    machine: TermMachine
    length: int
    cell: int | None

    def start(self) -> Any:
        return self.machine.start()

    def step(self, memory: Any, depth: int, letter: int) -> Any:
        if self.cell is not None and depth > self.cell:
            return memory
        after = self.machine.step(memory, depth, letter)
        return self._cells(after) if depth == self.cell else after

    def label(self, memory: Any) -> Cells:
        return self._cells(memory) if self.cell is None else tuple(memory)

    def _cells(self, memory: Any) -> Cells:
        return tuple(int(x) for x in self.machine.values(memory, self.length))


@dataclass(frozen=True, slots=True)
class DifferenceReader:
    """Labels an input by whether two programs' answers differ; what is settled is remembered as that alone.

    The machine is that of ``read_pair``; ``is_every``: there is an answer at every token, and one difference suffices.
    """

    machine: TermMachine
    length: int
    is_every: bool

    def start(self) -> Any:
        """Return the memory of nothing."""
        memory = self.machine.start()
        return memory if self.is_every else self._settled(memory)

    def step(self, memory: Any, depth: int, letter: int) -> Any:
        """Return the memory after a token: the machine's state, or whether the answers differ once that is settled."""
        if isinstance(memory, bool):
            return memory
        after = self.machine.step(memory, depth, letter)
        if self.is_every:
            return True if self._differ(after) else after
        return self._settled(after)

    def label(self, memory: Any) -> Cells:
        """Return (1,) where the answers differ, else (0,)."""
        if not isinstance(memory, bool):
            memory = False if self.is_every else self._differ(memory)
        return (int(memory),)

    def _differ(self, memory: Any) -> bool:
        values = self.machine.values(memory, self.length)
        half = len(values) // 2
        return bool(values[:half] != values[half:])

    def _settled(self, memory: Any) -> Any:
        values = [self.machine.settled(memory, i) for i in range(len(self.machine.finals))]
        half = len(values) // 2
        pairs = list(zip(values[:half], values[half:], strict=True))
        known = [pair for pair in pairs if OPEN not in pair]
        if any(a != b for a, b in known):
            return True
        return False if len(known) == len(pairs) else memory


def _explored(
    reader: _Reader, listed: Listing, domain: Domain, graph: InputGraph, length: int, max_steps: int
) -> ProgramGraph | NotReadable:
    """Follow promise and reader together; list the inputs where that takes too many steps or states."""
    live = _live(graph, length)
    start = reader.start()
    layer: list[tuple[int, Any]] = [(0, start if length else reader.label(start))]
    tables: list[States] = []
    n_steps = 0
    for depth in range(length):
        following = np.where(graph.next[depth] >= 0, graph.next[depth], len(live[depth + 1]) - 1)
        n_steps += len(layer) * graph.n_letters
        if n_steps > max_steps:
            why = f"its automaton needs more than {max_steps:,} steps at length {length}"
            return _listed(listed, domain, graph, length, why)
        table: States = np.full((len(layer), graph.n_letters), -1, dtype=np.int32)
        numbers: dict[tuple[int, Any], int] = {}
        for row, (state, memory) in enumerate(layer):
            for letter in np.flatnonzero(live[depth + 1][following[state]]).tolist():
                after = reader.step(memory, depth, domain.alphabet[letter])
                is_last = depth + 1 == length
                node = (0, reader.label(after)) if is_last else (int(following[state, letter]), after)
                table[row, letter] = numbers.setdefault(node, len(numbers))
        if len(numbers) > MAX_STATES_PER_DEPTH:
            why = f"its automaton has {len(numbers):,} states at depth {depth + 1} of length {length}"
            return _listed(listed, domain, graph, length, why)
        tables.append(table)
        layer = list(numbers)
    return _smallest(tables, [value for _, value in layer], graph.n_letters)


def _live(graph: InputGraph, length: int) -> list[NDArray[np.bool_]]:
    """Say of every node whether an input of the length goes through it; a last, dead state is added to each depth."""
    live = [np.append(graph.accept[length], False)]
    for depth in range(length - 1, -1, -1):
        table = graph.next[depth]
        ahead = live[-1][np.where(table >= 0, table, len(live[-1]) - 1)]
        live.append(np.append(np.asarray(ahead.any(axis=1)), False))
    return live[::-1]


def _listed(label: Listing, domain: Domain, graph: InputGraph, length: int, why: str) -> ProgramGraph | NotReadable:
    """Label every input by evaluation, where they are few enough."""
    size = graph.size(length)
    if size > MAX_LISTED:
        return NotReadable(f"{why}, and {size:,} inputs of length {length} are too many to list")
    parts = []
    try:
        for start in range(0, size, _CHUNK):
            codes = domain.vocabulary.token_codes[domain.tokens(length, start, min(start + _CHUNK, size))]
            parts.append(label(Batch(codes, np.full(len(codes), length, dtype=np.int32))))
    except ProgramError as error:
        return NotReadable(error.line())
    answers, classes = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    tables = layers_of(graph, length, classes.reshape(-1).astype(np.int32))
    if tables is None:
        return NotReadable(f"length {length} has no inputs")
    return _smallest(tables, [tuple(row) for row in answers.tolist()], graph.n_letters)


def _smallest(tables: list[States], labels: list[Cells], n_letters: int) -> ProgramGraph:
    """Merge states with equal futures, number them by discovery, and the answers in ascending order."""
    answers = sorted(set(labels))
    place = {cells: i for i, cells in enumerate(answers)}
    merged: States = np.array([place[label] for label in labels], dtype=np.int32)
    small: list[States] = []
    for table in reversed(tables):
        unique, merged = distinct_rows(np.append(merged, np.int32(-1))[table])
        small.append(unique)
    small.reverse()
    order = np.array([merged[0]], dtype=np.int32)
    numbered: list[States] = []
    for depth, table in enumerate(small):
        rows = table[order]
        if depth == len(small) - 1:
            numbered.append(rows)
            break
        met, first = np.unique(rows[rows >= 0], return_index=True)
        order = met[np.argsort(first)]
        number = np.full(len(small[depth + 1]) + 1, -1, dtype=np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        numbered.append(number[rows])
    return ProgramGraph(len(tables), n_letters, tuple(numbered), tuple(answers))
