"""Terms as Python expressions over an index: the part of ``emit`` that writes loops.

A value per position is written at an index, so elementwise parts stay inside one loop; what needs a loop of its own,
and what is used twice, becomes a variable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from extract.lang.number_answers import number_answer
from extract.lang.operators import NO_SYMBOL, OPERATORS
from extract.lang.printing import deep_terms, print_datum, shared_terms
from extract.lang.sorts import Sort
from extract.lang.terms import Datum, Program, Term
from extract.vocabulary import Vocabulary

_IF, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _ATOM = range(8)
_LEVELS = {
    "or": _OR, "and": _AND, "==": _COMPARE, "<": _COMPARE, "<=": _COMPARE,
    "+": _SUM, "-": _SUM, "*": _PRODUCT, "//": _PRODUCT, "%": _PRODUCT,
}  # fmt: skip
_NOUNS = {
    "select": "picked", "table": "entry", "table2": "entry", "scan": "states", "horner": "values", "rank": "places",
    "shift": "moved", "running_count": "so_far", "count": "amount", "first": "earliest", "last": "latest",
    "min_over": "least", "max_over": "greatest", "sum_over": "total", "mean": "average", "selector_width": "width",
    "exists": "found", "all": "always", "any": "ever", "+": "added", "-": "difference", "*": "product",
    "//": "quotient", "%": "remainder", "if": "choice", "int": "bit", "abs": "size", "min": "smaller", "max": "larger",
    "==": "same", "<": "less", "<=": "at_most", "and": "both", "or": "either", "not": "otherwise",
}  # fmt: skip
#: Loops over the keys on one side of query {q}.
_RANGES = {"before": "range({q})", "upto": "range({q} + 1)", "after": "range({q} + 1, n)", "everywhere": "range(n)"}
_ALWAYS_BOUND = frozenset({"scan", "horner", "rank", "distinct", "distinct_pairs", "unique_mode", "increasing"})


def constant_text(datum: Datum, vocabulary: Vocabulary) -> str:
    """Return a constant as the emitted file writes it: names where it computes with names, else integers."""
    if isinstance(datum, tuple):
        inside = ", ".join(constant_text(part, vocabulary) for part in datum)
        return f"({inside},)" if len(datum) == 1 else f"({inside})"
    if isinstance(datum, int):
        return repr(datum)
    if vocabulary.numeric:
        return str(NO_SYMBOL) if datum == "" else str(vocabulary.symbol_code(datum))
    return repr(datum) if datum == "" or datum in vocabulary.symbols else str(int(datum))


class Expressions:
    """Writes the terms of one program; ``take_lines`` gives the variables made since the last call."""

    def __init__(self, program: Program, vocabulary: Vocabulary, sorts: dict[Term, Sort]) -> None:
        self._vocabulary = vocabulary
        self._sorts = sorts
        shared = shared_terms(program.terms())
        self._bound = {*shared, *deep_terms(program.terms(), set(shared))}
        self._names: dict[Term, str] = {}
        self._counts: Counter[str] = Counter()
        self._lines: list[str] = []
        self.tables: dict[str, str] = {}
        self.helpers: set[str] = set()

    def take_lines(self) -> list[str]:
        """Return the assignments needed by what was written since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def whole(self, term: Term) -> str:
        """Return a sequence-wide term as an expression."""
        return self._text(term, None, _IF)

    def number(self, term: Term) -> str:
        """Return a sequence-wide integer as arithmetic reads it."""
        return self._number(term, None, _IF)

    def number_text(self, term: Term, index: str | None, written: Callable[[str], str]) -> str:
        """Return an answer to a real read-out as an expression of its text; ``written`` does it for whole numbers."""

        def units(part: Term) -> str:
            self.helpers.add("fraction")
            return f"fraction({self._text(part, index, _IF)})"

        def choice(condition: Term, then: str, otherwise: str) -> str:
            return f"({then} if {self._text(condition, index, _OR)} else {otherwise})"

        return number_answer(term, units, lambda part: written(self._text(part, index, _IF)), choice)

    def _number(self, term: Term, index: str | None, level: int) -> str:
        if self._vocabulary.numeric and self._vocabulary.symbols and self._sorts[term].tag == "T":
            self.helpers.add("number")
            return f"number({self._text(term, index, _IF)})"
        return self._text(term, index, level)

    def _text(self, term: Term, index: str | None, level: int) -> str:
        sort = self._sorts[term]
        if term in self._names or self._needs_name(term, index):
            if term not in self._names:
                self._bind(term)
            name = self._names[term]
            return name if sort.shape == "whole" else f"{name}[{index}]"
        text, own = self._open(term, index)
        return f"({text})" if own < level else text

    def _needs_name(self, term: Term, index: str | None) -> bool:
        if self._sorts[term].kind == "S" or not term.arguments:
            return False
        if term in self._bound or term.operator in _ALWAYS_BOUND:
            return True
        row = OPERATORS[term.operator]
        loops = row.shape in ("query", "whole", "position") and term.operator != "shift"
        return loops and index is not None

    def _bind(self, term: Term) -> None:
        shape = self._sorts[term].shape
        index = {"whole": None, "position": "i", "step": "step"}[shape]
        text, own = self._open(term, index)
        if index is not None and term.operator not in ("scan", "horner", "rank"):
            size = "n" if shape == "position" else "n_steps"
            element = f"({text})" if own == _IF else text
            text = f"[{element} for {index} in range({size})]"
        noun = _NOUNS.get(term.operator, "holds")
        self._counts[noun] += 1
        name = noun if self._counts[noun] == 1 else f"{noun}_{self._counts[noun]}"
        self._names[term] = name
        self._lines.append(f"{name} = {text}")

    # -- one operator --------------------------------------------------------------------------------------------

    def _open(self, term: Term, index: str | None) -> tuple[str, int]:
        name, arguments = term.operator, term.arguments
        if not arguments:
            return self._leaf(term, index)
        if name == "if":
            condition, then, otherwise = arguments
            first, test = self._text(then, index, _OR), self._text(condition, index, _OR)
            return f"{first} if {test} else {self._text(otherwise, index, _IF)}", _IF
        if name == "not":
            return f"not {self._text(arguments[0], index, _NOT)}", _NOT
        if name in _LEVELS:
            own = _LEVELS[name]
            write = self._number if OPERATORS[name].arguments[0].tag == "number" else self._text
            left = write(arguments[0], index, own + 1 if own == _COMPARE else own)
            return f"{left} {name} {write(arguments[1], index, own + 1)}", own
        if name in ("min", "max", "int", "abs"):
            write = self._number if name == "abs" else self._text
            return f"{name}({', '.join(write(a, index, _IF) for a in arguments)})", _ATOM
        if name in ("table", "table2"):
            return self._table(term, index), _ATOM
        if name in ("count", "all", "any", "running_count"):
            return self._counted(term, index), _ATOM
        if OPERATORS[name].arguments[0].kind == "S":
            return self._aggregate(term, index), _ATOM
        if name == "shift":
            return self._shift(term, index), _IF
        return self._whole_list(term), _ATOM

    def _leaf(self, term: Term, index: str | None) -> tuple[str, int]:
        name = term.operator
        if name == "tokens":
            return f"x[{index}]", _ATOM
        if name in ("indices", "step"):
            return str(index), _SUM if index is not None and " " in index else _ATOM
        if name == "boolean":
            return repr(bool(term.data[0])), _ATOM
        if name in ("integer", "symbol"):
            return constant_text(term.data[0], self._vocabulary), _ATOM
        return {"length": "n", "prompt_length": "prompt_length"}[name], _ATOM

    def _table(self, term: Term, index: str | None) -> str:
        entries = term.data[0] if isinstance(term.data[0], tuple) else ()
        listed = ", ".join(
            f"{constant_text(e[0], self._vocabulary)}: {constant_text(e[1], self._vocabulary)}"
            for e in entries
            if isinstance(e, tuple)
        )
        text = f"{{{listed}}}"
        known = {value: key for key, value in self.tables.items()}
        name = known.get(text, f"TABLE_{len(self.tables) + 1}")
        self.tables[name] = text
        keys = [self._text(argument, index, _IF) for argument in term.arguments]
        key = keys[0] if len(keys) == 1 else f"({', '.join(keys)})"
        return f"{name}.get({key}, {constant_text(term.data[1], self._vocabulary)})"

    def _counted(self, term: Term, index: str | None) -> str:
        name = term.operator
        condition = self._text(term.arguments[0], "k", _OR)
        if name == "running_count":
            return f"sum(1 for k in range({index} + 1) if {condition})"
        if name == "count":
            return f"sum(1 for k in range(n) if {condition})"
        return f"{name}({condition} for k in range(n))"

    def _aggregate(self, term: Term, index: str | None) -> str:
        name, arguments = term.operator, term.arguments
        side, conditions = self._selected(arguments[0], index)
        loop = _RANGES[side].format(q=index)
        test = "".join(f" if {condition}" for condition in conditions)
        if name == "exists":
            return f"any(True for k in {loop}{test})"
        if name == "selector_width":
            return f"sum(1 for k in {loop}{test})"
        value = (self._number if name in ("sum_over", "mean") else self._text)(arguments[1], "k", _OR)
        if name == "sum_over":
            return f"sum({value} for k in {loop}{test})"
        if name == "mean":
            self.helpers.add("mean")
            return f"mean([{value} for k in {loop}{test}])"
        default = self._default(term, index)
        if name in ("first", "last"):
            keys = loop if name == "first" else f"reversed({loop})"
            return f"next(({value} for k in {keys}{test}), {default})"
        return f"{name[:3]}(({value} for k in {loop}{test}), default={default})"

    def _default(self, term: Term, index: str | None) -> str:
        if len(term.arguments) == len(OPERATORS[term.operator].arguments):
            return self._text(term.arguments[-1], index, _IF)
        values = term.arguments[0 if term.operator == "shift" else 1]
        no_symbol = self._sorts[values].tag == "T" and not self._vocabulary.numeric
        return "''" if no_symbol else "0"

    def _selected(self, selector: Term, index: str | None) -> tuple[str, list[str]]:
        """Return which side of the query to loop over with ``k``, and the conditions on ``k``."""
        name, arguments = selector.operator, selector.arguments
        if name in _RANGES:
            return name, []
        if name == "and":
            (left, first), (right, second) = (self._selected(argument, index) for argument in arguments)
            if "everywhere" in (left, right):
                return right if left == "everywhere" else left, first + second
        return "everywhere", [self._condition(selector, index, _OR)]

    def _condition(self, selector: Term, index: str | None, level: int) -> str:
        name, arguments = selector.operator, selector.arguments
        own = _LEVELS.get(name, _COMPARE)
        if name == "everywhere":
            return "True"
        if name == "keys_where":
            return self._text(arguments[0], "k", level)
        if name in ("before", "upto", "after"):
            text = f"k {({'before': '<', 'upto': '<=', 'after': '>'})[name]} {index}"
        elif name == "select":
            keys, queries = self._text(arguments[0], "k", _SUM), self._text(arguments[1], index, _SUM)
            text = f"{keys} {selector.data[0]} {queries}"
        elif name == "not":
            own, text = _NOT, f"not {self._condition(arguments[0], index, _NOT)}"
        else:
            left, right = self._condition(arguments[0], index, own), self._condition(arguments[1], index, own + 1)
            text = f"{left} {name} {right}"
        return f"({text})" if own < level else text

    def _shift(self, term: Term, index: str | None) -> str:
        k = term.data[0]
        assert isinstance(k, int)
        if k == 0:
            return self._text(term.arguments[0], index, _OR)
        base = f"({index})" if index is not None and " " in index else index
        source = f"{base} - {k}" if k > 0 else f"{base} + {-k}"
        return f"{self._text(term.arguments[0], source, _OR)} if 0 <= {source} < n else {self._default(term, index)}"

    def cells(self, term: Term, index: str, size: str) -> str:
        """Return a term's values along an axis as a list."""
        text = self._text(term, index, _OR)
        if (
            self._sorts[term].shape != "whole"
            and text.endswith(f"[{index}]")
            and text[: -len(index) - 2].isidentifier()
        ):
            return text[: -len(index) - 2]
        return f"[{text} for {index} in range({size})]"

    def _whole_list(self, term: Term) -> str:
        name, value = term.operator, term.arguments[0]
        values = self.cells(value, "i", "n")
        if name == "horner" and self._number(value, "i", _OR) != self._text(value, "i", _OR):
            values = f"[{self._number(value, 'i', _OR)} for i in range(n)]"
        if name == "distinct_pairs":
            self.helpers.add("distinct")
            return f"distinct(list(zip({values}, {values}[1:])))"
        self.helpers.add(name)
        if name == "scan":
            start, letters, transitions = term.data
            shown = constant_text(letters, self._vocabulary)
            return f"scan({values}, {print_datum(start)}, {shown}, {print_datum(transitions)})"
        if name == "horner":
            return f"horner({values}, {print_datum(term.data[0])}, {print_datum(term.data[1])})"
        return f"{name}({values})"
