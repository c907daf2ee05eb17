"""A program as a RASP-style listing: one named value per line, for readers of RASP; nothing parses it back.

Selectors, aggregates and elementwise maps each get a line of their own; predicates are shown on (key, query).
"""

from __future__ import annotations

from extract.lang.operators import AGGREGATE_NAMES, WORDS
from extract.lang.printing import print_datum
from extract.lang.terms import Program, Term

_INFIX = frozenset({"+", "-", "*", "//", "%", "==", "<", "<=", "and", "or"})
_CONSTANTS = frozenset({"integer", "symbol", "boolean"})


def rasp_listing(program: Program) -> str:
    """Return the listing of a program, outputs last, ending in a newline.

    Lines: ``s1 = select(keys, queries, (k, q) -> k == q)`` for selectors, ``v1 = aggregate(s1, tokens, first)`` for
    aggregates, ``v2 = map(v1 + 1)`` for everything computed cell by cell.
    """
    lister = _Lister()
    for name, term in program.outputs:
        target = f"output[{name!r}]" if program.adapter == "multilabel" else name
        lister.lines.append((target, lister.reference(term)))
    width = max(len(name) for name, _ in lister.lines) if lister.lines else 0
    return "".join(f"{name:<{width}} = {text}\n" for name, text in lister.lines)


class _Lister:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._names: dict[Term, str] = {}
        self._n_selectors = 0
        self._n_values = 0

    def reference(self, term: Term) -> str:
        """Return what a line calls a term: a word, a constant, or a name with its own line above."""
        if term.operator in WORDS:
            return term.operator
        if term.operator in _CONSTANTS:
            return repr(bool(term.data[0])) if term.operator == "boolean" else repr(term.data[0])
        for subterm in term.subterms():
            if subterm not in self._names and subterm.arguments:
                self._name(subterm)
        return self._names[term]

    def _name(self, term: Term) -> None:
        parts = [self.reference(argument) for argument in term.arguments]
        text, is_selector = self._line(term, parts)
        if is_selector:
            self._n_selectors += 1
            name = f"s{self._n_selectors}"
        else:
            self._n_values += 1
            name = f"v{self._n_values}"
        self._names[term] = name
        self.lines.append((name, text))

    def _line(self, term: Term, parts: list[str]) -> tuple[str, bool]:
        name = term.operator
        if name == "select":
            return f"select({parts[0]}, {parts[1]}, (k, q) -> k {term.data[0]} q)", True
        if name == "keys_where":
            return f"select({parts[0]}, True, (k, q) -> k == q)", True
        if name in ("and", "or", "not") and self._is_selector(term):
            return (f"not {parts[0]}" if name == "not" else f"{parts[0]} {name} {parts[1]}"), True
        if name == "selector_width":
            return f"selector_width({parts[0]})", False
        if name in AGGREGATE_NAMES:
            default = f", default={parts[2]}" if len(parts) > 2 else ""
            values = f"{parts[1]}, " if len(parts) > 1 else ""
            return f"aggregate({parts[0]}, {values}{name}{default})", False
        if name in _INFIX:
            return f"map({parts[0]} {name} {parts[1]})", False
        if name == "if":
            return f"map({parts[1]} if {parts[0]} else {parts[2]})", False
        if name in ("not", "abs", "int", "min", "max"):
            return f"map({name}({', '.join(parts)}))", False
        data = [print_datum(datum) for datum in term.data]
        return f"{name}({', '.join([*parts, *data])})", False

    def _is_selector(self, term: Term) -> bool:
        first = term.arguments[0]
        if first.operator in ("and", "or", "not"):
            return self._is_selector(first)
        return first.operator in ("select", "keys_where", "before", "upto", "after", "everywhere")
