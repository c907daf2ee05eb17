"""Inputs whose logits are tied: never decided by rounding, counted exactly, no obstacle to the rest of the domain."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.certificate_file import certificate_bytes, seal
from extract.check.check import check_certificate
from extract.domain import Domain, build_domain
from extract.formats import load_checkpoint
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.model.network_oracle import NetworkOracle
from extract.network import Network
from extract.outcome import Certified, Refuted, Unknown
from extract.progress import Silent
from extract.readout import Inputs
from extract.spec import load_spec
from extract.stages_cells import cells_part
from extract.verify.compare import compare, counterexamples_of, verdict
from extract.verify.enumerate import enumerate_model
from extract.vocabulary import UNDETERMINED
from tests.architectures import Parts, network_of
from tests.cli.command import extract
from tests.networks import write_neutral

SPEC: dict[str, Any] = {
    "version": 1,
    "name": "echo",
    "tokens": {"vocab": ["a", "b", "c", "<bos>"]},
    "domain": {"min_length": 1, "max_length": 3, "template": "<bos> {x}"},
    "readout": {"at": "every", "outputs": ["a", "b"]},
}
RIGHT = "output = 'a' if tokens == 'c' else tokens"
ALSO_RIGHT = "output = 'b' if tokens == 'c' else tokens"
#: Wrong at the first position of the inputs that begin with b.
WRONG = "output = 'a' if indices == 0 else ('a' if tokens == 'c' else tokens)"


def echo(leak: float = 0.0) -> Network:
    """A network that answers each token by itself, and leaves c undetermined but for a leak."""
    network = network_of(Parts(norm="none", positions="none", spread=0.0), 0, d_vocab=4, n_ctx=6, d_model=4)
    embed = np.zeros((4, 4), np.float32)
    embed[0, 0] = embed[1, 1] = 1.0
    embed[2, :2] = (0.5, 0.5 + leak)
    unembed = np.eye(4, dtype=np.float32)[:, :2]
    a = replace(network.architecture, d_vocab_out=2)
    return replace(network, architecture=a, embed=embed, W_U=unembed, b_U=np.zeros(2, np.float32))


def world(folder: Path, network: Network, **readout: Any) -> tuple[Domain, Network, str]:
    write_neutral(network, folder)
    (folder / "spec.json").write_text(json.dumps({**SPEC, "readout": {**SPEC["readout"], **readout}}))
    loaded = load_spec(folder / "spec.json")
    return build_domain(loaded.spec, compile_promise), load_checkpoint(folder).network, loaded.digest


def counts(domain: Domain, program: str) -> tuple[int, int, int]:
    """Count by brute force: a cell with c is open, the others are the token itself."""
    agree = disagree = undecided = 0
    for length in domain.lengths:
        for word in product("abc", repeat=length):
            said = ["a" if program == WRONG and i == 0 else w for i, w in enumerate(word)]
            differs = any(w not in ("c", s) for w, s in zip(word, said, strict=True))
            disagree, undecided = disagree + differs, undecided + (not differs and "c" in word)
            agree += not differs and "c" not in word
    return agree, disagree, undecided


def cell_counts(domain: Domain, program: str) -> tuple[int, int, int, dict[int, int]]:
    """Count single answers by brute force: agreeing, differing, open, and the open ones by position."""
    agree, disagree, tied = 0, 0, dict.fromkeys(range(domain.max_length), 0)
    for length in domain.lengths:
        for word in product("abc", repeat=length):
            for i, w in enumerate(word):
                said = "a" if program == WRONG and i == 0 else w
                tied[i] += w == "c"
                agree, disagree = agree + (w not in ("c",) and w == said), disagree + (w not in ("c", said))
    return agree, disagree, sum(tied.values()), tied


@pytest.mark.parametrize("leak", (0.0, 2.0**-20, -(2.0**-20)))
def test_ties_are_counted_and_never_picked(leak: float, tmp_path: Path) -> None:
    domain, network, _ = world(tmp_path, echo(leak))
    oracle, table = NetworkOracle(network, domain), enumerate_model(network, domain, progress=Silent())
    asked = oracle.answer(Inputs.of([((0, 2, 1), 0), ((2,), 0)]))
    assert asked.values[0].tolist()[1] == UNDETERMINED and asked.values[1, 0] == UNDETERMINED
    assert asked.margins[0] > 0.9 and asked.margins[1] == 0
    for text in (RIGHT, ALSO_RIGHT, WRONG):
        tally = compare(parse_program(text, "every"), table, domain).tally
        assert (tally.agree, tally.disagree, tally.undecided) == counts(domain, text)
    assert isinstance(verdict(parse_program(RIGHT, "every"), table, domain, oracle), Unknown)
    found = verdict(parse_program(WRONG, "every"), table, domain, oracle)
    assert isinstance(found, Refuted) and found.counterexamples[0].replayed


def test_a_difference_that_is_meant_is_no_tie(tmp_path: Path) -> None:
    domain, network, _ = world(tmp_path, echo(2.0**-10))
    table = enumerate_model(network, domain, progress=Silent())
    assert table.n_fragile == 0
    assert compare(parse_program(ALSO_RIGHT, "every"), table, domain).tally.agree == domain.size


def certificate_for(folder: Path, text: str) -> tuple[Path, dict[str, Any]]:
    domain, network, digest = world(folder, echo())
    oracle, table = NetworkOracle(network, domain), enumerate_model(network, domain, progress=Silent())
    program = parse_program(text, "every")
    found = verdict(program, table, domain, oracle)
    assert not isinstance(found, Certified) and found.certificate is not None
    listed = counterexamples_of(program, oracle, compare(program, table, domain).first)
    made = certificate_bytes(found.certificate, domain, model=network, spec_digest=digest, counterexamples=listed)
    value = json.loads(made)
    path = folder / "cert.json"
    path.write_bytes(seal(value))
    return path, value


@pytest.mark.parametrize("text", (RIGHT, ALSO_RIGHT, WRONG))
def test_the_checker_counts_the_same(text: str, tmp_path: Path) -> None:
    path, value = certificate_for(tmp_path, text)
    result = check_certificate(path, tmp_path, full=True)
    assert result.accepted, result.reasons
    assert int(value["claim"]["undecided"]) > 0


def test_claims_about_ties_are_rejected(tmp_path: Path) -> None:
    path, value = certificate_for(tmp_path, RIGHT)
    region = value["regions"][-1]
    for name in ("agree", "disagree"):
        moved = {**region, name: region[name] + 1, "undecided": region["undecided"] - 1}
        claim = dict(value["claim"])
        claim[name], claim["undecided"] = str(int(claim[name]) + 1), str(int(claim["undecided"]) - 1)
        numerics = {**value["numerics"], "n_fragile": value["numerics"]["n_fragile"] - 1}
        changed = {"regions": [*value["regions"][:-1], moved], "claim": claim, "numerics": numerics}
        path.write_bytes(seal({**value, **changed}))
        assert not check_certificate(path, tmp_path, full=True).accepted


def test_an_open_cell_is_no_exception(tmp_path: Path) -> None:
    """An exception must rest on a cell that is decided: one with all its cells left open is rejected."""
    path, value = certificate_for(tmp_path, WRONG)
    entry = value["exceptions"][0]
    blank = {**entry, "model": [None] * len(entry["model"])}
    path.write_bytes(seal({**value, "exceptions": [blank, *value["exceptions"][1:]]}))
    assert not check_certificate(path, tmp_path, full=True).accepted


@pytest.mark.parametrize("text", (RIGHT, ALSO_RIGHT, WRONG))
def test_single_answers_are_counted_by_position(text: str, tmp_path: Path) -> None:
    domain, network, _ = world(tmp_path, echo())
    oracle, table = NetworkOracle(network, domain), enumerate_model(network, domain, progress=Silent())
    found = verdict(parse_program(text, "every"), table, domain, oracle)
    part = cells_part(domain, None if isinstance(found, Certified) else found.certificate)
    agree, disagree, undetermined, by_position = cell_counts(domain, text)
    assert part is not None
    assert (part.agree, part.disagree, part.undetermined) == (agree, disagree, undetermined)
    assert part.total == agree + disagree + undetermined == sum(n * 3**n for n in (1, 2, 3))
    assert {p.position: p.undetermined for p in part.positions} == by_position
    assert part.where is None


def moved_cells(value: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return the certificate with the last region's single answers changed, its sums following."""
    region, claim = json.loads(json.dumps(value["regions"][-1])), dict(value["claim"]["cells"])
    before = {name: region["cells"][name] for name in ("agree", "disagree")}
    change(region["cells"])
    for name in before:
        claim[name] = str(int(claim[name]) + region["cells"][name] - before[name])
    claim["undetermined"] = str(int(claim["total"]) - int(claim["agree"]) - int(claim["disagree"]))
    regions = [*value["regions"][:-1], region]
    return seal({**value, "regions": regions, "claim": {**value["claim"], "cells": claim}})


def hide_a_difference(cells: dict[str, Any]) -> None:
    cells["agree"], cells["disagree"] = cells["agree"] + 1, cells["disagree"] - 1


def decide_a_tie(cells: dict[str, Any]) -> None:
    cells["agree"] += 1
    cells["undetermined"][0] -= 1


def tie_an_answer(cells: dict[str, Any]) -> None:
    cells["agree"] -= 1
    cells["undetermined"][1] += 1


def move_a_tie(cells: dict[str, Any]) -> None:
    cells["undetermined"][0] -= 1
    cells["undetermined"][2] += 1


def lose_an_answer(cells: dict[str, Any]) -> None:
    cells["agree"] -= 1


@pytest.mark.parametrize("change", (hide_a_difference, decide_a_tie, tie_an_answer, move_a_tie, lose_an_answer))
def test_claims_about_single_answers_are_checked(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    path, value = certificate_for(tmp_path, WRONG)
    assert int(value["claim"]["cells"]["disagree"]) > 0
    path.write_bytes(moved_cells(value, lambda cells: None))
    assert check_certificate(path, tmp_path, full=True).accepted
    path.write_bytes(moved_cells(value, change))
    assert not check_certificate(path, tmp_path, full=True).accepted


def test_the_sum_of_single_answers_follows_from_the_regions(tmp_path: Path) -> None:
    path, value = certificate_for(tmp_path, RIGHT)
    cells = value["claim"]["cells"]
    more = {**cells, "agree": str(int(cells["agree"]) + 1), "undetermined": str(int(cells["undetermined"]) - 1)}
    for claim in ({**value["claim"], "cells": more}, {k: v for k, v in value["claim"].items() if k != "cells"}):
        path.write_bytes(seal({**value, "claim": claim}))
        assert not check_certificate(path, tmp_path, full=True).accepted
    bare = [{k: v for k, v in region.items() if k != "cells"} for region in value["regions"]]
    path.write_bytes(seal({**value, "regions": [*bare[:-1], value["regions"][-1]]}))
    assert not check_certificate(path, tmp_path, full=True).accepted
    # a certificate that counts inputs alone is as good as ever
    path.write_bytes(
        seal({**value, "regions": bare, "claim": {k: v for k, v in value["claim"].items() if k != "cells"}})
    )
    assert check_certificate(path, tmp_path, full=True).accepted


@pytest.mark.parametrize(("at", "agree", "undecided"), (("every", 14, 25), ("last", 26, 13)))
def test_a_run_finds_the_program_of_what_is_determined(at: str, agree: int, undecided: int, tmp_path: Path) -> None:
    world(tmp_path, echo(), at=at)
    ran = extract("run", tmp_path, "--json", "--cert", tmp_path / "out.json", "--time", "20s", cwd=tmp_path)
    result = json.loads(ran.out)
    verdict_part = result["verdict"]
    assert (ran.code, result["status"]) == (3, "undecided")
    assert [int(verdict_part[n]) for n in ("agree", "disagree", "undecided")] == [agree, 0, undecided]
    assert int(result["numerics"]["fragile_count"]) == undecided
    cells, every = verdict_part["cells"], at == "every"
    assert int(cells["total"]) == int(cells["agree"]) + int(cells["undetermined"]) == (102 if every else 39)
    assert (int(cells["disagree"]), len(cells["positions"]), cells["where"]) == (0, 3 if every else 0, None)
    assert any("c" in example["tokens"] for example in result["numerics"]["fragile_examples"])
    assert result["certificate"]["checked"]
