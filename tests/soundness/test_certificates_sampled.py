"""Certificates too large to evaluate again: slices chosen by the bytes, replayed exceptions, hostile values."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from extract.certificate_file import seal
from tests.networks import random_network
from tests.soundness.certificates import REGION, Case, write_case

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["b", "a", "<bos>"]
SPEC: dict[str, Any] = {
    "version": 1,
    "tokens": {"vocab": NAMES},
    "domain": {"min_length": 0, "max_length": 17, "template": "<bos> {x}", "offsets": [1]},
    "readout": {"at": "last", "choices": ["a", "b"]},
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """262,143 inputs in 19 regions, of which a constant gets most wrong: the model's answers vary."""
    network = random_network(2, n_layers=1, d_model=4, n_heads=1, d_vocab=3, n_ctx=20, d_mlp=4)
    case = write_case(
        tmp_path_factory.mktemp("large"), network, SPEC, "output = last(everywhere, tokens, 'a')", "value"
    )
    assert len(case.value["regions"]) == 19
    assert case.value["regions"][-1]["start"] == REGION
    return case


def test_a_part_is_evaluated_and_said_to_be(large: Case) -> None:
    found = large.check(budget_inputs=3000)
    assert found.accepted, found.reasons
    assert 1000 < found.n_reevaluated < 20_000
    assert f"of {large.value['claim']['inputs_total']} inputs" in found.coverage
    assert large.check(budget_inputs=100_000).regions > 0


def test_wrong_claims_are_caught_by_slices(large: Case) -> None:
    """A program wrong on half of the inputs, certified as right by counts alone."""
    value = copy.deepcopy(large.value)
    for region in value["regions"]:
        region["agree"], region["disagree"] = region["agree"] + region["disagree"], 0
    value["exceptions"] = []
    agree = sum(region["agree"] for region in value["regions"])
    value["claim"] |= {"agree": str(agree), "disagree": "0", "status": "proved"}
    assert large.value["claim"]["disagree"] != "0"
    assert not large.check(value, budget_inputs=3000).accepted


def test_margins_raised_everywhere_are_caught_by_slices(large: Case) -> None:
    value = copy.deepcopy(large.value)
    for region in value["regions"]:
        region["min_margin"] = region["min_margin"] * 50 if region["min_margin"] is not None else None
    value["numerics"]["min_margin"] *= 50
    assert not large.check(value, budget_inputs=3000).accepted


def test_what_is_evaluated_depends_on_the_bytes(large: Case) -> None:
    advanced: list[list[int]] = []

    class Watch:
        def advance(self, done: int, total: int | None, unit: str) -> None:
            advanced[-1].append(done)

    for word in ("one", "two", "three"):
        value = copy.deepcopy(large.value)
        value["assumptions"] = [word]
        advanced.append([])
        assert large.check(value, budget_inputs=80_000, progress=Watch()).accepted
    assert len({tuple(done) for done in advanced}) > 1


HOSTILE: dict[str, Any] = {
    "max_length": {"spec": {"max_length": 10**9}},
    "negative": {"spec": {"max_length": -1}},
    "offset": {"spec": {"offsets": [10**30]}},
    "no offsets": {"spec": {"offsets": []}},
    "offsets twice": {"spec": {"offsets": [1, 1]}},
    "text": {"spec": {"offsets": "00"}},
    "regions": {"regions": {}},
    "region": {"regions": [1]},
    "program": {"program": "output = " + "(" * 5000 + "1" + ")" * 5000},
    "endless": {"program": "a = b\nb = a\noutput = a"},
    "power": {"program": "output = 9 ** 9 ** 9"},
    "code": {"program": "output = __import__('os').system('true')"},
    "number": {"program": 7},
    "exceptions": {"exceptions": [[]] * 1000},
    "claim": {"claim": None},
    "bound": {"numerics": {"error_bound": -1.0}},
    "bound as text": {"numerics": {"error_bound": "0"}},
    "semantics": {"claim": {"semantics": "f32-ref"}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_certificates_are_not_accepted(name: str, large: Case) -> None:
    value = copy.deepcopy(large.value)
    for field, part in HOSTILE[name].items():
        value[field] = {**value[field], **part} if isinstance(part, dict) and isinstance(value[field], dict) else part
    found = large.check(value, budget_inputs=1000)
    assert not found.accepted
    assert found.reasons


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "extract.check", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_says_accepted_rejected_or_unreadable(tmp_path: Path) -> None:
    spec = copy.deepcopy(SPEC)
    spec["domain"]["max_length"] = 3
    case = write_case(tmp_path, random_network(2, d_vocab=3), spec, "output = 'a'", "value")
    path = tmp_path / "a.cert.json"
    path.write_bytes(seal(case.value))
    accepted = run(str(path), str(tmp_path), "--full")
    assert (accepted.returncode, accepted.stdout.split("\n")[0]) == (0, "accepted")
    assert run(str(path), str(tmp_path / "model.safetensors"), "--spec", str(tmp_path / "spec.json")).returncode == 0
    value = copy.deepcopy(case.value)
    value["claim"]["status"] = "proved" if value["claim"]["status"] != "proved" else "refuted"
    path.write_bytes(seal(value))
    rejected = run(str(path), str(tmp_path))
    assert (rejected.returncode, rejected.stdout.split("\n")[0]) == (5, "rejected")
    assert "status" in rejected.stdout
    path.write_bytes(json.dumps({"schema": "other"}).encode())
    unreadable = run(str(path), str(tmp_path))
    assert unreadable.returncode == 4
    assert unreadable.stderr.count("\n") == 1
    assert "Traceback" not in unreadable.stderr
