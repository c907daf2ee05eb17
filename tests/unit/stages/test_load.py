"""The first stage: which spec, which name, which domain; ``self_allowed`` against a brute force over all prefixes."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from extract.errors import CheckpointError, SpecError
from extract.readout import Inputs
from extract.stages_load import default_name, find_spec, load_subject
from extract.stages_self_allowed import SelfAllowed
from tests.networks import random_network, write_gpt2

SPEC = """
version = 1
[tokens]
vocab = ["a", "b", "c", "<s>", "<e>"]
[domain]
alphabet = ["a", "b", "c"]
min_length = 1
max_length = 4
template = "{template}"
offsets = [0, 2]
self_allowed = true
[readout]
at = "last"
kind = "multilabel"
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("majority", "majority.cert.json"),
        ("majority/model.safetensors", "majority.cert.json"),
        ("majority/weights.safetensors", "weights.cert.json"),
        ("a b/..c\u00e9", "c_.cert.json"),
    ],
)
def test_default_name(path: str, expected: str, tmp_path: Path) -> None:
    target = tmp_path / path
    if target.suffix == ".safetensors":
        target.parent.mkdir(parents=True)
        target.touch()
    else:
        target.mkdir(parents=True)
    assert default_name(target) == expected


def test_the_spec_is_the_one_named_or_the_one_beside(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="spec init"):
        find_spec(tmp_path, None)
    (tmp_path / "spec.json").touch()
    assert find_spec(tmp_path, None) == tmp_path / "spec.json"
    (tmp_path / "spec.toml").touch()
    assert find_spec(tmp_path / "model.safetensors", None) == tmp_path / "spec.toml"
    assert find_spec(tmp_path, tmp_path / "other.toml") == tmp_path / "other.toml"
    with pytest.raises(CheckpointError, match="no such file"):
        load_subject(tmp_path / "absent", None)


@pytest.mark.parametrize("template", ["<s> {x}", "{x}"])
@pytest.mark.parametrize("seed", [0, 1, 6])
def test_self_allowed_is_what_the_model_allows_at_every_prefix(seed: int, template: str, tmp_path: Path) -> None:
    folder = write_gpt2(random_network(seed), tmp_path)
    (folder / "spec.toml").write_text(SPEC.replace("{template}", template))
    domain = load_subject(folder, None).domain
    (promise,) = domain.strings.promises
    assert isinstance(promise, SelfAllowed)
    for length in (1, 2, 3, 4):
        expected = [row for row in product(range(3), repeat=length) if allowed(promise, row, template)]
        assert [tuple(r) for r in domain.tokens(length, 0, domain.size_at(length)).tolist()] == expected


def allowed(promise: SelfAllowed, row: tuple[int, ...], template: str) -> bool:
    """Ask one prefix at a time."""
    shortest = 0 if "<s>" in template else 1
    for n in range(shortest, len(row)):
        for offset in (0, 2):
            labels = promise.oracle.answer(Inputs.of([(row[:n], offset)])).values[0]
            if not labels[row[n]]:
                return False
    return True
