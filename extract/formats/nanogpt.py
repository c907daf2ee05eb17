"""nanoGPT and minGPT: GPT-2's parts as linear layers [out, in].

Source: karpathy/nanoGPT ``model.py`` (``model_args`` in the file; exact GELU, epsilon 1e-5, tied head) and
karpathy/minGPT, old (``tok_emb``; exact GELU) and since 2022 (nanoGPT's names, tanh GELU, head of its own). The two
share names and shapes; without ``model_args`` in the file the activation must be stated.
"""

from __future__ import annotations

from typing import final

from extract.formats.format import Source
from extract.formats.layout import Reading, table
from extract.formats.settle import Policy
from extract.formats.tabled import TabledFormat, Taken
from extract.network import Architecture, Array

_NANO = table("""
    wte.weight                 | V D       | embed
    wpe.weight                 | C D       | pos_embed
    h.{i}.ln_1.weight          | D         | norm_attention.weight
    h.{i}.ln_1.bias            | D         | norm_attention.bias   | ?shift
    h.{i}.attn.c_attn.weight   | (3 H K) D | W_QKV
    h.{i}.attn.c_attn.bias     | (3 H K)   | b_QKV                 | ?bias
    h.{i}.attn.c_proj.weight   | D (H K)   | W_O
    h.{i}.attn.c_proj.bias     | D         | b_O                   | ?bias
    h.{i}.attn.bias            | 1 1 C C   |
    h.{i}.ln_2.weight          | D         | norm_mlp.weight
    h.{i}.ln_2.bias            | D         | norm_mlp.bias         | ?shift
    h.{i}.mlp.c_fc.weight      | M D       | W_in
    h.{i}.mlp.c_fc.bias        | M         | b_in                  | ?bias
    h.{i}.mlp.c_proj.weight    | D M       | W_out
    h.{i}.mlp.c_proj.bias      | D         | b_out                 | ?bias
    ln_f.weight                | D         | norm_final.weight
    ln_f.bias                  | D         | norm_final.bias       | ?shift
    lm_head.weight             | U D       | W_U                   | ?head
""")
_MIN = table("""
    tok_emb.weight                | V D     | embed
    pos_emb                       | 1 C D   | pos_embed
    blocks.{i}.ln1.weight         | D       | norm_attention.weight
    blocks.{i}.ln1.bias           | D       | norm_attention.bias
    blocks.{i}.attn.query.weight  | (H K) D | W_Q
    blocks.{i}.attn.query.bias    | (H K)   | b_Q                   | ?bias
    blocks.{i}.attn.key.weight    | (H K) D | W_K
    blocks.{i}.attn.key.bias      | (H K)   | b_K                   | ?bias
    blocks.{i}.attn.value.weight  | (H K) D | W_V
    blocks.{i}.attn.value.bias    | (H K)   | b_V                   | ?bias
    blocks.{i}.attn.proj.weight   | D (H K) | W_O
    blocks.{i}.attn.proj.bias     | D       | b_O                   | ?bias_o
    blocks.{i}.attn.mask          | 1 1 C C |
    blocks.{i}.ln2.weight         | D       | norm_mlp.weight
    blocks.{i}.ln2.bias           | D       | norm_mlp.bias
    blocks.{i}.mlp.0.weight       | M D     | W_in
    blocks.{i}.mlp.0.bias         | M       | b_in                  | ?bias_mlp
    blocks.{i}.mlp.2.weight       | D M     | W_out
    blocks.{i}.mlp.2.bias         | D       | b_out                 | ?bias_mlp
    ln_f.weight                   | D       | norm_final.weight
    ln_f.bias                     | D       | norm_final.bias
    head.weight                   | U D     | W_U
    head.bias                     | U       | b_U                   | ?bias_u
""")
_ALWAYS = {"attention": "causal", "norm_place": "before", "norm": "layernorm"}
_EQUAL = (("HK", "D"),)


@final
class NanoGpt(TabledFormat):
    """GPT-2's names with weights [out, in]: nanoGPT where the file carries its model_args, else it or minGPT."""

    def policy_for(self, source: Source, reading: Reading) -> Policy:
        """Return nanoGPT's own defaults, without the activation where the file may be minGPT's."""
        usually = {"eps": 1e-5, **({"activation": "gelu_erf"} if _has_model_args(source) else {})}
        return Policy(always=_ALWAYS, usually=usually, norm_without_shift="layernorm")

    def unembedding(self, source: Source, taken: Taken, a: Architecture) -> tuple[Array, Array]:
        """Return the head; only nanoGPT, known by its model_args, ties it."""
        self_tied = TabledFormat.unembedding
        if not _has_model_args(source):
            return _UNTIED.unembedding(source, taken, a)
        return self_tied(self, source, taken, a)


def _has_model_args(source: Source) -> bool:
    return "model_args" in (getattr(source.header, "metadata", None) or {}) or "model_args" in source.config.values


_UNTIED = TabledFormat("nanogpt", "minGPT", _NANO)
NANOGPT = NanoGpt("nanogpt", "nanoGPT", _NANO, equal=_EQUAL, inner_prefix="transformer.", tell="W_QKV", is_tied=True)
MINGPT = TabledFormat(
    "mingpt", "minGPT", _MIN, equal=_EQUAL, tell="W_in",
    policy=Policy(always=_ALWAYS, usually={"eps": 1e-5, "activation": "gelu_erf"}),
)  # fmt: skip
