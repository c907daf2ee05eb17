"""Terms to text: parts used more than once become let-bindings with readable names; ``parse`` reads it back exactly.

The text is a function of the program alone, so it can break ties and be compared byte by byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from extract.lang.operators import WORDS
from extract.lang.terms import Datum, Program, Term

#: Words for let-bindings, by operator; none is an operator's name.
_NOUNS: dict[str, str] = {
    "+": "total", "-": "difference", "*": "product", "//": "quotient", "%": "remainder", "min": "smaller",
    "max": "larger", "abs": "size", "int": "bit", "if": "choice", "==": "same", "<": "less", "<=": "at_most",
    "and": "both", "or": "either", "not": "otherwise", "table": "entry", "table2": "entry", "select": "picked",
    "keys_where": "keys", "exists": "found", "selector_width": "width", "sum_over": "summed", "mean": "average",
    "min_over": "least", "max_over": "greatest", "first": "earliest", "last": "latest", "count": "number",
    "all": "always", "any": "ever", "running_count": "so_far", "rank": "place", "shift": "moved", "scan": "state",
    "horner": "value", "distinct": "no_repeat", "distinct_pairs": "no_repeat", "unique_mode": "has_mode",
    "increasing": "grows",
}  # fmt: skip
_CONSTANTS = frozenset({"integer", "symbol", "boolean"})
#: Binding strength: an operand printed at a lower level than its place needs is put in parentheses.
_IF, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _ATOM = range(8)
_LEVELS = {
    "if": _IF, "or": _OR, "and": _AND, "not": _NOT, "==": _COMPARE, "<": _COMPARE, "<=": _COMPARE,
    "+": _SUM, "-": _SUM, "*": _PRODUCT, "//": _PRODUCT, "%": _PRODUCT,
}  # fmt: skip
#: A binding is introduced when an expression would otherwise nest deeper than this (the parser stops at 30).
_DEEPEST = 22
_LARGEST = 150


def print_program(program: Program) -> str:
    """Return a program's text, ending in a newline; ``parse_program`` of it is the same program."""
    printer = _Printer([term for _, term in program.outputs])
    lines: list[str] = []
    for name, term in program.outputs:
        target = f"output[{name!r}]" if program.adapter == "multilabel" else name
        printer.bind_parts(term)
        text = printer.text(term, _IF)
        lines += [*printer.new_lines(), f"{target} = {text}"]
    return "\n".join(lines) + "\n"


def print_term(term: Term) -> str:
    """Return a term as one expression, without let-bindings; ``parse_term`` of it is the same term."""
    return _Printer([]).text(term, _IF)


def print_datum(datum: Datum) -> str:
    """Return a constant as Python writes it."""
    if isinstance(datum, tuple):
        inside = ", ".join(print_datum(part) for part in datum)
        return f"({inside},)" if len(datum) == 1 else f"({inside})"
    return repr(datum)


def shared_terms(terms: Sequence[Term]) -> list[Term]:
    """Return the subterms used at least twice that are worth a name, arguments before their users."""
    order: dict[Term, None] = {}
    uses: Counter[Term] = Counter()
    for term in terms:
        uses[term] += 1
        for subterm in term.subterms():
            if subterm not in order:
                order[subterm] = None
                uses.update(subterm.arguments)
    return [term for term in order if uses[term] > 1 and term.arguments]


def deep_terms(terms: Sequence[Term], shared: set[Term]) -> list[Term]:
    """Return further subterms to name so that no expression is nested too deep or grows too large."""
    depth: dict[Term, int] = {}
    size: dict[Term, int] = {}
    named: list[Term] = []
    for term in terms:
        for subterm in term.subterms():
            if subterm in depth:
                continue
            # Two levels per node: a printed negation or reversed comparison adds one of its own.
            deepest = 2 + max((depth[a] for a in subterm.arguments), default=0)
            nodes = 2 + len(subterm.data) + sum(size[a] for a in subterm.arguments)
            if subterm in shared or ((deepest > _DEEPEST or nodes > _LARGEST) and subterm.arguments):
                if subterm not in shared:
                    named.append(subterm)
                deepest, nodes = 1, 1
            depth[subterm], size[subterm] = deepest, nodes
    return named


class _Printer:
    """Prints terms in order; keeps the names given and the binding lines not yet taken."""

    def __init__(self, terms: Sequence[Term]) -> None:
        shared = set(shared_terms(terms))
        self._named = shared | set(deep_terms(terms, shared))
        nouns = Counter(_NOUNS[term.operator] for term in self._named)
        self._numbered = {noun for noun, n in nouns.items() if n > 1}
        self._given: Counter[str] = Counter()
        self._names: dict[Term, str] = {}
        self._lines: list[str] = []

    def bind_parts(self, term: Term) -> None:
        """Print the bindings a term needs, inner ones first, so that nothing nests deeper than one binding."""
        for subterm in term.subterms():
            if subterm in self._named:
                self.text(subterm, _IF)

    def new_lines(self) -> list[str]:
        """Return the binding lines made since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def text(self, term: Term, level: int) -> str:
        """Return a term's text for a place that binds at least as tightly as ``level``."""
        if term in self._named:
            if term not in self._names:
                body = self._body(term, _IF)
                noun = _NOUNS[term.operator]
                self._given[noun] += 1
                self._names[term] = f"{noun}_{self._given[noun]}" if noun in self._numbered else noun
                self._lines.append(f"{self._names[term]} = {body}")
            return self._names[term]
        return self._body(term, level)

    def _body(self, term: Term, level: int) -> str:
        text, own = self._open(term)
        return f"({text})" if own < level else text

    def _open(self, term: Term) -> tuple[str, int]:
        name, arguments = term.operator, term.arguments
        if name in _CONSTANTS:
            datum = term.data[0]
            return (repr(bool(datum)) if name == "boolean" else repr(datum)), _ATOM
        if name in WORDS:
            return name, _ATOM
        if name == "if":
            condition, then, otherwise = arguments
            text = f"{self.text(then, _OR)} if {self.text(condition, _OR)} else {self.text(otherwise, _IF)}"
            return text, _IF
        if name == "not":
            return self._negation(arguments[0])
        if name in _LEVELS:
            own = _LEVELS[name]
            # Comparisons chain in Python, so neither side may be one; the others associate to the left.
            left = own + 1 if own == _COMPARE else own
            return f"{self.text(arguments[0], left)} {name} {self.text(arguments[1], own + 1)}", own
        return f"{name}({', '.join(self._call_parts(term))})", _ATOM

    def _negation(self, inner: Term) -> tuple[str, int]:
        if inner.operator == "==" and inner not in self._named:
            left, right = inner.arguments
            return f"{self.text(left, _SUM)} != {self.text(right, _SUM)}", _COMPARE
        return f"not {self.text(inner, _NOT)}", _NOT

    def _call_parts(self, term: Term) -> list[str]:
        name, data = term.operator, term.data
        parts = [self.text(argument, _IF) for argument in term.arguments]
        if name in ("table", "table2"):
            entries = data[0] if isinstance(data[0], tuple) else ()
            listed = [f"{print_datum(e[0])}: {print_datum(e[1])}" for e in entries if isinstance(e, tuple)]
            return [*parts, f"{{{', '.join(listed)}}}", print_datum(data[1])]
        if name == "scan":
            names = ("start", "letters", "transitions")
            return [*parts, *(f"{n}={print_datum(d)}" for n, d in zip(names, data, strict=True))]
        if name == "shift":
            return [parts[0], print_datum(data[0]), *parts[1:]]
        if name == "horner" and data[1] == 0:
            return [*parts, print_datum(data[0])]
        return [*parts, *(print_datum(datum) for datum in data)]
