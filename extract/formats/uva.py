"""The UvA deep learning tutorial's transformer, as its Lightning checkpoints store it.

Source: phlippe/uvadlc_notebooks, tutorial 6: one-hot rows through ``input_net``, computed sinusoids, encoder blocks
with ``qkv_proj`` split by head, a head with a hidden layer. Its code puts norms after each part; what the names do
not say is asked for.
"""

from __future__ import annotations

from extract.formats.layout import table
from extract.formats.settle import Policy
from extract.formats.tabled import TabledFormat

_ROWS = table("""
    input_net.1.weight                                | D V         | embed
    input_net.1.bias                                  | D           | embed_bias            | ?bias_e
    positional_encoding.pe                            | 1 C D       | pos_embed             | ?positions
    transformer.layers.{i}.self_attn.qkv_proj.weight  | (H 3 K) D   | W_QKV
    transformer.layers.{i}.self_attn.qkv_proj.bias    | (H 3 K)     | b_QKV                 | ?bias
    transformer.layers.{i}.self_attn.o_proj.weight    | D (H K)     | W_O
    transformer.layers.{i}.self_attn.o_proj.bias      | D           | b_O                   | ?bias_o
    transformer.layers.{i}.linear_net.0.weight        | M D         | W_in
    transformer.layers.{i}.linear_net.0.bias          | M           | b_in                  | ?bias_mlp
    transformer.layers.{i}.linear_net.3.weight        | D M         | W_out
    transformer.layers.{i}.linear_net.3.bias          | D           | b_out                 | ?bias_mlp
    transformer.layers.{i}.norm1.weight               | D           | norm_attention.weight
    transformer.layers.{i}.norm1.bias                 | D           | norm_attention.bias
    transformer.layers.{i}.norm2.weight               | D           | norm_mlp.weight
    transformer.layers.{i}.norm2.bias                 | D           | norm_mlp.bias
    output_net.0.weight                               | Z D         | head.W
    output_net.0.bias                                 | Z           | head.b
    output_net.1.weight                               | Z           | head.norm.weight
    output_net.1.bias                                 | Z           | head.norm.bias
    output_net.4.weight                               | U Z         | W_U
    output_net.4.bias                                 | U           | b_U                   | ?bias_u
""")
UVA = TabledFormat(
    "uva_tutorial", "the UvA tutorial's transformer", _ROWS, equal=(("HK", "D"), ("Z", "D")), tell="W_QKV",
    policy=Policy(usually={"eps": 1e-5}, norm_without_shift="layernorm"),
)  # fmt: skip
