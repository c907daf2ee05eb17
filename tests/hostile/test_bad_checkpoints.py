"""Every bad checkpoint: exit 4, one line with a hint, nothing written, nothing run; quick and small in a process alone.

The tables make each file themselves. Most cases run in this process through the command's entry point; one test looks
at all of them again in a fresh process, for time and memory, and a few go through the installed command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cli
from extract.check.reader import Unreadable, read_tensors
from tests.cli.command import ROOT, environment, extract, small_task
from tests.hostile import bad_networks, bad_safetensors, bad_torch_files

TABLES = {"torch": bad_torch_files.CASES, "safetensors": bad_safetensors.CASES, "network": bad_networks.CASES}
CASES = {f"{table}: {name}": case for table, cases in TABLES.items() for name, case in cases.items()}
LARGEST_SECONDS, LARGEST_BYTES = 2.0, 500 << 20


def test_there_are_enough() -> None:
    assert len(CASES) >= 80
    assert [len(cases) for cases in TABLES.values()] >= [30, 25, 25]
    assert all(len(cases) >= least for cases, least in zip(TABLES.values(), (30, 25, 25), strict=True))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in; whatever appears in it was written by the command."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("name", CASES)
def test_a_bad_checkpoint(name: str, tmp_path: Path, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damage, expected = CASES[name]
    folder, canary = small_task(tmp_path / "task"), tmp_path / "canary"
    damage(folder, canary)
    before = sorted(p.name for p in folder.iterdir())
    code = cli.main(["-q", "run", str(folder)])
    out, err = capfd.readouterr()
    assert (code, out) == (4, ""), err
    assert err.count("\n") == 1 and err.startswith("extract: ") and "Traceback" not in err
    assert all(word in err for word in expected), err
    assert "(hint: " in err, err
    assert err.isprintable() or err[:-1].isprintable()
    assert not canary.exists() and os.listdir(work) == []
    assert sorted(p.name for p in folder.iterdir()) == before


SAMPLE = ("torch: a call in the state dict", "torch: a list of losses", "safetensors: overlap", "network: a named pipe")


@pytest.mark.parametrize("name", SAMPLE)
def test_inspect_and_spec_init_say_it(name: str, tmp_path: Path, work: Path) -> None:
    damage, expected = CASES[name]
    folder, canary = small_task(tmp_path / "task"), tmp_path / "canary"
    damage(folder, canary)
    for arguments in (["inspect"], ["spec", "init"]):
        done = extract(*arguments, folder, cwd=work)
        assert (done.code, done.out) == (4, ""), done.err
        assert done.err.count("\n") == 1 and done.err.startswith("extract: ")
        assert all(word in done.err for word in expected), done.err
    assert not canary.exists() and os.listdir(work) == []


def test_check_says_it(tmp_path: Path, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task, certificate = small_task(tmp_path / "task"), str(tmp_path / "c.json")
    assert cli.main(["-q", "run", str(task), "--cert", certificate]) == 0
    capfd.readouterr()
    for number, name in enumerate(SAMPLE):
        folder, canary = small_task(tmp_path / f"{number}"), tmp_path / "canary"
        CASES[name][0](folder, canary)
        assert cli.main(["-q", "check", certificate, str(folder)]) == 4
        out, err = capfd.readouterr()
        assert out == "" and err.count("\n") == 1 and err.startswith("extract: "), err
        assert not canary.exists() and os.listdir(work) == []


ALONE = """
import json, sys, time
from pathlib import Path
from extract.errors import ExtractError
from extract.stages_load import load_subject
found = {}
def peak():
    # not getrusage: that starts from the memory of whoever started this process
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
for folder in sorted(Path(sys.argv[1]).iterdir()):
    start = time.perf_counter()
    try:
        load_subject(folder, None, None, None)
        found[folder.name] = [None, 0, 0]
    except ExtractError as error:
        found[folder.name] = [error.exit_code, time.perf_counter() - start,
                              peak()]
assert "torch" not in sys.modules
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux does")
def test_time_and_memory_in_a_process_alone(tmp_path: Path) -> None:
    names = dict(enumerate(CASES))
    for number, name in names.items():
        folder = small_task(tmp_path / "all" / f"{number:03d}")
        CASES[name][0](folder, tmp_path / "canary")
    run = [sys.executable, "-c", ALONE, str(tmp_path / "all")]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    for number, (code, seconds, kilobytes) in json.loads(done.stdout).items():
        assert code == 4, names[int(number)]
        assert seconds < LARGEST_SECONDS, (names[int(number)], seconds)
        assert kilobytes << 10 < LARGEST_BYTES, (names[int(number)], kilobytes)
    assert not (tmp_path / "canary").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "spec.toml"])
def test_no_permission(file: str, tmp_path: Path, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = small_task(tmp_path / "task")
    (folder / file).chmod(0)
    assert cli.main(["-q", "run", str(folder)]) == 4
    assert "Permission denied" in capfd.readouterr().err


def test_the_negative_checkpoints(shared_checkpoints: Path, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = {
        "pickled_hookedtransformer.pth": ["whole pickled object", "state_dict", "torch.save(model.state_dict()"],
        "damaged_archive.pth": ["damaged"],
        "git_lfs_pointer.pt": ["Git LFS pointer", "git lfs pull"],
        "losses_only.pth": ["no tensors were found"],
        "numpy_inside.pth": ["NumPy"],
        "code_on_load.pt": ["posix.mkdir", "nothing in it was run"],
        "nan_weights.pt": ["nan", "nothing can be proved"],
        "empty.pt": ["empty (0 bytes)"],
    }
    index = json.loads((shared_checkpoints / "negative" / "index.json").read_text())
    assert set(said) | {"partial_state_dict.pt"} == {entry["file"] for entry in index}
    for file in sorted(entry["file"] for entry in index):
        assert cli.main(["inspect", str(shared_checkpoints / "negative" / file)]) == 4
        out, err = capfd.readouterr()
        assert out == "" and err.count("\n") == 1 and "Traceback" not in err
        assert all(word in err for word in said.get(file, [])), err
    assert os.listdir(work) == []


#: What the checker reads as it stands, since nothing of it is ambiguous to it: no claim is ever made about such files.
CHECKER_READS = {
    "every second number", "overlapping rows", "5000 tensors", "a name of two lines", "complex numbers",
    "a TorchScript program", "bytes after the end", "bytes before the start",
}  # fmt: skip


@pytest.mark.parametrize("name", bad_torch_files.CASES)
def test_the_checker_on_bad_torch_files(name: str, tmp_path: Path, work: Path) -> None:
    folder, canary = small_task(tmp_path / "task"), tmp_path / "canary"
    bad_torch_files.CASES[name][0](folder, canary)
    (file,) = (p for p in folder.iterdir() if p.name not in ("config.json", "spec.toml"))
    start = time.perf_counter()
    try:
        read_tensors(file)
    except Unreadable as error:
        assert "\n" not in str(error) and name not in CHECKER_READS
    else:
        assert name in CHECKER_READS
    assert time.perf_counter() - start < LARGEST_SECONDS
    assert not canary.exists() and os.listdir(work) == []
