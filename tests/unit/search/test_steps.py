"""Prefixes of answers are the probes of the step view; a term right on all of them generates the answers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from extract.lang.batched import Batch, evaluate
from extract.lang.syntax import print_term
from extract.lang.terms import Program
from extract.oracle import ProbeSet
from extract.outcome import Budget
from extract.progress import Silent
from extract.readout import Inputs, same_answers
from extract.search.steps import StepSearch, StepView, can_be_continued
from tests.unit.search.worlds import Function, domain, oracle

WORLD = domain("abc", lengths=(1, 4), at="generate", max_new=5)
STOP = WORLD.vocabulary.symbol_code("<eos>")


def all_probes(function: Function) -> ProbeSet:
    rows = [(tuple(int(t) for t in row), 0) for n in WORLD.lengths for row in WORLD.tokens(n, 0, WORLD.size_at(n))]
    inputs = Inputs.of(rows)
    return ProbeSet(inputs, oracle(WORLD, function).answer(inputs))


def searched(function: Function) -> tuple[StepSearch, ProbeSet]:
    probes = all_probes(function)
    search = StepSearch(oracle(WORLD, function), probes, probes, Budget(n_candidates=60_000, max_cost=6), Silent())
    return search, probes


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 5), st.sampled_from(["first", "last"]))
def test_a_term_right_on_every_prefix_generates_every_answer(limit: int, which: str) -> None:
    def function(codes: tuple[int, ...]) -> tuple[int, ...]:
        code = codes[0] if which == "first" else codes[-1]
        return (code,) * limit

    search, probes = searched(function)
    search.search()
    exact = search.portfolio.states[0].exact
    assert exact
    batch = Batch(probes.inputs.codes(WORLD.vocabulary), probes.inputs.lengths, 5)
    for scored in exact:
        program = Program("step", (("output", scored.term),))
        values = evaluate(program, batch, WORLD.vocabulary, WORLD.readout)
        assert same_answers(values, probes.answers.values).all(), print_term(scored.term)


def test_an_answer_cut_by_the_limit_has_no_end() -> None:
    search, _ = searched(lambda c: (c[0],) * 5)
    wanted = set(search.portfolio.states[0].goal.codes[:, 0].tolist())
    assert STOP not in wanted
    ended, _ = searched(lambda c: (c[0],) * 4)
    assert STOP in set(ended.portfolio.states[0].goal.codes[:, 0].tolist())


def test_the_view_answers_with_the_first_token_or_the_end() -> None:
    asked = oracle(WORLD, lambda c: c[1:])
    view = StepView(asked, WORLD.readout)
    a, b = (WORLD.vocabulary.token_id(c) for c in "ab")
    answers = view.answer(Inputs.of([((a, b), 0), ((a,), 0)]))
    assert answers.values.tolist() == [[WORLD.vocabulary.symbol_code("b")], [STOP]]


def test_only_generated_answers_are_continued() -> None:
    probes = all_probes(lambda c: c)
    assert can_be_continued(probes, WORLD)
    assert not can_be_continued(probes, domain("abc", lengths=(1, 4)))


def test_long_prompts_are_asked_too() -> None:
    world = domain("ab", lengths=(30, 31), at="generate", max_new=3)
    asked = oracle(world, lambda c: c[:1])
    inputs = world.sample(12, 0)
    probes = ProbeSet(inputs, asked.answer(inputs))
    search = StepSearch(asked, probes, probes, Budget(n_candidates=6), Silent())
    assert len(search.portfolio.states[0].goal.codes) == 24
