"""Random well-sorted terms, vocabularies and inputs for the laws, built from the operator rows' sorts."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from extract.errors import ProgramError
from extract.lang.operators import RELATIONS
from extract.lang.ranges import integer_ranges
from extract.lang.sorts import sort_of
from extract.lang.terms import Datum, Term
from extract.vocabulary import Vocabulary

#: Tokens are symbols; their names sort differently from their ids.
SYMBOLS = Vocabulary(("b", "a", "c", "<bos>"))
#: Tokens are numbers, except two that are not.
NUMBERS = Vocabulary(("0", "1", "2", "-1", "+", "<bos>"), numeric=True)
VOCABULARIES = (SYMBOLS, NUMBERS)
#: Ranges are checked for inputs up to here, so laws may use every shorter one.
MAX_LENGTH = 6
MAX_STEPS = 4

Draw = Callable[..., Term]
_PICKS = ("first", "last", "min_over", "max_over")


def integer(value: int) -> Term:
    """Return an integer constant."""
    return Term("integer", (), (value,))


def symbol(name: str) -> Term:
    """Return a symbol constant."""
    return Term("symbol", (), (name,))


class _Builder:
    """Draws terms of a wanted sort; ``depth`` operators may still be stacked."""

    def __init__(self, draw: Draw, vocabulary: Vocabulary) -> None:
        self.draw = draw
        self.vocabulary = vocabulary
        names = [*vocabulary.names, ""]
        self.token_data: list[Datum] = [n for n in names if not n.startswith("<")]

    def choose(self, options: list[Callable[[], Term]]) -> Term:
        return options[self.draw(st.integers(0, len(options) - 1))]()

    def small(self, low: int = -3, high: int = 5) -> int:
        value: int = self.draw(st.integers(low, high))
        return value

    def shape(self, shape: str) -> str:
        """Return a shape that may stand where ``shape`` is wanted."""
        return "whole" if self.draw(st.booleans()) and shape != "whole" else shape

    def number(self, shape: str, depth: int) -> Term:
        leaves = [lambda: integer(self.small()), lambda: Term("length")]
        if shape == "position":
            leaves += [lambda: Term("indices")] * 2
            leaves += [lambda: Term("tokens")] * (2 if self.vocabulary.numeric else 0)
        if shape == "step":
            leaves += [lambda: Term("step")] * 3
        if depth == 0:
            return self.choose(leaves)
        d = depth - 1
        options: list[Callable[[], Term]] = [
            lambda: self.choose(leaves),
            lambda: Term(self.name("+", "-", "min", "max"), self.two(self.number, shape, d)),
            lambda: Term("*", (self.number(shape, d), integer(self.small()))),
            lambda: Term(self.name("//", "%"), (self.number(shape, d), integer(self.small(1, 5)))),
            lambda: Term("abs", (self.number(shape, d),)),
            lambda: Term("int", (self.boolean(shape, d),)),
            lambda: self.conditional(self.number, shape, d),
            lambda: self.table(shape, d, [0, 1, -2, 7]),
            lambda: self.table2(shape, d),
            lambda: Term("selector_width", (self.selector(shape, d),)),
            lambda: Term(self.name("sum_over", "mean"), (self.selector(shape, d), self.number("position", d))),
            lambda: self.picked(self.number, shape, d),
            lambda: Term("count", (self.boolean("position", d),)),
        ]
        if shape == "position":
            options += [
                lambda: Term("running_count", (self.boolean("position", d),)),
                lambda: Term("rank", (self.value("position", d),)),
                lambda: self.shifted(self.number, d),
                lambda: self.scan(d),
                lambda: Term("horner", (self.number("position", d),), (self.small(), self.small(1, 5))),
                lambda: Term("horner", (Term("indices"),), (self.small(-2, 2), 0)),
            ]
        return self.choose(options)

    def token(self, shape: str, depth: int) -> Term:
        leaves = [lambda: symbol(str(self.draw(st.sampled_from(self.token_data))))]
        if shape == "position":
            leaves += [lambda: Term("tokens")] * 3
        if depth == 0:
            return self.choose(leaves)
        d = depth - 1
        options: list[Callable[[], Term]] = [
            lambda: self.choose(leaves),
            lambda: self.conditional(self.token, shape, d),
            lambda: self.table(shape, d, self.token_data),
            lambda: self.picked(self.token, shape, d),
            lambda: Term(self.name("min", "max"), self.two(self.token, shape, d)),
        ]
        if shape == "position":
            options.append(lambda: self.shifted(self.token, d))
        return self.choose(options)

    def value(self, shape: str, depth: int) -> Term:
        """Return an integer, of tokens or of numbers."""
        return self.choose([lambda: self.number(shape, depth), lambda: self.token(shape, depth)])

    def boolean(self, shape: str, depth: int) -> Term:
        if depth == 0:
            d = 0
            options: list[Callable[[], Term]] = []
        else:
            d = depth - 1
            options = [
                lambda: Term(self.name("and", "or"), self.two(self.boolean, shape, d)),
                lambda: Term("not", (self.boolean(shape, d),)),
                lambda: Term("exists", (self.selector(shape, d),)),
                lambda: self.conditional(self.boolean, shape, d),
                lambda: Term(self.name("all", "any"), (self.boolean("position", d),)),
                lambda: Term(
                    self.name("distinct", "distinct_pairs", "unique_mode", "increasing"), (self.value("position", d),)
                ),
            ]
        compare: list[Callable[[], Term]] = [
            lambda: Term(self.name("==", "<", "<="), self.two(self.number, shape, d)),
            lambda: Term(self.name("==", "<", "<="), self.two(self.token, shape, d)),
            lambda: Term("boolean", (), (self.small(0, 1),)),
        ]
        return self.choose([*compare, *options])

    def selector(self, shape: str, depth: int) -> Term:
        leaves: list[Callable[[], Term]] = [lambda: Term("everywhere")]
        if shape == "position":
            leaves += [lambda: Term(self.name("before", "upto", "after"))] * 3
        if depth == 0:
            return self.choose(leaves)
        d = depth - 1
        data = (self.draw(st.sampled_from(RELATIONS)),)
        return self.choose(
            [
                *leaves,
                lambda: Term("select", (self.number("position", d), self.number(shape, d)), data),
                lambda: Term("select", (self.token("position", d), self.token(shape, d)), data),
                lambda: Term("keys_where", (self.boolean("position", d),)),
                lambda: Term(self.name("and", "or"), self.two(self.selector, shape, d)),
                lambda: Term("not", (self.selector(shape, d),)),
            ]
        )

    def of(self, kind: str, shape: str, depth: int) -> Term:
        makers = {"number": self.number, "token": self.token, "I": self.value, "B": self.boolean, "S": self.selector}
        return makers[kind](shape, depth)

    def name(self, *names: str) -> str:
        return str(self.draw(st.sampled_from(names)))

    def two(self, make: Callable[[str, int], Term], shape: str, depth: int) -> tuple[Term, Term]:
        return make(shape, depth), make(self.shape(shape), depth)

    def conditional(self, make: Callable[[str, int], Term], shape: str, depth: int) -> Term:
        return Term("if", (self.boolean(self.shape(shape), depth), *self.two(make, shape, depth)))

    def picked(self, make: Callable[[str, int], Term], shape: str, depth: int) -> Term:
        arguments = [self.selector(shape, depth), make("position", depth)]
        if self.draw(st.booleans()):
            arguments.append(make(self.shape(shape), depth))
        return Term(self.name(*_PICKS), tuple(arguments))

    def shifted(self, make: Callable[[str, int], Term], depth: int) -> Term:
        arguments = [make("position", depth)]
        if self.draw(st.booleans()):
            arguments.append(make(self.shape("position"), depth))
        return Term("shift", tuple(arguments), (self.small(-2, 3),))

    def keys(self) -> list[Datum]:
        return [*self.token_data, 0, 1, 2]

    def table(self, shape: str, depth: int, values: list[Datum]) -> Term:
        listed = self.draw(st.dictionaries(st.sampled_from(self.keys()), st.sampled_from(values), max_size=3))
        entries: tuple[Datum, ...] = tuple(self.unambiguous(listed).items())
        return Term("table", (self.value(shape, depth),), (entries, self.draw(st.sampled_from(values))))

    def table2(self, shape: str, depth: int) -> Term:
        pair = st.tuples(st.sampled_from(self.token_data), st.integers(0, 2))
        listed = self.draw(st.dictionaries(pair, st.integers(-2, 2), max_size=3))
        entries: tuple[Datum, ...] = tuple(listed.items())
        arguments = (self.value(shape, depth), self.number(self.shape(shape), depth))
        return Term("table2", arguments, (entries, self.small()))

    def unambiguous(self, listed: dict[Datum, Datum]) -> dict[Datum, Datum]:
        """Return entries whose keys mean different codes: in a numeric task '1' and 1 are the same."""
        if not self.vocabulary.numeric:
            return listed
        return {k: v for k, v in listed.items() if not (isinstance(k, int) and str(k) in listed)}

    def scan(self, depth: int) -> Term:
        n_states = self.small(1, 3)
        letters: tuple[Datum, ...] = tuple(
            self.draw(st.lists(st.sampled_from(self.token_data), unique=True, max_size=3))
        )
        state = st.integers(0, n_states - 1)
        rows = tuple(tuple(self.draw(state) for _ in letters) for _ in range(n_states))
        return Term("scan", (self.token("position", depth),), (self.draw(state), letters, rows))


@st.composite
def well_sorted_terms(
    draw: Draw, kind: str = "I", shape: str = "position", vocabulary: Vocabulary = SYMBOLS, depth: int = 3
) -> Term:
    """Draw a well-sorted term that stays within 32 bits up to MAX_LENGTH tokens and MAX_STEPS outputs.

    ``kind``: ``number``, ``token``, ``I`` (either), ``B`` or ``S``. ``shape`` is an upper bound: a term
    per position may turn out to be sequence-wide.
    """

    def fits(term: Term) -> bool:
        sort_of(term, vocabulary)
        try:
            integer_ranges(term, vocabulary, MAX_LENGTH, MAX_STEPS)
        except ProgramError:
            return False
        return True

    builder = _Builder(draw, vocabulary)
    term = builder.of(kind, shape, draw(st.integers(0, depth)))
    return term if fits(term) else builder.of(kind, shape, 0)


def _codes(vocabulary: Vocabulary) -> st.SearchStrategy[int]:
    """Draw one token's code, symbols of a numeric vocabulary included."""
    pairs = zip(vocabulary.names, vocabulary.token_codes, strict=True)
    return st.sampled_from([int(code) for name, code in pairs if "<" not in name])


def inputs(vocabulary: Vocabulary, max_length: int = MAX_LENGTH) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw one input as codes."""
    return st.lists(_codes(vocabulary), max_size=max_length).map(tuple)


def batches(vocabulary: Vocabulary) -> st.SearchStrategy[list[tuple[int, ...]]]:
    """Draw some inputs, of mixed lengths or all of one length."""
    mixed = st.lists(inputs(vocabulary), min_size=1, max_size=6)
    uniform = st.integers(0, MAX_LENGTH).flatmap(
        lambda n: st.lists(st.tuples(*[_codes(vocabulary)] * n), min_size=1, max_size=4)
    )
    return st.one_of(mixed, uniform)
