"""The network as an oracle: prompts are rendered, run in batches of one length and offset, and read as the task says.

It knows the domain's rendering and read-out and refuses to know its promise: every string of tokens is answered.
The only state is a bounded cache of answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.domain import Domain
from extract.errors import DomainError
from extract.model.answering import Decisions, argmax_decisions, multilabel_decisions, value_decisions
from extract.model.fit import check_fit, check_positions
from extract.model.forward import Forward, Memory, Precision, nothing_seen
from extract.model.prefixes import run_shared
from extract.network import Network
from extract.oracle import Oracle
from extract.readout import Answers, Inputs, widen
from extract.vocabulary import ABSENT, UNDETERMINED, Codes

#: Numbers held at once by one batch: larger ones leave the processor's cache and run at half the speed (measured) ...
BATCH_CELLS = 1 << 20
#: ... but where beginnings are shared, a larger batch shares more than it loses.
_SHARED_BATCH_FACTOR = 4
CACHE_ROWS = 1 << 16
#: Larger questions come from enumeration, which never asks twice.
_CACHED_BATCH = 4096


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of a batch with one length and offset; ``rows`` are their places in it."""

    length: int
    offset: int
    rows: NDArray[np.intp]


@final
class NetworkOracle(Oracle):
    """A network that answers membership queries about a domain.

    Numbers are float64 unless asked otherwise, so that a margin means what it says; answers do not depend on how the
    inputs are batched. ``batch_cells`` bounds the numbers held at once, ``cache_rows`` the answers kept.
    Raises:  SpecError or DomainError if the spec and the network do not fit each other.
    """

    def __init__(
        self,
        network: Network,
        domain: Domain,
        *,
        precision: Precision = "float64",
        batch_cells: int = BATCH_CELLS,
        cache_rows: int = CACHE_ROWS,
    ) -> None:
        check_fit(network.architecture, domain)
        self.domain = domain
        self.network = network
        self.forward = Forward(network, precision)
        self._batch_cells = batch_cells
        self._cache_rows = cache_rows
        self._cache: dict[bytes, tuple[Codes, float]] = {}
        readout, vocabulary = domain.readout, domain.vocabulary
        choices = readout.choices or tuple(range(len(vocabulary.output_names)))
        self._choices = torch.tensor(choices, dtype=torch.long)
        if readout.at == "generate":
            fed = [vocabulary.token_id(vocabulary.output_names[i]) for i in choices]
            self._fed_back = torch.tensor(fed, dtype=torch.long)
        is_value = readout.kind == "value"
        self._choice_codes: Codes = vocabulary.output_codes[[] if is_value else list(choices)]

    def answer(self, inputs: Inputs) -> Answers:
        """Answer a batch of inputs, in order.

        Shape:   as ``Answers`` says; the width is the longest natural width in the batch.
        Raises:  DomainError for a prompt longer than the positions, or an id that is not a token.
        """
        self._check_ids(inputs)
        if len(inputs) > _CACHED_BATCH or self._cache_rows == 0:
            return self._ask(inputs)
        keys = [_key(inputs, i) for i in range(len(inputs))]
        fresh = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._cache}
        known = {key: self._cache[key] for key in keys if key in self._cache}
        if fresh:
            rows = np.array(sorted(fresh.values()), dtype=np.intp)
            asked = self._ask(inputs.take(rows))
            for place, i in enumerate(rows):
                values = asked.values[place]
                known[keys[i]] = (values[values != ABSENT], float(asked.margins[place]))
            self._remember({keys[i]: known[keys[i]] for i in rows})
        return self._assembled([known[key] for key in keys])

    def _remember(self, answers: dict[bytes, tuple[Codes, float]]) -> None:
        self._cache.update(answers)
        while len(self._cache) > self._cache_rows:
            del self._cache[next(iter(self._cache))]

    def _assembled(self, answers: list[tuple[Codes, float]]) -> Answers:
        width = max((len(values) for values, _ in answers), default=self._least_width())
        filled = np.full((len(answers), width), ABSENT, dtype=np.int32)
        for i, (values, _) in enumerate(answers):
            filled[i, : len(values)] = values
        return Answers(filled, np.array([margin for _, margin in answers], dtype=np.float64))

    def _least_width(self) -> int:
        readout = self.domain.readout
        if readout.kind == "multilabel":
            return len(self._choices)
        return 1 if readout.at in ("last", "first") else 0

    def _ask(self, inputs: Inputs) -> Answers:
        pieces: list[tuple[NDArray[np.intp], Codes]] = []
        margins = np.empty(len(inputs), dtype=np.float64)
        for group in _groups(inputs):
            n_rows = self._batch_rows(group.length)
            for start in range(0, len(group.rows), n_rows):
                rows = group.rows[start : start + n_rows]
                tokens = inputs.tokens[rows, : group.length]
                values, margin = self._read(tokens, group.length, group.offset)
                pieces.append((rows, values))
                margins[rows] = margin
        width = max((values.shape[1] for _, values in pieces), default=self._least_width())
        filled = np.full((len(inputs), width), ABSENT, dtype=np.int32)
        for rows, values in pieces:
            filled[rows] = widen(values, width)
        return Answers(filled, margins)

    def _read(self, tokens: NDArray[np.int32], length: int, offset: int) -> tuple[Codes, NDArray[np.float64]]:
        """Answer inputs of one length and offset: codes [input, width] and margins [input]."""
        readout = self.domain.readout
        check_positions(self.network.architecture, self.domain, length, offset)
        positions = self.domain.read_positions(length)
        if not positions:
            return np.zeros((len(tokens), 0), dtype=np.int32), np.full(len(tokens), np.inf)
        prompts = torch.from_numpy(self.domain.render(tokens).astype(np.int64))
        if readout.at == "generate":
            return self._generate(prompts, offset)
        logits, _ = self._run(prompts, offset, positions)
        if readout.kind == "multilabel":
            made = multilabel_decisions(logits[:, 0], self._choices, readout.threshold, self.network.tie)
            return made.picks.numpy().astype(np.int32), made.margins.numpy()
        if readout.kind == "value":
            return _as_numbers(logits[..., 0], readout.tolerance)
        return self._coded(argmax_decisions(logits, self._choices, self.network.tie))

    def _coded(self, made: Decisions) -> tuple[Codes, NDArray[np.float64]]:
        codes = self._choice_codes[made.picks.numpy()]
        return np.where(made.tied.numpy(), np.int32(UNDETERMINED), codes), made.margins.numpy()

    def _generate(self, prompts: Tensor, offset: int) -> tuple[Codes, NDArray[np.float64]]:
        """Decode greedily until ``stop``, ``max_new`` tokens, or the last position; margins include the stop."""
        architecture, readout = self.network.architecture, self.domain.readout
        n_new = readout.max_new or architecture.n_ctx - offset - prompts.shape[1] + 1
        n_inputs = len(prompts)
        values = np.full((n_inputs, n_new), ABSENT, dtype=np.int32)
        margins = np.full(n_inputs, np.inf)
        going = torch.arange(n_inputs)
        logits, memory = self._run(prompts, offset, [prompts.shape[1] - 1])
        for step in range(n_new):
            made = argmax_decisions(logits, self._choices, self.network.tie)
            rows, tokens = going.numpy(), self._fed_back[made.picks[:, 0]]
            margins[rows] = np.minimum(margins[rows], made.margins.numpy())
            keep = tokens != (-1 if readout.stop is None else readout.stop)
            codes = self._choice_codes[made.picks[:, 0].numpy()]
            values[rows, step] = np.where(keep.numpy(), codes, np.int32(ABSENT))
            if step == n_new - 1 or not keep.any():
                break
            if not keep.all():
                going, tokens, prompts = going[keep], tokens[keep], prompts[keep]
                memory = memory.take(keep)
            if architecture.attention == "causal":
                logits, memory = self.forward.run(tokens[:, None], memory, [0])
            else:
                prompts = torch.cat([prompts, tokens[:, None]], dim=1)
                logits, _ = self._run(prompts, offset, [prompts.shape[1] - 1])
        written = (values != ABSENT).any(axis=0)
        return values[:, : int(written.sum())], margins

    def _run(self, prompts: Tensor, offset: int, positions: Sequence[int]) -> tuple[Tensor, Memory]:
        if self.forward.has_shareable_work:
            return run_shared(self.forward, prompts, offset, positions)
        return self.forward.run(prompts, nothing_seen(offset), positions)

    def _batch_rows(self, length: int) -> int:
        """Return how many inputs of a length fit the batch budget."""
        a = self.network.architecture
        n_positions = self.domain.rendered_length(length)
        n_queries = n_positions if a.n_layers > 1 or self.domain.readout.at == "every" else 1
        kept = 2 * a.n_layers * a.d_model * n_positions if self.domain.readout.at == "generate" else 0
        cells = 5 * a.d_model * n_positions + n_queries * (2 * a.d_mlp + a.n_heads * n_positions) + kept
        budget = self._batch_cells * (_SHARED_BATCH_FACTOR if self.forward.has_shareable_work else 1)
        return max(1, budget // max(1, cells))

    def _check_ids(self, inputs: Inputs) -> None:
        within = np.arange(inputs.tokens.shape[1]) < inputs.lengths[:, None]
        n_tokens = len(self.domain.vocabulary.names)
        bad = within & ((inputs.tokens < 0) | (inputs.tokens >= n_tokens))
        if bad.any():
            row, position = (int(i) for i in np.argwhere(bad)[0])
            raise DomainError(
                f"input {row} has token id {int(inputs.tokens[row, position])} at position {position}, "
                f"expected 0 to {n_tokens - 1}"
            )


def _as_numbers(outputs: Tensor, tolerance: float) -> tuple[Codes, NDArray[np.float64]]:
    """Return the codes of the numbers that outputs [input, position] are, with their margins."""
    made = value_decisions(outputs, tolerance)
    return np.where(made.tied.numpy(), np.int32(UNDETERMINED), made.picks.numpy()), made.margins.numpy()


def _key(inputs: Inputs, i: int) -> bytes:
    return int(inputs.offsets[i]).to_bytes(8, "little") + inputs.tokens[i, : inputs.lengths[i]].tobytes()


def _groups(inputs: Inputs) -> Iterator[_Group]:
    """Split a batch by length and offset, shortest first."""
    kinds = inputs.lengths.astype(np.int64) << 32 | inputs.offsets.astype(np.int64)
    for kind in np.unique(kinds):
        yield _Group(int(kind >> 32), int(kind & 0xFFFFFFFF), np.flatnonzero(kinds == kind))
