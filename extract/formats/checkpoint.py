"""From a path to a network: find the files, pass the gates, detect the format, read the weights.

It loads no torch and writes nothing. What it cannot read is refused with one line before the weights are touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from extract.errors import CheckpointError, SpecError
from extract.formats import table
from extract.formats.config import read_config
from extract.formats.detect import detect
from extract.formats.format import Format, Plan, Source
from extract.formats.gates import READS, OpenedFile, hinting
from extract.formats.gpt2_facts import missing_facts_error
from extract.formats.safetensors import FLOATS, Header, Tensors
from extract.formats.weights import read_weights_header
from extract.network import Architecture, Network
from extract.table_model import TableModel, TableShape

if TYPE_CHECKING:
    from extract.spec import ModelFacts

#: Reading takes about three times the file; small transformers need a thousandth of this.
MEMORY_LIMIT_BYTES = 4 << 30
_WEIGHTS = "model.safetensors"
#: What frameworks call the weights beside optimizers and training state, first choice first.
_USUAL = (_WEIGHTS, "pytorch_model.bin", "model.pt")
_TABLE = "table.npz"
_OTHER_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".h5", ".gguf", ".msgpack")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model with where it came from: format name, evidence in sentences, and which file was read.

    ``path_basename`` is the last part of the path as it was given; ``n_parameters`` counts as ``Inspection`` does.
    """

    model: Network | TableModel
    format: str
    evidence: tuple[str, ...]
    path_basename: str
    file: Path
    n_parameters: int

    @property
    def network(self) -> Network:
        """The model as a network. Raises: CheckpointError if it is a table, which has nothing inside."""
        if isinstance(self.model, TableModel):
            raise CheckpointError("is a table of inputs and outputs, expected a network", place=self.path_basename)
        return self.model


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of a checkpoint without running it.

    ``architecture`` is a table's shape where the model is one, and None when facts are missing; ``spec_must_add``
    lists those first, then what every spec says; the sizes of the vocabulary are 0 where nothing shows them.
    ``n_parameters`` counts stored weights, buffers aside, a tied head once; ``sha256`` is of the weights file.
    """

    format: str
    title: str
    evidence: tuple[str, ...]
    architecture: Architecture | TableShape | None
    n_parameters: int
    n_tensors: int
    dtype: str
    sha256: str
    path_basename: str
    file: Path
    spec_must_add: tuple[str, ...]
    d_vocab: int = 0
    d_vocab_out: int = 0


def load_checkpoint(
    path: Path, model_section: ModelFacts | None = None, *, memory_limit: int = MEMORY_LIMIT_BYTES
) -> Checkpoint:
    """Read a checkpoint folder or file as a network, or as a table where it is one.

    Raises:  CheckpointError for files that are not one, SpecError where ``[model]`` of the spec contradicts them.
    Cost:    The file is read once, whole; ``memory_limit`` (bytes) is checked against an estimate before.
    """
    weights = find_weights(path, model_section)
    with OpenedFile(weights) as file:
        if _is_table(file, model_section):
            made = table.read_table(file)
            return Checkpoint(made, table.NAME, table.evidence_of(made), _basename(path), weights, 0)
        header = read_weights_header(file, model_section)
        format_, source, plan, evidence = _conclude(file, header, model_section, memory_limit)
        if plan.architecture is None:
            raise missing_facts_error(file.place, plan.missing)
        tensors = _read(file, header, memory_limit)
    network = format_.build(source, plan, tensors)
    return Checkpoint(network, format_.name, evidence, _basename(path), weights, format_.count(source, network))


def inspect_checkpoint(
    path: Path, model_section: ModelFacts | None = None, *, memory_limit: int = MEMORY_LIMIT_BYTES
) -> Inspection:
    """Say what a checkpoint is and what the spec must add; missing facts are listed, not raised.

    Raises:  CheckpointError and SpecError as ``load_checkpoint`` does.
    """
    weights = find_weights(path, model_section)
    with OpenedFile(weights) as file:
        if _is_table(file, model_section):
            return _inspected_table(path, weights, table.read_table(file))
        header = read_weights_header(file, model_section)
        format_, source, plan, evidence = _conclude(file, header, model_section, memory_limit)
        tensors = _read(file, header, memory_limit)
    stored = sorted({t.dtype for t in header.tensors.values() if t.is_float})
    dtype = "+".join(FLOATS[d] for d in stored)
    n_parameters = sum(t.numel for t in header.tensors.values() if t.is_float)
    if plan.architecture is not None:
        network = format_.build(source, plan, tensors)
        n_parameters, dtype = format_.count(source, network), plan.architecture.dtype
    return Inspection(
        format=format_.name,
        title=format_.title,
        evidence=evidence,
        architecture=plan.architecture,
        n_parameters=n_parameters,
        n_tensors=len(header.tensors),
        dtype=dtype,
        sha256=tensors.digest,
        path_basename=_basename(path),
        file=weights,
        spec_must_add=plan.missing + _always_in_spec(plan),
        d_vocab=plan.d_vocab if plan.architecture is None else plan.architecture.d_vocab,
        d_vocab_out=plan.d_vocab_out if plan.architecture is None else plan.architecture.d_vocab_out,
    )


def _is_table(file: OpenedFile, facts: ModelFacts | None) -> bool:
    """Say whether a file is to be read as a table: because the spec says so, or because it is one."""
    stated = facts.format if facts is not None else None
    if stated == table.NAME and file.read(0, 2) == b"PK":
        return True
    if not table.is_table(file):
        return False
    if stated is not None and stated != table.NAME:
        raise SpecError(f"$.model.format: {stated!r}, but {file.place} is {table.TITLE} ({table.NAME!r})")
    return True


def _inspected_table(path: Path, file: Path, made: TableModel) -> Inspection:
    return Inspection(
        format=table.NAME,
        title=table.TITLE,
        evidence=table.evidence_of(made),
        architecture=made.shape,
        n_parameters=0,
        n_tensors=2,
        dtype=made.dtype,
        sha256=made.digest,
        path_basename=_basename(path),
        file=file,
        spec_must_add=table.spec_lines(made),
    )


def find_weights(path: Path, facts: ModelFacts | None = None) -> Path:
    """Return the weights file a path means: the file itself, or the one a checkpoint folder holds.

    A folder may hold a table beside weights; it is meant where the spec says so.
    Raises:  CheckpointError if the path does not exist, or the folder holds no weights, or several.
    """
    try:
        if not path.is_dir():
            return path
        names = sorted(child.name for child in path.iterdir())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot be opened: {error}", place=str(path)) from error
    if facts is not None and facts.format == table.NAME and _TABLE in names:
        return path / _TABLE
    usual = next((name for name in _USUAL if name in names), None)
    if usual is not None:
        return path / usual
    if f"{_WEIGHTS}.index.json" in names:
        raise CheckpointError("holds sharded weights, expected one model.safetensors", place=str(path), hint=READS)
    for suffix in _OTHER_WEIGHTS:
        found = [name for name in names if name.endswith(suffix)]
        if len(found) == 1:
            return path / found[0]
        if found:
            listed = ", ".join(found[:4])
            raise CheckpointError(
                f"holds {len(found)} {suffix} files ({listed}), expected one", place=str(path), hint="name the file"
            )
    shown = ", ".join(names[:4]) or "nothing"
    raise CheckpointError(f"holds no checkpoint (found: {shown})", place=str(path), hint=READS)


def _basename(path: Path) -> str:
    return path.name or path.resolve().name


def _conclude(
    file: OpenedFile, header: Header, facts: ModelFacts | None, memory_limit: int
) -> tuple[Format, Source, Plan, tuple[str, ...]]:
    try:
        format_, match = detect(header, file.place, facts.format if facts is not None else None)
    except CheckpointError:
        _refuse_nan(file, header, memory_limit)
        raise
    with hinting("weights, config.json and the spec's [model] must be of the same checkpoint"):
        if facts is not None and facts.format not in (None, format_.name):
            raise SpecError(f"$.model.format: {facts.format!r}, but {file.place} is {format_.title} ({format_.name!r})")
        source = Source(header, read_config(file.path.parent), facts)
        plan = format_.plan(source)
    return format_, source, plan, header.evidence + match.evidence + plan.evidence


def _refuse_nan(file: OpenedFile, header: Header, memory_limit: int) -> None:
    """Name a tensor with NaN in a file of no known format: that is what its owner needs to know first."""
    if header.peak_bytes <= memory_limit:
        tensors = Tensors(file, header)
        for info in header.tensors.values():
            if info.is_float:
                tensors.refuse_nan(info.name)


def _read(file: OpenedFile, header: Header, memory_limit: int) -> Tensors:
    if header.peak_bytes > memory_limit:
        raise CheckpointError(
            f"would take about {header.peak_bytes >> 20} MiB to read, more than the limit of {memory_limit >> 20} MiB",
            place=file.place,
            hint="this tool is for small networks",
        )
    return Tensors(file, header)


def _always_in_spec(plan: Plan) -> tuple[str, ...]:
    architecture = plan.architecture
    if architecture is None:
        n = f"{plan.d_vocab} names, list index = id" if plan.d_vocab else "..."
        return (f"[tokens] vocab = {n}", "[domain] ...", "[readout] ...")
    lines = [f"[tokens] vocab = {architecture.d_vocab} names, list index = id"]
    if architecture.d_vocab_out != architecture.d_vocab:
        lines.append(f"[readout] outputs = {architecture.d_vocab_out} names")
    lines.append(f"[domain] max_length and template, at most {architecture.n_ctx} positions together")
    lines.append("[readout] at and kind")
    return tuple(lines)
