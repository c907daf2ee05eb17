"""Detection: every known format explains the names and shapes of a file; one that explains everything wins.

It accepts only when exactly one format has a role for every tensor and every shape equation holds. It never looks at
the values of weights, nor at anyone's description of them.
"""

from __future__ import annotations

from extract.errors import CheckpointError
from extract.formats.format import Format, Match
from extract.formats.gates import READS
from extract.formats.gpt2 import HuggingFaceGpt2
from extract.formats.neutral import Neutral
from extract.formats.safetensors import Header
from extract.formats.unread import UNREAD

#: One line per format that is read, then those that are only named.
FORMATS: tuple[Format, ...] = (HuggingFaceGpt2(), Neutral(), *UNREAD)
_N_GUESSES = 2


def detect(header: Header, place: str) -> tuple[Format, Match]:
    """Return the one format that explains every tensor, with its match.

    Raises:  CheckpointError naming the two best guesses with what does not fit, or a format that is known, not read.
    """
    matches = [(format_, format_.match(header)) for format_ in FORMATS]
    complete = [(f, m) for f, m in matches if m.is_complete]
    if len(complete) == 1:
        found, match = complete[0]
        if found.is_readable:
            return found, match
        raise CheckpointError(
            f"looks like {found.title} (all {match.n_tensors} tensor names fit), which this version does not read",
            place=place,
            hint=READS,
        )
    if complete:
        titles = " and ".join(f.title for f, _ in complete)
        raise CheckpointError(f"fits {titles} equally well, expected one format", place=place)
    best = sorted(matches, key=lambda pair: -pair[1].n_consumed)[:_N_GUESSES]
    guesses = [m for _, m in best if m.n_consumed]
    if not guesses:
        names = ", ".join(sorted(header.tensors)[:3])
        raise CheckpointError(
            f"has {len(header.tensors)} tensors of no known format ({names} ...)", place=place, hint=READS
        )
    told = "; ".join(f"{m.title}: {m.verdict()}" for m in guesses)
    raise CheckpointError(f"is of no known format; best guesses: {told}", place=place, hint=READS)
