"""A checkpoint of every format, made here: recognised, its program found and proved, the certificate accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cli
from extract.check.check import check_certificate
from extract.formats import load_checkpoint
from extract.spec import ModelFacts
from tests.architectures import Parts, network_of
from tests.networks import gpt2_tensors, random_network, write_gpt2, write_neutral
from tests.tables import write_table
from tests.unit.formats.test_layouts import CASES, llama, write

Written = tuple[str, dict[str, Any]]


def of_layout(name: str, is_torch: bool) -> Callable[[Path], Written]:
    def write_it(folder: Path) -> Written:
        format_, make = CASES[name]
        _, state, config, facts = make()
        write(state, config, folder, is_torch)
        return format_, facts

    return write_it


def gpt2(folder: Path) -> Written:
    write_gpt2(random_network(1), folder)
    return "gpt2", {}


def gpt2_bin(folder: Path) -> Written:
    network = random_network(2)
    write_gpt2(network, folder)
    (folder / "model.safetensors").unlink()
    state = {name: torch.from_numpy(np.array(value)) for name, value in gpt2_tensors(network).items()}
    torch.save(state, folder / "pytorch_model.bin")
    return "gpt2", {}


def qwen_npz(folder: Path) -> Written:
    _, state, config, facts = llama(4, qk_norm=True)
    np.savez(folder / "weights.npz", **{name: value.detach().numpy() for name, value in state.items()})
    (folder / "config.json").write_text(json.dumps(config))
    return "llama", facts


def neutral(folder: Path) -> Written:
    write_neutral(network_of(Parts(), 3, d_vocab=5, n_ctx=6, d_model=6), folder)
    return "neutral", {}


MADE: dict[str, Callable[[Path], Written]] = {
    "GPT-2": gpt2,
    "GPT-2 in a .bin file": gpt2_bin,
    "nanoGPT with its arguments": of_layout("nanogpt", True),
    "minGPT": of_layout("mingpt", True),
    "TransformerLens 1 to 3": of_layout("lens", True),
    "TransformerLens in safetensors": of_layout("lens rms", False),
    "the left-facing layout of 2022": of_layout("left", True),
    "mixed attention": of_layout("left mixed", True),
    "EasyTransformer": of_layout("easy", True),
    "TransformerLens 4": of_layout("native", True),
    "a bridge of TransformerLens 4": of_layout("bridge", True),
    "nn.TransformerEncoder": of_layout("torch", True),
    "nn.TransformerEncoder, norm first": of_layout("torch first", False),
    "Lightning": of_layout("uva", True),
    "Tracr": of_layout("tracr", False),
    "one Linear per head": of_layout("per head", True),
    "Qwen 3": of_layout("qwen 3", False),
    "Qwen 3 in an archive of arrays": qwen_npz,
    "neutral": neutral,
}


def write_spec(folder: Path, facts: dict[str, Any]) -> None:
    """Ask for the larger of two outputs after one or two letters, in the fewest words a spec needs."""
    a = load_checkpoint(folder, ModelFacts(**facts)).network.architecture
    spec = {
        "version": 1, "name": "made here", "tokens": {"vocab": [f"t{i}" for i in range(a.d_vocab)]},
        "domain": {"alphabet": ["t1", "t2"], "min_length": 1, "max_length": 2, "template": "t0 {x}"},
        "readout": {"at": "last", "outputs": [f"t{i}" for i in range(a.d_vocab_out)], "choices": ["t0", "t1"]},
        **({"model": facts} if facts else {}),
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))


def proved(folder: Path, spec: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run the command to its end: its result, whose program is proved and whose certificate is accepted whole."""
    certificate = folder / "made.cert.json"
    arguments = ["-q", "run", str(folder), "--spec", str(folder / spec), "--json", "--cert", str(certificate)]
    assert cli.main(arguments) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert result["status"] == "proved" and result["certificate"]["checked"]
    assert int(result["verdict"]["agree"]) == int(result["verdict"]["inputs_total"]) > 0
    checked = check_certificate(certificate, folder, folder / spec, full=True)
    assert checked.accepted, checked.reasons
    return result


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", MADE)
def test_a_checkpoint_made_here_is_proved(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    format_, facts = MADE[name](tmp_path)
    write_spec(tmp_path, facts)
    assert proved(tmp_path, "spec.json", capsys)["model"]["format"] == format_


def test_a_table_made_here_is_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path, lambda row: row[::-1], longest=3)
    assert proved(tmp_path, "spec.toml", capsys)["model"]["format"] == "table"
