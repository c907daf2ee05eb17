"""Certificates of two layers: accepted as made, rejected as soon as anything in them says something else."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extract import stages_verify
from extract.certificate_file import seal
from extract.check import layered
from extract.check.check import CheckResult, check_certificate
from extract.pipeline import VerifyRequest, verify_program
from extract.report.report import Report
from extract.verify import box_proof, two_layers
from extract.verify.context import Memory
from tests.networks import random_network, write_gpt2
from tests.soundness.test_box_certificates import edited_tree, edits, nodes, with_entry

SPEC = (
    'version = 1\nname = "case"\n[tokens]\nvocab = ["a", "b", "c", "<s>", "<e>"]\n[domain]\nmin_length = 6\n'
    'max_length = 6\ntemplate = "<s> {x}"\nalphabet = ["a", "b"]\noffsets = [0]\n[readout]\nat = "last"\n'
    'kind = "argmax"\n'
)
#: What the random network below answers on every input.
RIGHT = "output = 'b'"
WRONG = "output = 'c' if count(tokens == 'b') == 6 else 'b'"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    write_gpt2(random_network(54, 2, 8, 2, 5, 12, spread=0.2), folder)
    (folder / "spec.toml").write_text(SPEC)
    return folder


def verified(checkpoint: Path, folder: Path, program: str, **options: Any) -> tuple[Report, Path]:
    """Verify a program by bounds alone, from a memory so short that some states fail."""
    path = folder / "claim.cert.json"
    request = VerifyRequest(
        checkpoint=checkpoint, program=program, method="bounds", seconds=60.0, certificate=path, **options
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (box_proof, two_layers):
            patch.setattr(module, "SMALL_WORK", 0)
            patch.setattr(module, "LISTED_WORK", 0)
        patch.setattr(two_layers, "memory_of", lambda _: Memory(2, (1,)))
        patch.setitem(stages_verify._SHARE_BEFORE_BOUNDS, "bounds", 10**9)
        return verify_program(request), path


@pytest.fixture(scope="module")
def right(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    return verified(checkpoint, tmp_path_factory.mktemp("right"), RIGHT)


@pytest.fixture(scope="module")
def wrong(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    return verified(checkpoint, tmp_path_factory.mktemp("wrong"), WRONG)


def checked(value: dict[str, Any], checkpoint: Path, folder: Path) -> CheckResult:
    path = folder / "edited.cert.json"
    path.write_bytes(seal(value))
    return check_certificate(path, checkpoint)


def test_a_right_program_is_proved_by_bounds(right: tuple[Report, Path], checkpoint: Path, tmp_path: Path) -> None:
    report, path = right
    assert report.status == "proved"
    value = json.loads(path.read_text())
    assert value["regions"] == [] and [entry["length"] for entry in value["boxes"]] == [6]
    kinds = {node[0] for entry in value["boxes"] for node in nodes(json.loads(entry["tree"]))}
    assert {"a", "b", "e"} <= kinds <= {"a", "b", "e", "p"}
    assert checked(value, checkpoint, tmp_path).accepted


def test_a_wrong_program_is_refuted(wrong: tuple[Report, Path]) -> None:
    report, _ = wrong
    assert report.status in ("refuted", "proved_except")
    assert report.verdict is not None and report.verdict.disagree == 1 and report.verdict.undecided == 0
    assert report.counterexamples[0].tokens == ("b",) * 6 and report.counterexamples[0].replayed


def memory_edits(value: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Edits of the memories and of the ends split off."""
    tree = json.loads(value["boxes"][0]["tree"])
    for i, node in enumerate(nodes(tree)):
        changes: dict[str, Any] = {}
        if node[0] == "e":
            changes = {
                "an end less": lambda n: n[2].pop(),
                "an end more": lambda n: n[2].append([9, 9, 9]),
                "another end": lambda n: n[2][0].__setitem__(-1, n[2][0][-1] + 1),
                "memory": lambda n: n.__setitem__(1, [1, n[1][1]]),
                "memory of nothing": lambda n: n.__setitem__(1, [0, []]),
                "a letter that is none": lambda n: n.__setitem__(1, [2, [7]]),
                "keys swapped": lambda n: (n[3].__setitem__(0, 1), n[4].__setitem__(0, 0)),
                "a key": lambda n: n[3].__setitem__(0, 2),
                "a child less": lambda n: n.pop(),
                "a child twice": lambda n: n.append(copy.deepcopy(n[3])),
            }
        elif node[0] == "b":
            changes = {
                "no memory": lambda n: n.pop(),
                "memory of nothing": lambda n: n.__setitem__(4, [0, []]),
                "memory without end": lambda n: n.__setitem__(4, [10**9, [1]]),
                "a letter that is none": lambda n: n.__setitem__(4, [2, [7]]),
                "two memories": lambda n: n.append([2, [1]]),
                "another answer": lambda n: n.__setitem__(3, ["c"]),
            }
        for what, edit in changes.items():
            if what == "an end more" or (what == "memory" and len(node[2]) == 0):
                continue  # no string ends so: the claim says the same as before
            yield f"node {i} {what}", with_entry(value, 0, edited_tree(i, edit))


def test_edited_memories_are_rejected(right: tuple[Report, Path], checkpoint: Path, tmp_path: Path) -> None:
    made = list(memory_edits(json.loads(right[1].read_text())))
    assert len(made) > 20
    for what, edited in made[3 :: max(1, len(made) // 7)]:
        assert not checked(edited, checkpoint, tmp_path).accepted, what


@pytest.mark.slow
@pytest.mark.parametrize("which", ("right", "wrong"))
def test_all_edited_boxes_are_rejected(
    which: str, request: pytest.FixtureRequest, checkpoint: Path, tmp_path: Path
) -> None:
    _, path = request.getfixturevalue(which)
    value = json.loads(path.read_text())
    for what, edited in [*edits(value), *memory_edits(value)]:
        # those edits give an answer of another task, or swap leaves of one size and answer: the claim stays as true
        if not what.endswith(("answer", "keys swapped")):
            assert not checked(edited, checkpoint, tmp_path).accepted, what


def test_another_program_or_network_is_rejected(right: tuple[Report, Path], checkpoint: Path, tmp_path: Path) -> None:
    value = json.loads(right[1].read_text())
    assert not checked({**value, "program": "output = 'c'"}, checkpoint, tmp_path).accepted
    assert not checked({**value, "program": WRONG}, checkpoint, tmp_path).accepted


def test_what_the_checker_does_not_confirm_is_undecided(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layered.Layered, "bounded", lambda *_: False)
    report, path = verified(checkpoint, tmp_path, RIGHT)
    assert report.status == "undecided"
    assert report.verdict is not None and report.verdict.undecided == 64
    assert '"b"' not in str(json.loads(path.read_text()).get("boxes", []))
