"""Networks made to break float arithmetic: what is decided holds under the semantics claimed, or nothing is decided.

Linear ones (ties, cancellation, sums that depend on their order, margins of one unit in the last place, overflow,
underflow) are held to exact rational arithmetic and to float32 in many orders of summation; the others (scores that
saturate, variances that vanish) to extended precision and to float32.
"""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.check.answers import Model
from extract.check.anykind import forward_of
from extract.check.forward import DOUBLE, SINGLE
from extract.check.reader import Unreadable, read_network
from extract.check.spec import read_task
from extract.domain import Domain, build_domain
from extract.formats import load_checkpoint
from extract.lang.promise import compile_promise
from extract.network import Layer, Network
from extract.progress import Silent
from extract.spec import load_spec
from extract.verify.enumerate import enumerate_model
from tests.architectures import Parts, network_of
from tests.network_logits import logits
from tests.networks import write_neutral

NAMES = ["a", "b", "c", "<s>"]
SPEC = {
    "version": 1, "name": "x", "tokens": {"vocab": NAMES},
    "domain": {"alphabet": ["a", "b", "c"], "min_length": 1, "max_length": 3, "template": "<s> {x}"},
    "readout": {"at": "last", "choices": ["a", "b", "c"]},
}  # fmt: skip
ORDERS = 24
F32 = np.float32
Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]

#: By name: embeddings [token, 8], unembedding [8, output] and output bias, drawn.
LINEAR = {
    "permuted tie": lambda rng: permuted_tie(rng),
    "absorbed in single": lambda rng: absorbed(rng, 2.0**26),
    "absorbed in double": lambda rng: absorbed(rng, 2.0**55),
    "one unit": lambda rng: one_unit(rng, 0.0),
    "one unit under a bias": lambda rng: one_unit(rng, 2.0**30),
    "overflow": lambda rng: scaled(rng, 2.0**126, 2.0**4),
    "underflow": lambda rng: scaled(rng, 2.0**-100, 2.0**-60),
}
#: The architectures that linear networks are dressed as: every method of enumeration, and both passes of the checker.
DRESSES = (
    Parts(norm="none", has_mlp=False, attention="causal"),
    Parts(norm="none", n_layers=2, attention="causal"),
    Parts(norm="none", n_layers=2, attention="bidirectional", positions="rotary"),
)
CURVED = {
    "saturated softmax": Parts(spread=40.0, attention="causal"),
    "saturated, rotary": Parts(spread=40.0, positions="rotary", norm="rms"),
    "saturated, after": Parts(spread=12.0, norm_place="after", n_layers=2),
    "vanishing variance": Parts(attention="causal", n_layers=2),
    "vanishing root mean square": Parts(norm="rms", has_final_norm=False, has_hidden_norm=True),
    "huge units": Parts(norm="none", activation="gelu_tanh", spread=30.0),
    "huge gate": Parts(norm="none", activation="silu", has_gate=True, spread=30.0),
    "one share": Parts(activation="solu", spread=40.0, has_key_norms=True),
    "head": Parts(head="gelu_erf", spread=20.0),
}


def permuted_tie(rng: np.random.Generator) -> Arrays:
    """Two logits whose sums have the same terms in another order."""
    embed = np.repeat(rng.normal(0, 1, (4, 4)), 2, axis=1)
    unembed = rng.normal(0, 1, (8, 4))
    unembed[:, 2:] -= 9 * np.sign(embed[0])[:, None]
    unembed[:, 1] = unembed[[1, 0, 3, 2, 5, 4, 7, 6], 0]
    return embed, unembed, np.array([30.0, 30.0, -50.0, -50.0])


def absorbed(rng: np.random.Generator, huge: float) -> Arrays:
    """Small numbers among huge ones that cancel: a sum's sign depends on its order."""
    rows = [[huge, -huge, huge, -huge, *rng.integers(-3, 4, 4)] for _ in range(4)]
    unembed = np.zeros((8, 4))
    unembed[:, 0] = 1.0
    return rng.permuted(np.array(rows), axis=1), unembed, np.array([0.0, 0.0, -huge, -huge])


def one_unit(rng: np.random.Generator, shift: float) -> Arrays:
    """Two columns one unit in the last place apart, some above a bias that hides it."""
    unembed = rng.normal(0, 1, (8, 4)).astype(F32)
    unembed[:, 1] = np.nextafter(unembed[:, 0], F32(9))
    return rng.normal(0, 1, (4, 8)), unembed, np.array([shift, shift, -99.0, -99.0])


def scaled(rng: np.random.Generator, embed: float, unembed: float) -> Arrays:
    """Products beyond single precision, above or below."""
    return rng.normal(0, embed, (4, 8)), rng.normal(0, unembed, (8, 4)), np.zeros(4)


def dressed(parts: Parts, arrays: Arrays) -> Network:
    """A network of an architecture whose layers add nothing: its logits are embed @ unembed + bias."""
    base, (embed, unembed, bias) = network_of(parts, 0), arrays

    def quiet(layer: Layer) -> Layer:
        nothing = {n: np.zeros_like(getattr(layer, n)) for n in ("W_O", "b_O", "W_out", "b_out")}
        return replace(layer, **nothing)

    silent = None if base.pos_embed is None else np.zeros_like(base.pos_embed)
    return replace(
        base, layers=tuple(quiet(x) for x in base.layers), pos_embed=silent,
        embed=embed.astype(F32), W_U=unembed.astype(F32), b_U=bias.astype(F32),
    )  # fmt: skip


def in_some_order(rng: np.random.Generator, terms: NDArray[Any]) -> Any:
    """Add float32 terms up in a random order, any two of what is left at a time."""
    left = list(terms)
    while len(left) > 1:
        one, other = (left.pop(int(rng.integers(len(left)))) for _ in range(2))
        left.append(F32(one + other))
    return left[0]


class World:
    """A network on disk as both readers read it, and what they decide."""

    def __init__(self, folder: Path, network: Network) -> None:
        write_neutral(network, folder)
        (folder / "spec.json").write_text(json.dumps(SPEC), encoding="utf-8")
        self.folder = folder
        self.domain: Domain = build_domain(load_spec(folder / "spec.json").spec, compile_promise)
        self.network = load_checkpoint(folder).network

    def decided(self, semantics: str) -> dict[tuple[int, ...], set[int]]:
        """What enumeration and checker decide under a semantics: by the input's tokens, the outputs decided on."""
        found: dict[tuple[int, ...], set[int]] = {}
        codes = self.domain.vocabulary.output_codes.tolist()
        if semantics == "real" or not self.network.beyond_gpt2:
            table = enumerate_model(self.network, self.domain, semantics=semantics, progress=Silent())
            for slab in table.slabs:
                rows = self.domain.tokens(slab.length, 0, slab.size).tolist()
                values = table.values(slab.offset, slab.length, 0, slab.size)[:, 0].tolist()
                for rank in set(range(slab.size)) - set(slab.fragile.tolist()):
                    found.setdefault(tuple(rows[rank]), set()).add(codes.index(values[rank]))
        task = read_task(self.folder / "spec.json", 3, [0])
        try:
            model = Model(task, forward_of(read_network(self.folder), DOUBLE if semantics == "real" else SINGLE))
        except Unreadable:
            assert semantics != "real"
            return found
        for length in self.domain.lengths:
            tokens = self.domain.tokens(length, 0, self.domain.size_at(length))
            with np.errstate(all="ignore"):
                cells, margins, bounds, _ = model.answers(tokens, 0, np.zeros((len(tokens), 1), np.int64))
            for row, code, sure in zip(tokens.tolist(), cells[:, 0].tolist(), margins > bounds, strict=True):
                if sure:
                    found.setdefault(tuple(row), set()).add(codes.index(code))
        return found

    def winner(self, values: Any) -> set[int]:
        """The chosen outputs that are strictly largest: one, or none; numbers that are no numbers have none."""
        best = [i for i in range(3) if all(values[i] > values[j] for j in range(3) if j != i)]
        return set(best)


LINEAR_CASES = [(name, i) for name in LINEAR for i in range(len(DRESSES))]


@pytest.mark.parametrize(("name", "dress"), LINEAR_CASES)
def test_linear_networks_are_decided_as_exact_arithmetic_does(name: str, dress: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([dress, *name.encode()])
    world = World(tmp_path, dressed(DRESSES[dress], LINEAR[name](rng)))
    embed, unembed, bias = world.network.embed, world.network.W_U, world.network.b_U
    exact = np.vectorize(Fraction)
    whole = exact(embed.astype(np.float64)) @ exact(unembed.astype(np.float64)) + exact(bias.astype(np.float64))
    for row, found in world.decided("real").items():
        assert found == world.winner(whole[row[-1]]), "decided against exact arithmetic"
    with np.errstate(all="ignore"):
        for row, found in world.decided("f32-any-order").items():
            terms = embed[row[-1]][:, None] * unembed
            for _ in range(ORDERS):
                values = [in_some_order(rng, np.append(terms[:, i], bias[i])) for i in range(3)]
                assert found == world.winner(values), "decided against an order of summation"


@pytest.mark.parametrize("name", ["permuted tie", "absorbed in double"])
def test_what_no_double_can_tell_is_not_decided(name: str, tmp_path: Path) -> None:
    """Against a gate that decides nothing because nothing is asked: exact ties are open, wide margins are not."""
    world = World(tmp_path / "1", dressed(DRESSES[1], LINEAR[name](np.random.default_rng(5))))
    assert len(world.decided("real")) < world.domain.size
    wide = dressed(DRESSES[1], LINEAR["one unit"](np.random.default_rng(5)))
    wide = World(tmp_path / "2", replace(wide, b_U=np.array([9, 0, -9, -9], F32)))
    assert len(wide.decided("real")) == len(wide.decided("f32-any-order")) == wide.domain.size


def curved(name: str) -> Network:
    network = network_of(CURVED[name], 3, n_ctx=6)
    if name.startswith("vanishing"):
        embed = np.full_like(network.embed, 1 if "variance" in name else 0)
        embed[:, 0] += F32(2.0**-20) * np.arange(len(embed), dtype=F32)
        places = None if network.pos_embed is None else 0 * network.pos_embed
        layers = tuple(replace(x, **{n: F32(1e-6) * getattr(x, n) for n in ("W_O", "b_O", "W_out", "b_out")})
                       for x in network.layers)  # fmt: skip
        network = replace(network, embed=embed, pos_embed=places, layers=layers)
    return network


@pytest.mark.parametrize("name", CURVED)
def test_other_networks_are_decided_as_more_digits_do(name: str, tmp_path: Path) -> None:
    world = World(tmp_path, curved(name))
    for semantics, kind in (("real", np.longdouble), ("f32-any-order", np.float32)):
        for row, found in world.decided(semantics).items():
            prompt = world.domain.render(np.array([row], np.int32))[0].tolist()
            with np.errstate(all="ignore"):
                values = logits(world.network, prompt, 0, kind)[-1]
            assert found == world.winner(values), semantics


def test_there_are_thirty_of_them() -> None:
    assert len(LINEAR_CASES) + len(CURVED) == 30
