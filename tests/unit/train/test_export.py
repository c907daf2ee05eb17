"""The written folder: read by the reference implementation, complete or absent, never over somebody's files."""

from __future__ import annotations

import json
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from extract.errors import OutputError
from extract.spec import load_spec
from extract.train.export import gpt2_config, spec_text, write_checkpoint
from extract.train.tasks import TASKS, Shape, TaskRecord
from extract.train.training import exported_weights
from extract.train.transformer import SmallGPT2

FILES = ["config.json", "model.safetensors", "spec.toml"]


def fresh(record: TaskRecord, seed: int = 0) -> SmallGPT2:
    network = SmallGPT2(record.shape, len(record.vocab), record.n_positions, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():  # biases and gains start trivial; a wrong name for one would not show
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def weights_of(network: SmallGPT2) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in exported_weights(network).items()}


@pytest.mark.parametrize("name", ["first_unique", "modular_addition", "dyck2_depth"])
def test_the_reference_implementation_computes_the_same_logits(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    record = TASKS[name]
    network = fresh(record)
    write_checkpoint(tmp_path / "out", record, weights_of(network))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import GPT2LMHeadModel

        reference, report = GPT2LMHeadModel.from_pretrained(tmp_path / "out", output_loading_info=True)
        reference.eval()
        tokens = torch.randint(len(record.vocab), (16, record.n_positions), generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            expected = reference(tokens).logits
            computed = network(tokens)
    assert not report["unexpected_keys"]
    assert set(report["missing_keys"]) <= {"lm_head.weight"}  # tied
    assert torch.allclose(computed, expected, atol=1e-5)
    assert expected.abs().max() > 0.5


@pytest.mark.parametrize("record", TASKS.values(), ids=lambda record: record.name)
def test_the_spec_parses_and_says_what_the_record_says(record: TaskRecord, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(spec_text(record), encoding="utf-8")
    spec = load_spec(path).spec
    assert (spec.tokens.vocab, spec.tokens.numeric, spec.output_names) == (
        record.vocab, record.numeric, record.output_names,
    )  # fmt: skip
    assert (spec.alphabet, spec.domain.min_length, spec.domain.max_length) == (
        record.alphabet, record.min_length, record.max_length,
    )  # fmt: skip
    assert (spec.readout.at, spec.readout.max_new) == (record.at, record.max_new)
    assert len(record.output_names) == len(record.vocab)  # the head is tied to the embedding


def test_text_survives_toml() -> None:
    record = TASKS["majority"]
    odd = TaskRecord(**{**{f: getattr(record, f) for f in record.__dataclass_fields__}, "description": 'a "b" \\ ä \n'})
    assert tomllib.loads(spec_text(odd))["description"] == 'a "b" \\ ä \n'


def test_the_folder_holds_three_files_and_no_leftovers(tmp_path: Path) -> None:
    record = TASKS["parity"]
    network = fresh(record)
    write_checkpoint(tmp_path / "deep" / "out", record, weights_of(network))
    assert sorted(p.name for p in (tmp_path / "deep" / "out").iterdir()) == FILES
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]
    assert json.loads((tmp_path / "deep/out/config.json").read_text()) == gpt2_config(record)
    stored = load_file(tmp_path / "deep/out/model.safetensors")
    assert {array.dtype for array in stored.values()} == {np.dtype(np.float32)}
    assert np.array_equal(stored["transformer.wte.weight"], network.wte.detach().numpy())


def test_an_empty_folder_is_filled_and_a_full_one_is_refused(tmp_path: Path) -> None:
    record, out = TASKS["parity"], tmp_path / "out"
    out.mkdir()
    write_checkpoint(out, record, weights_of(fresh(record)))
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(OutputError, match="is not empty, expected a new or empty folder") as caught:
        write_checkpoint(out, record, weights_of(fresh(record, seed=5)))
    assert caught.value.exit_code == 74
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_force_replaces_the_three_files_and_keeps_others(tmp_path: Path) -> None:
    record, out = TASKS["parity"], tmp_path / "out"
    write_checkpoint(out, record, weights_of(fresh(record)))
    (out / "notes.txt").write_text("mine")
    network = fresh(record, seed=5)
    write_checkpoint(out, record, weights_of(network), force=True)
    assert sorted(p.name for p in out.iterdir()) == sorted([*FILES, "notes.txt"])
    stored = load_file(out / "model.safetensors")
    assert np.array_equal(stored["transformer.wpe.weight"], network.wpe.detach().numpy())
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("force", [False, True])
def test_a_file_in_the_way_is_left_alone(tmp_path: Path, force: bool) -> None:
    record = TASKS["parity"]
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError):
            write_checkpoint(target, record, weights_of(fresh(record)), force=force)
    assert (tmp_path / "file").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_initial_weights_depend_on_the_seed_alone() -> None:
    shape = Shape(n_layers=1, n_heads=2, d_model=8)
    torch.manual_seed(1)
    first = SmallGPT2(shape, 5, 6, seed=3).state_dict()
    torch.manual_seed(2)
    second = SmallGPT2(shape, 5, 6, seed=3).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["wte"], SmallGPT2(shape, 5, 6, seed=4).state_dict()["wte"])
