"""Paths against lists of strings: sizes, slices, shares and the ranges of sums, on small graphs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from extract.verify.boxes import Split, choose_split
from extract.verify.paths import Paths, read_paths
from tests.unit.verify.enumeration_cases import make_domain

Word = tuple[int, ...]


def words_of(paths: Paths | None) -> list[Word]:
    return [] if paths is None else [tuple(int(a) for a in row) for row in paths.strings()]


def case(n_letters: int, length: int, modulus: int) -> tuple[Paths, dict[Word, int]]:
    """All strings with unequally many of the first two letters, labelled by the sum of letters modulo a number."""
    alphabet = ("a", "b", "c", "d")[:n_letters]
    promise = {"where": "count(tokens == 'a') != count(tokens == 'b')"}
    domain = make_domain(
        vocab=alphabet, alphabet=alphabet, max_length=length, promise=promise, at="last", kind="argmax"
    )
    graph = domain.graph_at(length)
    assert graph is not None
    paths = read_paths(graph, length, 0, lambda s, p, a: (s + a * (p + 1)) % modulus, lambda s: s)
    assert paths is not None
    said = {}
    for word in itertools.product(range(n_letters), repeat=length):
        if word.count(0) != word.count(1):
            said[word] = sum(a * (p + 1) for p, a in enumerate(word)) % modulus
    return paths, said


CASES = [(2, 1, 2), (2, 5, 2), (2, 7, 3), (3, 4, 4), (3, 5, 2), (4, 4, 3)]


@pytest.mark.parametrize(("n_letters", "length", "modulus"), CASES)
def test_strings_sizes_and_labels_are_those_of_a_list(n_letters: int, length: int, modulus: int) -> None:
    paths, said = case(n_letters, length, modulus)
    assert words_of(paths) == sorted(said)
    assert paths.size == len(said)
    for label in range(modulus):
        part = paths.labelled(label)
        expected = sorted(word for word, own in said.items() if own == label)
        assert words_of(part) == expected
        assert part is None or part.size == len(expected)
    for word, label in said.items():
        assert paths.label_of(word) == label


def splits(n_letters: int, length: int) -> Iterator[Split]:
    rng = np.random.default_rng(length)
    for _ in range(12):
        start, stop = sorted(int(i) for i in rng.choice(length + 1, 2, replace=False))
        letters = tuple(int(a) for a in np.flatnonzero(rng.random(n_letters) < 0.5))
        yield Split("count", letters, start, stop, int(rng.integers(0, length + 1)))
        yield Split("at", start=int(rng.integers(length)))
    yield Split("answer")


def belongs(split: Split, key: int, word: Word, label: int) -> bool:
    if split.kind == "answer":
        return label == key
    if split.kind == "at":
        return word[split.start] == key
    return int(sum(a in split.letters for a in word[split.start : split.stop]) > split.cut) == key


@pytest.mark.parametrize(("n_letters", "length", "modulus"), CASES)
def test_splits_part_the_strings(n_letters: int, length: int, modulus: int) -> None:
    whole, said = case(n_letters, length, modulus)
    waiting = [(whole, sorted(said))]
    for split in splits(n_letters, length):
        paths, words = waiting.pop(0)
        children = split.apply(paths)
        assert sum(part.size for _, part in children) == len(words)
        assert len({key for key, _ in children}) == len(children)
        for key, part in children:
            expected = [word for word in words if belongs(split, key, word, said[word])]
            assert words_of(part) == expected
            assert part.size == len(expected) > 0
            waiting.append((part, expected))


@pytest.mark.parametrize(("n_letters", "length", "modulus"), CASES)
def test_sums_range_as_over_a_list(n_letters: int, length: int, modulus: int) -> None:
    whole, said = case(n_letters, length, modulus)
    rng = np.random.default_rng(7)
    for label in sorted(set(said.values())):
        paths = whole.labelled(label)
        assert paths is not None
        words = np.array(words_of(paths))
        terms = rng.normal(size=(length, n_letters, 6)) * 10.0 ** rng.integers(-3, 4, 6)
        sums = terms[np.arange(length), words].sum(axis=1)
        size = np.abs(terms).max(axis=1).sum(axis=0)
        assert (np.abs(paths.largest(terms) - sums.max(axis=0)) <= (length + 4) * 2.0**-53 * size).all()
        best = paths.best(terms[:, :, 0])
        assert tuple(best) in set(map(tuple, words.tolist()))
        assert terms[np.arange(length), best, 0].sum() == pytest.approx(sums[:, 0].max(), rel=1e-12)
        shares = np.array([[(words[:, p] == a).mean() for a in range(n_letters)] for p in range(length)])
        assert np.allclose(paths.marginals(), shares, atol=1e-12)
        drawn = paths.sample(40, 3)
        assert set(map(tuple, drawn.tolist())) <= set(map(tuple, words.tolist()))
        assert (drawn == paths.sample(40, 3)).all()


def test_the_chosen_split_cuts_until_single_strings() -> None:
    whole, said = case(3, 4, 2)
    rng = np.random.default_rng(3)
    effect = rng.normal(size=(4, 3))
    waiting, singles = [whole], 0
    while waiting:
        paths = waiting.pop()
        split = choose_split(paths, effect)
        if split is None:
            assert paths.size == 1
            singles += 1
            continue
        children = split.apply(paths)
        assert len(children) > 1
        waiting += [part for _, part in children]
    assert singles == len(said)


def test_counts_are_exact_beyond_machine_integers() -> None:
    domain = make_domain(max_length=200, min_length=200, at="last", kind="argmax")
    graph = domain.graph_at(200)
    assert graph is not None
    paths = read_paths(graph, 200, 0, lambda s, p, a: 0, lambda s: 0)
    assert paths is not None
    counted, n = paths.counted((0,), 0, 200)
    half = counted.only(n == 100)
    assert half is not None
    assert half.size == 90548514656103281165404177077484163874504589675413336841320
    assert paths.size == 2**200
