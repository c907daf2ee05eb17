"""Deciding a network's answer on every input of a domain: the method, the arithmetic, and when to start over.

A method starts in the cheapest arithmetic and is started over in a more careful one when too many inputs come out
doubtful; what is left doubtful is looked at again, and what even that cannot decide is fragile. This room refuses to
know any program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from extract.domain import Domain
from extract.errors import DomainError
from extract.network import Network
from extract.progress import Progress
from extract.readout import largest_denominator
from extract.verify import sum_table
from extract.verify.answer_table import REGION, AnswerTable, Slab, SlabWriter, empty_slab
from extract.verify.budget import Costs, choose
from extract.verify.care import CAREFUL, QUICK, USUAL, Care, CareStages
from extract.verify.cells import CellFormat
from extract.verify.doubts import SecondLook
from extract.verify.plain import decide_inputs
from extract.verify.prefix_trie import TrieWalk
from extract.verify.stages import claims_of
from extract.verify.sum_table import SumTable
from extract.verify.trie_plan import WalkPlan, plan_walks

Stop = Callable[[], bool]

#: A method is started over more carefully when this share of at least so many inputs is doubtful: deciding again costs
#: a trie's inputs a plain pass each, but a sum table's only a second table.
_DOUBTFUL_SHARE = {"sum table": 0.4, "prefix trie": 0.02, "plain": 0.5}
_DOUBTFUL_LEAST = 512
#: The share of the memory allowed that methods may hold beside the answers: one in so many.
_WORKING_SHARE = 4
_LEAST_WORKING_BYTES = 1 << 20
#: Bytes of hidden activations per block: a few would fit into a core's second-level cache, but blocks cost some 0.3 ms
#: each whatever their size.
_BLOCK_BYTES = 1 << 20
#: Inputs of a sum table decided before the first question whether its arithmetic is careful enough.
_PROBE = 2 * _DOUBTFUL_LEAST
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
    jobs: int = 1,
    stop: Stop = lambda: False,
) -> AnswerTable:
    """Decide the network's answer on every input of the domain that the budget allows.

    ``work_limit`` is in estimated multiply-adds and ``memory_bytes`` bounds what is allocated, both settled before
    anything runs; ``jobs`` are threads and change no result; ``stop`` is asked after every chunk, and a true answer
    ends the work with what is complete.
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
        return _Enumeration(network, domain, semantics, memory_bytes, progress, jobs, stop).run(work_limit)


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
        jobs: int,
        stop: Stop,
    ) -> None:
        self.network, self.domain, self.semantics = network, domain, semantics
        self.progress, self.jobs, self.stop = progress, max(1, jobs), stop
        self.form = CellFormat.of(domain.readout, domain.vocabulary)
        self.method = self.used = method_for(network, domain)
        self.stages = CareStages(network, domain.readout, claims_of(semantics))
        self.costs = Costs(network, domain, self.method)
        self.second_look = SecondLook(domain, self.form, self.stages, self.costs, self._stopped)
        self.working_bytes = max(memory_bytes // _WORKING_SHARE, _LEAST_WORKING_BYTES)
        self.table_bytes = memory_bytes - self.working_bytes
        self.methods: list[str] = []
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
                if self._stopped():
                    break
                for slab in self._group(group, offset):
                    slabs[offset, slab.length] = slab
        every = [(o, n) for o in domain.offsets for n in domain.lengths if domain.size_at(n)]
        ordered = tuple(slabs.get(key) or self._empty(*key) for key in every)
        methods = tuple(dict.fromkeys(self.methods))
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
        before, cares = self.done, self._cares()
        # bounds hardly depend on the length: what was too doubtful once is not tried again, nor where little is to save
        is_small = self.method == "sum table" and sum(map(self.domain.size_at, lengths)) < _QUICK_LEAST
        for index, care in enumerate(cares):
            if index < max(self.least_care, int(is_small)):
                continue
            writers = {n: self._writer(n, offset) for n in lengths}
            self.done = before
            try:
                self._evaluate(writers, offset, care, is_last=care is cares[-1])
            except _TooDoubtful:
                self.least_care = index + 1
                continue
            self.methods.append(f"{self.used}, {care.describe()}")
            for writer in writers.values():
                self._look_again(writer, care)
            slabs = [writer.finish() for writer in writers.values()]
            self.error_bound = max([self.error_bound, *(writer.error_bound for writer in writers.values())])
            return slabs
        return []

    def _cares(self) -> tuple[Care, ...]:
        if self.method == "sum table":
            return (QUICK, USUAL)
        if self.method == "prefix trie":
            return (QUICK, USUAL, CAREFUL) if self.network.architecture.n_layers < 2 else (USUAL, CAREFUL)
        return (Care(np.float64, True, False), CAREFUL)

    def _writer(self, length: int, offset: int) -> SlabWriter:
        size, width = self.domain.size_at(length), self.costs.n_decisions(length, offset)
        return SlabWriter(self.form, offset, length, size, width)

    def _look_again(self, writer: SlabWriter, care: Care) -> None:
        if not writer.n_doubtful:
            return
        few = min(_DOUBTFUL_LEAST, writer.size // _PROBE)
        if self.method == "sum table" and care == QUICK and writer.n_doubtful > few:
            table = self._sum_table(writer, USUAL)
            if table is not None:
                self.second_look.by_table(writer, table, self._chunk_size(USUAL))
        if care != CAREFUL:
            self.second_look.carefully(writer)
        self.second_look.precisely(writer)

    def _evaluate(self, writers: dict[int, SlabWriter], offset: int, care: Care, *, is_last: bool) -> None:
        lengths = tuple(writers)
        has_graph = self.domain.graph_at(lengths[0]) is not None
        plans = plan_walks(self.domain, lengths) if self.method == "prefix trie" and has_graph else None
        self.used = self.method
        if plans is not None:
            for plan in plans:
                steps = self._walk(plan, writers, offset, care)
                self._watch(steps, [writers[n] for n in plan.lengths], is_last)
            return
        for writer in writers.values():
            table = self._sum_table(writer, care) if self.method == "sum table" else None
            self.used = self.method if table is not None else "plain"
            steps = self._plainly(writer, care) if table is None else self._sums(table, writer, care)
            self._watch(steps, [writer], is_last)

    def _watch(self, steps: Iterator[int], writers: list[SlabWriter], is_last: bool) -> None:
        """Run the steps, tell the progress, and give up early when a more careful arithmetic is called for."""
        before, share = self.done, 1.0 if is_last else _DOUBTFUL_SHARE[self.method]
        for finished in steps:
            self.done = before + finished
            self.progress.advance(self.done, self.planned, "inputs")
            doubtful = sum(writer.n_doubtful for writer in writers)
            if doubtful >= _DOUBTFUL_LEAST and doubtful > share * max(finished, 1) and not is_last:
                raise _TooDoubtful
            if self._stopped():
                return

    def _walk(self, plan: WalkPlan, writers: dict[int, SlabWriter], offset: int, care: Care) -> Iterator[int]:
        graph = self.domain.graph_at(plan.lengths[0])
        if graph is None:
            raise DomainError(f"inputs of length {plan.lengths[0]} have no graph")
        a, item = self.network.architecture, np.dtype(care.dtype).itemsize
        depth = max(self.domain.rendered_length(n) + self.costs.n_new(n, offset) for n in plan.lengths)
        held = depth * (a.n_layers * 2 * a.n_heads * a.d_head * item + 64) * self.jobs
        block = min(self._chunk_size(care), self.working_bytes // max(held, 1))
        walk = TrieWalk(
            self.stages(care), self.domain, self.form, graph, plan, writers,
            offset=offset, block_size=int(np.clip(block, 16, 4096)), per_row=care.per_row,
        )  # fmt: skip
        return walk.run(self.jobs)

    def _sum_table(self, writer: SlabWriter, care: Care) -> SumTable | None:
        """Return the tables of a length; None if it has no graph, or halves too many for the memory allowed."""
        graph = self.domain.graph_at(writer.length)
        if graph is None:
            return None
        floats = self.working_bytes // (4 * np.dtype(care.dtype).itemsize)
        table = SumTable(
            self.stages(care), self.domain, self.form, graph, writer.length, writer.offset, max_table_floats=floats
        )
        return table if table.is_small else None

    def _sums(self, table: SumTable, writer: SlabWriter, care: Care) -> Iterator[int]:
        chunk = self._chunk_size(care)

        def decide(run: tuple[int, int]) -> int:
            with np.errstate(all="ignore"):
                table.decide(run[0], run[1], writer, chunk)
            return run[1]

        probe = min(_PROBE, writer.size)
        runs = [(0, probe), *sum_table.regions_of(probe, writer.size, REGION)]
        if self.jobs == 1 or len(runs) == 1:
            for run in runs:
                writer.evaluated = decide(run)
                yield writer.evaluated
            return
        pool = ThreadPoolExecutor(self.jobs)
        try:
            for done in pool.map(decide, runs):
                writer.evaluated = done
                yield done
        finally:
            pool.shutdown(cancel_futures=True)

    def _chunk_size(self, care: Care) -> int:
        a = self.network.architecture
        return int(np.clip(_BLOCK_BYTES // (np.dtype(care.dtype).itemsize * max(a.d_mlp, a.d_model)), 64, 8192))

    def _plainly(self, writer: SlabWriter, care: Care) -> Iterator[int]:
        by = self.stages.evaluator(care)
        size = by.batch_size(self.domain.rendered_length(writer.length))
        for start in range(0, writer.size, size):
            stop = min(start + size, writer.size)
            tokens = self.domain.tokens(writer.length, start, stop)
            part = decide_inputs(by, self.domain, self.form, tokens, writer.offset, writer.n_decisions)
            is_sure = part.margins > part.bounds
            bound = float(part.bounds[is_sure].max(initial=0.0))
            writer.write(start, part.cells, part.margins, is_sure, bound, part.is_tied, part.unsure)
            writer.evaluated = stop
            yield stop
