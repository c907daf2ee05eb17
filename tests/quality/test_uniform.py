"""Answers that are the same at every position: found as one answer for the whole input, and only where they are."""

from __future__ import annotations

import numpy as np

from extract.lang.syntax import print_program
from extract.outcome import Certified
from extract.probe.choose import choose_probes
from extract.search.uniform import LastCellOracle, as_last_cells, is_uniform
from tests.quality.test_synthesis import solve
from tests.unit.search.worlds import domain, oracle

WORLD = domain("()[]", lengths=(1, 5), at="every")
YES, NO = (WORLD.vocabulary.symbol_code(c) for c in "()")


def is_shuffled(x: tuple[int, ...]) -> bool:
    """Whether both kinds of brackets are balanced, each for itself."""
    for opening, closing in ("()", "[]"):
        depth = 0
        for code in x:
            depth += (code == WORLD.vocabulary.symbol_code(opening)) - (code == WORLD.vocabulary.symbol_code(closing))
            if depth < 0:
                return False
        if depth:
            return False
    return True


def everywhere(x: tuple[int, ...]) -> tuple[int, ...]:
    return (YES if is_shuffled(x) else NO,) * len(x)


def test_one_answer_for_the_input_is_found_at_every_position() -> None:
    found = solve(WORLD, everywhere).candidates[0]
    assert isinstance(found.verdict, Certified), print_program(found.program)
    assert found.program.adapter == "every"


def test_what_is_mostly_the_same_is_found_as_what_it_is() -> None:
    """The first token everywhere but at the last position of long inputs."""

    def function(x: tuple[int, ...]) -> tuple[int, ...]:
        return (x[0],) * len(x) if len(x) < 5 else (*(x[0],) * 4, x[4])

    found = solve(WORLD, function).candidates[0]
    assert isinstance(found.verdict, Certified), print_program(found.program)


def test_the_view_keeps_the_last_cell() -> None:
    asked = oracle(WORLD, everywhere)
    probes, _ = choose_probes(asked, n_probes=40, n_gate=40, seed=0)
    assert is_uniform(WORLD, probes)
    kept = as_last_cells(probes).answers.values
    assert kept.shape == (len(probes), 1)
    assert (kept == LastCellOracle(asked).answer(probes.inputs).values).all()
    copied = choose_probes(oracle(WORLD, lambda x: x), n_probes=40, n_gate=40, seed=0)[0]
    assert not is_uniform(WORLD, copied)
    assert np.array_equal(
        as_last_cells(copied).answers.values[:, 0],
        [copied.inputs.codes(WORLD.vocabulary)[i, n - 1] for i, n in enumerate(copied.inputs.lengths)],
    )
