"""Sum-state divisions against brute force: no count of agreements or differences is ever wrong, nor confirmed if so.

Boxes and lists are switched off, so that whatever is decided is decided by partial sums. Networks of every architecture
the bounds are for are drawn; a trained network that errs densely on ties is held to every string of a length.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract import stages_verify
from extract.certificate_file import seal
from extract.check.check import CheckResult, check_certificate
from extract.check.forward import SINGLE
from extract.check.forward import Forward as Forward32
from extract.check.reader import Unreadable
from extract.check.slices import Slice, whole_slice
from extract.check.spans import Form
from extract.check.sums import CellRanges, Divided
from extract.lang.syntax import parse_program
from extract.model.forward import Forward
from extract.pipeline import VerifyRequest, verify_program
from extract.report.report import Report
from extract.stages_load import load_subject
from extract.verify import box_proof, sum_states
from extract.verify.box_proof import BoxProver, BoxResult
from extract.verify.boxes import Node
from tests.soundness.test_box_bounds import assert_right, checked_case, drawn_case
from tests.unit.check.test_spans import residuals
from tests.unit.verify.enumeration_cases import BruteOracle

MAJORITY = Path(__file__).parents[2] / "benchmarks" / "checkpoints" / "majority"
#: What the network was trained on, with an answer for ties too, of which it gets many wrong.
TIES = "output = '0' if count(tokens == '1') < count(tokens == '0') else '1'"
LENGTH = 14


@pytest.fixture(autouse=True)
def sums_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SMALL_WORK", "LISTED_WORK", "_BOXES_BEFORE_SUMS", "_FEW_BOXES"):
        monkeypatch.setattr(box_proof, name, 0)


def with_ties(folder: Path) -> Path:
    """The trained network's spec without the promise that leaves ties out."""
    lines = (MAJORITY / "spec.toml").read_text().splitlines()
    path = folder / "spec.toml"
    kept = [line for line in lines if not line.startswith(("where", "min_length"))]
    path.write_text("\n".join([*kept, ""]).replace("[domain]", f"[domain]\nmin_length = {LENGTH}"))
    return path


def divided_seed(seed: int, length: int) -> tuple[int, int]:
    """Decide a drawn case by partial sums and hold every part to brute force; count the inputs decided, and all."""
    network, domain, program, _ = drawn_case(seed, length)
    prover, oracle = BoxProver(network, domain), BruteOracle(network, domain)
    n_decided = total = 0
    for offset in domain.offsets:
        result = prover.prove(program, length, offset, 40)
        assert isinstance(result, BoxResult)
        n_decided += assert_right(result, domain, program, oracle)
        total += result.tree.size
    return n_decided, total


@pytest.mark.parametrize("n_edges", (40, 4000))
def test_every_input_lies_in_its_cells_claim(n_edges: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sum_states, "_FIRST", n_edges)
    found = np.array([divided_seed(seed, 4) for seed in range(5)]).sum(axis=0)
    assert found[0] > 0.8 * found[1]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1300, 50))
def test_every_input_lies_in_its_cells_claim_on_many_networks(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + 50):
        monkeypatch.setattr(sum_states, "_FIRST", (30, 300, 3000)[seed % 3])
        divided_seed(seed, 3 + seed % 4)


def test_dense_differences_are_counted_exactly(tmp_path: Path) -> None:
    """Every string of a length, each part's answer held to the strings evaluated one by one."""
    subject = load_subject(MAJORITY, with_ties(tmp_path), LENGTH, None)
    network, domain = subject.checkpoint.network, subject.domain
    prover = BoxProver(network, domain)
    result = prover.prove(parse_program(TIES, "value"), LENGTH, 0, 200)
    assert isinstance(result, BoxResult)
    leaves = result.tree.leaves()
    agree, differ = (sum(getattr(leaf, name) for leaf in leaves) for name in ("agree", "disagree"))
    assert any(node.is_divided for node in nodes_of(result.tree))
    assert agree + differ + sum(leaf.undecided for leaf in leaves) == 1 << LENGTH
    tokens = domain.tokens(LENGTH, 0, domain.size_at(LENGTH))
    logits = Forward(network).logits(torch.from_numpy(domain.render(tokens).astype(np.int64)), 0, [LENGTH + 1])
    chosen = list(domain.readout.choices)
    answers = np.array(chosen)[np.asarray(logits)[:, 0][:, chosen].argmax(axis=1)]
    zero, one = (domain.vocabulary.names.index(name) for name in "01")
    said = np.where(2 * (tokens == one).sum(axis=1) < LENGTH, zero, one)
    n_wrong = int((answers != said).sum())
    assert (agree, differ) == ((1 << LENGTH) - n_wrong, n_wrong) and n_wrong > 500


def nodes_of(node: Node) -> list[Node]:
    return [node, *(inner for _, child in node.children for inner in nodes_of(child))]


def test_one_planted_difference_is_never_agreed_away() -> None:
    """A program that is a majority but for one string: partial sums leave no cell that hides it."""
    for seed in range(5):
        network, domain, _, text = drawn_case(seed, 5)
        if domain.readout.kind != "argmax":
            continue
        oracle = BruteOracle(network, domain)
        rows = domain.tokens(5, 0, domain.size_at(5))
        row = tuple(int(t) for t in rows[int(np.random.default_rng(seed).integers(len(rows)))])
        said = domain.vocabulary.name(oracle.answer_one(row, 0)[0][0])
        other = next(n for n in ("a", "b") if n != said)
        digits = ", ".join(f"{name!r}: {t + 1}" for t, name in enumerate(domain.vocabulary.names))
        number = sum((t + 1) * 6 ** (4 - p) for p, t in enumerate(row))
        here = f"last(everywhere, horner(table(tokens, {{{digits}}}, 0), 6, 0), 0) == {number}"
        planted = parse_program(f"output = '{other}' if {here} else ({text.removeprefix('output = ')})", "value")
        result = BoxProver(network, domain).prove(planted, 5, 0, 40)
        assert isinstance(result, BoxResult), result
        assert_right(result, domain, planted, oracle)


def test_divisions_are_of_real_arithmetic_alone(tmp_path: Path) -> None:
    """Their ranges do not carry the errors of single precision: with those claimed too, neither side divides."""
    network, domain, program, _ = drawn_case(0, 4)
    for semantics in ("real", "f32-any-order"):
        result = BoxProver(network, domain, semantics).prove(program, 4, 0, 40)
        assert isinstance(result, BoxResult)
        assert any(node.is_divided for node in nodes_of(result.tree)) == (semantics == "real")
    check, answers, length = checked_case(tmp_path, 0)
    whole = whole_slice(check.task, answers, length)
    assert whole is not None
    part = whole if check.query is None else whole.at(check.query, 0)
    assert part is not None
    part = Slice(part.n_letters, part.edges, np.zeros((len(part.labels), 1), np.int64))
    d = len(check.model.forward.weights.W_U)
    made = Divided(["s", [1.0] * d, [[0, 0, 0]] * length, [0, 1]], part, d)
    check.directions = [made.direction]
    assert check._ranges(made) is not None
    check._single = Forward32(check._forward.weights, SINGLE)
    assert check._ranges(made) is None


# -- the checker ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ("gpt2", "neutral", "bidirectional", "no norms", "no MLP"))
def test_the_checker_confirms_no_cell_of_two_answers(layout: str, tmp_path: Path) -> None:
    """Random divisions of random slices: every cell's bound held to every string of it."""
    n_sure = n_cells = 0
    for seed in range(5):
        check, program, _ = checked_case(tmp_path / str(seed), seed, layout)
        rng = np.random.default_rng(seed)
        whole = whole_slice(check.task, program, check.length)
        assert whole is not None
        part = whole if check.query is None else whole.at(check.query, int(rng.integers(3)))
        assert part is not None
        part = Slice(part.n_letters, part.edges, np.zeros((len(part.labels), 1), np.int64))
        d = len(check.model.forward.weights.W_U)
        weights = rng.integers(0, 4, (check.length, 3)).tolist()
        probe = Divided(["s", [1.0] * d, weights, [0, count_cells(part, weights)]], part, d)
        assert int(probe.counts.sum()) == part.size()
        letter = -1 if check.query is None else part.letters(check.query)[0]
        try:
            ranges = CellRanges(check._attended(letter)[0], probe, rng.normal(size=(d, 2)))
        except Unreadable:
            continue
        for cell in range(len(probe.sides)):
            inside = probe.cells.kept(list(probe.cells.edges), probe.cells.labels, probe.cells.labels[:, 0] == cell)
            assert inside is not None and inside.size() == probe.counts[cell]
            tokens = check.task.alphabet[inside.all()]
            cells, _, _, _ = check.model.answers(tokens, 2, tokens)
            answer = cells[0].tolist()
            sure = ranges.bounded(np.array([cell]), check._margins(answer))
            assert not sure or bool((cells == cells[0]).all())
            n_sure, n_cells = n_sure + sure, n_cells + 1
    assert n_cells > 20 and n_sure > 4


class Seen:
    """Margins that are never positive, and note the form of every group of cells."""

    def __init__(self) -> None:
        self.forms = list[Form]()

    def width(self, n_axes: int) -> int:
        return 1

    def of(self, x: Form) -> tuple[Form, Any]:
        self.forms += [x.some(i) for i in range(len(x.centre))]
        none = np.zeros((len(x.centre), 1))
        return Form(none - 1, none[..., None], none), none


@pytest.mark.parametrize("layout", ("gpt2", "neutral"))
def test_cells_bounded_together_are_bounded_each(layout: str, tmp_path: Path) -> None:
    """The form of a group of cells holds the residual vector of every string of each of them."""
    n_groups = 0
    for seed in range(4):
        check, program, length = checked_case(tmp_path / str(seed), seed, layout)
        forward, rng = check.model.forward, np.random.default_rng(seed)
        whole = whole_slice(check.task, program, length)
        assert whole is not None and isinstance(forward, Forward32)
        part = whole if check.query is None else whole.at(check.query, 1)
        assert part is not None
        part = Slice(part.n_letters, part.edges, np.zeros((len(part.labels), 1), np.int64))
        d = len(forward.weights.W_U)
        weights = rng.integers(0, 4, (length, 3)).tolist()
        made = Divided(["s", [1.0] * d, weights, [0, count_cells(part, weights)]], part, d)
        try:
            ranges = CellRanges(check._attended(-1 if check.query is None else 1)[0], made, rng.normal(size=(d, 2)))
        except Unreadable:
            continue
        seen, cells = Seen(), np.arange(len(made.sides))
        assert not ranges._sure([cells, cells[::2], cells[1:3]], seen).any()  # type: ignore[arg-type]
        read = 0 if check.task.at == "first" else len(check.task.layout(length)) - 1
        for form, group in zip(seen.forms, (cells, cells[::2], cells[1:3]), strict=True):
            inside = made.cells.kept(list(made.cells.edges), made.cells.labels, np.isin(made.cells.labels[:, 0], group))
            assert inside is not None
            rows = residuals(forward.weights, check.task.prompts(check.task.alphabet[inside.all()]), 2, read)
            along, axes = (rows - form.centre) @ ranges.found.axes, ranges.found.axes
            half, room = np.linalg.norm(form.noise, axis=0), np.abs(axes).T @ form.radius
            assert (np.abs(along) <= half * (1 + 1e-9) + room + 1e-12).all()
            n_groups += 1
    assert n_groups > 5


def count_cells(part: Any, weights: list[list[int]]) -> int:
    return len({sum(w[a] for w, a in zip(weights, row, strict=True)) for row in part.all().tolist()})


@pytest.fixture
def claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Report, Path, Path]:
    return dense_claim(tmp_path, monkeypatch)


def dense_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Report, Path, Path]:
    spec, path = with_ties(tmp_path), tmp_path / "claim.cert.json"
    request = VerifyRequest(
        checkpoint=MAJORITY, program=TIES, spec=spec, max_length=LENGTH, method="bounds", certificate=path, seconds=2.0
    )
    monkeypatch.setattr(stages_verify, "_PATIENCE", 1000)  # work is the limit: a slow machine decides as much
    return verify_program(request), path, spec


def checked(value: dict[str, Any], folder: Path, spec: Path) -> CheckResult:
    path = folder / "edited.cert.json"
    path.write_bytes(seal(value))
    return check_certificate(path, MAJORITY, spec)


def divisions(node: list[Any]) -> Iterator[list[Any]]:
    """Every division of a certificate's tree."""
    if node[0] == "s":
        yield node
    for part in node[1:]:
        if isinstance(part, list) and len(part) == 2 and isinstance(part[1], list) and part[1]:
            yield from divisions(part[1])


def edits(node: list[Any], is_first: bool) -> Iterator[tuple[str, Any]]:
    """What a forger may do to a division: every one of these makes it claim something else."""
    if is_first:  # what is left over later may have one letter there, and the same cells as before
        yield "a weight", lambda n: n[2][0].__setitem__(0, n[2][0][0] + 7)
    yield "a negative weight", lambda n: n[2][0].__setitem__(0, -1)
    yield "a weight as a fraction", lambda n: n[2][0].__setitem__(0, float(n[2][0][0]))
    yield "a huge weight", lambda n: n[2][0].__setitem__(0, 1 << 40)
    yield "a position less", lambda n: n[2].pop()
    yield "no direction", lambda n: n.__setitem__(1, [float("1e999")] * len(n[1]))
    yield "a cell more", lambda n: n[3].__setitem__(1, n[3][1] + 1)
    yield "a cell of another side", lambda n: n.__setitem__(3, moved(n[3]))
    yield "a side less", lambda n: n.pop()
    yield "a side twice", lambda n: n.append(copy.deepcopy(n[-1]))
    for i, (side, child) in enumerate(node[4:], 4):
        yield f"side {side} of another name", lambda n, i=i: n[i].__setitem__(0, 9)
        if child[0] != "s":
            yield f"side {side} of another size", lambda n, i=i: n[i][1].__setitem__(1, str(int(n[i][1][1]) + 1))
        if side >= 0:
            yield (
                f"side {side} of another answer",
                lambda n, i=i: n[i][1].__setitem__(3, ["1" if n[i][1][3] == ["0"] else "0"]),
            )
            yield f"side {side} of no margin", lambda n, i=i: n[i][1].__setitem__(2, 0.0)
            yield f"side {side} opened", lambda n, i=i: n[i].__setitem__(1, ["o", n[i][1][1]])
        elif child[0] == "l":
            yield "the rest agrees", lambda n, i=i: n[i][1].__setitem__(slice(2, 4), [n[i][1][2] + 1, n[i][1][3] - 1])


def moved(runs: list[int]) -> list[int]:
    """The runs of sides with the border between the first two a cell further on, or back."""
    step = 1 if len(runs) > 2 and runs[3] > 1 else -1
    return [runs[0], runs[1] + step, runs[2], runs[3] - step, *runs[4:]] if len(runs) > 2 else [runs[0], runs[1] + 1]


def test_the_checker_accepts_dense_counts_and_no_edit_of_them(
    claimed: tuple[Report, Path, Path], tmp_path: Path
) -> None:
    report, path, spec = claimed
    assert report.status == "refuted" and report.verdict is not None
    assert int(report.verdict.agree) + int(report.verdict.disagree) == 1 << LENGTH
    value = json.loads(path.read_text())
    assert checked(value, tmp_path, spec).accepted
    tree = json.loads(value["boxes"][0]["tree"])
    made = list(divisions(tree))
    assert made
    for place, node in enumerate(made):
        for what, edit in list(edits(node, place == 0))[place % 3 :: 3]:
            edited = copy.deepcopy(tree)
            edit(list(divisions(edited))[place])
            forged = copy.deepcopy(value)
            forged["boxes"][0]["tree"] = json.dumps(edited)
            assert not checked(forged, tmp_path, spec).accepted, what


def test_a_side_the_checker_does_not_confirm_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a division as of any other split, and the rest of the length is kept."""
    bounded = CellRanges.bounded

    def some(ranges: CellRanges, cells: Any, margins: Any) -> bool:
        return len(cells) % 2 == 0 and bounded(ranges, cells, margins)

    monkeypatch.setattr(CellRanges, "bounded", some)
    report, path, spec = dense_claim(tmp_path, monkeypatch)
    assert report.status == "refuted" and report.verdict is not None
    assert 0 < int(report.verdict.undecided) < 1 << LENGTH
    value = json.loads(path.read_text())
    sides = [child for tree in value["boxes"] for node in divisions(json.loads(tree["tree"])) for _, child in node[4:]]
    assert {"o", "b"} <= {child[0] for child in sides}
    monkeypatch.undo()
    assert checked(value, tmp_path, spec).accepted
