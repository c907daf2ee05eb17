"""Chooses which inputs to ask: a small probe set for the bank and a larger one that every candidate must pass.

Random strings alone rarely show a palindrome, a balanced word or a run, so random, few-symbol, sorted, reversed and
mirrored inputs are mixed and the model's own answers are balanced. It draws inputs and knows no program.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from extract.domain import Domain
from extract.oracle import Oracle, ProbeSet
from extract.readout import Answers, Inputs

Row = tuple[tuple[int, ...], int]

#: Probes longer than this would make position-shaped banks large; a few are taken all the same.
_USUAL_LENGTH = 10
LONGEST_USUAL_PROBE = 17
_POOL = 1536


def choose_probes(oracle: Oracle, *, n_probes: int, n_gate: int, seed: int) -> tuple[ProbeSet, ProbeSet]:
    """Return (bank probes, gate probes), both in a fixed order for one seed.

    Units:   ``n_probes`` and ``n_gate`` count inputs; fewer come back when the domain has fewer.
    """
    domain = oracle.domain
    small = _shortest_inputs(domain, n_probes // 2)
    pool = list(dict.fromkeys(small + _pool(domain, seed)))
    inputs = Inputs.of(pool)
    answers = oracle.answer(inputs)
    told = np.flatnonzero(answers.says_something)
    if 0 < len(told) < len(pool):
        small = [small[i] for i in told if i < len(small)]
        pool, inputs, answers = [pool[i] for i in told], inputs.take(told), answers.take(told)
    chosen = _balanced(pool, answers, n_probes, n_first=len(small))
    index = np.array(chosen, dtype=np.intp)
    probes = ProbeSet(_trimmed(inputs.take(index)), answers.take(index))
    gate_rows = list(dict.fromkeys(pool + _rows(domain.sample(n_gate, seed + 1))))[: n_gate + len(pool)]
    gate_inputs = Inputs.of(gate_rows)
    said = oracle.answer(gate_inputs)
    gate = ProbeSet(gate_inputs, said)
    told = np.flatnonzero(said.says_something)
    return probes, gate if not len(told) else ProbeSet(gate_inputs.take(told), said.take(told))


def _rows(inputs: Inputs) -> list[Row]:
    return [inputs.row(i) for i in range(len(inputs))]


def _trimmed(inputs: Inputs) -> Inputs:
    width = int(inputs.lengths.max(initial=0))
    return Inputs(inputs.tokens[:, :width], inputs.lengths, inputs.offsets)


def _shortest_inputs(domain: Domain, limit: int) -> list[Row]:
    rows: list[Row] = []
    for length in range(domain.min_length, min(domain.max_length, LONGEST_USUAL_PROBE) + 1):
        n = domain.size_at(length)
        if len(rows) + n > limit:
            break
        rows += [(tuple(int(t) for t in row), domain.offsets[0]) for row in domain.tokens(length, 0, n)]
    return rows


def _pool(domain: Domain, seed: int) -> list[Row]:
    lengths = [
        n for n in range(domain.min_length, domain.max_length + 1) if n <= LONGEST_USUAL_PROBE and domain.size_at(n)
    ]
    if not lengths:
        lengths = [n for n in range(domain.min_length, domain.max_length + 1) if domain.size_at(n)][:4]
    usual = [n for n in lengths if n <= _USUAL_LENGTH] or lengths[:2]
    longer = [n for n in lengths if n > usual[-1]]
    rows: list[Row] = []
    for i, length in enumerate(usual):
        rows += _rows(domain.sample(max(8, _POOL // len(usual)), seed + 17 * i, length))
    for i, length in enumerate(longer[:: max(1, len(longer) // 3)]):
        rows += _rows(domain.sample(2, seed + 1000 + i, length))
    return rows + [row for row in _structured(rows, seed) if domain.contains(*row)]


def _structured(rows: list[Row], seed: int) -> list[Row]:
    """Vary drawn inputs towards runs, few symbols, sorted and mirrored words; the caller drops what is no input."""
    rng = np.random.default_rng(seed)
    result: list[Row] = []
    for tokens, offset in rows[:: max(1, len(rows) // 160)]:
        if not tokens:
            continue
        few = rng.choice(tokens, size=min(2, len(tokens)))
        half = tokens[: (len(tokens) + 1) // 2]
        variants = (
            tuple(sorted(tokens)),
            tuple(sorted(tokens, reverse=True)),
            half + half[: len(tokens) // 2][::-1],
            tuple(int(t) for t in rng.choice(few, size=len(tokens))),
            (tokens[0],) * len(tokens),
        )
        result += [(variant, offset) for variant in variants]
    return list(dict.fromkeys(result))


def _balanced(pool: list[Row], answers: Answers, n_probes: int, n_first: int) -> list[int]:
    """Take the first inputs, then go round the answers, at each turn the input the model is surest of.

    A model's rare mistakes have small margins; a probe set free of them lets the intended program be found, and
    verification finds the mistakes afterwards.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    longest = max(len(tokens) for tokens, _ in pool)
    rows = [answers.values[i].tobytes() for i in range(len(pool))]
    # answers per token and generated ones are nearly all distinct: balance them by length instead
    are_many = len(set(rows[n_first:])) > n_probes
    for i in range(n_first, len(pool)):
        groups[str(len(pool[i][0])).encode() if are_many else rows[i]].append(i)
    spread = np.random.default_rng(0).random(len(pool))
    for members in groups.values():
        members.sort(key=lambda i: (len(pool[i][0]) > _USUAL_LENGTH, spread[i]))
        cut = max(1, len(members) // 4)
        surest = sorted(members, key=lambda i: -answers.margins[i])
        sure = set(surest[: len(members) - cut]) if len(members) > 3 else set(members)
        members[:] = [i for i in members if i in sure]
    chosen = list(range(min(n_first, len(pool))))
    queues = list(groups.values())
    while len(chosen) < n_probes and any(queues):
        for queue in queues:
            if queue and len(chosen) < n_probes:
                chosen.append(queue.pop(0))
    long = [i for i in range(n_first, len(pool)) if len(pool[i][0]) > _USUAL_LENGTH and longest > _USUAL_LENGTH]
    return list(dict.fromkeys(chosen + long[:6]))
