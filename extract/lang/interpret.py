"""The definition of every operator: one input at a time, Python numbers and lists, nothing clever.

All other meanings are tested against this one. It refuses to be fast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from extract.lang.elementwise import RELATION_SCALAR, SCALAR, constant_code, number, table_codes
from extract.lang.number_answers import number_answer
from extract.lang.operators import DEFAULTED_NAMES, MEAN_SCALE, NO_SYMBOL, OPERATORS
from extract.lang.sorts import Shape, Sort, check_program, sorts_of
from extract.lang.terms import Program, Term
from extract.readout import ReadOut
from extract.vocabulary import Vocabulary, whole_codes

#: Generated answers end here when the read-out sets no limit of its own.
MOST_STEPS = 4096


class HasVocabulary(Protocol):
    """Anything with a vocabulary, such as a domain."""

    @property
    def vocabulary(self) -> Vocabulary: ...


@dataclass(frozen=True, slots=True)
class OneInput:
    """One input as a program sees it: token codes, how many outputs are generated, how many tokens were the prompt."""

    codes: tuple[int, ...]
    n_steps: int = 1
    prompt_length: int = 0


def answer(
    program: Program, codes: tuple[int, ...], domain: HasVocabulary | Vocabulary, readout: ReadOut
) -> tuple[int, ...]:
    """Return a program's answer to one input, as codes (the cells of ``Answers.values`` without ABSENT).

    Raises:  ProgramError if the program does not fit the read-out.
    """
    vocabulary = domain if isinstance(domain, Vocabulary) else domain.vocabulary
    sorts = check_program(program, vocabulary, readout)
    one = OneInput(codes)
    if program.adapter == "multilabel":
        terms = dict(program.outputs)
        labels = readout.labels(vocabulary)
        return tuple(int(_run(terms[name], one, vocabulary, sorts)[0]) if name in terms else 0 for name in labels)
    if program.adapter == "generate":
        wanted = _run(program.term("output_length"), one, vocabulary, sorts)[0]
        n_steps = max(0, min(number(wanted), readout.max_new or MOST_STEPS))
        cells = _run(program.term(), OneInput(codes, n_steps), vocabulary, sorts)
        return tuple(_stretch(cells, n_steps))
    if program.adapter == "step":
        return _generate_by_steps(program.term(), codes, vocabulary, readout, sorts)
    run = _run_number if readout.kind == "value" else _run
    cells = run(program.term(), one, vocabulary, sorts)
    return tuple(_stretch(cells, len(codes)) if program.adapter == "every" else cells)


def evaluate_one(term: Term, codes: tuple[int, ...], vocabulary: Vocabulary, n_steps: int = 1) -> list[Any]:
    """Return a term's cells on one input: one cell if whole, one per position or step, one row per query."""
    return _run(term, OneInput(codes, n_steps, len(codes)), vocabulary, sorts_of(term, vocabulary))


def _generate_by_steps(
    term: Term, codes: tuple[int, ...], vocabulary: Vocabulary, readout: ReadOut, sorts: dict[Term, Sort]
) -> tuple[int, ...]:
    stop = None if readout.stop is None else int(vocabulary.token_codes[readout.stop])
    written: list[int] = []
    while len(written) < (readout.max_new or MOST_STEPS):
        one = OneInput((*codes, *written), 1, len(codes))
        cell = _run(term, one, vocabulary, sorts)[0]
        if cell == stop:
            break
        written.append(cell)
    return tuple(written)


def _run(term: Term, one: OneInput, vocabulary: Vocabulary, sorts: dict[Term, Sort]) -> list[Any]:
    values: dict[Term, list[Any]] = {}
    for subterm in term.subterms():
        values[subterm] = _node(subterm, [values[a] for a in subterm.arguments], one, vocabulary, sorts)
    return values[term]


def _run_number(term: Term, one: OneInput, vocabulary: Vocabulary, sorts: dict[Term, Sort]) -> list[Any]:
    """Return the codes of an output term as an answer to a real read-out."""
    size = _size(sorts[term].shape, one)

    def units(part: Term) -> list[Any]:
        return _spread(_run(part, one, vocabulary, sorts), sorts[part], size)

    def whole(part: Term) -> list[Any]:
        return [int(whole_codes(np.array([cell], dtype=object))[0]) for cell in units(part)]

    def choice(condition: Term, then: list[Any], otherwise: list[Any]) -> list[Any]:
        return [a if holds else b for holds, a, b in zip(units(condition), then, otherwise, strict=True)]

    return number_answer(term, units, whole, choice)


def _stretch(cells: list[Any], n: int) -> list[Any]:
    """Return a sequence-wide value repeated along an axis; any other value as it is."""
    return cells * n if len(cells) == 1 else cells


def _size(shape: Shape, one: OneInput) -> int:
    return {"whole": 1, "position": len(one.codes), "step": one.n_steps}[shape]


def _node(
    term: Term, arguments: list[list[Any]], one: OneInput, vocabulary: Vocabulary, sorts: dict[Term, Sort]
) -> list[Any]:
    name, sort, n = term.operator, sorts[term], len(one.codes)
    size = _size(sort.shape, one)
    row = OPERATORS[name]
    arguments = [
        [number(cell) for cell in cells] if expected.tag == "number" else cells
        for expected, cells in zip(row.arguments, arguments, strict=False)
    ]
    shaped = [
        _spread(cells, sorts[a], n if expected.along == "positions" else size)
        for expected, a, cells in zip(row.arguments, term.arguments, arguments, strict=False)
    ]
    if name in _LEAVES:
        return list(_LEAVES[name](one))
    if name in ("integer", "symbol"):
        return [constant_code(term.data[0], vocabulary)]
    if name == "boolean":
        return [bool(term.data[0])]
    if sort.kind == "S":
        return _selector(term, shaped, n, size)
    if name in SCALAR:
        return [SCALAR[name](*cells) for cells in zip(*shaped, strict=True)]
    if name in ("table", "table2"):
        listed, default = table_codes(term.data[0], vocabulary), constant_code(term.data[1], vocabulary)
        keys = shaped[0] if name == "table" else list(zip(*shaped, strict=True))
        return [listed.get(key, default) for key in keys]
    if name in _SUMMARIES:
        return [_SUMMARIES[name](shaped[0])]
    if name in DEFAULTED_NAMES and len(shaped) < len(row.arguments):
        shaped.append([default_code(sorts[term.arguments[-1]], vocabulary)] * size)
    if name in ("running_count", "rank", "shift", "scan", "horner"):
        return _running(term, shaped, vocabulary)
    return [_aggregate(name, selected, shaped, q) for q, selected in enumerate(shaped[0])]


def default_code(values: Sort, vocabulary: Vocabulary) -> int:
    """Return the code an omitted default stands for: no symbol for tokens that are not numbers, else 0."""
    return NO_SYMBOL if values.tag == "T" and not vocabulary.numeric else 0


def _spread(cells: list[Any], sort: Sort, size: int) -> list[Any]:
    return cells * size if sort.shape == "whole" else cells


def _selector(term: Term, shaped: list[list[Any]], n: int, size: int) -> list[list[bool]]:
    name = term.operator
    if name == "select":
        keys, queries = shaped
        relation = RELATION_SCALAR[str(term.data[0])]
        return [[relation(key, query) for key in keys] for query in queries]
    if name == "keys_where":
        return [shaped[0]]
    if name == "not":
        return [[not picked for picked in query] for query in shaped[0]]
    if name in ("and", "or"):
        return [[SCALAR[name](a, b) for a, b in zip(*rows, strict=True)] for rows in zip(*shaped, strict=True)]
    side = _SIDES[name]
    return [[side(k, q) for k in range(n)] for q in range(size)]


_SIDES: dict[str, Callable[[int, int], bool]] = {
    "before": lambda k, q: k < q,
    "upto": lambda k, q: k <= q,
    "after": lambda k, q: k > q,
    "everywhere": lambda k, q: True,
}


def _aggregate(name: str, selected: Sequence[bool], shaped: list[list[Any]], query: int) -> Any:
    if name == "exists":
        return any(selected)
    if name == "selector_width":
        return sum(selected)
    picked = [value for chosen, value in zip(selected, shaped[1], strict=True) if chosen]
    if name == "sum_over":
        return sum(picked)
    if name == "mean":
        return MEAN_SCALE * sum(picked) // len(picked) if picked else 0
    if not picked:
        return shaped[2][query]
    return {"first": picked[0], "last": picked[-1], "min_over": min(picked), "max_over": max(picked)}[name]


def _running(term: Term, shaped: list[list[Any]], vocabulary: Vocabulary) -> list[Any]:
    name, values = term.operator, shaped[0]
    n = len(values)
    if name == "running_count":
        return [sum(values[: i + 1]) for i in range(n)]
    if name == "rank":
        return [sum((values[j], j) < (values[i], i) for j in range(n)) for i in range(n)]
    if name == "shift":
        k = term.data[0]
        assert isinstance(k, int)
        return [values[i - k] if 0 <= i - k < n else shaped[1][i] for i in range(n)]
    if name == "scan":
        return _scan(term, values, vocabulary)
    a, m = (d for d in term.data if isinstance(d, int))
    r, remainders = 0, []
    for value in values:
        r = a * r + value
        r = r % m if m else r
        remainders.append(r)
    return remainders


def _scan(term: Term, values: list[Any], vocabulary: Vocabulary) -> list[int]:
    start, letters, transitions = term.data
    assert isinstance(start, int) and isinstance(letters, tuple) and isinstance(transitions, tuple)
    column = {constant_code(letter, vocabulary): j for j, letter in enumerate(letters)}
    state, states = start, []
    for value in values:
        if value in column:
            row = transitions[state]
            assert isinstance(row, tuple)
            target = row[column[value]]
            assert isinstance(target, int)
            state = target
        states.append(state)
    return states


def _has_unique_mode(values: Sequence[Any]) -> bool:
    counts = sorted(Counter(values).values())
    return bool(counts) and (len(counts) == 1 or counts[-2] < counts[-1])


def _all_different(values: Sequence[Any]) -> bool:
    return len(set(values)) == len(values)


_SUMMARIES: dict[str, Any] = {
    "count": sum,
    "all": all,
    "any": any,
    "distinct": _all_different,
    "distinct_pairs": lambda values: _all_different(list(pairwise(values))),
    "unique_mode": _has_unique_mode,
    "increasing": lambda values: all(a < b for a, b in pairwise(values)),
}


_LEAVES: dict[str, Any] = {
    "tokens": lambda one: list(one.codes),
    "indices": lambda one: list(range(len(one.codes))),
    "length": lambda one: [len(one.codes)],
    "step": lambda one: list(range(one.n_steps)),
    "prompt_length": lambda one: [one.prompt_length],
}
