"""Probes lie in the domain, repeat for a seed, and show every answer; properties that fail are noticed."""

from __future__ import annotations

from extract.probe.choose import choose_probes
from extract.probe.properties import observed_properties
from tests.unit.search.worlds import domain, oracle

BITS = domain("01", lengths=(1, 9))
ZERO, ONE = (BITS.vocabulary.symbol_code(c) for c in "01")


def test_probes_are_inputs_of_the_domain_and_repeat() -> None:
    world = domain("01", lengths=(0, 12), prefixes_of="(0|11)*")
    asked = oracle(world, lambda c: (c[-1],) if c else (ZERO,))
    first, again = (choose_probes(asked, n_probes=40, n_gate=100, seed=3) for _ in range(2))
    for probes, same in zip(first, again, strict=True):
        rows = [probes.inputs.row(i) for i in range(len(probes))]
        assert len(set(rows)) == len(rows)
        assert all(world.contains(*row) for row in rows)
        assert rows == [same.inputs.row(i) for i in range(len(same))]


def test_rare_answers_are_probed() -> None:
    asked = oracle(BITS, lambda c: (ONE if set(c) == {ONE} and len(c) > 5 else ZERO,))
    probes, _ = choose_probes(asked, n_probes=60, n_gate=100, seed=0)
    assert {int(v) for v in probes.answers.values[:, 0]} == {ZERO, ONE}


def test_properties_tell_counting_from_position() -> None:
    counting = oracle(BITS, lambda c: (ONE if 2 * c.count(ONE) > len(c) else ZERO,))
    last = oracle(BITS, lambda c: (c[-1],))
    for asked, invariant in ((counting, True), (last, False)):
        _, gate = choose_probes(asked, n_probes=20, n_gate=300, seed=0)
        found = observed_properties(asked, gate, seed=0)
        assert found["shuffle_invariant"] is invariant
        assert found["last_token_only"] is not invariant
