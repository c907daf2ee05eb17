"""Program against program: verdicts against exhaustive truth, replay, budgets, and every way to decide a length."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import extract.verify.programs as programs
from extract.domain import Domain
from extract.errors import ProgramError, SoundnessAlarm
from extract.lang.batched import Batch, evaluate
from extract.lang.syntax import parse_program
from extract.lang.terms import Adapter, Program, Term
from extract.readout import same_answers
from extract.verify.programs import Distinguished, NotDecided, ProgramComparer, SameOnDomain, distinguish
from extract.verify.reading import ReadTogether
from extract.verify.solver import Sat, Undecided
from tests.unit.search.worlds import domain

PLENTY = 50_000_000


def parsed(text: str, adapter: Adapter = "value") -> Program:
    return parse_program(text, adapter)


def really_differ(left: Program, right: Program, world: Domain) -> set[tuple[int, ...]]:
    """Every input on which the answers differ, by evaluating all of them (the law tests compare with the reference)."""
    found = set()
    for length in world.lengths:
        tokens = world.tokens(length, 0, world.size_at(length))
        batch = Batch(world.vocabulary.token_codes[tokens], np.full(len(tokens), length, dtype=np.int32))
        answers = [evaluate(program, batch, world.vocabulary, world.readout) for program in (left, right)]
        found |= {tuple(map(int, row)) for row in tokens[~same_answers(*answers)]}
    return found


# -- random pairs against exhaustive truth -------------------------------------------------------------------------


class Pairs:
    """Random programs over one domain, and near copies of them: one constant, relation or operator changed."""

    def __init__(self, seed: int, adapter: Adapter, *, causal: bool = False) -> None:
        self.random = random.Random(seed)
        self.adapter = adapter
        self.causal = causal

    def pair(self) -> tuple[Program, Program]:
        left = self.term(3)
        right = self.changed(left) if self.random.random() < 0.7 else self.term(3)
        return self.program(left), self.program(right)

    def program(self, term: Term) -> Program:
        if self.adapter == "value":
            term = Term("last", (Term("everywhere"), term, Term("integer", (), (0,))))
        if self.adapter == "generate":
            length = Term("max_over", (Term("everywhere"), term))
            return Program("generate", (("output", Term("step")), ("output_length", length)))
        return Program(self.adapter, (("output", term),))

    def term(self, depth: int) -> Term:
        pick, integer = self.random.choice, Term("integer", (), (self.random.randint(0, 3),))
        if depth == 0:
            return pick([Term("tokens"), Term("indices"), integer if self.causal else Term("length"), integer])
        d = depth - 1
        kind = pick([0, 1, 2, 4, 6] if self.causal else range(7))
        if kind == 0:
            return Term(pick(["+", "-", "min", "max"]), (self.term(d), self.term(d)))
        if kind == 1:
            return Term("if", (self.condition(d), self.term(d), self.term(d)))
        if kind == 2:
            return Term("running_count", (self.condition(d),))
        if kind == 3:
            return Term("rank", (self.term(d),))
        if kind == 4:
            return Term("%", (self.term(d), Term("integer", (), (self.random.randint(2, 4),))))
        if kind == 5:
            return Term("selector_width", (self.selector(d),))
        return Term(pick(["first", "last", "min_over", "max_over", "sum_over"]), (self.selector(d), self.term(d)))

    def condition(self, depth: int) -> Term:
        return Term(self.random.choice(["==", "<", "<="]), (self.term(depth), self.term(depth)))

    def selector(self, depth: int) -> Term:
        if self.causal:
            window, keys = Term(self.random.choice(["before", "upto"])), Term("keys_where", (self.condition(depth),))
            return self.random.choice([window, Term("and", (window, keys))])
        relation = self.random.choice(["==", "<", "!=", ">="])
        select = Term("select", (self.term(depth), self.term(depth)), (relation,))
        return self.random.choice([select, Term("and", (select, Term("before"))), Term("upto")])

    def changed(self, term: Term) -> Term:
        """One node changed, or (sometimes) only rewritten without changing its meaning."""
        parts = list(term.subterms())
        target = self.random.choice(parts)
        swaps = {"<": "<=", "<=": "<", "first": "last", "last": "first", "min": "max", "min_over": "max_over"}
        if target.operator in swaps:
            new = Term(swaps[target.operator], target.arguments, target.data)
        elif target.operator == "integer":
            new = Term("integer", (), (int(str(target.data[0])) + 1,))
        elif target.operator == "+":
            new = Term("+", target.arguments[::-1])
        else:
            return Term("+", (term, Term("integer", (), (0,))))
        built: dict[Term, Term] = {}
        for part in parts:
            same = Term(part.operator, tuple(built[a] for a in part.arguments), part.data)
            built[part] = new if part == target else same
        return built[term]


def check_pairs(n: int, seed: int, *, causal: bool = False) -> dict[str, int]:
    """Compare verdicts with exhaustive truth in three worlds of at most 84 inputs."""
    seen = {"same": 0, "different": 0, "not decided": 0}
    worlds: list[tuple[Domain, Adapter]] = [
        (domain("012", lengths=(0, 3), numeric=True), "value"),
        (domain("0123", lengths=(1, 3), numeric=True, at="every", where="count(tokens == 1) < 2"), "every"),
        (domain("01", lengths=(1, 4), numeric=True, at="generate", max_new=6), "generate"),
    ]
    for k, (world, adapter) in enumerate(worlds):
        pairs = Pairs(seed + k, adapter, causal=causal)
        with ProgramComparer(world) as comparer:
            for _ in range(n // len(worlds)):
                left, right = pairs.pair()
                truth = really_differ(left, right, world)
                verdict = comparer.distinguish(left, right, rlimit=PLENTY, seconds=60)
                if isinstance(verdict, NotDecided):
                    seen["not decided"] += 1
                    continue
                assert isinstance(verdict, Distinguished) == bool(truth), (left, right)
                if isinstance(verdict, Distinguished):
                    assert verdict.tokens in truth
                seen["different" if truth else "same"] += 1
    return seen


@pytest.fixture
def solver_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but the solver decide."""
    monkeypatch.setattr(programs, "_SOME_INPUTS", 0)
    monkeypatch.setattr(ProgramComparer, "_look", lambda *_: Undecided("not looked at"))
    monkeypatch.setattr(programs, "read_together", lambda *_: ReadTogether(None, ()))


@pytest.fixture
def automata_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but automata decide."""
    monkeypatch.setattr(ProgramComparer, "_look", lambda *_: Undecided("not looked at"))
    monkeypatch.setattr(ProgramComparer, "_solve", lambda *_: Undecided("not asked"))


@pytest.mark.usefixtures("solver_only")
def test_the_solver_agrees_with_exhaustive_truth() -> None:
    seen = check_pairs(300, 1)
    assert seen["not decided"] == 0 and min(seen["same"], seen["different"]) > 40, seen


@pytest.mark.slow
@pytest.mark.usefixtures("solver_only")
def test_the_solver_agrees_with_exhaustive_truth_on_many_pairs() -> None:
    seen = check_pairs(2000, 100)
    assert seen["not decided"] == 0 and min(seen["same"], seen["different"]) > 300, seen


@pytest.mark.usefixtures("automata_only")
def test_automata_agree_with_exhaustive_truth() -> None:
    seen = check_pairs(300, 2, causal=True)
    assert min(seen["same"], seen["different"]) > 40, seen


# -- single cases --------------------------------------------------------------------------------------------------

MAJORITY = parsed("output = '1' if count(tokens == '0') < count(tokens == '1') else '0'")
AT_LEAST_HALF = parsed("output = '1' if count(tokens == '0') <= count(tokens == '1') else '0'")
REWRITTEN = parsed("output = '1' if length < 2 * count(tokens == '1') else '0'")


def test_long_inputs_are_decided() -> None:
    world = domain("01", lengths=(1, 50))
    assert distinguish(MAJORITY, REWRITTEN, world, rlimit=PLENTY, seconds=60) == SameOnDomain(
        tuple(range(1, 51)), "automata and evaluation of all inputs"
    )
    found = distinguish(MAJORITY, AT_LEAST_HALF, world, rlimit=PLENTY, seconds=60, lengths=(49, 50))
    assert isinstance(found, Distinguished) and len(found.tokens) == 50 and found.tokens.count(0) == 25


@pytest.mark.usefixtures("solver_only")
def test_the_solver_decides_long_inputs() -> None:
    world = domain("01", lengths=(40, 50))
    verdict = distinguish(MAJORITY, REWRITTEN, world, rlimit=PLENTY, seconds=60)
    assert verdict == SameOnDomain(tuple(range(40, 51)), "solver")
    found = distinguish(MAJORITY, AT_LEAST_HALF, world, rlimit=PLENTY, seconds=60)
    assert isinstance(found, Distinguished) and found.tokens.count(0) == 20


@pytest.mark.usefixtures("automata_only")
def test_answers_settled_early_are_still_compared() -> None:
    world = domain("01", lengths=(20, 20))
    first = parsed("output = first(everywhere, tokens)")
    found = distinguish(first, parsed("output = '1'"), world, rlimit=PLENTY, seconds=60)
    assert isinstance(found, Distinguished) and len(found.tokens) == 20 and found.tokens[0] == 0


def test_a_program_per_position_is_read_prefix_by_prefix() -> None:
    world = domain("01", lengths=(1, 40), at="every")
    left = parsed("output = '1' if running_count(tokens == '1') % 2 == 0 else '0'", "every")
    parity = "scan(tokens, start=0, letters=('1',), transitions=((1,), (0,)))"
    right = parsed(f"output = '1' if {parity} == 0 else '0'", "every")
    verdict = distinguish(left, right, world, rlimit=PLENTY, seconds=60)
    assert verdict == SameOnDomain(tuple(range(1, 41)), "automata and evaluation of all inputs")
    late = parsed(f"output = '1' if {parity} == 0 and running_count(tokens == '0') < 20 else '0'", "every")
    found = distinguish(left, late, world, rlimit=PLENTY, seconds=60, lengths=(39, 30))
    assert isinstance(found, Distinguished) and len(found.tokens) in (30, 39)


@pytest.mark.parametrize("only", ("automata_only", "solver_only"))
def test_the_promise_matters(only: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(only)
    world = domain("01", lengths=(1, 24), where="count(tokens == '0') != count(tokens == '1')")
    verdict = distinguish(MAJORITY, AT_LEAST_HALF, world, rlimit=PLENTY, seconds=60)
    assert isinstance(verdict, SameOnDomain) and verdict.lengths == tuple(range(1, 25))


def test_a_promise_without_an_automaton_is_encoded_as_its_term() -> None:
    same = "all(first(select(indices, length - 1 - indices, '=='), tokens) == tokens)"
    world = domain("01", lengths=(18, 18), where=same)
    first, last = (parsed(f"output = {name}(everywhere, tokens)") for name in ("first", "last"))
    assert isinstance(distinguish(first, last, world, rlimit=PLENTY, seconds=60), SameOnDomain)
    second = parsed("output = last(select(indices, 1, '=='), tokens)")
    found = distinguish(first, second, world, rlimit=PLENTY, seconds=60)
    assert isinstance(found, Distinguished) and found.tokens == found.tokens[::-1]


def test_the_same_terms_need_no_work() -> None:
    world = domain("01", lengths=(1, 6))
    verdict = distinguish(MAJORITY, MAJORITY, world, rlimit=0, seconds=0)
    assert verdict == SameOnDomain((1, 2, 3, 4, 5, 6), "the same terms")


def test_answers_are_the_interpreters() -> None:
    world = domain("01", lengths=(2, 2))
    found = distinguish(MAJORITY, AT_LEAST_HALF, world, rlimit=PLENTY, seconds=60)
    zero, one = (int(code) for code in world.vocabulary.token_codes[:2])
    assert found == Distinguished((0, 1), 0, (zero,), (one,))


#: The same number of equal pairs, counted from every position and from the left only.
HARD = (
    "output = sum_over(everywhere, selector_width(select(tokens, tokens, '==')))",
    "output = length + 2 * sum_over(everywhere, selector_width(select(tokens, tokens, '==') and before))",
)


def test_what_is_not_decided_says_so() -> None:
    world = domain("0123456789", lengths=(2, 9), numeric=True)
    left, right = (parsed(text) for text in HARD)
    with ProgramComparer(world) as comparer:
        verdict = comparer.distinguish(left, right, rlimit=1_000, seconds=60, lengths=(2, 9))
        assert isinstance(verdict, NotDecided) and verdict.lengths_done == (2,) and "length 9: z3" in verdict.reason
        clocked = comparer.distinguish(left, right, rlimit=PLENTY, seconds=0, lengths=(9,))
        assert isinstance(clocked, NotDecided) and clocked.lengths_done == ()


def test_a_killed_solver_is_no_verdict() -> None:
    world = domain("0123456789", lengths=(9, 9), numeric=True)
    left, right = (parsed(text) for text in HARD)
    with ProgramComparer(world) as comparer:
        verdict = comparer.distinguish(left, right, rlimit=4_000_000_000, seconds=1.0)
        assert isinstance(verdict, NotDecided)
        easy = comparer.distinguish(left, parsed("output = length + 1"), rlimit=PLENTY, seconds=60)
        assert isinstance(easy, Distinguished)


def test_undecided_but_small_is_evaluated() -> None:
    world = domain("01", lengths=(13, 13))
    with ProgramComparer(world) as comparer:
        ranked = parsed("output = '1' if any(rank(tokens) == 5) else '0'")
        verdict = comparer.distinguish(ranked, parsed("output = '1'"), rlimit=1, seconds=60)
        assert verdict == SameOnDomain((13,), "evaluation of all inputs")


@pytest.mark.usefixtures("solver_only")
def test_a_difference_that_does_not_replay_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    world = domain("01", lengths=(14, 14), where="count(tokens == '1') > 0")

    def lie(*_: Any, **__: Any) -> Sat:
        return Sat((0,) * 14)

    with ProgramComparer(world) as comparer:
        monkeypatch.setattr(comparer._solver, "ask", lie)
        with pytest.raises(SoundnessAlarm, match="expected the interpreter to agree"):
            comparer.distinguish(MAJORITY, REWRITTEN, rlimit=PLENTY, seconds=60)


def test_a_program_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ProgramError):
        distinguish(MAJORITY, parsed("output = tokens", "every"), domain("01"), rlimit=1, seconds=1)
