"""Certificate files: what is written is what the checker expects, and a damaged file is not read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract import VerifyRequest, verify_program
from extract.certificate_file import (
    certificate_bytes,
    seal,
    self_digest,
    status_of,
)
from extract.check.check import check_certificate
from extract.domain import Domain, build_domain
from extract.errors import CertificateError
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.outcome import Certificate, Counterexample, Region, Tally
from extract.spec import parse_spec
from tests.networks import random_network, write_gpt2

PROGRAM = parse_program("output = last(everywhere, tokens, 'a')", "value")


@pytest.fixture
def domain() -> Domain:
    spec = {
        "version": 1,
        "tokens": {"vocab": ["a", "b"]},
        "domain": {"min_length": 1, "max_length": 2, "template": "{x}", "offsets": [0, 2]},
    }
    return build_domain(parse_spec(json.dumps(spec)), compile_promise)


def certificate(*regions: Region) -> Certificate:
    tally = sum((region.tally for region in regions), Tally())
    return Certificate(PROGRAM, "enumeration", "real", regions, tally, 1e-9, 1e-9, (), 0, ("assumed",))


NETWORK = random_network(0)
FACTS = {"heads": 2, "norm_eps": 1e-5, "activation": "gelu_tanh", "attention_scale": [0.5]}
REGIONS = (
    Region(1, 0, 0, 2, Tally(2, 0, 0, 0.5), "0" * 64),
    Region(2, 0, 0, 4, Tally(3, 1, 0, 0.25), "1" * 64),
    Region(1, 2, 0, 2, Tally(0, 0, 2, math.inf), "2" * 64),
)
FOUND = Counterexample((0, 1), 0, 0, (1 << 30,), ((1 << 30) + 1,), 0.25, "enumeration")


def made(domain: Domain, *regions: Region, found: tuple[Counterexample, ...] = (FOUND,)) -> dict[str, Any]:
    data = certificate_bytes(certificate(*regions), domain, model=NETWORK, spec_digest="s", counterexamples=found)
    value: dict[str, Any] = json.loads(data)
    return value


def test_the_numbers_add_up_and_lengths_without_a_region_are_undecided(domain: Domain) -> None:
    value = made(domain, *REGIONS)
    assert value["claim"] == {
        "status": "refuted", "semantics": "real", "inputs_total": "12", "agree": "5", "disagree": "1", "undecided": "6",
    }  # fmt: skip
    assert value["numerics"] == {"error_bound": 1e-9, "min_margin": 0.25, "n_fragile": 2}
    assert [region["min_margin"] for region in value["regions"]] == [0.5, 0.25, None]
    assert value["exceptions"] == [{"tokens": ["a", "b"], "offset": 0, "model": ["a"], "program": ["b"]}]
    assert value["spec"] == {"sha256": "s", "max_length": 2, "offsets": [0, 2]}
    assert (value["schema"], value["adapter"], value["checkpoint"]) == (
        "extract.certificate/1",
        "value",
        {"sha256": NETWORK.digest, "facts": FACTS},
    )
    assert value["self_sha256"] == self_digest(value)


def test_the_same_claim_has_the_same_bytes(domain: Domain) -> None:
    first, second = (made(domain, *REGIONS) for _ in range(2))
    assert seal(first) == seal(second)


def test_too_few_counterexamples_are_an_error(domain: Domain) -> None:
    with pytest.raises(CertificateError, match="expected the first 1"):
        made(domain, *REGIONS, found=())


def test_at_most_a_thousand_are_listed_and_no_more_than_there_are(domain: Domain) -> None:
    assert made(domain, REGIONS[0], found=(FOUND,) * 5)["exceptions"] == []


@given(st.integers(0, 300), st.integers(0, 5), st.integers(0, 5))
def test_statuses_follow_from_the_numbers(agree: int, disagree: int, undecided: int) -> None:
    status = status_of(Tally(agree, disagree, 0), agree + disagree + undecided)
    assert (status == "proved") == (disagree == undecided == 0)
    if status == "proved_except":
        assert undecided == 0
        assert 0 < disagree <= (agree + disagree) / 100
    assert (status == "undecided") == (disagree == 0 and undecided > 0)


def test_no_symbol_has_one_name_on_both_sides(tmp_path: Path) -> None:
    """A refuted program may answer "no symbol"; the exceptions listed must replay under the checker's names."""
    folder = write_gpt2(random_network(1, d_vocab=3, n_ctx=4), tmp_path / "checkpoint")
    (folder / "spec.toml").write_text(
        'version = 1\nname = "t"\n[tokens]\nvocab = ["a", "b", "c"]\n[domain]\nmin_length = 1\nmax_length = 2\n'
        'template = "{x}"\n[readout]\nat = "last"\nkind = "argmax"\n',
        encoding="utf-8",
    )
    program = "output = last(keys_where(indices == 1), tokens)"
    certificate = tmp_path / "t.cert.json"
    report = verify_program(VerifyRequest(checkpoint=folder, program=program, certificate=certificate))
    assert report.status == "refuted"
    assert "no symbol" in certificate.read_text(encoding="utf-8")
    assert check_certificate(certificate, folder).accepted
