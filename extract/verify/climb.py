"""The step of the ladder above enumeration: lengths too large to enumerate, decided box by box and told as evidence.

A length's tree is written in the form a certificate stores and a checker repeats. Strings found to differ are asked of
the model once more before they count. This room decides nothing about a box itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from extract.domain import Domain
from extract.lang.terms import Program
from extract.network import Network
from extract.oracle import Oracle
from extract.outcome import BoxRegion, Counterexample, Tally
from extract.progress import Progress
from extract.verify.box_proof import MAX_BOXES, BoxProver, BoxResult
from extract.verify.boxes import Node
from extract.verify.context import Memory
from extract.verify.counterexamples import ask
from extract.verify.two_layers import prover_for

Stop = Callable[[], bool]

#: Witnesses of one length and offset that are replayed and kept.
_N_WITNESSES = 10


@dataclass(frozen=True, slots=True)
class Climb:
    """What boxes found of some lengths: evidence, replayed differences, and why lengths are missing or undecided."""

    regions: tuple[BoxRegion, ...]
    examples: tuple[Counterexample, ...]
    reason: str

    @property
    def tally(self) -> Tally:
        """The counts of all regions together."""
        return sum((region.tally for region in self.regions), Tally())


class BoxClimber:
    """Decides (length, offset) pairs of one network and domain for any program, each pair and program once.

    ``work_limit`` is in estimated multiply-adds; boxes beyond it stay undecided. So do those of a length on which they
    have cost what ``worth`` says of it: the multiply-adds of what decides it without them, None if nothing can.
    """

    def __init__(
        self,
        network: Network,
        domain: Domain,
        oracle: Oracle,
        semantics: str,
        *,
        work_limit: int,
        progress: Progress,
        stop: Stop,
        worth: Callable[[int], int | None] = lambda _: None,
    ) -> None:
        self.domain, self.oracle, self.progress, self.stop, self._worth = domain, oracle, progress, stop, worth
        found = prover_for(network, domain, semantics, stop)
        self.refusal = found if isinstance(found, str) else None
        self._prover: BoxProver | None = None if isinstance(found, str) else found
        self._n_boxes = 0 if self._prover is None else work_limit // self._prover.box_work
        self._known: dict[tuple[Program, int, int], tuple[BoxRegion, tuple[Counterexample, ...]] | str] = {}

    def climb(self, program: Program, pairs: Sequence[tuple[int, int]]) -> Climb:
        """Decide (length, offset) pairs, shortest lengths first."""
        if self._prover is None:
            return Climb((), (), self.refusal or "")
        regions: list[BoxRegion] = []
        examples: list[Counterexample] = []
        reason = ""
        todo = sorted(pair for pair in pairs if (program, *pair) not in self._known)
        for index, (length, offset) in enumerate(todo):
            if self.stop():
                break
            share = max(1, min(MAX_BOXES, self._n_boxes // max(1, len(todo) - index)))
            worth = self._worth(length)
            if worth is not None:
                share = min(share, max(1, worth // self._prover.box_work))
            self._known[program, length, offset] = self._decide(program, length, offset, share)
            self.progress.advance(index + 1, len(todo), "lengths")
        for length, offset in pairs:
            found = self._known.get((program, length, offset), "stopped before every length was decided")
            if isinstance(found, str):
                reason = reason or found
                continue
            regions.append(found[0])
            examples += found[1]
            if found[0].tally.undecided:
                reason = reason or f"the boxes allowed leave inputs of length {length} undecided"
        return Climb(tuple(regions), tuple(examples), reason)

    def _decide(
        self, program: Program, length: int, offset: int, max_boxes: int
    ) -> tuple[BoxRegion, tuple[Counterexample, ...]] | str:
        if self._prover is None:
            return self.refusal or ""
        result = self._prover.prove(program, length, offset, max_boxes)
        if isinstance(result, str):
            return result
        self._n_boxes -= result.n_boxes
        examples = self._replayed(program, result)
        return region_of(self.domain, result, tuple(e.tokens for e in examples)), examples

    def _replayed(self, program: Program, result: BoxResult) -> tuple[Counterexample, ...]:
        """Ask the model and the program once more about the strings that seem to differ, shortest list first."""
        found = []
        for letters in sorted(result.different):
            tokens = tuple(self.domain.alphabet[a] for a in letters)
            example = ask(program, self.oracle, tokens, result.offset)
            if example is not None:
                found.append(replace(example, method="boxes"))
            if len(found) == _N_WITNESSES:
                break
        return tuple(found)


def region_of(domain: Domain, result: BoxResult, witnesses: tuple[tuple[int, ...], ...]) -> BoxRegion:
    """Return a tree as evidence; ``witnesses`` are token ids of replayed differences, counted where they lie in open
    leaves."""
    leaves = result.tree.leaves()
    inside = {tuple(domain.alphabet[a] for a in letters) for letters in result.inside_open}
    n_inside = sum(tokens in inside for tokens in witnesses)
    agree, disagree = sum(leaf.agree for leaf in leaves), sum(leaf.disagree for leaf in leaves) + n_inside
    least = min((leaf.least for leaf in leaves), default=float("inf"))
    tally = Tally(agree, disagree, result.tree.size - agree - disagree, least)
    text = json.dumps(_written(domain, result, result.tree), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    error = max((leaf.error for leaf in leaves if leaf.undecided < leaf.size), default=0.0)
    return BoxRegion(result.length, result.offset, tally, text, witnesses, error)


def _written(domain: Domain, result: BoxResult, node: Node) -> list[Any]:
    """Return a node as lists.

    Leaves: ["b", size, least margin, answer] bounded, of two layers with a memory behind, ["l", size, agree, disagree,
    least margin] listed, ["o", size] open. Splits: ["a", [answer, child], ...] by the program's answer, ["p", position,
    [letter, child], ...] by a letter, ["c", letters, start, stop, cut, [0 or 1, child], ...] by a count of at most the
    cut, or more, ["e", memory, [[letter, ..., count, ...], ...], [0 or 1, child], ...] by whether what is remembered at
    the end is none or one of those listed, ["s", direction, [[weight of each letter], ... for each position], [side,
    number of cells, ...], [side, child], ...] by the cells of a division in order of sums, side -1 what is left over. A
    memory is [recent, [counted letter, ...]]; in it and in what is remembered
    letters are numbers of the alphabet. Sizes are decimal strings.
    """
    names, split = domain.vocabulary.names, node.split
    if split is None:
        if node.kind == "bounded":
            memory = [] if node.memory is None else [_memory(node.memory)]
            return ["b", str(node.size), node.least, _answer(domain, node.model), *memory]
        if node.kind == "listed":
            least = node.least if node.agree + node.disagree else None
            return ["l", str(node.size), node.agree, node.disagree, least]
        return ["o", str(node.size)]
    children = [(key, _written(domain, result, child)) for key, child in node.children]
    if split.kind == "answer":
        return ["a", *[[_answer(domain, result.answers[key]), child] for key, child in children]]
    if split.sums is not None:
        sums = split.sums
        first = np.flatnonzero(np.diff(sums.sides, prepend=-2))
        runs = np.column_stack([sums.sides[first], np.diff(np.append(first, len(sums.sides)))]).ravel()
        return ["s", sums.direction.tolist(), sums.weights.tolist(), runs.tolist(), *map(list, children)]
    if split.kind == "at":
        return ["p", split.start, *[[names[domain.alphabet[key]], child] for key, child in children]]
    if split.memory is not None:
        return ["e", _memory(split.memory), [list(end) for end in sorted(split.ends)], *map(list, children)]
    letters = [names[domain.alphabet[a]] for a in split.letters]
    return ["c", letters, split.start, split.stop, split.cut, *[[key, child] for key, child in children]]


def _memory(memory: Memory) -> list[Any]:
    return [memory.recent, list(memory.counted)]


def _answer(domain: Domain, cells: tuple[int, ...]) -> list[Any]:
    """Return an answer's cells as names, or as 0 and 1 for labels."""
    is_set = domain.readout.kind == "multilabel"
    return [cell if is_set else domain.vocabulary.name(cell) for cell in cells]
