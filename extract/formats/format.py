"""What a checkpoint format is: names and shapes it recognises, facts it needs beside them, a network it builds.

Adding a format is one file with one ``Format`` and one line in ``detect.FORMATS``. Formats see a checked header first
and weights last, so everything that can be refused is refused before the weights are read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from extract.formats.config import Config
from extract.formats.safetensors import Header, Tensors
from extract.network import Architecture, Network

if TYPE_CHECKING:
    from extract.spec import ModelFacts


@dataclass(frozen=True, slots=True)
class Match:
    """How well one format explains the names and shapes of a file.

    ``n_consumed`` of ``n_tensors`` have a role in the format; ``leftover`` have none, ``missing`` are roles without a
    tensor, ``failure`` is the first shape equation that does not hold.
    """

    title: str
    n_consumed: int
    n_tensors: int
    leftover: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    failure: str | None = None
    evidence: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every tensor has a role, every role a tensor, and every shape equation holds."""
        return not (self.leftover or self.missing or self.failure)

    def verdict(self) -> str:
        """Return why the format was not accepted, in a few words."""
        count = f"{self.n_consumed} of {self.n_tensors} tensors"
        if self.failure:
            return f"{count}, but {self.failure}"
        if self.missing:
            return f"{count}, missing {_few(self.missing)}"
        return f"{count}, no place for {_few(self.leftover)}" if self.leftover else count


@dataclass(frozen=True, slots=True)
class Source:
    """Everything that describes a network beside its weights: checked header, config.json and spec, where present."""

    header: Header
    config: Config
    facts: ModelFacts | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a format concluded. ``architecture`` is None exactly when ``missing`` lists facts the spec must add;
    ``d_vocab`` and ``d_vocab_out`` are what shapes show even then, 0 where they do not."""

    architecture: Architecture | None
    missing: tuple[str, ...]
    evidence: tuple[str, ...]
    d_vocab: int = 0
    d_vocab_out: int = 0


class Format(ABC):
    """One way of storing networks. ``name`` is what ``[model] format`` in a spec says, ``title`` what people say."""

    name: str
    title: str

    @abstractmethod
    def match(self, header: Header) -> Match:
        """Explain the names and shapes of a file as far as this format can."""

    @abstractmethod
    def plan(self, source: Source) -> Plan:
        """Conclude the architecture of a file whose match is complete. Raises: CheckpointError for contradictions."""

    @abstractmethod
    def build(self, source: Source, plan: Plan, tensors: Tensors) -> Network:
        """Read the weights of a file whose plan is complete. Raises: CheckpointError for weights that are unusable."""

    def count(self, source: Source, network: Network) -> int:
        """Return the number of stored weights; an output bias the format does not store is not one."""
        return network.n_parameters - (0 if network.b_U.any() else network.b_U.size)


@final
@dataclass(frozen=True, slots=True)
class Equations:
    """Shape equations: each tensor's sizes as symbols (``D``, ``3D``, ``1``) over solved dimensions.

    ``shapes`` maps tensor names to symbols; ``dimensions`` maps each letter to its size.
    """

    shapes: Mapping[str, tuple[str, ...]]
    dimensions: Mapping[str, int]

    def size(self, symbol: str) -> int:
        """Return the value of a symbol: a number, a letter, or a number times a letter."""
        digits = symbol.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        letter = symbol[len(digits) :]
        return int(digits or "1") * (self.dimensions[letter] if letter else 1)

    def failure(self, header: Header) -> str | None:
        """Return the first equation that does not hold, in words; names without a tensor are passed over."""
        for name, symbols in self.shapes.items():
            info = header.tensors.get(name)
            expected = tuple(self.size(s) for s in symbols)
            if info is not None and info.shape != expected:
                spelled = f"[{', '.join(symbols)}] = {list(expected)}"
                return f"{name} is {list(info.shape)}, expected {spelled}"
        return None


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= len(names[:3]) else f"{shown} and {len(names) - 3} more"
