"""Every real checkpoint: inspected without error, read as its framework computed it, read alike by the checker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.check.reader import read_network
from extract.formats import inspect_checkpoint, load_checkpoint
from extract.network import Network
from extract.spec import TaskSpec, load_spec
from tests.checker_agrees import differences
from tests.conftest import SHARED
from tests.network_logits import logits

FOLDERS = sorted(path.parent for path in SHARED.glob("*/*/spec.toml"))
RECORDED = [folder for folder in FOLDERS if (folder / "examples.json").is_file()]
#: Compiled models leave some answers open: their logits tie up to rounding, and any of the tied ones is right.
_TIE = 1e-6
#: Logits of up to 200 in float32 by other code: relative to the largest.
_ROUNDING = 1e-5

pytestmark = pytest.mark.skipif(not FOLDERS, reason="no ../shared/checkpoints")


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_inspection_needs_nothing_more(folder: Path) -> None:
    found = inspect_checkpoint(folder, load_spec(folder / "spec.toml").spec.model)
    assert found.architecture is not None and found.evidence
    assert not [line for line in found.spec_must_add if line.startswith("[model]")]


@pytest.mark.parametrize("folder", RECORDED, ids=named)
def test_recorded_answers_and_checker_agree(folder: Path) -> None:
    spec = load_spec(folder / "spec.toml").spec
    network = load_checkpoint(folder, spec.model).network
    assert differences(network, read_network(folder, {})) == []
    recorded = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    if "examples" in recorded:
        for example in recorded["examples"]:
            compiled_agrees(network, spec, example)
        return
    for at, (ids, answers) in enumerate(zip(recorded["input_ids"], recorded["answer_ids"], strict=True)):
        rows = read_positions(logits(network, ids), spec, len(answers), len(ids))
        told = recorded["answer_logits_of_first_4"]
        width = len(told[0][0])
        assert [int(row[:width].argmax()) for row in rows] == answers
        if at < len(told):
            expected = np.array(told[at])
            assert np.abs(rows[:, :width] - expected).max() <= _ROUNDING * max(10.0, np.abs(expected).max())


def compiled_agrees(network: Network, spec: TaskSpec, example: dict[str, Any]) -> None:
    names, first = list(spec.tokens.vocab), spec.domain.template.split("{x}")[0].split()
    ids = [names.index(str(token)) for token in [*first, *example["input"]]]
    for row, answer in zip(logits(network, ids)[len(first) :], example["output"], strict=True):
        if answer is None:
            continue
        if spec.readout.kind == "value":
            assert abs(row[0] - answer) < spec.readout.tolerance
        else:
            assert row[spec.output_names.index(str(answer))] >= row.max() - _TIE


def read_positions(rows: Any, spec: TaskSpec, n_answers: int, n_tokens: int) -> Any:
    """The rows that are read: all, the last, or from the end of the prompt on as many as were generated."""
    if spec.readout.at == "every":
        return rows
    if spec.readout.at == "last":
        return rows[-1:]
    # the prompt was recorded with its answer; where the last token of the answer was left off, one row less follows
    start = n_tokens - n_answers - (0 if spec.domain.template.endswith("}") else 1)
    return rows[start : start + n_answers]
