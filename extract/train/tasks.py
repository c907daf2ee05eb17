"""The benchmark tasks by name: domain, read-out, reference function and the size of network that learns them.

A record is a plain value and this file imports no torch. The reference function is what the network is trained on;
it works on token names, is total on the task's domain and is written to be read, not to be fast.
"""

from __future__ import annotations

import difflib
from random import Random

from extract.errors import UsageError
from extract.train import tasks_languages, tasks_rasp, tasks_sequences
from extract.train.record import BOS, EOS, NONE, SEP, Names, Recipe, Shape, TaskRecord

__all__ = ["BOS", "EOS", "NONE", "SEP", "TASKS", "Names", "Recipe", "Shape", "TaskRecord", "task", "task_families"]


def majority(tokens: Names) -> Names:
    """Return the symbol that occurs more often; inputs with a tie are not in the domain."""
    return ("1" if tokens.count("1") > tokens.count("0") else "0",)


def has_majority(tokens: Names) -> bool:
    """Say whether the two symbols occur differently often."""
    return tokens.count("0") != tokens.count("1")


def reverse(tokens: Names) -> Names:
    """Return the input from its end to its start."""
    return tokens[::-1]


def histogram(tokens: Names) -> Names:
    """Return for each token how many times it has occurred so far, itself included."""
    return tuple(str(tokens[: i + 1].count(token)) for i, token in enumerate(tokens))


def ascending(tokens: Names) -> Names:
    """Return the numbers in ascending order."""
    return tuple(sorted(tokens, key=int))


def parity(tokens: Names) -> Names:
    """Return 1 if the number of ones is odd, else 0."""
    return (str(tokens.count("1") % 2),)


MODULUS = 17


def modular_sum(tokens: Names) -> Names:
    """Return the sum of two numbers modulo ``MODULUS``."""
    left, right = tokens
    return (str((int(left) + int(right)) % MODULUS),)


def maximum(tokens: Names) -> Names:
    """Return the largest number."""
    return (max(tokens, key=int),)


LARGE = 64


def near_maximum(random: Random) -> Names:
    """Draw ten numbers, the largest any equally often, the others anywhere, anywhere below, just below, or alike."""
    top = random.randrange(LARGE)
    kind = random.randrange(4)
    if kind == 0:
        others = [random.randint(0, top) for _ in range(9)]
    elif kind == 1:
        others = [max(0, top - random.randint(1, 3)) for _ in range(9)]
    elif kind == 2:
        others = [max(0, top - random.randint(1, 2))] * 9
    else:
        others = [random.randrange(LARGE) for _ in range(9)]
    others.insert(random.randrange(10), top)
    return tuple(str(n) for n in others)


def first_unique(tokens: Names) -> Names:
    """Return the first token that occurs exactly once, or ``<none>``."""
    return (next((token for token in tokens if tokens.count(token) == 1), NONE),)


OPENS, CLOSES = ("(", "["), (")", "]")
DEPTH = 4


def bracket_depth(tokens: Names) -> Names:
    """Return the nesting depth after each bracket."""
    depth, depths = 0, []
    for token in tokens:
        depth += 1 if token in OPENS else -1
        depths.append(str(depth))
    return tuple(depths)


def bracket_states() -> tuple[tuple[int, ...], ...]:
    """Return the automaton of prefixes of words over two bracket pairs, nested at most ``DEPTH`` deep.

    A state is the stack of open brackets, numbered breadth first; a row lists the next state after each letter of
    ``( ) [ ]``, -1 where no such input exists.
    """
    stacks: list[Names] = [()]
    for stack in stacks:
        if len(stack) < DEPTH:
            stacks.extend((*stack, opening) for opening in OPENS)
    number = {stack: i for i, stack in enumerate(stacks)}
    rows = []
    for stack in stacks:
        row = []
        for opening in OPENS:
            row.append(number.get((*stack, opening), -1))
            row.append(number[stack[:-1]] if stack[-1:] == (opening,) else -1)
        rows.append(tuple(row))
    return tuple(rows)


def is_bracket_prefix(tokens: Names) -> bool:
    """Say whether every closing bracket matches and the depth stays within ``DEPTH``."""
    stack: list[str] = []
    for token in tokens:
        if token in OPENS:
            stack.append(token)
        elif not stack or OPENS.index(stack.pop()) != CLOSES.index(token):
            return False
        if len(stack) > DEPTH:
            return False
    return True


def induction(tokens: Names) -> Names:
    """Return the token after the latest earlier occurrence of the last token, or ``<none>``."""
    for i in range(len(tokens) - 2, -1, -1):
        if tokens[i] == tokens[-1]:
            return (tokens[i + 1],)
    return (NONE,)


def _digits(n: int) -> Names:
    return tuple(str(i) for i in range(n))


_LETTERS = ("a", "b", "c", "d")

_RECORDS = (
    TaskRecord(
        name="majority",
        description="The symbol that occurs more often; no ties.",
        vocab=("0", "1", BOS, SEP),
        alphabet=("0", "1"),
        min_length=1,
        max_length=14,
        template=f"{BOS} {{x}} {SEP}",
        at="last",
        answer=majority,
        where="count(tokens == '0') != count(tokens == '1')",
        admits=has_majority,
        shape=Shape(n_layers=1, n_heads=1, d_model=16),
    ),
    TaskRecord(
        name="reverse",
        description="The input from its end to its start.",
        vocab=(*_LETTERS, BOS, SEP, EOS),
        alphabet=_LETTERS,
        min_length=1,
        max_length=7,
        template=f"{BOS} {{x}} {SEP}",
        at="generate",
        answer=reverse,
        shape=Shape(n_layers=2, n_heads=1, d_model=32),
    ),
    TaskRecord(
        name="histogram",
        description="For each token, how many times it has occurred so far (the causal histogram).",
        vocab=(*_digits(9), BOS),
        alphabet=_digits(4),
        min_length=1,
        max_length=8,
        template=f"{BOS} {{x}}",
        at="every",
        answer=histogram,
        numeric=True,
        shape=Shape(n_layers=1, n_heads=1, d_model=32),
    ),
    TaskRecord(
        name="sort",
        description="The numbers in ascending order.",
        vocab=(*_digits(5), BOS, SEP, EOS),
        alphabet=_digits(5),
        min_length=1,
        max_length=6,
        template=f"{BOS} {{x}} {SEP}",
        at="generate",
        answer=ascending,
        numeric=True,
        shape=Shape(n_layers=2, n_heads=1, d_model=32),
    ),
    TaskRecord(
        name="parity",
        description="1 if the number of ones is odd, else 0.",
        vocab=("0", "1", BOS, SEP),
        alphabet=("0", "1"),
        min_length=1,
        max_length=8,
        template=f"{BOS} {{x}} {SEP}",
        at="last",
        answer=parity,
        shape=Shape(n_layers=1, n_heads=4, d_model=32),
    ),
    TaskRecord(
        name="modular_addition",
        description=f"The sum of two numbers modulo {MODULUS}.",
        vocab=(*_digits(MODULUS), "+", "="),
        alphabet=_digits(MODULUS),
        min_length=2,
        max_length=2,
        template="{x[0]} + {x[1]} =",
        at="last",
        answer=modular_sum,
        numeric=True,
        shape=Shape(n_layers=1, n_heads=2, d_model=32),
    ),
    TaskRecord(
        name="max",
        description="The largest number.",
        vocab=(*_digits(8), BOS, SEP),
        alphabet=_digits(8),
        min_length=1,
        max_length=5,
        template=f"{BOS} {{x}} {SEP}",
        at="last",
        answer=maximum,
        numeric=True,
        shape=Shape(n_layers=1, n_heads=1, d_model=32),
    ),
    TaskRecord(
        name="max_of_10",
        description=f"The largest of ten numbers below {LARGE}; attention only, with more inputs than can be listed.",
        vocab=(*_digits(LARGE), SEP),
        alphabet=_digits(LARGE),
        min_length=10,
        max_length=10,
        template=f"{{x}} {SEP}",
        at="last",
        answer=maximum,
        numeric=True,
        draw=near_maximum,
        shape=Shape(n_layers=1, n_heads=1, d_model=32, is_attention_only=True),
        recipe=Recipe(n_steps=6000, n_batch=512, rate=1e-2, target_margin=0.5),
    ),
    TaskRecord(
        name="first_unique",
        description=f"The first token that occurs exactly once, {NONE} if there is none.",
        vocab=(*_LETTERS, NONE, BOS, SEP),
        alphabet=_LETTERS,
        min_length=1,
        max_length=6,
        template=f"{BOS} {{x}} {SEP}",
        at="last",
        answer=first_unique,
        shape=Shape(n_layers=2, n_heads=2, d_model=32),
    ),
    TaskRecord(
        name="dyck2_depth",
        description=f"The nesting depth after each bracket of a prefix of a two-bracket word at most {DEPTH} deep.",
        vocab=("(", ")", "[", "]", BOS),
        alphabet=("(", ")", "[", "]"),
        min_length=1,
        max_length=8,
        template=f"{BOS} {{x}}",
        at="every",
        answer=bracket_depth,
        outputs=_digits(DEPTH + 1),
        automaton=bracket_states(),
        admits=is_bracket_prefix,
        shape=Shape(n_layers=1, n_heads=1, d_model=32),
    ),
    TaskRecord(
        name="induction",
        description=f"The token after the latest earlier occurrence of the last token, {NONE} if there is none.",
        vocab=(*_LETTERS, NONE, BOS),
        alphabet=_LETTERS,
        min_length=2,
        max_length=6,
        template=f"{BOS} {{x}}",
        at="last",
        answer=induction,
        shape=Shape(n_layers=2, n_heads=1, d_model=32),
    ),
)

#: Every benchmark task by its name.
TASKS: dict[str, TaskRecord] = {
    record.name: record
    for record in (*_RECORDS, *tasks_rasp.RECORDS, *tasks_languages.RECORDS, *tasks_sequences.RECORDS)
}


def task_families() -> dict[str, tuple[str, ...]]:
    """Return the names of the tasks by family."""
    return {
        family: tuple(name for name, record in TASKS.items() if record.family == family)
        for family in dict.fromkeys(record.family for record in TASKS.values())
    }


def task(name: str) -> TaskRecord:
    """Return the record of a task.

    Raises:  UsageError if no task has this name (the message lists those that are spelled alike, or all families).
    """
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, n=5, cutoff=0.5)
        expected = ", ".join(close or task_families()["basic"])
        raise UsageError(f"no task is named {name!r}, expected one of {len(TASKS)} such as {expected}",
                         hint="extract train --list")  # fmt: skip
    return TASKS[name]
