"""A program in words: one sentence per output, every operator said the way its row defines it.

The words follow the terms and nothing else: no task is recognised and nothing is guessed about intentions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from extract.lang.number_answers import number_answer
from extract.lang.terms import Program, Term
from extract.report.screen import grouped

#: A mean that is an answer by itself: told, never evaluated.
_FRACTION = "mean as a number"
_RELATIONS = {
    "==": "equals", "!=": "differs from", "<": "is less than", "<=": "is at most", ">": "is greater than",
    ">=": "is at least",
}  # fmt: skip
_PHRASES = {
    "tokens": "the token", "indices": "the index", "length": "the length", "step": "the output index",
    "prompt_length": "the length of the prompt",
    "+": "{0} plus {1}", "-": "{0} minus {1}", "*": "{0} times {1}", "//": "{0} divided by {1}, rounded down",
    "%": "the remainder of {0} by {1}", "min": "the smaller of {0} and {1}", "max": "the larger of {0} and {1}",
    "abs": "the absolute value of {0}", "int": "1 if {0}, else 0", "if": "{1} if {0}, otherwise {2}",
    "==": "{0} equals {1}", "<": "{0} is less than {1}", "<=": "{0} is at most {1}",
    "and": "{0} and {1}", "or": "{0} or {1}", "not": "not: {0}",
    "before": "the positions before it", "upto": "the positions up to it", "after": "the positions after it",
    "everywhere": "all positions", "keys_where": "the positions where {0}",
    "exists": "there are any of {0}", "selector_width": "the number of {0}",
    "sum_over": "the sum, over {0}, of {1}", "mean": "the mean (in units of 1/720720), over {0}, of {1}",
    _FRACTION: "the mean, over {0}, of {1}",
    "min_over": "the least, over {0}, of {1}", "max_over": "the greatest, over {0}, of {1}",
    "first": "{1} at the first of {0}", "last": "{1} at the last of {0}",
    "count": "the number of positions where {0}", "all": "everywhere {0}", "any": "somewhere {0}",
    "running_count": "the number of positions so far where {0}",
    "rank": "the rank of {0} among all positions",
    "distinct": "no two positions share {0}", "increasing": "{0} grows strictly",
    "distinct_pairs": "no ordered pair of neighbours of {0} repeats",
    "unique_mode": "one value of {0} is more frequent than every other",
}  # fmt: skip
_LEAVES = frozenset({"integer", "symbol", "boolean"})
_LONGEST_INLINE = 90


@dataclass(frozen=True, slots=True)
class Branch:
    """One way an answer comes about: the conditions on the way, the value given, and how often and where first.

    ``n_cells`` of ``n_total`` answers (inputs, or positions of inputs) take it; None where the domain was not listed.
    """

    output: str
    conditions: tuple[str, ...]
    value: str
    n_cells: int | None
    n_total: int | None
    unit: str
    example: str | None


@dataclass(frozen=True, slots=True)
class Example:
    """An input by token names and the program's answer to it: the first input with this answer."""

    tokens: str
    answer: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Words, branches and examples; ``looked_at`` says on which inputs the counts were made, or why on none."""

    words: tuple[str, ...]
    branches: tuple[Branch, ...]
    examples: tuple[Example, ...]
    looked_at: str


def explanation_lines(told: Explanation) -> list[Text]:
    """Return the screen of an explanation."""
    lines = [Text(), Text(" In words", "bold"), *(Text(f"   {line}") for line in told.words)]
    if told.branches:
        lines += [Text(), Text(" Branches", "bold"), *_branch_lines(told.branches)]
    if told.examples:
        lines += [Text(), Text(" Smallest examples", "bold")]
        lines += [Text(f"   {example.tokens}  gives  {example.answer}") for example in told.examples]
    return [*lines, Text(), Text(f"   {told.looked_at}", "dim")]


def term_words(term: Term, names: dict[Term, str] | None = None) -> str:
    """Return a term in words; terms in ``names`` are called by their name."""
    if names and term in names:
        return names[term]
    parts = [term_words(argument, names) for argument in term.arguments]
    quoted = [f"({p})" if _needs_quotes(a, names) else p for a, p in zip(term.arguments, parts, strict=True)]
    special = _SPECIAL.get(term.operator)
    if special is not None:
        return special(term, quoted)
    text = _PHRASES[term.operator].format(*quoted)
    if (
        len(quoted) > text.count("{")
        and term.operator in ("first", "last", "min_over", "max_over")
        and len(quoted) == 3
    ):
        text += f" ({quoted[2]} if there is none)"
    return text


def _needs_quotes(term: Term, names: dict[Term, str] | None) -> bool:
    if names and term in names:
        return False
    return len(term.arguments) > 1 or term.operator in ("select", "not", "int", "count", "table", "scan", "horner")


def _constant(term: Term, _: list[str]) -> str:
    value = term.data[0]
    if term.operator == "boolean":
        return "always" if value else "never"
    if term.operator == "symbol":
        return f"'{value}'" if value != "" else "no symbol"
    return str(value)


def _select(term: Term, parts: list[str]) -> str:
    relation = _RELATIONS[str(term.data[0])]
    keys = term_words(term.arguments[0])
    return f"the positions whose {keys.removeprefix('the ')} {relation} {parts[1]}"


def _table(term: Term, parts: list[str]) -> str:
    entries, default = term.data
    listed = [f"{key} gives {value}" for key, value in _pairs(entries)]
    shown = "; ".join(listed[:12]) + (f"; and {len(listed) - 12} more" if len(listed) > 12 else "")
    return f"a table entry for {' and '.join(parts)} ({shown}; anything else gives {default})"


def _pairs(entries: object) -> list[tuple[object, object]]:
    rows = entries if isinstance(entries, tuple) else ()
    return [(row[0], row[-1]) if len(row) == 2 else (row[:-1], row[-1]) for row in rows if isinstance(row, tuple)]


def _scan(term: Term, parts: list[str]) -> str:
    start, _, transitions = term.data
    n_states = len(transitions) if isinstance(transitions, tuple) else 0
    return f"the state of an automaton with {n_states} states that starts in {start} and reads {parts[0]}"


def _horner(term: Term, parts: list[str]) -> str:
    a, m = term.data
    modulo = f", modulo {m}" if m else ""
    return f"{parts[0]} read from the left as digits in base {a}{modulo}"


def _shift(term: Term, parts: list[str]) -> str:
    k = term.data[0]
    side = f"{k} to the left" if isinstance(k, int) and k > 0 else f"{-k if isinstance(k, int) else k} to the right"
    default = f" ({parts[1]} outside)" if len(parts) > 1 else ""
    return f"{parts[0]} of the position {side}{default}"


_SPECIAL: dict[str, Callable[[Term, list[str]], str]] = {
    "integer": _constant, "symbol": _constant, "boolean": _constant, "select": _select, "table": _table,
    "table2": _table, "scan": _scan, "horner": _horner, "shift": _shift,
}  # fmt: skip

_ANSWERS = {
    "value": "The answer is",
    "every": "The answer at each position is",
    "step": "The next token is",
    "output": "The answer at each output index is",
    "output_length": "The number of tokens in the answer is",
}


def program_words(program: Program, *, are_numbers: bool = False) -> list[str]:
    """Return the program in words: shared parts first, then one sentence per output.

    ``are_numbers``: the answer is a real number, of which a mean is the number itself, not one of units.
    """
    if are_numbers:
        program = Program(program.adapter, tuple((name, _as_number(term)) for name, term in program.outputs))
    names: dict[Term, str] = {}
    lines = []
    for term in _shared(program):
        words = term_words(term, names)
        names[term] = f"[{chr(ord('A') + len(names) % 26)}{len(names) // 26 or ''}]"
        lines.append(f"Let {names[term]} be {words}.")
    for name, term in program.outputs:
        words = term_words(term, names)
        if program.adapter == "multilabel" and term.operator == "boolean":
            lines.append(f"'{name}' is {words} in the answer.")
        elif program.adapter == "multilabel":
            lines.append(f"'{name}' is in the answer exactly when {words}.")
        else:
            lines.append(f"{_ANSWERS[name if program.adapter == 'generate' else program.adapter]} {words}.")
    return lines


def _as_number(term: Term) -> Term:
    """Return an output to be told as a real number: its means, also those of branches, are fractions."""
    return number_answer(
        term,
        lambda mean: Term(_FRACTION, mean.arguments),
        lambda whole: whole,
        lambda condition, then, otherwise: Term("if", (condition, then, otherwise)),
    )


def _shared(program: Program) -> list[Term]:
    """Terms used more than once, or too long to read inside another; arguments before the terms that use them."""
    uses: dict[Term, int] = {}
    order: list[Term] = []
    for output in program.terms():
        for term in output.subterms():
            if term not in uses:
                uses[term] = 0
                order.append(term)
                for argument in term.arguments:
                    uses[argument] += 1
    tops = set(program.terms())
    return [t for t in order if t.arguments and t not in tops and uses[t] > 1 and len(term_words(t)) > 12]


def _branch_lines(branches: tuple[Branch, ...]) -> list[Text]:
    lines: list[Text] = []
    for branch in branches:
        when = " and ".join(branch.conditions) or "always"
        label = f"{branch.output}: " if branch.output not in ("output", "") else ""
        lines.append(Text.assemble("   ", (f"{label}{branch.value}", "bold"), f"  when {when}"))
        if branch.n_cells is not None and branch.n_total is not None:
            support = f"{grouped(branch.n_cells)} of {grouped(branch.n_total)} {branch.unit}"
            example = f"; first on {branch.example}" if branch.example is not None else "; never taken on the domain"
            lines.append(Text(f"      {support}{example}", "dim"))
    return lines
