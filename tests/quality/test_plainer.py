"""A model that errs on a few long inputs is told as its rule and exceptions, not as a program unrolled to fit them."""

from __future__ import annotations

from extract.cegis import synthesize
from extract.lang.syntax import print_program
from extract.outcome import Budget, Certified, Refuted
from extract.progress import Silent
from tests.quality.test_synthesis import ExhaustiveVerifier
from tests.unit.search.worlds import domain, oracle

WORLD = domain("012", lengths=(0, 8))
ZERO, ONE, TWO = (WORLD.vocabulary.symbol_code(c) for c in "012")
WRONG = {(TWO,) * 7, (TWO,) * 8, (ONE,) + (TWO,) * 7}


def last_zero(x: tuple[int, ...]) -> tuple[int, ...]:
    """Whether the last token that is not a 2 is a 0; wrong on three long inputs."""
    said = next((token == ZERO for token in reversed(x) if token != TWO), False)
    return (ZERO if said != (x in WRONG) else ONE,)


def found(*, is_strict: bool):  # type: ignore[no-untyped-def]
    asked = oracle(WORLD, last_zero)
    return synthesize(
        asked, ExhaustiveVerifier(asked), Budget(), seed=0, n_programs=1, progress=Silent(), is_strict=is_strict
    ).candidates[0]


def test_the_rule_is_reported_with_its_exceptions() -> None:
    candidate = found(is_strict=False)
    assert isinstance(candidate.verdict, Refuted)
    assert candidate.verdict.certificate is not None
    assert candidate.verdict.certificate.tally.disagree == len(WRONG), print_program(candidate.program)
    assert candidate.cost <= 12


def test_the_strict_get_an_exact_program_where_one_is_found() -> None:
    candidate = found(is_strict=True)
    assert isinstance(candidate.verdict, Certified), print_program(candidate.program)
