"""Real checkpoints through real workers: the same bytes each way, and wrong proofs caught by the spot check."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from extract.batch.ledger import RESULT, without_run
from extract.batch.spot_check import spot_check
from extract.pipeline import RunRequest, run
from extract.report.report import Exceptions, InputPart, Report
from tests.cli.command import extract, small_task

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


@pytest.mark.slow
def test_networks_that_went_wrong_come_out_as_what_they_do(tmp_path: Path) -> None:
    """One learnt a shortcut, one was stopped early: what comes out is what the network does."""
    shipped = Path(__file__).parents[3] / "benchmarks" / "suite" / "suite.toml"
    done = extract("bench", shipped, "-o", tmp_path / "out", "--filter", "wrong/*", cwd=tmp_path)
    assert done.code == 0, done.out + done.err
    lines = map(json.loads, (tmp_path / "out" / RESULT).read_text().splitlines()[1:-1])
    rows = {row["name"]: row for row in lines}
    notes = json.loads((tmp_path / "out" / "manifest.json").read_text())
    shortcut, stopped = rows["wrong/parity_shortcut"], rows["wrong/tomita2_undertrained"]
    note = notes["wrong/parity_shortcut"]
    assert shortcut["result"]["status"] == "proved"
    assert note["right"] < 0.7 * note["inputs"]  # it is no parity
    assert "first" in shortcut["result"]["programs"][0]["text"]
    note = notes["wrong/tomita2_undertrained"]
    assert note["inputs"] - note["right"] > 0
    assert stopped["result"]["status"] in ("proved", "proved_except")
    assert stopped["spot"]["wrong"] == shortcut["spot"]["wrong"] == 0
    assert stopped["spot"]["tried"] == note["inputs"]  # so the one input it errs on was among them
