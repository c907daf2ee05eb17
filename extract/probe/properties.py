"""Properties of the model's answers that hold on every input tried: for the report, never a proof.

Each property is tested by membership queries on variations of drawn inputs that stay inside the domain.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from extract.oracle import Oracle, ProbeSet
from extract.readout import Inputs, same_answers

Tokens = tuple[int, ...]

_MOST_INPUTS = 400
_FEWEST_PAIRS = 24


def observed_properties(oracle: Oracle, probes: ProbeSet, *, seed: int) -> dict[str, bool]:
    """Return which properties no query contradicted; a property that could not be tried is left out."""
    rng = np.random.default_rng(seed)
    alphabet = np.array(oracle.domain.alphabet)
    variations: dict[str, Callable[[Tokens], Tokens]] = {
        "shuffle_invariant": lambda t: tuple(int(x) for x in rng.permutation(t)),
        "reversal_invariant": lambda t: t[::-1],
        "prefix_shuffle_invariant": lambda t: tuple(int(x) for x in rng.permutation(t[:-1])) + t[-1:],
        "last_token_only": lambda t: tuple(int(x) for x in rng.choice(alphabet, size=len(t) - 1)) + t[-1:],
        "first_token_only": lambda t: t[:1] + tuple(int(x) for x in rng.choice(alphabet, size=len(t) - 1)),
    }
    rows = [probes.inputs.row(i) for i in range(min(len(probes), _MOST_INPUTS))]
    result: dict[str, bool] = {}
    if probes.answers.values.shape[1] == 0 or oracle.domain.readout.at in ("every", "generate"):
        variations = {}
    for name, vary in variations.items():
        pairs = [(i, (vary(tokens), offset)) for i, (tokens, offset) in enumerate(rows) if len(tokens) > 1]
        pairs = [(i, row) for i, row in pairs if row != rows[i] and oracle.domain.contains(*row)]
        if len(pairs) < _FEWEST_PAIRS:
            continue  # a promise may leave so few variations that agreement says nothing
        before = probes.answers.values[[i for i, _ in pairs]]
        after = oracle.answer(Inputs.of([row for _, row in pairs])).values
        result[name] = bool(same_answers(before, after).all())
    if result.get("shuffle_invariant"):
        result.pop("prefix_shuffle_invariant", None)  # it follows
    result["constant_per_length"] = _constant_per_length(probes)
    return result


def _constant_per_length(probes: ProbeSet) -> bool:
    seen: dict[int, bytes] = {}
    for length, row in zip(probes.inputs.lengths, probes.answers.values, strict=True):
        if seen.setdefault(int(length), row.tobytes()) != row.tobytes():
            return False
    return True
