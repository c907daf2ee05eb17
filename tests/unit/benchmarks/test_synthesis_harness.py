"""The harness reports what happened: found, wrong, crashed, killed; and fails where it must."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from benchmarks.synthesis import __main__ as command
from benchmarks.synthesis.measuring import Limits, Measurement, _listen, measured
from benchmarks.synthesis.suite import by_name
from benchmarks.synthesis.table import line, summary
from benchmarks.synthesis.verifier import AnsweredDomain, ExhaustiveVerifier
from extract.lang.syntax import parse_program
from extract.outcome import Certified, Refuted
from extract.readout import Inputs


def test_a_search_in_a_child_process_is_measured() -> None:
    found = measured("first_token", Limits(seconds=30.0))
    assert found.status == "found" and found.n_wrong == 0 and found.is_small
    assert found.n_inputs == sum(4**n for n in range(1, 7))
    assert found.cost == found.known_cost == 3
    assert found.wall is not None and found.total is not None and 0 < found.wall <= found.total
    assert found.n_candidates > 0 and found.peak_mb > 10


def test_a_search_without_candidates_finds_nothing_and_does_not_fail() -> None:
    found = measured("rasp_double_histogram", Limits(seconds=10.0, candidates=1))
    assert found.status == "none" and found.wall is None and found.n_wrong != 0


def test_a_child_that_ends_is_a_crash() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    theirs.send({"n_inputs": 3})
    theirs.close()
    result = Measurement("t", "f", 3)
    _listen(ours, result, Limits())
    assert (result.status, result.n_inputs) == ("crashed", 3)


def test_a_child_that_says_nothing_is_killed() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    theirs.send({"n_inputs": 3})
    result = Measurement("t", "f", 3)
    _listen(ours, result, Limits(seconds=0.01))
    assert result.status == "killed" and "searching" in result.note
    theirs.close()


def test_the_verifier_refutes_and_certifies() -> None:
    answered = AnsweredDomain(by_name("max_of_2"))
    verifier = ExhaustiveVerifier(answered)
    right = parse_program("output = max_over(everywhere, tokens)", "value")
    wrong = parse_program("output = first(everywhere, tokens)", "value")
    differences = verifier.differences(wrong, 5)
    assert len(differences.rows) == 5
    assert differences.n_total == 41 * 40 // 2, "the first is not the greatest: half of all unequal pairs"
    assert isinstance(verifier.verdict(right), Certified) and isinstance(verifier.verdict(wrong), Refuted)
    assert [moment.cost for moment in verifier.moments] == [3]
    row, word = verifier.distinguish(right, wrong)
    assert row in differences.rows and word == "different"
    assert verifier.distinguish(right, right) == (None, "equal")


@pytest.mark.parametrize("name", ["majority", "brackets_2", "copy", "rasp_reverse"])
def test_the_oracle_answers_outside_the_domain_too(name: str) -> None:
    answered = AnsweredDomain(by_name(name))
    longer = tuple(answered.domain.alphabet[:1]) * (answered.domain.max_length + 1)
    asked = Inputs.of([(longer, 0), answered.inputs.row(0)])
    assert len(answered.oracle.answer(asked)) == 2


def _measurement(status: str, cost: int, n_wrong: int) -> Measurement:
    return Measurement(
        "task", "family", 10, status=status, cost=cost, n_wrong=n_wrong,
        wall=0.5, cpu=0.4, small_wall=0.5, small_cpu=0.4,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "n_wrong", "code"), [("found", 0, 0), ("none", 2, 0), ("wrong", 1, 1), ("killed", 0, 1)]
)
def test_a_wrong_or_lost_program_fails_the_benchmark(
    status: str, n_wrong: int, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "measured", lambda name, limits: _measurement(status, 10, n_wrong))
    assert command.main(["--filter", "first_token", "--json", str(tmp_path / "x.json")]) == code
    assert (tmp_path / "x.json").exists()


def test_a_dear_program_is_marked_and_not_counted_as_small() -> None:
    dear, small = _measurement("found", 14, 0), _measurement("found", 13, 0)
    assert "TOO DEAR" in line(dear) and "TOO DEAR" not in line(small)
    assert not dear.is_small and small.is_small
    assert "wrong on the bounded domain 0" in summary([dear, small])
