"""Domains: membership, order, sampling, rendering, and clear refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.domain import Template
from extract.errors import DomainError, ProgramError, SpecError
from extract.spec import AutomatonSpec, ReadOutSpec
from extract.vocabulary import Vocabulary
from tests.unit.domain.promises import HandPromise, all_strings, domain_of


@given(
    st.sets(st.sampled_from(all_strings((2, 0), 0, 4)), min_size=1),
    st.lists(st.integers(0, 9), min_size=1, unique=True),
)
def test_size_membership_order_and_sampling_agree(kept: set[tuple[int, ...]], offsets: list[int]) -> None:
    domain = domain_of(
        HandPromise(kept.__contains__, "always"),
        alphabet=("c", "a"),
        min_length=0,
        template="<s> {x}",
        offsets=tuple(offsets),
    )
    assert domain.size == len(kept) * len(offsets) and domain.size_is_exact
    for length in domain.lengths:
        rows = [s for s in all_strings((2, 0), length, length) if s in kept]
        assert domain.size_at(length) == len(rows)
        if rows:
            assert [tuple(row) for row in domain.tokens(length, 0, len(rows)).tolist()] == rows
        assert [domain.rank(row) for row in rows] == list(range(len(rows)))
    for string in all_strings((0, 1, 2), 0, 3):
        assert domain.contains(string, offsets[-1]) == (string in kept)
    assert not domain.contains(next(iter(kept)), 10)
    inputs = domain.sample(10 * len(offsets), seed=1)
    drawn = [inputs.row(i) for i in range(len(inputs))]
    assert all(domain.contains(*row) for row in drawn)
    lengths = {len(s) for s in kept}
    assert {(len(tokens), offset) for tokens, offset in drawn} == {(n, o) for n in lengths for o in offsets}


def test_samples_of_one_length_cycle_the_offsets_and_repeat_by_seed() -> None:
    domain = domain_of(offsets=(0, 7))
    one, same, other = (domain.sample(50, seed, length=3) for seed in (1, 1, 2))
    assert one.offsets.tolist() == [0, 7] * 25 and one.tokens.shape == (50, 3) and set(one.lengths.tolist()) == {3}
    assert np.array_equal(one.tokens, same.tokens) and not np.array_equal(one.tokens, other.tokens)
    assert len(domain.sample(0, 1)) == 0
    with pytest.raises(DomainError, match="length 9"):
        domain.sample(1, 0, length=9)


def test_mixed_samples_take_lengths_in_turn() -> None:
    domain = domain_of(min_length=1, max_length=3, offsets=(0, 1))
    inputs = domain.sample(12, seed=0)
    assert inputs.lengths.tolist() == [1, 2, 3] * 4
    assert inputs.offsets.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert (inputs.tokens[0] == -1).tolist() == [False, True, True]


@given(st.integers(0, 6), st.integers(-7, 7), st.integers(-7, 7))
def test_slices_of_a_template_are_those_of_python(length: int, start: int, stop: int) -> None:
    template = Template.parse(f"{{x[{start}:{stop}]}} b {{x[:{stop}]}} {{x[{start}:]}}", Vocabulary(("a", "b")))
    x = [-1 - i for i in range(length)]
    assert template.layout(length) == (*x[start:stop], 1, *x[:stop], *x[start:])


@pytest.mark.parametrize(
    ("template", "at", "prompt", "read"),
    [
        ("{x}", "last", [0, 1, 2, 0], (3,)),
        ("<s> {x} b", "first", [3, 0, 1, 2, 0, 1], (0,)),
        ("<s> {x[2:]} c {x[0]} {x[1]}", "every", [3, 2, 0, 2, 0, 1], (4, 5, 1, 2)),
        ("{x[-1]} {x[:-1]} <s>", "generate", [0, 0, 1, 2, 3], (4,)),
    ],
)
def test_rendering(template: str, at: str, prompt: list[int], read: tuple[int, ...]) -> None:
    domain = domain_of(template=template, min_length=4, readout=ReadOutSpec(at=at))  # type: ignore[arg-type]
    rows = np.array([[0, 1, 2, 0], [2, 2, 2, 2]], dtype=np.int32)
    assert domain.render(rows)[0].tolist() == prompt
    assert domain.render(rows).shape == (2, domain.rendered_length(4)) and domain.read_positions(4) == read


def test_braces_may_be_tokens() -> None:
    domain = domain_of(vocab=("{", "}", "go"), template="go {x} }", alphabet=("{", "}"))
    assert domain.template.layout(2) == (2, -1, -2, 1)


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"template": "{x} <e>"}, SpecError, "$.domain.template: '<e>'"),
        ({"template": "<s>{x}"}, SpecError, "separate tokens by spaces"),
        ({"template": "{x[0]}"}, SpecError, "x[1] of an input of length 2 appears nowhere"),
        ({"template": "{x} {x[3]}"}, SpecError, "{x[3]} asked of an input of length 1"),
        ({"template": "{x}", "min_length": 0}, SpecError, "empty for length 0"),
        ({"matches": "(a"}, ProgramError, "$.domain.matches: regular expression '(a'"),
        ({"prefixes_of": "a*x"}, ProgramError, "$.domain.prefixes_of"),
        ({"matches": "a{7}"}, DomainError, "no input of length 1 to 4 keeps the promise matches 'a{7}'"),
    ],
)
def test_a_domain_that_makes_no_sense_is_refused(fields: dict[str, object], error: type, says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        domain_of(**fields)


def test_a_token_shown_twice_cannot_be_read_at_every_token() -> None:
    with pytest.raises(SpecError, match="appears twice"):
        domain_of(template="{x} {x}", readout=ReadOutSpec(at="every"))
    assert domain_of(template="{x} {x}").rendered_length(2) == 4


def test_promises_of_a_spec_intersect_and_are_quoted() -> None:
    longer = HandPromise(lambda s: len(s) >= 3, "with a length", text="length >= 3")
    domain = domain_of(longer, prefixes_of="(ab)*", max_length=5)
    assert [domain.size_at(n) for n in range(1, 6)] == [0, 0, 1, 1, 1]
    assert domain.promise_text == "(prefixes_of '(ab)*') and (length >= 3)"
    assert domain_of(matches="a|b").promise_text == "matches 'a|b'" and domain_of().promise_text is None


def test_a_listed_automaton_is_a_promise() -> None:
    domain = domain_of(automaton=AutomatonSpec(((0, 1, -1), (-1, 1, 0)), 0))
    words = {s for s in all_strings((0, 1, 2), 1, 4) if not re.search("1+0|^0*2|20*2", "".join(map(str, s)))}
    assert {tuple(r) for n in domain.lengths for r in domain.tokens(n, 0, domain.size_at(n)).tolist()} == words


def test_self_allowed_needs_the_model() -> None:
    with pytest.raises(SpecError, match="self_allowed: true needs the model"):
        domain_of(self_allowed=True)


def test_choices_become_output_ids_in_id_order() -> None:
    readout = domain_of(readout=ReadOutSpec(choices=("c", "a"), stop="<s>", threshold=0.5)).readout
    assert readout.choices == (0, 2) and readout.stop == 3 and readout.threshold == 0.5
    assert domain_of(readout=ReadOutSpec(outputs=("no", "yes"))).readout.choices == (0, 1)


def test_a_string_outside_has_no_rank() -> None:
    with pytest.raises(DomainError, match="'a a' is not an input"):
        domain_of(matches="(ab)*").rank((0, 0))
