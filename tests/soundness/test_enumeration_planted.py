"""Programs that differ from the model on exactly one input are refuted with exactly that input; fragile models never
certify anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from extract.domain import Domain
from extract.errors import SoundnessAlarm
from extract.lang.interpret import answer
from extract.lang.syntax import parse_program, parse_term
from extract.lang.terms import Program, Term
from extract.network import Network
from extract.oracle import TableOracle
from extract.outcome import Certified, Refuted, Unknown
from extract.progress import Silent
from extract.verify.answer_table import AnswerTable
from extract.verify.compare import InputCodes, compare, first_differences, verdict
from extract.verify.counterexamples import replayed
from extract.verify.enumerate import enumerate_model
from extract.vocabulary import ABSENT
from tests.networks import random_network
from tests.unit.verify.enumeration_cases import BruteOracle, make_domain, with_columns

N_PLANTED = 200


def chain(table: AnswerTable, domain: Domain, *, wrong_at: int | None = None) -> tuple[Program, tuple[int, ...] | None]:
    """Spell the table out as a program, one condition per input; the answer of one input may be made wrong."""
    names = domain.vocabulary.names
    place, wrong = 0, None
    term = Term("symbol", data=(names[domain.readout.choices[0]],))
    for slab in table.slabs:
        rows = domain.tokens(slab.length, 0, slab.size)
        codes = table.values(slab.offset, slab.length, 0, slab.size)[:, 0]
        for row, code in zip(rows, codes, strict=True):
            name = domain.vocabulary.name(int(code))
            if place == wrong_at:
                wrong = tuple(int(t) for t in row)
                name = next(names[c] for c in domain.readout.choices if names[c] != name)
            place += 1
            tests = [f"length == {len(row)}"]
            tests += [f"count(indices == {i} and tokens == '{names[t]}') == 1" for i, t in enumerate(row)]
            condition = parse_term(" and ".join(tests))
            term = Term("if", (condition, Term("symbol", data=(name,)), term))
    return Program("value", (("output", term),)), wrong


@pytest.fixture(scope="module")
def world() -> tuple[Network, Domain, AnswerTable, BruteOracle]:
    network = random_network(5, n_layers=2, n_ctx=8)
    domain = make_domain(min_length=1, max_length=3, template="<s> {x}", choices=["a", "b", "c"])
    table = enumerate_model(network, domain, progress=Silent())
    return network, domain, table, BruteOracle(network, domain)


def test_the_spelled_out_table_is_certified(world: tuple[Network, Domain, AnswerTable, BruteOracle]) -> None:
    _, domain, table, oracle = world
    program, _ = chain(table, domain)
    found = verdict(program, table, domain, oracle)
    assert isinstance(found, Certified)
    assert found.certificate.tally.agree == domain.size == 14
    assert first_differences(program, table, domain, 5) == ()


def test_one_planted_input_is_found_and_nothing_else() -> None:
    seed = n_done = 0
    while n_done < N_PLANTED:
        seed += 1
        network = random_network(seed, n_layers=1 + seed % 2, n_ctx=8)
        domain = make_domain(min_length=1, max_length=3, template="<s> {x}", choices=["a", "b", "c"])
        table = enumerate_model(network, domain, progress=Silent())
        if table.n_fragile:
            continue
        oracle, inputs = BruteOracle(network, domain), InputCodes(domain)
        for place in range(seed % 2, domain.size, 3):
            program, wrong = chain(table, domain, wrong_at=place)
            assert wrong is not None
            comparison = compare(program, table, domain, inputs=inputs)
            assert comparison.tally.disagree == 1 and comparison.tally.agree == domain.size - 1
            assert [d.tokens for d in comparison.first] == [wrong]
            assert wrong in {d.tokens for d in first_differences(program, table, domain, 3, inputs=inputs)}
            found = verdict(program, table, domain, oracle, inputs=inputs)
            assert isinstance(found, Refuted)
            assert [e.tokens for e in found.counterexamples] == [wrong]
            assert found.counterexamples[0].replayed and found.counterexamples[0].minimal
            n_done += 1


def adversaries() -> dict[str, Network]:
    """Networks whose top two logits are equal, one rounding apart, lost to cancellation, or beyond the floats."""
    base = random_network(3, n_ctx=8, tied=False)
    near = np.nextafter(np.array(base.W_U[:, 0]), np.float32(9), dtype=np.float32)
    far = {i: -50.0 for i in (2, 3, 4)}
    huge = replace(base, embed=(base.embed * np.float32(1e37)).astype(np.float32), norm_final=None)
    huge = replace(huge, architecture=replace(huge.architecture, norm="none"))
    layer = replace(huge.layers[0], norm_attention=None, norm_mlp=None)
    big = base.W_U[:, 0] / np.abs(base.W_U[:, 0]).max() * np.float32(3e38)
    cancelled = with_columns(base, {1: base.W_U[:, 0]}, {0: 3e38, 1: 3e38} | far)
    return {
        "tie": with_columns(base, {1: base.W_U[:, 0]}, far),
        "one rounding": with_columns(base, {1: near}, {0: 1e8, 1: 1e8} | far),
        "cancellation": with_columns(cancelled, {1: near}),
        "overflow": replace(huge, layers=(layer,)),
        "overflowing head": with_columns(base, {0: big, 1: big, 2: -big}, {}),
    }


@pytest.mark.parametrize("semantics", ["real", "f32-any-order"])
@pytest.mark.parametrize("name", sorted(adversaries()))
@pytest.mark.parametrize("template", ["<s> {x} <e>", "{x}"])
def test_adversarial_floats_are_never_certified(name: str, semantics: str, template: str) -> None:
    network = adversaries()[name]
    domain = make_domain(max_length=4, template=template)
    table = enumerate_model(network, domain, semantics=semantics, progress=Silent())
    oracle = BruteOracle(network, domain)
    for text in ("output = 'a'", "output = 'b'", "output = 'c'"):
        program = parse_program(text, "value")
        comparison = compare(program, table, domain)
        assert comparison.tally.total == domain.size
        if name == "overflowing head" and semantics == "real":  # 'c' may really win; 'a' and 'b' are equal
            assert comparison.tally.agree == 0 or text == "output = 'c'"
        elif name != "overflow":
            assert comparison.tally.undecided == domain.size and comparison.tally.disagree == 0
            found = verdict(program, table, domain, oracle)
            assert isinstance(found, Unknown) and found.certificate is not None
            assert found.certificate.n_fragile == domain.size
        else:
            assert comparison.tally.agree < domain.size


def test_one_fragile_input_is_enough_for_unknown() -> None:
    network = random_network(3, n_ctx=8, tied=False)
    domain = make_domain(max_length=3, choices=["a", "b"])
    table = enumerate_model(network, domain, progress=Silent())
    program, _ = chain(table, domain)
    slab = table.slabs[1]
    doubtful = replace(slab, fragile=np.array([2], dtype=np.int64), unsure=np.ones((1, 1), np.bool_))
    weaker = replace(table, slabs=(table.slabs[0], doubtful, *table.slabs[2:]))
    found = verdict(program, weaker, domain, BruteOracle(network, domain))
    assert isinstance(found, Unknown) and found.certificate is not None
    assert found.certificate.tally.undecided == 1
    assert found.certificate.fragile == ((tuple(int(t) for t in domain.tokens(2, 2, 3)[0]), 0),)


def test_lengths_left_out_keep_a_program_from_being_certified() -> None:
    network = random_network(3, n_ctx=8, tied=False)
    domain = make_domain(max_length=4, choices=["a", "b"])
    whole = enumerate_model(network, domain, progress=Silent())
    program, _ = chain(whole, domain)
    table = enumerate_model(network, domain, progress=Silent(), work_limit=whole.work // 2)
    assert 0 < table.n_evaluated < domain.size and table.reason
    found = verdict(program, table, domain, BruteOracle(network, domain))
    assert isinstance(found, Unknown) and found.certificate is not None
    assert found.certificate.tally.undecided == domain.size - table.n_evaluated


def test_a_difference_that_does_not_replay_raises_the_alarm() -> None:
    domain = make_domain(max_length=3)
    program = parse_program("output = 'a'", "value")
    code = domain.vocabulary.symbol_code("b")
    oracle = TableOracle(domain, lambda codes: (code,))
    tokens = (domain.vocabulary.token_id("a"),)
    assert answer(program, (0,), domain, domain.readout) == (domain.vocabulary.symbol_code("a"),)
    assert replayed(program, oracle, tokens, 0, (code,)).replayed
    with pytest.raises(SoundnessAlarm, match="expected"):
        replayed(program, oracle, tokens, 0, (code + 1,))
    agreeing = TableOracle(domain, lambda codes: (domain.vocabulary.symbol_code("a"),))
    with pytest.raises(SoundnessAlarm, match="does not replay"):
        replayed(program, agreeing, tokens, 0, (code,))
    assert ABSENT < 0
