"""The sequence tasks of the MIPS benchmark (Michaud et al. 2024), in our own words: causal, an answer at every token.

Alphabets and lengths are cut so that every input can be listed; inputs before the first count as 0. Each is one line of
a table: the function of the inputs so far, and the values of inputs and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import isqrt

from extract.train.record import BOS, Names, Recipe, Shape, TaskRecord

Numbers = list[int]
_RECIPE = Recipe(n_steps=6000, n_batch=128)
_PAIRED = (0, 2)


def names(values: Iterable[int]) -> Names:
    """Name integers."""
    return tuple(str(v) for v in values)


def every_token(
    name: str, description: str, answer: Callable[[Names], Names], alphabet: Names, others: Names = (), *,
    family: str, length: int, n_layers: int = 1, d_model: int = 32, numeric: bool = True,
) -> TaskRecord:  # fmt: skip
    """Return a task with an answer at every token; ``others`` are answers that are no inputs."""
    vocab = tuple(dict.fromkeys((*alphabet, *others, BOS)))
    return TaskRecord(
        name=name, description=description, vocab=vocab, alphabet=alphabet, min_length=1, max_length=length,
        template=f"{BOS} {{x}}", at="every", answer=answer, numeric=numeric, family=family,
        outputs=() if numeric else vocab, shape=Shape(n_layers, 2, d_model), recipe=_RECIPE,
    )  # fmt: skip


def _numbers(
    name: str, function: Callable[[Numbers], int], description: str, inputs: Iterable[int] = (0, 1),
    answers: Iterable[int] = (0, 1), *, length: int = 8, n_layers: int = 1,
) -> TaskRecord:  # fmt: skip
    def answer(tokens: Names) -> Names:
        values = [int(t) for t in tokens]
        return tuple(str(int(function(values[: i + 1]))) for i in range(len(values)))

    return every_token(
        f"mips_{name}", description, answer, names(inputs), names(answers), family="mips", length=length,
        n_layers=n_layers,
    )  # fmt: skip


def _pairs(
    name: str, function: Callable[[Numbers, Numbers], int], description: str, base: int = 2, n_layers: int = 1
) -> TaskRecord:
    def answer(tokens: Names) -> Names:
        left, right = ([int(token[side]) for token in tokens] for side in _PAIRED)
        return tuple(str(function(left[: i + 1], right[: i + 1])) for i in range(len(tokens)))

    chosen = [(a, b) for a in range(base) for b in range(base) if base == 2 or (a, b) in _DIGIT_PAIRS[base]]
    alphabet = tuple(f"{a}+{b}" for a, b in chosen)
    return every_token(
        f"mips_{name}", description, answer, alphabet, names(range(base)), family="mips",
        length=5 if base == 2 else 4, n_layers=n_layers, numeric=False,
    )  # fmt: skip


#: The pairs of digits kept of a base, so that the domain stays small: both ends, and pairs that carry exactly or not.
_DIGIT_PAIRS = {
    3: ((0, 0), (0, 2), (1, 1), (1, 2), (2, 0), (2, 2)),
    4: ((0, 0), (0, 3), (1, 1), (2, 3), (3, 0), (3, 3)),
    5: ((0, 0), (0, 4), (1, 2), (2, 4), (3, 1), (4, 4)),
    6: ((0, 0), (0, 5), (1, 3), (2, 5), (4, 1), (5, 5)),
    7: ((0, 0), (0, 6), (1, 3), (2, 6), (5, 1), (6, 6)),
}


def _with(function: Callable[[Numbers, int], int], k: int) -> Callable[[Numbers], int]:
    return lambda x: function(x, k)


def before(x: Numbers, k: int) -> int:
    """Return the number k places before the last, 0 where there is none."""
    return x[-1 - k] if len(x) > k else 0


def _alternates(x: Numbers, k: int) -> bool:
    return all(a != b for a, b in pairwise(([0] * k + x)[-k:]))


def _is_balanced(x: Numbers) -> bool:
    depths = [sum(1 - 2 * bit for bit in x[: i + 1]) for i in range(len(x))]
    return min(depths) >= 0 and depths[-1] == 0


def _digit_of_sum(base: int) -> Callable[[Numbers, Numbers], int]:
    def function(left: Numbers, right: Numbers) -> int:
        carry = digit = 0
        for a, b in zip(left, right, strict=True):
            carry, digit = divmod(a + b + carry, base)
        return digit

    return function


def _spring(x: Numbers) -> int:
    position = velocity = 0
    for force in x:
        velocity += force - position
        position += velocity
    return position


def _twice_summed(x: Numbers, push: int) -> int:
    return sum((i + 1) * (v + push) for i, v in enumerate(reversed(x)))


def _mode(x: Numbers, k: int) -> int:
    return min(range(k + 1), key=lambda v: (-x.count(v), v))


_SIGNED, _FIVE, _DIGITS, _WINDOW = (-3, -1, 0, 2), range(5), (0, 1, 4, 7), (0, 1, 3)

_BITS = (
    *(_numbers(f"alternating_last{k}", _with(_alternates, k), f"1 if the last {k} bits alternate")
      for k in (3, 4)),
    _numbers("balanced_parenthesis", _is_balanced, "1 if the prefix is balanced; 0 opens, 1 closes", n_layers=2),
    _numbers("bit_palindrome", lambda x: x == x[::-1], "1 if the prefix reads the same backwards", n_layers=2),
    _numbers("bit_shift_right", lambda x: before(x, 1), "the bit before"),
    _numbers("bitwise_not", lambda x: 1 - x[-1], "the other bit"),
    *(_numbers(f"div_{k}", _with(lambda x, k: int("".join(map(str, x)), 2) // k % 2, k),
               f"the quotient's bits of long division by {k}", n_layers=2) for k in (3, 5, 7)),
    _numbers("parity_all", lambda x: sum(x) % 2, "the parity of the ones so far", length=8),
    _numbers("parity_zeros", lambda x: x.count(0) % 2, "the parity of the zeros so far", length=8),
    _numbers("parity_bits_mod2", lambda x: (len(x) - 1) % 2, "the parity of the position, whatever the bits"),
    *(_numbers(f"parity_last{k}", _with(lambda x, k: sum(x[-k:]) % 2, k), f"the parity of the last {k} bits")
      for k in (2, 3, 4)),
)  # fmt: skip

_PAIR_TASKS = (
    _pairs("bitwise_and", lambda a, b: a[-1] & b[-1], "both bits"),
    _pairs("bitwise_or", lambda a, b: a[-1] | b[-1], "either bit"),
    _pairs("bitwise_xor", lambda a, b: a[-1] ^ b[-1], "one bit and not the other"),
    _pairs("bit_dot_prod_mod2", lambda a, b: sum(x & y for x, y in zip(a, b, strict=True)) % 2,
           "the parity of the positions so far where both bits are 1"),
    _pairs("binary_addition", _digit_of_sum(2), "the sum, least significant bit first", n_layers=2),
    *(_pairs(f"base_{k}_addition", _digit_of_sum(k),
             f"the sum in base {k}, least significant digit first", k, 2) for k in range(3, 8)),
)  # fmt: skip

_INTEGERS = (
    _numbers("abs_current", lambda x: abs(x[-1]), "its absolute value", _SIGNED, range(4), length=5),
    _numbers("abs_diff", lambda x: abs(x[-1] - before(x, 1)), "the distance to the one before", _SIGNED, range(6),
             length=5),
    *(_numbers(f"add_mod_{m}", _with(lambda x, k: sum(x) % k, m), f"the sum so far modulo {m}", range(min(m, 4)),
               range(m), length=5) for m in range(3, 9)),
    _numbers("current_number", lambda x: x[-1], "itself", _DIGITS, (), length=5),
    _numbers("diff_abs_values", lambda x: abs(x[-1]) - abs(before(x, 1)), "the change in absolute value", _SIGNED,
             range(-3, 4), length=5),
    _numbers("diff_last2", lambda x: x[-1] - before(x, 1), "the change", _SIGNED, range(-5, 6), length=5),
    _numbers("dithering", lambda x: sum(x) // 15 - sum(x[:-1]) // 15, "1 where the sum passes a multiple of 15",
             (0, 4, 7, 15), (0, 1), length=5),
    _numbers("evens_counter", lambda x: sum(v % 2 == 0 for v in x), "how many even numbers so far", _DIGITS, range(6),
             length=5),
    _numbers("evens_detector", lambda x: x[-1] % 2 == 0, "1 if it is even", _DIGITS, (0, 1), length=5),
    *(_numbers(f"majority_0_{k}", _with(_mode, k), f"the most frequent of 0 to {k} so far",
               range(k + 1), (), length={1: 8, 2: 6, 3: 5}[k]) for k in (1, 2, 3)),
    _numbers("max_seen", max, "the largest so far", _DIGITS, (), length=5),
    _numbers("min_seen", min, "the least so far", _DIGITS, (), length=5),
    _numbers("newton_freebody", lambda x: _twice_summed(x, 0), "the double running sum", (-1, 0, 1), range(-15, 16),
             length=5, n_layers=2),
    _numbers("newton_gravity", lambda x: _twice_summed(x, -1), "the double running sum of one less", (-1, 0, 1),
             range(-30, 1), length=5, n_layers=2),
    _numbers("newton_spring", _spring, "the position of a mass on a spring that is pushed", (-1, 0, 1),
             range(-7, 8), length=5, n_layers=2),
    _numbers("perfect_square_detector", lambda x: isqrt(x[-1]) ** 2 == x[-1], "1 if it is a square", (1, 3, 8, 9),
             (0, 1), length=5),
    *(_numbers(f"prev{k}", _with(before, k), f"the number {k} places before", (0, 2, 7), (), length=6)
      for k in range(1, 6)),
    _numbers("previous_equals_current", lambda x: x[-1] == before(x, 1), "1 if it equals the one before", (0, 1, 2, 5),
             (), length=5),
    _numbers("sum_all", sum, "the sum so far", range(4), range(16), length=5),
    *(_numbers(f"sum_last{k}", _with(lambda x, k: sum(x[-k:]), k), f"the sum of the last {k}", _WINDOW,
               range(3 * min(k, 6) + 1), length=6) for k in range(2, 8)),
)  # fmt: skip

#: 61 of the 62 tasks; the other's answer is a pair of numbers.
RECORDS: tuple[TaskRecord, ...] = (*_BITS, *_PAIR_TASKS, *_INTEGERS)
