"""The step view of a generated answer: the next token as a function of the prompt and the output so far.

Every prefix of a known answer becomes one probe of an ordinary sequence-wide goal, so the whole machinery applies. A
term that is right on all prefixes of an answer generates it; where none is found at once, the end and the tokens
before it are searched separately and joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from extract.domain import Domain
from extract.lang.terms import Term
from extract.oracle import Oracle, ProbeSet
from extract.outcome import Budget, Spent
from extract.progress import Progress
from extract.readout import Answers, Inputs, ReadOut
from extract.search.builders import TOKENS, choose, integer, last_of, symbol_or_integer
from extract.search.gate import Gate
from extract.search.portfolio import Portfolio
from extract.vocabulary import ABSENT, SYMBOL_BASE

_MOST_PROBES, _MOST_GATE = 96, 1500
#: Banks of position-shaped terms grow with the square of the longest probe.
_LONGEST = 20
#: Share of the budget that each of the three searches gets.
_SHARE = 6
_MOST_JOINED = 3
#: A next token that is cheaper than this is not worth taking apart.
_CHEAP = 8


@final
class StepView(Oracle):
    """A model that generates, asked for one token: what it writes first after a prompt, or the stop token."""

    def __init__(self, oracle: Oracle, readout: ReadOut) -> None:
        self.domain: Domain = replace(oracle.domain, readout=readout)
        self._oracle = oracle

    def answer(self, inputs: Inputs) -> Answers:
        """Answer with the first generated token of each prompt."""
        answers = self._oracle.answer(inputs)
        stop = self._oracle.domain.readout.stop
        code = ABSENT if stop is None else int(self.domain.vocabulary.token_codes[stop])
        first = answers.values[:, :1] if answers.values.shape[1] else np.full((len(inputs), 1), ABSENT, dtype=np.int32)
        return Answers(np.where(first == ABSENT, np.int32(code), first), answers.margins)


class StepSearch:
    """Searches the next token of a generated answer; ``portfolio`` holds what is known about it.

    Closed forms are judged at once; ``search`` does the rest.
    Assumes: ``can_be_continued``.
    Cost:    up to three searches of a sixth of the budget's candidates each.
    """

    def __init__(
        self,
        oracle: Oracle,
        probes: ProbeSet,
        gate: ProbeSet,
        budget: Budget,
        progress: Progress,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._oracle, self._progress, self._is_over = oracle, progress, is_over
        self._budget = budget_share(budget)
        longest = max(_LONGEST, int(probes.inputs.lengths.min()) + _LONGEST // 4)
        self._rows = _Rows(oracle.domain, probes, _MOST_PROBES, longest)
        self._gate = _Rows(oracle.domain, gate, _MOST_GATE, 1 << 30)
        self._view = replace(oracle.domain.readout, at="last", stop=None, max_new=0)
        self.spent = Spent()
        self.portfolio = self._next_token(self._rows.every(), self._gate.every())

    @property
    def is_solved(self) -> bool:
        """Whether some term is right on every prefix asked."""
        return bool(self.portfolio.states[0].exact)

    def search(self) -> None:
        """Search the next token; where that is dear, the end and the tokens before it, to be joined."""
        self._solve(self.portfolio)
        stop = self._rows.stop
        going, gate_going = self._rows.going(), self._gate.going()
        is_split = going and gate_going and len(going) < len(self._rows.every())
        if self.portfolio.states[0].best_cost() <= _CHEAP or not is_split:
            return
        tokens = self._next_token(going, gate_going)
        self._solve(tokens)
        if not tokens.states[0].exact:
            return
        readout = self._oracle.domain.readout
        label = replace(self._view, kind="multilabel", choices=() if readout.stop is None else (readout.stop,))
        ends = self._portfolio(label, self._rows.ends(), self._gate.ends(), self._rows.every(), self._gate.every())
        self._solve(ends)
        for term in _joined(ends, tokens, stop, self._oracle.domain):
            self.portfolio.consider(0, term, "last level")

    def _next_token(self, chosen: list[int], gate_chosen: list[int]) -> Portfolio:
        probes, gate = self._rows.probes(chosen), self._gate.probes(gate_chosen)
        portfolio = self._portfolio(self._view, probes, gate, chosen, gate_chosen)
        _propose(portfolio, self._rows.stop, self._oracle.domain)
        return portfolio

    def _portfolio(
        self, readout: ReadOut, probes: ProbeSet, gate: ProbeSet, chosen: list[int], gate_chosen: list[int]
    ) -> Portfolio:
        prompts = self._rows.prompt_lengths(chosen), self._gate.prompt_lengths(gate_chosen)
        asked = StepView(self._oracle, readout)
        return Portfolio(Gate(asked, probes, gate, prompts), self._budget, self._progress, self._is_over)

    def _solve(self, portfolio: Portfolio) -> None:
        portfolio.solve()
        self.spent.add(portfolio.spent)


def can_be_continued(probes: ProbeSet, domain: Domain) -> bool:
    """Say whether answers are generated tokens that an input can go on with, and there is a next one to ask for."""
    readout = domain.readout
    if readout.at != "generate" or readout.kind != "argmax" or domain.vocabulary.outputs or not len(probes):
        return False
    return readout.stop is not None or bool((probes.answers.values != ABSENT).any())


def budget_share(budget: Budget) -> Budget:
    """Return the budget of one of several searches for the same answer."""
    return replace(budget, n_candidates=budget.n_candidates // _SHARE)


def _propose(portfolio: Portfolio, stop: int, domain: Domain) -> None:
    """Offer the usual closed forms of a next token."""
    terms = [*_successors(stop, domain)]
    codes = [c for c in portfolio.states[0].goal.distinct_codes() if c != stop]
    if codes and max(codes) < SYMBOL_BASE:
        terms += _recurrences(max(codes) + 1)
    for term in terms:
        portfolio.consider(0, term, "closed form")


def _recurrences(modulus: int) -> Iterator[Term]:
    """Yield sums and differences of the last two tokens, also modulo one more than the greatest answer."""
    previous = Term("shift", (TOKENS,), (1,))
    for name, left, right in (("+", TOKENS, previous), ("-", TOKENS, previous), ("-", previous, TOKENS)):
        value = last_of(Term(name, (left, right)))
        yield from (value, Term("%", (value, integer(modulus)))) if modulus > 0 else (value,)


def _successors(stop: int, domain: Domain) -> Iterator[Term]:
    """Yield the token that followed an earlier occurrence of the last one, and the end where there is none."""
    followers = Term("select", (Term("shift", (TOKENS,), (1,)), last_of(TOKENS)), ("==",))
    for name in ("first", "last"):
        yield Term(name, (followers, TOKENS))
        if stop != ABSENT:
            yield Term(name, (followers, TOKENS, symbol_or_integer(stop, domain.vocabulary)))


def _joined(ends: Portfolio, tokens: Portfolio, stop: int, domain: Domain) -> Iterator[Term]:
    for end in ends.states[0].exact[:_MOST_JOINED]:
        for token in tokens.states[0].exact[:_MOST_JOINED]:
            yield choose(end.term, symbol_or_integer(stop, domain.vocabulary), token.term)


class _Rows:
    """Prefixes of known answers: ``prompts`` are the lengths of their prompts, ``stop`` the code that ends an answer.

    Probes are taken from both ends of the set in turn, so that short and long prompts are among the first.
    """

    def __init__(self, domain: Domain, probes: ProbeSet, limit: int, longest: int) -> None:
        readout, vocabulary = domain.readout, domain.vocabulary
        self.stop = ABSENT if readout.stop is None else int(vocabulary.token_codes[readout.stop])
        # what is generated is fed back under its own name, as the oracle does
        token_of = {int(code): token for token, code in enumerate(vocabulary.token_codes)}
        self.rows: list[tuple[tuple[int, ...], int]] = []
        self.codes: list[int] = []
        self.prompts: list[int] = []
        for i in _from_both_ends(len(probes)):
            prompt, offset = probes.inputs.row(i)
            written = [int(c) for c in probes.answers.values[i] if c != ABSENT]
            if len(self.rows) >= limit or not set(written) <= set(token_of):
                continue
            is_stopped = readout.stop is not None and (not readout.max_new or len(written) < readout.max_new)
            for k, code in enumerate([*written, self.stop] if is_stopped else written):
                if len(prompt) + k <= longest:
                    self.rows.append(((*prompt, *(token_of[c] for c in written[:k])), offset))
                    self.codes.append(code)
                    self.prompts.append(len(prompt))

    def every(self) -> list[int]:
        """Return all rows."""
        return list(range(len(self.rows)))

    def going(self) -> list[int]:
        """Return the rows after which the answer goes on."""
        return [i for i, code in enumerate(self.codes) if code != self.stop]

    def prompt_lengths(self, chosen: list[int]) -> NDArray[np.int32]:
        """Return the lengths of the prompts of some rows. Shape: [row]."""
        return np.array([self.prompts[i] for i in chosen], dtype=np.int32)

    def probes(self, chosen: list[int]) -> ProbeSet:
        """Return rows with their next codes."""
        return self._asked(chosen, [self.codes[i] for i in chosen])

    def ends(self) -> ProbeSet:
        """Return all rows with 1 where the answer ends there, else 0."""
        return self._asked(self.every(), [int(code == self.stop) for code in self.codes])

    def _asked(self, picked: list[int], codes: list[int]) -> ProbeSet:
        values = np.array(codes, dtype=np.int32).reshape(-1, 1)
        return ProbeSet(Inputs.of([self.rows[i] for i in picked]), Answers(values, np.full(len(picked), np.inf)))


def _from_both_ends(n: int) -> Iterator[int]:
    for i in range(n):
        yield n - 1 - i // 2 if i % 2 else i // 2
