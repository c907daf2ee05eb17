"""Deciding a network's answer on every input of a domain: the method, the arithmetic, and when to start over.

A method starts in the cheapest arithmetic and is started over in a more careful one when too many inputs come out
doubtful; what is left doubtful is looked at again, and what even that cannot decide is fragile. This room refuses to
know any program.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from extract.domain import Domain
from extract.errors import DomainError
from extract.network import Network
from extract.progress import Progress
from extract.readout import largest_denominator
from extract.shards import Message, Shards, Stop
from extract.verify import sum_table
from extract.verify.answer_table import AnswerTable, Slab, SlabWriter, empty_slab
from extract.verify.budget import choose
from extract.verify.care import CAREFUL, QUICK, USUAL, Care
from extract.verify.doubts import SecondLook
from extract.verify.methods import PROBE, Methods, Work
from extract.verify.parts import PartLost, PartWorker, Step, counts, shared

#: A method is started over more carefully when this share of at least so many inputs is doubtful: deciding again costs
#: a trie's inputs a plain pass each, but a sum table's only a second table.
_DOUBTFUL_SHARE = {"sum table": 0.4, "prefix trie": 0.02, "plain": 0.5}
_DOUBTFUL_LEAST = 512
#: The share of the memory allowed that methods may hold beside the answers: one in so many.
_WORKING_SHARE = 4
_LEAST_WORKING_BYTES = 1 << 20
#: Multiply-adds from which a work is shared out: workers take about as long to come up.
_SHARED_WORK = 2_000_000_000
#: Lengths of fewer inputs are decided in float64 at once: a float32 table would save less than a second look costs.
_QUICK_LEAST = 1024

_USUAL_TIE = 2.0**-30

ASSUMPTIONS = (
    "our float arithmetic is IEEE 754 with round-to-nearest; exp, tanh and erf are good to 4 ulps",
    "the claim is about the function of the stored weights at the listed positions, without padding or dropout",
)


class _TooDoubtful(Exception):
    """The arithmetic is not careful enough for this network: start over."""


def enumerate_model(
    network: Network,
    domain: Domain,
    *,
    semantics: str = "real",
    work_limit: int | None = None,
    memory_bytes: int = 4 << 30,
    progress: Progress,
    shards: Shards | None = None,
    stop: Stop = lambda: False,
) -> AnswerTable:
    """Decide the network's answer on every input of the domain that the budget allows.

    ``work_limit`` is in estimated multiply-adds and ``memory_bytes`` bounds what is allocated, both settled before
    anything runs; ``shards`` do parts of it elsewhere and change no result, each holding a quarter of the memory beside
    its answers; ``stop`` is asked after every chunk, and a true answer ends the work with what is complete, as does a
    part that is lost.
    Ensures: every input evaluated and not fragile has the recorded answer under the semantics (``real``: as the real
    function of the stored weights; ``f32-any-order``: also in float32, whatever the order of summation).
    Raises:  DomainError for a semantics that a part of the network has no bound for, or a value of many outputs.
    Cost:    d_model 16, one core: 2 * 10^6 inputs a second for one layer, 3 * 10^5 for two.
    """
    if domain.readout.kind == "value" and network.architecture.d_vocab_out != 1:
        raise DomainError(f"a read-out of kind 'value' of {network.architecture.d_vocab_out} outputs, expected one")
    if network.beyond_gpt2 and semantics != "real":
        raise DomainError(
            f"semantics {semantics!r} has no bound for {', '.join(network.beyond_gpt2)}, which the network has",
            hint="ask for --semantics real",
        )
    with np.errstate(all="ignore"):  # what overflows is doubtful by its bound, and fragile in the end
        return _Enumeration(network, domain, semantics, memory_bytes, progress, shards, stop).run(work_limit)


def method_for(network: Network, domain: Domain) -> str:
    """Return the method a network and read-out call for: ``sum table``, ``prefix trie`` or ``plain``."""
    a = network.architecture
    if network.beyond_gpt2:
        return "plain"
    if sum_table.applies(a.n_layers, domain, a.attention):
        return "sum table"
    return "prefix trie" if a.attention == "causal" else "plain"


class _Enumeration:
    """One run: what it was asked, and how far it is."""

    def __init__(
        self,
        network: Network,
        domain: Domain,
        semantics: str,
        memory_bytes: int,
        progress: Progress,
        shards: Shards | None,
        stop: Stop,
    ) -> None:
        self.network, self.domain, self.semantics = network, domain, semantics
        self.progress, self.shards, self.stop = progress, shards, stop
        self.method = self.used = method_for(network, domain)
        self.table_bytes, working_bytes = _memory_shares(memory_bytes)
        self.methods = Methods(network, domain, semantics, self.method, working_bytes)
        self.form, self.costs, self.memory_bytes = self.methods.form, self.methods.costs, memory_bytes
        self.second_look = SecondLook(domain, self.form, self.methods.stages, self.costs, self._stopped)
        self.told: list[str] = []
        self.is_cut = False
        self.reason, self.error_bound, self.done, self.planned = "", 0.0, 0, 0
        self.least_care = 0

    def run(self, work_limit: int | None) -> AnswerTable:
        """Evaluate what is chosen and return the table."""
        domain = self.domain
        chosen = choose(self.costs, self.form, work_limit, self.table_bytes)
        self.reason = chosen.reason
        self.planned = sum(domain.size_at(length) for length, _ in chosen.pairs)
        slabs: dict[tuple[int, int], Slab] = {}
        for offset in domain.offsets:
            for group in self._groups([length for length, at in chosen.pairs if at == offset]):
                if self.is_cut or self._stopped():
                    break
                for slab in self._group(group, offset):
                    slabs[offset, slab.length] = slab
        every = [(o, n) for o in domain.offsets for n in domain.lengths if domain.size_at(n)]
        ordered = tuple(slabs.get(key) or self._empty(*key) for key in every)
        methods = tuple(dict.fromkeys(self.told))
        return AnswerTable(
            self.form, ordered, self.semantics, methods, self.error_bound, chosen.work, self.reason, self._assumptions()
        )

    def _assumptions(self) -> tuple[str, ...]:
        a, readout = self.network.architecture, self.domain.readout
        told: tuple[str, ...] = ASSUMPTIONS
        if self.network.tie > _USUAL_TIE and readout.kind != "value":
            told += (
                f"logits less than {self.network.tie:.3g} apart are tied: each is the sign, 1 or 0, of one answer",
            )
        if readout.kind == "value":
            most = largest_denominator(readout.tolerance)
            kind = f"fractions with denominators up to {most}" if most > 1 else "whole"
            told += (
                f"a number and the network's value agree where they are at most {readout.tolerance:g} apart; "
                f"numbers are {kind}",
            )
        if a.rotary is not None:
            told += ("pow, sin and cos are good to 4 ulps too; rotations are by real angles",)
        return told

    def _stopped(self) -> bool:
        if self.stop():
            self.reason = self.reason or "stopped before all inputs were evaluated"
            return True
        return False

    def _empty(self, offset: int, length: int) -> Slab:
        width = self.costs.n_decisions(length, offset)
        return empty_slab(self.form, offset, length, self.domain.size_at(length), width)

    def _groups(self, lengths: list[int]) -> Iterator[tuple[int, ...]]:
        """Yield the lengths that one walk may serve: those of one graph for a trie, single ones otherwise."""
        together: dict[int, list[int]] = {}
        for length in lengths:
            graph = self.domain.graph_at(length)
            is_alone = graph is None or self.method != "prefix trie"
            together.setdefault(-1 - length if is_alone else id(graph), []).append(length)
        for group in together.values():
            yield tuple(group)

    def _group(self, lengths: tuple[int, ...], offset: int) -> list[Slab]:
        """Evaluate some lengths at one offset, starting over more carefully as often as needed."""
        before, cares = self.done, self.methods.cares()
        # bounds hardly depend on the length: what was too doubtful once is not tried again, nor where little is to save
        is_small = self.method == "sum table" and sum(map(self.domain.size_at, lengths)) < _QUICK_LEAST
        for index, care in enumerate(cares):
            if index < max(self.least_care, int(is_small)):
                continue
            writers = {n: self.methods.writer(n, offset) for n in lengths}
            self.done = before
            try:
                self._evaluate(writers, offset, care, is_last=care is cares[-1])
            except _TooDoubtful:
                self.least_care = index + 1
                continue
            self.told.append(f"{self.used}, {care.describe()}")
            for writer in writers.values():
                self._look_again(writer, care)
            slabs = [writer.finish() for writer in writers.values()]
            self.error_bound = max([self.error_bound, *(writer.error_bound for writer in writers.values())])
            return slabs
        return []

    def _look_again(self, writer: SlabWriter, care: Care) -> None:
        if not writer.n_doubtful:
            return
        few = min(_DOUBTFUL_LEAST, writer.size // PROBE)
        if self.method == "sum table" and care == QUICK and writer.n_doubtful > few:
            table = self.methods.table(writer.length, writer.offset, USUAL)
            if table is not None:
                self.second_look.by_table(writer, table, self.methods.chunk_size(USUAL))
        if care != CAREFUL:
            self.second_look.carefully(writer)
        self.second_look.precisely(writer)

    def _evaluate(self, writers: dict[int, SlabWriter], offset: int, care: Care, *, is_last: bool) -> None:
        for index, work in enumerate(self.methods.works(tuple(writers), offset, care)):
            self.used = work.name
            own = {n: writers[n] for n in work.lengths}
            message = {
                "do": "enumerate", "memory": self.memory_bytes, "lengths": list(writers), "offset": offset,
                "care": self.methods.cares().index(care), "work": index,
            }  # fmt: skip
            self._watch(self._steps(work, own, message), is_last)
            if self.is_cut or self._stopped():
                return

    def _steps(self, work: Work, own: dict[int, SlabWriter], message: Message) -> Iterator[Step]:
        """Do a work, here or by shards; yield after every step the inputs finished and the doubtful among them."""
        work.begin(own)
        yield counts(own)
        cost = sum(self.domain.size_at(n) * self.costs.per_input(n, message["offset"]) for n in work.lengths)
        if self.shards is not None and len(work.ranges) > 1 and cost >= _SHARED_WORK:
            yield from shared(self.shards, work, own, message, self.stop)
            return
        for part in range(len(work.ranges)):
            for _ in work.run(part, own):
                yield counts(own)

    def _watch(self, steps: Iterator[Step], is_last: bool) -> None:
        """Take the steps, tell the progress, and give up early when a more careful arithmetic is called for."""
        before = self.done
        try:
            for finished, doubtful in steps:
                self.done = before + finished
                self.progress.advance(self.done, self.planned, "inputs")
                if is_too_doubtful(self.method, finished, doubtful) and not is_last:
                    raise _TooDoubtful
                if self._stopped():
                    return
        except PartLost as lost:
            self.is_cut, self.reason = True, self.reason or f"a part was lost with its shard: {lost}"


def is_too_doubtful(method: str, finished: int, doubtful: int) -> bool:
    """Say whether so many doubtful inputs of those finished call for a more careful arithmetic."""
    return doubtful >= _DOUBTFUL_LEAST and doubtful > _DOUBTFUL_SHARE[method] * max(finished, 1)


def part_worker(network: Network, domain: Domain, semantics: str, memory_bytes: int) -> PartWorker:
    """Return what does parts of an enumeration for shards."""
    method, (_, working) = method_for(network, domain), _memory_shares(memory_bytes)
    return PartWorker(Methods(network, domain, semantics, method, working))


def do_part(worker: PartWorker, message: Message) -> dict[str, Any]:
    """Return the reply to a message about a part."""
    is_last = message["care"] == len(worker.methods.cares()) - 1
    return worker.do(message, lambda n, doubtful: not is_last and is_too_doubtful(worker.methods.method, n, doubtful))


def _memory_shares(memory_bytes: int) -> tuple[int, int]:
    """Return the bytes that answers may take, and those that methods may hold beside them."""
    working = max(memory_bytes // _WORKING_SHARE, _LEAST_WORKING_BYTES)
    return memory_bytes - working, working
