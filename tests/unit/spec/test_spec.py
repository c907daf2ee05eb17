"""Specs: what is read is what was written; what is wrong is named by field, value and expectation."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import SpecError, UsageError
from extract.spec import _INTEGER, json_schema, load_spec, parse_spec, with_overrides
from extract.vocabulary import reads_as_integer

TOP = 'version = 1\n[tokens]\nvocab = ["0", "1", "<eos>"]\n'
SMALL = TOP + "[domain]\nmax_length = 4\n"


def test_defaults_are_those_of_the_schema() -> None:
    spec = parse_spec(SMALL)
    assert (spec.domain.min_length, spec.domain.offsets, spec.domain.template) == (1, (0,), "{x}")
    assert (spec.readout.at, spec.readout.kind, spec.readout.threshold) == ("last", "argmax", 0.0)
    assert spec.alphabet == ("0", "1") and spec.output_names == ("0", "1", "<eos>") and not spec.tokens.numeric


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    document = {
        "version": 1, "tokens": {"vocab": ["a", "b"]},
        "domain": {"max_length": 3, "automaton": {"start": 1, "transitions": [[0, 1], [-1, 0]]}},
        "model": {"heads": 2, "eps": 1e-5, "attention": "causal", "format": "gpt2"},
        "readout": {"kind": "multilabel", "threshold": 1},
    }  # fmt: skip
    toml = (
        'version = 1\n[tokens]\nvocab = ["a", "b"]\n[domain]\nmax_length = 3\n'
        "automaton = { start = 1, transitions = [[0, 1], [-1, 0]] }\n"
        '[model]\nheads = 2\neps = 1e-5\nattention = "causal"\nformat = "gpt2"\n'
        '[readout]\nkind = "multilabel"\nthreshold = 1\n'
    )
    paths = [tmp_path / name for name in ("a.toml", "b.json", "c.spec")]
    for path, text in zip(paths, (toml, json.dumps(document), " " + json.dumps(document)), strict=True):
        path.write_text(text, encoding="utf-8")
    first, *others = [load_spec(path) for path in paths]
    assert all(other.spec == first.spec for other in others)
    assert first.digest == hashlib.sha256(paths[0].read_bytes()).hexdigest() != others[0].digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALL.replace("4", '"x"'), "$.domain.max_length: 'x', expected int"),
        (SMALL.replace("4", "true"), "$.domain.max_length: True, expected int"),
        (SMALL + "longest = 3\n", "$.domain.longest: unknown field, expected one of max_length, min_length"),
        (SMALL + "[models]\n", "$.models: unknown field, expected one of version, tokens"),
        (TOP, "$.domain: missing"),
        (TOP + "[domain]\n", "$.domain.max_length: missing"),
        (SMALL.replace("= 1", "= 2"), "$.version: 2, expected 1"),
        (SMALL + "offsets = [0, 'a']\n", "$.domain.offsets[1]: 'a', expected int"),
        (SMALL + "offsets = []\n", "$.domain.offsets: empty"),
        (SMALL + "offsets = [3, 0, 3]\n", "$.domain.offsets[2]: 3"),
        (SMALL + "offsets = [-1]\n", "$.domain.offsets[0]: -1"),
        (SMALL + "min_length = 5\n", "$.domain.max_length: 4, expected at least $.domain.min_length = 5"),
        (SMALL + "min_length = -1\n", "$.domain.min_length: -1"),
        (TOP + "[domain]\nmax_length = 1000000000\n", "$.domain.max_length: 1000000000, expected at most"),
        (SMALL.replace('"1"', '"0"'), "$.tokens.vocab: '0' is listed twice"),
        (SMALL.replace('"1"', '""'), "$.tokens.vocab[1]: an empty name"),
        (SMALL.replace('["0", "1", "<eos>"]', "[]"), "$.tokens.vocab: empty"),
        (SMALL.replace('["0", "1", "<eos>"]', '["<a>"]'), "$.domain.alphabet: empty"),
        (SMALL + "alphabet = ['0', '2']\n", "$.domain.alphabet[1]: '2', expected a token of the vocabulary"),
        (SMALL + "alphabet = ['0', '<eos>']\n[tokens]\n", "not valid TOML"),
        (SMALL.replace("[domain]", "numeric = true\n[domain]\nalphabet = ['0', '<eos>']"), "'<eos>' is not one"),
        (SMALL + "matches = '0'\nprefixes_of = '1'\n", "$.domain.prefixes_of: given beside matches"),
        (SMALL + f"where = '{'1' * 10_001}'\n", "$.domain.where: 10001 characters"),
        (SMALL + "where = ' '\n", "$.domain.where: empty"),
        (SMALL + "automaton = { start = 1, transitions = [[0, 0]] }\n", "$.domain.automaton.start: 1"),
        (SMALL + "automaton = { transitions = [[0]] }\n", "$.domain.automaton.transitions[0]: 1 entries"),
        (SMALL + "automaton = { transitions = [[0, 7]] }\n", "$.domain.automaton.transitions[0][1]: 7"),
        (SMALL + "self_allowed = true\n", "$.domain.self_allowed: true with kind 'argmax'"),
        (SMALL + "[readout]\nat = 'end'\n", "$.readout.at: 'end', expected one of last, first, every, generate"),
        (SMALL + "[readout]\nat = 'generate'\nkind = 'value'\n", "$.readout.at: 'generate' with kind 'value'"),
        (SMALL + "[readout]\nchoices = ['0', 'x']\n", "$.readout.choices[1]: 'x'"),
        (SMALL + "[readout]\noutputs = ['x']\nchoices = ['0']\n", "$.readout.choices[0]: '0'"),
        (SMALL + "[readout]\noutputs = ['x']\nat = 'generate'\n", "$.readout.outputs[0]: 'x'"),
        (SMALL + "[readout]\nstop = '<end>'\n", "$.readout.stop: '<end>'"),
        (SMALL + "[readout]\nthreshold = nan\n", "$.readout.threshold: nan, expected a finite"),
        (SMALL + "[readout]\ntolerance = 0\n", "$.readout.tolerance: 0.0"),
        (SMALL + "[readout]\nmax_new = -1\n", "$.readout.max_new: -1"),
        (SMALL + "[model]\nattention = 'left'\n", "$.model.attention: 'left', expected one of causal, bidirectional"),
        (SMALL + "[model]\nheads = 0\n", "$.model.heads: 0"),
        (SMALL + "[model]\neps = inf\n", "$.model.eps: inf"),
        ("{", "not valid JSON"),
        ("version = ", "not valid TOML"),
        ("{" + '"a":[' * 100_000, "not valid JSON"),
        ("a = " + "[" * 100_000, "not valid TOML"),
    ],
)
def test_a_mistake_is_named(text: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    line = caught.value.line()
    assert says.removeprefix("not valid JSON").removeprefix("not valid TOML") in line and "\n" not in line
    assert not says.startswith("not valid") or re.search(f"{says}|nested too deeply", line)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(["version", "tokens", "domain", "readout", "model", "vocab", "max_length", "at", "x"]),
                x,
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_any_document_is_read_or_refused_in_one_line(document: object) -> None:
    try:
        parse_spec(json.dumps(document), is_json=True)
    except SpecError as error:
        assert error.line() and "\n" not in error.line() and error.exit_code == 4


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    binary, big, wrong = tmp_path / "binary.toml", tmp_path / "big.toml", tmp_path / "wrong.toml"
    binary.write_bytes(b"version = 1 # \xff")
    big.write_bytes(b"#" * (1 << 20) + b"\n")
    wrong.write_text("version = 1\n", encoding="utf-8")
    for path, says in [
        (tmp_path / "none.toml", "no such file"),
        (tmp_path, "is a directory"),
        (binary, "byte 14 is not UTF-8"),
        (big, "larger than 1048576 bytes"),
        (wrong, "$.tokens: missing"),
    ]:
        with pytest.raises(SpecError, match=re.escape(says)) as caught:
            load_spec(path)
        assert caught.value.line().startswith(f"{path}: ")


def test_overrides_replace_and_are_checked() -> None:
    spec = parse_spec(SMALL + "min_length = 2\n")
    changed = with_overrides(spec, max_length=9, offsets=(0, 3))
    assert (changed.domain.max_length, changed.domain.offsets, changed.domain.min_length) == (9, (0, 3), 2)
    assert with_overrides(spec) == spec
    with pytest.raises(UsageError, match=r"--max-length 1: \$\.domain\.max_length: 1, expected at least"):
        with_overrides(spec, max_length=1)
    with pytest.raises(UsageError, match="--offsets"):
        with_overrides(spec, offsets=(1, 1))


@given(st.one_of(st.text(max_size=4), st.integers().map(str), st.from_regex(r"-?0*[0-9]{1,3}", fullmatch=True)))
def test_integers_are_spelled_as_the_vocabulary_reads_them(name: str) -> None:
    assert (_INTEGER.fullmatch(name) is not None) == reads_as_integer(name)


def test_the_schema_accepts_what_is_accepted() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    good = {"version": 1, "tokens": {"vocab": ["a"]}, "domain": {"max_length": 3, "where": "length == 1"}}
    assert check.is_valid(good) and parse_spec(json.dumps(good), is_json=True)
    assert not check.is_valid({**good, "extra": 1}) and not check.is_valid({"version": 1})
