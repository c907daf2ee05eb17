"""The task spec: a small file that says which strings are inputs, how they are rendered and where the answer is read.

This room reads and validates the file and refuses to know anything it does not say: no checkpoint, no promise's
meaning, no counting. Names and descriptions are carried for people and never used.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from extract.errors import SpecError, UsageError

#: The only version of the schema there is.
SPEC_VERSION = 1
#: A spec is written by a person; anything longer is a mistake or an attack.
MAX_FILE_BYTES = 1 << 20
#: The limit of every program text (formats.md).
MAX_PROMISE_BYTES = 10_000
#: Longer inputs than any model here has positions for; it keeps per-length tables small.
MAX_INPUT_TOKENS = 10_000
MAX_VOCABULARY = 10_000

#: The plain spelling of an integer, as vocabulary.py reads it.
_INTEGER = re.compile(r"-?[1-9][0-9]*|0")

#: Where an answer of each kind may be read; a set of labels and a real number are not fed back.
_ALLOWED_AT = {
    "argmax": ("last", "first", "every", "generate"),
    "multilabel": ("last", "first"),
    "value": ("last", "first", "every"),
}


class ModelFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts about the network that its files do not carry; every one is optional, a contradiction is an error."""

    format: str | None = None
    heads: int | None = None
    kv_heads: int | None = None
    activation: Literal["gelu_tanh", "gelu_erf", "relu", "silu", "solu"] | None = None
    norm: Literal["layernorm", "rmsnorm", "none"] | None = None
    norm_position: Literal["pre", "post"] | None = None
    eps: float | None = None
    attention: Literal["causal", "bidirectional"] | None = None
    attention_scale: float | None = None
    attention_mix: float | None = None
    positions: Literal["learned", "sinusoidal", "rotary", "none"] | None = None
    rope_theta: float | None = None
    pad_mask: bool | None = None
    state_dict_key: str | None = None


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The vocabulary: list index is id; ``numeric`` tokens are integers and may be added and ordered."""

    vocab: tuple[str, ...]
    numeric: bool = False


class AutomatonSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finite automaton over the alphabet: ``transitions[state][letter]`` is a state, or -1 for no such input."""

    transitions: tuple[tuple[int, ...], ...]
    start: int = 0


class DomainSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bounded set of inputs; lengths count the tokens of ``{x}``, offsets are first position ids."""

    max_length: int
    min_length: int = 1
    alphabet: tuple[str, ...] = ()
    template: str = "{x}"
    offsets: tuple[int, ...] = (0,)
    where: str | None = None
    matches: str | None = None
    prefixes_of: str | None = None
    automaton: AutomatonSpec | None = None
    self_allowed: bool = False


class ReadOutSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the answer is read and how logits become it; ``threshold`` is in logits."""

    at: Literal["last", "first", "every", "generate"] = "last"
    kind: Literal["argmax", "multilabel", "value"] = "argmax"
    choices: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    threshold: float = 0.0
    stop: str | None = None
    max_new: int = 0
    tolerance: float = 1e-4


class TaskSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole spec file, validated."""

    version: int
    tokens: Tokens
    domain: DomainSpec
    name: str = ""
    description: str = ""
    model: ModelFacts = ModelFacts()
    readout: ReadOutSpec = ReadOutSpec()

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The names ``{x}`` is made of: as listed, or the vocabulary without ``<...>`` tokens."""
        marked = re.compile(r"<.*>", re.DOTALL)
        return self.domain.alphabet or tuple(n for n in self.tokens.vocab if not marked.fullmatch(n))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The name of every output id."""
        return self.readout.outputs or self.tokens.vocab


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A spec and the sha256 (hex) of the bytes it was read from."""

    spec: TaskSpec
    digest: str


def load_spec(path: Path) -> LoadedSpec:
    """Read and validate a spec file, TOML or JSON.

    Raises:  SpecError with one line: the file, the field, the value found and what was expected.
    """
    place = str(path)
    data = _read_bytes(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(
            f"byte {error.start} is not UTF-8, expected a text file", hint="save the spec as UTF-8 TOML", place=place
        ) from error
    try:
        spec = parse_spec(text, is_json=path.suffix.lower() == ".json")
    except SpecError as error:
        raise error.at(place) from error.__cause__
    return LoadedSpec(spec, hashlib.sha256(data).hexdigest())


def parse_spec(text: str, *, is_json: bool = False) -> TaskSpec:
    """Parse and validate the text of a spec; text that opens with a brace is JSON. Raises: SpecError."""
    raw: Any
    try:
        raw = json.loads(text) if is_json or text.lstrip().startswith("{") else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        kind = "JSON" if isinstance(error, json.JSONDecodeError) else "TOML"
        raise SpecError(
            f"not valid {kind}: {error}", hint="extract spec init writes a skeleton to start from"
        ) from error
    except RecursionError as error:
        raise SpecError("nested too deeply, expected the tables of a spec") from error
    try:
        spec = msgspec.convert(raw, TaskSpec)
    except msgspec.ValidationError as error:
        raise _explained(str(error), raw) from error
    validate(spec)
    return spec


def json_schema() -> str:
    """Return the JSON Schema of a spec, keys in a fixed order, ending in a newline."""
    return json.dumps(msgspec.json.schema(TaskSpec), indent=2, sort_keys=True) + "\n"


def with_overrides(
    spec: TaskSpec, *, max_length: int | None = None, offsets: tuple[int, ...] | None = None
) -> TaskSpec:
    """Return the spec with another longest length or other offsets, validated again.

    Raises:  UsageError naming the option if the result is not a valid spec.
    """
    domain = spec.domain
    if max_length is not None:
        domain = msgspec.structs.replace(domain, max_length=max_length)
    if offsets is not None:
        domain = msgspec.structs.replace(domain, offsets=offsets)
    changed = msgspec.structs.replace(spec, domain=domain)
    try:
        validate(changed)
    except SpecError as error:
        given = [
            f"{option} {value}"
            for option, value in (("--max-length", max_length), ("--offsets", offsets))
            if value is not None
        ]
        raise UsageError(error.message, place=" ".join(given)) from error
    return changed


def _read_bytes(path: Path) -> bytes:
    place, hint = str(path), "extract spec init CHECKPOINT writes a skeleton"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise SpecError("no such file, expected a task spec", hint=hint, place=place) from error
    except IsADirectoryError as error:
        raise SpecError(
            "is a directory, expected a spec file", hint="name the spec.toml inside it", place=place
        ) from error
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror or error}", place=place) from error
    if len(data) > MAX_FILE_BYTES:
        raise SpecError(f"larger than {MAX_FILE_BYTES} bytes, expected a spec of a few kilobytes", place=place)
    return data


def _explained(message: str, raw: Any) -> SpecError:
    """Turn msgspec's message into: field path, value found, expectation."""
    found = re.fullmatch(r"(?s)(.*?)(?: - at `(.*)`)?", message)
    reason, path = (found.group(1), found.group(2) or "$") if found else (message, "$")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason)
    if unknown:
        fields = _STRUCTS[path].__struct_fields__ if path in _STRUCTS else ()
        return SpecError(f"{path}.{unknown.group(1)}: unknown field, expected one of {', '.join(fields)}")
    missing = re.fullmatch(r"Object missing required field `(.*)`", reason)
    if missing:
        return SpecError(f"{path}.{missing.group(1)}: missing, expected a value")
    expected = re.sub(r"(, got `.*`)$|^Expected |`| \| null", "", reason)
    expected = re.sub(r"^Invalid enum value '?.*$", _choices(path), expected, flags=re.DOTALL)
    return SpecError(f"{path}: {_shown(_value_at(raw, path))}, expected {expected}")


_STRUCTS: dict[str, type[msgspec.Struct]] = {
    "$": TaskSpec,
    "$.model": ModelFacts,
    "$.tokens": Tokens,
    "$.domain": DomainSpec,
    "$.domain.automaton": AutomatonSpec,
    "$.readout": ReadOutSpec,
}


def _choices(path: str) -> str:
    table, _, name = path.rpartition(".")
    annotation = str(_STRUCTS[table].__annotations__.get(name, "")) if table in _STRUCTS else ""
    return "one of " + ", ".join(re.findall(r"'(.*?)'", annotation))


def _value_at(raw: Any, path: str) -> Any:
    value = raw
    for name, index in re.findall(r"\.([A-Za-z_]\w*)|\[(\d+|\.\.\.)\]", path):
        if name and isinstance(value, dict) and name in value:
            value = value[name]
        elif index.isdigit() and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def validate(spec: TaskSpec) -> None:
    """Check everything a spec says that its types do not. Raises: SpecError naming the field's path."""
    if spec.version != SPEC_VERSION:
        raise SpecError(f"$.version: {spec.version}, expected {SPEC_VERSION}")
    _validate_tokens(spec)
    _validate_bounds(spec.domain)
    _validate_promise(spec)
    _validate_readout(spec)
    _validate_model(spec.model)


def _distinct(path: str, names: tuple[str, ...], known: tuple[str, ...] | None, what: str) -> None:
    for i, name in enumerate(names):
        if not name:
            raise SpecError(f"{path}[{i}]: an empty name, expected a {what}")
    if len(set(names)) != len(names):
        twice = next(n for i, n in enumerate(names) if n in names[:i])
        raise SpecError(f"{path}: {twice!r} is listed twice, expected distinct names")
    if known is not None:
        universe = set(known)
        for i, name in enumerate(names):
            if name not in universe:
                raise SpecError(f"{path}[{i}]: {name!r}, expected a {what}, one of {_shown(list(known))}")


def _validate_tokens(spec: TaskSpec) -> None:
    vocab, alphabet = spec.tokens.vocab, spec.alphabet
    for path, names in (("$.tokens.vocab", vocab), ("$.readout.outputs", spec.readout.outputs)):
        if len(names) > MAX_VOCABULARY:
            raise SpecError(f"{path}: {len(names)} names, expected at most {MAX_VOCABULARY}")
    if not vocab:
        raise SpecError("$.tokens.vocab: empty, expected at least one token name")
    _distinct("$.tokens.vocab", vocab, None, "token name")
    _distinct("$.readout.outputs", spec.readout.outputs, None, "output name")
    _distinct("$.domain.alphabet", spec.domain.alphabet, vocab, "token of the vocabulary")
    if not alphabet:
        raise SpecError("$.domain.alphabet: empty, expected at least one token", hint="every vocab token is <marked>")
    symbol = next((n for n in alphabet if not _INTEGER.fullmatch(n)), None)
    if spec.tokens.numeric and symbol is not None:
        raise SpecError(
            f"$.tokens.numeric: true, expected an alphabet of integers only; {symbol!r} is not one",
            hint="list the integers in $.domain.alphabet, or set numeric = false",
        )


def _validate_bounds(domain: DomainSpec) -> None:
    if domain.min_length < 0:
        raise SpecError(f"$.domain.min_length: {domain.min_length}, expected 0 or more tokens")
    if domain.max_length < domain.min_length:
        raise SpecError(
            f"$.domain.max_length: {domain.max_length}, expected at least $.domain.min_length = {domain.min_length}"
        )
    if domain.max_length > MAX_INPUT_TOKENS:
        raise SpecError(f"$.domain.max_length: {domain.max_length}, expected at most {MAX_INPUT_TOKENS} tokens")
    if not domain.offsets:
        raise SpecError("$.domain.offsets: empty, expected at least one first position id", hint="offsets = [0]")
    for i, offset in enumerate(domain.offsets):
        if offset < 0 or offset in domain.offsets[:i]:
            raise SpecError(f"$.domain.offsets[{i}]: {offset}, expected distinct position ids of 0 or more")


def _validate_promise(spec: TaskSpec) -> None:
    domain = spec.domain
    languages = [n for n in ("matches", "prefixes_of", "automaton") if getattr(domain, n) is not None]
    if len(languages) > 1:
        raise SpecError(f"$.domain.{languages[1]}: given beside {languages[0]}, expected at most one of the two")
    for name in ("where", "matches", "prefixes_of"):
        text = getattr(domain, name)
        if text is not None and len(text.encode("utf-8", "surrogatepass")) > MAX_PROMISE_BYTES:
            raise SpecError(f"$.domain.{name}: {len(text)} characters, expected at most {MAX_PROMISE_BYTES} bytes")
    if domain.where is not None and not domain.where.strip():
        raise SpecError("$.domain.where: empty, expected a promise", hint="leave the field out for no promise")
    if domain.automaton is not None:
        _validate_automaton(domain.automaton, len(spec.alphabet))
    if domain.self_allowed and spec.readout.kind != "multilabel":
        raise SpecError(f"$.domain.self_allowed: true with kind {spec.readout.kind!r}, expected kind 'multilabel'")


def _validate_automaton(automaton: AutomatonSpec, n_letters: int) -> None:
    n_states = len(automaton.transitions)
    path = "$.domain.automaton"
    if not 0 <= automaton.start < n_states:
        raise SpecError(f"{path}.start: {automaton.start}, expected one of the {n_states} states")
    for state, row in enumerate(automaton.transitions):
        if len(row) != n_letters:
            raise SpecError(f"{path}.transitions[{state}]: {len(row)} entries, expected one per letter, {n_letters}")
        for letter, target in enumerate(row):
            if not -1 <= target < n_states:
                raise SpecError(
                    f"{path}.transitions[{state}][{letter}]: {target}, expected -1 or one of the {n_states} states"
                )


def _validate_readout(spec: TaskSpec) -> None:
    readout = spec.readout
    _distinct("$.readout.choices", readout.choices, spec.output_names, "name of an output")
    if not math.isfinite(readout.threshold):
        raise SpecError(f"$.readout.threshold: {readout.threshold}, expected a finite number of logits")
    if not (math.isfinite(readout.tolerance) and readout.tolerance > 0):
        raise SpecError(f"$.readout.tolerance: {readout.tolerance}, expected a finite number above 0")
    if readout.stop is not None and readout.stop not in spec.tokens.vocab:
        raise SpecError(f"$.readout.stop: {readout.stop!r}, expected a token of the vocabulary")
    if readout.max_new < 0:
        raise SpecError(f"$.readout.max_new: {readout.max_new}, expected 0 or more tokens")
    if readout.at not in _ALLOWED_AT[readout.kind]:
        expected = ", ".join(_ALLOWED_AT[readout.kind])
        raise SpecError(f"$.readout.at: {readout.at!r} with kind {readout.kind!r}, expected one of {expected}")
    if readout.at == "generate":
        _distinct("$.readout.outputs", readout.outputs, spec.tokens.vocab, "token, since answers are fed back")


def _validate_model(facts: ModelFacts) -> None:
    for name in ("heads", "kv_heads"):
        value = getattr(facts, name)
        if value is not None and value < 1:
            raise SpecError(f"$.model.{name}: {value}, expected 1 or more")
    for name in ("eps", "attention_scale", "attention_mix", "rope_theta"):
        value = getattr(facts, name)
        if value is not None and not math.isfinite(value):
            raise SpecError(f"$.model.{name}: {value}, expected a finite number")
