"""Networks made by hand for the measurements that no trained checkpoint at hand serves, with their specs.

Each is a random network of small weights with a few large ones added, so that what it computes is known and nothing in
it is exactly 0. Nothing here is imported by the tool.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from extract.network import Attention, Network
from tests.networks import random_network, write_neutral

#: More a's than b's, other letters aside.
MORE_A = "output = 'a' if count(tokens == 'b') < count(tokens == 'a') else 'b'"


def more_a(n_letters: int, length: int, attention: Attention = "causal") -> Network:
    """One layer of two heads, d = 16, with layer norms and an MLP: it weighs a's against b's at the last position."""
    vocabulary = n_letters + 2
    network = random_network(
        7, 1, 16, 2, vocabulary, length + 2, attention=attention, tied=False, spread=0.005
    )  # fmt: skip
    embed, W_U, layer = network.embed.copy(), network.W_U.copy(), network.layers[0]
    # norms make all tokens' vectors equally long and of mean 0: each has a coordinate, and the last against it
    embed[:2, 0] += np.float32([1, -1])
    embed[:2, -1] -= np.float32([1, -1])
    for token in range(2, vocabulary):
        embed[token, token] += 1
        embed[token, -1] -= 1
    W_V, W_O = layer.W_V.copy(), layer.W_O.copy()
    W_V[:, 0, 0] += 1
    W_O[:, 0, 1] += 4
    W_U[1, :2] += np.float32([4, -4])
    return replace(network, embed=embed, W_U=W_U, layers=(replace(layer, W_V=W_V, W_O=W_O),))


def write_more_a(folder: Path, n_letters: int, length: int) -> Path:
    """Write such a network and its spec: every string of one length with as many a's as b's left out."""
    letters = [chr(ord("a") + i) for i in range(n_letters)]
    write_neutral(more_a(n_letters, length), folder)
    (folder / "spec.toml").write_text(
        f"version = 1\nname = \"more a's than b's\"\n[tokens]\nvocab = {[*letters, '<s>', '<e>']}\n".replace(
            "'", '"'
        ).replace('more a"s than b"s', "more a's than b's")
        + f'[domain]\nmin_length = {length}\nmax_length = {length}\ntemplate = "<s> {{x}} <e>"\n'
        + "where = \"count(tokens == 'a') != count(tokens == 'b')\"\n"
        + '[readout]\nat = "last"\nkind = "argmax"\nchoices = ["a", "b"]\n'
    )
    return folder


def two_layers(length: int) -> Network:
    """Two causal layers of two heads, d = 16, all weights random."""
    return random_network(7, 2, 16, 2, 4, length + 1, spread=0.3)
