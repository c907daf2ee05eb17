"""Llama, Mistral, Qwen 2 and 3: RMS norms, rotary positions, gated MLPs, grouped keys, norms of queries and keys.

Source: the parameter names of transformers and MLX, which are the same. Gemma shares names and is another function;
config.json tells, and a gated GELU without a word on the model is refused.
"""

from __future__ import annotations

from typing import final

from extract.formats.format import Source
from extract.formats.layout import table
from extract.formats.settle import Policy
from extract.formats.stated import Stated
from extract.formats.tabled import TabledFormat

_ROWS = table("""
    embed_tokens.weight                          | V D     | embed
    layers.{i}.input_layernorm.weight            | D       | norm_attention.weight
    layers.{i}.self_attn.q_proj.weight           | (H K) D | W_Q
    layers.{i}.self_attn.q_proj.bias             | (H K)   | b_Q                | ?bias
    layers.{i}.self_attn.k_proj.weight           | (G K) D | W_K
    layers.{i}.self_attn.k_proj.bias             | (G K)   | b_K                | ?bias
    layers.{i}.self_attn.v_proj.weight           | (G K) D | W_V
    layers.{i}.self_attn.v_proj.bias             | (G K)   | b_V                | ?bias
    layers.{i}.self_attn.o_proj.weight           | D (H K) | W_O
    layers.{i}.self_attn.o_proj.bias             | D       | b_O                | ?bias_o
    layers.{i}.self_attn.q_norm.weight           | K       | norm_query.weight  | ?qk_norm
    layers.{i}.self_attn.k_norm.weight           | K       | norm_key.weight    | ?qk_norm
    layers.{i}.post_attention_layernorm.weight   | D       | norm_mlp.weight
    layers.{i}.mlp.gate_proj.weight              | M D     | W_gate
    layers.{i}.mlp.gate_proj.bias                | M       | b_gate             | ?bias_mlp
    layers.{i}.mlp.up_proj.weight                | M D     | W_in
    layers.{i}.mlp.up_proj.bias                  | M       | b_in               | ?bias_mlp
    layers.{i}.mlp.down_proj.weight              | D M     | W_out
    layers.{i}.mlp.down_proj.bias                | D       | b_out              | ?bias_mlp
    norm.weight                                  | D       | norm_final.weight
    lm_head.weight                               | U D     | W_U                | ?head
""")
_KINDS = (None, "llama", "mistral", "qwen2", "qwen3")


@final
class Llama(TabledFormat):
    """The family of Llama, Mistral and Qwen."""

    def stated(self, source: Source) -> Stated:
        """Return the statements; a model_type outside of the family is refused."""
        stated = super().stated(source)
        for config in stated.configs:
            if config.text("model_type") not in _KINDS:
                raise config.wrong(
                    "model_type", f"one of {', '.join(filter(None, _KINDS))}", "others differ in the norm"
                )
        gelu = [s for s in stated.statements("activation") if s.value.startswith("gelu")]
        if gelu and stated.value("model_type") is None:
            raise gelu[0].error("expected model_type beside it", "a gated GELU is Gemma's, whose norms are others")
        return stated


LLAMA = Llama(
    "llama", "Llama, Mistral or Qwen", _ROWS, inner_prefix="model.", tell="W_K",
    policy=Policy(
        always={"attention": "causal", "norm": "rms", "norm_place": "before", "positions": "rotary"},
        usually={"rotary_pairs": "halves"}, must_ask=("rotary_base", "activation", "eps"),
    ),
)  # fmt: skip
