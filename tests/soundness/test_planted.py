"""A thousand programs that differ from the model on one input, at lengths to 16: found or left undecided, never proved.

The networks answer by the last token whatever else they compute; a program that does the same, but for one word of one
length, is judged by enumeration (every method it has) and by bounds over boxes. ``test_separable_brute_force`` plants
as many for proofs class by class.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from extract.domain import Domain
from extract.lang.syntax import parse_program
from extract.lang.terms import Program
from extract.model.network_oracle import NetworkOracle
from extract.network import Network, Norm
from extract.outcome import Certified, Refuted, Unknown
from extract.progress import Silent
from extract.verify import box_proof
from extract.verify.answer_table import AnswerTable
from extract.verify.box_proof import BoxProver, BoxResult
from extract.verify.compare import compare, verdict
from extract.verify.enumerate import enumerate_model
from tests.architectures import Parts, network_of
from tests.networks import random_network
from tests.unit.verify.enumeration_cases import make_domain

N_PLANTED, N_QUICK, BLOCK = 1000, 20, 20
N_BOXES, N_QUICK_BOXES = 120, 6
LONGEST = 16
#: One network for each method of enumeration, and two of other architectures.
WORLDS: tuple[tuple[Parts | None, dict[str, Any]], ...] = (
    (None, {"n_layers": 1}),
    (None, {"n_layers": 1, "attention": "bidirectional"}),
    (None, {"n_layers": 2}),
    (Parts(attention="bidirectional", norm="rms", positions="rotary", has_gate=True), {}),
    (Parts(attention="causal", norm_place="after", head="relu", has_final_norm=False), {}),
)


def echoing(index: int) -> Network:
    """A network whose answer is the last token: its logits are the token's, less what its layers make of the rest."""
    parts, options = WORLDS[index]
    if parts is None:
        base = random_network(index, d_model=8, n_ctx=20, d_mlp=8, tied=False, spread=0.4, **options)
    else:
        base = network_of(parts, index, d_vocab=5, n_ctx=20)
    embed, unembed = np.zeros_like(base.embed), np.zeros_like(base.W_U)
    embed[np.arange(5), np.arange(5)] = 8.0
    unembed[np.arange(5), np.arange(5)] = 4.0
    small = np.float32(0.02)
    layers = tuple(replace(x, W_O=small * x.W_O, W_out=small * x.W_out, b_O=small * x.b_O) for x in base.layers)
    places = None if base.pos_embed is None else small * base.pos_embed
    norm = None if base.norm_final is None else Norm(np.ones_like(base.norm_final.weight), 0 * base.norm_final.bias)
    return replace(
        base, embed=embed, W_U=unembed, layers=layers, pos_embed=places, head=None, norm_final=norm, b_U=0 * base.b_U
    )


@cache
def world(index: int, length: int) -> tuple[Domain, AnswerTable, NetworkOracle]:
    """The domain of one length, the model's answers there, and the oracle; the network is one of ``WORLDS``."""
    network = echoing(index)
    domain = make_domain(min_length=length, max_length=length, template="<s> {x}", choices=["a", "b", "c"])
    return domain, enumerate_model(network, domain, progress=Silent()), NetworkOracle(network, domain)


def planted(word: list[int], style: str) -> Program:
    """The last token, but for one word of its length."""
    if style == "number":
        number = int("".join(map(str, word)), 2)
        test = f"last(everywhere, horner(int(tokens == 'b'), 2, 0)) == {number}"
    else:
        n = len(word)
        moves = [[i + 1 if i < n and word[i] == letter else n + 1 for letter in (0, 1)] for i in range(n + 2)]
        rows = ", ".join(f"({', '.join(map(str, row))})" for row in moves)
        test = f"last(everywhere, scan(tokens, start=0, letters=('a', 'b'), transitions=({rows}))) == {n}"
    return parse_program(f"output = 'c' if {test} else last(everywhere, tokens)", "value")


def drawn(seed: int, longest: int) -> tuple[int, list[int]]:
    """A network's number and a word, the first and the last of their length among them."""
    rng = np.random.default_rng(seed)
    length = 1 + int(rng.integers(longest))
    words = (rng.integers(0, 2, length), np.zeros(length, int), np.ones(length, int))
    return seed % len(WORLDS), words[int(rng.integers(6)) % 3 if rng.random() < 0.3 else 0].tolist()


def blocks(n: int, n_quick: int, size: int) -> list[Any]:
    return [pytest.param(s, marks=() if s < n_quick else pytest.mark.slow) for s in range(0, n, size)]


@pytest.mark.parametrize("start", blocks(N_PLANTED, N_QUICK, BLOCK))
def test_one_planted_input_is_never_proved_away(start: int) -> None:
    n_found = 0
    for seed in range(start, start + BLOCK):
        # short and long ones: of few inputs the wrong one is a good part, of many none
        index, word = drawn(seed, 10 if start < N_QUICK or index_is_slow(seed) else LONGEST)
        domain, table, oracle = world(index, len(word))
        program = planted(word, "number" if seed % 2 else "automaton")
        comparison, found = compare(program, table, domain), verdict(program, table, domain, oracle)
        assert comparison.tally.total == 2 ** len(word)
        assert not isinstance(found, Certified)
        if isinstance(found, Refuted):
            assert [e.tokens for e in found.counterexamples] == [tuple(word)]
            assert comparison.tally.disagree == 1
            assert comparison.tally.agree + comparison.tally.undecided == 2 ** len(word) - 1
            n_found += 1
        else:
            assert isinstance(found, Unknown) and comparison.tally.undecided > 0
    assert n_found > 0.9 * BLOCK


def index_is_slow(seed: int) -> bool:
    """Networks that only the plain pass evaluates, 10^4 inputs a second."""
    return seed % len(WORLDS) > 2


@pytest.mark.parametrize("index", range(len(WORLDS)))
def test_without_the_plant_all_is_proved(index: int) -> None:
    domain, table, oracle = world(index, 6)
    program = parse_program("output = last(everywhere, tokens)", "value")
    assert isinstance(verdict(program, table, domain, oracle), Certified)


@pytest.mark.parametrize("seed", blocks(N_BOXES, N_QUICK_BOXES, 1))
@pytest.mark.parametrize("has_lists", (False, True))
def test_no_box_swallows_a_planted_input(seed: int, has_lists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_lists:
        monkeypatch.setattr(box_proof, "SMALL_WORK", 0)
        monkeypatch.setattr(box_proof, "LISTED_WORK", 0)
    _, word = drawn(seed, 6 if seed < N_QUICK_BOXES else LONGEST)
    network, n = echoing(seed % 2), len(word)
    domain = make_domain(min_length=n, max_length=n, template="<s> {x}", choices=["a", "b", "c"])
    result = BoxProver(network, domain).prove(planted(word, "automaton"), n, 0, 40)
    assert isinstance(result, BoxResult)
    leaves = result.tree.leaves()
    assert sum(leaf.size for leaf in leaves) == 2**n
    assert sum(leaf.agree for leaf in leaves) < 2**n
    assert sum(leaf.disagree for leaf in leaves) <= 1
    assert {tuple(letters) for letters in result.different} <= {tuple(word)}
