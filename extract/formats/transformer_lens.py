"""TransformerLens state dicts, versions 1 to 3, and the two left-facing layouts of 2022 that share their names.

Source: the parameters of ``HookedTransformer`` [head, d_model, d_head]; of the 2022 grokking notebooks, whose weights
multiply from the left and whose output is [d_model, heads * d_head]; of the EasyTransformer between them.
"""

from __future__ import annotations

import re
from typing import final

import numpy as np

from extract.errors import CheckpointError
from extract.formats.format import Source
from extract.formats.layout import Reading, table
from extract.formats.safetensors import Header
from extract.formats.settle import Policy
from extract.formats.stated import Stated
from extract.formats.tabled import TabledFormat, Taken
from extract.network import Architecture

_ROTARY = re.compile(r"blocks\.\d+\.attn\.rotary_(sin|cos)")
_CHECKED_TO = 1e-5

_RIGHT = table("""
    embed.W_E                      | V D   | embed
    pos_embed.W_pos                | C D   | pos_embed             | ?positions
    blocks.{i}.ln1.w               | D     | norm_attention.weight | ?norm
    blocks.{i}.ln1.b               | D     | norm_attention.bias   | ?shift
    blocks.{i}.attn.W_Q            | H D K | W_Q
    blocks.{i}.attn.W_K            | H D K | W_K                   | keys:each
    blocks.{i}.attn.W_V            | H D K | W_V                   | keys:each
    blocks.{i}.attn._W_K           | G D K | W_K                   | keys:grouped
    blocks.{i}.attn._W_V           | G D K | W_V                   | keys:grouped
    blocks.{i}.attn.W_O            | H K D | W_O
    blocks.{i}.attn.b_Q            | H K   | b_Q                   | ?bias_q
    blocks.{i}.attn.b_K            | H K   | b_K                   | ?bias_kv:each
    blocks.{i}.attn.b_V            | H K   | b_V                   | ?bias_kv:each
    blocks.{i}.attn._b_K           | G K   | b_K                   | ?bias_kv:grouped
    blocks.{i}.attn._b_V           | G K   | b_V                   | ?bias_kv:grouped
    blocks.{i}.attn.b_O            | D     | b_O                   | ?bias_o
    blocks.{i}.attn.q_norm.w       | K     | norm_query.weight     | ?qk_norm
    blocks.{i}.attn.k_norm.w       | K     | norm_key.weight       | ?qk_norm
    blocks.{i}.attn.mask           | C C   |
    blocks.{i}.attn.IGNORE         |       |
    blocks.{i}.attn.rotary_sin     | C R   |
    blocks.{i}.attn.rotary_cos     | C R   |
    blocks.{i}.ln2.w               | D     | norm_mlp.weight       | ?norm_2
    blocks.{i}.ln2.b               | D     | norm_mlp.bias         | ?shift_2
    blocks.{i}.mlp.W_in            | D M   | W_in                  | ?mlp
    blocks.{i}.mlp.W_out           | M D   | W_out                 | ?mlp
    blocks.{i}.mlp.W_gate          | D M   | W_gate                | ?gate
    blocks.{i}.mlp.b_in            | M     | b_in                  | ?bias_in
    blocks.{i}.mlp.b_out           | D     | b_out                 | ?bias_out
    blocks.{i}.mlp.ln.w            | M     | norm_hidden.weight    | ?norm_hidden
    blocks.{i}.mlp.ln.b            | M     | norm_hidden.bias      | ?norm_hidden
    ln_final.w                     | D     | norm_final.weight     | ?norm_f
    ln_final.b                     | D     | norm_final.bias       | ?shift_f
    unembed.W_U                    | D U   | W_U
    unembed.b_U                    | U     | b_U                   | ?bias_u
""")

_LEFT = """
    blocks.{{i}}.attn.W_Q   | H K D   | W_Q
    blocks.{{i}}.attn.W_K   | H K D   | W_K
    blocks.{{i}}.attn.W_V   | H K D   | W_V
    blocks.{{i}}.attn.W_O   | {W_O}   | W_O
    blocks.{{i}}.attn.b_Q   | H K     | b_Q     | ?bias_q
    blocks.{{i}}.attn.b_K   | H K     | b_K     | ?bias_k
    blocks.{{i}}.attn.b_V   | H K     | b_V     | ?bias_v
    blocks.{{i}}.attn.b_O   | D       | b_O     | ?bias_o
    blocks.{{i}}.attn.mask  | C C     |
    blocks.{{i}}.attn.IGNORE |        |
    blocks.{{i}}.mlp.W_in   | M D     | W_in    | ?mlp
    blocks.{{i}}.mlp.W_out  | D M     | W_out   | ?mlp
    blocks.{{i}}.mlp.b_in   | M       | b_in    | ?bias_in
    blocks.{{i}}.mlp.b_out  | D       | b_out   | ?bias_out
    embed.W_E               | D V     | embed
    pos_embed.W_pos         | {W_pos} | pos_embed | ?positions
    unembed.W_U             | {W_U}   | W_U
    unembed.b_U             | U       | b_U     | ?bias_u
"""
_POLICY = Policy(always={"norm_place": "before"}, hides_norms=True)


@final
class TransformerLens(TabledFormat):
    """HookedTransformer's own layout; what its buffers hold is checked against what is computed, or passed over."""

    def stated(self, source: Source) -> Stated:
        """Return the statements; a hidden layer norm is part of the activation's name."""
        stated = super().stated(source)
        _, reading = self.read(self.view(source.header))
        for config in stated.configs:
            said = config.values.get("act_fn")
            if isinstance(said, str) and said.endswith("_ln") != ("norm_hidden.weight" in reading.roles):
                raise config.wrong("act_fn", "a name with _ln exactly where mlp.ln tensors are stored")
        return stated

    def objection(self, view: Header, reading: Reading) -> str | None:
        """Rotary tables take the place of learned positions."""
        if "pos_embed" in reading.roles and any(_ROTARY.fullmatch(name) for name in reading.buffers):
            return "pos_embed.W_pos and attn.rotary_sin are both there, expected one kind of positions"
        return None

    def check_values(self, source: Source, taken: Taken, a: Architecture) -> None:
        """Check rotary tables against the rotation that is read, and the bias that a gated MLP adds elsewhere."""
        super().check_values(source, taken, a)
        if taken.has("W_gate") and taken.has("b_in") and any(taken.array("b_in", i).any() for i in range(a.n_layers)):
            raise CheckpointError(
                "mlp.b_in is not zero: TransformerLens adds it after the gate, which is not read",
                place=taken.tensors.place,
                hint="fold it into b_out: b_out + b_in @ W_out",
            )
        for name in taken.reading.buffers:
            match = _ROTARY.fullmatch(name)
            if match and taken.view.tensors[name].is_float:
                stored = taken.stored(name)
                if a.rotary is None or not _is_rotation(stored, match.group(1), a):
                    raise CheckpointError(
                        f"{name} is not the table of the rotation that config or spec state", place=taken.tensors.place
                    )


def _is_rotation(stored: np.ndarray, which: str, a: Architecture) -> bool:
    rotary = a.rotary
    if rotary is None or stored.shape[1] != rotary.n_dims:
        return False
    angles = np.arange(len(stored))[:, None] * rotary.base ** (-2 * np.arange(rotary.n_dims // 2) / rotary.n_dims)
    angles = np.repeat(angles, 2, axis=1) if rotary.pairing == "neighbours" else np.tile(angles, (1, 2))
    computed = np.sin(angles) if which == "sin" else np.cos(angles)
    return bool(np.abs(stored - computed).max() <= _CHECKED_TO * max(1.0, float(np.abs(angles).max())))


RIGHT_FACING = TransformerLens("transformer_lens", "TransformerLens", _RIGHT, policy=_POLICY, tell="W_Q", equal=())
LEFT_FACING = TabledFormat(
    "left_facing", "the left-facing layout of 2022",
    table(_LEFT.format(W_O="D (H K)", W_pos="C D", W_U="D U")),
    policy=Policy(always={"norm": "none"}), tell="W_O",
)  # fmt: skip
EASY_TRANSFORMER = TabledFormat(
    "easy_transformer", "EasyTransformer of 2022",
    table(_LEFT.format(W_O="H D K", W_pos="D C", W_U="U D")),
    policy=Policy(always={"norm_place": "before"}, hides_norms=True), tell="W_O",
)  # fmt: skip
