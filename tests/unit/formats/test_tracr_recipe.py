"""The documented recipe for Tracr users, run as it is printed on a stand-in for an assembled model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from extract.check.reader import read_network
from extract.formats import load_checkpoint
from tests.checker_agrees import differences
from tests.unit.formats import linear_originals as linear
from tests.unit.formats.test_layouts import tracr, worst

DOCS = Path(__file__).resolve().parents[3] / "docs" / "formats.md"


def recipe() -> Any:
    """The documented function."""
    found = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found.group(1).count("\n") <= 26
    names: dict[str, Any] = {}
    exec(found.group(1), names)
    return names["export"]


@pytest.mark.parametrize(
    ("heads", "layers", "codes"), [(1, 1, {0: 0, 2: 1, 1: 2}), (2, 2, None), (3, 1, {"a": 1, "b": 0})]
)
def test_the_recipe_writes_what_is_read(heads: int, layers: int, codes: Any, tmp_path: Path) -> None:
    _, params, config, _ = tracr(heads, heads, layers, True, [0])
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, value in params.items():
        module, _, part = name.rpartition("/")
        modules.setdefault(module, {})[part] = value.numpy()
    labels = ["one", *(["out"] if codes is None else [f"out:{v}" for v in sorted(codes, key=str)])]
    labels += [f"tokens:{i}" for i in range(10 - len(labels))]
    model = SimpleNamespace(
        params=modules, residual_labels=labels, model_config=SimpleNamespace(**config["model_config"]),
        input_encoder=SimpleNamespace(encoding_map={"x": 1, "compiler_bos": 0}),
        output_encoder=None if codes is None else SimpleNamespace(encoding_map=codes),
    )  # fmt: skip
    recipe()(model, SimpleNamespace(label="out"), tmp_path)
    network = load_checkpoint(tmp_path).network
    rows = [labels.index("out")] if codes is None else [labels.index(f"out:{v}") for v in sorted(codes, key=codes.get)]
    wide = {name: value.double() for name, value in params.items()}
    expected = config | {"unembed": {"residual_rows": rows}}
    assert worst(network, lambda ids: linear.tracr(wide, expected, ids), 0) < 1e-5
    assert differences(network, read_network(tmp_path)) == []


def test_the_labels_of_real_models_name_their_output_basis(shared_checkpoints: Path) -> None:
    found = 0
    for path in sorted(
        [*shared_checkpoints.glob("tracr/*/config.json"), *shared_checkpoints.glob("interpbench/*/config.json")]
    ):
        config = json.loads(path.read_text(encoding="utf-8"))
        rows = [config["residual_labels"][row] for row in config["unembed"]["residual_rows"]]
        codes = config["output_encoder"].get("encoding_map")
        label = rows[0].partition(":")[0]
        values = [label] if codes is None else [f"{label}:{v}" for v, _ in sorted(codes, key=lambda pair: pair[1])]
        assert rows == values, path.parent.name
        found += 1
    assert found
