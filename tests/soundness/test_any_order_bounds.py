"""Bounds under the claim about float32 in any order: what they decide, every order of every sum decides alike.

The errors that hold for a whole set are held to float32 evaluations in random orders, with and without fused
multiply-add, of random networks; networks made to break float arithmetic are never decided against one; and a claim
about real numbers that is edited to be about float32 is rejected where margins are too small for it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from extract.certificate_file import seal
from extract.check import margins
from extract.check.answers import Model
from extract.check.anykind import forward_of
from extract.check.boxes import BoxCheck
from extract.check.check import check_certificate
from extract.check.forward import SINGLE
from extract.check.program import parse
from extract.check.reader import Unreadable, read_network
from extract.check.slices import answering, whole_slice
from extract.check.spans import Form
from extract.check.spec import read_task
from extract.lang.syntax import parse_program
from extract.network import Network, Norm
from extract.report.report import Report
from extract.report.text import result_lines
from extract.stages_load import load_subject
from extract.verify import box_proof
from extract.verify.box_proof import BoxProver, BoxResult, leaf_of
from extract.verify.form_errors import FormErrors
from tests.architectures import Parts
from tests.network_logits import logits
from tests.networks import random_network
from tests.soundness import test_box_architectures as box_architectures
from tests.soundness.test_adversarial_floats import LINEAR, ORDERS, World, dressed, in_some_order
from tests.soundness.test_box_architectures import LENGTH, RIGHT, majority
from tests.soundness.test_box_bounds import LACKING, PROGRAMS, checked_case, paths_of
from tests.unit.verify.enumeration_cases import make_domain

F32 = np.float32
SEMANTICS = "f32-any-order"
ALONE = Parts(norm="none", has_mlp=False, attention="causal")


class AnyOrder:
    """A network of plain parts in float32, the terms of every sum in a random order."""

    def __init__(self, network: Network, rng: np.random.Generator) -> None:
        self.network, self.rng, self.is_fused = network, rng, bool(rng.integers(2))

    def dot(self, x: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
        """Products of rows and columns, added up one by one."""
        order = self.rng.permutation(len(weights))
        total = np.zeros((*x.shape[:-1], weights.shape[1]), F32)
        for k in order:
            if self.is_fused:
                exact = x[..., k, None].astype(np.float64) * weights[k].astype(np.float64)
                total = (total.astype(np.float64) + exact).astype(F32)
            else:
                total = total + x[..., k, None] * weights[k]
        return total

    def sum(self, terms: NDArray[Any]) -> NDArray[Any]:
        return self.dot(terms, np.ones((terms.shape[-1], 1), F32))[..., 0]

    def norm(self, x: NDArray[Any], norm: Norm | None) -> NDArray[Any]:
        if norm is None:
            return x
        d, eps = F32(x.shape[-1]), F32(self.network.architecture.norm_eps)
        if self.rng.integers(2):
            mean = (self.sum(x) / d)[..., None]
            variance = self.sum((x - mean) ** 2) / d
        else:  # Welford's update
            mean, spread = np.zeros((*x.shape[:-1], 1), F32), np.zeros(x.shape[:-1], F32)
            for n, k in enumerate(self.rng.permutation(x.shape[-1]), 1):
                step = x[..., k, None] - mean
                mean = mean + step / F32(n)
                spread = spread + (step * (x[..., k, None] - mean))[..., 0]
            variance = spread / d
        deviation = np.sqrt(variance + eps)[..., None]
        return ((x - mean) / deviation * norm.weight + norm.bias).astype(F32)

    def logits(self, prompt: list[int], offset: int, read: int) -> NDArray[Any]:
        network, a = self.network, self.network.architecture
        x = network.embed[prompt]
        if network.pos_embed is not None:
            x = x + network.pos_embed[offset : offset + len(prompt)]
        for scale, layer in zip(a.attention_scale, network.layers, strict=True):
            z, mixed = self.norm(x, layer.norm_attention), layer.b_O
            for h in range(a.n_heads):
                q, k, v = (self.dot(z, w[h]) + b[h] for w, b in (
                    (layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V)))  # fmt: skip
                scores = self.dot(q, k.T) * F32(scale)
                scores[np.triu(np.ones(scores.shape, bool), 1)] = -np.inf
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                shares = weights / self.sum(weights)[:, None]
                mixed = mixed + self.dot(self.dot(shares, v), layer.W_O[h])
            x = x + mixed
            if a.d_mlp:
                hidden = self.dot(self.norm(x, layer.norm_mlp), layer.W_in) + layer.b_in
                x = x + (self.dot(activation(a.activation, hidden), layer.W_out) + layer.b_out)
        self.last = x
        return np.asarray(self.dot(self.norm(x, network.norm_final), network.W_U)[read] + network.b_U)


def activation(kind: str, x: NDArray[Any]) -> NDArray[Any]:
    if kind == "relu":
        return np.maximum(x, F32(0))
    if kind == "silu":
        with np.errstate(over="ignore"):
            return np.asarray(x / (F32(1) + np.exp(-x)))
    if kind == "gelu_tanh":
        return np.asarray(F32(0.5) * x * (F32(1) + np.tanh(F32(0.7978846) * (x + F32(0.044715) * x * x * x))))
    return np.asarray(F32(0.5) * x * (F32(1) + torch.erf(torch.from_numpy(x * F32(0.70710678))).numpy()))


class Case:
    """A random network and task on disk, as both sides see them: the strings of one query letter of length 5."""

    def __init__(self, folder: Path, seed: int, layout: str) -> None:
        real, self.totals, self.length = checked_case(folder, seed, layout)
        self.task, self.offset = real.task, real.offset
        subject = load_subject(folder, folder / "spec.toml", None, None)
        self.network, self.domain = subject.checkpoint.network, subject.domain
        single = Model(self.task, forward_of(read_network(folder), SINGLE))
        self.checks = [
            real,
            BoxCheck(self.task, single, parse(PROGRAMS[self.task.kind]), {"length": 5, "offset": 2}, []),
        ]
        self.prover = BoxProver(self.network, self.domain, SEMANTICS)
        self.program = parse_program(PROGRAMS[self.task.kind], "value" if self.task.kind == "argmax" else "multilabel")

    def rooms(self) -> tuple[float, float]:
        """What margins must exceed on these strings beside the width of ties, the prover's and the checker's."""
        prover, paths = self.prover, paths_of(self.domain, self.program, self.length)
        run = prover._run(self.length, self.offset, ((0,),))
        assert isinstance(run, box_proof._SumRun)
        self.query = run.query_letter
        self.answer = (1,) * len(self.task.choices) if self.task.kind == "multilabel" else (0,)
        if self.query is not None:
            only = paths.with_letters(self.query, (0,))
            assert only is not None
            paths = only
        self.strings = paths.strings()
        with np.errstate(all="ignore"):
            _, cell, _, _ = prover._bounds(run, paths, prover._sums(run, paths))
            steps = prover.final._mlp.steps(cell.form())
            square = steps.after.centred().square_mean(prover.final.eps) if prover.final.has_final_norm else None
            ours = float(prover.final._moved(steps, square, cell.computed))
            ours = min(ours, float(prover.final.about(cell.form(), self.answer, cell.computed).error))
        whole = whole_slice(self.task, self.totals, self.length)
        part = whole if whole is None or self.query is None else whole.at(self.query, 0)
        assert part is not None
        is_set, letter = self.task.kind == "multilabel", -1 if self.query is None else 0
        answer = [1] * len(self.task.choices) if is_set else [int(self.task.output_codes[self.task.choices[0]])]
        radii = []
        for check in self.checks:
            check._bounded(part, letter, answer)
            attended, single = check.attended[letter]
            found = self.checks[0].attended[letter][0].over(part)
            start = None if single is None else single.start(part, (found.least, found.most))
            centre, axes, low, high, slip = found[:5]
            form = Form(centre + axes @ ((low + high) / 2), axes * ((high - low) / 2), slip)
            with np.errstate(all="ignore"):
                radii.append(check._margins(answer).of(form, start)[1])
                if start is not None:
                    radii[-1] = np.minimum(radii[-1], check._margins(answer).about(form, start)[1])
            assert attended.length == self.length
        return ours, float(radii[1].min())

    def margins(self, values: NDArray[Any]) -> NDArray[Any]:
        """The margins that are positive for the first answer."""
        chosen = values[list(self.domain.readout.choices)].astype(np.longdouble)
        return chosen - self.domain.readout.threshold if self.task.kind == "multilabel" else chosen[0] - chosen[1:]


@pytest.mark.parametrize("layout", ["gpt2", "neutral", "no norms", "no MLP"])
def test_what_holds_for_a_set_holds_for_every_order(layout: str, tmp_path: Path) -> None:
    """Errors of whole boxes, the prover's and the checker's, against single evaluations; and they are not all vast."""
    nearest = []
    for seed in range(5):
        case, rng = Case(tmp_path / str(seed), seed, layout), np.random.default_rng(seed)
        try:
            ours, theirs = case.rooms()
        except Unreadable:
            continue
        assert ours > 0 and theirs > 0
        worst = 0.0
        for string in case.strings[:: max(1, len(case.strings) // 5)]:
            prompt = case.domain.render(np.array(case.domain.alphabet, np.int32)[string][None])[0].tolist()
            read = case.domain.read_positions(case.length)[0]
            true = case.margins(logits(case.network, prompt, case.offset, np.longdouble)[read])
            for _ in range(4):
                made = case.margins(AnyOrder(case.network, rng).logits(prompt, case.offset, read))
                worst = max(worst, float(np.abs(made - true).max()))
        assert worst <= min(ours, theirs)
        nearest.append(worst / min(ours, theirs))
    assert max(nearest) > 1e-4, "bounds this far off would be met by anything"


def test_what_a_norm_takes_off_counts_in_the_size_of_computed_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forms leave out a mean that norms take off; roundings are relative to the vectors that have it."""
    norms = list[float]()

    def noting(made: Any, name: str) -> Any:
        def noted(*arguments: Any) -> Any:
            found = made(*arguments)
            norms.append(float(np.min(getattr(found, name))))
            return found

        return noted

    monkeypatch.setattr(FormErrors, "after_mlp", noting(FormErrors.after_mlp, "norm"))
    monkeypatch.setattr(margins, "after_mlp", noting(margins.after_mlp, "size"))
    for seed in range(2):
        case, rng = Case(tmp_path / str(seed), seed, "large mean"), np.random.default_rng(seed)
        room, sized = min(case.rooms()), AnyOrder(case.network, rng)
        for string in case.strings[:: max(1, len(case.strings) // 5)]:
            prompt = case.domain.render(np.array(case.domain.alphabet, np.int32)[string][None])[0].tolist()
            read = case.domain.read_positions(case.length)[0]
            true = case.margins(logits(case.network, prompt, case.offset, np.longdouble)[read])
            assert np.abs(case.margins(sized.logits(prompt, case.offset, read)) - true).max() <= room
            assert 500 < np.linalg.norm(sized.last[read]) <= (1 + 1e-5) * min(norms)
    assert len(norms) >= 4


def constant(answer: str) -> str:
    return f"output = {answer!r}"


@pytest.mark.parametrize("name", LINEAR)
def test_bounds_decide_no_linear_network_against_an_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box_proof, "SMALL_WORK", 0)
    monkeypatch.setattr(box_proof, "LISTED_WORK", 0)
    rng = np.random.default_rng(list(name.encode()))
    world = World(tmp_path, dressed(ALONE, LINEAR[name](rng)))
    for letters, winner in decided(world, tmp_path).items():
        with np.errstate(all="ignore"):
            terms = world.network.embed[letters][:, None] * world.network.W_U
            for _ in range(ORDERS):
                values = [in_some_order(rng, np.append(terms[:, i], world.network.b_U[i])) for i in range(3)]
                assert world.winner(values) == {winner}, "decided against an order of summation"


def test_wide_margins_are_decided_and_narrow_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a gate that decides nothing because nothing is asked."""
    monkeypatch.setattr(box_proof, "SMALL_WORK", 0)
    monkeypatch.setattr(box_proof, "LISTED_WORK", 0)
    narrow = dressed(ALONE, LINEAR["one unit"](np.random.default_rng(5)))
    wide = replace(narrow, b_U=np.array([9, 0, -9, -9], F32))
    assert decided(World(tmp_path / "1", wide), tmp_path / "1") == {0: 0, 1: 0, 2: 0}
    assert decided(World(tmp_path / "2", narrow), tmp_path / "2") == {}


def decided(world: World, folder: Path) -> dict[int, int]:
    """What the prover's and the checker's bounds decide of two letters, by the last one: the place of the answer."""
    found: dict[int, int] = {}
    task = read_task(folder / "spec.json", 3, [0])
    model, paths = Model(task, forward_of(read_network(folder), SINGLE)), None
    for place, answer in enumerate("abc"):
        program = parse_program(constant(answer), "value")
        result = BoxProver(world.network, world.domain, SEMANTICS).prove(program, 2, 0, 30)
        assert isinstance(result, BoxResult)
        paths = paths_of(world.domain, program, 2)
        lets = parse(constant(answer))
        check = BoxCheck(task, model, lets, {"length": 2, "offset": 0}, [])
        whole = whole_slice(task, answering(task, lets), 2)
        assert whole is not None
        for letter in range(3):
            node = leaf_of(result.tree, paths, (0, letter))
            if node.kind == "bounded":
                said = world.domain.vocabulary.output_codes.tolist().index(node.model[0])
                assert found.setdefault(letter, said) == said
            part = whole.at(1, letter)
            assert part is not None
            if check.bounded(part, [task.code(answer)]):
                assert found.setdefault(letter, place) == place
    return found


def biased(shift: float) -> Network:
    """A majority whose logits both stand on a shift that hides their difference from float32."""
    network = majority(**LACKING["no norms"])
    return replace(network, b_U=(0 * network.b_U + F32(shift)).astype(F32))


def verified(folder: Path, network: Network, semantics: str) -> tuple[Report, Path]:
    """Verify the majority, all that is decided decided by bounds."""
    return box_architectures.verified(folder, network, RIGHT, semantics, seconds=0.4)


def as_single(path: Path, folder: Path) -> bool:
    """Whether the checker accepts a certificate whose claim is edited to be about float32."""
    value = json.loads(path.read_text())
    assert value["claim"]["semantics"] == "real" and check_certificate(path, folder).accepted
    edited = folder / "edited.cert.json"
    edited.write_bytes(seal({**value, "claim": {**value["claim"], "semantics": SEMANTICS}}))
    return check_certificate(edited, folder).accepted


@pytest.mark.parametrize("layout", ["no norms", "no MLP"])
def test_a_majority_is_proved_for_every_order(layout: str, tmp_path: Path) -> None:
    report, path = verified(tmp_path, majority(**LACKING[layout]), SEMANTICS)
    assert report.status == "proved", report.verdict
    value = json.loads(path.read_text())
    assert value["claim"]["semantics"] == SEMANTICS and '["b"' in value["boxes"][0]["tree"]
    assert check_certificate(path, tmp_path).accepted
    error = value["boxes"][0]["error_bound"]
    assert report.numerics is not None and report.numerics.error_bound == error > 0
    assert any(f"error bound {error:.1g}" in line.plain for line in result_lines(report))
    text = value["boxes"][0]["tree"].replace('["b","', '["b","1', 1)
    edited = tmp_path / "edited.cert.json"
    for part in ({"tree": text}, *({"error_bound": bound} for bound in (0.0, error / 100, -1.0, "1", None))):
        edited.write_bytes(seal({**value, "boxes": [{**value["boxes"][0], **part}]}))
        assert not check_certificate(edited, tmp_path).accepted, part
    bare = {name: part for name, part in value["boxes"][0].items() if name != "error_bound"}
    edited.write_bytes(seal({**value, "boxes": [bare]}))
    assert not check_certificate(edited, tmp_path).accepted


def test_what_only_real_numbers_decide_is_undecided_in_single(tmp_path: Path) -> None:
    network = biased(2.0**23)
    report, path = verified(tmp_path / "real", network, "real")
    assert report.status == "proved", report.verdict
    assert not as_single(path, tmp_path / "real")
    report, _ = verified(tmp_path / "single", network, SEMANTICS)
    assert report.status == "undecided" and report.verdict is not None
    assert (int(report.verdict.agree), int(report.verdict.undecided)) == (0, 2**LENGTH)


def attention_alone(shift: float) -> Network:
    """One head of attention alone whose logits stand on a shift."""
    network = random_network(3, 1, 6, 1, 4, LENGTH + 2, norm="none", d_mlp=0, tied=False, spread=0.01)
    embed, W_U, layer = network.embed.copy(), network.W_U.copy(), network.layers[0]
    embed[:2, 0] += np.array([1, -1], F32)
    W_U[1, :2] += np.array([4, -4], F32)
    W_V, W_O = layer.W_V.copy(), layer.W_O.copy()
    W_V[0, 0, 0] += 1
    W_O[0, 0, 1] += 1
    layer = replace(layer, W_V=W_V, W_O=W_O, b_out=0 * layer.b_out)
    return replace(network, embed=embed, W_U=W_U, layers=(layer,), b_U=(0 * network.b_U + F32(shift)).astype(F32))


def test_attention_alone_is_decided_class_by_class_for_every_order(tmp_path: Path) -> None:
    network = attention_alone(0.0)
    report, path = verified(tmp_path / "1", network, SEMANTICS)
    assert report.status == "proved", report.verdict
    value = json.loads(path.read_text())
    assert value["method"] == "separable" and 0 < value["numerics"]["error_bound"] < value["numerics"]["min_margin"]
    assert check_certificate(path, tmp_path / "1").accepted
    edited = tmp_path / "edited.cert.json"
    for bound in (value["numerics"]["min_margin"], -1e-9, 0):
        edited.write_bytes(seal({**value, "numerics": {**value["numerics"], "error_bound": bound}}))
        assert not check_certificate(edited, tmp_path / "1").accepted
    network = attention_alone(2.0**18)
    report, path = verified(tmp_path / "2", network, "real")
    assert report.status == "proved", report.verdict
    assert not as_single(path, tmp_path / "2")
    report, _ = verified(tmp_path / "3", network, SEMANTICS)
    assert report.status == "undecided" and report.verdict is not None
    agree, undecided = int(report.verdict.agree), int(report.verdict.undecided)
    # the inputs far from the tie are above what float32 can be off by
    assert report.verdict.disagree == 0 < agree and agree + undecided == 2**LENGTH > agree


def test_bounds_in_single_are_for_networks_that_can_be_checked() -> None:
    network = random_network(1, 1, 8, 2, 5, 12, attention="bidirectional")
    domain = make_domain(min_length=4, max_length=4)
    assert box_proof.refusal(network, domain, SEMANTICS) == "bounds in float32 are for causal attention"
    assert box_proof.refusal(network, domain, "f32-ref") is not None
