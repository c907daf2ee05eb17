"""Read-outs that are numbers: equal within the tolerance, decided exactly, and re-checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from extract.certificate_file import certificate_bytes, seal
from extract.check.check import check_certificate
from extract.domain import Domain, build_domain
from extract.errors import SpecError
from extract.formats import load_checkpoint
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.lang.terms import Program
from extract.model.network_oracle import NetworkOracle
from extract.network import Network
from extract.outcome import Certified, Refuted, Verdict
from extract.progress import Silent
from extract.spec import load_spec
from extract.verify.answer_table import AnswerTable
from extract.verify.compare import compare, counterexamples_of, verdict
from extract.verify.enumerate import enumerate_model
from extract.vocabulary import NOT_WHOLE, UNDETERMINED
from tests.architectures import Parts, network_of
from tests.networks import write_neutral

#: What each of a, b, c counts for.
WORTH = (0.0, 1.0, 3.0)
RIGHT = "output = 3 if tokens == 'c' else int(tokens == 'b')"
At = Literal["last", "first", "every"]


def scale(worth: tuple[float, ...] = WORTH, attention: Any = "bidirectional") -> Network:
    """A network whose output at a position is what the token there counts for."""
    parts = Parts(norm="none", positions="none", spread=0.0, attention=attention)
    network = network_of(parts, 0, d_vocab=4, n_ctx=6, d_model=4)
    embed = np.zeros((4, 4), np.float32)
    embed[: len(worth), 0] = worth
    unembed = np.eye(4, dtype=np.float32)[:, :1]
    a = replace(network.architecture, d_vocab_out=1)
    return replace(network, architecture=a, embed=embed, W_U=unembed, b_U=np.zeros(1, np.float32))


def world(folder: Path, network: Network, at: At, tolerance: float = 1e-4) -> tuple[Domain, Network, str]:
    write_neutral(network, folder)
    spec = {
        "version": 1,
        "tokens": {"vocab": ["a", "b", "c", "<bos>"]},
        "domain": {"min_length": 1, "max_length": 3, "template": "<bos> {x}" if at != "first" else "{x}"},
        "readout": {"at": at, "kind": "value", "tolerance": tolerance},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    loaded = load_spec(folder / "spec.json")
    return build_domain(loaded.spec, compile_promise), load_checkpoint(folder).network, loaded.digest


def judged(folder: Path, network: Network, text: str, at: At = "every") -> tuple[Verdict, AnswerTable, Domain, Path]:
    domain, read, digest = world(folder, network, at)
    oracle, table = NetworkOracle(read, domain), enumerate_model(read, domain, progress=Silent())
    program: Program = parse_program(text, "every" if at == "every" else "value")
    found = verdict(program, table, domain, oracle)
    path = folder / "cert.json"
    listed = counterexamples_of(program, oracle, compare(program, table, domain).first)
    claim = found.certificate
    assert claim is not None
    path.write_bytes(certificate_bytes(claim, domain, model=read, spec_digest=digest, counterexamples=listed))
    return found, table, domain, path


@pytest.mark.parametrize("attention", ("bidirectional", "causal"))
@pytest.mark.parametrize("at", ("every", "last", "first"))
def test_a_program_of_whole_numbers_is_certified(at: At, attention: str, tmp_path: Path) -> None:
    text = RIGHT if at == "every" else RIGHT.replace("tokens", f"{at}(everywhere, tokens)")
    found, _, _, path = judged(tmp_path, scale(attention=attention), text, at)
    assert isinstance(found, Certified)
    result = check_certificate(path, tmp_path, full=True)
    assert result.accepted, result.reasons


@pytest.mark.parametrize(
    ("worth", "is_within"), ((0.9999001, True), (1.0000999, True), (0.9998999, False), (1.0001001, False), (0.5, False))
)
def test_the_tolerance_is_the_border(worth: float, is_within: bool, tmp_path: Path) -> None:
    network = scale((0.0, worth, 3.0))
    assert (abs(float(network.embed[1, 0]) - 1) <= 1e-4) == is_within
    found, table, _, path = judged(tmp_path, network, RIGHT)
    assert isinstance(found, Certified if is_within else Refuted)
    assert check_certificate(path, tmp_path, full=True).accepted
    cells = table.values(0, 1, 0, 3)[:, 0].tolist()
    assert cells == [0, 1 if is_within else NOT_WHOLE, 3]


def test_a_value_on_the_border_is_undetermined(tmp_path: Path) -> None:
    network, tolerance = scale((0.0, 1.25, 3.0)), 0.25
    domain, read, _ = world(tmp_path, network, "every", tolerance)
    table = enumerate_model(read, domain, progress=Silent())
    assert table.values(0, 1, 0, 3)[:, 0].tolist() == [0, UNDETERMINED, 3]
    assert NetworkOracle(read, domain).answer(domain.sample(20, 0)).margins.max() <= tolerance


def test_a_tolerance_that_two_numbers_fit_is_refused(tmp_path: Path) -> None:
    domain, read, _ = world(tmp_path, scale(), "every", 0.5)
    with pytest.raises(SpecError, match="tolerance"):
        NetworkOracle(read, domain)


def test_edited_certificates_are_rejected(tmp_path: Path) -> None:
    _, _, _, path = judged(tmp_path, scale(), RIGHT)
    value = json.loads(path.read_text())
    region = value["regions"][-1]
    for changes in (
        {"program": RIGHT.replace("3", "2")},
        {"regions": [*value["regions"][:-1], {**region, "digest": "0" * 64}]},
        {"regions": [*value["regions"][:-1], {**region, "min_margin": region["min_margin"] * 3}]},
    ):
        path.write_bytes(seal({**value, **changes}))
        assert not check_certificate(path, tmp_path, full=True).accepted
