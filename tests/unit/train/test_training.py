"""Training: the same seed gives the same bytes, counts are honest, and nothing is written unless it finishes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from extract.errors import OutputError, UsageError
from extract.progress import Silent
from extract.train.data import examples
from extract.train.tasks import TASKS
from extract.train.training import least_margins, train_task
from extract.train.transformer import SmallGPT2


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_five_steps_are_reproducible_byte_for_byte(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = train_task("parity", tmp_path / "a", seed=7, progress=Silent(), n_steps=5)
    torch.manual_seed(2)
    np.random.default_rng().random()
    second = train_task("parity", tmp_path / "b", seed=7, progress=Silent(), n_steps=5)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")
    assert (first.exact_inputs, first.least_margin) == (second.exact_inputs, second.least_margin)
    train_task("parity", tmp_path / "c", seed=8, progress=Silent(), n_steps=5)
    assert folder_bytes(tmp_path / "a")["model.safetensors"] != folder_bytes(tmp_path / "c")["model.safetensors"]


def test_an_unfinished_network_is_counted_as_it_is(tmp_path: Path) -> None:
    trained = train_task("parity", tmp_path / "out", progress=Silent(), n_steps=5)
    assert trained.path == tmp_path / "out"
    assert (trained.total_inputs, trained.steps) == (510, 5)
    assert 0 < trained.exact_inputs < 510
    assert trained.least_margin < 0


def test_modular_addition_becomes_exact(tmp_path: Path) -> None:
    trained = train_task("modular_addition", tmp_path / "out", progress=Silent())
    assert trained.exact_inputs == trained.total_inputs == 17 * 17
    assert trained.least_margin >= TASKS["modular_addition"].recipe.target_margin


def test_margins_are_those_of_each_input_alone() -> None:
    record = TASKS["reverse"]
    data = examples(record)
    network = SmallGPT2(record.shape, len(record.vocab), record.n_positions, seed=0)
    margins = least_margins(network, data)
    assert margins.shape == (len(data),)
    for row in (0, 50, len(data) - 1):
        length = int(data.lengths[row])
        fed = torch.from_numpy(data.tokens[row : row + 1, : 2 * length + 2])
        with torch.no_grad():
            logits = network(fed)[0].numpy().astype(np.float64)
        expected = min(logits[p, t] - np.delete(logits[p], t).max() for p, t in enumerate(data.targets[row]) if t >= 0)
        assert margins[row] == pytest.approx(expected, abs=1e-5)


class Interrupting:
    """An observer at which the user presses Ctrl-C."""

    def phase(self, name: str) -> None:
        self.name = name

    def advance(self, done: int, total: int | None, unit: str) -> None:
        if done == 2:
            raise KeyboardInterrupt


def test_an_interrupt_writes_nothing_and_restores_torch(tmp_path: Path) -> None:
    n_threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        train_task("modular_addition", tmp_path / "out", progress=Interrupting())
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == n_threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_bad_requests_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        train_task("parity", tmp_path, progress=Interrupting())
    for seed in (-1, 2**63):
        with pytest.raises(UsageError, match=f"the seed is {seed}, expected"):
            train_task("parity", tmp_path / "out", seed=seed, progress=Interrupting())
    with pytest.raises(UsageError, match="no task is named 'sorting'"):
        train_task("sorting", tmp_path / "out", progress=Interrupting())
    with pytest.raises(UsageError, match="training for 0 steps"):
        train_task("parity", tmp_path / "out", progress=Interrupting(), n_steps=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
