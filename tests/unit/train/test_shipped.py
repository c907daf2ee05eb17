"""The checkpoints that ship: small, described by their own spec, and right on every input of their domain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from extract.train.data import examples, inputs, render
from extract.train.export import gpt2_config, neutral_config, spec_text
from extract.train.tasks import TASKS
from extract.train.training import least_margins
from extract.train.transformer import SmallGPT2

SHIPPED = Path(__file__).resolve().parents[3] / "benchmarks" / "checkpoints"
NAMES = ("histogram", "majority", "reverse")
#: Attention alone; its domain cannot be listed, and tests/cli/test_max_of_10.py proves it right on all of it.
NEUTRAL = "max_of_10"


def load(name: str) -> SmallGPT2:
    """The shipped weights in a fresh module; a missing or spare tensor is an error."""
    record = TASKS[name]
    network = SmallGPT2(record.shape, len(record.vocab), record.n_positions, seed=1)
    stored = load_file(SHIPPED / name / "model.safetensors")
    renamed = {key.removeprefix("transformer."): torch.from_numpy(array) for key, array in stored.items()}
    for key in ("wte", "wpe"):
        renamed[key] = renamed.pop(f"{key}.weight")
    network.load_state_dict(renamed, strict=True)
    return network


def test_these_and_no_others_ship() -> None:
    assert sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()) == sorted([*NAMES, NEUTRAL])


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_is_small_and_says_what_the_record_says(name: str) -> None:
    folder = SHIPPED / name
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "spec.toml"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 300_000
    assert (folder / "spec.toml").read_text(encoding="utf-8") == spec_text(TASKS[name])
    assert json.loads((folder / "config.json").read_text(encoding="utf-8")) == gpt2_config(TASKS[name])


def test_the_neutral_folder_says_what_its_record_says() -> None:
    folder, record = SHIPPED / NEUTRAL, TASKS[NEUTRAL]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "spec.toml"]
    assert (folder / "spec.toml").read_text(encoding="utf-8") == spec_text(record)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8")) == neutral_config(record)


@pytest.mark.parametrize("name", NAMES)
def test_every_input_of_the_domain_is_answered_right(name: str) -> None:
    margins = least_margins(load(name), examples(TASKS[name]))
    assert len(margins) >= 10_000
    assert margins.min() > 1.0


def test_reverse_is_right_when_it_reads_its_own_answers() -> None:
    record, network = TASKS["reverse"], load("reverse")
    token_id = {token: i for i, token in enumerate(record.vocab)}
    stop = token_id["<eos>"]
    chosen = list(inputs(record))[::137]
    for tokens in np.random.default_rng(0).permutation(len(chosen))[:100]:
        names = chosen[int(tokens)]
        sequence = [token_id[name] for name in render(record.template, names)[0]]
        n_prompt = len(sequence)
        with torch.no_grad():
            while sequence[-1] != stop and len(sequence) - n_prompt < record.max_new:
                sequence.append(int(network(torch.tensor([sequence]))[0, -1].argmax()))
        assert sequence[n_prompt:] == [token_id[name] for name in (*record.answer(names), "<eos>")]
