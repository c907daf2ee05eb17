"""What an enumeration may evaluate: whole lengths in ascending order while the work and the memory allowed last.

Work is counted in estimated multiply-adds, so that the choice is the same on every machine. This room computes no
activation.
"""

from __future__ import annotations

from dataclasses import dataclass

from extract.domain import Domain
from extract.network import Network
from extract.verify import sum_table
from extract.verify.answer_table import SlabWriter
from extract.verify.cells import CellFormat


@dataclass(frozen=True, slots=True)
class Chosen:
    """The (length, offset) pairs to evaluate, their work, and why others are left out (empty if none are)."""

    pairs: tuple[tuple[int, int], ...]
    work: int
    reason: str


@dataclass(frozen=True, slots=True)
class Costs:
    """What inputs of a network and domain cost by a method, and how many decisions each answer has."""

    network: Network
    domain: Domain
    method: str

    def n_decisions(self, length: int, offset: int) -> int:
        """Return the decisions of one answer: 1, the length, or the most tokens that may be generated."""
        readout = self.domain.readout
        if readout.at == "every":
            return length
        return self.n_new(length, offset) if readout.at == "generate" else 1

    def n_new(self, length: int, offset: int) -> int:
        """Return the most tokens generated, 0 for other read-outs."""
        readout = self.domain.readout
        if readout.at != "generate":
            return 0
        room = self.network.architecture.n_ctx - offset - self.domain.rendered_length(length) + 1
        return readout.max_new or max(0, room)

    def fits(self, length: int, offset: int) -> bool:
        """Say whether the positions hold prompts of a length with all that may be fed back."""
        n_fed = max(self.domain.readout.max_new - 1, 0) if self.domain.readout.at == "generate" else 0
        return offset + self.domain.rendered_length(length) + n_fed <= self.network.architecture.n_ctx

    def per_node(self, length: int) -> int:
        """Return the multiply-adds of one position of a prompt, about."""
        a, width = self.network.architecture, self.domain.rendered_length(length)
        node = 4 * a.d_model * a.n_heads * a.d_head + 2 * a.d_model * a.d_mlp + 2 * width * a.n_heads * a.d_head
        return a.n_layers * node + a.d_model * len(self.domain.readout.choices)

    def per_input(self, length: int, offset: int) -> int:
        """Return the multiply-adds of one input by the method, about."""
        if self.method == "sum table":
            return sum_table.work_per_input(self.network.architecture)
        width, new = self.domain.rendered_length(length), self.n_new(length, offset)
        nodes = width * (new + 1) if self.method == "plain" else 2 + new + width - length
        return self.per_node(length) * nodes


def choose(costs: Costs, form: CellFormat, work_limit: int | None, table_bytes: int) -> Chosen:
    """Choose lengths, ascending, each at every offset in turn, until one is too much."""
    domain = costs.domain
    pairs: list[tuple[int, int]] = []
    total_work = total_bytes = 0
    for length in domain.lengths:
        size = domain.size_at(length)
        for offset in domain.offsets if size else ():
            reason = ""
            if not domain.is_exact_at(length):
                reason = f"inputs of length {length} cannot be listed"
            elif not costs.fits(length, offset):
                reason = f"a prompt of length {length} at offset {offset} has more tokens than positions"
            else:
                work = size * costs.per_input(length, offset)
                needed = SlabWriter.bytes_needed(form, size, costs.n_decisions(length, offset))
                if work_limit is not None and total_work + work > work_limit:
                    reason = f"length {length} needs {work:,} multiply-adds, more than the budget has left"
                elif total_bytes + needed > table_bytes:
                    reason = f"the answers of length {length} need {needed:,} bytes, more than are left"
            if reason:
                return Chosen(tuple(pairs), total_work, reason)
            total_work, total_bytes = total_work + work, total_bytes + needed
            pairs.append((length, offset))
    return Chosen(tuple(pairs), total_work, "")
