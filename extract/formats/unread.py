"""Layouts that are recognised by their names only, so that a refusal can say what a file looks like.

Each entry is a title and patterns of tensor names; nothing of them is ever read.
"""

from __future__ import annotations

import re
from typing import final

from extract.formats.format import Format, Match
from extract.formats.safetensors import Header

_MATRIX_RANK = 2


@final
class RecognisedLayout(Format):
    """A layout this version names and does not read: the share of names that one of its patterns matches."""

    def __init__(self, name: str, title: str, patterns: tuple[str, ...], tell: str) -> None:
        self.name = name
        self.title = title
        self._patterns = re.compile("|".join(f"(?:{p})" for p in patterns), re.ASCII)
        self._tell = re.compile(tell, re.ASCII)

    def match(self, header: Header) -> Match:
        """Count the names that the layout uses; without its telling name it explains nothing."""
        if not any(self._tell.fullmatch(name) for name in header.tensors):
            return Match(self.title, 0, len(header.tensors), tuple(sorted(header.tensors)))
        leftover = tuple(sorted(n for n in header.tensors if not self._patterns.fullmatch(n)))
        n_tensors = len(header.tensors)
        return Match(self.title, n_tensors - len(leftover), n_tensors, leftover)


@final
class NanoGpt(Format):
    """GPT-2's names with nn.Linear orientation: ``c_attn.weight`` is [3D, D]."""

    name = "nanogpt"
    title = "nanoGPT"
    _names = re.compile(
        r"(?:_orig_mod\.)?(?:transformer\.(?:wte|wpe|ln_f)\.(?:weight|bias)|lm_head\.weight|transformer\.h\.\d+\."
        r"(?:ln_[12]\.(?:weight|bias)|attn\.(?:bias|c_attn\.(?:weight|bias)|c_proj\.(?:weight|bias))"
        r"|mlp\.c_(?:fc|proj)\.(?:weight|bias)))",
        re.ASCII,
    )
    _c_attn = re.compile(r"(?:_orig_mod\.)?transformer\.h\.\d+\.attn\.c_attn\.weight", re.ASCII)

    def match(self, header: Header) -> Match:
        """Explain the names as nanoGPT's, provided that every ``c_attn`` is [3D, D]."""
        tensors = header.tensors
        leftover = tuple(sorted(n for n in tensors if not self._names.fullmatch(n)))
        projections = [info for n, info in tensors.items() if self._c_attn.fullmatch(n)]
        failure = None if projections else "no c_attn.weight tells the orientation"
        for info in projections:
            if len(info.shape) != _MATRIX_RANK or info.shape[0] != 3 * info.shape[1]:
                failure = f"{info.name} is {list(info.shape)}, expected [3D, D]"
                break
        return Match(self.title, len(tensors) - len(leftover), len(tensors), leftover, failure=failure)


_BLOCK = r"blocks\.\d+\."
_TRACR_LAYER = r"transformer/layer_\d+/"
UNREAD: tuple[Format, ...] = (
    NanoGpt(),
    RecognisedLayout(
        "transformer_lens",
        "TransformerLens",
        (
            r"(?:embed\.W_E|pos_embed\.W_pos|unembed\.[Wb]_U|ln_final\.[wb])",
            _BLOCK + r"(?:attn\.(?:[Wb]_[QKVO]|mask|IGNORE)|mlp\.[Wb]_(?:in|out)|ln[12]\.[wb])",
        ),
        r"embed\.W_E",
    ),
    RecognisedLayout(
        "transformer_lens_4",
        "TransformerLens 4",
        (
            r"(?:tok_embed|pos_embed|head|norm|ln_f)\.(?:weight|bias)",
            r"(?:layers|blocks)\.\d+\.(?:attn\.[qkvo]|mlp\.\w+|norm\w*|ln\w*)\.(?:weight|bias)",
        ),
        r"tok_embed\.weight|blocks\.0\.attn\.q\.weight",
    ),
    RecognisedLayout(
        "mingpt",
        "minGPT",
        (
            r"tok_emb\.weight|pos_emb|(?:head|ln_f)\.(?:weight|bias)",
            _BLOCK + r"(?:ln[12]|attn\.(?:query|key|value|proj)|mlp\.\d)\.(?:weight|bias)|" + _BLOCK + r"attn\.mask",
        ),
        r"pos_emb",
    ),
    RecognisedLayout(
        "tracr",
        "Tracr (haiku parameters)",
        (r"(?:token_embed|pos_embed)\S*", _TRACR_LAYER + r"(?:attn/(?:query|key|value|linear)|mlp/linear_[12])\S*"),
        r"token_embed\S*",
    ),
    RecognisedLayout(
        "torch_encoder",
        "torch nn.TransformerEncoder",
        (r"(?:\w+\.)*(?:in_proj|out_proj|linear[12]|norm[12]?)[._](?:weight|bias)", r"(?:\w+\.)+(?:weight|bias)"),
        r"(?:\w+\.)*in_proj_weight",
    ),
    RecognisedLayout(
        "llama",
        "Llama or Qwen",
        (
            r"(?:model\.)?(?:embed_tokens|norm)\.weight|lm_head\.weight",
            r"(?:model\.)?layers\.\d+\.(?:self_attn\.\w+|mlp\.\w+|\w+_layernorm)\.(?:weight|bias)",
        ),
        r"(?:model\.)?embed_tokens\.weight",
    ),
)
