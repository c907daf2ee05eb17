"""The benchmark tasks by name: domain, read-out, reference function and the size of network that learns them.

A record is a plain value and this file imports no torch. The reference function is what the network is trained on;
it works on token names, is total on the task's domain and is written to be read, not to be fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from extract.errors import UsageError

Names = tuple[str, ...]

BOS, SEP, EOS, NONE = "<bos>", "<sep>", "<eos>", "<none>"


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the network that learns a task; ``d_mlp`` is four times ``d_model`` as in GPT-2.

    ``is_attention_only``: one layer of attention between embedding and head, no norm and no MLP, instead of a GPT-2.
    """

    n_layers: int
    n_heads: int
    d_model: int
    is_attention_only: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how fast to learn: at most ``n_steps`` batches of ``n_batch`` inputs, peak rate ``rate``.

    Training ends early once every input of the domain is answered with ``target_margin`` logits to spare.
    """

    n_steps: int = 4000
    n_batch: int = 256
    rate: float = 3e-3
    target_margin: float = 2.0


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One benchmark task: what the inputs are, what the answer is, where it is read.

    ``answer`` maps the names of {x} to the names of the answer: one name for ``last``, one per token for ``every``,
    the sequence without the stop token for ``generate``. The promise is said twice, as the spec's text (``where``, or
    the rows of ``automaton``) and as the predicate ``admits``; tests hold the two against each other.
    ``outputs`` renames the output ids where answers are no tokens. ``draw`` draws one input of a domain too large to
    list, hard ones more often than a uniform draw would.
    """

    name: str
    description: str
    vocab: Names
    alphabet: Names
    min_length: int
    max_length: int
    template: str
    at: Literal["last", "every", "generate"]
    answer: Callable[[Names], Names]
    shape: Shape
    recipe: Recipe = field(default_factory=Recipe)
    numeric: bool = False
    outputs: Names = ()
    where: str = ""
    automaton: tuple[tuple[int, ...], ...] = ()
    admits: Callable[[Names], bool] = lambda tokens: True
    draw: Callable[[Random], Names] | None = None

    @property
    def output_names(self) -> Names:
        """The name of every output id."""
        return self.outputs or self.vocab

    @property
    def max_new(self) -> int:
        """The number of tokens a ``generate`` answer may take, its stop token included; 0 for other read-outs."""
        return self.max_length + 1 if self.at == "generate" else 0

    @property
    def n_positions(self) -> int:
        """The number of position ids: the longest prompt and everything generated after it."""
        n_constant = sum(not part.startswith("{x") for part in self.template.split())
        return n_constant + self.max_length + self.max_new


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
TASKS: dict[str, TaskRecord] = {record.name: record for record in _RECORDS}


def task(name: str) -> TaskRecord:
    """Return the record of a task.

    Raises:  UsageError if no task has this name (the message lists those that exist).
    """
    if name not in TASKS:
        raise UsageError(f"no task is named {name!r}, expected one of {', '.join(TASKS)}")
    return TASKS[name]
