"""Lengths decided by shards ahead of their turn, each with the limit of boxes it will probably have.

What is proved of a length depends on its limit, and that on what the lengths before it took. A guess that they take
all they may is right where limits matter most, and a length that needs less comes out the same under any limit. Whoever
asks says what the limit turned out to be. This room proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from extract.domain import Domain
from extract.lang.sorts import check_program
from extract.lang.syntax import parse_program, print_program
from extract.lang.terms import Program
from extract.shards import BadReply, Lost, Message, Reply, Shards, Stop
from extract.verify.box_proof import BoxProver
from extract.verify.length_proof import LengthProof


class Sharing(Protocol):
    """Who shares lengths out: the domain, when to stop, and what a length may take."""

    domain: Domain
    stop: Stop

    def share(self, n_boxes: int, n_left: int, length: int) -> int:
        """Return how many of so many boxes a length may take that is the first of so many left."""


@dataclass(frozen=True, slots=True)
class Early:
    """What was found with a limit of ``asked`` boxes: a proof, or why there is none whatever the limit."""

    asked: int
    found: LengthProof | str

    def under(self, max_boxes: int) -> LengthProof | str | None:
        """Return what the limit gives, None if that is not known."""
        is_same = isinstance(self.found, str) or self.found.holds_for(self.asked, max_boxes)
        return self.found if is_same else None


class ProofsAhead:
    """The lengths and offsets of one program, shared out in their order; close it."""

    def __init__(self, by: Sharing, shards: Shards, program: Program, pairs: Sequence[tuple[int, int]]) -> None:
        self._by, self._program, self._pairs = by, program, pairs
        self._asked: list[int] = []
        self._n_taken, self._n_boxes = 0, 0
        self._replies = shards.map(self._messages(), by.stop)

    def next(self, n_boxes: int) -> Early | None:
        """Return what is known of the next pair, None if it was stopped; ``n_boxes`` are those left before it."""
        self._n_boxes = n_boxes
        reply = next(self._replies, None)
        if reply is None:
            return None
        (length, offset), asked = self._pairs[self._n_taken], self._asked[self._n_taken]
        self._n_taken += 1
        return Early(asked, _found(self._by.domain, length, offset, reply))

    def close(self) -> None:
        """Drop what is under way."""
        self._replies.close()

    def _messages(self) -> Iterator[Message]:
        text = print_program(self._program)
        for index, (length, offset) in enumerate(self._pairs):
            self._asked.append(self._limit_of(index))
            yield {
                "do": "bounds", "program": text, "adapter": self._program.adapter, "length": length, "offset": offset,
                "boxes": self._asked[-1],
            }  # fmt: skip

    def _limit_of(self, index: int) -> int:
        """Return the limit of a pair if those before it, not known yet, take all they may."""
        n_boxes, n_pairs = self._n_boxes, len(self._pairs)
        for before in range(self._n_taken, index):
            n_boxes -= self._by.share(n_boxes, n_pairs - before, self._pairs[before][0])
        return self._by.share(n_boxes, n_pairs - index, self._pairs[index][0])


def _found(domain: Domain, length: int, offset: int, reply: Reply | Lost) -> LengthProof | str:
    """Return a reply's proof, or why a length is undecided: a reply that is not as it should be proves nothing."""
    if isinstance(reply, Lost):
        return f"length {length} was lost with its shard: {reply.reason}"
    refused = reply.get("refused")
    if isinstance(refused, str):
        return refused
    try:
        return LengthProof.from_reply(domain, length, offset, reply)
    except BadReply as error:
        return f"length {length} was lost with its shard: a reply was refused, {error}"


def prove_shard(prover: BoxProver, message: Message) -> dict[str, Any]:
    """Return the reply to a message of ``ProofsAhead``.

    Raises:  ProgramError if the program does not parse or fit.
    """
    domain = prover.domain
    program = parse_program(message["program"], message["adapter"])
    check_program(program, domain.vocabulary, domain.readout)
    found = prover.prove(program, message["length"], message["offset"], message["boxes"])
    return {"refused": found} if isinstance(found, str) else LengthProof.of(domain, found).reply()
