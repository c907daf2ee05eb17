"""Mutations of bytes: deterministic in their number, mostly small and of the same length: structure survives."""

from __future__ import annotations

import random
from collections.abc import Sequence


def mutated(seeds: Sequence[bytes], words: Sequence[bytes], extremes: Sequence[bytes], number: int) -> bytes:
    """Return one mutation of one of the seeds: one to four small changes, rarely a cut or a splice."""
    r = random.Random(number)
    data = bytearray(r.choice(seeds))
    for _ in range(r.choice((1, 1, 1, 2, 2, 4))):
        if not data:
            break
        at = r.randrange(len(data))
        match r.randrange(10):
            case 0 | 1:
                data[at] ^= 1 << r.randrange(8)
            case 2:
                data[at] = r.randrange(256)
            case 3 | 4:
                piece = r.choice(extremes)
                data[at : at + len(piece)] = piece
            case 5:
                piece = r.choice(words)
                data[at : at + len(piece)] = piece
            case 6:
                data[at:at] = r.choice(words)
            case 7:
                del data[at : at + r.choice((1, 2, 4, 30))]
            case 8:
                n, other = r.choice((1, 4, 16)), r.randrange(len(data))
                data[at : at + n] = data[other : other + n]
            case _:
                other_seed = r.choice(seeds)
                cut = r.randrange(len(other_seed) + 1)
                data = data[:at] if r.random() < 0.5 else data[:at] + other_seed[cut:]
    return bytes(data)
