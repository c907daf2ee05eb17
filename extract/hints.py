"""Hints: an order for the search, as plain data. They may change when a program is found, never whether it is accepted.

What a network's inside looks like, seen from outside of it: terms of the language with a score each. This room knows
terms and refuses to know weights, activations and where a score came from.
"""

from __future__ import annotations

from dataclasses import dataclass

from extract.lang.terms import Term


@dataclass(frozen=True, slots=True)
class Hint:
    """A term worth trying early: ``score`` is comparable within one list only; ``seen`` says where, for people."""

    term: Term
    score: float
    seen: str


@dataclass(frozen=True, slots=True)
class HeadEffect:
    """How much the logits move when a head's output is replaced by its mean over inputs, relative to their spread.

    ``direct`` leaves everything after the head as it was but the final residual stream; ``total`` lets all that
    follows react. Both are cut at 1.
    """

    layer: int
    head: int
    direct: float
    total: float

    @property
    def largest(self) -> float:
        """The larger of the two effects."""
        return max(self.direct, self.total)


@dataclass(frozen=True, slots=True)
class Hints:
    """Selectors that some head's pattern resembles, and features that the residual stream holds, best first.

    Scores are above those of an untrained twin: what any network of this shape shows says nothing.
    """

    selectors: tuple[Hint, ...] = ()
    features: tuple[Hint, ...] = ()
    heads: tuple[HeadEffect, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.selectors or self.features)

    def score(self, term: Term) -> float:
        """Return a term's score, or the mean of its arguments' where it has none: an order, never a filter."""
        for hint in (*self.selectors, *self.features):
            if hint.term == term:
                return hint.score
        if not term.arguments:
            return 0.0
        return sum(self.score(argument) for argument in term.arguments) / len(term.arguments)


NO_HINTS = Hints()
