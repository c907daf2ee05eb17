"""The first stage: a checkpoint and a spec become one subject, and contradictions between them are refused here.

It joins formats to the domain; it evaluates nothing and loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from extract.domain import Domain, build_domain
from extract.errors import CheckpointError, ExtractError, SpecError
from extract.formats import Checkpoint, load_checkpoint
from extract.lang.promise import compile_promise
from extract.lang.sorts import check_program
from extract.lang.syntax import parse_program
from extract.lang.terms import Adapter, Program
from extract.report.files import Subject as FileSubject
from extract.spec import LoadedSpec, TaskSpec, load_spec, with_overrides
from extract.stages_model import check_model

_GENERIC_NAMES = frozenset({"model", "pytorch_model", "ckpt", "checkpoint", "state_dict"})
_SPEC_NAMES = ("spec.toml", "spec.json")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a run is about: the model, the spec as written, the spec as used, the domain it spans."""

    checkpoint: Checkpoint
    path: Path
    loaded: LoadedSpec
    spec_path: Path
    spec: TaskSpec
    domain: Domain


def beside(checkpoint: Path) -> Path | None:
    """Return the spec file beside a checkpoint, if there is one."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    return next((folder / name for name in _SPEC_NAMES if (folder / name).is_file()), None)


def find_spec(checkpoint: Path, spec: Path | None) -> Path:
    """Return the spec file: the one named, or the one beside the checkpoint.

    Raises:  SpecError if none was named and none is there.
    """
    found = spec or beside(checkpoint)
    if found is not None:
        return found
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    raise SpecError(
        "has no spec.toml, expected a task spec beside the checkpoint",
        hint=f"extract spec init {checkpoint} > {folder / 'spec.toml'}, or name one with --spec",
        place=str(folder),
    )


def load_subject(
    path: Path, spec: Path | None, max_length: int | None = None, offsets: tuple[int, ...] | None = None
) -> Subject:
    """Read a checkpoint and its spec, apply overrides, build the domain, and check that they fit together.

    Raises:  CheckpointError, SpecError, DomainError or ProgramError, with one line that names the place.
    """
    if not path.exists():
        raise CheckpointError("no such file or folder, expected a checkpoint", place=str(path))
    spec_path = find_spec(path, spec)
    loaded = load_spec(spec_path)
    checkpoint = load_checkpoint(path, loaded.spec.model)
    used = with_overrides(loaded.spec, max_length=max_length, offsets=offsets)
    try:
        domain = _domain(used, checkpoint)
        check_model(checkpoint, domain)
    except ExtractError as error:
        raise located(error, str(spec_path)) from error.__cause__
    return Subject(checkpoint, path, loaded, spec_path, used, domain)


def _domain(spec: TaskSpec, checkpoint: Checkpoint) -> Domain:
    if not spec.domain.self_allowed:
        return build_domain(spec, compile_promise)
    from extract.stages_self_allowed import self_allowed_domain

    return self_allowed_domain(spec, checkpoint.network, compile_promise)


def located(error: ExtractError, file: str) -> ExtractError:
    """Return the error with the file's name in front of its place."""
    if error.place is None or not error.place.startswith(file):
        error.place = file if error.place is None else f"{file}: {error.place}"
    return error


def program_for(subject: Subject, text: str, place: str) -> Program:
    """Parse a program and check that it fits the task.

    Raises:  ProgramError naming the place of the text.
    """
    return program_on(subject.domain, text, place)


def program_on(domain: Domain, text: str, place: str) -> Program:
    """Parse a program and check that it fits a domain's tokens and read-out. Raises: as ``program_for``."""
    try:
        program = read_program(text, domain.readout.at, domain.readout.kind)
        check_program(program, domain.vocabulary, domain.readout)
    except ExtractError as error:
        raise located(error, place) from error.__cause__
    return program


def read_program(text: str, at: str, kind: str) -> Program:
    """Parse a program for a read-out; of the two ways to generate, the one that its outputs show.

    Raises:  ProgramError if it does not parse.
    """
    adapter: Adapter = "value"
    if kind == "multilabel":
        adapter = "multilabel"
    elif at == "every":
        adapter = "every"
    elif at == "generate":
        adapter = "generate" if "output_length" in text else "step"
    return parse_program(text, adapter)


def default_name(checkpoint: Path) -> str:
    """Return the certificate's file name for a checkpoint: its folder's or file's name."""
    resolved = checkpoint.resolve()
    if checkpoint.is_dir():
        name = resolved.name
    else:
        name = resolved.parent.name if resolved.stem in _GENERIC_NAMES else resolved.stem
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name).lstrip(".")
    return f"{kept or 'result'}.cert.json"


def file_subject(subject: Subject) -> FileSubject:
    """Return what decides whether a result file may replace another."""
    return FileSubject(subject.checkpoint.model.digest, subject.loaded.digest)
