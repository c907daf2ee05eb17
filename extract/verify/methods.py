"""The methods of enumeration as works: one walk, one sum table or one length of plain passes, cut into parts.

How a work is cut depends on the network, the domain and the memory allowed only, never on who does the parts: a part
done anywhere writes the same. This room does not know when to start over, and refuses to know any program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from extract.domain import Domain
from extract.errors import DomainError
from extract.network import Network
from extract.verify import sum_table
from extract.verify.answer_table import REGION, SlabWriter
from extract.verify.budget import Costs
from extract.verify.care import CAREFUL, QUICK, USUAL, Care, CareStages
from extract.verify.cells import CellFormat
from extract.verify.plain import decide_inputs
from extract.verify.prefix_trie import Ranges, TrieWalk, Writers
from extract.verify.stages import claims_of
from extract.verify.sum_table import SumTable
from extract.verify.trie_plan import WalkPlan, plan_walks

#: Bytes of hidden activations per block: a few would fit into a core's second-level cache, but blocks cost some 0.3 ms
#: each whatever their size.
_BLOCK_BYTES = 1 << 20
#: Inputs of a sum table decided before the first question whether its arithmetic is careful enough.
PROBE = 1024
#: Regions of a sum table, and multiply-adds of plain passes, in one part.
_REGIONS_PER_PART, _PLAIN_WORK = 8, 1_000_000_000
#: The share of the working memory that the blocks above a walk's parts may hold: one in so many.
_HELD_SHARE = 4


class Work(Protocol):
    """Some lengths at one offset, decided by one method: it begins, then its parts are run, each in any process."""

    @property
    def name(self) -> str:
        """The method's name."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths it decides."""

    @property
    def ranges(self) -> list[Ranges]:
        """The ranks of each part, once it has begun."""

    def begin(self, writers: Writers) -> None:
        """Answer what comes before the parts."""

    def run(self, part: int, writers: Writers) -> Iterator[None]:
        """Write a part; yield after every step, when ``evaluated`` of its writers is up to date."""


class _Runs:
    """A work of one length whose ranks are decided run by run, some consecutive ones to a part."""

    def __init__(self, name: str, length: int, runs: list[tuple[int, int]], per_part: int) -> None:
        self.name, self.lengths = name, (length,)
        self._parts = [runs[i : i + per_part] for i in range(0, len(runs), per_part)]
        self.ranges: list[Ranges] = [{length: (part[0][0], part[-1][1])} for part in self._parts]

    def begin(self, writers: Writers) -> None:
        """Do nothing."""

    def run(self, part: int, writers: Writers) -> Iterator[None]:
        """Write the runs of a part."""
        (writer,) = writers.values()
        for start, stop in self._parts[part]:
            self._decide(start, stop, writer)
            writer.evaluated = stop
            yield

    def _decide(self, start: int, stop: int, writer: SlabWriter) -> None:
        raise TypeError("a work without a method")


class _Sums(_Runs):
    def __init__(self, table: SumTable, length: int, size: int, chunk: int) -> None:
        probe = min(PROBE, size)
        runs = [(0, probe), *sum_table.regions_of(probe, size, REGION)]
        super().__init__("sum table", length, runs, _REGIONS_PER_PART)
        self._table, self._chunk = table, chunk

    def _decide(self, start: int, stop: int, writer: SlabWriter) -> None:
        self._table.decide(start, stop, writer, self._chunk)


class _Plain(_Runs):
    def __init__(self, methods: Methods, length: int, offset: int, care: Care) -> None:
        self._by, self._methods = methods.stages.evaluator(care), methods
        size, batch = methods.domain.size_at(length), self._by.batch_size(methods.domain.rendered_length(length))
        runs = [(start, min(start + batch, size)) for start in range(0, size, batch)]
        work = max(1, batch * methods.costs.per_input(length, offset))
        super().__init__("plain", length, runs, max(1, _PLAIN_WORK // work))

    def _decide(self, start: int, stop: int, writer: SlabWriter) -> None:
        domain, form = self._methods.domain, self._methods.form
        tokens = domain.tokens(writer.length, start, stop)
        part = decide_inputs(self._by, domain, form, tokens, writer.offset, writer.n_decisions)
        is_sure = part.margins > part.bounds
        bound = float(part.bounds[is_sure].max(initial=0.0))
        writer.write(start, part.cells, part.margins, is_sure, bound, part.is_tied, part.unsure)


class Methods:
    """What an enumeration of a network and domain by one method is made of."""

    def __init__(self, network: Network, domain: Domain, semantics: str, method: str, working_bytes: int) -> None:
        self.network, self.domain, self.method, self.working_bytes = network, domain, method, working_bytes
        self.form = CellFormat.of(domain.readout, domain.vocabulary)
        self.stages = CareStages(network, domain.readout, claims_of(semantics))
        self.costs = Costs(network, domain, method)

    def cares(self) -> tuple[Care, ...]:
        """Return the arithmetics to try, the least careful first."""
        if self.method == "sum table":
            return (QUICK, USUAL)
        if self.method == "prefix trie":
            return (QUICK, USUAL, CAREFUL) if self.network.architecture.n_layers < 2 else (USUAL, CAREFUL)
        return (Care(np.float64, True, False), CAREFUL)

    def works(self, lengths: tuple[int, ...], offset: int, care: Care) -> Iterator[Work]:
        """Yield the works that decide lengths of one group at an offset."""
        has_graph = self.domain.graph_at(lengths[0]) is not None
        plans = plan_walks(self.domain, lengths) if self.method == "prefix trie" and has_graph else None
        if plans is not None:
            yield from (self._walk(plan, offset, care) for plan in plans)
            return
        for length in lengths:
            table = self.table(length, offset, care) if self.method == "sum table" else None
            if table is None:
                yield _Plain(self, length, offset, care)
            else:
                yield _Sums(table, length, self.domain.size_at(length), self.chunk_size(care))

    def _walk(self, plan: WalkPlan, offset: int, care: Care) -> TrieWalk:
        graph = self.domain.graph_at(plan.lengths[0])
        if graph is None:
            raise DomainError(f"inputs of length {plan.lengths[0]} have no graph")
        a, item = self.network.architecture, np.dtype(care.dtype).itemsize
        depth = max(self.domain.rendered_length(n) + self.costs.n_new(n, offset) for n in plan.lengths)
        held = a.n_layers * 2 * a.n_heads * a.d_head * item + 64
        block = min(self.chunk_size(care), self.working_bytes // max(depth * held, 1))
        size = int(np.clip(block, 16, 4096))
        return TrieWalk(
            self.stages(care), self.domain, self.form, graph, plan, offset=offset, block_size=size,
            per_row=care.per_row, n_held=self.working_bytes // (_HELD_SHARE * size * max(held, 1)),
        )  # fmt: skip

    def table(self, length: int, offset: int, care: Care) -> SumTable | None:
        """Return the tables of a length; None if it has no graph, or halves too many for the memory allowed."""
        graph = self.domain.graph_at(length)
        if graph is None:
            return None
        floats = self.working_bytes // (4 * np.dtype(care.dtype).itemsize)
        table = SumTable(self.stages(care), self.domain, self.form, graph, length, offset, max_table_floats=floats)
        return table if table.is_small else None

    def chunk_size(self, care: Care) -> int:
        """Return how many inputs to decide at once."""
        a = self.network.architecture
        return int(np.clip(_BLOCK_BYTES // (np.dtype(care.dtype).itemsize * max(a.d_mlp, a.d_model)), 64, 8192))

    def writer(self, length: int, offset: int, first: int = 0, stop: int | None = None) -> SlabWriter:
        """Return an empty writer of a length, or of the ranks ``first`` to ``stop`` of it."""
        end = self.domain.size_at(length) if stop is None else stop
        return SlabWriter(self.form, offset, length, end, self.costs.n_decisions(length, offset), first)


class Nowhere:
    """Takes answers and forgets them: for whoever needs what comes after them only."""

    def __init__(self, n_decisions: int) -> None:
        self.n_decisions, self.evaluated = n_decisions, 0

    def write(self, *_: Any) -> None:
        """Forget."""


def nowhere(methods: Methods, lengths: tuple[int, ...], offset: int) -> Mapping[int, Any]:
    """Return writers that keep nothing."""
    return {n: Nowhere(methods.costs.n_decisions(n, offset)) for n in lengths}
