"""What a benchmark task is: a plain value with its domain, read-out, reference function and size of network.

It knows no task and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

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
    list, hard ones more often than a uniform draw would. ``seen`` says which inputs training shows: a network that
    was shown some answers the others by whatever it made up. ``longest`` is the longest generated answer (0: as long as
    the longest input), ``family`` where a list of tasks puts it.
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
    seen: Callable[[Names], bool] = lambda tokens: True
    family: str = "basic"
    longest: int = 0

    @property
    def output_names(self) -> Names:
        """The name of every output id."""
        return self.outputs or self.vocab

    @property
    def max_new(self) -> int:
        """The number of tokens a ``generate`` answer may take, its stop token included; 0 for other read-outs."""
        return (self.longest or self.max_length) + 1 if self.at == "generate" else 0

    @property
    def n_positions(self) -> int:
        """The number of position ids: the longest prompt and everything generated after it."""
        n_constant = sum(not part.startswith("{x") for part in self.template.split())
        return n_constant + self.max_length + self.max_new
