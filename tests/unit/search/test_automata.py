"""The automaton learner finds the machine of a regular answer and refuses what is not regular enough."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from extract.search.automata import MooreMachine, learn_machine
from tests.unit.search.worlds import domain, oracle

WORLD = domain("01", lengths=(0, 9))
ZERO = WORLD.vocabulary.symbol_code("0")


def final_state(machine: MooreMachine, letters: tuple[int, ...]) -> int:
    state = 0
    for letter in letters:
        state = machine.transitions[state][letter]
    return state


@given(st.integers(1, 4), st.data())
def test_learns_every_small_machine(n_states: int, data: st.DataObject) -> None:
    state = st.integers(0, n_states - 1)
    transitions = data.draw(st.lists(st.tuples(state, state), min_size=n_states, max_size=n_states))
    outputs = data.draw(st.lists(st.integers(0, 1), min_size=n_states, max_size=n_states))

    def answer(codes: tuple[int, ...]) -> tuple[int, ...]:
        at = 0
        for code in codes:
            at = transitions[at][code - ZERO]
        return (outputs[at],)

    machine = learn_machine(oracle(WORLD, answer), 0)
    assert machine is not None
    assert machine.n_states <= n_states
    for length in range(8):
        for letters in product((0, 1), repeat=length):
            wanted = answer(tuple(ZERO + letter for letter in letters))[0]
            assert machine.outputs[final_state(machine, letters)] == wanted


def test_refuses_a_language_with_too_many_states() -> None:
    def majority(codes: tuple[int, ...]) -> tuple[int, ...]:
        return (int(2 * sum(code == ZERO for code in codes) > len(codes)),)

    wide = domain("01", lengths=(0, 40))
    assert learn_machine(oracle(wide, majority), 0, max_states=6) is None
