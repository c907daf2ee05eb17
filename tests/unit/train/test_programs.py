"""Tasks have short programs in the language, so that extracting from their checkpoints is a fair thing to ask.

Those of the MIPS benchmark have theirs in ``benchmarks.synthesis``, whose reference functions were written apart from
these: the two must agree.
"""

from __future__ import annotations

import pytest

from benchmarks.synthesis import tasks_mips as synthesis_mips
from extract.domain import build_domain
from extract.lang.interpret import answer
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.lang.terms import Adapter
from extract.spec import parse_spec
from extract.train.data import inputs
from extract.train.export import spec_text
from extract.train.tasks import TASKS

PROGRAMS = {
    "majority": "output = '1' if count(tokens == '0') < count(tokens == '1') else '0'",
    "reverse": "output = first(select(indices, length - 1 - step, '=='), tokens)\noutput_length = length",
    "histogram": "output = selector_width(select(tokens, tokens, '==') and upto)",
    "sort": "output = first(select(rank(tokens), step, '=='), tokens)\noutput_length = length",
    "parity": "output = '1' if count(tokens == '1') % 2 == 1 else '0'",
    "modular_addition": "output = sum_over(everywhere, tokens) % 17",
    "max": "output = max_over(everywhere, tokens)",
    "max_of_10": "output = max_over(everywhere, tokens)",
    "first_unique": (
        "occurrences = selector_width(select(tokens, tokens, '=='))\n"
        "output = first(keys_where(occurrences == 1), tokens, '<none>')"
    ),
    "dyck2_depth": (
        "opened = running_count(tokens == '(' or tokens == '[')\n"
        "output = 2 * opened - indices - 1"
    ),
    "induction": (
        "current = last(everywhere, tokens)\n"
        "output = last(select(shift(tokens, 1), current, '=='), tokens, '<none>')"
    ),
}  # fmt: skip
_MOST_LISTED = 1_000_000
ADAPTERS: dict[str, Adapter] = {"last": "value", "every": "every", "generate": "generate"}


MIPS = {task.name: task for task in synthesis_mips.TASKS}


@pytest.mark.parametrize("name", [name for name, record in TASKS.items() if record.family == "mips"])
def test_the_sequence_tasks_are_those_of_the_synthesis_benchmark(name: str) -> None:
    record, other = TASKS[name], MIPS[name]
    listed = list(inputs(record))
    for tokens in listed[:: len(listed) // 300 + 1]:
        assert record.answer(tokens) == other.reference(_spelled(name, tokens))


def _spelled(name: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Digit pairs of a base above 2 as the other benchmark names them: the pair a, b is the number base * a + b."""
    if not name.startswith("mips_base_"):
        return tokens
    base = int(name.split("_")[2])
    return tuple(str(base * int(token[0]) + int(token[2])) for token in tokens)


def test_all_but_one_of_the_sequence_tasks_are_here() -> None:
    assert set(MIPS) - set(TASKS) == {"mips_newton_magnetic"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_known_program_computes_the_reference_function(name: str) -> None:
    record = TASKS[name]
    domain = build_domain(parse_spec(spec_text(record)), compile_promise)
    program = parse_program(PROGRAMS[name], ADAPTERS[record.at])
    token_code = dict(zip(record.vocab, domain.vocabulary.token_codes.tolist(), strict=True))
    if domain.size > _MOST_LISTED:
        drawn = domain.sample(300, 1)
        chosen = [tuple(record.vocab[t] for t in drawn.row(i)[0]) for i in range(len(drawn))]
    else:
        listed = list(inputs(record))
        chosen = listed[:100] + listed[100 :: len(listed) // 200 + 1]
    for tokens in chosen:
        codes = tuple(token_code[token] for token in tokens)
        computed = answer(program, codes, domain, domain.readout)
        assert tuple(domain.vocabulary.name(code) for code in computed) == record.answer(tokens)
