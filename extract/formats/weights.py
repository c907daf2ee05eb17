"""From a file to named tensors, whatever container holds them: safetensors, a torch file, or a NumPy archive.

The first bytes decide, never the file's name. It refuses to know which network the tensors make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from extract.errors import SpecError
from extract.formats.gates import OpenedFile, hinting, refuse_other_kinds
from extract.formats.npz import is_archive
from extract.formats.npz_weights import read_npz_header
from extract.formats.safetensors import Header, read_header
from extract.formats.torch_file import is_old_torch_file, is_torch_archive, read_torch_header

if TYPE_CHECKING:
    from extract.spec import ModelFacts


def read_weights_header(file: OpenedFile, facts: ModelFacts | None = None) -> Header:
    """Read and check what a weights file says of its tensors, before any weight is believed.

    Raises:  CheckpointError naming the first thing that is wrong; SpecError for a ``state_dict_key`` without meaning.
    """
    with hinting("the file is damaged, or not what it looks like: fetch it or save it again"):
        return _header(file, facts.state_dict_key if facts is not None else None)


def _header(file: OpenedFile, key: str | None) -> Header:
    if is_old_torch_file(file) or (file.read(0, 4) == b"PK\x03\x04" and is_torch_archive(file)):
        return read_torch_header(file, key)
    if key is not None:
        raise SpecError(
            f"$.model.state_dict_key: {key!r}, but {file.place} is no torch file, and nothing is nested",
            hint="leave the field out",
        )
    if is_archive(file):
        return read_npz_header(file)
    refuse_other_kinds(file)
    return read_header(file)
