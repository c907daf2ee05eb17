"""Regular and counting languages: does the input belong, or does each prefix; what comes next is left to others.

Sources: Tomita's seven languages (1982), the star-free and counting languages of Bhattamishra et al. (2020), bracket
languages. Membership is decided by Python's regular expressions or by a loop over the tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from extract.train.record import BOS, Names, Recipe, Shape, TaskRecord

_YES, _NO = "1", "0"
_FAMILY = "languages"


def _prefixes(
    name: str, description: str, holds: Callable[[str], bool], letters: str, length: int, n_layers: int = 1
) -> TaskRecord:
    """The task that says at every token whether the prefix is in a language."""

    def answer(tokens: Names) -> Names:
        return tuple(_YES if holds("".join(tokens[: i + 1])) else _NO for i in range(len(tokens)))

    vocab = tuple(dict.fromkeys((*letters, _NO, _YES, BOS)))
    return TaskRecord(
        name=name, description=description, vocab=vocab, alphabet=tuple(letters), min_length=1, max_length=length,
        template=f"{BOS} {{x}}", at="every", answer=answer, family=_FAMILY, shape=Shape(n_layers, 2, 32),
        recipe=Recipe(n_steps=6000, n_batch=128),
    )  # fmt: skip


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _balance(pairs: dict[str, str], deepest: int = 99) -> Callable[[str], bool]:
    """Whether a text of brackets is balanced, each closing the last open one, at most so deep."""

    def holds(text: str) -> bool:
        stack: list[str] = []
        for letter in text:
            if letter in pairs.values():
                stack.append(letter)
            elif not stack or stack.pop() != pairs[letter]:
                return False
            if len(stack) > deepest:
                return False
        return not stack

    return holds


def _no_odd_run_of_zeros_after_odd_run_of_ones(text: str) -> bool:
    runs = [(letter, len(run)) for run, letter in re.findall(r"((.)\2*)", text)]
    return not any(
        one == "1" and n_ones % 2 and zero == "0" and n_zeros % 2 for (one, n_ones), (zero, n_zeros) in pairwise(runs)
    )


RECORDS: tuple[TaskRecord, ...] = (
    _prefixes("tomita1", "1*", _matches("1*"), "01", 8),
    _prefixes("tomita2", "(10)*", _matches("(10)*"), "01", 8),
    _prefixes(
        "tomita3", "no odd run of ones is followed by an odd run of zeros", _no_odd_run_of_zeros_after_odd_run_of_ones,
        "01", 7, 2,
    ),
    _prefixes("tomita4", "no three zeros in a row", lambda text: "000" not in text, "01", 8, 2),
    _prefixes("tomita5", "evenly many zeros and ones", lambda t: t.count("0") % 2 == t.count("1") % 2 == 0, "01", 7, 2),
    _prefixes("tomita6", "ones less zeros is divisible by 3", lambda t: (t.count("1") - t.count("0")) % 3 == 0, "01",
              7, 2),
    _prefixes("tomita7", "0*1*0*1*", _matches("0*1*0*1*"), "01", 8, 2),
    _prefixes("even_as", "(aa)*", _matches("(aa)*"), "a", 16),
    _prefixes("fourfold_as", "(aaaa)*", _matches("(aaaa)*"), "a", 16),
    _prefixes("abab", "(abab)*", _matches("(abab)*"), "ab", 8, 2),
    _prefixes("a_b_c_blocks", "a*b*c*", _matches("a*b*c*"), "abc", 6),
    _prefixes("a_n_b_n", "equally many a, then b",
              lambda t: "ba" not in t and t.count("a") == t.count("b"), "ab", 8, 2),
    _prefixes("a_n_b_n_c_n", "equally many a, then b, then c",
              lambda t: not re.search("ba|ca|cb", t) and t.count("a") == t.count("b") == t.count("c"), "abc", 6, 2),
    _prefixes("equal_as_bs", "as many a as b", lambda t: t.count("a") == t.count("b"), "ab", 8),
    _prefixes("dyck1", "balanced brackets of one kind", _balance({")": "("}), "()", 8, 2),
    _prefixes("dyck1_depth2", "the same, at most two deep", _balance({")": "("}, 2), "()", 8, 2),
    _prefixes("dyck2", "balanced brackets of two kinds", _balance({")": "(", "]": "["}), "()[]", 5, 2),
)  # fmt: skip
