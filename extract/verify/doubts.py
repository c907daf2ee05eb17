"""The second look: what a quick method left doubtful is decided again, input by input and with more care.

Each look is more expensive and sees fewer inputs: a sum table in float64, the plain pass in float64 with one measured
bound per input, and the same with more bits where the machine has them. What is doubtful after that is fragile.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.verify.activations import IN_EXTENDED
from extract.verify.answer_table import SlabWriter
from extract.verify.budget import Costs
from extract.verify.care import CAREFUL, PRECISE, Care, CareStages
from extract.verify.cells import CellFormat
from extract.verify.plain import decide_inputs
from extract.verify.rounding import HAS_EXTENDED
from extract.verify.sum_table import SumTable

#: Multiply-adds spent per length on more than float64, about: it is a hundred times slower.
_PRECISE_WORK = 4_000_000_000


class SecondLook:
    """Decides doubtful inputs of a domain again; after a stop the rest stay doubtful."""

    def __init__(
        self, domain: Domain, form: CellFormat, stages: CareStages, costs: Costs, stop: Callable[[], bool]
    ) -> None:
        self.domain, self.form, self.stages, self.costs, self.stop = domain, form, stages, costs, stop

    def by_table(self, writer: SlabWriter, table: SumTable, chunk: int) -> None:
        """Decide by a more careful sum table."""
        self._in_batches(writer, lambda ranks: table.decide_again(ranks, writer), chunk)

    def carefully(self, writer: SlabWriter) -> None:
        """Decide by plain passes in float64, with one bound per input."""
        self._plainly(writer, CAREFUL)

    def precisely(self, writer: SlabWriter) -> None:
        """Decide with more bits, where the machine has them and the work is not too much.

        A claim about float32 depends on float32's own error, which no precision of ours makes smaller.
        """
        n = writer.n_doubtful
        network = self.costs.network
        kinds = {network.architecture.activation} | ({network.head.activation} if network.head else set())
        is_known = kinds <= set(IN_EXTENDED)
        if not n or self.stages.claims or not HAS_EXTENDED or not is_known:
            return
        n_new = self.costs.n_new(writer.length, writer.offset)
        positions = self.domain.rendered_length(writer.length) * (n_new + 1)
        if n * self.costs.per_node(writer.length) * positions <= _PRECISE_WORK:
            self._plainly(writer, PRECISE)

    def _plainly(self, writer: SlabWriter, care: Care) -> None:
        if not writer.n_doubtful:
            return
        by = self.stages.evaluator(care)

        def decide(ranks: NDArray[np.int64]) -> None:
            tokens = self._tokens(writer.length, ranks)
            part = decide_inputs(by, self.domain, self.form, tokens, writer.offset, writer.n_decisions)
            writer.rewrite(ranks, part.cells, part.margins, part.bounds, part.is_tied, part.unsure)

        self._in_batches(writer, decide, by.batch_size(self.domain.rendered_length(writer.length)))

    def _in_batches(self, writer: SlabWriter, decide: Callable[[NDArray[np.int64]], None], size: int) -> None:
        ranks = writer.doubtful()
        for start in range(0, len(ranks), size):
            if self.stop():
                writer.keep_doubtful(ranks[start:])
                return
            decide(ranks[start : start + size])

    def _tokens(self, length: int, ranks: NDArray[np.int64]) -> NDArray[np.int32]:
        graph = self.domain.graph_at(length)
        if graph is not None:
            return np.array(self.domain.alphabet, np.int32)[graph.letters_at(length, [int(r) for r in ranks])]
        return np.concatenate([self.domain.tokens(length, int(r), int(r) + 1) for r in ranks])
