"""What ``extract spec`` answers."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from extract.errors import ExtractError, SpecError
from extract.spec import parse_spec
from extract.spec_tools import SizeRow, check, open_domain, schema, size_table, size_text, skeleton

SPEC = """
version = 1
[tokens]
vocab = ["a", "b", "<bos>", "<eos>"]
[domain]
min_length = 0
max_length = 3
template = "<bos> {x}"
offsets = [0, 4]
prefixes_of = "(ab)*"
[readout]
at = "generate"
stop = "<eos>"
max_new = 5
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "spec.toml"
    file.write_text(SPEC, encoding="utf-8")
    return file


def test_a_check_says_what_the_claim_will_quote(path: Path) -> None:
    facts = {fact.name: fact.value for fact in check(path)}
    assert facts["alphabet"] == "a b" and facts["lengths"] == "0 to 3 tokens" and facts["offsets"] == "0 4"
    assert facts["promise"] == "prefixes_of '(ab)*'" and facts["inputs"] == "8 (2 offsets each)"
    assert facts["generated"] == "until <eos>, at most 5 tokens" and facts["choices"] == "a b <bos> <eos>"
    assert "prompt position 3" in facts["read-out"]


def test_errors_of_a_check_name_the_file_and_the_field(path: Path) -> None:
    path.write_text(SPEC.replace("(ab)*", "(ab"), encoding="utf-8")
    with pytest.raises(ExtractError) as caught:
        check(path)
    assert caught.value.line().startswith(f"{path}: $.domain.prefixes_of: regular expression")


def test_size_by_length_adds_up(path: Path) -> None:
    table = size_table(open_domain(path)[2])
    assert table.rows == tuple(SizeRow(n, 1, True) for n in range(4))
    assert table.total == 8 and table.is_exact and table.n_offsets == 2


def test_an_upper_bound_is_called_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.input_graph.strings.MAX_LISTED_STRINGS", 4)
    monkeypatch.setattr("extract.input_graph.strings._FEW_STRINGS", 0)
    monkeypatch.setattr("extract.input_graph.building.MAX_STATES_PER_DEPTH", 0)
    path.write_text(SPEC.replace("max_length = 3", "max_length = 6"), encoding="utf-8")
    table = size_table(open_domain(path)[2])
    assert not table.is_exact and [row.is_exact for row in table.rows][:3] == [True] * 3
    assert table.rows[-1].size == 64 and size_text(table).startswith("at most ")


def test_schema_is_json() -> None:
    assert json.loads(schema())["$defs"]["TaskSpec"]["additionalProperties"] is False


def test_a_skeleton_marks_every_unknown_and_does_not_load_unfilled() -> None:
    text = skeleton(3, {"format": "gpt2", "n_ctx": 154, "d_vocab_out": 2, "odd\n": "x\ny\x7f"})
    assert tomllib.loads(text)["tokens"]["vocab"] == ["token0", "token1", "token2"]
    assert "the model has 154 positions" in text and '# checkpoint: format = "gpt2"' in text
    with pytest.raises(SpecError, match=r"\$\.domain\.max_length: missing"):
        parse_spec(text)
    filled = parse_spec(text.replace("# max_length =", "max_length = 5"))
    assert filled.domain.max_length == 5 and filled.readout.outputs == ("output0", "output1")
    assert text.count("UNKNOWN") >= 9
