"""Idioms: what attention is known to compute about any input, grown from as if it cost what a leaf does.

First and earlier occurrences, how often a token occurs, who stood after it last time, runs, mirrored and sorted
positions, halves, prefix extremes: programs for transformers are made of these (RASP, Weiss et al. 2021, section 4;
induction heads, Olsson et al. 2022; RASP-L, Zhou et al. 2023, appendix), yet each costs six to ten operators, where a
bank that is complete in cost ends. A second, small bank starts with all of them and joins them with the usual grammar.
It only proposes: the gate weighs the whole program, and completeness is said of the first bank alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from extract.lang.sorts import sorts_of
from extract.lang.syntax import parse_term, print_term
from extract.lang.terms import Term
from extract.search.bank import Bank, Key, Tag
from extract.search.builders import IS_REPEATED
from extract.search.layers import Grammar

_SAME = "select(tokens, tokens, '==')"
_TIMES = f"selector_width({_SAME})"
_SEEN = print_term(IS_REPEATED)
_CHANGED = "not tokens == shift(tokens, 1)"
_MIRROR = "select(indices, selector_width(after), '==')"
_HALF = "length // 2"

#: Of tokens of any kind.
_OF_SYMBOLS = (
    _SAME, f"before and {_SAME}", f"upto and {_SAME}",
    _SEEN, f"exists(after and {_SAME})", f"keys_where(not {_SEEN})", f"count(not {_SEEN})",
    _TIMES, f"selector_width(before and {_SAME})", f"max_over(everywhere, {_TIMES})",
    f"select({_TIMES}, {_TIMES}, '==')",
    f"first({_SAME}, indices)", f"last(before and {_SAME}, indices)", f"rank({_TIMES})",
    f"select(rank({_TIMES}), indices, '==')",
    "before and select(shift(tokens, 1), tokens, '==')", "upto and select(shift(tokens, 1), tokens, '==')",
    _CHANGED, f"indices - last(upto and keys_where({_CHANGED}), indices)", f"running_count({_CHANGED})",
    _MIRROR, f"first({_MIRROR}, tokens)", f"first({_MIRROR}, tokens) == tokens",
    f"indices < {_HALF}", f"select(indices, {_HALF}, '<')", f"select(indices, {_HALF}, '>=')",
)  # fmt: skip
#: Of tokens that are numbers, beside those.
_OF_NUMBERS = (
    "rank(tokens)", "select(rank(tokens), indices, '==')", "sum_over(upto, tokens)", "sum_over(everywhere, tokens)",
    "max_over(upto, tokens)", "min_over(upto, tokens)", "max_over(everywhere, tokens)", "min_over(everywhere, tokens)",
    "select(tokens, max_over(everywhere, tokens), '==')", "select(tokens, min_over(everywhere, tokens), '==')",
)  # fmt: skip
_LEVELS = 5
#: Candidates, as a share of those of the search it helps.
_SHARE = 6


def idioms(*, is_numeric: bool) -> list[Term]:
    """Return the idioms of a vocabulary."""
    return [parse_term(text) for text in _OF_SYMBOLS + (_OF_NUMBERS if is_numeric else ())]


def grown(bank: Bank, grammar: Grammar, n_levels: int = _LEVELS) -> Iterator[int]:
    """Fill an empty bank with leaves and idioms and join them level by level; yield each level that is done."""
    grammar.grow(1)
    numeric = bank.frame.vocabulary.numeric
    ids: dict[Term, int] = {}
    for term in idioms(is_numeric=numeric):
        _place(bank, term, ids)
    yield 1
    for level in range(2, n_levels + 1):
        grammar.grow(level)
        yield level


def share_of(n_candidates: int, max_cost: int) -> tuple[int, int]:
    """Return how many candidates idioms may take of a budget, and to how many levels; none of too small a one."""
    share = n_candidates // _SHARE
    return (share, min(_LEVELS, max_cost)) if share > len(_OF_SYMBOLS + _OF_NUMBERS) else (0, 0)


def _place(bank: Bank, term: Term, ids: dict[Term, int]) -> int:
    """Add a term and its parts to a bank at the first level; return the id of the representative of its class."""
    if term not in ids:
        arguments = [_place(bank, argument, ids) for argument in term.arguments]
        sort = sorts_of(term, bank.frame.vocabulary)[term]
        tag: Tag = "" if sort.kind != "I" else "T" if sort.tag == "T" and not bank.frame.vocabulary.numeric else "N"
        ids[term] = bank.place(Key(sort.kind, tag, sort.shape), term.operator, term.data, arguments, 1)
    return ids[term]
