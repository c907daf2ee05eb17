"""TransformerLens 4 without HookedTransformer: its native model, and the names a bridge gives to a native model.

Source: ``NativeModel`` of TransformerLens 4: linear layers with biases [out, in], attention always causal, norms before
each part, rotary pairs of neighbours, no bias in the head. A bridge over another framework may keep that framework's
weights the other way round; where shapes cannot show which, the file is refused.
"""

from __future__ import annotations

from typing import final

from extract.formats.format import Source
from extract.formats.layout import Reading, Row, table
from extract.formats.safetensors import Header
from extract.formats.settle import Policy
from extract.formats.stated import Stated
from extract.formats.tabled import TabledFormat

_ROWS = """
    {embed}.weight                       | V D     | embed
    {positions}.weight                   | C D     | pos_embed             | ?positions
    {block}.{{i}}.ln1.weight             | D       | norm_attention.weight
    {block}.{{i}}.ln1.bias               | D       | norm_attention.bias   | ?shift
    {block}.{{i}}.attn.q.weight          | (H K) D | W_Q
    {block}.{{i}}.attn.k.weight          | (G K) D | W_K
    {block}.{{i}}.attn.v.weight          | (G K) D | W_V
    {block}.{{i}}.attn.o.weight          | D (H K) | W_O
    {block}.{{i}}.attn.q.bias            | (H K)   | b_Q                   | ?bias
    {block}.{{i}}.attn.k.bias            | (G K)   | b_K                   | ?bias
    {block}.{{i}}.attn.v.bias            | (G K)   | b_V                   | ?bias
    {block}.{{i}}.attn.o.bias            | D       | b_O                   | ?bias_o
    {block}.{{i}}.attn.causal_mask       | C C     |
    {block}.{{i}}.ln2.weight             | D       | norm_mlp.weight       | ?norm_2
    {block}.{{i}}.ln2.bias               | D       | norm_mlp.bias         | ?shift_2
    {block}.{{i}}.mlp.{into}.weight      | M D     | W_in                  | ?mlp:plain
    {block}.{{i}}.mlp.{into}.bias        | M       | b_in                  | ?bias_in
    {block}.{{i}}.mlp.{out}.weight       | D M     | W_out                 | ?mlp:plain
    {block}.{{i}}.mlp.{out}.bias         | D       | b_out                 | ?bias_out
    {block}.{{i}}.mlp.gate.weight        | M D     | W_gate                | ?mlp:gated
    {block}.{{i}}.mlp.in.weight          | M D     | W_in                  | ?mlp:gated
    {block}.{{i}}.mlp.out.weight         | D M     | W_out                 | ?mlp:gated
    {final}.weight                       | D       | norm_final.weight
    {final}.bias                         | D       | norm_final.bias       | ?shift_f
    {head}.weight                        | U D     | W_U
    {head}.bias                          | U       | b_U                   | ?bias_u
"""
_POLICY = Policy(
    always={"attention": "causal", "norm_place": "before", "norm": "stored"},
    usually={"eps": 1e-5, "rotary_base": 10000.0, "rotary_pairs": "neighbours"},
)
#: The native model pairs neighbours whatever its config holds here.
_IGNORED = ("rotary_adjacent_pairs",)


class Native(TabledFormat):
    """The native model; what its config says of norms and pairs is not what its code does, the tensors and code are."""

    def stated(self, source: Source) -> Stated:
        """Return the statements; two keys do not do in the native model what they say."""
        stated = super().stated(source)
        _, reading = self.read(self.view(source.header))
        for config in stated.configs:
            if config.flag("use_attn_scale", default=True) is False:
                raise config.wrong("use_attn_scale", "true or nothing", "the native model always divides by its scale")
            activation = config.text("act_fn") or "silu"
            if "W_gate" in reading.roles and activation.lower() not in ("silu", "swish", "gelu", "gelu_new"):
                raise config.wrong(
                    "act_fn", "silu, gelu or gelu_new beside a gate", "the native model takes silu instead"
                )
        return stated


@final
class Bridge(Native):
    """The names of a TransformerBridge over a native model."""

    def table_rows(self, view: Header) -> tuple[Row, ...]:
        """An MLP has the same names with and without a gate here: the gate decides."""
        is_gated = any(name.endswith(".mlp.gate.weight") for name in view.tensors)
        other = "?mlp:plain" if is_gated else "?mlp:gated"
        return tuple(row for row in self.rows if row.group != other)

    def objection(self, view: Header, reading: Reading) -> str | None:
        """Weights whose shapes fit either way round may be those of a wrapped GPT-2."""
        sizes = reading.sizes
        if "W_in" in reading.roles and sizes.get("M") == sizes.get("D"):
            return "mlp.in.weight is square, so nothing shows which way round the bridge's weights are"
        return None


NATIVE = Native(
    "transformer_lens_native", "TransformerLens 4 (native)",
    table(_ROWS.format(
        embed="tok_embed", positions="pos", block="layers", into="fc_in", out="fc_out", final="ln_out", head="head",
    )), policy=_POLICY, tell="W_K", ignored_keys=_IGNORED,
)  # fmt: skip
BRIDGE = Bridge(
    "transformer_lens_bridge", "TransformerLens 4 (bridge)",
    table(_ROWS.format(
        embed="embed", positions="pos_embed", block="blocks", into="in", out="out", final="ln_final", head="unembed",
    )), policy=_POLICY, tell="W_K", ignored_keys=_IGNORED,
)  # fmt: skip
