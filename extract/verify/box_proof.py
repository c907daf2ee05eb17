"""One length and offset decided box by box: bounds where they reach, every string where a box is small, splits between.

The largest undecided box is split first, until all are decided or the limit of boxes is reached; what is left is
undecided and counted exactly. A box counts as decided only if every margin of one answer is positive on all of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.machine import program_machine
from extract.lang.terms import Program
from extract.network import Network
from extract.verify import sum_table
from extract.verify.affine import Floats, gamma
from extract.verify.boxes import Node, Split, choose_split, leaf_of
from extract.verify.care import CAREFUL, USUAL, CareStages
from extract.verify.cells import CellFormat
from extract.verify.final_stage import Bounds, Cell, FinalStage
from extract.verify.form_errors import FormErrors
from extract.verify.head_sums import HeadSums
from extract.verify.paths import Paths, read_paths
from extract.verify.refute import decide_strings
from extract.verify.stages import SEMANTICS, claims_of
from extract.verify.sum_cells import CellBounds
from extract.verify.sum_states import Division, SumStates
from extract.verify.terms import TokenParts, TokenTerms, cells_of

Stop = Callable[[], bool]

#: Boxes bounded or listed for one length and offset at most; fewer once a difference is known.
MAX_BOXES, _MAX_REFUTED_BOXES = 6000, 1000
#: Boxes after which what is left of one layer is divided by partial sums, or half of fewer allowed but not fewer than
#: so many; and the multiply-adds that may take.
_BOXES_BEFORE_SUMS, _FEW_BOXES, _SUMS_WORK = 160, 16, 40_000_000_000
#: Multiply-adds spent on listing one box, and on boxes so small that bounding them first is not worth it.
LISTED_WORK, SMALL_WORK = 200_000_000, 2_000_000
_LISTED_STRINGS = 200_000
#: Estimated multiply-adds of one box, beside those of its affine forms.
_BOX_WORK = 30_000_000
#: Pieces a box's set of residual vectors is cut into: few where the bound is far from positive.
_CELLS, _FAR = 24, 2.0
#: Strings drawn from a box to find its axes and differences.
_DRAWN, _SEED = 96, 11
#: Strings of a part that differs that are asked for.
_SHOWN = 16
#: Differing strings kept for one length and offset.
_KEPT_STRINGS = 64


@dataclass(frozen=True, slots=True)
class BoxResult:
    """The tree of one length and offset; ``answers`` are the program's by label.

    The leaves' agreements, differences and undecided strings add up to ``tree.size``. ``different`` are the letters of
    some strings on which the model differs; those of ``inside_open`` lie in open leaves, where nothing else counts
    them. Every limit of boxes from ``enough`` on gives the same; None if the limit asked for had a part in it.
    """

    length: int
    offset: int
    tree: Node
    answers: tuple[tuple[int, ...], ...]
    n_boxes: int
    different: tuple[tuple[int, ...], ...]
    inside_open: tuple[tuple[int, ...], ...]
    enough: int | None


def refusal(network: Network, domain: Domain, semantics: str) -> str | None:
    """Return why boxes do not apply to a network and read-out, None if they do."""
    a = network.architecture
    if not sum_table.applies(a.n_layers, domain, a.attention):
        return "bounds are for one layer read at one position"
    return common_refusal(network, domain, semantics)


def common_refusal(network: Network, domain: Domain, semantics: str) -> str | None:
    """Return why bounds do not apply to a network's parts and read-out, whatever its depth; None if they do."""
    readout = domain.readout
    if network.beyond_gpt2:
        return f"bounds are not for {', '.join(network.beyond_gpt2)}"
    if readout.kind == "value":
        return "bounds are for choices and labels"
    if semantics not in SEMANTICS:
        return f"bounds are for {' and '.join(SEMANTICS)}, not {semantics}"
    if semantics != "real" and network.architecture.attention != "causal":
        return "bounds in float32 are for causal attention"
    if readout.kind == "argmax" and len(readout.choices) < 2:
        return "bounds need a second choice"
    return None


@dataclass(slots=True)
class Box:
    """A node of the tree with its strings; ``is_rest`` says that bounds have just failed on them, and ``attention``
    [position] where a later layer looked then, if one did."""

    node: Node
    paths: Paths
    is_rest: bool = False
    attention: Floats | None = None


@dataclass(slots=True, kw_only=True)
class Run:
    """One length and offset being decided; ``query_letter`` is the place in the input of the token read, None if it is
    the template's."""

    length: int
    offset: int
    query_letter: int | None
    answers: tuple[tuple[int, ...], ...]
    different: dict[tuple[int, ...], None] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _SumRun(Run):
    """A run of one layer, with its terms and their sums by query token."""

    terms: TokenTerms
    n_keys: int
    sums: dict[int, HeadSums] = field(default_factory=dict)


class BoxProver:
    """Decides lengths of a domain by boxes, for any program that is a small automaton there."""

    def __init__(
        self, network: Network, domain: Domain, semantics: str = "real", *, stop: Stop = lambda: False
    ) -> None:
        self.network, self.domain, self.stop = network, domain, stop
        self.form = CellFormat.of(domain.readout, domain.vocabulary)
        claims = claims_of(semantics)
        # how far float32 can be is worth a closer look once; it is far more than our own rounding
        self.stages = CareStages(network, domain.readout, claims)(CAREFUL if claims else USUAL)
        self.final = FinalStage(network, domain.readout, FormErrors(self.stages.analysis))
        self.work = sum_table.work_per_input(network.architecture)
        #: Estimated multiply-adds of one box.
        self.box_work = _BOX_WORK + 3 * network.architecture.d_mlp * network.architecture.d_model**2
        self._parts: dict[tuple[int, int], tuple[TokenTerms, int | None, int]] = {}
        a = network.architecture
        self._states = SumStates(CellBounds(self.final, a.d_mlp), 40 * a.d_model * (a.d_model + a.d_mlp))

    def prove(self, program: Program, length: int, offset: int, max_boxes: int = MAX_BOXES) -> BoxResult | str:
        """Decide a length at an offset with so many boxes bounded or listed, or say why boxes do not apply."""
        domain = self.domain
        graph = domain.graph_at(length)
        if graph is None:
            return f"inputs of length {length} have no graph"
        if offset + domain.rendered_length(length) > self.network.architecture.n_ctx:
            return f"a prompt of length {length} at offset {offset} has more tokens than positions"
        machine = program_machine(program, domain.vocabulary, domain.readout, length)
        if machine is None:
            return "the program cannot be read from the left with small memory"
        answers: dict[tuple[int, ...], int] = {}
        paths = read_paths(
            graph, length, machine.start(), lambda s, p, a: machine.step(s, p, domain.alphabet[a]),
            lambda s: answers.setdefault(machine.answer(s, length), len(answers)),
        )  # fmt: skip
        if paths is None:
            return f"the program needs too many states at length {length}"
        with np.errstate(all="ignore"):
            run = self._run(length, offset, tuple(answers))
            tree, n_boxes, enough = self._grow(run, paths, max_boxes)
        inside = tuple(string for string in run.different if leaf_of(tree, paths, string).kind == "open")
        return BoxResult(length, offset, tree, run.answers, n_boxes, tuple(run.different), inside, enough)

    def _run(self, length: int, offset: int, answers: tuple[tuple[int, ...], ...]) -> Run:
        key = (length, offset)
        if key not in self._parts:
            domain = self.domain
            layout = domain.template.layout(length)
            read = 0 if domain.readout.at == "first" else len(layout) - 1
            seen = layout[: read + 1] if self.network.architecture.attention == "causal" else layout
            alphabet = np.array(domain.alphabet)
            made = TokenParts(self.stages, cells_of(layout, alphabet), offset)
            terms = TokenTerms(made, alphabet, layout, len(seen), read)
            self._parts = {key: (terms, -1 - layout[read] if layout[read] < 0 else None, len(seen))}
        terms, query, n_keys = self._parts[key]
        return _SumRun(length=length, offset=offset, query_letter=query, answers=answers, terms=terms, n_keys=n_keys)

    def _grow(self, run: Run, paths: Paths, max_boxes: int) -> tuple[Node, int, int | None]:
        """Grow the tree of boxes, the largest box first; return it, its boxes, and ``BoxResult.enough``."""
        root = Node(paths.size)
        tops = [Box(root, paths)]
        for split in [Split("answer"), *([] if run.query_letter is None else [Split("at", start=run.query_letter)])]:
            tops = [child for box in tops for child in children(box, split)]
        number, n_boxes, enough, has_divided = len(tops), 0, 0, not self._divides(run)
        n_first = min(_BOXES_BEFORE_SUMS, max(_FEW_BOXES, max_boxes // 2))
        waiting = [(-box.node.size, i, i, box) for i, box in enumerate(tops)]
        heapq.heapify(waiting)
        while waiting and n_boxes < max_boxes and not self.stop():
            if n_boxes >= n_first and not has_divided:
                has_divided, enough = True, 2 * _BOXES_BEFORE_SUMS
                for top in sorted({top for _, _, top, _ in waiting}):
                    enough = max(enough, n_boxes + -(-_SUMS_WORK // self.box_work))
                    spent = self._divided(run, tops[top], (max_boxes - n_boxes) * self.box_work)
                    n_boxes += -(-spent // self.box_work)
                waiting = [entry for entry in waiting if not tops[entry[2]].node.is_divided]
                heapq.heapify(waiting)
                continue
            if run.different and n_boxes >= _MAX_REFUTED_BOXES:
                break
            _, _, top, box = heapq.heappop(waiting)
            n_boxes += 1
            for child in self._decide(run, box):
                heapq.heappush(waiting, (-child.node.size, number, top, child))
                number += 1
        enough = max(enough, n_boxes if has_divided or n_boxes <= _FEW_BOXES else 2 * n_boxes)
        is_whole = not waiting or (bool(run.different) and n_boxes >= _MAX_REFUTED_BOXES)
        return root, n_boxes, enough if is_whole and enough <= max_boxes else None

    def _divides(self, run: Run) -> bool:
        """Say whether boxes may be divided by partial sums: the ranges of cells carry the errors of real arithmetic."""
        return isinstance(run, _SumRun) and self.final.errors is None

    def _divided(self, run: Run, box: Box, work: int) -> int:
        """Divide a box's strings by partial sums instead, and keep that where it leaves less undecided; return the
        multiply-adds it took."""
        if not isinstance(run, _SumRun):
            raise TypeError("a run of another prover")
        label = int(box.paths.labels[0])

        def own(paths: Paths) -> Paths:
            return Paths(paths.n_letters, paths.next, np.full_like(paths.labels, label))

        def decided(node: Node, answer: tuple[int, ...], strings: Callable[[], Paths | None]) -> None:
            differs = self._codes(answer) != run.answers[label]
            some = strings() if differs and len(run.different) < _KEPT_STRINGS else None
            example = np.zeros((0, run.length), np.intp) if some is None else some.sample(_SHOWN, _SEED)
            self._bounded(run, Box(node, box.paths), answer, node.least, example)

        root = Node(box.node.size)
        at = Division(root, box.paths, min(work, _SUMS_WORK))
        left = self._states.divide(self._sums(run, box.paths), at, decided, self.stop)
        if left is not None and self._is_listable(at.node, LISTED_WORK):
            self._list(run, Box(at.node, own(left)))
        if sum(leaf.undecided for leaf in root.leaves()) < sum(leaf.undecided for leaf in box.node.leaves()):
            box.node.become(root)
        return min(work, _SUMS_WORK) - at.work

    def _decide(self, run: Run, box: Box) -> list[Box]:
        """Decide a box, or split it and return what is left to decide; nothing too if it stays open."""
        paths, node = box.paths, box.node
        has_claims = self.final.errors is not None  # then bounds of boxes are closer than the one for all strings alike
        if not has_claims and self._is_listable(node, SMALL_WORK):
            self._list(run, box)
            return []
        if not isinstance(run, _SumRun):
            raise TypeError("a run of another prover")
        sums, said = self._sums(run, paths), run.answers[int(paths.labels[0])]
        bounds, cell, centres, drawn = self._bounds(run, paths, sums)
        cells = self._decided(run, drawn)[0]
        guess = self._answer(cells[0])
        lowest, error, whole = self.final.least(cell, guess, 1, bounds)
        effect = self._effect(sums, centres, cell, whole)
        is_one = bool((cells == cells[0]).all())
        if is_one and lowest <= 0:
            ends = np.stack([paths.best(effect), paths.best(-effect)])
            drawn, cells = np.concatenate([drawn, ends]), np.concatenate([cells, self._decided(run, ends)[0]])
            is_one = bool((cells == cells[0]).all())
            if is_one and lowest > -_FAR * abs(float(whole.form.centre.min())):
                lowest, error, _ = self.final.least(cell, guess, _CELLS, bounds)
        if is_one and lowest > 0:
            node.error = error
            self._bounded(run, box, guess, lowest, drawn[:1])
            return []
        if self._is_listable(node, SMALL_WORK if has_claims else LISTED_WORK):
            self._list(run, box)
            return []
        self._note(run, paths, drawn[[self._codes(self._answer(row)) != said for row in cells]][-4:])
        split = choose_split(paths, effect)
        return [] if split is None else children(box, split)

    def _is_listable(self, node: Node, work: int) -> bool:
        return node.size <= _LISTED_STRINGS and node.size * self.work <= work

    def _decided(self, run: Run, strings: NDArray[np.intp]) -> tuple[NDArray[Any], Floats, Floats]:
        """Return stored cells [string, cell], margins and rounding bounds [string] of strings of one box."""
        if not isinstance(run, _SumRun):
            raise TypeError("a run of another prover")
        return decide_strings(self, run, strings)

    def _bounded(self, run: Run, box: Box, answer: tuple[int, ...], least: float, example: NDArray[np.intp]) -> None:
        """Count a box whose every string has one answer of the model."""
        node = box.node
        node.kind, node.model, node.least = "bounded", self._codes(answer), least
        is_same = node.model == run.answers[int(box.paths.labels[0])]
        node.agree, node.disagree = (node.size, 0) if is_same else (0, node.size)
        if not is_same:
            self._note(run, box.paths, example)

    def _sums(self, run: _SumRun, paths: Paths) -> HeadSums:
        variant = 0 if run.query_letter is None else paths.letters_at(run.query_letter)[0]
        if variant not in run.sums:
            run.sums[variant] = HeadSums.of(self.stages, run.terms, variant, run.n_keys)
        return run.sums[variant]

    def _bounds(
        self, run: Run, paths: Paths, sums: HeadSums
    ) -> tuple[Callable[[Floats], Floats], Cell, Floats, NDArray[np.intp]]:
        """Return the lower bound of linear forms over a box, its set of residual vectors, the heads' centres and drawn
        strings."""
        drawn = paths.sample(_DRAWN, _SEED)
        centres = sums.centres(paths)
        centre = sums.base + centres.sum(axis=0)
        apart = np.nan_to_num(sums.rows(drawn) - centre, posinf=0.0, neginf=0.0)
        axes = np.linalg.svd(apart, full_matrices=True)[2].T
        extent = sums.extent(paths)
        low, high = sums.range(paths, centres, axes, extent)
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        # what the axes do not span exactly, of outputs no farther from the centres than a single token's value
        far = (sums.reach + np.abs(centres)).sum(axis=0)
        missed = np.abs(np.eye(len(axes)) - axes @ axes.T) + gamma(len(axes) + 4) * (np.abs(axes) @ np.abs(axes.T))
        ball = float(sums.errors(extent[0])[0])
        size = np.abs(sums.base) + np.abs(centres).sum(axis=0)
        slip = sums.slip + missed @ far + ball + gamma(len(centres) + 4) * size
        cell = Cell(centre, axes, low, high, slip * (1 + 2.0**-30), sums.computed(paths, extent))

        def below(directions: Floats) -> Floats:
            """Return lower bounds of directions @ z over the box."""
            vectors = axes @ directions.T
            size = np.abs(axes) @ np.abs(directions.T)
            lowest = sums.range(paths, centres, vectors, extent)[0]
            # z is axes.T @ (y - centre): the product with the axes once more, and its rounding
            return np.asarray(lowest - (gamma(2 * len(axes) + 8) * (far @ size)))

        return below, cell, centres, drawn

    def _effect(self, sums: HeadSums, centres: Floats, cell: Cell, whole: Bounds) -> Floats:
        """Return what each letter at each position adds to the margin in doubt, or to the widest axis if the margin's
        range is mostly not linear. Shape: [position, letter]."""
        worst = int(whole.least.argmin())
        linear = float(np.abs(whole.linear[worst]).sum())
        half = (cell.high - cell.low) / 2
        if np.isfinite(linear) and 2 * linear > float(whole.form.reach[worst]):
            direction = cell.axes @ np.where(half > 0, whole.linear[worst] / np.where(half > 0, half, 1.0), 0.0)
        else:
            direction = cell.axes[:, int(half.argmax())]
        weight = sums.weights.sum(axis=(1, 2)) / max(1, sums.weights.shape[2]) + sums.fixed_weights
        value = np.einsum("hpad,d->hpa", sums.values, direction) - sums.weights * (centres @ direction)[:, None, None]
        return np.asarray((value / weight[:, None, None]).sum(axis=0))

    # -- answers -------------------------------------------------------------------------------------------------

    def _answer(self, cells: NDArray[np.generic]) -> tuple[int, ...]:
        """Return stored cells of one answer as what the final stage calls an answer."""
        if self.form.n_labels:
            return tuple(int(v) for v in self.form.decode(np.asarray(cells)[None], 1)[0])
        return (int(cells[0]),)

    def _codes(self, answer: tuple[int, ...]) -> tuple[int, ...]:
        return answer if self.form.n_labels else (int(self.form.codes[answer[0]]),)

    def _note(self, run: Run, paths: Paths, strings: NDArray[np.intp]) -> None:
        """Keep strings of a box on which the model certainly differs from the program."""
        if not len(strings) or len(run.different) >= _KEPT_STRINGS:
            return
        cells, margins, bounds = self._decided(run, strings)
        said = np.array(run.answers[int(paths.labels[0])])
        differs = (self.form.decode(cells, 1) != said).any(axis=1) & (margins > bounds)
        for string in strings[differs][: _KEPT_STRINGS - len(run.different)]:
            run.different[tuple(int(a) for a in string)] = None

    def _list(self, run: Run, box: Box) -> None:
        """Decide every string of a box."""
        node, said = box.node, np.array(run.answers[int(box.paths.labels[0])])
        node.kind, strings = "listed", box.paths.strings()
        chunk = max(64, SMALL_WORK // self.work)
        for first in range(0, len(strings), chunk):
            some = strings[first : first + chunk]
            cells, margins, bounds = self._decided(run, some)
            is_sure = margins > bounds
            same = (self.form.decode(cells, 1) == said).all(axis=1)
            node.agree += int((same & is_sure).sum())
            node.disagree += int((~same & is_sure).sum())
            node.least = min(node.least, float(margins[is_sure].min(initial=np.inf)))
            node.error = max(node.error, float(bounds[is_sure].max(initial=0.0)) * (self.final.errors is not None))
            self._note(run, box.paths, some[~same & is_sure])


def children(box: Box, split: Split) -> list[Box]:
    """Hang the children of a split into the tree; their sizes add up to the box's."""
    box.node.split = split
    found = [(key, Box(Node(part.size), part)) for key, part in split.apply(box.paths)]
    if sum(child.node.size for _, child in found) != box.node.size:
        raise ArithmeticError("the children of a box do not add up")
    box.node.children = [(key, child.node) for key, child in found]
    return [child for _, child in found]


__all__ = ["Box", "BoxProver", "BoxResult", "Run", "children", "common_refusal", "refusal"]
