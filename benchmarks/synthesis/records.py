"""What a task of the benchmark is: its inputs, a reference function on names, and the best program known for it.

A record is a plain value. The reference function works on token names and shares no code with the language or the
search; the best known program is there to say what the smallest known cost is and is never shown to the search.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from extract.domain import Domain, build_domain
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.lang.terms import Adapter, Program
from extract.oracle import TableOracle
from extract.spec import parse_spec

Names = tuple[str, ...]
Reference = Callable[[Names], Names]

BOS, EOS, NONE = "<bos>", "<eos>", "<none>"
BITS: Names = ("0", "1")

_ADAPTERS: dict[str, Adapter] = {
    "last": "value", "every": "every", "generate": "generate", "multilabel": "multilabel",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisTask:
    """One task: the bounded domain, the read-out, the reference function and the smallest program known.

    ``reference`` maps the names of an input to the names of its answer: one name (``last``), one per token
    (``every``), the sequence without the stop token (``generate``) or the labels in the set (``multilabel``).
    ``outputs`` names the answers where they are no tokens (``multilabel``: the labels); ``extra`` are tokens that occur
    in answers only. ``longest`` is the longest generated answer (0: as long as the longest input).
    ``outside`` says why the language cannot express the task; such a record has no program and is not searched.
    """

    name: str
    family: str
    source: str
    alphabet: Names
    lengths: tuple[int, int]
    at: Literal["last", "every", "generate", "multilabel"]
    reference: Reference
    best: str = ""
    numeric: bool = False
    outputs: Names = ()
    extra: Names = ()
    where: str = ""
    matches: str = ""
    prefixes_of: str = ""
    longest: int = 0
    outside: str = ""

    @property
    def spec(self) -> dict[str, Any]:
        """The task as the data of a spec file."""
        domain: dict[str, Any] = {
            "alphabet": self.alphabet, "min_length": self.lengths[0], "max_length": self.lengths[1],
            "template": f"{BOS} {{x}}",
        }  # fmt: skip
        promises = {"where": self.where, "matches": self.matches, "prefixes_of": self.prefixes_of}
        domain |= {name: text for name, text in promises.items() if text}
        readout: dict[str, Any] = {"at": "last" if self.at == "multilabel" else self.at, "outputs": self.outputs}
        if self.at == "multilabel":
            readout["kind"] = "multilabel"
        if self.at == "generate":
            readout |= {"stop": EOS, "max_new": 1 + (self.longest or self.lengths[1])}
        vocab = (*self.alphabet, *self.extra, BOS, EOS)
        return {
            "version": 1, "tokens": {"vocab": vocab, "numeric": self.numeric}, "domain": domain, "readout": readout,
        }  # fmt: skip

    def domain(self) -> Domain:
        """Build the bounded domain; every input is enumerable."""
        return build_domain(parse_spec(json.dumps(self.spec)), compile_promise)

    def best_program(self) -> Program:
        """Parse the smallest program known."""
        return parse_program(self.best, _ADAPTERS[self.at])


class Codec:
    """Translates between the names of a record and the codes of its domain."""

    def __init__(self, task: SynthesisTask, domain: Domain) -> None:
        vocabulary = domain.vocabulary
        self._task = task
        self._names = {int(c): n for n, c in zip(vocabulary.names, vocabulary.token_codes, strict=True)}
        self._codes = {n: int(c) for n, c in zip(vocabulary.output_names, vocabulary.output_codes, strict=True)}
        self._labels = domain.readout.labels(vocabulary)

    def answer(self, codes: tuple[int, ...]) -> tuple[int, ...]:
        """Ask the reference function about an input given in codes; the answer is in codes."""
        said = self._task.reference(tuple(self._names[code] for code in codes))
        if self._task.at == "multilabel":
            assert set(said) <= set(self._labels), f"{self._task.name} says {said}, labels {self._labels}"
            return tuple(int(label in said) for label in self._labels)
        return tuple(self._codes[name] for name in said)


def oracle_of(task: SynthesisTask, domain: Domain) -> TableOracle:
    """Put the reference function behind the oracle's interface."""
    return TableOracle(domain, Codec(task, domain).answer)


def integers(low: int, high: int) -> Names:
    """Name the integers from low to high, both included."""
    return tuple(str(i) for i in range(low, high + 1))


# -- reference functions from functions of plain values -------------------------------------------------------------
def one(function: Callable[[Names], object]) -> Reference:
    """Answer once: booleans as 0 and 1, everything else as it prints."""
    return lambda tokens: (_text(function(tokens)),)


def one_number(function: Callable[[list[int]], object]) -> Reference:
    """Answer once, from the input as integers."""
    return lambda tokens: (_text(function([int(t) for t in tokens])),)


def prefixes(function: Callable[[Names], object]) -> Reference:
    """Answer at every token, from the input up to it."""
    return lambda tokens: tuple(_text(function(tokens[: i + 1])) for i in range(len(tokens)))


def number_prefixes(function: Callable[[list[int]], object]) -> Reference:
    """Answer at every token, from the integers up to it."""

    def reference(tokens: Names) -> Names:
        numbers = [int(t) for t in tokens]
        return tuple(_text(function(numbers[: i + 1])) for i in range(len(numbers)))

    return reference


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
