"""Parts done by shards come out as in one process, started over where that would; a lost one ends the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.domain import Domain
from extract.network import Network
from extract.progress import Silent
from extract.shards import BadReply, Lost, packed, unpacked
from extract.verify import enumerate as enumeration
from extract.verify.answer_table import AnswerTable
from extract.verify.enumerate import do_part, enumerate_model, part_worker
from tests.networks import random_network
from tests.unit.verify.enumeration_cases import make_domain
from tests.unit.verify.shards_here import Fate, ShardsHere
from tests.unit.verify.test_enumerate import READOUTS

CASES: dict[str, dict[str, Any]] = {
    "sum table": {"n_layers": 1},
    "prefix trie": {"n_layers": 2},
    "plain": {"n_layers": 2, "attention": "bidirectional"},
}


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions of 8 inputs, blocks of 16 nodes, and everything shared out in many parts."""
    for name, value in {
        "enumerate._SHARED_WORK": 0, "methods._BLOCK_BYTES": 1, "methods.REGION": 8, "answer_table.REGION": 8,
        "methods.PROBE": 8, "methods._REGIONS_PER_PART": 1, "methods._PLAIN_WORK": 1, "plain._BATCH_FLOATS": 20_000,
        "prefix_trie._INPUTS_PER_PART": 100,
    }.items():  # fmt: skip
        monkeypatch.setattr(f"extract.verify.{name}", value)


def everything(table: AnswerTable) -> list[object]:
    """All that a table says, as values that compare."""
    arrays = ("cells", "fragile", "unsure", "min_margins", "bounds")
    slabs = [
        (s.offset, s.length, s.evaluated, s.digests, *(getattr(s, name).tobytes() for name in arrays))
        for s in table.slabs
    ]
    return [slabs, table.methods, table.error_bound, table.work, table.reason, table.assumptions]


def run(network: Network, domain: Domain, fate: Fate | None, semantics: str = "real") -> tuple[AnswerTable, int]:
    """Enumerate, with shards if there is a fate for their replies; return how many were done."""
    memory = 1 << 28
    worker = part_worker(network, domain, semantics, memory)
    shards = None if fate is None else ShardsHere(lambda message: do_part(worker, message), fate)
    table = enumerate_model(
        network, domain, semantics=semantics, memory_bytes=memory, progress=Silent(), shards=shards
    )  # fmt: skip
    return table, 0 if shards is None else shards.n_done


def kept(_: int, reply: dict[str, Any]) -> dict[str, Any]:
    return reply


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("readout", READOUTS, ids=lambda r: f"{r['at']}-{r.get('kind', 'argmax')}")
@pytest.mark.parametrize("case", CASES)
def test_shards_change_nothing(case: str, readout: dict[str, Any]) -> None:
    network = random_network(7, n_ctx=16, **CASES[case])
    domain = make_domain(alphabet=("a", "b", "c"), template="<s> {x} <e>", max_length=6, offsets=(0, 2), **readout)
    table, n_done = run(network, domain, kept)
    assert everything(table) == everything(run(network, domain, None)[0])
    assert n_done > 4 and table.n_evaluated == domain.size


@pytest.mark.usefixtures("_small_parts")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 999),
    case=st.sampled_from(sorted(CASES)),
    least=st.sampled_from([1, 3, 20]),
    share=st.sampled_from([0.0, 0.05, 0.3]),
    scale=st.sampled_from([1e-6, 1e-4, 1.0]),
    semantics=st.sampled_from(["real", "f32-any-order"]),
)
def test_it_starts_over_where_one_process_does(
    seed: int, case: str, least: int, share: float, scale: float, semantics: str
) -> None:
    """Margins near the errors, so that doubts are many, and rules that call for more care early or late."""
    network = random_network(seed, n_ctx=16, **CASES[case])
    first = network.W_U[:, :1]
    near = (first + np.float32(scale) * (network.W_U - first)).astype(np.float32)
    network = replace(network, W_U=near, b_U=network.b_U * np.float32(scale))
    domain = make_domain(alphabet=("a", "b", "c"), template="<s> {x} <e>", max_length=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enumeration, "_DOUBTFUL_LEAST", least)
        patch.setattr(enumeration, "_DOUBTFUL_SHARE", dict.fromkeys(CASES, share))
        found, n_done = run(network, domain, kept, semantics)
        assert everything(found) == everything(run(network, domain, None, semantics)[0])
        assert n_done > 0


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("case", CASES)
def test_a_lost_part_leaves_a_valid_beginning(case: str) -> None:
    network = random_network(7, n_ctx=16, **CASES[case])
    domain = make_domain(alphabet=("a", "b", "c"), template="<s> {x} <e>", max_length=6)
    table = run(network, domain, lambda n, reply: Lost("killed thrice") if n == 4 else reply)[0]
    complete = run(network, domain, None)[0]
    assert table.reason == "a part was lost with its shard: killed thrice"
    assert 0 < table.n_evaluated < domain.size
    for slab, whole in zip(table.slabs, complete.slabs, strict=True):
        assert slab.size == whole.size
        assert np.array_equal(slab.cells, whole.cells[: slab.evaluated])


def slab_lie(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda reply: reply["slabs"][-1].update(changes)


LIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "no slabs": lambda reply: reply.update(slabs=[]),
    "no steps": lambda reply: reply.update(steps=[]),
    "more steps": lambda reply: reply["steps"].append([10**9, 0]),
    "doubts hidden": lambda reply: reply["steps"].append([reply["steps"][-1][0], -1]),
    "ends early": slab_lie(evaluated=0),
    "goes on": slab_lie(evaluated=10**9),
    "no cells": slab_lie(cells=""),
    "few cells": slab_lie(cells=packed(np.zeros(3, np.uint8))),
    "many cells": slab_lie(cells=packed(np.zeros(1 << 20, np.uint8))),
    "other cells": lambda reply: reply["slabs"][-1].update(
        cells=packed(np.full(reply["slabs"][-1]["evaluated"], 77, np.uint8))
    ),
    "no margins": slab_lie(margins=packed(np.zeros(0))),
    "margins of none": slab_lie(margins=packed(np.full(1, np.nan))),
    "bounds": slab_lie(bounds=packed(np.full(1, -1.0))),
    "bound": slab_lie(error_bound="0"),
    "ranks": slab_lie(doubtful=[1, packed(np.array([-1]))]),
    "ranks twice": slab_lie(tied=[2, packed(np.array([0, 0]))]),
    "unsure": slab_lie(unsure=None),
}


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("case", CASES)
def test_a_reply_of_another_shape_is_refused(case: str, lie: str) -> None:
    def fate(n: int, reply: dict[str, Any]) -> dict[str, Any]:
        if n == 3:
            LIES[lie](reply)
        return reply

    network = random_network(7, n_ctx=16, **CASES[case])
    domain = make_domain(alphabet=("a", "b", "c"), template="<s> {x} <e>", max_length=6)
    table = run(network, domain, fate)[0]
    assert "a reply was refused" in table.reason
    assert table.n_evaluated < domain.size


@given(
    st.sampled_from(["u1", "<i4", "<i8", "<f8", "?"]).flatmap(
        lambda kind: st.tuples(st.just(kind), st.lists(st.integers(0, 1), max_size=40))
    )
)
def test_packed_numbers_come_back(case: tuple[str, list[int]]) -> None:
    values = np.array(case[1], case[0])
    again = unpacked(packed(values), case[0], values.shape)
    assert again.tobytes() == values.tobytes() and again.dtype == values.dtype
    for shape in ((len(values) + 1,), (len(values), 2)):
        if np.prod(shape) != len(values):
            with pytest.raises(BadReply):
                unpacked(packed(values), case[0], shape)
