"""Digits computed on the input are those of the sum, the difference and the successor, for every base and length."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.domain import Domain
from extract.lang.batch import Batch, evaluate_term
from extract.oracle import ProbeSet
from extract.readout import Inputs
from extract.search.digits import Source, digit_sources, separators
from extract.search.frame import Frame, frame_of
from tests.unit.search.worlds import domain, oracle


def framed(world: Domain, words: list[str]) -> tuple[Frame, Batch]:
    """The frame and the batch of some words, answered by themselves."""
    inputs = Inputs.of([(tuple(world.vocabulary.token_id(c) for c in word), 0) for word in words])
    probes = ProbeSet(inputs, oracle(world, lambda c: c).answer(inputs))
    batch = Batch(inputs.codes(world.vocabulary), inputs.lengths, 1)
    return frame_of(probes, world.vocabulary, world.readout), batch


def sources_of(world: Domain, words: list[str]) -> tuple[list[list[list[int]]], list[Source]]:
    """The digits of every source on every word, and the sources."""
    frame, batch = framed(world, words)
    sources = list(digit_sources(frame, world, separators(frame, world)))
    values = [evaluate_term(source.term, batch, world.vocabulary) for source in sources]
    return [[row[:n].tolist() for row, n in zip(v, batch.lengths, strict=True)] for v in values], sources


def numeral(value: int, base: int, width: int) -> list[int]:
    return [value // base**k % base for k in reversed(range(width))]


@settings(max_examples=60)
@given(st.integers(2, 4), st.data())
def test_sums_and_differences_beside_a_separator(base: int, data: st.DataObject) -> None:
    digits = "0123"[:base]
    words = data.draw(st.lists(st.text(digits, min_size=1, max_size=4), min_size=2, max_size=2), label="operands")
    world = domain(digits + "+", lengths=(1, 9), at="generate", max_new=9)
    other = digits[::-1] + "+" + digits  # every letter but the separator occurs more or less than once somewhere
    texts = ["+".join(words), "0" + other + "0", digits[1] + other + digits[1]]
    found, _ = sources_of(world, texts)
    length = len(texts[0])
    left, right = (int(word, base) for word in words)
    from_left, from_right = (int(word[::-1], base) for word in words)
    rows = [rows[0] for rows in found]
    assert rows[1] == numeral(left + right, base, length)
    assert rows[2] == numeral((left - right) % base**length, base, length)
    assert rows[4] == numeral(from_left + from_right, base, length)[::-1]
    assert rows[5] == numeral((from_left - from_right) % base**length, base, length)[::-1]


@settings(max_examples=60)
@given(st.lists(st.text("01", min_size=1, max_size=7), min_size=1, max_size=6))
def test_the_successor_of_a_numeral(words: list[str]) -> None:
    found, sources = sources_of(domain("01", lengths=(1, 7), at="generate", max_new=8), ["1", "00", *words])
    up, down = found[-4:-2]
    for word, plus_one, minus_one in zip(["1", "00", *words], up, down, strict=True):
        assert plus_one == numeral((int(word, 2) + 1) % 2 ** len(word), 2, len(word))
        assert minus_one == numeral((int(word, 2) - 1) % 2 ** len(word), 2, len(word))
    assert all(len(source.marks) == 1 for source in sources)


def test_separators_are_the_letters_that_occur_once_in_every_probe() -> None:
    world = domain("01+=", lengths=(1, 6), at="generate", max_new=6)
    frame, _ = framed(world, ["0+1=", "10+0=", "1+1="])
    assert [world.vocabulary.names[t] for t in separators(frame, world)] == ["+", "="]
    assert separators(framed(world, ["0+1=", "0+1"])[0], world) == tuple(world.vocabulary.token_id(c) for c in "01+")


def test_two_halves_of_fixed_length_are_added_with_carries() -> None:
    words = [f"{a:03b}{b:03b}" for a in range(8) for b in range(8)]
    found, _ = sources_of(domain("01", lengths=(6, 6), at="generate", max_new=4), words)
    wanted = [numeral(a + b, 2, 4) for a in range(8) for b in range(8)]
    assert any([row[:4] for row in rows] == wanted for rows in found)


def test_interleaved_digits_are_added_with_carries() -> None:
    pairs = [(a, b) for a in range(8) for b in range(8)]
    words = ["".join(x + y for x, y in zip(f"{a:03b}", f"{b:03b}", strict=True)) for a, b in pairs]
    found, _ = sources_of(domain("01", lengths=(6, 6), at="generate", max_new=4), words)
    wanted = [numeral(a + b, 2, 4) for a, b in pairs]
    assert any([row[:4] for row in rows] == wanted for rows in found)


def test_letters_too_many_for_digits_give_no_arithmetic() -> None:
    world = domain("abcdefghijklmnopq", lengths=(1, 4), at="generate", max_new=4)
    frame, _ = framed(world, ["ab", "cd"])
    assert not list(digit_sources(frame, world, ()))
    assert np.all(frame.lengths == 2)
