"""Real checkpoints through real workers: the same bytes each way, and wrong proofs caught by the spot check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extract import pipeline
from extract.batch.jobs import run_row
from extract.batch.ledger import RESULT, without_run
from extract.batch.spot_check import spot_check
from extract.batch.suite import Budget, load_suite
from extract.lang.interpret import answer
from extract.pipeline import RunRequest, run
from extract.report.report import Exceptions, InputPart, Report
from extract.stages_load import load_subject, read_program
from extract.train.data import inputs
from extract.train.tasks import task
from extract.vocabulary import SYMBOL_BASE
from tests.cli.command import extract, small_task
from tests.unit.batch.suites import fake_bench

OPTIONS = ("--time", "20s", "--memory", "512MiB")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "suite"
    small_task(folder / "tiny" / "one", seed=3, max_length=3)
    small_task(folder / "tiny" / "two", seed=4, max_length=2)
    broken = small_task(folder / "tiny" / "broken", max_length=2)
    (broken / "model.safetensors").write_bytes(b"no weights")
    return folder


def test_a_suite_of_checkpoints_is_done_and_does_not_depend_on_the_workers(suite: Path, tmp_path: Path) -> None:
    one = extract("bench", suite, "-o", tmp_path / "one", *OPTIONS, cwd=tmp_path)
    two = extract("bench", suite, "-o", tmp_path / "two", *OPTIONS, "--jobs", "2", cwd=tmp_path)
    assert (one.code, two.code) == (1, 1), one.err  # one row cannot be read
    first, second = ((tmp_path / name / RESULT).read_bytes() for name in ("one", "two"))
    assert without_run(first) == without_run(second)
    rows = {row["name"]: row for row in map(json.loads, first.splitlines()[1:-1])}
    assert rows["tiny/broken"]["result"]["error"]["code"] == "checkpoint"
    for name in ("tiny/one", "tiny/two"):
        assert rows[name]["result"]["status"] == "proved", rows[name]["result"]
        assert rows[name]["spot"] == {"tried": rows[name]["spot"]["tried"], "wrong": 0, "first": None}
        assert rows[name]["spot"]["tried"] >= 6
        certificate = tmp_path / "one" / "certificates" / f"{name.replace('/', '__')}.cert.json"
        assert extract("check", certificate, suite / name, cwd=tmp_path).code == 0
    page = extract("report", tmp_path / "one", cwd=tmp_path)
    assert page.code == 0, page.err
    assert "tiny/broken" in (tmp_path / "one" / "report.html").read_text()


@pytest.fixture(scope="module")
def proved(suite: Path) -> Report:
    report = run(RunRequest(checkpoint=suite / "tiny" / "one", seconds=20, memory_bytes=512 << 20))
    assert report.status == "proved"
    return report


def claiming(report: Report, text: str, status: str = "proved", exceptions: Exceptions | None = None) -> Report:
    """The report of a proof that nobody made."""
    program = msgspec.structs.replace(report.programs[0], text=text, status=status, exceptions=exceptions)
    return msgspec.structs.replace(report, status=status, programs=(program,))


def test_the_spot_check_passes_a_proof_and_refutes_a_false_one(proved: Report, suite: Path) -> None:
    place = suite / "tiny" / "one"
    honest = spot_check(proved, place, None)
    assert honest is not None
    assert honest.wrong == 0
    answers = {text: spot_check(claiming(proved, f"output = '{text}'"), place, None) for text in ("a", "b")}
    found = [check.wrong for check in answers.values() if check is not None]
    assert sum(found) == honest.tried  # each input is answered by one of the two constants
    assert max(found) > 0


def test_the_spot_check_holds_exceptions_against_the_model(proved: Report, suite: Path) -> None:
    place, text = suite / "tiny" / "one", proved.programs[0].text
    invented = Exceptions(1, (InputPart(("a",), 0),), None)
    check = spot_check(claiming(proved, text, "proved_except", invented), place, None)
    assert check is not None
    assert (check.wrong, check.first) == (1, "'a'")


def test_only_claims_of_proof_are_checked(proved: Report, suite: Path) -> None:
    assert spot_check(claiming(proved, "output = 'a'", "refuted"), suite / "tiny" / "one", None) is None


def lie(message: dict[str, Any]) -> dict[str, Any]:
    """Do a row, but claim that a constant was proved."""
    honest = pipeline.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "run", lambda request: claiming(honest(request), "output = 'a'"))
        return run_row(message)


def test_a_planted_wrong_proof_fails_the_batch(suite: Path, tmp_path: Path) -> None:
    job = {"FAKE_JOB": "tests.unit.batch.test_real_rows:lie"}
    code, out, err = fake_bench(suite, "-o", tmp_path / "out", *OPTIONS, "--filter", "tiny/one", cwd=tmp_path, **job)
    assert code == 5, err
    assert "WRONG on" in out
    assert "believe nothing of this batch" in out
    (row,) = map(json.loads, (tmp_path / "out" / RESULT).read_text().splitlines()[1:-1])
    assert (row["result"]["status"], row["points"]) == ("proved", -150)
    assert row["spot"]["wrong"] > 0
    assert row["spot"]["first"]


def n_right_by_program(report: Mapping[str, Any], checkpoint: Path, task_name: str) -> int:
    """On how many inputs of its domain a program answers as a task asks."""
    domain = load_subject(checkpoint, None).domain
    program = read_program(report["programs"][0]["text"], domain.readout.at, domain.readout.kind)
    record, vocabulary = task(task_name), domain.vocabulary
    n_right = 0
    for tokens in inputs(record):
        codes = tuple(int(vocabulary.token_codes[vocabulary.names.index(name)]) for name in tokens)
        said = answer(program, codes, domain, domain.readout)
        told = tuple(vocabulary.name(code) if code >= SYMBOL_BASE else str(code) for code in said)
        n_right += told == record.answer(tokens)
    return n_right


@pytest.mark.slow
def test_networks_that_went_wrong_come_out_as_what_they_do(tmp_path: Path) -> None:
    """Some learnt a shortcut, some were stopped early: every failure of a network is one of its program's."""
    shipped = Path(__file__).parents[3] / "benchmarks" / "suite" / "suite.toml"
    options = ("--filter", "wrong/*", "--time", "20s")
    done = extract("bench", shipped, "-o", tmp_path / "out", *options, cwd=tmp_path, timeout=1800)
    assert done.code == 0, done.out + done.err
    rows = list(map(json.loads, (tmp_path / "out" / RESULT).read_text().splitlines()[1:-1]))
    notes = json.loads((tmp_path / "out" / "manifest.json").read_text())
    plans = {row.name: row.plan for row in load_suite(shipped, Budget()).rows}
    for row in rows:
        note, report, plan = notes[row["name"]], row["result"], plans[row["name"]]
        assert report["status"] in row["expected"]
        assert row["spot"]["wrong"] == 0
        assert note["right"] < note["inputs"], "it is not wrong at all"
        n_right = n_right_by_program(report, tmp_path / "out" / "cache" / plan.folder_name, plan.task)
        n_exceptions = (report["programs"][0]["exceptions"] or {"count": 0})["count"]
        assert abs(n_right - note["right"]) <= n_exceptions, row["name"]
    by_name = {row["name"]: row["result"]["programs"][0]["text"] for row in rows}
    for name, share in (("parity", 0.7), ("commonest", 0.8)):
        note = notes[f"wrong/{name}_shortcut"]
        assert note["right"] < share * note["inputs"], "it did not learn the shortcut"
    assert "first" in by_name["wrong/parity_shortcut"]
