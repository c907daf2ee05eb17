"""One subject as shards know it: what a message says of the model and its task, and what a worker does with one.

A worker reads the same files under the same paths, refuses any other content, and keeps what it has read for the next
message. It decides nothing about verdicts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.errors import DomainError, ExtractError
from extract.shards import Lost, Message, Reply, Shards, Stop
from extract.stages_load import Subject, load_subject
from extract.table_model import TableModel
from extract.verify.ahead import prove_shard
from extract.verify.box_proof import BoxProver
from extract.verify.enumerate import do_part, part_worker
from extract.verify.parts import PartWorker
from extract.verify.two_layers import prover_for

#: What a worker calls.
FUNCTION = "extract.stages_shards:do"


@dataclass(frozen=True, slots=True)
class SubjectShards:
    """Shards of one subject under one semantics: every message says which, every reply that it could be done."""

    shards: Shards
    about: Message

    @staticmethod
    def of(shards: Shards, subject: Subject, semantics: str) -> SubjectShards:
        """Return the shards of a subject."""
        domain = subject.spec.domain
        about = {
            "checkpoint": str(subject.path.absolute()),
            "spec": str(subject.spec_path.absolute()),
            "model_sha256": subject.checkpoint.model.digest,
            "spec_sha256": subject.loaded.digest,
            "max_length": domain.max_length,
            "offsets": list(domain.offsets),
            "semantics": semantics,
        }
        return SubjectShards(shards, about)

    def map(self, messages: Iterable[Message], stop: Stop) -> Generator[Reply | Lost, None, None]:
        """Do the messages about the subject; an error that a worker can explain loses its shard."""
        replies = self.shards.map(({"about": self.about, **message} for message in messages), stop)
        try:
            for reply in replies:
                error = reply.get("error") if not isinstance(reply, Lost) else None
                yield Lost(" ".join(str(error).split())) if error is not None else reply
        finally:
            replies.close()


@dataclass(slots=True)
class _Kept:
    """What a worker has read, and what it made of it."""

    about: dict[str, Any]
    subject: Subject
    provers: dict[str, BoxProver] = field(default_factory=dict)
    workers: dict[int, PartWorker] = field(default_factory=dict)

    def prover(self) -> BoxProver:
        """Return what decides lengths by boxes, made once. Raises: DomainError if nothing does."""
        semantics = self.about["semantics"]
        if semantics not in self.provers:
            found = prover_for(self.subject.checkpoint.network, self.subject.domain, semantics, lambda: False)
            if isinstance(found, str):
                raise DomainError(found)
            self.provers[semantics] = found
        return self.provers[semantics]

    def part_worker(self, memory_bytes: int) -> PartWorker:
        """Return what enumerates parts, made once."""
        if memory_bytes not in self.workers:
            network, domain = self.subject.checkpoint.network, self.subject.domain
            self.workers[memory_bytes] = part_worker(network, domain, self.about["semantics"], memory_bytes)
        return self.workers[memory_bytes]


_kept: list[_Kept] = []


def do(message: dict[str, Any]) -> dict[str, Any]:
    """Do one message, ``{"do": "bounds" | "enumerate", "about": ..., ...}``; an error that can be explained is a reply
    too."""
    try:
        kept = _read(message["about"])
        if message["do"] == "enumerate":
            return do_part(kept.part_worker(message["memory"]), message)
        return prove_shard(kept.prover(), message)
    except ExtractError as error:
        return {"error": error.line()}


def _read(about: dict[str, Any]) -> _Kept:
    """Return the subject of a message. Raises: ExtractError if it cannot be read, or is not the same."""
    if not _kept or _kept[0].about != about:
        path, spec = Path(about["checkpoint"]), Path(about["spec"])
        subject = load_subject(path, spec, about["max_length"], tuple(about["offsets"]))
        if subject.checkpoint.model.digest != about["model_sha256"] or subject.loaded.digest != about["spec_sha256"]:
            raise DomainError("the worker reads another checkpoint or spec", place=str(path))
        if isinstance(subject.checkpoint.model, TableModel):
            raise DomainError("tables have no shards", place=str(path))
        _kept[:] = [_Kept(about, subject)]
    return _kept[0]
