"""A listed exception of a claim made class by class must differ by more than rounding could."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.certificate_file import certificate_bytes, seal
from extract.check.check import CheckResult, check_certificate
from extract.model.network_oracle import NetworkOracle
from extract.progress import Silent
from extract.stages_load import load_subject, program_for
from extract.verify.separable import decide
from tests.networks import attention_only, write_neutral

SPEC: dict[str, Any] = {
    "version": 1,
    "tokens": {"vocab": ["a", "b", "c", "<sep>"]},
    "domain": {"min_length": 1, "max_length": 3, "template": "{x} <sep>"},
    "readout": {},
}
ONE = np.float32(1)


def made(folder: Path, bias: list[Any], text: str) -> dict[str, Any]:
    """The certificate of a program about a network whose logits are these numbers whatever it reads."""
    network = attention_only(1, n_ctx=8, spread=0.0)
    write_neutral(replace(network, b_U=np.array(bias, np.float32)), folder)
    (folder / "spec.json").write_text(json.dumps(SPEC), encoding="utf-8")
    subject = load_subject(folder, None)
    network, domain = subject.checkpoint.network, subject.domain
    found = decide(
        program_for(subject, text, "test"), network, domain, NetworkOracle(network, domain), progress=Silent()
    )
    assert found.certificate is not None
    listed = getattr(found, "counterexamples", ())[1:]
    value: dict[str, Any] = json.loads(
        certificate_bytes(
            found.certificate, domain, model=network, spec_digest=subject.loaded.digest, counterexamples=listed
        )
    )
    return value


def check(folder: Path, value: dict[str, Any]) -> CheckResult:
    path = folder / "edited.cert.json"
    path.write_bytes(seal(value))
    return check_certificate(path, folder)


def forged(value: dict[str, Any], model: str, program: str) -> dict[str, Any]:
    """Count one undecided input as differing, list it, and let every sum follow."""
    edited = copy.deepcopy(value)
    part = edited["classes"][-1]
    for counts in (part, edited["claim"]):
        counts["undecided"], counts["disagree"] = str(int(counts["undecided"]) - 1), str(int(counts["disagree"]) + 1)
    edited["claim"]["status"] = "refuted"
    entry = {"tokens": ["b"] * part["length"], "offset": 0, "model": [model], "program": [program]}
    edited["exceptions"] = [entry]
    return edited


@pytest.mark.parametrize("below", (1.0, 1 - 2.0**-24))
def test_a_tie_is_no_exception(below: float, tmp_path: Path) -> None:
    """The largest logit is a's by nothing; the program says b. What differs by one unit in the last place is listed."""
    value = made(tmp_path, [1.0, below, 0.0, 0.0], "output = 'b'")
    assert check(tmp_path, value).accepted
    is_tied = below == 1.0
    assert (int(value["claim"]["undecided"]) > 0) is is_tied
    if is_tied:
        found = check(tmp_path, forged(value, "a", "b"))
        assert not found.accepted
        assert any("replays as model ['a'], program ['b']" in reason for reason in found.reasons)
    else:
        assert value["claim"]["status"] == "refuted" and value["exceptions"]
