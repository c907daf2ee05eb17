"""Interventions: a swapped head takes its term along, other heads and other terms do not."""

from __future__ import annotations

import pytest

from extract.lang.syntax import parse_program
from extract.model.observed import Observed
from extract.probe.interventions import Interchange, carriers, interchange
from tests.unit.probe.by_hand import PREVIOUS, PROGRAM, pair_domain, pair_network

DOMAIN = pair_domain()
MEANT = parse_program(PROGRAM, "every")
MOVED = parse_program(f"output = {PREVIOUS}", "every").term()
OWN = parse_program("output = tokens", "every").term()


@pytest.fixture(scope="module")
def observed() -> Observed:
    return Observed(pair_network())


def test_the_head_that_moves_a_term_carries_it(observed: Observed) -> None:
    found = interchange(observed, DOMAIN, MEANT, MOVED, 0, 1, seed=0)
    assert found.n_pairs >= 24
    assert found.n_followed == found.n_pairs
    assert found.is_confirmed


def test_another_head_and_another_term_are_not_confirmed(observed: Observed) -> None:
    dead = interchange(observed, DOMAIN, MEANT, MOVED, 0, 0, seed=0)
    assert (dead.n_pairs >= 24, dead.n_followed) == (True, 0)
    own = interchange(observed, DOMAIN, MEANT, OWN, 0, 1, seed=0)
    assert own.n_pairs >= 24 and not own.is_confirmed


def test_a_wrong_program_is_not_confirmed(observed: Observed) -> None:
    wrong = parse_program(f"output = {PREVIOUS}", "every")
    assert not interchange(observed, DOMAIN, wrong, MOVED, 0, 1, seed=0).is_confirmed


def test_only_what_is_confirmed_is_claimed(observed: Observed) -> None:
    found = carriers(observed, DOMAIN, MEANT, [MOVED, OWN], seed=0)
    assert [(f.layer, f.head, f.term) for f in found] == [(0, 1, MOVED)]


FEW = [(0, 0, False), (23, 23, False), (24, 24, True), (100, 94, False), (100, 95, True)]


@pytest.mark.parametrize(("n_pairs", "n_followed", "confirmed"), FEW)
def test_few_pairs_confirm_nothing(n_pairs: int, n_followed: int, confirmed: bool) -> None:
    assert Interchange(0, 0, OWN, n_pairs, n_followed).is_confirmed == confirmed
