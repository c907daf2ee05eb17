"""Files are written whole or not at all, and never over somebody else's work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from extract.errors import OutputError
from extract.report.files import Subject, refuse_overwrite, write_file

SUBJECT = Subject("aa", "bb")


def certificate(checkpoint: str, spec: str) -> bytes:
    """A file that says what it is about, as certificates do."""
    value = {"schema": "extract.certificate/1", "checkpoint": {"sha256": checkpoint}, "spec": {"sha256": spec}}
    return json.dumps(value).encode()


def result(checkpoint: str, spec: str) -> bytes:
    """A file that says what it is about, as results do."""
    value = {"schema": "extract.result/1", "model": {"sha256": checkpoint}, "task": {"spec_sha256": spec}}
    return json.dumps(value).encode()


def test_a_new_file_is_written_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "a.json", b"data")
    assert (tmp_path / "a.json").read_bytes() == b"data"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    "existing",
    [b"", b"mine", b"[]", b"{}", b'{"schema": "extract.certificate/1"}', certificate("aa", "cc"), result("cc", "bb")],
)
def test_a_foreign_file_is_kept(tmp_path: Path, existing: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(existing)
    with pytest.raises(OutputError, match="--force"):
        refuse_overwrite(path, SUBJECT, force=False)
    with pytest.raises(OutputError):
        write_file(path, b"data", SUBJECT)
    assert path.read_bytes() == existing
    write_file(path, b"data", SUBJECT, force=True)
    assert path.read_bytes() == b"data"


@pytest.mark.parametrize("existing", [certificate("aa", "bb"), result("aa", "bb"), b"data"])
def test_an_earlier_result_of_the_same_subject_is_replaced(tmp_path: Path, existing: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(existing)
    write_file(path, b"data", SUBJECT)
    assert path.read_bytes() == b"data"


def test_missing_folders_and_folders_in_place_of_files_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent" / "a.json", tmp_path):
        with pytest.raises(OutputError):
            refuse_overwrite(path, SUBJECT, force=True)
        with pytest.raises(OutputError):
            write_file(path, b"data", SUBJECT, force=True)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"before")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_file(path, b"data", force=True)
    assert os.listdir(tmp_path) == ["a.json"]
    assert path.read_bytes() == b"before"
