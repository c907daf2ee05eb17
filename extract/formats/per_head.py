"""Attention-only models with one linear layer per head, as in the puzzles of A. Arditi and others.

Source: ``layers.i.heads.h.W_Q`` [d_head, d_model] and one output map for all heads of a layer.
"""

from __future__ import annotations

from extract.formats.layout import table
from extract.formats.settle import Policy
from extract.formats.tabled import TabledFormat

_ROWS = table("""
    tok_embed.weight                    | V D     | embed
    pos_embed.weight                    | C D     | pos_embed | ?positions
    layers.{i}.heads.{h}.W_Q.weight     | K D     | W_Q
    layers.{i}.heads.{h}.W_Q.bias       | K       | b_Q       | ?bias
    layers.{i}.heads.{h}.W_K.weight     | K D     | W_K
    layers.{i}.heads.{h}.W_K.bias       | K       | b_K       | ?bias
    layers.{i}.heads.{h}.W_V.weight     | K D     | W_V
    layers.{i}.heads.{h}.W_V.bias       | K       | b_V       | ?bias
    layers.{i}.W_O.weight               | D (H K) | W_O
    layers.{i}.W_O.bias                 | D       | b_O       | ?bias_o
    unembed.weight                      | U D     | W_U
    unembed.bias                        | U       | b_U       | ?bias_u
""")
PER_HEAD = TabledFormat(
    "per_head", "attention with a linear layer per head", _ROWS, policy=Policy(always={"norm": "none"}), tell="W_O"
)
