"""The checker's own reading of a task spec: which strings are inputs, what the model is shown, what an answer is."""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from extract.check.language import Ints, Strings, Table, regular
from extract.check.program import UNITS, Lets, Meaning, parse
from extract.check.promise import promise
from extract.check.reader import Unreadable, parse_json, read_bytes

ABSENT = -(2**31)
#: A real answer that no fraction is within tolerance of.
NO_NUMBER = ABSENT + 2
_NO_SYMBOL = (1 << 30) - 1
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_PLACE = re.compile(r"\{x(?:\[(?:(-?\d+)|(-?\d*):(-?\d*))\])?\}")


@dataclass(frozen=True, slots=True)
class Task:
    """A task: names and codes of tokens and outputs, the strings, the template, the read-out.

    ``token_codes``, ``output_codes`` are by id; ``alphabet``, ``choices`` are ids; ``facts`` are of ``[model]``.
    """

    names: list[str]
    symbols: dict[str, int]
    numeric: bool
    token_codes: Ints
    output_codes: Ints
    labels: list[str]
    alphabet: Ints
    lengths: range
    offsets: list[int]
    template: list[str]
    strings: Strings
    at: str
    kind: str
    choices: Ints
    threshold: float
    tolerance: float
    stop: int | None
    max_new: int
    facts: dict[str, Any]
    digest: str

    def code(self, name: str) -> int:
        """Return the code of a quoted name. Raises: Unreadable if there is none."""
        if name in self.symbols or (_INTEGER.fullmatch(name) and name in [*self.names, *self.labels]):
            return self.symbols.get(name) or int(name)
        raise Unreadable(f"program: {name!r} names no token or output")

    def means(self, lets: Lets, tokens: Ints, **words: Any) -> Meaning:
        """Return the meaning of a program's terms on strings of codes."""
        return Meaning(lets, self.code, self.numeric, tokens, **words)

    def name(self, code: int) -> str:
        """Return the text of a code."""
        if code in (_NO_SYMBOL, NO_NUMBER):
            return "no symbol" if code == _NO_SYMBOL else "no simple number"
        if self.kind == "value" and not _NO_SYMBOL < code < 1 << 32:
            return str(code >> 32 if abs(code) >= 1 << 32 else Fraction(code, UNITS))
        return next((name for name, symbol in self.symbols.items() if symbol == code), str(code))

    def layout(self, length: int) -> list[int]:
        """Return each prompt position's token id, or -1-i where it holds ``x[i]``."""
        cells: list[int] = []
        for word in self.template:
            match = _PLACE.fullmatch(word)
            if match is None:
                cells.append(self.names.index(word))
                continue
            one, start, stop = match.groups()
            part = range(length)[slice(int(start) if start else None, int(stop) if stop else None)]
            cells += [-1 - i for i in (part if one is None else [range(length)[int(one)]])]
        return cells

    def prompts(self, tokens: Ints) -> Any:
        """Return the prompts of strings of one length. Shapes: [n, length] ids, [n, position]."""
        cells = np.array(self.layout(tokens.shape[1]), np.int64)
        padded = np.column_stack([tokens, np.zeros(len(tokens), np.int64)])
        return np.where(cells < 0, padded[:, np.minimum(-1 - cells, tokens.shape[1]) * (cells < 0)], cells)


def read_task(path: Path, max_length: int, offsets: list[int]) -> Task:
    """Read a spec file, TOML or JSON, with the longest length and the offsets that a certificate says were used.

    Raises:  Unreadable for a file or a feature the checker does not know.
    """
    data = read_bytes(path, 1 << 20)
    text = data.decode("utf-8", "replace")
    try:
        raw = parse_json(data, str(path)) if text.lstrip().startswith("{") else tomllib.loads(text)
        return _task(raw, max_length, offsets, hashlib.sha256(data).hexdigest())
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise Unreadable(f"{path}: not a task spec the checker can read: {error!r}") from error


def _task(raw: dict[str, Any], max_length: int, offsets: list[int], digest: str) -> Task:
    domain, readout, names = raw["domain"], raw.get("readout", {}), list(raw["tokens"]["vocab"])
    numeric, outputs = bool(raw["tokens"].get("numeric", False)), list(readout.get("outputs", []))
    letters = list(domain.get("alphabet") or [n for n in names if not re.fullmatch(r"<.*>", n, re.DOTALL)])
    if raw["version"] != 1 or domain.get("self_allowed"):
        raise Unreadable("the spec's version or self_allowed is not one the checker knows")
    if len(set(names)) < len(names) or len(set(outputs)) < len(outputs) or not letters:
        raise Unreadable("the spec lists a name twice, or has no alphabet")
    tokens = [n for n in names if not (numeric and _INTEGER.fullmatch(n))]
    symbols = sorted({*tokens, *[n for n in outputs if not _INTEGER.fullmatch(n)]})
    ranks = {name: (1 << 30) + i for i, name in enumerate(symbols)}
    codes = np.array([ranks[n] if n in tokens else int(n) for n in names], np.int64)
    answers = np.array([ranks[n] if n in ranks and not _INTEGER.fullmatch(n) else int(n) for n in outputs], np.int64)
    labels, chosen = outputs or names, set(readout.get("choices", []))
    task = Task(
        names, ranks, numeric, codes, answers if outputs else codes, labels,
        np.array([names.index(n) for n in letters], np.int64), range(domain.get("min_length", 1), max_length + 1),
        offsets, domain.get("template", "{x}").split(), Strings([], len(letters)), readout.get("at", "last"),
        readout.get("kind", "argmax"), np.flatnonzero([not chosen or n in chosen for n in labels]),
        float(readout.get("threshold", 0.0)), float(readout.get("tolerance", 1e-4)),
        names.index(readout["stop"]) if readout.get("stop") is not None else None,
        int(readout.get("max_new", 0)), raw.get("model", {}), digest,
    )  # fmt: skip
    machines: list[Any] = []
    for field in ("matches", "prefixes_of"):
        if domain.get(field) is not None:
            machines.append(regular(domain[field], letters, field == "prefixes_of"))
    if domain.get("automaton") is not None:
        table = domain["automaton"]
        machines.append(Table(table["transitions"], [True] * len(table["transitions"]), table.get("start", 0)))
    if domain.get("where") is not None:
        machines.append(promise(parse(domain["where"]), task.means, codes[task.alphabet]))
    task.strings.machines.extend(machines)
    return task
