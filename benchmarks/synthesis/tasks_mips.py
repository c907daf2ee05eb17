"""The 62 sequence tasks of the MIPS benchmark, in our own words: causal, an answer at every token.

Alphabets are cut to a few values so that every input can be tried; inputs before the first count as 0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import isqrt

from benchmarks.synthesis.records import BITS, Names, SynthesisTask, integers, number_prefixes, prefixes

_SOURCE = "MIPS (Michaud et al. 2024), ejmichaud/neural-verification: {}"
Numbers = list[int]


def _task(
    name: str,
    function: Callable[[Numbers], object],
    best: str,
    outputs: Names,
    *,
    alphabet: Names = BITS,
    length: int = 10,
) -> SynthesisTask:
    """A task on numbers."""
    return SynthesisTask(
        name=f"mips_{name.lower()}", family="mips", source=_SOURCE.format(name), alphabet=alphabet, numeric=True,
        lengths=(1, length), at="every", reference=number_prefixes(function), best=best, outputs=outputs,
    )  # fmt: skip


def _before(x: Numbers, k: int) -> int:
    """The number k places before the last, 0 where there is none."""
    return x[-1 - k] if len(x) > k else 0


# -- bits -------------------------------------------------------------------------------------------------------------
def _is_alternating(x: Numbers, k: int) -> bool:
    window = ([0] * k + x)[-k:]
    return all(a != b for a, b in pairwise(window))


def _is_balanced(x: Numbers) -> bool:
    depth = 0
    for bit in x:
        depth += 1 - 2 * bit
        if depth < 0:
            return False
    return depth == 0


def _quotient_bit(divisor: int) -> Callable[[Numbers], int]:
    return lambda x: int("".join(map(str, x)), 2) // divisor % 2


def _parity(k: int) -> Callable[[Numbers], int]:
    return lambda x: sum(x[-k:]) % 2


_BIT_TASKS = (
    _task(
        "Alternating_Last3", lambda x: _is_alternating(x, 3),
        "output = table(horner(tokens, 2, 8), {2: 1, 5: 1})", BITS,
    ),
    _task(
        "Alternating_Last4", lambda x: _is_alternating(x, 4),
        "output = table(horner(tokens, 2, 16), {5: 1, 10: 1})", BITS,
    ),
    _task(
        "Balanced_Parenthesis", _is_balanced,
        "depth = horner(table(tokens, {1: -1}, 1), 1)\n"
        "output = table2(depth, min_over(upto, depth), {(0, 0): 1})", BITS,
    ),
    _task(
        "Bit_Palindrome", lambda x: x == x[::-1],
        "output = int(horner(horner(tokens, 2), 1) == horner(tokens * horner(1, 2), 1))", BITS,
    ),
    _task("Bit_Shift_Right", lambda x: _before(x, 1), "output = shift(tokens, 1)", BITS),
    _task("Bitwise_Not", lambda x: 1 - x[-1], "output = 1 - tokens", BITS),
    *(_task(f"Div_{k}", _quotient_bit(k), f"output = horner(tokens, 2, {2 * k}) // {k}", BITS) for k in (3, 5, 7)),
    _task("Parity_All", lambda x: sum(x) % 2, "output = horner(tokens, 1, 2)", BITS),
    _task("Parity_Bits_Mod2", lambda x: (len(x) - 1) % 2, "output = indices % 2", BITS),
    _task("Parity_Last2", _parity(2), "output = abs(tokens - shift(tokens, 1))", BITS),
    *(
        _task(
            f"Parity_Last{k}", _parity(k),
            f"parity = horner(tokens, 1, 2)\noutput = abs(parity - shift(parity, {k}))", BITS,
        )
        for k in (3, 4)
    ),
    _task("Parity_Zeros", lambda x: x.count(0) % 2, "output = horner(1 - tokens, 1, 2)", BITS),
)  # fmt: skip


# -- pairs of bits, one token each ------------------------------------------------------------------------------------
_PAIRS = ("0+0", "0+1", "1+0", "1+1")


def _sides(pairs: Names) -> list[Numbers]:
    return [[int(pair[side]) for pair in pairs] for side in (0, 2)]


def _of_pairs(name: str, function: Callable[[Numbers, Numbers], int], best: str) -> SynthesisTask:
    return SynthesisTask(
        name=f"mips_{name.lower()}", family="mips", source=_SOURCE.format(name), alphabet=_PAIRS, lengths=(1, 6),
        at="every", reference=prefixes(lambda pairs: function(*_sides(pairs))), best=best, outputs=BITS,
    )  # fmt: skip


def _sum_digit(left: Numbers, right: Numbers, base: int) -> int:
    """The last digit of the sum of two numbers written with the least significant digit first."""
    total: int = sum((a + b) * base**i for i, (a, b) in enumerate(zip(left, right, strict=True)))
    return int(total // base ** (len(left) - 1) % base)


_PAIR_TASKS = (
    _of_pairs("Bitwise_And", lambda a, b: a[-1] & b[-1], "output = table(tokens, {'1+1': 1})"),
    _of_pairs("Bitwise_Or", lambda a, b: a[-1] | b[-1], "output = table(tokens, {'0+0': 0}, 1)"),
    _of_pairs("Bitwise_Xor", lambda a, b: a[-1] ^ b[-1], "output = table(tokens, {'0+1': 1, '1+0': 1})"),
    _of_pairs(
        "Bit_Dot_Prod_Mod2", lambda a, b: sum(x & y for x, y in zip(a, b, strict=True)) % 2,
        "output = horner(table(tokens, {'1+1': 1}), 1, 2)",
    ),
    _of_pairs(
        "Binary_Addition", lambda a, b: _sum_digit(a, b, 2),
        "carry = scan(tokens, start=0, letters=('0+0', '1+1'), transitions=((0, 1), (0, 1)))\n"
        "output = (table(tokens, {'0+1': 1, '1+0': 1}) + shift(carry, 1)) % 2",
    ),
)  # fmt: skip

# -- pairs of digits: the pair a, b of base k is the number k*a + b ---------------------------------------------------
_DIGIT_PAIRS = {
    3: ((0, 0), (0, 2), (1, 1), (1, 2), (2, 0), (2, 2)),
    4: ((0, 0), (0, 3), (1, 1), (2, 3), (3, 0), (3, 3)),
    5: ((0, 0), (0, 4), (1, 2), (2, 4), (3, 1), (4, 4)),
    6: ((0, 0), (0, 5), (1, 3), (2, 5), (4, 1), (5, 5)),
    7: ((0, 0), (0, 6), (1, 3), (2, 6), (5, 1), (6, 6)),
}


def _base_addition(base: int) -> SynthesisTask:
    def function(pairs: Numbers) -> int:
        return _sum_digit([p // base for p in pairs], [p % base for p in pairs], base)

    best = (
        f"digits = tokens // {base} + tokens % {base}\n"
        f"carry = last(before and select(digits, {base - 1}, '!='), digits)\n"
        f"output = (digits + carry // {base}) % {base}"
    )
    alphabet = tuple(str(base * a + b) for a, b in _DIGIT_PAIRS[base])
    return _task(f"Base_{base}_Addition", function, best, integers(0, base - 1), alphabet=alphabet, length=5)


# -- integers ---------------------------------------------------------------------------------------------------------
_SIGNED = ("-3", "-2", "0", "1", "4")
_FIVE = integers(0, 4)
_DIGITS = ("0", "1", "4", "5", "8", "9")


def _modes(k: int) -> SynthesisTask:
    best = (
        "seen = selector_width(upto and select(tokens, tokens, '=='))\n"
        "output = min_over(upto and select(seen, max_over(upto, seen), '=='), tokens)"
        if k > 1
        else "output = mean(upto, tokens) // 360361"
    )
    return _task(
        f"Majority_0_{k}", lambda x: min(range(k + 1), key=lambda v: (-x.count(v), v)), best,
        integers(0, k), alphabet=integers(0, k), length={1: 10, 2: 8, 3: 6}[k],
    )  # fmt: skip


def _window_sum(k: int) -> SynthesisTask:
    best = f"total = horner(tokens, 1)\noutput = total - shift(total, {k})"
    if k == 2:
        best = "output = tokens + shift(tokens, 1)"
    alphabet, length = (_FIVE, 6) if k < 5 else (("0", "1", "3"), 8 if k < 7 else 9)
    outputs = integers(0, k * int(alphabet[-1]))
    return _task(f"Sum_Last{k}", lambda x: sum(x[-k:]), best, outputs, alphabet=alphabet, length=length)


def _previous(k: int) -> SynthesisTask:
    alphabet, length = (("0", "1", "2", "7"), 6) if k < 4 else (("0", "2", "7"), 8)
    best = f"output = shift(tokens, {k})"
    return _task(f"Prev{k}", lambda x: _before(x, k), best, integers(0, 7), alphabet=alphabet, length=length)


def _mod_sum(m: int) -> SynthesisTask:
    alphabet = integers(0, min(m, 6) - 1)
    return _task(
        f"Add_Mod_{m}", lambda x: sum(x) % m, f"output = horner(tokens, 1, {m})", integers(0, m - 1),
        alphabet=alphabet, length=8 if m == 3 else 6 if m < 6 else 5,
    )  # fmt: skip


_INTEGER_TASKS = (
    _task("Abs_Current", lambda x: abs(x[-1]), "output = abs(tokens)", integers(0, 4), alphabet=_SIGNED, length=5),
    _task(
        "Abs_Diff", lambda x: abs(x[-1] - _before(x, 1)), "output = abs(tokens - shift(tokens, 1))",
        integers(0, 7), alphabet=_SIGNED, length=6,
    ),
    *(_mod_sum(m) for m in range(3, 9)),
    *(_base_addition(base) for base in range(3, 8)),
    _task("Current_Number", lambda x: x[-1], "output = tokens", integers(0, 9), alphabet=_DIGITS, length=5),
    _task(
        "Diff_Abs_Values", lambda x: abs(x[-1]) - abs(_before(x, 1)),
        "size = abs(tokens)\noutput = size - shift(size, 1)", integers(-4, 4), alphabet=_SIGNED, length=6,
    ),
    _task(
        "Diff_Last2", lambda x: x[-1] - _before(x, 1), "output = tokens - shift(tokens, 1)",
        integers(-7, 7), alphabet=_SIGNED, length=6,
    ),
    _task(
        "Dithering", lambda x: sum(x) // 15 - sum(x[:-1]) // 15,
        "output = int(horner(tokens, 1, 15) < tokens)", BITS, alphabet=("0", "3", "7", "8", "14", "15"), length=5,
    ),
    _task(
        "Evens_Counter", lambda x: sum(1 for v in x if v % 2 == 0),
        "output = horner(table(tokens, {0: 1, 4: 1, 8: 1}), 1)", integers(0, 5), alphabet=_DIGITS, length=5,
    ),
    _task(
        "Evens_Detector", lambda x: x[-1] % 2 == 0, "output = table(tokens, {0: 1, 4: 1, 8: 1})",
        BITS, alphabet=_DIGITS, length=5,
    ),
    *(_modes(k) for k in (1, 2, 3)),
    _task("Max_Seen", max, "output = max_over(upto, tokens)", integers(0, 9), alphabet=_DIGITS, length=5),
    _task("Min_Seen", min, "output = min_over(upto, tokens)", integers(0, 9), alphabet=_DIGITS, length=5),
    _task(
        "Newton_Freebody", lambda x: sum((i + 1) * v for i, v in enumerate(reversed(x))),
        "output = horner(horner(tokens, 1), 1)", integers(-63, 84), alphabet=_SIGNED, length=6,
    ),
    _task(
        "Newton_Gravity", lambda x: sum((i + 1) * (v - 1) for i, v in enumerate(reversed(x))),
        "output = horner(horner(tokens - 1, 1), 1)", integers(-84, 63), alphabet=_SIGNED, length=6,
    ),
    _task(
        "Newton_Spring", lambda x: _spring(x),
        "pairs = tokens + shift(tokens, 1)\noutput = pairs - shift(pairs, 3)",
        integers(-16, 16), alphabet=_SIGNED, length=6,
    ),
    _task(
        "Perfect_Square_Detector", lambda x: isqrt(x[-1]) ** 2 == x[-1],
        "output = table(tokens, {0: 1, 1: 1, 9: 1, 16: 1})", BITS, alphabet=("0", "1", "3", "8", "9", "16"), length=5,
    ),
    *(_previous(k) for k in range(1, 6)),
    _task(
        "Previous_Equals_Current", lambda x: x[-1] == _before(x, 1), "output = int(tokens == shift(tokens, 1))",
        BITS, alphabet=("0", "1", "2", "5", "7"), length=6,
    ),
    _task("Sum_All", sum, "output = horner(tokens, 1)", integers(0, 24), alphabet=_FIVE, length=6),
    *(_window_sum(k) for k in range(2, 8)),
)  # fmt: skip


def _spring(x: Numbers) -> int:
    """Position of a mass on a spring pushed by the inputs."""
    position = velocity = 0
    for force in x:
        velocity += force - position
        position += velocity
    return position


def _magnetic(pairs: Names) -> str:
    """Position of a charge in a field, pushed by the inputs: the velocity turns by 90 degrees into a force."""
    px = py = vx = vy = 0
    for pair in pairs:
        fx, fy = (int(part) for part in pair.split(","))
        vx, vy = vx + fx - vy, vy + fy + vx
        px, py = px + vx, py + vy
    return f"{px},{py}"


_OUTSIDE = (
    SynthesisTask(
        name="mips_newton_magnetic", family="mips", source=_SOURCE.format("Newton_Magnetic"),
        alphabet=("-1,0", "0,0", "0,1", "1,-1", "1,0"), lengths=(1, 4), at="every", reference=prefixes(_magnetic),
        outside="the answer is a pair of integers and the state a coupled pair; the language computes one integer per "
        "position, and a name for every pair would be a table of the whole domain",
    ),
)  # fmt: skip

TASKS: tuple[SynthesisTask, ...] = (*_BIT_TASKS, *_PAIR_TASKS, *_INTEGER_TASKS, *_OUTSIDE)
