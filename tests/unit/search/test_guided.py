"""The guided queue: right hints find a program early, wrong ones change no program, none leave it empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.cegis import synthesize
from extract.hints import NO_HINTS, Hint, Hints
from extract.lang.batch import Batch, evaluate_term
from extract.lang.sorts import sorts_of
from extract.lang.syntax import parse_program, print_term
from extract.lang.terms import Term
from extract.outcome import Budget, Certified
from extract.probe.choose import choose_probes
from extract.progress import Silent
from extract.search.frame import frame_of
from extract.search.goals import Goal, goals_of
from extract.search.guided import GuidedQueue, Proposal
from tests.quality.test_synthesis import ExhaustiveVerifier
from tests.unit.search.worlds import domain, oracle

WORLD = domain("0123", lengths=(1, 5), at="every", numeric=True)
VOCABULARY = WORLD.vocabulary
#: How many earlier tokens are smaller than this one.
ASKED = oracle(WORLD, lambda codes: tuple(sum(c < own for c in codes[:i]) for i, own in enumerate(codes)))
PROBES, _ = choose_probes(ASKED, n_probes=40, n_gate=60, seed=0)
FRAME = frame_of(PROBES, VOCABULARY, WORLD.readout)
BATCH = Batch(PROBES.inputs.codes(VOCABULARY), PROBES.inputs.lengths, 1)
GOALS: list[Goal] = list(goals_of(PROBES, FRAME, WORLD.readout, VOCABULARY))

TERMS = [
    parse_program(f"output = selector_width({text})", "every").term().arguments[0]
    for text in ("everywhere", "upto", "select(tokens, tokens, '==')", "select(indices, tokens, '<')",
                 "before and select(tokens, tokens, '<')", "select(tokens, 1, '==')", "after")
]  # fmt: skip
RIGHT = TERMS[4]
NONSENSE = Term("select", (Term("tokens"), Term("boolean", (), (1,))), ("==",))


def hints(*selectors: Term) -> Hints:
    return Hints(tuple(Hint(term, 1 - i / 100, "made up") for i, term in enumerate(selectors)))


def tried(given_hints: Hints, n: int = 5000) -> tuple[list[Proposal], int]:
    """What the queue proposes, and the count at the first proposal."""
    queue = GuidedQueue(given_hints, GOALS, BATCH, VOCABULARY)
    first = next(queue.advance(n), None)
    at = queue.n_candidates
    return ([first] if first else []) + list(queue.advance(n - at)), at


def test_no_hints_no_candidates() -> None:
    queue = GuidedQueue(NO_HINTS, GOALS, BATCH, VOCABULARY)
    assert list(queue.advance(1000)) == []
    assert queue.n_candidates == 0


def test_a_hint_at_the_front_finds_its_program_sooner() -> None:
    found, early = tried(hints(RIGHT, *TERMS[:4]))
    assert "selector_width(before and select(tokens, tokens, '<'))" in [print_term(p.term) for p in found]
    _, late = tried(hints(*TERMS[:4], *TERMS[5:], RIGHT))
    assert early < late


def test_every_proposal_hits_its_goal() -> None:
    found, _ = tried(hints(*TERMS))
    assert found
    for proposal in found:
        goal = GOALS[proposal.goal]
        values = evaluate_term(proposal.term, BATCH, VOCABULARY)
        assert ((np.broadcast_to(values, goal.codes.shape) == goal.codes) | ~goal.mask).all()


@settings(max_examples=12)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_turns_change_no_order(turns: list[int]) -> None:
    whole, parts = (GuidedQueue(hints(*TERMS), GOALS, BATCH, VOCABULARY) for _ in range(2))
    at_once = list(whole.advance(sum(turns)))
    in_turns = [proposal for turn in turns for proposal in parts.advance(turn)]
    assert (in_turns, parts.n_candidates) == (at_once, whole.n_candidates)
    assert whole.n_candidates == sum(turns)


def test_two_valued_answers_come_as_choices() -> None:
    world = domain("ab", lengths=(1, 6), where="count(tokens == 'a') != count(tokens == 'b')")
    a, b = (world.vocabulary.symbol_code(c) for c in "ab")
    asked = oracle(world, lambda codes: (a if codes.count(a) > codes.count(b) else b,))
    probes, _ = choose_probes(asked, n_probes=40, n_gate=60, seed=0)
    goals = list(goals_of(probes, frame_of(probes, world.vocabulary, world.readout), world.readout, world.vocabulary))
    batch = Batch(probes.inputs.codes(world.vocabulary), probes.inputs.lengths, 1)
    counts = [parse_program(f"output = count(tokens == '{c}')", "value").term() for c in "ab"]
    seen = Hints((), tuple(Hint(term, 1.0, "made up") for term in counts))
    first = next(GuidedQueue(seen, goals, batch, world.vocabulary).advance(200))
    assert print_term(first.term) == "'b' if count(tokens == 'a') < count(tokens == 'b') else 'a'"


@settings(max_examples=4)
@given(st.permutations([*TERMS, NONSENSE]), st.integers(0, 3))
def test_hints_change_no_verdict(order: list[Term], n_features: int) -> None:
    """An order, never a filter: whatever is hinted, the program is as cheap and as certified as without."""
    features = tuple(Hint(Term("integer", (), (i,)), float(i), "made up") for i in range(n_features))
    results = [
        synthesize(
            ASKED, ExhaustiveVerifier(ASKED), Budget(n_candidates=20_000), seed=0, n_programs=1, progress=Silent(),
            hints=given_hints,
        )
        for given_hints in (NO_HINTS, Hints(hints(*order).selectors, features))
    ]  # fmt: skip
    blind, guided = (result.candidates[0] for result in results)
    assert isinstance(blind.verdict, Certified) and isinstance(guided.verdict, Certified)
    assert (guided.cost, guided.program) == (blind.cost, blind.program)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_no_more_is_tried_than_asked(n: int) -> None:
    queue = GuidedQueue(hints(*TERMS), GOALS, BATCH, VOCABULARY)
    list(queue.advance(n))
    assert queue.n_candidates == n


def test_cells_by_position_are_no_answer_by_step() -> None:
    """On the probes there are as many positions as steps; a term by position would still be no output."""
    world = domain("01", lengths=(1, 4), at="generate", max_new=4)
    asked = oracle(world, lambda codes: codes)
    probes, _ = choose_probes(asked, n_probes=30, n_gate=30, seed=0)
    frame = frame_of(probes, world.vocabulary, world.readout)
    goals = list(goals_of(probes, frame, world.readout, world.vocabulary))
    batch = Batch(probes.inputs.codes(world.vocabulary), probes.inputs.lengths, frame.care.shape[1])
    equal = Hints((), (Hint(Term("tokens"), 1.0, "made up"),))
    for proposal in GuidedQueue(equal, goals, batch, world.vocabulary).advance(2000):
        sort = sorts_of(proposal.term, world.vocabulary)[proposal.term]
        assert sort.shape in ("whole", goals[proposal.goal].shape), print_term(proposal.term)
