"""Counterexamples made trustworthy and small: replayed on both sides, then shortened inside the domain.

Both sides are asked again, the oracle and the reference interpreter; a difference that does not replay means that
something here is wrong, and that is said out loud. This room knows no batch and no table.
"""

from __future__ import annotations

from dataclasses import replace

from extract.errors import SoundnessAlarm
from extract.lang.interpret import answer
from extract.lang.terms import Program
from extract.oracle import Oracle
from extract.outcome import Counterexample
from extract.readout import Inputs
from extract.vocabulary import ABSENT, UNDETERMINED

#: Oracle and interpreter calls spent on making one counterexample smaller.
_MAX_TRIALS = 400


def ask(program: Program, oracle: Oracle, tokens: tuple[int, ...], offset: int) -> Counterexample | None:
    """Ask both sides one input; None if they agree wherever the model decides, or its margin is no decision."""
    domain = oracle.domain
    inputs = Inputs.of([(tokens, offset)])
    answers = oracle.answer(inputs)
    cells = [int(code) for code in answers.values[0]]
    while cells and cells[-1] == ABSENT:
        cells.pop()
    codes = tuple(int(domain.vocabulary.token_codes[t]) for t in tokens)
    mine = answer(program, codes, domain, domain.readout)
    margin = float(answers.margins[0])
    pairs = enumerate(zip(cells, mine, strict=False))
    position = next((i for i, (model, said) in pairs if model not in (said, UNDETERMINED)), -1)
    if not margin > 0 or (position < 0 and len(cells) == len(mine)):
        return None
    if position < 0:
        position = min(len(cells), len(mine))
    return Counterexample(tokens, offset, position, tuple(cells), mine, margin, "enumeration", replayed=True)


def replayed(
    program: Program, oracle: Oracle, tokens: tuple[int, ...], offset: int, model: tuple[int, ...]
) -> Counterexample:
    """Return the counterexample, confirmed by the oracle and the reference interpreter.

    Raises:  SoundnessAlarm if they agree, or if the oracle's answer is not the expected one.
    """
    found = ask(program, oracle, tokens, offset)
    names = oracle.domain.text_of(tokens)
    if found is None:
        raise SoundnessAlarm(
            f"a difference at {names} (offset {offset}) does not replay: program and model agree there"
        )
    if len(found.model) != len(model) or any(
        UNDETERMINED not in pair and pair[0] != pair[1] for pair in zip(found.model, model, strict=True)
    ):
        raise SoundnessAlarm(f"the model answers {found.model} at {names} (offset {offset}), expected {model} again")
    return found


def minimised(program: Program, oracle: Oracle, example: Counterexample) -> Counterexample:
    """Return a counterexample that no deletion of one token and no replacement of one token by an earlier letter of the
    alphabet turns into another one, as far as the allowed trials reach (``minimal`` says so)."""
    domain = oracle.domain
    trials = 0
    while True:
        for tokens in _smaller(example.tokens, domain.alphabet):
            if not domain.contains(tokens, example.offset):
                continue
            trials += 1
            if trials > _MAX_TRIALS:
                return example
            found = ask(program, oracle, tokens, example.offset)
            if found is not None:
                example = found
                break
        else:
            return replace(example, minimal=True)


def _smaller(tokens: tuple[int, ...], alphabet: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the strings with one token less, then those with one token replaced by an earlier letter."""
    shorter = [tokens[:i] + tokens[i + 1 :] for i in range(len(tokens))]
    order = {token: i for i, token in enumerate(alphabet)}
    earlier = [
        (*tokens[:i], letter, *tokens[i + 1 :])
        for i, token in enumerate(tokens)
        for letter in alphabet[: order.get(token, 0)]
    ]
    return list(dict.fromkeys(shorter + earlier))
