"""Suites: what a row's digest covers, what folders and files become, and the suite that is shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from extract.batch.suite import Budget, load_suite, select
from extract.train.tasks import TASKS
from tests.unit.batch.suites import fake_suite

SHIPPED = Path(__file__).parents[3] / "benchmarks" / "suite" / "suite.toml"
BUDGET = Budget()


def test_the_shipped_suite_has_a_row_for_every_task() -> None:
    suite = load_suite(SHIPPED, BUDGET)
    plans = [row.plan for row in suite.rows if row.plan is not None]
    assert {plan.task for plan in plans} == set(TASKS)
    assert len({row.digest for row in suite.rows}) == len(suite.rows)
    assert [row.name for row in suite.rows if row.plan is None] == []
    assert {row.budget.seconds for row in suite.rows} == {60}


def test_seconds_asked_for_go_before_the_suites(tmp_path: Path) -> None:
    assert {row.budget.seconds for row in load_suite(SHIPPED, BUDGET, 5.0).rows} == {5.0}
    assert {row.budget.seconds for row in load_suite(fake_suite(tmp_path, {}), BUDGET, 5.0).rows} == {5.0}
    assert {row.budget.seconds for row in load_suite(fake_suite(tmp_path, {}), BUDGET).rows} == {600.0}


def test_a_digest_covers_files_and_budget_and_not_the_place(tmp_path: Path) -> None:
    here, there = fake_suite(tmp_path / "a", {}, {}), fake_suite(tmp_path / "b", {}, {})
    first = load_suite(here, BUDGET).digest
    assert load_suite(there, BUDGET).digest == first
    assert load_suite(there, replace(BUDGET, max_cost=9)).digest != first
    assert load_suite(there, BUDGET, 5.0).digest != first
    (there / "odd" / "row01" / "spec.toml").write_text("other = 1")
    assert load_suite(there, BUDGET).digest != first


def test_folders_become_rows_in_order_and_odd_names_are_made_plain(tmp_path: Path) -> None:
    for name in ("b/two", "b/one", "a", ".hidden/x", "c d/é", "c_d/x_"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "spec.toml").write_text("")
    assert [row.name for row in load_suite(tmp_path, BUDGET).rows] == ["a", "b/one", "b/two", "c_d/x_", "c_d/x_+"]


def test_a_checkpoint_alone_is_a_suite_of_one(tmp_path: Path) -> None:
    folder = tmp_path / "only"
    folder.mkdir()
    (folder / "spec.toml").write_text("")
    assert [row.name for row in load_suite(folder, BUDGET).rows] == ["only"]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 200])
def test_shards_are_a_partition(n: int) -> None:
    suite = load_suite(SHIPPED, BUDGET)
    parts = [select(suite, None, (i, n)) for i in range(1, n + 1)]
    assert sorted(row.name for part in parts for row in part) == sorted(row.name for row in suite.rows)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
