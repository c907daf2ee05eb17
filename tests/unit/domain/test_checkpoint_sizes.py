"""The sizes of real domains: those measured by plain enumeration, and closed formulas."""

from __future__ import annotations

import itertools
from math import comb
from pathlib import Path

import msgspec
import numpy as np
import pytest

from extract.domain import Domain, Promise, build_domain
from extract.spec import load_spec, with_overrides
from extract.vocabulary import Vocabulary
from tests.unit.domain.promises import HandPromise, StepMachine, String

DRASP = Path(__file__).resolve().parents[4] / "shared" / "checkpoints" / "drasp"
pytestmark = pytest.mark.skipif(not DRASP.is_dir(), reason="no ../shared/checkpoints")


def depth_promise(deepest: int) -> HandPromise:
    def step(state: tuple[int, int], position: int, letter: int) -> tuple[int, int] | None:
        opened, closed = state[0] + (letter == 0), state[1] + (letter == 1)
        return (opened, closed) if 0 <= opened - closed <= deepest else None

    return HandPromise(lambda s: True, "always", reader=StepMachine((0, 0), step, lambda s, n: True))


def majority_of_streams(n_streams: int) -> HandPromise:
    def keeps(s: String) -> bool:
        return len(s) % n_streams == 0 and all(2 * sum(s[j::n_streams]) * n_streams != len(s) for j in range(n_streams))

    return HandPromise(keeps, "never")


def by_hand(text: str, vocabulary: Vocabulary) -> Promise:
    """The promises of these specs, written again by hand."""
    if text.startswith("all("):
        return depth_promise(int(text.split("<=")[-1].strip(" )")))
    if "% 3" in text:
        return majority_of_streams(3)
    if text == "count(tokens == '0') != count(tokens == '1')":
        counts = StepMachine((0, 0), lambda s, p, x: (s[0] + x, s[1] + 1 - x), lambda s, n: s[0] != s[1])
        return HandPromise(lambda s: 2 * sum(s) != len(s), "always", reader=counts)
    if text.startswith("increasing"):
        return HandPromise(lambda s: all(a < b for a, b in itertools.pairwise(s)) and max(s) - min(s) < 50)
    return HandPromise(lambda s: len(set(s)) == len(s), text=text)


def domain(folder: str, max_length: int | None = None, **changes: object) -> Domain:
    spec = with_overrides(load_spec(next(DRASP.glob(f"{folder}*")) / "spec.toml").spec, max_length=max_length)
    changed = msgspec.structs.replace(spec.domain, **changes)
    return build_domain(msgspec.structs.replace(spec, domain=changed), by_hand)


@pytest.mark.parametrize(
    ("folder", "max_length", "size"),
    [
        ("bce_tomita2", 150, 151),
        ("bce_aastar", 150, 151),
        ("bce_ababstar", 150, 151),
        ("bce_D2", 40, 3_145_726),
        ("bce_D4", 24, 797_161),
        ("bce_ab_d_bc", 18, 4_980_736),
        ("bce_012_0_2", 11, 265_720),
        ("bce_tomita4", 24, 5_600_909),
        ("bce_tomita5", 17, 262_143),
        ("count", 2, 6_125),
    ],
)
def test_measured_sizes(folder: str, max_length: int, size: int) -> None:
    found = domain(folder, max_length)
    assert found.size == size and found.size_is_exact


@pytest.mark.parametrize(("max_length", "size"), [(8, 444), (13, 24_572)])
def test_addition_sizes_count_from_length_4(max_length: int, size: int) -> None:
    """The measured numbers leave out the four inputs of length 3: one digit plus one digit."""
    assert domain("addition", max_length, min_length=4).size == size
    assert domain("addition", max_length).size == size + 4


def test_interleaved_majority_is_listed() -> None:
    found = domain("bin_majority_interleave-best", 12)
    assert found.size == sum((2**k - (0 if k % 2 else comb(k, k // 2))) ** 3 for k in range(1, 5))
    assert found.graph_at(4) is None and found.graph_at(9) is not None


def test_majority_to_length_50() -> None:
    ties = sum(comb(n, n // 2) for n in range(2, 51, 2))
    found = domain("bin_majority-best")
    assert found.size == 2_251_799_813_685_246 - ties
    middle = found.size_at(50) // 2
    row = tuple(found.tokens(50, middle, middle + 1)[0].tolist())
    assert found.rank(row) == middle


def test_unique_copy_with_its_whole_alphabet() -> None:
    vocab = domain("unique_copy-best").vocabulary.names[:150]
    assert domain("unique_copy-best", 2, alphabet=vocab).size == 22_500
    three = domain("unique_copy-best", 3, min_length=3, alphabet=vocab)
    assert three.size == 3_307_800
    rows = three.tokens(3, 3_000_000, 3_000_100)
    assert (np.sort(rows, axis=1)[:, 1:] != np.sort(rows, axis=1)[:, :-1]).all()
    assert three.rank(tuple(rows[7].tolist())) == 3_000_007


def test_every_spec_loads() -> None:
    folders = sorted(DRASP.parent.glob("*/*/spec.toml"))
    assert len(folders) > 50
    for path in folders:
        load_spec(path)
