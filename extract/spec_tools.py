"""What ``extract spec`` answers: a skeleton, a check, the size of a domain by length, the schema.

Values and text only; it prints nothing and reads no checkpoint: facts about one are handed in as plain values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from extract.domain import Domain, build_domain
from extract.errors import ExtractError
from extract.lang.promise import compile_promise
from extract.spec import TaskSpec, json_schema, load_spec

_LARGEST_VOCABULARY_SHOWN = 10_000


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a check: what is stated and what it is."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class SizeRow:
    """The number of strings of one length in tokens, offsets not counted; an upper bound unless ``is_exact``."""

    length: int
    size: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class SizeTable:
    """The size of a domain by length; ``total`` counts every string at every offset."""

    rows: tuple[SizeRow, ...]
    n_offsets: int
    total: int
    is_exact: bool


def schema() -> str:
    """Return the JSON Schema of a task spec as text."""
    return json_schema()


def size_table(domain: Domain) -> SizeTable:
    """Return the exact number of inputs of each length, or an upper bound that is called one."""
    rows = tuple(SizeRow(n, domain.size_at(n), domain.is_exact_at(n)) for n in domain.lengths)
    total = sum(row.size for row in rows) * len(domain.offsets)
    return SizeTable(rows, len(domain.offsets), total, all(row.is_exact for row in rows))


def open_domain(path: Path) -> tuple[TaskSpec, str, Domain]:
    """Return the spec in a file, its digest, and the domain it spans.

    Raises:  SpecError, ProgramError or DomainError with one line that names the file and the field.
    """
    loaded = load_spec(path)
    try:
        return loaded.spec, loaded.digest, build_domain(loaded.spec, compile_promise)
    except ExtractError as error:
        error.place = str(path) if error.place is None else f"{path}: {error.place}"
        raise


def check(path: Path) -> list[Fact]:
    """Validate a spec and return what it says, the defaults it leaves out included.

    Raises:  SpecError, ProgramError or DomainError with one line that names the file and the field.
    """
    spec, digest, domain = open_domain(path)
    table = size_table(domain)
    readout = domain.readout
    lengths = f"{domain.min_length} to {domain.max_length} tokens"
    positions = ", ".join(map(str, domain.read_positions(domain.max_length)))
    facts = [
        Fact("spec", f"version {spec.version}, sha256 {digest}"),
        Fact("vocabulary", f"{len(domain.vocabulary.names)} tokens, {'numeric' if spec.tokens.numeric else 'symbols'}"),
        Fact("alphabet", _listed([domain.vocabulary.names[i] for i in domain.alphabet])),
        Fact("lengths", lengths),
        Fact("offsets", _listed([str(offset) for offset in domain.offsets])),
        Fact("promise", domain.promise_text or "none: every string of the alphabet"),
        Fact("template", f"{domain.template.text}  ({domain.rendered_length(domain.max_length)} tokens at most)"),
        Fact("inputs", size_text(table)),
        Fact("read-out", f"{readout.kind} at {readout.at} (prompt position {positions} of the longest input)"),
    ]
    if readout.kind == "argmax" or readout.kind == "multilabel":
        facts.append(Fact("choices", _listed([domain.vocabulary.output_names[i] for i in readout.choices])))
    if readout.kind == "multilabel":
        facts.append(Fact("threshold", f"{readout.threshold} logits"))
    if readout.kind == "value":
        facts.append(Fact("tolerance", f"{readout.tolerance}"))
    if readout.at == "generate":
        stop = "no stop token" if readout.stop is None else f"until {domain.vocabulary.names[readout.stop]}"
        limit = f"at most {readout.max_new} tokens" if readout.max_new else "as many tokens as the positions allow"
        facts.append(Fact("generated", f"{stop}, {limit}"))
    return facts


def size_text(table: SizeTable) -> str:
    """Return the total as a person reads it, an upper bound called one."""
    offsets = f" ({table.n_offsets} offsets each)" if table.n_offsets > 1 else ""
    return f"{'' if table.is_exact else 'at most '}{table.total:,}{offsets}"


def _listed(names: list[str]) -> str:
    shown = " ".join(names[:24])
    return shown if len(names) <= 24 else f"{shown} ... ({len(names)})"


def skeleton(vocab_size: int, facts: Mapping[str, object] | None = None, missing: Iterable[str] = ()) -> str:
    """Return the text of a spec to fill in: TOML with every unknown marked ``UNKNOWN``.

    ``facts`` are what the checkpoint says (``format``, ``d_vocab_out``, ``n_ctx``, ``attention`` ...), shown as
    comments; ``missing`` are lines of what the spec must add about the network, as an inspection lists them. The text
    does not load until the longest length is filled in.
    """
    known = dict(facts or {})
    names = [f"token{i}" for i in range(min(vocab_size, _LARGEST_VOCABULARY_SHOWN))]
    n_outputs = known.get("d_vocab_out")
    lines = ["# What counts as an input of this checkpoint, and where its answer is read.", "version = 1", 'name = ""']
    lines += ['description = ""', ""]
    lines += [f"# checkpoint: {_comment(key)[1:-1]} = {_comment(value)}" for key, value in sorted(known.items())]
    lines += ["", *_model_lines(missing), ""]
    lines += [
        "[tokens]",
        f"# UNKNOWN: the name of each of the {vocab_size} token ids, in id order; then remove this line",
        f"vocab = {json.dumps(names)}",
        "numeric = false     # UNKNOWN: true if the tokens of an input are integers",
        "",
        "[domain]",
        "# UNKNOWN: the tokens inputs are made of (default: all but <...>)",
        '# alphabet = ["token0"]',
        "min_length = 1      # UNKNOWN: in tokens of {x}",
        f"# max_length =      # UNKNOWN, required: {_length_hint(known)}",
        'template = "{x}"    # UNKNOWN: for example "<bos> {x} <sep>"',
        "offsets = [0]       # position id of the first token",
        "# UNKNOWN: which strings are inputs, if not all; at most one of matches, prefixes_of, automaton",
        "# where = \"count(tokens == 'token0') != count(tokens == 'token1')\"",
        "",
        "[readout]",
        'at = "last"         # UNKNOWN: last, first, every or generate',
        'kind = "argmax"     # UNKNOWN: argmax, multilabel or value',
    ]
    if isinstance(n_outputs, int) and n_outputs != vocab_size:
        outputs = [f"output{i}" for i in range(min(n_outputs, _LARGEST_VOCABULARY_SHOWN))]
        lines += [f"# UNKNOWN: the names of the {n_outputs} outputs", f"outputs = {json.dumps(outputs)}"]
    lines += ['# stop = "<eos>"     # for generate', "# threshold = 0.0    # for multilabel, in logits"]
    return "\n".join(lines) + "\n"


def _model_lines(missing: Iterable[str]) -> list[str]:
    """Return the table of facts about the network, each missing one to be filled in."""
    asked = [line.partition(" = ... ") for line in missing]
    inside = [(key.removeprefix("[model] "), hint) for key, _, hint in asked if key.startswith("[model] ")]
    beside = [f"# UNKNOWN: {key} = {hint}" for key, _, hint in asked if key.startswith("config.json ")]
    if not inside:
        return [*beside, "# [model]           # only facts that the checkpoint's own files do not say"]
    return [*beside, "[model]", *(f"# {key} =      # UNKNOWN, required: {hint}" for key, hint in inside)]


def _comment(value: object) -> str:
    """A value on one line, whatever a checkpoint's author put into it."""
    text = json.dumps(value if isinstance(value, bool | int | float | str) or value is None else str(value))
    text = text.replace("\x7f", "\\u007f")
    return text if len(text) <= 200 else text[:197] + "..."


def _length_hint(known: Mapping[str, object]) -> str:
    n_ctx, longest = known.get("n_ctx"), known.get("max_length")
    if isinstance(longest, int):
        return f"the longest input of the table has {longest} tokens"
    return f"the model has {n_ctx} positions for prompt and answer" if isinstance(n_ctx, int) else "in tokens of {x}"
