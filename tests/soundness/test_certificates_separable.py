"""Certificates made class by class: accepted as made, rejected after any edit of claim, classes, weights or spec."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from extract.certificate_file import certificate_bytes, seal
from extract.check.check import CheckResult, check_certificate
from extract.check.reader import Unreadable
from extract.model.network_oracle import NetworkOracle
from extract.outcome import Certified, Refuted, Verdict
from extract.progress import Silent
from extract.stages_load import Subject, load_subject, program_for
from extract.verify.separable import decide
from tests.networks import attention_only, write_neutral

SPEC: dict[str, Any] = {
    "version": 1,
    "tokens": {"vocab": ["a", "b", "c", "<sep>"]},
    "domain": {"min_length": 1, "max_length": 5, "template": "{x} <sep>", "offsets": [0, 2]},
    "readout": {},
}


@dataclass(frozen=True)
class Made:
    folder: Path
    subject: Subject
    verdict: Verdict
    value: dict[str, Any]

    def check(self, value: dict[str, Any]) -> CheckResult:
        path = self.folder / "edited.cert.json"
        path.write_bytes(seal(value))
        try:
            return check_certificate(path, self.folder)
        except Unreadable as error:
            return CheckResult(False, (f"unreadable: {error}",), "")


def make(folder: Path, seed: int, text: str, spec: dict[str, Any] = SPEC, **options: Any) -> Made:
    write_neutral(attention_only(seed, n_ctx=12, **options), folder)
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    subject = load_subject(folder, None)
    network, domain = subject.checkpoint.network, subject.domain
    program = program_for(subject, text, "test")
    verdict = decide(program, network, domain, NetworkOracle(network, domain), progress=Silent())
    assert verdict.certificate is not None
    listed = verdict.counterexamples[1:] if isinstance(verdict, Refuted) else ()
    data = certificate_bytes(
        verdict.certificate, domain, model=network, spec_digest=subject.loaded.digest, counterexamples=listed
    )
    return Made(folder, subject, verdict, json.loads(data))


def learnt(folder: Path, seed: int) -> Made:
    """A network and a program that equals it: a choice by the last token or by counts, whichever holds."""
    for text in ("'a'", "'b'", "'c'", "'<sep>'"):
        made = make(folder, seed, f"output = {text}", spread=0.4)
        if isinstance(made.verdict, Certified):
            return made
    raise LookupError("no seed for a constant network")


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Made:
    for seed in range(100):
        try:
            return learnt(tmp_path_factory.mktemp("proved"), seed)
        except LookupError:
            continue
    raise LookupError("no network answers alike everywhere")


@pytest.fixture(scope="module")
def refuted(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make(tmp_path_factory.mktemp("refuted"), 3, "output = last(everywhere, tokens)")
    assert isinstance(made.verdict, Refuted)
    return made


@pytest.mark.parametrize("seed", range(25))
def test_certificates_are_accepted(seed: int, tmp_path: Path) -> None:
    promise = {"where": "count(tokens == 'a') != count(tokens == 'b')"} if seed % 2 else {"matches": "(a|bc|c)*"}
    template = ("{x} <sep>", "<sep> {x}", "{x}", "{x[0:1]} <sep> {x[0:]}")[seed % 4]
    readout: dict[str, Any] = {"at": "first"} if seed % 5 == 4 else {}
    spec = {**SPEC, "domain": {**SPEC["domain"], **promise, "template": template}, "readout": readout}
    text = "n = count(tokens == 'a')\noutput = 'b' if n < count(tokens == 'b') else 'a' if 1 < n + n else 'c'"
    made = make(tmp_path, seed, text, spec, spread=(0.3, 1.0, 2.0)[seed % 3])
    found = made.check(made.value)
    assert found.accepted, found.reasons


def test_labels_are_accepted(tmp_path: Path) -> None:
    spec = {**SPEC, "readout": {"kind": "multilabel", "threshold": 0.25, "choices": ["a", "c"]}}
    for seed in range(8):
        made = make(tmp_path, seed, "output['a'] = any(tokens == 'b')\noutput['c'] = count(tokens == 'a') < 2", spec)
        found = made.check(made.value)
        assert found.accepted, found.reasons


def edits(value: dict[str, Any], seed: int) -> tuple[str, dict[str, Any]]:
    """Return one edit that changes what the certificate says."""
    draw, edited = random.Random(seed), copy.deepcopy(value)
    part = draw.choice(edited["classes"])
    kind = draw.randrange(12)
    if kind == 0:
        edited["classes"].remove(part)
    elif kind == 1:
        edited["classes"].append(part)
    elif kind == 2 and part["min_margin"] is not None:
        part["min_margin"] *= draw.choice([1.01, 2.0, 0.5, 0.9, -1.0])
    elif kind == 3:
        key = draw.choice(["agree", "disagree", "undecided"])
        part[key] = str(int(part[key]) + draw.choice([1, 2, 100]))
    elif kind == 4:
        key = draw.choice(["agree", "disagree", "undecided", "inputs_total"])
        edited["claim"][key] = str(int(edited["claim"][key]) + 1)
    elif kind == 5:
        edited["claim"]["status"] = {"proved": "refuted"}.get(edited["claim"]["status"], "proved")
    elif kind == 6:
        part["answer"] = [next(x for x in ("a", "b", "<sep>") if [x] != part["answer"])]
    elif kind == 7:
        part["length"] += draw.choice([-1, 1])
    elif kind == 8:
        part["offset"] = 2 - part["offset"]
    elif kind == 9:
        edited["numerics"]["min_margin"] = 1.0 + (edited["numerics"]["min_margin"] or 0.0)
    elif kind == 10:
        edited["program"] = "output = 'a' if length == 3 else 'b'"
    else:
        edited["spec"]["max_length"] += draw.choice([-1, 1])
    return f"{kind}", edited


@pytest.mark.parametrize("which", ["proved", "refuted"])
def test_edits_are_rejected(which: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(which)
    assert made.check(made.value).accepted
    n_edited = 0
    for seed in range(150):
        name, edited = edits(made.value, seed)
        if edited == made.value:
            continue
        n_edited += 1
        assert not made.check(edited).accepted, (name, edited["classes"][:2])
    assert n_edited > 120


def test_margins_are_pinned_from_both_sides(proved: Made) -> None:
    for factor, is_right in ((1.0, True), (0.9999, True), (1.0001, False), (0.99, False)):
        edited = copy.deepcopy(proved.value)
        for part in edited["classes"]:
            part["min_margin"] *= factor
        edited["numerics"]["min_margin"] *= factor
        assert proved.check(edited).accepted is is_right


def test_boxes_beside_classes_are_rejected(proved: Made) -> None:
    """Nothing reads boxes where classes are the evidence, so they must not be there."""
    boxes = [{"length": 1, "offset": 0, "agree": "1", "disagree": "0", "undecided": "0", "min_margin": None}]
    assert not proved.check({**proved.value, "boxes": boxes}).accepted


def moved(value: dict[str, Any], index: int, source: str, target: str) -> dict[str, Any]:
    """Count one input of a class elsewhere, in the claim too."""
    edited = copy.deepcopy(value)
    for counts in (edited["classes"][index], edited["claim"]):
        counts[source], counts[target] = str(int(counts[source]) - 1), str(int(counts[target]) + 1)
    return edited


def test_counts_moved_within_a_class_are_rejected(refuted: Made) -> None:
    n_mixed = 0
    for index, part in enumerate(refuted.value["classes"]):
        if part["min_margin"] is not None:
            continue
        for source, target in (("agree", "disagree"), ("disagree", "agree")):
            if int(part[source]) > (1 if target == "agree" else 0):
                n_mixed += 1
                assert not refuted.check(moved(refuted.value, index, source, target)).accepted
    assert n_mixed > 10


def test_an_answer_that_is_no_choice_is_never_agreement(tmp_path: Path) -> None:
    spec = {**SPEC, "readout": {"choices": ["a", "b"]}}
    made = next(m for s in range(99) if isinstance((m := make(tmp_path, s, "output = 'a'", spec)).verdict, Certified))
    assert made.check(made.value).accepted
    edited = copy.deepcopy(made.value) | {"program": "output = 'c'\n"}
    for part in edited["classes"]:
        part["answer"] = ["c"]
    assert not made.check(edited).accepted


def test_an_exception_that_is_none_is_rejected(refuted: Made) -> None:
    edited = copy.deepcopy(refuted.value)
    edited["exceptions"][0]["tokens"] = ["a", "a", "a", "a", "a"]
    assert not refuted.check(edited).accepted
    assert not refuted.check({**refuted.value, "exceptions": []}).accepted
    listed = refuted.value["exceptions"]
    assert len(listed) > 1
    for exceptions in ([listed[0], *listed], listed[::-1]):  # one counted twice would be two inputs that differ
        found = refuted.check({**refuted.value, "exceptions": exceptions})
        assert not found.accepted and any("out of order" in reason for reason in found.reasons)


def test_nudged_weights_are_another_network(proved: Made, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "spec.json"):
        (tmp_path / name).write_bytes((proved.folder / name).read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["layers.0.W_V"] = np.nextafter(tensors["layers.0.W_V"], np.float32(9))
    save_file(tensors, tmp_path / "model.safetensors")
    moved = replace(proved, folder=tmp_path)
    found = moved.check(proved.value)
    assert not found.accepted and "sha256" in found.reasons[0]


def test_another_scale_is_another_network(proved: Made, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "spec.json"):
        (tmp_path / name).write_bytes((proved.folder / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "attention_scale": config["attention_scale"] * 1.001}))
    assert not replace(proved, folder=tmp_path).check(proved.value).accepted
