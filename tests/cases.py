"""One table of known programs with facts about their domain, inputs and answers, read by every level of tests.

The answers were worked out by hand from what each program is for, not by running it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from extract.lang.terms import Adapter
from extract.readout import ReadOut
from extract.vocabulary import Vocabulary

Answer = str | tuple[str, ...] | frozenset[str]


@dataclass(frozen=True, slots=True)
class Case:
    """A program with its domain facts and answers.

    ``answers``: input as token names, and the answer: a name (``value``), names (``every``, ``generate``, ``step``) or
    a set of labels. ``streams``: whether it is a machine over inputs of any length. ``where`` is a promise or None.
    """

    name: str
    adapter: Adapter
    text: str
    vocab: tuple[str, ...]
    alphabet: tuple[str, ...]
    min_length: int
    max_length: int
    cost: int
    answers: tuple[tuple[tuple[str, ...], Answer], ...]
    numeric: bool = False
    outputs: tuple[str, ...] = ()
    where: str | None = None
    stop: str | None = None
    max_new: int = 0
    streams: bool = False
    dialect: str = "RASP"
    vocabulary: Vocabulary = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", Vocabulary(self.vocab, self.numeric, self.outputs))

    @property
    def readout(self) -> ReadOut:
        """The read-out the program's adapter is for."""
        choices = tuple(range(len(self.vocabulary.output_names)))
        stop = None if self.stop is None else self.vocab.index(self.stop)
        if self.adapter == "multilabel":
            return ReadOut("last", "multilabel", choices)
        at = {"value": "last", "every": "every", "generate": "generate", "step": "generate"}[self.adapter]
        return ReadOut(at, "argmax", choices, stop=stop, max_new=self.max_new)  # type: ignore[arg-type]


def _word(text: str) -> tuple[str, ...]:
    return tuple(text)


def _words(*pairs: tuple[str, str]) -> tuple[tuple[tuple[str, ...], Answer], ...]:
    """Answers per position or generated, one character per token."""
    return tuple((_word(given), _word(answer)) for given, answer in pairs)


def _names(*pairs: tuple[str, str]) -> tuple[tuple[tuple[str, ...], Answer], ...]:
    """One answer name per input."""
    return tuple((_word(given), answer) for given, answer in pairs)


_ABC = ("a", "b", "c")
_BITS = ("0", "1", "<bos>", "<sep>", "<eos>")
_DIGITS = tuple(str(i) for i in range(5))
_DEPTH = "depth = running_count(tokens == 'a') - running_count(tokens == 'b')\n"

CASES: tuple[Case, ...] = (
    Case(
        "reverse", "every", "output = last(select(indices, length - 1 - indices, '=='), tokens)",
        _ABC, _ABC, 0, 6, 8, _words(("", ""), ("a", "a"), ("abc", "cba"), ("aabc", "cbaa")),
    ),
    Case(
        "histogram", "every", "output = selector_width(select(tokens, tokens, '=='))",
        _ABC, _ABC, 1, 6, 3, _words(("a", "1"), ("aba", "212"), ("cccb", "3331")), outputs=tuple("0123456"),
    ),
    Case(
        "sort", "every", "output = first(select(rank(tokens), indices, '=='), tokens)",
        _ABC, _ABC, 0, 6, 5, _words(("cab", "abc"), ("bbaa", "aabb"), ("", "")),
    ),
    Case(
        "sort numbers", "every", "output = first(select(rank(tokens), indices, '=='), tokens)",
        ("-1", "0", "2", "11"), ("-1", "0", "2", "11"), 1, 4, 5,
        ((("11", "2", "-1"), ("-1", "2", "11")), (("0", "0"), ("0", "0"))), numeric=True,
    ),
    Case(
        "majority", "value", "output = '1' if count(tokens == '0') < count(tokens == '1') else '0'",
        _BITS, ("0", "1"), 1, 12, 9, _names(("1", "1"), ("0", "0"), ("01100", "0"), ("11010", "1")),
        where="count(tokens == '0') != count(tokens == '1')", streams=True, dialect="C-RASP",
    ),
    Case(
        "parity", "value", "output = count(tokens == '1') % 2",
        ("0", "1"), ("0", "1"), 0, 12, 6, _names(("", "0"), ("1", "1"), ("1101", "1"), ("0110", "0")),
        outputs=("0", "1"), streams=True,
    ),
    Case(
        "parity by automaton", "value",
        "output = last(everywhere, scan(tokens, start=0, letters=('1',), transitions=((1,), (0,))))",
        ("0", "1"), ("0", "1"), 0, 12, 7, _names(("", "0"), ("1", "1"), ("1101", "1"), ("0110", "0")),
        outputs=("0", "1"), streams=True,
    ),
    Case(
        "brackets to depth 2", "multilabel",
        "depth = count(tokens == 'a') - count(tokens == 'b')\n"
        "output['a'] = depth < 2\noutput['b'] = 0 < depth\noutput['<eos>'] = depth == 0\n",
        ("a", "b", "<bos>", "<eos>"), ("a", "b"), 0, 12, 13,
        (((), frozenset({"a", "<eos>"})), (("a",), frozenset({"a", "b"})), (("a", "a"), frozenset({"b"})),
         (("a", "a", "b", "b"), frozenset({"a", "<eos>"}))),
        where="all(0 <= running_count(tokens == 'a') - running_count(tokens == 'b') <= 2)",
        streams=True, dialect="C-RASP",
    ),
    Case(
        "balanced so far", "every", _DEPTH + "output = '1' if all(0 <= depth) and depth == 0 else '0'",
        ("a", "b"), ("a", "b"), 1, 8, 16, _words(("ab", "01"), ("aabb", "0001"), ("ba", "00")), outputs=("0", "1"),
        dialect="C-RASP",
    ),
    Case(
        "first unique", "value",
        "output = first(keys_where(selector_width(select(tokens, tokens, '==')) == 1), tokens, 'c')",
        _ABC, _ABC, 1, 6, 8, _names(("aba", "b"), ("aabb", "c"), ("ca", "c"), ("bbca", "c")),
    ),
    Case(
        "induction", "value", "output = last(select(shift(tokens, 1), last(everywhere, tokens), '=='), tokens)",
        _ABC, _ABC, 2, 6, 6, _names(("aba", "b"), ("abcab", "c"), ("bcb", "c")),
        where="exists(select(shift(tokens, 1), last(everywhere, tokens), '=='))",
    ),
    Case(
        "copy", "generate", "output = first(select(indices, step, '=='), tokens)\noutput_length = length",
        (*_ABC, "<eos>"), _ABC, 0, 6, 6, _words(("abc", "abc"), ("", ""), ("bb", "bb")), stop="<eos>", max_new=8,
    ),
    Case(
        "copy by steps", "step",
        "written = length - prompt_length\n"
        "output = '<eos>' if written == prompt_length else first(select(indices, written, '=='), tokens)",
        (*_ABC, "<eos>"), _ABC, 0, 6, 10, _words(("abc", "abc"), ("", ""), ("bb", "bb")), stop="<eos>", max_new=8,
    ),
    Case(
        "count from a to b", "generate",
        "start = first(everywhere, tokens)\noutput = start + step\n"
        "output_length = last(everywhere, tokens) - start + 1",
        tuple(map(str, range(12))), tuple(map(str, range(12))), 2, 2, 9,
        ((("3", "6"), ("3", "4", "5", "6")), (("9", "11"), ("9", "10", "11"))),
        numeric=True, where="increasing(tokens)", max_new=12,
    ),
    Case(
        "modular addition", "value", "output = sum_over(everywhere, tokens) % 5",
        (*_DIGITS, "="), _DIGITS, 2, 2, 6, _names(("34", "2"), ("00", "0"), ("41", "0"), ("12", "3")),
        numeric=True, streams=True,
    ),
    Case(
        "palindrome", "value",
        "output = int(all(tokens == first(select(indices, length - 1 - indices, '=='), tokens)))",
        ("0", "1"), ("0", "1"), 0, 8, 11, _names(("", "1"), ("0110", "1"), ("010", "1"), ("011", "0")),
        numeric=True,
    ),
    Case(
        "previous token", "every", "output = shift(tokens, 1, 'c')",
        _ABC, _ABC, 1, 6, 3, _words(("a", "c"), ("abc", "cab")),
    ),
    Case(
        "maximum", "value", "output = max_over(everywhere, tokens)",
        _DIGITS, _DIGITS, 1, 5, 3, _names(("0", "0"), ("132", "3"), ("44", "4")), numeric=True, streams=True,
    ),
    Case(
        "last symbol that is not 2", "value", "output = last(keys_where(not tokens == '2'), tokens, '2')",
        ("0", "1", "2"), ("0", "1", "2"), 0, 8, 6, _names(("", "2"), ("0122", "1"), ("10", "0"), ("22", "2")),
        streams=True,
    ),
)  # fmt: skip
