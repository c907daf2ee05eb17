"""The domain: the finite set of inputs a claim is about, with its exact size, order, membership and rendering.

This room knows tokens, templates, promises and read-outs, and refuses to know any network.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.automata import Language, regular_expression, table_automaton
from extract.errors import DomainError, ExtractError, SpecError
from extract.input_graph import InputGraph, InputStrings, Machine, Promise
from extract.readout import Inputs, ReadOut
from extract.spec import TaskSpec
from extract.vocabulary import Vocabulary

__all__ = ["Domain", "InputGraph", "Machine", "Promise", "Template", "build_domain"]

_PLACEHOLDER = re.compile(r"\{x(?:\[(?:(-?\d+)|(-?\d*):(-?\d*))\])?\}")


@dataclass(frozen=True, slots=True)
class Template:
    """What surrounds the input: token ids, and slices of ``{x}`` with Python's meaning of negative and open ends."""

    text: str
    parts: tuple[int | slice, ...]

    @staticmethod
    def parse(text: str, vocabulary: Vocabulary) -> Template:
        """Read a template: words separated by spaces, each ``{x}``, ``{x[i]}``, ``{x[a:b]}`` or a token name.

        Raises:  SpecError naming the word.
        """
        parts: list[int | slice] = []
        for word in text.split():
            match = _PLACEHOLDER.fullmatch(word)
            if match:
                parts.append(_slice(match))
            elif word in vocabulary.names:
                parts.append(vocabulary.token_id(word))
            else:
                raise SpecError(
                    f"$.domain.template: {word!r}, expected {{x}}, {{x[i]}}, {{x[a:b]}} or a token of the vocabulary",
                    hint="separate tokens by spaces",
                )
        return Template(text, tuple(parts))

    def layout(self, length: int) -> tuple[int, ...]:
        """Return for each prompt position its constant token id, or -1-i where it holds ``x[i]``.

        Raises:  SpecError if the template asks for a token that an input of this length does not have.
        """
        cells: list[int] = []
        for part in self.parts:
            if isinstance(part, int):
                cells.append(part)
                continue
            chosen = range(length)[part]
            if part.step is not None and not chosen:
                raise SpecError(f"$.domain.template: {{x[{part.start}]}} asked of an input of length {length}")
            cells += [-1 - i for i in chosen]
        return tuple(cells)


def _slice(match: re.Match[str]) -> slice:
    """A placeholder as a slice; a single token is marked by a step, so that a missing one is not silently nothing."""
    single, start, stop = match.groups()
    if single is not None:
        index = int(single)
        return slice(index, index + 1 if index != -1 else None, 1)
    return slice(int(start) if start else None, int(stop) if stop else None)


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """The inputs of a task: strings of ``alphabet`` (token ids, spec order) that keep the promise, at every offset.

    Lengths count tokens of ``{x}``. Canonical order: offsets as listed, then length, then rank, which is
    lexicographic in alphabet order. ``promise_text`` is what claims quote, or None for all strings.
    """

    vocabulary: Vocabulary
    alphabet: tuple[int, ...]
    min_length: int
    max_length: int
    offsets: tuple[int, ...]
    template: Template
    readout: ReadOut
    promise_text: str | None
    strings: InputStrings

    @property
    def lengths(self) -> range:
        """Every length the spec allows; some may have no inputs."""
        return range(self.min_length, self.max_length + 1)

    @property
    def size(self) -> int:
        """The number of inputs, offsets included; an upper bound where ``size_is_exact`` denies it."""
        return sum(self.size_at(length) for length in self.lengths) * len(self.offsets)

    @property
    def size_is_exact(self) -> bool:
        """Whether ``size`` counts the inputs exactly."""
        return all(self.strings.is_exact(length) for length in self.lengths)

    def size_at(self, length: int) -> int:
        """Return the number of strings of a length, offsets not counted (an upper bound if not ``is_exact_at``)."""
        return self.strings.size(length)

    def is_exact_at(self, length: int) -> bool:
        """Say whether ``size_at`` is exact for a length, and so whether its strings can be listed and ranked."""
        return self.strings.is_exact(length)

    def contains(self, tokens: tuple[int, ...], offset: int) -> bool:
        """Say whether token ids at an offset are an input: asked of the promise itself, not of a graph."""
        if offset not in self.offsets or len(tokens) not in self.lengths or not set(tokens) <= set(self.alphabet):
            return False
        row = np.array([tokens], dtype=np.int32).reshape(1, len(tokens))
        return bool(self.strings.holds(row)[0])

    def holds(self, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Say which strings of alphabet ids, all of one length, keep the promise. Shapes: [n, length], [n]."""
        return self.strings.holds(tokens)

    def tokens(self, length: int, start: int, stop: int) -> NDArray[np.int32]:
        """Return the token ids of the strings of a length with ranks ``start`` to ``stop``. Shape: [n, length].

        Raises:  DomainError for ranks outside the length's, or a length whose inputs cannot be listed.
        """
        return self.strings.tokens(length, start, stop)

    def rank(self, tokens: tuple[int, ...]) -> int:
        """Return the rank of a string among those of its length. Raises: DomainError if it is not in the domain."""
        if not self.contains(tokens, self.offsets[0]):
            raise DomainError(f"{self.text_of(tokens)} is not an input, expected one of the domain")
        return self.strings.rank(tuple(self.alphabet.index(token) for token in tokens))

    def sample(self, n: int, seed: int, length: int | None = None) -> Inputs:
        """Return n inputs drawn with replacement: uniformly among the strings of a length, offsets in turn.

        Without a length, the lengths that have inputs take turns. The same seed gives the same inputs.
        Raises:  DomainError if there is nothing to draw from.
        """
        lengths = [length] if length is not None else [k for k in self.lengths if self._has_input(k, seed)]
        if not lengths:
            raise DomainError(f"no input found of length {self.min_length} to {self.max_length}, nothing to draw from")
        share = -(-n // len(lengths))
        drawn = [self.strings.sample(k, share, seed) for k in lengths]
        tokens = np.full((n, max(lengths)), -1, dtype=np.int32)
        for turn, rows in enumerate(drawn):
            mine = tokens[turn :: len(lengths)]
            mine[:, : rows.shape[1]] = rows[: len(mine)]
        row = np.arange(n)
        sizes = np.array(lengths, dtype=np.int32)[row % len(lengths)]
        offsets = np.array(self.offsets, dtype=np.int32)[(row // len(lengths)) % len(self.offsets)]
        return Inputs(tokens, sizes, offsets)

    def _has_input(self, length: int, seed: int) -> bool:
        """Whether a length has inputs, found by trial where they cannot be counted."""
        if self.strings.is_exact(length):
            return self.size_at(length) > 0
        try:
            return len(self.strings.sample(length, 1, seed)) == 1
        except DomainError:
            return False

    def graphs(self) -> tuple[InputGraph, ...]:
        """Return graphs over alphabet indices, disjoint by length, together all inputs of every exact length.

        A length of ``distinct(tokens)`` may be exact and still have no graph (see ``graph_at``).
        """
        return self.strings.graphs()

    def graph_at(self, length: int) -> InputGraph | None:
        """Return the graph that holds the inputs of a length; None if it has no inputs or no graph."""
        return self.strings.graph(length)

    def render(self, tokens: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the prompts of strings of one length. Shapes: [n, length] ids, [n, rendered_length]."""
        cells = np.array(self.template.layout(tokens.shape[1]), dtype=np.int32)
        prompts = np.broadcast_to(cells, (len(tokens), len(cells))).copy()
        holes = np.flatnonzero(cells < 0)
        prompts[:, holes] = tokens[:, -1 - cells[holes]]
        return prompts

    def rendered_length(self, length: int) -> int:
        """Return the number of prompt tokens of an input of a length."""
        return len(self.template.layout(length))

    def read_positions(self, length: int) -> tuple[int, ...]:
        """Return the prompt positions where the answer is read; for ``every``, one for each token in order."""
        cells = self.template.layout(length)
        if self.readout.at == "every":
            return tuple(cells.index(-1 - i) for i in range(length))
        return (0,) if self.readout.at == "first" else (len(cells) - 1,)

    def text_of(self, tokens: tuple[int, ...]) -> str:
        """Return token ids as their names between spaces."""
        return repr(" ".join(self.vocabulary.names[t] if 0 <= t < len(self.vocabulary.names) else "?" for t in tokens))


def build_domain(
    spec: TaskSpec,
    compile_promise: Callable[[str, Vocabulary], Promise],
    extra_promise: Promise | None = None,
) -> Domain:
    """Build the domain of a spec; ``extra_promise`` holds also, and is needed where the spec says ``self_allowed``.

    Raises:  SpecError or ProgramError naming the field; DomainError if no string keeps the promise.
    """
    vocabulary = Vocabulary(spec.tokens.vocab, spec.tokens.numeric, spec.readout.outputs)
    alphabet = tuple(vocabulary.token_id(name) for name in spec.alphabet)
    promises = _promises(spec, vocabulary, alphabet, compile_promise)
    if spec.domain.self_allowed and extra_promise is None:
        raise SpecError("$.domain.self_allowed: true needs the model to say which inputs it allows")
    if extra_promise is not None:
        promises.append(extra_promise)
    texts = [promise.text for promise in promises]
    text = texts[0] if len(texts) == 1 else " and ".join(f"({t})" for t in texts) if texts else None
    domain = Domain(
        vocabulary,
        alphabet,
        spec.domain.min_length,
        spec.domain.max_length,
        spec.domain.offsets,
        Template.parse(spec.domain.template, vocabulary),
        _readout(spec, vocabulary),
        text,
        InputStrings(alphabet, spec.domain.min_length, spec.domain.max_length, tuple(promises)),
    )
    _check_template(domain)
    if not any(domain.size_at(length) for length in domain.lengths):
        raise DomainError(
            f"no input of length {domain.min_length} to {domain.max_length} keeps the promise {text}, expected some",
            hint="extract spec size shows the count of each length",
        )
    return domain


def _promises(
    spec: TaskSpec,
    vocabulary: Vocabulary,
    alphabet: tuple[int, ...],
    compile_promise: Callable[[str, Vocabulary], Promise],
) -> list[Promise]:
    domain = spec.domain
    promises: list[Promise] = []
    try:
        for field_name, is_prefix in (("matches", False), ("prefixes_of", True)):
            text = getattr(domain, field_name)
            if text is not None:
                dfa = regular_expression(text, spec.alphabet)
                promises.append(Language(f"{field_name} {text!r}", dfa.prefixes() if is_prefix else dfa, alphabet))
        if domain.automaton is not None:
            field_name = "automaton"
            dfa = table_automaton(domain.automaton.transitions, domain.automaton.start)
            promises.append(Language(f"automaton of {len(domain.automaton.transitions)} states", dfa, alphabet))
        if domain.where is not None:
            field_name = "where"
            promises.append(compile_promise(domain.where, vocabulary))
    except ExtractError as error:
        error.message = f"$.domain.{field_name}: {error.message}"
        raise
    return promises


def _readout(spec: TaskSpec, vocabulary: Vocabulary) -> ReadOut:
    chosen, names, is_value = set(spec.readout.choices), vocabulary.output_names, spec.readout.kind == "value"
    return ReadOut(
        spec.readout.at,
        spec.readout.kind,
        (0,) if is_value else tuple(i for i, name in enumerate(names) if not chosen or name in chosen),
        spec.readout.threshold,
        None if spec.readout.stop is None else vocabulary.token_id(spec.readout.stop),
        spec.readout.max_new,
        spec.readout.tolerance,
    )


def _check_template(domain: Domain) -> None:
    """Every token of every input appears in the prompt, and there is a position to read."""
    for length in domain.lengths:
        cells = domain.template.layout(length)
        shown = [-1 - cell for cell in cells if cell < 0]
        missing = sorted(set(range(length)) - set(shown))
        if missing:
            raise SpecError(f"$.domain.template: x[{missing[0]}] of an input of length {length} appears nowhere in it")
        if domain.readout.at == "every":
            if len(shown) > length:
                raise SpecError("$.domain.template: a token appears twice, expected once where every token is read")
        elif not cells:
            raise SpecError(f"$.domain.template: empty for length {length}, expected a position to read the answer at")
