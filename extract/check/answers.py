"""What the model answers and what the program answers, as the same cells: int64 codes, ABSENT where there is none."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from extract.check.anykind import AnyKind
from extract.check.forward import SINGLE, Forward
from extract.check.language import Bools, Ints
from extract.check.program import UNITS, Lets
from extract.check.reader import Unreadable
from extract.check.spec import ABSENT, NO_NUMBER, Task
from extract.check.weights import Floats

#: Cells [input, cell], margins and rounding bounds [input], and which cells are decided [input, cell].
Answered = tuple[Ints, Floats, Floats, Bools]


class Model:
    """A network read out as a task says. An answer's margin counts as decided above its own bound; ``answers`` returns
    cells, margins [input], bounds [input], and which cells are decided [input, cell]."""

    def __init__(self, task: Task, forward: Forward | AnyKind) -> None:
        self.task, self.forward = task, forward
        #: Work to evaluate one input, in layers times d_model.
        self.work: int = max(1, len(forward.weights.layers)) * forward.weights.embed.shape[1]
        #: Our own values are off by far less than single precision, but not by nothing.
        self._room = 1.001 if forward.unit == SINGLE else 1.0

    def width(self, length: int, offset: int) -> int:
        """Return the number of cells of an answer to an input of a length."""
        if self.task.kind == "multilabel":
            return len(self.task.choices)
        if self.task.at != "generate":
            return length if self.task.at == "every" else 1
        rest = self.forward.weights.n_ctx - offset - len(self.task.layout(length)) + 1
        return int(self.task.max_new or rest)

    def fits(self, length: int, offset: int) -> bool:
        """Say whether the network has the positions and tokens that the task needs at a length."""
        extra = max(self.width(length, offset) - 1, 0) if self.task.at == "generate" else 0
        weights = self.forward.weights
        n_out = weights.W_U.shape[1]
        right = (
            len(self.task.labels) == n_out if self.task.kind != "value" else n_out == 1 > 2 * self.task.tolerance > 0
        )
        right = right and len(self.task.names) == len(weights.embed)
        return right and len(self.task.layout(length)) + extra + offset <= weights.n_ctx

    def rows(self, length: int, offset: int) -> int:
        """Return how many inputs of a length to evaluate at a time."""
        places = len(self.task.layout(length)) + (self.width(length, offset) if self.task.at == "generate" else 0)
        return max(32, min(4096, (1 << 23) // (places * int(self.forward.weights.embed.shape[1]))))

    def is_endless(self, length: int) -> bool:
        """Say whether margins are infinite for want of a second choice or of any decision."""
        return (self.task.kind == "argmax" and len(self.task.choices) == 1) or (self.task.at == "every" and length == 0)

    def answers(self, tokens: Ints, offset: int, draft: Ints) -> Answered:
        """Answer inputs of one length; ``draft`` guesses generated codes.

        Shapes: ``tokens`` [n, length] ids; cells and decided [n, width]; margins and bounds [n], in logits.
        """
        task, prompts = self.task, self.task.prompts(tokens)
        if task.at == "generate":
            return self._generate(prompts, offset, draft, self.width(tokens.shape[1], offset))
        cells = task.layout(tokens.shape[1])
        places = [cells.index(-1 - i) for i in range(tokens.shape[1])] if task.at == "every" else [
            0 if task.at == "first" else len(cells) - 1]  # fmt: skip
        if not places:
            none = np.zeros((len(tokens), 0), np.int64)
            return none, np.full(len(tokens), np.inf), np.zeros(len(tokens)), none > 0
        first = min(places)
        logits, bound = self.forward.logits(prompts, offset, first)
        logits, bound = logits[:, [p - first for p in places]], bound[:, :, [p - first for p in places]] * self._room
        tie = 0.0 if task.kind == "value" else self.forward.weights.tie
        bound = bound + tie * np.maximum(np.abs(logits).max(axis=2), 1.0)
        if task.kind == "multilabel":
            distance = logits[:, 0, task.choices] - task.threshold
            sure = np.abs(distance).min(axis=1) > bound[1, :, 0]
            decided = np.repeat(sure[:, None], distance.shape[1], axis=1)
            return (distance > 0).astype(np.int64), np.abs(distance).min(axis=1), bound[1, :, 0], decided
        if task.kind == "value":
            codes, room, slip = _fractions(logits[..., 0], task.tolerance)
            slip = slip + bound[1]
            return codes, np.abs(room).min(axis=1), slip.max(axis=1), np.abs(room) > slip
        chosen, margins = self._top(logits)
        return task.output_codes[chosen], margins.min(axis=1), bound[0].max(axis=1), margins > bound[0]

    def _top(self, logits: Floats) -> tuple[Ints, Floats]:
        """The id of the largest chosen logit, the first of equals, and how far the second is below."""
        chosen = logits[..., self.task.choices]
        best = chosen.argmax(axis=-1)
        if len(self.task.choices) == 1:
            return self.task.choices[best], np.full(best.shape, np.inf)
        two = np.partition(chosen, -2, axis=-1)
        return self.task.choices[best], two[..., -1] - two[..., -2]

    def _along(self, written: Any, offset: int, first: int) -> tuple[Floats, Floats]:
        """Logits and bounds at every position from ``first`` on, each of the sequence that ends there."""
        if self.forward.weights.attention == "causal":
            return self.forward.logits(written, offset, first)
        ends = [self.forward.logits(written[:, : i + 1], offset, i) for i in range(first, written.shape[1])]
        return np.concatenate([x for x, _ in ends], axis=1), np.concatenate([e for _, e in ends], axis=2)

    def _generate(self, prompts: Any, offset: int, draft: Ints, width: int) -> Answered:
        """Decode greedily: guess the whole sequence, keep what the model confirms, guess again from there."""
        task, n, first = self.task, len(prompts), prompts.shape[1] - 1
        stop, fed = -1 if task.stop is None else task.stop, np.array([task.names.index(name) for name in task.labels])
        ids = np.zeros((n, width), np.int64)
        cells, margins, bounds = np.full((n, width), ABSENT, np.int64), np.zeros(n), np.zeros(n)
        for token, code in enumerate(task.token_codes):
            ids[draft[:, :width] == code] = token
        lengths = np.minimum((draft != ABSENT).sum(axis=1) + 1, width)
        for rows in np.array_split(np.argsort(lengths, kind="stable"), n // 64 + 1):
            seen = int(lengths[rows].max(initial=1))
            while len(rows):
                written = np.column_stack([prompts[rows], ids[rows, : seen - 1]])
                logits, bound = self._along(written, offset, first)
                best, margin = self._top(logits)
                top = fed[best]
                ended = np.cumsum(top == stop, axis=1) - (top == stop) > 0
                right = ((top[:, :-1] == ids[rows, : seen - 1]) | ended[:, 1:]).all(axis=1)
                right &= (top == stop).any(axis=1) | (seen == width)
                done = rows[right]
                cells[done, :seen] = np.where(ended | (top == stop), ABSENT, task.output_codes[best])[right]
                margins[done] = np.where(ended, np.inf, margin).min(axis=1)[right]
                bound = bound[0] + self.forward.weights.tie * np.maximum(np.abs(logits).max(axis=2), 1.0)
                bounds[done] = self._room * np.where(ended, 0.0, bound).max(axis=1)[right]
                ids[rows, :seen] = top
                rows, seen = rows[~right], min(width, seen + 4)
        return cells, margins, bounds, np.repeat((margins > bounds)[:, None], width, axis=1)


def _fractions(values: Floats, tolerance: float) -> tuple[Ints, Floats, Floats]:
    """Return the code of the fraction within tolerance of each value, the room to the border, its rounding error.

    Denominators go up to 16, or as far as fractions stay more than two tolerances apart: 1 / q(q-1) for those up to q.
    What is rounded in choosing p, dividing by q and subtracting is below 5 (|v| + 1) 2^-53 together.
    """
    q = np.array([q for q in range(1, 17) if 2 * tolerance * (q * (q - 1)) < 1])
    p = np.rint(values[..., None] * q)
    distance = np.abs(p / q - values[..., None])
    best = distance.argmin(axis=-1)[..., None]
    units = np.take_along_axis(p * (UNITS // q), best, axis=-1)[..., 0]
    room = tolerance - distance.min(axis=-1)
    found = (room > 0) & (np.abs(units) < 1 << 30)
    codes = np.where(found, np.where(found, units, 0), NO_NUMBER).astype(np.int64)
    return codes, room, (np.abs(values) + 1) * 2.0**-49


def program_answers(task: Task, lets: Lets, adapter: str, tokens: Ints, width: int) -> Ints:
    """Return a program's cells on inputs of one length. Shapes: ``tokens`` [n, length] ids; cells [n, width]."""
    codes, n = task.token_codes[tokens], len(tokens)
    if adapter == "step":
        return _by_steps(task, lets, codes, width)
    meaning = task.means(lets, codes, step=np.arange(width)[None])
    for node in lets.values():
        meaning(node)
    if adapter == "multilabel":
        known = {f"output[{label!r}]" for label in task.labels}
        if any(name.startswith("output") and name not in known for name in lets):
            raise Unreadable("program: an output is no label of the spec")
        names = [f"output[{task.labels[i]!r}]" for i in task.choices]
        columns = [meaning(lets[name]) if name in lets else np.zeros((1, 1), bool) for name in names]
        return np.column_stack([np.broadcast_to(column, (n, 1)) for column in columns]).astype(np.int64)
    read = meaning.answer if task.kind == "value" else meaning
    cells = np.broadcast_to(read(lets["output"]), (n, width))
    if adapter != "generate":
        return cells
    return np.where(np.arange(width) < meaning.number(lets["output_length"]), cells, ABSENT)


def _by_steps(task: Task, lets: Lets, codes: Ints, width: int) -> Ints:
    written, stop = codes, -1 if task.stop is None else int(task.token_codes[task.stop])
    running = np.ones((len(codes), 1), bool)
    cells = np.full((len(codes), width), ABSENT, np.int64)
    for i in range(width):
        meaning = task.means(lets, written, prompt_length=np.array([[codes.shape[1]]]))
        for node in lets.values():
            meaning(node)
        after = np.broadcast_to(meaning(lets["output"]), (len(codes), 1))
        running = running & (after != stop) if task.stop is not None else running
        cells[:, i : i + 1] = np.where(running, after, ABSENT)
        written = np.column_stack([written, np.where(running, after, 0)])
    return cells


def adapters(task: Task) -> tuple[str, ...]:
    """Return the output adapters that fit the task's read-out."""
    if task.kind == "multilabel":
        return ("multilabel",)
    return {"every": ("every",), "generate": ("generate", "step")}.get(task.at, ("value",))


def is_defined(lets: Lets, adapter: str) -> bool:
    """Say whether a program defines exactly the outputs of its adapter."""
    needed = {"generate": {"output", "output_length"}, "multilabel": set[str]()}.get(adapter, {"output"})
    found = {name for name in lets if name in ("output", "output_length")}
    return found == needed and all(isinstance(node, ast.expr) for node in lets.values())
