"""A guard counts the seconds that pass, not those in which others have the processor."""

from __future__ import annotations

import pytest

from extract import clock
from extract.clock import Guard


class Times:
    """A wall clock and a run queue that the test moves by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.waited = 0.0
        monkeypatch.setattr(clock.time, "monotonic", lambda: self.wall)
        monkeypatch.setattr(Guard, "_waiting", lambda _: self.waited)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def test_a_guard_ends_after_its_seconds_on_an_idle_machine(times: Times) -> None:
    times.wall = 1000.0
    guard = Guard(10.0)
    times.wall += 10.0
    assert not guard.is_over()
    times.wall += 0.1
    assert guard.is_over()


def test_seconds_spent_waiting_for_a_processor_do_not_count(times: Times) -> None:
    times.waited = 500.0
    guard = Guard(10.0)
    times.wall, times.waited = 25.0, 516.0
    assert not guard.is_over()
    times.wall = 26.5
    assert guard.is_over()


def test_four_times_the_seconds_are_the_end_however_busy_the_machine(times: Times) -> None:
    guard = Guard(10.0)
    times.wall, times.waited = 40.5, 40.0
    assert guard.is_over()


def test_no_seconds_are_over_at_once_and_none_given_never(times: Times) -> None:
    none, endless = Guard(0.0), Guard(None)
    times.wall = 1e9
    assert none.is_over()
    assert not endless.is_over()


def test_what_the_system_says_of_waiting_is_read_as_seconds() -> None:
    assert 0.0 <= Guard(1.0)._waiting() < 3600.0
    guard = Guard(1.0)
    guard._schedule = guard._schedule.with_name("nothing here")
    assert guard._waiting() == 0.0
