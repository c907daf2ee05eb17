"""Laws: a program's batched answers are the interpreter's, for every adapter, any lengths and any chunking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.lang.batched import evaluate
from extract.lang.interpret import answer
from extract.vocabulary import ABSENT, Vocabulary
from tests.laws.terms import NUMBERS, SYMBOLS, inputs
from tests.laws.test_emit import READOUTS, drawn_program
from tests.laws.test_meanings import as_batch


@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@pytest.mark.parametrize("adapter", tuple(READOUTS))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), rows_per_chunk=st.sampled_from((1, 2, 1 << 19)))
def test_batched_answers_are_reference(
    adapter: str, vocabulary: Vocabulary, rows_per_chunk: int, data: st.DataObject
) -> None:
    program, readout = drawn_program(data, adapter, vocabulary), READOUTS[adapter]
    rows = data.draw(st.lists(inputs(vocabulary, 3), min_size=1, max_size=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("extract.lang.batched._CELLS_PER_CHUNK", rows_per_chunk)
        cells = evaluate(program, as_batch(rows, 0), vocabulary, readout)
    assert cells.dtype == np.int32
    for found, row in zip(cells, rows, strict=True):
        expected = answer(program, row, vocabulary, readout)
        assert tuple(int(c) for c in found[: len(expected)]) == expected
        assert (found[len(expected) :] == ABSENT).all()
