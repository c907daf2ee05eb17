"""Two programs compared on a domain, against evaluation by the interpreter on every string."""

from __future__ import annotations

from itertools import permutations, product
from math import comb

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.domain import Domain, build_domain
from extract.lang.interpret import answer, evaluate_one
from extract.lang.program_graph import NotReadable, difference_graph
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.lang.terms import Program
from extract.progress import Silent
from extract.spec import parse_spec
from extract.verify import against, renaming
from extract.verify.against import Compared, compare_programs, equal_from
from tests.laws.terms import SYMBOLS, well_sorted_terms

QUIET = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


SYMBOL_SPEC = """version = 1
[tokens]
vocab = ["b", "a", "c", "<bos>"]
[domain]
alphabet = ["a", "b", "c"]
min_length = 0
max_length = 4
template = "<bos> {x}"
"""


def symbol_domain(extra: str = "", readout: str = "") -> Domain:
    return build_domain(parse_spec(f"{SYMBOL_SPEC}{extra}\n[readout]\n{readout}\n"), compile_promise)


def run(left: Program, right: Program, domain: Domain) -> Compared:
    return compare_programs(left, right, domain, seconds=20.0, memory_bytes=1 << 30, progress=Silent())


def truth(left: Program, right: Program, domain: Domain, length: int) -> tuple[int, list[tuple[int, ...]]]:
    """Return the number of inputs of a length and those on which the programs differ, in order."""
    total, wrong = 0, []
    for tokens in product(domain.alphabet, repeat=length):
        if domain.contains(tokens, 0):
            total += 1
            codes = tuple(int(domain.vocabulary.token_codes[t]) for t in tokens)
            if answer(left, codes, domain, domain.readout) != answer(right, codes, domain, domain.readout):
                wrong.append(tokens)
    return total, wrong


def check(left: Program, right: Program, domain: Domain) -> None:
    found = run(left, right, domain)
    expected = {n: truth(left, right, domain, n) for n in domain.lengths if domain.size_at(n)}
    counted = {p.length: (p.same + p.differ + p.undecided, p.differ) for p in found.lengths}
    assert counted == {n: (total, len(wrong)) for n, (total, wrong) in expected.items()}
    assert not any(p.undecided for p in found.lengths)
    first = next((wrong[0] for _, wrong in expected.values() if wrong), None)
    assert (found.example.tokens if found.example else None) == first
    assert found.is_first == (first is not None)
    assert found.is_equal == (first is None)


PROMISES = ("", "where = \"2 * count(tokens == 'a') <= length\"", "matches = '(a|bb)*c?'", 'where = "distinct(tokens)"')


@pytest.mark.parametrize("promise", PROMISES)
@QUIET
@given(data=st.data())
def test_random_pairs(promise: str, data: st.DataObject) -> None:
    domain = symbol_domain(promise)
    first = data.draw(well_sorted_terms("I", "whole", SYMBOLS))
    second = data.draw(st.one_of(st.just(first), well_sorted_terms("I", "whole", SYMBOLS)))
    left, right = (Program("value", (("output", term),)) for term in (first, second))
    check(left, right, domain)


@QUIET
@given(data=st.data())
def test_random_pairs_with_an_answer_per_token(data: st.DataObject) -> None:
    domain = symbol_domain(PROMISES[1], 'at = "every"')
    terms = [data.draw(well_sorted_terms("I", "position", SYMBOLS)) for _ in range(2)]
    left, right = (Program("every", (("output", term),)) for term in terms)
    check(left, right, domain)


@QUIET
@given(data=st.data())
def test_random_pairs_of_labels(data: st.DataObject) -> None:
    domain = symbol_domain("", 'kind = "multilabel"\nchoices = ["a", "c"]')
    labels = [data.draw(st.lists(st.sampled_from(["a", "c"]), unique=True)) for _ in range(2)]
    left, right = (
        Program("multilabel", tuple((x, data.draw(well_sorted_terms("B", "whole", SYMBOLS))) for x in chosen))
        for chosen in labels
    )
    check(left, right, domain)


@QUIET
@given(data=st.data())
def test_equal_however_long_holds_beyond_the_domain(data: st.DataObject) -> None:
    domain = symbol_domain(data.draw(st.sampled_from(PROMISES[::2])))
    longer = build_domain(
        parse_spec(
            SYMBOL_SPEC.replace("max_length = 4", "max_length = 7") + (PROMISES[2] if domain.promise_text else "")
        ),
        compile_promise,
    )
    left, right = (
        Program("value", (("output", data.draw(well_sorted_terms("I", "whole", SYMBOLS, depth=2))),)) for _ in range(2)
    )
    if equal_from(left, right, domain) is not None:
        for length in range(7):
            assert not truth(left, right, longer, length)[1]


BINARY = """version = 1
[tokens]
vocab = ["0", "1", "<sep>"]
[domain]
template = "{{x}} <sep>"
min_length = {least}
max_length = {length}
{promise}
"""


def binary(length: int = 100, promise: str = "", least: int = 1) -> Domain:
    return build_domain(parse_spec(BINARY.format(length=length, promise=promise, least=least)), compile_promise)


def value(text: str) -> Program:
    return parse_program(text if "output" in text else f"output = {text}", "value")


PARITY = "s = scan(tokens, start=0, letters=('0', '1'), transitions=((0, 1), (1, 0)))\n"


def test_finite_programs_are_compared_for_every_length() -> None:
    left = value("'1' if count(tokens == '1') % 2 == 1 else '0'")
    right = value(PARITY + "output = '1' if last(everywhere, s) == 1 else '0'")
    found = run(left, right, binary())
    assert found.is_equal and found.holds_from == 1
    # what differs only on long inputs is not claimed equal, and found
    late = value("'1' if count(tokens == '1') % 2 == 1 and count(tokens == '1') < 21 else '0'")
    found = run(left, late, binary(25))
    assert found.holds_from is None and found.example is not None
    assert found.example.tokens == (1,) * 21 and found.is_first
    # an empty input on which they differ counts where the domain has it
    empty = value("'1' if not any(tokens == '0' or tokens == '1') or count(tokens == '1') % 2 == 1 else '0'")
    assert run(left, empty, binary(20, least=0)).example is not None
    assert run(left, empty, binary()).holds_from == 1


def test_a_length_in_a_program_or_promise_forbids_every_length() -> None:
    left, right = value("'1' if length == 200 else '0'"), value("'0'")
    found = run(left, right, binary(50))
    assert found.is_equal and found.holds_from is None
    left = value("'1' if exists(select(indices, 70, '==') and keys_where(tokens == '1')) else '0'")
    assert equal_from(left, right, binary(50)) is None and run(left, right, binary(50)).is_equal
    domain = binary(50, "where = \"length < 60 or any(tokens == '1')\"")
    assert equal_from(value("'1' if any(tokens == '1') else '0'"), value("last(everywhere, tokens)"), domain) is None


def test_a_planted_difference_is_found_and_counted() -> None:
    rng = np.random.default_rng(1)
    for length in (3, 9, 13):
        word = rng.integers(0, 2, length).tolist()
        number = int("".join(map(str, word)), 2)
        base = "count(tokens == '0') < count(tokens == '1')"
        spelled = f"last(everywhere, horner(int(tokens == '1'), 2, 0)) == {number}"
        left = value(f"'1' if {base} else '0'")
        right = value(f"('0' if {base} else '1') if {spelled} else ('1' if {base} else '0')")
        found = run(left, right, binary(length, least=length))
        assert found.lengths[0].differ == 1 and found.example is not None
        assert found.example.tokens == tuple(word)


def test_counts_are_exact_far_beyond_listing() -> None:
    left = value("'0' if count(tokens == '1') < count(tokens == '0') else '1'")
    right = value("'1' if length < 2 * count(tokens == '1') else '0'")
    found = run(left, right, binary(40))
    ties = {n: (0 if n % 2 else comb(n, n // 2)) for n in range(1, 41)}
    assert {p.length: p.differ for p in found.lengths} == ties
    assert run(left, right, binary(40, "where = \"count(tokens == '0') != count(tokens == '1')\"")).is_equal


LETTERS = """version = 1
[tokens]
vocab = ["a", "b", "c", "d", "e", "<none>"]
[domain]
alphabet = ["c", "a", "b", "e", "d"]
min_length = 1
max_length = {length}
{promise}
"""
UNIQUE = "first(select(selector_width(select(tokens, tokens, '==')), 1, '=='), tokens, '<none>')"
LAST_UNIQUE = UNIQUE.replace("first", "last")


@pytest.mark.parametrize("promise", ["", 'where = "first(everywhere, tokens) == last(everywhere, tokens)"'])
def test_patterns_count_what_listing_counts(promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = build_domain(parse_spec(LETTERS.format(length=6, promise=promise)), compile_promise)
    left, right = value(UNIQUE), value(LAST_UNIQUE)
    listed = run(left, right, domain)
    monkeypatch.setattr(against, "difference_graph", lambda *_: NotReadable("not asked"))
    patterns = run(left, right, domain)
    assert {p.method for p in patterns.lengths} == {"patterns"}
    assert [(p.same, p.differ) for p in patterns.lengths] == [(p.same, p.differ) for p in listed.lengths]
    assert patterns.example == listed.example and patterns.is_first


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_terms_that_treat_letters_alike_do(data: st.DataObject) -> None:
    domain = symbol_domain()
    term = data.draw(well_sorted_terms(data.draw(st.sampled_from(("token", "number", "B"))), "whole", SYMBOLS))
    if not renaming.treats_letters_alike([term], domain):
        return
    codes = [int(SYMBOLS.token_codes[t]) for t in domain.alphabet]
    for word in product(codes, repeat=3):
        expected = evaluate_one(term, word, SYMBOLS)[0]
        for renamed in permutations(codes):
            names = dict(zip(codes, renamed, strict=True))
            moved = evaluate_one(term, tuple(names[c] for c in word), SYMBOLS)[0]
            assert moved == (names.get(expected, expected) if not isinstance(expected, bool) else expected)


@pytest.mark.parametrize(
    "text",
    ["'a'", "min_over(everywhere, tokens)", "table(length, {1: 'a'}, '<none>')", "count(tokens == 'a')",
     "first(select(rank(tokens), 0, '=='), tokens)", "max(first(everywhere, tokens), last(everywhere, tokens))",
     "first(select(tokens, last(everywhere, tokens), '<'), tokens)"],
)  # fmt: skip
def test_terms_that_name_or_order_letters_do_not(text: str) -> None:
    domain = build_domain(parse_spec(LETTERS.format(length=6, promise="")), compile_promise)
    assert not renaming.treats_letters_alike(value(text).terms(), domain)


def test_the_number_of_patterns() -> None:
    assert [renaming.n_patterns(9, n) for n in range(6)] == [1, 1, 2, 5, 15, 52]
    assert renaming.n_patterns(2, 5) == 16


def test_what_no_method_decides_is_undecided() -> None:
    domain = binary(40, least=40)
    left = value("first(select(rank(tokens), 20, '=='), tokens)")
    right = value("first(select(rank(tokens), 20, '=='), tokens) if 20 < length else '0'")
    found = compare_programs(left, right, domain, seconds=0.0, memory_bytes=1 << 30, progress=Silent())
    assert not found.is_equal and found.example is None and found.reason is not None
    assert found.lengths[0].undecided == 2**40
    assert isinstance(difference_graph(left, right, domain, 40), NotReadable)
