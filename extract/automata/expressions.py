"""Regular expressions over the tokens of a task, turned into automata.

Own construction, no backtracking: parse, Thompson's automaton, subsets, minimise. An expression is written over
tokens. A one-character token stands for itself; a longer one is written by its name if that has the form ``<name>``,
else between quotes: ``'name'``. Operators are ``|`` ``*`` ``+`` ``?`` ``{m}`` ``{m,}`` ``{m,n}`` ``(...)`` ``[...]``
(one of these tokens, ``[^...]`` any other, ``a-c`` a range of characters) and ``.`` (any token of the alphabet); an
alternative may be empty. ``[+]`` or a backslash takes a character for itself. Spaces between tokens mean nothing.
"""

from __future__ import annotations

from collections import deque

from extract.automata.dfa import Dfa
from extract.errors import ProgramError

#: States of the subset construction; a promise needing more is better said with ``where``.
MAX_STATES = 4_000
#: States of Thompson's automaton, after ``{m,n}`` is written out.
MAX_POSITIONS = 50_000
#: Edges followed by the subset construction; about two seconds.
_MAX_WORK = 4_000_000
_MAX_DEPTH = 100
_OPERATORS = "|*+?(){}[].\\'"


def regular_expression(text: str, alphabet: tuple[str, ...]) -> Dfa:
    """Return the minimal automaton of a regular expression over tokens (syntax: see the module).

    Raises:  ProgramError naming the place in the text, what was found and what was expected.
    """
    nfa = _Nfa()
    start, end = _Parser(text, alphabet, nfa).whole()
    return nfa.determined(start, end, len(alphabet), text).minimal()


class _Nfa:
    """Thompson's automaton under construction: states are numbers, ``silent`` edges read nothing."""

    def __init__(self) -> None:
        self.silent: list[list[int]] = []
        self.reads: list[tuple[frozenset[int], int] | None] = []
        self.closures: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.work = 0

    def state(self) -> int:
        if len(self.silent) >= MAX_POSITIONS:
            raise ProgramError(
                f"the regular expression needs more than {MAX_POSITIONS} positions once {{m,n}} is written out"
            )
        self.silent.append([])
        self.reads.append(None)
        return len(self.silent) - 1

    def read(self, letters: frozenset[int]) -> tuple[int, int]:
        start, end = self.state(), self.state()
        self.reads[start] = (letters, end)
        return start, end

    def closure(self, states: tuple[int, ...]) -> tuple[int, ...]:
        """The states reached without reading, in order; remembered, since many letters lead to the same states."""
        if states not in self.closures:
            self.closures[states] = self._closure(states)
        return self.closures[states]

    def _closure(self, states: tuple[int, ...]) -> tuple[int, ...]:
        seen = set(states)
        stack = list(seen)
        while stack:
            for target in self.silent[stack.pop()]:
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        self.work += len(seen)
        if self.work > _MAX_WORK:
            raise ProgramError(f"a regular expression takes more than {_MAX_WORK} steps to become an automaton")
        return tuple(sorted(seen))

    def determined(self, start: int, end: int, n_letters: int, text: str) -> Dfa:
        first = self.closure((start,))
        numbers = {first: 0}
        queue, rows = deque([first]), []
        while queue:
            targets: list[list[int]] = [[] for _ in range(n_letters)]
            for letters, target in filter(None, map(self.reads.__getitem__, queue.popleft())):
                self.work += len(letters)
                for letter in letters:
                    targets[letter].append(target)
            row = []
            for reached in targets:
                after = self.closure(tuple(reached))
                if after and after not in numbers:
                    numbers[after] = len(numbers)
                    queue.append(after)
                row.append(numbers[after] if after else -1)
            rows.append(tuple(row))
            if len(numbers) > MAX_STATES:
                raise ProgramError(f"regular expression {_short(text)} needs more than {MAX_STATES} states")
        return Dfa(tuple(rows), tuple(end in subset for subset in numbers))


Fragment = tuple[int, int]


class _Parser:
    """Recursive descent over the text; every fragment is a pair (first state, last state) of the automaton."""

    def __init__(self, text: str, alphabet: tuple[str, ...], nfa: _Nfa) -> None:
        self.text = text
        self.letters = {name: letter for letter, name in enumerate(alphabet)}
        self.nfa = nfa
        self.at = 0
        self.depth = 0

    def whole(self) -> Fragment:
        fragment = self.alternatives()
        if self.peek():
            raise self.error("expected the end of the expression")
        return fragment

    def error(self, expected: str, at: int | None = None) -> ProgramError:
        at = self.at if at is None else at
        found = repr(self.text[at]) if at < len(self.text) else "the end"
        return ProgramError(
            f"regular expression {_short(self.text)}: {found} at character {at}, {expected}",
            hint="over tokens: | * + ? {m,n} ( ) [ ] . ; quote longer tokens 'like this'",
        )

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, expected: str) -> None:
        if self.peek() != expected:
            raise self.error(f"expected {expected!r}")
        self.at += 1

    def alternatives(self) -> Fragment:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.error(f"nested deeper than {_MAX_DEPTH}")
        start, end = self.nfa.state(), self.nfa.state()
        while True:
            first, last = self.sequence()
            self.nfa.silent[start].append(first)
            self.nfa.silent[last].append(end)
            if self.peek() != "|":
                break
            self.at += 1
        self.depth -= 1
        return start, end

    def sequence(self) -> Fragment:
        start = end = self.nfa.state()
        while self.peek() not in ("", "|", ")"):
            first, last = self.repeated()
            self.nfa.silent[end].append(first)
            end = last
        return start, end

    def repeated(self) -> Fragment:
        begin = self.at
        fragment = self.item()
        after_item = self.at
        while self.peek() in ("*", "+", "?", "{"):
            low, high = self.bounds()
            stop = self.at
            fragment = self.repeat(fragment, (begin, after_item), low, high)
            self.at = after_item = stop
        return fragment

    def bounds(self) -> tuple[int, int | None]:
        operator = self.peek()
        self.at += 1
        if operator != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[operator]
        low = self.number()
        high: int | None = low
        if self.peek() == ",":
            self.at += 1
            high = None if self.peek() == "}" else self.number()
        if high is not None and high < low:
            raise self.error(f"expected at least {low} repetitions as the upper bound")
        self.take("}")
        return low, high

    def number(self) -> int:
        self.peek()
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] in "0123456789":
            self.at += 1
        if begin == self.at or self.at - begin > 5:
            raise self.error("expected a number of repetitions below 100000", begin)
        return int(self.text[begin : self.at])

    def repeat(self, fragment: Fragment, span: tuple[int, int], low: int, high: int | None) -> Fragment:
        """Write a repetition out: copies of an item are parsed from its text again."""
        nfa = self.nfa
        start = end = nfa.state()
        n_copies = max(low, 1) if high is None else high
        copy: Fragment | None = fragment
        skips = []
        for index in range(n_copies):
            first, last = copy if copy is not None else self.again(span)
            copy = None
            nfa.silent[end].append(first)
            if index >= low:
                skips.append(end)
            end = last
            if high is None and index == n_copies - 1:
                nfa.silent[last].append(first)
        final = nfa.state()
        nfa.silent[end].append(final)
        for skipped in skips:
            nfa.silent[skipped].append(final)
        return start, final

    def again(self, span: tuple[int, int]) -> Fragment:
        """Parse a part of the text once more, for a copy of its automaton."""
        whole, at = self.text, self.at
        self.text, self.at = whole[: span[1]], span[0]
        fragment = self.repeated()
        self.text, self.at = whole, at
        return fragment

    def item(self) -> Fragment:
        found = self.peek()
        if found == "(":
            self.at += 1
            fragment = self.alternatives()
            self.take(")")
            return fragment
        if found == "[":
            return self.nfa.read(self.one_of())
        if found == ".":
            self.at += 1
            return self.nfa.read(frozenset(self.letters.values()))
        if found and found in "*+?{})]":
            raise self.error(f"expected a token before it, or [{found}] for the token itself")
        return self.nfa.read(frozenset([self.token()]))

    def one_of(self) -> frozenset[int]:
        self.at += 1
        excludes = self.text[self.at : self.at + 1] == "^"
        self.at += excludes
        chosen: set[int] = set()
        begin = self.at
        while self.text[self.at : self.at + 1] != "]" or self.at == begin:
            if self.at >= len(self.text):
                raise self.error("expected ']'")
            if self.text[self.at].isspace() and self.text[self.at] not in self.letters:
                self.at += 1
                continue
            first_at = self.at
            letter = self.token(inside=True)
            chosen.add(letter)
            if self.text[self.at : self.at + 1] == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                chosen |= self.range_of(letter, self.token(inside=True), first_at)
        self.at += 1
        return frozenset(self.letters.values()) - chosen if excludes else frozenset(chosen)

    def range_of(self, first: int, last: int, at: int) -> set[int]:
        names = list(self.letters)
        low, high = names[first], names[last]
        if len(low) != 1 or len(high) != 1 or low > high:
            raise self.error(f"expected a range of characters in increasing order, not {low!r} to {high!r}", at)
        return {letter for name, letter in self.letters.items() if len(name) == 1 and low <= name <= high}

    def token(self, inside: bool = False) -> int:
        begin, found = self.at, self.text[self.at : self.at + 1]
        if found == "'":
            end = self.text.find("'", begin + 1)
            if end < 0:
                raise self.error("expected a closing quote")
            name, self.at = self.text[begin + 1 : end], end + 1
        elif found == "<" and (end := self.text.find(">", begin)) > 0 and self.text[begin : end + 1] in self.letters:
            name, self.at = self.text[begin : end + 1], end + 1
        else:
            self.at += 2 if found == "\\" else 1
            name = self.text[begin + (found == "\\") : self.at]
            if not inside and found in _OPERATORS and found != "\\":
                raise self.error("expected a token", begin)
        if name not in self.letters:
            self.at = begin
            raise self.error(f"expected a token of the alphabet, one of {_short(' '.join(self.letters))}; not {name!r}")
        return self.letters[name]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
