"""The step of the ladder above enumeration: lengths too large to enumerate, decided box by box and told as evidence.

A length's tree is written in the form a certificate stores and a checker repeats. Strings found to differ are asked of
the model once more before they count. This room decides nothing about a box itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from extract.domain import Domain
from extract.lang.terms import Program
from extract.network import Network
from extract.oracle import Oracle
from extract.outcome import BoxRegion, Counterexample, Tally
from extract.progress import Progress
from extract.shards import Shards, Stop
from extract.verify.ahead import Early, ProofsAhead
from extract.verify.box_proof import MAX_BOXES, BoxProver
from extract.verify.counterexamples import ask
from extract.verify.length_proof import LengthProof
from extract.verify.two_layers import prover_for

#: Witnesses of one length and offset that are replayed and kept.
_N_WITNESSES = 10
#: Seconds of lengths decided here before the rest is shared out: a worker first reads the checkpoint.
_ALONE_SECONDS = 0.2


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
    ``shards`` decide lengths ahead of their turn. What each may cost depends on what those before it did: a length that
    was given another limit, and would have come out otherwise under its own, is decided again here. So the results are
    those of one process; a length whose shard is lost is undecided.
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
        shards: Shards | None = None,
    ) -> None:
        self.domain, self.oracle, self.progress, self.stop, self._worth = domain, oracle, progress, stop, worth
        self._shards = shards
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
        self._decide_all(program, todo)
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

    def _decide_all(self, program: Program, todo: Sequence[tuple[int, int]]) -> None:
        """Decide pairs in their order, some of them ahead of their turn where there are shards."""
        since, ahead = time.monotonic(), None
        try:
            for index, (length, offset) in enumerate(todo):
                if self.stop():
                    return
                share = self.share(self._n_boxes, len(todo) - index, length)
                early: Early | None = None
                if ahead is None and self._shards is not None and index + 1 < len(todo):
                    is_long = time.monotonic() - since >= _ALONE_SECONDS
                    ahead = ProofsAhead(self, self._shards, program, todo[index:]) if is_long else None
                if ahead is not None:
                    early = ahead.next(self._n_boxes)
                    if early is None:
                        return
                self._known[program, length, offset] = self._decide(program, length, offset, share, early)
                self.progress.advance(index + 1, len(todo), "lengths")
        finally:
            if ahead is not None:
                ahead.close()

    def share(self, n_boxes: int, n_left: int, length: int) -> int:
        """Return how many of so many boxes a length may take that is the first of so many left."""
        share = max(1, min(MAX_BOXES, n_boxes // max(1, n_left)))
        worth = self._worth(length)
        if worth is None or self._prover is None:
            return share
        return min(share, max(1, worth // self._prover.box_work))

    def _decide(
        self, program: Program, length: int, offset: int, max_boxes: int, early: Early | None
    ) -> tuple[BoxRegion, tuple[Counterexample, ...]] | str:
        """Decide a pair with so many boxes, unless what was found early says it."""
        if self._prover is None:
            return self.refusal or ""
        found = early.under(max_boxes) if early is not None else None
        if found is None:
            result = self._prover.prove(program, length, offset, max_boxes)
            found = result if isinstance(result, str) else LengthProof.of(self.domain, result)
        if isinstance(found, str):
            return found
        self._n_boxes -= found.n_boxes
        examples = self._replayed(program, found)
        return region_of(self.domain, found, tuple(e.tokens for e in examples)), examples

    def _replayed(self, program: Program, result: LengthProof) -> tuple[Counterexample, ...]:
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


def region_of(domain: Domain, proof: LengthProof, witnesses: tuple[tuple[int, ...], ...]) -> BoxRegion:
    """Return a proof as evidence; ``witnesses`` are token ids of replayed differences, counted where they lie in open
    leaves."""
    inside = {tuple(domain.alphabet[a] for a in letters) for letters in proof.inside_open}
    n_inside = sum(tokens in inside for tokens in witnesses)
    found = proof.tally
    tally = Tally(found.agree, found.disagree + n_inside, found.undecided - n_inside, found.min_margin)
    return BoxRegion(proof.length, proof.offset, tally, proof.tree, witnesses, proof.error)
