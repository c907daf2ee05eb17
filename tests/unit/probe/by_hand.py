"""A network set by hand that moves the previous token: what its heads do is known before anybody looks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from extract.domain import Domain, build_domain
from extract.lang.promise import compile_promise
from extract.network import Network
from extract.spec import parse_spec
from tests.networks import random_network

LETTERS, N_CTX = 3, 9
#: Where the residual stream holds the own token, the position, and what the head writes.
TOKEN, POSITION, MOVED = 0, LETTERS, LETTERS + N_CTX
WIDTH = MOVED + LETTERS
PREVIOUS = "first(select(indices, max(indices - 1, 0), '=='), tokens)"
PROGRAM = f"output = {PREVIOUS} * 3 + tokens"


def pair_network() -> Network:
    """Answer 3 * previous + own token at every position; head 1 of 2 moves it, head 0 writes nothing."""
    drawn = random_network(
        0, d_model=WIDTH, n_heads=1, d_vocab=LETTERS, n_ctx=N_CTX, d_mlp=4, d_vocab_out=LETTERS**2, norm="none"
    )
    architecture = replace(drawn.architecture, n_heads=2, attention_scale=(1.0,))
    embed, positions = np.zeros((LETTERS, WIDTH), np.float32), np.zeros((N_CTX, WIDTH), np.float32)
    embed[:, TOKEN : TOKEN + LETTERS] = np.eye(LETTERS)
    positions[:, POSITION : POSITION + N_CTX] = np.eye(N_CTX)
    W_Q, W_K, W_V, W_O = (np.zeros((2, WIDTH, WIDTH), np.float32) for _ in range(4))
    for p in range(N_CTX):
        W_Q[1, POSITION + p, max(p - 1, 0)] = 30
        W_K[1, POSITION + p, p] = 1
    for t in range(LETTERS):
        W_V[:, TOKEN + t, t] = 1
        W_O[1, t, MOVED + t] = 1
    zero = {name: np.zeros_like(getattr(drawn.layers[0], name)) for name in ("b_O", "W_in", "b_in", "W_out", "b_out")}
    zero |= {name: np.zeros((2, WIDTH), np.float32) for name in ("b_Q", "b_K", "b_V")}
    layer = replace(drawn.layers[0], W_Q=W_Q, W_K=W_K, W_V=W_V, W_O=W_O, **zero)
    unembed = np.zeros((WIDTH, LETTERS**2), np.float32)
    for previous in range(LETTERS):
        for own in range(LETTERS):
            unembed[[MOVED + previous, TOKEN + own], 3 * previous + own] = 4
    bias = np.zeros(LETTERS**2, np.float32)
    return replace(
        drawn, architecture=architecture, embed=embed, pos_embed=positions, layers=(layer,), W_U=unembed, b_U=bias
    )


def pair_domain() -> Domain:
    """Strings of three digits, the answer read at every token."""
    spec = {
        "version": 1,
        "tokens": {"vocab": ["0", "1", "2"], "numeric": True},
        "domain": {"min_length": 1, "max_length": 6, "template": "{x}"},
        "readout": {"at": "every", "outputs": [str(i) for i in range(LETTERS**2)]},
    }
    return build_domain(parse_spec(json.dumps(spec)), compile_promise)
