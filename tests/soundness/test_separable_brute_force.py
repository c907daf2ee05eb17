"""Tier 1 against exhaustive truth: random and planted attention-only networks, every count and every margin bound."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.domain import Domain, build_domain
from extract.lang.interpret import answer
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.lang.terms import Program
from extract.model.network_oracle import NetworkOracle
from extract.network import Network
from extract.outcome import Certificate, Certified, Refuted, Unknown, Verdict
from extract.progress import Silent
from extract.readout import Inputs
from extract.spec import parse_spec
from extract.verify.bounded import Bounded
from extract.verify.margin_tables import MarginTables
from extract.verify.separable import decide, why_not
from extract.verify.worst_margin import ClassOfInputs
from tests.networks import random_network

PROGRAMS = (
    "max_over(everywhere, tokens)",
    "last(everywhere, tokens)",
    "'b' if count(tokens == 'a') < count(tokens == 'b') else 'a'",
    "'c' if any(tokens == 'c') else first(everywhere, tokens)",
    "'a' if count(tokens == 'a') % 2 == 0 else 'b'",
)
PROMISES = ("", "where = \"count(tokens == 'a') != count(tokens == 'b')\"", "matches = '(a|bc)*b?'")
TEMPLATES = ("{x} <sep>", "<sep> {x}", "{x[0:2]} <sep> {x[0:]}", "{x}")


def seeds(n_quick: int, n: int) -> list[Any]:
    """The first few seeds always, the rest with the slow tests."""
    return [pytest.param(seed, marks=() if seed < n_quick else pytest.mark.slow) for seed in range(n)]


def domain_of(promise: str, template: str, readout: str, max_length: int, offsets: tuple[int, ...]) -> Domain:
    spec = f"""version = 1
[tokens]
vocab = ["a", "b", "c", "<sep>"]
[domain]
min_length = 1
max_length = {max_length}
template = "{template}"
offsets = {list(offsets)}
{promise}
[readout]
{readout}
"""
    return build_domain(parse_spec(spec), compile_promise)


def network_of(seed: int, **options: Any) -> Network:
    """An attention-only network; some without positions, some with scores large enough to be nearly one-hot."""
    network = random_network(
        seed, d_model=6, n_heads=1, d_vocab=4, n_ctx=12, d_mlp=0, norm="none", tied=False,
        has_positions=seed % 3 > 0, spread=(0.3, 0.8, 1.5)[seed % 3 if seed % 2 else seed % 4 % 3], **options,
    )  # fmt: skip
    layer = network.layers[0]
    bias = np.random.default_rng(seed).normal(0, 0.3, 4).astype(np.float32)
    return replace(network, layers=(replace(layer, b_out=np.zeros_like(layer.b_out)),), b_U=bias)


def truth(network: Network, program: Program, domain: Domain) -> tuple[int, int, float]:
    """Count agreeing and differing inputs with the float64 oracle, and the least margin."""
    oracle = NetworkOracle(network, domain)
    agree = differ = 0
    least = np.inf
    for offset, length in itertools.product(domain.offsets, domain.lengths):
        rows = domain.tokens(length, 0, domain.size_at(length))
        if not len(rows):
            continue
        answers = oracle.answer(Inputs.of([(tuple(map(int, row)), offset) for row in rows]))
        for row, cells in zip(rows, answers.values, strict=True):
            codes = tuple(int(domain.vocabulary.token_codes[t]) for t in row)
            same = answer(program, codes, domain, domain.readout) == tuple(int(c) for c in cells)
            agree, differ = agree + same, differ + (not same)
        least = min(least, float(answers.margins.min()))
    return agree, differ, least


def certificate_of(verdict: Verdict) -> Certificate:
    assert verdict.certificate is not None
    return verdict.certificate


@pytest.mark.parametrize("seed", seeds(12, 300))
def test_random_networks(seed: int) -> None:
    network = network_of(seed)
    offsets = (0, 3) if seed % 5 == 0 else (0,)
    at = "first" if seed % 4 == 1 else "last"
    domain = domain_of(PROMISES[seed % 3], TEMPLATES[seed % 4], f'at = "{at}"', 5 if seed % 7 else 6, offsets)
    assert why_not(network, domain, "real") is None
    for text in PROGRAMS:
        check(network, parse_program(f"output = {text}", "value"), domain)


@pytest.mark.parametrize("seed", seeds(6, 60))
def test_thresholds(seed: int) -> None:
    network = network_of(seed)
    domain = domain_of(PROMISES[seed % 3], TEMPLATES[seed % 4], 'kind = "multilabel"\nthreshold = 0.1', 5, (0,))
    text = "output['a'] = count(tokens == 'a') < 2\noutput['c'] = last(everywhere, tokens) == 'b'"
    check(network, parse_program(text, "multilabel"), domain)


def check(network: Network, program: Program, domain: Domain) -> None:
    verdict = decide(program, network, domain, NetworkOracle(network, domain), progress=Silent())
    tally = certificate_of(verdict).tally
    agree, differ, least = truth(network, program, domain)
    assert tally.total == domain.size
    assert tally.undecided == 0, "small classes split completely unless a margin is within rounding"
    assert (tally.agree, tally.disagree) == (agree, differ)
    if isinstance(verdict, Certified):
        assert 0 < tally.min_margin <= least * (1 + 1e-9)
        assert tally.min_margin >= least * (1 - 1e-5)
    else:
        assert isinstance(verdict, Refuted)
        assert all(example.replayed for example in verdict.counterexamples)
    for part in certificate_of(verdict).classes:
        assert part.tally.total > 0


def constant_network(gaps: list[float]) -> Network:
    """A network whose logits are these numbers whatever it reads."""
    network = network_of(1)
    layer = network.layers[0]
    quiet = replace(layer, W_O=np.zeros_like(layer.W_O), b_O=np.zeros_like(layer.b_O))
    return replace(
        network, embed=np.zeros_like(network.embed), pos_embed=None if network.pos_embed is None else
        np.zeros_like(network.pos_embed), layers=(quiet,), b_U=np.array(gaps, np.float32),
    )  # fmt: skip


def test_an_exact_tie_is_undecided() -> None:
    domain = domain_of("", "{x} <sep>", "", 4, (0,))
    network = constant_network([1.0, 1.0, 0.0, 0.0])
    program = parse_program("output = 'a'", "value")
    verdict = decide(program, network, domain, NetworkOracle(network, domain), progress=Silent())
    assert isinstance(verdict, Unknown)
    assert certificate_of(verdict).tally.undecided == domain.size


def test_one_unit_in_the_last_place_is_a_margin() -> None:
    domain = domain_of("", "{x} <sep>", "", 4, (0,))
    above = float(np.nextafter(np.float32(1), np.float32(2)))
    network = constant_network([above, 1.0, 0.0, 0.0])
    for text, kind in (("'a'", Certified), ("'b'", Refuted)):
        program = parse_program(f"output = {text}", "value")
        verdict = decide(program, network, domain, NetworkOracle(network, domain), progress=Silent())
        assert isinstance(verdict, kind)


def cancelling_network(seed: int) -> Network:
    """Logits that are sums of huge terms cancelling to almost or exactly nothing; attention moves nothing."""
    rng = np.random.default_rng(seed)
    network = constant_network([0.0, 0.0, 0.0, 0.0])
    d, huge = 6, float(2.0 ** rng.integers(40, 60))
    rows = rng.choice([huge, -huge, huge * 3, 1.0, 2.0**-20, 0.0], (4, d)).astype(np.float32)
    rows[:, -1] = -np.where(np.abs(rows[:, :-1]) >= huge, rows[:, :-1], 0).sum(axis=1)
    unembed = np.zeros((d, 4), np.float32)
    if seed % 2:  # small numbers are absorbed by huge ones that cancel exactly: the computed sign is a matter of order
        huge = float(2.0**53) * float(rng.integers(1, 4))
        rows[:] = rng.permuted([[huge, -huge, huge, -huge, *pair] for pair in rng.integers(-5, 6, (4, 2))], axis=1)
        unembed[:, 0] = 1.0
        return replace(network, embed=rows, pos_embed=None, W_U=unembed)
    unembed[:, 0] = rng.choice([1.0, 1 + 2.0**-20, 1 - 2.0**-21], d)
    unembed[:, 1] = rng.choice([0.0, 2.0**-22], d)
    return replace(network, embed=rows, pos_embed=None, W_U=unembed)


@pytest.mark.parametrize("seed", range(80))
def test_cancellation_never_proves_a_wrong_sign(seed: int) -> None:
    """Against exact rational arithmetic: what is certified has a positive margin, what differs a negative one."""
    network = cancelling_network(seed)
    domain = domain_of("", "{x}", 'choices = ["a", "b"]', 2, (0,))
    embed, unembed = (np.vectorize(Fraction)(x.astype(np.float64)) for x in (network.embed, network.W_U))
    margins = (embed @ unembed)[:, 0] - (embed @ unembed)[:, 1]
    program = parse_program("output = 'a'", "value")
    verdict = decide(program, network, domain, NetworkOracle(network, domain), progress=Silent())
    for part in certificate_of(verdict).classes:
        assert part.query is not None
        margin = margins[part.query]
        if part.tally.agree:
            assert margin > 0 and (part.tally.min_margin <= margin or part.tally.agree < part.tally.total)
        if part.tally.disagree:
            assert margin < 0
        if margin == 0:
            assert part.tally.undecided == part.tally.total


def test_overflow_is_undecided() -> None:
    network = network_of(4)
    layer = network.layers[0]
    huge = replace(layer, W_Q=np.full_like(layer.W_Q, 3e38), W_K=np.full_like(layer.W_K, 3e38))
    network = replace(network, layers=(huge,), embed=np.full_like(network.embed, 3e38))
    domain = domain_of("", "{x} <sep>", "", 3, (0,))
    program = parse_program("output = 'a'", "value")
    verdict = decide(program, network, domain, NetworkOracle(network, domain), progress=Silent())
    assert not isinstance(verdict, Certified)


@pytest.mark.parametrize("seed", seeds(8, 1000))
def test_a_single_planted_difference_is_found(seed: int) -> None:
    """A program right on every input of a certified domain, changed on exactly one: refuted, counted as one."""
    rng = np.random.default_rng(seed)
    network, length = constant_network([2.0, 1.0, 0.0, 0.0]), int(rng.integers(2, 17))
    network = replace(network, pos_embed=np.zeros((20, 6), np.float32),
                      architecture=replace(network.architecture, n_ctx=20, positions="learned"))  # fmt: skip
    domain = build_domain(
        parse_spec(f"""version = 1
[tokens]
vocab = ["a", "b", "c", "<sep>"]
[domain]
alphabet = ["a", "b"]
min_length = {length}
max_length = {length}
template = "{{x}} <sep>"
"""),
        compile_promise,
    )
    word = rng.integers(0, 2, length).tolist()
    number = int("".join(map(str, word)), 2)
    text = f"output = 'b' if last(everywhere, horner(int(tokens == 'b'), 2, 0)) == {number} else 'a'"
    program = parse_program(text, "value")
    verdict = decide(program, network, domain, NetworkOracle(network, domain), progress=Silent())
    assert isinstance(verdict, Refuted)
    assert verdict.counterexamples[0].tokens == tuple(word)
    tally = certificate_of(verdict).tally
    assert (tally.agree, tally.disagree, tally.undecided) == (2**length - 1, 1, 0)


def test_what_does_not_apply_is_refused_by_name() -> None:
    domain = domain_of("", "{x} <sep>", "", 4, (0,))
    two = random_network(1, n_heads=2, d_vocab=4, d_mlp=0, norm="none")
    with_mlp = random_network(1, n_heads=1, d_vocab=4, norm="none")
    assert "2 heads" in str(why_not(two, domain, "real"))
    assert "MLP" in str(why_not(with_mlp, domain, "real"))
    assert "f32-ref" in str(why_not(network_of(1), domain, "f32-ref"))
    assert why_not(network_of(1), domain, "f32-any-order") is None
    every = domain_of("", "<sep> {x}", 'at = "every"', 4, (0,))
    assert "every" in str(why_not(network_of(1), every, "real"))


def test_a_program_without_a_graph_leaves_its_inputs_undecided() -> None:
    network = random_network(1, d_model=6, n_heads=1, d_vocab=3, n_ctx=41, d_mlp=0, norm="none", tied=False)
    spec = """version = 1
[tokens]
vocab = ["a", "b", "<sep>"]
[domain]
min_length = 39
max_length = 40
template = "{x} <sep>"
"""
    domain = build_domain(parse_spec(spec), compile_promise)
    program = parse_program("output = first(select(rank(tokens), 20, '=='), tokens)", "value")
    verdict = decide(program, network, domain, NetworkOracle(network, domain), progress=Silent())
    assert isinstance(verdict, Unknown) and "rank" in verdict.reason
    tally = certificate_of(verdict).tally
    assert (tally.agree, tally.disagree, tally.undecided) == (0, 0, 2**39 + 2**40)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), template=st.sampled_from(TEMPLATES), promise=st.sampled_from(PROMISES),
    constant=st.sampled_from((-9, 0, 9)), at=st.sampled_from(("last", "first")),
)  # fmt: skip
def test_signs_are_counted_as_string_by_string(seed: int, template: str, promise: str, constant: int, at: str) -> None:
    """Whole numbers in place of a network's margins, large ones at the template's tokens: every count is exact."""
    length, rng = 4, np.random.default_rng(seed)
    domain = domain_of(promise, template, f'at = "{at}"', length, (0,))
    tables, graph = MarginTables(network_of(1), domain, length, 0), domain.graph_at(length)
    assert graph is not None
    variant = int(rng.integers(tables.n_variants))
    part = ClassOfInputs(tables, graph, length, variant, tables.argmax_decisions(0))
    expected, total, alphabet = [0, 0], 0, list(domain.alphabet)
    if part.size:
        weight, terms = rng.integers(1, 4, part.weight.value.shape), rng.integers(-9, 10, part.terms.value.shape)
        terms[tables.constants] += constant
        part.weight, part.terms = Bounded.exact(weight.astype(float)), Bounded.exact(terms.astype(float))
    for row in domain.tokens(length, 0, domain.size_at(length)).tolist():
        word = [alphabet.index(token) for token in row]
        if tables.query_letter is not None and word[tables.query_letter] != variant:
            continue
        total += 1
        here = [(p, 0) for p in tables.constants]
        here += [(p, word[i]) for i, places in enumerate(tables.letters_at) for p in places]
        margins = sum(weight[p, a] * terms[p, a] for p, a in here)
        expected[0] += bool((margins > 0).all())
        expected[1] += bool((margins < 0).any())
    assert part.size == total
    assert not total or list(part._split(0.0)) == expected
