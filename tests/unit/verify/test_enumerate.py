"""The result of an enumeration does not depend on how it was cut up, and says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.domain import Domain
from extract.errors import DomainError
from extract.network import Network
from extract.progress import Silent
from extract.verify import enumerate as enumeration
from extract.verify import methods, trie_attention
from extract.verify.answer_table import AnswerTable
from extract.verify.care import CAREFUL, USUAL, CareStages
from extract.verify.cells import CellFormat
from extract.verify.enumerate import enumerate_model, method_for
from extract.verify.sum_table import SumTable
from extract.verify.trie_attention import Lineage
from tests.networks import random_network
from tests.unit.verify.enumeration_cases import make_domain

READOUTS: tuple[dict[str, Any], ...] = (
    {"at": "last"},
    {"at": "every"},
    {"at": "first"},
    {"at": "last", "kind": "multilabel"},
    {"at": "generate", "stop": "<e>", "max_new": 3},
)


def world(n_layers: int = 2, attention: Any = "causal", **domain: Any) -> tuple[Network, Domain]:
    network = random_network(7, n_layers=n_layers, n_ctx=12, attention=attention)
    return network, make_domain(**{"template": "<s> {x} <e>", "max_length": 5, **domain})


def run(network: Network, domain: Domain, **options: Any) -> AnswerTable:
    return enumerate_model(network, domain, progress=Silent(), **options)


def contents(table: AnswerTable) -> list[tuple[int, int, int, tuple[str, ...], list[int]]]:
    return [(s.offset, s.length, s.evaluated, s.digests, s.fragile.tolist()) for s in table.slabs]


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_blocks(n_bytes: int) -> None:
        monkeypatch.setattr("extract.verify.methods._BLOCK_BYTES", n_bytes)
        monkeypatch.setattr("extract.verify.methods.REGION", 8)
        monkeypatch.setattr("extract.verify.answer_table.REGION", 8)

    return set_blocks


@pytest.mark.parametrize("readout", READOUTS, ids=lambda r: f"{r['at']}-{r.get('kind', 'argmax')}")
@pytest.mark.parametrize("n_layers", [1, 2])
def test_small_blocks_change_nothing(
    readout: dict[str, Any], n_layers: int, tiny_blocks: Callable[[int], None]
) -> None:
    network, domain = world(n_layers, alphabet=("a", "b", "c"), **readout)
    tiny_blocks(1 << 19)
    whole = run(network, domain)
    tiny_blocks(1)
    assert contents(run(network, domain)) == contents(whole)
    assert whole.n_evaluated == domain.size and whole.reason == ""


@settings(max_examples=30)
@given(
    seed=st.integers(0, 999),
    readout=st.sampled_from(READOUTS),
    promise=st.sampled_from([None, {"matches": "(ab|b)*a?"}, {"where": "count(tokens == 'a') != 2"}]),
)
def test_methods_agree(seed: int, readout: dict[str, Any], promise: dict[str, Any] | None) -> None:
    network = random_network(seed, n_layers=1, n_ctx=12)
    domain = make_domain(template="<s> {x} <e>", max_length=4, promise=promise, **readout)
    tables = {}
    for method in ("sum table", "prefix trie", "plain"):
        if method == "sum table" and readout["at"] not in ("last", "first"):
            continue
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(enumeration, "method_for", lambda *_, method=method: method)
            tables[method] = run(network, domain)
            assert method in tables[method].methods[0]
    first = contents(tables["plain"])
    for table in tables.values():
        assert contents(table) == first
        assert table.min_margin == pytest.approx(tables["plain"].min_margin, abs=1e-5)


def test_the_method_fits_the_network() -> None:
    assert method_for(*world(1)) == "sum table"
    assert method_for(*world(1, "bidirectional")) == "sum table"
    assert method_for(*world(1, at="every")) == "prefix trie"
    assert method_for(*world(2)) == "prefix trie"
    assert method_for(*world(2, "bidirectional")) == "plain"


@pytest.mark.parametrize("method", ["sum table", "prefix trie", "plain"])
def test_a_stop_leaves_a_valid_beginning(method: str, tiny_blocks: Callable[[int], None]) -> None:
    network, domain = {
        "sum table": lambda: world(1, max_length=6),
        "prefix trie": lambda: world(2, max_length=6),
        "plain": lambda: world(2, "bidirectional", max_length=6),
    }[method]()
    tiny_blocks(1)
    whole = run(network, domain)
    calls: Iterator[int] = iter(range(10**6))
    table = run(network, domain, stop=lambda: next(calls) >= 6)
    assert table.reason == "stopped before all inputs were evaluated"
    assert 0 < table.n_evaluated < domain.size
    for slab, complete in zip(table.slabs, whole.slabs, strict=True):
        assert (slab.offset, slab.length, slab.size) == (complete.offset, complete.length, complete.size)
        done = table.values(slab.offset, slab.length, 0, slab.evaluated)
        assert np.array_equal(done, whole.values(slab.offset, slab.length, 0, slab.evaluated))
        with pytest.raises(DomainError):
            table.values(slab.offset, slab.length, 0, slab.evaluated + 1)


def test_budgets_leave_whole_lengths_out() -> None:
    network, domain = world(2, offsets=(0, 2))
    whole = run(network, domain)
    less = run(network, domain, work_limit=whole.work - 1)
    assert [(s.length, s.offset) for s in less.slabs if not s.evaluated] == [(5, 2)]
    assert "length 5" in less.reason
    assert all(s.evaluated in (0, s.size) for s in less.slabs)
    nothing = run(network, domain, memory_bytes=1 << 20)
    assert nothing.n_evaluated == 0 and "bytes" in nothing.reason
    assert len(nothing.slabs) == len(whole.slabs)


def test_prompts_longer_than_the_positions_are_left_out() -> None:
    network, domain = world(2, max_length=12)
    table = run(network, domain)
    assert [s.length for s in table.slabs if s.evaluated] == list(range(1, 11))
    assert "positions" in table.reason


def test_offsets_are_different_inputs() -> None:
    network, domain = world(2, offsets=(3, 0))
    table = run(network, domain)
    assert [(s.offset, s.length) for s in table.slabs] == [(o, n) for o in (3, 0) for n in range(1, 6)]
    alone = run(network, make_domain(template="<s> {x} <e>", max_length=5))
    assert [s.digests for s in table.slabs[5:]] == [s.digests for s in alone.slabs]


def test_a_number_is_not_one_of_many_logits() -> None:
    network = random_network(1)
    domain = make_domain(kind="value")
    with pytest.raises(DomainError, match="value"):
        run(network, domain)


def test_progress_counts_inputs() -> None:
    seen: list[tuple[int, int | None]] = []

    class Watching(Silent):
        def advance(self, done: int, total: int | None, unit: str) -> None:
            seen.append((done, total))

    network, domain = world(2)
    enumerate_model(network, domain, progress=Watching())
    assert seen[-1] == (domain.size, domain.size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


class Told:
    """What a table writes of every rank."""

    def __init__(self, size: int) -> None:
        self.cells, self.margins = np.full(size, -1), np.full(size, np.nan)

    def write(self, start: int, cells: Any, margins: Any, *_: Any) -> None:
        self.rewrite(np.arange(start, start + len(margins)), cells, margins)

    def rewrite(self, ranks: Any, cells: Any, margins: Any, *_: Any) -> None:
        self.cells[ranks], self.margins[ranks] = cells[0], margins


@pytest.mark.parametrize(("template", "at"), (("<s> {x} <e>", "last"), ("{x}", "last"), ("{x}", "first")))
@pytest.mark.parametrize("where", ("count(tokens == 'a') == 2", "count(tokens == 'a') != count(tokens == 'b')"))
def test_ranks_decided_again_by_halves_are_the_same_inputs(at: str, template: str, where: str) -> None:
    """Strings part into halves of many kinds, so that where a right half begins depends on the left one."""
    network, domain = world(
        1, template=template, alphabet=("a", "b", "c"), promise={"where": where}, at=at, kind="argmax", max_length=6
    )
    form, graph, size = CellFormat.of(domain.readout, domain.vocabulary), domain.graph_at(6), domain.size_at(6)
    assert graph is not None
    stages = CareStages(network, domain.readout, ())(USUAL)
    table = SumTable(stages, domain, form, graph, 6, 0, max_table_floats=1 << 20)
    assert table.is_small
    once, again = Told(size), Told(size)
    table.decide(0, size, once, 17)  # type: ignore[arg-type]
    for ranks in np.array_split(np.random.default_rng(0).permutation(size), 5):
        table.decide_again(np.sort(ranks), again)  # type: ignore[arg-type]
    assert len(set(once.margins.round(9).tolist())) > 2
    assert (once.cells == again.cells).all() and np.allclose(once.margins, again.margins, rtol=1e-12)


@pytest.mark.parametrize("at", ("last", "every"))
def test_fine_bounds_along_a_trie_are_those_of_plain_passes(
    at: str, tiny_blocks: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a node attends to lies in the trunk, at its ancestors and at itself, and all of it counts in its spread."""
    made, n_seen = trie_attention._spread, list[int]()

    def held(layer: int, lineage: Lineage, value: Any, weights: Any, total: Any, heads: Any) -> Any:
        above = [
            np.take(level.values[layer], c, axis=1) for level, c in zip(lineage.levels, lineage.columns, strict=True)
        ]
        values = [np.broadcast_to(v[..., None], value.shape) for v in np.moveaxis(lineage.trunks[layer].values, 2, 0)]
        values += [v.reshape(value.shape) for v in (*above, value)]
        squares = [((v - heads) ** 2).sum(axis=1) * weights[:, i] for i, v in enumerate(values)]
        found = made(layer, lineage, value, weights, total, heads)
        assert np.allclose(found, np.sqrt((sum(squares) / total).max(axis=0)), atol=1e-7)
        n_seen.append(len(above))
        return found

    monkeypatch.setattr(trie_attention, "_spread", held)
    network, domain = world(2, alphabet=("a", "b", "c"), min_length=5, at=at)
    monkeypatch.setattr(methods.Methods, "cares", lambda self: (CAREFUL,))
    tiny_blocks(1 << 12)
    tables = [run(network, domain)]
    monkeypatch.setattr(enumeration, "method_for", lambda network, domain: "plain")
    tables.append(run(network, domain))
    assert max(n_seen) > 1
    assert [table.methods[0].split(",")[0] for table in tables] == ["prefix trie", "plain"]
    for one, other in zip(*(table.slabs for table in tables), strict=True):
        assert one.digests == other.digests
        assert (one.bounds > 0).all() and np.allclose(one.bounds, other.bounds, rtol=1e-6)
