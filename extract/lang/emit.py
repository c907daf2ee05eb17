"""A program as one standalone Python file: no imports, readable loops, a self-test on examples.

The file computes with token names (and plain integers in numeric tasks), so it can be read and used without this
package. Nothing here runs it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial

from extract.lang.expressions import Expressions, constant_text
from extract.lang.interpret import MOST_STEPS, answer
from extract.lang.number_answers import counts_units
from extract.lang.operators import NO_SYMBOL
from extract.lang.sorts import check_program
from extract.lang.terms import Program
from extract.readout import ReadOut
from extract.vocabulary import Vocabulary

_HELPERS: dict[str, str] = {
    "scan": '''
        def scan(values, state, letters, transitions):
            """The automaton's state after each value; a value that is no letter changes nothing."""
            states = []
            for value in values:
                if value in letters:
                    state = transitions[state][letters.index(value)]
                states.append(state)
            return states
        ''',
    "horner": '''
        def horner(values, a, m):
            """r = a*r + value from the left, modulo m unless m is 0."""
            r, remainders = 0, []
            for value in values:
                r = a * r + value
                r = r % m if m else r
                remainders.append(r)
            return remainders
        ''',
    "rank": '''
        def rank(values):
            """Each value's place in sorted order, equal values from left to right."""
            return [sum((a, j) < (b, i) for j, a in enumerate(values)) for i, b in enumerate(values)]
        ''',
    "mean": '''
        def mean(values):
            """The mean in units of 1/720720, rounded down; 0 of nothing."""
            return 720720 * sum(values) // len(values) if values else 0
        ''',
    "fraction": '''
        def fraction(units):
            """A number of units of 1/720720 as text, in lowest terms."""
            a, b = abs(units), 720720
            while a:
                a, b = b % a, a
            return str(units // b) if b == 720720 else f"{units // b}/{720720 // b}"
        ''',
    "distinct": '''
        def distinct(values):
            """Whether no value occurs twice."""
            return len(set(values)) == len(values)
        ''',
    "unique_mode": '''
        def unique_mode(values):
            """Whether one value occurs more often than every other."""
            counts = sorted(values.count(value) for value in set(values))
            return bool(counts) and (len(counts) == 1 or counts[-2] < counts[-1])
        ''',
    "increasing": '''
        def increasing(values):
            """Whether the values grow strictly."""
            return all(a < b for a, b in zip(values, values[1:]))
        ''',
    "number": '''
        def number(value):
            """A value as arithmetic reads it: tokens that are no numbers count as 0."""
            return 0 if value >= 1073741823 else value
        ''',
}


def to_python(
    program: Program,
    vocabulary: Vocabulary,
    readout: ReadOut,
    examples: Sequence[tuple[str, ...]] = (),
    facts: Sequence[str] = (),
) -> str:
    """Return a program as the text of a Python file with a function ``predict(tokens)``.

    ``examples`` are inputs as token names; their answers, by the interpreter, become the file's self-test. ``facts``
    are lines for its head, such as the domain and the claim. ``predict`` returns a name (``value``), a list of names
    (``every``, ``generate``, ``step``) or a set of labels (``multilabel``); a real answer is its exact text, ``1/3``.
    Raises:  ProgramError if the program does not fit the read-out.
    """
    sorts = check_program(program, vocabulary, readout)
    writer = Expressions(program, vocabulary, sorts)
    body = _BODIES[program.adapter](program, writer, vocabulary, readout)
    head = [f"# {_one_line(fact)}".rstrip() for fact in facts]
    parts = ["\n".join(head)] if head else []
    parts.append(_names(vocabulary))
    parts += [f"{name} = {text}" for name, text in writer.tables.items()]
    needed = sorted(writer.helpers, key=list(_HELPERS).index)
    parts += [textwrap.dedent(_HELPERS[name]).strip() for name in needed]
    parts += [body, _self_test(program, vocabulary, readout, examples)]
    return "\n\n\n".join(part for part in parts if part) + "\n"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def output_text(code: int, vocabulary: Vocabulary, readout: ReadOut) -> str:
    """Return the name of an answer's cell; no symbol is the empty text."""
    return "" if code == NO_SYMBOL else readout.text(code, vocabulary)


def _names(vocabulary: Vocabulary) -> str:
    """Return the functions that turn names into what the program computes with, and back."""
    if not vocabulary.numeric or not vocabulary.symbols:
        return ""
    listed = ", ".join(f"{name!r}: {vocabulary.symbol_code(name)}" for name in vocabulary.symbols)
    lines = [
        f"SYMBOLS = {{'': {NO_SYMBOL}, {listed}}}",
        "NAMES = {code: name for name, code in SYMBOLS.items()}",
    ]
    return "\n".join(lines)


def _read_tokens(vocabulary: Vocabulary) -> str:
    if not vocabulary.numeric:
        return "x = list(tokens)"
    if vocabulary.symbols:
        return "x = [SYMBOLS[token] if token in SYMBOLS else int(token) for token in tokens]"
    return "x = [int(token) for token in tokens]"


def _written(value: str, vocabulary: Vocabulary) -> str:
    if vocabulary.numeric and vocabulary.symbols:
        return f"NAMES.get({value}, str({value}))"
    return f"str({value})"


def _has_units(program: Program, readout: ReadOut) -> bool:
    """Say whether some answer is a fraction; whole numbers are written as they are."""
    return readout.kind == "value" and any(counts_units(term) is not False for term in program.terms())


def _define(name: str, arguments: str, sentence: str, lines: Sequence[str]) -> str:
    return "\n".join([f"def {name}({arguments}):", f'    """{sentence}"""', *(f"    {line}" for line in lines)])


def _value(program: Program, writer: Expressions, vocabulary: Vocabulary, readout: ReadOut) -> str:
    lines = [_read_tokens(vocabulary), "n = len(x)"]
    if _has_units(program, readout):
        output = writer.number_text(program.term(), None, partial(_written, vocabulary=vocabulary))
        lines += [*writer.take_lines(), f"return {output}"]
    else:
        output = writer.whole(program.term())
        lines += [*writer.take_lines(), f"answer = {output}", f"return {_written('answer', vocabulary)}"]
    return _define("predict", "tokens", "The answer to one input, a list of token names.", lines)


def _every(program: Program, writer: Expressions, vocabulary: Vocabulary, readout: ReadOut) -> str:
    lines = [_read_tokens(vocabulary), "n = len(x)"]
    if _has_units(program, readout):
        output = writer.number_text(program.term(), "i", partial(_written, vocabulary=vocabulary))
        lines += [*writer.take_lines(), f"return [{output} for i in range(n)]"]
    else:
        output = writer.cells(program.term(), "i", "n")
        lines += [*writer.take_lines(), f"answer = {output}"]
        lines.append(f"return [{_written('value', vocabulary)} for value in answer]")
    return _define("predict", "tokens", "The answer at each token of one input, a list of token names.", lines)


def _multilabel(program: Program, writer: Expressions, vocabulary: Vocabulary, readout: ReadOut) -> str:
    lines = [_read_tokens(vocabulary), "n = len(x)", "answer = set()"]
    for label, term in program.outputs:
        condition = writer.whole(term)
        lines += [*writer.take_lines(), f"if {condition}:", f"    answer.add({label!r})"]
    lines.append("return answer")
    return _define("predict", "tokens", "The set of labels of one input, a list of token names.", lines)


def _generate(program: Program, writer: Expressions, vocabulary: Vocabulary, readout: ReadOut) -> str:
    lines = [_read_tokens(vocabulary), "n = len(x)"]
    length = writer.number(program.term("output_length"))
    limit = readout.max_new or MOST_STEPS
    lines += [*writer.take_lines(), f"n_steps = max(0, min({length}, {limit}))"]
    output = writer.cells(program.term(), "step", "n_steps")
    lines += [*writer.take_lines(), f"answer = {output}"]
    lines.append(f"return [{_written('value', vocabulary)} for value in answer]")
    return _define("predict", "tokens", "The tokens written after one input, a list of token names.", lines)


def _step(program: Program, writer: Expressions, vocabulary: Vocabulary, readout: ReadOut) -> str:
    output = writer.whole(program.term())
    inner = ["n = len(x)", *writer.take_lines(), f"return {output}"]
    stop = None if readout.stop is None else constant_text(vocabulary.names[readout.stop], vocabulary)
    following = _define("next_token", "x, prompt_length", "The next token after those read and written so far.", inner)
    lines = [
        _read_tokens(vocabulary),
        "prompt_length = len(x)",
        f"while len(x) < prompt_length + {readout.max_new or MOST_STEPS}:",
        "    token = next_token(x, prompt_length)",
        *([] if stop is None else [f"    if token == {stop}:", "        break"]),
        "    x.append(token)",
        f"return [{_written('value', vocabulary)} for value in x[prompt_length:]]",
    ]
    outer = _define("predict", "tokens", "The tokens written after one input, a list of token names.", lines)
    return f"{following}\n\n\n{outer}"


_BODIES = {"value": _value, "every": _every, "multilabel": _multilabel, "generate": _generate, "step": _step}


def expected_answer(
    program: Program, tokens: tuple[str, ...], vocabulary: Vocabulary, readout: ReadOut
) -> str | list[str] | set[str]:
    """Return what the emitted ``predict`` returns for an input of token names, by the interpreter.

    Raises:  KeyError if a name is no token.
    """
    codes = tuple(int(vocabulary.token_codes[vocabulary.token_id(name)]) for name in tokens)
    cells = answer(program, codes, vocabulary, readout)
    if program.adapter == "multilabel":
        return {label for label, cell in zip(readout.labels(vocabulary), cells, strict=True) if cell}
    names = [output_text(cell, vocabulary, readout) for cell in cells]
    return names[0] if program.adapter == "value" else names


def _self_test(program: Program, vocabulary: Vocabulary, readout: ReadOut, examples: Sequence[tuple[str, ...]]) -> str:
    if not examples:
        return ""
    lines = ["EXAMPLES = ["]
    for tokens in examples:
        expected = expected_answer(program, tokens, vocabulary, readout)
        text = repr(expected)
        if isinstance(expected, set):
            text = "{" + ", ".join(repr(name) for name in sorted(expected)) + "}" if expected else "set()"
        lines.append(f"    ({list(tokens)!r}, {text}),")
    lines += [
        "]",
        "",
        'if __name__ == "__main__":',
        "    for given, expected in EXAMPLES:",
        "        found = predict(given)",
        "        if found != expected:",
        '            raise SystemExit(f"predict({given}) is {found}, expected {expected}")',
        '    print(f"{len(EXAMPLES)} examples agree")',
    ]
    return "\n".join(lines)
