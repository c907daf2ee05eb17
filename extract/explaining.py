"""The explanation of a result: its program in words, how many inputs take each branch, the smallest example of each.

Counts come from evaluating the program on inputs of the domain, shortest first, as far as that is cheap; how far is
said. The model is not asked: a result that is proved has already said where the two agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain, build_domain
from extract.lang.batched import Batch, evaluate, evaluate_term
from extract.lang.printing import print_term
from extract.lang.promise import compile_promise
from extract.lang.terms import Program, Term
from extract.readout import Inputs
from extract.report.explain import Branch, Example, Explanation, program_words
from extract.report.report import Report, ResultError
from extract.spec import load_spec, with_overrides
from extract.stages_load import read_program
from extract.vocabulary import ABSENT

_LARGEST_LISTING = 200_000
_CHUNK = 20_000
_MOST_BRANCHES = 24
_MOST_EXAMPLES = 6


def explain(report: Report, spec: Path | None = None, folder: Path | None = None) -> Explanation:
    """Explain the first program of a result; with its spec, also count who takes which branch.

    Raises:  ResultError if the result has no program, or the spec named is not the one it was made with.
    """
    if not report.programs or report.task is None:
        raise ResultError(f"has status {report.status} and no program, expected one to explain")
    readout = report.task.readout
    program = read_program(report.programs[0].text, readout.at, readout.kind)
    words = tuple(program_words(program, are_numbers=readout.kind == "value"))
    found = _spec_of(report, spec, folder)
    if program.adapter == "step":
        return Explanation(words, (), (), "branches of a program that says one token at a time are not counted")
    if found is None:
        digest = report.task.spec_sha256[:12]
        return Explanation(
            words, (), (), f"no inputs were looked at: --spec FILE names the task spec (sha256 {digest})"
        )
    asked = report.task.domain
    domain = build_domain(
        with_overrides(load_spec(found).spec, max_length=asked.max_length, offsets=asked.offsets), compile_promise
    )
    return _counted(program, domain, words)


def _spec_of(report: Report, spec: Path | None, folder: Path | None) -> Path | None:
    """Return a spec file with the digest of the result: the one named, else one beside the result or checkpoint."""
    if report.task is None:
        return None
    if spec is not None:
        if _digest(spec) != report.task.spec_sha256:
            raise ResultError(f"was made with another spec (sha256 {report.task.spec_sha256}), not {spec}")
        return spec
    places = [base for base in (Path(), folder) if base is not None]
    if report.model is not None:
        places += [base / report.model.path for base in places]
    named = [place / name for place in places for name in ("spec.toml", "spec.json")]
    return next((path for path in named if _digest(path) == report.task.spec_sha256), None)


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


@dataclass(slots=True)
class _Split:
    """One branch while it is counted."""

    output: str
    conditions: tuple[Term, ...]
    value: Term
    n_cells: int = 0
    example: str | None = None


def _splits(output: str, term: Term, conditions: tuple[Term, ...] = ()) -> Iterator[_Split]:
    if term.operator == "if" and len(conditions) < 6:
        condition, then, otherwise = term.arguments
        yield from _splits(output, then, (*conditions, condition))
        yield from _splits(output, otherwise, (*conditions, Term("not", (condition,))))
    else:
        yield _Split(output, conditions, term)


def _counted(program: Program, domain: Domain, words: tuple[str, ...]) -> Explanation:
    is_set = program.adapter == "multilabel"
    splits = (
        [_Split(name, (term,), term) for name, term in program.outputs if term.operator != "boolean"]
        if is_set
        else [s for name, term in program.outputs for s in _splits(name, term)]
    )[:_MOST_BRANCHES]
    n_inputs = n_cells = 0
    longest = None
    examples: dict[str, Example] = {}
    for length, tokens in _listing(domain):
        inputs = Inputs(tokens, np.full(len(tokens), length, np.int32), np.zeros(len(tokens), np.int32))
        batch = Batch(inputs.codes(domain.vocabulary), inputs.lengths)
        values = evaluate(program, batch, domain.vocabulary, domain.readout)
        batch = replace(batch, n_steps=values.shape[1] if program.adapter == "generate" else 0)
        valid = values != ABSENT if program.adapter in ("every", "generate") else np.ones((len(tokens), 1), bool)
        for split in splits:
            _count(split, batch, domain, tokens, valid)
        n_inputs, n_cells, longest = n_inputs + len(tokens), n_cells + int(valid.sum()), length
        _add_examples(examples, domain, tokens, values)
    unit = {"every": "positions", "generate": "output tokens"}.get(program.adapter, "inputs")
    n_total = n_cells if program.adapter in ("every", "generate") else n_inputs
    branches = tuple(_branch(split, is_set, n_inputs if split.output == "output_length" else n_total,
                             "inputs" if split.output == "output_length" else unit) for split in splits)  # fmt: skip
    n_strings = sum(domain.size_at(n) for n in domain.lengths)
    whole = "all inputs of the domain" if n_inputs == n_strings else f"the inputs of length {longest} and less"
    return Explanation(words, branches, tuple(examples.values()), f"counted on {whole} at one offset ({n_inputs})")


def _listing(domain: Domain) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield the strings of the domain in chunks of one length, shortest first, while that is cheap."""
    left = _LARGEST_LISTING
    for length in domain.lengths:
        size = domain.size_at(length)
        if size > left or not domain.is_exact_at(length):
            return
        left -= size
        for start in range(0, size, _CHUNK):
            yield length, domain.tokens(length, start, min(start + _CHUNK, size))


def _count(split: _Split, batch: Batch, domain: Domain, tokens: NDArray[np.int32], valid: NDArray[np.bool_]) -> None:
    cells = valid if split.output != "output_length" else np.ones((len(tokens), 1), bool)
    cache: dict[Term, Any] = {}
    for condition in split.conditions:
        holds = evaluate_term(condition, batch, domain.vocabulary, cache).astype(bool)
        width = max(cells.shape[1], holds.shape[1]) if min(cells.shape[1], holds.shape[1]) > 1 else None
        if width is not None:
            cells, holds = _padded(cells, width), _padded(holds, width)
        cells = cells & holds
    split.n_cells += int(cells.sum())
    if split.example is None and cells.any():
        split.example = _names(domain, tokens[int(np.argmax(cells.any(axis=1)))])


def _padded(cells: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    return np.pad(cells, ((0, 0), (0, width - cells.shape[1])))


def _names(domain: Domain, tokens: NDArray[np.int32]) -> str:
    return " ".join(domain.vocabulary.names[int(t)] for t in tokens) or "(empty)"


def _add_examples(
    examples: dict[str, Example], domain: Domain, tokens: NDArray[np.int32], values: NDArray[np.int32]
) -> None:
    """Keep the first input of each answer not seen before."""
    _, first = np.unique(values, axis=0, return_index=True)
    labels = domain.readout.labels(domain.vocabulary)
    for row in sorted(int(i) for i in first):
        cells = [int(c) for c in values[row] if c != ABSENT]
        if domain.readout.kind == "multilabel":
            answer = " ".join(label for label, cell in zip(labels, cells, strict=True) if cell) or "(nothing)"
        else:
            answer = " ".join(domain.readout.text(c, domain.vocabulary) for c in cells) or "(nothing)"
        if answer not in examples and len(examples) < _MOST_EXAMPLES:
            examples[answer] = Example(_names(domain, tokens[row]), answer)


def _branch(split: _Split, is_set: bool, n_total: int, unit: str) -> Branch:
    value = "in the answer" if is_set else print_term(split.value)
    conditions = tuple(print_term(c) for c in split.conditions)
    return Branch(split.output, conditions, value, split.n_cells, n_total, unit, split.example)
