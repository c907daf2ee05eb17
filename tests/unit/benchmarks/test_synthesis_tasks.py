"""Every record of the synthesis benchmark is what it says: its best known program is the reference on every input."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import product

import numpy as np
import pytest

from benchmarks.synthesis.records import EOS, SynthesisTask
from benchmarks.synthesis.suite import TASKS, by_name
from benchmarks.synthesis.verifier import AnsweredDomain, n_wrong
from extract.lang.cost import program_cost
from extract.lang.sorts import check_program
from extract.lang.syntax import parse_program, print_program
from extract.readout import same_answers

INSIDE = [task for task in TASKS if not task.outside]
every_task = pytest.mark.parametrize("task", INSIDE, ids=lambda task: task.name)


@every_task
def test_the_best_known_program_is_the_reference_on_every_input(task: SynthesisTask) -> None:
    answered = AnsweredDomain(task)
    program = task.best_program()
    check_program(program, answered.domain.vocabulary, answered.domain.readout)
    wrong = np.flatnonzero(~same_answers(answered.said_by(program), answered.answers))
    assert not len(wrong), f"differs on {[answered.keys()[i] for i in wrong[:3]]}"
    is_constant = bool((answered.answers == answered.answers[:1]).all())
    assert not is_constant, "a domain on which a constant would do cannot tell programs apart"


@pytest.mark.parametrize("family", sorted({task.family for task in INSIDE}))
def test_interpreter_agrees_with_the_reference_too(family: str) -> None:
    task = next(task for task in INSIDE if task.family == family)
    assert n_wrong(task, task.best_program()) == 0


def test_a_wrong_program_is_counted_exactly() -> None:
    task = by_name("copy_per_token")
    wrong = parse_program("output = first(everywhere, tokens)", "every")
    n_constant = 4 * (task.lengths[1] - task.lengths[0] + 1)
    assert n_wrong(task, wrong) == len(AnsweredDomain(task).inputs) - n_constant


def test_domains_hold_every_string_that_keeps_the_promise() -> None:
    for name in ("tomita_4", "raspl_copy_unique", "majority", "max_of_2"):
        task = by_name(name)
        admitted = {
            "raspl_copy_unique": lambda t: len(set(t)) == len(t),
            "majority": lambda t: 2 * t.count("1") != len(t),
        }
        strings = (
            word
            for length in range(task.lengths[0], task.lengths[1] + 1)
            for word in product(task.alphabet, repeat=length)
        )
        holds = admitted.get(name, lambda t: True)
        assert len(AnsweredDomain(task).inputs) == sum(holds(word) for word in strings)


def test_there_are_enough_tasks_and_each_says_where_it_is_from() -> None:
    assert len(INSIDE) >= 78
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert all(task.source.strip() and task.family.strip() for task in TASKS)
    assert all(bool(task.best) != bool(task.outside) for task in TASKS)
    assert sum(task.family == "mips" for task in TASKS) == 62


def test_tasks_differ() -> None:
    """No task is another one under a second name: same inputs, same read-out, same answers."""
    worlds: dict[str, list[SynthesisTask]] = defaultdict(list)
    for task in INSIDE:
        worlds[json.dumps(task.spec)].append(task)
    for alike in worlds.values():
        if len(alike) > 1:
            answers = {AnsweredDomain(task).answers.tobytes() for task in alike}
            assert len(answers) == len(alike), [task.name for task in alike]


def test_best_programs_cost_what_their_printed_text_costs() -> None:
    for task in INSIDE:
        program = task.best_program()
        again = parse_program(print_program(program), program.adapter)
        assert program_cost(again) == program_cost(program)


def test_generated_answers_end_with_a_stop_token_outside_the_alphabet() -> None:
    assert all(EOS not in task.alphabet for task in TASKS)
