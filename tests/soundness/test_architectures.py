"""Networks beyond GPT-2's kind: what is decided is right, planted errors are found, edited certificates rejected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.certificate_file import certificate_bytes, seal
from extract.check.check import check_certificate
from extract.domain import Domain, build_domain
from extract.errors import DomainError
from extract.formats import load_checkpoint
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.model.forward import Forward
from extract.model.network_oracle import NetworkOracle
from extract.outcome import Certified, Refuted, Unknown
from extract.progress import Silent
from extract.spec import load_spec
from extract.verify.compare import compare, counterexamples_of, verdict
from extract.verify.enumerate import enumerate_model
from extract.vocabulary import UNDETERMINED
from tests.architectures import Parts, network_of, parts
from tests.networks import write_neutral
from tests.soundness.test_enumeration_planted import chain
from tests.unit.verify.enumeration_cases import make_domain

KINDS = {
    "post norm": Parts(norm_place="after", activation="gelu_tanh"),
    "RMS, rotary, gated, grouped": Parts(
        norm="rms",
        positions="rotary",
        activation="silu",
        has_gate=True,
        n_kv_heads=1,
        has_key_norms=True,
        attention="causal",
        n_layers=2,
    ),
    "compiled": Parts(norm="none", n_layers=2, spread=1.0),
    "mixed attention": Parts(norm="none", softmax_share=0.1, n_layers=2),
    "masked": Parts(masked_token=2, n_layers=2),
    "SoLU with a norm": Parts(activation="solu", has_hidden_norm=True, attention="causal"),
    "hidden head": Parts(head="gelu_erf", embed_scale=2.0, has_embed_bias=True, norm_place="after"),
    "attention only": Parts(has_mlp=False, positions="rotary", pairing="neighbours", rotary_dims=2),
}


def domain_for(at: str = "last") -> Domain:
    return make_domain(
        vocab=("a", "b", "c", "<s>"), alphabet=("a", "b", "c"), max_length=3, template="<s> {x}", at=at,
        choices=["a", "b", "c"],
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(drawn=parts, seed=st.integers(0, 99), at=st.sampled_from(("last", "every", "first")))
def test_what_is_decided_is_what_torch_says(drawn: Parts, seed: int, at: str) -> None:
    network, domain = network_of(drawn, seed), domain_for(at)
    table, forward, n_open = enumerate_model(network, domain, progress=Silent()), Forward(network), 0
    for length in domain.lengths:
        prompts = domain.render(domain.tokens(length, 0, domain.size_at(length)))
        reads = list(domain.read_positions(length))
        logits = forward.logits(torch.from_numpy(prompts.astype(np.int64)), read=reads).numpy()[..., :3]
        said = table.format.codes[logits.argmax(axis=2)]
        values = table.values(0, length, 0, len(prompts))
        n_open += int((values == UNDETERMINED).sum())
        assert ((values == said) | (values == UNDETERMINED)).all()
    is_sensible = drawn.norm != "none" and drawn.masked_token is None and at == "last"
    if is_sensible and drawn.spread < 1 and drawn.head != "relu":
        assert n_open < domain.size, "a bound that is true and decides nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_one_planted_input_is_found_and_nothing_else(kind: str) -> None:
    network, domain = network_of(KINDS[kind], 1), domain_for()
    table, oracle = enumerate_model(network, domain, progress=Silent()), NetworkOracle(network, domain)
    assert table.n_fragile == 0 and domain.size == 39
    right, _ = chain(table, domain)
    assert isinstance(verdict(right, table, domain, oracle), Certified)
    for place in range(0, domain.size, 5):
        program, wrong = chain(table, domain, wrong_at=place)
        found = verdict(program, table, domain, oracle)
        assert isinstance(found, Refuted)
        assert [e.tokens for e in found.counterexamples] == [wrong]
        assert compare(program, table, domain).tally.disagree == 1


def certified(kind: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write a network, a spec and the certificate of a program that is right on all of a small domain but one input."""
    write_neutral(network_of(KINDS[kind], 1), folder)
    spec = {
        "version": 1,
        "tokens": {"vocab": ["a", "b", "c", "<s>"]},
        "domain": {"alphabet": ["a", "b", "c"], "max_length": 2, "template": "<s> {x}"},
        "readout": {"choices": ["a", "b", "c"]},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    loaded = load_spec(folder / "spec.json")
    domain, network = build_domain(loaded.spec, compile_promise), load_checkpoint(folder).network
    oracle, table = NetworkOracle(network, domain), enumerate_model(network, domain, progress=Silent())
    program, _ = chain(table, domain, wrong_at=5)
    found = verdict(program, table, domain, oracle)
    assert isinstance(found, Refuted)
    listed = counterexamples_of(program, oracle, compare(program, table, domain).first)
    assert found.certificate is not None
    made = certificate_bytes(
        found.certificate, domain, model=network, spec_digest=loaded.digest, counterexamples=listed
    )
    (folder / "cert.json").write_bytes(made)
    return folder / "cert.json", json.loads(made)


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_hold_and_edited_ones_do_not(kind: str, tmp_path: Path) -> None:
    path, value = certified(kind, tmp_path)
    result = check_certificate(path, tmp_path, full=True)
    assert result.accepted and result.n_reevaluated == 12, result.reasons
    region, claim, other = value["regions"][-1], value["claim"], value["exceptions"][0]
    facts = value["checkpoint"]["facts"]
    for changes in (
        {"regions": [*value["regions"][:-1], {**region, "agree": region["agree"] + 1}]},
        {"regions": [*value["regions"][:-1], {**region, "digest": "f" * 64}]},
        {"regions": [*value["regions"][:-1], {**region, "min_margin": region["min_margin"] * 2 + 1}]},
        {"regions": value["regions"][:-1]},
        {"claim": {**claim, "status": "proved"}},
        {"claim": {**claim, "agree": str(int(claim["agree"]) + 1), "disagree": "0"}},
        {"exceptions": []},
        {"exceptions": [{**other, "model": other["program"]}]},
        {"checkpoint": {**value["checkpoint"], "facts": {**facts, "norm_eps": 0.5}}},
        {"checkpoint": {**value["checkpoint"], "facts": {**facts, "embed_scale": 1.5}}},
        {"checkpoint": {**value["checkpoint"], "facts": {**facts, "heads": 1}}},
        {"checkpoint": {**value["checkpoint"], "sha256": "0" * 64}},
    ):
        path.write_bytes(seal({**value, **changes}))
        assert not check_certificate(path, tmp_path, full=True).accepted, changes


@pytest.mark.parametrize("kind", KINDS)
def test_another_fact_in_the_config_is_another_network(kind: str, tmp_path: Path) -> None:
    """A certificate about one function is not accepted for the same tensors read as another."""
    path, _ = certified(kind, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for changes in (
        {"attention_scale": 0.123}, {"norm_place": "before" if config.get("norm_place") == "after" else "after"},
        {"masked_token": 1}, {"embed_scale": 3.0},
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
        try:
            assert not check_certificate(path, tmp_path, full=True).accepted, changes
        except Exception as error:
            assert type(error).__name__ == "Unreadable", changes


def test_float32_is_refused_by_name_where_it_has_no_bound() -> None:
    network = network_of(KINDS["post norm"], 1)
    with pytest.raises(DomainError, match="norms after the sum"):
        enumerate_model(network, domain_for(), semantics="f32-any-order", progress=Silent())


def test_what_sees_only_hidden_keys_is_undecided() -> None:
    """Frameworks disagree on a query without keys: nothing may be proved about an answer that depends on one."""
    network, domain = network_of(Parts(masked_token=2, attention="causal", n_layers=2), 1), domain_for("every")
    plain = replace(domain, template=make_domain(template="{x}").template)
    table = enumerate_model(network, plain, progress=Silent())
    tokens = plain.tokens(3, 0, 27)
    values = table.values(0, 3, 0, 27)
    blind = np.logical_and.accumulate(tokens == 2, axis=1)
    assert (values[blind] == UNDETERMINED).all() and (values[~blind] != UNDETERMINED).all()
    oracle = NetworkOracle(network, plain)
    for text in ("output = 'a'", "output = 'b'", "output = 'c'"):
        assert isinstance(verdict(parse_program(text, "every"), table, plain, oracle), Unknown | Refuted)
