"""A certificate is about a function: the same weights under another config.json are another model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extract import RunRequest, run
from extract.check.check import check_certificate
from tests.networks import random_network, write_gpt2

SPEC = """
version = 1
name = "t"
[tokens]
vocab = ["a", "b", "c"]
[domain]
min_length = 1
max_length = 3
template = "{x}"
[readout]
at = "last"
kind = "argmax"
"""


@pytest.mark.parametrize(
    ("key", "value"), [("layer_norm_epsilon", 1e-3), ("activation_function", "relu"), ("n_head", 1)]
)
def test_another_config_is_rejected(tmp_path: Path, key: str, value: object) -> None:
    folder = write_gpt2(random_network(3, d_vocab=3, n_ctx=4), tmp_path / "checkpoint")
    (folder / "spec.toml").write_text(SPEC, encoding="utf-8")
    certificate = tmp_path / "t.cert.json"
    run(RunRequest(checkpoint=folder, certificate=certificate))
    assert check_certificate(certificate, folder).accepted
    config = json.loads((folder / "config.json").read_text())
    config[key] = value
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert not check_certificate(certificate, folder).accepted
