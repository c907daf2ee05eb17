"""Regular languages: membership of Tomita's seven, next-symbol sets of bounded brackets and of cycles."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from benchmarks.synthesis.records import BITS, EOS, Names, SynthesisTask, one, prefixes

_TOMITA = "Tomita 1982, language {}: {}"
_DRASP = "Decompiling Transformers to RASP (Huang et al. 2026), formal languages: {}"
_AB: Names = ("a", "b")


# -- membership -------------------------------------------------------------------------------------------------------
def _tomita(number: int, words: str, accepts: Callable[[str], object], best: str) -> SynthesisTask:
    return SynthesisTask(
        name=f"tomita_{number}", family="tomita", source=_TOMITA.format(number, words), alphabet=BITS, lengths=(0, 12),
        at="last", reference=one(lambda t: bool(accepts("".join(t)))), outputs=BITS, best=best,
    )  # fmt: skip


def _has_odd_runs(word: str) -> bool:
    """Whether an odd run of ones is followed at once by an odd run of zeros."""
    runs = re.findall("1+|0+", word)
    return any(a[0] == "1" and len(a) % 2 and len(b) % 2 for a, b in pairwise(runs))


_TOMITA_3 = "scan(tokens, start=0, letters=('0', '1'), transitions=((0, 1), (2, 0), (3, 4), (2, 1), (4, 4)))"

_TOMITA_TASKS = (
    _tomita(1, "1*", lambda w: "0" not in w, "output = int(all(tokens == '1'))"),
    _tomita(
        2, "(10)*", lambda w: w == "10" * (len(w) // 2),
        "falls = tokens < shift(tokens, 1)\noutput = 0 if count(falls) < count(not falls) else 1",
    ),
    _tomita(
        3, "no odd run of 1s followed by an odd run of 0s", lambda w: not _has_odd_runs(w),
        f"output = table(last(everywhere, {_TOMITA_3}), {{2: 0, 4: 0}}, 1)",
    ),
    _tomita(
        4, "no 000", lambda w: "000" not in w,
        "pair = max(tokens, shift(tokens, 1, '1'))\noutput = int(all(max(pair, shift(pair, 1, '1')) == '1'))",
    ),
    _tomita(
        5, "even number of 0s and of 1s", lambda w: w.count("0") % 2 == 0 and w.count("1") % 2 == 0,
        "output = table2(count(tokens == '1') % 2, length % 2, {(0, 0): 1})",
    ),
    _tomita(
        6, "as many 0s as 1s modulo 3", lambda w: (w.count("0") - w.count("1")) % 3 == 0,
        "output = table(last(everywhere, horner(table(tokens, {'1': 2}, 1), 1, 3)), {0: 1})",
    ),
    _tomita(
        7, "0*1*0*1*", lambda w: re.fullmatch("0*1*0*1*", w),
        "output = table(count(tokens < shift(tokens, 1)), {0: 1, 1: 1})",
    ),
)  # fmt: skip

_PREFIX_TASKS = (
    SynthesisTask(
        name="tomita_3_every_prefix", family="tomita", source=_TOMITA.format(3, "membership of every prefix"),
        alphabet=BITS,
        lengths=(1, 10), at="every", reference=prefixes(lambda t: not _has_odd_runs("".join(t))), outputs=BITS,
        best=f"output = table({_TOMITA_3}, {{2: 0, 4: 0}}, 1)",
    ),
    SynthesisTask(
        name="tomita_4_every_prefix", family="tomita", source=_TOMITA.format(4, "membership of every prefix"),
        alphabet=BITS,
        lengths=(1, 10), at="every", reference=prefixes(lambda t: "000" not in "".join(t)), outputs=BITS,
        best="pair = max(tokens, shift(tokens, 1, '1'))\n"
        "output = int(min_over(upto, max(pair, shift(pair, 1, '1'))) == '1')",
    ),
)  # fmt: skip


# -- next-symbol sets -------------------------------------------------------------------------------------------------
def _next_in_brackets(limit: int) -> Callable[[Names], Names]:
    """Which symbols may follow a prefix of a word of brackets nested at most so deep."""

    def reference(tokens: Names) -> Names:
        depth = tokens.count("a") - tokens.count("b")
        return (*(["a"] if depth < limit else []), *(["b"] if depth > 0 else [EOS]))

    return reference


def _bounded(limit: int) -> str:
    """The regular expression of balanced words nested at most so deep."""
    inner = ""
    for _ in range(limit):
        inner = f"(a{inner}b)*"
    return inner


def _brackets(limit: int) -> SynthesisTask:
    best = (
        f"depth = sum_over(everywhere, table(tokens, {{'b': -1}}, 1))\n"
        f"output['a'] = depth < {limit}\noutput['b'] = 0 < depth\noutput['{EOS}'] = depth == 0"
    )
    if limit == 1:
        best = (
            "closed = last(everywhere, tokens, 'b') == 'b'\n"
            f"output['a'] = closed\noutput['b'] = not closed\noutput['{EOS}'] = closed"
        )
    return SynthesisTask(
        name=f"brackets_{limit}", family="next symbols", source=_DRASP.format(f"D{limit}"), alphabet=_AB,
        lengths=(0, {1: 60, 2: 24, 3: 17, 4: 15}[limit]), at="multilabel", prefixes_of=_bounded(limit),
        reference=_next_in_brackets(limit), outputs=(*_AB, EOS), best=best,
    )  # fmt: skip


def _next_in_cycle(word: str) -> Callable[[Names], Names]:
    """Which symbols may follow a prefix of a repeated word."""

    def reference(tokens: Names) -> Names:
        place = len(tokens) % len(word)
        return (word[place],) if place else (word[0], EOS)

    return reference


def _cycle(word: str, best: str) -> SynthesisTask:
    letters = tuple(sorted(set(word)))
    return SynthesisTask(
        name=f"cycle_{word}", family="next symbols", source=_DRASP.format(f"({word})*"), alphabet=letters,
        lengths=(0, 150), at="multilabel", prefixes_of=f"({word})*", reference=_next_in_cycle(word),
        outputs=(*letters, EOS), best=best,
    )  # fmt: skip


def _next_in_shuffle(tokens: Names) -> Names:
    open_round = tokens.count("(") - tokens.count(")")
    open_square = tokens.count("[") - tokens.count("]")
    closing = [name for name, depth in ((")", open_round), ("]", open_square)) if depth > 0]
    return ("(", "[", *closing, *([] if closing else [EOS]))


def _next_012(tokens: Names) -> Names:
    kept = [t for t in tokens if t != "2"]
    return ("0", "1", "2", *([EOS] if kept and kept[-1] == "0" else []))


def _next_in_a_d_bc(tokens: Names) -> Names:
    """(a|b)*d(b|c)*"""
    return ("b", "c", EOS) if "d" in tokens else ("a", "b", "d")


_NEXT_TASKS = (
    *(_brackets(limit) for limit in (1, 2, 3, 4)),
    _cycle("aa", f"output['a'] = True\noutput['{EOS}'] = length % 2 == 0"),
    _cycle("aaaa", f"output['a'] = True\noutput['{EOS}'] = length % 4 == 0"),
    _cycle(
        "abab",
        f"even = length % 2 == 0\noutput['a'] = even\noutput['b'] = not even\noutput['{EOS}'] = length % 4 == 0",
    ),
    SynthesisTask(
        name="shuffle_dyck2_next", family="next symbols", source=_DRASP.format("shuffle Dyck-2"),
        alphabet=("(", ")", "[", "]"), lengths=(0, 7), at="multilabel",
        where="all(0 <= running_count(tokens == '(') - running_count(tokens == ')')) and "
        "all(0 <= running_count(tokens == '[') - running_count(tokens == ']'))",
        reference=_next_in_shuffle, outputs=("(", ")", "[", "]", EOS),
        best="round = 0 < sum_over(everywhere, table(tokens, {'(': 1, ')': -1}))\n"
        "square = 0 < sum_over(everywhere, table(tokens, {'[': 1, ']': -1}))\n"
        "output['('] = True\noutput['['] = True\noutput[')'] = round\noutput[']'] = square\n"
        f"output['{EOS}'] = not (round or square)",
    ),
    SynthesisTask(
        name="last_non_2_is_0", family="next symbols", source=_DRASP.format("{0,1,2}*02*"), alphabet=("0", "1", "2"),
        lengths=(0, 8), at="multilabel", reference=_next_012, outputs=("0", "1", "2", EOS),
        best="output['0'] = True\noutput['1'] = True\noutput['2'] = True\n"
        f"output['{EOS}'] = last(select(tokens, '2', '<'), tokens) == '0'",
    ),
    SynthesisTask(
        name="a_or_b_d_b_or_c", family="next symbols", source=_DRASP.format("(a|b)*d(b|c)*"),
        alphabet=("a", "b", "c", "d"),
        lengths=(0, 9), at="multilabel", prefixes_of="(a|b)*d(b|c)*", reference=_next_in_a_d_bc,
        outputs=("a", "b", "c", "d", EOS),
        best="seen = any(tokens == 'd')\noutput['a'] = not seen\noutput['b'] = True\noutput['c'] = seen\n"
        f"output['d'] = not seen\noutput['{EOS}'] = seen",
    ),
)  # fmt: skip

TASKS: tuple[SynthesisTask, ...] = (*_TOMITA_TASKS, *_PREFIX_TASKS, *_NEXT_TASKS)
