"""Tracr's compiled models: haiku parameter names, and a config.json for what the parameters do not hold.

Source: ``tracr.compiler`` 1.0: attention and ReLU MLPs without norms. The unembedding is not among the parameters: a
categorical output reads the residual rows of the output basis, a numerical one a single row, and config.json lists
them as ``unembed.residual_rows``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, final

import numpy as np

from extract.errors import CheckpointError
from extract.formats.config import Config
from extract.formats.format import Plan, Source
from extract.formats.gates import shown
from extract.formats.layout import table
from extract.formats.safetensors import Header
from extract.formats.settle import Policy
from extract.formats.tabled import TabledFormat, Taken
from extract.network import Architecture, Array

_ROWS = table("""
    token_embed/embeddings                   | V D     | embed
    pos_embed/embeddings                     | C D     | pos_embed
    transformer/layer_{i}/attn/query/w       | D (H K) | W_Q
    transformer/layer_{i}/attn/query/b       | (H K)   | b_Q   | ?bias
    transformer/layer_{i}/attn/key/w         | D (H K) | W_K
    transformer/layer_{i}/attn/key/b         | (H K)   | b_K   | ?bias
    transformer/layer_{i}/attn/value/w       | D (H K) | W_V
    transformer/layer_{i}/attn/value/b       | (H K)   | b_V   | ?bias
    transformer/layer_{i}/attn/linear/w      | (H K) D | W_O
    transformer/layer_{i}/attn/linear/b      | D       | b_O   | ?bias_o
    transformer/layer_{i}/mlp/linear_1/w     | D M     | W_in  | ?mlp
    transformer/layer_{i}/mlp/linear_1/b     | M       | b_in  | ?bias_in
    transformer/layer_{i}/mlp/linear_2/w     | M D     | W_out | ?mlp
    transformer/layer_{i}/mlp/linear_2/b     | D       | b_out | ?bias_out
""")
_ASK = "config.json unembed.residual_rows = ... (the residual dimensions of the output basis, in order)"


@final
class Tracr(TabledFormat):
    """An assembled Tracr model, exported by its haiku names; ``:`` or ``.`` for a ``/`` is the same name."""

    def view(self, header: Header) -> Header:
        """Return the header with one spelling of the names."""
        seen = super().view(header)
        spelled = {name: name.replace(":", "/").replace("~/", "").replace(".", "/") for name in seen.tensors}
        if len(set(spelled.values())) < len(spelled):
            return seen
        return replace(seen, tensors={spelled[name]: info for name, info in seen.tensors.items()})

    def plan(self, source: Source) -> Plan:
        """Conclude the architecture; the output basis is one of its facts."""
        made = super().plan(source)
        _, _, settled = self.settled(source)
        rows = _residual_rows(source.config, settled.sizes["D"])
        missing = made.missing + (() if rows else (_ASK,))
        if made.architecture is None or not rows:
            return Plan(None, missing, made.evidence, made.d_vocab, len(rows))
        told = f"logits are the residual rows {shown(list(rows))}; the parameters hold no unembedding"
        return Plan(replace(made.architecture, d_vocab_out=len(rows)), (), (*made.evidence, told))

    def unembedding(self, source: Source, taken: Taken, a: Architecture) -> tuple[Array, Array]:
        """Return the choice of residual rows."""
        rows = _residual_rows(source.config, a.d_model)
        chosen = np.zeros((a.d_model, len(rows)), np.float32)
        chosen[list(rows), np.arange(len(rows))] = 1
        return chosen, np.zeros(len(rows), np.float32)


def _residual_rows(config: Config, d_model: int) -> tuple[int, ...]:
    """Return the rows that the logits read. Raises: CheckpointError for a list that cannot be one."""
    unembed: Any = config.values.get("unembed")
    if unembed is None:
        return ()
    inner = Config(unembed, f"{config.place}: unembed") if isinstance(unembed, dict) else None
    rows: Any = inner.values.get("residual_rows") if inner else None
    fits = isinstance(rows, list) and rows and all(type(r) is int and 0 <= r < d_model for r in rows)
    if not fits or len(set(rows)) < len(rows):
        raise config.wrong("unembed", f"residual_rows, distinct whole numbers below d_model = {d_model}")
    encoder: Any = config.values.get("output_encoder")
    coded = encoder.get("encoding_map") if isinstance(encoder, dict) else None
    n_codes = len(coded) if isinstance(coded, list | dict) else 1 if _is_numerical(encoder) else None
    if n_codes not in (None, len(rows)):
        raise CheckpointError(
            f"unembed lists {len(rows)} residual rows, but output_encoder has {n_codes} outputs", place=config.place
        )
    return tuple(rows)


def _is_numerical(encoder: Any) -> bool:
    return isinstance(encoder, dict) and encoder.get("type") == "numerical"


TRACR = Tracr(
    "tracr", "Tracr (haiku parameters)", _ROWS, policy=Policy(always={"norm": "none"}, usually={"activation": "relu"}),
    tell="W_Q", may_tie=False, ignored_keys=("max_seq_len",),
)  # fmt: skip
