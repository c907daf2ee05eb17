"""Hostile programs are refused before anything of them is evaluated: 60 by name, 10,000 generated, by both readers.

The generator plants one construct outside the language into a program that is otherwise good. A program counts as
refused when reading it raises; nothing here evaluates one. Payloads would make a folder, and none may appear.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extract.check import program as checker
from extract.check.reader import Unreadable
from extract.errors import ProgramError
from extract.lang.promise import compile_promise
from extract.lang.sorts import check_program
from extract.lang.syntax import parse_program
from extract.readout import ReadOut
from extract.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("a", "b"), numeric=False)
PAYLOAD = "__import__('os').mkdir('canary')"
NAMED: tuple[str, ...] = (
    PAYLOAD, f"({PAYLOAD})", f"1 if {PAYLOAD} else 2", f"count({PAYLOAD})", f"tokens == {PAYLOAD}",
    f"eval({PAYLOAD!r})", f"exec({PAYLOAD!r})", f"compile({PAYLOAD!r}, '', 'eval')", f"[{PAYLOAD}]", f"({PAYLOAD},)",
    f"{{{PAYLOAD}}}", f"{{1: {PAYLOAD}}}", f"{{{PAYLOAD}: 1}}", f"[{PAYLOAD} for x in tokens]",
    f"({PAYLOAD} for x in tokens)", f"{{x: {PAYLOAD} for x in tokens}}", f"(lambda: {PAYLOAD})()",
    f"lambda: {PAYLOAD}", f"f'{{{PAYLOAD}}}'", f"(x := {PAYLOAD})", f"not {PAYLOAD}", f"-{PAYLOAD}",
    f"table(tokens, {{'a': {PAYLOAD}}}, 0)", f"table(tokens, {{{PAYLOAD}: 1}}, 0)", f"table({PAYLOAD}, {{'a': 1}}, 0)",
    f"table(tokens, {{'a': 1}}, {PAYLOAD})", f"table(tokens, {{**{PAYLOAD}}}, 0)",
    f"scan(tokens, {PAYLOAD}, ('a',), ((0,),))", f"scan(tokens, 0, ({PAYLOAD},), ((0,),))",
    f"scan(tokens, 0, ('a',), (({PAYLOAD},),))", f"select(tokens, tokens, {PAYLOAD})", f"horner(tokens, {PAYLOAD})",
    f"shift(tokens, {PAYLOAD})", f"count(tokens == 'a', {PAYLOAD})", f"count(b={PAYLOAD})", f"count(*{PAYLOAD})",
    f"count(**{PAYLOAD})", f"tokens[{PAYLOAD}]", f"tokens.x({PAYLOAD})", f"'a'.join({PAYLOAD})",
    "().__class__.__bases__[0].__subclasses__()", "tokens.__class__.__mro__", "count.__globals__", "''.format(tokens)",
    "open('canary', 'w')", "print(1)", "getattr(tokens, 'x')", "globals()", "vars()", "input()", "breakpoint()",
    "help()", "type(1)", "object()", "exit()", "9 ** 9 ** 9", "1 << 99999", "'a' * 99999999", "0xFFFFFFFFFFFF",
    "1e999", "1" * 4400, "(" * 250 + "1" + ")" * 250, "[" * 150 + "]" * 150, "-" * 5000 + "1", "not " * 5000 + "1",
    "a" * 100_000, "\x00", "\ud800", "1 \\\n" * 6000 + "+ 1", "await x", "yield", "*tokens", "...", "b'a'",
)  # fmt: skip
STATEMENTS: tuple[str, ...] = (
    f"import os\n{PAYLOAD}\noutput = 1", "from os import mkdir\nmkdir('canary')\noutput = 1", f"{PAYLOAD}\noutput = 1",
    f"output = 1\n{PAYLOAD}", f"output: {PAYLOAD} = 1", f"output += {PAYLOAD}", f"def output(x={PAYLOAD}): pass",
    f"@{PAYLOAD}\ndef f(): pass\noutput = 1", f"class output(metaclass={PAYLOAD}): pass", f"del {PAYLOAD}\noutput = 1",
    f"for x in {PAYLOAD}: pass\noutput = 1", f"while {PAYLOAD}: pass\noutput = 1", f"if {PAYLOAD}: output = 1",
    f"with {PAYLOAD} as output: pass", f"try:\n    {PAYLOAD}\nfinally:\n    output = 1", f"assert {PAYLOAD}",
    f"raise {PAYLOAD}\noutput = 1", f"match {PAYLOAD}:\n    case 1: output = 1", f"output[{PAYLOAD}] = True",
    f"output.x = {PAYLOAD}", f"a, b = {PAYLOAD}\noutput = 1", f"a = output = {PAYLOAD}", "global output\noutput = 1",
    f"output = 1; {PAYLOAD}", f"x = {PAYLOAD}\noutput = 1", f"*output, = {PAYLOAD}", f"type x = {PAYLOAD}\noutput = 1",
)  # fmt: skip
N_GENERATED = 10_000
GOOD = (
    "count(tokens == 'a')", "indices", "length", "3", "count(tokens == 'b') - 1", "count(indices < length)",
    "count(tokens == 'a') % 2", "running_count(tokens == 'a')",
)  # fmt: skip
AROUND = ("{0} + {1}", "{1} - {0}", "{0} * 2", "min({0}, {1})", "{0} if {1} == {1} else {1}", "count({0} < {1})",
          "({0})", "-({0})", "{1} // 2 + {0}", "max({1}, {0})")  # fmt: skip
BAD: tuple[Callable[[random.Random], str], ...] = (
    lambda r: f"{r.choice(['eval', 'exec', 'open', 'getattr', '__import__', 'print', 'dir', 'id'])}({r.choice(GOOD)})",
    lambda r: f"({r.choice(GOOD)}).{r.choice(['__class__', 'shape', 'mkdir', '__dict__', 'real'])}",
    lambda r: f"({r.choice(GOOD)})[{r.choice(GOOD)}]",
    lambda r: f"[{r.choice(GOOD)} for x in {r.choice(GOOD)}]",
    lambda r: f"(lambda x: {r.choice(GOOD)})({r.choice(GOOD)})",
    lambda r: f"(x := {r.choice(GOOD)})",
    lambda r: f"f'{{{r.choice(['tokens', PAYLOAD])}}}'",
    lambda r: f"({r.choice(GOOD)}) {r.choice(['**', '/', '<<', '>>', '|', '&', '^', '@'])} ({r.choice(GOOD)})",
    lambda r: f"~({r.choice(GOOD)})",
    lambda r: f"({r.choice(GOOD)}, {PAYLOAD})",
    lambda r: f"{{{r.choice(GOOD)}: {PAYLOAD}}}",
    lambda r: f"({r.choice(GOOD)}) {r.choice(['is', 'is not', 'in', 'not in'])} ({r.choice(GOOD)})",
    lambda r: f"count(*{r.choice(GOOD)})",
    lambda r: f"count(b={PAYLOAD})",
    lambda r: f"table(tokens, {{'a': {PAYLOAD}}}, 0)",
    lambda r: f"scan(tokens, 0, ('a',), (({PAYLOAD},),))",
    lambda r: f"{r.random()}",
    lambda r: f"{r.randrange(1, 99)}j",
    lambda r: str(r.randrange(1 << 40, 1 << 90)),
    lambda r: r.choice(["b'a'", "...", "None", "u'a'", "'a' 'b'"]),
    lambda r: "".join(r.choice("abcdefgh_") for _ in range(9)),
    lambda r: f"{''.join(r.choice('abcdefgh') for _ in range(6))}({r.choice(GOOD)})",
    lambda r: PAYLOAD,
)  # fmt: skip


def generated(number: int) -> str:
    """A good program with one bad part, up to four levels inside."""
    r = random.Random(number)
    text = r.choice(BAD)(r)
    for _ in range(r.randrange(5)):
        text = r.choice(AROUND).format(text, r.choice(GOOD))
    return text


def is_refused(text: str) -> bool:
    """Say whether the program ``output = text`` is refused by the reader, as a value and as one answer per input."""
    try:
        program = parse_program(f"output = {text}", "value")
        check_program(program, VOCABULARY, ReadOut("last", "value", ()))
    except ProgramError as error:
        assert "\n" not in error.line()
        return True
    return False


def is_refused_as_promise(text: str) -> bool:
    try:
        compile_promise(text, VOCABULARY)
    except ProgramError:
        return True
    return False


def is_refused_by_checker(program: str) -> bool:
    """Say whether the checker, which interprets the tree as it stands, stops before it has a value."""
    try:
        lets = checker.parse(program)
        checker.Meaning(lets, {"a": 0, "b": 1}.__getitem__, False, np.array([[0, 1, 0]]))(lets["output"])
    except (Unreadable, KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
        return True
    return False


def test_there_are_enough() -> None:
    assert len(NAMED) + len(STATEMENTS) >= 60


@pytest.fixture(autouse=True)
def no_payload_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", range(len(NAMED)))
def test_a_named_expression(number: int) -> None:
    assert is_refused(NAMED[number]) and is_refused_as_promise(NAMED[number])


@pytest.mark.parametrize("number", range(len(STATEMENTS)))
def test_named_statements(number: int) -> None:
    for adapter in ("value", "every", "multilabel", "generate", "step"):
        with pytest.raises(ProgramError):
            parse_program(STATEMENTS[number], adapter)  # type: ignore[arg-type]
    # the checker evaluates what the output needs, and a let that it does not need may be anything
    assert is_refused_by_checker(STATEMENTS[number]) or STATEMENTS[number].endswith("\noutput = 1")


def test_generated_programs() -> None:
    distinct = {generated(number) for number in range(2 * N_GENERATED)}
    texts = sorted(distinct)[:N_GENERATED]
    accepted = [text for text in texts if not is_refused(text)]
    assert len(texts) == N_GENERATED and accepted == []
    assert [text for text in texts[:2000] if not is_refused_as_promise(text)] == []
    for text in texts[::5]:
        # other spellings of a plain literal mean what they say to the checker
        if "u'a'" not in text and "'a' 'b'" not in text:
            assert is_refused_by_checker(f"output = {text}"), text


def test_the_good_parts_are_good() -> None:
    """The generated programs are refused for their bad part: without it they are read."""
    for number in range(200):
        r = random.Random(number)
        text = r.choice(["count(tokens == 'a')", "length", "3"])
        for _ in range(r.randrange(4)):
            text = r.choice(AROUND[:4]).format(text, r.choice(["length", "count(tokens == 'b')", "2"]))
        assert not is_refused(text), text
