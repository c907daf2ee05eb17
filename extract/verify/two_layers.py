"""One length and offset of a causal network of two layers decided box by box.

The strings of a box are divided by memory states, the first layer becomes a table over them, and the second layer and
what follows are bounded for every state in which the strings can end. States that fail are split off and cut further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.network import Network
from extract.verify.affine import Affine, Floats
from extract.verify.box_proof import (
    LISTED_WORK,
    SMALL_WORK,
    Box,
    BoxProver,
    Run,
    Stop,
    children,
    common_refusal,
    refusal,
)
from extract.verify.boxes import Split
from extract.verify.context import Context, memory_of
from extract.verify.final_stage import MlpStage, normalised
from extract.verify.layer_tables import LayerTables, is_in_order
from extract.verify.pieces import least_margins
from extract.verify.plain import StagesForward, decide_inputs
from extract.verify.second_layer import Projected, SecondLayer

#: Estimated multiply-adds of one box, for every 16 dimensions of the residual vectors.
_BOX_WORK = 800_000_000
#: Edges of a context beyond which a box is cut first.
_MAX_EDGES = 60_000
#: Symbols of the read position's first layer kept beyond the heads' axes.
_FURTHER = 8
#: What the read position's own vector counts beside the attention to it, in positions' even shares.
_READ = 4.0
#: Strings drawn from a box to find differences.
_DRAWN, _SEED = 32, 11
#: The share of a box from which its decided states are worth a split of their own.
_WORTH = 0.05


@dataclass(slots=True, kw_only=True)
class _ContextRun(Run):
    """A run of two layers, with the tables of the first."""

    tables: LayerTables


class ContextProver(BoxProver):
    """Decides lengths of a domain for a causal network of two layers."""

    def __init__(self, network: Network, domain: Domain, *, stop: Stop = lambda: False) -> None:
        super().__init__(network, domain, stop=stop)
        self._mlp, self._second = MlpStage(network.layers[0], network.architecture), SecondLayer(network)
        self._eps = network.architecture.norm_eps
        self.memory = memory_of(len(domain.alphabet))
        self.box_work = _BOX_WORK * (network.architecture.d_model // 16 + 1)
        self._tables: dict[tuple[int, int], LayerTables] = {}

    def _run(self, length: int, offset: int, answers: tuple[tuple[int, ...], ...]) -> Run:
        if (length, offset) not in self._tables:
            self._tables = {(length, offset): LayerTables(self.stages, self.domain, length, offset)}
        layout, a = self.domain.template.layout(length), self.network.architecture
        last, n = layout[-1], len(layout)
        # strings are listed with nothing shared between them
        self.work = a.n_layers * n * (4 * a.d_model**2 + 2 * a.d_model * a.d_mlp + 2 * n * a.d_model)
        query, tables = -1 - last if last < 0 else None, self._tables[length, offset]
        return _ContextRun(length=length, offset=offset, query_letter=query, answers=answers, tables=tables)

    def _decided(self, run: Run, strings: NDArray[np.intp]) -> tuple[NDArray[Any], Floats, Floats]:
        tokens = np.array(self.domain.alphabet, dtype=np.int32)[strings]
        found = decide_inputs(StagesForward(self.stages), self.domain, self.form, tokens, run.offset)
        return found.cells.T, found.margins, found.bounds

    def _decide(self, run: Run, box: Box) -> list[Box]:
        """Decide a box, or split it and return what is left to decide; nothing too if it stays open."""
        if not isinstance(run, _ContextRun):
            raise TypeError("a run of another prover")
        paths, node = box.paths, box.node
        if self._is_listable(node, SMALL_WORK):
            self._list(run, box)
            return []
        said = run.answers[int(paths.labels[0])]
        if not box.is_rest:
            drawn = paths.sample(_DRAWN, _SEED)
            cells = self._decided(run, drawn)[0]
            wrong = np.array([self._codes(self._answer(row)) != said for row in cells])
            self._note(run, paths, drawn[wrong][-4:])
            context = Context.of(paths, self.memory)
            n_edges = sum(len(part[1]) for rounds in context.edges for part in rounds)
            if n_edges <= _MAX_EDGES:
                guess = self._answer(cells[0])
                least, box.attention = self.least_margins(run.tables, context, guess)
                rest = self._split_off(run, box, context, guess, least)
                if rest is not None:
                    return rest
        if self._is_listable(node, LISTED_WORK):
            self._list(run, box)
            return []
        return self._cut(run.tables, box)

    def _cut(self, tables: LayerTables, box: Box) -> list[Box]:
        """Split a box by the letter that seems to matter most; nothing if all its letters are fixed."""
        paths = box.paths
        free = np.array([len(paths.letters_at(p)) > 1 for p in range(paths.length)], dtype=np.bool_)
        if not free.any():
            return []
        n = len(tables.depths)
        attention = np.full(n, 1.0 / n) if box.attention is None else box.attention.copy()
        attention[-1] += _READ / n
        influence = tables.influence(paths, self.memory, attention)
        return children(box, Split("at", start=int(np.where(free, influence, -np.inf).argmax())))

    def _split_off(
        self, run: Run, box: Box, context: Context, answer: tuple[int, ...], least: Floats
    ) -> list[Box] | None:
        """Count the last states whose margins of an answer are positive as decided; return the rest of the box, None if
        it is nearly all of it."""
        is_sure = least > 0
        decided = sum(n for n, sure in zip(context.counts(), is_sure, strict=True) if sure)
        if decided == box.node.size:
            self._bounded(run, box, answer, float(least.min()), box.paths.sample(1, _SEED))
            box.node.memory = self.memory
            return []
        if decided < _WORTH * box.node.size:
            return None
        ends = frozenset(tuple(key) for key in context.keys[-1][~is_sure].tolist())
        # a memory state can be several states of the paths: all of them are left over if one of them is
        rest = context.ends_in(ends)
        if rest.all():
            return None
        sure, left = children(box, Split("ends", memory=self.memory, ends=ends))
        self._bounded(run, sure, answer, float(least[~rest].min()), sure.paths.sample(1, _SEED))
        sure.node.memory, left.is_rest, left.attention = self.memory, True, box.attention
        return [left]

    # -- bounds --------------------------------------------------------------------------------------------------

    def least_margins(
        self, tables: LayerTables, context: Context, answer: tuple[int, ...]
    ) -> tuple[Floats, Floats | None]:
        """Return a lower bound of all margins of an answer over the strings that end in each last state, and where the
        second layer looks, about, if that is known."""
        n_ends = len(context.keys[-1])
        parts: list[Projected] = []
        x = z = Affine(np.zeros((0, 0)), np.zeros((0, 0, 0)), np.zeros((0, 0)))
        for position in range(len(tables.depths)):
            middle = tables.over(context, position)
            n_symbols = middle.noise.shape[2]
            after = self._mlp.steps(middle).after
            z, _ = normalised(after, self._eps)
            x = after.compacted(n_symbols + _FURTHER)
            parts.append(self._second.projected(z, n_symbols))
            if not all(np.isfinite(part.reach).all() for part in (parts[-1].key, parts[-1].value)):
                return np.full(n_ends, -np.inf), None
        y = self._second.attended(context, tables.depths, parts, x, z)
        attention = self._second.attention(context.visits(), tables.depths, parts, z)
        return least_margins(self.final, y, answer), attention


def why_not(network: Network, domain: Domain, semantics: str) -> str | None:
    """Return why memory states do not apply to a network and read-out, None if they do."""
    a = network.architecture
    if a.n_layers != 2 or a.attention != "causal" or domain.readout.at != "last":
        return "bounds are for one layer read at one position, or two causal ones read at the last"
    if not all(is_in_order(domain.template.layout(length)) for length in domain.lengths):
        return "bounds for two layers are for prompts that hold the input's tokens once, in order"
    if not a.d_mlp:
        return "bounds for two layers are for layer norms and an MLP"
    if (
        any(layer.norm_attention is None or layer.norm_mlp is None for layer in network.layers)
        or not network.norm_final
    ):
        return "bounds for two layers are for layer norms before every part"
    if semantics != "real":
        return "bounds for two layers are in real arithmetic"
    return common_refusal(network, domain, semantics)


def prover_for(network: Network, domain: Domain, semantics: str, stop: Stop) -> BoxProver | str:
    """Return what decides the lengths of a network's domain by boxes, or say why nothing does."""
    if network.architecture.n_layers == 2:
        return why_not(network, domain, semantics) or ContextProver(network, domain, stop=stop)
    return refusal(network, domain, semantics) or BoxProver(network, domain, semantics, stop=stop)


__all__ = ["ContextProver", "prover_for", "why_not"]
