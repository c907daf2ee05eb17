"""A format that is a table: detection, plan and network from a layout and a policy, with a few places to differ.

One such format is a subclass or an instance with its rows; nothing here knows any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from extract.errors import CheckpointError
from extract.formats.config import Config
from extract.formats.format import Format, Match, Plan, Source
from extract.formats.layout import AXES, Reading, Row, read_names, rearranged
from extract.formats.safetensors import Header, Tensors
from extract.formats.settle import Policy, Settled, settle
from extract.formats.stated import Stated
from extract.network import Architecture, Array, Head, Layer, Network, Norm

#: Wrappers that put their name before every tensor.
PREFIXES = ("_orig_mod.", "module.", "model.", "net.", "network.")
_ZERO_BY_LAYER: Mapping[str, tuple[str, ...]] = {
    "b_Q": ("H", "K"), "b_K": ("H", "K"), "b_V": ("H", "K"), "b_O": ("D",),
    "W_in": ("D", "M"), "b_in": ("M",), "W_out": ("M", "D"), "b_out": ("D",), "b_gate": ("M",),
}  # fmt: skip


class TabledFormat(Format):
    """A format given by rows, equalities between products of letters, and a policy.

    ``inner_prefix`` is taken off the names that have it; ``tell`` names a role whose stored shape settles which way
    round the weights are, for the evidence. ``is_tied``: the head is the embedding even where it is stored again;
    ``may_tie``: it is the embedding where it is not stored.
    """

    def __init__(
        self, name: str, title: str, rows: tuple[Row, ...], *, policy: Policy | None = None,
        equal: Iterable[tuple[str, str]] = (), inner_prefix: str = "", tell: str = "", is_tied: bool = False,
        may_tie: bool = True, ignored_keys: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.name, self.title, self.rows = name, title, rows
        self.policy, self.equal, self.inner_prefix = policy or Policy(), tuple(equal), inner_prefix
        self.tell, self.is_tied, self.may_tie, self.ignored_keys = tell, is_tied, may_tie, tuple(ignored_keys)

    def match(self, header: Header) -> Match:
        """Explain the names and shapes of a file by the table."""
        view = self.view(header)
        rows, reading = self.read(view)
        failure = reading.failure or self.objection(view, reading)
        n_tensors = len(header.tensors)
        if "embed" not in reading.roles or not reading.n_layers:
            has_role = n_tensors - len(reading.leftover) - len(reading.spares)
            missing = reading.missing or tuple(row.stored for row in rows if row.role == "embed")
            return Match(self.title, has_role, n_tensors, reading.leftover, missing, failure)
        n_consumed = n_tensors - len(reading.leftover)
        is_complete = not (reading.leftover or reading.missing or failure)
        evidence = self.match_evidence(header, view, reading) if is_complete else ()
        return Match(self.title, n_consumed, n_tensors, reading.leftover, reading.missing, failure, evidence)

    def view(self, header: Header) -> Header:
        """Return the header under the names of the table: a wrapper's prefix and the inner one are off."""
        prefix = common_prefix(header.tensors)
        names = {name: name.removeprefix(prefix).removeprefix(self.inner_prefix) for name in header.tensors}
        if len(set(names.values())) < len(names):
            names = {name: name for name in names}
        return replace(header, tensors={names[name]: info for name, info in header.tensors.items()})

    def table_rows(self, view: Header) -> tuple[Row, ...]:
        """Return the rows for this file; formats whose names are free choose them here."""
        return self.rows

    def objection(self, view: Header, reading: Reading) -> str | None:
        """Return what else does not hold, in words."""
        return None

    def read(self, view: Header) -> tuple[tuple[Row, ...], Reading]:
        """Return the rows and how far they explain the file."""
        rows = self.table_rows(view)
        return rows, read_names(rows, self.equal, view)

    def match_evidence(self, header: Header, view: Header, reading: Reading) -> tuple[str, ...]:
        """Return what settled the format, in sentences."""
        layers = "1 layer" if reading.n_layers == 1 else f"{reading.n_layers} layers"
        lines = [f"all {len(header.tensors)} tensor names are those of {self.title} ({layers}), all shapes fit"]
        row = reading.roles.get(self.tell)
        if row is not None:
            told = view.tensors[reading.names_of(self.tell)[0]]
            axes = ", ".join("".join(axis) for axis in row.axes)
            lines.append(f"{told.name} is {list(told.shape)} = [{axes}]")
        if reading.buffers:
            names = ", ".join(reading.buffers[:3]) + (" ..." if len(reading.buffers) > len(reading.buffers[:3]) else "")
            lines.append(f"buffers are passed over, never trusted: {names}")
        if reading.spares:
            lines.append(f"not used, only passed over as exact copies of the embedding: {', '.join(reading.spares)}")
        if "W_U" not in reading.roles and self.may_tie:
            lines.append("no unembedding is stored: it is the embedding (tied)")
        return tuple(lines)

    def stated(self, source: Source) -> Stated:
        """Return every statement beside the tensors."""
        inside = Config(getattr(source.header, "metadata", None) or {}, "the checkpoint file")
        return Stated((source.config, inside), source.facts, self.ignored_keys)

    def policy_for(self, source: Source, reading: Reading) -> Policy:
        """Return the policy for this file."""
        return self.policy

    def settled(self, source: Source) -> tuple[Header, Reading, Settled]:
        """Return the view, the reading and the settled facts."""
        view = self.view(source.header)
        _, reading = self.read(view)
        policy = self.policy_for(source, reading)
        return view, reading, settle(reading, view, self.stated(source), policy, self.title)

    def plan(self, source: Source) -> Plan:
        """Conclude the architecture from shapes and what is stated. Raises: CheckpointError, SpecError."""
        _, _, settled = self.settled(source)
        sizes = settled.sizes
        return Plan(settled.architecture, settled.missing, settled.evidence, sizes["V"], sizes.get("U", 0))

    def build(self, source: Source, plan: Plan, tensors: Tensors) -> Network:
        """Read the weights. Raises: CheckpointError for weights that are unusable."""
        a = plan.architecture
        if a is None:
            raise LookupError("a plan without an architecture builds no network")
        view, reading, settled = self.settled(source)
        taken = Taken(view, reading, settled.sizes, tensors)
        self.check_values(source, taken, a)
        return assembled(taken, a, settled.has_bare_norms, self.unembedding(source, taken, a))

    def check_values(self, source: Source, taken: Taken, a: Architecture) -> None:
        """Check what only values can show: that spare tensors are copies. Raises: CheckpointError."""
        for name in taken.reading.spares:
            if not np.array_equal(taken.stored(name), taken.stored(taken.reading.names_of("embed")[0])):
                raise CheckpointError(
                    f"{name} has no place in {self.title} and is no copy of the embedding", place=taken.tensors.place,
                    hint="only exact copies are passed over",
                )  # fmt: skip

    def unembedding(self, source: Source, taken: Taken, a: Architecture) -> tuple[Array, Array]:
        """Return W_U [d_model, d_vocab_out] and b_U; the embedding itself where it is tied."""
        embed, bias = taken.array("embed"), taken.array("b_U") if taken.has("b_U") else None
        head = taken.array("W_U") if taken.has("W_U") else embed.T
        if taken.has("W_U") and np.array_equal(head, embed.T):
            head = embed.T
        elif taken.has("W_U") and self.is_tied and self.stated(source).value("tied") is not False:
            raise CheckpointError(
                f"{taken.reading.names_of('W_U')[0]} differs from the embedding, but {self.title} ties them",
                place=taken.tensors.place,
                hint='set "tie_word_embeddings": false in config.json if the stored head is the one that was trained',
            )
        return head, np.zeros(a.d_vocab_out, np.float32) if bias is None else bias

    def count(self, source: Source, network: Network) -> int:
        """Return the number of stored weights: buffers, copies and a tied head aside."""
        view = self.view(source.header)
        _, reading = self.read(view)
        roles = [role for role in reading.roles if role != "W_U" or not np.shares_memory(network.W_U, network.embed)]
        return sum(view.tensors[name].numel for role in roles for name in reading.names_of(role))


def common_prefix(names: Iterable[str]) -> str:
    """Return the wrappers' prefixes that every name starts with."""
    names, found = list(names), ""
    while more := next((p for p in PREFIXES if all(name.startswith(found + p) for name in names)), ""):
        found += more
    return found


class Taken:
    """The tensors of a file by role, in the axes the network has them; each is read on request."""

    def __init__(self, view: Header, reading: Reading, sizes: Mapping[str, int], tensors: Tensors) -> None:
        self.view, self.reading, self.sizes, self.tensors = view, reading, sizes, tensors
        self._kept: dict[str, Array] = {}

    def has(self, role: str) -> bool:
        """Say whether the file stores a role."""
        return role in self.reading.roles

    def stored(self, name: str) -> Array:
        """Return one tensor as it is stored."""
        return self.tensors.array(self.view.tensors[name].name)

    def array(self, role: str, layer: int = 0) -> Array:
        """Return a role's tensor in a layer; keys and values once for each group."""
        if role == "embed" and role in self._kept:
            return self._kept[role]
        row = self.reading.roles[role]
        names = [n for n, i, _ in row.names(self.reading.n_layers, self.reading.n_stored_heads) if i == layer]
        wanted = AXES[role]
        if role == "W_U" and any("Z" in axis for axis in row.axes):
            wanted = wanted.replace("D", "Z")
        if not any("G" in axis for axis in row.axes):
            wanted = wanted.replace("G", "H")
        if "{h}" in row.stored:
            inner = wanted.replace("H ", "")
            made = np.stack([rearranged(self.stored(n), row.axes, inner, self.sizes) for n in names])
        else:
            made = rearranged(self.stored(names[0]), row.axes, wanted, self.sizes)
        if role == "embed":
            self._kept[role] = made
        return made

    def norm(self, role: str, layer: int, a: Architecture) -> Norm | None:
        """Return a stored norm; the shift of one without is 0."""
        if not self.has(f"{role}.weight"):
            return None
        weight = self.array(f"{role}.weight", layer)
        has_shift = self.has(f"{role}.bias")
        return Norm(weight, self.array(f"{role}.bias", layer) if has_shift else np.zeros_like(weight))


def assembled(taken: Taken, a: Architecture, is_bare: bool, unembedding: tuple[Array, Array]) -> Network:
    """Build the network from the tensors by role."""
    sizes = {**taken.sizes, "M": a.d_mlp}
    bare = Norm(np.ones(a.d_model, np.float32), np.zeros(a.d_model, np.float32))

    def stream_norm(role: str, i: int) -> Norm | None:
        return bare if is_bare and (role != "norm_mlp" or a.d_mlp) else taken.norm(role, i, a)

    head = None
    if taken.has("head.W"):
        head = Head(taken.array("head.W"), taken.array("head.b"), taken.norm("head.norm", 0, a), a.activation)
    return Network(
        architecture=a,
        digest=taken.tensors.digest,
        embed=taken.array("embed"),
        pos_embed=_position_table(taken, a),
        layers=tuple(_layer(taken, i, a, sizes, stream_norm) for i in range(a.n_layers)),
        norm_final=stream_norm("norm_final", 0),
        W_U=unembedding[0],
        b_U=unembedding[1],
        embed_bias=taken.array("embed_bias") if taken.has("embed_bias") else None,
        head=head,
    )


def _layer(taken: Taken, i: int, a: Architecture, sizes: Mapping[str, int], stream_norm: Any) -> Layer:
    parts: dict[str, Any] = {}
    for letter in "WbQ"[:2]:
        if taken.has(f"{letter}_QKV"):
            joined = taken.array(f"{letter}_QKV", i)
            parts |= {f"{letter}_{x}": np.ascontiguousarray(joined[at]) for at, x in enumerate("QKV")}
    for role in ("W_Q", "W_K", "W_V", "W_O", *_ZERO_BY_LAYER):
        if role in parts:
            continue
        if taken.has(role):
            array = taken.array(role, i)
            is_grouped = role in ("W_K", "W_V", "b_K", "b_V") and len(array) < a.n_heads
            parts[role] = np.repeat(array, a.n_heads // len(array), axis=0) if is_grouped else array
        elif role != "b_gate" or taken.has("W_gate"):
            parts[role] = np.zeros([sizes[letter] for letter in _ZERO_BY_LAYER[role]], np.float32)
    if taken.has("W_gate"):
        parts["W_gate"] = taken.array("W_gate", i)
    parts |= {name: taken.norm(name, i, a) for name in ("norm_query", "norm_key", "norm_hidden")}
    parts |= {name: stream_norm(name, i) for name in ("norm_attention", "norm_mlp")}
    return Layer(**parts)


def _position_table(taken: Taken, a: Architecture) -> Array | None:
    if taken.has("pos_embed"):
        return taken.array("pos_embed")
    return sinusoids(a.n_ctx, a.d_model) if a.positions == "sinusoidal" else None


def sinusoids(n_ctx: int, d_model: int) -> Array:
    """Return the computed table [n_ctx, d_model]: sines at even dimensions, cosines at odd, rounded from float64.

    Source:  Vaswani et al. 2017, "Attention is all you need", section 3.5.
    """
    angles = np.arange(n_ctx)[:, None] * 10000.0 ** (-2 * np.arange((d_model + 1) // 2) / d_model)
    made = np.zeros((n_ctx, d_model))
    made[:, 0::2] = np.sin(angles)
    made[:, 1::2] = np.cos(angles[:, : d_model // 2])
    return made.astype(np.float32)
