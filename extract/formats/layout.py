"""Layouts: a checkpoint format as a table that says where each tensor is stored, with which axes, and what it is.

A line of a table reads ``stored name | axes | role | group``. Axes are letters in stored order: V d_vocab, U
d_vocab_out, C n_ctx, D d_model, H heads, G key-value heads, K d_head, M d_mlp, Z the head's hidden layer; ``(3 H K)``
is one axis of three parts. ``{i}`` counts layers, ``{h}`` heads. A line without group is always there; those of group
``?name`` come together or not at all, in every layer alike; ``family:choice`` is exactly one choice of the family,
``?family:choice`` at most one. Which function the tensors make is no matter here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from extract.formats.safetensors import Header

Axes = tuple[tuple[str, ...], ...]

#: The axes of every role, as ``extract.network`` has them.
AXES: Mapping[str, str] = {
    "embed": "V D", "embed_bias": "D", "pos_embed": "C D",
    "W_Q": "H D K", "b_Q": "H K", "W_K": "G D K", "b_K": "G K", "W_V": "G D K", "b_V": "G K",
    "W_QKV": "3 H D K", "b_QKV": "3 H K", "W_O": "H K D", "b_O": "D",
    "W_in": "D M", "b_in": "M", "W_gate": "D M", "b_gate": "M", "W_out": "M D", "b_out": "D",
    "norm_attention.weight": "D", "norm_attention.bias": "D", "norm_mlp.weight": "D", "norm_mlp.bias": "D",
    "norm_query.weight": "K", "norm_query.bias": "K", "norm_key.weight": "K", "norm_key.bias": "K",
    "norm_hidden.weight": "M", "norm_hidden.bias": "M", "norm_final.weight": "D", "norm_final.bias": "D",
    "head.W": "D Z", "head.b": "Z", "head.norm.weight": "Z", "head.norm.bias": "Z",
    "W_U": "D U", "b_U": "U",
}  # fmt: skip
_AXIS = re.compile(r"\(([^()]+)\)|(\S+)")
_LARGEST_INDEX = 4096


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a layout: a stored name, its axes, the role of the tensor (empty for a buffer), its group."""

    stored: str
    axes: Axes
    role: str
    group: str

    def names(self, n_layers: int, n_heads: int) -> tuple[tuple[str, int, int], ...]:
        """Return the stored names with the layer and the head that each belongs to."""
        layers = range(n_layers if "{i}" in self.stored else 1)
        heads = range(n_heads if "{h}" in self.stored else 1)
        return tuple((self.stored.format(i=i, h=h), i, h) for i in layers for h in heads)


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a layout explains a file: what has a role, what is missing or left over, the sizes of the letters.

    ``roles`` maps each role that is there to its row; ``spares`` are left-over tensors as large as the embedding, which
    are passed over if they prove to be copies of it. ``failure`` is the first equation that does not hold.
    """

    n_layers: int
    n_stored_heads: int
    sizes: Mapping[str, int]
    roles: Mapping[str, Row]
    leftover: tuple[str, ...]
    spares: tuple[str, ...]
    buffers: tuple[str, ...]
    missing: tuple[str, ...]
    failure: str | None

    def names_of(self, role: str) -> tuple[str, ...]:
        """Return the stored names of a role, all layers and heads; none if the role is absent."""
        row = self.roles.get(role)
        return () if row is None else tuple(n for n, _, _ in row.names(self.n_layers, self.n_stored_heads))


def table(text: str) -> tuple[Row, ...]:
    """Read the lines of a table; a blank line means nothing."""
    rows = []
    for line in filter(str.strip, text.splitlines()):
        cells = [cell.strip() for cell in line.split("|")] + ["", ""]
        rows.append(Row(cells[0], parsed_axes(cells[1]), cells[2], cells[3]))
    return tuple(rows)


def parsed_axes(text: str) -> Axes:
    """Read axes: letters and numbers, products in parentheses."""
    return tuple(tuple((a or b).split()) for a, b in _AXIS.findall(text))


def read_names(rows: tuple[Row, ...], equal: Iterable[tuple[str, str]], header: Header) -> Reading:
    """Explain the names and shapes of a file by a table.

    ``equal`` lists products of letters that are equal in this format, such as ``("HK", "D")``.
    """
    n_layers, n_heads = (_count(rows, header, letter) for letter in ("i", "h"))
    kept, missing, failure = _chosen(rows, header, n_layers, n_heads)
    known: dict[str, Row] = {}
    for row in kept:
        for name, _, _ in row.names(n_layers, n_heads):
            if name in header.tensors:
                known[name] = row
            elif row.role:
                missing.append(name)
    sizes, unequal = _solved(known, equal, header)
    roles = {row.role: row for row in kept if row.role}
    leftover = [name for name in sorted(header.tensors) if name not in known]
    embed = header.tensors.get(roles["embed"].stored) if "embed" in roles else None
    spares = [
        name for name in leftover
        if embed is not None and (header.tensors[name].shape, header.tensors[name].dtype) == (embed.shape, embed.dtype)
    ]  # fmt: skip
    return Reading(
        n_layers, n_heads, sizes, roles, tuple(n for n in leftover if n not in spares), tuple(spares),
        tuple(name for name, row in known.items() if not row.role), tuple(missing),
        failure or unequal or _integers(known, header) or _unsupported(roles),
    )  # fmt: skip


def rearranged(array: NDArray[np.float32], stored: Axes, wanted: str, sizes: Mapping[str, int]) -> NDArray[np.float32]:
    """Return a tensor with its axes split and ordered as ``wanted``, such as ``"H D K"``; axes of size 1 go."""
    letters = [letter for axis in stored for letter in axis]
    names = wanted.split()
    order = [letters.index(name) for name in names]
    rest = [at for at in range(len(letters)) if at not in order]
    shape = [_size(letter, sizes) for letter in letters]
    moved = array.reshape(shape).transpose([*rest, *order])
    return np.ascontiguousarray(moved.reshape([shape[at] for at in order]))


def _size(letter: str, sizes: Mapping[str, int]) -> int:
    return int(letter) if letter.isdigit() else sizes[letter]


@lru_cache(maxsize=4096)
def _pattern(stored: str) -> re.Pattern[str]:
    number = {"i": r"(?P<i>0|[1-9][0-9]{0,3})", "h": r"(?P<h>0|[1-9][0-9]{0,3})"}
    parts = re.split(r"\{([ih])\}", stored)
    return re.compile("".join(number[p] if at % 2 else re.escape(p) for at, p in enumerate(parts)), re.ASCII)


def _count(rows: tuple[Row, ...], header: Header, letter: str) -> int:
    """Return one more than the largest index; a hole in the numbering shows as missing names."""
    largest = -1
    for row in rows:
        if f"{{{letter}}}" in row.stored:
            found = (_pattern(row.stored).fullmatch(name) for name in header.tensors)
            largest = max([largest, *(int(m.group(letter)) for m in found if m)])
    return min(largest + 1, len(header.tensors), _LARGEST_INDEX)


def _chosen(
    rows: tuple[Row, ...], header: Header, n_layers: int, n_heads: int
) -> tuple[list[Row], list[str], str | None]:
    """Return the rows whose group is there, the names of families without a choice, and a contradiction of groups."""
    there = {
        row.group for row in rows
        if row.role and any(name in header.tensors for name, _, _ in row.names(n_layers, n_heads))
    }  # fmt: skip
    families: dict[str, list[str]] = {}
    for row in rows:
        family, is_choice, _ = row.group.partition(":")
        if is_choice and row.group not in families.setdefault(family, []):
            families[family].append(row.group)
    missing: list[str] = []
    failure: str | None = None
    for family, choices in families.items():
        found = [choice for choice in choices if choice in there]
        if len(found) > 1:
            both = [next(row.stored for row in rows if row.group == choice) for choice in found[:2]]
            failure = f"{both[0]} and {both[1]} are both there, expected one of the two"
        if not found and not family.startswith("?"):
            missing.append(next(row.stored for row in rows if row.group == choices[0]).format(i=0, h=0))
    kept = [row for row in rows if not row.group or not row.role or row.group in there]
    return kept, missing, failure


def _solved(
    known: Mapping[str, Row], equal: Iterable[tuple[str, str]], header: Header
) -> tuple[dict[str, int], str | None]:
    """Solve the letters, and products of letters, from the shapes; return the first equation that does not hold."""
    sizes: dict[str, int] = {}
    failure: str | None = None
    for name, row in sorted(
        known.items(), key=lambda item: sum(len(axis) for axis in item[1].axes) - len(item[1].axes)
    ):
        shape = header.tensors[name].shape
        fits = len(shape) == len(row.axes) and all(
            _binds(sizes, axis, size) for axis, size in zip(row.axes, shape, strict=True)
        )
        if not fits and failure is None:
            failure = f"{name} is {list(shape)}, expected {_spelled(row.axes, sizes)}"
    for left, right in equal:
        both = sizes.get(left), sizes.get(right)
        if None not in both and both[0] != both[1] and failure is None:
            failure = f"{_word(left)} is {both[0]}, expected {_word(right)} = {both[1]}"
    return sizes, failure


def _binds(sizes: dict[str, int], axis: tuple[str, ...], size: int) -> bool:
    """Take the size of an axis for its letters; say whether it agrees with what is known of them."""
    factor = math.prod(int(part) for part in axis if part.isdigit())
    letters = "".join(sorted(part for part in axis if not part.isdigit()))
    if not letters or size % factor:
        return size == factor
    if all(letter in sizes for letter in letters):
        sizes.setdefault(letters, math.prod(sizes[letter] for letter in letters))
    return sizes.setdefault(letters, size // factor) == size // factor


def _spelled(axes: Axes, sizes: Mapping[str, int]) -> str:
    words = [axis[0] if len(axis) == 1 else "".join(axis) for axis in axes]
    keys = ["".join(sorted(part for part in axis if not part.isdigit())) for axis in axes]
    factors = [math.prod(int(part) for part in axis if part.isdigit()) for axis in axes]
    values = [str(f * sizes[k]) if k in sizes else str(f) if not k else "?" for k, f in zip(keys, factors, strict=True)]
    return f"[{', '.join(words)}] = [{', '.join(values)}]"


def _word(letters: str) -> str:
    named = {"D": "d_model", "HK": "heads * d_head", "Z": "the hidden layer of the head", "K": "d_head"}
    return named.get(letters, letters)


def _integers(known: Mapping[str, Row], header: Header) -> str | None:
    for name, row in known.items():
        info = header.tensors[name]
        if row.role and not info.is_float:
            return f"{name} has dtype {info.dtype}, expected F64, F32, F16 or BF16"
    return None


def _unsupported(roles: Mapping[str, Row]) -> str | None:
    """Refuse parts without what they belong to: a bias without weight, an MLP's norm without MLP."""
    for role, row in roles.items():
        if role.startswith("b_") and role != "b_U" and f"W_{role[2:]}" not in roles:
            return f"{row.stored.format(i=0, h=0)} is the bias of a weight that is not there"
        if role.endswith(".bias") and role.replace(".bias", ".weight") not in roles:
            return f"{row.stored.format(i=0, h=0)} is the shift of a norm whose gain is not there"
    norms = [role for role in ("norm_attention.weight", "norm_mlp.weight") if role in roles]
    if norms and ("norm_mlp.weight" in roles) != ("W_in" in roles and "norm_attention.weight" in roles):
        return "norms and sublayers do not pair: expected one before or after attention and one for an MLP"
    for site in ("norm_attention", "norm_mlp", "norm_final", "norm_query", "norm_key"):
        has = f"{site}.weight" in roles, f"{site}.bias" in roles
        first = "norm_attention.bias" in roles
        if has[0] and norms and site in ("norm_mlp", "norm_final") and has[1] != first:
            return "some norms have a shift and some have none, expected one kind of norm"
    return None
