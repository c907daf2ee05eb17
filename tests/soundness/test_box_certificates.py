"""Certificates with boxes: accepted as made, rejected as soon as anything in them says something else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extract import stages_verify
from extract.certificate_file import seal
from extract.check import boxes
from extract.check.check import CheckResult, check_certificate
from extract.check.slices import Slice
from extract.pipeline import VerifyRequest, verify_program
from extract.report.report import Report
from extract.verify import box_proof

CHECKPOINT = Path(__file__).parents[2] / "benchmarks" / "checkpoints" / "majority"
RIGHT = "output = '0' if count(tokens == '1') < count(tokens == '0') else '1'"
#: Differs from majority on the strings of 13 ones, which only the longest lengths have.
WRONG = "output = '0' if count(tokens == '1') < count(tokens == '0') or count(tokens == '1') == 13 else '1'"
LENGTH = 14
Edit = Callable[[dict[str, Any]], Any]


def verified(folder: Path, program: str, has_lists: bool = False, **options: Any) -> tuple[Report, Path]:
    """Verify a program by bounds; without lists every box that is decided is decided by bounds."""
    path = folder / "claim.cert.json"
    request = VerifyRequest(
        checkpoint=CHECKPOINT, program=program, max_length=LENGTH, method="bounds", seconds=2.0, certificate=path,
        **options,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages_verify, "_PATIENCE", 1000)  # work is the limit: a slow machine decides as much
        if not has_lists:
            patch.setattr(box_proof, "SMALL_WORK", 0)
            patch.setattr(box_proof, "LISTED_WORK", 0)
        return verify_program(request), path


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    return verified(tmp_path_factory.mktemp("right"), RIGHT)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    return verified(tmp_path_factory.mktemp("wrong"), WRONG)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    return verified(tmp_path_factory.mktemp("listed"), WRONG, has_lists=True)


def checked(value: dict[str, Any], folder: Path) -> CheckResult:
    path = folder / "edited.cert.json"
    path.write_bytes(seal(value))
    return check_certificate(path, CHECKPOINT)


def test_a_right_program_is_proved_by_bounds(right: tuple[Report, Path], tmp_path: Path) -> None:
    report, path = right
    assert report.status == "proved"
    assert report.verdict is not None and report.verdict.method == "enumeration and bounds"
    value = json.loads(path.read_text())
    assert {entry["length"] for entry in value["boxes"]} == set(range(8, LENGTH + 1))
    assert checked(value, tmp_path).accepted
    assert len(path.read_bytes()) < 20_000
    kinds = {node[0] for entry in value["boxes"] for node in nodes(json.loads(entry["tree"]))}
    assert kinds == {"a", "b", "c"}


def test_a_wrong_program_is_refuted_by_bounds(wrong: tuple[Report, Path]) -> None:
    report, _ = wrong
    assert report.status == "refuted"
    assert report.verdict is not None
    # the one of length 13, and 14 of length 14
    assert report.verdict.disagree == 15
    assert report.verdict.undecided == 0
    assert all(example.tokens.count("1") == 13 and example.replayed for example in report.counterexamples)


def nodes(node: list[Any]) -> Iterator[list[Any]]:
    yield node
    for part in node[1:]:
        if isinstance(part, list) and len(part) == 2 and isinstance(part[1], list) and part[1] and part[1][0] in (
            "a", "p", "c", "e", "b", "l", "o"):  # fmt: skip
            yield from nodes(part[1])


def edits(value: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every edit of one number, key or part of the boxes."""
    for place in range(len(value["boxes"])):
        for name in ("agree", "disagree", "undecided"):
            yield f"{place} {name}", with_entry(value, place, lambda e, n=name: e.update({n: str(int(e[n]) + 1)}))
        yield f"{place} length", with_entry(value, place, lambda e: e.update(length=e["length"] - 1))
        yield f"{place} offset", with_entry(value, place, lambda e: e.update(offset=e["offset"] + 1))
        yield f"{place} margin", with_entry(value, place, lambda e: e.update(min_margin=e["min_margin"] * 1.5))
        yield f"{place} margin", with_entry(value, place, lambda e: e.update(min_margin=None))
        tree = json.loads(value["boxes"][place]["tree"])
        for i, node in enumerate(nodes(tree)):
            for what, edit in node_edits(node):
                yield f"{place} node {i} {what}", with_entry(value, place, edited_tree(i, edit))
    without = copy.deepcopy(value)
    del without["boxes"][0]
    yield "an entry less", without
    twice = copy.deepcopy(value)
    twice["boxes"].append(copy.deepcopy(twice["boxes"][0]))
    yield "an entry twice", twice


def node_edits(node: list[Any]) -> Iterator[tuple[str, Callable[[list[Any]], Any]]]:
    if node[0] == "b":
        yield "size", lambda n: n.__setitem__(1, str(int(n[1]) + 1))
        yield "margin", lambda n: n.__setitem__(2, n[2] * 1e6 + 100)
        yield "no margin", lambda n: n.__setitem__(2, 0.0)
        yield "negative margin", lambda n: n.__setitem__(2, -n[2])
        yield "answer", lambda n: n.__setitem__(3, ["1" if n[3] == ["0"] else "0"])
        if int(node[1]) > 20:  # a smaller one may be all witnesses, and the claim as true as before
            yield "open", lambda n: n.__setitem__(slice(None), ["o", n[1]])
        yield "listed", lambda n: n.__setitem__(slice(None), ["l", n[1], int(n[1]), 0, n[2] * 1e6 + 100])
    elif node[0] == "l":
        yield "size", lambda n: n.__setitem__(1, str(int(n[1]) + 1))
        yield "agree", lambda n: n.__setitem__(2, n[2] - 1)
        yield "agree as a fraction", lambda n: n.__setitem__(2, float(n[2]))
        yield "swapped", lambda n: n.__setitem__(slice(2, 4), [n[3], n[2]])
        yield "bounded", lambda n: n.__setitem__(slice(None), ["b", n[1], 1e9, ["0"]])
    elif node[0] in ("a", "p", "c"):
        first = {"a": 1, "p": 2, "c": 5}[node[0]]
        yield "a child less", lambda n: n.__delitem__(-1)
        yield "a child twice", lambda n: n.append(copy.deepcopy(n[-1]))
        if len(node) == first + 2:
            yield "a child for the other", lambda n: n.__setitem__(-1, copy.deepcopy(n[first]))
            if not are_alike(node[first][1], node[first + 1][1]):
                yield "keys swapped", lambda n: swap_keys(n, first)
    if node[0] == "c":
        yield "cut", lambda n: n.__setitem__(4, n[4] + 1)
        yield "cut far", lambda n: n.__setitem__(4, 10**6)
        yield "span", lambda n: n.__setitem__(3, n[3] - 1)
        yield "letters", lambda n: n.__setitem__(1, ["1" if n[1] == ["0"] else "0"])
        yield "no letters", lambda n: n.__setitem__(1, ["<bos>"])
    if node[0] == "p":
        yield "position", lambda n: n.__setitem__(1, 10**6)


def swap_keys(node: list[Any], first: int) -> None:
    node[first][0], node[first + 1][0] = node[first + 1][0], node[first][0]


def are_alike(left: list[Any], right: list[Any]) -> bool:
    """Say whether two leaves claim the same of as many inputs: then the claim is as true with them swapped."""
    return left[0] == right[0] == "b" and (left[1], left[3]) == (right[1], right[3])


def edited_tree(index: int, edit: Callable[[list[Any]], Any]) -> Edit:
    def change(entry: dict[str, Any]) -> None:
        tree = json.loads(entry["tree"])
        edit(list(nodes(tree))[index])
        entry["tree"] = json.dumps(tree, separators=(",", ":"))

    return change


def with_entry(value: dict[str, Any], place: int, edit: Edit) -> dict[str, Any]:
    edited = copy.deepcopy(value)
    edit(edited["boxes"][place])
    return edited


@pytest.mark.parametrize("which", ("right", "wrong", "listed"))
def test_edited_boxes_are_rejected(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    _, path = request.getfixturevalue(which)
    made = list(edits(json.loads(path.read_text())))
    assert len(made) > 60
    for what, edited in [*[e for e in made if e[0].endswith("other")][::5], *made[5::31]]:
        assert not checked(edited, tmp_path).accepted, what


@pytest.mark.slow
@pytest.mark.parametrize("which", ("right", "wrong", "listed"))
def test_all_edited_boxes_are_rejected(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    _, path = request.getfixturevalue(which)
    for what, edited in edits(json.loads(path.read_text())):
        assert not checked(edited, tmp_path).accepted, what


def test_the_whole_claim_is_rejected_for_another_program(right: tuple[Report, Path], tmp_path: Path) -> None:
    value = json.loads(right[1].read_text())
    assert not checked({**value, "program": WRONG}, tmp_path).accepted
    swapped = RIGHT.replace("'0' if", "'1' if").replace("else '1'", "else '0'")
    assert not checked({**value, "program": swapped}, tmp_path).accepted


def test_what_the_checker_does_not_confirm_is_undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes.BoxCheck, "bounded", lambda *_: False)
    report, path = verified(tmp_path, RIGHT)
    assert report.status == "undecided"
    assert report.verdict is not None and report.verdict.undecided > 0
    assert report.budget_hit is not None and "checker" in report.budget_hit
    value = json.loads(path.read_text())
    assert value["claim"]["status"] == "undecided"
    assert '["b"' not in str(value.get("boxes", []))
    refuted, _ = verified(tmp_path, WRONG, force=True)
    assert refuted.status == "refuted"


def test_a_program_the_checker_cannot_read_is_undecided(tmp_path: Path) -> None:
    """Ours reads this one left to right, the checker does not: nothing of the long lengths is claimed."""
    shifted = RIGHT.replace("count(tokens == '0') else", "count(shift(tokens, 0) == '0') else")
    report, _ = verified(tmp_path, shifted)
    assert report.status == "undecided"
    assert report.verdict is not None
    assert report.verdict.agree + report.verdict.undecided == 28_060 and report.verdict.undecided > 20_000


def refusing_some(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the checker's bounds fail on some slices, the same at every check; return the sizes of those, as it meets
    them."""
    bounded, refused = boxes.BoxCheck.bounded, list[str]()

    def some(check: boxes.BoxCheck, part: Slice, *rest: Any) -> bool:
        is_refused = part.size() % 3 == 1 or part.size() % 7 == 0
        refused.extend([str(part.size())] if is_refused else [])
        return not is_refused and bounded(check, part, *rest)

    monkeypatch.setattr(boxes.BoxCheck, "bounded", some)
    return refused


@pytest.mark.parametrize("program", (RIGHT, WRONG))
def test_what_the_checker_confirms_of_a_length_is_kept(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the leaves refused are undecided: everything else is counted as before, differences replayed in them too."""
    (tmp_path / "whole").mkdir()
    whole, path = verified(tmp_path / "whole", program)
    before = {entry["length"]: entry for entry in json.loads(path.read_text())["boxes"]}
    refused = refusing_some(monkeypatch)
    report, path = verified(tmp_path, program)
    assert report.verdict is not None and whole.verdict is not None and refused
    value = json.loads(path.read_text())
    assert report.status == ("undecided" if program == RIGHT else "refuted")
    n_open = n_kept = 0
    for entry in value["boxes"]:
        old = before[entry["length"]]
        pairs = list(
            zip(
                (n for n in nodes(json.loads(old["tree"])) if n[0] in "blo"),
                (n for n in nodes(json.loads(entry["tree"])) if n[0] in "blo"),
                strict=True,
            )
        )
        lost = [was for was, now in pairs if was != now]
        assert all(now == ["o", was[1]] and was[0] == "b" and was[1] in refused for was, now in pairs if was != now)
        n_open, n_kept = n_open + len(lost), n_kept + len(pairs) - len(lost)
        # a witness in a leaf that is open now counts still
        undecided, differ = (int(entry[name]) - int(old[name]) for name in ("undecided", "disagree"))
        assert sum(int(was[1]) for was in lost) - len(entry["witnesses"]) <= undecided
        assert undecided <= sum(int(was[1]) for was in lost)
        assert int(entry["agree"]) - int(old["agree"]) + differ == -undecided and differ <= 0
        if old["witnesses"]:
            assert int(entry["disagree"]) > 0
    assert n_open > 3 and n_kept > 3
    assert int(report.verdict.undecided) > int(whole.verdict.undecided)
    assert report.verdict.disagree <= whole.verdict.disagree
    monkeypatch.undo()
    assert checked(value, tmp_path).accepted


def test_what_is_not_confirmed_among_others_either_loses_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a checker does, it is asked a fixed number of times."""
    n_checks, bounded = [0], boxes.BoxCheck.bounded

    def fewer(check: boxes.BoxCheck, part: Slice, *rest: Any) -> bool:
        """Confirm one leaf of each length less at every check."""
        return check.n_leaves > n_checks[0] and bounded(check, part, *rest)

    run = boxes.BoxCheck.run

    def counted(check: boxes.BoxCheck) -> None:
        n_checks[0] += check.length == LENGTH
        run(check)

    monkeypatch.setattr(boxes.BoxCheck, "bounded", fewer)
    monkeypatch.setattr(boxes.BoxCheck, "run", counted)
    report, path = verified(tmp_path, RIGHT)
    assert report.status == "undecided" and n_checks[0] <= 2
    assert not json.loads(path.read_text()).get("boxes")
