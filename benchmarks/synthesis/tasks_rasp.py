"""Tasks of the RASP paper, the RASP-L paper and the library of Tracr."""

from __future__ import annotations

from collections import Counter

from benchmarks.synthesis.records import (
    BITS,
    NONE,
    Names,
    Reference,
    SynthesisTask,
    integers,
    one,
    prefixes,
)  # fmt: skip

_ABC: Names = ("a", "b", "c")
_ABCD: Names = ("a", "b", "c", "d")
_RASP = "RASP (Weiss, Goldberg, Yahav 2021), {}"
_RASPL = "RASP-L (Zhou et al. 2023), {}"
_TRACR = "Tracr (Lindner et al. 2023), tracr/compiler/lib.py: {}"
#: The unit of ``mean``: fractions are named in 720720ths.
_UNIT = 720_720


def _names(values: object) -> Names:
    return tuple(str(v) for v in values)  # type: ignore[attr-defined]


# -- RASP -------------------------------------------------------------------------------------------------------------
def _histogram(tokens: Names) -> Names:
    return _names(tokens.count(t) for t in tokens)


def _double_histogram(tokens: Names) -> Names:
    """How many different tokens occur as often as this one."""
    counts = Counter(tokens)
    return _names(sum(1 for c in counts.values() if c == counts[t]) for t in tokens)


def _by_frequency(tokens: Names) -> Names:
    """The tokens in order of how often they occur, most frequent first, otherwise as they stood."""
    return tuple(sorted(tokens, key=lambda t: -tokens.count(t)))


def _mode(tokens: Names) -> Names:
    """The most frequent token, the one seen first among equals."""
    return (max(tokens, key=tokens.count),)


def _bracket_state(tokens: Names) -> str:
    """T for a balanced word, P for the beginning of one, F for anything else."""
    closes = {")": "(", "]": "["}
    stack: list[str] = []
    for token in tokens:
        if token not in closes:
            stack.append(token)
        elif not stack or stack.pop() != closes[token]:
            return "F"
    return "P" if stack else "T"


_RASP_TASKS = (
    SynthesisTask(
        name="rasp_length", family="rasp", source=_RASP.format("section 3"), alphabet=_ABC, lengths=(1, 8),
        at="every", reference=lambda t: (str(len(t)),) * len(t), best="output = length", outputs=integers(0, 8),
    ),
    SynthesisTask(
        name="rasp_reverse", family="rasp", source=_RASP.format("table 1: reverse"), alphabet=_ABCD, lengths=(1, 6),
        at="every", reference=lambda t: t[::-1],
        best="output = last(select(indices, selector_width(after), '=='), tokens)",
    ),
    SynthesisTask(
        name="rasp_histogram", family="rasp", source=_RASP.format("table 1: histogram, no BOS"), alphabet=_ABCD,
        lengths=(1, 6), at="every", reference=_histogram,
        best="output = selector_width(select(tokens, tokens, '=='))", outputs=integers(0, 6),
    ),
    SynthesisTask(
        name="rasp_double_histogram", family="rasp", source=_RASP.format("table 1: double histogram"),
        alphabet=_ABCD, lengths=(1, 7), at="every", reference=_double_histogram,
        best="same = select(tokens, tokens, '==')\ntimes = selector_width(same)\n"
        "output = selector_width(keys_where(first(same, indices) == indices) and select(times, times, '=='))",
        outputs=integers(0, 4),
    ),
    SynthesisTask(
        name="rasp_sort", family="rasp", source=_RASP.format("table 1: sort"), alphabet=integers(0, 4),
        lengths=(1, 6), at="every", numeric=True, reference=lambda t: tuple(sorted(t, key=int)),
        best="output = first(select(rank(tokens), indices, '=='), tokens)",
    ),
    SynthesisTask(
        name="rasp_sort_by_frequency", family="rasp", source=_RASP.format("table 1: most frequent"), alphabet=_ABC,
        lengths=(1, 7), at="every", reference=_by_frequency,
        best="others = selector_width(select(tokens, tokens, '!='))\n"
        "output = first(select(rank(others), indices, '=='), tokens)",
    ),
    SynthesisTask(
        name="rasp_most_frequent", family="rasp", source=_RASP.format("table 1: most frequent, the first of them"),
        alphabet=_ABCD, lengths=(1, 6), at="last", reference=_mode,
        best="others = selector_width(select(tokens, tokens, '!='))\n"
        "output = first(select(rank(others), 0, '=='), tokens)",
    ),
    SynthesisTask(
        name="rasp_dyck1_ptf", family="rasp", source=_RASP.format("table 1: Dyck-1 PTF"), alphabet=("(", ")"),
        lengths=(1, 11), at="every", reference=prefixes(_bracket_state), outputs=("F", "P", "T"),
        best="depth = horner(table(tokens, {')': -1}, 1), 1)\n"
        "output = 'F' if min_over(upto, depth) < 0 else table(depth, {0: 'T'}, 'P')",
    ),
    SynthesisTask(
        name="rasp_dyck2_ptf", family="rasp", source=_RASP.format("table 1: Dyck-2 PTF"),
        alphabet=("(", ")", "[", "]"), lengths=(1, 6), at="every", reference=prefixes(_bracket_state),
        outputs=("F", "P", "T"),
        best="depth = horner(table(tokens, {'(': 1, '[': 1}, -1), 1)\n"
        "level = depth + shift(depth, 1)\n"
        "partner = last(before and select(level, level, '=='), tokens)\n"
        "wrong = table2(partner, tokens, {('(', ']'): 9, ('[', ')'): 9})\n"
        "output = 'F' if min_over(upto, depth - wrong) < 0 else table(depth, {0: 'T'}, 'P')",
    ),
    SynthesisTask(
        name="rasp_shift", family="rasp", source=_RASP.format("section 3: shift by one, padded"), alphabet=_ABCD,
        lengths=(1, 6), at="every", reference=lambda t: (NONE, *t[:-1]), outputs=(*_ABCD, NONE),
        best=f"output = shift(tokens, 1, '{NONE}')",
    ),
)  # fmt: skip


# -- RASP-L -----------------------------------------------------------------------------------------------------------
def _count_up(tokens: Names) -> Names:
    return integers(int(tokens[0]), int(tokens[1]))


def _reversed_addition(tokens: Names) -> Names:
    """Add two numbers of equal length, one after the other, least significant bit first; the overflow is dropped."""
    half = len(tokens) // 2
    left, right = (sum(int(b) << i for i, b in enumerate(part)) for part in (tokens[:half], tokens[half:]))
    return _names((left + right) >> i & 1 for i in range(half))


def _text_addition(tokens: Names) -> Names:
    left, right = "".join(tokens).split("+")
    return tuple(f"{int(left, 2) + int(right, 2):b}")


def _follower(tokens: Names) -> str:
    """The token after the latest earlier occurrence of the last one."""
    for i in range(len(tokens) - 2, -1, -1):
        if tokens[i] == tokens[-1]:
            return tokens[i + 1]
    return NONE


def _firsts(tokens: Names) -> Names:
    """The index at which each token was first seen."""
    return _names(tokens.index(t) for t in tokens)


def _unique_mode(tokens: Names) -> Names:
    return (Counter(tokens).most_common(1)[0][0],)


_RASPL_TASKS = (
    SynthesisTask(
        name="raspl_count", family="rasp-l", source=_RASPL.format("section 4: count from a to b"),
        alphabet=integers(0, 49), lengths=(2, 2), at="generate", numeric=True, where="increasing(tokens)", longest=50,
        reference=_count_up,
        best="start = first(everywhere, tokens)\noutput = start + step\n"
        "output_length = last(everywhere, tokens) - start + 1",
    ),
    SynthesisTask(
        name="raspl_mode", family="rasp-l", source=_RASPL.format("section 4: mode"), alphabet=_ABCD, lengths=(1, 6),
        at="last", where="unique_mode(tokens)", reference=_unique_mode,
        best="others = selector_width(select(tokens, tokens, '!='))\n"
        "output = first(select(rank(others), 0, '=='), tokens)",
    ),
    SynthesisTask(
        name="raspl_copy_unique", family="rasp-l", source=_RASPL.format("section 4: copy, unique tokens"),
        alphabet=("a", "b", "c", "d", "e", "f", "g"), lengths=(1, 6), at="generate", where="distinct(tokens)",
        reference=lambda t: t, best="output = first(select(indices, step, '=='), tokens)\noutput_length = length",
    ),
    SynthesisTask(
        name="raspl_copy", family="rasp-l", source=_RASPL.format("section 4: copy, repeated tokens"),
        alphabet=("a", "b"), lengths=(0, 10), at="generate", reference=lambda t: t,
        best="output = first(select(indices, step, '=='), tokens)\noutput_length = length",
    ),
    SynthesisTask(
        name="raspl_sort", family="rasp-l", source=_RASPL.format("section 4: sort"), alphabet=integers(0, 4),
        lengths=(1, 6), at="generate", numeric=True, reference=lambda t: tuple(sorted(t, key=int)),
        best="output = first(select(rank(tokens), step, '=='), tokens)\noutput_length = length",
    ),
    SynthesisTask(
        name="raspl_parity", family="rasp-l", source=_RASPL.format("section 4: parity"), alphabet=BITS,
        lengths=(1, 12), at="last", reference=one(lambda t: t.count("1") % 2), outputs=BITS,
        best="output = count(tokens == '1') % 2",
    ),
    SynthesisTask(
        name="raspl_reversed_addition", family="rasp-l", source=_RASPL.format("section 5: addition, reversed order"),
        alphabet=BITS, lengths=(2, 10), at="generate", numeric=True, where="length % 2 == 0", longest=5,
        reference=_reversed_addition,
        best="half = length // 2\ndigits = tokens + first(select(indices, indices + half, '=='), tokens)\n"
        "carry = shift(scan(digits, start=0, letters=(0, 2), transitions=((0, 1), (0, 1))), 1)\n"
        "output = first(select(indices, step, '=='), (digits + carry) % 2)\noutput_length = half",
    ),
    SynthesisTask(
        name="raspl_text_addition", family="rasp-l", source=_RASPL.format("section 5: addition, forward order"),
        alphabet=(*BITS, "+"), lengths=(3, 11), at="generate", matches="(0|1(0|1)*)[+](0|1(0|1)*)",
        reference=_text_addition,
        best="plus = first(select(tokens, '+', '=='), indices)\nbits = table(tokens, {'1': 1})\n"
        "partner = first(select(indices, indices - length + plus, '=='), bits)\n"
        "digits = partner + (bits if plus < indices else 0)\n"
        "carry = first(after and select(digits, 1, '!='), digits) // 2\n"
        "summed = (digits + carry) % 2\n"
        "lead = first(select(summed, 1, '=='), indices, length - 1)\n"
        "output = table(first(select(indices, lead + step, '=='), summed), {1: '1'}, '0')\n"
        "output_length = length - lead",
    ),
    SynthesisTask(
        name="raspl_induction", family="rasp-l", source=_RASPL.format("appendix: induct"), alphabet=_ABCD,
        lengths=(1, 6), at="every", reference=prefixes(_follower), outputs=(*_ABCD, NONE),
        best=f"output = last(upto and select(shift(tokens, 1), tokens, '=='), tokens, '{NONE}')",
    ),
    SynthesisTask(
        name="raspl_has_seen", family="rasp-l", source=_RASPL.format("appendix: has_seen"), alphabet=_ABCD,
        lengths=(1, 6), at="every", reference=prefixes(lambda t: t[-1] in t[:-1]), outputs=BITS,
        best="output = int(exists(before and select(tokens, tokens, '==')))",
    ),
    SynthesisTask(
        name="raspl_firsts", family="rasp-l", source=_RASPL.format("appendix: firsts"), alphabet=_ABCD, lengths=(1, 6),
        at="every", reference=_firsts, outputs=integers(0, 5),
        best="output = first(select(tokens, tokens, '=='), indices)",
    ),
    SynthesisTask(
        name="raspl_num_prev", family="rasp-l", source=_RASPL.format("appendix: num_prev"), alphabet=_ABCD,
        lengths=(1, 6), at="every", reference=prefixes(lambda t: t.count(t[-1])), outputs=integers(0, 6),
        best="output = selector_width(upto and select(tokens, tokens, '=='))",
    ),
)  # fmt: skip


# -- Tracr ------------------------------------------------------------------------------------------------------------
def _less_frequent(tokens: Names) -> Names:
    """How many positions hold a token that occurs fewer than twice."""
    return (str(sum(tokens.count(t) < 2 for t in tokens)),) * len(tokens)


def _share(positive: str, negative: str = "") -> Reference:
    """The share of the first symbol so far, less that of the second, in units of ``mean``."""
    return prefixes(lambda t: _UNIT * (t.count(positive) - t.count(negative)) // len(t))


def _fractions(longest: int, least: int) -> Names:
    values = {_UNIT * k // n for n in range(1, longest + 1) for k in range(least * n, n + 1)}
    return _names(sorted(values))


def _is_shuffled(tokens: Names, pairs: tuple[str, ...]) -> bool:
    """Whether each pair of brackets, looked at alone, is balanced."""
    for pair in pairs:
        opening, closing = pair[0], pair[1]
        depth = 0
        for token in tokens:
            depth += (token == opening) - (token == closing)
            if depth < 0:
                return False
        if depth:
            return False
    return True


_TRACR_TASKS = (
    SynthesisTask(
        name="tracr_fraction_of_previous", family="tracr", source=_TRACR.format("make_frac_prevs"),
        alphabet=("x", "y", "z"), lengths=(1, 8), at="every", reference=_share("x"), outputs=_fractions(8, 0),
        best="output = mean(upto, table(tokens, {'x': 1}))",
    ),
    SynthesisTask(
        name="tracr_pair_balance", family="tracr", source=_TRACR.format("make_pair_balance"), alphabet=("(", ")", "a"),
        lengths=(1, 8), at="every", reference=_share("(", ")"), outputs=_fractions(8, -1),
        best="output = mean(upto, table(tokens, {'(': 1, 'a': 0}, -1))",
    ),
    SynthesisTask(
        name="tracr_shuffle_dyck1", family="tracr", source=_TRACR.format("make_shuffle_dyck, one pair"),
        alphabet=("(", ")"), lengths=(1, 12), at="last", outputs=BITS,
        reference=one(lambda t: _is_shuffled(t, ("()",))),
        best="depth = horner(table(tokens, {')': -1}, 1), 1)\n"
        "output = table2(last(everywhere, depth), min_over(everywhere, depth), {(0, 0): 1})",
    ),
    SynthesisTask(
        name="tracr_shuffle_dyck2", family="tracr", source=_TRACR.format("make_shuffle_dyck2"),
        alphabet=("(", ")", "[", "]"), lengths=(1, 7), at="last", outputs=BITS,
        reference=one(lambda t: _is_shuffled(t, ("()", "[]"))),
        best="round = horner(table(tokens, {'(': 1, ')': -1}), 1)\n"
        "square = horner(table(tokens, {'[': 1, ']': -1}), 1)\n"
        "output = table2(last(everywhere, round + square), min_over(everywhere, min(round, square)), {(0, 0): 1})",
    ),
    SynthesisTask(
        name="tracr_count_less_frequent", family="tracr", source=_TRACR.format("make_count_less_freq(2)"),
        alphabet=_ABCD, lengths=(1, 6), at="every", reference=_less_frequent, outputs=integers(0, 6),
        best="output = count(selector_width(select(tokens, tokens, '==')) < 2)",
    ),
    SynthesisTask(
        name="tracr_count_symbol", family="tracr", source=_TRACR.format("make_count"), alphabet=_ABC, lengths=(1, 8),
        at="every", reference=lambda t: (str(t.count("a")),) * len(t), outputs=integers(0, 8),
        best="output = count(tokens == 'a')",
    ),
    SynthesisTask(
        name="tracr_multiply_add", family="tracr", source=_TRACR.format("make_nary_sequencemap: x*y + x"),
        alphabet=integers(0, 4), lengths=(1, 6), at="every", numeric=True, outputs=integers(0, 24),
        reference=lambda t: _names(int(x) * i + int(x) for i, x in enumerate(t)),
        best="output = tokens * indices + tokens",
    ),
    SynthesisTask(
        name="tracr_sort_unique", family="tracr", source=_TRACR.format("make_sort_unique"), alphabet=integers(0, 6),
        lengths=(1, 6), at="every", numeric=True, where="distinct(tokens)",
        reference=lambda t: tuple(sorted(t, key=int)),
        best="output = first(select(rank(tokens), indices, '=='), tokens)",
    ),
    SynthesisTask(
        name="tracr_detect_pattern", family="tracr", source=_TRACR.format("make_detect_pattern: a b"), alphabet=_ABC,
        lengths=(1, 8), at="every", reference=prefixes(lambda t: t[-2:] == ("a", "b")), outputs=BITS,
        best="output = table2(shift(tokens, 1), tokens, {('a', 'b'): 1})",
    ),
)  # fmt: skip

TASKS: tuple[SynthesisTask, ...] = (*_RASP_TASKS, *_RASPL_TASKS, *_TRACR_TASKS)
