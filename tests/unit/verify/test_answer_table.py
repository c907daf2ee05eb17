"""Cells decode to what was decided; slabs keep margins, doubts and digests straight whatever the order of writing."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import DomainError
from extract.verify.answer_table import AnswerTable, SlabWriter, empty_slab
from extract.verify.cells import CellFormat
from extract.vocabulary import ABSENT, UNDETERMINED
from tests.unit.verify.enumeration_cases import make_domain


def form(**readout: object) -> CellFormat:
    domain = make_domain(**readout)  # type: ignore[arg-type]
    return CellFormat.of(domain.readout, domain.vocabulary)


@given(st.integers(0, 999))
def test_argmax_picks_the_top_and_measures_the_gap(seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(5, 7)).round(1)
    cells, margins = form().decide(logits)
    ordered = np.sort(logits, axis=0)
    assert np.array_equal(cells[0], logits.argmax(axis=0))
    assert np.array_equal(margins, ordered[-1] - ordered[-2])


def test_ties_and_numbers_that_are_none_have_no_margin() -> None:
    logits = np.array([[1.0, np.nan, 0.0], [1.0, 0.0, np.nan], [0.0, 5.0, 9.0], [0, 0, 0], [0, 0, 0]])
    _, margins = form().decide(logits)
    assert margins[0] == 0 and not (margins > 0).any()
    _, margins = form(kind="multilabel", threshold=1.0).decide(logits)
    assert not (margins > 0).any()


@given(st.integers(0, 999), st.integers(1, 20))
def test_labels_survive_packing(seed: int, n_labels: int) -> None:
    names = tuple(f"t{i}" for i in range(n_labels))
    packed = form(vocab=names, alphabet=names[:1], kind="multilabel", threshold=0.25)
    logits = np.random.default_rng(seed).normal(size=(n_labels, 9))
    cells, margins = packed.decide(logits)
    assert cells.shape[0] == packed.width(1) == -(-n_labels // 8)
    assert np.array_equal(packed.decode(cells.T, 1), (logits > 0.25).T)
    assert np.allclose(margins, np.abs(logits - 0.25).min(axis=0))


def test_many_choices_take_two_bytes() -> None:
    names = tuple(f"t{i}" for i in range(300))
    wide = form(vocab=names, alphabet=names[:1])
    assert wide.dtype == np.uint16 and wide.decode(np.array([[wide.absent]]), 1)[0, 0] == ABSENT


@given(st.integers(1, 60), st.integers(0, 999), st.integers(1, 9))
def test_slabs_know_their_least_margins_and_digests(size: int, seed: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    choice = form()
    margins, bound = rng.exponential(size=size), 0.3
    cells = rng.integers(0, 5, size=(1, size)).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("extract.verify.answer_table.REGION", 8)
        writer = SlabWriter(choice, 0, 3, size, 1)
        for start in range(0, size, step):
            part = slice(start, min(start + step, size))
            writer.write(start, cells[:, part], margins[part], margins[part] > bound, bound)
        writer.evaluated = size
        assert writer.n_doubtful == (margins <= bound).sum()
        ranks = writer.doubtful()
        assert np.array_equal(ranks, np.flatnonzero(margins <= bound))
        writer.rewrite(ranks, cells[:, ranks], margins[ranks], np.full(len(ranks), 0.1))
        slab = writer.finish()
        table = AnswerTable(choice, (slab, empty_slab(choice, 0, 4, 5, 1)), "real", (), 0.3, 0, "")
        assert np.array_equal(slab.fragile, np.flatnonzero(margins <= 0.1))
        known = np.where(margins > 0.1, choice.codes[cells[0]], UNDETERMINED)
        assert np.array_equal(table.values(0, 3, 0, size)[:, 0], known)
        for region, start, stop in slab.regions():
            sure = margins[start:stop][margins[start:stop] > 0.1]
            assert slab.min_margins[region] == (sure.min() if len(sure) else np.inf)
            codes = choice.codes[cells[0, start:stop]].astype("<i4")
            assert slab.digests[region] == hashlib.sha256(codes.tobytes()).hexdigest()
    assert table.n_fragile == len(slab.fragile) and table.n_evaluated == size
    with pytest.raises(DomainError, match="evaluated"):
        table.values(0, 4, 0, 1)
    with pytest.raises(DomainError, match="not in the answer table"):
        table.slab(1, 3)
