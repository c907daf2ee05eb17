"""The files that a loader must refuse, as their index expects: each in one line that says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import extract

#: What the line on each file must say, by what the file is.
SAID = {
    "pickled_hookedtransformer.pth": ("state_dict", "model.state_dict()", "nothing in it was run"),
    "damaged_archive.pth": ("damaged",),
    "git_lfs_pointer.pt": ("Git LFS pointer", "git lfs pull"),
    "losses_only.pth": ("no tensors were found",),
    "numpy_inside.pth": ("NumPy objects", "tensors and plain values only"),
    "code_on_load.pt": ("posix.mkdir", "nothing in it was run"),
    "partial_state_dict.pt": ("missing blocks.0.attn.W_K, unembed.W_U",),
    "nan_weights.pt": ("embed.W_E[0, 0] is nan", "nothing can be proved"),
    "empty.pt": ("is empty (0 bytes)",),
}


@pytest.mark.parametrize("name", SAID)
def test_it_is_refused_as_its_index_expects(name: str, shared_checkpoints: Path, tmp_path: Path) -> None:
    folder = shared_checkpoints / "negative"
    indexed = [entry["file"] for entry in json.loads((folder / "index.json").read_text(encoding="utf-8"))]
    assert sorted(indexed) == sorted(SAID)
    done = extract("inspect", folder / name, cwd=tmp_path)
    assert done.code == 4 and not done.out
    (line,) = done.err.splitlines()
    assert name in line and line.isprintable()
    for words in SAID[name]:
        assert words in line
    # what code_on_load.pt makes when it is unpickled, and anything else
    assert not list(tmp_path.iterdir())
