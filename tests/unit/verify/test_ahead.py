"""Lengths decided by shards come out as in one process; what is lost or refused is undecided, and never a proof."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.outcome import Tally
from extract.progress import Silent
from extract.shards import BadReply, Lost
from extract.verify import climb as room
from extract.verify.ahead import prove_shard
from extract.verify.box_proof import BoxResult
from extract.verify.climb import BoxClimber, Climb
from extract.verify.length_proof import LengthProof, counted
from extract.verify.two_layers import prover_for
from tests.soundness.test_box_bounds import drawn_case
from tests.unit.verify.enumeration_cases import BruteOracle
from tests.unit.verify.shards_here import Fate, ShardsHere

SHORTEST, LONGEST = 6, 9
SEEDS = (2, 3, 18, 20, 22, 26)


@pytest.fixture(autouse=True)
def _share_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ALONE_SECONDS", 0.0)


def climbed(seed: int, work: int, fate: Fate | None) -> Climb:
    """Climb a drawn case to its longest length, with shards if there is a fate for their replies."""
    network, domain, program, _ = drawn_case(seed, LONGEST, SHORTEST)
    prover = prover_for(network, domain, "real", lambda: False)
    assert not isinstance(prover, str)
    shards = None if fate is None else ShardsHere(lambda m: prove_shard(prover, m), fate)
    climber = BoxClimber(
        network, domain, BruteOracle(network, domain), "real", work_limit=work, progress=Silent(),
        stop=lambda: False, shards=shards,
    )  # fmt: skip
    pairs = [(length, offset) for offset in domain.offsets for length in domain.lengths]
    found = climber.climb(program, pairs)
    assert shards is None or shards.n_done == len(pairs) > 1
    return found


@pytest.mark.parametrize("work", [0, 10**8, 10**9, 10**11, 10**13])
@pytest.mark.parametrize("seed", SEEDS)
def test_shards_change_nothing(seed: int, work: int) -> None:
    assert climbed(seed, work, lambda _, reply: reply) == climbed(seed, work, None)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_length_is_undecided_and_the_others_are_not(seed: int) -> None:
    alone = climbed(seed, 10**12, None)
    found = climbed(seed, 10**12, lambda n, reply: Lost("killed thrice") if n == 1 else reply)
    assert len(found.regions) == len(alone.regions) - 1
    assert "lost with its shard: killed thrice" in found.reason
    assert set(found.regions) < set(alone.regions)


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no tree": lambda r: r.pop("tree"),
    "no JSON": lambda r: r.update(tree="["),
    "deep": lambda r: r.update(tree="[" * 100_000),
    "other size": lambda r: r.update(tree='["b","7",0.5,["a"]]'),
    "negative": lambda r: r.update(tree='["l","2",3,-1,0.5]'),
    "more decided": lambda r: r.update(tree='["l","2",2,1,0.5]'),
    "other kind": lambda r: r.update(tree='["x","2"]'),
    "boxes": lambda r: r.update(n_boxes=-1),
    "many boxes": lambda r: r.update(n_boxes=10**12),
    "boxes as text": lambda r: r.update(n_boxes="3"),
    "enough": lambda r: r.update(enough=True),
    "error": lambda r: r.update(error=-0.5),
    "no error": lambda r: r.update(error=None),
    "no strings": lambda r: r.update(different=None),
    "letters": lambda r: r.update(different=[[99] * 40]),
    "short": lambda r: r.update(different=[[]], inside_open=[[]]),
    "inside": lambda r: r.update(inside_open=[[0]]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_reply_of_another_shape_is_refused(lie: str) -> None:
    def fate(n: int, reply: dict[str, Any]) -> dict[str, Any]:
        if n == 2:
            LIES[lie](reply)
        return reply

    found = climbed(2, 10**12, fate)
    assert len(found.regions) == len(climbed(2, 10**12, None).regions) - 1
    assert "a reply was refused" in found.reason


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=3), st.lists, max_leaves=12))
def test_whatever_is_no_tree_is_refused(value: object) -> None:
    try:
        tally = counted(json.dumps(value))
    except BadReply:
        return
    assert min(tally.agree, tally.disagree, tally.undecided) >= 0


@pytest.mark.parametrize("max_boxes", [1, 3, 17, 40, 400, 2000])
@pytest.mark.parametrize("seed", SEEDS)
def test_enough_boxes_are_enough(seed: int, max_boxes: int) -> None:
    """A result that says so is what other limits give; its counts are those of the tree as written."""
    network, domain, program, _ = drawn_case(seed, LONGEST)
    prover = prover_for(network, domain, "real", lambda: False)
    assert not isinstance(prover, str)
    result = prover.prove(program, LONGEST, domain.offsets[0], max_boxes)
    assert isinstance(result, BoxResult)
    proof = LengthProof.of(domain, result)
    assert counted(proof.tree) == proof.tally != Tally()
    assert LengthProof.from_reply(domain, LONGEST, domain.offsets[0], proof.reply()) == proof
    for other in (1, 2, 16, 17, 33, 319, 320, 1700, 6000):
        if proof.holds_for(max_boxes, other):
            again = prover.prove(program, LONGEST, domain.offsets[0], other)
            assert isinstance(again, BoxResult)
            assert LengthProof.of(domain, again).tree == proof.tree
