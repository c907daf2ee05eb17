"""The automaton learner finds the machine of a regular answer, counts up to the length, and refuses the rest."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.domain import Domain
from extract.oracle import Oracle, ProbeSet
from extract.readout import Inputs
from extract.search.automata import MooreMachine, is_causal, learn_machine
from tests.unit.search.worlds import domain, oracle

WORLDS = {2: domain("01", lengths=(0, 16)), 3: domain("abc", lengths=(0, 12))}
Answer = Callable[[tuple[int, ...]], tuple[int, ...]]


def letters_of(world: Domain, codes: tuple[int, ...]) -> tuple[int, ...]:
    of_code = {int(world.vocabulary.token_codes[token]): i for i, token in enumerate(world.alphabet)}
    return tuple(of_code[code] for code in codes)


def state_after(machine: MooreMachine, letters: tuple[int, ...]) -> int:
    state = 0
    for letter in letters:
        state = machine.transitions[state][letter]
    return state


def sample_of(asked: Oracle, n: int = 300) -> ProbeSet:
    inputs = asked.domain.sample(n, seed=3)
    return ProbeSet(inputs, asked.answer(inputs))


def machine_of(asked: Oracle, **limits: int) -> MooreMachine | None:
    learned = learn_machine(asked, sample_of(asked), **limits)
    return None if learned is None else learned.of_cell(0)


def random_machine(n_states: int, n_letters: int, data: st.DataObject) -> MooreMachine:
    state = st.integers(0, n_states - 1)
    rows = st.lists(st.tuples(*[state] * n_letters), min_size=n_states, max_size=n_states)
    outputs = st.lists(st.integers(0, 2), min_size=n_states, max_size=n_states)
    return MooreMachine(tuple(data.draw(rows)), tuple(data.draw(outputs)))


# of more states, one may hide behind a single word that no sample need hold
@given(st.integers(1, 5), st.sampled_from(sorted(WORLDS)), st.data())
def test_agrees_with_every_small_machine_on_all_short_words(n_states: int, n_letters: int, data: st.DataObject) -> None:
    world, source = WORLDS[n_letters], random_machine(n_states, n_letters, data)

    def answer(codes: tuple[int, ...]) -> tuple[int, ...]:
        output = source.outputs[state_after(source, letters_of(world, codes))]
        assert output is not None
        return (output,)

    machine = machine_of(oracle(world, answer))
    assert machine is not None
    assert machine.n_states <= n_states
    for length in range(9 if n_letters == 2 else 7):
        for letters in product(range(n_letters), repeat=length):
            wanted = source.outputs[state_after(source, letters)]
            assert machine.outputs[state_after(machine, letters)] == wanted


def test_a_difference_that_only_long_words_show_is_learned_from_the_sample() -> None:
    world = WORLDS[2]

    def counts_to_nine(codes: tuple[int, ...]) -> tuple[int, ...]:
        return (int(codes.count(codes[0]) >= 9) if codes else 0,)

    asked = oracle(world, counts_to_nine)
    machine = machine_of(asked)
    assert machine is not None
    inputs = world.sample(2000, seed=11)
    for i in range(len(inputs)):
        letters = tuple(world.alphabet.index(t) for t in inputs.row(i)[0])
        wanted = int(letters.count(letters[0]) >= 9) if letters else 0
        assert machine.outputs[state_after(machine, letters)] == wanted


@pytest.mark.parametrize("at", ["last", "every"])
def test_counts_up_to_the_length(at: str) -> None:
    world = domain("ab", lengths=(1, 7), at=at)
    a = world.vocabulary.symbol_code("a")

    def count(codes: tuple[int, ...]) -> tuple[int, ...]:
        counts = tuple(codes[: i + 1].count(a) for i in range(len(codes)))
        return counts if at == "every" else counts[-1:]

    machine = machine_of(oracle(world, count))
    assert machine is not None
    for length in range(1, 8):
        for letters in product((0, 1), repeat=length):
            assert machine.outputs[state_after(machine, letters)] == letters.count(0)


def test_learns_all_labels_at_once() -> None:
    world = domain("ab", lengths=(0, 9), kind="multilabel")
    a = world.vocabulary.symbol_code("a")

    def labels(codes: tuple[int, ...]) -> tuple[int, ...]:
        n = codes.count(a)
        return (int(n % 2 == 0), int(n % 3 == 0), int(n > 0), 0)

    asked = oracle(world, labels)
    learned = learn_machine(asked, sample_of(asked))
    assert learned is not None
    assert learned.machine.n_states == 7
    assert [learned.of_cell(i).n_states for i in range(4)] == [2, 3, 2, 1]


def test_a_promise_leaves_states_undetermined_but_right() -> None:
    world = domain("ab", lengths=(2, 10), where="count(tokens == 'a') <= 2")
    a = world.vocabulary.symbol_code("a")
    machine = machine_of(oracle(world, lambda codes: (codes.count(a),)))
    assert machine is not None
    assert machine.n_states <= 4
    for length in range(2, 11):
        for row in world.tokens(length, 0, world.size_at(length)):
            letters = tuple(world.alphabet.index(int(t)) for t in row)
            assert machine.outputs[state_after(machine, letters)] == letters.count(0)


def test_refuses_more_states_than_allowed() -> None:
    wide = domain("01", lengths=(0, 40))
    zero = wide.vocabulary.symbol_code("0")

    def majority(codes: tuple[int, ...]) -> tuple[int, ...]:
        return (int(2 * codes.count(zero) > len(codes)),)

    assert machine_of(oracle(wide, majority), max_states=6) is None


def test_causal_answers_are_told_from_others() -> None:
    world = domain("ab", lengths=(1, 6), at="every")
    causal = oracle(world, lambda codes: tuple(codes[: i + 1].count(codes[0]) for i in range(len(codes))))
    other = oracle(world, lambda codes: tuple(codes.count(code) for code in codes))
    assert is_causal(causal, sample_of(causal))
    assert not is_causal(other, sample_of(other))


def test_a_dependence_on_the_future_is_found_by_queries_alone() -> None:
    world = domain("ab", lengths=(1, 6), at="every")
    asked = oracle(world, lambda codes: tuple(int(code == codes[-1]) for code in codes))
    tokens = np.array([[world.alphabet[0], world.alphabet[1], world.alphabet[0]]], dtype=np.int32)
    inputs = Inputs(tokens, np.array([3], dtype=np.int32), np.zeros(1, dtype=np.int32))
    assert not is_causal(asked, ProbeSet(inputs, asked.answer(inputs)))
