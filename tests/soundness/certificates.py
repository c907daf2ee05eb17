"""Makes certificates by brute force, from the checker's own parts, for tests that then edit them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extract.certificate_file import seal
from extract.check.answers import Model, program_answers
from extract.check.check import CheckResult, check_certificate
from extract.check.forward import Forward
from extract.check.program import parse
from extract.check.reader import Unreadable, read_network
from extract.check.spec import ABSENT, read_task
from extract.network import Network
from tests.networks import write_gpt2

REGION = 65_536


@dataclass(frozen=True, slots=True)
class Case:
    """A network and a spec on disk, and the certificate of a program about them."""

    folder: Path
    value: dict[str, Any]

    def check(self, value: dict[str, Any] | None = None, **options: Any) -> CheckResult:
        """Check the certificate, or an edited one sealed again."""
        return self.check_bytes(seal(self.value if value is None else value), **options)

    def check_bytes(self, data: bytes, **options: Any) -> CheckResult:
        """Check the bytes of a certificate; a file that cannot be read is not accepted either."""
        path = self.folder / "edited.cert.json"
        path.write_bytes(data)
        try:
            return check_certificate(path, self.folder, **options)
        except Unreadable as error:
            return CheckResult(False, (f"unreadable: {error}",), "")


def write_case(folder: Path, network: Network, spec: dict[str, Any], program: str, adapter: str) -> Case:
    """Write a network and a spec into a folder and certify a program by evaluating everything."""
    write_gpt2(network, folder)
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    domain = spec["domain"]
    return Case(folder, certify(folder, program, adapter, domain["max_length"], domain.get("offsets", [0])))


def certify(folder: Path, program: str, adapter: str, max_length: int, offsets: list[int]) -> dict[str, Any]:
    """Return the certificate of a program, exceptions listed, from an evaluation of every input."""
    weights = read_network(folder)
    task = read_task(folder / "spec.json", max_length, offsets)
    model, lets = Model(task, Forward(weights)), parse(program)
    regions: list[dict[str, Any]] = []
    exceptions: list[dict[str, Any]] = []
    bound_used = 0.0
    for offset in offsets:
        for length in task.lengths:
            size = task.strings.size(length)
            for start in range(0, size, REGION):
                stop = min(start + REGION, size)
                tokens = task.alphabet[task.strings.letters(length, np.arange(start, stop))]
                program_cells = program_answers(task, lets, adapter, tokens, model.width(length, offset))
                cells, margins, bounds, _ = model.answers(tokens, offset, program_cells)
                decided, same = margins > bounds, (cells == program_cells).all(axis=1)
                for i in np.flatnonzero(decided & ~same):
                    exceptions.append(_exception(task, tokens[i], offset, cells[i], program_cells[i]))
                least = float(margins[decided].min(initial=np.inf))
                bound_used = max(bound_used, float(bounds.max(initial=0.0)))
                regions.append(
                    {
                        "length": length,
                        "offset": offset,
                        "start": start,
                        "stop": stop,
                        "agree": int((decided & same).sum()),
                        "disagree": int((decided & ~same).sum()),
                        "undecided": int((~decided).sum()),
                        "min_margin": least if np.isfinite(least) else None,
                        "digest": hashlib.sha256(cells.astype("<i4").tobytes()).hexdigest(),
                    }
                )
    return _value(weights, task.digest, program, adapter, max_length, offsets, regions, exceptions, bound_used)


def _exception(task: Any, tokens: Any, offset: int, model: Any, program: Any) -> dict[str, Any]:
    sides = [[task.name(int(cell)) for cell in cells if cell != ABSENT] for cells in (model, program)]
    return {"tokens": [task.names[t] for t in tokens], "offset": offset, "model": sides[0], "program": sides[1]}


def _value(
    weights: Any,
    spec: str,
    program: str,
    adapter: str,
    max_length: int,
    offsets: list[int],
    regions: list[dict[str, Any]],
    exceptions: list[dict[str, Any]],
    error_bound: float,
) -> dict[str, Any]:
    sums = {name: sum(region[name] for region in regions) for name in ("agree", "disagree", "undecided")}
    total = sum(sums.values())
    margins = [region["min_margin"] for region in regions if region["min_margin"] is not None]
    claim = {"semantics": "real", "inputs_total": str(total)} | {name: str(n) for name, n in sums.items()}
    return {
        "schema": "extract.certificate/1",
        "tool": {"name": "extract", "version": "0"},
        "checkpoint": {"sha256": weights.digest, "facts": weights.facts},
        "spec": {"sha256": spec, "max_length": max_length, "offsets": offsets},
        "program": program,
        "adapter": adapter,
        "claim": {"status": status_of(sums, total), **claim},
        "numerics": {
            "error_bound": error_bound,
            "min_margin": min(margins, default=None),
            "n_fragile": sums["undecided"],
        },
        "exceptions": exceptions[:1000],
        "regions": regions,
        "assumptions": [],
    }


def status_of(sums: dict[str, int], total: int) -> str:
    """The strongest status the numbers allow."""
    if sums["agree"] == total:
        return "proved"
    if sums["disagree"] == 0:
        return "undecided"
    return "proved_except" if sums["undecided"] == 0 and sums["disagree"] * 100 <= total else "refuted"


def table_program(folder: Path, max_length: int, offsets: list[int], task_adapter: str = "value") -> str:
    """Return a program that equals a value network everywhere: the model's answers as one automaton-free table.

    It numbers the strings with ``horner`` and looks the number up, so a constant changed is one answer changed.
    """
    weights, task = read_network(folder), read_task(folder / "spec.json", max_length, offsets)
    model, k, entries = Model(task, Forward(weights)), len(task.alphabet), []
    for length in task.lengths:
        letters = task.strings.letters(length, np.arange(task.strings.size(length)))
        cells, _, _, _ = model.answers(task.alphabet[letters], offsets[0], np.zeros((len(letters), 1), np.int64))
        for row, cell in zip(letters.tolist(), cells[:, 0].tolist(), strict=True):
            number = sum((letter + 1) * (k + 1) ** i for i, letter in enumerate(reversed(row)))
            entries.append(f"{number}: {task.name(cell)!r}")
    digits = ", ".join(f"{task.names[token]!r}: {i + 1}" for i, token in enumerate(task.alphabet.tolist()))
    return (
        f"number = last(everywhere, horner(table(tokens, {{{digits}}}, 0), {k + 1}, 0), 0)\n"
        f"output = table(number, {{{', '.join(entries)}}}, {task.names[0]!r})\n"
    )
