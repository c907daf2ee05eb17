"""Sharing beginnings changes what is computed twice, never what is answered."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.model.forward import Forward, nothing_seen
from extract.model.prefixes import _cuts, run_shared
from tests.networks import random_network


@settings(max_examples=30)
@given(
    seed=st.integers(0, 999),
    n_layers=st.integers(0, 3),
    n_inputs=st.integers(1, 40),
    n_tokens=st.integers(1, 8),
    n_letters=st.integers(1, 3),
    offset=st.integers(0, 3),
    data=st.data(),
)
def test_it_equals_running_each_alone(
    seed: int, n_layers: int, n_inputs: int, n_tokens: int, n_letters: int, offset: int, data: st.DataObject
) -> None:
    forward = Forward(random_network(seed, n_layers, 8, 2))
    prompts = torch.from_numpy(np.random.default_rng(seed).integers(0, n_letters, (n_inputs, n_tokens)))
    read = data.draw(st.lists(st.integers(0, n_tokens - 1), unique=True, max_size=4))
    expected, alone = forward.run(prompts, nothing_seen(offset), read)
    logits, memory = run_shared(forward, prompts, offset, read)
    assert memory.n_positions == alone.n_positions and memory.offset == offset
    torch.testing.assert_close(logits, expected, rtol=1e-11, atol=1e-11)
    for ours, theirs in zip(memory.keys + memory.values, alone.keys + alone.values, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_cuts_share_long_equal_beginnings_and_nothing_else() -> None:
    equal_but_the_last = np.array([-1] + [9] * 99)
    assert _cuts(equal_but_the_last, 10, 0.1) == [9, 10]
    all_different = np.array([-1] + [0] * 99)
    assert _cuts(all_different, 10, 0.1) == [10]
    repeated = np.array([-1] + [10] * 99)
    assert _cuts(repeated, 10, 0.1) == [10]
