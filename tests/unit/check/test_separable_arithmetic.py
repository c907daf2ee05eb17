"""The checker's arithmetic for attention alone, step by step, against exact rationals and exponentials of 50 digits.

Widths are tried as they come and made a thousandth wide, at the worst of what they allow: a bound must hold there and
say no more than that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.check import separable
from extract.check.answers import Model
from extract.check.forward import Forward
from extract.check.program import parse
from extract.check.reader import read_network
from extract.check.separable import Separable
from extract.check.spec import read_task
from tests.networks import attention_only, write_neutral

DIGITS = Context(prec=50)
LENGTH, OFFSET = 4, 1
TEMPLATES = ("{x} <s>", "<s> {x}", "{x}", "{x} {x[0]} <s>")
TEXTS = {
    "argmax": "output = 'a' if count(tokens == 'a') < count(tokens == 'b') else 'c'",
    "multilabel": "output['a'] = count(tokens == 'a') < 2\noutput['c'] = any(tokens == 'b')",
}


def exact(array: Any) -> Any:
    """The same numbers as fractions."""
    return np.vectorize(Fraction, otypes=[object])(np.asarray(array, np.float64))


def power(x: Fraction) -> Decimal:
    """exp(x), to 50 digits."""
    return DIGITS.exp(DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator)))


def decimal(x: Fraction) -> Decimal:
    return DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator))


def drawn(rng: np.random.Generator, *shape: int, is_wide: bool = False) -> tuple[Any, Any]:
    """Numbers of all sizes that nearly cancel in sums, and widths."""
    value = rng.normal(0, 1, shape) * 10.0 ** rng.integers(-6, 7, shape)
    value[..., -1] = -value[..., :-1].sum(axis=-1) if shape[-1] > 1 else value[..., -1]
    return value, np.abs(value) * rng.uniform(0, 1e-3, shape) * is_wide


def assert_within(made: tuple[Any, Any], low: Any, high: Any) -> None:
    """Check that value and width hold both ends of an exact interval."""
    value, width = exact(made[0]), exact(made[1])
    assert (value - width <= low).all() and (high <= value + width).all()


@pytest.mark.parametrize("is_wide", (False, True))
@pytest.mark.parametrize("seed", range(15))
def test_products_and_sums_hold_the_exact_ones(seed: int, is_wide: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y, matrix = drawn(rng, 3, 6, is_wide=is_wide), drawn(rng, 3, 6, is_wide=is_wide), drawn(rng, 6, 4)[0]
    weight = exact(matrix)
    (v, w), (a, b) = (exact(x[0]), exact(x[1])), (exact(y[0]), exact(y[1]))
    centre, reach = v.dot(weight), w.dot(abs(weight))
    product = separable._times(x, matrix)
    assert_within(product, centre - reach, centre + reach)
    size = (abs(v) + w).dot(abs(weight))
    assert (exact(product[1]) <= (reach + size * Fraction(2.0**-49)) * Fraction(1.001)).all()
    summed = separable._plus(x, y)
    assert_within(summed, v + a - w - b, v + a + w + b)
    assert (exact(summed[1]) <= (w + b + (abs(v) + abs(a)) * Fraction(2.0**-52)) * Fraction(1.001)).all()
    assert_within(separable._plus(x, y[0]), v + a - w, v + a + w)
    shifted = separable._plus(x, -0.3)
    assert_within(shifted, v - Fraction(0.3) - w, v - Fraction(0.3) + w)


def test_nothing_is_lost_where_products_underflow() -> None:
    tiny = np.full((1, 2), 2.0**-600)
    made = separable._times((tiny, 0 * tiny), np.full((2, 1), 2.0**-600))
    assert made[0] == 0 and 2 * Fraction(2) ** -1200 <= Fraction(made[1].item())


@pytest.mark.parametrize("seed", range(10))
def test_sums_downwards_are_below_and_near(seed: int) -> None:
    x, y = (drawn(np.random.default_rng(seed + i), 200)[0] for i in (0, 50))
    made, true = exact(separable._sum_down(x, y)), exact(x) + exact(y)
    assert (made < true).all()
    assert (true - made <= abs(true) * Fraction(2.0**-51) + Fraction(2.0**-1074)).all()


class Case:
    """A network, a task and a program, and the tables of one length at one offset, exactly."""

    def __init__(self, folder: Path, seed: int, choices: str = "abc") -> None:
        rng = np.random.default_rng(seed)
        kind = ("argmax", "multilabel")[seed % 2]
        network = attention_only(seed, n_ctx=12, spread=(0.3, 1.0, 2.0)[seed % 3])
        write_neutral(network, folder, attention_scale=float(rng.choice([0.4, -0.7])))
        readout = {"kind": kind, "choices": ["a", "c"] if seed % 4 else list(choices), "at": "last"}
        readout |= {"threshold": 0.25, "choices": ["a", "c"]} if kind == "multilabel" else {}
        readout |= {"at": "first"} if seed % 5 == 4 else {}
        spec = {"version": 1, "tokens": {"vocab": ["a", "b", "c", "<s>"]}, "readout": readout}
        spec["domain"] = {"min_length": LENGTH, "template": TEMPLATES[seed % 4], "offsets": [OFFSET]}
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        self.task = read_task(folder / "spec.json", LENGTH, [OFFSET])
        self.model = Model(self.task, Forward(read_network(folder)))
        adapter = "multilabel" if kind == "multilabel" else "value"
        self.whole = Separable(self.task, self.model, parse(TEXTS[kind]), adapter, {"classes": [], "exceptions": []})
        self.tables = separable._Tables(self.whole, LENGTH, OFFSET)
        layout = self.task.layout(LENGTH)
        self.read = 0 if self.task.at == "first" else len(layout) - 1
        self.seen = layout[: self.read + 1]

    def rows(self, p: int) -> Any:
        """The residual of each letter, or of the template's token, at a position."""
        w, cell = self.model.forward.weights, self.task.layout(LENGTH)[p]
        tokens = self.task.alphabet if cell < 0 else [cell] * len(self.task.alphabet)
        return exact(w.embed[tokens]) + exact(w.places[p + OFFSET])

    def classes(self) -> Iterator[tuple[separable._Class, int, tuple[int, ...], Any]]:
        """Every class with inputs: itself, its query, its answer and its strings [string, position] of letters."""
        edges, layers, accepted = self.whole._strings.graph(LENGTH)
        values = self.whole._totals.values(layers[-1], LENGTH).astype(np.int64)
        strings = np.stack(np.meshgrid(*[range(3)] * LENGTH, indexing="ij"), axis=-1).reshape(-1, LENGTH)
        ends = np.zeros(len(strings), np.int64)
        for p, table in enumerate(edges):
            ends = table[ends, strings[:, p]]
        for answer in sorted({tuple(row) for row in values[accepted].tolist()}):
            for variant in range(len(self.task.alphabet) if self.tables.query is not None else 1):
                mine = (values[ends] == answer).all(axis=1) & accepted[ends]
                if self.tables.query is not None:
                    mine &= strings[:, self.tables.query] == variant
                part = separable._Class(self.tables, edges, accepted & (values == answer).all(axis=1), variant, answer)
                assert part.size == mine.sum()
                if mine.any():
                    yield part, variant, answer, strings[mine]


@pytest.fixture(params=range(10))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(tmp_path, request.param)


def test_tables_hold_the_exact_scores_and_logits(case: Case) -> None:
    w, layer = case.model.forward.weights, case.model.forward.weights.layers[0]
    asked = case.rows(case.read)[: 1 if case.tables.query is None else None]
    query = asked.dot(exact(layer.W_Q[0])) + exact(layer.b_Q[0])
    unembed, out = exact(w.W_U[:, case.task.choices]), exact(layer.W_O[0])
    assert case.tables.scores[0].shape == (len(asked), len(case.seen), 3)
    for p in range(len(case.seen)):
        key, value = (
            case.rows(p).dot(exact(m[0])) + exact(b[0]) for m, b in ((layer.W_K, layer.b_K), (layer.W_V, layer.b_V))
        )
        score = query.dot(key.T) * Fraction(w.attention_scale[0])
        assert_within((case.tables.scores[0][:, p], case.tables.scores[1][:, p]), score, score)
        moved = value.dot(out).dot(unembed)
        assert_within((case.tables.moved[0][p], case.tables.moved[1][p]), moved, moved)
    direct = (asked + exact(layer.b_O)).dot(unembed) + exact(w.b_U[case.task.choices])
    assert_within(case.tables.direct, direct, direct)
    assert max(part[1].max() for part in (case.tables.scores, case.tables.moved, case.tables.direct)) < 1e-10


def widened(case: Case, width: float) -> None:
    """Make everything in the tables uncertain."""
    tables = case.tables
    tables.scores, tables.moved, tables.direct = (
        (value, np.full_like(value, width)) for value, _ in (tables.scores, tables.moved, tables.direct)
    )


def worst_sums(
    case: Case, part: Any, variant: int, answer: Any, strings: Any, t: float, sign: int
) -> list[list[Decimal]]:
    """The least sum of sign * weight * (term - t) of each string for each decision, all tables at their worst."""
    score, off = (exact(x[variant]) for x in case.tables.scores)
    cells = [[(p, case.tables.places.index(places)) for p in places] for places in case.tables.places]
    shown = {(p, int(a)) for group in cells for p, i in group for a in strings[:, i]} | {
        (p, 0) for p in case.tables.fixed
    }
    top = max(score[cell] for cell in shown)
    terms, off_terms = (
        exact(x) + exact(y[variant]) for x, y in zip(case.tables.moved, case.tables.direct, strict=True)
    )
    if case.task.kind == "multilabel":
        signs = exact(np.where(np.array(answer) > 0, 1.0, -1.0))
        terms = (terms - Fraction(case.task.threshold)) * signs
    else:
        own = case.task.output_codes[case.task.choices] == answer[0]
        assert own.sum() == 1
        terms, off_terms = terms[..., own] - terms[..., ~own], off_terms[..., own] + off_terms[..., ~own]
    bottom, found = sign * (terms - Fraction(t)) - off_terms, {}
    for p, a in shown:
        less, more = power(score[p, a] - off[p, a] - top), power(score[p, a] + off[p, a] - top)
        found[p, a] = [decimal(b) * (less if b >= 0 else more) for b in bottom[p, a]]
    rows = []
    for string in strings:
        mine = [found[p, int(string[i])] for group in cells for p, i in group] + [
            found[p, 0] for p in case.tables.fixed
        ]
        rows.append([sum(column, Decimal(0)) for column in zip(*mine, strict=True)])
    return rows


@pytest.mark.parametrize("width", (0.0, 1e-3))
def test_weights_and_least_sums_hold_the_worst(case: Case, width: float) -> None:
    n_parts = 0
    widened(case, width) if width else None
    for part, variant, answer, strings in case.classes():
        if not part.is_given:
            continue
        n_parts += 1
        for t in (0.0, 0.37):
            rows = worst_sums(case, part, variant, answer, strings, t, 1)
            size = Decimal(float(np.abs(part.terms[0]).max() + 1) * len(case.seen))
            for made, true in zip(
                part._least(t).tolist(), (min(column) for column in zip(*rows, strict=True)), strict=True
            ):
                assert Decimal(made) <= true <= Decimal(made) + size * Decimal(1e-10 + 1e-5 * width)
    assert n_parts


@pytest.mark.parametrize("width", (0.0, 0.01))
def test_inputs_counted_as_certain_are(case: Case, width: float) -> None:
    """Every input whose worst sums are all positive agrees, one of whose is surely negative differs, and no other."""
    widened(case, width) if width else None
    for part, variant, answer, strings in case.classes():
        if not part.is_given:
            continue
        above, below = (worst_sums(case, part, variant, answer, strings, 0.0, sign) for sign in (1, -1))
        agree, differ = part._split()
        for made, found in ((agree, [min(row) for row in above]), (differ, [max(row) for row in below])):
            # sums that underflow, of weights that all but vanish, are not told from 0
            assert sum(x > Decimal("1e-200") for x in found) <= made <= sum(x > 0 for x in found)
        n, undecided = len(strings), len(strings) - agree - differ
        assert part.wrong([agree, differ, undecided], part_margin(part) if agree == n else None, 0) == ""
        for counts in (
            [agree + 1, differ, undecided - 1],
            [agree, differ + 1, undecided - 1],
            [agree, differ, undecided + 1],
        ):
            assert part.wrong(counts, None, 0) != ""
        if agree < n:
            assert part.wrong([agree, differ, undecided], 0.5, 0) != ""
        if undecided:  # an input that was evaluated may be what bounds do not tell
            assert part.wrong([agree, differ + 1, undecided - 1], None, differ + 1) == ""


def part_margin(part: Any) -> float:
    """About the largest margin that a class confirms."""
    low, high = 0.0, 1e3
    while high > low * 1.0001 + 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if (part._least(middle) > 0).all() else (low, middle)
    return low


def test_a_least_margin_is_held_from_both_sides(tmp_path: Path) -> None:
    n_held = 0
    for seed in range(10):
        for part, _, _, _ in Case(tmp_path / str(seed), seed).classes():
            if not part.is_given or not (part._least(1e-6) > 0).all():
                continue
            n_held, margin, counts = n_held + 1, part_margin(part), [part.size, 0, 0]
            assert part.wrong(counts, margin, 0) == ""
            others = (0.0, -margin, float("inf"), float("nan"), None, 1, True)
            for false in (margin * 1.01, margin / 1.01, 0.5 * margin, *others):
                assert part.wrong(counts, false, 0) != ""
    assert n_held > 4


def test_an_answer_the_network_cannot_give_is_undecided(tmp_path: Path) -> None:
    """Of an answer outside the choices nothing agrees, whatever its sums are."""
    case, n_cases = Case(tmp_path, 4, "bc"), 0
    for part, _, _, strings in case.classes():
        if part.is_given:
            continue
        n_cases += 1
        n = len(strings)
        assert part.wrong([0, 0, n], None, 0) == "" and part.wrong([n, 0, 0], 0.1, 0) != ""
        assert part.wrong([0, n, 0], None, 0) != "" and part.wrong([1, 0, n - 1], None, 0) != ""
    assert n_cases
