"""Counting in the sense of C-RASP, modular arithmetic, induction and other retrieval, and if-then-else tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from benchmarks.synthesis.records import (
    BITS,
    NONE,
    Names,
    Reference,
    SynthesisTask,
    integers,
    number_prefixes,
    one,
    one_number,
    prefixes,
)  # fmt: skip

_CRASP = "C-RASP (Yang, Chiang 2024; Huang et al. 2024): {}"
_OWN = "extract train: {}"
_SYGUS = "SyGuS competition, conditional integer arithmetic: {}"
_AB: Names = ("a", "b")
_ABCD: Names = ("a", "b", "c", "d")


# -- counting ---------------------------------------------------------------------------------------------------------
def _majority(tokens: Names) -> Names:
    return ("1" if tokens.count("1") > tokens.count("0") else "0",)


def _interleaved(tokens: Names) -> Names:
    """The more frequent bit of each of three woven streams."""
    return tuple(_majority(tokens[i::3])[0] for i in range(3))


def _depth(tokens: Names) -> Names:
    return tuple(str(tokens[: i + 1].count("(") - tokens[: i + 1].count(")")) for i in range(len(tokens)))


_NO_TIES = " and ".join(
    f"count(tokens == '0' and indices % 3 == {i}) != count(tokens == '1' and indices % 3 == {i})" for i in range(3)
)

_COUNTING = (
    SynthesisTask(
        name="majority", family="counting", source=_CRASP.format("majority"), alphabet=BITS, lengths=(1, 12), at="last",
        where="count(tokens == '0') != count(tokens == '1')", reference=_majority,
        best="output = first(select(rank(tokens), length // 2, '=='), tokens)",
    ),
    SynthesisTask(
        name="majority_of_three", family="counting", source=_CRASP.format("majority over three symbols"),
        alphabet=("a", "b", "c"), lengths=(1, 8), at="last", outputs=BITS,
        reference=one(lambda t: 2 * t.count("a") > len(t)),
        best="more = sum_over(everywhere, table(tokens, {'a': 1}, -1))\n"
        "output = table(more, {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1})",
    ),
    SynthesisTask(
        name="interleaved_majority", family="counting",
        source="Decompiling Transformers to RASP (Huang et al. 2026): bin_majority_interleave", alphabet=BITS,
        lengths=(3, 15), at="generate", where=f"length % 3 == 0 and {_NO_TIES}", longest=3, reference=_interleaved,
        best="stream = select(indices % 3, step, '==')\n"
        "more = sum_over(stream, table(tokens, {'1': 1}, -1))\n"
        "output = table(more, {1: '1', 2: '1', 3: '1', 4: '1', 5: '1'}, '0')\noutput_length = 3",
    ),
    SynthesisTask(
        name="dyck1_depth", family="counting", source=_CRASP.format("Dyck-1 depth"), alphabet=("(", ")"),
        lengths=(1, 12), at="every", reference=_depth, outputs=integers(-12, 12),
        best="output = horner(table(tokens, {')': -1}, 1), 1)",
    ),
    SynthesisTask(
        name="a_n_b_n", family="counting", source=_CRASP.format("a^n b^n"), alphabet=_AB, lengths=(0, 12), at="last",
        reference=one(lambda t: "".join(t) == "a" * (len(t) // 2) + "b" * (len(t) // 2)), outputs=BITS,
        best="depth = horner(table(tokens, {'b': -1}, 1), 1)\n"
        "output = int(all(depth == min(selector_width(upto), selector_width(after))))",
    ),
    SynthesisTask(
        name="a_star_b_star", family="counting", source=_CRASP.format("a*b*"), alphabet=_AB, lengths=(0, 12), at="last",
        reference=one(lambda t: "ba" not in "".join(t)), outputs=BITS,
        best="output = int(not any(tokens < shift(tokens, 1)))",
    ),
    SynthesisTask(
        name="subsequence_abc", family="counting", source=_CRASP.format("piecewise testable: contains a..b..c"),
        alphabet=("a", "b", "c"), lengths=(0, 8), at="last", outputs=BITS,
        reference=one(lambda t: "".join(t).partition("a")[2].partition("b")[2].count("c") > 0),
        best="seen = scan(tokens, start=0, letters=('a', 'b', 'c'), "
        "transitions=((1, 0, 0), (1, 2, 1), (2, 2, 3), (3, 3, 3)))\n"
        "output = table(last(everywhere, seen), {3: 1})",
    ),
    SynthesisTask(
        name="equal_counts", family="counting", source=_CRASP.format("as many a as b as c"), alphabet=("a", "b", "c"),
        lengths=(0, 8), at="last", outputs=BITS, reference=one(lambda t: t.count("a") == t.count("b") == t.count("c")),
        best="output = table(sum_over(everywhere, table(tokens, {'a': 1, 'b': 9}, -10)), {0: 1})",
    ),
    SynthesisTask(
        name="percentage_of_previous", family="counting", source=_CRASP.format("share of a symbol so far"),
        alphabet=("x", "y", "z"), lengths=(1, 8), at="every",
        reference=prefixes(lambda t: 100 * t.count("x") // len(t)), outputs=integers(0, 100),
        best="output = mean(upto, table(tokens, {'x': 100})) // 720720",
    ),
)  # fmt: skip


# -- modular arithmetic -----------------------------------------------------------------------------------------------
def _modular(
    name: str, function: Callable[[list[int]], object], best: str, *, alphabet: Names, lengths: tuple[int, int], m: int,
    at: Literal["last", "every"] = "last",
) -> SynthesisTask:  # fmt: skip
    reference = one_number(function) if at == "last" else number_prefixes(function)
    return SynthesisTask(
        name=name, family="modular", source=f"grokking and its descendants (Power et al. 2022): {name}",
        alphabet=alphabet, lengths=lengths, at=at, numeric=True, reference=reference, best=best,
        outputs=integers(0, m - 1),
    )  # fmt: skip


_MODULAR = (
    _modular(
        "modular_addition", lambda x: sum(x) % 17, "output = last(everywhere, horner(tokens, 1, 17))",
        alphabet=integers(0, 16), lengths=(2, 2), m=17,
    ),
    _modular(
        "modular_subtraction", lambda x: (x[0] - x[1]) % 17,
        "output = last(everywhere, horner(0 - tokens, -1, 17))",
        alphabet=integers(0, 16), lengths=(2, 2), m=17,
    ),
    _modular(
        "modular_multiplication", lambda x: x[0] * x[1] % 13,
        "output = first(everywhere, tokens) * last(everywhere, tokens) % 13",
        alphabet=integers(0, 12), lengths=(2, 2), m=13,
    ),
    _modular(
        "sum_of_squares", lambda x: sum(v * v for v in x) % 7,
        "output = last(everywhere, horner(tokens * tokens, 1, 7))", alphabet=integers(0, 6), lengths=(1, 4), m=7,
    ),
    _modular(
        "number_modulo_7", lambda x: int("".join(map(str, x))) % 7, "output = last(everywhere, horner(tokens, 10, 7))",
        alphabet=integers(0, 9), lengths=(1, 4), m=7,
    ),
    _modular(
        "divisible_by_5", lambda x: int("".join(map(str, x)), 2) % 5, "output = horner(tokens, 2, 5)", alphabet=BITS,
        lengths=(1, 11), m=5, at="every",
    ),
    _modular(
        "caesar", lambda x: (x[-1] + 3) % 6, "output = table(tokens, {0: 3, 1: 4, 2: 5, 4: 1, 5: 2}, 0)",
        alphabet=integers(0, 5), lengths=(1, 5), m=6,
        at="every",
    ),
    _modular(
        "affine_cipher", lambda x: (5 * x[-1] + 2) % 6, "output = (2 - tokens) % 6", alphabet=integers(0, 5),
        lengths=(1, 5), m=6, at="every",
    ),
)  # fmt: skip


# -- retrieval --------------------------------------------------------------------------------------------------------
def _induction(tokens: Names) -> str:
    return next((tokens[i + 1] for i in range(len(tokens) - 2, -1, -1) if tokens[i] == tokens[-1]), NONE)


def _first_unique(tokens: Names) -> str:
    return next((t for t in tokens if tokens.count(t) == 1), NONE)


def _deduplicated(tokens: Names) -> Names:
    return tuple(dict.fromkeys(tokens))


def _retrieval(name: str, at: str, reference: Reference, best: str, **more: object) -> SynthesisTask:
    facts: dict[str, object] = {"alphabet": _ABCD, "lengths": (1, 6), "source": _OWN.format(name)} | more
    return SynthesisTask(name=name, family="retrieval", at=at, reference=reference, best=best, **facts)  # type: ignore[arg-type]


_RETRIEVAL = (
    _retrieval(
        "induction", "last", one(_induction), outputs=(*_ABCD, NONE), lengths=(2, 6),
        best=f"output = last(select(shift(tokens, 1), last(everywhere, tokens), '=='), tokens, '{NONE}')",
    ),
    _retrieval(
        "first_unique", "last", one(_first_unique), outputs=(*_ABCD, NONE),
        best=f"output = first(select(selector_width(select(tokens, tokens, '==')), 1, '=='), tokens, '{NONE}')",
    ),
    _retrieval("copy_per_token", "every", lambda t: t, "output = tokens"),
    _retrieval("first_token", "last", lambda t: t[:1], "output = first(everywhere, tokens)"),
    _retrieval(
        "second_last_token", "last", lambda t: t[-2:-1], "output = last(everywhere, shift(tokens, 1))", lengths=(2, 6),
    ),
    _retrieval(
        "copy", "generate", lambda t: t, "output = first(select(indices, step, '=='), tokens)\noutput_length = length",
    ),
    _retrieval(
        "reverse", "generate", lambda t: t[::-1],
        "output = first(select(selector_width(after), step, '<='), tokens)\noutput_length = length",
    ),
    _retrieval(
        "drop_first", "generate", lambda t: t[1:],
        "output = first(select(indices, step, '>'), tokens)\noutput_length = length - 1",
    ),
    _retrieval(
        "repeat_twice", "generate", lambda t: t + t, lengths=(1, 5), longest=10,
        best="output = first(select(indices, step, '==') or select(indices + length, step, '=='), tokens)\n"
        "output_length = length + length",
    ),
    _retrieval(
        "double_each_token", "generate", lambda t: tuple(x for x in t for _ in range(2)), lengths=(1, 5), longest=10,
        best="output = first(select(indices, step // 2, '=='), tokens)\noutput_length = length + length",
    ),
    _retrieval(
        "every_second_token", "generate", lambda t: t[::2],
        "output = first(select(indices, step + step, '=='), tokens)\noutput_length = length - length // 2",
    ),
    _retrieval(
        "sort_letters_descending", "generate", lambda t: tuple(sorted(t, reverse=True)),
        "notless = selector_width(select(tokens, tokens, '>='))\n"
        "output = max_over(select(notless, step, '>'), tokens)\noutput_length = length",
    ),
    _retrieval(
        "deduplicate", "generate", _deduplicated, longest=4,
        best="fresh = first(select(tokens, tokens, '=='), indices) == indices\n"
        "output = first(select(running_count(fresh), step, '>'), tokens)\noutput_length = count(fresh)",
    ),
    _retrieval(
        "largest_count", "last", one(lambda t: max(map(t.count, t))), outputs=integers(1, 6),
        best="output = max_over(everywhere, selector_width(select(tokens, tokens, '==')))",
    ),
    _retrieval(
        "palindrome", "last", one(lambda t: t == t[::-1]), alphabet=("a", "b", "c"), lengths=(1, 8), outputs=BITS,
        best="output = int(all(tokens == last(select(indices, selector_width(after), '=='), tokens)))",
    ),
)  # fmt: skip


# -- if-then-else -----------------------------------------------------------------------------------------------------
def _conditional(
    name: str, n: int, values: Names, function: Callable[[list[int]], object], best: str, outputs: Names = ()
) -> SynthesisTask:  # fmt: skip
    return SynthesisTask(
        name=name, family="if-then-else", source=_SYGUS.format(name), alphabet=values, lengths=(n, n), at="last",
        numeric=True, reference=one_number(function), best=best, outputs=outputs,
    )  # fmt: skip


def _insertion_place(x: list[int]) -> int:
    """Where the last number stands among the others, which ascend."""
    return sum(x[-1] > y for y in x[:-1])


_CONDITIONAL = (
    *(
        _conditional(f"max_of_{n}", n, values, max, "output = max_over(everywhere, tokens)")
        for n, values in ((2, integers(-20, 20)), (3, integers(-8, 8)), (4, integers(-4, 4)))
    ),
    _conditional("min_of_3", 3, integers(-8, 8), min, "output = min_over(everywhere, tokens)"),
    _conditional(
        "median_of_3", 3, integers(-6, 6), lambda x: sorted(x)[1],
        "output = first(select(rank(tokens), 1, '=='), tokens)",
    ),
    _conditional(
        "second_largest_of_4", 4, integers(0, 7), lambda x: sorted(x)[2],
        "output = first(select(rank(tokens), 2, '=='), tokens)",
    ),
    _conditional(
        "argmax_of_4", 4, integers(0, 7), lambda x: x.index(max(x)),
        "output = first(select(tokens, max_over(everywhere, tokens), '=='), indices)",
    ),
    _conditional(
        "absolute_difference", 2, integers(-20, 20), lambda x: abs(x[0] - x[1]),
        "output = max_over(everywhere, tokens) - min_over(everywhere, tokens)", integers(0, 40),
    ),
    _conditional(
        "sign_of_comparison", 2, integers(-20, 20), lambda x: (x[0] > x[1]) - (x[0] < x[1]),
        "output = count(indices == selector_width(select(tokens, tokens, '>'))) - 1", integers(-1, 1),
    ),
    _conditional(
        "clamp", 2, integers(-15, 15), lambda x: min(max(x[0], x[1]), 5),
        "output = min(max_over(everywhere, tokens), 5)",
    ),
    _conditional(
        "choose_by_first", 3, integers(-5, 5), lambda x: x[1] if x[0] > 0 else x[2],
        "output = last(select(shift(tokens, 2), 1, '<'), tokens)",
    ),
    _conditional(
        "sum_if_increasing", 2, integers(-15, 15), lambda x: x[0] + x[1] if x[0] < x[1] else x[0] - x[1],
        "a = first(everywhere, tokens)\nb = last(everywhere, tokens)\noutput = a + b if a < b else a - b",
        integers(-30, 30),
    ),
    *(
        _conditional(
            f"array_search_{n}", n + 1, values, _insertion_place,
            "output = selector_width(select(tokens, last(everywhere, tokens), '<'))", integers(0, n),
        )
        for n, values in ((2, integers(0, 9)), (3, integers(0, 7)))
    ),
)  # fmt: skip

TASKS: tuple[SynthesisTask, ...] = (*_COUNTING, *_MODULAR, *_RETRIEVAL, *_CONDITIONAL)
