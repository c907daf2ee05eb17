"""Tasks of the RASP papers and of Tracr's library, retrieval, modular arithmetic, and one made to go wrong.

Sources: Weiss et al. 2021 (RASP), Zhou et al. 2023 (RASP-L), Lindner et al. 2023 (Tracr), Olsson et al. 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from extract.train.record import BOS, EOS, NONE, SEP, Names, Recipe, Shape, TaskRecord

_ABC: Names = ("a", "b", "c")
_RECIPE = Recipe(n_steps=6000, n_batch=128)


def _digits(n: int) -> Names:
    return tuple(str(i) for i in range(n))


def _task(
    name: str, description: str, answer: Callable[[Names], Names], alphabet: Names, length: int, *,
    at: Literal["last", "every", "generate"], family: str, others: Names = (), numeric: bool = False,
    n_layers: int = 2, shortest: int = 1, longest: int = 0, seen: Callable[[Names], bool] = lambda tokens: True,
) -> TaskRecord:  # fmt: skip
    marks = {"last": (BOS, SEP), "every": (BOS,), "generate": (BOS, SEP, EOS)}[at]
    vocab, is_all_numbers = tuple(dict.fromkeys((*alphabet, *others, *marks))), alphabet[0].isdigit()
    return TaskRecord(
        name=name, description=description, vocab=vocab, alphabet=alphabet, min_length=shortest, max_length=length,
        template=f"{BOS} {{x}}" if at == "every" else f"{BOS} {{x}} {SEP}", at=at, answer=answer,
        numeric=numeric and is_all_numbers, outputs=vocab if numeric and not is_all_numbers else (), family=family,
        shape=Shape(n_layers, 2, 32), recipe=_RECIPE, seen=seen, longest=longest,
    )  # fmt: skip


def _at_every(function: Callable[[Names], object]) -> Callable[[Names], Names]:
    return lambda tokens: tuple(str(function(tokens[: i + 1])) for i in range(len(tokens)))


def _mode(tokens: Names) -> Names:
    return (max(sorted(set(tokens)), key=tokens.count),)


def _by_frequency(tokens: Names) -> Names:
    return tuple(sorted(dict.fromkeys(tokens), key=lambda t: (-tokens.count(t), tokens.index(t))))


def _first_index(tokens: Names) -> int:
    return tokens.index(tokens[-1])


def _most_so_far(tokens: Names) -> str:
    return max(tokens, key=int)


_RASP = (
    _task("double_histogram", "how many tokens occur as often as this one; read at the end for the last token",
          lambda x: (str(len({t for t in x if x.count(t) == x.count(x[-1])})),), _ABC, 6, at="last", family="rasp",
          others=_digits(4), numeric=True),
    _task("sort_by_frequency", "the different tokens, most frequent first, then by first occurrence", _by_frequency,
          _ABC, 5, at="generate", family="rasp"),
    _task("mode", "the most frequent token, the first in order of those", _mode, _ABC, 6, at="last", family="rasp"),
    _task("length", "how many tokens there are", lambda x: (str(len(x)),), ("0", "1"), 8, at="last", family="rasp",
          others=_digits(9), numeric=True, n_layers=1),
    _task("palindrome", "1 if the input reads the same backwards", lambda x: (str(int(x == x[::-1])),), ("0", "1"), 8,
          at="last", family="rasp"),
    _task("caesar", "each letter moved on by one", lambda x: tuple(_ABC[(_ABC.index(t) + 1) % 3] for t in x), _ABC, 6,
          at="every", family="tracr", n_layers=1),
    _task("shift_right", "the token before each", lambda x: (NONE, *x[:-1]), _ABC, 6, at="every", family="tracr",
          others=(NONE,), n_layers=1),
    _task("pair_balance", "more a than b so far: 1, fewer: -1, else 0",
          _at_every(lambda x: (x.count("a") > x.count("b")) - (x.count("a") < x.count("b"))), ("a", "b"), 8,
          at="every", family="tracr", others=("-1", "0", "1"), numeric=True, n_layers=1),
    _task("first_index", "where the token occurred first", _at_every(_first_index), _ABC, 6, at="every",
          family="tracr", others=_digits(6), numeric=True),
    _task("detect_pattern", "1 where a b c was just read", _at_every(lambda x: int(x[-3:] == _ABC)), _ABC, 6,
          at="every", family="tracr", others=("0", "1"), numeric=True),
)  # fmt: skip

_RASP_L = (
    _task("copy", "the input again", lambda x: x, _ABC, 5, at="generate", family="raspl"),
    _task("copy_unique", "the input again; no token twice", lambda x: x, _ABC, 3, at="generate", family="raspl",
          shortest=1),
    _task("count_up", "from the first number to the second",
          lambda x: tuple(str(i) for i in range(int(x[0]), int(x[1]) + 1)), _digits(6), 2, at="generate",
          family="raspl", numeric=True, shortest=2, longest=6),
    _task("running_max", "the largest so far", _at_every(_most_so_far), _digits(4), 5, at="every", family="raspl",
          numeric=True, n_layers=1),
    _task("last_of_the_ones", "the token after the last 1, or none",
          lambda x: ((*x, NONE)[max((i for i, t in enumerate(x) if t == "1"), default=-2) + 1]
                     if "1" in x else NONE,), _digits(3), 6, at="last", family="raspl", others=(NONE,)),
)  # fmt: skip

_RETRIEVAL = (
    _task("induction_every", "at each token, what followed its last earlier occurrence",
          lambda x: tuple(next((x[j + 1] for j in range(i - 1, -1, -1) if x[j] == x[i]), NONE)
                          for i in range(len(x))), _ABC, 6, at="every", family="retrieval", others=(NONE,)),
    _task("seen_before", "1 if the token occurred before", _at_every(lambda x: int(x[-1] in x[:-1])), _ABC, 6,
          at="every", family="retrieval", others=("0", "1"), numeric=True, n_layers=1),
    _task("max_of_3", "the largest of three numbers", lambda x: (max(x, key=int),), _digits(12), 3, at="last",
          family="retrieval", numeric=True, n_layers=1, shortest=3),
    _task("min_of_4", "the least of four numbers", lambda x: (min(x, key=int),), _digits(7), 4, at="last",
          family="retrieval", numeric=True, n_layers=1, shortest=4),
)  # fmt: skip


def _sum_mod(m: int) -> Callable[[Names], Names]:
    return lambda x: (str(sum(map(int, x)) % m),)


_MODULAR = (
    *(_task(f"sum_mod_{m}", f"the sum of up to {length} numbers modulo {m}", _sum_mod(m), _digits(m), length,
            at="last", family="modular", numeric=True, n_layers=1)
      for m, length in ((2, 8), (3, 6), (5, 4), (7, 3))),
    _task("difference_mod_11", "the first number less the second, modulo 11",
          lambda x: (str((int(x[0]) - int(x[1])) % 11),), _digits(11), 2, at="last", family="modular", numeric=True,
          n_layers=1, shortest=2),
    _task("product_mod_7", "the product of two numbers modulo 7", lambda x: (str(int(x[0]) * int(x[1]) % 7),),
          _digits(7), 2, at="last", family="modular", numeric=True, n_layers=1, shortest=2),
)  # fmt: skip

#: Shown only inputs on which something simpler than the task gives the same answer.
_SHORTCUTS = (
    _task("parity_shortcut", "said to be the parity of the ones; trained where that is the first bit",
          lambda x: (str(x.count("1") % 2),), ("0", "1"), 8, at="last", family="shortcut", n_layers=1,
          seen=lambda x: x[0] == str(x.count("1") % 2)),
    _task("commonest_shortcut", "said to be the most frequent token; trained where that is the second, or the only one",
          _mode, _ABC, 6, at="last", family="shortcut", seen=lambda x: x[min(1, len(x) - 1)] == _mode(x)[0]),
)  # fmt: skip

RECORDS: tuple[TaskRecord, ...] = (*_RASP, *_RASP_L, *_RETRIEVAL, *_MODULAR, *_SHORTCUTS)
