"""A task as arrays: every input of its domain, the rendered prompts and the token to predict at each read position.

Works on names and ids of one task record with numpy alone. It refuses to know networks and batches; the room
``domain`` enumerates the same inputs from the spec alone, and a test holds the two against each other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from extract.train.tasks import EOS, Names, TaskRecord

#: Marks a position at which nothing is predicted.
NOT_READ = -100

#: Inputs drawn of a domain too large to list, always the same ones.
N_DRAWN, _SEED = 60_000, 5

_ONE_TOKEN = re.compile(r"\{x\[(\d+)\]\}")


@dataclass(frozen=True, slots=True)
class Examples:
    """All inputs of a domain, lengths ascending, or many drawn where it cannot be listed.

    Shapes: ``tokens`` [input, position] ids as fed to the network, 0 beyond the end (a causal network cannot see it);
    ``targets`` [input, position] output id to predict from each position, or ``NOT_READ``; ``lengths`` [input] tokens
    in {x}.
    """

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)


def inputs(record: TaskRecord) -> Iterator[Names]:
    """Yield every input of the domain: lengths ascending, then lexicographic in alphabet order."""
    for length in range(record.min_length, record.max_length + 1):
        for tokens in itertools.product(record.alphabet, repeat=length):
            if record.admits(tokens):
                yield tokens


def render(template: str, tokens: Names) -> tuple[Names, tuple[int, ...]]:
    """Return the prompt of an input and the prompt position of each of its tokens."""
    prompt: list[str] = []
    places = [0] * len(tokens)
    for part in template.split():
        single = _ONE_TOKEN.fullmatch(part)
        if part == "{x}":
            chosen = range(len(tokens))
        elif single:
            chosen = range(int(single[1]), int(single[1]) + 1)
        else:
            prompt.append(part)
            continue
        for i in chosen:
            places[i] = len(prompt)
            prompt.append(tokens[i])
    return tuple(prompt), tuple(places)


def example(record: TaskRecord, tokens: Names) -> tuple[Names, tuple[tuple[int, str], ...]]:
    """Return the token sequence fed to the network and the (position, output name) pairs it must predict.

    A generated answer is fed back as if the network had given it: if every prediction is right under that
    assumption, greedy decoding gives exactly this answer.
    """
    prompt, places = render(record.template, tokens)
    answer = record.answer(tokens)
    last = len(prompt) - 1
    if record.at == "generate":
        return prompt + answer, tuple((last + i, name) for i, name in enumerate((*answer, EOS)))
    if record.at == "every":
        return prompt, tuple(zip(places, answer, strict=True))
    return prompt, ((last, answer[0]),)


def examples(record: TaskRecord) -> Examples:
    """Return the whole domain of a task, or ``N_DRAWN`` inputs drawn of a domain too large to list, as arrays.

    Cost: O(inputs), about 10 microseconds each.
    """
    token_id = {name: i for i, name in enumerate(record.vocab)}
    output_id = {name: i for i, name in enumerate(record.output_names)}
    random = Random(_SEED)
    domain = [record.draw(random) for _ in range(N_DRAWN)] if record.draw else list(inputs(record))
    tokens = np.zeros((len(domain), record.n_positions), dtype=np.int64)
    targets = np.full((len(domain), record.n_positions), NOT_READ, dtype=np.int64)
    width = 0
    for row, names in enumerate(domain):
        fed, predictions = example(record, names)
        width = max(width, len(fed))
        tokens[row, : len(fed)] = [token_id[name] for name in fed]
        for position, name in predictions:
            targets[row, position] = output_id[name]
    lengths = np.array([len(names) for names in domain], dtype=np.int64)
    return Examples(tokens[:, :width].copy(), targets[:, :width].copy(), lengths)
