"""Terms and programs as frozen, hashable, comparable data; no closures, no evaluation.

A term is an operator's name, its arguments and its constants. A program is one term per output, together with the
output adapter that says how the terms become the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

#: A constant inside a term: an integer, a symbol's or relation's name, or a tuple of such (tables, automata).
Datum = int | str | tuple["Datum", ...]

Adapter = Literal["value", "every", "multilabel", "generate", "step"]


@dataclass(frozen=True, slots=True)
class Term:
    """One node: ``operator`` names a row of ``operators.py``; ``data`` holds the row's constants, in its order."""

    operator: str
    arguments: tuple[Term, ...] = ()
    data: tuple[Datum, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.operator, self.arguments, self.data)))

    def __hash__(self) -> int:
        return self._hash

    def subterms(self) -> Iterator[Term]:
        """Yield every distinct subterm once, arguments before the terms that use them, self last."""
        seen: set[Term] = set()
        stack: list[tuple[Term, bool]] = [(self, False)]
        while stack:
            term, expanded = stack.pop()
            if term in seen:
                continue
            if expanded:
                seen.add(term)
                yield term
            else:
                stack.append((term, True))
                stack.extend((argument, False) for argument in reversed(term.arguments))


@dataclass(frozen=True, slots=True)
class Program:
    """Named output terms and the adapter that turns their values into an answer.

    ``value``       one term, sequence-wide: the answer at the read-out position (read-outs ``last`` and ``first``).
    ``every``       one term, per position: the answer at each token of the input.
    ``multilabel``  one boolean sequence-wide term per label, named by it; a label without a term is never in the set.
    ``generate``    ``output``, a term per output index (``step``), and ``output_length``, sequence-wide.
    ``step``        one sequence-wide term over prompt plus output so far: the next token; ends with the stop token.
    """

    adapter: Adapter
    outputs: tuple[tuple[str, Term], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError(f"two outputs share a name: {names}")

    def term(self, name: str = "output") -> Term:
        """Return the term of one output. Raises: KeyError if there is none of this name."""
        return dict(self.outputs)[name]

    def terms(self) -> tuple[Term, ...]:
        """Return the output terms in order."""
        return tuple(term for _, term in self.outputs)
