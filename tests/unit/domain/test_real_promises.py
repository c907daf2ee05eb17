"""Promises of the language, as the domain uses them: what a graph lists is what the promise keeps."""

from __future__ import annotations

import re

import numpy as np
import pytest

from extract.domain import build_domain
from extract.errors import DomainError
from extract.lang.promise import compile_promise
from extract.spec import DomainSpec, TaskSpec, Tokens
from extract.vocabulary import Vocabulary
from tests.unit.domain.promises import String, all_strings

PROMISES = [
    "count(tokens == 1) != count(tokens == 2)",
    "length % 2 == 0 and count(tokens == 1 and indices % 2 == 0) == 1",
    "all(0 <= running_count(tokens == 1) - running_count(tokens == 2))",
    "distinct(tokens)",
    "increasing(tokens)",
    "count(tokens == last(everywhere, tokens) and indices < 2) == 1",
    "any(tokens == 3) and not all(tokens == 3)",
    "max_over(everywhere, tokens) - min_over(everywhere, tokens) < 2",
    "length == 3 or count(tokens == 1) == 0",
    "1 == 2",
]


LANGUAGES = {None: r"\d*", "(1|2|3)*2(1|2|3)*": r"\d*2\d*", "1*": "1*"}


@pytest.mark.parametrize("where", PROMISES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_graph_lists_what_the_promise_keeps(where: str, language: str | None) -> None:
    vocab, word = ("1", "2", "3", "s"), re.compile(LANGUAGES[language])
    bounds = DomainSpec(5, alphabet=("3", "1", "2"), template="s {x}", min_length=0, where=where, matches=language)
    spec = TaskSpec(1, Tokens(vocab, numeric=True), bounds)
    promise = compile_promise(where, Vocabulary(vocab, True))
    kept: dict[int, list[String]] = {}
    for n in range(6):
        rows = all_strings((2, 0, 1), n, n)
        holds = promise.holds(np.array(rows, dtype=np.int32).reshape(3**n, n))
        kept[n] = [row for row in rows if holds[rows.index(row)] and word.fullmatch("".join(vocab[t] for t in row))]
    if not any(kept.values()):
        with pytest.raises(DomainError, match="no input of length 0 to 5"):
            build_domain(spec, compile_promise)
        return
    domain = build_domain(spec, compile_promise)
    for n, strings in kept.items():
        assert domain.size_at(n) == len(strings)
        assert [tuple(row) for row in domain.tokens(n, 0, len(strings)).tolist()] == strings
