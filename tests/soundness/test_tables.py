"""Tables: nothing wrong is proved, nothing missing is passed over, and edited certificates are rejected."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract import VerifyRequest, verify_program
from extract.certificate_file import seal
from extract.check.check import check_certificate
from extract.check.reader import Unreadable
from extract.errors import ExtractError
from extract.oracle import LookupOracle
from extract.progress import Silent
from extract.readout import Inputs, same_answers
from extract.report.report import Report
from extract.stages_load import load_subject
from extract.stages_model import answers_of, oracle_of
from tests.tables import Row, padded, strings, write_table

REVERSE = "output = first(select(indices, length - 1 - indices, '=='), tokens)"


def backwards(row: Row) -> Row:
    return row[::-1]


def verified(folder: Path, program: str, certificate: Path | None = None) -> Report:
    return verify_program(VerifyRequest(checkpoint=folder, program=program, certificate=certificate))


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A table of reversals with one answer wrong, and the certificate about it."""
    folder = tmp_path_factory.mktemp("reversals")
    write_table(folder, lambda row: (1,) * 4 if row == (0, 1, 0, 2) else row[::-1])
    report = verified(folder, REVERSE, folder / "t.cert.json")
    assert (report.status, report.verdict and report.verdict.disagree) == ("refuted", 1)
    return folder, json.loads((folder / "t.cert.json").read_text())


def test_a_table_is_decided_exactly(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "t", backwards)
    report = verified(folder, REVERSE, tmp_path / "t.cert.json")
    assert report.status == "proved"
    assert report.model is not None and report.verdict is not None and report.numerics is not None
    assert (report.model.format, report.model.params, report.model.arch["n_rows"]) == ("table", 0, 120)
    assert report.verdict.claim.startswith("program and model (exact) agree on all of the 120 strings")
    assert (report.numerics.semantics, report.numerics.min_margin, report.numerics.error_bound) == ("exact", None, 0.0)
    assert check_certificate(tmp_path / "t.cert.json", folder, full=True).accepted


@settings(max_examples=20)
@given(st.integers(0, 119), st.data())
def test_one_wrong_row_is_never_proved(proved: tuple[Path, dict[str, Any]], index: int, data: st.DataObject) -> None:
    row = strings(3, 1, 4)[index]
    cell = data.draw(st.integers(0, len(row) - 1))
    wrong = list(row[::-1])
    wrong[cell] = (wrong[cell] + 1) % 3
    folder = write_table(proved[0] / "one wrong", lambda r: wrong if r == row else r[::-1])
    report = verified(folder, REVERSE)
    assert report.status == "refuted"
    assert report.counterexamples[0].tokens == tuple(map(str, row))
    assert report.counterexamples[0].replayed


READOUTS: list[tuple[str, Callable[[Row], Row], str]] = [
    ('at = "last"', lambda row: row[-1:], "output = last(everywhere, tokens)"),
    ('at = "first"', lambda row: row[:1], "output = first(everywhere, tokens)"),
    ('at = "generate"\nmax_new = 9', lambda row: row[::-1],
     "output = first(select(indices, length - 1 - step, '=='), tokens)\noutput_length = length"),
    ('at = "generate"', lambda row: row[1:],
     "output = first(select(indices, 1 + step, '=='), tokens)\noutput_length = length - 1"),
    ('at = "last"\nkind = "multilabel"\nchoices = ["0", "2"]', lambda row: (int(0 in row), int(2 in row)),
     "output['0'] = any(tokens == 0)\noutput['2'] = any(tokens == 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("readout", "answer", "program"), READOUTS, ids=[r.split("\n")[0] for r, _, _ in READOUTS])
def test_every_read_out_is_read_and_checked(
    tmp_path: Path, readout: str, answer: Callable[[Row], Row], program: str
) -> None:
    folder = write_table(tmp_path / "t", answer, readout=readout)
    assert verified(folder, program, tmp_path / "t.cert.json").status == "proved"
    assert check_certificate(tmp_path / "t.cert.json", folder, full=True).accepted
    subject = load_subject(folder, None)
    oracle = oracle_of(subject.checkpoint, subject.domain)
    assert isinstance(oracle, LookupOracle)
    table = answers_of(
        subject.checkpoint, subject.domain, semantics="real", work_limit=1, memory_bytes=1 << 30, progress=Silent(),
        shards=None, stop=lambda: False,
    )  # fmt: skip
    assert (table.semantics, table.n_fragile, table.n_evaluated) == ("exact", 0, 120)
    for length in subject.domain.lengths:
        tokens = subject.domain.tokens(length, 0, subject.domain.size_at(length))
        inputs = Inputs.of([(tuple(int(t) for t in row), 0) for row in tokens])
        asked = oracle.answer(inputs)
        assert np.isinf(asked.margins).all()
        assert same_answers(asked.values, table.values(0, length, 0, len(tokens))).all()


def test_an_input_without_a_row_has_no_answer(proved: tuple[Path, dict[str, Any]]) -> None:
    subject = load_subject(proved[0], None)
    oracle = oracle_of(subject.checkpoint, subject.domain)
    answers = oracle.answer(Inputs.of([((0, 1), 0), ((0,) * 6, 0), ((), 0)]))
    assert answers.margins.tolist() == [np.inf, 0, 0]
    assert answers.values[1].max() == answers.values[2].max() < -(1 << 30)


def rewritten(folder: Path, spec: str = "", with_: str = "", **arrays: Any) -> Path:
    """Change a table or its spec in place."""
    with np.load(folder / "table.npz") as stored:
        np.savez(folder / "table.npz", **{**stored, **arrays})
    text = (folder / "spec.toml").read_text()
    assert spec in text
    (folder / "spec.toml").write_text(text.replace(spec, with_) if spec else text)
    return folder


ROWS = strings(3, 1, 4)
UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("a missing input", {"inputs": padded(ROWS[:70] + ROWS[71:]), "outputs": padded(r[::-1] for r in ROWS[:119])},
     "has no row for input '1 0 1 1', and lacks 1 of the 81 inputs of length 4"),
    ("a longer domain", {"spec": "max_length = 4", "with_": "max_length = 30"},
     "no row for input '0 0 0 0 0', and lacks 243 of the 243 inputs of length 5"),
    ("an unknown token", {"spec": 'vocab = ["0", "1", "2"]', "with_": 'vocab = ["0", "1"]'},
     r"inputs\[2, 0\] is 2, expected an id of the 2 names"),
    ("an unknown output", {"outputs": padded((7,) * len(r) for r in ROWS)}, r"outputs\[0, 0\] is 7, expected an id"),
    ("an answer that is no choice", {"spec": 'at = "every"', "with_": 'at = "every"\nchoices = ["0", "1"]'},
     r"outputs\[2, 0\] is '2', which is no choice"),
    ("too many cells", {"outputs": padded((*r, 0) for r in ROWS)}, r"outputs\[0\] has 2 cells, expected 1"),
    ("another read-out", {"spec": 'at = "every"', "with_": 'at = "last"'}, r"outputs\[3\] has 2 cells, expected 1"),
    ("offsets", {"spec": 'template = "{x}"', "with_": 'template = "{x}"\noffsets = [0, 3]'}, "knows no positions"),
    ("real values", {"spec": 'at = "every"', "with_": 'at = "every"\nkind = "value"'}, "outputs are ids"),
    ("labels of 2", {"spec": 'at = "every"', "with_": 'at = "last"\nkind = "multilabel"'}, "0 and 1 of a label"),
    ("too long", {"spec": 'at = "every"', "with_": 'at = "generate"\nmax_new = 3'}, "expected at most max_new = 3"),
    ("a stop token", {"spec": 'at = "every"', "with_": 'at = "generate"\nstop = "1"'}, "no choice"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), UNFIT, ids=[name for name, _, _ in UNFIT])
def test_a_table_that_does_not_fit_its_spec_is_refused(
    tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    folder = rewritten(write_table(tmp_path, backwards), **change)
    with pytest.raises(ExtractError, match=message) as caught:
        load_subject(folder, None)
    assert caught.value.exit_code == 4
    assert "spec.toml" in caught.value.line()


def test_rows_outside_the_domain_are_said_and_not_claimed(tmp_path: Path) -> None:
    folder = rewritten(write_table(tmp_path, backwards), "max_length = 4", "max_length = 3")
    report = verified(folder, REVERSE)
    assert (report.status, report.verdict and report.verdict.inputs_total) == ("proved", 39)
    assert report.warnings == ("81 inputs of the table are outside the domain and in no claim",)


def test_a_promise_may_leave_rows_out(tmp_path: Path) -> None:
    folder = write_table(tmp_path, backwards)
    kept = [row for row in ROWS if sum(row) != 3]
    rewritten(folder, "[readout]", 'where = "sum_over(everywhere, tokens) != 3"\n[readout]',
              inputs=padded(kept), outputs=padded(r[::-1] for r in kept))  # fmt: skip
    report = verified(folder, REVERSE, tmp_path / "t.cert.json")
    assert (report.status, report.verdict and report.verdict.inputs_total) == ("proved", len(kept))
    assert check_certificate(tmp_path / "t.cert.json", folder).accepted


def _edit_region(value: dict[str, Any], **changes: Any) -> None:
    value["regions"][-1] |= changes


EDITS: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("another digest", lambda v: _edit_region(v, digest="0" * 64)),
    ("proved outright", lambda v: v["claim"].update(status="proved")),
    ("an exception hidden", lambda v: (v["claim"].update(agree="120", disagree="0", status="proved"),
                                       v.update(exceptions=[]), _edit_region(v, agree=81, disagree=0))[0]),
    ("an exception moved", lambda v: v["exceptions"][0].update(tokens=["0", "1", "0", "1"])),
    ("another answer", lambda v: v["exceptions"][0].update(model=["0", "0", "0", "0"])),
    ("a margin", lambda v: _edit_region(v, min_margin=1.0)),
    ("other numbers", lambda v: v["claim"].update(semantics="real")),
    ("no such semantics", lambda v: v["claim"].update(semantics="f32-ref")),
    ("another kind of model", lambda v: v["checkpoint"].update(facts={"format": "gpt2"})),
    ("another file", lambda v: v["checkpoint"].update(sha256="0" * 64)),
    ("a shorter domain", lambda v: v["spec"].update(max_length=3)),
    ("an offset", lambda v: v["spec"].update(offsets=[1])),
    ("another program", lambda v: v.update(program="output = tokens")),
    ("a bound", lambda v: v["numerics"].update(error_bound=-1.0)),
    ("undecided", lambda v: (v["claim"].update(agree="118", undecided="1"), v["numerics"].update(n_fragile=1),
                             _edit_region(v, agree=79, undecided=1))[0]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "edit"), EDITS, ids=[name for name, _ in EDITS])
def test_an_edited_certificate_is_not_accepted(
    proved: tuple[Path, dict[str, Any]], name: str, edit: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    folder, value = proved
    edited = json.loads(json.dumps(value))
    edit(edited)
    (tmp_path / "e.cert.json").write_bytes(seal(edited))
    with contextlib.suppress(Unreadable):
        assert not check_certificate(tmp_path / "e.cert.json", folder).accepted
    (tmp_path / "e.cert.json").write_bytes(seal(value))
    assert check_certificate(tmp_path / "e.cert.json", folder).accepted


def test_a_row_changed_later_is_another_model(proved: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, value = proved
    folder = write_table(tmp_path, backwards)
    (tmp_path / "e.cert.json").write_bytes(seal(value))
    found = check_certificate(tmp_path / "e.cert.json", folder)
    assert not found.accepted
    assert found.reasons[0].startswith("checkpoint: sha256 is")
