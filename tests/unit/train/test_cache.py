"""Trained checkpoints are used again while their bytes are right, and made again when they are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from extract.errors import OutputError, UsageError
from extract.progress import Silent
from extract.train import cache, training
from extract.train.cache import NOTE, find, make, plan_for
from extract.train.tasks import TASKS

PLAN = plan_for("max_of_3", steps=2)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that were really trained."""
    made: list[str] = []
    real = training.train_task

    def noted(name: str, *arguments: object, **options: object) -> object:
        made.append(name)
        return real(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "train_task", noted)
    return made


def test_a_checkpoint_is_made_once(tmp_path: Path, trainings: list[str]) -> None:
    first = make(PLAN, tmp_path, Silent())
    assert make(PLAN, tmp_path, Silent()) == first == find(PLAN, tmp_path)
    assert trainings == ["max_of_3"]
    assert (first["steps"], first["inputs"]) == (2, 12**3)
    assert 0 <= first["right"] < 12**3


@pytest.mark.parametrize("file", ["model.safetensors", "spec.toml", NOTE])
def test_a_damaged_checkpoint_is_made_again(file: str, tmp_path: Path, trainings: list[str]) -> None:
    note = make(PLAN, tmp_path, Silent())
    damaged = tmp_path / PLAN.folder_name / file
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert find(PLAN, tmp_path) is None
    assert make(PLAN, tmp_path, Silent()) == note
    assert trainings == ["max_of_3"] * 2


def test_a_training_that_was_cut_off_is_no_checkpoint(tmp_path: Path) -> None:
    make(PLAN, tmp_path, Silent())
    (tmp_path / PLAN.folder_name / NOTE).unlink()
    assert find(PLAN, tmp_path) is None


def test_every_part_of_a_plan_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    record = TASKS["max_of_3"]
    others = [plan_for("max_of_3", seed=1, steps=2), plan_for("max_of_3", steps=3), plan_for("max_of_3")]
    changes = [
        replace(record, max_length=4), replace(record, shape=replace(record.shape, d_model=16)),
        replace(record, recipe=replace(record.recipe, rate=1e-3)), replace(record, answer=lambda tokens: tokens[:1]),
    ]  # fmt: skip
    for changed in changes:
        monkeypatch.setattr(cache, "task", lambda name, changed=changed: changed)
        others.append(plan_for("max_of_3", steps=2))
    assert len({plan.digest for plan in [PLAN, *others]}) == len(others) + 1


def test_bad_plans_and_places_are_refused(tmp_path: Path) -> None:
    for arguments in (("nothing", 0, None), ("max", -1, None), ("max", 0, 0)):
        with pytest.raises(UsageError):
            plan_for(*arguments)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot hold checkpoints"):
        make(PLAN, tmp_path / "file", Silent())


def test_the_note_is_what_was_measured(tmp_path: Path) -> None:
    note = make(PLAN, tmp_path, Silent())
    assert json.loads((tmp_path / PLAN.folder_name / NOTE).read_text()) == note
    assert note["least_margin"] < 0
