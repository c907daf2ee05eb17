"""Read-outs that are numbers, whole or fractions: equal within the tolerance, decided exactly, and re-checked."""

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
from extract.lang.syntax import parse_program, parse_term
from extract.lang.terms import Program
from extract.model.network_oracle import NetworkOracle
from extract.network import Network
from extract.outcome import Certified, Refuted, Verdict
from extract.pipeline import RunRequest, run
from extract.probe.choose import choose_probes
from extract.progress import Silent
from extract.search.gate import Gate
from extract.spec import load_spec
from extract.verify.answer_table import AnswerTable
from extract.verify.compare import compare, counterexamples_of, verdict
from extract.verify.enumerate import enumerate_model
from extract.vocabulary import NO_NUMBER, UNDETERMINED, UNITS
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


def world(
    folder: Path, network: Network, at: At, tolerance: float = 1e-4, template: str = "<bos> {x}"
) -> tuple[Domain, Network, str]:
    write_neutral(network, folder)
    spec = {
        "version": 1,
        "tokens": {"vocab": ["a", "b", "c", "<bos>"]},
        "domain": {"min_length": 1, "max_length": 3, "template": template if at != "first" else "{x}"},
        "readout": {"at": at, "kind": "value", "tolerance": tolerance},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    loaded = load_spec(folder / "spec.json")
    return build_domain(loaded.spec, compile_promise), load_checkpoint(folder).network, loaded.digest


def judged(
    folder: Path, network: Network, text: str, at: At = "every", template: str = "<bos> {x}"
) -> tuple[Verdict, AnswerTable, Domain, Path]:
    domain, read, digest = world(folder, network, at, template=template)
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
    ("worth", "is_within"), ((0.9999001, True), (1.0000999, True), (0.9998999, False), (1.0001001, False))
)
def test_the_tolerance_is_the_border(worth: float, is_within: bool, tmp_path: Path) -> None:
    network = scale((0.0, worth, 3.0))
    assert (abs(float(network.embed[1, 0]) - 1) <= 1e-4) == is_within
    found, table, _, path = judged(tmp_path, network, RIGHT)
    assert isinstance(found, Certified if is_within else Refuted)
    assert check_certificate(path, tmp_path, full=True).accepted
    cells = table.values(0, 1, 0, 3)[:, 0].tolist()
    assert cells == [0, UNITS if is_within else NO_NUMBER, 3 * UNITS]


def test_a_value_on_the_border_is_undetermined(tmp_path: Path) -> None:
    network, tolerance = scale((0.0, 1.25, 3.0)), 0.25
    domain, read, _ = world(tmp_path, network, "every", tolerance)
    table = enumerate_model(read, domain, progress=Silent())
    assert table.values(0, 1, 0, 3)[:, 0].tolist() == [0, UNDETERMINED, 3 * UNITS]
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


# -- fractions -------------------------------------------------------------------------------------------------------
FRACTION = "output = mean(upto, int(tokens == 'c'))"


def averaging(worth: float = 1.0, shift: float = 0.0) -> Network:
    """A causal network whose output at a position is ``worth`` times the share of c so far, plus a shift."""
    parts = Parts(attention="causal", norm="none", positions="none", spread=0.0)
    network = network_of(parts, 0, d_vocab=4, n_ctx=6, d_model=4)
    layer, embed = network.layers[0], np.zeros((4, 4), np.float32)
    embed[2, 1] = 1.0
    reads, writes = np.zeros_like(layer.W_V), np.zeros_like(layer.W_O)
    reads[0, 1, 0], writes[0, 0, 0] = 1.0, worth
    layers = (replace(layer, W_V=reads, W_O=writes), *network.layers[1:])
    a = replace(network.architecture, d_vocab_out=1)
    unembed = np.eye(4, dtype=np.float32)[:, :1]
    return replace(
        network, architecture=a, layers=layers, embed=embed, W_U=unembed, b_U=np.array([shift], np.float32)
    )  # fmt: skip


def differing(folder: Path, network: Network, text: str, at: At = "every") -> tuple[Verdict, int, dict[str, Any]]:
    """The verdict, on how many of the 39 inputs the program differs, and the certificate, which the checker accepts."""
    found, _, _, path = judged(folder, network, text, at, template="{x}")
    result = check_certificate(path, folder, full=True)
    assert result.accepted, result.reasons
    assert found.certificate is not None
    return found, found.certificate.tally.disagree, json.loads(path.read_text())


@pytest.mark.parametrize("at", ("every", "last"))
def test_a_mean_is_certified_as_the_fraction_it_is(at: At, tmp_path: Path) -> None:
    text = FRACTION if at == "every" else FRACTION.replace("upto", "everywhere")
    found, n_differ, _ = differing(tmp_path, averaging(), text, at)
    assert isinstance(found, Certified)
    assert n_differ == 0


@pytest.mark.parametrize(
    ("worth", "shift", "n_differ", "model"),
    (
        (1.000099, 0.0, 0, ""),
        (1.000101, 0.0, 1 + 3 + 9, "no simple number"),  # only where all tokens so far are c: begins with c
        (1.00014, 0.0, 1 + 3 + 9, "no simple number"),  # two thirds are still within 1e-4 ...
        (1.00019, 0.0, 1 + 3 + 9 + 2, "no simple number"),  # ... and now they are not: acc and bcc
        (1.0, 0.000101, 39, "no simple number"),
        (1.0, -0.000099, 0, ""),
        (0.5, 0.0, 39 - 2 - 4 - 8, "1/2"),  # right only where there is no c
    ),
)
def test_a_value_just_off_its_fraction_is_refuted_exactly(
    worth: float, shift: float, n_differ: int, model: str, tmp_path: Path
) -> None:
    found, n_found, certificate = differing(tmp_path, averaging(worth, shift), FRACTION)
    assert n_found == n_differ
    assert isinstance(found, Refuted if n_differ else Certified)
    if n_differ:
        shown = certificate["exceptions"][-1]
        assert model in shown["model"]
        assert shown["program"][0] in ("0", "1")


@pytest.mark.parametrize(
    "text",
    (
        "output = mean(upto, int(tokens == 'c')) + 0",
        "output = running_count(tokens == 'c') * 720720 // 3",
        "output = 240240",
        "output = 360360 if running_count(tokens == 'c') == 1 else 0",
        "output = mean(upto, int(tokens == 'c')) if indices == 0 else running_count(tokens == 'c') * 360360",
    ),
)
def test_whole_numbers_of_units_are_no_fractions(text: str, tmp_path: Path) -> None:
    found, n_differ, _ = differing(tmp_path, averaging(), text)
    assert isinstance(found, Refuted)
    assert n_differ >= 3


def test_branches_are_taken_each_by_its_own_rule(tmp_path: Path) -> None:
    text = "output = 1 if running_count(tokens == 'c') == indices + 1 else mean(upto, int(tokens == 'c'))"
    found, n_differ, _ = differing(tmp_path, averaging(), text)
    assert isinstance(found, Certified)
    assert n_differ == 0


@pytest.mark.parametrize("code", (240240, 720720, 1))
def test_certificates_with_programs_of_raw_units_are_rejected(code: int, tmp_path: Path) -> None:
    _, _, _, path = judged(tmp_path, averaging(), FRACTION, template="{x}")
    value = json.loads(path.read_text())
    for program in (f"output = {code}", f"{FRACTION} + 0", f"{FRACTION} if indices < 2 else {code}"):
        path.write_bytes(seal({**value, "program": program}))
        assert not check_certificate(path, tmp_path, full=True).accepted, program


# -- what the search makes of them -----------------------------------------------------------------------------------
def gate_of(folder: Path, network: Network) -> Gate:
    domain, read, _ = world(folder, network, "every", template="{x}")
    oracle = NetworkOracle(read, domain)
    return Gate(oracle, *choose_probes(oracle, n_probes=30, n_gate=30, seed=0))


#: Of shares of c, of whether a token is c, and of shares of which some are no numbers: those are left to the verifier.
JUDGED = (
    ("mean(upto, int(tokens == 'c'))", [True, False, True]),
    ("int(tokens == 'c')", [False, True, False]),
    ("int(tokens == 'c') * 720720", [False, False, False]),
    ("mean(upto, int(tokens == 'c')) + 0", [False, False, False]),
    ("mean(select(indices, indices, '=='), int(tokens == 'c'))", [False, True, False]),
)


@pytest.mark.parametrize(("text", "expected"), JUDGED)
def test_the_gate_judges_as_programs_are_evaluated(text: str, expected: list[bool], tmp_path: Path) -> None:
    networks = averaging(), scale((0.0, 0.0, 1.0)), averaging(1.000101)
    for network, is_right, unit in zip(networks, expected, (1, UNITS, 1), strict=True):
        gate = gate_of(tmp_path, network)
        assert gate.unit == unit
        assert gate.consider(0, parse_term(text), "bank") == is_right


def test_a_network_of_fractions_is_proved_and_said(tmp_path: Path) -> None:
    write_neutral(averaging(), tmp_path)
    world(tmp_path, averaging(), "every", template="{x}")
    report = run(RunRequest(checkpoint=tmp_path, certificate=tmp_path / "cert.json"))
    assert report.status == "proved"
    assert report.programs[0].text == f"{FRACTION}\n"
    namespace: dict[str, Any] = {"__name__": "emitted"}
    exec(compile(report.programs[0].python, "emitted.py", "exec"), namespace)
    assert namespace["predict"](["c", "a", "c"]) == ["1", "1/2", "2/3"]


@pytest.mark.slow
def test_a_number_that_is_none_is_never_agreed_with(tmp_path: Path) -> None:
    world(tmp_path, averaging(1.000101), "every", template="{x}")
    report = run(RunRequest(checkpoint=tmp_path))
    assert report.status == "undecided"
    best = report.programs[0]
    assert (best.text, best.status) == (f"{FRACTION}\n", "refuted")
    assert best.exceptions is not None
    assert best.exceptions.count == 1 + 3 + 9
    assert report.counterexamples[0].model == ("no simple number",)
    assert report.counterexamples[0].program == ("1",)


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder",
    (
        "tracr/frac_prevs_close_causal", "tracr/frac_prevs_l", "interpbench/ib003_frac_x",
        "tracr_hooked/tl_frac_prevs_l", "tracr/length_numerical",
    ),
)  # fmt: skip
def test_real_checkpoints_of_numbers_are_proved(shared_checkpoints: Path, folder: str, tmp_path: Path) -> None:
    report = run(RunRequest(checkpoint=shared_checkpoints / folder, certificate=tmp_path / "cert.json"))
    assert report.status == "proved"
    assert check_certificate(tmp_path / "cert.json", shared_checkpoints / folder, full=True).accepted
