"""Models around torch's ``nn.TransformerEncoder``: an embedding, positions, the encoder's layers, a linear head.

Inside the layers the names are torch's own; around them every author has others. A matrix outside is taken for what
its name says, if exactly one says so: positions, embedding, head. Nothing is guessed from order or shape alone.
"""

from __future__ import annotations

import re
from typing import final

from extract.formats.format import Source
from extract.formats.layout import Reading, Row, table
from extract.formats.safetensors import Header
from extract.formats.settle import Policy
from extract.formats.tabled import TabledFormat

_LAYERS = """
    {at}{{i}}.self_attn.in_proj_weight   | (3 H K) D | W_QKV
    {at}{{i}}.self_attn.in_proj_bias     | (3 H K)   | b_QKV                 | ?bias
    {at}{{i}}.self_attn.out_proj.weight  | D (H K)   | W_O
    {at}{{i}}.self_attn.out_proj.bias    | D         | b_O                   | ?bias
    {at}{{i}}.linear1.weight             | M D       | W_in
    {at}{{i}}.linear1.bias               | M         | b_in                  | ?bias
    {at}{{i}}.linear2.weight             | D M       | W_out
    {at}{{i}}.linear2.bias               | D         | b_out                 | ?bias
    {at}{{i}}.norm1.weight               | D         | norm_attention.weight
    {at}{{i}}.norm1.bias                 | D         | norm_attention.bias   | ?bias
    {at}{{i}}.norm2.weight               | D         | norm_mlp.weight
    {at}{{i}}.norm2.bias                 | D         | norm_mlp.bias         | ?bias
"""
_FIRST = re.compile(r"((?:\w+\.)*)0\.self_attn\.in_proj_weight", re.ASCII)
#: What a name says, most telling first.
_WORDS = (
    ("pos_embed", re.compile(r"pos|(?:^|[._])pe$", re.ASCII)),
    ("norm_final", re.compile(r"norm|(?:^|[._])ln", re.ASCII)),
    ("W_U", re.compile(r"unembed|head|fc|out|decoder|classif|lin|proj|logits", re.ASCII)),
    ("embed", re.compile(r"emb|tok|src|^encoder$", re.ASCII)),
)
_TABLES = {2: "C D", 3: "1 C D"}
_RANK_OF_PAGES = 3


@final
class TorchEncoder(TabledFormat):
    """The encoder's own names and whatever surrounds them."""

    def table_rows(self, view: Header) -> tuple[Row, ...]:
        """Return the rows of the layers and of the parts around them."""
        first = next((m for name in view.tensors if (m := _FIRST.fullmatch(name))), None)
        if first is None:
            return self.rows
        layers = first.group(1)
        inside = re.compile(re.escape(layers) + r"\d+\.")
        around: dict[str, list[str]] = {}
        for name in view.tensors:
            stem = re.sub(r"\.(?:weight|bias)$", "", name)
            if not inside.match(name):
                role = next((role for role, words in _WORDS if words.search(stem.lower())), None)
                if role is not None and stem not in around.setdefault(role, []):
                    around[role].append(stem)
        lines = [_LAYERS.format(at=layers)]
        for role, stems in around.items():
            if len(stems) == 1:
                lines.append(_lines_around(role, stems[0], view))
        return table("\n".join(lines))

    def objection(self, view: Header, reading: Reading) -> str | None:
        """A state dict stores every head, tied or not."""
        return (
            None if "W_U" in reading.roles else "no single matrix outside is named as a head (head, out, fc, decoder)"
        )

    def policy_for(self, source: Source, reading: Reading) -> Policy:
        """A table of sinusoids comes from the tutorial, which multiplies the embedding by sqrt(d_model): ask."""
        usually = {"eps": 1e-5}
        row = reading.roles.get("pos_embed")
        is_tutorial = row is not None and row.stored.split(".")[-1] == "pe"
        asks = ("embed_scale",) if is_tutorial else ()
        return Policy(usually=usually, norm_without_shift="layernorm", must_ask=asks)


def _lines_around(role: str, stem: str, view: Header) -> str:
    if role == "pos_embed":
        stored = stem if stem in view.tensors else f"{stem}.weight"
        shape = view.tensors[stored].shape if stored in view.tensors else ()
        axes = "C 1 D" if len(shape) == _RANK_OF_PAGES and shape[1] == 1 != shape[0] else _TABLES.get(len(shape), "C D")
        return f"{stored} | {axes} | pos_embed"
    if role == "norm_final":
        return f"{stem}.weight | D | norm_final.weight\n{stem}.bias | D | norm_final.bias | ?shift"
    if role == "W_U":
        return f"{stem}.weight | U D | W_U\n{stem}.bias | U | b_U | ?bias_u"
    return f"{stem}.weight | V D | embed"


TORCH_ENCODER = TorchEncoder(
    "torch_encoder", "torch nn.TransformerEncoder with embedding and head",
    table(_LAYERS.format(at="layers.") + "\nembedding.weight | V D | embed\nhead.weight | U D | W_U"),
    equal=(("HK", "D"),), tell="W_QKV",
)  # fmt: skip
