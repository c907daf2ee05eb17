"""What is claimed after the checker's doubts: less, or with larger errors, and an alarm only where it contradicts."""

from __future__ import annotations

from typing import Any

import pytest

from extract import stages_certificate
from extract.check.check import CheckResult
from extract.errors import SoundnessAlarm
from extract.lang.syntax import parse_program
from extract.outcome import BoxRegion, Certificate, Tally
from extract.progress import Silent

PROGRAM = parse_program("output = tokens", "value")


def claim() -> Certificate:
    boxes = tuple(BoxRegion(n, 0, Tally(8, 0, 0, 1.5), "[]", (), 0.25) for n in (3, 4))
    return Certificate(PROGRAM, "bounds", "f32-any-order", (), Tally(16, 0, 0, 1.5), 0.0, 0.25, (), 0, (), boxes=boxes)


def certified(monkeypatch: pytest.MonkeyPatch, *results: CheckResult) -> Certificate:
    left = list(results)

    def checked(subject: Any, certificate: Certificate, *_: Any) -> tuple[bytes, CheckResult]:
        return b"", left.pop(0)

    monkeypatch.setattr(stages_certificate, "_checked", checked)
    subject: Any = None
    found = stages_certificate.certify(subject, claim(), (), Silent()).claim
    assert not left
    return found


UNPROVED = CheckResult(False, ("3",), "", unproved=((3, 0, None),))
LOOSER = CheckResult(False, ("4",), "", n_doubts=1, errors=((4, 0, 0.5),))
BOTH = CheckResult(False, ("3", "4"), "", unproved=((3, 0, None),), n_doubts=1, errors=((4, 0, 0.5),))
ACCEPTED = CheckResult(True, (), "")


def test_what_is_not_confirmed_is_left_out_and_looser_errors_are_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert certified(monkeypatch, ACCEPTED) == claim()
    left_out = certified(monkeypatch, UNPROVED, ACCEPTED)
    assert [box.length for box in left_out.boxes] == [4] and left_out.tally == Tally(8, 0, 8, 1.5)
    looser = certified(monkeypatch, LOOSER, ACCEPTED)
    assert [box.error_bound for box in looser.boxes] == [0.25, 0.5] and looser.least_margin_bound == 0.5
    both = certified(monkeypatch, BOTH, LOOSER, ACCEPTED)
    assert [(box.length, box.error_bound) for box in both.boxes] == [(4, 0.5)] and both.tally.undecided == 8


def test_any_other_reason_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in (CheckResult(False, ("wrong",), ""), CheckResult(False, ("3", "wrong"), "", unproved=((3, 0, None),))):
        with pytest.raises(SoundnessAlarm):
            certified(monkeypatch, found)
