"""Every bad spec: exit 4, one line with the field's path (or the place in the text), nothing written, nothing run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import cli
from tests.cli.command import SPEC

GOOD = SPEC.format(max_length=5, promise="")


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def domain(line: str) -> str:
    """The good spec with one line more in ``[domain]``."""
    return changed('template = "<s> {x}"', f'template = "<s> {{x}}"\n{line}')


def readout(line: str) -> str:
    return GOOD + line


def model(line: str) -> str:
    return GOOD + f"\n[model]\n{line}\n"


def length(value: str) -> str:
    return changed("max_length = 5", f"max_length = {value}")


def template(text: str) -> str:
    return changed('template = "<s> {x}"', f"template = {json.dumps(text)}")


VOCAB = '["a", "b", "c", "<s>", "<e>"]'
CASES: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", ["$."]),
    "zeros": (bytes(64), ["TOML"]),
    "no UTF-8": (b"\xff\xfe\x00", ["UTF-8", "byte 0"]),
    "no TOML": ("version = ", ["TOML"]),
    "no JSON": ("{", ["JSON"]),
    "a key twice": (GOOD + '\n[tokens]\nvocab = ["a"]', ["TOML"]),
    "2 MiB": (GOOD + "\n#" + "x" * (2 << 20), ["larger than 1048576"]),
    "nested 100000 deep": ("a = " + "[" * 100_000, ["spec.toml"]),
    "JSON nested 100000 deep": ('{"a":' * 100_000, ["spec.toml"]),
    "another version": (changed("version = 1", "version = 2"), ["$.version", "2", "1"]),
    "a version in words": (changed("version = 1", 'version = "1"'), ["$.version", "'1'"]),
    "no version": (changed("version = 1", ""), ["$.version"]),
    "no tokens": (changed(f"vocab = {VOCAB}", ""), ["$.tokens.vocab"]),
    "no vocabulary": (changed(VOCAB, "[]"), ["$.tokens.vocab", "empty"]),
    "a vocabulary of numbers": (changed(VOCAB, "[1, 2]"), ["$.tokens.vocab[0]", "1"]),
    "a vocabulary of one text": (changed(VOCAB, '"abc"'), ["$.tokens.vocab", "'abc'"]),
    "a name twice": (changed('"c",', '"a",'), ["$.tokens.vocab", "'a'", "twice"]),
    "a name without letters": (changed('"c",', '"",'), ["$.tokens.vocab[2]", "empty"]),
    "20000 names": (changed(VOCAB, json.dumps([str(i) for i in range(20_000)])), ["$.tokens.vocab", "20000"]),
    "numeric with letters": (changed("[domain]", "numeric = true\n[domain]"), ["$.tokens.numeric", "'a'"]),
    "an unknown section": (GOOD + "\n[reading]\n", ["$.reading", "unknown"]),
    "an unknown field": (domain("min_len = 1"), ["$.domain.min_len", "unknown"]),
    "an unknown token field": (changed("[domain]", "size = 5\n[domain]"), ["$.tokens.size"]),
    "no domain": ('version = 1\n[tokens]\nvocab = ["a"]\n', ["$.domain"]),
    "no length": (changed("max_length = 5", ""), ["$.domain.max_length"]),
    "a length in words": (length('"five"'), ["$.domain.max_length", "'five'"]),
    "a length that is true": (length("true"), ["$.domain.max_length", "True"]),
    "a length of 2.5": (length("2.5"), ["$.domain.max_length", "2.5"]),
    "a negative length": (length("-1"), ["$.domain.max_length", "-1"]),
    "a length of 10^9": (length("1_000_000_000"), ["$.domain.max_length", "1000000000"]),
    "a length of 10^30": (length("1" + "0" * 30), ["$.domain.max_length"]),
    "lengths the wrong way": (changed("min_length = 1", "min_length = 9"), ["$.domain.max_length", "9"]),
    "a negative least length": (changed("min_length = 1", "min_length = -1"), ["$.domain.min_length", "-1"]),
    "a foreign letter": (changed('alphabet = ["a", "b"]', 'alphabet = ["a", "z"]'), ["$.domain.alphabet[1]", "'z'"]),
    "a letter twice": (changed('alphabet = ["a", "b"]', 'alphabet = ["a", "a"]'), ["$.domain.alphabet", "twice"]),
    "a letter that is a number": (changed('alphabet = ["a", "b"]', "alphabet = [1]"), ["$.domain.alphabet[0]", "1"]),
    "no offsets": (domain("offsets = []"), ["$.domain.offsets", "empty"]),
    "a negative offset": (domain("offsets = [0, -2]"), ["$.domain.offsets[1]", "-2"]),
    "an offset twice": (domain("offsets = [1, 1]"), ["$.domain.offsets[1]", "1"]),
    "an offset in words": (domain('offsets = ["x"]'), ["$.domain.offsets[0]", "'x'"]),
    "a template that is a number": (changed('template = "<s> {x}"', "template = 3"), ["$.domain.template", "3"]),
    "a template without input": (template("<s>"), ["$.domain.template"]),
    "a template with a foreign token": (template("<q> {x}"), ["$.domain.template", "<q>"]),
    "a template with half a brace": (template("<s> {x"), ["$.domain.template"]),
    "a template that formats": (template("<s> {x.__class__}"), ["$.domain.template"]),
    "a slice backwards": (template("<s> {x[5:1]}"), ["$.domain.template"]),
    "an empty promise": (domain("where = ''"), ["$.domain.where", "empty"]),
    "a promise of 11000 letters": (domain(f"where = '{'a' * 11_000}'"), ["$.domain.where", "11000"]),
    "a promise cut short": (domain("where = 'count('"), ["where"]),
    "a promise that is a number": (domain("where = 'length'"), ["where", "boolean"]),
    "a promise that calls": (domain("""where = "__import__('os').mkdir('canary') == 1" """), ["where"]),
    "a promise of no input": (domain("where = 'length < 0'"), ["no input"]),
    "an expression cut short": (domain("matches = '(a'"), ["matches"]),
    "an expression of foreign letters": (domain("matches = 'z*'"), ["matches", "z"]),
    "an expression that explodes": (domain("matches = '" + "(a|b)" * 20 + "{9999}'"), ["matches"]),
    "two languages": (domain("matches = 'a'\nprefixes_of = 'b'"), ["$.domain.prefixes_of", "matches"]),
    "an automaton without states": (domain("automaton = { transitions = [] }"), ["$.domain.automaton.start"]),
    "an automaton of short rows": (
        domain("automaton = { transitions = [[0]] }"),
        ["$.domain.automaton.transitions[0]"],
    ),
    "an automaton that leaves": (
        domain("automaton = { transitions = [[0, 7]] }"),
        ["$.domain.automaton.transitions[0][1]", "7"],
    ),
    "an automaton of words": (
        domain('automaton = { transitions = [["a", 0]] }'),
        ["$.domain.automaton.transitions[0][0]", "'a'"],
    ),
    "self-allowed without labels": (domain("self_allowed = true"), ["$.domain.self_allowed"]),
    "an unknown place": (changed('at = "last"', 'at = "end"'), ["$.readout.at", "'end'", "generate"]),
    "an unknown kind": (changed('kind = "argmax"', 'kind = "softmax"'), ["$.readout.kind", "'softmax'"]),
    "a foreign choice": (changed('choices = ["a", "b"]', 'choices = ["a", "z"]'), ["$.readout.choices[1]", "'z'"]),
    "a choice twice": (changed('choices = ["a", "b"]', 'choices = ["a", "a"]'), ["$.readout.choices", "twice"]),
    "an output twice": (readout('outputs = ["x", "x"]'), ["$.readout.outputs", "twice"]),
    "a threshold that is none": (readout("threshold = nan"), ["$.readout.threshold", "nan"]),
    "a tolerance of zero": (readout("tolerance = 0.0"), ["$.readout.tolerance"]),
    "a foreign stop": (readout('stop = "<end>"'), ["$.readout.stop", "'<end>'"]),
    "a negative number of tokens": (readout("max_new = -3"), ["$.readout.max_new", "-3"]),
    "values that are generated": (
        changed('at = "last"\nkind = "argmax"', 'at = "generate"\nkind = "value"'),
        ["$.readout.at", "'generate'"],
    ),
    "no heads": (model("heads = 0"), ["$.model.heads", "0"]),
    "an infinite eps": (model("eps = inf"), ["$.model.eps", "inf"]),
    "an unknown activation": (model('activation = "tanh"'), ["$.model.activation", "'tanh'"]),
    "an unknown attention": (model('attention = "left"'), ["$.model.attention", "'left'"]),
    "heads in words": (model('heads = "two"'), ["$.model.heads", "'two'"]),
}  # fmt: skip


def test_there_are_enough() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_a_bad_spec(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text, expected = CASES[name]
    path = tmp_path / "spec.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    code = cli.main(["-q", "spec", "check", str(path)])
    out, err = capfd.readouterr()
    assert (code, out) == (4, ""), (out, err)
    assert err.count("\n") == 1 and err.startswith(f"extract: {path}") and "Traceback" not in err
    assert all(word in err.removeprefix(f"extract: {path}") or word == "spec.toml" for word in expected), err
    assert os.listdir(tmp_path / "work") == []


def test_the_good_one_is_good(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.toml").write_text(GOOD)
    assert cli.main(["-q", "spec", "check", str(tmp_path / "spec.toml")]) == 0
    assert capfd.readouterr().err == ""
