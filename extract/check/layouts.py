"""The checker's own table of file layouts: the role of each stored name, and how it is turned to ``x @ W + b``.

A line reads ``role name turn``; ``#`` counts layers, ``@`` heads; ``T`` transposes, ``hdk`` and ``hkd`` join the axes
of heads as they are stored, ``?`` says that it may be absent. ``norm r: n``, ``map r: n`` stand for several lines.
"""

from __future__ import annotations

from typing import Any

#: What stands for a norm's, a linear map's or four projections' lines: ``role: name``.
MACROS = {
    "norm": "{r}.w {n}.weight ?\n{r}.b {n}.bias ?",
    "map": "{r} {n}.weight T?\nb{r} {n}.bias ?",
    "haiku": "{r} {n}/w ?\nb{r} {n}/b ?",
}
_LENS = """
    embed embed.W_E {e}
    pos pos_embed.W_pos {p}?
    Q blocks.#.attn.W_Q {a}
    K blocks.#.attn.W_K {a}?
    V blocks.#.attn.W_V {a}?
    K blocks.#.attn._W_K {a}?
    V blocks.#.attn._W_V {a}?
    O blocks.#.attn.W_O {o}
    bQ blocks.#.attn.b_Q ?
    bK blocks.#.attn.b_K ?
    bV blocks.#.attn.b_V ?
    bK blocks.#.attn._b_K ?
    bV blocks.#.attn._b_V ?
    bO blocks.#.attn.b_O ?
    in blocks.#.mlp.W_in {m}?
    out blocks.#.mlp.W_out {m}?
    bin blocks.#.mlp.b_in ?
    bout blocks.#.mlp.b_out ?
    U unembed.W_U {u}
    bU unembed.b_U ?
"""
_LENS_NORMS = """
    gate blocks.#.mlp.W_gate ?
    n1.w blocks.#.ln1.w ?
    n1.b blocks.#.ln1.b ?
    n2.w blocks.#.ln2.w ?
    n2.b blocks.#.ln2.b ?
    qn.w blocks.#.attn.q_norm.w ?
    kn.w blocks.#.attn.k_norm.w ?
    hn.w blocks.#.mlp.ln.w ?
    hn.b blocks.#.mlp.ln.b ?
    nf.w ln_final.w ?
    nf.b ln_final.b ?
"""
_LENS_4 = """
    embed {embed}.weight
    pos {pos}.weight ?
    norm n1: {at}.ln1
    norm n2: {at}.ln2
    map Q: {at}.attn.q
    map K: {at}.attn.k
    map V: {at}.attn.v
    map O: {at}.attn.o
    map in: {at}.mlp.in
    map out: {at}.mlp.out
    map gate: {at}.mlp.gate
    norm nf: {final}
    map U: {head}
"""
_NANO = """
    embed wte.weight
    pos wpe.weight
    norm n1: h.#.ln_1
    norm n2: h.#.ln_2
    map QKV: h.#.attn.c_attn
    map O: h.#.attn.c_proj
    map in: h.#.mlp.c_fc
    map out: h.#.mlp.c_proj
    norm nf: ln_f
    U lm_head.weight T?
"""
_MIN = """
    embed tok_emb.weight
    pos pos_emb
    norm n1: blocks.#.ln1
    norm n2: blocks.#.ln2
    map Q: blocks.#.attn.query
    map K: blocks.#.attn.key
    map V: blocks.#.attn.value
    map O: blocks.#.attn.proj
    map in: blocks.#.mlp.0
    map out: blocks.#.mlp.2
    norm nf: ln_f
    map U: head
"""
_TRACR = """
    embed token_embed/embeddings
    pos pos_embed/embeddings
    haiku Q: transformer/layer_#/attn/query
    haiku K: transformer/layer_#/attn/key
    haiku V: transformer/layer_#/attn/value
    haiku O: transformer/layer_#/attn/linear
    haiku in: transformer/layer_#/mlp/linear_1
    haiku out: transformer/layer_#/mlp/linear_2
"""
_LLAMA = """
    embed embed_tokens.weight
    n1.w layers.#.input_layernorm.weight
    n2.w layers.#.post_attention_layernorm.weight
    qn.w layers.#.self_attn.q_norm.weight ?
    kn.w layers.#.self_attn.k_norm.weight ?
    map Q: layers.#.self_attn.q_proj
    map K: layers.#.self_attn.k_proj
    map V: layers.#.self_attn.v_proj
    map O: layers.#.self_attn.o_proj
    map gate: layers.#.mlp.gate_proj
    map in: layers.#.mlp.up_proj
    map out: layers.#.mlp.down_proj
    nf.w norm.weight
    U lm_head.weight T?
"""
_PER_HEAD = """
    embed tok_embed.weight
    pos pos_embed.weight ?
    map Q: layers.#.heads.@.W_Q
    map K: layers.#.heads.@.W_K
    map V: layers.#.heads.@.W_V
    map O: layers.#.W_O
    map U: unembed
"""
_UVA = """
    embed input_net.1.weight T
    ebias input_net.1.bias ?
    pos positional_encoding.pe ?
    map QKV: layers.#.self_attn.qkv_proj
    map O: layers.#.self_attn.o_proj
    norm n1: layers.#.norm1
    norm n2: layers.#.norm2
    map in: layers.#.linear_net.0
    map out: layers.#.linear_net.3
    map head: output_net.0
    norm head: output_net.1
    map U: output_net.4
"""
_TORCH = """
    QKV layers.#.self_attn.in_proj_weight T
    bQKV layers.#.self_attn.in_proj_bias ?
    map O: layers.#.self_attn.out_proj
    norm n1: layers.#.norm1
    norm n2: layers.#.norm2
    map in: layers.#.linear1
    map out: layers.#.linear2
"""
_BEFORE = {"norm_place": "before"}
_CAUSAL = {"attention": "causal", **_BEFORE}
_LENS_4_USUAL = {"eps": 1e-5, "base": 10000.0, "pairing": "neighbours"}
#: Format by format: its lines, what is always so, and what its own code does where nobody speaks.
LAYOUTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "transformer_lens": (_LENS.format(e="", p="", u="", a="hdk", o="hkd", m="") + _LENS_NORMS, _BEFORE, {}),
    "left_facing": (_LENS.format(e="T", p="", u="", a="hkd", o="T", m="T"), {**_BEFORE, "norm": "none"}, {}),
    "easy_transformer": (_LENS.format(e="T", p="T", u="T", a="hkd", o="hdk", m="T"), _BEFORE, {}),
    "transformer_lens_native": (
        _LENS_4.format(embed="tok_embed", pos="pos", at="layers.#", final="ln_out", head="head")
        + "map in: layers.#.mlp.fc_in\nmap out: layers.#.mlp.fc_out\n", _CAUSAL, _LENS_4_USUAL,
    ),
    "transformer_lens_bridge": (
        _LENS_4.format(embed="embed", pos="pos_embed", at="blocks.#", final="ln_final", head="unembed"), _CAUSAL,
        _LENS_4_USUAL,
    ),
    "nanogpt": (_NANO, {**_CAUSAL, "norm": "layernorm"}, {"eps": 1e-5}),
    "mingpt": (_MIN, {**_CAUSAL, "norm": "layernorm"}, {"eps": 1e-5, "activation": "gelu_erf"}),
    "tracr": (_TRACR, {**_BEFORE, "norm": "none"}, {"activation": "relu"}),
    "llama": (_LLAMA, {**_CAUSAL, "norm": "rms", "positions": "rotary"}, {"pairing": "halves"}),
    "per_head": (_PER_HEAD, {**_BEFORE, "norm": "none"}, {}),
    "uva_tutorial": (_UVA, {}, {"eps": 1e-5}),
    "torch_encoder": (_TORCH, {}, {"eps": 1e-5}),
}  # fmt: skip
