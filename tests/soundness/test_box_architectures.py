"""Boxes of networks that are GPT-2's but for something, end to end: proved, checked again, and rejected once edited."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract import stages_verify
from extract.certificate_file import seal
from extract.check.answers import Model
from extract.check.anykind import forward_of
from extract.check.boxes import BoxCheck
from extract.check.check import check_certificate
from extract.check.forward import DOUBLE
from extract.check.program import parse
from extract.check.reader import read_network
from extract.check.slices import answering, whole_slice
from extract.check.spec import read_task
from extract.lang.syntax import parse_program
from extract.network import Network
from extract.pipeline import VerifyRequest, verify_program
from extract.report.report import Report
from extract.stages_load import load_subject
from extract.verify import box_proof
from tests.networks import random_network, write_neutral
from tests.soundness.test_box_bounds import LACKING
from tests.soundness.test_box_certificates import edits

LENGTH = 13
SPEC = f"""version = 1
name = "majority"
[tokens]
vocab = ["a", "b", "<s>", "<e>"]
[domain]
min_length = {LENGTH}
max_length = {LENGTH}
template = "<s> {{x}} <e>"
alphabet = ["a", "b"]
[readout]
at = "last"
kind = "argmax"
choices = ["a", "b"]
"""
RIGHT = "output = 'a' if count(tokens == 'b') < count(tokens == 'a') else 'b'"
#: Differs on the 13 strings of one a.
WRONG = RIGHT.replace(" else", " or count(tokens == 'a') == 1 else")


def majority(**lacking: Any) -> Network:
    """Two heads that add up a's less b's in coordinate 1, about, every other weight small and random."""
    network = random_network(5, 1, 6, 2, 4, LENGTH + 2, tied=False, spread=0.01, **lacking)
    embed, W_U = network.embed.copy(), network.W_U.copy()
    embed[:2, 0] += np.float32([1, -1])
    W_U[1, :2] += np.float32([4, -4])
    layer = network.layers[0]
    W_V, W_O, b_out = layer.W_V.copy(), layer.W_O.copy(), layer.b_out
    W_V[:, 0, 0] += 1
    W_O[:, 0, 1] += 1
    # a file without an MLP says nothing of its shift
    layer = replace(layer, W_V=W_V, W_O=W_O, b_out=b_out if network.architecture.d_mlp else 0 * b_out)
    return replace(network, embed=embed, W_U=W_U, layers=(layer,))


def verified(
    folder: Path, network: Network, program: str, semantics: str = "real", seconds: float = 2.0
) -> tuple[Report, Path]:
    """Verify a program, all that is decided decided by bounds."""
    write_neutral(network, folder)
    (folder / "spec.toml").write_text(SPEC)
    path = folder / "claim.cert.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages_verify, "_PATIENCE", 1000)  # work is the limit: a slow machine decides as much
        patch.setattr(box_proof, "SMALL_WORK", 0)
        patch.setattr(box_proof, "LISTED_WORK", 0)
        patch.setattr(stages_verify, "_SHARE_BEFORE_BOUNDS", {"auto": 10**9, "bounds": 10**9})
        request = VerifyRequest(
            checkpoint=folder, program=program, method="bounds", seconds=seconds, certificate=path, semantics=semantics
        )
        return verify_program(request), path


@pytest.mark.parametrize("layout", LACKING)
def test_a_right_program_is_proved_and_edits_are_rejected(layout: str, tmp_path: Path) -> None:
    report, path = verified(tmp_path, majority(**LACKING[layout]), RIGHT)
    assert report.status == "proved", report.verdict
    assert check_certificate(path, tmp_path).accepted
    value = json.loads(path.read_text())
    assert [entry["length"] for entry in value["boxes"]] == [LENGTH]
    assert '["b"' in value["boxes"][0]["tree"] and '["l"' not in value["boxes"][0]["tree"]
    made = list(edits(value))
    assert len(made) > 10
    edited = tmp_path / "edited.cert.json"
    for what, other in made[:: max(1, len(made) // 12)]:
        edited.write_bytes(seal(other))
        assert not check_certificate(edited, tmp_path).accepted, what
    for program in (WRONG, RIGHT.replace("<", "<=").replace("'a' if", "'b' if")):
        edited.write_bytes(seal({**copy.deepcopy(value), "program": program}))
        assert not check_certificate(edited, tmp_path).accepted


@pytest.mark.parametrize("layout", LACKING)
def test_a_wrong_program_is_refuted(layout: str, tmp_path: Path) -> None:
    report, path = verified(tmp_path, majority(**LACKING[layout]), WRONG)
    assert report.status == "refuted" and report.verdict is not None
    assert report.verdict.disagree == LENGTH and report.verdict.undecided == 0
    assert check_certificate(path, tmp_path).accepted


def test_boxes_of_another_network_are_rejected(tmp_path: Path) -> None:
    """The boxes of a network are not those of one that answers the other way."""
    network = majority(**LACKING["no norms"])
    turned = replace(network, W_U=-network.W_U)
    value = json.loads(verified(tmp_path / "one", network, RIGHT)[1].read_text())
    other = json.loads(verified(tmp_path / "other", turned, RIGHT)[1].read_text())
    edited = tmp_path / "edited.cert.json"
    edited.write_bytes(seal({**value, "checkpoint": other["checkpoint"]}))
    assert not check_certificate(edited, tmp_path / "other").accepted


def compiled(weight: float) -> Network:
    """A network without norms whose logits are coordinates: 1 for b, 1 plus a weight times the share of a's less that
    of b's for a."""
    network = majority(**LACKING["bidirectional attention alone"])
    layer = network.layers[0]
    nothing = {name: np.zeros_like(getattr(layer, name)) for name in ("W_Q", "W_K", "b_Q", "b_K", "b_V")}
    W_V, W_O, b_O = np.zeros_like(layer.W_V), np.zeros_like(layer.W_O), np.zeros_like(layer.b_O)
    W_V[0, 0, 0], W_O[0, 0, 1], b_O[1:3] = 1, weight, 1
    embed, W_U = np.zeros_like(network.embed), np.zeros_like(network.W_U)
    embed[:2, 0], W_U[[1, 2, 3, 4], [0, 1, 2, 3]] = (1, -1), 1
    layer = replace(layer, W_V=W_V, W_O=W_O, b_O=b_O, **nothing)
    assert network.pos_embed is not None
    return replace(network, embed=embed, W_U=W_U, pos_embed=0 * network.pos_embed, layers=(layer,))


@pytest.mark.parametrize(("weight", "is_decided"), ((1.0, True), (1e-5, False)))
def test_what_counts_as_a_tie_is_never_decided(
    weight: float, is_decided: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where logits are coordinates of a stream without norms a margin of a 100,000th is no answer, however exact."""
    network = compiled(weight)
    assert network.tie == 2.0**-16
    write_neutral(network, tmp_path)
    (tmp_path / "spec.toml").write_text(SPEC)
    subject = load_subject(tmp_path, None, None, None)
    monkeypatch.setattr(box_proof, "SMALL_WORK", 0)
    monkeypatch.setattr(box_proof, "LISTED_WORK", 0)
    result = box_proof.BoxProver(subject.checkpoint.network, subject.domain).prove(
        parse_program(RIGHT, "value"), LENGTH, 0, 40
    )
    assert not isinstance(result, str)
    assert sum(leaf.agree for leaf in result.tree.leaves()) == (2**LENGTH if is_decided else 0)
    task, lets = read_task(tmp_path / "spec.toml", LENGTH, [0]), parse(RIGHT)
    check = BoxCheck(
        task, Model(task, forward_of(read_network(tmp_path), DOUBLE)), lets, {"length": LENGTH, "offset": 0}, []
    )
    whole, answer = whole_slice(task, answering(task, lets), LENGTH), [task.code("a")]
    part = whole.answering(answer) if whole is not None else None
    assert part is not None and check.bounded(part, answer) == is_decided
