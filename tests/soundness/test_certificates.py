"""A certificate is accepted as made, and rejected after any edit that changes what it says."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.certificate_file import seal, self_digest
from extract.check import check
from tests.networks import random_network, write_gpt2
from tests.soundness.certificates import Case, status_of, table_program, write_case

NAMES = ["b", "a", "c", "<bos>", "<eos>"]


def spec_of(at: str = "last", kind: str = "argmax", **domain: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "tokens": {"vocab": NAMES},
        "domain": {"min_length": 0, "max_length": 4, "template": "<bos> {x}", **domain},
        "readout": {"at": at, "kind": kind, "stop": "<eos>", "max_new": 3 if at == "generate" else 0},
    }


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A network and a table that equals it on all 121 strings."""
    folder = tmp_path_factory.mktemp("exact")
    network, spec = random_network(7), spec_of()
    write_case(folder, network, spec, "output = 'a'", "value")
    case = write_case(folder, network, spec, table_program(folder, 4, [0]), "value")
    assert case.value["claim"]["status"] == "proved"
    return case


@pytest.fixture(scope="module")
def excepted(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A network and a table that differs from it on three of 364 strings."""
    folder = tmp_path_factory.mktemp("excepted")
    network, spec = random_network(11), spec_of(max_length=5)
    write_case(folder, network, spec, "output = 'a'", "value")
    head, entries = table_program(folder, 5, [0]).split("output = table(number, {")
    items = entries.split(", ")
    for place in (5, 100, 300):
        number, answer = items[place].split(": ")
        items[place] = f"{number}: {'chr'!r}" if answer == "'chr'" else f"{number}: {_other(answer)}"
    program = f"{head}output = table(number, {{{', '.join(items)}"
    case = write_case(folder, network, spec, program, "value")
    assert case.value["claim"]["status"] == "proved_except"
    assert case.value["claim"]["disagree"] == "3"
    return case


def _other(answer: str) -> str:
    return "'b'" if answer != "'b'" else "'c'"


READOUTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "last": (spec_of(), "output = last(everywhere, tokens, 'a')", "value"),
    "first": (spec_of("first"), "output = 'c'", "value"),
    "every": (spec_of("every"), "output = tokens", "every"),
    "multilabel": (
        spec_of(kind="multilabel"),
        "output['a'] = any(tokens == 'b')\noutput['<eos>'] = True",
        "multilabel",
    ),
    "generate": (
        spec_of("generate"),
        "output = first(select(indices, step, '=='), tokens)\noutput_length = length",
        "generate",
    ),
    "step": (
        spec_of("generate", where="count(tokens == 'a') != 1"),
        "output = 'b' if length < prompt_length + 1 else '<eos>'",
        "step",
    ),
    "offsets": (spec_of(offsets=[3, 0, 1], max_length=3), "output = last(everywhere, tokens, 'a')", "value"),
}


@pytest.mark.parametrize("name", READOUTS)
@pytest.mark.parametrize("n_layers", (1, 2))
def test_certificates_of_every_read_out_are_accepted(name: str, n_layers: int, tmp_path: Path) -> None:
    spec, program, adapter = READOUTS[name]
    case = write_case(tmp_path, random_network(3, n_layers=n_layers), spec, program, adapter)
    found = case.check()
    assert found.accepted, found.reasons
    total = int(case.value["claim"]["inputs_total"])
    assert found.n_reevaluated == total
    assert found.regions == len(case.value["regions"])
    assert found.coverage.startswith(f"re-evaluated {total} of {total} inputs")
    assert case.check(full=True).accepted
    assert case.check(budget_inputs=10).accepted


def test_every_byte_of_the_claim_counts(exact: Case) -> None:
    data = seal(exact.value)
    begin, end = data.index(b'"checkpoint"'), data.index(b'"regions"')
    rng = random.Random(0)
    for place in range(begin, end):
        if data[place : place + 1].isspace():
            continue
        other = rng.choice([b for b in b"0123456789abcdefxyz{}:,\"' " if b != data[place]])
        edited = data[:place] + bytes([other]) + data[place + 1 :]
        assert not exact.check_bytes(edited).accepted, (place, data[place - 20 : place + 20])


Edit = Callable[[dict[str, Any], random.Random], None]


def _region(value: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    region: dict[str, Any] = rng.choice([r for r in value["regions"] if r["stop"] - r["start"] > 1])
    return region


def change_answer(value: dict[str, Any], rng: random.Random) -> None:
    parts = value["program"].split("': ") if rng.random() < 0.1 else value["program"].split(": '")
    i = rng.randrange(1, len(parts))
    letter = "'" if parts[0].endswith("'") else ""
    if letter or len(parts[i]) < 2 or parts[i][1] != "'":
        parts[1:] = parts[1:]
        value["program"] = value["program"].replace("output = table(number", "output = table(number + 1")
        return
    parts[i] = rng.choice([n for n in "abc" if n != parts[i][0]]) + parts[i][1:]
    value["program"] = ": '".join(parts)


def move_count(value: dict[str, Any], rng: random.Random) -> None:
    names = rng.sample(["agree", "disagree", "undecided"], 2)
    region = _region(value, rng)
    if region[names[0]] == 0:
        names.reverse()
    if region[names[0]] == 0:
        names = ["agree", "disagree"]
    region[names[0]] -= 1
    region[names[1]] += 1
    if rng.random() < 0.7:
        _settle(value)


def _settle(value: dict[str, Any]) -> None:
    """Make every sum, and the status, follow from the regions again."""
    sums = {name: sum(r[name] for r in value["regions"]) for name in ("agree", "disagree", "undecided")}
    total = int(value["claim"]["inputs_total"])
    sums["undecided"] += total - sum(sums.values())
    value["claim"] |= {name: str(n) for name, n in sums.items()} | {"status": status_of(sums, total)}
    value["numerics"]["n_fragile"] = sum(r["undecided"] for r in value["regions"])
    value["numerics"]["min_margin"] = min((r["min_margin"] for r in value["regions"] if r["min_margin"]), default=None)


def drop_region(value: dict[str, Any], rng: random.Random) -> None:
    value["regions"].remove(rng.choice(value["regions"]))


def drop_region_and_total(value: dict[str, Any], rng: random.Random) -> None:
    region = rng.choice(value["regions"])
    value["regions"].remove(region)
    value["claim"]["inputs_total"] = str(int(value["claim"]["inputs_total"]) - region["stop"] + region["start"])
    _settle(value)


def repeat_region(value: dict[str, Any], rng: random.Random) -> None:
    i = rng.randrange(len(value["regions"]))
    value["regions"].insert(i, copy.deepcopy(value["regions"][i]))
    if rng.random() < 0.5:
        _settle(value)


def relabel_region(value: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(["length", "offset", "start", "stop"])
    rng.choice(value["regions"])[name] += rng.choice([-1, 1])
    if rng.random() < 0.5:
        _settle(value)


def swap_regions(value: dict[str, Any], rng: random.Random) -> None:
    i, j = rng.sample(range(len(value["regions"])), 2)
    value["regions"][i], value["regions"][j] = value["regions"][j], value["regions"][i]


def flip_digest(value: dict[str, Any], rng: random.Random) -> None:
    region = rng.choice(value["regions"])
    i = rng.randrange(64)
    other = rng.choice([c for c in "0123456789abcdef" if c != region["digest"][i]])
    region["digest"] = region["digest"][:i] + other + region["digest"][i + 1 :]


def change_margin(value: dict[str, Any], rng: random.Random) -> None:
    rng.choice(value["regions"])["min_margin"] *= rng.choice([1.001, 1.1, 2.0, 0.5, 0.999, 100.0])
    _settle(value)


def change_least_margin(value: dict[str, Any], rng: random.Random) -> None:
    value["numerics"]["min_margin"] *= rng.choice([1.0001, 2.0, 0.5])


def change_claim(value: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(["inputs_total", "agree", "disagree", "undecided"])
    value["claim"][name] = str(int(value["claim"][name]) + rng.choice([1, 2, 100]))


def upgrade_status(value: dict[str, Any], rng: random.Random) -> None:
    value["claim"]["status"] = rng.choice(
        [s for s in ("proved", "undecided", "no_program", "Proved") if s != value["claim"]["status"]]
    )


def change_domain(value: dict[str, Any], rng: random.Random) -> None:
    change = rng.choice([{"max_length": value["spec"]["max_length"] + rng.choice([-1, 1])}, {"offsets": [1]}])
    value["spec"] |= change | ({"offsets": [0, 1]} if rng.random() < 0.2 else {})


def change_adapter(value: dict[str, Any], rng: random.Random) -> None:
    value["adapter"] = rng.choice(["every", "multilabel", "generate", "step", "Value"])


def change_digest_of_file(value: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(["checkpoint", "spec"])
    value[name]["sha256"] = value[name]["sha256"][1:] + "0" if rng.random() < 0.5 else "0" * 64


def delete_field(value: dict[str, Any], rng: random.Random) -> None:
    table = rng.choice(
        [value["claim"], value["numerics"], value["spec"], rng.choice(value["regions"]), value["checkpoint"]]
    )
    del table[rng.choice(list(table))]


def retype_field(value: dict[str, Any], rng: random.Random) -> None:
    table = rng.choice([value["claim"], rng.choice(value["regions"]), value["spec"]])
    name = rng.choice(list(table))
    table[name] = rng.choice([None, -1, "x", [], {}, 1.5, True, "-1", "007", 10**30])


EDITS: list[Edit] = [
    change_answer, move_count, drop_region, drop_region_and_total, repeat_region, relabel_region, swap_regions,
    flip_digest, change_margin, change_least_margin, change_claim, upgrade_status, change_domain, change_adapter,
    change_digest_of_file, delete_field, retype_field,
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_edited_and_sealed_again_is_rejected(edit: Edit, exact: Case) -> None:
    for seed in range(30):
        value = copy.deepcopy(exact.value)
        edit(value, random.Random(seed))
        assert value != exact.value, seed
        found = exact.check(value)
        assert not found.accepted, (seed, edit.__name__)
        assert found.reasons and all(reason and "\n" not in reason for reason in found.reasons)


def drop_exception(value: dict[str, Any], rng: random.Random) -> None:
    value["exceptions"].pop(rng.randrange(len(value["exceptions"])))


def drop_exception_and_count(value: dict[str, Any], rng: random.Random) -> None:
    gone = value["exceptions"].pop(rng.randrange(len(value["exceptions"])))
    region = next(r for r in value["regions"] if r["length"] == len(gone["tokens"]))
    region["disagree"] -= 1
    region["agree"] += 1
    _settle(value)


def add_exception(value: dict[str, Any], rng: random.Random) -> None:
    fresh = copy.deepcopy(value["exceptions"][-1])
    fresh["tokens"] = ["c"] * len(fresh["tokens"])
    value["exceptions"].append(fresh)
    if rng.random() < 0.5:
        region = next(r for r in value["regions"] if r["length"] == len(fresh["tokens"]))
        region["disagree"] += 1
        region["agree"] -= 1
        _settle(value)


def change_exception(value: dict[str, Any], rng: random.Random) -> None:
    entry = rng.choice(value["exceptions"])
    name = rng.choice(["tokens", "model", "program", "offset"])
    if name == "offset":
        entry["offset"] = 1
        return
    i = rng.randrange(len(entry[name]))
    entry[name][i] = rng.choice([n for n in NAMES if n != entry[name][i]])


def swap_exceptions(value: dict[str, Any], rng: random.Random) -> None:
    i, j = rng.sample(range(3), 2)
    value["exceptions"][i], value["exceptions"][j] = value["exceptions"][j], value["exceptions"][i]


def call_it_proved(value: dict[str, Any], rng: random.Random) -> None:
    value["claim"]["status"] = rng.choice(["proved", "undecided"])


@pytest.mark.parametrize(
    "edit",
    [
        drop_exception,
        drop_exception_and_count,
        add_exception,
        change_exception,
        swap_exceptions,
        call_it_proved,
        *EDITS[1:9],
    ],
    ids=lambda edit: edit.__name__,
)
def test_edited_exceptions_are_rejected(edit: Edit, excepted: Case) -> None:
    assert excepted.check().accepted, excepted.check().reasons
    for seed in range(20):
        value = copy.deepcopy(excepted.value)
        edit(value, random.Random(seed))
        assert not excepted.check(value).accepted, (seed, edit.__name__)


def test_another_network_is_rejected(exact: Case, tmp_path: Path) -> None:
    network = random_network(7)
    nudged = network.W_U.copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], np.float32(9))
    for other in (replace(network, W_U=nudged), random_network(8)):
        folder = tmp_path / str(other.W_U[0, 0])
        write_gpt2(other, folder)
        (folder / "spec.json").write_bytes((exact.folder / "spec.json").read_bytes())
        found = Case(folder, exact.value).check()
        assert not found.accepted
        assert found.reasons[0].startswith("checkpoint: sha256")


def test_a_nudged_network_whose_digest_is_claimed_is_rejected(exact: Case, tmp_path: Path) -> None:
    """The digest of the file alone never makes a claim true: the answers are evaluated again."""
    network = random_network(7)
    bent = network.W_U.copy()
    bent[:, 1] -= np.float32(2)
    write_gpt2(replace(network, W_U=bent), tmp_path)
    (tmp_path / "spec.json").write_bytes((exact.folder / "spec.json").read_bytes())
    value = copy.deepcopy(exact.value)
    value["checkpoint"]["sha256"] = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert not Case(tmp_path, value).check(value).accepted


def test_another_spec_is_rejected(exact: Case, tmp_path: Path) -> None:
    write_gpt2(random_network(7), tmp_path)
    spec = json.loads((exact.folder / "spec.json").read_text())
    spec["domain"]["where"] = "length != 3"
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    found = Case(tmp_path, exact.value).check()
    assert not found.accepted
    assert found.reasons[0].startswith("spec: sha256")


def test_the_seal_is_checked_first(exact: Case) -> None:
    value = copy.deepcopy(exact.value)
    value["claim"]["agree"] = "120"
    data = json.dumps({**value, "self_sha256": self_digest(exact.value)}).encode()
    found = exact.check_bytes(data)
    assert not found.accepted
    assert "self_sha256" in found.reasons[0]


def test_what_changes_nothing_is_accepted(exact: Case) -> None:
    value = copy.deepcopy(exact.value)
    value["assumptions"] = ["words for people"]
    value["tool"]["version"] = "9"
    value["program"] = value["program"].replace("output = ", "output   =   ")
    assert exact.check(value).accepted
    assert exact.check_bytes(json.dumps(json.loads(seal(exact.value))).encode()).accepted


def test_unevaluated_lengths_are_undecided(exact: Case) -> None:
    value = copy.deepcopy(exact.value)
    value["regions"] = value["regions"][:-1]
    _settle(value)
    assert value["claim"]["status"] == "undecided"
    found = exact.check(value)
    assert found.accepted, found.reasons
    value["claim"]["status"] = "proved"
    assert not exact.check(value).accepted


@pytest.mark.parametrize("name", ["exact", "excepted"])
def test_a_bound_above_a_margin_is_a_doubt_and_no_contradiction(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checker with a coarse arithmetic confirms nothing, and says so; an edit it can see it still rejects."""
    case = request.getfixturevalue(name)
    assert case.check().accepted
    monkeypatch.setattr(check, "DOUBLE", 2.0**-8)
    found = case.check()
    assert found.is_doubt and not found.accepted
    assert all("rounding bound" in reason for reason in found.reasons)
    edited = copy.deepcopy(case.value)
    edited["claim"]["agree"] = str(int(edited["claim"]["agree"]) - 1)
    found = case.check(edited)
    assert not found.accepted and not found.is_doubt
