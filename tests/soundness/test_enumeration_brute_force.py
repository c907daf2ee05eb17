"""Random tiny networks: enumeration by every method equals a forward pass written for reading, input by input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from extract.domain import Domain
from extract.network import Network
from extract.progress import Silent
from extract.verify.answer_table import AnswerTable, region_digest
from extract.verify.enumerate import enumerate_model
from extract.vocabulary import ABSENT
from tests.networks import random_network
from tests.unit.verify.enumeration_cases import BruteOracle, all_inputs, make_domain

N_NETWORKS = 300
#: A brute-force margin below this may decide either way in another order of summation.
UNCLEAR = 1e-9

PROMISES: tuple[dict[str, Any] | None, ...] = (
    None,
    {"where": "count(tokens == 'a') != count(tokens == 'b')"},
    {"matches": "(ab|b)*a?"},
    {"prefixes_of": "(aab)*"},
    {"where": "all(running_count(tokens == 'a') >= running_count(tokens == 'b'))"},
)
TEMPLATES = ("{x}", "<s> {x}", "<s> {x} <e>", "{x} <e>", "<s> {x} c <e>")
ODD_TEMPLATES = ("{x[0]} <s> {x[1:]}", "<s> {x[0]} c {x[1:]} <e>", "{x[1:]} <s> {x[0]}", "{x} <s> {x}")


def case(seed: int) -> tuple[Network, Domain]:
    """Draw a network and a domain, every feature often enough to meet every other."""
    rng = np.random.default_rng(seed)

    def pick(options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    readout = pick(
        (
            {"at": "last"},
            {"at": "last", "choices": ["a", "b", "c"]},
            {"at": "first"},
            {"at": "last", "kind": "multilabel", "threshold": 0.25},
            {"at": "every"},
            {"at": "generate", "stop": "<e>", "max_new": 3},
            {"at": "generate", "max_new": 0},
        )
    )
    is_generated = readout["at"] == "generate"
    network = random_network(
        seed,
        n_layers=pick((0, 1, 1, 2, 2)),
        d_model=pick((4, 6, 8)),
        n_heads=pick((1, 2)),
        n_ctx=pick((9, 11)) if not is_generated else 9,
        d_mlp=pick((3, 16)),
        attention=pick(("causal", "causal", "bidirectional")),
        norm=pick(("layernorm", "layernorm", "none")),
        activation=pick(("gelu_tanh", "gelu_erf", "relu", "silu")),
        has_positions=pick((True, True, False)),
        tied=pick((True, False)),
        spread=pick((0.3, 0.6, 1.2)),
    )
    is_odd = rng.random() < 0.15
    template = pick(ODD_TEMPLATES) if is_odd and readout["at"] in ("last", "first") else pick(TEMPLATES)
    shortest = 2 if is_odd else pick((0, 1, 1)) if template != "{x}" else 1
    longest = 3 if is_odd or is_generated else pick((4, 5))
    alphabet = pick((("a", "b"), ("b", "a"), ("a", "b", "c"))) if longest < 5 else ("a", "b")
    domain = make_domain(
        template=template, alphabet=alphabet, min_length=shortest, max_length=longest, promise=pick(PROMISES),
        offsets=(0,) if is_generated else pick(((0,), (1, 0))), **readout,
    )  # fmt: skip
    return network, domain


def check(table: AnswerTable, network: Network, domain: Domain) -> int:
    """Compare a complete table with brute force; return the number of inputs decided."""
    oracle = BruteOracle(network, domain)
    answers = oracle.answer(all_inputs(domain))
    row = decided = 0
    for slab in table.slabs:
        assert slab.evaluated == slab.size
        values = table.values(slab.offset, slab.length, 0, slab.size)
        for region, start, stop in slab.regions():
            assert slab.digests[region] == region_digest(values[start:stop])
        fragile = set(slab.fragile.tolist())
        margins = []
        for rank in range(slab.size):
            expected, margin = answers.values[row], float(answers.margins[row])
            row += 1
            if rank in fragile:
                assert margin < 0.05, "a wide margin is no tie"
                continue
            decided += 1
            margins.append(margin)
            mine = [c for c in values[rank].tolist() if c != ABSENT]
            assert margin < UNCLEAR or mine == [c for c in expected.tolist() if c != ABSENT]
        if margins and np.isfinite(margins).all():
            least = float(slab.min_margins.min())
            assert least == pytest.approx(min(margins), abs=1e-4 + table.error_bound)
    assert row == len(answers)
    return decided


@pytest.mark.parametrize("start", range(0, N_NETWORKS, 20))
def test_enumeration_equals_brute_force(start: int) -> None:
    n_inputs = n_decided = 0
    for seed in range(start, start + 20):
        network, domain = case(seed)
        table = enumerate_model(network, domain, progress=Silent(), memory_bytes=1 << 26)
        n_decided += check(table, network, domain)
        n_inputs += domain.size
    assert n_decided > 0.97 * n_inputs


@pytest.mark.parametrize("seed", range(0, N_NETWORKS, 10))
def test_float32_in_any_order_decides_the_same(seed: int) -> None:
    network, domain = case(seed)
    table = enumerate_model(network, domain, semantics="f32-any-order", progress=Silent(), memory_bytes=1 << 26)
    oracle = BruteOracle(network, domain)
    answers = oracle.answer(all_inputs(domain))
    row = 0
    for slab in table.slabs:
        values = table.values(slab.offset, slab.length, 0, slab.size)
        fragile = set(slab.fragile.tolist())
        for rank in range(slab.size):
            if rank not in fragile:
                mine = [c for c in values[rank].tolist() if c != ABSENT]
                assert mine == [c for c in answers.values[row].tolist() if c != ABSENT]
            row += 1
