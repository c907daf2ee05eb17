"""Certificates about networks of every architecture, edited at random and sealed again: what is accepted is true.

An edit may touch any number, name, list or word of the program; with luck it says less and stays true. Whatever the
checker accepts is therefore held to the exact answers, and nearly everything must be rejected.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extract.certificate_file import seal
from extract.check.check import CheckResult, check_certificate
from extract.check.reader import Unreadable
from extract.errors import ExtractError
from extract.lang.syntax import parse_program
from tests.soundness.test_any_architecture import NAMES, World, judged, tally_of
from tests.soundness.test_certificates import _settle as settled

N_WORLDS, N_QUICK, N_EDITS = 40, 3, 20
#: What says nothing about the model: words for people, and how wide the tool's own bounds were.
WORDS = {"tool", "assumptions", "self_sha256", "numerics"}
Value = dict[str, Any]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside that may be edited."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, part in inner:
        if path or key not in WORDS:
            found += places(part, (*path, key))
    return found


def changed(part: Any, draw: random.Random) -> Any:
    """Return something else of the same kind."""
    if isinstance(part, bool) or part is None:
        return draw.choice([True, 1, 0.5])
    if isinstance(part, int):
        return draw.choice([part + 1, part - 1, 2 * part + 1, -part - 1])
    if isinstance(part, float):
        return draw.choice([part * 1.5, part * 100, -part, None, float(part * 2 + 1)])
    if isinstance(part, list):
        longer = [*part, copy.deepcopy(part[-1])] if part else [0]
        return draw.choice([part[:-1], longer, part[::-1]])
    if isinstance(part, dict):
        return {key: value for key, value in part.items() if key != draw.choice(sorted(part))}
    return changed_text(part, draw)


def changed_text(part: str, draw: random.Random) -> str:
    if part.isdigit():
        return str(int(part) + draw.choice([1, 2, 10]))
    if part in NAMES:
        return draw.choice([name for name in NAMES if name != part])
    if "output" in part and "=" in part:
        swaps = [("'a'", "'b'"), ("'b'", "'a'"), ("'b'", "'c'"), ("True", "False"), ("tokens", "'b'"), ("1", "2")]
        able = [(a, b) for a, b in swaps if a in part]
        return part.replace(*draw.choice(able)) if able else part + "\n"
    i = draw.randrange(len(part)) if part else 0
    return part[:i] + draw.choice("0123456789abcdef") + part[i + 1 :]


def anywhere(value: Value, draw: random.Random) -> None:
    """Change one thing anywhere, half of the time with every sum made to follow."""
    path = draw.choice(places(value))
    inside: Any = value
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = changed(inside[path[-1]], draw)
    if draw.random() < 0.5:
        settled(value)


def moved(value: Value, draw: random.Random) -> None:
    """Count inputs of a region as something else, every sum and the status following."""
    region = draw.choice(value["regions"])
    full = [name for name in ("agree", "disagree", "undecided") if region[name]]
    source = draw.choice(full)
    target = draw.choice([name for name in ("agree", "disagree") if name != source])
    n = draw.choice([1, region[source]])
    region[source], region[target] = region[source] - n, region[target] + n
    settled(value)


def listed(value: Value, draw: random.Random) -> None:
    """List an exception less, one twice, or one that is none, every sum following."""
    entries = value["exceptions"]
    kind = draw.randrange(3)
    if kind == 0 and entries:
        gone = entries.pop(draw.randrange(len(entries)))
        region = next(
            r for r in value["regions"] if (r["length"], r["offset"]) == (len(gone["tokens"]), gone["offset"])
        )
        region["disagree"], region["agree"] = region["disagree"] - 1, region["agree"] + 1
    elif kind == 1 and entries:
        entries.insert(0, copy.deepcopy(entries[0]))
    else:
        region = draw.choice([r for r in value["regions"] if r["agree"] or r["undecided"]] or value["regions"])
        source = "agree" if region["agree"] else "undecided"
        region[source], region["disagree"] = region[source] - 1, region["disagree"] + 1
        entry = {"tokens": [draw.choice("ab") for _ in range(region["length"])], "offset": region["offset"]}
        value["exceptions"] = sorted(
            [*entries, {**entry, "model": ["a"], "program": ["b"]}], key=lambda e: (e["offset"], len(e["tokens"]))
        )
    settled(value)


EDITS: tuple[Callable[[Value, random.Random], None], ...] = (anywhere, anywhere, moved, listed)


def check(folder: Path, value: Value) -> CheckResult:
    path = folder / "edited.cert.json"
    path.write_bytes(seal(value))
    try:
        return check_certificate(path, folder, full=True)
    except Unreadable as error:
        return CheckResult(False, (str(error),), "")


def assert_true(world: World, value: Value) -> None:
    """Hold an accepted claim to the exact answers."""
    claim = value["claim"]
    counts = {name: int(claim[name]) for name in ("agree", "disagree", "undecided", "inputs_total")}
    try:
        agree, differ = tally_of(world, parse_program(value["program"], world.adapter))  # type: ignore[arg-type]
    except ExtractError as error:
        raise AssertionError("accepted a program that is none") from error
    assert counts["inputs_total"] == world.domain.size == sum(counts.values()) - counts["inputs_total"]
    assert counts["agree"] <= agree and counts["disagree"] <= differ
    assert claim["status"] != "proved" or agree == world.domain.size


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=() if s < N_QUICK else pytest.mark.slow) for s in range(N_WORLDS)]
)
def test_what_is_accepted_is_true(seed: int, tmp_path: Path) -> None:
    world = World(tmp_path, seed)
    value: Value = json.loads(judged(world)[2])
    made = check(tmp_path, value)
    assert made.accepted or made.is_doubt, made.reasons
    n_edited = n_rejected = 0
    for number in range(N_EDITS):
        edited, draw = copy.deepcopy(value), random.Random(1000 * seed + number)
        # sums of what is no number any more cannot follow
        with contextlib.suppress(TypeError, KeyError, AttributeError, ValueError, IndexError):
            EDITS[number % len(EDITS)](edited, draw)
        if edited == value:
            continue
        n_edited += 1
        if check(tmp_path, edited).accepted:
            assert_true(world, edited)
        else:
            n_rejected += 1
    assert n_rejected >= 0.7 * n_edited >= 0.5 * N_EDITS
