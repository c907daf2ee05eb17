"""The checker's own bounds for one layer of attention alone: classes of inputs as shortest paths through a graph.

With one head the softmax's denominator is common to all logits and positive, so a margin is above t exactly if a sum of
one term per token, exp(score) * (term - t), is positive. Terms are intervals, sums are rounded outward.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from extract.check.answers import Model, program_answers
from extract.check.attended import Attended
from extract.check.forward import SINGLE, Forward
from extract.check.language import Bools, Ints, Strings
from extract.check.margins import decisions
from extract.check.program import Lets
from extract.check.reader import Unreadable
from extract.check.single import Start, margin_errors
from extract.check.slices import answering
from extract.check.spec import ABSENT, Task
from extract.check.weights import Floats

_UNIT, _LEAST = 2.0**-53, 2.0**-1000
#: Covers the rounding of the widths themselves.
_WIDER = 1 + 2.0**-20
#: A claimed least margin is at most this share below one that some input has.
_NEAR = 1.003
#: Prefixes held while a mixed class is split, times decisions: more than whoever made the claim may use.
_MOST_CELLS = 8_000_000
Middle = tuple[Floats, Floats]


def _times(x: Middle, weight: Floats) -> Middle:
    """Return the matrix product of numbers within widths and a matrix known exactly, as value and width."""
    value, size = x[0] @ weight, np.abs(x[0]) + x[1]
    width = x[1] @ np.abs(weight) + (len(weight) + 4) * _UNIT * (size @ np.abs(weight))
    return value, width * _WIDER + _LEAST


def _plus(x: Middle, y: Any) -> Middle:
    other = y if isinstance(y, tuple) else (y, 0.0)
    value = x[0] + other[0]
    return value, (x[1] + other[1] + _UNIT * np.abs(value)) * _WIDER + _LEAST


def _sum_down(x: Any, y: Any) -> Floats:
    return np.asarray(np.nextafter(x + y, -np.inf))


class Separable:
    """The classes of a certificate; ``agree`` and ``disagree`` are the counts that the entries claim, in total."""

    def __init__(self, task: Task, model: Model, lets: Lets, adapter: str, cert: dict[str, Any]) -> None:
        w = model.forward.weights
        is_one = w.is_plain and len(w.layers) == w.n_heads == 1 and w.activation is None and not w.norm_eps
        if not is_one or adapter not in ("value", "multilabel") or task.kind == "value":
            raise Unreadable("the method separable is for one head of attention alone, read at one position")
        self.task, self.model, self.lets, self.adapter, self.cert = task, model, lets, adapter, cert
        forward = model.forward
        self.single = forward if isinstance(forward, Forward) and forward.unit == SINGLE else None
        #: How many of the reasons say no more than that our own bounds are looser than the claim's.
        self.agree = self.disagree = self.n_classes = self.n_doubts = 0
        self._seen: Counter[Any] = Counter()
        self._totals = answering(task, lets)
        self._strings = Strings([*task.strings.machines, self._totals], len(task.alphabet))
        d = w.embed.shape[1]
        one = w.layers[0]
        maps = (one.W_Q, one.b_Q), (one.W_K, one.b_K), (one.W_V, one.b_V)
        self._maps = [(weight[0], bias[0]) for weight, bias in maps]
        self._out, self._unembed = (one.W_O[0], one.b_O), w.W_U[:, task.choices]
        self._bias = w.b_U[task.choices]
        if d != len(self._unembed):
            raise Unreadable("the unembedding does not fit the embedding")

    def reasons(self, progress: Any) -> list[str]:
        """Return what is wrong with the classes, the exceptions and the numbers made of them."""
        found, entries = self._exceptions(), list(self.cert["classes"])
        margins: list[float | None] = []
        for o in self.task.offsets:
            for length in self.task.lengths:
                mine = [e for e in entries if (e["offset"], e["length"]) == (o, length)]
                if mine and self.task.strings.size(length):
                    found += self._length(mine, length, o)
                    margins += [e["min_margin"] for e in mine]
                    self.n_classes += len(mine)
                if progress is not None:
                    progress.advance(self.n_classes, len(entries), "classes")
        order = [(self.task.offsets.index(e["offset"]), e["length"]) for e in entries]
        if self.n_classes != len(entries) or order != sorted(order):
            found.append("classes: some are of no length and offset of the domain, or out of order")
        numerics, least = self.cert["numerics"], [m for m in margins if m is not None]
        whole = min(least, default=None) if not self.disagree and self.agree == self._size() else None
        bound = 0.0 if self.single is None else numerics["error_bound"]
        is_bound = type(bound) is float and 0 <= bound < (math.inf if whole is None else whole)
        if numerics != {"error_bound": bound, "min_margin": whole, "n_fragile": 0} or not is_bound:
            found.append(f"numerics: {numerics}, expected the least margin {whole} of the classes, and an error below")
        return found

    def _size(self) -> int:
        return sum(self.task.strings.size(n) for n in self.task.lengths) * len(self.task.offsets)

    def _length(self, entries: list[dict[str, Any]], length: int, offset: int) -> list[str]:
        edges, layers, accepted = self._strings.graph(length)
        values = self._totals.values(layers[-1], length).astype(np.int64)
        tables, found, last = _Tables(self, length, offset), list[str](), (-1, -1)
        answers = sorted({tuple(row) for row in values[accepted].tolist()})
        shown = {tuple(self._name(c) for c in answer): i for i, answer in enumerate(answers)}
        queries = [self.task.names[t] for t in self.task.alphabet] if tables.query is not None else [None]
        for entry in entries:
            place = f"class {entry['answer']} of length {length}, offset {offset}, query {entry['query']!r}"
            key = (shown.get(tuple(entry["answer"]), -1), queries.index(entry["query"]))
            counts = [entry[name] for name in ("agree", "disagree", "undecided")]
            if not all(isinstance(c, str) and c.isascii() and c.isdigit() and str(int(c)) == c for c in counts):
                return [f"{place}: its counts are not decimal strings"]
            if key[0] < 0 or key <= last:
                return [f"{place}: no input has this answer, or it is out of order"]
            last, cells = key, answers[key[0]]
            ends = accepted & (values == cells).all(axis=1)
            part = _Class(tables, edges, ends, key[1], cells)
            n_seen = self._seen[offset, length, tuple(entry["answer"]), entry["query"]]
            why = part.wrong([int(c) for c in counts], entry["min_margin"], n_seen)
            found += [f"{place}: {why}"] if why else []
            self.n_doubts += bool(why) and part.is_doubt
            self.agree, self.disagree = self.agree + int(counts[0]), self.disagree + int(counts[1])
        return found

    def _name(self, code: int) -> str:
        return str(code) if self.adapter == "multilabel" else self.task.name(code)

    def _exceptions(self) -> list[str]:
        """Replay the differing inputs that are listed, and note their classes."""
        task, found, letter = self.task, list[str](), {self.task.names[t]: i for i, t in enumerate(self.task.alphabet)}
        last = (-1, -1, -1)
        for entry in self.cert["exceptions"]:
            letters, offset = [letter.get(name, -1) for name in entry["tokens"]], entry["offset"]
            is_input = len(letters) in self.task.lengths and -1 not in letters and offset in self.task.offsets
            rank = self.task.strings.rank(letters) if is_input else -1
            key = (self.task.offsets.index(offset) if is_input else -1, len(letters), rank)
            if rank < 0 or key <= last:
                return [*found, f"exception {entry['tokens']}: not an input, or out of order"]
            last, tokens = key, self.task.alphabet[np.array([letters], np.int64)]
            read = task.layout(len(letters))[0 if task.at == "first" else -1]
            width = self.model.width(len(letters), offset)
            theirs = program_answers(self.task, self.lets, self.adapter, tokens, width)
            model, margin, bound, _ = self.model.answers(tokens, offset, theirs)
            shown = [[self.task.name(int(c)) for c in cells[0] if c != ABSENT] for cells in (model, theirs)]
            if shown != [entry["model"], entry["program"]] or shown[0] == shown[1] or not margin[0] > bound[0]:
                found.append(f"exception {entry['tokens']}: replays as model {shown[0]}, program {shown[1]}")
            answer = tuple(self._name(int(c)) for c in theirs[0])
            self._seen[offset, len(letters), answer, entry["tokens"][-1 - read] if read < 0 else None] += 1
        return found


class _Tables:
    """Scores [variant, position, letter] and logits, of the query [variant, choice] and of what attention moves
    [position, letter, choice], each as value and width, of one length at one offset."""

    def __init__(self, of: Separable, length: int, offset: int) -> None:
        task, w = of.task, of.model.forward.weights
        layout, self.of = task.layout(length), of
        read = 0 if task.at == "first" else len(layout) - 1
        seen = layout[: read + 1]
        self.query, self.place = -1 - layout[read] if layout[read] < 0 else None, (length, offset, read)
        self._starts: dict[int, Start] = {}
        self.places = [[p for p, cell in enumerate(seen) if cell == -1 - i] for i in range(length)]
        self.fixed = [p for p, cell in enumerate(seen) if cell >= 0]
        n = len(task.alphabet)
        tokens = np.array([[cell] * n if cell >= 0 else list(task.alphabet) for cell in seen], np.int64).reshape(-1)
        asking = task.alphabet if layout[read] < 0 else np.array([layout[read]])
        rows = np.repeat(np.arange(len(seen)), n) + offset
        x = _plus((w.embed[tokens], 0.0 * w.embed[tokens]), w.places[rows])
        own = _plus((w.embed[asking], 0.0 * w.embed[asking]), w.places[[read + offset]])
        (wq, bq), (wk, bk), (wv, bv) = of._maps
        q, k, v = _plus(_times(own, wq), bq), _plus(_times(x, wk), bk), _plus(_times(x, wv), bv)
        size = (np.abs(q[0]) + q[1]) @ (np.abs(k[0]) + k[1]).T
        width = q[1] @ (np.abs(k[0]) + k[1]).T + np.abs(q[0]) @ k[1].T + (q[0].shape[1] + 4) * _UNIT * size
        scale = w.attention_scale[0]
        shape = (len(asking), len(seen), n)
        self.scores = (q[0] @ k[0].T * scale).reshape(shape), (abs(scale) * width * _WIDER + _LEAST).reshape(shape)
        moved, direct = _times(_times(v, of._out[0]), of._unembed), _times(_plus(own, of._out[1]), of._unembed)
        self.moved = moved[0].reshape(len(seen), n, -1), moved[1].reshape(len(seen), n, -1)
        self.direct = _plus(direct, of._bias)

    def room(self, variant: int, cells: tuple[int, ...]) -> float:
        """Return what margins of an answer must exceed: the error of single precision, if the claim is about that."""
        task, single = self.of.task, self.of.single
        if single is None:
            return 0.0
        with np.errstate(all="ignore"):
            if variant not in self._starts:
                letter = -1 if self.query is None else variant
                self._starts[variant] = Attended(task, single, *self.place, letter).start()
            columns, sizes, shift = decisions(task, single.weights, cells)
            made_of = np.abs(shift) + 2 * np.abs(single.weights.b_U).max(initial=0.0)
            found = margin_errors(single, self._starts[variant], None, (columns.T, sizes.T, made_of))
        return float(np.where(np.isnan(found), np.inf, found).max(initial=0.0))


class _Class:
    """The inputs of one answer and query token: their graph, and the interval of every term of every decision."""

    def __init__(self, tables: _Tables, edges: list[Ints], ends: Bools, variant: int, cells: tuple[int, ...]) -> None:
        task, self.tables = tables.of.task, tables
        self.edges, self.ends = [table.copy() for table in edges], ends
        if tables.query is not None:
            self.edges[tables.query][:, np.arange(len(task.alphabet)) != variant] = -1
        self.counts: list[Any] = [ends.astype(np.int64).astype(object)]
        for table in reversed(self.edges):
            table[np.append(self.counts[-1], 0)[table] == 0] = -1
            self.counts.append(np.append(self.counts[-1], 0)[table].sum(axis=1))
        self.counts.reverse()
        self.size = int(self.counts[0][0])
        mask, here = np.zeros(tables.scores[0].shape[1:], bool), np.array([True])
        mask[tables.fixed] = True
        for places, table, ahead in zip(tables.places, self.edges, self.counts[1:], strict=True):
            mask[places] = (table[here] >= 0).any(axis=0)
            here = np.isin(np.arange(len(ahead)), table[here])
        score, wide = tables.scores[0][variant], tables.scores[1][variant]
        away = score - (score[mask].max() if mask.any() else 0.0)
        wide = wide + 2 * _UNIT * np.abs(away)
        self.low = np.where(mask, np.exp(np.where(mask, away - wide, 0.0)) * (1 - 16 * _UNIT) - _LEAST, 0.0)
        self.high = np.where(mask, np.exp(np.where(mask, away + wide, 0.0)) * (1 + 16 * _UNIT) + _LEAST, 0.0)
        self.low = np.maximum(self.low, 0.0)
        total = _plus(tables.moved, (tables.direct[0][variant], tables.direct[1][variant]))
        self.is_given, self.is_doubt, self.room = True, False, 0.0
        if task.kind == "multilabel":
            sign = np.where(np.array(cells) > 0, 1.0, -1.0)
            total = _plus(total, -task.threshold)
            self.terms: Middle = (total[0] * sign, total[1])
            self.room = tables.room(variant, cells)
            return
        choice = np.flatnonzero(task.output_codes[task.choices] == cells[0])
        self.is_given = len(choice) == 1
        self.room = tables.room(variant, cells) if self.is_given else 0.0
        own, rest = (choice, np.arange(len(task.choices)) != choice) if self.is_given else ([0], slice(1, None))
        self.terms = _plus((total[0][..., own], total[1][..., own]), (-total[0][..., rest], total[1][..., rest]))

    def _sums(self, t: float, sign: float) -> tuple[list[Floats], Floats]:
        """Lower bounds of sign * weight * (term - t), gathered by the input's tokens, and the template's."""
        value, width = _plus(self.terms, -t)
        bottom = np.nextafter(sign * value - width, -np.inf)
        product = np.where(bottom >= 0, self.low[:, :, None] * bottom, self.high[:, :, None] * bottom)
        product = np.nextafter(product, -np.inf) - _LEAST * (self.high[:, :, None] > 0)
        gathered = []
        for places in self.tables.places:
            total = np.zeros(product.shape[1:])
            for p in places:
                total = _sum_down(total, product[p])
            gathered.append(total)
        constant = np.zeros(product.shape[2])
        for p in self.tables.fixed:
            constant = _sum_down(constant, product[p, 0])
        return gathered, constant

    def _rest(self, gathered: list[Floats], n: int) -> list[Floats]:
        """The least sums of suffixes by depth. Shape: [state, decision]; infinite where there is no suffix."""
        rest: list[Floats] = [np.where(self.ends[:, None], 0.0, np.inf) + np.zeros(n)]
        for table, step in zip(reversed(self.edges), reversed(gathered), strict=True):
            best = np.full((len(table), n), np.inf)
            for letter in np.flatnonzero((table >= 0).any(axis=0)):
                rows = table[:, letter] >= 0
                best[rows] = np.minimum(best[rows], _sum_down(rest[-1][table[rows, letter]], step[letter]))
            rest.append(best)
        return rest[::-1]

    def _least(self, t: float) -> Floats:
        gathered, constant = self._sums(t, 1.0)
        return _sum_down(self._rest(gathered, len(constant))[0][0], constant)

    def wrong(self, counts: list[int], margin: Any, n_seen: int) -> str:
        """Return what is wrong with the counts and the least margin claimed of the class, "" if nothing is.

        ``n_seen`` of its inputs were evaluated and differ.
        """
        if sum(counts) != self.size or not self.size:
            return f"its counts add up to {sum(counts)}, it has {self.size} inputs"
        if counts[0] == self.size and self.is_given:
            if self.terms[0].shape[-1] == 0:
                return "" if margin is None else "a least margin without a second choice"
            if type(margin) is not float or not self.room < margin < np.inf or not (self._least(margin) > 0).all():
                is_near = type(margin) is float and 0 < margin < np.inf
                self.is_doubt = is_near and bool((self._least(margin / 2) > 0).all())
                return f"the least margin {margin} is not confirmed"
            return "" if (self._least(margin * _NEAR) <= 0).any() else f"the least margin {margin} is too small"
        if margin is not None:
            return "a least margin of a class that is not proved to agree"
        can_split = self.is_given and counts[2] < self.size and self.room < np.inf
        agree, disagree = self._split() if can_split else (0, 0)
        disagree = max(disagree, n_seen)
        if counts[0] > agree or counts[1] > disagree:
            return f"{agree} inputs agree and {disagree} differ for certain, claimed {counts[0]} and {counts[1]}"
        return ""

    def _split(self) -> tuple[int, int]:
        """Count inputs that agree and that differ for certain, prefix by prefix."""
        sides = [self._sums(self.room, 1.0), self._sums(-self.room, -1.0)]
        n = len(sides[0][1])
        rest, states = [self._rest(gathered, n) for gathered, _ in sides], np.zeros(1, np.int64)
        sums, agree, disagree = [constant[None] for _, constant in sides], 0, 0
        for depth in range(len(self.edges) + 1):
            above, below = (_sum_down(s, r[depth][states]) > 0 for s, r in zip(sums, rest, strict=True))
            sure, never = above.all(axis=1), below.any(axis=1)
            never &= ~sure
            agree += int(self.counts[depth][states[sure]].sum())
            disagree += int(self.counts[depth][states[never]].sum())
            left = ~(sure | never)
            if depth == len(self.edges) or not left.any():
                break
            rows, letters = np.nonzero(self.edges[depth][states[left]] >= 0)
            if len(rows) * n > _MOST_CELLS:
                break
            sums = [_sum_down(s[left][rows], g[depth][letters]) for s, (g, _) in zip(sums, sides, strict=True)]
            states = self.edges[depth][states[left][rows], letters]
        return agree, disagree
