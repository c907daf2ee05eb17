"""Detection: every known format explains the names and shapes of a file; one that explains everything wins.

It accepts only when exactly one format has a role for every tensor and every shape equation holds. It never looks at
the values of weights, nor at anyone's description of them.
"""

from __future__ import annotations

from extract.errors import CheckpointError
from extract.formats.format import Format, Match
from extract.formats.gates import READS
from extract.formats.gpt2 import HuggingFaceGpt2
from extract.formats.llama import LLAMA
from extract.formats.nanogpt import MINGPT, NANOGPT
from extract.formats.neutral import Neutral
from extract.formats.per_head import PER_HEAD
from extract.formats.safetensors import Header
from extract.formats.torch_encoder import TORCH_ENCODER
from extract.formats.tracr import TRACR
from extract.formats.transformer_lens import EASY_TRANSFORMER, LEFT_FACING, RIGHT_FACING
from extract.formats.transformer_lens_4 import BRIDGE, NATIVE
from extract.formats.uva import UVA

#: One line per format.
FORMATS: tuple[Format, ...] = (
    HuggingFaceGpt2(),
    Neutral(),
    NANOGPT,
    MINGPT,
    RIGHT_FACING,
    LEFT_FACING,
    EASY_TRANSFORMER,
    NATIVE,
    BRIDGE,
    TRACR,
    TORCH_ENCODER,
    UVA,
    PER_HEAD,
    LLAMA,
)
_N_GUESSES = 2


def detect(header: Header, place: str, stated: str | None = None) -> tuple[Format, Match]:
    """Return the one format that explains every tensor, with its match; where several do, the one the spec states.

    Raises:  CheckpointError naming the two best guesses with what does not fit.
    """
    matches = [(format_, format_.match(header)) for format_ in FORMATS]
    complete = [(f, m) for f, m in matches if m.is_complete]
    if len(complete) > 1:
        complete = [(f, m) for f, m in complete if f.name == stated] or complete
    if len(complete) == 1:
        return complete[0]
    if complete:
        titles = " and ".join(f.title for f, _ in complete)
        names = " or ".join(f'"{f.name}"' for f, _ in complete)
        raise CheckpointError(
            f"fits {titles} equally well, expected one format", place=place, hint=f"say [model] format = {names}"
        )
    best = sorted(matches, key=lambda pair: -pair[1].n_consumed)[:_N_GUESSES]
    guesses = [m for _, m in best if m.n_consumed]
    if not guesses:
        names = ", ".join(sorted(header.tensors)[:3])
        raise CheckpointError(
            f"has {len(header.tensors)} tensors of no known format ({names} ...)", place=place, hint=READS
        )
    told = "; ".join(f"{m.title}: {m.verdict()}" for m in guesses)
    raise CheckpointError(f"is of no known format; best guesses: {told}", place=place, hint=READS)
